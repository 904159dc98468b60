//! What the files of a build context looked like when they were last digested.
//!
//! One file for each context root, read as a whole and replaced as a whole:
//!
//! ```text
//! magic and version        20 bytes
//! for each file, sorted    path length u16, path; then 84 bytes:
//!                          dev u64, ino u64, size u64, mode u32, mtime and ctime (seconds i64, nanoseconds u32),
//!                          blake3 of the content
//! blake3 of all that       32 bytes
//! ```
//!
//! Numbers are little-endian. Paths are sorted by component, as a depth-first walk with sorted names meets
//! them. A file that doesn't end in its own checksum is no index: it is as good as none.

use std::cmp::Ordering;
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use sys::file::{Metadata, Timestamp};

/// Why an index couldn't be written.
#[derive(Debug, thiserror::Error)]
#[error("cannot write the stat index `{}`", path.display())]
pub struct SaveError {
    path: PathBuf,
    source: io::Error,
}

const MAGIC: &[u8; 20] = b"calque stat index 1\n";
const FIXED_LEN: usize = 84;
/// How long before a scan a file must have been left alone for its times to tell a later change: the
/// coarsest file systems count in two seconds.
const RACY_SECONDS: i64 = 2;

/// Digests of files by path and by what `stat` said of them. Read as a whole; see [`NewStatIndex`].
#[derive(Debug, Default)]
pub struct StatIndex {
    bytes: Vec<u8>,
    /// Where in `bytes` each entry begins.
    entries: Vec<u32>,
}

impl StatIndex {
    /// Reads the index in `file`. One that is missing, damaged or of another version is empty.
    pub fn load(file: &Path) -> Self {
        std::fs::read(file).ok().and_then(Self::parse).unwrap_or_default()
    }

    fn parse(bytes: Vec<u8>) -> Option<Self> {
        let end = bytes.len().checked_sub(32)?;
        if !bytes.starts_with(MAGIC) || blake3::hash(&bytes[..end]).as_bytes() != &bytes[end..] {
            return None;
        }
        let mut entries = Vec::with_capacity(end / (FIXED_LEN + 32));
        let mut at = MAGIC.len();
        while at < end {
            let len = u16::from_le_bytes(bytes.get(at..at + 2)?.try_into().ok()?);
            entries.push(u32::try_from(at).ok()?);
            at += 2 + usize::from(len) + FIXED_LEN;
        }
        (at == end).then_some(Self { bytes, entries })
    }

    /// How many files it knows.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether it knows none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Looks up files, fastest in the order of a depth-first walk with sorted names.
    pub fn cursor(&self) -> Cursor<'_> {
        Cursor { index: self, next: 0 }
    }

    fn entry(&self, index: usize) -> (&[u8], &[u8]) {
        let at = self.entries[index] as usize;
        let len = usize::from(u16::from_le_bytes([self.bytes[at], self.bytes[at + 1]]));
        let fixed = at + 2 + len;
        (&self.bytes[at + 2..fixed], &self.bytes[fixed..fixed + FIXED_LEN])
    }
}

/// Looks files up in a [`StatIndex`]; each thread has its own.
#[derive(Clone, Debug)]
pub struct Cursor<'a> {
    index: &'a StatIndex,
    next: usize,
}

impl Cursor<'_> {
    /// blake3 of the file at `path` (bytes, relative to the context's root), if it is known to be unchanged.
    pub fn find(&mut self, path: &[u8], metadata: &Metadata) -> Option<[u8; 32]> {
        let at = self.position(path)?;
        self.next = at + 1;
        let (_, fixed) = self.index.entry(at);
        let (stat, digest) = fixed.split_at(FIXED_LEN - 32);
        (stat == encode_stat(metadata)).then(|| digest.try_into().expect("an entry ends in 32 bytes"))
    }

    fn position(&mut self, path: &[u8]) -> Option<usize> {
        // A walk in order finds each file right behind the last one, or a few removed ones further.
        for at in self.next..(self.next + 4).min(self.index.len()) {
            match compare_paths(self.index.entry(at).0, path) {
                Ordering::Less => {}
                Ordering::Equal => return Some(at),
                Ordering::Greater => break,
            }
        }
        self.index
            .entries
            .binary_search_by(|at| {
                let at = *at as usize;
                let len = usize::from(u16::from_le_bytes([self.index.bytes[at], self.index.bytes[at + 1]]));
                compare_paths(&self.index.bytes[at + 2..at + 2 + len], path)
            })
            .ok()
    }
}

