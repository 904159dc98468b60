//! What is found again, why it isn't, and when an earlier layer is taken.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::harness::{Harness, Options, transcript};

const APP: &str = "FROM busybox AS build\nWORKDIR /src\nCOPY src /src\nARG VERSION=1\nENV MODE=fast\nRUN cat app.rs > /out && echo $VERSION >> /out\n\
                   FROM busybox\nCOPY --from=build /out /app\nCMD [\"/app\"]\n";

fn app() -> Harness {
    let harness = Harness::new();
    harness.file("src/app.rs", "fn main() {}");
    harness.file("src/lib.rs", "lib");
    symlink("lib.rs", harness.context.join("src/link")).unwrap();
    harness
}

#[test]
#[ignore = "root: mounts overlayfs"]
fn root_a_second_build_runs_nothing_and_makes_the_same_image() {
    let harness = app();
    let first = harness.build(APP);
    assert_eq!((first.outcome.steps, first.outcome.cached), (4, 0));
    let second = harness.build(APP);
    assert_eq!((second.outcome.steps, second.outcome.cached), (4, 4));
    assert!(second.is_cached("COPY src") && second.is_cached("RUN cat"));
    assert_eq!(second.outcome.image.id, first.outcome.image.id);
    assert_eq!(harness.read(&second, "/app"), "fn main() {}1\n");
}

#[test]
#[ignore = "root: mounts overlayfs"]
fn root_each_single_change_names_its_cause() {
    let harness = app();
    harness.build(APP);
    let context = harness.context.clone();
    let check = |what: &str, dockerfile: &str, options: &Options<'_>, step: &str, cause: &str| {
        let built = harness.build_with(dockerfile, options);
        let told = built.cause(step);
        // The next change is compared with the usual build.
        harness.build_with(APP, &Options { no_cache: true, ..Options::default() });
        assert!(
            told.as_deref().is_some_and(|told| told.contains(cause)),
            "{what}: {told:?}\n{}",
            transcript(&built.events)
        );
    };
    let usual = Options::default();
    fs::write(context.join("src/app.rs"), "fn main() { }").unwrap();
    check("content", APP, &usual, "COPY src", "src/app.rs changed");
    fs::set_permissions(context.join("src/app.rs"), fs::Permissions::from_mode(0o755)).unwrap();
    check("mode", APP, &usual, "COPY src", "src/app.rs");
    fs::write(context.join("src/new.rs"), "n").unwrap();
    check("added", APP, &usual, "COPY src", "src/new.rs");
    fs::remove_file(context.join("src/new.rs")).unwrap();
    fs::write(context.join("src/other.rs"), "o").unwrap();
    harness.build(APP);
    fs::remove_file(context.join("src/other.rs")).unwrap();
    fs::write(context.join("src/app.rs"), "something new").unwrap();
    harness.build(APP);
    fs::rename(context.join("src/lib.rs"), context.join("src/lob.rs")).unwrap();
    check("renamed", APP, &usual, "COPY src", "lob.rs");
    fs::remove_file(context.join("src/link")).unwrap();
    symlink("lob.rs", context.join("src/link")).unwrap();
    check("link", APP, &usual, "COPY src", "src/link");
    let arg = Options { build_args: &[("VERSION", "2")], ..Options::default() };
    check("arg", APP, &arg, "RUN cat", "VERSION");
    check("env", &APP.replace("MODE=fast", "MODE=slow"), &usual, "RUN cat", "MODE");
    check("text", &APP.replace("cat app.rs", "cat ./app.rs"), &usual, "RUN cat", "app.rs");
    harness.add_base("busybox", "moved");
    check("base", APP, &usual, "COPY --from", "busybox");
}

