//! Several stages: side by side, only those that are needed, and what they share.

use std::time::{Duration, Instant};

use crate::harness::{Harness, Options, transcript};

#[test]
#[ignore = "root: mounts overlayfs"]
fn root_stages_run_side_by_side() {
    let harness = Harness::new();
    let mut dockerfile = String::new();
    for name in ["a", "b", "c"] {
        dockerfile.push_str(&format!("FROM busybox AS {name}\nRUN sleep 2; echo {name} > /{name}\n"));
    }
    dockerfile.push_str(
        "FROM busybox\nCOPY --from=a /a /\nCOPY --from=b /b /\nCOPY --from=c /c /\nRUN cat /a /b /c\n",
    );
    let started = Instant::now();
    let built = harness.build(&dockerfile);
    // One after another they take six seconds.
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
    assert_eq!(built.log("RUN cat"), "a\nb\nc\n");
}

#[test]
#[ignore = "root: mounts overlayfs"]
fn root_only_needed_stages_run() {
    let harness = Harness::new();
    let dockerfile = "FROM busybox AS broken\nRUN exit 1\nFROM busybox AS base\nRUN echo base > /x\nFROM base AS one\nRUN echo one >> /x\n\
                      FROM base AS two\nRUN echo two >> /x\nFROM broken\n";
    let built = harness.build_with(dockerfile, &Options { target: Some("two"), ..Options::default() });
    assert_eq!(harness.read(&built, "/x"), "base\ntwo\n");
    assert!(!transcript(&built.events).contains("exit 1"));
    assert!(!transcript(&built.events).contains("echo one"));
    let built = harness.build_with(dockerfile, &Options { target: Some("one"), ..Options::default() });
    assert_eq!((built.ran(), harness.read(&built, "/x")), (1, "base\none\n".to_owned()));
}

#[test]
#[ignore = "root: mounts overlayfs"]
fn root_the_first_error_stops_the_others_and_is_the_one_told() {
    let harness = Harness::new();
    let started = Instant::now();
    let failed = harness.fail(
        "FROM busybox AS slow\nRUN sleep 6543\nFROM busybox AS bad\nRUN sleep 1; exit 3\nFROM busybox\nCOPY --from=slow /x /\nCOPY --from=bad /x /\n",
    );
    assert!(started.elapsed() < Duration::from_secs(30), "{:?}", started.elapsed());
    assert!(failed.error.to_string().contains("exit code: 3"), "{}", failed.error);
    let cancelled =
        failed.events.iter().any(|event| matches!(event, builder::event::BuildEvent::Cancelled(_)));
    assert!(cancelled, "{}", transcript(&failed.events));
    testutil::LeakCheck::new(harness.dir.path()).with_argument("6543").assert_clean(Duration::from_secs(5));
}

#[test]
#[ignore = "root: mounts overlayfs"]
fn root_labels_say_stage_and_number() {
    let harness = Harness::new();
    harness.file("f", "f");
    let built = harness.build(
        "FROM busybox AS b\nRUN true\nFROM busybox\nENV A=1\nCOPY --from=b /etc/passwd /p\nCOPY f /f\n",
    );
    let text = transcript(&built.events);
    for label in ["[b 1/2] FROM busybox", "[b 2/2] RUN true", "3/3] COPY f /f"] {
        assert!(text.contains(label), "{label}:\n{text}");
    }
}
