//! From a launch to a running container.

use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use oci_spec::runtime::Spec;
use sys::child::{BpfInstruction, SpawnError};
use sys::kernel::{self, Feature};

use crate::cgroup::{self, Group, Hierarchies, Limits};
use crate::error::{LaunchError, OpenError};
use crate::idmap::IdMap;
use crate::init::{self, Parts};
use crate::launch::{CgroupSettings, Launch, SandboxSettings, SeccompPolicy, Stdio};
use crate::launcher::Launcher;
use crate::namespace::Namespaces;
use crate::plan::{CgroupFacts, Facts, Plan, SetupOp};
use crate::prepare::Prepared;
use crate::rlimit;
use crate::rootfs::{self, Mapping, RootError};
use crate::running::Running;
use crate::terminal::{NewTerminal, Terminal};
use crate::{prepare, seccomp};

/// Makes the container's user the owner of anonymous pipes on its stdio, so that `/dev/stderr` and its kind can be
/// opened anew there (runc does so). Others, such as files and terminals, keep the owner that the caller sees.
fn give_pipes(stdio: &Stdio, owner: Option<u32>) {
    const PIPEFS_MAGIC: i64 = 0x5049_5045;
    let Some(owner) = owner else { return };
    for fd in [&stdio.stdin, &stdio.stdout, &stdio.stderr] {
        if rustix::fs::fstatfs(fd).is_ok_and(|found| found.f_type == PIPEFS_MAGIC) {
            // Where it can't be done the program can still write to what it inherited.
            let _ = rustix::fs::fchown(fd, Some(rustix::fs::Uid::from_raw(owner)), None);
        }
    }
}

/// Starts containers.
///
/// A cheap handle: clones share the user namespace, the device template and the thread from which all are started
/// (parent-death signals fire when the *thread* ends, so it lives as long as any handle or [`Running`]).
#[derive(Clone, Debug)]
pub struct Sandbox(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    /// `None`: root in a container is root on the host.
    mapping: Option<Mapping>,
    launcher: Launcher,
    seccomp: Option<Vec<BpfInstruction>>,
    hierarchies: Option<Hierarchies>,
    last_capability: u32,
    /// This process, for names of cgroups.
    process: (u32, u64),
    containers: AtomicU64,
    notes: Vec<String>,
}

const NO_IDMAP: &str = "this kernel can't map file owners (idmapped layers need Linux 5.19): root in a container is \
                        root on the host, held back by dropped capabilities and the system call filter";

impl Sandbox {
    /// Probes the kernel and prepares what all containers share. Removes what sandboxes of dead processes left.
    pub fn open(settings: SandboxSettings) -> Result<Self, OpenError> {
        let SandboxSettings {} = settings;
        let step = |what| move |source| OpenError::Prepare { what, source };
        let mut notes = Vec::new();
        let map = IdMap::container();
        let mapping = if kernel::has(Feature::Idmap) {
            match sys::process::user_namespace(&map.to_text(), &map.to_text()) {
                Ok(namespace) => Some(Mapping { namespace, map: map.clone() }),
                Err(error) => {
                    notes.push(format!(
                        "no user namespace can be made here ({error}): root in a container is root on the host"
                    ));
                    None
                }
            }
        } else {
            notes.push(NO_IDMAP.to_owned());
            None
        };
        let pid = std::process::id();
        let start = sys::process::start_time(pid.cast_signed()).map_err(step("this process's start time"))?;
        let hierarchies = Hierarchies::read().ok();
        if let Some(hierarchies) = &hierarchies {
            cgroup::sweep(hierarchies);
        }
        Ok(Self(Arc::new(Shared {
            mapping,
            launcher: Launcher::start(&map)?,
            seccomp: seccomp::default_program(),
            hierarchies,
            last_capability: sys::process::last_capability().map_err(step("the list of capabilities"))?,
            process: (pid, start.unwrap_or_default()),
            containers: AtomicU64::new(0),
            notes,
        })))
    }

    /// Degraded modes that the user should know of, a sentence each.
    pub fn notes(&self) -> Vec<String> {
        self.0.notes.clone()
    }

