//! A tree that COPY, ADD and bind mounts read from: a context folder, or the stacked layers of a stage.
//!
//! Directories are listed when somebody asks, each once, and what was seen is kept: key and copy speak of one and
//! the same walk. Bytes are read through the [`TreeReader`] alone, which can't leave its root.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, OnceLock};

use rayon::prelude::*;
use rustix::io::Errno;
use store::stat_index::{NewStatIndex, StatIndex};
use sys::file::{FileType, Metadata};
use sys::xattr::Xattr;

use crate::CancelToken;

/// Where a tree lies. Paths are relative to its root, without `.` and `..`; no component is a symlink that would
/// have to be followed.
pub(crate) trait TreeReader: Send + Sync {
    /// The entries of a directory, in any order, and its attributes.
    fn list(&self, dir: &Path) -> io::Result<Listing>;
    /// Opens a regular file for reading.
    fn open(&self, file: &Path) -> io::Result<File>;
    /// The extended attributes that a copy keeps, sorted by name.
    fn xattrs(&self, file: &File, path: &Path) -> io::Result<Vec<Xattr>>;
    /// What was known of the files before: their [`file_digest`]s.
    fn stat_index(&self) -> Option<&StatIndex> {
        None
    }
}

/// What a directory holds.
#[derive(Debug, Default)]
pub(crate) struct Listing {
    /// Sorted by the bytes of their names.
    pub(crate) entries: Vec<Entry>,
    /// The directory's own attributes.
    pub(crate) xattrs: Vec<Xattr>,
}

/// One name in a directory.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) name: OsString,
    pub(crate) metadata: Metadata,
    pub(crate) content: Content,
}

/// What is behind a name.
#[derive(Debug)]
pub(crate) enum Content {
    Dir(OnceLock<Listing>),
    File(OnceLock<[u8; 32]>),
    Symlink(OsString),
    /// A device, FIFO or socket: never opened.
    Special,
}

impl Entry {
    /// Describes `name`; `target` is asked for a symlink's only.
    pub(crate) fn new(
        name: OsString,
        metadata: Metadata,
        target: impl FnOnce() -> io::Result<OsString>,
    ) -> io::Result<Self> {
        let content = match metadata.file_type {
            FileType::Directory => Content::Dir(OnceLock::new()),
            FileType::Regular => Content::File(OnceLock::new()),
            FileType::Symlink => Content::Symlink(target()?),
            _ => Content::Special,
        };
        Ok(Self { name, metadata, content })
    }

    pub(crate) fn is_dir(&self) -> bool {
        matches!(self.content, Content::Dir(_))
    }

    /// The digest, once [`SourceTree::digest`] was there.
    pub(crate) fn digest(&self) -> Option<[u8; 32]> {
        match &self.content {
            Content::File(digest) => digest.get().copied(),
            _ => None,
        }
    }
}

/// Why a path of the tree could not be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SourceError {
    /// A file or directory can't be read.
    #[error("cannot {op} `{}`", path.display())]
    Io {
        /// What was tried.
        op: &'static str,
        /// On what, seen from the tree's root.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Symbolic links lead in a circle.
    #[error("too many levels of symbolic links at `{}`", path.display())]
    Loop {
        /// Where it was given up.
        path: PathBuf,
    },
}

/// An entry and its path from the root (empty for the root).
#[derive(Clone, Debug)]
pub(crate) struct Found<'a> {
    pub(crate) path: PathBuf,
    pub(crate) entry: &'a Entry,
}

/// Most symbolic links on one way, as in the kernel.
const LINK_LIMIT: u32 = 40;

/// A tree, listed on demand.
pub(crate) struct SourceTree {
    reader: Box<dyn TreeReader>,
    root: Entry,
    digesting: Mutex<()>,
    read_count: AtomicUsize,
}

impl SourceTree {
    /// `root` describes the root directory.
    pub(crate) fn new(reader: Box<dyn TreeReader>, root: Metadata) -> Self {
        let root = Entry { name: OsString::new(), metadata: root, content: Content::Dir(OnceLock::new()) };
        Self { reader, root, digesting: Mutex::new(()), read_count: AtomicUsize::new(0) }
    }

    pub(crate) fn reader(&self) -> &dyn TreeReader {
        &*self.reader
    }

