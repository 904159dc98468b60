//! An instruction's line: keyword, flags (`--name[=value]`), arguments.

use crate::error::Sink;
use crate::mapped::Mapped;
use crate::suggest::nearest;
use crate::token::split_keyword;
use crate::{ParseError, Rule, Span, Spanned, Word};

/// One instruction, split; nothing of it is understood yet.
#[derive(Debug)]
pub(crate) struct Statement<'a> {
    /// The line it is a part of.
    pub(crate) line: &'a Mapped,
    /// All of it.
    pub(crate) text: &'a str,
    pub(crate) keyword: &'a str,
    pub(crate) flags: Vec<Flag>,
    /// What follows the flags, white space around it removed.
    pub(crate) args: &'a str,
}

impl<'a> Statement<'a> {
    /// Splits `text`, a part of `line`.
    pub(crate) fn split(line: &'a Mapped, text: &'a str) -> Self {
        let (keyword, rest) = split_keyword(text);
        let (flags, args) = flags(line, rest);
        Self { line, text, keyword, flags, args: args.trim() }
    }

    /// The keyword in upper case.
    pub(crate) fn name(&self) -> String {
        self.keyword.to_uppercase()
    }

    pub(crate) fn keyword_span(&self) -> Span {
        self.line.span(self.keyword)
    }

    /// The arguments, or the keyword when there are none.
    pub(crate) fn args_span(&self) -> Span {
        if self.args.is_empty() { self.keyword_span() } else { self.line.span(self.args) }
    }

    /// `part` as a word that the builder expands: it is checked now.
    pub(crate) fn word(&self, part: &str, sink: &mut Sink) -> Word {
        sink.checked(self.line.word(part))
    }

