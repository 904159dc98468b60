//! Drives the binary on a store of its own.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use testutil::{LeakCheck, Requirement};

/// Which of the kernel's ways calque may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kernel {
    /// All that this kernel has.
    Newest,
    /// None that has a fallback: what calque does on the oldest kernel it supports.
    Oldest,
    /// All but overlayfs: each stage works on a copy of its layers.
    Tree,
}

pub(crate) const BOTH_KERNELS: [Kernel; 2] = [Kernel::Newest, Kernel::Oldest];

/// For what must be the same without overlayfs, too.
pub(crate) const ALL_KERNELS: [Kernel; 3] = [Kernel::Newest, Kernel::Oldest, Kernel::Tree];

const OLDEST: &str = "overlay-fd,idmap,openat2,clone3";

/// calque with its own store. Dropping it removes the store and fails the test when something stayed mounted.
pub(crate) struct Calque {
    dir: tempfile::TempDir,
    store: PathBuf,
    kernel: Kernel,
}

impl Calque {
    /// An empty store.
    pub(crate) fn new(kernel: Kernel) -> Self {
        assert!(testutil::require(Requirement::Root), "end-to-end tests need root");
        let dir = tempfile::Builder::new().prefix("calque-e2e-").tempdir().unwrap();
        let store = dir.path().join("store");
        Self { dir, store, kernel }
    }

    /// A store that has `busybox:latest`.
    pub(crate) fn with_busybox(kernel: Kernel) -> Self {
        let calque = Self::new(kernel);
        calque.ok(["load", "-q", "-i", testutil::busybox_archive().to_str().unwrap()]);
        calque
    }

    /// As `self`, with the store at `store`.
    pub(crate) fn at_store(mut self, store: PathBuf) -> Self {
        self.store = store;
        self
    }

    /// A folder for the test's own files, outside of the store.
    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The root of the store.
    pub(crate) fn store(&self) -> &Path {
        &self.store
    }

    /// A build context called `name` with these files; parents are made.
    pub(crate) fn context(&self, name: &str, files: &[(&str, &str)]) -> PathBuf {
        let dir = self.dir.path().join(name);
        fs::create_dir_all(&dir).unwrap();
        for (path, content) in files {
            write(&dir.join(path), content);
        }
        dir
    }

    /// A command of this calque, in a known environment.
    pub(crate) fn command<A: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = A>) -> Command {
        self.command_of(Command::new(binary()), arguments)
    }

    /// The same, started by another program, which has calque's path as its last argument so far.
    pub(crate) fn command_of<A: AsRef<OsStr>>(
        &self,
        starter: Command,
        arguments: impl IntoIterator<Item = A>,
    ) -> Command {
        let mut command = starter;
        command
            .args(arguments)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", self.dir.path())
            .env("CALQUE_ROOT", &self.store)
            .current_dir(self.dir.path())
            .stdin(Stdio::null());
        match self.kernel {
            Kernel::Newest => {}
            Kernel::Oldest => drop(command.env("CALQUE_DISABLE", OLDEST)),
            Kernel::Tree => drop(command.env("CALQUE_DISABLE", "overlay")),
        }
        command
    }

    /// Runs it to its end.
    pub(crate) fn run<A: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = A>) -> Outcome {
        Outcome::of(&mut self.command(arguments))
    }

    /// Runs it and requires success.
    #[track_caller]
    pub(crate) fn ok<A: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = A>) -> Outcome {
        let outcome = self.run(arguments);
        outcome.assert_code(0);
        outcome
    }

    /// Starts it, with its output going to a file that [`Started::wait`] reads.
    pub(crate) fn start<A: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = A>) -> Started {
        Started::of(self.command(arguments))
    }

    /// `build --progress=plain -t TAG CONTEXT`, which must succeed.
    #[track_caller]
    pub(crate) fn build(&self, context: &Path, tag: &str) -> Outcome {
        self.build_with(context, tag, &[])
    }

    /// As [`Calque::build`] with more flags.
    #[track_caller]
    pub(crate) fn build_with(&self, context: &Path, tag: &str, flags: &[&str]) -> Outcome {
        self.ok(build_arguments(context, tag, flags))
    }

    /// The image's ID.
    #[track_caller]
    pub(crate) fn image_id(&self, image: &str) -> String {
        self.inspect(image)["Id"].as_str().expect("inspect gives the ID").to_owned()
    }

    /// What `inspect` tells of the image.
    #[track_caller]
    pub(crate) fn inspect(&self, image: &str) -> serde_json::Value {
        let text = self.ok(["inspect", "--type", "image", image]).stdout;
        let inspected: serde_json::Value = serde_json::from_str(&text).unwrap();
        inspected[0].clone()
    }

    /// The image's diff IDs, base first.
    #[track_caller]
    pub(crate) fn diff_ids(&self, image: &str) -> Vec<String> {
        let inspected = self.inspect(image);
        let layers = inspected["RootFS"]["Layers"].as_array().expect("inspect gives the diff IDs");
        layers.iter().map(|layer| layer.as_str().unwrap().to_owned()).collect()
    }

    /// What `run --rm` of a shell command prints.
    #[track_caller]
    pub(crate) fn shell(&self, image: &str, script: &str) -> String {
        self.ok(["run", "--rm", "--network", "none", "--entrypoint", "sh", image, "-c", script]).stdout
    }

    /// Fails the test when something that has to do with this store is still mounted, anywhere.
    #[track_caller]
    pub(crate) fn assert_nothing_mounted(&self) {
        LeakCheck::new(self.dir.path()).assert_clean(Duration::from_secs(20));
    }
}

