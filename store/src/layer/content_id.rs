//! The identity of a layer's content.

use std::cell::RefCell;
use std::collections::HashMap;
use std::ffi::CString;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::Arc;

use rayon::prelude::*;
use sys::file::{self, FileType, Identity, Metadata, Timestamp};
use sys::xattr::Xattr;

use super::walk::{self, Other, Step, WalkError};
use crate::{ContentId, RunWindow};

/// Why a content ID couldn't be computed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ContentIdError {
    /// Directories are nested deeper than is walked.
    #[error("`{}` is nested too deeply for a layer", path.display())]
    TooDeep {
        /// The path in the tree.
        path: PathBuf,
    },
    /// The tree can't be read.
    #[error("cannot {op} `{}` of the layer", path.display())]
    Read {
        /// What was attempted.
        op: &'static str,
        /// The path in the tree.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
}

impl From<WalkError> for ContentIdError {
    fn from(error: WalkError) -> Self {
        match error {
            WalkError::TooDeep { path } => Self::TooDeep { path },
            WalkError::Io { op, path, source } => Self::Read { op, path, source },
        }
    }
}

/// Changes with the encoding: an ID of another one must not be taken for equal.
const CONTEXT: &str = "calque 2026-11 layer content id, version 1";

/// A blake3 over all that the layer at `tree` is: paths, types, modes, owners, link targets, hard-link
/// groups, extended attributes, bytes, and times.
///
/// A time within `window`, during which the step ran, counts as "now", whichever it is; one outside was
/// chosen and counts exactly. As in the layer's tar, a plain root says nothing and sockets don't exist.
pub fn content_id(tree: BorrowedFd<'_>, window: Option<RunWindow>) -> Result<ContentId, ContentIdError> {
    let mut content = Content {
        hasher: blake3::Hasher::new_derive_key(CONTEXT),
        window,
        first_names: HashMap::new(),
        batch: Batch::default(),
    };
    walk::walk(tree, &mut |step| content.step(step))?;
    content.flush()?;
    Ok(ContentId::from_bytes(*content.hasher.finalize().as_bytes()))
}

/// Entries in order, and the files among them that wait to be digested side by side.
#[derive(Default)]
struct Batch {
    encoded: Vec<u8>,
    /// Where in `encoded` the 32 bytes of each file's digest belong.
    files: Vec<(usize, File)>,
    dirs: usize,
    size_bytes: u64,
}

struct File {
    dir: Arc<OwnedFd>,
    name: CString,
    path: Vec<u8>,
}

impl Batch {
    /// Bounds memory, and descriptors: each directory with a waiting file is one.
    fn is_full(&self) -> bool {
        self.files.len() >= 512
            || self.dirs >= 64
            || self.size_bytes >= 64 << 20
            || self.encoded.len() >= 1 << 20
    }
}

struct Content {
    hasher: blake3::Hasher,
    window: Option<RunWindow>,
    first_names: HashMap<Identity, Vec<u8>>,
    batch: Batch,
}

/// What an entry is, as one byte.
#[derive(Clone, Copy)]
enum Tag {
    Root = 1,
    Dir,
    Opaque,
    Whiteout,
    File,
    HardLink,
    Symlink,
    Fifo,
    CharDevice,
    BlockDevice,
}

impl Content {
    fn step(&mut self, step: Step<'_>) -> Result<(), ContentIdError> {
        match step {
            Step::Root { metadata, xattrs } => {
                self.begin(Tag::Root, b"");
                self.metadata(metadata, &xattrs);
            }
            Step::Dir { path, metadata, xattrs } => {
                self.begin(Tag::Dir, path);
                self.metadata(metadata, &xattrs);
            }
            Step::Opaque { path } => self.begin(Tag::Opaque, path),
            Step::Whiteout { path } => self.begin(Tag::Whiteout, path),
            Step::Other(other) => self.other(&other)?,
        }
        if self.batch.is_full() { self.flush() } else { Ok(()) }
    }

