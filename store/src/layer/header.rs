//! Headers of a tar entry: ustar, and a PAX header before it where ustar can't say it; pure.
//!
//! ```text
//! [PAX header, its records]  ustar header, 512 bytes  [data, padded to 512]
//! ```
//!
//! User and group names are empty, unused numbers zero, PAX records sorted: the same entry always has the
//! same bytes.

use sys::file::{FileType, Owner, Timestamp};
use sys::xattr::Xattr;

/// The unit of a tar.
pub(crate) const RECORD_LEN: usize = 512;

/// What an entry of a tar says.
pub(crate) struct Header<'a> {
    /// Relative, a directory's with a slash at the end.
    pub(crate) path: &'a [u8],
    pub(crate) kind: Kind<'a>,
    pub(crate) mode: u32,
    pub(crate) owner: Owner,
    pub(crate) mtime: Timestamp,
    pub(crate) xattrs: &'a [Xattr],
}

/// What an entry is.
#[derive(Clone, Copy)]
pub(crate) enum Kind<'a> {
    File {
        size_bytes: u64,
    },
    HardLink {
        target: &'a [u8],
    },
    Symlink {
        target: &'a [u8],
    },
    /// Character or block device, fifo or directory.
    Node {
        file_type: FileType,
        device: (u32, u32),
    },
}

const NAME_LEN: usize = 100;
const PREFIX_LEN: usize = 155;
/// The largest numbers that 7 and 11 octal digits can say.
const MAX_7: u64 = 0o777_7777;
const MAX_11: u64 = 0o777_7777_7777;

impl Header<'_> {
    /// Appends the header, or both, to `out`.
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        let mut records: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
        let mut record = |key: &[u8], value: &[u8]| records.push((key.to_vec(), value.to_vec()));
        let (size_bytes, target) = match self.kind {
            Kind::File { size_bytes } => (size_bytes, &b""[..]),
            Kind::HardLink { target } | Kind::Symlink { target } => (0, target),
            Kind::Node { .. } => (0, &b""[..]),
        };
        let (prefix, name) = split(self.path).unwrap_or_else(|| {
            record(b"path", self.path);
            (b"", &self.path[..NAME_LEN])
        });
        let target = if target.len() > NAME_LEN {
            record(b"linkpath", target);
            &target[..NAME_LEN]
        } else {
            target
        };
        let mut number = |key: &[u8], value: u64, max: u64| {
            if value > max {
                record(key, value.to_string().as_bytes());
                0
            } else {
                value
            }
        };
        let uid = number(b"uid", u64::from(self.owner.uid), MAX_7);
        let gid = number(b"gid", u64::from(self.owner.gid), MAX_7);
        let size_bytes = number(b"size", size_bytes, MAX_11);
        let whole = u64::try_from(self.mtime.seconds).ok().filter(|seconds| *seconds <= MAX_11);
        if self.mtime.nanoseconds != 0 || whole.is_none() {
            record(b"mtime", decimal(self.mtime).as_bytes());
        }
        for Xattr { name, value } in self.xattrs {
            record(&[b"SCHILY.xattr.", name.to_bytes()].concat(), value);
        }
        if !records.is_empty() {
            records.sort_unstable();
            write_pax(&records, out);
        }
        let (type_flag, device) = match self.kind {
            Kind::File { .. } => (b'0', (0, 0)),
            Kind::HardLink { .. } => (b'1', (0, 0)),
            Kind::Symlink { .. } => (b'2', (0, 0)),
            Kind::Node { file_type, device } => match file_type {
                FileType::CharDevice => (b'3', device),
                FileType::BlockDevice => (b'4', device),
                FileType::Fifo => (b'6', (0, 0)),
                _ => (b'5', (0, 0)),
            },
        };
        write_ustar(
            &Ustar {
                name,
                prefix,
                type_flag,
                target,
                mode: self.mode,
                uid,
                gid,
                size_bytes,
                mtime: whole.unwrap_or(0),
                device,
            },
            out,
        );
    }
}

/// Cuts a path into ustar's prefix and name; nothing if it can't be.
fn split(path: &[u8]) -> Option<(&[u8], &[u8])> {
    if path.len() <= NAME_LEN {
        return Some((b"", path));
    }
    // The slash between them is implied. A directory's own slash at the end is not one to cut at.
    let first = path.len().checked_sub(NAME_LEN + 1)?;
    let last = PREFIX_LEN.min(path.len() - 2);
    let at = (first..=last).find(|at| path[*at] == b'/')?;
    Some((&path[..at], &path[at + 1..]))
}

