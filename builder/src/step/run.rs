//! RUN: one command in the sandbox; its upperdir is the layer.

use std::io;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use oci::ProcessSettings;
use rustix::fs::{Mode, OFlags};
use rustix::pipe::{PipeFlags, pipe_with};
use sandbox::{CgroupSettings, Exit, Launch, LaunchError, Rootfs, Scratch, SeccompPolicy, Stdio};
use store::merged::Merged;
use store::snapshot::{Snapshots, StubKind, mount_point_stubs, prepare_upper};
use store::tree_writer::{Attributes, TreeWriter};
use store::{LayerDraft, LayerId};
use sys::file::Timestamp;

use crate::cache::{Interruption, Obtained, StepSite};
use crate::error::{ProcessFailure, StepError, StoreFailure};
use crate::expanded::RunStep;
use crate::input::run_inputs;
use crate::mounts::{BindRoots, BindSources, StepMounts};
use crate::request::NetworkMode;
use crate::secret::{self, Mask};
use crate::stage_tree::{StageTree, SteppedTree};
use crate::step::copier::write_failed;
use crate::step::output::{Followed, Output};
use crate::step::users;

/// What the sandbox mounts itself: an image needs the places.
const KERNEL_MOUNTS: [&str; 3] = ["/proc", "/dev", "/sys"];

/// Carries RUN out.
pub(crate) fn run(site: &StepSite<'_, '_>, run: &RunStep) -> Result<Obtained, StepError> {
    let mut roots = BindRoots::open(site, run)?;
    let secrets = secret::seen(run, &site.executor.request.secrets);
    site.with_stable_sources(|round| {
        if round > 0 {
            roots.refresh()?;
        }
        let sources = roots.look(site, run)?;
        let platform = site.step.stage.platform();
        let inputs = run_inputs(run, platform, &sources.nodes(), &site.below.parent);
        let command = Command { site, run, roots: &roots, sources: &sources, secrets: &secrets };
        site.obtain(inputs, &secrets, &mut |draft, _| command.execute(draft))
    })
}

struct Command<'c, 's, 'a> {
    site: &'c StepSite<'s, 'a>,
    run: &'c RunStep,
    roots: &'c BindRoots,
    sources: &'c BindSources<'c>,
    secrets: &'c [(String, Vec<u8>)],
}

