//! Faults with their place, in the parser's form, so that the command line shows both alike.

use parser::{ParseError, Span, WordError};

pub(crate) fn fault(
    code: &'static str,
    message: impl Into<String>,
    span: Span,
    label: impl Into<String>,
    help: Option<String>,
) -> ParseError {
    ParseError { code, message: message.into(), span, label: label.into(), help }
}

/// A word that can't be expanded.
pub(crate) fn word_fault(error: &WordError, span: Span) -> ParseError {
    fault("bad-expansion", error.to_string(), span, "", None)
}

/// What calque can't do yet, by name.
pub(crate) fn unsupported(what: &str, span: Span, help: Option<String>) -> ParseError {
    fault("unsupported", format!("{what} is not supported yet"), span, "not supported yet", help)
}
