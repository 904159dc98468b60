//! Early cut-off: what was made again with the same content leaves what depends on it as it was.

use std::fs;

use crate::harness::{ALL_KERNELS, Calque, Kernel, build_arguments, write};

const COMPILES: &str = "\
FROM busybox AS build
COPY src/ /src/
RUN mkdir /out && sed '/^#/d' /src/program > /out/program
FROM busybox
COPY --from=build /out/program /usr/bin/program
RUN chmod 755 /usr/bin/program
CMD [\"program\"]
";

#[test]
#[ignore = "root: starts containers"]
fn root_a_rebuilt_stage_with_equal_content_keeps_the_image() {
    for kernel in ALL_KERNELS {
        let calque = Calque::with_busybox(kernel);
        let context =
            calque.context("app", &[("Dockerfile", COMPILES), ("src/program", "# a comment\necho hello\n")]);
        calque.build(&context, "app");
        let id = calque.image_id("app");
        write(&context.join("src/program"), "# another comment\necho hello\n");
        let second = calque.build(&context, "app");
        assert!(second.step("RUN mkdir /out").is_same_as_before, "{}", second.stderr);
        assert!(second.step("COPY --from=build").is_cached, "{}", second.stderr);
        assert!(second.step("RUN chmod").is_cached, "{}", second.stderr);
        assert_eq!(calque.image_id("app"), id, "{kernel:?}: the image is the same");
        // And a third build finds the second's key.
        calque.build(&context, "app").assert_all_cached();
        // Another content is another image.
        write(&context.join("src/program"), "# another comment\necho bye\n");
        let third = calque.build(&context, "app");
        assert!(!third.step("COPY --from=build").is_cached);
        assert_ne!(calque.image_id("app"), id);
        assert_eq!(calque.shell("app", "sh /usr/bin/program"), "bye\n");
    }
}

#[test]
#[ignore = "root: starts containers"]
fn root_a_time_that_a_step_sets_is_content() {
    for kernel in ALL_KERNELS {
        let calque = Calque::with_busybox(kernel);
        let mut times = Vec::new();
        for year in [2001, 2002] {
            let dockerfile = format!(
                "FROM busybox AS build\nRUN touch -d '{year}-01-01 00:00:00' /a\nFROM busybox\nCOPY --from=build /a /a\n"
            );
            let context = calque.context("app", &[("Dockerfile", dockerfile.as_str())]);
            calque.build(&context, "app");
            times.push(calque.shell("app", "stat -c %Y /a"));
        }
        assert_eq!(times, ["978307200\n", "1009843200\n"], "{kernel:?}");
    }
}

#[test]
#[ignore = "root: starts containers"]
fn root_a_file_edited_while_it_is_copied_never_gives_a_wrong_hit() {
    // An editor rewrites the file all the while. Whatever a build took, a later build that finds it cached must find
    // the bytes that are there.
    let calque = Calque::with_busybox(Kernel::Newest);
    let context = calque.context("app", &[("Dockerfile", "FROM busybox\nCOPY data /data\n"), ("data", "0")]);
    let tries = if std::env::var_os("CALQUE_SOAK").is_some() { 200 } else { 25 };
    println!("soak: a file edited while it is copied, {tries} builds");
    let size = 300_000;
    for attempt in 0..tries {
        let mut started = calque.start(build_arguments(&context, "app", &[]));
        let mut round = 0_u64;
        while started.is_running() {
            round += 1;
            // The same size each time, so that only the content tells.
            fs::write(context.join("data"), format!("{attempt:08}{round:08}").repeat(size / 16)).unwrap();
        }
        let outcome = started.wait();
        // It may give up on a file that never stays the same, but says so.
        assert!(outcome.code == 0 || outcome.stderr.contains("changed"), "{}", outcome.stderr);

        let settled = format!("{attempt:08}{:08}", 0).repeat(size / 16);
        fs::write(context.join("data"), &settled).unwrap();
        calque.build(&context, "app");
        let copied = calque.shell("app", "sha256sum < /data");
        let on_host = std::process::Command::new("sha256sum").arg(context.join("data")).output().unwrap();
        let expected =
            String::from_utf8_lossy(&on_host.stdout).replace(context.join("data").to_str().unwrap(), "-");
        assert_eq!(copied, expected, "attempt {attempt}: the image has another content than the context");
        // A cached build of what the racing build saw must not exist under today's content.
        let again = calque.build(&context, "app");
        again.assert_all_cached();
        assert_eq!(calque.shell("app", "sha256sum < /data"), expected);
    }
}
