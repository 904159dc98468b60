//! `calque dockerfile parse` and `calque dockerfile fmt`: a Dockerfile as text.

use std::fs;
use std::io::{self, Read, Write};
use std::path::Path;

use builder::BuildError;
use parser::format::{FormatError, format};
use parser::{RawStatement, Source};
use serde_json::{Value, json};

use super::build;
use crate::arguments::{self, Count, Invocation, Verb};
use crate::output;
use crate::report::{self, Failure};

/// `calque dockerfile parse`.
pub(crate) const PARSE: Verb = Verb {
    places: &[("dockerfile", "parse")],
    about: "Show the instructions of a Dockerfile, a JSON object each",
    synopsis: "FILE",
    examples: &["dockerfile parse Dockerfile", "dockerfile parse - < Dockerfile"],
    is_trailing: false,
    flags: Vec::new,
    execute: parse,
};

/// `calque dockerfile fmt`.
pub(crate) const FMT: Verb = Verb {
    places: &[("dockerfile", "fmt")],
    about: "Lay a Dockerfile out evenly; its meaning and its comments stay",
    synopsis: "[OPTIONS] FILE",
    examples: &[
        "dockerfile fmt Dockerfile",
        "dockerfile fmt -w Dockerfile",
        "dockerfile fmt --check Dockerfile",
    ],
    is_trailing: false,
    flags: || {
        vec![
            arguments::switch("write", "Write the result into the file").short('w'),
            arguments::switch("check", "Change nothing; exit with 1 where the layout isn't even"),
        ]
    },
    execute: fmt,
};

fn read(name: &str) -> Result<Source, Failure> {
    if name != "-" {
        return build::read(name, Path::new(name));
    }
    let mut bytes = Vec::new();
    let read = io::stdin().lock().take(build::DOCKERFILE_LIMIT + 1).read_to_end(&mut bytes);
    read.map_err(|error| Failure::message(1, format!("cannot read the Dockerfile from stdin: {error}")))?;
    build::text("Dockerfile", bytes)
}

fn parse(invocation: &Invocation<'_>) -> Result<u8, Failure> {
    let name = invocation.arguments(Count::Exactly(1))?.remove(0);
    let source = read(&name)?;
    let statements = parser::statements(&source)
        .map_err(|errors| report::build_failure(&BuildError::Dockerfile(errors), &source, None))?;
    let mut stage = None;
    let objects: Vec<Value> = statements
        .iter()
        .map(|statement| {
            if statement.keyword.value.eq_ignore_ascii_case("from") {
                stage = Some(stage.map_or(0, |stage: usize| stage + 1));
            }
            object(&source, statement, stage)
        })
        .collect();
    output::print_json_lines(&objects)?;
    Ok(0)
}

fn object(source: &Source, statement: &RawStatement, stage: Option<usize>) -> Value {
    let flags = statement.flags.iter().map(|flag| {
        let (name, value) = match flag.value.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (flag.value.as_str(), None),
        };
        json!({ "name": name.trim_start_matches("--"), "value": value, "span": span(source, flag.span) })
    });
    let heredocs = statement.heredocs.iter().map(|heredoc| {
        json!({
            "name": heredoc.name,
            "expand": heredoc.expand,
            "stripTabs": heredoc.strip_tabs,
            "fileDescriptor": heredoc.file_descriptor,
            "body": heredoc.body,
            "span": span(source, heredoc.span),
        })
    });
    json!({
        "instruction": statement.keyword.value.to_uppercase(),
        "stage": stage,
        "flags": flags.collect::<Vec<_>>(),
        "args": statement.args.value,
        "json": statement.json,
        "heredocs": heredocs.collect::<Vec<_>>(),
        "span": span(source, statement.span),
    })
}

/// Lines and columns count from 1, columns in characters, offsets in bytes; the end is the place after the last one.
fn span(source: &Source, span: parser::Span) -> Value {
    let place = |at: usize| {
        let (line, column) = source.position(at);
        json!({ "line": line, "column": column, "offset": at })
    };
    json!({ "start": place(span.start), "end": place(span.end) })
}

fn fmt(invocation: &Invocation<'_>) -> Result<u8, Failure> {
    let name = invocation.arguments(Count::Exactly(1))?.remove(0);
    let (writes, checks) = (invocation.is_on("write"), invocation.is_on("check"));
    if writes && (checks || name == "-") {
        let other = if checks { "`--check`" } else { "stdin" };
        let message = format!("`--write` and {other} exclude each other");
        return Err(Failure::usage(arguments::WRONG_FLAG, message, &invocation.name));
    }
    let source = read(&name)?;
    let text = format(&source).map_err(|error| match error {
        FormatError::Parse(errors) => report::build_failure(&BuildError::Dockerfile(errors), &source, None),
        other => Failure::error(1, &other),
    })?;
    let is_even = text == source.text();
    match (checks, writes) {
        (true, _) if is_even => Ok(0),
        (true, _) => {
            output::print_line(&name)?;
            Ok(1)
        }
        (false, true) => {
            if !is_even {
                replace(Path::new(&name), &text)
                    .map_err(|error| Failure::message(1, format!("cannot write `{name}`: {error}")))?;
            }
            Ok(0)
        }
        (false, false) => {
            output::print(&text)?;
            Ok(0)
        }
    }
}

/// The new text takes the place of the file at once; a symlink stays one, and the mode stays.
fn replace(path: &Path, text: &str) -> io::Result<()> {
    let path = fs::canonicalize(path)?;
    let mode = fs::metadata(&path)?.permissions();
    let beside = path.with_file_name(format!(".{}.calque-fmt", std::process::id()));
    let written = (|| {
        let mut file = fs::File::options().write(true).create_new(true).open(&beside)?;
        file.set_permissions(mode)?;
        file.write_all(text.as_bytes())?;
        fs::rename(&beside, &path)
    })();
    if written.is_err() {
        let _ = fs::remove_file(&beside);
    }
    written
}