impl Drop for Calque {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.assert_nothing_mounted();
        }
    }
}

/// The binary under test: cargo's, or the one that `CALQUE_TEST_BINARY` names, such as a release.
pub(crate) fn binary() -> PathBuf {
    std::env::var_os("CALQUE_TEST_BINARY").map_or_else(|| env!("CARGO_BIN_EXE_calque").into(), PathBuf::from)
}

/// The arguments of a build with plain progress.
pub(crate) fn build_arguments(context: &Path, tag: &str, flags: &[&str]) -> Vec<String> {
    let mut arguments: Vec<String> = ["build", "--progress=plain", "-t", tag].map(str::to_owned).into();
    arguments.extend(flags.iter().map(|flag| (*flag).to_owned()));
    arguments.push(context.to_str().unwrap().to_owned());
    arguments
}

/// Writes a file and its parents.
pub(crate) fn write(path: &Path, content: &str) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, content).unwrap_or_else(|error| panic!("cannot write `{}`: {error}", path.display()));
}

/// A finished command.
#[derive(Clone, Debug)]
pub(crate) struct Outcome {
    pub(crate) command: String,
    /// The exit code, 128 + n for signal n.
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// A step of a build as plain progress shows it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Step {
    /// `[stage 2/4] RUN make`.
    pub(crate) label: String,
    pub(crate) is_cached: bool,
    /// Why it was not cached, as far as calque knew an earlier run.
    pub(crate) cause: Option<String>,
    /// It ran and made what an earlier run made.
    pub(crate) is_same_as_before: bool,
}

impl Outcome {
    fn of(command: &mut Command) -> Self {
        let text = describe(command);
        let output = command.output().unwrap_or_else(|error| panic!("cannot start {text}: {error}"));
        Self::from_output(text, output)
    }

