//! What [`TreeWriter`] makes of a stack, and what the stack then shows.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use sys::file::{self, FileType, Owner, Timestamp};
use sys::xattr::Xattr;

use crate::layer::ApplyLimits;
use crate::merged::Merged;
use crate::random_tree::{list, open};
use crate::tree_writer::{Attributes, DirAttributes, TreeWriter, WriteError};

/// A lower tree and an empty one to write.
struct Stack {
    _dir: tempfile::TempDir,
    lower: PathBuf,
    tree: PathBuf,
}

impl Stack {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (lower, tree) = (dir.path().join("lower"), dir.path().join("tree"));
        fs::create_dir(&tree).unwrap();
        fs::create_dir_all(lower.join("usr/lib")).unwrap();
        fs::create_dir_all(lower.join("srv/app/old")).unwrap();
        fs::write(lower.join("srv/app/file"), "lower").unwrap();
        fs::write(lower.join("srv/app/old/f"), "lower").unwrap();
        symlink("usr/lib", lower.join("lib")).unwrap();
        symlink("/opt/missing", lower.join("dangling")).unwrap();
        let root = open(&lower);
        file::set_mode_at(&root, "srv/app", 0o2750).unwrap();
        sys::xattr::set_at(open(&lower.join("srv")), c"app", c"user.a", b"1").unwrap();
        for path in ["srv/app/file", "srv/app/old/f", "srv/app/old", "srv/app", "srv", "usr/lib", "usr", "."]
        {
            file::set_mtime_at(&root, path, Timestamp { seconds: 1000, nanoseconds: 7 }).unwrap();
        }
        Self { _dir: dir, lower, tree }
    }

    fn lowers(&self) -> Merged {
        Merged::new(vec![open(&self.lower)]).unwrap()
    }

    fn writer(&self) -> TreeWriter {
        TreeWriter::new(open(&self.tree), &self.lowers()).unwrap()
    }

    /// `path: type mode owner @seconds ...`, as the new tree alone has it.
    fn made(&self) -> Vec<String> {
        list(&self.tree)
    }
}

fn attributes() -> Attributes {
    Attributes { mode: 0o644, owner: Owner::ROOT, mtime: Timestamp::from_seconds(5), xattrs: Vec::new() }
}

fn parents() -> Attributes {
    Attributes::parent_dir(Timestamp::from_seconds(6))
}

fn name(text: &str) -> &OsStr {
    OsStr::new(text)
}

#[test]
fn parents_are_copied_up_or_made() {
    let stack = Stack::new();
    let writer = stack.writer();
    let dir = writer.create_dir_all(Path::new("/srv/app/new/deep"), &parents()).unwrap();
    let written = dir.write_file(name("f"), &mut &b"text"[..], &attributes()).unwrap();
    assert_eq!((written.size_bytes, written.blake3), (4, *blake3::hash(b"text").as_bytes()));
    writer.finish().unwrap();
    let made: Vec<String> =
        stack.made().iter().map(|line| line.split(" 4 bytes").next().unwrap().to_owned()).collect();
    assert_eq!(
        made,
        [
            "srv: directory 0755 0:0 @1000.000000007",
            "srv/app: directory 2750 0:0 @1000.000000007 user.a=1",
            "srv/app/new: directory 0755 0:0 @6.000000000",
            "srv/app/new/deep: directory 0755 0:0 @6.000000000",
            "srv/app/new/deep/f: file 0644 0:0 @5.000000000",
        ]
    );
    let root = file::metadata(open(&stack.tree)).unwrap();
    assert_eq!(root.mtime, Timestamp { seconds: 1000, nanoseconds: 7 }, "the root is copied up, too");
}

