//! What a Dockerfile says is what the image holds: a few of each kind, in both kernel modes. The expected results are docker's.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::process::Command;

use crate::harness::{ALL_KERNELS, Calque, Kernel, build_arguments, write};

#[test]
#[ignore = "root: starts containers"]
fn root_copy_puts_files_where_docker_does() {
    for kernel in ALL_KERNELS {
        let calque = Calque::with_busybox(kernel);
        let dockerfile = r#"FROM busybox
COPY one.txt /file
COPY one.txt /made/dir/
COPY dir /contents
COPY dir/ two.txt /several/
COPY *.txt /wild/
COPY --chown=www-data:mail --chmod=0751 one.txt /owned
COPY --chown=12 dir /numeric
COPY links/ /links/
COPY ["with space.txt", "/a b/"]
COPY <<one <<"two" /here/
value is $HOME
one
value is $HOME
two
WORKDIR /work
COPY one.txt relative
COPY one.txt .
ENV DEST=/from-env
COPY one.txt ${DEST}/x
"#;
        let context = calque.context(
            "app",
            &[
                ("Dockerfile", dockerfile),
                ("one.txt", "1\n"),
                ("two.txt", "2\n"),
                ("with space.txt", "s\n"),
                ("dir/a", "a\n"),
                ("dir/sub/b", "b\n"),
                ("links/target", "t\n"),
            ],
        );
        fs::set_permissions(context.join("two.txt"), fs::Permissions::from_mode(0o600)).unwrap();
        symlink("target", context.join("links/relative")).unwrap();
        symlink("/etc/passwd", context.join("links/absolute")).unwrap();
        symlink("nowhere", context.join("links/dangling")).unwrap();
        calque.build(&context, "app");
        let seen = calque.shell(
            "app",
            "cat /file /made/dir/one.txt; cd /contents; find . -type f | sort; cd /several; ls; stat -c %a two.txt; ls /wild; \
             stat -c '%U:%G %a' /owned; stat -c %u:%g /numeric /numeric/a /numeric/sub/b; for l in relative absolute dangling; do readlink /links/$l; done; \
             cat '/a b/with space.txt'; cat /here/one /here/two; cat /work/relative /work/one.txt /from-env/x; stat -c '%u:%g %a' /made /made/dir /contents",
        );
        assert_eq!(
            seen,
            "1\n1\n./a\n./sub/b\na\nsub\ntwo.txt\n600\none.txt\ntwo.txt\nwith space.txt\nwww-data:mail 751\n12:12\n12:12\n12:12\n\
             target\n/etc/passwd\nnowhere\ns\nvalue is \nvalue is $HOME\n1\n1\n1\n0:0 755\n0:0 755\n0:0 755\n",
            "{kernel:?}"
        );
    }
}

#[test]
#[ignore = "root: starts containers"]
fn root_add_unpacks_local_archives() {
    for kernel in ALL_KERNELS {
        let calque = Calque::with_busybox(kernel);
        let context = calque.context(
            "app",
            &[
                ("Dockerfile", "FROM busybox\nADD a.tar /plain/\nADD a.tar.gz /gz/\nADD a.tar.xz /xz/\nADD a.tar.bz2 /bz2/\nADD not.tar.gz /not/\nCOPY a.tar /copied/\n"),
                ("packed/a", "a\n"),
                ("packed/d/b", "b\n"),
                ("not.tar.gz", "no archive\n"),
                (".dockerignore", "packed\n"),
            ],
        );
        fs::set_permissions(context.join("packed/d/b"), fs::Permissions::from_mode(0o751)).unwrap();
        for name in ["a.tar", "a.tar.gz", "a.tar.xz", "a.tar.bz2"] {
            let status = Command::new("tar")
                .args(["-C", "packed", "--owner=5", "--group=6", "--mtime=@1000000000", "-caf", name, "."])
                .current_dir(&context)
                .status()
                .unwrap();
            assert!(status.success(), "{name}");
        }
        calque.build(&context, "app");
        let seen = calque.shell(
            "app",
            "for d in plain gz xz bz2; do cat /$d/a /$d/d/b; stat -c '%u:%g %a %Y' /$d/d/b; done; cat /not/not.tar.gz; ls /copied",
        );
        let each = "a\nb\n5:6 751 1000000000\n";
        assert_eq!(seen, format!("{}no archive\na.tar\n", each.repeat(4)), "{kernel:?}");
    }
}

