//! From a runtime spec to what the child does, in order; pure.
//!
//! The order is the design. The host's root makes all mounts, so that the container owns none of them; limits and
//! the working directory come before the user namespace is entered, whose root may not raise the one or search the
//! way to the other; capabilities go when nothing needs them any more; the parent-death signal comes after the last
//! change of ids, which would clear it; descriptors are closed last.

use std::fmt;
use std::path::{Component, Path, PathBuf};

use oci_spec::runtime::{Linux, Mount, Process, Spec};

use crate::capability::Capabilities;
use crate::error::LaunchError;
use crate::idmap::IdMap;
use crate::launch::SeccompPolicy;
use crate::mount_options::{Attributes, FsOption, parse};
use crate::namespace::Namespaces;
use crate::rlimit;

/// What the plan depends on beside the spec.
#[derive(Clone, Debug)]
pub struct Facts {
    /// The map of the user namespace, when there is one to be had.
    pub id_map: Option<IdMap>,
    /// How cgroups look here.
    pub cgroup: CgroupFacts,
    /// The highest capability that the kernel knows.
    pub last_capability: u32,
    /// The built-in filter, or none.
    pub seccomp: SeccompPolicy,
    /// The caller's binds: where to, and whether they can't be written.
    pub binds: Vec<(PathBuf, bool)>,
}

/// The container's own cgroups.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct CgroupFacts {
    /// Whether the child writes itself into them (else it is born there, or there are none).
    pub join: bool,
    /// What it sees below `/sys/fs/cgroup`.
    pub view: CgroupView,
}

/// What a container sees below `/sys/fs/cgroup`: its own, never the host's.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub enum CgroupView {
    /// An empty directory.
    #[default]
    Nothing,
    /// A hierarchy of version 2.
    Unified,
    /// Hierarchies of version 1: the controllers of each.
    Legacy(Vec<Vec<String>>),
}

/// A file system that is mounted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MountKind {
    /// Made in the child, since it shows the process ids of its maker's namespace.
    Proc,
    /// Made in the child, for its network namespace.
    Sysfs,
    /// Made in the child, for its IPC namespace.
    Mqueue,
    /// Made in the child, for its cgroup namespace: version 2.
    CgroupUnified,
    /// The same for a hierarchy of version 1.
    CgroupLegacy(Vec<String>),
    /// A directory for the hierarchies of version 1.
    CgroupDirectory,
    /// `/dev`: a tmpfs with links and mount points, no nodes.
    Dev,
    /// Pseudo-terminals.
    Devpts,
    /// Memory.
    Tmpfs,
}

impl MountKind {
    /// Whether the parent makes it, empty, so that mount points can be made in it.
    pub(crate) fn is_made_empty(&self) -> bool {
        matches!(self, Self::Dev | Self::Tmpfs | Self::CgroupDirectory)
    }
}

/// Where something is mounted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// As the container names it.
    pub target: PathBuf,
    /// Below this mount (a position among the mounts of the plan), which we made: there are no symlinks to follow.
    /// `None`: in the root file system, which is the image's.
    pub mount: Option<usize>,
    /// Relative to that mount, or to the root.
    pub path: PathBuf,
}

