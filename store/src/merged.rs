//! Paths over a stack of trees, as a mounted overlay would resolve them.

use std::collections::BTreeMap;
use std::ffi::{CStr, CString, OsStr, OsString};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::io::Errno;
use sys::dir::Entry;
use sys::file::{self, FileType, Metadata};
use sys::xattr::{self, Xattr};

use crate::layer::whiteout;

/// The kernel's own limit (`MAXSYMLINKS`).
const MAX_SYMLINKS: usize = 40;
/// The kernel's own limit on a path, its NUL included (`PATH_MAX`).
const PATH_MAX: usize = 4096;

/// Why a path couldn't be looked up.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MergedError {
    /// Nothing has that name, or a directory on the way is missing.
    #[error("`{}` does not exist", path.display())]
    NotFound {
        /// The path asked for.
        path: PathBuf,
    },
    /// Something on the way, or at the end where a directory is needed, is none.
    #[error("`{}` is not a directory", path.display())]
    NotADirectory {
        /// The path asked for.
        path: PathBuf,
    },
    /// A regular file is needed.
    #[error("`{}` is not a regular file", path.display())]
    NotAFile {
        /// The path asked for.
        path: PathBuf,
    },
    /// More symlinks than the kernel follows.
    #[error("too many symlinks in `{}`", path.display())]
    SymlinkLoop {
        /// The path asked for.
        path: PathBuf,
    },
    /// The file is larger than the caller takes.
    #[error("`{}` is larger than {limit_bytes} bytes", path.display())]
    TooLarge {
        /// The path asked for.
        path: PathBuf,
        /// The limit.
        limit_bytes: u64,
    },
    /// The kernel refused.
    #[error("cannot {op} `{}`", path.display())]
    Io {
        /// What was attempted.
        op: &'static str,
        /// The path asked for.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
}

/// A stack of layer trees seen as one: symlinks are resolved within it, whiteouts hide, directories
/// merge unless opaque. Cheap to clone; may be used by several threads.
///
/// Paths may be absolute or not: both begin at the root of the stack, which `..` never leaves.
/// Nothing is remembered of the trees but the descriptors, so a tree may be written meanwhile, as the
/// topmost one is by [`crate::tree_writer::TreeWriter`]; a [`Dir`] or [`Node`] is as of its look-up.
#[derive(Clone, Debug)]
pub struct Merged {
    trees: Arc<[Arc<OwnedFd>]>,
}

/// A directory of a [`Merged`]: one open directory for each tree that takes part, topmost first.
#[derive(Clone, Debug)]
pub struct Dir(Arc<DirParts>);

#[derive(Debug)]
struct DirParts {
    parts: Box<[Arc<OwnedFd>]>,
    path: PathBuf,
    metadata: Metadata,
}

/// What a path of a [`Merged`] leads to.
#[derive(Clone, Debug)]
pub struct Node {
    place: Place,
}

#[derive(Clone, Debug)]
enum Place {
    Dir(Dir),
    Other { parent: Arc<OwnedFd>, name: CString, path: PathBuf, metadata: Metadata },
}

/// How far a path leads: see [`Merged::resolve_missing`].
#[derive(Clone, Debug)]
pub enum Resolved {
    /// To something that exists.
    Found(Node),
    /// Into `parent`, in which the first of `rest` is missing. `rest` has neither `.` nor `..`.
    Missing {
        /// The last directory that exists.
        parent: Dir,
        /// Names that would have to be made, at least one.
        rest: Vec<OsString>,
    },
}

/// What is done where a path leads to nothing.
#[derive(Clone, Copy, PartialEq, Eq)]
enum OnMissing {
    Fail,
    GoOnByName,
}

impl Merged {
    /// The stack of `trees`, topmost first (`O_PATH` directories). None at all is an empty root.
    ///
    /// A tree whose root is opaque hides all trees below it. (overlayfs ignores the mark there: what is
    /// mounted has to end with that tree too, see [`visible_trees`].)
    pub fn new(trees: Vec<OwnedFd>) -> Result<Self, MergedError> {
        Self::from_shared(trees.into_iter().map(Arc::new).collect())
    }

    pub(crate) fn from_shared(mut trees: Vec<Arc<OwnedFd>>) -> Result<Self, MergedError> {
        let visible = count_visible(&trees).map_err(io_error("stat", Path::new("/")))?;
        trees.truncate(visible);
        Ok(Self { trees: trees.into() })
    }

    /// This stack with `tree` on top.
    pub(crate) fn with_top(&self, tree: Arc<OwnedFd>) -> Result<Self, MergedError> {
        Self::from_shared(std::iter::once(tree).chain(self.trees.iter().cloned()).collect())
    }

