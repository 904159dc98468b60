//! What a word is made of.

use nom::bytes::complete::{take_while, take_while1};
use nom::character::complete::{anychar, char, one_of};
use nom::combinator::opt;
use nom::error::{ErrorKind, ParseError};
use nom::{Err, IResult, Parser};

use super::WordError;
use crate::Escape;

/// Substitutions within substitutions.
const MAX_DEPTH: usize = 64;

/// A part of a word.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// Outside of quotes: white space in it separates words.
    Plain(String),
    /// Escaped or in single quotes.
    Fixed(String),
    /// In double quotes: variables are put in, nothing splits.
    Quoted(Vec<Part>),
    /// `$name` or `${name...}`.
    Variable {
        /// A name, digits, or one of `@*#?-$!`; empty in `${?x}` and its kind never gets here.
        name: String,
        /// What follows the name in the braces.
        modifier: Modifier,
    },
}

/// `${name<modifier>}`. `or_empty` is the `:` before it: an empty value counts as unset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Modifier {
    None,
    Default { or_empty: bool, word: Vec<Part> },
    Alternative { or_empty: bool, word: Vec<Part> },
    Required { or_empty: bool, word: Vec<Part> },
    TrimPrefix { pattern: Vec<Part> },
    TrimSuffix { pattern: Vec<Part> },
    Replace { all: bool, pattern: Vec<Part>, replacement: Vec<Part> },
}

/// The rules of a text.
#[derive(Clone, Copy, Debug)]
pub(super) struct Syntax {
    escape: char,
    /// Whether quotes quote.
    quotes: bool,
    /// Whether escapes stay in the text, for a pattern to read.
    keep_escapes: bool,
}

impl Syntax {
    pub(super) fn word(escape: Escape) -> Self {
        Self { escape: escape.character(), quotes: true, keep_escapes: false }
    }

    pub(super) fn heredoc() -> Self {
        Self { escape: '\\', quotes: false, keep_escapes: false }
    }
}

type Result<'a, T> = IResult<&'a str, T, WordError>;

impl ParseError<&str> for WordError {
    fn from_error_kind(_: &str, _: ErrorKind) -> Self {
        Self::BadSubstitution
    }

    fn append(_: &str, _: ErrorKind, other: Self) -> Self {
        other
    }
}

/// Reads the whole of `raw`.
pub(super) fn parse(raw: &str, syntax: Syntax) -> std::result::Result<Vec<Part>, WordError> {
    match parts(raw, syntax, None, 0) {
        Ok((_, parts)) => Ok(parts),
        Err(Err::Error(error) | Err::Failure(error)) => Err(error),
        Err(Err::Incomplete(_)) => Err(WordError::BadSubstitution),
    }
}

/// Reads up to `stop`, which is taken too, or to the end.
fn parts(mut input: &str, syntax: Syntax, stop: Option<char>, depth: usize) -> Result<'_, Vec<Part>> {
    let special = |c: char| {
        c == '$' || c == syntax.escape || Some(c) == stop || (syntax.quotes && matches!(c, '\'' | '"'))
    };
    let mut parts = Vec::new();
    loop {
        let (rest, plain) = take_while(|c| !special(c)).parse(input)?;
        if !plain.is_empty() {
            parts.push(Part::Plain(plain.to_owned()));
        }
        let Some(next) = rest.chars().next() else {
            return match stop {
                Some(missing) => fail(WordError::UnclosedBrace { missing }),
                None => Ok((rest, parts)),
            };
        };
        let (rest, part) = if Some(next) == stop {
            return Ok((&rest[next.len_utf8()..], parts));
        } else if next == '$' {
            dollar(rest, syntax, depth)?
        } else if next == syntax.escape {
            escaped(rest, syntax)?
        } else if next == '\'' {
            single_quoted(rest)?
        } else {
            double_quoted(rest, syntax, depth)?
        };
        parts.push(part);
        input = rest;
    }
}

/// An escape outside of quotes: the next character as it is. At the end of the text nothing is left of it.
fn escaped(input: &str, syntax: Syntax) -> Result<'_, Part> {
    let (rest, escape) = anychar(input)?;
    let (rest, next) = opt(anychar).parse(rest)?;
    let mut text = String::new();
    if syntax.keep_escapes {
        text.push(escape);
    }
    text.extend(next);
    Ok((rest, Part::Fixed(text)))
}

fn single_quoted(input: &str) -> Result<'_, Part> {
    let (rest, _) = char('\'').parse(input)?;
    let (rest, text) = take_while(|c| c != '\'').parse(rest)?;
    match rest.strip_prefix('\'') {
        Some(rest) => Ok((rest, Part::Fixed(text.to_owned()))),
        None => fail(WordError::UnclosedQuote { quote: '\'' }),
    }
}

