//! What ADD does beyond COPY: it unpacks local archives.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::sync::{Arc, Mutex};

use store::layer::{ApplyLimits, decompress, detect_archive};

use crate::cache::Interruption;
use crate::error::StepError;
use crate::source_tree::{Found, SourceError, file_digest};
use crate::step::copier::Copier;
use crate::step::copy::drain;

/// Unpacks `found` below `target` if it is a tar, compressed or not: its content says so, not its name (D-99). Says
/// whether it was one.
pub(crate) fn unpack(copier: &Copier<'_>, found: Found<'_>, target: &Path) -> Result<bool, Interruption> {
    if !found.entry.metadata.is_file() {
        return Ok(false);
    }
    let (file, xattrs) = copier.open(&found)?;
    let archive = |source| StepError::Archive { path: found.path.clone(), source };
    if detect_archive(&file).map_err(archive)?.is_none() {
        return Ok(false);
    }
    let hasher = Arc::new(Mutex::new(blake3::Hasher::new()));
    let hashed = Hashed { file: file.try_clone().map_err(archive)?, hasher: Arc::clone(&hasher) };
    let unpacked = {
        let (_, mut tar) = decompress(Box::new(hashed)).map_err(archive)?;
        copier.writer.extract(
            &mut *tar,
            target,
            copier.owner,
            &copier.parent_attributes(),
            ApplyLimits::default(),
        )
    };
    // What stands behind the archive's end is part of the file that was keyed.
    let mut rest = Hashed { file, hasher: Arc::clone(&hasher) };
    drain(&mut rest).map_err(|source| {
        copier.read_failed(SourceError::Io { op: "read", path: found.path.clone(), source })
    })?;
    let content = *hasher.lock().expect("no thread panics while it hashes").finalize().as_bytes();
    // First: an archive that changed while it was unpacked may well look broken.
    copier.verify(&found, file_digest(content, &xattrs))?;
    unpacked.map_err(|source| StepError::Unpack { path: found.path.clone(), source })?;
    Ok(true)
}

/// Hashes what is read from a file, wherever the reader stops.
struct Hashed {
    file: File,
    hasher: Arc<Mutex<blake3::Hasher>>,
}

impl Read for Hashed {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read(buffer)?;
        self.hasher.lock().expect("no thread panics while it hashes").update(&buffer[..count]);
        Ok(count)
    }
}
