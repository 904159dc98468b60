//! `FROM` and `ARG`.

use super::flag::{FlagKind, Statement};
use super::{ArgDeclaration, ArgInstruction, FromInstruction};
use crate::error::Sink;
use crate::token::{blank_separated, quoted_words};
use crate::{ParseError, Rule, Spanned};

/// `FROM [--platform=P] base [AS name]`
pub(crate) fn from(statement: &Statement<'_>, sink: &mut Sink) -> Option<FromInstruction> {
    let platform = statement.known_flags(&[("platform", FlagKind::Value)], sink).word("platform", sink);
    let words = blank_separated(statement.args);
    let (base, name) = match words.as_slice() {
        [base] => (*base, None),
        [base, keyword, name] if keyword.eq_ignore_ascii_case("as") => (*base, Some((*keyword, *name))),
        _ => {
            let error = ParseError::new(
                "from-arguments",
                "FROM requires either one or three arguments",
                statement.args_span(),
            );
            let error = match words.as_slice() {
                [] => error.label("no image").help("name an image, an earlier stage or `scratch`"),
                [_, keyword, ..] if keyword.eq_ignore_ascii_case("as") => error.label("not `base AS name`"),
                _ => error.label(format!("{} arguments", words.len())).help("write `FROM base AS name`"),
            };
            sink.push(error);
            return None;
        }
    };
    let base = statement.word(base, sink);
    let name = match name {
        None => None,
        Some((keyword, name)) => {
            check_as(statement, keyword, sink);
            Some(stage_name(statement, name, sink)?)
        }
    };
    Some(FromInstruction { base, name, platform })
}

/// `as` is written in the case of `FROM`.
fn check_as(statement: &Statement<'_>, keyword: &str, sink: &mut Sink) {
    let lower = |text: &str| text.chars().all(char::is_lowercase);
    let upper = |text: &str| text.chars().all(char::is_uppercase);
    let from = statement.keyword;
    if (upper(from) && !upper(keyword)) || (lower(from) && !lower(keyword)) {
        let message = format!("'{keyword}' and '{from}' keywords' casing do not match");
        sink.warn(Rule::FromAsCasing, message, statement.line.span(keyword));
    }
}

fn stage_name(statement: &Statement<'_>, name: &str, sink: &mut Sink) -> Option<Spanned<String>> {
    let span = statement.line.span(name);
    let lower = name.to_lowercase();
    let mut characters = lower.chars();
    let first = characters.next().is_some_and(|c| c.is_ascii_lowercase());
    if !first || !characters.all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "-_.".contains(c)) {
        sink.push(
            ParseError::new("invalid-stage-name", format!("invalid name for build stage: `{name}`"), span)
                .label("must begin with a letter; then letters, digits, `-`, `_` and `.`"),
        );
        return None;
    }
    if lower != name {
        sink.warn(Rule::StageNameCasing, format!("Stage name '{name}' should be lowercase"), span);
    }
    if lower == "scratch" || lower == "context" {
        let message = format!("Stage name should not use the same name as reserved stage \"{lower}\"");
        sink.warn(Rule::ReservedStageName, message, span);
    }
    Some(Spanned::new(lower, span))
}

/// `ARG name[=default] ...`
pub(crate) fn arg(statement: &Statement<'_>, sink: &mut Sink) -> Option<ArgInstruction> {
    statement.known_flags(&[], sink);
    let words = quoted_words(statement.args, sink.escape);
    if words.is_empty() {
        sink.push(missing_argument(statement, "no name"));
        return None;
    }
    let mut args = Vec::new();
    for word in words {
        let (name, default) = match word.split_once('=') {
            Some((name, default)) => (name, Some(default)),
            None => (word, None),
        };
        let span = statement.line.span(if name.is_empty() { word } else { name });
        // quotes may stand around the name, as around any word
        let literal = statement.line.word(name).literal(sink.escape);
        let Some(literal) = literal.filter(|literal| !literal.trim().is_empty()) else {
            let error = ParseError::new("invalid-arg-name", "ARG names can not be blank", span);
            sink.push(match name.trim_matches(['\'', '"']).is_empty() {
                true => error.label("no name"),
                false => {
                    ParseError::new("invalid-arg-name", format!("invalid name of an ARG: `{name}`"), span)
                        .label("must be a plain name")
                }
            });
            continue;
        };
        let default = default.map(|default| statement.word(default, sink));
        args.push(ArgDeclaration { name: Spanned::new(literal, span), default });
    }
    (!args.is_empty()).then_some(ArgInstruction { args })
}

/// `X requires at least one argument`
pub(crate) fn missing_argument(statement: &Statement<'_>, label: &str) -> ParseError {
    ParseError::new(
        "missing-argument",
        format!("{} requires at least one argument", statement.name()),
        statement.keyword_span(),
    )
    .label(label)
}
