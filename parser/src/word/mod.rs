//! Words: quotes, escapes and variables.
//!
//! A word is read into parts once ([`syntax`]), then the parts are put together with the variables' values. The rules
//! are those of docker's own small shell, not those of `sh`: see `FEATURES` D-30 to D-40.

mod pattern;
mod syntax;

use pattern::WordPattern;
use syntax::{Modifier, Part, Syntax};

use crate::{Escape, Word};

/// Why a word can't be expanded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WordError {
    /// A quote that is never closed.
    #[error("a quote `{quote}` is never closed")]
    UnclosedQuote {
        /// `'` or `"`.
        quote: char,
    },
    /// `${` without its `}`, or a `/` missing in `${name/pattern/replacement}`.
    #[error("a `${{` lacks its `{missing}`")]
    UnclosedBrace {
        /// What was looked for.
        missing: char,
    },
    /// `${}`, `${:x}`, `${{`.
    #[error("bad substitution")]
    BadSubstitution,
    /// `${name^}` and its kind.
    #[error("unsupported modifier `{modifier}` in a substitution")]
    UnsupportedModifier {
        /// The characters after the name.
        modifier: String,
    },
    /// `${name?message}` with the variable unset or empty.
    #[error("{name}: {message}")]
    Required {
        /// The variable.
        name: String,
        /// What the word says, or what docker says.
        message: String,
    },
    /// A pattern with an escape that means nothing.
    #[error("invalid escape in the pattern `{pattern}`")]
    BadPattern {
        /// The pattern.
        pattern: String,
    },
    /// Substitutions in substitutions, too many of them.
    #[error("substitutions are nested too deep")]
    TooDeep,
}

/// Gives the value of a variable; `None` is unset.
type Lookup<'a> = dyn FnMut(&str) -> Option<String> + 'a;

impl Word {
    /// Removes quotes and escapes and puts in variables. `lookup` gives a variable's value: `None` is unset.
    ///
    /// # Errors
    ///
    /// [`WordError`] for what the syntax doesn't allow, and for `${name?message}`.
    pub fn expand(
        &self,
        escape: Escape,
        lookup: &mut dyn FnMut(&str) -> Option<String>,
    ) -> Result<String, WordError> {
        expand(&self.raw, Syntax::word(escape), lookup)
    }

    /// The same, split at white space that isn't quoted, after expansion: one word can become none or several
    /// (`EXPOSE $PORTS`).
    ///
    /// # Errors
    ///
    /// As [`expand`](Self::expand).
    pub fn expand_words(
        &self,
        escape: Escape,
        lookup: &mut dyn FnMut(&str) -> Option<String>,
    ) -> Result<Vec<String>, WordError> {
        let mut words = Words::default();
        for part in syntax::parse(&self.raw, Syntax::word(escape))? {
            let splits = matches!(part, Part::Plain(_) | Part::Variable { .. });
            words.push(&value_of(&part, lookup)?, splits);
        }
        Ok(words.finish())
    }

    /// The word without its quotes and escapes when no variable is in it.
    pub fn literal(&self, escape: Escape) -> Option<String> {
        let mut variables = false;
        let text = self
            .expand(escape, &mut |_| {
                variables = true;
                None
            })
            .ok()?;
        (!variables).then_some(text)
    }

    /// Whether some variable is named in it. A word that can't be read names none.
    pub fn has_variables(&self, escape: Escape) -> bool {
        let mut variables = false;
        // a value for each, so that `${name?}` doesn't end the search
        let _ = self.expand(escape, &mut |_| {
            variables = true;
            Some("x".to_owned())
        });
        variables
    }
}

/// Puts variables into the body of a heredoc of COPY or ADD: quotes stay as they are, the escape is always `\`, and
/// goes (`\n` becomes `n`), as in docker.
///
/// # Errors
///
/// As [`Word::expand`].
pub fn expand_heredoc(
    body: &str,
    lookup: &mut dyn FnMut(&str) -> Option<String>,
) -> Result<String, WordError> {
    expand(body, Syntax::heredoc(), lookup)
}

/// Whether `raw` can be expanded whatever the variables are.
pub(crate) fn check(raw: &str, escape: Escape) -> Result<(), WordError> {
    check_syntax(raw, Syntax::word(escape))
}

/// The same for the body of a heredoc.
pub(crate) fn check_heredoc(body: &str) -> Result<(), WordError> {
    check_syntax(body, Syntax::heredoc())
}

fn check_syntax(raw: &str, syntax: Syntax) -> Result<(), WordError> {
    // quick way out: nothing in it that could be wrong
    if !raw.contains(['$', '\'', '"']) {
        return Ok(());
    }
    expand(raw, syntax, &mut |_| Some("x".to_owned())).map(drop)
}

fn expand(raw: &str, syntax: Syntax, lookup: &mut Lookup<'_>) -> Result<String, WordError> {
    join(&syntax::parse(raw, syntax)?, lookup)
}

fn join(parts: &[Part], lookup: &mut Lookup<'_>) -> Result<String, WordError> {
    let mut text = String::new();
    for part in parts {
        text.push_str(&value_of(part, lookup)?);
    }
    Ok(text)
}

fn value_of(part: &Part, lookup: &mut Lookup<'_>) -> Result<String, WordError> {
    match part {
        Part::Plain(text) | Part::Fixed(text) => Ok(text.clone()),
        Part::Quoted(parts) => join(parts, lookup),
        Part::Variable { name, modifier } => substitute(name, modifier, lookup),
    }
}