    /// Starts a container and returns when its program runs.
    ///
    /// # Errors
    ///
    /// Nothing is left behind but what the overlay wrote into workdir and upperdir.
    pub fn launch(&self, launch: Launch) -> Result<Running, LaunchError> {
        let shared = &*self.0;
        let Launch { spec, rootfs, binds, stdio, seccomp, cgroup } = launch;
        let linux = spec.linux().as_ref();
        let namespaces = linux.and_then(|linux| linux.namespaces().as_deref()).unwrap_or_default();
        let namespaces = Namespaces::of(namespaces)?;
        let program = match (seccomp, &shared.seccomp) {
            (SeccompPolicy::Unconfined, _) => Vec::new(),
            (SeccompPolicy::Default, Some(program)) => program.clone(),
            (SeccompPolicy::Default, None) => {
                return Err(LaunchError::Unsupported {
                    what: "the system call filter on this architecture".into(),
                });
            }
        };
        let limits = Limits::of(linux.and_then(|linux| linux.resources().as_ref()))?;

        // What the rootfs can do decides whether there is a user namespace, and that the plan.
        let mut notes = Vec::new();
        let readonly = spec.root().as_ref().is_some_and(|root| root.readonly().unwrap_or(false));
        let mut mapping = shared.mapping.as_ref().filter(|_| namespaces.user);
        let mut facts = Facts {
            id_map: mapping.map(|mapping| mapping.map.clone()),
            cgroup: CgroupFacts::default(),
            last_capability: shared.last_capability,
            seccomp,
            binds: binds.iter().map(|bind| (bind.target.clone(), bind.readonly)).collect(),
        };
        // Before anything is made: settings that can't be are refused.
        Plan::new(&spec, &facts)?;
        let root = match rootfs::mount(&rootfs, mapping, readonly, &shared.launcher) {
            Err(RootError::NotMappable(error)) => {
                notes.push(format!(
                    "the store's file system can't map file owners ({error}): root in the container is root on the host"
                ));
                mapping = None;
                facts.id_map = None;
                rootfs::mount(&rootfs, None, readonly, &shared.launcher)
            }
            other => other,
        };
        let root = root.map_err(|error| match error {
            RootError::Other(error) => error,
            RootError::NotMappable(source) => {
                LaunchError::Overlay { op: "map its owners", log: None, source }
            }
        })?;

        let user = spec.process().as_ref().map_or(0, |process| process.user().uid());
        give_pipes(&stdio, mapping.map_or(Some(user), |mapping| mapping.map.outside(user)));

        let group = match (cgroup, &shared.hierarchies) {
            (CgroupSettings::Own, Some(hierarchies)) => {
                let number = shared.containers.fetch_add(1, Ordering::Relaxed);
                Group::make(hierarchies, &limits, (shared.process.0, shared.process.1, number))?
            }
            _ if limits != Limits::default() => {
                let source = std::io::ErrorKind::Unsupported.into();
                return Err(LaunchError::Cgroup {
                    op: "find a cgroup for the limits in",
                    path: "/sys/fs/cgroup".into(),
                    source,
                });
            }
            _ => None,
        };
        let group = Unstarted(group);
        let at_birth = kernel::has(Feature::Clone3);
        if let Some(group) = &group.0 {
            facts.cgroup = group.facts(at_birth);
        }
        let plan = Plan::new(&spec, &facts)?;
        let prepared = prepare::prepare(&plan, &binds, mapping, &shared.launcher)?;
        notes.extend(prepared.notes.iter().cloned());
        drop(binds);

        let prepare = |what: &str| {
            let what = what.to_owned();
            move |source| LaunchError::Prepare { what, source }
        };
        let owner = mapping.map_or(Some(user), |mapping| mapping.map.outside(user));
        let made = terminal(&plan, &spec, &prepared, owner).map_err(prepare("a terminal"))?;
        let (terminal, stdio, console) = match made {
            Some(NewTerminal { terminal, stdio, name }) => (Some(terminal), stdio, Some(name)),
            None => (None, stdio, None),
        };
        let parts = Parts {
            root,
            prepared,
            stdio,
            console,
            cgroup_doors: group
                .0
                .as_ref()
                .map(|group| group.doors(at_birth))
                .transpose()?
                .unwrap_or_default(),
            user_namespace: mapping
                .map(|mapping| mapping.namespace.try_clone())
                .transpose()
                .map_err(prepare("the user namespace"))?,
            seccomp: program,
            parent: sys::process::own_pidfd().map_err(prepare("a descriptor of this process"))?,
        };
        let mut compiled = init::compile(&plan, parts)?;
        let birthplace = match group.0.as_ref().filter(|_| at_birth) {
            Some(group) => group.birthplace().map_err(prepare("the cgroup"))?,
            None => None,
        };
        let birth = plan.namespaces.at_birth();
        let (spawned, compiled) = shared
            .launcher
            .run(move |spawner| {
                let spawned = spawner.spawn(
                    &mut compiled.program,
                    birth,
                    birthplace.as_ref().map(|directory| directory.as_fd()),
                );
                (spawned, compiled)
            })
            .map_err(|_| LaunchError::NoLauncher)?;
        let spawned = spawned.map_err(|error| explain(error, &plan, |step| compiled.operation(step)))?;
        // Our descriptors of the mounts go here, so that they end with the container.
        drop(compiled);
        let limits = plan.ops.iter().filter_map(|op| match op {
            SetupOp::Limit { resource, name, soft, .. } => Some((*resource, *name, *soft)),
            _ => None,
        });
        notes.extend(rlimit::notes(limits, spawned.clamped));
        let running =
            Running::new(spawned.pid, spawned.pidfd, group.started(), notes, shared.launcher.clone());
        Ok(running.with_terminal(terminal))
    }
}

