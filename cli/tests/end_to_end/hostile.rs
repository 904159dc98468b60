//! Images, contexts and archives that want out: nothing of theirs reaches the host. `docs/threat-model.md` has the rules.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::harness::{BOTH_KERNELS, Calque, Kernel, build_arguments};

/// A folder of the host that nothing may touch or read.
struct Canary {
    dir: PathBuf,
}

const CANARY: &str = "canary: the host's own\n";

impl Canary {
    fn new(calque: &Calque) -> Self {
        let dir = calque.dir().join("outside");
        fs::create_dir(&dir).unwrap();
        fs::write(dir.join("canary"), CANARY).unwrap();
        Self { dir }
    }

    fn path(&self) -> &str {
        self.dir.to_str().unwrap()
    }

    #[track_caller]
    fn assert_untouched(&self) {
        let names: Vec<String> = fs::read_dir(&self.dir)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
            .collect();
        assert_eq!(names, ["canary"], "something was made or removed on the host");
        let canary = self.dir.join("canary");
        assert_eq!(fs::read_to_string(&canary).unwrap(), CANARY);
        assert_eq!(fs::metadata(&canary).unwrap().permissions().mode() & 0o7777, 0o644);
    }
}

#[test]
#[ignore = "root: starts containers"]
fn root_r1_links_of_an_image_stay_in_the_image() {
    for kernel in BOTH_KERNELS {
        let calque = Calque::with_busybox(kernel);
        let canary = Canary::new(&calque);
        let outside = canary.path();
        let dockerfile = format!(
            "FROM busybox\n\
             RUN ln -s {outside} /absolute && ln -s ../../../../../../../..{outside} /relative && mkdir -p {outside}\n\
             COPY a.txt /absolute/copied\n\
             COPY a.txt /relative/\n\
             ADD a.tar /absolute/\n\
             WORKDIR /relative/made\n\
             COPY --chown=7:7 --chmod=0600 a.txt /absolute/canary\n"
        );
        let context = calque.context("app", &[("Dockerfile", dockerfile.as_str()), ("a.txt", "a\n")]);
        let tar = Command::new("tar")
            .args(["-cf", "a.tar", "--transform=s/a.txt/added/", "a.txt"])
            .current_dir(&context)
            .status();
        assert!(tar.unwrap().success());
        calque.build(&context, "app");
        canary.assert_untouched();
        let seen = calque.shell("app", &format!("cd {outside} && echo *; pwd; cat canary"));
        assert_eq!(seen, format!("a.txt added canary copied made\n{outside}\na\n"), "{kernel:?}");
        canary.assert_untouched();
    }
}

#[test]
#[ignore = "root: starts containers"]
fn root_r1_links_of_sources_lead_nowhere_outside() {
    for kernel in BOTH_KERNELS {
        let calque = Calque::with_busybox(kernel);
        let canary = Canary::new(&calque);
        let outside = canary.path();
        let from_stage = "COPY --from=evil /link /got\n".to_owned();
        let from_stage_dir = "COPY --from=evil /dir/canary /got\n".to_owned();
        let from_context = "COPY link /got\n".to_owned();
        let from_context_dir = "COPY dir/canary /got\n".to_owned();
        let escape = "COPY ../outside/canary /got\n".to_owned();
        let bind_stage =
            "RUN --mount=type=bind,from=evil,source=/dir,target=/m cp /m/canary /got\n".to_owned();
        let bind_context = "RUN --mount=type=bind,source=dir,target=/m cp /m/canary /got\n".to_owned();
        let bind_escape = "RUN --mount=type=bind,source=../outside,target=/m cp /m/canary /got\n".to_owned();
        for (number, line) in [
            from_stage,
            from_stage_dir,
            from_context,
            from_context_dir,
            escape,
            bind_stage,
            bind_context,
            bind_escape,
        ]
        .into_iter()
        .enumerate()
        {
            let dockerfile = format!(
                "FROM busybox AS evil\nRUN ln -s {outside}/canary /link && ln -s {outside} /dir\nFROM busybox\n{line}"
            );
            let context = calque.context(&format!("app{number}"), &[("Dockerfile", dockerfile.as_str())]);
            symlink(format!("{outside}/canary"), context.join("link")).unwrap();
            symlink(outside, context.join("dir")).unwrap();
            let built = calque.run(build_arguments(&context, "app", &[]));
            assert!(built.code == 0 || built.code == 1, "{built:?}");
            if built.code == 0 {
                let seen = calque.shell("app", "cat /got 2>&1 || true");
                assert!(
                    !seen.contains("canary: the host's own"),
                    "{kernel:?}: `{line}` read a file of the host"
                );
            }
            canary.assert_untouched();
        }
    }
}