    /// How many trees it shows, counted from the topmost: what mounts the same stack leaves the others out
    /// (see [`visible_trees`]).
    pub fn tree_count(&self) -> usize {
        self.trees.len()
    }

    /// Whether there is any tree at all.
    pub(crate) fn has_trees(&self) -> bool {
        !self.trees.is_empty()
    }

    /// Whether this stack, `lowers` with a tree on top, shows nothing of `lowers`.
    pub(crate) fn hides_lowers(&self, lowers: &Self) -> bool {
        self.trees.len() <= lowers.trees.len()
    }

    /// The root directory.
    pub fn root(&self) -> Result<Dir, MergedError> {
        let path = PathBuf::from("/");
        let metadata = match self.trees.first() {
            Some(top) => file::metadata(top).map_err(io_error("stat", &path))?,
            None => Metadata::NO_DIR,
        };
        Ok(Dir(Arc::new(DirParts { parts: self.trees.to_vec().into(), path, metadata })))
    }

    /// What `path` leads to, every symlink followed.
    pub fn resolve(&self, path: &Path) -> Result<Node, MergedError> {
        self.found(path, true)
    }

    /// What is at `path`: a symlink in its last place is not followed.
    pub fn lookup(&self, path: &Path) -> Result<Node, MergedError> {
        self.found(path, false)
    }

    /// As [`Merged::resolve`], but says where a path ends that doesn't exist: symlinks on the way are
    /// followed, a dangling one at the end too, and `..` takes back a missing name.
    pub fn resolve_missing(&self, path: &Path) -> Result<Resolved, MergedError> {
        self.walk(path, true, OnMissing::GoOnByName)
    }

    /// Metadata of what `path` leads to.
    pub fn metadata(&self, path: &Path) -> Result<Metadata, MergedError> {
        Ok(*self.resolve(path)?.metadata())
    }

    /// Names in the directory that `path` leads to, sorted by bytes.
    pub fn read_dir(&self, path: &Path) -> Result<Vec<Entry>, MergedError> {
        let node = self.resolve(path)?;
        node.as_dir().ok_or_else(|| MergedError::NotADirectory { path: path.to_owned() })?.entries()
    }

    /// Opens the regular file that `path` leads to. Devices and pipes are refused, not opened.
    pub fn open_file(&self, path: &Path) -> Result<(OwnedFd, Metadata), MergedError> {
        let node = self.resolve(path)?;
        Ok((node.open_file()?, *node.metadata()))
    }

    /// The bytes of the regular file that `path` leads to, if they are at most `limit_bytes`.
    pub fn read_file(&self, path: &Path, limit_bytes: u64) -> Result<Vec<u8>, MergedError> {
        let file = File::from(self.open_file(path)?.0);
        let mut bytes = Vec::new();
        file.take(limit_bytes.saturating_add(1)).read_to_end(&mut bytes).map_err(io_error("read", path))?;
        if bytes.len() as u64 > limit_bytes {
            return Err(MergedError::TooLarge { path: path.to_owned(), limit_bytes });
        }
        Ok(bytes)
    }

    /// The target of the symlink at `path`.
    pub fn read_link(&self, path: &Path) -> Result<OsString, MergedError> {
        self.lookup(path)?.read_link()
    }

    fn found(&self, path: &Path, follow_last: bool) -> Result<Node, MergedError> {
        match self.walk(path, follow_last, OnMissing::Fail)? {
            Resolved::Found(node) => Ok(node),
            Resolved::Missing { .. } => Err(MergedError::NotFound { path: path.to_owned() }),
        }
    }