impl Command<'_, '_, '_> {
    fn execute(&self, draft: &LayerDraft) -> Result<(), Interruption> {
        let (site, run) = (self.site, self.run);
        let executor = site.executor;
        secret::require(run, &executor.request.secrets)?;
        let sandbox = executor.sandbox()?;
        let image = executor.merged(&site.below.layers)?;
        let (user, home) = users::ids(&image, &run.user)?;
        let mut mounts = StepMounts::prepare(site, run, self.roots, self.sources, &self.provided())?;
        let mut targets = mounts.targets.clone();
        targets.extend(KERNEL_MOUNTS.map(|target| (PathBuf::from(target), StubKind::Dir)));
        let ground = match executor.snapshots() {
            Snapshots::Tree => Ground::Tree(self.working_tree(&image, &targets)?),
            Snapshots::OverlayIdmap | Snapshots::Overlay => self.overlay(&image, draft, &targets)?,
        };
        let settings = ProcessSettings {
            args: self.argv(),
            env: self.env(&home, &mounts.env),
            cwd: run.workdir.clone(),
            user,
            terminal: false,
            hostname: run.hostname.clone(),
            readonly_rootfs: false,
            host_network: self.has_host_network(),
            host_userns: false,
        };
        let mut spec = oci::runtime_spec(&settings).map_err(StepError::Spec)?;
        add_tmpfs(&mut spec, &mounts.tmpfs);
        let (stdio, stdout, stderr) = pipes().map_err(|error| self.follow_failed(error))?;
        let (rootfs, tree) = match ground {
            Ground::Overlay { rootfs, .. } => (rootfs, None),
            Ground::Tree(tree) => {
                let rootfs = Rootfs::Tree(tree.place().map_err(|error| self.follow_failed(error))?);
                (rootfs, Some(tree))
            }
        };
        let launch = Launch {
            spec,
            rootfs,
            binds: std::mem::take(&mut mounts.binds),
            stdio,
            seccomp: SeccompPolicy::Default,
            // Without limits a group of its own buys nothing: the pid namespace ends with the step. On cgroup v1 a move
            // into one waits some 10 ms for a grace period of the kernel.
            cgroup: CgroupSettings::Inherit,
        };
        let process = sandbox.launch(launch).map_err(|error| self.launch_failed(error))?;
        mounts.files.unlink();
        for note in process.notes() {
            executor.progress.note(note.clone());
        }
        let result = self.follow(&process, stdout, stderr);
        drop(mounts);
        let Some(tree) = tree else { return result };
        match result {
            Ok(()) => {
                let tree = tree.finish(&image, draft).map_err(write_failed)?;
                executor.trees.put(site.step.stage.id(), tree);
                Ok(())
            }
            Err(interruption) => {
                // What it wrote is kept for a look at it, if it can be told; its failure is what counts.
                if let Err(error) = tree.finish(&image, draft) {
                    executor.progress.note(format!("what the failed step wrote can't be told: {error}"));
                }
                Err(interruption)
            }
        }
    }

    /// An overlay of the layers, with the draft as its upperdir.
    fn overlay(
        &self,
        image: &Merged,
        draft: &LayerDraft,
        targets: &[(PathBuf, StubKind)],
    ) -> Result<Ground, StepError> {
        let (site, executor) = (self.site, self.site.executor);
        prepare_upper(image, draft.tree_fd()).map_err(write_failed)?;
        make_workdir(image, draft, &self.run.workdir)?;
        let stubs = site.store_call("make a draft", |store| Ok(store.draft()?))?;
        let has_stubs = mount_point_stubs(image, targets, stubs.tree_fd()).map_err(write_failed)?;
        let mut lowerdirs = executor.open_trees(&site.below.layers)?;
        // What lies below a layer with an opaque root: overlayfs wouldn't hide it.
        lowerdirs.truncate(image.tree_count());
        if has_stubs {
            lowerdirs.insert(0, self.place(&stubs)?);
        }
        let dir = draft.scratch_fd().try_clone_to_owned().map_err(|error| self.follow_failed(error))?;
        let scratch = Scratch { dir, upper: c"tree".to_owned(), work: c"work".to_owned() };
        let rootfs = Rootfs::Overlay { lowerdirs, scratch: Some(scratch) };
        Ok(Ground::Overlay { rootfs, _stubs: stubs })
    }

    /// The stage's working tree, brought to where the stage is and noted.
    fn working_tree(
        &self,
        image: &Merged,
        targets: &[(PathBuf, StubKind)],
    ) -> Result<SteppedTree, StepError> {
        let (site, executor) = (self.site, self.site.executor);
        let layers: Vec<LayerId> = site.below.layers.iter().map(|layer| layer.id).collect();
        let tree = match executor.trees.take(site.step.stage.id()) {
            Some(tree) if tree.can_reach(&layers) => tree,
            _ => {
                site.running.status("copying the layers into a working tree".to_owned());
                let draft = site.store_call("make a draft", |store| Ok(store.draft()?))?;
                StageTree::copy(draft, image, layers.clone()).map_err(write_failed)?
            }
        };
        let open = |id: LayerId| -> Result<OwnedFd, StepError> {
            site.store_call("open a layer", |store| Ok(store.layer(id)?.open_tree()?))
        };
        let tree = tree.advance(&layers, open)?;
        tree.begin(targets, Path::new(&self.run.workdir)).map_err(write_failed)
    }

    /// Passes the output on until the command has ended, and judges how.
    fn follow(
        &self,
        process: &sandbox::Running,
        stdout: OwnedFd,
        stderr: OwnedFd,
    ) -> Result<(), Interruption> {
        let executor = self.site.executor;
        let number = usize::try_from(self.site.running.id().0).unwrap_or(usize::MAX);
        let (log, log_path) = match executor.log.step(number) {
            Ok((log, path)) => (Some(log), Some(path)),
            Err(error) => {
                executor
                    .progress
                    .note(format!("the output of `{}` is not kept: {error}", self.site.step.label));
                (None, None)
            }
        };
        let mask = Mask::new(self.secrets);
        let mut output = Output::new(self.site.running, log, &mask);
        let followed = output.follow(process, stdout, stderr, executor.stop());
        let exit = process.wait();
        let (last_lines, log_error) = output.finish();
        if let Some(error) = log_error {
            executor.progress.note(format!("the log of `{}` is incomplete: {error}", self.site.step.label));
        }
        if followed.map_err(|error| self.follow_failed(error))? == Followed::Stopped {
            return Err(StepError::Stopped.into());
        }
        let exit = exit.map_err(|error| self.follow_failed(io::Error::other(error)))?;
        if exit == Exit::Code(0) {
            return Ok(());
        }
        let command = self.command();
        Err(StepError::Process(ProcessFailure { command, exit, last_lines, log: log_path, kept: None })
            .into())
    }

    /// Files that every step gets and no layer has (D-81).
    fn provided(&self) -> Vec<(&'static str, Vec<u8>, u32)> {
        let request = self.site.executor.request;
        let host = self.has_host_network();
        let extra: Vec<network::HostsEntry> = request
            .extra_hosts
            .iter()
            .filter_map(|(name, address)| {
                let address: IpAddr = address.parse().ok()?;
                Some(network::HostsEntry { address, name: name.clone() })
            })
            .collect();
        let hosts = network::hosts(&self.run.hostname, None, &extra);
        let resolv_conf = network::resolv_conf(&request.resolv_conf, host);
        let mut files = vec![
            ("/etc/hosts", hosts.into_bytes(), 0o644),
            ("/etc/resolv.conf", resolv_conf.into_bytes(), 0o644),
        ];
        if let Some(script) = &self.run.script {
            files.push((SCRIPT, script.body.clone().into_bytes(), 0o755));
        }
        files
    }

    /// The argv; a script's place is ours.
    fn argv(&self) -> Vec<String> {
        let mut argv = self.run.argv.clone();
        if let (Some(script), Some(program)) = (&self.run.script, argv.first_mut())
            && *program == script.path
        {
            SCRIPT.clone_into(program);
        }
        argv
    }

    fn env(&self, home: &str, secrets: &[(String, String)]) -> Vec<String> {
        let env = self.run.env.iter().map(|(name, variable)| (name.clone(), variable.value.clone()));
        let mut env: std::collections::BTreeMap<String, String> = env.collect();
        env.entry("HOME".to_owned()).or_insert_with(|| home.to_owned());
        // Build arguments before the host's: neither replaces what the Dockerfile says.
        for (name, value) in
            self.run.proxy_env.clone().into_iter().chain(self.site.executor.request.proxies.clone())
        {
            env.entry(name).or_insert(value);
        }
        env.extend(secrets.iter().cloned());
        env.into_iter().map(|(name, value)| format!("{name}={value}")).collect()
    }

    fn has_host_network(&self) -> bool {
        match self.run.network {
            NetworkMode::None => false,
            NetworkMode::Host => true,
            NetworkMode::Default => {
                self.site.executor.progress.note(
                    "RUN uses the host's network: calque has no network of its own for builds yet (`--network none` \
                     cuts it off)"
                        .to_owned(),
                );
                true
            }
        }
    }

    fn command(&self) -> String {
        self.run.argv.join(" ")
    }

    fn follow_failed(&self, source: io::Error) -> StepError {
        StepError::Follow { command: self.command(), source }
    }

    fn launch_failed(&self, error: LaunchError) -> StepError {
        let help = match &error {
            LaunchError::Exec { program, source } if source.kind() == io::ErrorKind::NotFound => {
                Some(if program == "/bin/sh" {
                    "the image has no `/bin/sh` (or not the interpreter that it needs): use the exec form, \
                     `RUN [\"/program\", ...]`, SHELL, or another base image"
                        .to_owned()
                } else {
                    format!("there is no `{program}` in the image, or not the interpreter that it needs")
                })
            }
            LaunchError::Exec { program, source } if source.kind() == io::ErrorKind::PermissionDenied => {
                Some(format!("`{program}` is no program, or the user may not execute it"))
            }
            _ => None,
        };
        StepError::Launch { command: self.command(), help, source: error }
    }

    fn place(&self, draft: &LayerDraft) -> Result<OwnedFd, StepError> {
        sys::file::open_dir_at(draft.tree_fd(), c".").map_err(|error| self.follow_failed(error))
    }
}

