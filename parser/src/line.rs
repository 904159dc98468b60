//! Logical lines: continuations joined, comments and empty lines within dropped, heredoc bodies read on request.

use crate::mapped::Mapped;
use crate::{Escape, Heredoc, Source, Span, Spanned};

/// One instruction's line.
#[derive(Debug)]
pub(crate) struct LogicalLine {
    /// Without white space at both ends; never empty.
    pub(crate) text: Mapped,
    /// Empty lines within it.
    pub(crate) empty_lines: Vec<Span>,
    /// The comments directly above it, `#` and white space removed: an empty comment or an empty line ends them.
    pub(crate) comments: Vec<Spanned<String>>,
}

/// Reads a source line by line.
#[derive(Debug)]
pub(crate) struct Lines<'a> {
    text: &'a str,
    at: usize,
    escape: Escape,
}

/// A physical line.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PhysicalLine<'a> {
    /// Without its line ending.
    pub(crate) text: &'a str,
    /// Where it begins.
    pub(crate) start: usize,
    /// Where the next one begins.
    pub(crate) next: usize,
}

impl PhysicalLine<'_> {
    pub(crate) fn is_comment(&self) -> bool {
        self.text.trim_start().starts_with('#')
    }
}

impl<'a> Lines<'a> {
    /// From `at` on.
    pub(crate) fn new(source: &'a Source, at: usize, escape: Escape) -> Self {
        Self { text: source.text(), at, escape }
    }

    /// The line at the current place, which isn't left.
    pub(crate) fn peek(&self) -> Option<PhysicalLine<'a>> {
        physical_line(self.text, self.at)
    }

    /// The next logical line. Comments and empty lines before it are skipped.
    pub(crate) fn next_logical(&mut self) -> Option<LogicalLine> {
        let mut comments = Vec::new();
        loop {
            let first = self.take()?;
            if let Some(comment) = first.text.trim_start().strip_prefix('#') {
                match comment.trim() {
                    "" => comments.clear(),
                    text => {
                        let at = first.start + (text.as_ptr() as usize - first.text.as_ptr() as usize);
                        comments.push(Spanned::new(text.to_owned(), Span::new(at, at + text.len())));
                    }
                }
                continue;
            }
            let start = first.text.trim_start();
            let (start, continues) = strip_continuation(start, self.escape);
            let mut joined = Mapped::at(first.start);
            joined.push(start, first.start + (first.text.len() - first.text.trim_start().len()));
            let mut empty_lines = Vec::new();
            let mut continues = continues;
            while continues {
                let Some(line) = self.take() else { break };
                if line.is_comment() {
                    continue;
                }
                if line.text.trim_start().is_empty() {
                    empty_lines.push(Span::new(line.start, line.start + line.text.len()));
                    continue;
                }
                let (text, goes_on) = strip_continuation(line.text, self.escape);
                joined.push(text, line.start);
                continues = goes_on;
            }
            let trimmed = joined.text().trim();
            if !trimmed.is_empty() {
                return Some(LogicalLine { text: joined.part(trimmed), empty_lines, comments });
            }
            comments.clear();
        }
    }

    /// Reads the body of a heredoc up to its terminator.
    ///
    /// # Errors
    ///
    /// The body's place when nothing terminates it: all that is left was read.
    pub(crate) fn heredoc(&mut self, word: &HeredocWord<'_>) -> Result<HeredocBody, Unterminated> {
        let start = self.at;
        let mut text = String::new();
        let mut near_miss = None;
        while let Some(line) = self.take() {
            let full = &self.text[line.start..line.next];
            let (full, end) = match word.strip_tabs {
                true => (full.trim_start_matches('\t'), line.text.trim_start_matches('\t')),
                false => (full, line.text),
            };
            if end == word.name {
                return Ok(HeredocBody {
                    text,
                    span: Span::new(start, line.start),
                    end: line.start + line.text.len(),
                });
            }
            if end.trim() == word.name {
                near_miss.get_or_insert(Span::new(line.start, line.start + line.text.len()));
            }
            text.push_str(full);
        }
        Err(Unterminated { near_miss })
    }

    fn take(&mut self) -> Option<PhysicalLine<'a>> {
        let line = self.peek()?;
        self.at = line.next;
        Some(line)
    }
}

