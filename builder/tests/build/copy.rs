//! COPY, ADD and WORKDIR: where things land and what they carry.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

use builder::NamedContext;

use crate::harness::{Harness, Options};

#[test]
#[ignore = "root: makes files of other users"]
fn root_sources_land_where_docker_puts_them() {
    let harness = Harness::new();
    harness.file("a.txt", "a");
    harness.file("dir/b.txt", "b");
    harness.file("dir/sub/c.txt", "c");
    let built = harness.build(
        "FROM busybox\nWORKDIR /w\nCOPY a.txt new\nCOPY a.txt made/\nCOPY dir into\nCOPY dir/ /abs/x\nCOPY a.txt dir /many/\n\
         COPY *.txt /glob/\nCOPY nothing* /none/\nCOPY dir/*/c.txt .\n",
    );
    for (path, stat) in [
        ("/w/new", Some("644 0:0 1")),
        ("/w/made/a.txt", Some("644 0:0 1")),
        ("/w/into/b.txt", Some("644 0:0 1")),
        ("/w/into/sub/c.txt", Some("644 0:0 1")),
        ("/w/into/dir", None),
        ("/abs/x/b.txt", Some("644 0:0 1")),
        ("/abs", Some("755 0:0 dir")),
        ("/many/a.txt", Some("644 0:0 1")),
        ("/many/b.txt", Some("644 0:0 1")),
        ("/glob/a.txt", Some("644 0:0 1")),
        ("/none", None),
        ("/w/c.txt", Some("644 0:0 1")),
        ("/w", Some("755 0:0 dir")),
    ] {
        assert_eq!(harness.stat(&built, path).as_deref(), stat, "{path}");
    }
}

#[test]
#[ignore = "root: makes files of other users"]
fn root_owners_modes_and_times_follow_the_rules() {
    let harness = Harness::new();
    harness.file("f", "x");
    harness.file("d/g", "y");
    let path = harness.context.join("f");
    // A new owner would take setuid away again.
    std::os::unix::fs::chown(&path, Some(1234), Some(1234)).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o4750)).unwrap();
    let mtime = fs::metadata(&path).unwrap();
    let built = harness.build(
        "FROM busybox AS b\nCOPY --chown=5:6 f /own/f\nCOPY --chown=7 d /seven\n\
         FROM busybox\nCOPY f /plain\nCOPY --chmod=640 f d /mode/\nCOPY --from=b /own/f /kept\n\
         COPY --from=b --chown=9:9 /own/f /given\nCOPY --chmod=u=rwX,go=rX d /sym\n",
    );
    for (path, stat) in [
        ("/plain", "4750 0:0 1"),
        ("/mode/f", "640 0:0 1"),
        ("/mode/g", "640 0:0 1"),
        ("/kept", "4750 5:6 1"),
        ("/given", "4750 9:9 1"),
        ("/sym/g", "644 0:0 1"),
    ] {
        assert_eq!(harness.stat(&built, path).as_deref(), Some(stat), "{path}");
    }
    let root = harness.root(&built.outcome.image);
    let copied = root.metadata("/plain".as_ref()).unwrap().mtime;
    assert_eq!((copied.seconds, i64::from(copied.nanoseconds)), (mtime.mtime(), mtime.mtime_nsec()));
}

#[test]
#[ignore = "root: makes files of other users"]
fn root_an_existing_target_keeps_its_mode_and_a_copied_directory_brings_its_own() {
    let harness = Harness::new();
    harness.file("d/sub/x", "x");
    fs::set_permissions(harness.context.join("d/sub"), fs::Permissions::from_mode(0o700)).unwrap();
    let built = harness.build(
        "FROM busybox\nRUN mkdir -m 711 /t && mkdir -m 777 /t/sub && chown 3:4 /t\nCOPY d /t\nCOPY d/sub /fresh\n",
    );
    assert_eq!(harness.stat(&built, "/t").as_deref(), Some("711 3:4 dir"));
    assert_eq!(harness.stat(&built, "/t/sub").as_deref(), Some("700 0:0 dir"));
    assert_eq!(
        harness.stat(&built, "/fresh").as_deref(),
        Some("755 0:0 dir"),
        "made as a parent, not copied"
    );
}

