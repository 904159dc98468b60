//! The inputs of a step, by name: what its key is made from and what its record keeps.
//!
//! ```text
//! root ─┬─ inputs   what the shape key is the digest of ─┬─ instruction, argv, user, workdir, platform, ...
//!       │                                                ├─ env ── one text for each variable
//!       │                                                ├─ mounts ── one node for each
//!       │                                                └─ sources ── one node for each word, one for each directory
//!       ├─ parent   what it stands on, to be shown; its key goes into the step key
//!       └─ notes    what only causes need: where sources lie, which variables are ARGs; in no key
//! ```

use std::collections::BTreeMap;

use oci::{Digest, ImageId, Platform};
use store::{ContentKey, InputNode, NodeId, ShapeKey, StepKey};

use crate::cache_key::{LayerContent, ParentKey};
use crate::expanded::{CopyStep, RunStep, WorkdirStep};

/// What is known of a file of any kind. The rules of the step decide what of it goes into the key: give all of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SourceFacts {
    /// Permission bits, `07777`.
    pub mode: u32,
    /// Owner: counts only for what comes from a stage or an image.
    pub uid: u32,
    /// Group: like the owner.
    pub gid: u32,
    /// Extended attributes that a copy takes along, name to value.
    pub xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
}

/// A file, directory, link or device that a step reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SourceNode {
    /// A regular file.
    File {
        /// Its metadata.
        facts: SourceFacts,
        /// blake3 of its content.
        digest: [u8; 32],
        /// An earlier file of the same copy (its path within the selected tree) that is hard-linked to this one.
        linked_to: Option<Vec<u8>>,
    },
    /// A symbolic link that is not followed.
    Link {
        /// Its metadata; the mode never counts.
        facts: SourceFacts,
        /// Its text.
        target: Vec<u8>,
    },
    /// A directory.
    Directory {
        /// Its metadata.
        facts: SourceFacts,
        /// What it holds, by file name.
        children: BTreeMap<Vec<u8>, SourceNode>,
    },
    /// A device or FIFO.
    Special {
        /// Its metadata.
        facts: SourceFacts,
        /// The `S_IFMT` bits.
        kind: u32,
        /// Device number.
        device: u64,
    },
}

/// What one word of COPY or ADD selected.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SourceInput {
    /// In the order of copying; empty when a pattern matched nothing.
    pub matches: Vec<SourceMatch>,
}

/// One path that is copied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceMatch {
    /// Where it lies in its root, without a leading `/`; what causes show.
    pub path: Vec<u8>,
    /// What it becomes below the target: its file name; with `--parents` the path that is kept; nothing for a
    /// directory whose contents are copied.
    pub name: Option<Vec<u8>>,
    /// What is there, excluded and ignored files left out, a link that is followed replaced by what it leads to.
    pub node: SourceNode,
}

/// What a step stands on, to name it in a cause.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Parent {
    /// Nothing.
    Scratch,
    /// A base image.
    Image {
        /// Its name as docker shows it: `debian:12`.
        name: String,
        /// The image.
        id: ImageId,
        /// The digest that the name stands for, shown in `base image debian:12 moved`: the manifest's where it is
        /// known, else the image ID.
        digest: Digest,
    },
    /// A named context that is a folder.
    Folder {
        /// Its name.
        name: String,
        /// The node of its tree.
        node: NodeId,
    },
    /// The step with the layer below.
    Step {
        /// Its key.
        key: StepKey,
        /// `3/7` or `build 3/7`: [`BuildStage::step_number`](crate::graph::BuildStage::step_number).
        number: String,
        /// Its text.
        text: String,
    },
}

impl Parent {
    /// What the step key of its child is made from.
    pub fn key(&self) -> ParentKey {
        todo!()
    }
}

/// The inputs of one step as nodes: [`StepRecord::inputs`](store::StepRecord) is `root`.
#[derive(Clone, Debug)]
pub struct StepInputs {
    /// The node that holds all others.
    pub root: NodeId,
    /// Digest of the inputs without the parent.
    pub shape: ShapeKey,
    /// Under this parent.
    pub step_key: StepKey,
    nodes: BTreeMap<NodeId, InputNode>,
}

impl StepInputs {
    /// Under parents with these layers, base first.
    pub fn content_key(&self, layers: &[LayerContent]) -> ContentKey {
        todo!()
    }

    /// A node of it.
    pub fn node(&self, id: &NodeId) -> Option<&InputNode> {
        self.nodes.get(id)
    }

    /// All nodes, for [`Store::put_step`](store::Store::put_step).
    pub fn into_nodes(self) -> Vec<InputNode> {
        self.nodes.into_values().collect()
    }
}

/// The inputs of `RUN`. `binds` has the tree of each bind mount's source, by the mount's place in
/// [`RunStep::mounts`]; caches and secrets never count by content.
pub fn run_inputs(
    run: &RunStep,
    platform: &Platform,
    binds: &BTreeMap<usize, SourceNode>,
    parent: &Parent,
) -> StepInputs {
    todo!()
}

/// The inputs of `COPY` and `ADD`. `sources` has what each [`CopySourceStep::Path`] selected, in order.
/// `epoch` is `SOURCE_DATE_EPOCH`, which clamps the times that files keep.
///
/// [`CopySourceStep::Path`]: crate::expanded::CopySourceStep::Path
pub fn copy_inputs(
    copy: &CopyStep,
    sources: &[SourceInput],
    epoch: Option<i64>,
    parent: &Parent,
) -> StepInputs {
    todo!()
}

/// The inputs of `WORKDIR`.
pub fn workdir_inputs(workdir: &WorkdirStep, epoch: Option<i64>, parent: &Parent) -> StepInputs {
    todo!()
}

/// The node of a folder that is a base ([`Parent::Folder`]), modes included, owners not.
pub fn folder_node(tree: &SourceNode) -> (NodeId, Vec<InputNode>) {
    todo!()
}
