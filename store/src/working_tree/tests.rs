//! What a step does in a working tree against what the kernel's overlay makes of the same.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, lchown, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags};
use sys::file::{self, FileType, Timestamp};
use testutil::Seed;

use super::WorkingTree;
use crate::layer::whiteout;
use crate::merged::Merged;
use crate::merged_overlay_test::list_merged;
use crate::random_tree::{grow, list, open};
use crate::snapshot::StubKind;
use crate::tree_writer::Attributes;

/// An overlay of `lowers` (topmost first) that is written to `upper`: gone when closed.
fn mount(lowers: &[PathBuf], upper: &Path, work: &Path) -> OwnedFd {
    let context = rustix::mount::fsopen(c"overlay", FsOpenFlags::FSOPEN_CLOEXEC).unwrap();
    for tree in lowers {
        rustix::mount::fsconfig_set_string(&context, c"lowerdir+", tree).unwrap();
    }
    rustix::mount::fsconfig_set_string(&context, c"upperdir", upper).unwrap();
    rustix::mount::fsconfig_set_string(&context, c"workdir", work).unwrap();
    for (key, value) in
        [(c"redirect_dir", c"nofollow"), (c"metacopy", c"off"), (c"index", c"off"), (c"xino", c"auto")]
    {
        rustix::mount::fsconfig_set_string(&context, key, value).unwrap();
    }
    // No syncfs of the whole disk at its end.
    rustix::mount::fsconfig_set_flag(&context, c"volatile").unwrap();
    rustix::mount::fsconfig_create(&context).unwrap();
    rustix::mount::fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty()).unwrap()
}

fn any<'a>(seed: &mut Seed, of: &[&'a str]) -> &'a str {
    of[seed.below(of.len() as u64) as usize]
}

/// A path whose parents are directories: nothing is done through a symlink, which could lead out of the tree.
fn any_place(root: &Path, seed: &mut Seed) -> PathBuf {
    let mut path = root.to_owned();
    for _ in 0..seed.below(4) {
        let next = path.join(any(seed, &["a", "b", "c", "d", "e."]));
        if fs::symlink_metadata(&next).is_ok_and(|found| found.is_dir()) {
            path = next;
        }
    }
    path.join(any(seed, &["a", "b", "c", "d", "e."]))
}

/// One change, the same for the same seed and the same tree.
fn change(root: &Path, seed: &mut Seed) -> io::Result<()> {
    let path = any_place(root, seed);
    let kind = seed.below(15);
    let number = seed.below(3000);
    let found = fs::symlink_metadata(&path).ok();
    let is_file = found.as_ref().is_some_and(fs::Metadata::is_file);
    let is_dir = found.as_ref().is_some_and(fs::Metadata::is_dir);
    let is_link = found.as_ref().is_some_and(|found| found.file_type().is_symlink());
    match kind {
        0 if found.is_none() || is_file => fs::write(&path, number.to_string().repeat(number as usize)),
        // The same size and, in the end, the same time.
        1 if is_file => {
            let file = OpenOptions::new().read(true).write(true).open(&path)?;
            let metadata = file.metadata()?;
            if metadata.len() > 0 {
                let mut byte = [0];
                file.read_exact_at(&mut byte, 0)?;
                file.write_all_at(&[byte[0] ^ 1], 0)?;
                file.set_modified(metadata.modified()?)?;
            }
            Ok(())
        }
        2 if is_file => {
            let file = OpenOptions::new().append(true).open(&path)?;
            io::Write::write_all(&mut &file, b"more")
        }
        3 | 4 if found.is_none() => fs::create_dir(&path),
        5 if is_dir => fs::remove_dir_all(&path),
        5 if found.is_some() => fs::remove_file(&path),
        // Directories of lower trees can't be renamed in an overlay: mv copies them.
        6 | 7 if found.is_some() => {
            let to = any_place(root, seed);
            let is_fitting = match fs::symlink_metadata(&to) {
                Ok(there) => is_file && there.is_file() && there.ino() != found.unwrap().ino(),
                Err(_) => !to.starts_with(&path),
            };
            if is_fitting {
                let output = Command::new("mv").arg("-fT").arg(&path).arg(&to).output()?;
                assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            }
            Ok(())
        }
        8 if found.is_some() && !is_dir => {
            let to = any_place(root, seed);
            if fs::symlink_metadata(&to).is_err() { fs::hard_link(&path, to) } else { Ok(()) }
        }
        9 if found.is_none() => symlink(any(seed, &["a", "../b", "/nowhere"]), &path),
        10 if found.is_some() && !is_link => {
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600 + (number as u32 & 0o177)))
        }
        11 if found.is_some() => lchown(&path, Some(number as u32 % 3 * 1000), Some(number as u32)),
        12 if found.is_some() => {
            let (dir, name) = (open(path.parent().unwrap()), path.file_name().unwrap());
            let name = std::ffi::CString::new(std::os::unix::ffi::OsStrExt::as_bytes(name)).unwrap();
            sys::xattr::set_at(&dir, &name, c"trusted.any", number.to_string().as_bytes())
        }
        13 if found.is_some() => {
            // Deleted and made again, maybe with the same inode number.
            if is_dir {
                fs::remove_dir_all(&path)?
            } else {
                fs::remove_file(&path)?
            }
            if number.is_multiple_of(2) {
                fs::create_dir(&path)?;
                fs::write(path.join(any(seed, &["a", "b", "new"])), "x")
            } else {
                fs::write(&path, "again")
            }
        }
        14 if found.is_none() => {
            let (dir, name) = (open(path.parent().unwrap()), path.file_name().unwrap());
            file::create_node_at(&dir, name, FileType::Fifo, 0o600, (0, 0))
        }
        _ => Ok(()),
    }
}