    pub(crate) fn root(&self) -> Found<'_> {
        Found { path: PathBuf::new(), entry: &self.root }
    }

    /// What a directory holds; nothing for what is no directory.
    pub(crate) fn listing<'a>(&self, path: &Path, entry: &'a Entry) -> Result<&'a Listing, SourceError> {
        static NOTHING: Listing = Listing { entries: Vec::new(), xattrs: Vec::new() };
        let Content::Dir(listing) = &entry.content else { return Ok(&NOTHING) };
        if let Some(listing) = listing.get() {
            return Ok(listing);
        }
        let mut fresh = self.reader.list(path).map_err(|source| SourceError::Io {
            op: "read the directory",
            path: shown(path),
            source,
        })?;
        fresh.entries.sort_unstable_by(|a, b| a.name.as_bytes().cmp(b.name.as_bytes()));
        Ok(listing.get_or_init(|| fresh))
    }

    /// The names in a directory; none for what is no directory.
    pub(crate) fn children<'a>(&self, path: &Path, entry: &'a Entry) -> Result<&'a [Entry], SourceError> {
        Ok(&self.listing(path, entry)?.entries)
    }

    /// The child called `name`.
    fn child<'a>(
        &self,
        path: &Path,
        entry: &'a Entry,
        name: &OsStr,
    ) -> Result<Option<&'a Entry>, SourceError> {
        let children = self.children(path, entry)?;
        let at = children.binary_search_by(|child| child.name.as_bytes().cmp(name.as_bytes()));
        Ok(at.ok().map(|at| &children[at]))
    }

    /// What `path` names. Symbolic links on the way are followed inside the tree, the last one only where `follow`
    /// says so; `..` stops at the root.
    pub(crate) fn find(&self, path: &Path, follow: bool) -> Result<Option<Found<'_>>, SourceError> {
        let mut stack = vec![self.root()];
        let mut rest: Vec<OsString> = Vec::new();
        let mut links = 0;
        push_components(&mut rest, path);
        while let Some(name) = rest.pop() {
            if name == ".." {
                stack.truncate(stack.len().saturating_sub(1).max(1));
                continue;
            }
            let here = stack.last().expect("the root stays");
            let Some(child) = self.child(&here.path, here.entry, &name)? else { return Ok(None) };
            match &child.content {
                Content::Symlink(target) if !rest.is_empty() || follow => {
                    links += 1;
                    if links > LINK_LIMIT {
                        return Err(SourceError::Loop { path: here.path.join(&name) });
                    }
                    if target.as_bytes().starts_with(b"/") {
                        stack.truncate(1);
                    }
                    push_components(&mut rest, Path::new(target));
                }
                _ => {
                    let path = here.path.join(&name);
                    stack.push(Found { path, entry: child });
                }
            }
        }
        Ok(stack.pop())
    }

    /// Lists everything below an entry, on all cores.
    fn load(&self, path: &Path, entry: &Entry) -> Result<(), SourceError> {
        let children = self.children(path, entry)?;
        children
            .par_iter()
            .filter(|child| child.is_dir())
            .try_for_each(|child| self.load(&path.join(&child.name), child))
    }

    /// Lists everything below an entry beforehand, on all cores.
    pub(crate) fn preload(&self, found: &Found<'_>) -> Result<(), SourceError> {
        self.load(&found.path, found.entry)
    }

    /// Makes sure that the digests of `files` are known: paths with their entries, depth first in the order of names.
    /// Those whose `stat` is as it was when they were last read aren't read again; the others are, on all cores.
    pub(crate) fn digest(&self, files: &[(PathBuf, &Entry)], stop: &CancelToken) -> Result<(), SourceError> {
        let _one_at_a_time = self.digesting.lock().expect("no thread panics while it digests");
        let mut known = self.reader.stat_index().map(StatIndex::cursor);
        let mut unknown = Vec::new();
        for (path, entry) in files {
            let Content::File(digest) = &entry.content else { continue };
            if digest.get().is_some() {
                continue;
            }
            let bytes = path.as_os_str().as_bytes();
            match known.as_mut().and_then(|cursor| cursor.find(bytes, &entry.metadata)) {
                Some(found) => {
                    let _ = digest.set(found);
                }
                None => unknown.push((path, digest)),
            }
        }
        self.read_count.fetch_add(unknown.len(), Ordering::Relaxed);
        unknown.par_iter().try_for_each(|(path, digest)| {
            let _ = digest.set(self.read_digest(path, stop)?);
            Ok(())
        })
    }

    /// How many files had to be read for their digests.
    pub(crate) fn read_count(&self) -> usize {
        self.read_count.load(Ordering::Relaxed)
    }

    /// Puts every digest that is known now into `index`.
    pub(crate) fn collect_digests(&self, index: &mut NewStatIndex) {
        fn collect(path: &Path, entry: &Entry, index: &mut NewStatIndex) {
            match &entry.content {
                Content::Dir(listing) => {
                    for child in listing.get().into_iter().flat_map(|listing| &listing.entries) {
                        collect(&path.join(&child.name), child, index);
                    }
                }
                Content::File(digest) => {
                    if let Some(digest) = digest.get() {
                        index.insert(path.as_os_str().as_bytes(), &entry.metadata, *digest);
                    }
                }
                _ => {}
            }
        }
        collect(Path::new(""), &self.root, index);
    }

    fn read_digest(&self, path: &Path, stop: &CancelToken) -> Result<[u8; 32], SourceError> {
        let fail = |op| move |source| SourceError::Io { op, path: path.to_path_buf(), source };
        let file = self.reader.open(path).map_err(fail("open"))?;
        let content = content_digest(&mut Stoppable { inner: &file, stop }).map_err(fail("read"))?;
        let xattrs = self.reader.xattrs(&file, path).map_err(fail("read the attributes of"))?;
        Ok(file_digest(content, &xattrs))
    }
}

