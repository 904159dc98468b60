//! Stopping a build.

use std::time::{Duration, Instant};

use builder::event::BuildEvent;
use builder::{BuildError, CancelToken};

use crate::harness::{Harness, Options};

#[test]
#[ignore = "root: mounts overlayfs"]
fn root_a_cancelled_build_is_gone_within_a_second_and_leaves_the_store_clean() {
    let harness = Harness::new();
    let cancel = CancelToken::new().unwrap();
    let dockerfile = "FROM busybox AS a\nRUN trap '' TERM; sleep 5432 & wait; sleep 5432\nFROM busybox AS b\nRUN sleep 5432\nFROM busybox\n\
                      COPY --from=a /x /\nCOPY --from=b /x /\n";
    let started = Instant::now();
    let (failed, took) = std::thread::scope(|scope| {
        let options = Options { cancel: Some(cancel.clone()), ..Options::default() };
        let harness = &harness;
        let build = scope.spawn(move || {
            let failed = harness.fail_with(dockerfile, &options);
            (failed, Instant::now())
        });
        while testutil::processes_with_argument("5432").len() < 2 {
            assert!(started.elapsed() < Duration::from_secs(60), "the steps never ran");
            std::thread::sleep(Duration::from_millis(10));
        }
        let asked = Instant::now();
        cancel.cancel();
        let (failed, ended) = build.join().unwrap();
        (failed, ended - asked)
    });
    assert!(matches!(failed.error, BuildError::Cancelled), "{}", failed.error);
    assert!(took < Duration::from_secs(1), "{took:?}");
    let cancelled = failed.events.iter().filter(|event| matches!(event, BuildEvent::Cancelled(_))).count();
    assert_eq!(cancelled, 2);
    testutil::LeakCheck::new(harness.dir.path()).with_argument("5432").assert_clean(Duration::from_secs(2));
    let left: Vec<_> = std::fs::read_dir(harness.store.options().root.join("tmp"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| !name.ends_with(".lease"))
        .collect();
    assert!(left.is_empty(), "{left:?}");
    // Its locks are free again.
    let built = harness
        .build(&dockerfile.replace("5432", "0").replace("COPY --from=a /x /\nCOPY --from=b /x /\n", ""));
    assert_eq!(built.outcome.steps, 0);
}

#[test]
#[ignore = "root: mounts overlayfs"]
fn root_a_build_that_waits_for_another_ones_cache_can_be_stopped() {
    let harness = Harness::new();
    let cancel = CancelToken::new().unwrap();
    let step = |n: u32| format!("FROM busybox\nRUN --mount=type=cache,target=/c,sharing=locked sleep {n}\n");
    std::thread::scope(|scope| {
        let first_cancel = CancelToken::new().unwrap();
        let first_options = Options { cancel: Some(first_cancel.clone()), ..Options::default() };
        let (first, second) = (step(4321), step(4322));
        let harness = &harness;
        let holder = scope.spawn(move || harness.fail_with(&first, &first_options));
        while testutil::processes_with_argument("4321").is_empty() {
            std::thread::sleep(Duration::from_millis(10));
        }
        let options = Options { cancel: Some(cancel.clone()), ..Options::default() };
        let waiter = scope.spawn(move || harness.fail_with(&second, &options));
        std::thread::sleep(Duration::from_millis(300));
        let asked = Instant::now();
        cancel.cancel();
        let failed = waiter.join().unwrap();
        assert!(matches!(failed.error, BuildError::Cancelled), "{}", failed.error);
        assert!(asked.elapsed() < Duration::from_secs(1));
        first_cancel.cancel();
        holder.join().unwrap();
    });
}

#[test]
#[ignore = "root: makes files of other users"]
fn root_a_stop_does_not_wait_for_the_end_of_a_large_file() {
    let harness = Harness::new();
    std::fs::File::create(harness.context.join("big")).unwrap().set_len(1 << 40).unwrap();
    let cancel = CancelToken::new().unwrap();
    std::thread::scope(|scope| {
        let options = Options { cancel: Some(cancel.clone()), ..Options::default() };
        let harness = &harness;
        let build = scope.spawn(move || harness.fail_with("FROM busybox\nCOPY big /big\n", &options));
        std::thread::sleep(Duration::from_millis(300));
        let asked = Instant::now();
        cancel.cancel();
        let failed = build.join().unwrap();
        assert!(matches!(failed.error, BuildError::Cancelled), "{}", failed.error);
        assert!(asked.elapsed() < Duration::from_secs(1), "{:?}", asked.elapsed());
    });
}