pub(crate) fn physical_line(text: &str, at: usize) -> Option<PhysicalLine<'_>> {
    let rest = text.get(at..).filter(|rest| !rest.is_empty())?;
    let length = rest.find('\n').map_or(rest.len(), |newline| newline + 1);
    Some(PhysicalLine { text: rest[..length].trim_end_matches(['\r', '\n']), start: at, next: at + length })
}

/// A line without its continuation, and whether it had one: an escape at the end, blanks after it allowed, that no
/// other escape precedes.
pub(crate) fn strip_continuation(line: &str, escape: Escape) -> (&str, bool) {
    let blanks_off = line.trim_end_matches([' ', '\t']);
    match blanks_off.strip_suffix(escape.character()) {
        Some(rest) if !rest.ends_with(escape.character()) => (rest, true),
        _ => (line, false),
    }
}

/// The body of a heredoc.
#[derive(Debug)]
pub(crate) struct HeredocBody {
    /// Leading tabs removed if asked for.
    pub(crate) text: String,
    /// Where it stands, without the terminator's line.
    pub(crate) span: Span,
    /// Where the terminator ends.
    pub(crate) end: usize,
}

/// A heredoc that doesn't end.
#[derive(Debug)]
pub(crate) struct Unterminated {
    /// A line that holds the terminator with white space around it.
    pub(crate) near_miss: Option<Span>,
}

/// `<<NAME` in a line.
#[derive(Clone, Debug)]
pub(crate) struct HeredocWord<'a> {
    /// As it stands in the line.
    pub(crate) text: &'a str,
    /// Quotes removed.
    pub(crate) name: String,
    /// Nothing of it was quoted.
    pub(crate) expand: bool,
    /// `<<-`
    pub(crate) strip_tabs: bool,
    /// What stands before `<<`.
    pub(crate) file_descriptor: u32,
}

impl HeredocWord<'_> {
    pub(crate) fn with_body(&self, body: HeredocBody) -> Heredoc {
        Heredoc {
            name: self.name.clone(),
            expand: self.expand,
            strip_tabs: self.strip_tabs,
            file_descriptor: self.file_descriptor,
            body: body.text,
            span: body.span,
        }
    }
}

/// The heredocs that a shell-form line names, in order. None when a quote of it is never closed: a shell would not see
/// them either.
pub(crate) fn heredoc_words(line: &str) -> Vec<HeredocWord<'_>> {
    if !line.contains("<<") {
        return Vec::new();
    }
    let mut words = Vec::new();
    let mut rest = line.trim_start();
    while !rest.is_empty() {
        let Some(length) = shell_word_length(rest) else { return Vec::new() };
        let (word, after) = rest.split_at(length);
        words.extend(heredoc_word(word));
        rest = after.trim_start();
    }
    words
}

/// Length of the shell word at the start; white space right after `<<` or `<<-` belongs to it. `None` for an
/// unclosed quote.
fn shell_word_length(text: &str) -> Option<usize> {
    let mut at = 0;
    while let Some(next) = text[at..].chars().next() {
        let after = at + next.len_utf8();
        at = match next {
            '\'' => after + text[after..].find('\'')? + 1,
            '"' => after + closing_quote(&text[after..])? + 1,
            '\\' => after + text[after..].chars().next().map_or(0, char::len_utf8),
            '<' if text[after..].starts_with('<') => {
                let rest = &text[after + 1..];
                let rest = match rest.strip_prefix('-') {
                    Some(stripped) if stripped.starts_with(char::is_whitespace) => stripped,
                    _ => rest,
                };
                text.len() - rest.trim_start().len()
            }
            space if space.is_whitespace() => return Some(at),
            _ => after,
        };
    }
    Some(at)
}

fn closing_quote(text: &str) -> Option<usize> {
    let mut escaped = false;
    for (at, character) in text.char_indices() {
        match character {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return Some(at),
            _ => {}
        }
    }
    None
}

