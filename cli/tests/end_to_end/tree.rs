//! File trees, compared file for file.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::CString;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

/// All that two trees can differ in, for one path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    kind: char,
    mode: u32,
    uid: u32,
    gid: u32,
    modified: (i64, i64),
    target: Option<PathBuf>,
    device: u64,
    xattrs: BTreeMap<String, Vec<u8>>,
    /// Size and a hash of the content.
    content: Option<(u64, u64)>,
}

/// Reads the tree below `root`. `id_offset` is subtracted from the owners; paths in `skipped` and all that is below
/// them are left out.
pub(crate) fn read_tree(
    root: &Path,
    id_offset: u32,
    skipped: &BTreeSet<PathBuf>,
) -> BTreeMap<PathBuf, Entry> {
    let mut entries = BTreeMap::new();
    let mut pending = vec![PathBuf::new()];
    while let Some(below) = pending.pop() {
        for entry in fs::read_dir(root.join(&below)).unwrap() {
            let path = below.join(entry.unwrap().file_name());
            if skipped.contains(&path) {
                continue;
            }
            let entry = read_entry(&root.join(&path), id_offset);
            if entry.kind == 'd' {
                pending.push(path.clone());
            }
            entries.insert(path, entry);
        }
    }
    entries
}

fn read_entry(path: &Path, id_offset: u32) -> Entry {
    let metadata = fs::symlink_metadata(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let file_type = metadata.file_type();
    let kind = if file_type.is_dir() {
        'd'
    } else if file_type.is_symlink() {
        'l'
    } else if file_type.is_file() {
        'f'
    } else if file_type.is_fifo() {
        'p'
    } else if file_type.is_char_device() {
        'c'
    } else if file_type.is_block_device() {
        'b'
    } else {
        's'
    };
    Entry {
        kind,
        mode: metadata.mode() & 0o7777,
        uid: metadata.uid().wrapping_sub(id_offset),
        gid: metadata.gid().wrapping_sub(id_offset),
        modified: (metadata.mtime(), metadata.mtime_nsec()),
        target: (kind == 'l').then(|| fs::read_link(path).unwrap()),
        device: if matches!(kind, 'c' | 'b') { metadata.rdev() } else { 0 },
        xattrs: xattrs(path),
        content: (kind == 'f').then(|| (metadata.len(), hash(&fs::read(path).unwrap()))),
    }
}

/// FNV-1a: enough to see a difference between two trees that were meant to be one.
fn hash(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3))
}

fn xattrs(path: &Path) -> BTreeMap<String, Vec<u8>> {
    let path = CString::new(path.as_os_str().as_bytes()).unwrap();
    let mut names = vec![0_u8; 64 << 10];
    let length = rustix::fs::llistxattr(path.as_c_str(), &mut names).unwrap_or(0);
    names[..length]
        .split(|byte| *byte == 0)
        .filter(|name| !name.is_empty())
        .map(|name| {
            let name = String::from_utf8(name.to_vec()).unwrap();
            let mut value = vec![0_u8; 64 << 10];
            let length = rustix::fs::lgetxattr(path.as_c_str(), name.as_str(), &mut value).unwrap();
            value.truncate(length);
            (name, value)
        })
        .collect()
}

/// The differences between two trees, one line each, at most `limit`.
pub(crate) fn differences(
    one: &BTreeMap<PathBuf, Entry>,
    two: &BTreeMap<PathBuf, Entry>,
    limit: usize,
) -> Vec<String> {
    let paths: BTreeSet<&PathBuf> = one.keys().chain(two.keys()).collect();
    paths
        .into_iter()
        .filter(|path| one.get(*path) != two.get(*path))
        .take(limit)
        .map(|path| format!("{}\n  one: {:?}\n  two: {:?}", path.display(), one.get(path), two.get(path)))
        .collect()
}

/// Where something is mounted in the mount namespace of `pid`, without the root itself, relative to it.
pub(crate) fn mount_points(pid: u32) -> BTreeSet<PathBuf> {
    let text = fs::read_to_string(format!("/proc/{pid}/mountinfo")).unwrap();
    text.lines()
        .filter_map(|line| line.split(' ').nth(4))
        .filter_map(|path| Some(PathBuf::from(path.strip_prefix('/')?)))
        .filter(|path| !path.as_os_str().is_empty())
        .collect()
}

/// Without what overlayfs notes for itself in an upperdir.
pub(crate) fn without_overlay(mut entries: BTreeMap<PathBuf, Entry>) -> BTreeMap<PathBuf, Entry> {
    for entry in entries.values_mut() {
        entry.xattrs.retain(|name, _| !name.starts_with("trusted.overlay."));
    }
    entries
}
