//! `RUN`, with its `--mount=`.

use super::flag::{Flag, FlagKind, Flags, Statement, has_variable, variable_in_from};
use super::from::missing_argument;
use super::metadata::command_line;
use super::{
    CacheSharing, CommandLine, Heredoc, RunInstruction, RunMount, RunMountKind, RunNetwork, RunSecurity,
};
use crate::error::Sink;
use crate::line::{HeredocWord, heredoc_words};
use crate::mapped::Mapped;
use crate::suggest::nearest;
use crate::token::csv_fields;
use crate::{ParseError, Span, Spanned};

/// `RUN [--mount=...] command`
pub(crate) fn run(
    statement: &Statement<'_>,
    heredocs: Vec<(HeredocWord<'_>, Heredoc)>,
    sink: &mut Sink,
) -> Option<RunInstruction> {
    let errors_before = sink.errors.len();
    let flags = statement.known_flags(
        &[
            ("mount", FlagKind::Values),
            ("network", FlagKind::Value),
            ("security", FlagKind::Value),
            ("device", FlagKind::Values),
        ],
        sink,
    );
    let mounts = flags.all("mount").filter_map(|flag| mount(flag, sink)).collect();
    let network = one_of(
        &flags,
        "network",
        &[("default", RunNetwork::Default), ("none", RunNetwork::None), ("host", RunNetwork::Host)],
        sink,
    );
    let security = one_of(
        &flags,
        "security",
        &[("sandbox", RunSecurity::Sandbox), ("insecure", RunSecurity::Insecure)],
        sink,
    );
    if statement.args.is_empty() {
        if sink.errors.len() == errors_before {
            sink.push(missing_argument(statement, "nothing to run"));
        }
        return None;
    }
    let command = command_line(statement, statement.args, sink)?;
    if matches!(&command, CommandLine::Exec(argv) if argv.is_empty()) {
        sink.push(missing_argument(statement, "nothing to run"));
        return None;
    }
    Some(RunInstruction {
        command,
        heredocs: heredocs.into_iter().map(|(_, heredoc)| heredoc).collect(),
        mounts,
        network,
        security,
        devices: flags.raw_words("device"),
    })
}

impl RunInstruction {
    /// The one heredoc of `RUN <<EOF` with no command beside it: its body is the script itself.
    pub fn script(&self) -> Option<&Heredoc> {
        let (CommandLine::Shell(line), [heredoc]) = (&self.command, self.heredocs.as_slice()) else {
            return None;
        };
        let words = heredoc_words(line);
        matches!(words.as_slice(), [word] if word.text == line.trim()).then_some(heredoc)
    }

    /// What the shell gets: the line, and after it the bodies of its heredocs with their terminators.
    pub fn shell_text(&self) -> Option<String> {
        let CommandLine::Shell(line) = &self.command else { return None };
        Some(with_heredocs(line, &self.heredocs))
    }
}

/// A line and the heredocs that it names, as they would stand in a file.
pub(crate) fn with_heredocs(line: &str, heredocs: &[Heredoc]) -> String {
    let mut text = line.to_owned();
    for heredoc in heredocs {
        text.push('\n');
        text.push_str(&heredoc.body);
        text.push_str(&heredoc.name);
    }
    text
}

fn one_of<T: Copy>(
    flags: &Flags<'_>,
    name: &str,
    values: &[(&str, T)],
    sink: &mut Sink,
) -> Option<Spanned<T>> {
    let flag = flags.all(name).next()?;
    let text = flag.value().unwrap_or_default();
    let span = if text.is_empty() { flag.span } else { flag.text.span(text) };
    match values.iter().find(|(known, _)| *known == text) {
        Some(&(_, value)) => Some(Spanned::new(value, span)),
        None => {
            let names: Vec<String> = values.iter().map(|(known, _)| format!("`{known}`")).collect();
            let message = format!("invalid value `{text}` of `--{name}`");
            let error = ParseError::new("invalid-flag-value", message, span);
            sink.push(error.label(format!("must be one of {}", names.join(", "))));
            None
        }
    }
}

const KEYS: &[&str] = &[
    "type",
    "from",
    "source",
    "src",
    "target",
    "dst",
    "destination",
    "readonly",
    "ro",
    "readwrite",
    "rw",
    "id",
    "sharing",
    "required",
    "mode",
    "uid",
    "gid",
    "size",
    "env",
];

/// One `--mount=key=value,...`
fn mount(flag: &Flag, sink: &mut Sink) -> Option<RunMount> {
    let text = flag.value().unwrap_or_default();
    let fields = match csv_fields(text) {
        Ok(fields) => fields,
        Err(reason) => {
            let error = ParseError::new("invalid-mount", format!("invalid mount: {reason}"), flag.span);
            sink.push(error.label("must be `key=value,...`"));
            return None;
        }
    };
    let errors_before = sink.errors.len();
    let mut mount = RunMount {
        kind: RunMountKind::default(),
        target: None,
        source: None,
        from: None,
        id: None,
        readonly: None,
        sharing: CacheSharing::default(),
        required: false,
        mode: None,
        uid: None,
        gid: None,
        size: None,
        env: None,
        span: flag.span,
    };
    let mut places = Places::default();
    for pieces in fields {
        let mut field = Mapped::at(flag.text.span(pieces.first().copied().unwrap_or(text)).start);
        for piece in &pieces {
            field.push_from(&flag.text, piece);
        }
        option(&mut mount, &mut places, &field, flag.span, sink);
    }
    if sink.errors.len() == errors_before {
        check(&mount, &places, sink);
    }
    (sink.errors.len() == errors_before).then_some(mount)
}

/// Where options stand that only some types have.
#[derive(Default)]
struct Places {
    sharing: Option<Span>,
    required: Option<Span>,
}

fn option(mount: &mut RunMount, places: &mut Places, field: &Mapped, whole: Span, sink: &mut Sink) {
    let text = field.text();
    let (key, value) = match text.split_once('=') {
        Some((key, value)) => (key, Some(value)),
        None => (text, None),
    };
    let name = key.to_lowercase();
    let span = if text.is_empty() { whole } else { field.whole() };
    let invalid = |message: String| ParseError::new("invalid-mount", message, span);
    if !KEYS.contains(&name.as_str()) {
        let error = match text {
            "" => invalid("empty option of a mount".to_owned()),
            _ => invalid(format!("unexpected key `{key}` of a mount")),
        };
        let error = error.label("not an option of mounts");
        sink.push(match nearest(key, KEYS.iter().copied()) {
            Some(near) => error.help(format!("did you mean `{near}`?")),
            None => error,
        });
        return;
    }
    let flag_value = match value {
        None => Some(true),
        Some(value) => go_bool(value),
    };
    match (name.as_str(), value) {
        ("readonly" | "ro" | "readwrite" | "rw" | "required", _) => {
            let Some(flag_value) = flag_value else {
                sink.push(invalid(format!("invalid value for {name}: `{}`", value.unwrap_or_default())));
                return;
            };
            match name.as_str() {
                "readonly" | "ro" => mount.readonly = Some(flag_value),
                "readwrite" | "rw" => mount.readonly = Some(!flag_value),
                _ => {
                    mount.required = flag_value;
                    places.required = Some(span);
                }
            }
        }
        (_, None) => sink.push(invalid(format!("`{key}` of a mount needs a value")).label("no `=` follows")),
        ("type", Some(value)) => match value.to_lowercase().as_str() {
            "bind" => mount.kind = RunMountKind::Bind,
            "cache" => mount.kind = RunMountKind::Cache,
            "tmpfs" => mount.kind = RunMountKind::Tmpfs,
            "secret" => mount.kind = RunMountKind::Secret,
            "ssh" => mount.kind = RunMountKind::Ssh,
            other => {
                let error = invalid(format!("unsupported mount type `{value}`"));
                let error = error.label("must be one of `bind`, `cache`, `tmpfs`, `secret`, `ssh`");
                sink.push(match nearest(other, ["bind", "cache", "tmpfs", "secret", "ssh"]) {
                    Some(near) => error.help(format!("did you mean `{near}`?")),
                    None => error,
                });
            }
        },
        ("sharing", Some(value)) => {
            places.sharing = Some(span);
            match value.to_lowercase().as_str() {
                "shared" => mount.sharing = CacheSharing::Shared,
                "private" => mount.sharing = CacheSharing::Private,
                "locked" => mount.sharing = CacheSharing::Locked,
                _ => sink.push(
                    invalid(format!("unsupported sharing value `{value}`"))
                        .label("must be one of `shared`, `private`, `locked`"),
                ),
            }
        }
        ("from", Some(value)) => {
            if has_variable(value) {
                variable_in_from("`from` of a mount", field.word(value), sink);
            }
            mount.from = (!value.is_empty()).then(|| field.spanned(value));
        }
        (name, Some(value)) => {
            let word = (!value.is_empty()).then(|| sink.checked(field.word(value)));
            match name {
                "source" | "src" => mount.source = word,
                "target" | "dst" | "destination" => mount.target = word,
                "id" => mount.id = word,
                "mode" => mount.mode = word,
                "uid" => mount.uid = word,
                "gid" => mount.gid = word,
                "size" => mount.size = word,
                _ => mount.env = word,
            }
        }
    }
}

/// What fits which type of mount.
fn check(mount: &RunMount, places: &Places, sink: &mut Sink) {
    use RunMountKind::{Bind, Cache, Secret, Ssh, Tmpfs};
    let kind = match mount.kind {
        Bind => "bind",
        Cache => "cache",
        Tmpfs => "tmpfs",
        Secret => "secret",
        Ssh => "ssh",
    };
    let mut not_allowed = |key: &str, span: Option<Span>, allowed: &[RunMountKind]| {
        if let Some(span) = span.filter(|_| !allowed.contains(&mount.kind)) {
            let message = format!("`{key}` is not allowed for a {kind} mount");
            sink.push(ParseError::new("invalid-mount", message, span).label("does not fit the type"));
        }
    };
    let span = |word: &Option<crate::Word>| word.as_ref().map(|word| word.span);
    not_allowed("mode", span(&mount.mode), &[Cache, Secret, Ssh]);
    not_allowed("uid", span(&mount.uid), &[Cache, Secret, Ssh]);
    not_allowed("gid", span(&mount.gid), &[Cache, Secret, Ssh]);
    not_allowed("size", span(&mount.size), &[Tmpfs]);
    not_allowed("env", span(&mount.env), &[Secret]);
    not_allowed("from", mount.from.as_ref().map(|from| from.span), &[Bind, Cache]);
    not_allowed("source", span(&mount.source), &[Bind, Cache, Secret]);
    not_allowed("sharing", places.sharing, &[Cache]);
    not_allowed("required", places.required, &[Secret, Ssh]);
    let mut missing = |message: &str, help: &str| {
        sink.push(ParseError::new("invalid-mount", message, mount.span).help(help));
    };
    match mount.kind {
        Bind | Cache | Tmpfs if mount.target.is_none() => {
            missing(&format!("a {kind} mount needs a target"), "add `target=/path`");
        }
        Secret if mount.id.is_none() && mount.source.is_none() && mount.target.is_none() => {
            missing("a secret mount needs an id", "add `id=NAME`, as given with `--secret id=NAME`");
        }
        Secret if mount.id.is_some() && mount.source.is_some() => {
            missing("both source and id of a secret mount are set", "leave `source` out");
        }
        _ => {}
    }
}

fn go_bool(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}
