//! What can be wrong with a Dockerfile, and where.

use std::fmt;

use crate::Span;

/// One thing that is wrong, with its place in the [`Source`](crate::Source).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParseError {
    /// Stable word for programs, kebab-case: `unknown-instruction`.
    pub code: &'static str,
    /// What is wrong: a lowercase fragment.
    pub message: String,
    /// Where.
    pub span: Span,
    /// What to write beside the marked place; may be empty.
    pub label: String,
    /// What to do about it.
    pub help: Option<String>,
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for ParseError {}

/// All that was found wrong, in the order of the file; never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParseErrors(Vec<ParseError>);

impl ParseErrors {
    /// `None` when `errors` is empty. Sorts by place.
    pub fn new(mut errors: Vec<ParseError>) -> Option<Self> {
        errors.sort_by_key(|error| (error.span.start, error.span.end));
        (!errors.is_empty()).then_some(Self(errors))
    }

    /// The first error.
    pub fn first(&self) -> &ParseError {
        &self.0[0]
    }

    /// All errors.
    pub fn iter(&self) -> std::slice::Iter<'_, ParseError> {
        self.0.iter()
    }
}

impl From<ParseError> for ParseErrors {
    fn from(error: ParseError) -> Self {
        Self(vec![error])
    }
}

impl IntoIterator for ParseErrors {
    type Item = ParseError;
    type IntoIter = std::vec::IntoIter<ParseError>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl<'a> IntoIterator for &'a ParseErrors {
    type Item = &'a ParseError;
    type IntoIter = std::slice::Iter<'a, ParseError>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl fmt::Display for ParseErrors {
    /// The first message, and how many more there are.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.first())?;
        match self.0.len() {
            1 => Ok(()),
            2 => f.write_str(" (and 1 more error)"),
            n => write!(f, " (and {} more errors)", n - 1),
        }
    }
}

impl std::error::Error for ParseErrors {}
