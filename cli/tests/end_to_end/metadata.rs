//! What a file carries comes through every way into and out of an image.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, lchown, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use rustix::fs::{CWD, FileType, Mode, XattrFlags, lsetxattr, mknodat};

use crate::harness::{ALL_KERNELS, Calque, write};
use crate::tree::{Entry, differences, read_tree, without_overlay};

/// The largest id that the container's map has.
const LARGEST_ID: u32 = (1 << 31) - 2;
const SPARSE_LEN: u64 = 8 << 20;

const DOCKERFILE: &str = "\
FROM busybox AS made
ADD nasty.tar /
FROM busybox
COPY --from=made /nasty /nasty
# Each file is copied up, or found to have changed.
RUN find /nasty ! -type d -exec ln {} /link \\; -exec rm /link \\;
";

/// `system.posix_acl_*`: version 2, then tag, permissions and id of each entry (`linux/posix_acl_xattr.h`).
fn acl(user: u32) -> Vec<u8> {
    const NO_ID: u32 = u32::MAX;
    let entries = [(1_u16, 6_u16, NO_ID), (2, 4, user), (4, 4, NO_ID), (0x10, 4, NO_ID), (0x20, 4, NO_ID)];
    let mut bytes = 2_u32.to_le_bytes().to_vec();
    for (tag, permissions, id) in entries {
        bytes.extend(tag.to_le_bytes());
        bytes.extend(permissions.to_le_bytes());
        bytes.extend(id.to_le_bytes());
    }
    bytes
}