#[test]
#[ignore = "root: starts containers"]
fn root_run_has_its_shell_environment_and_mounts() {
    for kernel in ALL_KERNELS {
        let calque = Calque::with_busybox(kernel);
        let dockerfile = r#"FROM busybox
ARG WITH_DEFAULT=d
ARG GIVEN
ENV E="two words" PATH=/extra:$PATH
RUN echo "$WITH_DEFAULT/$GIVEN/$E/$PATH" > /vars
RUN ["/bin/sh", "-c", "echo exec > /exec"]
RUN <<EOF
#!/bin/sh
echo script $0 | sed 's,/.*/,,' > /script
EOF
RUN <<EOF
echo heredoc > /heredoc
echo more >> /heredoc
EOF
SHELL ["/bin/sh", "-ec"]
RUN false || echo shell > /shell; echo $- | grep -q e && echo errexit >> /shell
WORKDIR /w
USER 7:8
RUN id -u > /tmp/user && id -g >> /tmp/user && pwd >> /tmp/user
USER root
RUN --mount=type=tmpfs,target=/scratch mount | grep -q ' /scratch type tmpfs' && echo x > /scratch/x
RUN --mount=type=bind,source=dir,target=/ctx cat /ctx/a > /bound && ! echo x > /ctx/new
RUN --mount=type=bind,from=busybox,target=/other ls /other/bin/sh >> /bound
RUN --mount=type=secret,id=s,uid=3,mode=0440 cat /run/secrets/s | wc -c > /secret && stat -c '%u %a' /run/secrets/s >> /secret
RUN --mount=type=secret,id=not-given [ ! -e /run/secrets/not-given ]
RUN --network=none ls /sys/class/net > /net
RUN echo to-stderr | tee /dev/stderr > /tee
USER nobody
RUN echo as-nobody > /dev/stdout
USER root
RUN hostname > /hostname && cat /proc/1/cmdline | tr '\0' ' ' | cut -c1-8 >> /hostname
"#;
        let context = calque.context("app", &[("Dockerfile", dockerfile), ("dir/a", "bound\n")]);
        write(&calque.dir().join("secret"), "12345");
        calque.build_with(
            &context,
            "app",
            &[
                "--build-arg",
                "GIVEN=g",
                "--secret",
                &format!("id=s,src={}", calque.dir().join("secret").display()),
            ],
        );
        let seen = calque.shell(
            "app",
            "cat /vars /exec /heredoc /shell /tmp/user /bound /secret /net; ls /scratch 2>/dev/null; ls -A /run/secrets /ctx 2>/dev/null; true",
        );
        assert_eq!(
            seen,
            "d/g/two words//extra:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\nexec\nheredoc\nmore\nshell\nerrexit\n\
             7\n8\n/w\nbound\n/other/bin/sh\n5\n3 440\nlo\n",
            "{kernel:?}"
        );
    }
}

#[test]
#[ignore = "root: starts containers"]
fn root_stages_run_at_the_same_time() {
    let calque = Calque::with_busybox(Kernel::Newest);
    // Each waits for the other: one after the other would never end (and gives up after a while).
    let wait = |own: &str, other: &str| {
        format!(
            "FROM busybox AS {own}\nRUN --mount=type=cache,target=/c touch /c/{own}; i=0; until [ -e /c/{other} ]; do sleep 0.05; i=$((i+1)); [ $i -lt 400 ]; done; echo {own} > /{own}\n"
        )
    };
    let dockerfile = format!(
        "{}{}FROM busybox\nCOPY --from=left /left /\nCOPY --from=right /right /\n",
        wait("left", "right"),
        wait("right", "left")
    );
    let context = calque.context("app", &[("Dockerfile", dockerfile.as_str())]);
    calque.build(&context, "app");
    assert_eq!(calque.shell("app", "cat /left /right"), "left\nright\n");
}

#[test]
#[ignore = "root: starts containers"]
fn root_only_what_the_target_needs_is_built() {
    let calque = Calque::with_busybox(Kernel::Newest);
    let dockerfile = "FROM busybox AS base\nRUN echo base > /base\nFROM base AS broken\nRUN exit 7\nFROM base AS wanted\nRUN echo wanted > /wanted\nFROM broken\nRUN true\n";
    let context = calque.context("app", &[("Dockerfile", dockerfile)]);
    calque.build_with(&context, "app", &["--target", "wanted"]);
    assert_eq!(calque.shell("app", "cat /base /wanted"), "base\nwanted\n");
    calque.run(build_arguments(&context, "app", &[])).assert_code(1);
}