/// Gives one time to all that was changed just now, and takes the marks of opaque directories that hide nothing:
/// overlayfs sets some when directories are renamed.
fn normalise(tree: &Path, since: Timestamp, lowers: Option<&Merged>, below: &Path) {
    let dir = open(tree);
    for entry in sys::dir::read_sorted(sys::dir::reopen(&dir).unwrap()).unwrap() {
        let metadata = file::metadata_at(&dir, &*entry.name).unwrap();
        if metadata.is_dir() && lowers.is_none() && metadata.mode & 0o2000 != 0 {
            // mv gives the directories that it copies into such a one its bit, those that it renames not.
            file::set_mode_at(&dir, &*entry.name, metadata.mode & !0o2000).unwrap();
        }
        if metadata.is_dir() {
            let below = below.join(entry.os_name());
            let child = file::open_dir_at(&dir, &*entry.name).unwrap();
            if let Some(lowers) = lowers
                && whiteout::is_opaque(&child).unwrap()
                && !lowers.lookup(&below).is_ok_and(|node| node.as_dir().is_some())
            {
                sys::xattr::remove_at(&child, c"", c"trusted.overlay.opaque").unwrap();
            }
            normalise(&tree.join(entry.os_name()), since, lowers, &below);
        }
        if metadata.mtime >= since {
            file::set_mtime_at(&dir, &*entry.name, Timestamp::from_seconds(1)).unwrap();
        }
    }
    if file::metadata(&dir).unwrap().mtime >= since {
        file::set_mtime_at(&dir, c".", Timestamp::from_seconds(1)).unwrap();
    }
}

fn merged(trees: &[PathBuf]) -> Merged {
    Merged::new(trees.iter().map(|tree| open(tree)).collect()).unwrap()
}

fn shown(trees: &[PathBuf]) -> BTreeMap<PathBuf, String> {
    let mut lines = BTreeMap::new();
    list_merged(&merged(trees).root().unwrap(), &mut lines);
    lines
}

/// Whether two names of a tree are one file: what is then copied by `mv` depends on the mode.
fn has_links(tree: &Path) -> bool {
    fs::read_dir(tree).unwrap().any(|entry| {
        let metadata = entry.as_ref().unwrap().metadata().unwrap();
        if metadata.is_dir() { has_links(&entry.unwrap().path()) } else { metadata.nlink() > 1 }
    })
}