#[test]
#[ignore = "root: makes files of other users"]
fn root_symlinks_are_followed_inside_their_root_only() {
    let harness = Harness::new();
    harness.file("real/file", "inside");
    symlink("real", harness.context.join("dirlink")).unwrap();
    symlink("/real/file", harness.context.join("abs")).unwrap();
    symlink("../../../../real/file", harness.context.join("up")).unwrap();
    symlink("real/file", harness.context.join("real/kept")).unwrap();
    let built = harness.build(
        "FROM busybox\nRUN ln -s /target /link && ln -s ../../../../data /esc\n\
         COPY dirlink /a\nCOPY abs /b\nCOPY up /c\nCOPY real/file /link\nCOPY real /esc/\n",
    );
    assert_eq!(harness.read(&built, "/a/file"), "inside");
    assert_eq!(harness.stat(&built, "/a/kept").as_deref(), Some("link real/file"), "links within are kept");
    assert_eq!(harness.read(&built, "/b"), "inside");
    assert_eq!(harness.read(&built, "/c"), "inside", "`..` stops at the root of the context");
    assert_eq!(harness.read(&built, "/target"), "inside", "a link at the target is followed in the image");
    assert_eq!(harness.stat(&built, "/link").as_deref(), Some("link /target"));
    assert_eq!(harness.read(&built, "/data/file"), "inside");
}

#[test]
#[ignore = "root: makes files of other users"]
fn root_conflicts_between_files_and_directories_are_errors() {
    let harness = Harness::new();
    harness.file("f", "f");
    harness.file("d/x/y", "y");
    let error = harness.fail("FROM busybox\nRUN mkdir -p /t/f\nCOPY f /t/\n").error.to_string();
    assert!(error.contains("over the directory `/t/f`"), "{error}");
    let error = harness.fail("FROM busybox\nRUN mkdir /t && touch /t/x\nCOPY d /t/\n").error.to_string();
    assert!(error.contains("the directory `d/x` over the file `/t/x`"), "{error}");
    let error = harness.fail("FROM busybox\nCOPY f d /t\n").error.to_string();
    assert!(error.contains("must be a directory"), "{error}");
}

#[test]
#[ignore = "root: makes files of other users"]
fn root_hard_links_specials_and_attributes_survive_within_one_copy() {
    let harness = Harness::new();
    harness.file("d/one", "same");
    fs::hard_link(harness.context.join("d/one"), harness.context.join("d/two")).unwrap();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        harness.context.join("d/pipe"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::from_raw_mode(0o600),
        0,
    )
    .unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(harness.context.join("d/socket")).unwrap();
    rustix::fs::setxattr(
        harness.context.join("d/one"),
        "user.note",
        b"kept",
        rustix::fs::XattrFlags::empty(),
    )
    .unwrap();
    let built = harness.build("FROM busybox AS a\nCOPY d /d\nFROM busybox\nCOPY --from=a /d /e\n");
    let root = harness.root(&built.outcome.image);
    let one = root.metadata("/e/one".as_ref()).unwrap();
    let two = root.metadata("/e/two".as_ref()).unwrap();
    assert_eq!((one.identity, one.links), (two.identity, 2));
    assert_eq!(harness.stat(&built, "/e/pipe").as_deref(), Some("fifo"));
    assert_eq!(harness.stat(&built, "/e/socket"), None);
    let xattrs = root.lookup("/e/two".as_ref()).unwrap().xattrs().unwrap();
    assert!(xattrs.iter().any(|xattr| xattr.name.to_bytes() == b"user.note" && xattr.value == b"kept"));
}

#[test]
#[ignore = "root: makes files of other users"]
fn root_exclude_parents_link_and_heredocs() {
    let harness = Harness::new();
    for path in ["s/a.rs", "s/b.txt", "s/deep/c.rs", "s/deep/d.txt", "s/deep/keep.txt", "t/e.rs"] {
        harness.file(path, path);
    }
    let built = harness.build(
        "FROM busybox\nRUN ln -s /elsewhere /l\n\
         COPY --exclude=**/*.txt --exclude=!deep/keep.txt s /x/\n\
         COPY --parents s/deep/*.rs t/e.rs /p/\nCOPY --parents ./s/./deep /q/\nCOPY --parents **/*.rs /r/\n\
         COPY --link s/a.rs /l/a.rs\n\
         ARG WHO=me\nCOPY <<one <<\"two\" /doc/\nhello $WHO\none\nhello $WHO\ntwo\nCOPY --chmod=755 <<EOF /script\n#!/bin/sh\nEOF\n",
    );
    for (path, there) in [
        ("/x/a.rs", true),
        ("/x/b.txt", false),
        ("/x/deep/c.rs", true),
        ("/x/deep/d.txt", false),
        ("/x/deep/keep.txt", true),
        ("/p/s/deep/c.rs", true),
        ("/p/t/e.rs", true),
        ("/q/deep/d.txt", true),
        ("/q/s", false),
        ("/r/s/deep/c.rs", true),
        ("/r/t/e.rs", true),
        ("/r/s/b.txt", false),
        ("/elsewhere", false),
    ] {
        assert_eq!(harness.stat(&built, path).is_some(), there, "{path}");
    }
    assert_eq!(harness.stat(&built, "/l").as_deref(), Some("755 0:0 dir"), "--link knows nothing below it");
    assert_eq!(harness.read(&built, "/doc/one"), "hello me\n");
    assert_eq!(harness.read(&built, "/doc/two"), "hello $WHO\n");
    assert_eq!(harness.stat(&built, "/doc/one").as_deref(), Some("644 0:0 9"));
    assert_eq!(harness.stat(&built, "/script").as_deref(), Some("755 0:0 10"));
}

