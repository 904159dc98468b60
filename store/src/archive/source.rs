//! Where an archive's files come from: a folder, or a tar that is looked at once and then read at will.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;

use super::LoadError;
use crate::blob::bounded_decompress;
use crate::file::OnPath;
use crate::id::random_hex;
use crate::layer::Compression;
use crate::lock::make_locked_file;
use crate::{FileError, Store};

/// Where an archive comes from.
pub enum Source<'a> {
    /// An OCI layout folder, or a file: an OCI layout tar or a docker archive, maybe compressed as a whole.
    Path(&'a Path),
    /// A stream of such a file.
    Reader(&'a mut (dyn Read + Send)),
}

/// The most files that an archive may have: a layer each, and a few documents for each image.
const MAX_ENTRIES: usize = 100_000;

/// The longest name in an archive.
const MAX_NAME: usize = 1024;

/// How many links may lead from a name to its file: old docker archives link layers that occur twice.
const MAX_LINKS: usize = 4;

/// A file of an archive and its size.
pub(super) type SizedReader<'a> = (Box<dyn Read + Send + 'a>, u64);

/// An archive whose files can be opened by name.
pub(super) enum Archive {
    Folder(PathBuf),
    Tar(TarFile),
}

pub(super) struct TarFile {
    file: File,
    path: PathBuf,
    entries: HashMap<String, Entry>,
    /// A copy of ours, removed with it.
    is_copy: bool,
}

enum Entry {
    File { offset: u64, size_bytes: u64 },
    Link(String),
}

impl Archive {
    pub(super) fn open(store: &Store, source: Source<'_>) -> Result<Self, LoadError> {
        let path = match source {
            Source::Reader(reader) => return Ok(Self::Tar(copy(store, Box::new(reader), Path::new("-"))?)),
            Source::Path(path) => path,
        };
        let found = fs::metadata(path).on("open", path)?;
        if found.is_dir() {
            return Ok(Self::Folder(path.to_owned()));
        }
        let mut file = File::open(path).on("open", path)?;
        let mut head = [0_u8; 4];
        let is_compressed = found.is_file()
            && file.read_at(&mut head, 0).on("read", path)? == 4
            && (head[..2] == *b"\x1f\x8b"
                || head == *b"\x28\xb5\x2f\xfd"
                || head[..3] == *b"BZh"
                || head == *b"\xfd7zX");
        if is_compressed || !found.is_file() {
            return Ok(Self::Tar(copy(store, Box::new(&mut file), path)?));
        }
        Ok(Self::Tar(TarFile::new(file, path.to_owned(), false)?))
    }

    pub(super) fn path(&self) -> &Path {
        match self {
            Self::Folder(path) => path,
            Self::Tar(tar) => &tar.path,
        }
    }

    /// The file `name` and its size; nothing where there is none.
    pub(super) fn file(&self, name: &str) -> Result<Option<SizedReader<'_>>, LoadError> {
        let name = safe_name(name).ok_or_else(|| LoadError::UnsafeName { name: name.to_owned() })?;
        match self {
            Self::Folder(folder) => {
                // The user named this folder: a symlink in it is theirs. But nothing that blocks or has effects is read.
                let path = folder.join(&name);
                let flags = (OFlags::NONBLOCK | OFlags::NOCTTY).bits() as i32;
                let opened = fs::OpenOptions::new().read(true).custom_flags(flags).open(&path);
                let Some(file) = crate::file::if_found(opened).on("open", &path)? else { return Ok(None) };
                let found = file.metadata().on("open", &path)?;
                if !found.is_file() {
                    return Err(
                        FileError::new("read", path, io::Error::from(io::ErrorKind::InvalidInput)).into()
                    );
                }
                Ok(Some((Box::new(file), found.len())))
            }
            Self::Tar(tar) => {
                let Some((offset, size_bytes)) = tar.find(&name) else { return Ok(None) };
                Ok(Some((Box::new(Part { file: &tar.file, offset, end: offset + size_bytes }), size_bytes)))
            }
        }
    }

    /// A document of at most `limit` bytes; nothing where there is none.
    pub(super) fn document(&self, name: &str, limit: usize) -> Result<Option<Vec<u8>>, LoadError> {
        let Some((reader, size_bytes)) = self.file(name)? else { return Ok(None) };
        if size_bytes > limit as u64 {
            return Err(LoadError::TooLarge { name: name.to_owned(), size_bytes, limit_bytes: limit as u64 });
        }
        let mut bytes = Vec::new();
        reader.take(limit as u64).read_to_end(&mut bytes).on("read", self.path().join(name))?;
        Ok(Some(bytes))
    }
}