#[test]
#[ignore = "root: mounts overlayfs"]
fn root_what_no_step_sees_is_no_miss() {
    let harness = app();
    let first = harness.build(APP);
    harness.file("unrelated.txt", "not copied");
    let now = rustix::fs::Timestamps {
        last_access: rustix::fs::Timespec { tv_sec: 1, tv_nsec: 0 },
        last_modification: rustix::fs::Timespec { tv_sec: 1_000_000, tv_nsec: 0 },
    };
    rustix::fs::utimensat(
        rustix::fs::CWD,
        harness.context.join("src/app.rs"),
        &now,
        rustix::fs::AtFlags::empty(),
    )
    .unwrap();
    let moved = harness.dir.path().join("moved");
    let status =
        std::process::Command::new("cp").arg("-a").arg(&harness.context).arg(&moved).status().unwrap();
    assert!(status.success());
    for (what, dockerfile, options) in [
        ("time", APP.to_owned(), Options::default()),
        ("comment", format!("# a comment\n{}", APP.replace("RUN", "# another\nRUN")), Options::default()),
        ("white space", APP.replace("COPY src /src", "COPY   src   /src"), Options::default()),
        ("an ARG of another stage", format!("{APP}ARG LATE=1\n"), Options::default()),
        (
            "an argument that isn't declared",
            APP.to_owned(),
            Options { build_args: &[("UNKNOWN", "1")], ..Options::default() },
        ),
        ("another path", APP.to_owned(), Options { context: Some(moved), ..Options::default() }),
    ] {
        let built = harness.build_with(&dockerfile, &options);
        assert_eq!(built.ran(), 0, "{what}:\n{}", transcript(&built.events));
        if what != "an ARG of another stage" {
            assert_eq!(built.outcome.image.id, first.outcome.image.id, "{what}");
        }
    }
}

#[test]
#[ignore = "root: mounts overlayfs"]
fn root_equal_content_is_cut_off_early() {
    let harness = app();
    let first = harness.build(APP);
    // The comment changes what is copied, not what RUN makes of it.
    harness.file("src/lib.rs", "lib // with a comment");
    let second = harness.build(APP);
    assert!(!second.is_cached("COPY src") && !second.is_cached("RUN cat"));
    assert!(second.is_cached("COPY --from=build"), "{}", transcript(&second.events));
    assert_eq!(second.outcome.image.id, first.outcome.image.id, "push nothing");
    assert!(second.events.iter().any(|event| matches!(event, builder::event::BuildEvent::SameAsBefore(_))));
}

#[test]
#[ignore = "root: mounts overlayfs"]
fn root_a_child_of_an_equal_parent_is_found_by_content() {
    let harness = Harness::new();
    harness.file("f", "1");
    let dockerfile = "FROM busybox\nCOPY f /tmp/f\nRUN rm /tmp/f && rmdir /tmp 2>/dev/null; mkdir -p /made && touch -d @1 /made /tmp\nRUN echo child > /child\n";
    let first = harness.build(dockerfile);
    let spaced = dockerfile.replace("touch -d @1", "touch  -d @1");
    let second = harness.build(&spaced);
    assert!(!second.is_cached("RUN rm"), "its text changed");
    assert!(second.is_cached("RUN echo child"), "{}", transcript(&second.events));
    assert_eq!(second.outcome.image.layers, first.outcome.image.layers);
}

#[test]
#[ignore = "root: mounts overlayfs"]
fn root_a_time_that_was_chosen_counts() {
    let harness = Harness::new();
    let build =
        |year: u32| harness.build(&format!("FROM busybox\nRUN touch -d '{year}-01-01 00:00:00' /a\n"));
    let (first, second) = (build(2001), build(2002));
    let mtime = |built: &crate::harness::Built| {
        harness.root(&built.outcome.image).metadata("/a".as_ref()).unwrap().mtime.seconds
    };
    assert_eq!((mtime(&first), mtime(&second)), (978_307_200, 1_009_843_200));
    assert_ne!(first.outcome.image.id, second.outcome.image.id);
}

#[test]
#[ignore = "root: mounts overlayfs"]
fn root_a_file_edited_between_key_and_copy_is_never_a_wrong_hit() {
    let harness = Harness::new();
    for round in 0..8 {
        harness.file("d/f", &format!("old {round}"));
        let edits = AtomicUsize::new(0);
        let path = harness.context.join("d/f");
        let edit = |_: &str| {
            if edits.fetch_add(1, Ordering::SeqCst) == 0 {
                if round % 3 == 2 {
                    fs::remove_file(&path).unwrap();
                } else {
                    fs::write(&path, format!("new {round}")).unwrap();
                }
            }
        };
        let dockerfile = "FROM busybox\nCOPY d /d\n";
        let options = Options { hook: Some(&edit), ..Options::default() };
        let built = harness.build_with(dockerfile, &options);
        if round % 3 == 2 {
            assert_eq!(harness.stat(&built, "/d/f"), None);
        } else {
            assert_eq!(harness.read(&built, "/d/f"), format!("new {round}"));
        }
        // The old content must not be found under the new one's key, nor the reverse.
        harness.file("d/f", &format!("old {round}"));
        let built = harness.build(dockerfile);
        assert_eq!(harness.read(&built, "/d/f"), format!("old {round}"));
    }
    let counter = AtomicUsize::new(0);
    harness.file("d/f", "start");
    let always = |_: &str| {
        fs::write(harness.context.join("d/f"), counter.fetch_add(1, Ordering::SeqCst).to_string()).unwrap()
    };
    let failed = harness
        .fail_with("FROM busybox\nCOPY d /e\n", &Options { hook: Some(&always), ..Options::default() });
    assert!(failed.error.to_string().contains("`d/f` keeps changing"), "{}", failed.error);
}

