//! Every change of an input is a miss that names it; what is no input is no miss.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use crate::harness::{Calque, Kernel, write};

const DOCKERFILE: &str = "\
ARG BASE=base:1
FROM ${BASE} AS app
ARG VERSION=1
ENV MODE=fast
COPY src/ /src/
RUN cat /src/app.txt > /result && echo $VERSION $MODE >> /result
FROM base:1 AS other
ARG ELSEWHERE
RUN echo other > /other
FROM app
COPY --from=other /other /other
ARG LATE=x
";

/// What one build is made of.
struct Project<'a> {
    calque: &'a Calque,
    context: PathBuf,
    flags: Vec<String>,
}

impl<'a> Project<'a> {
    fn new(calque: &'a Calque, name: &str) -> Self {
        let context = calque.context(
            name,
            &[
                ("Dockerfile", DOCKERFILE),
                ("src/app.txt", "app\n"),
                ("src/lib/one.txt", "one\n"),
                ("src/lib/two.txt", "two\n"),
                (".dockerignore", "*.md\n"),
            ],
        );
        symlink("app.txt", context.join("src/link")).unwrap();
        Self { calque, context, flags: Vec::new() }
    }

    fn path(&self, path: &str) -> PathBuf {
        self.context.join(path)
    }

    fn edit_dockerfile(&self, from: &str, to: &str) {
        let text = fs::read_to_string(self.path("Dockerfile")).unwrap();
        assert!(text.contains(from), "`{from}` is in the Dockerfile");
        fs::write(self.path("Dockerfile"), text.replacen(from, to, 1)).unwrap();
    }

    fn build(&self) -> crate::harness::Outcome {
        let flags: Vec<&str> = self.flags.iter().map(String::as_str).collect();
        self.calque.build_with(&self.context, "app", &flags)
    }
}

fn base(calque: &Calque, tag: &str, content: &str) {
    let dockerfile = format!("FROM busybox\nRUN echo {content} > /base\n");
    let context = calque.context(&format!("base-{content}"), &[("Dockerfile", dockerfile.as_str())]);
    calque.build(&context, tag);
}

type Change = fn(&mut Project);

/// What is changed, how, the step that misses, and what its cause says.
const CAUSES: [(&str, Change, &str, &[&str]); 14] = [
    ("content", |p| write(&p.path("src/app.txt"), "APP\n"), "COPY src/", &["src/app.txt changed"]),
    (
        "mode",
        |p| fs::set_permissions(p.path("src/app.txt"), Permissions::from_mode(0o755)).unwrap(),
        "COPY src/",
        &["src/app.txt", "mode", "755"],
    ),
    ("added file", |p| write(&p.path("src/new.txt"), "new\n"), "COPY src/", &["src/new.txt added"]),
    (
        "removed file",
        |p| fs::remove_file(p.path("src/lib/two.txt")).unwrap(),
        "COPY src/",
        &["src/lib/two.txt removed"],
    ),
    (
        "renamed file",
        |p| fs::rename(p.path("src/lib/one.txt"), p.path("src/lib/three.txt")).unwrap(),
        "COPY src/",
        &["src/lib/one.txt", "renamed", "src/lib/three.txt"],
    ),
    (
        "link target",
        |p| {
            fs::remove_file(p.path("src/link")).unwrap();
            symlink("lib/one.txt", p.path("src/link")).unwrap();
        },
        "COPY src/",
        &["src/link", "app.txt", "lib/one.txt"],
    ),
    (
        "a file becomes a folder",
        |p| {
            fs::remove_file(p.path("src/lib/one.txt")).unwrap();
            write(&p.path("src/lib/one.txt/inner"), "x");
        },
        "COPY src/",
        &["src/lib/one.txt"],
    ),
    (
        "ARG in scope, by flag",
        |p| p.flags.extend(["--build-arg".to_owned(), "VERSION=2".to_owned()]),
        "> /result",
        &["ARG VERSION: 1 → 2"],
    ),
    (
        "ARG in scope, by default",
        |p| p.edit_dockerfile("ARG VERSION=1", "ARG VERSION=3"),
        "> /result",
        &["ARG VERSION: 1 → 3"],
    ),
    ("ENV", |p| p.edit_dockerfile("ENV MODE=fast", "ENV MODE=slow"), "> /result", &["ENV MODE: fast → slow"]),
    ("RUN text", |p| p.edit_dockerfile("$VERSION $MODE", "$MODE $VERSION"), "> /result", &["RUN"]),
    (
        "shell",
        |p| p.edit_dockerfile("ENV MODE=fast", "SHELL [\"/bin/ash\", \"-c\"]\nENV MODE=fast"),
        "> /result",
        &["/bin/sh → /bin/ash"],
    ),
    ("user", |p| p.edit_dockerfile("RUN cat", "USER 0:0\nRUN cat"), "> /result", &["user", "0:0"]),
    (
        "base image",
        |p| base(p.calque, "base:1", "second"),
        "COPY src/",
        &["base image base:1 moved: sha256:", " → sha256:"],
    ),
];

