//! Reading a tar from elsewhere: ustar, PAX and the GNU forms in use, with bounds on all that is held in memory.
//!
//! The `tar` crate reads a PAX header of any size into memory; here what describes an entry is at most
//! [`MAX_EXTENSION_LEN`], as in Go's reader.

use std::ffi::CString;
use std::io::{self, BufReader, Read};

use sys::file::{FileType, Timestamp};
use sys::xattr::Xattr;

use super::header::{RECORD_LEN, padding};

/// Bytes of a PAX header or GNU long name at most.
const MAX_EXTENSION_LEN: u64 = 1024 * 1024;

/// Reads the entries of a tar, one after the other.
pub(crate) struct TarReader<R> {
    input: BufReader<R>,
    /// What is left of the current entry's data, and the padding after it.
    data_left: u64,
    padding_left: usize,
}

/// One entry. Nothing in it has been checked beyond its form.
#[derive(Debug)]
pub(crate) struct Member {
    pub(crate) path: Vec<u8>,
    pub(crate) kind: MemberKind,
    pub(crate) link: Vec<u8>,
    pub(crate) mode: u32,
    pub(crate) uid: u64,
    pub(crate) gid: u64,
    pub(crate) size_bytes: u64,
    pub(crate) mtime: Timestamp,
    pub(crate) device: (u32, u32),
    pub(crate) xattrs: Vec<Xattr>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MemberKind {
    HardLink,
    /// Anything but a socket.
    Is(FileType),
    /// GNU's sparse formats.
    Sparse,
    Unknown,
}

/// What the headers before an entry say of it.
#[derive(Default)]
struct Extensions {
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    size_bytes: Option<u64>,
    uid: Option<u64>,
    gid: Option<u64>,
    mtime: Option<Timestamp>,
    xattrs: Vec<Xattr>,
    is_sparse: bool,
}

fn bad(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

impl<R: Read> TarReader<R> {
    pub(crate) fn new(input: R) -> Self {
        Self { input: BufReader::with_capacity(128 * 1024, input), data_left: 0, padding_left: 0 }
    }

    /// The next entry, whose data can then be [read](Read); what is left of the last one is skipped.
    /// A stream that ends between entries needs no trailer.
    pub(crate) fn next(&mut self) -> io::Result<Option<Member>> {
        let mut extensions = Extensions::default();
        let mut seen_any = false;
        loop {
            self.skip_data()?;
            let Some(header) = self.header()? else {
                return if seen_any { Err(bad("the tar ends within an entry")) } else { Ok(None) };
            };
            let size_bytes = number(&header[124..136])?;
            match header[156] {
                b'x' => {
                    let records = self.extension(size_bytes)?;
                    parse_pax(&records, &mut extensions)?;
                }
                b'L' => extensions.path = Some(until_nul(&self.extension(size_bytes)?).to_vec()),
                b'K' => extensions.link = Some(until_nul(&self.extension(size_bytes)?).to_vec()),
                // Defaults for all that follows: comments of git archive, and nothing docker takes.
                b'g' => drop(self.extension(size_bytes)?),
                type_flag => return self.member(&header, type_flag, size_bytes, extensions).map(Some),
            }
            seen_any = true;
        }
    }

    /// Reads to the end, so that whoever hashes the stream has seen all of it; at most `limit_bytes`.
    pub(crate) fn drain(&mut self, limit_bytes: u64) -> io::Result<()> {
        self.skip_data()?;
        let drained = io::copy(&mut (&mut self.input).take(limit_bytes), &mut io::sink())?;
        if drained == limit_bytes { Err(bad("too much follows the end of the tar")) } else { Ok(()) }
    }

    fn member(
        &mut self,
        header: &[u8; RECORD_LEN],
        type_flag: u8,
        size_bytes: u64,
        extensions: Extensions,
    ) -> io::Result<Member> {
        let path = extensions.path.unwrap_or_else(|| {
            let name = until_nul(&header[..100]);
            // GNU's own format has times where POSIX has the prefix.
            let prefix = if &header[257..263] == b"ustar\0" { until_nul(&header[345..500]) } else { b"" };
            if prefix.is_empty() { name.to_vec() } else { [prefix, b"/", name].concat() }
        });
        let kind = match type_flag {
            // Before ustar a directory was a file whose name ends in a slash.
            0 if path.ends_with(b"/") => MemberKind::Is(FileType::Directory),
            b'0' | 0 | b'7' => MemberKind::Is(FileType::Regular),
            b'1' => MemberKind::HardLink,
            b'2' => MemberKind::Is(FileType::Symlink),
            b'3' => MemberKind::Is(FileType::CharDevice),
            b'4' => MemberKind::Is(FileType::BlockDevice),
            b'5' => MemberKind::Is(FileType::Directory),
            b'6' => MemberKind::Is(FileType::Fifo),
            b'S' => MemberKind::Sparse,
            _ => MemberKind::Unknown,
        };
        let kind = if extensions.is_sparse { MemberKind::Sparse } else { kind };
        let has_data =
            matches!(kind, MemberKind::Is(FileType::Regular) | MemberKind::Sparse | MemberKind::Unknown);
        let size_bytes = if has_data { extensions.size_bytes.unwrap_or(size_bytes) } else { 0 };
        self.begin_data(size_bytes)?;
        let is_device = matches!(kind, MemberKind::Is(FileType::CharDevice | FileType::BlockDevice));
        let device =
            |field: &[u8]| u32::try_from(number(field)?).map_err(|_| bad("a device number is too large"));
        Ok(Member {
            path,
            kind,
            link: extensions.link.unwrap_or_else(|| until_nul(&header[157..257]).to_vec()),
            mode: (number(&header[100..108])? & 0o7777) as u32,
            uid: extensions.uid.map_or_else(|| number(&header[108..116]), Ok)?,
            gid: extensions.gid.map_or_else(|| number(&header[116..124]), Ok)?,
            size_bytes,
            mtime: match extensions.mtime {
                Some(mtime) => mtime,
                None => Timestamp::from_seconds(signed_number(&header[136..148])?),
            },
            device: if is_device { (device(&header[329..337])?, device(&header[337..345])?) } else { (0, 0) },
            xattrs: extensions.xattrs,
        })
    }

    /// The next header, its sum checked; nothing at the trailer or the end of the stream.
    fn header(&mut self) -> io::Result<Option<[u8; RECORD_LEN]>> {
        let mut header = [0; RECORD_LEN];
        let mut filled = 0;
        while filled < RECORD_LEN {
            match self.input.read(&mut header[filled..]) {
                Ok(0) if filled == 0 => return Ok(None),
                Ok(0) => return Err(bad("the tar ends within a header")),
                Ok(len) => filled += len,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        if header == [0; RECORD_LEN] {
            return Ok(None);
        }
        let stored = number(&header[148..156])?;
        let sum = |value: fn(u8) -> i64| -> i64 {
            header
                .iter()
                .enumerate()
                .map(|(at, byte)| value(if (148..156).contains(&at) { b' ' } else { *byte }))
                .sum()
        };
        // Old programs added up signed bytes.
        if ![sum(i64::from), sum(|byte| i64::from(byte as i8))].contains(&(stored as i64)) {
            return Err(bad("a header's checksum is wrong"));
        }
        Ok(Some(header))
    }

    fn extension(&mut self, size_bytes: u64) -> io::Result<Vec<u8>> {
        if size_bytes > MAX_EXTENSION_LEN {
            return Err(bad("an extended header is too long"));
        }
        self.begin_data(size_bytes)?;
        let mut bytes = vec![0; size_bytes as usize];
        self.read_exact(&mut bytes)?;
        Ok(bytes)
    }

    fn begin_data(&mut self, size_bytes: u64) -> io::Result<()> {
        if size_bytes > i64::MAX as u64 {
            return Err(bad("an entry's size is too large"));
        }
        self.data_left = size_bytes;
        self.padding_left = padding(size_bytes);
        Ok(())
    }

    fn skip_data(&mut self) -> io::Result<()> {
        let skip = self.data_left + self.padding_left as u64;
        if skip > 0 {
            let skipped = io::copy(&mut (&mut self.input).take(skip), &mut io::sink())?;
            // The padding of the last entry is not missed.
            if skipped < self.data_left {
                return Err(bad("the tar ends within an entry"));
            }
        }
        (self.data_left, self.padding_left) = (0, 0);
        Ok(())
    }
}

impl<R: Read> Read for TarReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let len = usize::try_from(self.data_left).map_or(buffer.len(), |left| left.min(buffer.len()));
        if len == 0 {
            return Ok(0);
        }
        let done = self.input.read(&mut buffer[..len])?;
        if done == 0 {
            return Err(bad("the tar ends within an entry"));
        }
        self.data_left -= done as u64;
        Ok(done)
    }
}

fn until_nul(field: &[u8]) -> &[u8] {
    field.split(|byte| *byte == 0).next().unwrap_or_default()
}

fn number(field: &[u8]) -> io::Result<u64> {
    u64::try_from(signed_number(field)?).map_err(|_| bad("a number is negative"))
}

/// Octal digits, or GNU's base 256: the first bit set, then a two's complement.
fn signed_number(field: &[u8]) -> io::Result<i64> {
    if field[0] & 0x80 != 0 {
        let negative = field[0] & 0x40 != 0;
        let first = if negative { i64::from(field[0] | 0x80) - 256 } else { i64::from(field[0] & 0x3f) };
        return field[1..].iter().try_fold(first, |value, byte| {
            value
                .checked_mul(256)
                .and_then(|value| value.checked_add(i64::from(*byte)))
                .ok_or_else(|| bad("a number is too large"))
        });
    }
    let digits = until_nul(field).trim_ascii();
    digits.iter().try_fold(0_i64, |value, digit| match digit {
        b'0'..=b'7' => Ok(value * 8 + i64::from(digit - b'0')),
        _ => Err(bad("a number is not octal")),
    })
}

/// `<length> <key>=<value>\n`, again and again; the length counts itself.
fn parse_pax(mut records: &[u8], extensions: &mut Extensions) -> io::Result<()> {
    while !records.is_empty() {
        let malformed = || bad("a PAX record is malformed");
        let space = records.iter().take(20).position(|byte| *byte == b' ').ok_or_else(malformed)?;
        let len = decimal(&records[..space]).ok_or_else(malformed)?;
        let record = usize::try_from(len)
            .ok()
            .and_then(|len| records.get(space + 1..len))
            .and_then(|record| record.strip_suffix(b"\n"))
            .ok_or_else(malformed)?;
        let equals = record.iter().position(|byte| *byte == b'=').ok_or_else(malformed)?;
        let (key, value) = (&record[..equals], &record[equals + 1..]);
        records = &records[len as usize..];
        let unsigned = || decimal(value).ok_or_else(malformed);
        match key {
            b"path" if value.is_empty() => extensions.path = None,
            b"path" => extensions.path = Some(value.to_vec()),
            b"linkpath" if value.is_empty() => extensions.link = None,
            b"linkpath" => extensions.link = Some(value.to_vec()),
            b"size" => extensions.size_bytes = Some(unsigned()?),
            b"uid" => extensions.uid = Some(unsigned()?),
            b"gid" => extensions.gid = Some(unsigned()?),
            b"mtime" => extensions.mtime = Some(parse_time(value).ok_or_else(malformed)?),
            _ if key.starts_with(b"GNU.sparse.") => extensions.is_sparse = true,
            _ => {
                if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
                    let name = CString::new(name).map_err(|_| malformed())?;
                    extensions.xattrs.retain(|xattr| xattr.name != name);
                    extensions.xattrs.push(Xattr { name, value: value.to_vec() });
                }
            }
        }
    }
    Ok(())
}

fn decimal(text: &[u8]) -> Option<u64> {
    let all_digits = !text.is_empty() && text.iter().all(u8::is_ascii_digit);
    all_digits.then(|| std::str::from_utf8(text).ok()?.parse().ok())?
}

/// Seconds, maybe negative, maybe with decimals of which nine count.
fn parse_time(text: &[u8]) -> Option<Timestamp> {
    let (negative, text) = match text.strip_prefix(b"-") {
        Some(text) => (true, text),
        None => (false, text),
    };
    let (whole, fraction) = match text.iter().position(|byte| *byte == b'.') {
        Some(point) => (&text[..point], &text[point + 1..]),
        None => (text, &b""[..]),
    };
    let seconds = i64::try_from(decimal(whole)?).ok()?;
    if !fraction.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let nanoseconds =
        (0..9).fold(0, |value, at| value * 10 + u32::from(fraction.get(at).map_or(0, |digit| digit - b'0')));
    Some(match (negative, nanoseconds) {
        (false, nanoseconds) => Timestamp { seconds, nanoseconds },
        (true, 0) => Timestamp::from_seconds(-seconds),
        (true, nanoseconds) => Timestamp { seconds: -seconds - 1, nanoseconds: 1_000_000_000 - nanoseconds },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_octal_or_base_256() {
        assert_eq!(number(b"0000644\0").unwrap(), 0o644);
        assert_eq!(number(b"   644 \0").unwrap(), 0o644);
        assert_eq!(number(&[0; 8]).unwrap(), 0);
        assert_eq!(number(&[0x80, 0, 0, 0, 1, 0, 0, 0]).unwrap(), 1 << 24);
        assert_eq!(signed_number(&[0xff; 12]).unwrap(), -1);
        assert!(number(&[0xff; 12]).is_err());
        assert!(number(&[0x80, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]).is_err());
        assert!(number(b"00009\0").is_err());
    }

    #[test]
    fn times_before_1970_round_down() {
        let time = |text: &str| parse_time(text.as_bytes()).map(|time| (time.seconds, time.nanoseconds));
        assert_eq!(time("1.5"), Some((1, 500_000_000)));
        assert_eq!(time("-1.5"), Some((-2, 500_000_000)));
        assert_eq!(time("-1"), Some((-1, 0)));
        assert_eq!(time("7.1234567899"), Some((7, 123_456_789)));
        assert_eq!(time("1."), Some((1, 0)));
        for bad in ["", ".5", "x", "1.x", "--1", "99999999999999999999"] {
            assert_eq!(time(bad), None, "{bad}");
        }
    }

    #[test]
    fn malformed_records_are_errors() {
        for bad in ["5 a=b", "99 a=b\n", "0 \n", "6 ab\n", "x a=b\n", "18446744073709551615 a=b\n", "3 \n"] {
            assert!(parse_pax(bad.as_bytes(), &mut Extensions::default()).is_err(), "{bad:?}");
        }
        let mut extensions = Extensions::default();
        parse_pax(b"12 path=a/b\n11 uid=70\n\n", &mut extensions).unwrap_err();
        parse_pax(b"12 path=a/b\n13 uid=70000\n", &mut extensions).unwrap();
        assert_eq!((extensions.path.as_deref(), extensions.uid), (Some(&b"a/b"[..]), Some(70_000)));
    }

    #[test]
    fn an_extension_of_any_size_is_not_held() {
        let mut header = [0_u8; RECORD_LEN];
        header[..1].copy_from_slice(b"x");
        header[124..135].copy_from_slice(b"77777777777");
        header[156] = b'x';
        header[148..156].fill(b' ');
        let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
        header[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
        let error = TarReader::new(&header[..]).next().unwrap_err();
        assert_eq!(error.to_string(), "an extended header is too long");
    }
}
