//! The bytes of a file into another: shared where the file system can, holes kept, else copied.

use std::io;
use std::os::fd::AsFd;

use rustix::fs::{SeekFrom, copy_file_range, ftruncate, ioctl_ficlone, seek};
use rustix::io::Errno;

/// Most bytes that one call is asked to copy.
const CHUNK_LEN: usize = 1 << 30;

/// Copies the first `size_bytes` of `source` into the new empty file `into`. Fewer are an error.
pub(crate) fn copy(source: impl AsFd, into: impl AsFd, size_bytes: u64) -> io::Result<()> {
    let (source, into) = (source.as_fd(), into.as_fd());
    if size_bytes == 0 {
        return Ok(());
    }
    if ioctl_ficlone(into, source).is_ok() {
        return Ok(());
    }
    let mut at = 0;
    while at < size_bytes {
        // ENXIO: only a hole is left. A file system that knows no holes says that all is data.
        let data = match seek(source, SeekFrom::Data(at)) {
            Ok(data) => data.min(size_bytes),
            Err(Errno::NXIO) => size_bytes,
            Err(Errno::INVAL) => at,
            Err(error) => return Err(error.into()),
        };
        if data == size_bytes {
            break;
        }
        let end = match seek(source, SeekFrom::Hole(data)) {
            Ok(end) => end.min(size_bytes),
            Err(_) => size_bytes,
        };
        copy_range(source, into, data, end)?;
        at = end;
    }
    Ok(ftruncate(into, size_bytes)?)
}

fn copy_range(source: impl AsFd + Copy, into: impl AsFd + Copy, mut at: u64, end: u64) -> io::Result<()> {
    while at < end {
        let len = usize::try_from(end - at).unwrap_or(CHUNK_LEN).min(CHUNK_LEN);
        let (mut from, mut to) = (at, at);
        match copy_file_range(source, Some(&mut from), into, Some(&mut to), len) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(done) => at += done as u64,
            Err(Errno::INTR) => {}
            Err(Errno::XDEV | Errno::NOSYS | Errno::INVAL | Errno::OPNOTSUPP | Errno::PERM) => {
                return copy_by_hand(source, into, at, end);
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Across file systems, where the kernel doesn't.
fn copy_by_hand(source: impl AsFd, into: impl AsFd, mut at: u64, end: u64) -> io::Result<()> {
    let mut block = vec![0; 256 * 1024];
    while at < end {
        let len = usize::try_from(end - at).unwrap_or(block.len()).min(block.len());
        let len = rustix::io::retry_on_intr(|| rustix::io::pread(&source, &mut block[..len], at))?;
        if len == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let mut done = 0;
        while done < len {
            done +=
                rustix::io::retry_on_intr(|| rustix::io::pwrite(&into, &block[done..len], at + done as u64))?;
        }
        at += len as u64;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::os::unix::fs::{FileExt, MetadataExt};

    use super::*;

    #[test]
    fn content_and_holes_are_kept() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("from"), dir.path().join("to"));
        let file = File::create(&from).unwrap();
        file.write_all_at(b"begin", 0).unwrap();
        file.write_all_at(b"middle", 3 << 20).unwrap();
        file.set_len(8 << 20).unwrap();
        copy(File::open(&from).unwrap(), File::create(&to).unwrap(), 8 << 20).unwrap();
        assert!(fs::read(&from).unwrap() == fs::read(&to).unwrap());
        assert!(fs::metadata(&to).unwrap().blocks() * 512 <= 1 << 20, "the holes are holes");

        let by_hand = File::create(dir.path().join("by-hand")).unwrap();
        copy_by_hand(File::open(&from).unwrap(), &by_hand, 0, 4 << 20).unwrap();
        assert!(fs::read(&from).unwrap()[..4 << 20] == fs::read(dir.path().join("by-hand")).unwrap());
    }

    #[test]
    fn a_file_that_shrank_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("from"), dir.path().join("to"));
        fs::write(&from, "1234").unwrap();
        assert!(copy_by_hand(File::open(&from).unwrap(), File::create(&to).unwrap(), 0, 5).is_err());
    }
}
