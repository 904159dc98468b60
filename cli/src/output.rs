//! Results, which go to stdout.

use std::io::{self, Write};

use serde::Serialize;

use crate::report::Failure;

/// What a shell shows for a program that SIGPIPE ended: the reader of our output went away, which is no error.
const BROKEN_PIPE: u8 = 128 + 13;

/// Prints `text` as it is.
pub(crate) fn print(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(|error| cannot_write(&error))
}

/// Prints `text` and ends the line.
pub(crate) fn print_line(text: &str) -> Result<(), Failure> {
    print(&format!("{text}\n"))
}

/// Prints one JSON object on each line, as docker's lists do.
pub(crate) fn print_json_lines<T: Serialize>(objects: &[T]) -> Result<(), Failure> {
    let mut text = String::new();
    for object in objects {
        text.push_str(&serde_json::to_string(object).expect("maps with text keys are JSON"));
        text.push('\n');
    }
    print(&text)
}

/// Tells the user something that is no result, on stderr.
pub(crate) fn note(text: &str) {
    tell(&format!("note: {text}"));
}

/// A line on stderr.
pub(crate) fn tell(line: &str) {
    let _ = writeln!(io::stderr(), "{line}");
}

/// Why stdout can't be written; without a word where its reader is gone.
pub(crate) fn cannot_write(error: &io::Error) -> Failure {
    match error.kind() {
        io::ErrorKind::BrokenPipe => Failure::silent(BROKEN_PIPE),
        _ => Failure::message(1, format!("cannot write the result: {error}")),
    }
}
