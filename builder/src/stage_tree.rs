//! The working tree of a stage, where there is no overlay: its steps run in it one after another.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use store::merged::Merged;
use store::snapshot::StubKind;
use store::tree_writer::{Attributes, WriteError};
use store::working_tree::{Recorded, WorkingTree};
use store::{LayerDraft, LayerId};
use sys::file::Timestamp;

use crate::error::StepError;
use crate::graph::StageId;
use crate::step::write_failed;

/// The working trees between steps, by stage. Each is taken for a step and put back after its success.
#[derive(Default)]
pub(crate) struct StageTrees(Mutex<BTreeMap<StageId, StageTree>>);

impl StageTrees {
    pub(crate) fn take(&self, stage: StageId) -> Option<StageTree> {
        self.map().remove(&stage)
    }

    pub(crate) fn put(&self, stage: StageId, tree: StageTree) {
        self.map().insert(stage, tree);
    }

    /// When the stage is complete.
    pub(crate) fn remove(&self, stage: StageId) {
        drop(self.take(stage));
    }

    fn map(&self) -> std::sync::MutexGuard<'_, BTreeMap<StageId, StageTree>> {
        self.0.lock().expect("no thread panics while it holds the trees")
    }
}

/// A working tree and what is in it.
pub(crate) struct StageTree {
    tree: WorkingTree,
    /// What it lies in: never committed, so it goes to the trash when dropped.
    draft: LayerDraft,
    /// Base first.
    layers: Vec<LayerId>,
    /// A step has run in it that is not among the layers: the next layer is its, or an earlier one with the same content.
    is_ahead: Option<LayerId>,
}

impl StageTree {
    pub(crate) fn copy(draft: LayerDraft, image: &Merged, layers: Vec<LayerId>) -> Result<Self, WriteError> {
        let tree = WorkingTree::fill(own(&draft)?, image)?;
        Ok(Self { tree, draft, layers, is_ahead: None })
    }

    /// Whether the stack `layers` can be had from it by adding some.
    pub(crate) fn can_reach(&self, layers: &[LayerId]) -> bool {
        layers
            .strip_prefix(self.layers.as_slice())
            .is_some_and(|more| self.is_ahead.is_none() || !more.is_empty())
    }

    /// Adds what is missing of `layers`.
    pub(crate) fn advance(
        mut self,
        layers: &[LayerId],
        open: impl Fn(LayerId) -> Result<OwnedFd, StepError>,
    ) -> Result<Self, StepError> {
        for layer in &layers[self.layers.len()..] {
            // An earlier layer took the place of the step's own: the same but for times, and those count.
            if self.is_ahead.take() != Some(*layer) {
                self.tree.apply(std::os::fd::AsFd::as_fd(&open(*layer)?)).map_err(write_failed)?;
            }
            self.layers.push(*layer);
        }
        Ok(self)
    }

    /// Notes what is there, before a step.
    pub(crate) fn begin(
        self,
        mount_points: &[(PathBuf, StubKind)],
        workdir: &Path,
    ) -> Result<SteppedTree, WriteError> {
        // Nobody sees these but who lists the directory that is mounted over.
        let missing = Attributes::parent_dir(Timestamp::from_seconds(0));
        let mut stubs = Vec::new();
        for (target, kind) in mount_points {
            stubs.extend(self.tree.make_missing(target, *kind, &missing)?);
        }
        let before = self.tree.record(&stubs)?;
        self.tree.make_missing(workdir, StubKind::Dir, &Attributes::parent_dir(Timestamp::now()))?;
        Ok(SteppedTree { tree: self, before })
    }
}

/// A working tree in which a step runs.
pub(crate) struct SteppedTree {
    tree: StageTree,
    before: Recorded,
}

impl SteppedTree {
    /// What becomes the step's root.
    pub(crate) fn place(&self) -> io::Result<OwnedFd> {
        self.tree.draft.tree_fd().try_clone_to_owned()
    }

    /// Writes what the step changed over `image` into `draft`.
    pub(crate) fn finish(self, image: &Merged, draft: &LayerDraft) -> Result<StageTree, WriteError> {
        let Self { mut tree, before } = self;
        tree.tree.diff(&before, image, own(draft)?)?;
        tree.is_ahead = Some(draft.id());
        Ok(tree)
    }
}

fn own(draft: &LayerDraft) -> Result<OwnedFd, WriteError> {
    let path = Path::new("/").to_owned();
    draft.tree_fd().try_clone_to_owned().map_err(|source| WriteError::Io { op: "open", path, source })
}
