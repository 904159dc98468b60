//! Content-addressed blobs: read and checked on the way, or written, checked and then named.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use oci::{Digest, Hasher, HashingWriter};

use crate::FileError;
use crate::file::OnPath;
use crate::id::random_hex;
use crate::layer::{self, Compression};

/// What a blob isn't.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BlobError {
    /// Its bytes have another digest than its descriptor says.
    #[error("blob `{expected}` has digest `{found}`")]
    Digest {
        /// In the descriptor.
        expected: Digest,
        /// Of the bytes.
        found: Digest,
    },
    /// It is shorter or longer than its descriptor says.
    #[error("blob `{digest}` has {found} bytes, its descriptor says {expected}")]
    Size {
        /// Which blob.
        digest: Digest,
        /// In the descriptor.
        expected: u64,
        /// What there is.
        found: u64,
    },
}

/// Reads a blob and hashes it. Clones are one reader, so that what a decompressor left can be read after it.
#[derive(Clone)]
pub(crate) struct BlobReader<'a> {
    inner: Arc<Mutex<(Box<dyn Read + Send + 'a>, Hasher)>>,
}

impl<'a> BlobReader<'a> {
    pub(crate) fn new(inner: Box<dyn Read + Send + 'a>) -> Self {
        Self { inner: Arc::new(Mutex::new((inner, Hasher::new()))) }
    }

    /// Reads what is left; the digest and the count of all bytes.
    pub(crate) fn finish(mut self) -> io::Result<(Digest, u64)> {
        io::copy(&mut self, &mut io::sink())?;
        let inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        Ok((inner.1.clone().finish(), inner.1.size_bytes()))
    }
}

impl Read for BlobReader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let (reader, hasher) = &mut *self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let count = reader.read(buffer)?;
        hasher.update(&buffer[..count]);
        Ok(count)
    }
}

/// How often its own size a stream may unpack to, beyond [`FREE_BYTES`]: gzip itself can't do more than 1032.
const MAX_RATIO: u64 = 1100;

/// What any stream may unpack to.
const FREE_BYTES: u64 = 1 << 30;

/// Like [`layer::decompress`], but a stream that unpacks to far more than it takes ends in an error (rule R13).
pub(crate) fn bounded_decompress<'a>(
    reader: Box<dyn Read + Send + 'a>,
) -> io::Result<(Compression, Box<dyn Read + Send + 'a>)> {
    bounded_decompress_within(reader, FREE_BYTES)
}

fn bounded_decompress_within<'a>(
    reader: Box<dyn Read + Send + 'a>,
    free_bytes: u64,
) -> io::Result<(Compression, Box<dyn Read + Send + 'a>)> {
    let taken = Arc::new(AtomicU64::new(0));
    let counting = Counting { inner: reader, taken: Arc::clone(&taken) };
    let (compression, inner) = layer::decompress(Box::new(counting))?;
    Ok((compression, Box::new(Bounded { inner, taken, given: 0, free_bytes })))
}

struct Counting<'a> {
    inner: Box<dyn Read + Send + 'a>,
    taken: Arc<AtomicU64>,
}

impl Read for Counting<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.taken.fetch_add(count as u64, Ordering::Relaxed);
        Ok(count)
    }
}

struct Bounded<'a> {
    inner: Box<dyn Read + Send + 'a>,
    taken: Arc<AtomicU64>,
    given: u64,
    free_bytes: u64,
}

impl Read for Bounded<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.given += count as u64;
        if self.given > self.free_bytes + self.taken.load(Ordering::Relaxed).saturating_mul(MAX_RATIO) {
            let text = format!("it unpacks to more than {MAX_RATIO} times its size");
            return Err(io::Error::new(io::ErrorKind::InvalidData, text));
        }
        Ok(count)
    }
}

/// Whether a blob is what its descriptor says.
pub(crate) fn check(expected: (Digest, u64), found: (Digest, u64)) -> Result<(), BlobError> {
    if expected.1 != found.1 {
        return Err(BlobError::Size { digest: expected.0, expected: expected.1, found: found.1 });
    }
    if expected.0 != found.0 {
        return Err(BlobError::Digest { expected: expected.0, found: found.0 });
    }
    Ok(())
}

