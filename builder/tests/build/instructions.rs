//! What instructions beside RUN and COPY leave in an image, and what a child image makes of it.

use std::fs::File;
use std::io::Write;
use std::process::Command;

use builder::NamedContext;

use crate::harness::{Harness, Options, chain};

#[test]
#[ignore = "root: mounts overlayfs"]
fn root_onbuild_of_an_image_runs_once_in_order_in_its_child() {
    let harness = Harness::new();
    harness.file("f", "of the child");
    let parent = harness.build_with(
        "FROM busybox\nONBUILD RUN echo first > /log\nONBUILD COPY f /f\nONBUILD RUN echo second >> /log\nONBUILD ENV A=1\n",
        &Options { tags: &["parent:latest"], ..Options::default() },
    );
    assert_eq!(parent.config().config.on_build.len(), 4);
    assert_eq!(harness.stat(&parent, "/log"), None, "nothing runs in the parent itself");
    let child = harness.build_with(
        "FROM parent\nRUN echo own $A >> /log\n",
        &Options { tags: &["child:latest"], ..Options::default() },
    );
    assert_eq!(harness.read(&child, "/log"), "first\nsecond\nown 1\n");
    assert_eq!(harness.read(&child, "/f"), "of the child");
    assert!(child.config().config.on_build.is_empty());
    let grandchild = harness.build("FROM child\nRUN cat /log\n");
    assert_eq!(grandchild.ran(), 1, "a grandchild has no triggers");
}

#[test]
#[ignore = "root: mounts overlayfs"]
fn root_onbuild_may_copy_from_a_stage_of_the_child() {
    let harness = Harness::new();
    harness.build_with(
        "FROM busybox\nONBUILD COPY --from=made /made /made\n",
        &Options { tags: &["parent:latest"], ..Options::default() },
    );
    let child = harness.build("FROM busybox AS made\nRUN echo made > /made\nFROM parent\n");
    assert_eq!(harness.read(&child, "/made"), "made\n");
    let error = harness.fail("FROM busybox\nONBUILD ONBUILD RUN x\n").error;
    assert!(chain(&error).to_lowercase().contains("onbuild"), "{}", chain(&error));
}

#[test]
#[ignore = "root: makes files of other users"]
fn root_add_unpacks_every_compression() {
    let harness = Harness::new();
    harness.file("in/file", "packed");
    let tar = Command::new("tar").arg("-cC").arg(&harness.context).arg("in").output().unwrap().stdout;
    let create = |name: &str| File::create(harness.context.join(name)).unwrap();
    create("plain").write_all(&tar).unwrap();
    let mut bzip2 = bzip2::write::BzEncoder::new(create("bz"), bzip2::Compression::default());
    bzip2.write_all(&tar).unwrap();
    bzip2.finish().unwrap();
    let mut xz = liblzma::write::XzEncoder::new(create("xz"), 1);
    xz.write_all(&tar).unwrap();
    xz.finish().unwrap();
    create("zst").write_all(&zstd::encode_all(&tar[..], 1).unwrap()).unwrap();
    let built = harness.build("FROM scratch\nADD plain /a/\nADD bz /b/\nADD xz /c/\nADD zst /d/\n");
    for dir in ["a", "b", "c", "d"] {
        assert_eq!(harness.read(&built, &format!("/{dir}/in/file")), "packed", "{dir}");
    }
}

#[test]
#[ignore = "root: mounts overlayfs"]
fn root_history_has_dockers_texts_and_says_which_rows_are_empty() {
    let harness = Harness::new();
    harness.file("a", "a");
    let built = harness.build(
        "FROM busybox\nARG V=1\nENV A=b\nWORKDIR /x\nWORKDIR /\nCOPY --chown=1:2 a /a\nADD a /b\nRUN true\nCMD [\"a\", \"b\"]\n\
         VOLUME /v\nEXPOSE 80\nUSER 1\nLABEL a=b\nSTOPSIGNAL TERM\n",
    );
    let rows: Vec<(String, bool)> = built
        .config()
        .history
        .iter()
        .map(|row| (row.created_by.clone().unwrap_or_default(), row.empty_layer))
        .collect();
    let expected = [
        ("ARG V=1", true),
        ("ENV A=b", true),
        ("WORKDIR /x", false),
        ("WORKDIR /", true),
        ("COPY --chown=1:2 a /a # buildkit", false),
        ("ADD a /b # buildkit", false),
        ("RUN |1 V=1 /bin/sh -c true # buildkit", false),
        ("CMD [\"a\" \"b\"]", true),
        ("VOLUME [/v]", true),
        ("EXPOSE [80/tcp]", true),
        ("USER 1", true),
        ("LABEL a=b", true),
        ("STOPSIGNAL TERM", true),
    ];
    let rows: Vec<(&str, bool)> = rows.iter().map(|(text, empty)| (text.as_str(), *empty)).collect();
    let own = &rows[rows.len() - expected.len()..];
    assert_eq!(own, expected);
    let layers = built.config().history.iter().filter(|row| !row.empty_layer).count();
    assert_eq!(layers + 1, built.config().rootfs.diff_ids.len(), "the base's layer has no row");
}

#[test]
#[ignore = "root: mounts overlayfs"]
fn root_what_is_written_into_a_volume_stays_and_a_user_is_looked_up_when_something_runs() {
    let harness = Harness::new();
    let built =
        harness.build("FROM busybox\nVOLUME /v\nRUN mkdir -p /v && echo x > /v/x\nUSER nobody-there\n");
    assert_eq!(harness.read(&built, "/v/x"), "x\n");
    assert_eq!(built.config().config.user, "nobody-there");
    let error = harness.fail("FROM busybox\nUSER nobody-there\nRUN true\n").error;
    assert!(chain(&error).contains("nobody-there"), "{}", chain(&error));
}

#[test]
#[ignore = "root: makes files of other users"]
fn root_a_commit_of_a_git_repository_is_a_named_context() {
    let harness = Harness::new();
    let base = harness.dir.path().join("repositories");
    crate::remote::repository(&base.join("x.git"));
    let daemon = crate::remote::Daemon::new(&base);
    let git = |fragment: &str| {
        let text = format!("{}/x.git#{fragment}", daemon.address);
        match builder::RemoteSource::parse(&text).unwrap() {
            Some(builder::RemoteSource::Git(source)) => NamedContext::Git(source),
            other => panic!("{other:?}"),
        }
    };
    let options = |fragment| Options { named_contexts: vec![("src", git(fragment))], ..Options::default() };
    let dockerfile = "FROM busybox\nCOPY --from=src . /x/\nRUN --mount=from=src,target=/m ls /m > /list\n";
    let built = harness.build_with(dockerfile, &options("v1"));
    assert_eq!(harness.read(&built, "/x/sub/file"), "one");
    assert_eq!(harness.read(&built, "/list"), "out\nrun.sh\nsub\n");
    assert_eq!(harness.build_with(dockerfile, &options("v1")).ran(), 0);
    let built = harness.build_with(dockerfile, &options("main:sub"));
    assert_eq!(harness.read(&built, "/x/file"), "two");
    let failed = harness.fail_with(dockerfile, &options("main:out"));
    assert!(chain(&failed.error).contains("cannot open the build context `out`"), "{}", chain(&failed.error));
}