fn heredoc_word(text: &str) -> Option<HeredocWord<'_>> {
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let rest = text[digits..].strip_prefix("<<")?;
    let (rest, strip_tabs) = match rest.strip_prefix('-') {
        Some(rest) => (rest, true),
        None => (rest, false),
    };
    let rest = rest.trim_start();
    if rest.contains('<') {
        return None;
    }
    let (name, quoted) = unquote(rest);
    if name.is_empty() {
        return None;
    }
    let file_descriptor = text[..digits].parse().unwrap_or(0);
    Some(HeredocWord { text, name, expand: !quoted, strip_tabs, file_descriptor })
}

/// Quotes and escapes removed, and whether there was a quote. Quotes are known to be closed.
fn unquote(word: &str) -> (String, bool) {
    let mut name = String::new();
    let mut quote = None;
    let mut quoted = false;
    let mut characters = word.chars().peekable();
    while let Some(character) = characters.next() {
        match (quote, character) {
            (None, '\'' | '"') => {
                quote = Some(character);
                quoted = true;
            }
            (Some(open), close) if open == close => quote = None,
            (None, '\\') => name.extend(characters.next()),
            (Some('"'), '\\') if matches!(characters.peek(), Some('"' | '$' | '\\')) => {
                name.extend(characters.next());
            }
            _ => name.push(character),
        }
    }
    (name, quoted)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn logical(text: &str) -> Vec<String> {
        let source = Source::new("Dockerfile", text);
        let mut lines = Lines::new(&source, 0, Escape::Backslash);
        std::iter::from_fn(|| lines.next_logical()).map(|line| line.text.text().to_owned()).collect()
    }

    #[test]
    fn only_a_single_escape_continues() {
        assert_eq!(logical("a \\\nb"), ["a b"]);
        assert_eq!(logical("a \\ \t\nb"), ["a b"]);
        assert_eq!(logical("a \\\\\nb"), ["a \\\\", "b"]);
        assert_eq!(logical("a \\\\\\\nb"), ["a \\\\\\", "b"]);
        assert_eq!(logical("\\\na"), ["a"]);
        assert_eq!(logical("a\\\r\n b\r\n"), ["a b"]);
        assert_eq!(logical("a \\"), ["a"]);
        assert_eq!(logical("\\\n\n"), Vec::<String>::new());
    }

    #[test]
    fn comments_and_empty_lines_within_are_dropped() {
        assert_eq!(logical("a \\\n  # comment \\\n\n  b # c\nd"), ["a   b # c", "d"]);
    }

    fn names(line: &str) -> Vec<String> {
        heredoc_words(line).into_iter().map(|word| word.name).collect()
    }

    #[test]
    fn heredoc_words_are_found_as_a_shell_would() {
        assert_eq!(names("RUN <<A <<-'B' 3<<\"C\""), ["A", "B", "C"]);
        assert_eq!(names("RUN <<eo\\'f"), ["eo'f"]);
        assert_eq!(names("RUN <<'one two'"), ["one two"]);
        assert_eq!(names("RUN <<  EOF > foo"), ["EOF"]);
        assert_eq!(names("RUN <<- EOF"), ["EOF"]);
        assert_eq!(names("RUN << -EOF"), ["-EOF"]);
        assert_eq!(names("RUN <<$EOF"), ["$EOF"]);
        for none in [
            "RUN \"<<A\"",
            "RUN '<<A'",
            "RUN <<<A",
            "RUN <<< A",
            "RUN cat<<A",
            "RUN <<",
            "RUN <<''",
            "RUN it's <<A",
        ] {
            assert_eq!(names(none), Vec::<String>::new(), "{none}");
        }
    }

    #[test]
    fn a_quote_anywhere_in_the_word_stops_expansion() {
        let expand = |line| heredoc_words(line)[0].expand;
        assert!(expand("RUN <<EOF"));
        assert!(expand("RUN <<eo\\'f"));
        assert!(!expand("RUN <<eo'f'"));
        assert!(!expand("RUN <<\"EOF\""));
    }
}
