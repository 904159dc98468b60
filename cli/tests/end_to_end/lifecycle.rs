//! Build and run, in the newest and the oldest kernel mode.

use crate::harness::{ALL_KERNELS, Calque, Kernel};
use testutil::workspace_dir;

const DETERMINISTIC: &str = "\
FROM busybox AS made
WORKDIR /work/deep
COPY --chmod=0640 a.txt b/ ./
RUN mkdir /made && echo made > /made/file && ln /made/file /made/hard && ln -s file /made/soft \\
    && chown 1234:2345 /made/file && mkfifo /made/pipe && rm /etc/shadow && rm -r /var/www && mkdir /var/www \\
    && touch -h -d '2001-02-03 00:00:00' /made/soft && touch -d '2001-02-03 00:00:00' /made/file /made/pipe /made /etc /var/www /var /
FROM busybox
COPY --from=made /made/ /made/
COPY --from=made --chown=5:6 /work /work
ENV GREETING=hello
USER nobody
CMD [\"sh\", \"-c\", \"echo $GREETING from $(id -un); cat /made/soft\"]
";

#[test]
#[ignore = "root: mounts overlays and starts containers"]
fn root_both_kernel_modes_give_the_same_diff_ids() {
    let mut results = Vec::new();
    for kernel in ALL_KERNELS {
        let calque = Calque::with_busybox(kernel);
        let context = calque.context(
            "app",
            &[("Dockerfile", DETERMINISTIC), ("a.txt", "a\n"), ("b/c/d.txt", "d\n"), ("b/e.txt", "e\n")],
        );
        // Contexts are written anew for each mode: their times must not count, or be the same.
        for path in ["a.txt", "b/c/d.txt", "b/e.txt", "b/c", "b"] {
            let file = std::fs::File::open(context.join(path)).unwrap();
            file.set_modified(
                std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000_000),
            )
            .unwrap();
        }
        calque.build_with(&context, "app:1.0", &["--build-arg", "SOURCE_DATE_EPOCH=1000000000"]);
        calque.build_with(
            &context,
            "made",
            &["--build-arg", "SOURCE_DATE_EPOCH=1000000000", "--target", "made"],
        );
        assert_eq!(
            calque.ok(["run", "--rm", "--network", "none", "app:1.0"]).stdout,
            "hello from nobody\nmade\n",
            "{kernel:?}"
        );
        let listing = calque.shell(
            "made",
            "cd /made; stat -c '%n %a %u:%g %h %Y' *; ls /etc/shadow /var/www 2>&1; find /work | sort",
        );
        results.push((
            calque.diff_ids("app:1.0"),
            calque.diff_ids("made"),
            calque.image_id("app:1.0"),
            listing,
        ));
    }
    assert_eq!(results[0], results[1], "newest and oldest mode differ");
    assert!(results[0].3.contains("file 644 1234:2345 2 981158400"), "{}", results[0].3);
}

#[test]
#[ignore = "root: mounts overlays and starts containers"]
fn root_the_second_build_is_cached_and_says_so() {
    for kernel in ALL_KERNELS {
        let calque = Calque::with_busybox(kernel);
        let context =
            calque.context("app", &[("Dockerfile", DETERMINISTIC), ("a.txt", "a\n"), ("b/e.txt", "e\n")]);
        calque.build(&context, "app:1.0");
        let first = calque.image_id("app:1.0");
        let again = calque.build(&context, "app:1.0");
        again.assert_all_cached();
        assert_eq!(calque.image_id("app:1.0"), first, "a cached rebuild keeps the image's ID");
    }
}

#[test]
#[ignore = "root: mounts overlays and starts containers"]
fn root_the_demo_application_builds_and_runs() {
    for kernel in ALL_KERNELS {
        let calque = Calque::with_busybox(kernel);
        calque.build(&workspace_dir().join("testdata/app"), "app:1.0");
        let output = calque.ok(["run", "--rm", "--network", "none", "app:1.0", "1"]);
        assert!(output.stdout.trim_end().ends_with("  the"), "{output:?}");
        assert!(output.stderr.contains("as nobody"), "{output:?}");
    }
}

