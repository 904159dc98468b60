//! Kill -9 of a build at random moments.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::harness::{Calque, Kernel, build_arguments};
use crate::interrupt::in_flight;
use testutil::Seed;

const DOCKERFILE: &str = "\
FROM busybox AS left
ARG NONCE
COPY tree/ /tree/
RUN echo $NONCE > /left && cp -r /tree /copy
FROM busybox AS right
ARG NONCE
RUN --mount=type=cache,target=/cache echo $NONCE >> /cache/log; mkdir /right && for i in 1 2 3 4 5 6 7 8 9; do echo $NONCE > /right/$i; done
FROM busybox
ARG NONCE
WORKDIR /app/$NONCE
COPY --from=left /copy /app/copy
COPY --from=right /right /app/right
RUN rm -r /app/copy/dir1 && echo $NONCE > /app/last
";

#[test]
#[ignore = "root: starts containers"]
fn root_a_build_killed_at_any_moment_leaves_a_usable_store() {
    let rounds = if std::env::var_os("CALQUE_SOAK").is_some() { 100 } else { 10 };
    let mut seed = Seed::from_environment(20_261_124);
    println!("soak: kill -9 at {rounds} random moments, seed {}", seed.value());
    let calque = Calque::with_busybox(Kernel::Newest);
    let files: Vec<(String, String)> = (0..200)
        .map(|number| {
            (format!("tree/dir{}/file{number}", number % 10), format!("content {number}\n").repeat(50))
        })
        .collect();
    let mut context: Vec<(&str, &str)> =
        files.iter().map(|(path, text)| (path.as_str(), text.as_str())).collect();
    context.push(("Dockerfile", DOCKERFILE));
    let context = calque.context("app", &context);
    let arguments =
        |nonce: &str| build_arguments(&context, "app", &["--build-arg", &format!("NONCE={nonce}")]);

    let started = Instant::now();
    calque.ok(arguments("whole"));
    let whole = started.elapsed();

    for round in 0..rounds {
        let nonce = format!("n{round}");
        let moment = Duration::from_micros(seed.below(u64::try_from(whole.as_micros()).unwrap() * 11 / 10));
        let started = calque.start(arguments(&nonce));
        // The moment itself is what is tested here, so this waits for time.
        std::thread::sleep(moment);
        started.signal(rustix::process::Signal::KILL);
        let killed = started.wait();

        let next = calque.run(arguments(&nonce));
        assert_eq!(next.code, 0, "round {round}, killed after {moment:?} ({killed:?}):\n{}", next.stderr);
        let seen = calque.shell(
            "app",
            "cat /app/last /left 2>/dev/null; ls /app/right | wc -l; ls /app/copy | wc -l; pwd",
        );
        assert!(
            seen.starts_with(&format!("{nonce}\n9\n9\n")),
            "round {round}, killed after {moment:?}: {seen}"
        );
        calque.assert_nothing_mounted();
        // What the dead build had in flight was swept; a lease of a helper that still syncs may be there for a moment.
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            calque.ok(["image", "ls"]);
            let left = in_flight(calque.store());
            if left.is_empty() {
                break;
            }
            assert!(Instant::now() < deadline, "round {round}, killed after {moment:?}: {left:?}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
    assert_df_agrees_with_du(&calque);
}

/// `system df` and what lies on the disk, within 2 % or 256 KiB (the index grows while it is asked).
#[track_caller]
pub(crate) fn assert_df_agrees_with_du(calque: &Calque) {
    let text = calque.ok(["system", "df", "--format", "json"]).stdout;
    let rows: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let store = rows.iter().find(|row| row["Type"] == "Store").expect("the whole store has a row");
    let told = store["SizeBytes"].as_f64().unwrap();
    let found = disk_usage(calque.store());
    let difference = (told - found).abs();
    assert!(
        difference <= (found * 0.02).max(262_144.0),
        "`system df` tells {told} bytes, `du` {found}:\n{}",
        calque.ok(["system", "df"]).stdout
    );
}

/// As `du -s`: allocated blocks, each inode once.
fn disk_usage(dir: &Path) -> f64 {
    let mut seen = std::collections::BTreeSet::new();
    let mut pending = vec![dir.to_owned()];
    let mut blocks = 0_u64;
    while let Some(dir) = pending.pop() {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            let metadata = std::fs::symlink_metadata(&path).unwrap();
            if seen.insert(metadata.ino()) {
                blocks += metadata.blocks();
            }
            if metadata.is_dir() {
                pending.push(path);
            }
        }
    }
    blocks as f64 * 512.0
}
