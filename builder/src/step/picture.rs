//! What a source of COPY or a bind mount is, for its key.

use std::collections::{BTreeMap, HashMap};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use parser::ignore::Decision;
use store::RunWindow;
use sys::file::{FileType, Metadata, Owner};
use sys::xattr::Xattr;

use crate::CancelToken;
use crate::input::{SourceFacts, SourceNode};
use crate::source_tree::{Content, Entry, Found, SourceError, SourceTree};
use crate::step::select::{Exclude, Kept};

/// What a copy takes along of a file's metadata, and so what of it is in the key.
pub(crate) enum KeptMetadata {
    /// Files of a context become root's, and their times have no say (D-112).
    OfContext,
    /// Files of layers keep owner and time; a time within one of the windows, in which the layers' steps ran, counts
    /// as "now".
    OfLayers { windows: Vec<RunWindow> },
}

impl KeptMetadata {
    pub(crate) fn owner(&self, metadata: &Metadata) -> Owner {
        match self {
            Self::OfContext => Owner::ROOT,
            Self::OfLayers { .. } => metadata.owner,
        }
    }

    fn mtime_ns(&self, metadata: &Metadata) -> Option<i64> {
        let Self::OfLayers { windows } = self else { return None };
        let mtime_ns = metadata.mtime.as_nanos();
        let is_now = windows.iter().any(|window| (window.start_ns..=window.end_ns).contains(&mtime_ns));
        (!is_now).then_some(mtime_ns)
    }
}

/// What a source is, for its key, and which of its files are one inode.
pub(crate) struct SourcePicture {
    pub(crate) node: SourceNode,
    pub(crate) links: HashMap<PathBuf, PathBuf>,
}

impl SourcePicture {
    /// Walks `found`, reads what must be read, and describes all of it but what `exclude` leaves out and sockets.
    pub(crate) fn take(
        tree: &SourceTree,
        found: &Found<'_>,
        exclude: &Exclude,
        kept: KeptMetadata,
        stop: &CancelToken,
    ) -> Result<Self, SourceError> {
        if exclude.is_empty() {
            tree.preload(found)?;
        }
        let mut files = Vec::new();
        collect_files(tree, &found.path, found.entry, exclude, Path::new(""), None, &mut files)?;
        tree.digest(&files, stop)?;
        let mut links = Links::default();
        let describe = Description { tree, exclude, kept };
        let node = describe.node(&found.path, found.entry, Path::new(""), None, &mut links)?;
        // An empty source stands where only a socket was named.
        let node = node.unwrap_or_else(|| SourceNode::Directory {
            facts: SourceFacts::default(),
            children: BTreeMap::new(),
        });
        Ok(Self { node, links: links.later })
    }
}

fn collect_files<'a>(
    tree: &SourceTree,
    path: &Path,
    entry: &'a Entry,
    exclude: &Exclude,
    below: &Path,
    decision: Option<Decision>,
    files: &mut Vec<(PathBuf, &'a Entry)>,
) -> Result<(), SourceError> {
    match entry.content {
        Content::Dir(_) => {
            for (child, decision, _) in exclude.keep(tree.children(path, entry)?, below, decision) {
                if matches!(child.content, Content::Dir(_) | Content::File(_)) {
                    let (path, below) = (path.join(&child.name), below.join(&child.name));
                    collect_files(tree, &path, child, exclude, &below, decision, files)?;
                }
            }
        }
        Content::File(_) => files.push((path.to_path_buf(), entry)),
        _ => {}
    }
    Ok(())
}

#[derive(Default)]
struct Links {
    first: HashMap<(u64, u64), PathBuf>,
    later: HashMap<PathBuf, PathBuf>,
}

impl Links {
    /// The first name of the file that has another name at `below`.
    fn note(&mut self, metadata: &Metadata, below: &Path) -> Option<Vec<u8>> {
        if metadata.links < 2 {
            return None;
        }
        match self.first.entry((metadata.identity.dev, metadata.identity.ino)) {
            std::collections::hash_map::Entry::Occupied(first) => {
                self.later.insert(below.to_path_buf(), first.get().clone());
                Some(first.get().as_os_str().as_bytes().to_vec())
            }
            std::collections::hash_map::Entry::Vacant(place) => {
                place.insert(below.to_path_buf());
                None
            }
        }
    }
}

/// Describes a source for its key.
struct Description<'d> {
    tree: &'d SourceTree,
    exclude: &'d Exclude,
    kept: KeptMetadata,
}

impl Description<'_> {
    /// Nothing for a socket.
    fn node(
        &self,
        path: &Path,
        entry: &Entry,
        below: &Path,
        decision: Option<Decision>,
        links: &mut Links,
    ) -> Result<Option<SourceNode>, SourceError> {
        let metadata = &entry.metadata;
        Ok(Some(match &entry.content {
            Content::Dir(_) => {
                let listing = self.tree.listing(path, entry)?;
                let mut children = Vec::with_capacity(listing.entries.len());
                for (child, decision, kept) in self.exclude.keep(&listing.entries, below, decision) {
                    let (path, below) = (path.join(&child.name), below.join(&child.name));
                    let Some(node) = self.node(&path, child, &below, decision, links)? else { continue };
                    let is_empty =
                        matches!(&node, SourceNode::Directory { children, .. } if children.is_empty());
                    if kept == Kept::Whole || !is_empty {
                        children.push((child.name.as_bytes().to_vec(), node));
                    }
                }
                let facts = self.facts(metadata, &listing.xattrs);
                SourceNode::Directory { facts, children: children.into_iter().collect() }
            }
            Content::File(_) => SourceNode::File {
                // Attributes are part of the digest: so the stat index knows of them, too.
                facts: self.facts(metadata, &[]),
                digest: entry.digest().expect("all files were digested"),
                linked_to: links.note(metadata, below),
            },
            Content::Symlink(target) => {
                SourceNode::Link { facts: self.facts(metadata, &[]), target: target.as_bytes().to_vec() }
            }
            Content::Special => {
                let kind = match metadata.file_type {
                    FileType::Fifo => 0o010_000,
                    FileType::CharDevice => 0o020_000,
                    FileType::BlockDevice => 0o060_000,
                    // A socket means nothing without its listener (D-118).
                    _ => return Ok(None),
                };
                let (major, minor) = metadata.device;
                let device = rustix::fs::makedev(major, minor);
                SourceNode::Special { facts: self.facts(metadata, &[]), kind, device }
            }
        }))
    }

    fn facts(&self, metadata: &Metadata, xattrs: &[Xattr]) -> SourceFacts {
        let owner = self.kept.owner(metadata);
        let xattrs =
            xattrs.iter().map(|xattr| (xattr.name.to_bytes().to_vec(), xattr.value.clone())).collect();
        SourceFacts {
            mode: metadata.mode,
            uid: owner.uid,
            gid: owner.gid,
            xattrs,
            mtime_ns: self.kept.mtime_ns(metadata),
        }
    }
}
