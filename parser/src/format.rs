//! The layout of a Dockerfile made even: what it means stays, and so does every comment.
//!
//! Keywords are in upper case, one space after each; no white space at the start of an instruction and at the end of a
//! line, one empty line at most between two lines, none within a continued instruction; lines end with `\n`. The
//! continuation lines of an instruction keep their indentation, which is a part of what a shell gets, and heredocs stay
//! as they are, byte for byte.

use crate::line::{physical_line, strip_continuation};
use crate::{Dockerfile, Instruction, ParseErrors, Source, Span, parse, raw};

/// Why a Dockerfile isn't formatted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FormatError {
    /// It is wrong: each fault with its place.
    #[error(transparent)]
    Parse(#[from] ParseErrors),
    /// The result would mean something else: nothing is lost by refusing.
    #[error("formatting would change what the Dockerfile means")]
    Meaning,
}

/// The same Dockerfile, laid out evenly; the same text where nothing is to be changed.
///
/// # Errors
///
/// A Dockerfile that can't be parsed.
pub fn format(source: &Source) -> Result<String, FormatError> {
    let before = parse(source)?.dockerfile;
    let statements = raw::read(source, &before);
    let text = source.text();
    let mut out = Layout::default();
    let mut at = 0;
    let mut next = statements.iter().peekable();
    while let Some(line) = physical_line(text, at) {
        at = line.next;
        match next.next_if(|statement| statement.span.start < line.next) {
            Some(statement) => {
                out.statement(source, statement, &before);
                // The line that the instruction ends on is its own.
                while let Some(line) = physical_line(text, at).filter(|line| line.start < statement.span.end)
                {
                    at = line.next;
                }
            }
            // Other white space before `#` makes a comment of what would be a directive.
            None => out.between(line.text.trim_start_matches([' ', '\t']).trim_end()),
        }
    }
    let text = out.text;
    let after = parse(&Source::new(source.name(), text.as_str())).map_err(|_| FormatError::Meaning)?;
    if meaning(&before) == meaning(&after.dockerfile) { Ok(text) } else { Err(FormatError::Meaning) }
}

#[derive(Default)]
struct Layout {
    text: String,
    /// Empty lines seen and not yet written.
    gap: bool,
}

impl Layout {
    /// A comment or an empty line.
    fn between(&mut self, line: &str) {
        match line {
            "" => self.gap = true,
            comment => {
                // At the very start an empty line keeps a comment from being a directive.
                if self.gap {
                    self.text.push('\n');
                }
                self.gap = false;
                self.text.push_str(comment);
                self.text.push('\n');
            }
        }
    }

    fn statement(&mut self, source: &Source, statement: &raw::RawStatement, dockerfile: &Dockerfile) {
        if self.gap && !self.text.is_empty() {
            self.text.push('\n');
        }
        self.gap = false;
        let escape = dockerfile.directives.escape;
        let keyword = statement.keyword.span;
        self.text.push_str(&statement.keyword.value.to_uppercase());
        let mut at = keyword.end;
        let mut is_first = true;
        while let Some(line) = physical_line(source.text(), at).filter(|line| line.start < statement.line_end)
        {
            at = line.next;
            let (text, continues) = strip_continuation(line.text, escape);
            if !is_first && text.trim().is_empty() && !continues {
                continue;
            }
            let is_comment = !is_first && line.is_comment();
            if is_first && !text.trim().is_empty() {
                self.text.push(' ');
            }
            let indent = if is_first { text.len() - text.trim_start().len() } else { 0 };
            let text = with_as(&text[indent..], line.start + indent, statement);
            match continues && !is_comment {
                true => {
                    self.text.push_str(&text);
                    if is_first && text.is_empty() {
                        self.text.push(' ');
                    }
                    self.text.push(escape.character());
                }
                false => self.text.push_str(if is_comment {
                    line.text.trim_end()
                } else {
                    text.trim_end_matches([' ', '\t'])
                }),
            }
            self.text.push('\n');
            is_first = false;
        }
        if statement.span.end > statement.line_end {
            let bodies = &source.text()[at..];
            self.text.push_str(&bodies[..(statement.span.end - at).min(bodies.len())]);
            self.text.push('\n');
        }
    }
}

/// `text`, which stands at `start`, with the `as` of a FROM in upper case.
fn with_as(text: &str, start: usize, statement: &raw::RawStatement) -> String {
    let mut text = text.to_owned();
    if let Some(at) = statement.as_keyword.and_then(|span| span.start.checked_sub(start))
        && text.get(at..at + 2).is_some_and(|word| word.eq_ignore_ascii_case("as"))
    {
        text.replace_range(at..at + 2, "AS");
    }
    text
}

/// What a Dockerfile says, without where it says it and how its keywords are written.
pub fn meaning(dockerfile: &Dockerfile) -> String {
    fn plain(instruction: &mut Instruction) {
        instruction.keyword.value.make_ascii_uppercase();
        instruction.text.clear();
    }
    let mut dockerfile = dockerfile.clone();
    for stage in &mut dockerfile.stages {
        stage.instructions.iter_mut().for_each(plain);
    }
    for block in &mut dockerfile.comments {
        (block.scope, block.below) = (Span::default(), 0);
    }
    without_spans(&format!("{dockerfile:?}"))
}

/// Places have one form in the debug output, and all become the same.
fn without_spans(text: &str) -> String {
    const START: &str = "Span { start: ";
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(START) {
        out.push_str(&rest[..at]);
        rest = &rest[at + START.len()..];
        let digits = |text: &str| text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        rest = &rest[digits(rest)..];
        if let Some(after) = rest.strip_prefix(", end: ") {
            rest = &after[digits(after)..];
        }
        out.push_str("Span {");
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn formatted(text: &str) -> String {
        format(&Source::new("Dockerfile", text)).unwrap_or_else(|error| panic!("{error}: {text:?}"))
    }

    #[test]
    fn keywords_white_space_and_line_ends_become_even() {
        let text = "\n\n  from  a   as  b \r\n\n\n\n  # note\t\n\trun  x \\  \n\n   y  # z\n  # within\n   \nEnv a=b  ";
        assert_eq!(formatted(text), "FROM a   AS  b\n\n# note\nRUN x \\\n   y  # z\n# within\n\nENV a=b\n");
    }

    #[test]
    fn what_is_even_stays_byte_for_byte() {
        let text = "# syntax=docker/dockerfile:1\n\n# a b\nFROM a AS b\nRUN x \\\n    # why\n    && y\nCMD [\"z\"]\n";
        assert_eq!(formatted(text), text);
    }

    #[test]
    fn white_space_that_keeps_a_line_from_going_on_stays() {
        let text = "FROM a\\\x0b\nRUN b\n";
        assert_eq!(formatted(text), text);
    }

    #[test]
    fn heredocs_stay_as_they_are() {
        let text = "FROM a\nrun   <<EOF\n  x  \r\n\n\n  # y\nEOF\ncopy <<-A <<B /\n\ta  \n\tA\n\n\nB\n";
        assert_eq!(
            formatted(text),
            "FROM a\nRUN <<EOF\n  x  \r\n\n\n  # y\nEOF\nCOPY <<-A <<B /\n\ta  \n\tA\n\n\nB\n"
        );
    }

    #[test]
    fn a_comment_does_not_become_a_directive() {
        for text in ["\n# escape=`\nFROM a\n", "\x0b# escape=`\nFROM a\n"] {
            assert_eq!(formatted(text), text);
        }
    }
}
