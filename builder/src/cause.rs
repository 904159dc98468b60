//! Why a step has to run: the first input that differs from the nearest earlier result.

use std::collections::BTreeSet;
use std::fmt;

use serde::Serialize;
use store::{InputNode, NodeId, StepRecord};

use crate::difference::Comparison;
use crate::expanded::VariableKind;
use crate::input::StepInputs;

/// One difference between what a step depends on and what its earlier result depended on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "cause", rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Cause {
    /// No earlier result.
    NeverBuilt,
    /// `--no-cache`.
    NoCache,
    /// The same inputs, but the layer is no longer there.
    ResultGone,
    /// The name of the base image stands for another image now.
    BaseMoved {
        /// `debian:12`.
        name: String,
        /// Digest then.
        before: String,
        /// Digest now.
        after: String,
    },
    /// Another base.
    Base {
        /// Then.
        before: String,
        /// Now.
        after: String,
    },
    /// The step below ran again or is another one.
    Parent {
        /// `3/7`.
        number: String,
    },
    /// The instruction reads otherwise.
    Text {
        /// `RUN`
        instruction: String,
        /// The words that went.
        before: String,
        /// The words that came.
        after: String,
    },
    /// An ARG or ENV in scope.
    Variable {
        /// Which of the two.
        kind: VariableKind,
        /// Its name.
        name: String,
        /// Value then; nothing: it was not there. What looks like a secret is `****`.
        before: Option<String>,
        /// Value now; nothing: it is gone.
        after: Option<String>,
    },
    /// A file, directory or link.
    Path {
        /// Where it lies in the context, stage or image.
        path: String,
        /// What happened to it.
        change: PathChange,
    },
    /// Anything else that has a name and a value: user, workdir, platform, network, a flag, an option of a mount.
    Setting {
        /// Its name.
        name: String,
        /// Value then.
        before: Option<String>,
        /// Value now.
        after: Option<String>,
    },
}

/// What happened to a path.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "what", rename_all = "kebab-case")]
#[non_exhaustive]
pub enum PathChange {
    /// Other content.
    Content,
    /// It is new.
    Added,
    /// It is gone.
    Removed,
    /// The same content under another name.
    Renamed {
        /// The new path.
        to: String,
    },
    /// Permission bits.
    Mode {
        /// Then.
        before: u32,
        /// Now.
        after: u32,
    },
    /// Owner and group.
    Owner {
        /// Then.
        before: (u32, u32),
        /// Now.
        after: (u32, u32),
    },
    /// Extended attributes.
    Xattrs,
    /// The modification time that its step gave it.
    Mtime,
    /// Where a symbolic link leads.
    LinkTarget {
        /// Then.
        before: String,
        /// Now.
        after: String,
    },
    /// A file became a directory, and the like.
    Kind,
    /// Another device.
    Device,
    /// Hard-linked to another file.
    HardLink,
}

/// All that differs, the first first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Explanation {
    /// At least one; at most [`Explanation::LIMIT`].
    pub causes: Vec<Cause>,
    /// How many more there are.
    pub more: usize,
}

impl Explanation {
    /// Most causes that are listed.
    pub const LIMIT: usize = 1000;
}

/// Longest value that is shown on the line.
const SHOWN: usize = 60;

/// `text` on one line, its middle left out where it is long.
fn shown(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let count = line.chars().count();
    if count <= SHOWN {
        return line;
    }
    let head: String = line.chars().take(SHOWN / 2).collect();
    let tail: String = line.chars().skip(count - SHOWN / 2 + 1).collect();
    format!("{head}…{tail}")
}

