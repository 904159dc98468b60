//! `.dockerignore`: which paths of a context a build doesn't see.
//!
//! Patterns are anchored at the root of the context, a pattern that matches a directory covers what lies below it,
//! and the last pattern that matches wins (moby's `MatchesOrParentMatches`).

use std::path::Path;

/// A parsed ignore file.
#[derive(Clone, Debug, Default)]
pub struct IgnoreFile {}

/// What the last matching line says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision {
    /// Whether the path is left out; `false` when the line is an exception (`!`).
    pub ignored: bool,
    /// The line in the file, from 1.
    pub line: usize,
}

/// A line that can't be understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {reason} in `{pattern}`")]
pub struct IgnoreError {
    /// The line, from 1.
    pub line: usize,
    /// The line's text.
    pub pattern: String,
    /// What is wrong with it.
    pub reason: &'static str,
}

impl IgnoreFile {
    /// Reads an ignore file; a byte order mark is skipped.
    ///
    /// # Errors
    ///
    /// The first line that can't be understood.
    pub fn parse(_text: &str) -> Result<Self, IgnoreError> {
        todo!()
    }

    /// Patterns given one by one (`COPY --exclude`); [`Decision::line`] counts them from 1.
    ///
    /// # Errors
    ///
    /// The first pattern that can't be understood.
    pub fn from_patterns<'a>(_patterns: impl IntoIterator<Item = &'a str>) -> Result<Self, IgnoreError> {
        todo!()
    }

    /// Whether no path is ever left out.
    pub fn is_empty(&self) -> bool {
        todo!()
    }

    /// Whether some line is an exception (`!`).
    pub fn has_exceptions(&self) -> bool {
        todo!()
    }

    /// What the file says of `path`, relative to the context's root: `None` where no line matches.
    ///
    /// `parent` is the decision on the directory that holds it (`None` for what lies in the root): only lines after
    /// the one that decided there are looked at.
    pub fn verdict(&self, _path: &Path, _parent: Option<Decision>) -> Option<Decision> {
        todo!()
    }

    /// [`verdict`](Self::verdict) for a path alone: asks for each of its parents first.
    pub fn verdict_alone(&self, _path: &Path) -> Option<Decision> {
        todo!()
    }

    /// Whether an exception could match a path below `dir`, which is itself ignored by `decision`: a walker must
    /// descend then. May say yes where nothing is found, never no where something could be.
    pub fn may_match_below(&self, _dir: &Path, _decision: Decision) -> bool {
        todo!()
    }
}