/// In double quotes an escape escapes only `"`, `$` and itself.
fn double_quoted(input: &str, syntax: Syntax, depth: usize) -> Result<'_, Part> {
    let (mut rest, _) = char('"').parse(input)?;
    let mut parts = Vec::new();
    let mut text = String::new();
    loop {
        let Some(next) = rest.chars().next() else {
            return fail(WordError::UnclosedQuote { quote: '"' });
        };
        if next == '$' {
            parts.push(Part::Fixed(std::mem::take(&mut text)));
            let (after, part) = dollar(rest, syntax, depth)?;
            parts.push(part);
            rest = after;
            continue;
        }
        rest = &rest[next.len_utf8()..];
        if next == '"' {
            parts.push(Part::Fixed(text));
            return Ok((rest, Part::Quoted(parts)));
        }
        if next != syntax.escape {
            text.push(next);
            continue;
        }
        match rest.chars().next() {
            // the quote isn't closed: said in the next round
            None => {}
            Some(escaped @ ('"' | '$')) => {
                if syntax.keep_escapes {
                    text.push(next);
                }
                text.push(escaped);
                rest = &rest[1..];
            }
            Some(escaped) if escaped == syntax.escape => {
                if syntax.keep_escapes {
                    text.push(next);
                }
                text.push(escaped);
                rest = &rest[escaped.len_utf8()..];
            }
            Some(_) => {
                if syntax.keep_escapes {
                    text.push(next);
                }
                text.push(next);
            }
        }
    }
}

fn dollar(input: &str, syntax: Syntax, depth: usize) -> Result<'_, Part> {
    let (rest, _) = char('$').parse(input)?;
    let Some(braced) = rest.strip_prefix('{') else {
        let (rest, name) = name(rest)?;
        return Ok(match name {
            "" => (rest, Part::Plain("$".to_owned())),
            name => (rest, Part::Variable { name: name.to_owned(), modifier: Modifier::None }),
        });
    };
    if depth == MAX_DEPTH {
        return fail(WordError::TooDeep);
    }
    match braced.chars().next() {
        None => return fail(WordError::UnclosedBrace { missing: '}' }),
        Some('{' | '}' | ':') => return fail(WordError::BadSubstitution),
        Some(_) => {}
    }
    let (rest, name) = name(braced)?;
    let (rest, modifier) = modifier(rest, syntax, depth + 1)?;
    Ok((rest, Part::Variable { name: name.to_owned(), modifier }))
}

/// Letters, digits and `_`; digits alone when it begins with one; one special character. May be empty.
fn name(input: &str) -> Result<'_, &str> {
    match input.chars().next() {
        Some(c) if c.is_numeric() => take_while1(char::is_numeric).parse(input),
        Some('@' | '*' | '#' | '?' | '-' | '$' | '!') => Ok((&input[1..], &input[..1])),
        _ => take_while(|c: char| c.is_alphanumeric() || c == '_').parse(input),
    }
}

/// What follows the name, with the closing brace.
fn modifier(input: &str, syntax: Syntax, depth: usize) -> Result<'_, Modifier> {
    let words = Syntax { keep_escapes: false, ..syntax };
    let patterns = Syntax { keep_escapes: true, ..syntax };
    let (rest, colon) = opt(char(':')).parse(input)?;
    let or_empty = colon.is_some();
    let Ok((rest, kind)) = one_of::<_, _, WordError>("}-+?#%/").parse(rest) else {
        let Some(kind) = rest.chars().next() else {
            return fail(WordError::UnclosedBrace { missing: '}' });
        };
        return fail(unsupported(or_empty, kind));
    };
    Ok(match (kind, or_empty) {
        ('}', false) => (rest, Modifier::None),
        ('-', _) => {
            let (rest, word) = parts(rest, words, Some('}'), depth)?;
            (rest, Modifier::Default { or_empty, word })
        }
        ('+', _) => {
            let (rest, word) = parts(rest, words, Some('}'), depth)?;
            (rest, Modifier::Alternative { or_empty, word })
        }
        ('?', _) => {
            let (rest, word) = parts(rest, words, Some('}'), depth)?;
            (rest, Modifier::Required { or_empty, word })
        }
        ('#', false) => {
            let (rest, pattern) = parts(rest, patterns, Some('}'), depth)?;
            (rest, Modifier::TrimPrefix { pattern })
        }
        ('%', false) => {
            let (rest, pattern) = parts(rest, patterns, Some('}'), depth)?;
            (rest, Modifier::TrimSuffix { pattern })
        }
        ('/', false) => {
            let (rest, all) = opt(char('/')).parse(rest)?;
            let (rest, pattern) = parts(rest, patterns, Some('/'), depth)?;
            let (rest, replacement) = parts(rest, patterns, Some('}'), depth)?;
            (rest, Modifier::Replace { all: all.is_some(), pattern, replacement })
        }
        (kind, _) => return fail(unsupported(or_empty, kind)),
    })
}

fn unsupported(colon: bool, kind: char) -> WordError {
    WordError::UnsupportedModifier { modifier: if colon { format!(":{kind}") } else { kind.to_string() } }
}

fn fail<'a, T>(error: WordError) -> Result<'a, T> {
    Err(Err::Failure(error))
}
