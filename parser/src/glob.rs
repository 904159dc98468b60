//! Patterns of paths: Go's `filepath.Match` and `**`.

use std::path::Path;

/// A compiled pattern. It matches whole paths, `/`-separated, without a leading `/`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {}

/// A pattern that isn't one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason} in the pattern `{pattern}`")]
pub struct PatternError {
    /// The pattern.
    pub pattern: String,
    /// What is wrong with it.
    pub reason: &'static str,
}

/// Whether `**` is more than `*`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Globstar {
    /// `**` crosses directories (`.dockerignore`, `COPY --parents`, `--exclude`).
    Crosses,
    /// `**` is `*` twice (`COPY`).
    Plain,
}

impl Pattern {
    /// Compiles `text`, which must be cleaned already (no `./`, no `//`, no trailing `/`).
    ///
    /// # Errors
    ///
    /// An unclosed or empty `[`, a bad range, a lone `\` at the end.
    pub fn parse(_text: &str, _globstar: Globstar) -> Result<Self, PatternError> {
        todo!()
    }

    /// The one path that it matches, escapes removed, if it has no wildcard.
    pub fn as_literal(&self) -> Option<&str> {
        todo!()
    }

    /// The directories before the first component with a wildcard, escapes removed: a walk may start there.
    pub fn literal_parent(&self) -> &str {
        todo!()
    }

    /// Whether it matches all of `path`.
    pub fn matches(&self, _path: &Path) -> bool {
        todo!()
    }

    /// Whether it could match a path below `dir`. May say yes in vain, never no in vain.
    pub fn may_match_below(&self, _dir: &Path) -> bool {
        todo!()
    }
}
