//! [`Merged`] against the overlay that the kernel makes of the same trees.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags};
use sys::RootDir;
use sys::file;
use testutil::Seed;

use crate::merged::{Dir, Merged, MergedError, Node};
use crate::random_tree::{any_wild_path, describe, describe_at, grow, open, read};

/// A detached overlay of `trees`, topmost first: gone when closed.
fn mount(trees: &[PathBuf]) -> OwnedFd {
    let context = rustix::mount::fsopen(c"overlay", FsOpenFlags::FSOPEN_CLOEXEC).unwrap();
    for tree in trees {
        rustix::mount::fsconfig_set_string(&context, c"lowerdir+", tree).unwrap();
    }
    for (key, value) in [(c"redirect_dir", c"off"), (c"metacopy", c"off"), (c"index", c"off")] {
        rustix::mount::fsconfig_set_string(&context, key, value).unwrap();
    }
    rustix::mount::fsconfig_create(&context).unwrap();
    rustix::mount::fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty()).unwrap()
}

fn describe_node(node: &Node) -> String {
    let metadata = node.metadata();
    let target = metadata.is_symlink().then(|| node.read_link().unwrap());
    let content = metadata.is_file().then(|| read(node.open_file().unwrap()));
    describe(metadata, target.as_deref(), &node.xattrs().unwrap(), content.as_deref())
}

pub(crate) fn list_merged(dir: &Dir, lines: &mut BTreeMap<PathBuf, String>) {
    for entry in dir.entries().unwrap() {
        let node = dir.child(entry.os_name()).unwrap().expect("what is listed can be looked up");
        lines.insert(node.path().to_owned(), describe_node(&node));
        if let Some(dir) = node.as_dir() {
            list_merged(dir, lines);
        }
    }
}

fn list_mounted(dir: impl AsFd, path: &Path, lines: &mut BTreeMap<PathBuf, String>) {
    for entry in sys::dir::read_sorted(sys::dir::reopen(&dir).unwrap()).unwrap() {
        let path = path.join(entry.os_name());
        let metadata = match file::metadata_at(&dir, &*entry.name) {
            // overlayfs lists the whiteouts of a directory that only one lower tree has, and denies them on look-up.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            other => other.unwrap(),
        };
        lines.insert(path.clone(), describe_at(&dir, &entry.name));
        if metadata.is_dir() {
            list_mounted(file::open_dir_at(&dir, &*entry.name).unwrap(), &path, lines);
        }
    }
}

fn compare(seed: u64) {
    let dir = tempfile::tempdir().unwrap();
    let mut random = Seed::new(seed);
    let trees: Vec<PathBuf> =
        (0..2 + random.below(3)).map(|index| dir.path().join(index.to_string())).collect();
    for tree in &trees {
        std::fs::create_dir(tree).unwrap();
        grow(tree, &mut random, 14);
    }
    let mounted = mount(&trees);
    let merged = Merged::new(trees.iter().map(|tree| open(tree)).collect()).unwrap();
    let (mut by_us, mut by_kernel) = (BTreeMap::new(), BTreeMap::new());
    list_merged(&merged.root().unwrap(), &mut by_us);
    list_mounted(&mounted, Path::new("/"), &mut by_kernel);
    assert_eq!(by_us, by_kernel, "seed {seed}");

    let root = RootDir::from_fd(mounted);
    for _ in 0..40 {
        let path = any_wild_path(&mut random);
        let path = Path::new(&path);
        for follow in [true, false] {
            let (by_us, by_kernel) = if follow {
                (merged.resolve(path), root.open_path(path))
            } else {
                (merged.lookup(path), root.open_path_nofollow(path))
            };
            let by_us = by_us.map(|node| describe_node(&node)).map_err(|error| match error {
                MergedError::NotFound { .. } => rustix::io::Errno::NOENT.raw_os_error(),
                MergedError::NotADirectory { .. } => rustix::io::Errno::NOTDIR.raw_os_error(),
                MergedError::SymlinkLoop { .. } => rustix::io::Errno::LOOP.raw_os_error(),
                other => panic!("{other}"),
            });
            let by_kernel = by_kernel.map_err(|error| error.raw_os_error().unwrap()).map(|place| {
                let metadata = file::metadata(&place).unwrap();
                let target = metadata.is_symlink().then(|| file::read_link_at(&place, c"").unwrap());
                let content = metadata.is_file().then(|| read(RootDir::open_file(&root, path).unwrap().0));
                let xattrs = sys::xattr::all_at(&place, c"").unwrap();
                describe(&metadata, target.as_deref(), &xattrs, content.as_deref())
            });
            assert_eq!(by_us, by_kernel, "seed {seed}, {path:?}, follow {follow}");
        }
    }
}

#[test]
#[ignore = "root: mounts overlayfs"]
fn root_a_merged_stack_is_what_the_kernel_mounts() {
    let first = Seed::from_environment(1).value();
    println!("seeds from {first}");
    (first..first + 300).for_each(compare);
}

#[test]
#[ignore = "soak: mounts 10,000 random overlays, as root"]
fn soak_a_merged_stack_is_what_the_kernel_mounts() {
    let first = Seed::from_environment(1000).value();
    println!("seeds from {first}");
    (first..first + 10_000).for_each(compare);
    println!("soak: 10,000 random stacks, seeds from {first}: `store::merged` as the mounted overlay");
}