    /// Resolves as the kernel does, with a handle for each directory passed for `..` to go back to.
    fn walk(&self, path: &Path, follow_last: bool, on_missing: OnMissing) -> Result<Resolved, MergedError> {
        let bytes = path.as_os_str().as_bytes();
        if bytes.contains(&0) {
            return Err(io_error("look up", path)(Errno::INVAL.into()));
        }
        if bytes.len() >= PATH_MAX {
            return Err(io_error("look up", path)(Errno::NAMETOOLONG.into()));
        }
        let mut rest = bytes.to_vec();
        let mut passed = vec![self.root()?];
        let mut missing: Vec<OsString> = Vec::new();
        let mut symlinks = 0;
        while let Some(name) = next_component(&mut rest) {
            match name.as_slice() {
                b"." => continue,
                b".." => {
                    // The root is never popped; a missing name is taken back before a real directory is.
                    if missing.pop().is_none() && passed.len() > 1 {
                        passed.pop();
                    }
                    continue;
                }
                _ => {}
            }
            let name = OsString::from_vec(name);
            if !missing.is_empty() {
                missing.push(name);
                continue;
            }
            let here = passed.last().expect("the root is never popped");
            let Some(node) = here.child(&name)? else {
                if on_missing == OnMissing::Fail {
                    return Err(MergedError::NotFound { path: path.to_owned() });
                }
                missing.push(name);
                continue;
            };
            // A slash after the name asks for a directory and follows a symlink in any case.
            let last = rest.is_empty();
            match node.place {
                Place::Dir(dir) => passed.push(dir),
                Place::Other { metadata, .. } if metadata.is_symlink() && (!last || follow_last) => {
                    symlinks += 1;
                    if symlinks > MAX_SYMLINKS {
                        return Err(MergedError::SymlinkLoop { path: path.to_owned() });
                    }
                    let mut target = node.read_link()?.into_vec();
                    if target.first() == Some(&b'/') {
                        passed.truncate(1);
                    }
                    target.append(&mut rest);
                    rest = target;
                }
                Place::Other { .. } if last => return Ok(Resolved::Found(node)),
                Place::Other { .. } => return Err(MergedError::NotADirectory { path: path.to_owned() }),
            }
        }
        let here = passed.pop().expect("the root is never popped");
        if missing.is_empty() {
            Ok(Resolved::Found(Node { place: Place::Dir(here) }))
        } else {
            Ok(Resolved::Missing { parent: here, rest: missing })
        }
    }
}

/// Takes the first component off `rest`; slashes that follow it stay.
fn next_component(rest: &mut Vec<u8>) -> Option<Vec<u8>> {
    let start = rest.iter().position(|byte| *byte != b'/')?;
    let end = rest[start..].iter().position(|byte| *byte == b'/').map_or(rest.len(), |len| start + len);
    let name = rest[start..end].to_vec();
    rest.drain(..end);
    Some(name)
}

/// How many of `trees` (topmost first) can be seen: those below one whose root is opaque can't.
fn count_visible(trees: &[Arc<OwnedFd>]) -> io::Result<usize> {
    for (index, tree) in trees.iter().enumerate() {
        if index + 1 < trees.len() && whiteout::is_opaque(tree)? {
            return Ok(index + 1);
        }
    }
    Ok(trees.len())
}

/// The first of `trees` (topmost first) that together are all that can be seen.
///
/// A layer may say that its *root* hides all lower layers. overlayfs doesn't look there, so whoever
/// mounts a stack leaves the hidden trees out.
pub fn visible_trees(trees: Vec<OwnedFd>) -> Result<Vec<OwnedFd>, MergedError> {
    let mut visible = Vec::with_capacity(trees.len());
    for tree in trees {
        let opaque = whiteout::is_opaque(&tree).map_err(io_error("stat", Path::new("/")))?;
        visible.push(tree);
        if opaque {
            break;
        }
    }
    Ok(visible)
}

fn io_error(op: &'static str, path: &Path) -> impl FnOnce(io::Error) -> MergedError {
    let path = path.to_owned();
    move |source| MergedError::Io { op, path, source }
}

impl Dir {
    /// Where it is, every symlink resolved; absolute.
    pub fn path(&self) -> &Path {
        &self.0.path
    }

    /// Metadata of the topmost of the directories that make it up.
    pub fn metadata(&self) -> &Metadata {
        &self.0.metadata
    }

    /// Its extended attributes, without the overlay's own.
    pub fn xattrs(&self) -> Result<Vec<Xattr>, MergedError> {
        let Some(top) = self.0.parts.first() else { return Ok(Vec::new()) };
        let all = xattr::all_at(top, c"").map_err(io_error("read attributes of", self.path()))?;
        Ok(whiteout::without_overlay(all))
    }

    /// Names in it, sorted by bytes.
    pub fn entries(&self) -> Result<Vec<Entry>, MergedError> {
        let read = |part: &Arc<OwnedFd>| -> io::Result<Vec<(Entry, bool)>> {
            let mut entries = Vec::new();
            sys::dir::for_each(sys::dir::reopen(part)?, |name, file_type| {
                let removed = match file_type {
                    None | Some(FileType::CharDevice) => {
                        whiteout::is_whiteout(&file::metadata_at(part, name)?)
                    }
                    Some(_) => false,
                };
                entries.push((Entry { name: name.to_owned(), file_type }, removed));
                Ok(())
            })?;
            Ok(entries)
        };
        let read = |part| read(part).map_err(io_error("read directory", self.path()));
        if let [only] = &*self.0.parts {
            let mut entries: Vec<Entry> =
                read(only)?.into_iter().filter(|(_, removed)| !removed).map(|(entry, _)| entry).collect();
            entries.sort_unstable();
            return Ok(entries);
        }
        let mut merged = BTreeMap::new();
        for part in &self.0.parts {
            for (entry, removed) in read(part)? {
                merged.entry(entry.name).or_insert((entry.file_type, removed));
            }
        }
        let visible = merged.into_iter().filter(|(_, (_, removed))| !removed);
        Ok(visible.map(|(name, (file_type, _))| Entry { name, file_type }).collect())
    }