/// Three steps in both modes; gives how many layers were compared byte for byte.
fn compare(number: u64) -> u64 {
    let place = tempfile::tempdir().unwrap();
    let new_dir = |name: String| {
        let path = place.path().join(name);
        fs::create_dir(&path).unwrap();
        path
    };
    let mut seed = Seed::new(number);
    let grown: Vec<PathBuf> = (0..2).map(|index| new_dir(format!("grown{index}"))).collect();
    for tree in &grown {
        grow(tree, &mut seed, 14);
        // No time in the future, which would pass for one of now.
        normalise(tree, super::coarse_now(), None, Path::new("/"));
    }
    // overlayfs lists whiteouts that hide nothing, and programs stumble over them: one tree without any.
    let bases = vec![new_dir("base".to_owned())];
    WorkingTree::fill(sys::dir::reopen(open(&bases[0])).unwrap(), &merged(&grown)).unwrap();
    assert_eq!(shown(&bases), shown(&grown), "seed {number}");
    let tree = new_dir("tree".to_owned());
    let working = WorkingTree::fill(sys::dir::reopen(open(&tree)).unwrap(), &merged(&bases)).unwrap();
    let (mut by_overlay, mut by_tree) = (bases.clone(), bases.clone());
    let mut equal = 0;
    for step in 0..3 {
        let has_links = by_overlay.iter().any(|tree| has_links(tree));
        let (upper, work) = (new_dir(format!("upper{step}")), new_dir(format!("work{step}")));
        let layer = new_dir(format!("layer{step}"));
        crate::snapshot::prepare_upper(&merged(&by_overlay), open(&upper).as_fd()).unwrap();
        let stub = working
            .make_missing(
                Path::new("/mount/point"),
                StubKind::File,
                &Attributes::parent_dir(Timestamp::from_seconds(0)),
            )
            .ok()
            .flatten();
        let before = working.record(&Vec::from_iter(stub.clone())).unwrap();
        // The clock that files get their times from, which lags.
        let since = super::coarse_now();
        {
            let overlay = mount(&by_overlay, &upper, &work);
            let in_overlay =
                PathBuf::from(format!("/proc/{}/fd/{}", std::process::id(), overlay.as_raw_fd()));
            for change_number in 0..16 {
                let mut again = seed.clone();
                let one = change(&in_overlay, &mut seed).map_err(|error| error.kind());
                let two = change(&tree, &mut again).map_err(|error| error.kind());
                assert_eq!(one, two, "seed {number}, step {step}, change {change_number}");
            }
        }
        let lowers = merged(&by_tree);
        working.diff(&before, &lowers, open(&layer)).unwrap();
        normalise(&upper, since, Some(&merged(&by_overlay)), Path::new("/"));
        normalise(&layer, since, Some(&lowers), Path::new("/"));
        normalise(&tree, since, None, Path::new("/"));
        if !has_links {
            let diff_id = |tree: &Path| crate::layer::diff_id(open(tree).as_fd()).unwrap().0;
            assert!(
                diff_id(&layer) == diff_id(&upper),
                "seed {number}, step {step}: the layers\n{:#?}\n{:#?}",
                list(&layer),
                list(&upper)
            );
            equal += 1;
        }
        by_overlay.insert(0, upper);
        by_tree.insert(0, layer);
        assert_eq!(shown(&by_tree), shown(&by_overlay), "seed {number}, step {step}: what is shown");
        assert_eq!(
            shown(std::slice::from_ref(&tree)),
            shown(&by_tree),
            "seed {number}, step {step}: the working tree"
        );
    }
    // And a tree that takes the layers of others is the same.
    let other = new_dir("other".to_owned());
    let other_tree = WorkingTree::fill(sys::dir::reopen(open(&other)).unwrap(), &merged(&bases)).unwrap();
    for layer in by_tree[..3].iter().rev() {
        other_tree.apply(open(layer).as_fd()).unwrap();
    }
    assert_eq!(shown(&[other]), shown(&by_tree), "seed {number}: layers applied");
    equal
}

#[test]
#[ignore = "root: mounts overlayfs"]
fn root_a_working_tree_gives_the_layers_of_an_overlay() {
    let first = Seed::from_environment(1).value();
    println!("seeds from {first}");
    let count = if std::env::var_os("CALQUE_SOAK").is_some() { 5000 } else { 15 };
    let equal: u64 = (first..first + count).map(compare).sum();
    println!("{equal} of {} layers compared entry for entry", 3 * count);
    assert!(equal > 0, "no seed without hard links");
}

#[test]
fn untouched_mount_points_leave_no_trace() {
    let place = tempfile::tempdir().unwrap();
    let (base, tree, layer) =
        (place.path().join("base"), place.path().join("tree"), place.path().join("layer"));
    for dir in [&base, &tree, &layer] {
        fs::create_dir(dir).unwrap();
    }
    fs::create_dir(base.join("etc")).unwrap();
    File::open(base.join("etc")).unwrap().set_modified(std::time::UNIX_EPOCH).unwrap();
    let base = merged(&[base]);
    let working = WorkingTree::fill(sys::dir::reopen(open(&tree)).unwrap(), &base).unwrap();
    let missing = Attributes::parent_dir(Timestamp::from_seconds(0));
    let make = |path: &str, kind| working.make_missing(Path::new(path), kind, &missing).unwrap();
    let stubs = [
        make("/proc", StubKind::Dir).unwrap(),
        make("/etc/hosts", StubKind::File).unwrap(),
        make("/x/y/z", StubKind::Dir).unwrap(),
        make("/used/dir", StubKind::Dir).unwrap(),
    ];
    assert_eq!(make("/x/y", StubKind::Dir), None);
    assert_eq!(stubs[2], Path::new("/x"));
    let before = working.record(&stubs).unwrap();
    fs::write(tree.join("used/file"), "x").unwrap();
    working.diff(&before, &base, open(&layer)).unwrap();
    let names = |dir: &Path| {
        let lines = list(dir);
        lines.iter().map(|line| line.split(':').next().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(names(&layer), ["used", "used/dir", "used/file"]);
    assert_eq!(names(&tree), ["etc", "used", "used/dir", "used/file"]);
    assert_eq!(fs::metadata(tree.join("etc")).unwrap().mtime(), 0);
}
