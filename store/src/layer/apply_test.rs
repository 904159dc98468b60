//! Golden cases of [`apply_tar`] and the properties that tie it to [`write_tar`].

use std::ffi::CString;
use std::fs;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use sys::file::{FileType, Owner, Timestamp};
use sys::xattr::Xattr;
use testutil::Seed;

use super::header::{Header, Kind, padding};
use super::{ApplyError, ApplyLimits, apply_tar, content_id, diff_id, write_tar};
use crate::random_tree::{grow, list, open};

/// One line of a case's listing, as bytes of a tar.
///
/// `dir|file|link|hardlink|char|block|fifo PATH [-> TARGET | MAJOR:MINOR] [key=value ...]`, where `\0` in a path
/// is a NUL and `@long` 5,000 bytes. Keys: mode, uid, gid, mtime, text, size, and any attribute with a dot in it.
fn member(line: &str) -> Vec<u8> {
    let mut words = line.split_whitespace();
    let (kind, path) = (words.next().unwrap(), words.next().unwrap());
    let unescape = |text: &str| {
        let text = if text == "''" { "" } else { text };
        text.replace("\\0", "\0").replace("@long", &"n/".repeat(2500)).replace("@name", &"n".repeat(256))
    };
    let path = unescape(path);
    let (mut target, mut device) = (String::new(), (0, 0));
    let (mut mode, mut owner, mut mtime, mut text) =
        (0o755, Owner::ROOT, Timestamp::from_seconds(1), String::new());
    let mut xattrs = Vec::new();
    while let Some(word) = words.next() {
        if word == "->" {
            target = unescape(words.next().unwrap());
        } else if let Some((key, value)) = word.split_once('=') {
            match key {
                "mode" => mode = u32::from_str_radix(value, 8).unwrap(),
                "uid" => owner.uid = value.parse().unwrap(),
                "gid" => owner.gid = value.parse().unwrap(),
                "mtime" => mtime = Timestamp::from_seconds(value.parse().unwrap()),
                "text" => text = value.to_owned(),
                "size" => text = "x".repeat(value.parse().unwrap()),
                _ => xattrs.push(Xattr { name: CString::new(key).unwrap(), value: value.into() }),
            }
        } else {
            let (major, minor) = word.split_once(':').unwrap();
            device = (major.parse().unwrap(), minor.parse().unwrap());
        }
    }
    let node = |file_type| Kind::Node { file_type, device };
    let kind = match kind {
        "dir" => node(FileType::Directory),
        "file" => Kind::File { size_bytes: text.len() as u64 },
        "link" => Kind::Symlink { target: target.as_bytes() },
        "hardlink" => Kind::HardLink { target: target.as_bytes() },
        "char" => node(FileType::CharDevice),
        "block" => node(FileType::BlockDevice),
        "fifo" => node(FileType::Fifo),
        other => panic!("unknown kind {other}"),
    };
    let mut bytes = Vec::new();
    Header { path: path.as_bytes(), kind, mode, owner, mtime, xattrs: &xattrs }.write(&mut bytes);
    bytes.extend_from_slice(text.as_bytes());
    bytes.resize(bytes.len() + padding(text.len() as u64), 0);
    bytes
}

fn apply(tar: &[u8], tree: &Path) -> Result<(), ApplyError> {
    let limits = ApplyLimits { entries: 50, size_bytes: 100_000 };
    apply_tar(&mut &tar[..], open(tree).as_fd(), limits).map(drop)
}

/// What is there after the listing was applied, or why it wasn't.
fn outcome(listing: &str) -> String {
    let dir = tempfile::tempdir().unwrap();
    let tree = dir.path().join("tree");
    fs::create_dir(&tree).unwrap();
    // What must never be touched: a file beside the tree, reachable by `..` and by nothing else.
    fs::write(dir.path().join("outside"), "kept").unwrap();
    let tar: Vec<u8> = listing.lines().filter(|line| !line.trim().is_empty()).flat_map(member).collect();
    let result = apply(&tar, &tree);
    assert_eq!(fs::read(dir.path().join("outside")).unwrap(), b"kept");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2, "something was made outside of the tree");
    match result {
        Err(error) => {
            let mut text = format!("error: {error}");
            let mut source = std::error::Error::source(&error);
            while let Some(cause) = source {
                text = format!("{text}: {cause}");
                source = cause.source();
            }
            text = text
                .replace(&"n/".repeat(2500), "@long")
                .replace(&"n".repeat(256), "@name")
                .replace('\0', "\\0");
            text + "\n"
        }
        Ok(()) => {
            let mut lines = list(&tree);
            let root = sys::file::metadata(open(&tree)).unwrap();
            if root.mode != 0o755 {
                lines.insert(0, format!(".: {}", crate::random_tree::describe(&root, None, &[], None)));
            }
            lines.into_iter().map(|line| line + "\n").collect()
        }
    }
}