    /// Checks the flags against those that the instruction knows.
    pub(crate) fn known_flags(&self, known: &[(&'static str, FlagKind)], sink: &mut Sink) -> Flags<'_> {
        let mut given: Vec<(&'static str, &Flag)> = Vec::new();
        for flag in &self.flags {
            let Some(&(name, kind)) = known.iter().find(|(name, _)| *name == flag.name()) else {
                sink.push(self.unknown_flag(flag, known));
                continue;
            };
            if kind != FlagKind::Values && given.iter().any(|&(earlier, _)| earlier == name) {
                sink.push(
                    ParseError::new("duplicate-flag", format!("duplicate flag `--{name}`"), flag.span)
                        .label("given twice"),
                );
                continue;
            }
            match (kind, flag.value()) {
                (FlagKind::Switch, Some(value)) if switch(value).is_none() => {
                    let message = format!("expected true or false for `--{name}`, not `{value}`");
                    sink.push(ParseError::new("invalid-flag-value", message, flag.span));
                }
                (FlagKind::Value | FlagKind::Values, None) => {
                    sink.push(
                        ParseError::new(
                            "missing-flag-value",
                            format!("missing value of `--{name}`"),
                            flag.span,
                        )
                        .label("no `=` follows")
                        .help(format!("write `--{name}=VALUE`")),
                    );
                }
                _ => given.push((name, flag)),
            }
        }
        Flags { given }
    }

    fn unknown_flag(&self, flag: &Flag, known: &[(&'static str, FlagKind)]) -> ParseError {
        let keyword = self.name();
        let message = format!("unknown flag `--{}` for {keyword}", flag.name());
        let error =
            ParseError::new("unknown-flag", message, flag.span).label("not a flag of this instruction");
        match nearest(flag.name(), known.iter().map(|&(name, _)| name)) {
            Some(near) => error.help(format!("did you mean `--{near}`?")),
            None if known.is_empty() => error.help(format!(
                "{keyword} has no flags; `--` alone ends them: `{keyword} -- --{}`",
                flag.text.text()
            )),
            None => {
                let names: Vec<String> = known.iter().map(|(name, _)| format!("`--{name}`")).collect();
                error.help(format!("{keyword} knows {}", names.join(", ")))
            }
        }
    }
}

/// How a flag is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FlagKind {
    /// `--name` or `--name=true`, once.
    Switch,
    /// `--name=value`, once.
    Value,
    /// `--name=value`, any number of times.
    Values,
}

/// One `--name[=value]`.
#[derive(Debug)]
pub(crate) struct Flag {
    /// Quotes and escapes removed, `--` too.
    pub(crate) text: Mapped,
    /// With quotes and `--`.
    pub(crate) span: Span,
}

impl Flag {
    pub(crate) fn name(&self) -> &str {
        self.text.text().split('=').next().unwrap_or_default()
    }

    pub(crate) fn value(&self) -> Option<&str> {
        self.text.text().split_once('=').map(|(_, value)| value)
    }
}

/// The flags of a statement that its instruction knows, each well-formed.
#[derive(Debug)]
pub(crate) struct Flags<'a> {
    given: Vec<(&'static str, &'a Flag)>,
}

impl<'a> Flags<'a> {
    pub(crate) fn all(&self, name: &str) -> impl Iterator<Item = &'a Flag> {
        self.given.iter().filter(move |(given, _)| *given == name).map(|&(_, flag)| flag)
    }

    /// The flag, unless its value is empty, which counts as not given.
    pub(crate) fn one(&self, name: &str) -> Option<(&'a Flag, &'a str)> {
        let flag = self.all(name).next()?;
        Some((flag, flag.value().filter(|value| !value.is_empty())?))
    }

    /// As a word that the builder expands.
    pub(crate) fn word(&self, name: &str, sink: &mut Sink) -> Option<Word> {
        self.one(name).map(|(flag, value)| sink.checked(flag.text.word(value)))
    }

    /// As words that aren't expanded.
    pub(crate) fn raw_words(&self, name: &str) -> Vec<Word> {
        self.all(name).filter_map(|flag| flag.value().map(|value| flag.text.word(value))).collect()
    }

    /// `--from`: a name, which the builder expands.
    pub(crate) fn from(&self, sink: &mut Sink) -> Option<Spanned<String>> {
        let (flag, value) = self.one("from")?;
        if has_variable(value) {
            variable_in_from("--from", flag.text.word(value), sink);
        }
        Some(flag.text.spanned(value))
    }

    pub(crate) fn switch(&self, name: &str) -> Option<bool> {
        self.all(name).next().map(|flag| flag.value().and_then(switch).unwrap_or(true))
    }
}

/// A `$` with something after it.
pub(crate) fn has_variable(text: &str) -> bool {
    text.find('$').is_some_and(|at| at + 1 < text.len())
}

/// docker refuses variables there; calque expands those that are global arguments, so that the graph is known
/// beforehand.
pub(crate) fn variable_in_from(what: &str, word: Word, sink: &mut Sink) {
    let message =
        format!("docker expands no variables in {what} (`{}`): define a stage of its own", word.raw);
    sink.warn(Rule::NonPortable, message, word.span);
    sink.checked(word);
}

fn switch(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "true" => Some(true),
        "false" => Some(false),
        _ => None,
    }
}

/// Takes flags off the start; a lone `--` ends them. Here a backslash escapes whatever the escape directive says.
fn flags<'a>(line: &Mapped, text: &'a str) -> (Vec<Flag>, &'a str) {
    let mut flags = Vec::new();
    let mut rest = text.trim_start();
    while rest.starts_with("--") {
        let (flag, length) = flag(line, rest);
        let (whole, after) = rest.split_at(length);
        rest = after.trim_start();
        if whole == "--" {
            break;
        }
        flags.push(Flag { text: flag, span: line.span(whole) });
    }
    (flags, rest)
}

/// One flag without quotes and escapes, and its length with them.
fn flag(line: &Mapped, text: &str) -> (Mapped, usize) {
    let mut flag = Mapped::at(line.span(&text[2..]).start);
    let mut quote = None;
    let mut characters = text.char_indices().skip(2).peekable();
    let mut push = |at: usize, character: char| flag.push_from(line, &text[at..at + character.len_utf8()]);
    let mut length = text.len();
    while let Some((at, character)) = characters.next() {
        match (quote, character) {
            (None, space) if space.is_whitespace() => {
                length = at;
                break;
            }
            (None, '\'' | '"') => quote = Some(character),
            (Some(open), close) if open == close => quote = None,
            (_, '\\') => {
                if let Some((at, escaped)) = characters.next() {
                    push(at, escaped);
                }
            }
            (_, character) => push(at, character),
        }
    }
    (flag, length)
}
