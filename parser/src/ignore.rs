//! `.dockerignore`: which paths of a context a build doesn't see.
//!
//! Patterns are anchored at the root of the context, a pattern that matches a directory covers what lies below it,
//! and the last pattern that matches wins: moby's `MatchesOrParentMatches`. Two differences: a class (`[^a]`) never
//! matches `/`, and an exception for a directory also counts for what an *earlier* line leaves out below it (moby's
//! walker forgets such an exception when nothing was left out yet at the directory itself).

use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use crate::glob::{Globstar, Pattern};

/// A parsed ignore file.
#[derive(Clone, Debug, Default)]
pub struct IgnoreFile {
    rules: Vec<Rule>,
    exceptions: bool,
}

#[derive(Clone, Debug)]
struct Rule {
    pattern: Pattern,
    exception: bool,
    line: usize,
}

/// What the last matching line says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision {
    /// Whether the path is left out; `false` when the line is an exception (`!`).
    pub ignored: bool,
    /// The line in the file, from 1.
    pub line: usize,
    /// Which rule: what comes before it needn't be looked at below the path.
    rule: usize,
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
    pub fn parse(text: &str) -> Result<Self, IgnoreError> {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let mut file = Self::default();
        for (index, line) in text.split('\n').enumerate() {
            // only a `#` in the first column makes a comment
            if !line.starts_with('#') {
                file.add(line, index + 1)?;
            }
        }
        Ok(file)
    }

    /// Patterns given one by one (`COPY --exclude`); [`Decision::line`] counts them from 1.
    ///
    /// # Errors
    ///
    /// The first pattern that can't be understood.
    pub fn from_patterns<'a>(patterns: impl IntoIterator<Item = &'a str>) -> Result<Self, IgnoreError> {
        let mut file = Self::default();
        for (index, pattern) in patterns.into_iter().enumerate() {
            file.add(pattern, index + 1)?;
        }
        Ok(file)
    }

    fn add(&mut self, text: &str, line: usize) -> Result<(), IgnoreError> {
        let text = text.trim();
        let (pattern, exception) = match text.strip_prefix('!') {
            Some(rest) => (rest.trim(), true),
            None => (text, false),
        };
        if pattern.is_empty() {
            return match exception {
                true => Err(IgnoreError { line, pattern: text.to_owned(), reason: "no pattern after `!`" }),
                false => Ok(()),
            };
        }
        let cleaned = clean(pattern);
        let cleaned = cleaned.strip_prefix('/').filter(|rest| !rest.is_empty()).unwrap_or(&cleaned);
        let pattern = Pattern::parse(cleaned, Globstar::Crosses).map_err(|error| IgnoreError {
            line,
            pattern: text.to_owned(),
            reason: error.reason,
        })?;
        self.rules.push(Rule { pattern, exception, line });
        self.exceptions |= exception;
        Ok(())
    }

    /// Whether no path is ever left out.
    pub fn is_empty(&self) -> bool {
        self.rules.iter().all(|rule| rule.exception)
    }

    /// Whether some line is an exception (`!`).
    pub fn has_exceptions(&self) -> bool {
        self.exceptions
    }

    /// What the file says of `path`, relative to the context's root: `None` where no line matches.
    ///
    /// `parent` is the decision on the directory that holds it (`None` for what lies in the root): only lines after
    /// the one that decided there are looked at.
    pub fn verdict(&self, path: &Path, parent: Option<Decision>) -> Option<Decision> {
        let path = path.as_os_str().as_bytes();
        let first = parent.map_or(0, |decision| decision.rule + 1);
        for (rule, Rule { pattern, exception, line }) in self.rules.iter().enumerate().skip(first).rev() {
            if pattern.matches_bytes(path) {
                return Some(Decision { ignored: !exception, line: *line, rule });
            }
        }
        parent
    }

    /// [`verdict`](Self::verdict) for a path alone: asks for each of its parents first.
    pub fn verdict_alone(&self, path: &Path) -> Option<Decision> {
        let mut parents: Vec<&Path> = path.ancestors().filter(|part| !part.as_os_str().is_empty()).collect();
        parents.reverse();
        parents.into_iter().fold(None, |decision, part| self.verdict(part, decision))
    }

    /// Whether an exception could match a path below `dir`, which is itself ignored by `decision`: a walker must
    /// descend then. May say yes where nothing is found, never no where something could be.
    pub fn may_match_below(&self, dir: &Path, decision: Decision) -> bool {
        let dir = dir.as_os_str().as_bytes();
        let later = self.rules.iter().skip(decision.rule + 1);
        self.exceptions
            && later.filter(|rule| rule.exception).any(|rule| rule.pattern.may_match_below_bytes(dir))
    }
}