/// A terminal in the devpts that is ready for the container, where the spec asks for one.
fn terminal(
    plan: &Plan,
    spec: &Spec,
    prepared: &Prepared,
    owner: Option<u32>,
) -> std::io::Result<Option<NewTerminal>> {
    let devpts = plan.ops.iter().find_map(|op| match op {
        SetupOp::Console { devpts, .. } => Some(*devpts),
        _ => None,
    });
    let Some(devpts) = devpts else { return Ok(None) };
    let devpts = prepared.mounts.get(&devpts).ok_or(std::io::ErrorKind::NotFound)?;
    let size = spec.process().as_ref().and_then(|process| process.console_size());
    let size = size.and_then(|size| Some((size.width().try_into().ok()?, size.height().try_into().ok()?)));
    Terminal::make(devpts, size, owner).map(Some)
}

/// Cgroups of a container that may not come to run.
struct Unstarted(Option<Group>);

impl Unstarted {
    fn started(mut self) -> Option<Group> {
        self.0.take()
    }
}

impl Drop for Unstarted {
    fn drop(&mut self) {
        if let Some(group) = self.0.take() {
            group.remove();
        }
    }
}

/// What a failed step means for the caller.
fn explain(error: SpawnError, plan: &Plan, operation: impl Fn(usize) -> Option<usize>) -> LaunchError {
    let (step, source) = match error {
        SpawnError::Clone(source) => return LaunchError::Clone { source },
        SpawnError::Step { step, error } => (step, error),
    };
    match operation(step).and_then(|index| plan.ops.get(index)) {
        Some(SetupOp::Execute { args, .. }) => {
            LaunchError::Exec { program: args.first().cloned().unwrap_or_default(), source }
        }
        Some(SetupOp::WorkingDirectory(path)) => LaunchError::Cwd { path: path.clone(), source },
        Some(SetupOp::Mount { place, .. } | SetupOp::Bind { place, .. })
            if matches!(
                source.raw_os_error(),
                Some(libc::ENOENT | libc::ENOTDIR | libc::ELOOP | libc::EACCES | libc::EINVAL)
            ) =>
        {
            LaunchError::MountPoint { target: place.target.clone(), source }
        }
        Some(op) => LaunchError::Setup { op: op.to_string(), source },
        None => LaunchError::Setup { op: format!("step {step}"), source },
    }
}