/// Unpacks a compressed or streamed tar into a file that can be read at will.
fn copy(store: &Store, reader: Box<dyn Read + Send + '_>, from: &Path) -> Result<TarFile, LoadError> {
    let (_, mut reader) = bounded_decompress(reader).on("read", from)?;
    let (path, mut file) = make_locked_file(&store.layout().tmp(), &random_hex::<8>())?;
    let copied = io::copy(&mut reader, &mut file).on("copy to", &path);
    let tar = copied.map_err(LoadError::from).and_then(|_| TarFile::new(file, path.clone(), true));
    if tar.is_err() {
        let _ = fs::remove_file(&path);
    }
    tar
}

impl TarFile {
    fn new(file: File, path: PathBuf, is_copy: bool) -> Result<Self, LoadError> {
        let mut entries = HashMap::new();
        let not_tar =
            |source: io::Error| LoadError::NotAnArchive { path: path.clone(), source: Some(source) };
        let mut start = &file;
        io::Seek::rewind(&mut start).on("read", &path)?;
        let mut tar = tar::Archive::new(&file);
        for entry in tar.entries_with_seek().map_err(not_tar)? {
            let entry = entry.map_err(not_tar)?;
            let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
            if name.len() > MAX_NAME || entries.len() == MAX_ENTRIES {
                return Err(LoadError::TooManyFiles { limit: MAX_ENTRIES });
            }
            // What has an unsafe name can't be asked for.
            let Some(name) = safe_name(&name) else { continue };
            let kind = entry.header().entry_type();
            if kind.is_file() || kind.is_contiguous() {
                let file = Entry::File { offset: entry.raw_file_position(), size_bytes: entry.size() };
                entries.insert(name, file);
            } else if kind.is_symlink() || kind.is_hard_link() {
                let Some(target) = entry.link_name_bytes() else { continue };
                let target = String::from_utf8_lossy(&target).into_owned();
                let whole = if kind.is_hard_link() { Some(target) } else { link_target(&name, &target) };
                if let Some(target) = whole.and_then(|target| safe_name(&target)) {
                    entries.insert(name, Entry::Link(target));
                }
            }
        }
        Ok(Self { file, path, entries, is_copy })
    }

    fn find(&self, name: &str) -> Option<(u64, u64)> {
        let mut name = name;
        for _ in 0..=MAX_LINKS {
            match self.entries.get(name)? {
                Entry::File { offset, size_bytes } => return Some((*offset, *size_bytes)),
                Entry::Link(target) => name = target,
            }
        }
        None
    }
}

impl Drop for TarFile {
    fn drop(&mut self) {
        if self.is_copy {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// A range of a file, read without moving the file's own position.
struct Part<'a> {
    file: &'a File,
    offset: u64,
    end: u64,
}

impl Read for Part<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.end - self.offset).unwrap_or(usize::MAX);
        let wanted = buffer.len().min(left);
        let count = self.file.read_at(&mut buffer[..wanted], self.offset)?;
        self.offset += count as u64;
        Ok(count)
    }
}

/// The name without `./`; nothing for one that is absolute, empty or goes up.
pub(super) fn safe_name(name: &str) -> Option<String> {
    if name.starts_with('/') || name.contains('\0') || name.len() > MAX_NAME {
        return None;
    }
    let parts: Vec<&str> = name.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
    if parts.is_empty() || parts.contains(&"..") {
        return None;
    }
    Some(parts.join("/"))
}

/// Where a relative link in the archive leads, as a name in it.
fn link_target(from: &str, target: &str) -> Option<String> {
    if target.starts_with('/') {
        return None;
    }
    let mut parts: Vec<&str> = from.split('/').collect();
    parts.pop();
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop()?;
            }
            part => parts.push(part),
        }
    }
    Some(parts.join("/"))
}

/// Whether a layer's bytes are worth keeping as they came: others are compressed first.
pub(super) fn is_kept_as_it_came(compression: Compression) -> bool {
    matches!(compression, Compression::Gzip | Compression::Zstd)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_leave_the_archive_are_refused() {
        assert_eq!(safe_name("./blobs//sha256/x").as_deref(), Some("blobs/sha256/x"));
        for bad in ["", ".", "/etc/passwd", "../x", "a/../../x", "a/..", "a\0b"] {
            assert_eq!(safe_name(bad), None, "{bad:?}");
        }
        assert_eq!(link_target("b/layer.tar", "../a/layer.tar").as_deref(), Some("a/layer.tar"));
        assert_eq!(link_target("b/layer.tar", "../../x"), None);
        assert_eq!(link_target("b/layer.tar", "/etc/shadow"), None);
    }
}