#[test]
#[ignore = "root: makes files of other users"]
fn root_add_unpacks_archives_by_content_and_copies_all_else() {
    let harness = Harness::new();
    let tree = harness.dir.path().join("tree");
    fs::create_dir_all(tree.join("in")).unwrap();
    fs::write(tree.join("in/file"), "packed").unwrap();
    std::os::unix::fs::chown(tree.join("in/file"), Some(41), Some(42)).unwrap();
    for (flag, name) in [("-cf", "plain.bin"), ("-czf", "zipped.bin")] {
        let status = std::process::Command::new("tar")
            .args([flag, harness.context.join(name).to_str().unwrap(), "-C", tree.to_str().unwrap(), "."])
            .status()
            .unwrap();
        assert!(status.success());
    }
    harness.file("not.tar", "just text");
    let dockerfile = "FROM busybox\nADD plain.bin /a\nADD zipped.bin /b/\nADD not.tar /c/\nADD --unpack=false plain.bin /d/\n\
                      COPY plain.bin /e/\nADD --chown=8:8 plain.bin /f\n";
    let built = harness.build(dockerfile);
    assert_eq!(harness.stat(&built, "/a/in/file").as_deref(), Some("644 41:42 6"));
    assert_eq!(harness.read(&built, "/b/in/file"), "packed");
    assert_eq!(harness.read(&built, "/c/not.tar"), "just text");
    assert!(harness.stat(&built, "/d/plain.bin").is_some());
    assert!(harness.stat(&built, "/e/plain.bin").is_some());
    assert_eq!(harness.stat(&built, "/f/in/file").as_deref(), Some("644 8:8 6"));
    assert_eq!(harness.build(dockerfile).ran(), 0);
}

#[test]
#[ignore = "root: makes files of other users"]
fn root_named_owners_come_from_the_image() {
    let harness = Harness::new();
    harness.file("f", "f");
    let built = harness.build(
        "FROM busybox\nRUN echo app:x:77:78::/home/app:/bin/sh >> /etc/passwd && echo web:x:99: >> /etc/group\n\
         COPY --chown=app f /a\nCOPY --chown=app:web f /b\nUSER app\nWORKDIR /home/app/x\n",
    );
    assert_eq!(harness.stat(&built, "/a").as_deref(), Some("644 77:78 1"));
    assert_eq!(harness.stat(&built, "/b").as_deref(), Some("644 77:99 1"));
    assert_eq!(harness.stat(&built, "/home/app/x").as_deref(), Some("755 77:78 dir"), "WORKDIR is USER's");
    let failed =
        harness.fail("FROM busybox\nRUN echo app:x:77:78::/: >> /etc/passwd\nCOPY --chown=ap f /a\n");
    let text = crate::harness::chain(&failed.error);
    assert!(text.contains("--chown=ap") && text.contains("ap"), "{text}");
}

#[test]
#[ignore = "root: makes files of other users"]
fn root_the_ignore_file_rules_and_its_precedence() {
    let harness = Harness::new();
    for path in
        ["a.log", "keep.log", "node_modules/x", "sub/node_modules/y", "dist/app.js", "dist/keep/z", "b"]
    {
        harness.file(path, path);
    }
    harness.file(".dockerignore", "# comment\n*.log\n!keep.log\nnode_modules\ndist\n!dist/keep\n");
    let there = |built: &crate::harness::Built, path: &str| harness.stat(built, path).is_some();
    let built = harness.build("FROM busybox\nCOPY . /c\n");
    for (path, expected) in [
        ("/c/a.log", false),
        ("/c/keep.log", true),
        ("/c/node_modules", false),
        ("/c/sub/node_modules/y", true),
        ("/c/dist/app.js", false),
        ("/c/dist/keep/z", true),
        ("/c/b", true),
    ] {
        assert_eq!(there(&built, path), expected, "{path}");
    }
    harness.file("Dockerfile", "x");
    harness.file("Dockerfile.dockerignore", "b\n");
    let options = Options { dockerfile_path: Some(harness.context.join("Dockerfile")), ..Options::default() };
    let built = harness.build_with("FROM busybox\nCOPY . /c\n", &options);
    assert!(
        there(&built, "/c/a.log") && !there(&built, "/c/b"),
        "the Dockerfile's own ignore file stands alone"
    );
}

