//! A COPY that changed a little: files of the step's earlier layer are linked instead of copied.
//!
//! Only from the same path of the same step's earlier layer, and only with the same content, mode, owner and time
//! (DESIGN section 4). What the earlier layer's files hold is known from its record: they were verified when they were
//! written, and layers don't change.

use std::collections::HashSet;
use std::ffi::{CString, OsStr};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Mutex;

use store::tree_writer::{Attributes, WriteDir};
use store::{InputNode, InputValue, StepRecord, Store};
use sys::RootDir;

use crate::cache::StepSite;
use crate::input::names;
use crate::source_tree::Entry;

/// ext4 takes 65,000 names of one inode; a margin for those that are made beside.
const LINK_LIMIT: u32 = 60_000;

/// An earlier result of the step.
pub(crate) struct Reuse<'s> {
    store: &'s Store,
    tree: RootDir,
    /// One entry for each word of the instruction.
    words: InputNode,
    /// Inodes that were linked already: two names of one file would be a hard link that the source doesn't have.
    linked: Mutex<HashSet<u64>>,
}

/// A directory of the earlier layer, and what its files held.
pub(crate) struct EarlierDir<'r> {
    reuse: &'r Reuse<'r>,
    node: InputNode,
    dir: OwnedFd,
}

impl<'s> Reuse<'s> {
    /// The layer of `record`; nothing when it, or its input tree, is not there any more: then files are copied.
    pub(crate) fn open(site: &StepSite<'s, '_>, record: &StepRecord) -> Option<Self> {
        let store = site.executor.services.store;
        site.executor.lease().hold(&[record.layer]).ok()?;
        let layer = store.layer(record.layer).ok()?;
        let tree = RootDir::from_fd(layer.open_tree().ok()?);
        let root = store.input_node(&record.inputs).ok()??;
        let inputs = child(store, &root, names::INPUTS.as_bytes())?;
        let words = child(store, &inputs, names::SOURCES.as_bytes())?;
        Some(Self { store, tree, words, linked: Mutex::new(HashSet::new()) })
    }

    /// What the earlier layer has at `target`, where the directory that the `word`th word names was copied to.
    pub(crate) fn source(&'s self, word: usize, target: &Path) -> Option<EarlierDir<'s>> {
        let word = child(self.store, &self.words, crate::input::ordinal(word).as_bytes())?;
        let node = child(self.store, &word, b"")?;
        let dir = self.tree.open_path_nofollow(target).ok()?;
        Some(EarlierDir { reuse: self, node, dir })
    }
}

impl EarlierDir<'_> {
    /// The directory `name` in it.
    pub(crate) fn dir(&self, name: &OsStr) -> Option<Self> {
        let node = child(self.reuse.store, &self.node, name.as_bytes())?;
        let dir = sys::file::open_dir_at(&self.dir, name).ok()?;
        Some(Self { reuse: self.reuse, node, dir })
    }

    /// Gives the file `name` in `to` the bytes of the earlier one, if that is the same in all that counts. Says whether
    /// it did; if not, whatever the reason, the file is to be copied.
    pub(crate) fn link(
        &self,
        to: &WriteDir<'_>,
        name: &OsStr,
        entry: &Entry,
        attributes: &Attributes,
    ) -> bool {
        let Some(InputValue::File { digest, .. }) = self.node.get(name.as_bytes()) else { return false };
        if Some(*digest) != entry.digest() {
            return false;
        }
        let Ok(c_name) = CString::new(name.as_bytes()) else { return false };
        let Ok(earlier) = sys::file::metadata_at(&self.dir, &*c_name) else { return false };
        let same = earlier.is_file()
            && earlier.size_bytes == entry.metadata.size_bytes
            && earlier.mode == attributes.mode
            && earlier.owner == attributes.owner
            && earlier.mtime == attributes.mtime
            && earlier.links < LINK_LIMIT;
        if !same {
            return false;
        }
        let mut linked = self.reuse.linked.lock().expect("no thread panics while it notes an inode");
        if !linked.insert(earlier.identity.ino) {
            return false;
        }
        drop(linked);
        to.write_link_from(name, &self.dir, name).is_ok()
    }
}

fn child(store: &Store, node: &InputNode, name: &[u8]) -> Option<InputNode> {
    match node.get(name)? {
        InputValue::Node(id) | InputValue::Directory { node: id, .. } => store.input_node(id).ok()?,
        _ => None,
    }
}