#[test]
#[ignore = "root: starts containers"]
fn root_r2_mount_points_that_are_links_stay_in_the_image() {
    for kernel in BOTH_KERNELS {
        let calque = Calque::with_busybox(kernel);
        let canary = Canary::new(&calque);
        for name in ["dev", "proc", "sys"] {
            let context = calque.context(
                &format!("app-{name}"),
                &[("Dockerfile", "FROM busybox\nCOPY links/ /\nRUN true\n")],
            );
            fs::create_dir(context.join("links")).unwrap();
            symlink(canary.path(), context.join("links").join(name)).unwrap();
            // It may be refused, or mounted in the image's own folder of that name.
            let outcome = calque.run(build_arguments(&context, "app", &[]));
            assert!(outcome.code <= 1, "{outcome:?}");
            if outcome.code == 0 {
                calque.run(["run", "--rm", "--network", "none", "app", "true"]);
            }
            canary.assert_untouched();
        }
        // Files that calque provides.
        let dockerfile = format!(
            "FROM busybox\nRUN rm -f /etc/resolv.conf /etc/hosts; ln -s {0}/canary /etc/resolv.conf; ln -s {0}/canary /etc/hosts\n\
             RUN echo x >> /etc/hosts || true\n",
            canary.path()
        );
        let context = calque.context("app-etc", &[("Dockerfile", dockerfile.as_str())]);
        calque.run(build_arguments(&context, "app", &[]));
        calque.run([
            "run",
            "--rm",
            "--network",
            "host",
            "app",
            "sh",
            "-c",
            "echo x >> /etc/hosts; echo x >> /etc/resolv.conf",
        ]);
        canary.assert_untouched();
    }
}

#[test]
#[ignore = "root: starts containers"]
fn root_r2_proc_and_sys_are_masked_and_read_only() {
    for kernel in BOTH_KERNELS {
        let calque = Calque::with_busybox(kernel);
        let script = "for path in /proc/kcore /proc/keys /proc/timer_list; do [ ! -e $path ] || wc -c < $path; done; \
             ls /proc/acpi /proc/scsi /sys/firmware 2>/dev/null | grep -v : | grep . ; \
             for path in /proc/sys/kernel/core_pattern /proc/sysrq-trigger /sys/kernel/uevent_helper; do \
             (echo x > $path) 2>/dev/null && echo wrote $path; done; \
             mkdir /sys/fs/cgroup/x 2>/dev/null && echo made a cgroup; \
             mount -t proc proc /tmp 2>/dev/null && echo mounted; umount /proc 2>/dev/null && echo unmounted; \
             umount /proc/kcore 2>/dev/null && echo unmasked; unshare -U true 2>/dev/null && echo new user namespace; \
             mknod /disk b 8 0 2>/dev/null && dd if=/disk count=1 of=/dev/null 2>/dev/null && echo read a disk; \
             echo end";
        let seen = calque.shell("busybox", script);
        let unexpected: Vec<&str> = seen.lines().filter(|line| !["0", "end"].contains(line)).collect();
        assert!(unexpected.is_empty(), "{kernel:?}: {unexpected:?}");
        assert!(seen.ends_with("end\n"));
        let context = calque
            .context("app", &[("Dockerfile", format!("FROM busybox\nRUN ({script}) > /seen\n").as_str())]);
        calque.build(&context, "app");
        let built = calque.shell("app", "cat /seen");
        assert!(built.lines().all(|line| ["0", "end"].contains(&line)), "{kernel:?}, in a RUN: {built}");
    }
}