    fn other(&mut self, other: &Other<'_>) -> Result<(), ContentIdError> {
        let Other { path, dir, name, metadata } = other;
        if metadata.links > 1 {
            if let Some(first) = self.first_names.get(&metadata.identity) {
                let first = first.clone();
                self.begin(Tag::HardLink, path);
                self.bytes(&first);
                return Ok(());
            }
            self.first_names.insert(metadata.identity, path.to_vec());
        }
        let tag = match metadata.file_type {
            FileType::Regular => Tag::File,
            FileType::Symlink => Tag::Symlink,
            FileType::Fifo => Tag::Fifo,
            FileType::CharDevice => Tag::CharDevice,
            FileType::BlockDevice => Tag::BlockDevice,
            FileType::Socket | FileType::Directory => return Ok(()),
        };
        self.begin(tag, path);
        self.metadata(metadata, &other.xattrs()?);
        match tag {
            Tag::File => {
                let at = self.batch.encoded.len();
                self.batch.encoded.extend_from_slice(&[0; 32]);
                if self.batch.files.last().is_none_or(|(_, last)| !Arc::ptr_eq(&last.dir, dir)) {
                    self.batch.dirs += 1;
                }
                self.batch.size_bytes += metadata.size_bytes;
                let file = File { dir: Arc::clone(dir), name: (*name).to_owned(), path: path.to_vec() };
                self.batch.files.push((at, file));
            }
            Tag::Symlink => {
                let target = file::read_link_at(dir, *name).map_err(walk::io_error("read link", path))?;
                self.bytes(target.as_bytes());
            }
            Tag::CharDevice | Tag::BlockDevice => {
                self.number(u64::from(metadata.device.0));
                self.number(u64::from(metadata.device.1));
            }
            _ => {}
        }
        Ok(())
    }

    fn begin(&mut self, tag: Tag, path: &[u8]) {
        self.batch.encoded.push(tag as u8);
        self.bytes(path);
    }

    fn metadata(&mut self, metadata: &Metadata, xattrs: &[Xattr]) {
        self.number(u64::from(metadata.mode));
        self.number(u64::from(metadata.owner.uid));
        self.number(u64::from(metadata.owner.gid));
        if self.is_now(metadata.mtime) {
            self.batch.encoded.push(0);
        } else {
            self.batch.encoded.push(1);
            self.number(metadata.mtime.seconds as u64);
            self.number(u64::from(metadata.mtime.nanoseconds));
        }
        self.number(xattrs.len() as u64);
        for Xattr { name, value } in xattrs {
            self.bytes(name.to_bytes());
            self.bytes(value);
        }
    }

    fn is_now(&self, mtime: Timestamp) -> bool {
        self.window.is_some_and(|window| (window.start_ns..=window.end_ns).contains(&mtime.as_nanos()))
    }

    fn number(&mut self, number: u64) {
        self.batch.encoded.extend_from_slice(&number.to_le_bytes());
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.number(bytes.len() as u64);
        self.batch.encoded.extend_from_slice(bytes);
    }

    fn flush(&mut self) -> Result<(), ContentIdError> {
        let Batch { mut encoded, files, .. } = std::mem::take(&mut self.batch);
        let digests = files
            .par_iter()
            .map(|(_, file)| digest(file))
            .collect::<Result<Vec<[u8; 32]>, ContentIdError>>()?;
        for ((at, _), digest) in files.iter().zip(digests) {
            encoded[*at..*at + 32].copy_from_slice(&digest);
        }
        self.hasher.update(&encoded);
        Ok(())
    }
}

