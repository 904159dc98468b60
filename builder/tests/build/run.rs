//! RUN: what a command finds, and what its layer holds.

use std::fs;
use std::time::Instant;

use crate::harness::{Harness, Options, assert_nothing_mounted, is_anywhere};

#[test]
#[ignore = "root: mounts overlayfs"]
fn root_a_command_finds_what_docker_gives_it() {
    let harness = Harness::new();
    let built = harness.build(
        "FROM busybox\nENV A=1\nARG B=2\nWORKDIR /w\n\
         RUN echo \"$A $B $HOME $PWD $(hostname)\"; cat /etc/resolv.conf; grep db /etc/hosts; wc -c < /dev/stdin; id -u\n\
         RUN [\"/bin/echo\", \"$A\"]\nSHELL [\"/bin/sh\", \"-exc\"]\nRUN false || echo traced\n\
         RUN <<EOF\necho one\necho two > /two\nEOF\nRUN <<EOF\n#!/bin/cat\nscript\nEOF\n\
         RUN echo mono:x:12:34::/home/mono: >> /etc/passwd\nUSER mono\nRUN echo $HOME; id -u; id -g\n",
    );
    let log = built.log("RUN echo \"$A");
    assert!(log.starts_with("1 2 /root /w buildkitsandbox\n"), "{log}");
    assert!(log.contains("10.9.8.7"), "{log}");
    assert!(log.contains("\n0\n0\n"), "standard input is empty, the user is root: {log}");
    assert_eq!(built.log("RUN [\"/bin/echo\""), "$A\n");
    assert!(built.log("RUN false").contains("+ echo traced"), "SHELL is used");
    assert_eq!(harness.read(&built, "/two"), "two\n");
    assert!(built.log("#!/bin/cat").contains("script"));
    assert!(built.log("RUN echo $HOME").contains("/home/mono\n"), "{}", built.log("RUN echo $HOME"));
    // The shell traces to the other pipe: lines of the two may mix.
    let log = built.log("RUN echo $HOME");
    assert!(log.contains("12\n") && log.contains("34\n"), "{log}");
    assert_nothing_mounted(&harness);
}

#[test]
#[ignore = "root: mounts overlayfs"]
fn root_stubs_secrets_and_provided_files_never_reach_a_layer() {
    let harness = Harness::new();
    harness.file("bound/x", "x");
    let dockerfile = "FROM busybox\nRUN --mount=type=secret,id=tok --mount=type=secret,id=tok,env=TOK --mount=type=cache,target=/cache/deep \
                      --mount=type=bind,source=bound,target=/b --mount=type=tmpfs,target=/scratch \
                      test \"$(cut -c1-5 /run/secrets/tok)\" = sup3r && test \"$TOK\" = \"$(cat /run/secrets/tok)\" && echo $TOK && ls /run/secrets \
                      && echo more >> /etc/hosts && touch /scratch/t /cache/deep/c && cat /b/x && ! touch /b/y\n";
    let options = Options { secrets: &[("tok", "sup3rsecret")], ..Options::default() };
    let built = harness.build_with(dockerfile, &options);
    assert_eq!(harness.top_layer(&built), Vec::<String>::new());
    assert!(built.log("RUN").contains("****\n"), "{}", built.log("RUN"));
    assert_eq!(is_anywhere(harness.store.options().root.as_path(), "sup3rsecret"), None);
    assert_eq!(is_anywhere(harness.store.options().runtime.as_path(), "sup3rsecret"), None);
    let again = Options { secrets: &[("tok", "an0thersecret")], ..Options::default() };
    let again = harness.build_with(dockerfile, &again);
    assert_eq!(again.ran(), 0, "values of secrets are in no key");
    assert!(crate::harness::transcript(&again.events).contains("has another value"));
    assert_nothing_mounted(&harness);
}

