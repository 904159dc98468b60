//! `testdata/word/*.txt` and `testdata/ignore/*.txt`: inputs with what is expected of them.

use std::fs;
use std::path::Path;

use parser::ignore::{Decision, IgnoreFile};
use parser::{Escape, Span, Word};

fn table(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata").join(path)).unwrap()
}

fn variable(name: &str) -> Option<String> {
    let value = match name {
        "A" => "hello",
        "E" => "",
        "P" => "/usr/local/bin/tool.tar.gz",
        "S" => "a b",
        "UML" => "größe",
        "STAR" => "a*b",
        "PORTS" => "80 443/tcp",
        _ => return None,
    };
    Some(value.to_owned())
}

/// The rows of a table: number of the line, input, expected.
fn rows(table: &str) -> Vec<(usize, &str, &str)> {
    let rows = table.lines().enumerate().filter(|(_, line)| !line.is_empty() && !line.starts_with("# "));
    let rows = rows.map(|(index, line)| {
        let (input, expected) =
            line.split_once(" | ").unwrap_or_else(|| panic!("line {}: no ` | `", index + 1));
        (index + 1, input, expected)
    });
    rows.collect()
}

fn word(raw: &str) -> Word {
    Word { raw: raw.to_owned(), span: Span::default() }
}

fn expands(path: &str, escape: Escape, least: usize) {
    let table = table(path);
    let rows = rows(&table);
    assert!(rows.len() >= least);
    for (line, input, expected) in rows {
        let actual = match word(input).expand(escape, &mut variable) {
            Ok(text) => text,
            Err(error) => format!("error: {error}"),
        };
        assert_eq!(actual, expected, "{path}:{line}: {input}");
    }
}

#[test]
fn words_expand_as_docker_expands_them() {
    expands("word/expand.txt", Escape::Backslash, 100);
}

#[test]
fn the_backtick_escapes_in_place_of_the_backslash() {
    expands("word/escape-backtick.txt", Escape::Backtick, 10);
}

#[test]
fn expanded_words_split_where_no_quote_is() {
    for (line, input, expected) in rows(&table("word/split.txt")) {
        let words = word(input).expand_words(Escape::Backslash, &mut variable).unwrap();
        let actual: Vec<String> = words.iter().map(|word| format!("<{word}>")).collect();
        assert_eq!(actual.join(" "), expected, "word/split.txt:{line}: {input}");
    }
}

#[test]
fn ignore_files_decide_as_docker_does() {
    let table = table("ignore/cases.txt");
    let cases = table.split("\n\n").skip(1);
    let mut checked = 0;
    for case in cases {
        let (head, paths): (Vec<&str>, Vec<&str>) = case.lines().partition(|line| line.starts_with('|'));
        let mut file: Vec<&str> = head.iter().map(|line| &line[1..]).collect();
        let error = file.pop_if(|line| line.starts_with("error: "));
        let parsed = IgnoreFile::parse(&file.join("\n"));
        if let Some(error) = error {
            assert_eq!(format!("error: {}", parsed.unwrap_err()), error, "{case}");
            checked += 1;
            continue;
        }
        let parsed = parsed.unwrap();
        for path in paths {
            let (sign, rest) = path.split_at(2);
            let (path, line) = match rest.rsplit_once(' ') {
                Some((path, line)) if line.parse::<usize>().is_ok() => (path, line.parse().ok()),
                _ => (rest, None),
            };
            let decision = parsed.verdict_alone(Path::new(path));
            let ignored = decision.is_some_and(|decision| decision.ignored);
            assert_eq!(ignored, sign == "- ", "`{path}` in\n{case}");
            assert_eq!(
                decision.map(|decision: Decision| decision.line),
                line,
                "the line of `{path}` in\n{case}"
            );
            checked += 1;
        }
    }
    assert!(checked > 100, "only {checked} paths");
}
