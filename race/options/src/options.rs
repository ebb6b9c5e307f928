//! The options that were asked for, and what can be wrong with them.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, ErrorKind};

use crate::table::OPTIONS;
use crate::words::pairs;

/// The form of a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Go's text form.
    Text,
    /// One JSON object per line.
    Json,
    /// One SARIF 2.1.0 log: in a file of its own complete after each report, else completed by `fini`.
    Sarif,
}

/// When a report in text or SARIF has the source lines of the two accesses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Snippet {
    /// In text when it goes to a terminal, in SARIF always.
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// Options of race mode; see [`Options::parse`] for the keys.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Options {
    /// Exit at the first report. Default false.
    pub halt_on_error: bool,
    /// Exit status when races were found, 0 to 255. Default 66.
    pub exitcode: i32,
    /// Where reports go: `stderr` (default), `stdout`, or a path to which `.PID` is added.
    pub log_path: String,
    /// The form of a report. Default text.
    pub format: Format,
    /// Of how many accesses a busy goroutine's stacks are remembered: 32 K x 2^n, n from 0 to 7, of 16 bytes each. Default 1.
    pub history_size: u32,
    /// A file of suppressions, one `race:PATTERN` or `race_top:PATTERN` per line; empty: none.
    pub suppressions: String,
    /// Whether a report has the source lines of the two accesses. Default: at a terminal, and in SARIF.
    pub snippet: Snippet,
    /// Taken off the front of file names in reports.
    pub strip_path_prefix: String,
    /// How long `fini` waits for late races, in milliseconds. Default 0.
    pub atexit_sleep_ms: u64,
    /// Seed of the random choices (which full cell to evict). Default 0.
    pub seed: u64,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            halt_on_error: false,
            exitcode: 66,
            log_path: String::from("stderr"),
            format: Format::Text,
            history_size: 1,
            suppressions: String::new(),
            snippet: Snippet::Auto,
            strip_path_prefix: String::new(),
            atexit_sleep_ms: 0,
            seed: 0,
        }
    }
}

/// What was wrong with an option, in words for the user.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum OptionError {
    /// The word has no `=`.
    NotAPair(String),
    /// The quotation mark at the start of this does not end.
    OpenQuote(String),
    /// No such key.
    UnknownKey(String),
    /// The key exists, the value does not fit it.
    BadValue {
        /// The key.
        key: String,
        /// The value given.
        value: String,
        /// What would fit.
        wants: &'static str,
    },
    /// The log cannot be written.
    Unwritable {
        /// The file.
        path: String,
        /// The system's reason.
        reason: String,
    },
    /// The suppressions file cannot be read.
    Unreadable {
        /// The file.
        path: String,
        /// The system's reason.
        reason: String,
    },
    /// A line of the suppressions file has neither form.
    BadSuppression {
        /// The file.
        path: String,
        /// The line, from 1.
        line: usize,
    },
}

impl fmt::Display for OptionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            OptionError::NotAPair(word) => {
                write!(f, "race option `{word}` is not of the form key=value")
            }
            OptionError::UnknownKey(key) => {
                let keys = OPTIONS.map(|row| row.key).join(", ");
                write!(
                    f,
                    "unknown race option `{key}`; the options are {keys}; `--race=help` explains them"
                )
            }
            OptionError::OpenQuote(rest) => {
                write!(
                    f,
                    "race options: the quotation mark before `{}` has no end",
                    &rest[1..]
                )
            }
            OptionError::BadValue { key, value, wants } => {
                write!(f, "race option `{key}` cannot be `{value}`: give {wants}")
            }
            OptionError::Unwritable { path, reason } => {
                write!(
                    f,
                    "race option `log_path`: cannot write `{path}`: {reason}; name a file in a folder that exists and can be \
                     written, or leave it out: reports then go to standard error"
                )
            }
            OptionError::Unreadable { path, reason } => {
                write!(
                    f,
                    "race option `suppressions`: cannot read `{path}`: {reason}"
                )
            }
            OptionError::BadSuppression { path, line } => {
                write!(
                    f,
                    "{path}:{line}: a suppression is `race:PATTERN` or `race_top:PATTERN`"
                )
            }
        }
    }
}

impl std::error::Error for OptionError {}

impl Options {
    /// Reads `key=value` pairs, [quoted](crate::quoted) where need be, separated by spaces, commas or both; a later pair wins.
    /// [`OPTIONS`] has the keys and their values.
    ///
    /// # Errors
    /// The first word that is no pair, unknown key, bad value, or unreadable suppressions file; a log that cannot be written.
    ///
    /// # Blocking
    /// Reads the suppressions file, if one is named; makes the log, if one is named, and takes it away again.
    pub fn parse(text: &str) -> Result<Options, OptionError> {
        let mut options = Options::default();
        for (key, value) in pairs(text)? {
            options.set(&key, &value)?;
        }
        options.try_log()?;
        Ok(options)
    }

    /// The file to which this process's reports go; none: to a stream.
    #[must_use]
    pub fn log_file(&self) -> Option<String> {
        match self.log_path.as_str() {
            "stderr" | "stdout" => None,
            path => Some(format!("{path}.{}", std::process::id())),
        }
    }