/// A digest as a person compares it: `sha256:1f3a9c…`.
fn short_digest(digest: &str) -> String {
    match digest.split_once(':') {
        Some((algorithm, hex)) if hex.len() > 12 => format!("{algorithm}:{}…", &hex[..12]),
        _ => digest.to_owned(),
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NeverBuilt => f.write_str("never built here"),
            Self::NoCache => f.write_str("--no-cache"),
            Self::ResultGone => f.write_str("its earlier result is no longer in the store"),
            Self::BaseMoved { name, before, after } => {
                write!(f, "base image {name} moved: {} → {}", short_digest(before), short_digest(after))
            }
            Self::Base { before, after } => write!(f, "base: {} → {}", shown(before), shown(after)),
            Self::Parent { number } => write!(f, "follows step {number}"),
            Self::Text { instruction, before, after } => match (before.as_str(), after.as_str()) {
                ("", after) => write!(f, "{instruction} text: `{}` added", shown(after)),
                (before, "") => write!(f, "{instruction} text: `{}` removed", shown(before)),
                (before, after) => write!(f, "{instruction} text: {} → {}", shown(before), shown(after)),
            },
            Self::Variable { kind, name, before, after } => {
                let kind = match kind {
                    VariableKind::Arg => "ARG",
                    VariableKind::Env => "ENV",
                };
                match (before, after) {
                    (Some(before), Some(after)) if before == after => {
                        write!(f, "{kind} {name} changed (value not shown)")
                    }
                    (Some(before), Some(after)) => {
                        write!(f, "{kind} {name}: {} → {}", value(before), value(after))
                    }
                    (None, Some(after)) => write!(f, "{kind} {name}={} added", value(after)),
                    (_, None) => write!(f, "{kind} {name} removed"),
                }
            }
            Self::Path { path, change } => match change {
                PathChange::Content => write!(f, "{path} changed"),
                PathChange::Added => write!(f, "{path} added"),
                PathChange::Removed => write!(f, "{path} removed"),
                PathChange::Renamed { to } => write!(f, "{path} renamed to {to}"),
                PathChange::Mode { before, after } => write!(f, "{path} mode {before:04o} → {after:04o}"),
                PathChange::Owner { before, after } => {
                    write!(f, "{path} owner {}:{} → {}:{}", before.0, before.1, after.0, after.1)
                }
                PathChange::Xattrs => write!(f, "{path} extended attributes changed"),
                PathChange::Mtime => write!(f, "{path} modification time changed"),
                PathChange::LinkTarget { before, after } => {
                    write!(f, "{path} link target {} → {}", shown(before), shown(after))
                }
                PathChange::Kind => write!(f, "{path} is of another kind"),
                PathChange::Device => write!(f, "{path} is another device"),
                PathChange::HardLink => write!(f, "{path} is hard-linked otherwise"),
            },
            Self::Setting { name, before, after } => match (before, after) {
                (Some(before), Some(after)) => write!(f, "{name}: {} → {}", value(before), value(after)),
                (None, Some(after)) => write!(f, "{name} added: {}", value(after)),
                (_, None) => write!(f, "{name} removed"),
            },
        }
    }
}

/// A value as it is shown; an empty one so that it can be seen.
fn value(text: &str) -> String {
    if text.is_empty() { "\"\"".to_owned() } else { shown(text) }
}

impl fmt::Display for Explanation {
    /// The first cause on one line, and how many more there are: `src/app.rs changed (and 11 more files)`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(first) = self.causes.first() else { return Ok(()) };
        write!(f, "{first}")?;
        let rest = &self.causes[1..];
        if rest.is_empty() && self.more == 0 {
            return Ok(());
        }
        let path_of = |cause: &'_ Cause| match cause {
            Cause::Path { path, .. } => Some(path.clone()),
            _ => None,
        };
        let paths: Option<BTreeSet<String>> = self.causes.iter().map(path_of).collect();
        match paths.map(|paths| paths.len() - 1 + self.more) {
            // The same file in other respects.
            Some(0) => Ok(()),
            Some(1) => f.write_str(" (and 1 more file)"),
            Some(count) => write!(f, " (and {count} more files)"),
            None => write!(f, " (and {} more)", rest.len() + self.more),
        }
    }
}

impl From<Cause> for Explanation {
    fn from(cause: Cause) -> Self {
        Self { causes: vec![cause], more: 0 }
    }
}

/// Most earlier results that are looked at.
const CANDIDATES: usize = 8;

/// Compares `current` with the nearest of `earlier` ([`Store::earlier_results`](store::Store::earlier_results)): the
/// one that differs in the parent only, else the one with the same text, else the first. `load` gets nodes of the
/// earlier trees ([`Store::input_node`](store::Store::input_node)).
///
/// A base image that moved comes first, then the step's own inputs, then the step below.
pub fn explain(
    current: &StepInputs,
    earlier: &[StepRecord],
    load: &mut dyn FnMut(&NodeId) -> Option<InputNode>,
) -> Explanation {
    let mut nearest: Option<(u8, usize)> = None;
    for (index, record) in earlier.iter().take(CANDIDATES).enumerate() {
        let distance = if record.shape == current.shape {
            0
        } else {
            Comparison::new(current, record.inputs, load).distance()
        };
        if nearest.is_none_or(|(least, _)| distance < least) {
            nearest = Some((distance, index));
        }
    }
    let Some((_, index)) = nearest else { return Cause::NeverBuilt.into() };
    let mut comparison = Comparison::new(current, earlier[index].inputs, load);
    if !comparison.is_readable() {
        return Cause::ResultGone.into();
    }
    let (mut causes, mut more) = comparison.causes();
    if causes.is_empty() {
        return Cause::ResultGone.into();
    }
    more += causes.len().saturating_sub(Explanation::LIMIT);
    causes.truncate(Explanation::LIMIT);
    Explanation { causes, more }
}

#[cfg(test)]
mod tests;