/// One operation of the child. Printed, a line each, it is what golden tests compare and errors name.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "a line of text each: see Display")]
pub enum SetupOp {
    Session,
    JoinCgroup,
    CgroupNamespace,
    Hostname(String),
    Domainname(String),
    Loopback,
    Root { readonly: bool },
    Mount { kind: MountKind, place: Place, attributes: Attributes, options: Vec<FsOption> },
    Device { name: &'static str, dev: usize },
    Bind { index: usize, place: Place, readonly: bool },
    Sysctl { proc: usize, key: String, value: String },
    OomScore { proc: usize, score: i32 },
    Mask(Place),
    ReadOnly(Place),
    Console { dev: usize, devpts: usize },
    EnterRoot,
    WorkingDirectory(PathBuf),
    Limit { resource: u32, name: &'static str, soft: u64, hard: u64 },
    Stdio,
    Terminal,
    UserNamespace,
    Bound { keep: u64, last: u32 },
    Groups(Vec<u32>),
    Group(u32),
    User(u32),
    Capabilities(Capabilities),
    NoNewPrivileges,
    Seccomp,
    Umask(u32),
    DieWithParent,
    CloseDescriptors { proc: usize },
    Execute { paths: Vec<String>, args: Vec<String>, env: Vec<String> },
}

/// All of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Namespaces of its own.
    pub namespaces: Namespaces,
    /// In order.
    pub ops: Vec<SetupOp>,
}

/// Device nodes that a container may open, with their numbers (runtime-spec `config-linux.md`, "Default Devices").
pub(crate) const DEVICES: [(&str, u32, u32); 6] =
    [("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0)];

/// Links in `/dev` (same place, "Dev symbolic links").
pub(crate) const DEVICE_LINKS: [(&str, &str); 5] = [
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("ptmx", "pts/ptmx"),
];

/// Where programs are looked for when the environment doesn't say.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

impl Plan {
    /// Plans a container.
    ///
    /// # Errors
    ///
    /// [`LaunchError::Unsupported`] for each setting that would otherwise be ignored, [`LaunchError::Invalid`] for
    /// what can't be.
    pub fn new(spec: &Spec, facts: &Facts) -> Result<Self, LaunchError> {
        let linux = spec.linux().as_ref().ok_or_else(|| invalid("the spec has no `linux`"))?;
        let process = spec.process().as_ref().ok_or_else(|| invalid("the spec has no `process`"))?;
        refuse_unknown(spec, linux, process)?;
        let namespaces = Namespaces::of(linux.namespaces().as_deref().unwrap_or_default())?;
        let mut planner = Planner { facts, ops: Vec::new(), mounts: Vec::new() };
        planner.names_and_cgroup(spec, namespaces)?;
        let readonly = spec.root().as_ref().is_some_and(|root| root.readonly().unwrap_or(false));
        planner.ops.push(SetupOp::Root { readonly });
        for mount in spec.mounts().iter().flatten() {
            planner.mount(mount, namespaces)?;
        }
        planner.binds()?;
        planner.proc_settings(linux, process, namespaces)?;
        planner.hide(linux)?;
        planner.process(process, namespaces)?;
        Ok(Self { namespaces, ops: planner.ops })
    }

    /// The mounts, in order: a [`Place::mount`] is a position among them.
    pub fn mounts(&self) -> impl Iterator<Item = (&MountKind, &Place, Attributes, &[FsOption])> {
        self.ops.iter().filter_map(|op| match op {
            SetupOp::Mount { kind, place, attributes, options } => {
                Some((kind, place, *attributes, options.as_slice()))
            }
            _ => None,
        })
    }
}

fn invalid(what: impl Into<String>) -> LaunchError {
    LaunchError::Invalid { what: what.into() }
}

struct Planner<'a> {
    facts: &'a Facts,
    ops: Vec<SetupOp>,
    /// Kind and target of each mount so far, and of each bind (no kind: not ours).
    mounts: Vec<(Option<(MountKind, usize)>, PathBuf)>,
}

impl Planner<'_> {
    fn names_and_cgroup(&mut self, spec: &Spec, namespaces: Namespaces) -> Result<(), LaunchError> {
        self.ops.push(SetupOp::Session);
        // First into the cgroup, then out of the namespace: where a process is becomes the root of its new one.
        if self.facts.cgroup.join {
            self.ops.push(SetupOp::JoinCgroup);
        }
        if namespaces.cgroup {
            self.ops.push(SetupOp::CgroupNamespace);
        }
        for (name, op) in [
            (spec.hostname(), SetupOp::Hostname as fn(String) -> SetupOp),
            (spec.domainname(), SetupOp::Domainname as fn(String) -> SetupOp),
        ] {
            let Some(name) = name.as_ref().filter(|name| !name.is_empty()) else { continue };
            if !namespaces.uts {
                return Err(invalid("a host name without a UTS namespace"));
            }
            if name.len() > 64 {
                return Err(invalid(format!("host name `{name}` is longer than 64 bytes")));
            }
            self.ops.push(op(name.clone()));
        }
        if namespaces.network {
            self.ops.push(SetupOp::Loopback);
        }
        Ok(())
    }

    fn mount(&mut self, mount: &Mount, namespaces: Namespaces) -> Result<(), LaunchError> {
        let target = normal(mount.destination())?;
        let (mut attributes, mut options) = parse(mount.options().as_deref().unwrap_or_default())?;
        let source = mount.source().as_deref().unwrap_or(Path::new(""));
        let kind = match mount.typ().as_deref().unwrap_or("none") {
            "proc" => MountKind::Proc,
            "sysfs" if namespaces.network => MountKind::Sysfs,
            "sysfs" => {
                return Err(invalid("a sysfs of the host's network must be given as a bind of `/sys`"));
            }
            // A new mount of the host's sysfs, not a bind: nothing that the host has mounted below comes along
            // (rule R12: its cgroups, debugfs, tracefs).
            "none" | "bind"
                if source == Path::new("/sys") && target == Path::new("/sys") && !namespaces.network =>
            {
                attributes = attributes.and(Attributes::READONLY);
                MountKind::Sysfs
            }
            "mqueue" if namespaces.ipc => MountKind::Mqueue,
            "mqueue" => return Err(invalid("an mqueue without an IPC namespace")),
            "cgroup" | "cgroup2" => {
                if !attributes.flags().contains(Attributes::READONLY.flags()) {
                    return Err(LaunchError::Unsupported {
                        what: "a cgroup mount that can be written".into(),
                    });
                }
                return self.cgroup(target, attributes, namespaces);
            }
            // Nodes are mounts of their own, so nothing else in it can be opened as a device.
            "tmpfs" if target == Path::new("/dev") => {
                attributes = attributes.and(Attributes::NODEV);
                MountKind::Dev
            }
            "tmpfs" => {
                attributes = attributes.and(Attributes::NODEV).and(Attributes::NOSUID);
                MountKind::Tmpfs
            }
            "devpts" => MountKind::Devpts,
            other => {
                let what = format!("mount of type `{other}` on `{}`", target.display());
                return Err(LaunchError::Unsupported { what });
            }
        };
        match (&kind, target.to_str()) {
            (MountKind::Proc, Some("/proc")) | (MountKind::Sysfs, Some("/sys")) => {}
            (MountKind::Proc | MountKind::Sysfs, _) => {
                return Err(LaunchError::Unsupported {
                    what: format!("`{}` as a place for it", target.display()),
                });
            }
            (_, Some("/proc" | "/sys" | "/")) => {
                return Err(invalid(format!("nothing else can be mounted on `{}`", target.display())));
            }
            _ => {}
        }
        self.owners(&kind, &mut options)?;
        self.push_mount(kind, target, attributes, options)
    }

    /// Files of these belong to root or to a group of the container; the numbers given to the kernel are the host's.
    fn owners(&self, kind: &MountKind, options: &mut Vec<FsOption>) -> Result<(), LaunchError> {
        if !matches!(kind, MountKind::Dev | MountKind::Tmpfs | MountKind::Devpts) {
            return Ok(());
        }
        let Some(map) = &self.facts.id_map else { return Ok(()) };
        let is_id = |key: &str| matches!(key, "uid" | "gid");
        for (key, value) in options.iter_mut().filter(|(key, _)| is_id(key)) {
            let outside =
                value.as_deref().and_then(|value| value.parse().ok()).and_then(|id| map.outside(id));
            let Some(outside) = outside else {
                return Err(invalid(format!(
                    "mount option `{key}={}`",
                    value.as_deref().unwrap_or_default()
                )));
            };
            *value = Some(outside.to_string());
        }
        if matches!(kind, MountKind::Dev | MountKind::Tmpfs)
            && let Some(root) = map.outside(0)
        {
            for key in ["uid", "gid"] {
                if !options.iter().any(|(known, _)| known == key) {
                    options.push((key.to_owned(), Some(root.to_string())));
                }
            }
        }
        Ok(())
    }

    fn cgroup(
        &mut self,
        target: PathBuf,
        attributes: Attributes,
        namespaces: Namespaces,
    ) -> Result<(), LaunchError> {
        // In the host's cgroup namespace these would show the host's.
        let view = if namespaces.cgroup { self.facts.cgroup.view.clone() } else { CgroupView::Nothing };
        let directory_options =
            || vec![("mode".to_owned(), Some("755".to_owned())), ("size".to_owned(), Some("4k".to_owned()))];
        match view {
            CgroupView::Nothing => {
                self.push_mount(MountKind::CgroupDirectory, target, attributes, directory_options())
            }
            CgroupView::Unified => self.push_mount(MountKind::CgroupUnified, target, attributes, Vec::new()),
            CgroupView::Legacy(hierarchies) => {
                let directory = target.clone();
                self.push_mount(MountKind::CgroupDirectory, target, attributes, directory_options())?;
                for controllers in hierarchies {
                    let target = directory.join(controllers.join(","));
                    self.push_mount(MountKind::CgroupLegacy(controllers), target, attributes, Vec::new())?;
                }
                Ok(())
            }
        }
    }

    fn push_mount(
        &mut self,
        kind: MountKind,
        target: PathBuf,
        attributes: Attributes,
        options: Vec<FsOption>,
    ) -> Result<(), LaunchError> {
        let place = self.place(&target);
        let position = self.mounts.iter().filter(|(kind, _)| kind.is_some()).count();
        self.mounts.push((Some((kind.clone(), position)), target));
        let is_dev = kind == MountKind::Dev;
        self.ops.push(SetupOp::Mount { kind, place, attributes, options });
        if is_dev {
            self.ops.extend(DEVICES.map(|(name, ..)| SetupOp::Device { name, dev: position }));
        }
        Ok(())
    }

    /// Relative to the innermost mount over it, if that is one of ours.
    fn place(&self, target: &Path) -> Place {
        let innermost = self
            .mounts
            .iter()
            .filter_map(|(kind, over)| target.strip_prefix(over).ok().map(|path| (kind, over, path)))
            // The later of two on one place covers the earlier.
            .max_by_key(|(_, over, _)| over.components().count());
        match innermost {
            Some((Some((_, position)), _, path)) if path != Path::new("") => {
                Place { target: target.to_owned(), mount: Some(*position), path: path.to_owned() }
            }
            _ => Place { target: target.to_owned(), mount: None, path: target.to_owned() },
        }
    }

    fn binds(&mut self) -> Result<(), LaunchError> {
        for (index, (target, readonly)) in self.facts.binds.iter().enumerate() {
            let target = normal(target)?;
            for (kind, over) in &self.mounts {
                let kernels = matches!(
                    kind,
                    Some((
                        MountKind::Proc
                            | MountKind::Sysfs
                            | MountKind::CgroupDirectory
                            | MountKind::CgroupUnified
                            | MountKind::CgroupLegacy(_)
                            | MountKind::Devpts
                            | MountKind::Mqueue,
                        _
                    ))
                );
                let is_dev = matches!(kind, Some((MountKind::Dev, _)));
                if kernels && target.starts_with(over)
                    || is_dev && target == *over
                    || target == Path::new("/")
                {
                    return Err(invalid(format!("nothing can be bound onto `{}`", target.display())));
                }
            }
            let place = self.place(&target);
            self.mounts.push((None, target));
            self.ops.push(SetupOp::Bind { index, place, readonly: *readonly });
        }
        Ok(())
    }

    fn proc(&self) -> Option<usize> {
        self.mounts.iter().find_map(|(kind, _)| match kind {
            Some((MountKind::Proc, position)) => Some(*position),
            _ => None,
        })
    }

    fn required_proc(&self) -> Result<usize, LaunchError> {
        self.proc().ok_or_else(|| LaunchError::Unsupported { what: "a container without `/proc`".into() })
    }

    /// Written through the proc that was just mounted, by descriptor (rule R2), while it can still be written.
    fn proc_settings(
        &mut self,
        linux: &Linux,
        process: &Process,
        namespaces: Namespaces,
    ) -> Result<(), LaunchError> {
        let proc = self.required_proc()?;
        let mut settings: Vec<(String, String)> = Vec::new();
        if namespaces.network && namespaces.user {
            // The network belongs to the host's user namespace, so the container's capabilities say nothing there:
            // low ports and ping are opened for everyone in it, as docker does.
            settings.push(("net.ipv4.ip_unprivileged_port_start".into(), "0".into()));
            settings.push(("net.ipv4.ping_group_range".into(), "0 2147483647".into()));
        }
        let mut wanted: Vec<_> = linux.sysctl().iter().flatten().collect();
        wanted.sort();
        for (key, value) in wanted {
            let own = key.starts_with("net.") && namespaces.network
                || (key.starts_with("fs.mqueue.") || IPC_SYSCTLS.contains(&key.as_str())) && namespaces.ipc;
            let plain = key.split('.').all(|part| {
                !part.is_empty()
                    && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte))
            });
            if !own || !plain {
                return Err(LaunchError::Unsupported {
                    what: format!("sysctl `{key}`, which is not the container's own"),
                });
            }
            settings.retain(|(default, _)| default != key);
            settings.push((key.clone(), value.clone()));
        }
        self.ops.extend(settings.into_iter().map(|(key, value)| SetupOp::Sysctl { proc, key, value }));
        if let Some(score) = process.oom_score_adj() {
            self.ops.push(SetupOp::OomScore { proc, score });
        }
        Ok(())
    }

    fn hide(&mut self, linux: &Linux) -> Result<(), LaunchError> {
        for (paths, op) in [
            (linux.readonly_paths(), SetupOp::ReadOnly as fn(Place) -> SetupOp),
            (linux.masked_paths(), SetupOp::Mask as fn(Place) -> SetupOp),
        ] {
            for path in paths.iter().flatten() {
                let path = normal(Path::new(path))?;
                let mut place = self.place(&path);
                // A path that a bind covers is looked up from the root.
                if let Some(position) = place.mount {
                    let ours = self.mounts.iter().any(|(kind, _)| {
                        matches!(kind, Some((MountKind::Proc | MountKind::Sysfs, at)) if *at == position)
                    });
                    if !ours {
                        place = Place { mount: None, path: path.clone(), target: path };
                    }
                }
                self.ops.push(op(place));
            }
        }
        Ok(())
    }

    /// The terminal is one of the container's own devpts; as in any system it is the console, too.
    fn console(&mut self) -> Result<(), LaunchError> {
        let at = |wanted: &str, of: &MountKind| {
            self.mounts.iter().find_map(|(kind, target)| match kind {
                Some((kind, position)) if kind == of && target == Path::new(wanted) => Some(*position),
                _ => None,
            })
        };
        let (Some(dev), Some(devpts)) = (at("/dev", &MountKind::Dev), at("/dev/pts", &MountKind::Devpts))
        else {
            return Err(LaunchError::Unsupported {
                what: "a terminal in a container without a `/dev` and `/dev/pts` of its own".into(),
            });
        };
        self.ops.push(SetupOp::Console { dev, devpts });
        Ok(())
    }

    fn process(&mut self, process: &Process, namespaces: Namespaces) -> Result<(), LaunchError> {
        let cwd = process.cwd();
        if !cwd.is_absolute() {
            return Err(invalid(format!("working directory `{}` is not absolute", cwd.display())));
        }
        let user = process.user();
        let groups = user.additional_gids().clone().unwrap_or_default();
        if let Some(map) = &self.facts.id_map {
            for id in [user.uid(), user.gid()].into_iter().chain(groups.iter().copied()) {
                if map.outside(id).is_none() {
                    return Err(invalid(format!("id {id} can't be mapped into the container")));
                }
            }
        }
        let capabilities = Capabilities::of(process.capabilities().as_ref())?;
        let no_new_privileges = process.no_new_privileges().unwrap_or(false);
        let seccomp = self.facts.seccomp != SeccompPolicy::Unconfined;
        let proc = self.required_proc()?;
        let execute = execute(process)?;
        let is_terminal = process.terminal().unwrap_or(false);
        if is_terminal {
            self.console()?;
        }
        self.ops.extend([SetupOp::EnterRoot, SetupOp::WorkingDirectory(cwd.clone())]);
        for limit in process.rlimits().iter().flatten() {
            let (resource, name) = rlimit::number_and_name(limit.typ());
            self.ops.push(SetupOp::Limit { resource, name, soft: limit.soft(), hard: limit.hard() });
        }
        self.ops.push(SetupOp::Stdio);
        if is_terminal {
            self.ops.push(SetupOp::Terminal);
        }
        if namespaces.user && self.facts.id_map.is_some() {
            self.ops.push(SetupOp::UserNamespace);
        }
        self.ops.extend([
            SetupOp::Bound { keep: capabilities.bounding, last: self.facts.last_capability },
            SetupOp::Groups(groups),
            SetupOp::Group(user.gid()),
        ]);
        // Without no_new_privs it takes CAP_SYS_ADMIN, which a change of user loses.
        if seccomp && !no_new_privileges {
            self.ops.push(SetupOp::Seccomp);
        }
        self.ops.extend([SetupOp::User(user.uid()), SetupOp::Capabilities(capabilities)]);
        if no_new_privileges {
            self.ops.push(SetupOp::NoNewPrivileges);
            if seccomp {
                self.ops.push(SetupOp::Seccomp);
            }
        }
        self.ops.extend([
            SetupOp::Umask(user.umask().unwrap_or(0o022)),
            SetupOp::DieWithParent,
            SetupOp::CloseDescriptors { proc },
            execute,
        ]);
        Ok(())
    }
}

