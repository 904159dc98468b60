//! Parser directives: `# syntax=`, `# escape=`, `# check=` before all else.

use nom::bytes::complete::{tag, take_while};
use nom::character::complete::{char, satisfy, space0};
use nom::combinator::recognize;
use nom::sequence::{delimited, pair, preceded};
use nom::{IResult, Parser};

use crate::line::{PhysicalLine, physical_line};
use crate::{Directives, Escape, ParseError, Source, Span, Spanned};

/// Reads the directives; gives the place of the first line that is none.
///
/// They end at the first line that isn't one: an empty line, a comment, an unknown name, an instruction.
pub(crate) fn parse(source: &Source, errors: &mut Vec<ParseError>) -> (Directives, usize) {
    let mut directives = Directives::default();
    let mut escape_seen = false;
    let mut at = 0;
    while let Some(line) = physical_line(source.text(), at) {
        let Ok((_, (name, value))) = directive(line.text) else { break };
        let value = value.trim_end();
        let span_of = |part: &str| part_span(&line, part);
        let mut once = |seen: bool, name: &str| {
            if seen {
                errors.push(ParseError {
                    code: "duplicate-directive",
                    message: format!("only one {name} parser directive can be used"),
                    span: span_of(line.text.trim()),
                    label: "the second one".to_owned(),
                    help: None,
                });
            }
            !seen
        };
        let spanned = Spanned::new(value.to_owned(), span_of(value));
        match name.to_ascii_lowercase().as_str() {
            "syntax" => {
                if once(directives.syntax.is_some(), "syntax") {
                    directives.syntax = Some(spanned);
                }
            }
            "check" => {
                if once(directives.check.is_some(), "check") {
                    directives.check = Some(spanned);
                }
            }
            "escape" => {
                if once(escape_seen, "escape") {
                    match value {
                        "\\" => directives.escape = Escape::Backslash,
                        "`" => directives.escape = Escape::Backtick,
                        _ => errors.push(ParseError {
                            code: "invalid-escape",
                            message: format!("invalid escape token `{value}`"),
                            span: span_of(value),
                            label: "neither `\\` nor a backtick".to_owned(),
                            help: None,
                        }),
                    }
                }
                escape_seen = true;
            }
            _ => break,
        }
        at = line.next;
    }
    (directives, at)
}

fn part_span(line: &PhysicalLine<'_>, part: &str) -> Span {
    let start = line.start + (part.as_ptr() as usize - line.text.as_ptr() as usize);
    Span::new(start, start + part.len())
}

/// `# name = value`, the value not empty.
fn directive(line: &str) -> IResult<&str, (&str, &str)> {
    let name = recognize(pair(
        satisfy(|c| c.is_ascii_alphabetic()),
        take_while(|c: char| c.is_ascii_alphanumeric()),
    ));
    let value = recognize(pair(satisfy(|c| !c.is_whitespace()), nom::combinator::rest));
    preceded(
        pair(nom::character::complete::multispace0, tag("#")),
        pair(delimited(space0, name, space0), preceded(pair(char('='), space0), value)),
    )
    .parse(line)
}

/// What `# check=` asks for: `skip=RuleA,RuleB;error=true`, `skip=all`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CheckOptions {
    /// Rules that don't warn.
    pub skip: RuleNames,
    /// Experimental rules that do.
    pub experimental: RuleNames,
    /// Whether a warning fails the build.
    pub error: bool,
}

/// Names of rules, case-sensitive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RuleNames {
    /// `all`
    All,
    /// A list, maybe an empty one.
    Some(Vec<String>),
}

impl Default for RuleNames {
    fn default() -> Self {
        Self::Some(Vec::new())
    }
}

impl RuleNames {
    /// Whether the rule is among them.
    pub fn contains(&self, name: &str) -> bool {
        match self {
            Self::All => true,
            Self::Some(names) => names.iter().any(|known| known == name),
        }
    }

    fn parse(text: &str) -> Self {
        match text.trim() {
            "all" => Self::All,
            list => Self::Some(list.split(',').map(|name| name.trim().to_owned()).collect()),
        }
    }
}

impl CheckOptions {
    /// Reads the value of a `# check=` directive.
    ///
    /// # Errors
    ///
    /// What is wrong with it, as a message.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut options = Self::default();
        for option in text.split(';') {
            let (name, value) =
                option.split_once('=').ok_or_else(|| format!("invalid check option `{}`", option.trim()))?;
            match name.trim() {
                "skip" => options.skip = RuleNames::parse(value),
                "experimental" => options.experimental = RuleNames::parse(value),
                "error" => {
                    options.error = match value.trim() {
                        "true" | "1" | "t" | "T" | "TRUE" | "True" => true,
                        "false" | "0" | "f" | "F" | "FALSE" | "False" => false,
                        other => return Err(format!("`error` of a check is true or false, not `{other}`")),
                    }
                }
                other => return Err(format!("invalid check option `{other}`")),
            }
        }
        Ok(options)
    }
}
