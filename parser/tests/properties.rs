//! What holds of every input.

use std::path::Path;

use parser::glob::{Globstar, Pattern};
use parser::ignore::IgnoreFile;
use parser::{Escape, Span, Word};
use proptest::prelude::*;

mod spans;

/// Pieces that Dockerfiles are made of, and that parsers trip over.
fn piece() -> impl Strategy<Value = String> {
    let fixed = prop::sample::select(vec![
        "FROM ",
        "RUN ",
        "COPY ",
        "ADD ",
        "ENV ",
        "ARG ",
        "LABEL ",
        "CMD ",
        "ENTRYPOINT ",
        "ONBUILD ",
        "EXPOSE ",
        "VOLUME ",
        "USER ",
        "WORKDIR ",
        "STOPSIGNAL ",
        "SHELL ",
        "HEALTHCHECK ",
        "MAINTAINER ",
        "AS ",
        "NONE",
        "--from=",
        "--mount=",
        "type=cache,",
        "target=/x",
        "--chown=",
        "--",
        "--link",
        "--interval=",
        "1s",
        "# escape=`\n",
        "# syntax=x\n",
        "# check=skip=all\n",
        "#",
        "\\\n",
        "`\n",
        "\n",
        "\r\n",
        "\n\n",
        " ",
        "\t",
        "<<EOF",
        "<<-EOF",
        "<<'EOF'",
        "3<<\"E F\"",
        "<<",
        "EOF\n",
        "\tEOF\n",
        "[\"a\", \"b\"]",
        "[",
        "]",
        "\"",
        "'",
        "\\",
        "`",
        "$",
        "${",
        "}",
        "${A:-b}",
        "${A#*}",
        "$A",
        "=",
        "a=b",
        ",",
        "scratch",
        "a",
        "ü",
        "\u{a0}",
        "/",
        "*",
        "SIGTERM",
        "\u{feff}",
    ]);
    prop_oneof![8 => fixed.prop_map(str::to_owned), 1 => "[a-z0-9./:=-]{0,8}", 1 => any::<char>().prop_map(String::from)]
}

fn dockerfile() -> impl Strategy<Value = String> {
    prop::collection::vec(piece(), 0..60).prop_map(|pieces| pieces.concat())
}

fn word(raw: &str) -> Word {
    Word { raw: raw.to_owned(), span: Span::default() }
}

/// `*`, `?`, `[]`, `\` and `**` by trying everything, over characters.
fn matches_naively(pattern: &[char], path: &[char]) -> bool {
    match pattern {
        [] => path.is_empty(),
        ['*', '*'] | ['*', '*', '/'] => true,
        ['*', '*', rest @ ..] => {
            let rest = rest.strip_prefix(&['/']).unwrap_or(rest);
            matches_naively(rest, path)
                || (0..path.len()).any(|at| path[at] == '/' && matches_naively(rest, &path[at + 1..]))
        }
        ['*', rest @ ..] => {
            let component = path.iter().position(|&c| c == '/').unwrap_or(path.len());
            (0..=component).any(|at| matches_naively(rest, &path[at..]))
        }
        ['?', rest @ ..] => path.first().is_some_and(|&c| c != '/') && matches_naively(rest, &path[1..]),
        ['\\', escaped, rest @ ..] => path.first() == Some(escaped) && matches_naively(rest, &path[1..]),
        [character, rest @ ..] => path.first() == Some(character) && matches_naively(rest, &path[1..]),
    }
}

fn pattern_text() -> impl Strategy<Value = String> {
    let part = prop::sample::select(vec!["a", "b", "ab", "*", "?", "**", "\\*", "\\a", "ü"]);
    prop::collection::vec(prop::collection::vec(part, 1..4).prop_map(|parts| parts.concat()), 1..5)
        .prop_map(|components| components.join("/"))
}