/// Namespaced by the IPC namespace (`sysctl(2)`, `ipc_namespaces(7)`).
const IPC_SYSCTLS: [&str; 8] = [
    "kernel.msgmax",
    "kernel.msgmnb",
    "kernel.msgmni",
    "kernel.sem",
    "kernel.shmall",
    "kernel.shmmax",
    "kernel.shmmni",
    "kernel.shm_rmid_forced",
];

/// Absolute, without `.` and doubled slashes. `..` is refused: what it means depends on links.
fn normal(path: &Path) -> Result<PathBuf, LaunchError> {
    let mut normal = PathBuf::from("/");
    let mut components = path.components();
    if components.next() != Some(Component::RootDir) {
        return Err(invalid(format!("mount point `{}` is not absolute", path.display())));
    }
    for component in components {
        match component {
            Component::Normal(name) => normal.push(name),
            Component::CurDir => {}
            _ => return Err(invalid(format!("mount point `{}` has a `..`", path.display()))),
        }
    }
    Ok(normal)
}

fn execute(process: &Process) -> Result<SetupOp, LaunchError> {
    let args = process.args().clone().unwrap_or_default();
    let env = process.env().clone().unwrap_or_default();
    let program = args.first().filter(|program| !program.is_empty());
    let program = program.ok_or_else(|| invalid("there is no program to run"))?;
    if let Some(text) = args.iter().chain(&env).find(|text| text.contains('\0')) {
        return Err(invalid(format!("`{}` has a NUL byte in it", text.escape_debug())));
    }
    let paths = if program.contains('/') {
        vec![program.clone()]
    } else {
        // The last one counts, as in a shell that read the list.
        let path = env.iter().rev().find_map(|entry| entry.strip_prefix("PATH=")).unwrap_or(PATH);
        path.split(':')
            // An empty entry, or a relative one, is the working directory: docker's runtime refuses those as well.
            .filter(|directory| directory.starts_with('/'))
            .map(|directory| format!("{}/{program}", directory.trim_end_matches('/')))
            .collect()
    };
    Ok(SetupOp::Execute { paths, args, env })
}

