//! What the sources of COPY and ADD name: paths, patterns, `--parents`, `--exclude`. Nothing is read here but names.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use parser::glob::{Globstar, Pattern, PatternError};
use parser::ignore::{Decision, IgnoreFile};

use crate::source_tree::{Entry, Found, SourceError, SourceTree};

/// A source argument, made ready to be looked up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SourcePath {
    /// As written, after expansion.
    pub(crate) written: String,
    /// Relative to the root, without `.` and `..`; empty for the root itself.
    pub(crate) clean: String,
    /// How much of `clean` `--parents` leaves out: what stands before `/./`.
    pub(crate) pivot: String,
    /// Whether `..` would have left the root.
    pub(crate) escapes: bool,
}

impl SourcePath {
    /// Leading `/` and `..` stop at the root; a trailing `/` means nothing (D-113).
    pub(crate) fn new(written: &str) -> Self {
        let (clean, escapes) = clean(written);
        let pivot = written.split_once("/./").map_or(String::new(), |(before, _)| self::clean(before).0);
        Self { written: written.to_owned(), clean, pivot, escapes }
    }
}

/// Go's `path.Clean` below a root: whether `..` went above it is told, too.
pub(crate) fn clean(path: &str) -> (String, bool) {
    let mut parts: Vec<&str> = Vec::new();
    let mut escapes = false;
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => escapes |= parts.pop().is_none(),
            name => parts.push(name),
        }
    }
    (parts.join("/"), escapes)
}

/// One thing to copy.
#[derive(Clone, Debug)]
pub(crate) struct Selected<'a> {
    /// Its path as the Dockerfile leads to it, before symlinks are followed: what keys and causes call it.
    pub(crate) name: PathBuf,
    /// What is there: never a symlink, unless it dangles.
    pub(crate) found: Found<'a>,
    /// With `--parents`: the directories above it that are made first, outermost first.
    pub(crate) parents: Vec<Found<'a>>,
}

impl Selected<'_> {
    /// The name under which a file lands in a directory.
    pub(crate) fn base_name(&self) -> OsString {
        self.name.file_name().map(OsString::from).unwrap_or_default()
    }

    /// With `--parents`: the path that is kept below the target.
    pub(crate) fn kept_path(&self) -> PathBuf {
        let mut path: PathBuf = self.parents.iter().filter_map(|parent| parent.path.file_name()).collect();
        path.extend(self.name.file_name());
        path
    }
}

/// How sources are looked up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Layout {
    /// Each source lands by its last name, a directory by its content.
    Flat,
    /// `--parents`.
    Parents,
}

/// Why a source can't be selected.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SelectError {
    #[error("`{}` is not there", .0.written)]
    Missing(SourcePath),
    #[error(transparent)]
    Pattern(#[from] PatternError),
    #[error(transparent)]
    Source(#[from] SourceError),
}

/// What `source` names in `tree`. A pattern that matches nothing names nothing; a path that isn't there is an error
/// (D-114).
pub(crate) fn select<'a>(
    tree: &'a SourceTree,
    source: &SourcePath,
    layout: Layout,
) -> Result<Vec<Selected<'a>>, SelectError> {
    let globstar = if layout == Layout::Parents { Globstar::Crosses } else { Globstar::Plain };
    let names = if source.clean.is_empty() {
        vec![PathBuf::new()]
    } else {
        let pattern = Pattern::parse(&source.clean, globstar)?;
        match pattern.as_literal() {
            Some(literal) => {
                let path = PathBuf::from(literal);
                if tree.find(&path, false)?.is_none() {
                    return Err(SelectError::Missing(source.clone()));
                }
                vec![path]
            }
            None => matches(tree, &pattern)?,
        }
    };
    let mut selected = Vec::with_capacity(names.len());
    for name in names {
        // A source that is a symlink is followed (D-116); one that dangles isn't there.
        let Some(found) = tree.find(&name, true)? else {
            return Err(SelectError::Missing(SourcePath {
                written: name.display().to_string(),
                ..source.clone()
            }));
        };
        let mut parents = Vec::new();
        if layout == Layout::Parents {
            let below = name.strip_prefix(&source.pivot).unwrap_or(&name);
            let mut path =
                name.strip_prefix(&source.pivot).map_or(PathBuf::new(), |_| PathBuf::from(&source.pivot));
            for component in below.parent().into_iter().flat_map(Path::components) {
                path.push(component);
                parents.extend(tree.find(&path, true)?);
            }
        }
        selected.push(Selected { name, found, parents });
    }
    Ok(selected)
}