fn path_text() -> impl Strategy<Value = String> {
    let part = prop::sample::select(vec!["a", "b", "ab", "ü", "*"]);
    prop::collection::vec(prop::collection::vec(part, 1..4).prop_map(|parts| parts.concat()), 1..5)
        .prop_map(|components| components.join("/"))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        spans::check(&bytes);
    }

    #[test]
    fn any_dockerfile_has_its_places(text in dockerfile()) {
        spans::check(text.as_bytes());
        spans::check(format!("FROM a\n{text}").as_bytes());
    }

    #[test]
    fn any_stage_of_one_instruction_has_its_places(
        keyword in prop::sample::select(vec!["RUN ", "COPY ", "ENV ", "ONBUILD RUN ", "ONBUILD COPY ", "HEALTHCHECK "]),
        rest in prop::collection::vec(piece(), 1..12),
    ) {
        spans::check(format!("FROM a\n{keyword}{}\nEOF\nE F\n", rest.concat()).as_bytes());
    }

    #[test]
    fn any_word_expands_or_is_refused(raw in prop::collection::vec(piece(), 0..12), backtick: bool) {
        let escape = if backtick { Escape::Backtick } else { Escape::Backslash };
        let raw = raw.concat();
        let mut lookup = |name: &str| (name.len() % 2 == 1).then(|| format!("<{name}>"));
        let whole = word(&raw).expand(escape, &mut lookup);
        let split = word(&raw).expand_words(escape, &mut lookup);
        prop_assert_eq!(whole.is_ok(), split.is_ok());
        let _ = parser::expand_heredoc(&raw, &mut lookup);
    }

    #[test]
    fn a_quoted_text_expands_to_itself(text in "[^']{0,40}") {
        let expanded = word(&format!("'{text}'")).expand(Escape::Backslash, &mut |_| Some("wrong".to_owned()));
        prop_assert_eq!(expanded, Ok(text));
    }

    #[test]
    fn an_escaped_text_expands_to_itself(text in "[^\n]{0,40}") {
        let raw: String = text.chars().flat_map(|c| ['\\', c]).collect();
        let expanded = word(&raw).expand(Escape::Backslash, &mut |_| Some("wrong".to_owned()));
        prop_assert_eq!(expanded, Ok(text));
    }

    #[test]
    fn a_pattern_matches_what_trying_everything_finds(pattern in pattern_text(), path in path_text()) {
        // `**name` at the start is compared as moby does, at the end of the path alone
        let text: Vec<char> = pattern.chars().collect();
        prop_assume!(!pattern.starts_with("**") || pattern.starts_with("**/"));
        let expected = matches_naively(&text, &path.chars().collect::<Vec<_>>());
        let compiled = Pattern::parse(&pattern, Globstar::Crosses).unwrap();
        prop_assert_eq!(compiled.matches(Path::new(&path)), expected, "{} {}", pattern, path);
    }

    #[test]
    fn a_walk_finds_what_matches(path in path_text(), holes in prop::collection::vec(0..6, 5)) {
        // a pattern that matches, made from the path
        let components = path.split('/').zip(&holes).map(|(component, hole)| match hole {
            0 => "*".to_owned(),
            1 => "**".to_owned(),
            2 => "?".repeat(component.chars().count()),
            3 => format!("{}*", component.chars().next().unwrap().to_string().replace('*', "\\*")),
            _ => component.replace('*', "\\*"),
        });
        let pattern = components.collect::<Vec<_>>().join("/");
        let compiled = Pattern::parse(&pattern, Globstar::Crosses).unwrap();
        prop_assert!(compiled.matches(Path::new(&path)), "{pattern} {path}");
        for dir in Path::new(&path).ancestors().skip(1) {
            prop_assert!(compiled.may_match_below(dir), "{} {} {}", pattern, path, dir.display());
        }
        let parent = compiled.literal_parent();
        prop_assert!(Path::new(&path).starts_with(parent), "{} {} {}", pattern, path, parent);
    }

    #[test]
    fn the_last_line_that_matches_a_path_or_a_parent_decides(
        lines in prop::collection::vec((any::<bool>(), pattern_text()), 0..6),
        path in path_text(),
    ) {
        let text: Vec<String> =
            lines.iter().map(|(exception, text)| format!("{}{text}", if *exception { "!" } else { "" })).collect();
        let file = IgnoreFile::parse(&text.join("\n")).unwrap();
        let expected = lines.iter().rposition(|(_, text)| {
            let pattern = Pattern::parse(text, Globstar::Crosses).unwrap();
            Path::new(&path).ancestors().any(|part| !part.as_os_str().is_empty() && pattern.matches(part))
        });
        let decision = file.verdict_alone(Path::new(&path));
        prop_assert_eq!(decision.map(|decision| decision.line - 1), expected);
        prop_assert_eq!(decision.map(|decision| decision.ignored), expected.map(|rule| !lines[rule].0));
        // a walk that descends only where it must sees every path that is not ignored
        if decision.is_none_or(|decision| !decision.ignored) {
            let mut parents: Vec<&Path> = Path::new(&path).ancestors().skip(1).collect();
            parents.pop();
            for dir in parents {
                if let Some(above) = file.verdict_alone(dir).filter(|decision| decision.ignored) {
                    prop_assert!(file.may_match_below(dir, above), "{:?} {}", text, dir.display());
                }
            }
        }
    }
}