#[test]
#[ignore = "root: starts containers"]
fn root_r3_no_descriptor_of_the_host_is_inherited() {
    for kernel in BOTH_KERNELS {
        let calque = Calque::with_busybox(kernel);
        // The caller's own descriptors must not pass through either: sh opens one for calque.
        let plain = calque.command([
            "run",
            "--rm",
            "--network",
            "none",
            "busybox",
            "sh",
            "-c",
            "ls -l /proc/self/fd",
        ]);
        let canary = Canary::new(&calque);
        let output = Command::new("sh")
            .args(["-c", "exec 9<\"$0\" 8<\"$0\"; exec \"$@\"", canary.path()])
            .arg(plain.get_program())
            .args(plain.get_args())
            .env("CALQUE_ROOT", calque.store())
            .env(
                "CALQUE_DISABLE",
                if kernel == Kernel::Oldest { "overlay-fd,idmap,openat2,clone3" } else { "" },
            )
            .output()
            .unwrap();
        let seen = String::from_utf8_lossy(&output.stdout);
        let descriptors: Vec<&str> = seen.lines().filter(|line| line.starts_with('l')).collect();
        // 0, 1, 2 and the folder that `ls` reads.
        assert_eq!(descriptors.len(), 4, "{kernel:?}: {seen}{}", String::from_utf8_lossy(&output.stderr));
        assert!(!seen.contains("outside"), "{seen}");

        let context =
            calque.context("app", &[("Dockerfile", "FROM busybox\nRUN ls /proc/self/fd | wc -l > /count\n")]);
        calque.build(&context, "app");
        assert_eq!(calque.shell("app", "cat /count"), "4\n", "{kernel:?}");

        for number in 3..24 {
            let work_dir = format!("/proc/self/fd/{number}");
            let outcome = calque.run([
                "run",
                "--rm",
                "--network",
                "none",
                "-w",
                &work_dir,
                "busybox",
                "sh",
                "-c",
                "ls; cat ../../canary outside/canary 2>/dev/null; true",
            ]);
            assert!(!outcome.stdout.contains("canary"), "{work_dir}: {outcome:?}");
            assert!(!outcome.stdout.contains("layers"), "{work_dir} is the store: {outcome:?}");
        }
        canary.assert_untouched();
    }
}

#[test]
#[ignore = "root: starts containers"]
fn root_r4_users_are_numbers_first_and_groups_are_set() {
    for kernel in BOTH_KERNELS {
        let calque = Calque::with_busybox(kernel);
        let dockerfile = "FROM busybox\n\
             RUN echo '1000:x:0:0::/:/bin/sh' >> /etc/passwd && echo '4294967296:x:0:0::/:/bin/sh' >> /etc/passwd \
             && echo 'extra:x:777:nobody' >> /etc/group\n";
        let context = calque.context("app", &[("Dockerfile", dockerfile)]);
        calque.build(&context, "app");
        let user = |user: &str, script: &str| {
            calque.run(["run", "--rm", "--network", "none", "-u", user, "app", "sh", "-c", script])
        };
        assert_eq!(user("1000", "id -u").stdout, "1000\n", "a number is never a name");
        for too_large in ["4294967296", "2147483648", "-1", "99999999999999999999"] {
            let refused = user(too_large, "id -u");
            assert_ne!(refused.code, 0, "{too_large}: {refused:?}");
        }
        assert_eq!(user("nobody", "id -G").stdout, "65534 777\n");
        let capabilities = user("nobody", "grep -E 'Cap(Inh|Prm|Eff|Amb)' /proc/self/status").stdout;
        assert!(capabilities.lines().all(|line| line.ends_with("\t0000000000000000")), "{capabilities}");
        let root =
            user("0", "grep -E 'Cap(Inh|Amb)' /proc/self/status; grep CapBnd /proc/self/status").stdout;
        assert!(
            root.contains("CapInh:\t0000000000000000") && root.contains("CapAmb:\t0000000000000000"),
            "{root}"
        );
        assert!(root.contains("CapBnd:\t00000000a80425fb"), "{root}");
        assert_eq!(user("0", "id -G").stdout.trim(), "0", "no group of the host's");
    }
}

