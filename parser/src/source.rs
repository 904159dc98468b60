//! A source text and places in it.

use std::ops::Range;

use crate::{ParseError, ParseErrors};

/// U+FEFF in UTF-8, which some editors put first.
const BYTE_ORDER_MARK: &[u8] = "\u{feff}".as_bytes();

/// Half-open range of byte offsets in a [`Source`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Span {
    /// First byte.
    pub start: usize,
    /// One past the last byte.
    pub end: usize,
}

impl Span {
    /// `start..end`.
    pub const fn new(start: usize, end: usize) -> Self {
        Self { start, end }
    }

    /// As a range, for slicing.
    pub const fn range(self) -> Range<usize> {
        self.start..self.end
    }
}

/// A value and where it stands.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Spanned<T> {
    /// The value.
    pub value: T,
    /// Where it stands.
    pub span: Span,
}

impl<T> Spanned<T> {
    /// `value` at `span`.
    pub const fn new(value: T, span: Span) -> Self {
        Self { value, span }
    }

    /// The same place with another value.
    pub fn map<U>(self, f: impl FnOnce(T) -> U) -> Spanned<U> {
        Spanned { value: f(self.value), span: self.span }
    }
}

/// A text with a name to show, and its lines.
#[derive(Clone, Debug)]
pub struct Source {
    name: String,
    text: String,
    line_starts: Vec<usize>,
}

impl Source {
    /// `name` is what messages call it: a path as the user gave it.
    pub fn new(name: impl Into<String>, text: impl Into<String>) -> Self {
        let text = text.into();
        let line_starts = std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect();
        Self { name: name.into(), text, line_starts }
    }

    /// Text from a file: a byte order mark is dropped.
    ///
    /// # Errors
    ///
    /// An empty file, and one that isn't UTF-8 text (invalid bytes, a NUL). Spans of such errors are places in what
    /// [`from_bytes_lossy`](Self::from_bytes_lossy) makes of the same bytes.
    pub fn from_bytes(name: impl Into<String>, bytes: &[u8]) -> Result<Self, ParseErrors> {
        let bytes = bytes.strip_prefix(BYTE_ORDER_MARK).unwrap_or(bytes);
        if bytes.is_empty() {
            let error = ParseError::new("empty-file", "file with no instructions", Span::default());
            return Err(error.label("the file is empty").into());
        }
        match std::str::from_utf8(bytes) {
            Ok(text) => match text.find('\0') {
                None => Ok(Self::new(name, text)),
                Some(at) => {
                    let error = ParseError::new("not-text", "the file is not text", Span::new(at, at + 1));
                    Err(error.label("a NUL byte").help("give a Dockerfile with `-f`").into())
                }
            },
            Err(error) => {
                let at = error.valid_up_to();
                let byte = bytes.get(at).copied().unwrap_or_default();
                let span = Span::new(at, at + char::REPLACEMENT_CHARACTER.len_utf8());
                let error = ParseError::new("not-utf8", "the file is not UTF-8 text", span);
                Err(error.label(format!("byte 0x{byte:02x} begins no character")).into())
            }
        }
    }

    /// The same for showing what is wrong: what can't be read is replaced.
    pub fn from_bytes_lossy(name: impl Into<String>, bytes: &[u8]) -> Self {
        let bytes = bytes.strip_prefix(BYTE_ORDER_MARK).unwrap_or(bytes);
        Self::new(name, String::from_utf8_lossy(bytes))
    }

    /// The name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The whole text.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The text at `span`.
    pub fn slice(&self, span: Span) -> &str {
        &self.text[span.range()]
    }

    /// Line and column of a byte offset, both from 1; the column counts characters.
    pub fn position(&self, offset: usize) -> (usize, usize) {
        let line = self.line_starts.partition_point(|&start| start <= offset);
        let column = self.text[self.line_starts[line - 1]..offset].chars().count() + 1;
        (line, column)
    }
}