    /// Only the system knows whether it lets us, so it is asked.
    fn try_log(&self) -> Result<(), OptionError> {
        let Some(path) = self.log_file() else {
            return Ok(());
        };
        let tried = match File::create_new(&path) {
            Ok(_) => fs::remove_file(&path),
            // An older process of the same number has left it there, or a person has put it there: it stays as it is.
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                File::options().write(true).open(&path).map(drop)
            }
            Err(error) => Err(error),
        };
        tried.map_err(|error: io::Error| OptionError::Unwritable {
            path,
            reason: error.to_string(),
        })
    }

    fn set(&mut self, key: &str, value: &str) -> Result<(), OptionError> {
        let bad = |wants| OptionError::BadValue {
            key: key.to_owned(),
            value: value.to_owned(),
            wants,
        };
        match key {
            "halt_on_error" => {
                self.halt_on_error = match value {
                    "1" | "true" => true,
                    "0" | "false" => false,
                    _ => return Err(bad("0, 1, true or false")),
                }
            }
            "exitcode" => {
                self.exitcode = value
                    .parse::<u8>()
                    .map_err(|_| bad("a number from 0 to 255"))?
                    .into();
            }
            "log_path" if value.is_empty() => return Err(bad("stderr, stdout or a path")),
            "log_path" => self.log_path = value.to_owned(),
            "format" => {
                self.format = match value {
                    "text" => Format::Text,
                    "json" => Format::Json,
                    "sarif" => Format::Sarif,
                    _ => return Err(bad("text, json or sarif")),
                }
            }
            "history_size" => {
                self.history_size = value
                    .parse()
                    .ok()
                    .filter(|n| *n <= 7)
                    .ok_or_else(|| bad("a number from 0 to 7"))?;
            }
            "suppressions" => {
                crate::suppress::parse_file(value)?;
                self.suppressions = value.to_owned();
            }
            "snippet" => {
                self.snippet = match value {
                    "auto" => Snippet::Auto,
                    "always" => Snippet::Always,
                    "never" => Snippet::Never,
                    _ => return Err(bad("auto, always or never")),
                }
            }
            "strip_path_prefix" => self.strip_path_prefix = value.to_owned(),
            "atexit_sleep_ms" => {
                self.atexit_sleep_ms =
                    value.parse().map_err(|_| bad("a number of milliseconds"))?;
            }
            "seed" => self.seed = value.parse().map_err(|_| bad("a whole number"))?,
            _ => return Err(OptionError::UnknownKey(key.to_owned())),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_by_space_and_comma() {
        let o = Options::parse("halt_on_error=1, exitcode=3 log_path=/tmp/x,seed=9")
            .expect("good options");
        assert!(o.halt_on_error);
        assert_eq!((o.exitcode, o.log_path.as_str(), o.seed), (3, "/tmp/x", 9));
        assert_eq!(Options::parse("").expect("empty is fine").exitcode, 66);
    }

    #[test]
    fn values_may_have_spaces_and_commas() {
        let o = Options::parse("strip_path_prefix=\"/my files, old/\",exitcode='3'").expect("good");
        assert_eq!(
            (o.strip_path_prefix.as_str(), o.exitcode),
            ("/my files, old/", 3)
        );
    }

    #[test]
    fn the_table_has_every_option_with_its_default() {
        let mut text = String::new();
        for row in OPTIONS.iter().filter(|row| !row.default.is_empty()) {
            text += &format!("{}={} ", row.key, row.default);
        }
        let (table, default) = (Options::parse(&text).expect("good"), Options::default());
        assert_eq!(format!("{table:?}"), format!("{default:?}"));
        // A field for each row.
        let fields = format!("{default:?}").matches(": ").count();
        assert_eq!(fields, OPTIONS.len());
        let help = crate::help();
        for row in OPTIONS {
            assert!(help.contains(&format!("\n  {} ", row.key)), "{help}");
        }
        assert!(help.lines().all(|line| line.len() <= 150), "{help}");
    }

    #[test]
    fn a_log_that_cannot_be_written_is_refused() {
        let error = |s: &str| Options::parse(s).expect_err("an error").to_string();
        let gone = error("log_path=/no/such/folder/log");
        assert!(
            gone.starts_with("race option `log_path`: cannot write `/no/such/folder/log.")
                && gone.contains("No such file or directory"),
            "{gone}"
        );
        assert!(error("log_path=/proc/log").contains("cannot write"));
        // The trial leaves nothing behind; what was there stays.
        let path = std::env::temp_dir().join(format!("raddle-try-log-{}", std::process::id()));
        let text = format!("log_path={}", path.display());
        let file = Options::parse(&text)
            .expect("good")
            .log_file()
            .expect("a file");
        assert!(!fs::exists(&file).expect("told"));
        fs::write(&file, "old").expect("written");
        assert!(Options::parse(&text).is_ok());
        assert_eq!(fs::read_to_string(&file).expect("there"), "old");
        fs::remove_file(&file).expect("ours");
    }

    #[test]
    fn errors_say_what_to_do() {
        let text = |s: &str| Options::parse(s).expect_err("an error").to_string();
        assert_eq!(
            text("log_path=\"/a b"),
            "race options: the quotation mark before `/a b` has no end"
        );
        assert!(
            text("colour=red")
                .starts_with("unknown race option `colour`; the options are halt_on_error")
        );
        assert_eq!(
            text("halt"),
            "race option `halt` is not of the form key=value"
        );
        assert_eq!(
            text("exitcode=999"),
            "race option `exitcode` cannot be `999`: give a number from 0 to 255"
        );
        assert_eq!(
            text("history_size=8"),
            "race option `history_size` cannot be `8`: give a number from 0 to 7"
        );
        assert!(text("suppressions=/no/such/file").contains("cannot read `/no/such/file`"));
        assert!(text("format=xml").contains("give text, json or sarif"));
        assert!(text("snippet=maybe").contains("give auto, always or never"));
    }
}