/// A tree of all that is easily lost.
fn make_nasty(root: &Path) {
    let file = |name: &OsStr, content: &str| {
        let path = root.join(name);
        fs::write(&path, content).unwrap();
        path
    };
    let set = |path: &Path, name: &str, value: &[u8]| {
        lsetxattr(path, name, value, XattrFlags::empty()).unwrap();
    };
    fs::create_dir(root).unwrap();
    let dir = root.join("dir");
    fs::create_dir(&dir).unwrap();
    for name in
        [&b"new\nline"[..], b"\xff\xfe not utf-8", &[b'n'; 255], b" ", b"-rf", b"back\\slash", b"#~*?"]
    {
        file(OsStr::from_bytes(name), "odd");
    }
    let linked = file(OsStr::new("linked"), "linked");
    fs::hard_link(&linked, dir.join("another")).unwrap();
    fs::hard_link(&linked, root.join("third")).unwrap();
    lchown(file(OsStr::new("large-ids"), "x"), Some(LARGEST_ID), Some(LARGEST_ID)).unwrap();
    let setuid = file(OsStr::new("setuid"), "x");
    lchown(&setuid, Some(1000), Some(100)).unwrap();
    fs::set_permissions(&setuid, fs::Permissions::from_mode(0o6755)).unwrap();
    let capable = file(OsStr::new("capable"), "x");
    // Revision 2, effective; permitted: CAP_NET_BIND_SERVICE.
    set(&capable, "security.capability", &[1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    let user = file(OsStr::new("user-attributes"), "x");
    set(&user, "user.empty", b"");
    set(&user, "user.binary", b"\0\n=\xff");
    set(&file(OsStr::new("acl"), "x"), "system.posix_acl_access", &acl(1234));
    let with_default = root.join("default-acl");
    fs::create_dir(&with_default).unwrap();
    fs::write(with_default.join("plain"), "x").unwrap();
    set(&with_default, "system.posix_acl_default", &acl(4321));
    let sparse = File::create(root.join("sparse")).unwrap();
    sparse.write_all_at(b"in the middle", SPARSE_LEN / 2 + 17).unwrap();
    sparse.set_len(SPARSE_LEN).unwrap();
    symlink("/nowhere/\u{fc}", root.join("dangling")).unwrap();
    lchown(root.join("dangling"), Some(7), Some(8)).unwrap();
    mknodat(CWD, root.join("fifo"), FileType::Fifo, Mode::from_raw_mode(0o640), 0).unwrap();
    mknodat(
        CWD,
        root.join("null"),
        FileType::CharacterDevice,
        Mode::from_raw_mode(0o666),
        rustix::fs::makedev(1, 3),
    )
    .unwrap();
    mknodat(
        CWD,
        root.join("disk"),
        FileType::BlockDevice,
        Mode::from_raw_mode(0o600),
        rustix::fs::makedev(250, 300),
    )
    .unwrap();
    fs::set_permissions(&dir, fs::Permissions::from_mode(0o1777)).unwrap();
    // A time of its own for each, with nanoseconds, one of them long ago; directories last.
    let before_1970 = UNIX_EPOCH - Duration::new(86_400, 5);
    File::open(root.join("linked")).unwrap().set_modified(before_1970).unwrap();
    File::open(root.join("acl"))
        .unwrap()
        .set_modified(UNIX_EPOCH + Duration::new(1_234_567_890, 123_456_789))
        .unwrap();
    for path in [&with_default, &dir, root] {
        File::open(path).unwrap().set_modified(UNIX_EPOCH + Duration::new(999_999_999, 999_999_999)).unwrap();
    }
}

/// Which names are one file: the groups that have more than one.
fn links(root: &Path) -> BTreeSet<Vec<PathBuf>> {
    let mut groups: BTreeMap<u64, Vec<PathBuf>> = BTreeMap::new();
    let mut pending = vec![root.to_owned()];
    while let Some(dir) = pending.pop() {
        for entry in fs::read_dir(&dir).unwrap() {
            let path = entry.unwrap().path();
            let metadata = fs::symlink_metadata(&path).unwrap();
            if metadata.is_dir() {
                pending.push(path);
            } else {
                groups.entry(metadata.ino()).or_default().push(path.strip_prefix(root).unwrap().to_owned());
            }
        }
    }
    groups
        .into_values()
        .filter(|names| names.len() > 1)
        .map(|mut names| {
            names.sort();
            names
        })
        .collect()
}

/// The trees of the store's layers that have `/nasty`.
fn layers(calque: &Calque) -> Vec<PathBuf> {
    let layers = fs::read_dir(calque.store().join("layers")).unwrap();
    let trees = layers.map(|layer| layer.unwrap().path().join("tree/nasty"));
    trees.filter(|tree| tree.exists()).collect()
}

fn read(tree: &Path) -> BTreeMap<PathBuf, Entry> {
    without_overlay(read_tree(tree, 0, &BTreeSet::new()))
}

#[test]
#[ignore = "root: makes devices and starts containers"]
fn root_metadata_comes_through_copy_run_save_and_load() {
    let place = tempfile::tempdir().unwrap();
    let (root, context) = (place.path().join("made/nasty"), place.path().join("app"));
    fs::create_dir(place.path().join("made")).unwrap();
    make_nasty(&root);
    write(&context.join("Dockerfile"), DOCKERFILE);
    let tar = File::create(context.join("nasty.tar")).unwrap();
    store::layer::write_tar(File::open(place.path().join("made")).unwrap().as_fd(), &mut &tar).unwrap();
    let (made, linked) = (read(&root), links(&root));
    assert_eq!(made.len(), 23);
    let mut wrong = Vec::new();
    for kernel in ALL_KERNELS {
        let calque = Calque::with_busybox(kernel);
        calque.build(&context, "app");
        let archive = calque.dir().join("app.tar");
        calque.ok(["save", "-o", archive.to_str().unwrap(), "app"]);
        let other = Calque::new(kernel);
        other.ok(["load", "-q", "-i", archive.to_str().unwrap()]);
        let (built, loaded) = (layers(&calque), layers(&other));
        assert_eq!((built.len(), loaded.len()), (3, 2), "{kernel:?}");
        let mut grouped = 0;
        for tree in built.iter().chain(&loaded) {
            let found = differences(&made, &read(tree), 100);
            if !found.is_empty() {
                wrong.push(format!("{kernel:?} {}:\n{}", tree.display(), found.join("\n")));
            }
            let blocks = fs::metadata(tree.join("sparse")).unwrap().blocks();
            assert!(blocks * 512 <= 1 << 20, "{kernel:?} {}: the holes are holes", tree.display());
            grouped += usize::from(links(tree) == linked);
        }
        // All but RUN's, which touched each name: an overlay separates them.
        assert_eq!(grouped, 3, "{kernel:?}");
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n====\n"));
}
