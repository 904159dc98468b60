//! Words: quotes, escapes and variables.

use crate::{Escape, Word};

/// Why a word can't be expanded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WordError {
    /// A quote that is never closed.
    #[error("a {quote} is never closed")]
    UnclosedQuote {
        /// `'` or `"`.
        quote: char,
    },
    /// `${` without its `}`, or a `/` missing in `${name/pattern/replacement}`.
    #[error("`${{` is never closed: `{missing}` is missing")]
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
    #[error("`{name}`: {message}")]
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

impl Word {
    /// Removes quotes and escapes and puts in variables. `lookup` gives a variable's value: `None` is unset.
    ///
    /// # Errors
    ///
    /// [`WordError`] for what the syntax doesn't allow, and for `${name?message}`.
    pub fn expand(
        &self,
        _escape: Escape,
        _lookup: &mut dyn FnMut(&str) -> Option<String>,
    ) -> Result<String, WordError> {
        todo!()
    }

    /// The same, split at white space that isn't quoted, after expansion: one word can become none or several
    /// (`EXPOSE $PORTS`).
    ///
    /// # Errors
    ///
    /// As [`expand`](Self::expand).
    pub fn expand_words(
        &self,
        _escape: Escape,
        _lookup: &mut dyn FnMut(&str) -> Option<String>,
    ) -> Result<Vec<String>, WordError> {
        todo!()
    }
}

/// Puts variables into the body of a heredoc of COPY or ADD: quotes stay as they are, the escape is always `\`.
///
/// # Errors
///
/// As [`Word::expand`].
pub fn expand_heredoc(
    _body: &str,
    _lookup: &mut dyn FnMut(&str) -> Option<String>,
) -> Result<String, WordError> {
    todo!()
}
