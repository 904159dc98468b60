//! What can be mounted: a stack of layers and maybe a place to write.

use std::ffi::CString;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use sys::file::Timestamp;
use sys::kernel::{self, Feature};

use crate::merged::{Merged, MergedError, Resolved, visible_trees};
use crate::tree_writer::{Attributes, DirAttributes, TreeWriter, WriteError};

/// How a stage's tree is shown and its changes are found: the second of the two axes of DESIGN section 4.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Snapshots {
    /// An overlay of layers whose ids are mapped.
    OverlayIdmap,
    /// An overlay of layers as they are: no user namespace.
    Overlay,
    /// A copy of the layers that is written in place ([`crate::working_tree`]).
    Tree,
}

impl std::fmt::Display for Snapshots {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::OverlayIdmap => "overlay+idmap",
            Self::Overlay => "overlay",
            Self::Tree => "tree",
        })
    }
}

/// `OVERLAYFS_SUPER_MAGIC`
const OVERLAYFS: u64 = 0x794c_7630;

impl crate::Store {
    /// What can be had here, and where that is less than an overlay: why, a sentence.
    pub fn snapshots(&self) -> (Snapshots, Option<String>) {
        let tree = |why: &str| {
            let note =
                format!("{why}: steps and containers work on a copy of their layers (snapshots `tree`)");
            (Snapshots::Tree, Some(note))
        };
        if !kernel::has(Feature::Overlay) {
            return tree("overlayfs can't be had");
        }
        let root = &self.options().root;
        if rustix::fs::statfs(root).is_ok_and(|found| found.f_type.cast_unsigned() == OVERLAYFS) {
            return tree("the store lies on overlayfs, which can't carry another");
        }
        let has_idmap = kernel::has(Feature::Idmap);
        (if has_idmap { Snapshots::OverlayIdmap } else { Snapshots::Overlay }, None)
    }
}

/// A directory state that can be mounted.
#[derive(Debug)]
pub struct Snapshot {
    /// Trees to read, topmost first, as `O_PATH` directories.
    pub lowerdirs: Vec<OwnedFd>,
    /// Where changes go; nothing for a read-only mount.
    pub scratch: Option<Scratch>,
}

/// A directory that holds an upperdir and a workdir, which must share one mount.
#[derive(Debug)]
pub struct Scratch {
    /// The directory of both.
    pub dir: OwnedFd,
    /// Name of the upperdir in it.
    pub upper: CString,
    /// Name of the workdir in it.
    pub work: CString,
}

impl Snapshot {
    /// The stack of `trees`, topmost first (`O_PATH` directories), with maybe a place to write. Trees that a
    /// layer with an opaque root hides are left out: overlayfs wouldn't hide them.
    pub fn new(trees: Vec<OwnedFd>, scratch: Option<Scratch>) -> Result<Self, MergedError> {
        Ok(Self { lowerdirs: visible_trees(trees)?, scratch })
    }
}

/// What a mount point must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StubKind {
    /// An empty file.
    File,
    /// An empty directory.
    Dir,
}

/// Makes mount points that the image lacks, in the empty tree `into`, which is to be mounted as an extra
/// *lower* right above `merged` and thrown away afterwards: so they never get into a layer (R6).
/// Says whether any was made; if not, `into` needn't be mounted.
pub fn mount_point_stubs(
    merged: &Merged,
    targets: &[(PathBuf, StubKind)],
    into: BorrowedFd<'_>,
) -> Result<bool, WriteError> {
    // Nobody sees these but who lists the directory that is mounted over.
    let missing = Attributes::parent_dir(Timestamp::from_seconds(0));
    let writer = TreeWriter::new(own(into)?, merged)?;
    let mut made = false;
    for (target, kind) in targets {
        let (parent, rest) = match writer.merged().resolve_missing(target)? {
            Resolved::Found(_) => continue,
            Resolved::Missing { parent, rest } => (parent.path().to_owned(), rest),
        };
        let (name, dirs) = rest.split_last().expect("something is missing");
        let mut dir = writer.open_existing(&parent)?;
        for name in dirs {
            dir = dir.create_dir(name, DirAttributes::IfMissing(&missing))?;
        }
        match kind {
            StubKind::Dir => drop(dir.create_dir(name, DirAttributes::IfMissing(&missing))?),
            StubKind::File => {
                let attributes = Attributes { mode: 0o644, ..missing.clone() };
                dir.write_file(name, &mut io::empty(), &attributes)?;
            }
        }
        made = true;
    }
    if made {
        writer.finish()?;
    }
    Ok(made)
}

fn own(tree: BorrowedFd<'_>) -> Result<OwnedFd, WriteError> {
    let path = Path::new("/").to_owned();
    tree.try_clone_to_owned().map_err(|source| WriteError::Io { op: "open", path, source })
}

/// Gives the new upperdir `upper` the mode, owner, attributes and time of the stack's root, which
/// an overlay takes from its upperdir.
pub fn prepare_upper(merged: &Merged, upper: BorrowedFd<'_>) -> Result<(), WriteError> {
    TreeWriter::new(own(upper)?, merged)?.finish()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::fd::AsFd;
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::random_tree::{list, open};

    #[test]
    fn only_missing_mount_points_are_made_where_the_image_leads_to() {
        let dir = tempfile::tempdir().unwrap();
        let (lower, stubs) = (dir.path().join("lower"), dir.path().join("stubs"));
        for path in [lower.join("run"), lower.join("etc"), lower.join("proc"), stubs.clone()] {
            fs::create_dir_all(path).unwrap();
        }
        symlink("../run/resolv.conf", lower.join("etc/resolv.conf")).unwrap();
        let merged = Merged::new(vec![open(&lower)]).unwrap();
        let make = |targets: &[(&str, StubKind)], into: &Path| {
            let targets: Vec<_> = targets.iter().map(|(path, kind)| (PathBuf::from(path), *kind)).collect();
            mount_point_stubs(&merged, &targets, open(into).as_fd())
        };
        assert!(!make(&[("/proc", StubKind::Dir)], &stubs).unwrap());
        assert_eq!(list(&stubs), Vec::<String>::new());
        let targets = [
            ("/proc", StubKind::Dir),
            ("/etc/resolv.conf", StubKind::File),
            ("/a/b", StubKind::Dir),
            ("/a/b/c", StubKind::File),
        ];
        assert!(make(&targets, &stubs).unwrap());
        let made: Vec<String> =
            list(&stubs).iter().map(|line| line.split(" @").next().unwrap().to_owned()).collect();
        assert_eq!(
            made,
            [
                "a: directory 0755 0:0",
                "a/b: directory 0755 0:0",
                "a/b/c: file 0644 0:0",
                "run: directory 0755 0:0",
                "run/resolv.conf: file 0644 0:0"
            ]
        );
        assert_eq!(
            file_time(&stubs.join("run")),
            file_time(&lower.join("run")),
            "an existing directory keeps its time"
        );
    }

    fn file_time(path: &Path) -> Timestamp {
        sys::file::metadata_at(rustix::fs::CWD, path).unwrap().mtime
    }
}
