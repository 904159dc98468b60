//! Why a step has to run: the first input that differs from the nearest earlier result.

use std::fmt;

use store::{InputNode, NodeId, StepRecord};

use crate::expanded::VariableKind;
use crate::input::StepInputs;

/// One difference between what a step depends on and what its earlier result depended on.
#[derive(Clone, Debug, PartialEq, Eq)]
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
        /// Value then; nothing: it was not there.
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
#[derive(Clone, Debug, PartialEq, Eq)]
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
#[derive(Clone, Debug, PartialEq, Eq)]
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

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        todo!()
    }
}

impl fmt::Display for Explanation {
    /// The first cause on one line, and how many more there are: `src/app.rs changed (and 11 more files)`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        todo!()
    }
}

/// Compares `current` with the nearest of `earlier` ([`Store::earlier_results`](store::Store::earlier_results)): the
/// one that differs in the parent only, else the one with the same text, else the first. `load` gets nodes of the
/// earlier trees ([`Store::input_node`](store::Store::input_node)).
pub fn explain(
    current: &StepInputs,
    earlier: &[StepRecord],
    load: &mut dyn FnMut(&NodeId) -> Option<InputNode>,
) -> Explanation {
    todo!()
}
