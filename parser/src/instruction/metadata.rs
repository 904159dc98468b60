//! The instructions that set one thing: CMD, ENTRYPOINT, SHELL, EXPOSE, VOLUME, USER, WORKDIR, STOPSIGNAL,
//! HEALTHCHECK, MAINTAINER.

use super::flag::{FlagKind, Flags, Statement};
use super::from::missing_argument;
use super::{CommandLine, HealthcheckInstruction};
use crate::error::Sink;
use crate::token::{Json, blank_separated, duration_ns, is_signal, json_list, split_keyword};
use crate::{ParseError, Rule, Span, Word};

/// A command in either form. Invalid JSON is a command for the shell, without a word, as in docker.
pub(crate) fn command_line(statement: &Statement<'_>, args: &str, sink: &mut Sink) -> Option<CommandLine> {
    match json_list(args) {
        Json::No => Some(CommandLine::Shell(args.to_owned())),
        Json::NotStrings => {
            sink.push(not_strings(statement, args));
            None
        }
        Json::Strings(list, rest) => {
            warn_of_rest(statement, rest, sink);
            Some(CommandLine::Exec(list.into_iter().map(|(text, _)| text).collect()))
        }
    }
}

/// `CMD` and `ENTRYPOINT`
pub(crate) fn command(statement: &Statement<'_>, sink: &mut Sink) -> Option<CommandLine> {
    let errors_before = sink.errors.len();
    statement.known_flags(&[], sink);
    if statement.args.is_empty() {
        if sink.errors.len() == errors_before {
            let help = format!("write `{} []` to clear what the base image has", statement.name());
            sink.push(missing_argument(statement, "no command").help(help));
        }
        return None;
    }
    command_line(statement, statement.args, sink)
}

/// `SHELL ["...", "..."]`
pub(crate) fn shell(statement: &Statement<'_>, sink: &mut Sink) -> Option<Vec<String>> {
    statement.known_flags(&[], sink);
    let help = "write `SHELL [\"/bin/bash\", \"-c\"]`";
    match json_list(statement.args) {
        Json::Strings(list, rest) if !list.is_empty() => {
            warn_of_rest(statement, rest, sink);
            Some(list.into_iter().map(|(text, _)| text).collect())
        }
        Json::NotStrings => {
            sink.push(not_strings(statement, statement.args));
            None
        }
        Json::No if !statement.args.is_empty() => {
            let message = "SHELL requires the arguments to be in JSON form";
            let error = ParseError::new("not-json", message, statement.args_span());
            sink.push(error.label("not a JSON list").help(help));
            None
        }
        _ => {
            sink.push(missing_argument(statement, "no shell").help(help));
            None
        }
    }
}

/// `EXPOSE port[/proto] ...`
pub(crate) fn expose(statement: &Statement<'_>, sink: &mut Sink) -> Option<Vec<Word>> {
    statement.known_flags(&[], sink);
    let words = blank_separated(statement.args);
    if words.is_empty() {
        sink.push(missing_argument(statement, "no port"));
        return None;
    }
    Some(words.into_iter().map(|word| statement.word(word, sink)).collect())
}

/// `VOLUME path ...` and `VOLUME ["path", ...]`
pub(crate) fn volume(statement: &Statement<'_>, sink: &mut Sink) -> Option<Vec<Word>> {
    statement.known_flags(&[], sink);
    let words = match list_words(statement, sink)? {
        Some(words) => words,
        None => blank_separated(statement.args).into_iter().map(|word| statement.word(word, sink)).collect(),
    };
    if words.is_empty() {
        sink.push(missing_argument(statement, "no path"));
        return None;
    }
    if let Some(blank) = words.iter().find(|word| word.raw.trim().is_empty()) {
        let error =
            ParseError::new("blank-volume", "VOLUME specified can not be an empty string", blank.span);
        sink.push(error.label("empty"));
        return None;
    }
    Some(words)
}

/// `USER` and `WORKDIR`: the rest of the line is one word.
pub(crate) fn rest_of_line(statement: &Statement<'_>, sink: &mut Sink) -> Option<Word> {
    statement.known_flags(&[], sink);
    if statement.args.is_empty() {
        sink.push(exactly_one(statement));
        return None;
    }
    Some(statement.word(statement.args, sink))
}

/// `STOPSIGNAL signal`
pub(crate) fn stop_signal(statement: &Statement<'_>, sink: &mut Sink) -> Option<Word> {
    let word = rest_of_line(statement, sink)?;
    if let Some(signal) = word.literal(sink.escape).filter(|signal| !is_signal(signal)) {
        let error = ParseError::new("invalid-signal", format!("invalid signal: `{signal}`"), word.span);
        sink.push(
            error.label("no signal of this name").help("write `SIGTERM`, `TERM`, `15` or `SIGRTMIN+3`"),
        );
        return None;
    }
    Some(word)
}

/// `MAINTAINER name`
pub(crate) fn maintainer(statement: &Statement<'_>, sink: &mut Sink) -> Option<String> {
    statement.known_flags(&[], sink);
    let message = "Maintainer instruction is deprecated in favor of using label";
    sink.warn(Rule::MaintainerDeprecated, message, statement.line.span(statement.text));
    if statement.args.is_empty() {
        sink.push(exactly_one(statement));
        return None;
    }
    Some(statement.args.to_owned())
}