/// All paths that `pattern` matches, in order. A directory that matches is taken whole: nothing below it is looked at.
fn matches(tree: &SourceTree, pattern: &Pattern) -> Result<Vec<PathBuf>, SourceError> {
    let start = PathBuf::from(pattern.literal_parent());
    let mut names = Vec::new();
    if let Some(found) = tree.find(&start, true)? {
        matches_below(tree, pattern, &start, &found, &mut names)?;
    }
    Ok(names)
}

fn matches_below(
    tree: &SourceTree,
    pattern: &Pattern,
    logical: &Path,
    dir: &Found<'_>,
    names: &mut Vec<PathBuf>,
) -> Result<(), SourceError> {
    for child in tree.children(&dir.path, dir.entry)? {
        let name = logical.join(&child.name);
        if pattern.matches(&name) {
            names.push(name);
        } else if child.is_dir() && pattern.may_match_below(&name) {
            let found = Found { path: dir.path.join(&child.name), entry: child };
            matches_below(tree, pattern, &name, &found, names)?;
        }
    }
    Ok(())
}

/// What `--exclude` leaves out: patterns as in an ignore file, relative to the source (D-110).
#[derive(Clone, Debug, Default)]
pub(crate) struct Exclude(pub(crate) IgnoreFile);

impl Exclude {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether a selected file itself is left out: its patterns see its name alone.
    pub(crate) fn excludes_source(&self, selected: &Selected<'_>) -> bool {
        let name = selected.base_name();
        !selected.found.entry.is_dir()
            && !self.0.is_empty()
            && self.0.verdict_alone(Path::new(&name)).is_some_and(|decision| decision.ignored)
    }

    /// Goes over the children of a directory that are not left out. `below` is the directory's path from the source,
    /// `decision` what was decided on it.
    pub(crate) fn keep<'e, 'x>(
        &'x self,
        children: &'e [Entry],
        below: &'x Path,
        decision: Option<Decision>,
    ) -> impl Iterator<Item = (&'e Entry, Option<Decision>, Kept)> + use<'e, 'x> {
        children.iter().filter_map(move |child| {
            if self.0.is_empty() {
                return Some((child, None, Kept::Whole));
            }
            let path = below.join(&child.name);
            let verdict = self.0.verdict(&path, decision);
            match verdict {
                Some(ignored @ Decision { ignored: true, .. }) => (child.is_dir()
                    && self.0.may_match_below(&path, ignored))
                .then_some((child, verdict, Kept::IfNotEmpty)),
                _ => Some((child, verdict, Kept::Whole)),
            }
        })
    }
}

/// Whether a directory is copied for itself or only as the parent of what an exception brings back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kept {
    /// For itself.
    Whole,
    /// Only with something in it.
    IfNotEmpty,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_are_clipped_at_the_root() {
        for (written, clean, escapes) in [
            ("/a/b/", "a/b", false),
            ("../../x", "x", true),
            ("a/../../x", "x", true),
            (".", "", false),
            ("./a/./b", "a/b", false),
        ] {
            let source = SourcePath::new(written);
            assert_eq!((source.clean.as_str(), source.escapes), (clean, escapes), "{written}");
        }
        assert_eq!(SourcePath::new("a/./b/c").pivot, "a");
    }
}
