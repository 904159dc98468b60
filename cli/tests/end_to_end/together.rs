//! Several calques on one store.

use crate::harness::{Calque, Kernel, build_arguments};

#[test]
#[ignore = "root: starts containers"]
fn root_two_builds_at_once_execute_each_step_once() {
    let calque = Calque::with_busybox(Kernel::Newest);
    // A cache mount's content is not in the key, so steps can count how often they ran.
    let dockerfile = "\
FROM busybox AS left
RUN --mount=type=cache,id=count,target=/count echo left >> /count/log; sleep 0.5; echo left > /left
FROM busybox AS right
RUN --mount=type=cache,id=count,target=/count echo right >> /count/log; sleep 0.5; echo right > /right
FROM busybox
COPY a.txt /
RUN --mount=type=cache,id=count,target=/count echo first >> /count/log; sleep 0.5; echo first > /first
COPY --from=left /left /
COPY --from=right /right /
RUN --mount=type=cache,id=count,target=/count echo last >> /count/log; sleep 0.5; echo last > /last
";
    let context = calque.context("app", &[("Dockerfile", dockerfile), ("a.txt", "a\n")]);
    let (one, two) = (
        calque.start(build_arguments(&context, "one", &[])),
        calque.start(build_arguments(&context, "two", &[])),
    );
    let (one, two) = (one.wait(), two.wait());
    one.assert_code(0);
    two.assert_code(0);
    assert_eq!(calque.image_id("one"), calque.image_id("two"));

    let counter = calque.context(
        "counter",
        &[(
            "Dockerfile",
            "FROM busybox\nRUN --mount=type=cache,id=count,target=/count sort /count/log > /log\n",
        )],
    );
    calque.build(&counter, "counter");
    assert_eq!(calque.shell("counter", "cat /log"), "first\nlast\nleft\nright\n");
    assert!(
        one.stderr.contains("another build runs this very step")
            || two.stderr.contains("another build runs this very step"),
        "the one that waits says so:\n{}\n---\n{}",
        one.stderr,
        two.stderr
    );
}

#[test]
#[ignore = "root: starts containers"]
fn root_eight_processes_use_one_store() {
    let calque = Calque::with_busybox(Kernel::Newest);
    let contexts: Vec<_> = (0..8)
        .map(|number| {
            let dockerfile = format!("FROM busybox\nCOPY shared.txt /\nRUN echo {number} > /number\n");
            calque.context(
                &format!("app{number}"),
                &[("Dockerfile", dockerfile.as_str()), ("shared.txt", "same\n")],
            )
        })
        .collect();
    let started: Vec<_> = contexts
        .iter()
        .enumerate()
        .map(|(number, context)| calque.start(build_arguments(context, &format!("app{number}"), &[])))
        .collect();
    for started in started {
        started.wait().assert_code(0);
    }
    let running: Vec<_> = (0..8)
        .map(|number| {
            calque.start([
                "run",
                "--rm",
                "--network",
                "none",
                format!("app{number}").as_str(),
                "cat",
                "/number",
            ])
        })
        .collect();
    for (number, running) in running.into_iter().enumerate() {
        let outcome = running.wait();
        outcome.assert_code(0);
        assert_eq!(outcome.stdout, format!("{number}\n"));
    }
}