/// By component: a slash comes before all else.
fn compare_paths(one: &[u8], other: &[u8]) -> Ordering {
    let differs = one.iter().zip(other).position(|(one, other)| one != other);
    let key = |byte: u8| if byte == b'/' { 0 } else { byte };
    match differs {
        Some(at) => key(one[at]).cmp(&key(other[at])),
        None => one.len().cmp(&other.len()),
    }
}

fn encode_stat(metadata: &Metadata) -> [u8; FIXED_LEN - 32] {
    let mut bytes = [0; FIXED_LEN - 32];
    let mut at = 0;
    let mut put = |field: &[u8]| {
        bytes[at..at + field.len()].copy_from_slice(field);
        at += field.len();
    };
    put(&metadata.identity.dev.to_le_bytes());
    put(&metadata.identity.ino.to_le_bytes());
    put(&metadata.size_bytes.to_le_bytes());
    put(&metadata.mode.to_le_bytes());
    for time in [metadata.mtime, metadata.ctime] {
        put(&time.seconds.to_le_bytes());
        put(&time.nanoseconds.to_le_bytes());
    }
    bytes
}

/// The index to be: collects digests during a scan.
#[derive(Debug)]
pub struct NewStatIndex {
    scan_start: Timestamp,
    bytes: Vec<u8>,
    /// Where in `bytes` each entry begins.
    entries: Vec<usize>,
}

impl NewStatIndex {
    /// For a scan that began at `scan_start`, before the first file was looked at. What changed less than
    /// two seconds before isn't kept: it could change again without a trace (git's "racily clean").
    pub fn new(scan_start: Timestamp) -> Self {
        Self { scan_start, bytes: Vec::new(), entries: Vec::new() }
    }

    /// Keeps the digest of the file at `path` with its metadata from *before* it was read.
    pub fn insert(&mut self, path: &[u8], metadata: &Metadata, blake3: [u8; 32]) {
        let trusted_before = Timestamp { seconds: self.scan_start.seconds - RACY_SECONDS, ..self.scan_start };
        let Ok(len) = u16::try_from(path.len()) else { return };
        if metadata.mtime >= trusted_before || metadata.ctime >= trusted_before {
            return;
        }
        self.entries.push(self.bytes.len());
        self.bytes.extend_from_slice(&len.to_le_bytes());
        self.bytes.extend_from_slice(path);
        self.bytes.extend_from_slice(&encode_stat(metadata));
        self.bytes.extend_from_slice(&blake3);
    }

    /// Adds what another thread collected in the same scan.
    pub fn append(&mut self, other: Self) {
        let offset = self.bytes.len();
        self.bytes.extend_from_slice(&other.bytes);
        self.entries.extend(other.entries.into_iter().map(|at| at + offset));
    }

    /// Puts the index in place of the one in `file`, at once or not at all.
    pub fn save(self, file: &Path) -> Result<(), SaveError> {
        let failed = |source| SaveError { path: file.to_owned(), source };
        let bytes = self.encode();
        let mut name = file.file_name().ok_or_else(|| failed(io::ErrorKind::InvalidInput.into()))?.to_owned();
        name.push(format!(".{}.new", rustix::process::getpid().as_raw_nonzero()));
        let temporary = file.with_file_name(name);
        let write = || {
            File::create(&temporary)?.write_all(&bytes)?;
            std::fs::rename(&temporary, file)
        };
        write().map_err(|source| {
            // The first error is the one to report.
            let _ = std::fs::remove_file(&temporary);
            failed(source)
        })
    }

