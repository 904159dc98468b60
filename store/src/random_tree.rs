//! Random layer trees and a readable listing of any tree, for tests.

use std::ffi::{CStr, OsStr};
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{Read, Write as _};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use sys::file::{self, FileType, Metadata, Owner, Timestamp};
use sys::xattr::{self, Xattr};
use testutil::Seed;

/// Opens a directory as the store does.
pub(crate) fn open(path: &Path) -> OwnedFd {
    sys::RootDir::open(path).unwrap().into()
}

/// Makes `count` random changes in the layer tree at `dir`, then gives every entry a time of its own.
pub(crate) fn grow(dir: &Path, seed: &mut Seed, count: u64) {
    for _ in 0..count {
        // What is in the way of something stays: the point is what is there in the end.
        let _ = change(dir, seed);
    }
    set_times(dir, seed);
}

fn any<'a>(seed: &mut Seed, of: &[&'a str]) -> &'a str {
    of[seed.below(of.len() as u64) as usize]
}

fn any_path(seed: &mut Seed) -> PathBuf {
    (0..=seed.below(3)).map(|_| any(seed, &["a", "b", "c", "d", "e."])).collect()
}

/// A path as a symlink, or a caller, might have it.
pub(crate) fn any_wild_path(seed: &mut Seed) -> String {
    let mut path = String::from(if seed.below(3) == 0 { "/" } else { "" });
    for _ in 0..=seed.below(4) {
        path.push_str(any(seed, &["a", "b", "c", "d", "..", ".", "a", "b", "", "e."]));
        path.push('/');
    }
    if seed.below(4) != 0 {
        path.pop();
    }
    if path.is_empty() { ".".to_owned() } else { path }
}

fn change(root: &Path, seed: &mut Seed) -> std::io::Result<()> {
    let path = any_path(seed);
    let full = root.join(&path);
    if let Some(parent) = full.parent() {
        // Only real directories: a layer's own tree is not written through its symlinks.
        let mut here = root.to_owned();
        for part in parent.strip_prefix(root).unwrap() {
            here.push(part);
            let _ = fs::create_dir(&here);
            if !fs::symlink_metadata(&here)?.is_dir() {
                return Ok(());
            }
        }
    }
    let (dir, name) = (open(full.parent().unwrap()), full.file_name().unwrap());
    match seed.below(12) {
        0..=2 => file::create_dir_at(&dir, name, 0o755)?,
        3 => {
            file::create_dir_at(&dir, name, 0o755)?;
            crate::layer::whiteout::set_opaque(open(&full))?;
        }
        4 | 5 => {
            // A new one: what is there may be a pipe.
            let mut file = File::from(file::create_file_at(&dir, name, 0o644)?);
            file.write_all("x".repeat(seed.below(2000) as usize).as_bytes())?;
        }
        6 => file::create_node_at(&dir, name, FileType::CharDevice, 0, (0, 0))?,
        7 => symlink(any_wild_path(seed), &full)?,
        8 => file::create_node_at(&dir, name, FileType::Fifo, 0o600, (0, 0))?,
        9 => file::create_node_at(&dir, name, FileType::CharDevice, 0o640, (1, 3))?,
        10 => {
            let target = root.join(any_path(seed));
            if fs::symlink_metadata(&target)?.is_file() {
                fs::hard_link(target, &full)?;
            }
        }
        _ => {
            remove(&full)?;
        }
    }
    if crate::layer::whiteout::is_whiteout(&file::metadata_at(&dir, name)?) {
        return Ok(());
    }
    if seed.below(3) == 0 {
        file::set_owner_at(
            &dir,
            name,
            Owner { uid: seed.below(3) as u32 * 1000, gid: seed.below(70_000) as u32 },
        )?;
    }
    if seed.below(3) == 0 && !full.is_symlink() {
        file::set_mode_at(&dir, name, seed.below(0o10000) as u32)?;
    }
    if seed.below(4) == 0 {
        let name = std::ffi::CString::new(name.as_bytes()).unwrap();
        xattr::set_at(&dir, &name, c"trusted.any", b"\0value\n")?;
        let _ = xattr::set_at(&dir, &name, c"user.a", any(seed, &["1", "2"]).as_bytes());
    }
    Ok(())
}