#[test]
#[ignore = "root: starts containers"]
fn root_ignore_files_hold_for_contexts() {
    let calque = Calque::with_busybox(Kernel::Newest);
    let context = calque.context(
        "app",
        &[
            ("Dockerfile", "FROM busybox\nCOPY . /all/\n"),
            ("other.Dockerfile", "FROM busybox\nCOPY . /all/\n"),
            ("other.Dockerfile.dockerignore", "*\n!b.md\n"),
            (
                ".dockerignore",
                "# comment\n*.md\n!keep.md\nnode_modules\n**/*.tmp\n/docs/*\n!docs/index.txt\n",
            ),
            ("a.md", ""),
            ("b.md", ""),
            ("keep.md", ""),
            ("src/deep/x.md", ""),
            ("src/deep/y.tmp", ""),
            ("node_modules/m/index.js", ""),
            ("docs/index.txt", ""),
            ("docs/other.txt", ""),
        ],
    );
    calque.build(&context, "app");
    let list = |tag: &str| calque.shell(tag, "cd /all && find . -type f | sort");
    assert_eq!(
        list("app"),
        "./.dockerignore\n./Dockerfile\n./docs/index.txt\n./keep.md\n./other.Dockerfile\n./other.Dockerfile.dockerignore\n./src/deep/x.md\n"
    );
    let other = context.join("other.Dockerfile");
    calque.build_with(&context, "other", &["-f", other.to_str().unwrap()]);
    assert_eq!(list("other"), "./b.md\n");
}

#[test]
#[ignore = "root: starts containers"]
fn root_triggers_of_a_base_run_in_the_child() {
    let calque = Calque::with_busybox(Kernel::Newest);
    let base = calque.context(
        "base",
        &[("Dockerfile", "FROM busybox\nONBUILD COPY a.txt /from-child\nONBUILD RUN echo $NAME > /name\nONBUILD ARG NAME=child\n")],
    );
    calque.build(&base, "base:1");
    let child = calque
        .context("child", &[("Dockerfile", "FROM base:1\nRUN cat /from-child > /seen\n"), ("a.txt", "a\n")]);
    calque.build(&child, "child");
    assert_eq!(calque.shell("child", "cat /seen"), "a\n");
    let inspected = calque.inspect("child");
    assert!(inspected["Config"]["OnBuild"].as_array().is_none_or(Vec::is_empty), "{inspected}");
}

#[test]
#[ignore = "root: starts containers"]
fn root_the_config_is_what_the_instructions_say() {
    let calque = Calque::with_busybox(Kernel::Newest);
    let dockerfile = r#"FROM busybox
LABEL a=1 b="two words"
ENV X=1 Y="$PATH:/y"
EXPOSE 80 53/udp
VOLUME ["/data"]
STOPSIGNAL SIGINT
HEALTHCHECK --interval=5s CMD true
USER nobody
WORKDIR /w
ENTRYPOINT ["echo", "e"]
CMD ["c"]
"#;
    let context = calque.context("app", &[("Dockerfile", dockerfile)]);
    calque.build(&context, "app");
    let config = &calque.inspect("app")["Config"];
    assert_eq!(config["Labels"], serde_json::json!({"a": "1", "b": "two words"}));
    assert_eq!(config["Entrypoint"], serde_json::json!(["echo", "e"]));
    assert_eq!(config["Cmd"], serde_json::json!(["c"]));
    assert_eq!(config["User"], "nobody");
    assert_eq!(config["WorkingDir"], "/w");
    assert_eq!(config["StopSignal"], "SIGINT");
    assert_eq!(config["ExposedPorts"], serde_json::json!({"80/tcp": {}, "53/udp": {}}));
    assert_eq!(config["Volumes"], serde_json::json!({"/data": {}}));
    assert_eq!(config["Healthcheck"]["Interval"], 5_000_000_000_u64);
    assert!(
        config["Env"].as_array().unwrap().iter().any(|value| value.as_str().unwrap().ends_with("/bin:/y"))
    );
    assert_eq!(calque.ok(["run", "--rm", "--network", "none", "app"]).stdout, "e c\n");
    assert_eq!(calque.ok(["run", "--rm", "--network", "none", "app", "x"]).stdout, "e x\n");
}

