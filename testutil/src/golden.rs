//! Golden files: expected output as readable text beside its input.

use std::path::Path;

/// Compares `actual` with the text in `expected_file`; with `CALQUE_BLESS=1` writes it there instead.
///
/// # Panics
///
/// When they differ, with the first differing line; when the file can't be read or written.
#[track_caller]
pub fn assert_golden(expected_file: impl AsRef<Path>, actual: &str) {
    assert_golden_with(expected_file, actual, &[]);
}

/// As [`assert_golden`], after each `(what varies, placeholder)` was replaced in `actual`: folders of this
/// run, ids, times.
#[track_caller]
pub fn assert_golden_with(expected_file: impl AsRef<Path>, actual: &str, placeholders: &[(&str, &str)]) {
    let expected_file = expected_file.as_ref();
    let mut actual = actual.to_owned();
    for (varies, placeholder) in placeholders {
        actual = actual.replace(varies, placeholder);
    }
    if std::env::var_os("CALQUE_BLESS").is_some_and(|value| value == "1") {
        if let Some(parent) = expected_file.parent() {
            std::fs::create_dir_all(parent).unwrap();
        }
        std::fs::write(expected_file, &actual)
            .unwrap_or_else(|error| panic!("cannot write `{}`: {error}", expected_file.display()));
        return;
    }
    let expected = std::fs::read_to_string(expected_file).unwrap_or_else(|error| {
        panic!(
            "cannot read `{}`: {error}\nactual text (CALQUE_BLESS=1 writes it):\n{actual}",
            expected_file.display()
        )
    });
    if let Some(difference) = first_difference(&expected, &actual) {
        panic!(
            "`{}` differs (CALQUE_BLESS=1 rewrites it)\n{difference}\n--- actual\n{actual}",
            expected_file.display()
        );
    }
}

fn first_difference(expected: &str, actual: &str) -> Option<String> {
    if expected == actual {
        return None;
    }
    let (mut expected_lines, mut actual_lines) = (expected.lines(), actual.lines());
    let mut number = 0;
    loop {
        number += 1;
        match (expected_lines.next(), actual_lines.next()) {
            (None, None) => return Some("only the line ends differ".to_owned()),
            (expected, actual) if expected != actual => {
                return Some(format!(
                    "line {number}\n  expected: {}\n  actual:   {}",
                    expected.unwrap_or("(end of file)"),
                    actual.unwrap_or("(end of text)")
                ));
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_differing_line_is_named() {
        let difference = first_difference("a\nb\nc\n", "a\nB\nc\n").unwrap();
        assert_eq!(difference, "line 2\n  expected: b\n  actual:   B");
        assert_eq!(first_difference("a\n", "a\n"), None);
        assert_eq!(first_difference("a\n", "a").unwrap(), "only the line ends differ");
        assert!(first_difference("a\n", "a\nb\n").unwrap().contains("expected: (end of file)"));
    }

    #[test]
    fn placeholders_stand_for_what_varies() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("expected.txt");
        std::fs::write(&file, "in DIR: ok\n").unwrap();
        assert_golden_with(&file, "in /run/x1: ok\n", &[("/run/x1", "DIR")]);
    }
}
