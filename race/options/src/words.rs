//! The text of the options as words, and a value as text again.
//!
//! Words are separated by spaces or commas. Quotation marks, `"` or `'`, may begin anywhere in a word; up to the next of their
//! kind all is taken as it is, separators and the other kind included. So every value can be written, if need be in two pieces
//! (`"it's"' "so"'`), and none needs a mark that a shell or a path gives another meaning to, as a backslash.

use crate::options::OptionError;

/// A word without its quotation marks: what stands before its first `=`, and what behind it.
struct Word {
    front: String,
    value: Option<String>,
}

fn is_separator(c: char) -> bool {
    matches!(c, ' ' | ',' | '\t' | '\n')
}

fn words(text: &str) -> Result<Vec<Word>, OptionError> {
    let mut words = Vec::new();
    let mut rest = text.trim_start_matches(is_separator);
    while !rest.is_empty() {
        let mut word = Word {
            front: String::new(),
            value: None,
        };
        let mut mark = None;
        let mut chars = rest.char_indices();
        let end = loop {
            let Some((at, c)) = chars.next() else {
                break rest.len();
            };
            match mark {
                Some((open, _)) if open == c => mark = None,
                None if is_separator(c) => break at,
                None if c == '"' || c == '\'' => mark = Some((c, at)),
                None if c == '=' && word.value.is_none() => word.value = Some(String::new()),
                _ => word.value.as_mut().unwrap_or(&mut word.front).push(c),
            }
        };
        if let Some((_, at)) = mark {
            return Err(OptionError::OpenQuote(rest[at..].to_owned()));
        }
        words.push(word);
        rest = rest[end..].trim_start_matches(is_separator);
    }
    Ok(words)
}

/// Whether one of the words is `help`: then the options are to be explained, and nothing is to be run.
#[must_use]
pub fn asks_for_help(text: &str) -> bool {
    let is_help = |word: &Word| word.front == "help" && word.value.is_none();
    words(text).is_ok_and(|words| words.iter().any(is_help))
}

/// The keys and values of a text of options, without quotation marks. Not whether there are such keys.
///
/// # Errors
/// A word without `=`, or quotation marks that do not end.
pub fn pairs(text: &str) -> Result<Vec<(String, String)>, OptionError> {
    let pair = |word: Word| match word.value {
        Some(value) => Ok((word.front, value)),
        None => Err(OptionError::NotAPair(word.front)),
    };
    words(text)?.into_iter().map(pair).collect()
}

/// The value as it is written in a text of options: [`pairs`] gives it back.
#[must_use]
pub fn quoted(value: &str) -> String {
    let is_special = |c: char| is_separator(c) || c == '"' || c == '\'';
    if !value.contains(is_special) {
        return value.to_owned();
    }
    // One kind of mark around all that has none of it.
    let in_marks = |piece: &str| format!("\"{piece}\"");
    let pieces: Vec<_> = value.split('"').map(in_marks).collect();
    pieces.join("'\"'")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Vec<(String, String)> {
        pairs(text).unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    #[test]
    fn marks_hide_separators_and_each_other() {
        for (text, value) in [
            ("k=plain", "plain"),
            ("k=", ""),
            ("k=\"\"", ""),
            ("k=\"/my files/a,b\"", "/my files/a,b"),
            ("k='/my files/a,b'", "/my files/a,b"),
            ("k=/my\" \"files", "/my files"),
            ("k=\"it's\"' \"so\"'", "it's \"so\""),
            ("k=a=b\\", "a=b\\"),
        ] {
            let around = format!(" ,{text},\tz=1\n");
            let expected = [("k", value), ("z", "1")].map(|(k, v)| (k.into(), v.into()));
            assert_eq!(read(&around), expected, "{text}");
        }
    }

    #[test]
    fn every_value_can_be_written() {
        for value in [
            "",
            "a",
            "a b",
            "a,b",
            "\"",
            "'",
            "\"'\"",
            "it's \"so\"",
            "=",
            "ä b\\",
        ] {
            let text = format!("k={}", quoted(value));
            assert_eq!(read(&text), [("k".into(), value.into())], "{text}");
        }
        assert_eq!(quoted("/plain/path-1.txt"), "/plain/path-1.txt");
    }

    #[test]
    fn what_is_no_pair_is_refused() {
        assert_eq!(
            pairs("a=1 b").unwrap_err(),
            OptionError::NotAPair("b".into())
        );
        assert_eq!(
            pairs("a=\"1 b=2").unwrap_err(),
            OptionError::OpenQuote("\"1 b=2".into())
        );
    }

    #[test]
    fn help_is_a_word_of_its_own() {
        for text in ["help", "seed=1,help", "help exitcode=nonsense"] {
            assert!(asks_for_help(text), "{text}");
        }
        for text in ["", "log_path=help", "helpful", "help=1", "\"help"] {
            assert!(!asks_for_help(text), "{text}");
        }
    }
}