/// What the step's rootfs is made of.
enum Ground {
    /// The mount points that the image lacks are thrown away when the step has ended.
    Overlay {
        rootfs: Rootfs,
        _stubs: LayerDraft,
    },
    Tree(SteppedTree),
}

/// Where a heredoc that is a script of its own is bound.
const SCRIPT: &str = "/run/calque-script";

/// A base image's working directory need not exist: a command that starts there gets it (BuildKit does so, too).
fn make_workdir(image: &Merged, draft: &LayerDraft, workdir: &str) -> Result<(), StepError> {
    let path = Path::new(workdir);
    if image.resolve(path).is_ok() {
        return Ok(());
    }
    let fail = |source| StepError::Store { op: "make the working directory", source };
    let tree = draft
        .tree_fd()
        .try_clone_to_owned()
        .map_err(|source| store::tree_writer::WriteError::Io { op: "open", path: path.to_path_buf(), source })
        .map_err(|error| fail(StoreFailure::Write(error)))?;
    let writer = TreeWriter::new(tree, image).map_err(write_failed)?;
    writer.create_dir_all(path, &Attributes::parent_dir(Timestamp::now())).map_err(write_failed)?;
    writer.finish().map_err(write_failed)
}

/// Standard input is empty; the read ends of standard output and error are ours.
fn pipes() -> io::Result<(Stdio, OwnedFd, OwnedFd)> {
    let stdin = rustix::fs::open("/dev/null", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    let (stdout, stdout_write) = pipe_with(PipeFlags::CLOEXEC)?;
    let (stderr, stderr_write) = pipe_with(PipeFlags::CLOEXEC)?;
    Ok((Stdio { stdin, stdout: stdout_write, stderr: stderr_write }, stdout, stderr))
}

fn add_tmpfs(spec: &mut oci::RuntimeSpec, tmpfs: &[(String, Option<u64>)]) {
    let mut mounts = spec.mounts().clone().unwrap_or_default();
    for (target, size_bytes) in tmpfs {
        let mut options = vec!["nosuid".to_owned(), "nodev".to_owned(), "mode=1777".to_owned()];
        options.extend(size_bytes.map(|size| format!("size={size}")));
        let mount = serde_json::json!({
            "destination": target,
            "type": "tmpfs",
            "source": "tmpfs",
            "options": options,
        });
        mounts.push(serde_json::from_value(mount).expect("these are the fields of a mount"));
    }
    spec.set_mounts(Some(mounts));
}