#[test]
#[ignore = "root: mounts overlays and starts containers"]
fn root_docker_exit_codes_of_run() {
    let calque = Calque::with_busybox(Kernel::Newest);
    let code = |arguments: &[&str]| {
        let mut all = vec!["run", "--rm", "--network", "none"];
        all.extend(arguments);
        calque.run(all).code
    };
    assert_eq!(code(&["busybox", "true"]), 0);
    assert_eq!(code(&["busybox", "sh", "-c", "exit 42"]), 42);
    assert_eq!(code(&["busybox", "no-such-command"]), 127);
    assert_eq!(code(&["busybox", "/etc"]), 126);
    assert_eq!(code(&["busybox", "sh", "-c", "sh -c 'kill -9 $$'; exit $?"]), 137);
    assert_eq!(code(&["--no-such-flag", "busybox"]), 125);
    assert_eq!(code(&["no-such-image:1"]), 125);
}

#[test]
#[ignore = "root: mounts overlays and starts containers"]
fn root_run_takes_its_flags() {
    let calque = Calque::with_busybox(Kernel::Newest);
    let run = |arguments: &[&str]| {
        let mut all = vec!["run", "--rm", "--network", "none"];
        all.extend(arguments);
        calque.ok(all).stdout
    };
    assert_eq!(
        run(&["-e", "A=1", "-e", "B=two words", "busybox", "sh", "-c", "echo $A $B"]),
        "1 two words\n"
    );
    assert_eq!(run(&["-w", "/tmp", "busybox", "pwd"]), "/tmp\n");
    assert_eq!(run(&["-u", "33:100", "busybox", "sh", "-c", "id -u; id -g"]), "33\n100\n");
    assert_eq!(run(&["-u", "www-data", "busybox", "id", "-un"]), "www-data\n");
    assert_eq!(run(&["--entrypoint", "echo", "busybox", "hi"]), "hi\n");
    assert_eq!(run(&["busybox", "cat", "/proc/1/comm"]), "cat\n");

    let mut command = calque.command(["run", "--rm", "-i", "--network", "none", "busybox", "wc", "-c"]);
    let mut child =
        command.stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped()).spawn().unwrap();
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), b"12345").unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "5");

    calque
        .run(["run", "--name", "kept", "--network", "none", "busybox", "sh", "-c", "exit 3"])
        .assert_code(3);
    let listed = calque.ok(["ps", "-a"]).stdout;
    assert!(listed.contains("kept") && listed.contains("Exited (3)"), "{listed}");
    calque.run(["run", "--name", "kept", "busybox"]).assert_code(125);
    calque.ok(["rm", "kept"]);
    assert!(!calque.ok(["ps", "-a"]).stdout.contains("kept"));
}

#[test]
#[ignore = "root: mounts overlays and starts containers"]
fn root_images_are_listed_tagged_told_about_and_removed() {
    let calque = Calque::with_busybox(Kernel::Newest);
    let context =
        calque.context("app", &[("Dockerfile", "FROM busybox\nRUN echo x > /x\nENV A=b\nCMD [\"true\"]\n")]);
    let id_file = calque.dir().join("iid");
    calque.build_with(&context, "app:1.0", &["--iidfile", id_file.to_str().unwrap()]);
    let id = calque.image_id("app:1.0");
    assert_eq!(std::fs::read_to_string(&id_file).unwrap(), id);
    assert_eq!(calque.ok(["build", "-q", context.to_str().unwrap()]).stdout, format!("{id}\n"));

    calque.ok(["tag", "app:1.0", "other:2"]);
    assert_eq!(calque.image_id("other:2"), id);
    let listed = calque.ok(["image", "ls"]).stdout;
    assert!(listed.contains("app") && listed.contains("other") && listed.contains("busybox"), "{listed}");
    let history = calque.ok(["history", "app:1.0"]).stdout;
    assert!(
        history.contains("RUN") && history.contains("ENV A=b") && history.contains("base-image.sh"),
        "{history}"
    );
    let layers = calque.ok(["layers", "app:1.0"]).stdout;
    assert_eq!(calque.diff_ids("app:1.0").len(), 2, "{layers}");

    calque.ok(["rmi", "other:2"]);
    assert_eq!(calque.image_id("app:1.0"), id);
    calque.ok(["rmi", "app:1.0"]);
    assert_ne!(calque.run(["inspect", "app:1.0"]).code, 0);
}