    fn encode(self) -> Vec<u8> {
        let Self { bytes, mut entries, .. } = self;
        let entry = |at: usize| {
            let len = usize::from(u16::from_le_bytes([bytes[at], bytes[at + 1]]));
            (&bytes[at + 2..at + 2 + len], &bytes[at..at + 2 + len + FIXED_LEN])
        };
        entries.sort_by(|one, other| compare_paths(entry(*one).0, entry(*other).0));
        entries.dedup_by(|one, other| entry(*one).0 == entry(*other).0);
        let mut out = Vec::with_capacity(MAGIC.len() + bytes.len() + 32);
        out.extend_from_slice(MAGIC);
        for at in entries {
            out.extend_from_slice(entry(at).1);
        }
        let checksum = blake3::hash(&out);
        out.extend_from_slice(checksum.as_bytes());
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCAN: Timestamp = Timestamp::from_seconds(1_000);

    fn metadata(ino: u64) -> Metadata {
        let dir = sys::RootDir::open(Path::new("/")).unwrap();
        let time = Timestamp { seconds: 900, nanoseconds: 7 };
        Metadata {
            identity: sys::file::Identity { dev: 3, ino },
            mtime: time,
            ctime: time,
            size_bytes: 5,
            mode: 0o644,
            ..sys::file::metadata(dir).unwrap()
        }
    }

    fn saved(paths: &[&str]) -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("index");
        let mut index = NewStatIndex::new(SCAN);
        for (ino, path) in paths.iter().enumerate() {
            index.insert(path.as_bytes(), &metadata(ino as u64), [ino as u8; 32]);
        }
        index.save(&file).unwrap();
        (dir, file)
    }

    #[test]
    fn what_was_saved_is_found_in_any_order() {
        let paths = ["a", "a/b", "a/b/c", "a-", "a.b", "b/x", "b/y", "z"];
        let (dir, file) = saved(&paths);
        let index = StatIndex::load(&file);
        assert_eq!(index.len(), paths.len());
        let mut cursor = index.cursor();
        for order in [[0, 1, 2, 3, 4, 5, 6, 7], [7, 0, 6, 1, 5, 2, 4, 3]] {
            for at in order {
                assert_eq!(cursor.find(paths[at].as_bytes(), &metadata(at as u64)), Some([at as u8; 32]));
            }
        }
        assert_eq!(cursor.find(b"a/c", &metadata(0)), None);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "no temporary file is left");
    }

    #[test]
    fn any_difference_of_the_metadata_is_a_change() {
        let (_dir, file) = saved(&["f"]);
        let index = StatIndex::load(&file);
        let old = metadata(0);
        let later = Timestamp { nanoseconds: 8, ..old.mtime };
        let other = |ino, dev| sys::file::Identity { dev, ino };
        for changed in [
            Metadata { mtime: later, ..old },
            Metadata { ctime: later, ..old },
            Metadata { size_bytes: 6, ..old },
            Metadata { mode: 0o755, ..old },
            Metadata { identity: other(1, 3), ..old },
            Metadata { identity: other(0, 4), ..old },
        ] {
            assert_eq!(index.cursor().find(b"f", &changed), None);
        }
        assert!(index.cursor().find(b"f", &old).is_some());
    }

    #[test]
    fn what_changed_just_before_the_scan_is_not_trusted() {
        let dir = tempfile::tempdir().unwrap();
        let mut index = NewStatIndex::new(SCAN);
        let racy = Timestamp { seconds: 998, nanoseconds: 0 };
        let clean = Timestamp { seconds: 997, nanoseconds: 999_999_999 };
        index.insert(b"racy mtime", &Metadata { mtime: racy, ..metadata(0) }, [0; 32]);
        index.insert(b"racy ctime", &Metadata { ctime: racy, ..metadata(0) }, [0; 32]);
        index.insert(b"clean", &Metadata { ctime: clean, mtime: clean, ..metadata(0) }, [0; 32]);
        let file = dir.path().join("index");
        index.save(&file).unwrap();
        let index = StatIndex::load(&file);
        assert_eq!(index.len(), 1);
        assert_eq!(index.entry(0).0, b"clean");
    }

    #[test]
    fn a_damaged_index_is_empty() {
        let (_dir, file) = saved(&["a", "b"]);
        let whole = std::fs::read(&file).unwrap();
        for at in 0..whole.len() {
            let mut damaged = whole.clone();
            damaged[at] ^= 1;
            assert!(StatIndex::parse(damaged).is_none(), "byte {at}");
            assert!(StatIndex::parse(whole[..at].to_vec()).is_none(), "cut at {at}");
        }
        assert!(StatIndex::load(Path::new("/nonexistent")).is_empty());
    }
}
