//! How race mode is asked for in the environment, and which of its variables are Raddle's.

/// The variables that mean something to Raddle: to a program, and to `cargo raddle` the last.
pub const VARIABLES: [&str; 6] = [
    "RADDLE_RACE",
    "RADDLE_PROCS",
    "RADDLE_STACK",
    "RADDLE_GC",
    "RADDLE_DEBUG",
    "RADDLE_CACHE_DIR",
];

/// What the value of `RADDLE_RACE` asks for: race mode with these options, or none.
#[must_use]
pub fn asked(value: &str) -> Option<&str> {
    match value {
        "" | "0" | "off" | "no" | "false" => None,
        "1" | "on" | "yes" | "true" => Some(""),
        options => Some(options),
    }
}

/// The variable that is meant by `name`, which is none of them but nearly one.
///
/// Of the names that begin with `RADDLE_` a program may have its own. So only what one slip of the fingers (two in a long word) makes
/// of ours counts.
#[must_use]
pub fn misspelt(name: &str) -> Option<&'static str> {
    if VARIABLES.contains(&name) {
        return None;
    }
    let name = name.to_ascii_uppercase();
    VARIABLES.into_iter().find(|variable| {
        let word = variable.len() - "RADDLE_".len();
        distance(&name, variable) <= if word > 4 { 2 } else { 1 }
    })
}

/// How many letters must be put in, left out, replaced, or exchanged with their neighbours to make `b` of `a`.
fn distance(a: &str, b: &str) -> usize {
    let (a, b) = (a.as_bytes(), b.as_bytes());
    let mut rows = vec![(0..=b.len()).collect::<Vec<_>>()];
    for (i, x) in a.iter().enumerate() {
        let above = &rows[i];
        let mut row = vec![i + 1];
        for (j, y) in b.iter().enumerate() {
            let replaced = above[j] + usize::from(x != y);
            let mut least = replaced.min(above[j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && *x == b[j - 1] && a[i - 1] == *y {
                least = least.min(rows[i - 1][j - 1] + 1);
            }
            row.push(least);
        }
        rows.push(row);
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_for_on_and_off() {
        for on in ["1", "on", "yes", "true"] {
            assert_eq!(asked(on), Some(""), "{on}");
        }
        for off in ["0", "off", "no", "false", ""] {
            assert_eq!(asked(off), None, "{off}");
        }
        assert_eq!(asked("exitcode=0"), Some("exitcode=0"));
    }

    #[test]
    fn slips_are_known_and_other_names_are_the_program_s() {
        for (slip, meant) in [
            ("RADDLE_PROC", "RADDLE_PROCS"),
            ("RADDLE_NPROCS", "RADDLE_PROCS"),
            ("RADDLE_RAEC", "RADDLE_RACE"),
            ("raddle_race", "RADDLE_RACE"),
            ("RADLE_STACK", "RADDLE_STACK"),
            ("RADDLE_CG", "RADDLE_GC"),
            ("RADDLE_DEBUGS", "RADDLE_DEBUG"),
            ("RADDLE_CACHEDIR", "RADDLE_CACHE_DIR"),
        ] {
            assert_eq!(misspelt(slip), Some(meant), "{slip}");
        }
        for name in [
            "RADDLE_RACE",
            "RADDLE_STRESS_SECONDS",
            "RADDLE_RACE_CASES",
            "RADDLE_PORT",
            "RADDLE_",
            "PATH",
            "GORACE",
        ] {
            assert_eq!(misspelt(name), None, "{name}");
        }
    }
}