/// `.` where a path is the root itself.
pub(crate) fn shown(path: &Path) -> PathBuf {
    if path.as_os_str().is_empty() { PathBuf::from(".") } else { path.to_path_buf() }
}

/// Puts the components of `path` on a stack, the first one on top; empty ones and `.` are left out.
fn push_components(rest: &mut Vec<OsString>, path: &Path) {
    let parts = path.as_os_str().as_bytes().split(|&byte| byte == b'/');
    let named = parts.filter(|part| !matches!(*part, b"" | b"."));
    rest.extend(named.map(|part| OsStr::from_bytes(part).to_owned()).collect::<Vec<_>>().into_iter().rev());
}

/// Reads until the build is stopped: then every read fails.
pub(crate) struct Stoppable<'s, R> {
    pub(crate) inner: R,
    pub(crate) stop: &'s CancelToken,
}

impl<R: Read> Read for Stoppable<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.stop.is_cancelled() {
            return Err(Errno::CANCELED.into());
        }
        self.inner.read(buffer)
    }
}

/// blake3 of the bytes of `file`, read and never mapped (it may shrink meanwhile).
fn content_digest(file: &mut impl Read) -> io::Result<[u8; 32]> {
    thread_local! {
        static BUFFER: std::cell::RefCell<Vec<u8>> = const { std::cell::RefCell::new(Vec::new()) };
    }
    BUFFER.with_borrow_mut(|buffer| {
        buffer.resize(128 * 1024, 0);
        let mut hasher = blake3::Hasher::new();
        loop {
            match file.read(buffer) {
                Ok(0) => return Ok(*hasher.finalize().as_bytes()),
                Ok(count) => {
                    hasher.update(&buffer[..count]);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    })
}

/// A file's identity in keys: its content's blake3, or one of that and its attributes where it has any.
pub(crate) fn file_digest(content: [u8; 32], xattrs: &[Xattr]) -> [u8; 32] {
    if xattrs.is_empty() {
        return content;
    }
    let mut hasher = blake3::Hasher::new_derive_key("calque 2026: a file with extended attributes");
    hasher.update(&content);
    hasher.update(&xattrs_digest(xattrs).expect("there are some"));
    *hasher.finalize().as_bytes()
}

/// blake3 of extended attributes, nothing for none.
pub(crate) fn xattrs_digest(xattrs: &[Xattr]) -> Option<[u8; 32]> {
    if xattrs.is_empty() {
        return None;
    }
    let mut hasher = blake3::Hasher::new_derive_key("calque 2026: extended attributes");
    for Xattr { name, value } in xattrs {
        for part in [name.to_bytes(), value] {
            hasher.update(&(part.len() as u64).to_le_bytes());
            hasher.update(part);
        }
    }
    Some(*hasher.finalize().as_bytes())
}