#[test]
#[ignore = "root: starts containers"]
fn root_r5_mounts_of_a_step_come_from_their_own_root() {
    for kernel in BOTH_KERNELS {
        let calque = Calque::with_busybox(kernel);
        let canary = Canary::new(&calque);
        let dots = "../".repeat(12);
        let id = format!("{dots}{}", canary.path());
        let dockerfile = format!(
            "FROM busybox\n\
             RUN --mount=type=cache,id={id},target=/c echo x > /c/made\n\
             RUN --mount=type=bind,target=/context,rw echo x > /context/made && echo x > /context/a.txt\n\
             RUN --mount=type=cache,target=/new/point --mount=type=tmpfs,target=/new/tmp true\n"
        );
        let context = calque.context("app", &[("Dockerfile", dockerfile.as_str()), ("a.txt", "a\n")]);
        calque.run(build_arguments(&context, "app", &[]));
        canary.assert_untouched();
        // What is written to a bind of the context is thrown away.
        assert_eq!(fs::read_to_string(context.join("a.txt")).unwrap(), "a\n");
        assert!(!context.join("made").exists());

        let unknown = calque.context(
            "unknown",
            &[("Dockerfile", "FROM busybox\nRUN --mount=type=bind,bind-propagation=shared,target=/m true\n")],
        );
        calque.run(build_arguments(&unknown, "app", &[])).assert_code(1);
    }
}

#[test]
#[ignore = "root: starts containers"]
fn root_r6_mount_points_leave_nothing_in_the_image() {
    for kernel in BOTH_KERNELS {
        let calque = Calque::with_busybox(kernel);
        let context = calque.context(
            "app",
            &[("Dockerfile", "FROM busybox\nRUN --mount=type=cache,target=/new/point --mount=type=tmpfs,target=/other true\nRUN echo x > /x\n")],
        );
        calque.build(&context, "app");
        let layers = fs::read_dir(calque.store().join("layers")).unwrap();
        let mut names: Vec<String> = layers
            .flat_map(|layer| fs::read_dir(layer.unwrap().path().join("tree")).unwrap())
            .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        for stub in ["new", "other", "proc", "sys", "dev"] {
            assert!(!names.iter().any(|name| name == stub), "{kernel:?}: `/{stub}` is in a layer: {names:?}");
        }
    }
}

#[test]
#[ignore = "root: starts containers"]
fn root_r7_the_hosts_environment_stays_outside() {
    for kernel in BOTH_KERNELS {
        let calque = Calque::with_busybox(kernel);
        let context = calque.context("app", &[("Dockerfile", "FROM busybox\nLABEL A=b\nRUN env > /seen\n")]);
        let mut build = calque.command(build_arguments(&context, "app", &[]));
        assert!(build.env("OF_THE_HOST", "7").output().unwrap().status.success());
        let mut run =
            calque.command(["run", "--rm", "--network", "none", "app", "sh", "-c", "cat /seen; env"]);
        let output = run.env("OF_THE_HOST", "7").output().unwrap();
        let seen = String::from_utf8_lossy(&output.stdout);
        assert!(
            seen.contains("PATH=") && !seen.contains("OF_THE_HOST") && !seen.contains("CALQUE_"),
            "{seen}"
        );
    }
}