/// Go's `path.Clean`: no `.`, no `//`, no `/` at the end, `..` resolved as text.
fn clean(path: &str) -> String {
    let rooted = path.starts_with('/');
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => match parts.last() {
                Some(&last) if last != ".." => {
                    parts.pop();
                }
                _ if rooted => {}
                _ => parts.push(".."),
            },
            part => parts.push(part),
        }
    }
    match (rooted, parts.is_empty()) {
        (true, _) => format!("/{}", parts.join("/")),
        (false, true) => ".".to_owned(),
        (false, false) => parts.join("/"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ignored(file: &IgnoreFile, path: &str) -> bool {
        file.verdict_alone(Path::new(path)).is_some_and(|decision| decision.ignored)
    }

    #[test]
    fn the_deciding_line_is_named() {
        let file = IgnoreFile::parse("# comment\n\nnode_modules\n*.log\n!keep.log\n").unwrap();
        let line = |path: &str| {
            file.verdict_alone(Path::new(path)).map(|decision| (decision.ignored, decision.line))
        };
        assert_eq!(line("node_modules/a/b.js"), Some((true, 3)));
        assert_eq!(line("x.log"), Some((true, 4)));
        assert_eq!(line("keep.log"), Some((false, 5)));
        assert_eq!(line("src/x.log"), None);
    }

    #[test]
    fn an_exception_below_an_ignored_directory_is_reachable() {
        let file = IgnoreFile::parse("vendor\n!vendor/keep/**/*.go\n").unwrap();
        let vendor = file.verdict(Path::new("vendor"), None).unwrap();
        assert!(vendor.ignored);
        assert!(file.may_match_below(Path::new("vendor"), vendor));
        assert!(!ignored(&file, "vendor/keep/a/b.go"));
        assert!(ignored(&file, "vendor/keep/a/b.c"));
        let other = file.verdict(Path::new("vendor/other"), Some(vendor)).unwrap();
        assert!(!file.may_match_below(Path::new("vendor/other"), other));
    }

    #[test]
    fn an_earlier_exception_asks_for_no_descent() {
        let file = IgnoreFile::parse("!vendor/keep\nvendor\n").unwrap();
        let vendor = file.verdict(Path::new("vendor"), None).unwrap();
        assert!(!file.may_match_below(Path::new("vendor"), vendor));
        assert!(ignored(&file, "vendor/keep"));
    }

    #[test]
    fn an_exception_for_a_directory_covers_what_an_earlier_line_leaves_out_below() {
        let file = IgnoreFile::parse("a/b\n!a\n").unwrap();
        assert!(!ignored(&file, "a/b"));
    }

    #[test]
    fn lines_that_mean_nothing_are_refused_by_number() {
        let error = IgnoreFile::parse("a\n!\n").unwrap_err();
        assert_eq!(error.to_string(), "line 2: no pattern after `!` in `!`");
        let error = IgnoreFile::parse("a\n\n[a-\n").unwrap_err();
        assert_eq!((error.line, error.pattern.as_str()), (3, "[a-"));
        assert!(IgnoreFile::parse("\u{feff}# comment\n").unwrap().is_empty());
    }

    #[test]
    fn cleaning_follows_go() {
        for (from, to) in [
            ("a/./b//c/", "a/b/c"),
            ("./a", "a"),
            ("../a", "../a"),
            ("a/../../b", "../b"),
            ("/../a", "/a"),
            ("/", "/"),
            (".", "."),
            ("a/..", "."),
        ] {
            assert_eq!(clean(from), to, "{from}");
        }
    }
}