/// Words in modifiers are expanded whether they are used or not, as in docker: `${a:-${b:?no b}}` needs `b`.
fn substitute(name: &str, modifier: &Modifier, lookup: &mut Lookup<'_>) -> Result<String, WordError> {
    match modifier {
        Modifier::None => Ok(lookup(name).unwrap_or_default()),
        Modifier::Default { or_empty, word } => {
            let word = join(word, lookup)?;
            Ok(lookup(name).filter(|value| !(*or_empty && value.is_empty())).unwrap_or(word))
        }
        Modifier::Alternative { or_empty, word } => {
            let word = join(word, lookup)?;
            Ok(match lookup(name) {
                Some(value) if !(*or_empty && value.is_empty()) => word,
                _ => String::new(),
            })
        }
        Modifier::Required { or_empty, word } => {
            let word = join(word, lookup)?;
            let required = |default: &str| WordError::Required {
                name: name.to_owned(),
                message: if word.is_empty() { default.to_owned() } else { word.clone() },
            };
            match lookup(name) {
                None => Err(required("is not allowed to be unset")),
                Some(value) if *or_empty && value.is_empty() => Err(required("is not allowed to be empty")),
                Some(value) => Ok(value),
            }
        }
        Modifier::TrimPrefix { pattern } => {
            let pattern = join(pattern, lookup)?;
            let (pattern, longest) = match pattern.strip_prefix('#') {
                Some(rest) => (WordPattern::parse(rest)?, true),
                None => (WordPattern::parse(&pattern)?, false),
            };
            Ok(pattern.trim_prefix(&lookup(name).unwrap_or_default(), longest))
        }
        Modifier::TrimSuffix { pattern } => {
            let pattern = join(pattern, lookup)?;
            let (pattern, longest) = match pattern.strip_prefix('%') {
                Some(rest) => (WordPattern::parse(rest)?, true),
                None => (WordPattern::parse(&pattern)?, false),
            };
            Ok(pattern.trim_suffix(&lookup(name).unwrap_or_default(), longest))
        }
        Modifier::Replace { all, pattern, replacement } => {
            let pattern = WordPattern::parse(&join(pattern, lookup)?)?;
            let replacement = join(replacement, lookup)?;
            Ok(pattern.replace(&lookup(name).unwrap_or_default(), &replacement, *all))
        }
    }
}

/// Splits at white space; an empty word is no word, even when it was quoted.
#[derive(Default)]
struct Words {
    words: Vec<String>,
    word: String,
}

impl Words {
    fn push(&mut self, text: &str, splits: bool) {
        if !splits {
            self.word.push_str(text);
            return;
        }
        for character in text.chars() {
            if character.is_whitespace() {
                self.end();
            } else {
                self.word.push(character);
            }
        }
    }

    fn end(&mut self) {
        if !self.word.is_empty() {
            self.words.push(std::mem::take(&mut self.word));
        }
    }

    fn finish(mut self) -> Vec<String> {
        self.end();
        self.words
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Span;

    fn word(raw: &str) -> Word {
        Word { raw: raw.to_owned(), span: Span::default() }
    }

    fn environment(name: &str) -> Option<String> {
        match name {
            "PORTS" => Some("80 443/tcp".to_owned()),
            "EMPTY" => Some(String::new()),
            "NAME" => Some("calque".to_owned()),
            _ => None,
        }
    }

    #[test]
    fn words_split_after_expansion_and_quotes_protect() {
        let split = |raw: &str| word(raw).expand_words(Escape::Backslash, &mut environment).unwrap();
        assert_eq!(split("$PORTS"), ["80", "443/tcp"]);
        assert_eq!(split("\"$PORTS\""), ["80 443/tcp"]);
        assert_eq!(split("a$PORTS"), ["a80", "443/tcp"]);
        assert_eq!(split("$EMPTY"), Vec::<String>::new());
        assert_eq!(split("''"), Vec::<String>::new());
        assert_eq!(split("a\\ b c"), ["a b", "c"]);
    }

    #[test]
    fn a_heredoc_keeps_its_quotes_and_loses_its_backslashes() {
        let body = "a=\"$NAME\" '$NAME' \\$NAME \\n\n";
        assert_eq!(expand_heredoc(body, &mut environment).unwrap(), "a=\"calque\" 'calque' $NAME n\n");
    }

    #[test]
    fn a_literal_word_names_no_variable() {
        assert_eq!(word("'a b'c").literal(Escape::Backslash).as_deref(), Some("a bc"));
        assert_eq!(word("a$b").literal(Escape::Backslash), None);
        assert_eq!(word("a\\$b").literal(Escape::Backslash).as_deref(), Some("a$b"));
        assert!(word("${a:?}").has_variables(Escape::Backslash));
        assert!(!word("'${a}'").has_variables(Escape::Backslash));
    }

    #[test]
    fn nesting_has_an_end() {
        let deep = "${a:-".repeat(10_000) + &"}".repeat(10_000);
        assert_eq!(word(&deep).expand(Escape::Backslash, &mut environment), Err(WordError::TooDeep));
    }

    #[test]
    fn an_unused_word_is_expanded_too() {
        let used = word("${NAME:-${MISSING:?no}}").expand(Escape::Backslash, &mut environment);
        assert_eq!(used, Err(WordError::Required { name: "MISSING".to_owned(), message: "no".to_owned() }));
    }
}