/// `testdata/layer/<case>.txt`: lines that begin with `#`, the listing, `---`, the outcome.
#[test]
#[ignore = "root: owners, devices and whiteouts"]
fn root_layers_are_applied_as_the_cases_say() {
    let mut count = 0;
    let mut cases: Vec<PathBuf> = fs::read_dir(testutil::workspace_dir().join("testdata/layer"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    cases.sort();
    for case in cases {
        let text = fs::read_to_string(&case).unwrap();
        let (given, _) = text.split_once("---\n").unwrap_or((&text, ""));
        let listing: String =
            given.lines().filter(|line| !line.starts_with('#')).map(|line| format!("{line}\n")).collect();
        testutil::assert_golden(&case, &format!("{given}---\n{}", outcome(&listing)));
        count += 1;
    }
    assert!(count >= 20, "only {count} cases were found");
}

fn round_trip(seed: u64) {
    let dir = tempfile::tempdir().unwrap();
    let mut random = Seed::new(seed);
    let (one, other) = (dir.path().join("one"), dir.path().join("other"));
    fs::create_dir(&one).unwrap();
    fs::create_dir(&other).unwrap();
    let count = 5 + random.below(40);
    grow(&one, &mut random, count);
    let mut tar = Vec::new();
    let facts = write_tar(open(&one).as_fd(), &mut tar).unwrap();
    let applied = apply_tar(&mut tar.as_slice(), open(&other).as_fd(), ApplyLimits::default()).unwrap();
    assert_eq!(applied.entries, facts.entries, "seed {seed}");
    assert_eq!(list(&other), without_idle_whiteouts(&one), "seed {seed}");
    let by_tree =
        |tree: &Path| (diff_id(open(tree).as_fd()).unwrap().0, content_id(open(tree).as_fd(), None).unwrap());
    let again = dir.path().join("again");
    fs::create_dir(&again).unwrap();
    let mut second = Vec::new();
    write_tar(open(&other).as_fd(), &mut second).unwrap();
    apply_tar(&mut second.as_slice(), open(&again).as_fd(), ApplyLimits::default()).unwrap();
    assert_eq!(by_tree(&other), by_tree(&again), "seed {seed}");
}

/// In an opaque directory whiteouts say nothing, and applying leaves them out.
fn without_idle_whiteouts(tree: &Path) -> Vec<String> {
    let lines = list(tree);
    let opaque: Vec<&str> = lines
        .iter()
        .filter(|line| line.contains("trusted.overlay.opaque=y"))
        .map(|line| line.split(':').next().unwrap())
        .collect();
    let is_idle = |line: &&String| {
        let (path, what) = line.split_once(": ").unwrap();
        what == "whiteout"
            && Path::new(path).parent().is_some_and(|parent| opaque.contains(&parent.to_str().unwrap()))
    };
    lines.iter().filter(|line| !is_idle(line)).cloned().collect()
}

#[test]
#[ignore = "root: owners, devices and whiteouts"]
fn root_what_is_written_is_applied_as_it_was() {
    let first = Seed::from_environment(1).value();
    println!("seeds from {first}");
    (first..first + 150).for_each(round_trip);
}

#[test]
#[ignore = "soak: writes and applies 5,000 random trees, as root"]
fn soak_what_is_written_is_applied_as_it_was() {
    let first = Seed::from_environment(1000).value();
    println!("seeds from {first}");
    (first..first + 5000).for_each(round_trip);
    println!("soak: 5,000 random trees to a tar and back, seeds from {first}");
}

/// Bytes of a tar changed at random: whatever happens, it ends, and nothing is made outside.
fn damaged(seed: u64) {
    let dir = tempfile::tempdir().unwrap();
    let mut random = Seed::new(seed);
    let (one, other) = (dir.path().join("one"), dir.path().join("other"));
    fs::create_dir(&one).unwrap();
    fs::create_dir(&other).unwrap();
    grow(&one, &mut random, 12);
    let mut tar = Vec::new();
    write_tar(open(&one).as_fd(), &mut tar).unwrap();
    for _ in 0..1 + random.below(8) {
        let at = random.below(tar.len() as u64) as usize;
        tar[at] = b"\0/.wh01\xff".get(random.below(8) as usize).copied().unwrap_or(b'.');
    }
    // Sums are made right again, or hardly anything would get past the header.
    for at in (0..tar.len() - 511).step_by(512) {
        if &tar[at + 257..at + 262] == b"ustar" {
            tar[at + 148..at + 156].fill(b' ');
            let sum: u32 = tar[at..at + 512].iter().map(|byte| u32::from(*byte)).sum();
            tar[at + 148..at + 155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
        }
    }
    let limits = ApplyLimits { entries: 1000, size_bytes: 1 << 20 };
    let _ = apply_tar(&mut tar.as_slice(), open(&other).as_fd(), limits);
    let mut names: Vec<_> =
        fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["one", "other"], "seed {seed}");
}

#[test]
#[ignore = "root: owners, devices and whiteouts"]
fn root_a_damaged_tar_is_an_error_or_a_tree() {
    let first = Seed::from_environment(1).value();
    println!("seeds from {first}");
    (first..first + 300).for_each(damaged);
}
