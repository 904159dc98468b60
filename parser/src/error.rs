//! What can be wrong with a Dockerfile, and where.

use std::fmt;

use crate::{Escape, Heredoc, Rule, Span, Warning, Word, WordError, word};

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

impl ParseError {
    pub(crate) fn new(code: &'static str, message: impl Into<String>, span: Span) -> Self {
        Self { code, message: message.into(), span, label: String::new(), help: None }
    }

    pub(crate) fn label(mut self, label: impl Into<String>) -> Self {
        self.label = label.into();
        self
    }

    pub(crate) fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }
}

/// Where errors and warnings gather while the rest is read on.
#[derive(Debug, Default)]
pub(crate) struct Sink {
    pub(crate) escape: Escape,
    pub(crate) errors: Vec<ParseError>,
    pub(crate) warnings: Vec<Warning>,
}

impl Sink {
    pub(crate) fn push(&mut self, error: ParseError) {
        self.errors.push(error);
    }

    pub(crate) fn warn(&mut self, rule: Rule, message: impl Into<String>, span: Span) {
        self.warnings.push(Warning { rule, message: message.into(), span });
    }

    /// A word that will be expanded: what is wrong with it whatever the variables are is said now.
    pub(crate) fn checked(&mut self, word: Word) -> Word {
        if let Err(error) = word::check(&word.raw, self.escape) {
            self.push(word_error(&error, word.span));
        }
        word
    }

    /// The same for the body of a heredoc.
    pub(crate) fn checked_heredoc(&mut self, heredoc: Heredoc) -> Heredoc {
        if let Some(error) = heredoc.expand.then(|| word::check_heredoc(&heredoc.body).err()).flatten() {
            let error = word_error(&error, heredoc.span);
            self.push(
                error.help(format!("quote the word to leave the body as it is: `<<'{}'`", heredoc.name)),
            );
        }
        heredoc
    }
}

fn word_error(error: &WordError, span: Span) -> ParseError {
    let (code, label) = match error {
        WordError::UnclosedQuote { .. } => ("unclosed-quote", "in this word"),
        WordError::UnclosedBrace { .. } => ("unclosed-substitution", "in this word"),
        WordError::UnsupportedModifier { .. } => ("unsupported-modifier", "in this word"),
        _ => ("bad-substitution", "in this word"),
    };
    let parse_error = ParseError::new(code, error.to_string(), span).label(label);
    match error {
        WordError::UnclosedBrace { .. } => {
            parse_error.help("white space ends a word: quote one that holds some")
        }
        WordError::UnclosedQuote { .. } => {
            parse_error.help("close it, or escape it to have the character itself")
        }
        _ => parse_error,
    }
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
