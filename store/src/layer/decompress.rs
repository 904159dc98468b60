//! Reading what may be compressed, by its content and within this process.

use std::fs::File;
use std::io::{self, Read};

/// How a stream is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// Not at all.
    Identity,
    /// gzip (RFC 1952), of any number of members.
    Gzip,
    /// zstd (RFC 8878), of any number of frames.
    Zstd,
    /// xz.
    Xz,
    /// bzip2.
    Bzip2,
}

/// Tells by the first bytes how `reader` is compressed, and reads what is inside.
pub fn decompress<'a>(
    reader: Box<dyn Read + Send + 'a>,
) -> io::Result<(Compression, Box<dyn Read + Send + 'a>)> {
    let _ = reader;
    todo!()
}

/// Whether `file` is a tar, compressed or not: what ADD unpacks. The file is read from its start and
/// left there.
pub fn detect_archive(file: &File) -> io::Result<Option<Compression>> {
    let _ = file;
    todo!()
}
