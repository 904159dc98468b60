//! The command line as a shell sees it: exit codes, streams, help.

use std::process::{Command, Output, Stdio};

fn calque(line: &str) -> Output {
    Command::new(env!("CARGO_BIN_EXE_calque"))
        .args(line.split_whitespace())
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|error| panic!("cannot start calque: {error}"))
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn the_version_is_one_line() {
    for line in ["--version", "-v"] {
        let output = calque(line);
        assert_eq!(output.status.code(), Some(0));
        assert_eq!(text(&output.stdout), format!("calque {}\n", env!("CARGO_PKG_VERSION")));
    }
}

#[test]
fn help_goes_to_stdout_with_examples_at_every_level() {
    let commands = "build run ps rm images rmi tag history layers inspect load save version";
    let in_groups = ["image ls", "image rm", "container ls", "container rm", "system df", "buildx build"];
    for command in commands.split(' ').chain(in_groups) {
        let output = calque(&format!("{command} --help"));
        let help = text(&output.stdout);
        assert_eq!(output.status.code(), Some(0), "{command}");
        assert!(help.contains(&format!("Usage: calque {command} ")), "{help}");
        assert!(help.contains("\nExamples:\n  calque "), "{help}");
        assert!(output.stderr.is_empty(), "{command}");
        assert!(help.lines().all(|line| line.chars().count() <= 100), "{help}");
    }
    for group in
        ["", "image", "container", "builder", "buildx", "system", "--help", "image --help", "help build"]
    {
        let output = calque(group);
        assert_eq!(output.status.code(), Some(0), "{group}");
        assert!(text(&output.stdout).contains("Usage: calque"), "{group}");
        assert!(output.stderr.is_empty(), "{group}");
    }
}

#[test]
fn mistakes_go_to_stderr_with_dockers_exit_codes() {
    for (line, code) in [
        ("build --wrong .", 125),
        ("build -t a:b:c .", 125),
        ("build --secret x .", 125),
        ("build --progress fancy .", 125),
        ("build --progress tty .", 125),
        ("build --network mine .", 125),
        ("build --platform linux/s390x .", 125),
        ("build -", 1),
        ("build /no/such/folder", 1),
        ("run --wrong busybox", 125),
        ("run --network mine busybox", 125),
        ("run -v data:/data busybox", 125),
        ("run -it busybox", 1),
        ("run", 1),
        ("ps --format {{.ID}}", 125),
        ("inspect --format {{range.X}} x", 125),
        ("history", 1),
        ("save --format zip x", 125),
        ("frobnicate", 1),
    ] {
        let output = calque(line);
        assert_eq!(output.status.code(), Some(code), "{line}: {}", text(&output.stderr));
        assert!(output.stdout.is_empty(), "{line}");
        assert!(text(&output.stderr).starts_with("error: "), "{line}: {}", text(&output.stderr));
        assert!(!text(&output.stderr).contains('\u{1b}'), "no colours in a pipe");
    }
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_calque"))
        .args(["run", "--help"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!(text(&output.stderr), "");
}

#[test]
#[ignore = "root: opens a store"]
fn root_every_command_finds_the_flags_it_asks_for() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("store");
    for line in [
        "build /no/such",
        "run x",
        "ps",
        "rm x",
        "images",
        "rmi x",
        "tag x y",
        "history x",
        "layers x",
        "inspect x",
        "image inspect x",
        "container inspect x",
        "load -i /no/such",
        "save -o /no/such/x y",
        "system df",
        "version",
    ] {
        let output = calque(&format!("--root {} {line}", root.display()));
        let code = output.status.code().unwrap_or(-1);
        assert!(matches!(code, 0 | 1 | 125), "{line}: {code} {}", text(&output.stderr));
    }
}

#[test]
#[ignore = "root: becomes another user"]
fn root_another_user_is_told_that_root_is_needed() {
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::process::CommandExt;
    // Where the other user can reach it.
    let dir = tempfile::tempdir().unwrap();
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let binary = dir.path().join("calque");
    std::fs::copy(env!("CARGO_BIN_EXE_calque"), &binary).unwrap();
    let run = |argument| Command::new(&binary).arg(argument).uid(65534).gid(65534).output().unwrap();
    let output = run("ps");
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("rootless"), "{}", text(&output.stderr));
    assert_eq!(run("--version").status.code(), Some(0));
    // What is missing is what the doctor is for.
    let output = run("doctor");
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert!(text(&output.stdout).contains("usermod --add-subuids FIRST-LAST"), "{}", text(&output.stdout));
}