#[test]
#[ignore = "root: mounts overlayfs"]
fn root_secret_files_are_the_users_alone() {
    let harness = Harness::new();
    let options = Options { secrets: &[("s", "value")], ..Options::default() };
    let built = harness.build_with(
        "FROM busybox\nRUN --mount=type=secret,id=s,target=/x/y,uid=5,gid=6,mode=0440 stat -c '%a %u:%g' /x/y; touch /x/y 2>&1; true\n\
         RUN --mount=type=secret,id=none test ! -e /run/secrets/none\n",
        &options,
    );
    assert!(built.log("target=/x/y").starts_with("440 5:6\n"), "{}", built.log("target=/x/y"));
    assert!(built.log("target=/x/y").contains("Read-only"), "{}", built.log("target=/x/y"));
    let failed = harness.fail("FROM busybox\nRUN --mount=type=secret,id=s,required true\n");
    assert!(failed.error.to_string().contains("`s` is required"), "{}", failed.error);
}

#[test]
#[ignore = "root: mounts overlayfs"]
fn root_caches_outlive_the_build_and_are_not_in_keys() {
    let harness = Harness::new();
    harness.file("seed/s", "seeded");
    let count = |n: u32| {
        format!(
            "FROM busybox\nRUN --mount=type=cache,target=/c,mode=0700,uid=3 echo {n} >> /c/log; cat /c/log; stat -c '%a %u' /c\n"
        )
    };
    assert_eq!(harness.build(&count(1)).log("RUN"), "1\n700 3\n");
    assert_eq!(harness.build(&count(2)).log("RUN"), "1\n2\n700 3\n");
    assert_eq!(harness.build(&count(2)).ran(), 0);
    let built = harness.build(
        "FROM busybox AS a\nCOPY seed /seed\nFROM busybox\nRUN --mount=type=cache,target=/c,from=a,source=/seed cat /c/s\n",
    );
    assert_eq!(built.log("RUN"), "seeded");
    assert_eq!(harness.stat(&built, "/c"), None);
}

#[test]
#[ignore = "root: mounts overlayfs"]
fn root_bind_mounts_show_what_was_keyed_and_forget_what_is_written() {
    let harness = Harness::new();
    harness.file("src/a", "one");
    harness.file("src/ignored", "no");
    harness.file(".dockerignore", "src/ignored\n");
    let dockerfile = "FROM busybox AS tool\nRUN mkdir /t && echo tool > /t/x\nFROM busybox\n\
                      RUN --mount=target=/s,source=src,rw --mount=type=cache,target=/s/node --mount=from=tool,source=/t,target=/t \
                      --mount=from=tool,source=/t/x,target=/file cat /s/a /t/x /file && ls /s && echo w > /s/a && touch /s/node/n && cp /s/a /out\n";
    let built = harness.build(dockerfile);
    let log = built.log("RUN --mount=target=/s");
    assert_eq!(log, "onetool\ntool\na\nnode\n");
    assert_eq!(harness.read(&built, "/out"), "w\n");
    assert_eq!(harness.top_layer(&built), ["out"]);
    assert_eq!(
        fs::read_to_string(harness.context.join("src/a")).unwrap(),
        "one",
        "the context is never written"
    );
    assert_eq!(harness.build(dockerfile).ran(), 0);
    harness.file("src/ignored", "changed");
    assert_eq!(harness.build(dockerfile).ran(), 0, "what is ignored is not in the key");
    harness.file("src/a", "two");
    let built = harness.build(dockerfile);
    assert_eq!((built.ran(), built.log("RUN --mount=target=/s").starts_with("twotool")), (1, true));
    assert_nothing_mounted(&harness);
}

#[test]
#[ignore = "root: mounts overlayfs"]
fn root_what_is_written_to_a_bind_of_a_stage_is_not_in_the_stage() {
    let harness = Harness::new();
    let built = harness.build(
        "FROM busybox AS tool\nRUN mkdir /t && echo tool > /t/x\n\
         FROM busybox AS spoiler\nRUN --mount=from=tool,source=/t,target=/m,rw echo spoilt > /m/x && echo more > /m/y && ls /m > /seen\n\
         FROM tool\nCOPY --from=spoiler /seen /seen\nRUN cat /t/*\n",
    );
    assert_eq!(harness.read(&built, "/seen"), "x\ny\n", "the writer sees what it wrote");
    assert_eq!(built.log("RUN cat"), "tool\n");
}