thread_local! {
    /// The block of this thread: page faults cost more than a small file.
    static BLOCK: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

fn digest(file: &File) -> Result<[u8; 32], ContentIdError> {
    let error = |op| walk::io_error(op, &file.path);
    let opened = file::open_file_at(&file.dir, &*file.name).map_err(error("open"))?;
    BLOCK.with_borrow_mut(|block| {
        block.resize(256 * 1024, 0);
        let mut hasher = blake3::Hasher::new();
        loop {
            let len = rustix::io::retry_on_intr(|| rustix::io::read(&opened, &mut block[..]))
                .map_err(|errno| error("read")(io::Error::from(errno)))?;
            if len == 0 {
                return Ok(*hasher.finalize().as_bytes());
            }
            hasher.update(&block[..len]);
        }
    })
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::fd::AsFd;
    use std::path::Path;

    use super::*;
    use crate::random_tree::open;

    const WINDOW: RunWindow = RunWindow { start_ns: 1_000, end_ns: 2_000_000_000 };

    /// A directory with one change made to a tree that is otherwise always the same.
    fn id(window: Option<RunWindow>, change: impl FnOnce(&Path)) -> ContentId {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("tree");
        fs::create_dir_all(root.join("d/e")).unwrap();
        fs::write(root.join("d/f"), "text").unwrap();
        fs::write(root.join("d/g"), "text").unwrap();
        std::os::unix::fs::symlink("f", root.join("d/l")).unwrap();
        for path in ["d/e", "d/f", "d/g", "d/l", "d"] {
            set_time(&root.join(path), 1);
        }
        change(&root);
        content_id(open(&root).as_fd(), window).unwrap()
    }

    fn set_time(path: &Path, seconds: i64) {
        file::set_mtime_at(rustix::fs::CWD, path, Timestamp::from_seconds(seconds)).unwrap();
    }

    #[test]
    fn times_within_the_run_count_as_now() {
        let base = id(Some(WINDOW), |_| {});
        assert_eq!(base, id(Some(WINDOW), |root| set_time(&root.join("d/f"), 2)));
        assert_ne!(base, id(Some(WINDOW), |root| set_time(&root.join("d/f"), 3)));
        assert_ne!(
            id(Some(WINDOW), |root| set_time(&root.join("d/f"), 978_307_200)),
            id(Some(WINDOW), |root| set_time(&root.join("d/f"), 1_009_843_200)),
        );
        assert_ne!(id(None, |_| {}), id(None, |root| set_time(&root.join("d/f"), 2)));
        assert_ne!(base, id(None, |_| {}));
    }

    #[test]
    fn each_part_of_the_content_counts() {
        let link = |root: &Path| {
            fs::remove_file(root.join("d/g")).unwrap();
            fs::hard_link(root.join("d/f"), root.join("d/g")).unwrap();
            set_time(&root.join("d"), 1);
        };
        let changes: [&dyn Fn(&Path); 7] = [
            &|_| {},
            &|root| {
                fs::write(root.join("d/f"), "tExt").unwrap();
                set_time(&root.join("d/f"), 1);
            },
            &|root| file::set_mode_at(open(root), "d/f", 0o4755).unwrap(),
            &|root| {
                fs::rename(root.join("d/f"), root.join("d/h")).unwrap();
                set_time(&root.join("d"), 1);
            },
            &|root| {
                fs::remove_file(root.join("d/l")).unwrap();
                std::os::unix::fs::symlink("g", root.join("d/l")).unwrap();
                set_time(&root.join("d/l"), 1);
                set_time(&root.join("d"), 1);
            },
            &|root| {
                sys::xattr::set_at(open(root), c"d", c"user.a", b"1").unwrap();
            },
            &link,
        ];
        let ids: Vec<ContentId> = changes.iter().map(|change| id(None, change)).collect();
        for (index, one) in ids.iter().enumerate() {
            assert_eq!(ids.iter().position(|other| other == one), Some(index));
        }
        assert_eq!(ids[0], id(None, |_| {}));
    }

    #[test]
    #[ignore = "root: owners are part of the content"]
    fn root_the_encoding_has_not_drifted() {
        // Recorded IDs in stores would become misses: a change needs a new version in `CONTEXT`.
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("f"), "text").unwrap();
        set_time(&dir.path().join("f"), 1);
        file::set_mode_at(open(dir.path()), "f", 0o644).unwrap();
        file::set_mode_at(open(dir.path()), ".", 0o755).unwrap();
        assert_eq!(
            content_id(open(dir.path()).as_fd(), None).unwrap().to_string(),
            "cffc50bd390cd6cea0de0fadfe78ada1670e848dd20ea69c0b5b40a6ee1d803d"
        );
    }
}