/// The folder `blobs/sha256` of an OCI layout.
#[derive(Debug)]
pub(crate) struct BlobFolder {
    path: PathBuf,
}

impl BlobFolder {
    /// Makes the folder where there is none.
    pub(crate) fn new(layout: &Path) -> Result<Self, FileError> {
        let path = layout.join("blobs/sha256");
        fs::create_dir_all(&path).on("make", &path)?;
        Ok(Self { path })
    }

    /// Writes a blob with what `fill` writes; where one of that digest and size is already, nothing happens.
    ///
    /// Only what has the right digest gets its name.
    pub(crate) fn put<E: From<FileError> + From<BlobError>>(
        &self,
        expected: (Digest, u64),
        fill: impl FnOnce(&mut dyn Write) -> Result<(), E>,
    ) -> Result<(), E> {
        let to = self.path.join(expected.0.hex());
        if fs::metadata(&to).is_ok_and(|found| found.is_file() && found.len() == expected.1) {
            return Ok(());
        }
        let made = self.path.join(format!(".{}", random_hex::<8>()));
        let file = OpenOptions::new().write(true).create_new(true).open(&made).on("make", &made)?;
        let written = write(file, &made, expected, fill)
            .and_then(|()| fs::rename(&made, &to).on("commit", &to).map_err(E::from));
        if written.is_err() {
            let _ = fs::remove_file(&made);
        }
        written
    }
}

fn write<E: From<FileError> + From<BlobError>>(
    file: File,
    path: &Path,
    expected: (Digest, u64),
    fill: impl FnOnce(&mut dyn Write) -> Result<(), E>,
) -> Result<(), E> {
    let mut out = HashingWriter::new(io::BufWriter::with_capacity(1 << 18, file));
    fill(&mut out)?;
    out.flush().on("write", path)?;
    let (_, digest, size_bytes) = out.finish();
    Ok(check(expected, (digest, size_bytes))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    enum Error {
        #[error(transparent)]
        File(#[from] FileError),
        #[error(transparent)]
        Blob(#[from] BlobError),
    }

    #[test]
    fn only_the_right_bytes_get_a_name() {
        let dir = tempfile::tempdir().unwrap();
        let folder = BlobFolder::new(dir.path()).unwrap();
        let expected = (Digest::of(b"right"), 5);
        let put = |bytes: &'static [u8]| {
            folder.put::<Error>(expected, |out| Ok(out.write_all(bytes).on("write", "blob")?))
        };
        assert!(matches!(put(b"wrong"), Err(Error::Blob(BlobError::Digest { .. }))));
        assert!(matches!(put(b"longer"), Err(Error::Blob(BlobError::Size { found: 6, .. }))));
        assert_eq!(fs::read_dir(&folder.path).unwrap().count(), 0);
        put(b"right").unwrap();
        assert_eq!(fs::read(folder.path.join(Digest::of(b"right").hex())).unwrap(), b"right");
        folder.put::<Error>(expected, |_| panic!("it is there")).unwrap();
    }

    #[test]
    fn a_bomb_ends_in_an_error_and_a_big_file_does_not() {
        let zeros = || io::repeat(0).take(64 << 20);
        let mut bomb = Vec::new();
        zstd::stream::copy_encode(zeros(), &mut bomb, 19).unwrap();
        assert!(bomb.len() * 2000 < 64 << 20, "{}", bomb.len());
        let (_, mut reader) = bounded_decompress_within(Box::new(&bomb[..]), 1 << 20).unwrap();
        let error = io::copy(&mut reader, &mut io::sink()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        let (_, mut reader) = bounded_decompress_within(Box::new(&bomb[..]), 64 << 20).unwrap();
        assert_eq!(io::copy(&mut reader, &mut io::sink()).unwrap(), 64 << 20);
        let (_, mut reader) = bounded_decompress_within(Box::new(zeros()), 0).unwrap();
        assert_eq!(io::copy(&mut reader, &mut io::sink()).unwrap(), 64 << 20);
    }

    #[test]
    fn a_reader_hashes_what_others_left() {
        let reader = BlobReader::new(Box::new(&b"blob and more"[..]));
        let mut head = [0; 4];
        reader.clone().read_exact(&mut head).unwrap();
        assert_eq!(reader.finish().unwrap(), (Digest::of(b"blob and more"), 13));
    }
}