#[test]
#[ignore = "root: mounts overlayfs"]
fn root_a_locked_cache_has_one_user_at_a_time() {
    let harness = Harness::new();
    let stage = |name: &str| {
        format!(
            "FROM busybox AS {name}\nRUN --mount=type=cache,id=one,target=/c,sharing=locked \
             mkdir /c/in-use || echo clash > /clash; sleep 0.5; rmdir /c/in-use; echo {name} > /{name}\n"
        )
    };
    let dockerfile = format!(
        "{}{}FROM busybox\nCOPY --from=a /a /clas[h] /\nCOPY --from=b /b /clas[h] /\n",
        stage("a"),
        stage("b")
    );
    let built = harness.build(&dockerfile);
    assert_eq!(
        (harness.read(&built, "/a"), harness.read(&built, "/b")),
        ("a\n".to_owned(), "b\n".to_owned())
    );
    assert_eq!(harness.stat(&built, "/clash"), None);
}

#[test]
#[ignore = "root: mounts overlayfs"]
fn root_two_users_of_a_private_cache_have_one_each() {
    let harness = Harness::new();
    // Each waits for the other by a cache that they share, so that they run at the same time.
    let stage = |name: &str, other: &str| {
        format!(
            "FROM busybox AS {name}\nRUN --mount=type=cache,id=own,target=/c,sharing=private --mount=type=cache,id=meet,target=/meet \
             touch /c/{name} /meet/{name}; n=0; until [ -e /meet/{other} ] || [ $n = 1000 ]; do n=$((n + 1)); sleep 0.02; done; \
             ls /c /meet > /{name}\n"
        )
    };
    let dockerfile = format!(
        "{}{}FROM busybox\nCOPY --from=a /a /\nCOPY --from=b /b /\n",
        stage("a", "b"),
        stage("b", "a")
    );
    let built = harness.build(&dockerfile);
    assert_eq!(harness.read(&built, "/a"), "/c:\na\n\n/meet:\na\nb\n");
    assert_eq!(harness.read(&built, "/b"), "/c:\nb\n\n/meet:\na\nb\n");
}

#[test]
#[ignore = "root: mounts overlayfs"]
fn root_a_passwd_over_the_limit_is_refused() {
    let harness = Harness::new();
    let failed = harness.fail(
        "FROM busybox\nRUN head -c 1048577 /dev/zero | tr '\\0' x > /etc/passwd\nUSER 5\nRUN echo not reached > /out\n",
    );
    let text = crate::harness::chain(&failed.error);
    assert!(text.contains("/etc/passwd") && text.contains("1048576"), "{text}");
}

#[test]
#[ignore = "root: mounts overlayfs"]
fn root_a_failing_command_says_all_that_is_known() {
    let harness = Harness::new();
    let dockerfile = "FROM busybox\nRUN echo first; echo \"last words\" >&2; echo left > /left; exit 7\n";
    let failed = harness.fail(dockerfile);
    let text = failed.error.to_string();
    assert!(text.contains("did not complete successfully: exit code: 7"), "{text}");
    let span = failed.error.span().unwrap();
    assert!(dockerfile[span.range()].starts_with("RUN echo first"));
    let process = failed.error.process().unwrap();
    assert_eq!(process.last_lines, ["first", "last words"]);
    let log = fs::read_to_string(process.log.as_ref().unwrap()).unwrap();
    assert_eq!(log, "first\nlast words\n");
    let kept = process.kept.as_ref().unwrap();
    assert!(is_anywhere(kept, "left\n").is_some(), "{}", kept.display());
    let failed = harness.fail("FROM busybox\nRUN sh -c 'kill -9 $$'; exit $?\n");
    assert!(failed.error.to_string().contains("exit code: 137"), "{}", failed.error);
    assert_nothing_mounted(&harness);
}

#[test]
#[ignore = "root: mounts overlayfs"]
fn root_a_missing_shell_is_named() {
    let harness = Harness::new();
    harness.file("f", "f");
    let failed = harness.fail("FROM scratch\nCOPY f /f\nRUN echo hi\n");
    let text = crate::harness::chain(&failed.error);
    assert!(text.contains("/bin/sh"), "{text}");
}