/// Names what this sandbox doesn't do rather than ignoring it.
fn refuse_unknown(spec: &Spec, linux: &Linux, process: &Process) -> Result<(), LaunchError> {
    let any = |name: &'static str, given: bool| (name, given);
    let given = [
        any("hooks", spec.hooks().is_some()),
        any("net devices", linux.net_devices().is_some()),
        any("id mappings", linux.uid_mappings().as_ref().is_some_and(|maps| !maps.is_empty())),
        any("id mappings", linux.gid_mappings().as_ref().is_some_and(|maps| !maps.is_empty())),
        any("cgroupsPath", linux.cgroups_path().is_some()),
        any("devices", linux.devices().as_ref().is_some_and(|devices| !devices.is_empty())),
        any("a seccomp profile of its own", linux.seccomp().is_some()),
        any(
            "rootfsPropagation",
            linux.rootfs_propagation().as_deref().is_some_and(|how| !how.ends_with("private")),
        ),
        any("mountLabel", linux.mount_label().as_deref().is_some_and(|label| !label.is_empty())),
        any("intelRdt", linux.intel_rdt().is_some()),
        any("memoryPolicy", linux.memory_policy().is_some()),
        any("personality", linux.personality().is_some()),
        any("timeOffsets", linux.time_offsets().is_some()),
        any("apparmorProfile", process.apparmor_profile().as_deref().is_some_and(|name| !name.is_empty())),
        any("selinuxLabel", process.selinux_label().as_deref().is_some_and(|label| !label.is_empty())),
        any("ioPriority", process.io_priority().is_some()),
        any("scheduler", process.scheduler().is_some()),
        any("execCPUAffinity", process.exec_cpu_affinity().is_some()),
    ];
    match given.iter().find(|(_, given)| *given) {
        Some((name, _)) => Err(LaunchError::Unsupported { what: (*name).to_owned() }),
        None => Ok(()),
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.target.display())?;
        // Where it is looked up decides what a symlink can do, so it shows.
        if self.mount.is_some() { write!(f, " (as {})", self.path.display()) } else { Ok(()) }
    }
}

