//! `ENV` and `LABEL`.

use super::KeyValue;
use super::flag::Statement;
use super::from::missing_argument;
use crate::error::Sink;
use crate::token::{quoted_words, split_keyword};
use crate::{ParseError, Rule};

/// `key=value ...`, or the old form `key rest of the line`: the first word decides.
pub(crate) fn key_values(statement: &Statement<'_>, sink: &mut Sink) -> Option<Vec<KeyValue>> {
    statement.known_flags(&[], sink);
    let words = quoted_words(statement.args, sink.escape);
    let Some(first) = words.first() else {
        sink.push(missing_argument(statement, "no `key=value`"));
        return None;
    };
    if !first.contains('=') {
        return old_form(statement, sink).map(|pair| vec![pair]);
    }
    let mut pairs = Vec::new();
    for word in words {
        let span = statement.line.span(word);
        match word.split_once('=') {
            None => sink.push(
                ParseError::new("missing-equals", format!("can't find = in `{word}`"), span)
                    .label("must be of the form `key=value`")
                    .help("quote a value that holds spaces: `key=\"a b\"`"),
            ),
            Some(("", _)) => sink.push(blank_name(statement, word)),
            Some((key, value)) => {
                pairs.push(KeyValue { key: statement.word(key, sink), value: statement.word(value, sink) });
            }
        }
    }
    (!pairs.is_empty()).then_some(pairs)
}

fn old_form(statement: &Statement<'_>, sink: &mut Sink) -> Option<KeyValue> {
    let keyword = statement.name();
    let (key, value) = split_keyword(statement.args);
    if value.is_empty() {
        sink.push(
            ParseError::new(
                "missing-value",
                format!("{keyword} must have two arguments"),
                statement.args_span(),
            )
            .label("no value")
            .help(format!("write `{keyword} {key}=VALUE`")),
        );
        return None;
    }
    let message =
        format!("\"{keyword} key=value\" should be used instead of legacy \"{keyword} key value\" format");
    sink.warn(Rule::LegacyKeyValueFormat, message, statement.line.span(statement.text));
    Some(KeyValue { key: statement.word(key, sink), value: statement.word(value, sink) })
}

fn blank_name(statement: &Statement<'_>, word: &str) -> ParseError {
    let message = format!("{} names can not be blank", statement.name());
    ParseError::new("blank-name", message, statement.line.span(word)).label("no name before `=`")
}
