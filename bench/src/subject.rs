//! Whom is measured: calque and the peers that are installed and usable here.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::measure::quiet;

/// The base that all Dockerfiles of the benchmark name.
pub(crate) const BASE: &str = "localhost/bench-base:latest";

/// One program under test.
#[derive(Clone, Debug)]
pub(crate) struct Subject {
    pub(crate) kind: Kind,
    /// Its own folder: store, run-time state.
    dir: PathBuf,
    /// A docker archive of busybox.
    base: PathBuf,
    program: PathBuf,
}

/// Which program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Calque,
    Docker,
    Buildah,
    Podman,
    /// Runs containers only.
    Crun,
}

/// Who takes part, and who doesn't and why.
pub(crate) struct Subjects {
    pub(crate) list: Vec<Subject>,
    pub(crate) left_out: Vec<(String, String)>,
}

/// Tries each with a trivial build (crun: a container) and keeps those that can do it.
pub(crate) fn usable(calque: &Path, dir: &Path, base: &Path, without: &[String]) -> Subjects {
    let mut subjects = Subjects { list: Vec::new(), left_out: Vec::new() };
    for (kind, program) in [
        (Kind::Calque, calque),
        (Kind::Docker, Path::new("docker")),
        (Kind::Buildah, Path::new("buildah")),
        (Kind::Podman, Path::new("podman")),
        (Kind::Crun, Path::new("crun")),
    ] {
        let name = kind.name();
        if without.iter().any(|left_out| left_out == name) {
            continue;
        }
        let subject =
            Subject { kind, dir: dir.join(name), base: base.to_owned(), program: program.to_owned() };
        match subject.try_out() {
            Ok(()) => subjects.list.push(subject),
            Err(reason) => subjects.left_out.push((name.to_owned(), last_lines(&reason))),
        }
    }
    subjects
}

fn last_lines(text: &str) -> String {
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    lines[lines.len().saturating_sub(2)..].join("; ")
}

impl Kind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Kind::Calque => "calque",
            Kind::Docker => "docker",
            Kind::Buildah => "buildah",
            Kind::Podman => "podman",
            Kind::Crun => "crun",
        }
    }
}