#[test]
#[ignore = "root: starts containers"]
fn root_no_cache_runs_everything_again() {
    let calque = Calque::with_busybox(Kernel::Newest);
    let context = calque
        .context("app", &[("Dockerfile", "FROM busybox\nRUN cat /proc/sys/kernel/random/uuid > /id\n")]);
    let mut ids = Vec::new();
    for flags in [&[][..], &[], &["--no-cache"]] {
        calque.build_with(&context, "app", flags);
        ids.push(calque.shell("app", "cat /id"));
    }
    assert_eq!(ids[0], ids[1]);
    assert_ne!(ids[1], ids[2]);
}

#[test]
#[ignore = "root: starts containers"]
fn root_the_dockerfile_may_come_from_elsewhere() {
    let calque = Calque::with_busybox(Kernel::Newest);
    let context = calque.context("app", &[("a.txt", "a\n")]);
    let elsewhere = calque.context("elsewhere", &[("My.Dockerfile", "FROM busybox\nCOPY a.txt /\n")]);
    calque.build_with(&context, "app", &["-f", elsewhere.join("My.Dockerfile").to_str().unwrap()]);
    assert_eq!(calque.shell("app", "cat /a.txt"), "a\n");

    let mut command = calque.command(["build", "-q", "-f", "-", context.to_str().unwrap()]);
    let mut child =
        command.stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped()).spawn().unwrap();
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), b"FROM busybox\nCOPY a.txt /piped\n")
        .unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    let id = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    assert_eq!(calque.shell(&id, "cat /piped"), "a\n");
}

#[test]
#[ignore = "root: starts containers"]
fn root_raw_json_is_json_and_a_failed_step_keeps_its_log() {
    let calque = Calque::with_busybox(Kernel::Newest);
    let context = calque.context(
        "app",
        &[(
            "Dockerfile",
            "FROM busybox\nRUN i=0; while [ $i -lt 3000 ]; do echo line $i; i=$((i+1)); done; exit 9\n",
        )],
    );
    let failed = calque.run(["build", "--progress=rawjson", context.to_str().unwrap()]);
    failed.assert_code(1);
    let mut objects = 0;
    for line in failed.stderr.lines().filter(|line| line.starts_with('{')) {
        let _: serde_json::Value =
            serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        objects += 1;
    }
    assert!(objects > 3, "{}", failed.stderr);

    let failed = calque.run(build_arguments(&context, "app", &[]));
    assert!(
        failed.stderr.contains("exit code 9") || failed.stderr.contains("exit code: 9"),
        "{}",
        failed.stderr
    );
    assert!(failed.stderr.contains("line 2999"), "the last lines are shown: {}", failed.stderr);
    let log = failed
        .stderr
        .split_whitespace()
        .map(|word| word.trim_matches(['`', '(', ')', ',', '.']))
        .find(|word| word.contains("/builds/"))
        .expect("it names the log");
    let log = fs::read_to_string(log.trim_end_matches(':')).unwrap();
    assert_eq!(log.lines().filter(|line| line.contains("line ")).count(), 3000, "the log is whole");
}

#[test]
#[ignore = "root: starts containers"]
fn root_output_of_a_step_is_never_clipped_and_memory_stays_flat() {
    let calque = Calque::with_busybox(Kernel::Newest);
    let context =
        calque.context("app", &[("Dockerfile", "FROM busybox\nRUN yes 0123456789 | head -c 60000000\n")]);
    let mut started = calque.start(["build", "--progress=plain", context.to_str().unwrap()]);
    let pid = started.pid();
    let mut peak = 0;
    while started.is_running() {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let kib = status
            .lines()
            .find_map(|line| line.strip_prefix("VmHWM:"))
            .and_then(|text| text.split_whitespace().next()?.parse::<u64>().ok());
        peak = peak.max(kib.unwrap_or(0));
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    let outcome = started.wait();
    outcome.assert_code(0);
    assert!(outcome.stderr.len() + outcome.stdout.len() >= 60_000_000, "all of it is shown");
    assert!(peak < 128 << 10, "{peak} KiB");
}