#[test]
#[ignore = "root: starts containers"]
fn root_r10_a_secret_is_nowhere_afterwards() {
    let calque = Calque::with_busybox(Kernel::Newest);
    let token = "token-5e1ab0c7d9";
    let dockerfile = "FROM busybox\n\
         RUN --mount=type=secret,id=token cat /run/secrets/token && wc -c < /run/secrets/token > /length && stat -c %a /run/secrets/token\n\
         RUN --mount=type=secret,id=token,env=TOKEN [ -n \"$TOKEN\" ]\n";
    let context = calque.context("app", &[("Dockerfile", dockerfile)]);
    let secret = calque.dir().join("secret");
    fs::write(&secret, token).unwrap();
    let built =
        calque.build_with(&context, "app", &["--secret", &format!("id=token,src={}", secret.display())]);
    assert!(!built.stderr.contains(token), "it is masked in what a step prints: {}", built.stderr);
    assert_eq!(
        calque.shell("app", "cat /length; ls /run/secrets 2>/dev/null; true"),
        format!("{}\n", token.len())
    );
    assert!(!calque.ok(["history", "--no-trunc", "app"]).stdout.contains(token));
    assert_eq!(files_containing(calque.store(), token.as_bytes()), Vec::<PathBuf>::new());
}

fn files_containing(dir: &Path, needle: &[u8]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let entry = entry.unwrap();
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            found.extend(files_containing(&entry.path(), needle));
        } else if kind.is_file() {
            let bytes = fs::read(entry.path()).unwrap();
            if bytes.windows(needle.len()).any(|window| window == needle) {
                found.push(entry.path());
            }
        }
    }
    found
}

#[test]
#[ignore = "root: opens a store as root"]
fn root_r12_the_store_is_private() {
    let calque = Calque::with_busybox(Kernel::Newest);
    assert_eq!(fs::metadata(calque.store()).unwrap().permissions().mode() & 0o7777, 0o700);
}

#[test]
#[ignore = "root: starts containers"]
fn root_r13_a_passwd_over_the_limit_starts_nothing() {
    let calque = Calque::with_busybox(Kernel::Newest);
    let dockerfile = "FROM busybox\nRUN head -c 4194305 /dev/zero | tr '\\0' x > /etc/passwd\nCMD [\"echo\", \"started\"]\n";
    let context = calque.context("app", &[("Dockerfile", dockerfile)]);
    calque.build(&context, "app");
    let ran = calque.run(["run", "--rm", "--network", "none", "app"]);
    assert_eq!((ran.code, ran.stdout.as_str()), (125, ""), "{ran:?}");
    assert!(ran.stderr.contains("/etc/passwd") && ran.stderr.contains("4194304"), "{ran:?}");
}

#[test]
#[ignore = "root: starts containers"]
fn root_r13_special_files_in_place_of_etc_passwd_are_not_opened() {
    for kernel in BOTH_KERNELS {
        let calque = Calque::with_busybox(kernel);
        let canary = Canary::new(&calque);
        fs::write(calque.dir().join("passwd"), "evil:x:0:0::/:/bin/sh\n").unwrap();
        let link = calque.dir().join("passwd");
        for (number, make) in [
            "mkfifo /etc/passwd".to_owned(),
            format!("ln -s {} /etc/passwd", link.display()),
            "mkdir /etc/passwd".to_owned(),
            "yes aaaaaaaaaaaaaaaa | head -c 100000000 > /etc/passwd".to_owned(),
        ]
        .into_iter()
        .enumerate()
        {
            let dockerfile = format!("FROM busybox\nRUN rm /etc/passwd && {make}\nUSER evil\nRUN id -u\n");
            let context = calque.context(&format!("app{number}"), &[("Dockerfile", dockerfile.as_str())]);
            let outcome = calque.run(build_arguments(&context, "app", &[]));
            outcome.assert_code(1);
            assert!(
                outcome.stderr.contains("evil") || outcome.stderr.contains("passwd"),
                "{}",
                outcome.stderr
            );
        }
        canary.assert_untouched();
    }
}

/// One entry of a hostile tar.
struct TarEntry<'a> {
    name: &'a str,
    kind: u8,
    target: &'a str,
    content: &'a str,
}

fn file<'a>(name: &'a str, content: &'a str) -> TarEntry<'a> {
    TarEntry { name, kind: b'0', target: "", content }
}

