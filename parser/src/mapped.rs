//! Text put together from pieces of the source, which still knows where each piece stands.

use crate::{Span, Spanned, Word};

/// Continued lines joined, comments dropped, quotes of flags removed: what remains, with its places.
#[derive(Clone, Debug, Default)]
pub(crate) struct Mapped {
    text: String,
    pieces: Vec<Piece>,
}

/// From `at` in the text on, offset `source + (x - at)` in the source is meant.
#[derive(Clone, Copy, Debug)]
struct Piece {
    at: usize,
    source: usize,
}

impl Mapped {
    /// Nothing yet, which stands at `source`.
    pub(crate) fn at(source: usize) -> Self {
        Self { text: String::new(), pieces: vec![Piece { at: 0, source }] }
    }

    /// Adds `text`, which stands at `source`.
    pub(crate) fn push(&mut self, text: &str, source: usize) {
        if text.is_empty() {
            return;
        }
        let contiguous =
            self.pieces.last().is_some_and(|last| last.source + (self.text.len() - last.at) == source);
        if !contiguous {
            self.pieces.push(Piece { at: self.text.len(), source });
        }
        self.text.push_str(text);
    }

    /// Adds a part of another text, piece by piece.
    pub(crate) fn push_from(&mut self, other: &Self, part: &str) {
        let mut at = other.offset(part);
        let end = at + part.len();
        let mut index = other.pieces.partition_point(|piece| piece.at <= at);
        while at < end {
            let next = other.pieces.get(index).map_or(end, |piece| piece.at.min(end));
            self.push(&other.text[at..next], other.source_at(at));
            at = next;
            index += 1;
        }
    }

    /// A part of this text as a text of its own.
    pub(crate) fn part(&self, part: &str) -> Self {
        let mut mapped = Self::at(self.source_at(self.offset(part)));
        mapped.push_from(self, part);
        mapped
    }

    /// The text.
    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// Where `part`, a slice of [`text`](Self::text), begins in it.
    pub(crate) fn offset(&self, part: &str) -> usize {
        let offset = (part.as_ptr() as usize).wrapping_sub(self.text.as_ptr() as usize);
        debug_assert!(offset <= self.text.len(), "`{part}` is not a part of `{}`", self.text);
        offset.min(self.text.len())
    }

    /// Where `part`, a slice of [`text`](Self::text), stands in the source.
    pub(crate) fn span(&self, part: &str) -> Span {
        let start = self.offset(part);
        if part.is_empty() {
            let at = if start == self.text.len() { self.source_end(start) } else { self.source_at(start) };
            return Span::new(at, at);
        }
        Span::new(self.source_at(start), self.source_end(start + part.len()))
    }

    /// Where all of it stands.
    pub(crate) fn whole(&self) -> Span {
        self.span(&self.text)
    }

    /// `part` as a word.
    pub(crate) fn word(&self, part: &str) -> Word {
        Word { raw: part.to_owned(), span: self.span(part) }
    }

    /// `part` with its place.
    pub(crate) fn spanned(&self, part: &str) -> Spanned<String> {
        Spanned::new(part.to_owned(), self.span(part))
    }

    /// The source offset of the character at `at`.
    fn source_at(&self, at: usize) -> usize {
        let index = self.pieces.partition_point(|piece| piece.at <= at);
        let piece = self.pieces[index.saturating_sub(1)];
        piece.source + (at - piece.at)
    }

    /// The source offset just after the character before `at`.
    fn source_end(&self, at: usize) -> usize {
        let index = self.pieces.partition_point(|piece| piece.at < at);
        let piece = self.pieces[index.saturating_sub(1)];
        piece.source + (at - piece.at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_cross_pieces_and_stay_exact() {
        // "RUN a \⏎  b" joined
        let mut line = Mapped::at(0);
        line.push("RUN a ", 0);
        line.push("  b", 8);
        assert_eq!(line.text(), "RUN a   b");
        assert_eq!(line.span(&line.text()[4..5]), Span::new(4, 5));
        assert_eq!(line.span(&line.text()[8..9]), Span::new(10, 11));
        assert_eq!(line.span(&line.text()[4..9]), Span::new(4, 11));
        assert_eq!(line.span(&line.text()[9..]), Span::new(11, 11));
        assert_eq!(line.whole(), Span::new(0, 11));
    }

    #[test]
    fn a_part_keeps_its_places() {
        let mut line = Mapped::at(10);
        line.push("abc", 10);
        line.push("def", 20);
        let part = line.part(&line.text()[2..5]);
        assert_eq!(part.text(), "cde");
        assert_eq!(part.whole(), Span::new(12, 22));
        assert_eq!(part.span(&part.text()[1..]), Span::new(20, 22));
    }
}