#[test]
fn symlinks_on_the_way_lead_within_the_stack() {
    let stack = Stack::new();
    let writer = stack.writer();
    let dir = writer.create_dir_all(Path::new("/lib/x/../y"), &parents()).unwrap();
    assert_eq!(dir.path(), Path::new("/usr/lib/y"));
    let dir = writer.create_dir_all(Path::new("dangling/z"), &parents()).unwrap();
    assert_eq!(dir.path(), Path::new("/opt/missing/z"));
    let (dir, last) = writer.create_parents(Path::new("/dangling"), &parents(), true).unwrap();
    assert_eq!((dir.path(), last.as_os_str()), (Path::new("/opt"), name("missing")));
    let (dir, last) = writer.create_parents(Path::new("/lib/"), &parents(), false).unwrap();
    assert_eq!((dir.path(), last.as_os_str()), (Path::new("/"), name("lib")));
    let error = writer.create_dir_all(Path::new("/srv/app/file/x"), &parents()).unwrap_err();
    assert!(matches!(error, WriteError::Lookup(_)), "{error}");
    let error = writer.create_dir_all(Path::new("/srv/app/file"), &parents()).unwrap_err();
    assert!(matches!(error, WriteError::NotADirectory { .. }), "{error}");
}

#[test]
#[ignore = "root: makes whiteouts"]
fn root_replacing_hides_what_is_below() {
    let stack = Stack::new();
    let writer = stack.writer();
    let app = writer.create_dir_all(Path::new("/srv/app"), &parents()).unwrap();
    // A file over a file; a directory is not replaced unasked.
    app.write_file(name("file"), &mut &b"new"[..], &attributes()).unwrap();
    let error = app.write_file(name("old"), &mut &b"x"[..], &attributes()).unwrap_err();
    assert!(matches!(error, WriteError::IsADirectory { .. }), "{error}");
    let error = app.create_dir(name("file"), DirAttributes::Set(&parents())).unwrap_err();
    assert!(matches!(error, WriteError::NotADirectory { .. }), "{error}");
    // Removed: hidden. Made again: nothing of the lower one shows.
    app.remove(name("old")).unwrap();
    assert_eq!(app.lookup(name("old")).unwrap(), None);
    let old = app.create_dir(name("old"), DirAttributes::Set(&parents())).unwrap();
    assert_eq!(old.lookup(name("f")).unwrap(), None);
    old.write_file(name("g"), &mut &b"g"[..], &attributes()).unwrap();
    // A directory over a file, once that is removed.
    app.remove(name("file")).unwrap();
    app.create_dir(name("file"), DirAttributes::Set(&parents())).unwrap();
    let names: Vec<_> = writer
        .merged()
        .read_dir(Path::new("/srv/app/old"))
        .unwrap()
        .iter()
        .map(|entry| entry.os_name().to_owned())
        .collect();
    assert_eq!(names, ["g"]);
    writer.finish().unwrap();
    let made = stack.made().join("\n");
    assert!(made.contains("srv/app/old: directory 0755 0:0 @6.000000000 trusted.overlay.opaque=y"), "{made}");
    assert!(made.contains("srv/app/file: directory 0755 0:0 @6.000000000\n"), "{made}");
    let writer = stack.writer();
    let app = writer.open_existing(Path::new("/srv/app")).unwrap();
    app.remove(name("file")).unwrap();
    app.remove(name("never")).unwrap();
    let made = stack.made().join("\n");
    assert!(made.contains("srv/app/file: whiteout") && !made.contains("never"), "{made}");
}