#[test]
#[ignore = "root: starts containers"]
fn root_each_cause_is_named_exactly() {
    let calque = Calque::with_busybox(Kernel::Newest);
    let mut wrong = Vec::new();
    for (number, (name, change, step, expected)) in CAUSES.into_iter().enumerate() {
        base(&calque, "base:1", "first");
        let mut project = Project::new(&calque, &format!("project{number}"));
        // Another project's records must not be the nearest.
        project.edit_dockerfile(" > /result &&", &format!(" > /result && : {number} &&"));
        project.build();
        project.build().assert_all_cached();
        change(&mut project);
        let outcome = project.build();
        let step = outcome.step(step);
        let cause = step.cause.clone().unwrap_or_default();
        if step.is_cached || !expected.iter().all(|text| cause.contains(text)) {
            wrong.push(format!("{name}: expected {expected:?}, got {step:?}\n{}", outcome.stderr));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n====\n"));
}

/// What is changed and how: never a miss.
const NO_CAUSES: [(&str, Change); 12] = [
    ("nothing", |_| ()),
    ("a comment", |p| p.edit_dockerfile("ARG VERSION=1", "# a comment\nARG VERSION=1")),
    ("a comment inside of a RUN", |p| p.edit_dockerfile("RUN cat /src", "RUN \\\n# a comment\n cat /src")),
    ("white space", |p| p.edit_dockerfile("COPY src/ /src/", "\n\n  COPY   src/    /src/  ")),
    ("case of an instruction", |p| p.edit_dockerfile("COPY src/", "copy src/")),
    ("mtime", |p| {
        let file = File::options().append(true).open(p.path("src/app.txt")).unwrap();
        file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(1_234_567_890)).unwrap();
        File::open(p.path("src/lib")).unwrap().set_modified(SystemTime::UNIX_EPOCH).unwrap();
    }),
    ("an ARG that nobody declares", |p| p.flags.extend(["--build-arg".to_owned(), "UNKNOWN=1".to_owned()])),
    ("an ARG that is declared later", |p| p.flags.extend(["--build-arg".to_owned(), "LATE=2".to_owned()])),
    ("a proxy", |p| p.flags.extend(["--build-arg".to_owned(), "http_proxy=http://127.0.0.1:9".to_owned()])),
    ("an ignored file", |p| write(&p.path("src/notes.md"), "ignored at the top only")),
    ("a file that no step reads", |p| write(&p.path("elsewhere.txt"), "x")),
    ("another path of the context", |p| {
        let moved = p.context.with_extension("moved");
        fs::rename(&p.context, &moved).unwrap();
        p.context = moved;
    }),
];

#[test]
#[ignore = "root: starts containers"]
fn root_what_is_no_input_is_no_miss() {
    let calque = Calque::with_busybox(Kernel::Newest);
    base(&calque, "base:1", "first");
    let mut wrong = Vec::new();
    for (number, (name, change)) in NO_CAUSES.into_iter().enumerate() {
        let mut project = Project::new(&calque, &format!("project{number}"));
        if name == "an ignored file" {
            write(&project.path(".dockerignore"), "**/*.md\n");
        }
        project.build();
        let id = calque.image_id("app");
        change(&mut project);
        let outcome = project.build();
        let missed: Vec<_> = outcome
            .steps()
            .into_iter()
            .filter(|step| !step.is_cached && !step.label.contains("] FROM "))
            .collect();
        if !missed.is_empty() {
            wrong.push(format!("{name}: {missed:?}\n{}", outcome.stderr));
        } else if calque.image_id("app") != id && !name.contains("ARG") {
            wrong.push(format!("{name}: all cached, yet another image"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n====\n"));
}

#[test]
#[ignore = "root: starts containers"]
fn root_an_arg_of_another_stage_misses_there_only() {
    let calque = Calque::with_busybox(Kernel::Newest);
    base(&calque, "base:1", "first");
    let mut project = Project::new(&calque, "project");
    project.build();
    project.flags.extend(["--build-arg".to_owned(), "ELSEWHERE=1".to_owned()]);
    let outcome = project.build();
    assert!(outcome.step("> /result").is_cached, "{}", outcome.stderr);
    assert!(!outcome.step("RUN echo other").is_cached, "{}", outcome.stderr);
}

#[test]
#[ignore = "root: starts containers"]
fn root_edits_that_keep_size_and_mtime_are_never_a_hit() {
    let calque = Calque::with_busybox(Kernel::Newest);
    let context =
        calque.context("app", &[("Dockerfile", "FROM busybox\nCOPY data /data\n"), ("data", "00000000")]);
    let time = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
    let rounds = if std::env::var_os("CALQUE_SOAK").is_some() { 500 } else { 40 };
    println!("soak: {rounds} edits that keep size and mtime");
    for round in 0..rounds {
        set_content(&context.join("data"), &format!("{round:08}"), time);
        calque.build(&context, "app");
        assert_eq!(calque.shell("app", "cat /data"), format!("{round:08}"));
    }
}

fn set_content(path: &Path, content: &str, time: SystemTime) {
    fs::write(path, content).unwrap();
    File::options().append(true).open(path).unwrap().set_modified(time).unwrap();
}