    /// What has `name` here (one component, not followed); nothing when there is none.
    pub fn child(&self, name: &OsStr) -> Result<Option<Node>, MergedError> {
        let path = self.path().join(name);
        let bytes = name.as_bytes();
        let Some(name) = CString::new(bytes)
            .ok()
            .filter(|_| !matches!(bytes, b"" | b"." | b"..") && !bytes.contains(&b'/'))
        else {
            return Err(io_error("look up", &path)(Errno::INVAL.into()));
        };
        self.child_by_name(&name, path)
    }

    fn child_by_name(&self, name: &CStr, path: PathBuf) -> Result<Option<Node>, MergedError> {
        let mut parts: Vec<Arc<OwnedFd>> = Vec::new();
        let mut topmost = None;
        for (index, part) in self.0.parts.iter().enumerate() {
            let metadata = match file::metadata_at(part, name) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                other => other.map_err(io_error("stat", &path))?,
            };
            if !metadata.is_dir() {
                if topmost.is_none() && !whiteout::is_whiteout(&metadata) {
                    let parent = part.clone();
                    return Ok(Some(Node {
                        place: Place::Other { parent, name: name.to_owned(), path, metadata },
                    }));
                }
                break;
            }
            let dir = file::open_dir_at(part, name).map_err(io_error("open", &path))?;
            topmost.get_or_insert(metadata);
            let more = index + 1 < self.0.parts.len();
            let opaque = more && whiteout::is_opaque(&dir).map_err(io_error("read attributes of", &path))?;
            parts.push(Arc::new(dir));
            if opaque {
                break;
            }
        }
        let Some(metadata) = topmost else { return Ok(None) };
        let dir = Dir(Arc::new(DirParts { parts: parts.into(), path, metadata }));
        Ok(Some(Node { place: Place::Dir(dir) }))
    }
}

impl Node {
    /// Where it is, every symlink on the way resolved; absolute.
    pub fn path(&self) -> &Path {
        match &self.place {
            Place::Dir(dir) => dir.path(),
            Place::Other { path, .. } => path,
        }
    }

    /// Its metadata.
    pub fn metadata(&self) -> &Metadata {
        match &self.place {
            Place::Dir(dir) => dir.metadata(),
            Place::Other { metadata, .. } => metadata,
        }
    }

    /// The directory that it is, if it is one.
    pub fn as_dir(&self) -> Option<&Dir> {
        match &self.place {
            Place::Dir(dir) => Some(dir),
            Place::Other { .. } => None,
        }
    }

    /// Its extended attributes, without the overlay's own.
    pub fn xattrs(&self) -> Result<Vec<Xattr>, MergedError> {
        match &self.place {
            Place::Dir(dir) => dir.xattrs(),
            Place::Other { parent, name, path, .. } => {
                let all = xattr::all_at(parent, name).map_err(io_error("read attributes of", path))?;
                Ok(whiteout::without_overlay(all))
            }
        }
    }

    /// The target, if it is a symlink.
    pub fn read_link(&self) -> Result<OsString, MergedError> {
        let error = io_error("read link", self.path());
        match &self.place {
            Place::Dir(_) => Err(error(Errno::INVAL.into())),
            Place::Other { parent, name, .. } => file::read_link_at(parent, name.as_c_str()).map_err(error),
        }
    }

    /// Opens it for reading, if it is a regular file.
    pub fn open_file(&self) -> Result<OwnedFd, MergedError> {
        match &self.place {
            Place::Other { parent, name, path, metadata } if metadata.is_file() => {
                file::open_file_at(parent, name.as_c_str()).map_err(io_error("open", path))
            }
            _ => Err(MergedError::NotAFile { path: self.path().to_owned() }),
        }
    }

    /// Opens it as a place (`O_PATH`): in the topmost tree that has it.
    pub fn open_path(&self) -> Result<OwnedFd, MergedError> {
        use rustix::fs::{Mode, OFlags};
        let opened = match &self.place {
            Place::Dir(dir) => match dir.0.parts.first() {
                Some(top) => top.as_fd().try_clone_to_owned(),
                None => Err(Errno::NOENT.into()),
            },
            Place::Other { parent, name, .. } => {
                let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                rustix::fs::openat(parent, name.as_c_str(), flags, Mode::empty()).map_err(io::Error::from)
            }
        };
        opened.map_err(io_error("open", self.path()))
    }
}
