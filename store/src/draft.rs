//! A layer in the making.

use std::fs;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, Mode, OFlags};

use crate::file::{OnPath, write_new_json};
use crate::layers::LayerDocument;
use crate::{FileError, Layer, LayerFacts, LayerId, Store, lock};

/// A layer in the making: `tmp/<id>/{tree,work}`. `tree` is an overlay's upperdir or is written in place.
///
/// Dropping it moves it to the trash.
#[derive(Debug)]
pub struct LayerDraft {
    store: Store,
    id: LayerId,
    dir: PathBuf,
    tree_path: PathBuf,
    /// Locked: the next process can tell that this one lives.
    dir_fd: OwnedFd,
    tree_fd: OwnedFd,
    is_placed: bool,
}

/// A draft can't be made or committed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DraftError {
    /// A file of it can't be made, written or renamed.
    #[error(transparent)]
    File(#[from] FileError),
}

impl Store {
    /// A new empty draft; its tree is `0755`, owned by whoever this process is.
    ///
    /// # Errors
    ///
    /// [`DraftError`] when its folders can't be made.
    pub fn draft(&self) -> Result<LayerDraft, DraftError> {
        let id = LayerId::random();
        let (dir, dir_fd) = lock::make_locked_dir(&self.layout().tmp(), &id.to_string())?;
        let tree_path = dir.join("tree");
        let made = make_folders(&dir, &tree_path);
        let tree_fd = match made {
            Ok(tree_fd) => tree_fd,
            Err(error) => {
                let _ = self.discard(&dir);
                return Err(error.into());
            }
        };
        Ok(LayerDraft { store: self.clone(), id, dir, tree_path, dir_fd, tree_fd, is_placed: false })
    }
}

fn make_folders(dir: &Path, tree: &Path) -> Result<OwnedFd, FileError> {
    fs::DirBuilder::new().mode(0o755).create(tree).on("make", tree)?;
    // Whatever the umask is.
    fs::set_permissions(tree, fs::Permissions::from_mode(0o755)).on("make", tree)?;
    let work = dir.join("work");
    fs::DirBuilder::new().mode(0o700).create(&work).on("make", &work)?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    rustix::fs::open(tree, flags, Mode::empty()).on("open", tree)
}

impl LayerDraft {
    /// The id that the layer will have.
    pub fn id(&self) -> LayerId {
        self.id
    }

    /// Path of the tree, for messages.
    pub fn tree_path(&self) -> &Path {
        &self.tree_path
    }

    /// The tree, open for reading and as the base of `*at` calls.
    pub fn tree_fd(&self) -> BorrowedFd<'_> {
        self.tree_fd.as_fd()
    }

    /// The folder that has `tree` and `work`: an overlay's upperdir and workdir.
    pub fn scratch_fd(&self) -> BorrowedFd<'_> {
        self.dir_fd.as_fd()
    }

    /// The folder that becomes the layer's, for what is kept beside the tree.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Makes it a layer: a rename. No overlay may be mounted on it any more.
    ///
    /// The layer is held for this process, so that nothing collects it before it is recorded.
    ///
    /// # Errors
    ///
    /// [`DraftError`]; the draft is then in the trash.
    pub fn commit(mut self, facts: LayerFacts) -> Result<Layer, DraftError> {
        let store = self.store.clone();
        self.discard_work()?;
        let document = LayerDocument { id: self.id, boot_id: store.inner.boot_id.clone(), facts };
        write_new_json(&self.dir.join("layer.json"), &document)?;
        let passed = store.inner.gate.shared()?;
        store.hold_for_process(&passed, self.id)?;
        let to = store.layout().layer(self.id);
        fs::rename(&self.dir, &to).on("commit", &to)?;
        self.is_placed = true;
        // The lock said that it was in flight. A child that is about to exec may still have a copy of the descriptor.
        let _ = rustix::fs::flock(&self.dir_fd, FlockOperation::Unlock);
        Ok(Layer { id: self.id, dir: to, facts: document.facts })
    }

    /// Moves the draft to a name of its own; what failed is kept this way.
    pub(crate) fn place(mut self, to: &Path) -> Result<(), FileError> {
        self.discard_work()?;
        fs::rename(&self.dir, to).on("keep", to)?;
        self.is_placed = true;
        Ok(())
    }

    fn discard_work(&self) -> Result<(), FileError> {
        let work = self.dir.join("work");
        // Empty unless an overlay was mounted, which leaves its own folders in it.
        match fs::remove_dir(&work) {
            Ok(()) => Ok(()),
            Err(_) => self.store.discard(&work),
        }
    }
}

impl Drop for LayerDraft {
    fn drop(&mut self) {
        if !self.is_placed {
            let _ = self.store.discard(&self.dir);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;
    use crate::testing::{Place, facts};

    #[test]
    fn a_committed_draft_is_the_same_tree_under_another_name() {
        let place = Place::new();
        let store = place.open();
        let draft = store.draft().unwrap();
        fs::create_dir_all(draft.tree_path().join("a/b")).unwrap();
        fs::create_dir_all(draft.tree_path().parent().unwrap().join("work/work/x")).unwrap();
        assert_eq!(fs::metadata(draft.tree_path()).unwrap().mode() & 0o7777, 0o755);
        let inode = fs::metadata(draft.tree_path()).unwrap().ino();
        let layer = draft.commit(facts("RUN a")).unwrap();
        assert_eq!(fs::metadata(layer.tree_path()).unwrap().ino(), inode);
        let mut names = crate::file::names_in(&layer.dir).unwrap();
        names.sort();
        assert_eq!(names, ["layer.json", "tree"]);
        assert_eq!(store.layer(layer.id()).unwrap().facts(), layer.facts());
        assert_eq!(store.layers().unwrap().len(), 1);
    }

    #[test]
    fn a_dropped_draft_goes_to_the_trash() {
        let place = Place::new();
        let store = place.open();
        drop(store.draft().unwrap());
        assert_eq!(crate::file::names_in(&store.layout().tmp()).unwrap(), [""; 0]);
        assert_eq!(crate::file::names_in(&store.layout().trash()).unwrap().len(), 1);
    }

    #[test]
    fn a_draft_of_a_live_process_is_left_alone_by_others() {
        let place = Place::new();
        let store = place.open();
        let draft = store.draft().unwrap();
        place.open();
        assert!(draft.tree_path().exists());
        // What a dead process leaves is not locked.
        fs::create_dir_all(place.options().root.join("tmp/dead/tree")).unwrap();
        fs::write(place.options().root.join("tmp/half"), "x").unwrap();
        place.open();
        assert_eq!(crate::file::names_in(&store.layout().tmp()).unwrap(), [draft.id().to_string()]);
    }
}