#[test]
#[ignore = "root: makes files of other users"]
fn root_named_contexts_are_folders_and_bases() {
    let harness = Harness::new();
    let other = harness.dir.path().join("other");
    fs::create_dir_all(other.join("etc")).unwrap();
    fs::write(other.join("etc/conf"), "conf").unwrap();
    fs::write(other.join("secret"), "s").unwrap();
    fs::write(other.join(".dockerignore"), "secret\n").unwrap();
    let options = || Options {
        named_contexts: vec![("other", NamedContext::Folder(other.clone()))],
        ..Options::default()
    };
    let dockerfile =
        "FROM other AS o\nFROM busybox\nCOPY --from=other etc/conf /conf\nCOPY --from=o / /all/\n";
    let built = harness.build_with(dockerfile, &options());
    assert_eq!(harness.read(&built, "/conf"), "conf");
    assert_eq!(harness.read(&built, "/all/etc/conf"), "conf");
    assert_eq!(harness.stat(&built, "/all/secret"), None, "a named context has its own ignore file");
    assert_eq!(harness.build_with(dockerfile, &options()).ran(), 0);
}

#[test]
#[ignore = "root: makes files of other users"]
fn root_only_what_changed_is_copied_again() {
    let harness = Harness::new();
    for name in ["same", "changed", "mode", "time"] {
        harness.file(&format!("d/sub/{name}"), name);
    }
    harness.file("d/twin-a", "twin");
    harness.file("d/twin-b", "twin");
    let dockerfile = "FROM busybox\nCOPY d /d\n";
    let first = harness.build(dockerfile);
    harness.file("d/sub/changed", "other");
    fs::set_permissions(harness.context.join("d/sub/mode"), fs::Permissions::from_mode(0o600)).unwrap();
    let time = fs::File::options().write(true).open(harness.context.join("d/sub/time")).unwrap();
    time.set_modified(std::time::SystemTime::UNIX_EPOCH).unwrap();
    fs::rename(harness.context.join("d/twin-b"), harness.context.join("d/twin-c")).unwrap();
    let second = harness.build(dockerfile);
    let inode = |built: &crate::harness::Built, path: &str| {
        harness.root(&built.outcome.image).metadata(path.as_ref()).unwrap().identity
    };
    let linked = |path: &str| inode(&first, path) == inode(&second, path);
    assert!(linked("/d/sub/same") && linked("/d/twin-a"));
    for path in ["/d/sub/changed", "/d/sub/mode", "/d/sub/time"] {
        assert!(!linked(path), "{path}");
    }
    assert_ne!(inode(&second, "/d/twin-a"), inode(&second, "/d/twin-c"), "equal files are no hard links");
    assert_eq!(harness.read(&second, "/d/sub/changed"), "other");
    assert_eq!(harness.read(&first, "/d/sub/changed"), "changed");
    assert_eq!(harness.stat(&second, "/d/sub/mode").as_deref(), Some("600 0:0 4"));
    let time = harness.root(&second.outcome.image).metadata("/d/sub/time".as_ref()).unwrap().mtime;
    assert_eq!(time.seconds, 0);
}

#[test]
#[ignore = "root: makes files of other users"]
fn root_a_copy_over_a_lower_file_or_link_replaces_it() {
    let harness = Harness::new();
    harness.file("d/name", "new");
    let built = harness.build(
        "FROM busybox\nRUN mkdir /t && ln -s /etc/passwd /t/name && cp /etc/passwd /before\nCOPY d /t\nRUN cat /t/name\n",
    );
    assert_eq!(harness.read(&built, "/t/name"), "new", "a link within the target is replaced, not followed");
    assert_eq!(harness.read(&built, "/etc/passwd"), harness.read(&built, "/before"));
    assert_eq!(built.log("RUN cat"), "new");
}
