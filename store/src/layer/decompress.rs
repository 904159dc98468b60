//! Reading what may be compressed, by its content and within this process.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek};

use super::reader::TarReader;

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

impl Compression {
    /// What the first bytes of a stream say.
    fn of(start: &[u8]) -> Self {
        const MAGIC: [(&[u8], Compression); 4] = [
            (b"\x1f\x8b\x08", Compression::Gzip),
            (b"\x28\xb5\x2f\xfd", Compression::Zstd),
            (b"\xfd7zXZ\0", Compression::Xz),
            (b"BZh", Compression::Bzip2),
        ];
        let is_skippable_frame =
            start.len() >= 4 && start[0] & 0xf0 == 0x50 && start[1..4] == *b"\x2a\x4d\x18";
        if is_skippable_frame {
            return Self::Zstd;
        }
        MAGIC.iter().find(|(magic, _)| start.starts_with(magic)).map_or(Self::Identity, |(_, found)| *found)
    }
}

/// A zstd stream that wants a larger window than this is refused: it is memory (the format's own default limit).
const ZSTD_WINDOW_LOG_MAX: u32 = 27;
/// The same for xz: what its largest preset needs is 65 MiB.
const XZ_MEMORY_LIMIT: u64 = 128 << 20;

/// Tells by the first bytes how `reader` is compressed, and reads what is inside.
pub fn decompress<'a>(
    reader: Box<dyn Read + Send + 'a>,
) -> io::Result<(Compression, Box<dyn Read + Send + 'a>)> {
    let mut reader = reader;
    let mut start = Vec::new();
    (&mut reader).take(6).read_to_end(&mut start)?;
    let compression = Compression::of(&start);
    let reader = BufReader::with_capacity(128 * 1024, io::Cursor::new(start).chain(reader));
    Ok((compression, decoder(compression, reader)?))
}

fn decoder<'a>(
    compression: Compression,
    reader: impl BufRead + Send + 'a,
) -> io::Result<Box<dyn Read + Send + 'a>> {
    Ok(match compression {
        Compression::Identity => Box::new(reader),
        Compression::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(reader)),
        Compression::Zstd => {
            let mut decoder = zstd::Decoder::with_buffer(reader)?;
            decoder.window_log_max(ZSTD_WINDOW_LOG_MAX)?;
            Box::new(decoder)
        }
        Compression::Xz => {
            let stream =
                liblzma::stream::Stream::new_stream_decoder(XZ_MEMORY_LIMIT, liblzma::stream::CONCATENATED)?;
            Box::new(liblzma::bufread::XzDecoder::new_stream(reader, stream))
        }
        Compression::Bzip2 => Box::new(bzip2::bufread::MultiBzDecoder::new(reader)),
    })
}

/// Whether `file` is a tar, compressed or not: what ADD unpacks. The file is read from its start and
/// left there.
pub fn detect_archive(file: &File) -> io::Result<Option<Compression>> {
    let mut start = file;
    start.rewind()?;
    let found = {
        let (compression, reader) = decompress(Box::new(file))?;
        // A file that only begins like a compressed one is no archive, and no error.
        match TarReader::new(reader).next() {
            Ok(Some(_)) => Some(compression),
            Ok(None) | Err(_) => None,
        }
    };
    start.rewind()?;
    Ok(found)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn compressed(compression: Compression, bytes: &[u8]) -> Vec<u8> {
        match compression {
            Compression::Identity => bytes.to_vec(),
            Compression::Gzip => {
                let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
                encoder.write_all(bytes).unwrap();
                encoder.finish().unwrap()
            }
            Compression::Zstd => zstd::encode_all(bytes, 1).unwrap(),
            Compression::Xz => {
                let mut encoder = liblzma::write::XzEncoder::new(Vec::new(), 0);
                encoder.write_all(bytes).unwrap();
                encoder.finish().unwrap()
            }
            Compression::Bzip2 => {
                let mut encoder = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
                encoder.write_all(bytes).unwrap();
                encoder.finish().unwrap()
            }
        }
    }

    const ALL: [Compression; 5] =
        [Compression::Identity, Compression::Gzip, Compression::Zstd, Compression::Xz, Compression::Bzip2];

    /// Gives one byte at a time.
    struct Slow(io::Cursor<Vec<u8>>);

    impl Read for Slow {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let len = buffer.len().min(1);
            self.0.read(&mut buffer[..len])
        }
    }

    #[test]
    fn all_members_of_a_stream_are_read_whatever_its_form() {
        for compression in ALL {
            let twice = [compressed(compression, b"one "), compressed(compression, b"two")].concat();
            let (found, mut reader) = decompress(Box::new(Slow(io::Cursor::new(twice)))).unwrap();
            let mut text = String::new();
            reader.read_to_string(&mut text).unwrap();
            assert_eq!((found, text.as_str()), (compression, "one two"));
        }
    }

    #[test]
    fn a_stream_that_is_cut_off_is_an_error() {
        for compression in &ALL[1..] {
            let mut bytes = compressed(*compression, &[7; 100_000]);
            bytes.truncate(bytes.len() - 3);
            let (_, mut reader) = decompress(Box::new(io::Cursor::new(bytes))).unwrap();
            assert!(reader.read_to_end(&mut Vec::new()).is_err(), "{compression:?}");
        }
    }

    #[test]
    fn only_a_tar_is_an_archive() {
        let mut tar = Vec::new();
        super::super::header::Header {
            path: b"f",
            kind: super::super::header::Kind::File { size_bytes: 0 },
            mode: 0o644,
            owner: sys::file::Owner::ROOT,
            mtime: sys::file::Timestamp::from_seconds(0),
            xattrs: &[],
        }
        .write(&mut tar);
        for compression in ALL {
            for (content, expected) in [(tar.as_slice(), Some(compression)), (b"#!/bin/sh\n", None)] {
                let mut file = tempfile::tempfile().unwrap();
                file.write_all(&compressed(compression, content)).unwrap();
                assert_eq!(detect_archive(&file).unwrap(), expected, "{compression:?}");
                assert_eq!(file.stream_position().unwrap(), 0);
            }
        }
        assert_eq!(detect_archive(&tempfile::tempfile().unwrap()).unwrap(), None);
    }
}