impl Subject {
    /// Whose CPU counts though it is no descendant.
    pub(crate) fn daemons(&self) -> &'static [&'static str] {
        match self.kind {
            Kind::Docker => &["dockerd", "containerd", "containerd-shim", "buildkitd"],
            _ => &[],
        }
    }

    pub(crate) fn can_build(&self) -> bool {
        self.kind != Kind::Crun
    }

    /// The same program with an empty store that has only the base. Docker's daemon keeps its one store.
    pub(crate) fn fresh(&self, name: &str) -> Result<Subject, String> {
        let subject = Subject { dir: self.dir.join(name), ..self.clone() };
        subject.prepare()?;
        Ok(subject)
    }

    fn try_out(&self) -> Result<(), String> {
        self.prepare()?;
        if self.can_build() {
            let context = self.dir.join("try");
            fs::create_dir_all(&context).map_err(|error| error.to_string())?;
            fs::write(context.join("Dockerfile"), format!("FROM {BASE}\nRUN true\n"))
                .map_err(|error| error.to_string())?;
            quiet(&mut self.build(&context, "bench-try", false))?;
        }
        if let Some(mut run) = self.run_true() {
            quiet(&mut run)?;
        }
        Ok(())
    }

    fn prepare(&self) -> Result<(), String> {
        let io = |error: std::io::Error| format!("`{}`: {error}", self.dir.display());
        fs::create_dir_all(&self.dir).map_err(io)?;
        match self.kind {
            Kind::Calque | Kind::Docker => {
                quiet(self.command().arg("load").arg("-i").arg(&self.base))?;
                quiet(self.command().args(["tag", "busybox:latest", BASE]))
            }
            Kind::Buildah | Kind::Podman => {
                // Some machines' root may not raise limits.
                fs::write(
                    self.dir.join("containers.conf"),
                    "[containers]\ndefault_ulimits = [\"nofile=1024:1024\", \"nproc=4096:4096\"]\n",
                )
                .map_err(io)?;
                fs::write(
                    self.dir.join("policy.json"),
                    "{\"default\":[{\"type\":\"insecureAcceptAnything\"}]}",
                )
                .map_err(io)?;
                let from = format!("docker-archive:{}", self.base.display());
                let mut command = self.command();
                command.args(["pull", "-q"]);
                if self.kind == Kind::Buildah {
                    command.arg("--signature-policy").arg(self.dir.join("policy.json"));
                }
                let output = command.arg(from).output().map_err(|error| format!("cannot start: {error}"))?;
                let id = String::from_utf8_lossy(&output.stdout).trim().to_owned();
                if !output.status.success() || id.is_empty() {
                    return Err(String::from_utf8_lossy(&output.stderr).into_owned());
                }
                quiet(self.command().args(["tag", &id, BASE]))
            }
            Kind::Crun => {
                let root = self.dir.join("bundle/rootfs");
                fs::create_dir_all(&root).map_err(io)?;
                let script = "tar -xOf \"$1\" --wildcards '*/layer.tar' | tar -xpf - -C \"$2\"";
                quiet(Command::new("sh").args(["-c", script, "sh"]).arg(&self.base).arg(&root))?;
                let bundle = self.dir.join("bundle");
                if !bundle.join("config.json").exists() {
                    quiet(Command::new("crun").arg("spec").current_dir(&bundle))?;
                    let text = fs::read_to_string(bundle.join("config.json")).map_err(io)?;
                    let mut spec: serde_json::Value =
                        serde_json::from_str(&text).map_err(|error| error.to_string())?;
                    spec["process"]["args"] = serde_json::json!(["true"]);
                    spec["process"]["terminal"] = false.into();
                    spec["process"]["rlimits"] = serde_json::json!([]);
                    fs::write(bundle.join("config.json"), spec.to_string()).map_err(io)?;
                }
                Ok(())
            }
        }
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        match self.kind {
            Kind::Calque => {
                command.env("CALQUE_ROOT", self.dir.join("store"));
            }
            Kind::Docker => {
                command.env("DOCKER_BUILDKIT", "1");
            }
            Kind::Buildah | Kind::Podman => {
                command
                    .env("CONTAINERS_CONF", self.dir.join("containers.conf"))
                    .env("BUILDAH_ISOLATION", "oci");
                command.arg("--root").arg(self.dir.join("root")).arg("--runroot").arg(self.dir.join("run"));
                command.args(["--storage-driver", "overlay"]);
            }
            Kind::Crun => {
                command.arg("--root").arg(self.dir.join("state"));
            }
        }
        command
    }

    /// A build of `context`; RUN has the host's network, so that no network set-up is measured.
    pub(crate) fn build(&self, context: &Path, tag: &str, no_cache: bool) -> Command {
        let mut command = self.command();
        command.arg("build");
        match self.kind {
            Kind::Calque | Kind::Docker => {
                command.args(["-q", "--network", "host"]);
            }
            Kind::Buildah | Kind::Podman => {
                command.args(["-q", "--layers", "--network", "host", "--jobs", "4", "--pull=never"]);
                command.arg("--signature-policy").arg(self.dir.join("policy.json"));
            }
            Kind::Crun => {}
        }
        if no_cache {
            command.arg("--no-cache");
        }
        command.args(["-t", tag]).arg(context);
        command
    }

    /// A container that does nothing, without a network. buildah has none.
    pub(crate) fn run_true(&self) -> Option<Command> {
        let mut command = self.command();
        match self.kind {
            Kind::Calque | Kind::Docker => {
                command.args(["run", "--rm", "--network", "none", BASE, "true"]);
            }
            Kind::Podman => {
                command.args(["run", "--rm", "--network", "none", "--pull=never", BASE, "true"]);
            }
            Kind::Buildah => return None,
            Kind::Crun => {
                command.arg("run").arg("--bundle").arg(self.dir.join("bundle")).arg("bench");
            }
        }
        Some(command)
    }
}