fn link<'a>(name: &'a str, kind: u8, target: &'a str) -> TarEntry<'a> {
    TarEntry { name, kind, target, content: "" }
}

/// An ustar archive, entries as they are: no tool would write some of them.
fn tar(entries: &[TarEntry<'_>]) -> Vec<u8> {
    let mut out = Vec::new();
    for entry in entries {
        let mut header = [0_u8; 512];
        let mut field = |at: usize, text: &str| header[at..at + text.len()].copy_from_slice(text.as_bytes());
        field(0, entry.name);
        field(100, "0000755\0");
        field(108, "0000000\0");
        field(116, "0000000\0");
        field(124, &format!("{:011o}\0", entry.content.len()));
        field(136, "00000000000\0");
        field(148, "        ");
        field(157, entry.target);
        field(257, "ustar\x0000");
        field(329, "0000000\0");
        field(337, "0000000\0");
        header[156] = entry.kind;
        let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
        header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        out.extend_from_slice(&header);
        out.extend_from_slice(entry.content.as_bytes());
        out.resize(out.len().next_multiple_of(512), 0);
    }
    out.resize(out.len() + 1024, 0);
    out
}

fn sha256(path: &Path) -> String {
    let output = Command::new("sha256sum").arg(path).output().unwrap();
    String::from_utf8_lossy(&output.stdout).split(' ').next().unwrap().to_owned()
}

/// A docker archive of one layer.
fn archive(calque: &Calque, name: &str, layer: &[u8], manifest: Option<&str>) -> PathBuf {
    let dir = calque.dir().join(format!("archive-{name}"));
    fs::create_dir_all(&dir).unwrap();
    fs::write(dir.join("layer.tar"), layer).unwrap();
    let diff_id = sha256(&dir.join("layer.tar"));
    let config = format!(
        "{{\"architecture\":\"amd64\",\"os\":\"linux\",\"config\":{{}},\"rootfs\":{{\"type\":\"layers\",\"diff_ids\":[\"sha256:{diff_id}\"]}}}}"
    );
    fs::write(dir.join("config.json"), config).unwrap();
    let default = format!(
        "[{{\"Config\":\"config.json\",\"RepoTags\":[\"{name}:latest\"],\"Layers\":[\"layer.tar\"]}}]"
    );
    fs::write(dir.join("manifest.json"), manifest.unwrap_or(&default)).unwrap();
    let path = calque.dir().join(format!("{name}.tar"));
    let status = Command::new("tar").arg("-C").arg(&dir).arg("-cf").arg(&path).arg(".").status().unwrap();
    assert!(status.success());
    path
}

#[test]
#[ignore = "root: unpacks as root"]
fn root_r1_layers_of_hostile_archives_stay_in_their_tree() {
    for kernel in BOTH_KERNELS {
        let calque = Calque::new(kernel);
        let canary = Canary::new(&calque);
        let outside = canary.path();
        let inside_link = format!("{outside}/canary");
        let up = format!("{}{outside}", "../".repeat(12));
        let up_made = format!("{up}/made");
        let absolute_made = format!("{outside}/made");
        let cases: Vec<(&str, Vec<TarEntry<'_>>)> = vec![
            ("dotdot", vec![file(&up_made, "x")]),
            ("absolute", vec![file(&absolute_made, "x")]),
            ("through-link", vec![link("l", b'2', outside), file("l/made", "x")]),
            ("over-link", vec![link("l", b'2', &inside_link), file("l", "x")]),
            ("hardlink-absolute", vec![link("h", b'1', &inside_link), file("h", "x")]),
            ("hardlink-dotdot", vec![link("h", b'1', &up), file("h/made", "x")]),
            (
                "hardlink-through-link",
                vec![link("l", b'2', outside), link("h", b'1', "l/canary"), file("h", "x")],
            ),
            ("whiteout-through-link", vec![link("l", b'2', outside), file("l/.wh.canary", "")]),
            ("opaque-through-link", vec![link("l", b'2', outside), file("l/.wh..wh..opq", "")]),
            ("whiteout-of-dotdot", vec![file(".wh...", ""), file("a/.wh...", "")]),
            ("whiteout-of-nothing", vec![file(".wh.", ""), file("a/.wh.", "")]),
            ("dot-is-a-link", vec![link(".", b'2', outside), file("made", "x")]),
            ("root-is-a-link", vec![link("/", b'2', outside), file("made", "x")]),
            ("dir-over-link", vec![link("l", b'2', outside), link("l", b'5', ""), file("l/made", "x")]),
            ("overlay-whiteout-device", vec![link("w", b'3', "")]),
            ("empty-name", vec![file("", "x")]),
        ];
        for (name, entries) in cases {
            let path = archive(&calque, name, &tar(&entries), None);
            let outcome = calque.run(["load", "-i", path.to_str().unwrap()]);
            assert!(
                outcome.code == 0 || (outcome.code == 1 && outcome.stderr.starts_with("error: ")),
                "{name}: {outcome:?}"
            );
            canary.assert_untouched();
        }
    }
}

#[test]
#[ignore = "root: unpacks as root"]
fn root_r8_an_archive_that_is_not_what_it_says_is_refused() {
    let calque = Calque::new(Kernel::Newest);
    let canary = Canary::new(&calque);
    let good = tar(&[file("a", "a")]);

    // The config names another layer than the one that is there.
    let path = archive(&calque, "swapped", &good, None);
    let dir = calque.dir().join("archive-swapped");
    fs::write(dir.join("layer.tar"), tar(&[file("a", "b")])).unwrap();
    let status = Command::new("tar").arg("-C").arg(&dir).arg("-cf").arg(&path).arg(".").status().unwrap();
    assert!(status.success());
    let refused = calque.run(["load", "-i", path.to_str().unwrap()]);
    refused.assert_code(1);
    assert!(refused.stderr.contains("sha256:"), "it says which digest was expected: {}", refused.stderr);

    // Names that lead out of the archive.
    let dots = "../".repeat(12);
    let outside = format!("{dots}{}/canary", canary.path());
    for (name, manifest) in [
        (
            "config-outside",
            format!("[{{\"Config\":\"{outside}\",\"RepoTags\":[\"x:1\"],\"Layers\":[\"layer.tar\"]}}]"),
        ),
        (
            "layer-outside",
            format!("[{{\"Config\":\"config.json\",\"RepoTags\":[\"x:1\"],\"Layers\":[\"{outside}\"]}}]"),
        ),
        ("not-json", "{".to_owned()),
        ("no-layers", "[{\"Config\":\"config.json\",\"RepoTags\":[\"x:1\"],\"Layers\":[]}]".to_owned()),
    ] {
        let path = archive(&calque, name, &good, Some(&manifest));
        let refused = calque.run(["load", "-i", path.to_str().unwrap()]);
        refused.assert_code(1);
        assert!(refused.stderr.starts_with("error: "), "{name}: {}", refused.stderr);
    }
    canary.assert_untouched();
    let left = calque.ok(["image", "ls", "-q"]).stdout;
    assert_eq!(left, "", "nothing half-loaded has a name");

    // A name that leads elsewhere names nothing.
    let manifest =
        format!("[{{\"Config\":\"config.json\",\"RepoTags\":[\"{dots}x:1\"],\"Layers\":[\"layer.tar\"]}}]");
    let path = archive(&calque, "bad-tag", &good, Some(&manifest));
    let loaded = calque.ok(["load", "-i", path.to_str().unwrap()]);
    assert!(loaded.stdout.contains("Loaded image ID: sha256:"), "{loaded:?}");

    // A cut archive.
    let whole = fs::read(archive(&calque, "cut", &good, None)).unwrap();
    let cut = calque.dir().join("cut-short.tar");
    fs::write(&cut, &whole[..2000]).unwrap();
    calque.run(["load", "-i", cut.to_str().unwrap()]).assert_code(1);
}