fn remove(path: &Path) -> std::io::Result<()> {
    if fs::symlink_metadata(path)?.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) }
}

fn set_times(dir: &Path, seed: &mut Seed) {
    for entry in fs::read_dir(dir).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_dir() {
            set_times(&entry.path(), seed);
        }
        set_time(&entry.path(), seed);
    }
    set_time(dir, seed);
}

fn set_time(path: &Path, seed: &mut Seed) {
    let nanoseconds = if seed.below(2) == 0 { 0 } else { seed.below(1_000_000_000) as u32 };
    let mtime = Timestamp { seconds: seed.below(2_000_000_000) as i64 - 1000, nanoseconds };
    file::set_mtime_at(rustix::fs::CWD, path, mtime).unwrap();
}

/// One line that says all of a file but its path and number of links.
pub(crate) fn describe(
    metadata: &Metadata,
    target: Option<&OsStr>,
    xattrs: &[Xattr],
    content: Option<&[u8]>,
) -> String {
    let Metadata { file_type, mode, owner, mtime, .. } = metadata;
    let mut line = format!("{file_type} {mode:04o} {}:{}", owner.uid, owner.gid);
    write!(line, " @{}.{:09}", mtime.seconds, mtime.nanoseconds).unwrap();
    if matches!(file_type, FileType::CharDevice | FileType::BlockDevice) {
        write!(line, " device {}:{}", metadata.device.0, metadata.device.1).unwrap();
    }
    if let Some(target) = target {
        write!(line, " -> {}", target.to_string_lossy()).unwrap();
    }
    for Xattr { name, value } in xattrs {
        write!(line, " {}={}", name.to_string_lossy(), value.escape_ascii()).unwrap();
    }
    if let Some(content) = content {
        let digest = blake3::hash(content).to_hex();
        write!(line, " {} bytes {}", content.len(), &digest[..8]).unwrap();
    }
    line
}

/// [`describe`] for `name` in `dir`.
pub(crate) fn describe_at(dir: impl AsFd, name: &CStr) -> String {
    let dir = dir.as_fd();
    let metadata = file::metadata_at(dir, name).unwrap();
    let target = metadata.is_symlink().then(|| file::read_link_at(dir, name).unwrap());
    let content = metadata.is_file().then(|| read(file::open_file_at(dir, name).unwrap()));
    describe(&metadata, target.as_deref(), &xattr::all_at(dir, name).unwrap(), content.as_deref())
}

pub(crate) fn read(file: OwnedFd) -> Vec<u8> {
    let mut bytes = Vec::new();
    File::from(file).read_to_end(&mut bytes).unwrap();
    bytes
}

/// Every entry below `dir`, raw: `path: description`, sorted, with hard-link groups by their first name.
pub(crate) fn list(dir: &Path) -> Vec<String> {
    let mut lines = Vec::new();
    let mut links = std::collections::BTreeMap::new();
    list_into(&open(dir), Path::new(""), &mut links, &mut lines);
    lines
}

fn list_into(
    dir: &OwnedFd,
    path: &Path,
    links: &mut std::collections::BTreeMap<file::Identity, PathBuf>,
    lines: &mut Vec<String>,
) {
    for entry in sys::dir::read_sorted(sys::dir::reopen(dir).unwrap()).unwrap() {
        let path = path.join(entry.os_name());
        let metadata = file::metadata_at(dir, &*entry.name).unwrap();
        let mut line = if crate::layer::whiteout::is_whiteout(&metadata) {
            // It has no owner, mode or time that counts.
            format!("{}: whiteout", path.display())
        } else {
            format!("{}: {}", path.display(), describe_at(dir, &entry.name))
        };
        if metadata.links > 1 && !metadata.is_dir() {
            let first = links.entry(metadata.identity).or_insert_with(|| path.clone());
            if *first != path {
                write!(line, " = {}", first.display()).unwrap();
            }
        }
        lines.push(line);
        if metadata.is_dir() {
            list_into(&file::open_dir_at(dir, &*entry.name).unwrap(), &path, links, lines);
        }
    }
}