#[test]
#[ignore = "root: sets owners, makes devices"]
fn root_each_kind_carries_its_attributes() {
    let stack = Stack::new();
    let writer = stack.writer();
    // The directory's setgid bit must not rub off.
    let dir = writer.create_dir_all(Path::new("/srv/app"), &parents()).unwrap();
    file::set_owner_at(open(&stack.tree.join("srv")), "app", Owner { uid: 0, gid: 77 }).unwrap();
    file::set_mode_at(open(&stack.tree.join("srv")), "app", 0o2755).unwrap();
    let owned = Attributes { owner: Owner { uid: 3, gid: 4 }, ..attributes() };
    let capability = Xattr {
        name: c"security.capability".into(),
        value: b"\x01\0\0\x02\0\x20\0\0\0\0\0\0\0\0\0\0\0\0\0\0".to_vec(),
    };
    let capable = Attributes { mode: 0o4755, xattrs: vec![capability], ..owned.clone() };
    dir.write_file(name("suid"), &mut &b""[..], &capable).unwrap();
    dir.write_file(name("f"), &mut &b""[..], &attributes()).unwrap();
    dir.write_symlink(name("l"), name("to"), &owned).unwrap();
    dir.write_node(name("p"), FileType::Fifo, (0, 0), &owned).unwrap();
    dir.write_node(name("n"), FileType::CharDevice, (1, 3), &attributes()).unwrap();
    dir.write_link(name("h"), &dir, name("f")).unwrap();
    dir.write_link(name("h"), &dir, name("f")).unwrap();
    for (kind, device) in
        [(FileType::CharDevice, (0, 0)), (FileType::Socket, (0, 0)), (FileType::Regular, (0, 0))]
    {
        let error = dir.write_node(name("bad"), kind, device, &attributes()).unwrap_err();
        assert!(matches!(error, WriteError::BadName { .. }), "{error}");
    }
    for bad in ["", ".", "..", "a/b", ".wh.x", "a\0b"] {
        let error = dir.write_file(name(bad), &mut &b""[..], &attributes()).unwrap_err();
        assert!(matches!(error, WriteError::BadName { .. }), "{bad:?}: {error}");
    }
    writer.finish().unwrap();
    let made = stack.made();
    for expected in [
        "srv/app/f: file 0644 0:0 @5.000000000 0 bytes af1349b9",
        "srv/app/h: file 0644 0:0 @5.000000000 0 bytes af1349b9 = srv/app/f",
        "srv/app/l: symlink 0777 3:4 @5.000000000 -> to",
        "srv/app/n: character device 0644 0:0 @5.000000000 device 1:3",
        "srv/app/p: fifo 0644 3:4 @5.000000000",
    ] {
        assert!(made.iter().any(|line| line == expected), "{expected} is not in {made:#?}");
    }
    assert!(
        made.iter()
            .any(|line| line.starts_with("srv/app/suid: file 4755 3:4")
                && line.contains("security.capability"))
    );
}

#[test]
fn two_threads_write_into_one_directory() {
    let stack = Stack::new();
    let writer = stack.writer();
    std::thread::scope(|scope| {
        for thread in 0..2 {
            let writer = &writer;
            scope.spawn(move || {
                for index in 0..100 {
                    let dir = writer
                        .create_dir_all(Path::new(&format!("/out/{}", index % 10)), &parents())
                        .unwrap();
                    let content = format!("{thread} {index}");
                    dir.write_file(
                        name(&format!("{thread}-{index}")),
                        &mut content.as_bytes(),
                        &attributes(),
                    )
                    .unwrap();
                }
            });
        }
    });
    writer.finish().unwrap();
    let made = stack.made();
    assert_eq!(made.iter().filter(|line| line.contains(": file ")).count(), 200);
    assert!(
        made.iter().filter(|line| line.contains(": directory ")).all(|line| line.ends_with("@6.000000000"))
    );
}

#[test]
fn an_archive_is_unpacked_through_the_symlinks_of_lower_trees() {
    let stack = Stack::new();
    let mut tar = Vec::new();
    for path in ["lib/a.so", "srv/app/file", "new/f"] {
        let kind = crate::layer::header::Kind::File { size_bytes: 0 };
        let Attributes { mode, owner, mtime, .. } = attributes();
        crate::layer::header::Header { path: path.as_bytes(), kind, mode, owner, mtime, xattrs: &[] }
            .write(&mut tar);
    }
    let writer = stack.writer();
    let limits = ApplyLimits::default();
    writer.extract(&mut tar.as_slice(), Path::new("/"), None, &parents(), limits).unwrap();
    writer.finish().unwrap();
    let made: Vec<String> =
        stack.made().iter().map(|line| line.split(':').next().unwrap().to_owned()).collect();
    assert_eq!(made, ["new", "new/f", "srv", "srv/app", "srv/app/file", "usr", "usr/lib", "usr/lib/a.so"]);
}

#[test]
#[ignore = "root: marks a tree opaque"]
fn root_an_opaque_root_hides_all_trees_below() {
    let stack = Stack::new();
    let top = stack.tree.join("../top");
    fs::create_dir(&top).unwrap();
    fs::write(top.join("f"), "").unwrap();
    crate::layer::whiteout::set_opaque(open(&top)).unwrap();
    let trees = || vec![open(&top), open(&stack.lower)];
    let merged = Merged::new(trees()).unwrap();
    assert_eq!(merged.tree_count(), 1);
    assert!(merged.resolve(Path::new("/srv")).is_err());
    assert_eq!(crate::snapshot::Snapshot::new(trees(), None).unwrap().lowerdirs.len(), 1);
}
