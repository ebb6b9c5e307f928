//! Suppressions: patterns of functions and files whose races are known and not reported.
//!
//! `race:PATTERN` matches when any frame of either access matches, `race_top:PATTERN` when the innermost frame of
//! either does, or one between it and the first of the program's own. A pattern matches anywhere in a function's or a file's name; `*` stands for any text, a leading `^` and
//! a trailing `$` anchor it. `#` begins a comment line.
//!
//! # Why not
//! A built-in list: there is nothing to put on it. Every edge of std is known to the detector, Raddle's own crates tell theirs, and a
//! report that is not suppressed by its reader is a race to be mended. What was silenced here once would hide the next one.

use crate::options::OptionError;

/// One line of a suppressions file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Suppression {
    top_only: bool,
    pattern: String,
}

impl Suppression {
    /// Whether a frame (innermost when `top`) with this function or file name is suppressed.
    #[must_use]
    pub fn matches(&self, top: bool, name: &str) -> bool {
        (top || !self.top_only) && glob(&self.pattern, name)
    }
}

/// Reads a suppressions file.
///
/// # Errors
/// It cannot be read, or a line is none.
pub fn parse_file(path: &str) -> Result<Vec<Suppression>, OptionError> {
    let text = std::fs::read_to_string(path).map_err(|e| OptionError::Unreadable {
        path: path.to_owned(),
        reason: e.to_string(),
    })?;
    parse(path, &text)
}

fn parse(path: &str, text: &str) -> Result<Vec<Suppression>, OptionError> {
    let mut all = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (top_only, pattern) = match (line.strip_prefix("race:"), line.strip_prefix("race_top:"))
        {
            (Some(p), _) => (false, p),
            (_, Some(p)) => (true, p),
            _ => {
                return Err(OptionError::BadSuppression {
                    path: path.to_owned(),
                    line: index + 1,
                });
            }
        };
        if pattern.is_empty() {
            return Err(OptionError::BadSuppression {
                path: path.to_owned(),
                line: index + 1,
            });
        }
        all.push(Suppression {
            top_only,
            pattern: pattern.to_owned(),
        });
    }
    Ok(all)
}

/// The pieces between `*`s must occur in order; the first and last are tied to the ends by `^` and `$`.
fn glob(pattern: &str, text: &str) -> bool {
    let (anchored_start, pattern) = match pattern.strip_prefix('^') {
        Some(rest) => (true, rest),
        None => (false, pattern),
    };
    let (anchored_end, pattern) = match pattern.strip_suffix('$') {
        Some(rest) => (true, rest),
        None => (false, pattern),
    };
    let mut rest = text;
    let mut pieces = pattern.split('*').peekable();
    let mut first = true;
    while let Some(piece) = pieces.next() {
        let last = pieces.peek().is_none();
        if last && anchored_end {
            return if first && anchored_start {
                rest == piece
            } else {
                rest.ends_with(piece)
            };
        }
        match rest.find(piece) {
            Some(0) => rest = &rest[piece.len()..],
            Some(_) if first && anchored_start => return false,
            Some(at) => rest = &rest[at + piece.len()..],
            None => return false,
        }
        first = false;
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn globs() {
        assert!(glob("store", "app::store::inner"));
        assert!(glob("app::*::inner", "my_app::store::inner<T>"));
        assert!(glob("^app::*$", "app::x"));
        assert!(!glob("^app::", "my_app::x"));
        assert!(!glob("inner$", "inner2"));
        assert!(glob("^main$", "main") && !glob("^main$", "xmain"));
        assert!(glob("*", "") && glob("a*b*c$", "xaybzc"));
    }

    #[test]
    fn lines() {
        let all = parse("f", "# known\nrace:foo\n\nrace_top:bar\n").expect("two patterns");
        assert!(
            all[0].matches(false, "x::foo")
                && !all[1].matches(false, "bar")
                && all[1].matches(true, "bar")
        );
        assert!(matches!(
            parse("f", "race:a\nmutex:b"),
            Err(OptionError::BadSuppression { line: 2, .. })
        ));
    }
}