/// Seconds with as many decimals as needed; before 1970 negative, as PAX has it.
fn decimal(time: Timestamp) -> String {
    let (sign, seconds, nanoseconds) = if time.seconds < 0 && time.nanoseconds != 0 {
        ("-", time.seconds + 1, 1_000_000_000 - time.nanoseconds)
    } else if time.seconds < 0 {
        ("-", time.seconds, 0)
    } else {
        ("", time.seconds, time.nanoseconds)
    };
    let text = format!("{sign}{}.{nanoseconds:09}", seconds.unsigned_abs());
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

fn write_pax(records: &[(Vec<u8>, Vec<u8>)], out: &mut Vec<u8>) {
    let mut body = Vec::new();
    for (key, value) in records {
        // The length counts its own digits.
        let rest = key.len() + value.len() + 3;
        let mut len = rest + 1;
        while len != rest + len.to_string().len() {
            len = rest + len.to_string().len();
        }
        body.extend_from_slice(len.to_string().as_bytes());
        body.push(b' ');
        body.extend_from_slice(key);
        body.push(b'=');
        body.extend_from_slice(value);
        body.push(b'\n');
    }
    write_ustar(
        &Ustar {
            name: b"././@PaxHeader",
            prefix: b"",
            type_flag: b'x',
            target: b"",
            mode: 0,
            uid: 0,
            gid: 0,
            size_bytes: body.len() as u64,
            mtime: 0,
            device: (0, 0),
        },
        out,
    );
    out.extend_from_slice(&body);
    out.resize(out.len() + padding(body.len() as u64), 0);
}

/// How many zeros follow `len` bytes of data.
pub(crate) fn padding(len: u64) -> usize {
    (RECORD_LEN - (len % RECORD_LEN as u64) as usize) % RECORD_LEN
}

struct Ustar<'a> {
    name: &'a [u8],
    prefix: &'a [u8],
    type_flag: u8,
    target: &'a [u8],
    mode: u32,
    uid: u64,
    gid: u64,
    size_bytes: u64,
    mtime: u64,
    device: (u32, u32),
}

fn write_ustar(ustar: &Ustar<'_>, out: &mut Vec<u8>) {
    let mut header = [0_u8; RECORD_LEN];
    let mut text = |at: usize, bytes: &[u8]| header[at..at + bytes.len()].copy_from_slice(bytes);
    text(0, ustar.name);
    text(100, format!("{:07o}", ustar.mode).as_bytes());
    text(108, format!("{:07o}", ustar.uid).as_bytes());
    text(116, format!("{:07o}", ustar.gid).as_bytes());
    text(124, format!("{:011o}", ustar.size_bytes).as_bytes());
    text(136, format!("{:011o}", ustar.mtime).as_bytes());
    text(148, b"        ");
    text(156, &[ustar.type_flag]);
    text(157, ustar.target);
    text(257, b"ustar\x0000");
    text(329, format!("{:07o}", ustar.device.0).as_bytes());
    text(337, format!("{:07o}", ustar.device.1).as_bytes());
    text(345, ustar.prefix);
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
    out.extend_from_slice(&header);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_as_short_as_it_can_be() {
        let time = |seconds, nanoseconds| decimal(Timestamp { seconds, nanoseconds });
        assert_eq!(time(1, 500_000_000), "1.5");
        assert_eq!(time(0, 1), "0.000000001");
        assert_eq!(time(-1, 0), "-1");
        assert_eq!(time(-2, 500_000_000), "-1.5");
        assert_eq!(time(-1, 500_000_000), "-0.5");
        assert_eq!(time(10_000_000_000, 0), "10000000000");
        assert_eq!(time(100, 0), "100");
    }

    #[test]
    fn a_long_path_is_cut_at_a_slash_or_not_at_all() {
        let dirs = "d/".repeat(60);
        let (prefix, name) = split(dirs.as_bytes()).unwrap();
        assert!(prefix.len() <= PREFIX_LEN && name.len() <= NAME_LEN && name.ends_with(b"/"));
        assert_eq!([prefix, b"/", name].concat(), dirs.as_bytes());
        assert_eq!(split("x".repeat(101).as_bytes()), None);
        assert_eq!(split(format!("{}/", "x".repeat(100)).as_bytes()), None);
        assert_eq!(split(format!("a/{}", "x".repeat(101)).as_bytes()), None);
        let longest = format!("{}/{}", "p".repeat(155), "n".repeat(100));
        assert_eq!(split(longest.as_bytes()).unwrap().0.len(), 155);
        assert_eq!(split("d/".repeat(200).as_bytes()), None);
    }

    #[test]
    fn a_record_counts_its_own_length() {
        for value_len in 80..110 {
            let mut out = Vec::new();
            write_pax(&[(b"path".to_vec(), vec![b'v'; value_len])], &mut out);
            let record = &out[RECORD_LEN..];
            let end = record.iter().position(|byte| *byte == b'\n').unwrap() + 1;
            let digits = record.iter().position(|byte| *byte == b' ').unwrap();
            assert_eq!(std::str::from_utf8(&record[..digits]).unwrap().parse::<usize>().unwrap(), end);
        }
    }
}