#[test]
#[ignore = "root: mounts overlayfs"]
fn root_background_processes_end_with_the_step() {
    let harness = Harness::new();
    let started = Instant::now();
    let built = harness.build("FROM busybox\nRUN sleep 7654 & echo started\n");
    assert_eq!(built.log("RUN"), "started\n");
    assert!(started.elapsed().as_secs() < 60);
    testutil::LeakCheck::new(harness.dir.path())
        .with_argument("7654")
        .assert_clean(std::time::Duration::from_secs(5));
}

#[test]
#[ignore = "root: mounts overlayfs"]
fn root_a_flood_of_output_is_complete_and_memory_stays_flat() {
    let harness = Harness::new();
    let resident = || {
        let text = fs::read_to_string("/proc/self/status").unwrap();
        let line = text.lines().find(|line| line.starts_with("VmHWM")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap()
    };
    struct Count(std::sync::atomic::AtomicU64);
    impl builder::event::Observer for Count {
        fn on(&self, event: &builder::event::BuildEvent) {
            if let builder::event::BuildEvent::Log { bytes, .. } = event {
                self.0.fetch_add(bytes.len() as u64, std::sync::atomic::Ordering::Relaxed);
            }
        }
    }
    let images = builder::StoreImages::new(harness.store.clone());
    let services = builder::Services {
        store: &harness.store,
        sandbox: &crate::harness::sandbox,
        base_images: &images,
        between_key_and_copy: None,
    };
    let request =
        harness.request("FROM busybox\nRUN yes | head -c 200000000; printf end\n", &Options::default());
    let before = resident();
    let count = Count(std::sync::atomic::AtomicU64::new(0));
    let outcome = builder::build(&request, &services, &count).unwrap();
    assert_eq!(count.0.into_inner(), 200_000_003);
    assert!(resident() - before < 64 * 1024, "{} kB more", resident() - before);
    let log = harness.store.options().root.join("builds").join(&outcome.build);
    let size: u64 = fs::read_dir(log).unwrap().map(|entry| entry.unwrap().metadata().unwrap().len()).sum();
    assert!(size >= 200_000_003, "{size}");
}

#[test]
#[ignore = "root: mounts overlayfs"]
fn root_a_command_without_effect_makes_an_empty_layer() {
    let harness = Harness::new();
    let built = harness.build("FROM busybox\nRUN cat /etc/resolv.conf /etc/hosts > /dev/null\n");
    assert_eq!(harness.top_layer(&built), Vec::<String>::new());
    let built = harness.build("FROM busybox\nRUN rm /etc/group && mkdir /new\n");
    assert_eq!(harness.top_layer(&built), ["etc/", "etc/group", "new/"]);
    assert_eq!(harness.stat(&built, "/etc/group"), None);
}

#[test]
#[ignore = "root: mounts overlayfs"]
fn root_proxies_reach_commands_and_nothing_else() {
    let harness = Harness::new();
    let options = Options { proxies: &[("http_proxy", "http://proxy.invalid:1")], ..Options::default() };
    let dockerfile = "FROM busybox\nRUN echo $http_proxy\n";
    let built = harness.build_with(dockerfile, &options);
    assert_eq!(built.log("RUN"), "http://proxy.invalid:1\n");
    assert!(!String::from_utf8_lossy(built.outcome.image.config.bytes()).contains("proxy.invalid"));
    assert_eq!(harness.build(dockerfile).ran(), 0, "another proxy is no miss");
}

#[test]
#[ignore = "root: mounts overlayfs"]
fn root_the_primary_group_is_a_supplementary_one_too() {
    let harness = Harness::new();
    let built = harness.build(
        "FROM busybox\nRUN echo app:x:77:78::/: >> /etc/passwd && echo web:x:99:app >> /etc/group\n\
         USER app\nRUN id -G\nUSER app:99\nRUN echo only; id -G\n",
    );
    assert_eq!(
        (built.log("RUN id").as_str(), built.log("RUN echo only").as_str()),
        ("78 99\n", "only\n99\n")
    );
}