    fn from_output(command: String, output: Output) -> Self {
        Self {
            command,
            code: output.status.code().unwrap_or_else(|| 128 + output.status.signal().unwrap_or(0)),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// Requires an exit code.
    #[track_caller]
    pub(crate) fn assert_code(&self, code: i32) {
        assert_eq!(
            self.code, code,
            "{}\n--- stdout\n{}\n--- stderr\n{}",
            self.command, self.stdout, self.stderr
        );
    }

    /// The steps of a build, in the order of their numbers.
    pub(crate) fn steps(&self) -> Vec<Step> {
        let mut steps: std::collections::BTreeMap<u32, Step> = std::collections::BTreeMap::new();
        for line in self.stderr.lines().chain(self.stdout.lines()) {
            let Some((number, text)) = line.strip_prefix('#').and_then(|rest| rest.split_once(' ')) else {
                continue;
            };
            let Ok(number) = number.parse() else { continue };
            let step = steps.entry(number).or_default();
            if text.starts_with('[') && step.label.is_empty() {
                step.label = text.to_owned();
            } else if text == "CACHED" {
                step.is_cached = true;
            } else if let Some(cause) = text.strip_prefix("MISS: ") {
                step.cause = Some(cause.to_owned());
            } else if text.starts_with("SAME: ") {
                step.is_same_as_before = true;
            }
        }
        steps
            .into_values()
            .filter(|step| step.label.starts_with('[') && !step.label.starts_with("[internal]"))
            .collect()
    }

    /// The one step whose label contains `text`.
    #[track_caller]
    pub(crate) fn step(&self, text: &str) -> Step {
        let found: Vec<Step> = self.steps().into_iter().filter(|step| step.label.contains(text)).collect();
        assert_eq!(found.len(), 1, "steps with `{text}`: {found:?}\n{}", self.stderr);
        found.into_iter().next().unwrap()
    }

    /// Requires that every step that can be cached was.
    #[track_caller]
    pub(crate) fn assert_all_cached(&self) {
        let run: Vec<Step> = self
            .steps()
            .into_iter()
            .filter(|step| !step.is_cached && !step.label.contains("] FROM "))
            .collect();
        assert!(run.is_empty(), "not cached: {run:?}\n{}", self.stderr);
        assert!(self.steps().iter().any(|step| step.is_cached), "no step at all:\n{}", self.stderr);
    }
}

fn describe(command: &Command) -> String {
    let words: Vec<String> = command.get_args().map(|word| word.to_string_lossy().into_owned()).collect();
    format!("calque {}", words.join(" "))
}

/// A running command. Killed when dropped.
pub(crate) struct Started {
    child: Option<Child>,
    command: String,
    output: tempfile::TempDir,
}

impl Started {
    /// Starts `command`.
    pub(crate) fn of(mut command: Command) -> Self {
        let text = describe(&command);
        let output = tempfile::tempdir().unwrap();
        let stdout = fs::File::create(output.path().join("stdout")).unwrap();
        let stderr = fs::File::create(output.path().join("stderr")).unwrap();
        let child = command.stdout(stdout).stderr(stderr).spawn().unwrap();
        Self { child: Some(child), command: text, output }
    }

    /// Its process ID.
    pub(crate) fn pid(&self) -> u32 {
        self.child.as_ref().unwrap().id()
    }

    /// What it printed so far on stdout and stderr.
    pub(crate) fn printed(&self) -> String {
        ["stdout", "stderr"]
            .map(|name| {
                String::from_utf8_lossy(&fs::read(self.output.path().join(name)).unwrap()).into_owned()
            })
            .concat()
    }

    /// Waits until it printed `text`.
    #[track_caller]
    pub(crate) fn wait_for(&mut self, text: &str) {
        let deadline = Instant::now() + Duration::from_secs(60);
        while !self.printed().contains(text) {
            let ended = self.child.as_mut().unwrap().try_wait().unwrap();
            assert!(
                ended.is_none() && Instant::now() < deadline,
                "{} never printed `{text}`:\n{}",
                self.command,
                self.printed()
            );
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Whether it hasn't ended.
    pub(crate) fn is_running(&mut self) -> bool {
        self.child.as_mut().unwrap().try_wait().unwrap().is_none()
    }

    /// Sends a signal to it alone.
    pub(crate) fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_raw(self.pid().cast_signed()).unwrap();
        let _ = rustix::process::kill_process(pid, signal);
    }

    /// Waits for its end.
    pub(crate) fn wait(mut self) -> Outcome {
        let mut child = self.child.take().unwrap();
        let status = child.wait().unwrap();
        let output = Output {
            status,
            stdout: fs::read(self.output.path().join("stdout")).unwrap(),
            stderr: fs::read(self.output.path().join("stderr")).unwrap(),
        };
        Outcome::from_output(self.command.clone(), output)
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// A tar of a Debian bookworm base, made once for all tests of a target folder.
pub(crate) fn debian_archive() -> &'static Path {
    static ARCHIVE: OnceLock<PathBuf> = OnceLock::new();
    ARCHIVE.get_or_init(|| {
        assert!(testutil::require(Requirement::Program("mmdebstrap")));
        testutil::debian_archive()
    })
}