/// `HEALTHCHECK [options] CMD command` and `HEALTHCHECK NONE`
pub(crate) fn healthcheck(statement: &Statement<'_>, sink: &mut Sink) -> Option<HealthcheckInstruction> {
    let flags = statement.known_flags(
        &[
            ("interval", FlagKind::Value),
            ("timeout", FlagKind::Value),
            ("start-period", FlagKind::Value),
            ("start-interval", FlagKind::Value),
            ("retries", FlagKind::Value),
        ],
        sink,
    );
    let errors_before = sink.errors.len();
    let interval_ns = interval(&flags, "interval", sink);
    let timeout_ns = interval(&flags, "timeout", sink);
    let start_period_ns = interval(&flags, "start-period", sink);
    let start_interval_ns = interval(&flags, "start-interval", sink);
    let retries = retries(&flags, sink);
    let (kind, args) = split_keyword(statement.args);
    let span = statement.args_span();
    if kind.is_empty() {
        sink.push(
            missing_argument(statement, "no command")
                .help("write `HEALTHCHECK CMD command` or `HEALTHCHECK NONE`"),
        );
        return None;
    }
    if kind.eq_ignore_ascii_case("none") {
        if !args.is_empty() {
            let message = "HEALTHCHECK NONE takes no arguments";
            sink.push(
                ParseError::new("unexpected-argument", message, statement.line.span(args))
                    .label("not expected"),
            );
            return None;
        }
        return Some(HealthcheckInstruction::None);
    }
    if !kind.eq_ignore_ascii_case("cmd") {
        let message = format!("unknown type `{kind}` in HEALTHCHECK");
        let error = ParseError::new("unknown-healthcheck", message, statement.line.span(kind));
        sink.push(
            error
                .label("neither `CMD` nor `NONE`")
                .help(format!("write `HEALTHCHECK CMD {}`", statement.args)),
        );
        return None;
    }
    let command = command_line(statement, args, sink)?;
    if matches!(&command, CommandLine::Exec(argv) if argv.is_empty()) || args.is_empty() {
        let error = ParseError::new("missing-argument", "missing command after HEALTHCHECK CMD", span);
        sink.push(error.label("no command"));
        return None;
    }
    (sink.errors.len() == errors_before).then_some(HealthcheckInstruction::Command {
        command,
        interval_ns,
        timeout_ns,
        start_period_ns,
        start_interval_ns,
        retries,
    })
}

fn interval(flags: &Flags<'_>, name: &str, sink: &mut Sink) -> Option<i64> {
    const MINIMUM_NS: i64 = 1_000_000;
    let (flag, value) = flags.one(name)?;
    let span = flag.text.span(value);
    match duration_ns(value) {
        // as if it weren't given
        Some(0) => {}
        Some(ns) if ns >= MINIMUM_NS => return Some(ns),
        Some(_) => {
            let error =
                ParseError::new("invalid-duration", format!("`--{name}` cannot be less than 1ms"), span);
            sink.push(error.label("too short"));
        }
        None => {
            let message = format!("invalid duration `{value}` of `--{name}`");
            let error = ParseError::new("invalid-duration", message, span);
            let unit = value.bytes().all(|byte| byte.is_ascii_digit());
            let label = if unit { "a unit is missing" } else { "not a duration" };
            sink.push(error.label(label).help("write `30s`, `1m30s`, `500ms`, ..."));
        }
    }
    None
}

fn retries(flags: &Flags<'_>, sink: &mut Sink) -> Option<i64> {
    let (flag, value) = flags.one("retries")?;
    let span = flag.text.span(value);
    match value.parse::<i32>() {
        Ok(retries) if retries >= 0 => return Some(i64::from(retries)),
        Ok(_) => {
            let message = format!("`--retries` cannot be negative: `{value}`");
            sink.push(ParseError::new("invalid-flag-value", message, span).label("negative"));
        }
        Err(_) => {
            let message = format!("invalid number `{value}` of `--retries`");
            sink.push(ParseError::new("invalid-flag-value", message, span).label("not a number"));
        }
    }
    None
}

/// The words of a JSON list, to be expanded like others; `Some(None)` when the arguments are no JSON list, `None` when
/// they are a wrong one, which is said.
pub(crate) fn list_words(statement: &Statement<'_>, sink: &mut Sink) -> Option<Option<Vec<Word>>> {
    match json_list(statement.args) {
        Json::No => Some(None),
        Json::NotStrings => {
            sink.push(not_strings(statement, statement.args));
            None
        }
        Json::Strings(list, rest) => {
            warn_of_rest(statement, rest, sink);
            let words = list.into_iter().map(|(raw, literal)| {
                let span = statement.line.span(literal);
                sink.checked(Word { raw, span })
            });
            Some(Some(words.collect()))
        }
    }
}

/// docker drops what follows a JSON list, comments above all; calque does too, but says so.
fn warn_of_rest(statement: &Statement<'_>, rest: &str, sink: &mut Sink) {
    let rest = rest.trim();
    if !rest.is_empty() {
        let message = format!("Text after the JSON arguments of {} is ignored", statement.name());
        sink.warn(Rule::IgnoredTextAfterJSON, message, statement.line.span(rest));
    }
}

fn not_strings(statement: &Statement<'_>, args: &str) -> ParseError {
    let message = "when using JSON array syntax, arrays must be comprised of strings only";
    ParseError::new("not-strings", message, span_or(statement, args))
        .label("holds something else than strings")
}

fn span_or(statement: &Statement<'_>, args: &str) -> Span {
    if args.is_empty() { statement.keyword_span() } else { statement.line.span(args) }
}

fn exactly_one(statement: &Statement<'_>) -> ParseError {
    let message = format!("{} requires exactly one argument", statement.name());
    ParseError::new("missing-argument", message, statement.keyword_span()).label("no argument")
}