#[test]
#[ignore = "root: mounts overlayfs"]
fn root_edits_that_keep_size_and_time_are_seen() {
    let harness = Harness::new();
    harness.file("f", "0000");
    let time = fs::metadata(harness.context.join("f")).unwrap().modified().unwrap();
    let dockerfile = "FROM busybox\nCOPY f /f\n";
    harness.build(dockerfile);
    for round in 1..20 {
        let content = format!("{round:04}");
        harness.file("f", &content);
        fs::File::options().write(true).open(harness.context.join("f")).unwrap().set_modified(time).unwrap();
        assert_eq!(harness.read(&harness.build(dockerfile), "/f"), content);
    }
}

#[test]
#[ignore = "root: mounts overlayfs"]
fn root_without_the_cache_everything_runs_and_is_recorded() {
    let harness = app();
    harness.build(APP);
    let built = harness.build_with(APP, &Options { no_cache: true, ..Options::default() });
    assert_eq!(built.outcome.cached, 0);
    assert_eq!(harness.build(APP).ran(), 0);
}

#[test]
#[ignore = "root: mounts overlayfs"]
fn root_the_same_step_wanted_twice_runs_once() {
    let harness = Harness::new();
    let dockerfile = "FROM busybox\nRUN sleep 1; echo $RANDOM$RANDOM > /r\n";
    let (first, second) = std::thread::scope(|scope| {
        let first = scope.spawn(|| harness.build(dockerfile));
        let second = scope.spawn(|| harness.build(dockerfile));
        (first.join().unwrap(), second.join().unwrap())
    });
    assert_eq!(first.ran() + second.ran(), 1);
    assert_eq!(first.outcome.image.layers, second.outcome.image.layers);
    let waited = |built: &crate::harness::Built| {
        built.events.iter().any(|event| matches!(event, builder::event::BuildEvent::WaitingForOtherBuild(_)))
    };
    assert!(waited(&first) || waited(&second));
}

#[test]
#[ignore = "root: mounts overlayfs"]
fn root_an_unchanged_context_is_not_read_again() {
    let harness = Harness::new();
    for n in 0..50 {
        harness.file(&format!("d/{n}"), &n.to_string());
    }
    let old = rustix::fs::Timestamps {
        last_access: rustix::fs::Timespec { tv_sec: 1, tv_nsec: 0 },
        last_modification: rustix::fs::Timespec { tv_sec: 1_000_000, tv_nsec: 0 },
    };
    for n in 0..50 {
        let path = harness.context.join(format!("d/{n}"));
        rustix::fs::utimensat(rustix::fs::CWD, path, &old, rustix::fs::AtFlags::empty()).unwrap();
    }
    // ctime can't be set: wait until it is old enough for the racily clean rule.
    std::thread::sleep(std::time::Duration::from_millis(2100));
    let dockerfile = "FROM busybox\nCOPY d /d\n";
    harness.build(dockerfile);
    let read_before = io_read_calls();
    let built = harness.build(dockerfile);
    let reads = io_read_calls() - read_before;
    assert_eq!(built.ran(), 0);
    // The first build of this test process read each file at least twice; now none is opened.
    assert!(reads < 50, "{reads} reads");
}

/// `syscr` of this process: read calls. Other tests of the binary run beside, so the limit above is generous only
/// when this test runs alone; see `make test`.
fn io_read_calls() -> u64 {
    let text = fs::read_to_string("/proc/thread-self/io").unwrap();
    text.lines().find_map(|line| line.strip_prefix("syscr: ")).unwrap().parse().unwrap()
}