impl fmt::Display for MountKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Proc => "proc",
            Self::Sysfs => "sysfs",
            Self::Mqueue => "mqueue",
            Self::CgroupUnified => "cgroup2",
            Self::CgroupLegacy(controllers) => return write!(f, "cgroup {}", controllers.join(",")),
            Self::CgroupDirectory => "cgroup directory",
            Self::Dev => "dev",
            Self::Devpts => "devpts",
            Self::Tmpfs => "tmpfs",
        })
    }
}

impl fmt::Display for SetupOp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Session => f.write_str("session"),
            Self::JoinCgroup => f.write_str("join cgroup"),
            Self::CgroupNamespace => f.write_str("namespace cgroup"),
            Self::Hostname(name) => write!(f, "hostname {name}"),
            Self::Domainname(name) => write!(f, "domainname {name}"),
            Self::Loopback => f.write_str("loopback up"),
            Self::Root { readonly } => write!(f, "root {}", if *readonly { "ro" } else { "rw" }),
            Self::Mount { kind, place, attributes, options } => {
                write!(f, "mount {kind} on {place} {attributes}")?;
                for (key, value) in options {
                    match value {
                        Some(value) => write!(f, " {key}={value}")?,
                        None => write!(f, " {key}")?,
                    }
                }
                Ok(())
            }
            Self::Device { name, .. } => write!(f, "device {name}"),
            Self::Bind { index, place, readonly } => {
                write!(f, "bind {index} on {place} {}", if *readonly { "ro" } else { "rw" })
            }
            Self::Sysctl { key, value, .. } => write!(f, "sysctl {key}={value}"),
            Self::OomScore { score, .. } => write!(f, "oom score {score}"),
            Self::Mask(place) => write!(f, "mask {place}"),
            Self::ReadOnly(place) => write!(f, "read-only {place}"),
            Self::Console { .. } => f.write_str("device console"),
            Self::EnterRoot => f.write_str("enter root"),
            Self::WorkingDirectory(path) => write!(f, "working directory {}", path.display()),
            Self::Limit { name, soft, hard, .. } => write!(f, "limit {name} {soft} {hard}"),
            Self::Stdio => f.write_str("stdio"),
            Self::Terminal => f.write_str("terminal"),
            Self::UserNamespace => f.write_str("namespace user"),
            Self::Bound { keep, last } => write!(f, "bounding set {keep:#x} of {last}"),
            Self::Groups(groups) => write!(f, "groups {groups:?}"),
            Self::Group(id) => write!(f, "group {id}"),
            Self::User(id) => write!(f, "user {id}"),
            Self::Capabilities(Capabilities { sets, .. }) => write!(
                f,
                "capabilities effective {:#x} permitted {:#x} inheritable {:#x}",
                sets.effective, sets.permitted, sets.inheritable
            ),
            Self::NoNewPrivileges => f.write_str("no new privileges"),
            Self::Seccomp => f.write_str("seccomp"),
            Self::Umask(mask) => write!(f, "umask {mask:03o}"),
            Self::DieWithParent => f.write_str("die with parent"),
            Self::CloseDescriptors { .. } => f.write_str("close descriptors"),
            Self::Execute { paths, args, .. } => write!(f, "execute {args:?} as {}", paths.join(":")),
        }
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let own = self.namespaces;
        f.write_str("namespaces mount pid")?;
        for (name, wanted) in [
            ("ipc", own.ipc),
            ("uts", own.uts),
            ("network", own.network),
            ("user", own.user),
            ("cgroup", own.cgroup),
        ] {
            if wanted {
                write!(f, " {name}")?;
            }
        }
        writeln!(f)?;
        self.ops.iter().try_for_each(|op| writeln!(f, "{op}"))
    }
}
