//! How the child carries out a plan: each operation as the system calls that `sys::child` makes.

use std::ffi::{CString, NulError};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use sys::child::{BpfInstruction, Follow, Handle, NewFs, Program, Step};

use crate::error::LaunchError;
use crate::launch::Stdio;
use crate::launcher::{EMPTY, NEW_ROOT, device};
use crate::mount_options::{Attributes, FsOption};
use crate::plan::{MountKind, Place, Plan, SetupOp};
use crate::prepare::{Prepared, PreparedBind};

/// Descriptors that the operations use.
#[derive(Debug)]
pub(crate) struct Parts {
    pub(crate) root: OwnedFd,
    pub(crate) prepared: Prepared,
    pub(crate) stdio: Stdio,
    /// Name of the terminal in the devpts, where there is one.
    pub(crate) console: Option<CString>,
    /// Files to which the child writes itself to be in its cgroups.
    pub(crate) cgroup_doors: Vec<OwnedFd>,
    /// The user namespace to enter.
    pub(crate) user_namespace: Option<OwnedFd>,
    pub(crate) seccomp: Vec<BpfInstruction>,
    /// A pidfd of this process.
    pub(crate) parent: OwnedFd,
}

/// A program, and for each of its steps the operation that it belongs to.
#[derive(Debug)]
pub(crate) struct Compiled {
    pub(crate) program: Program,
    owners: Vec<usize>,
}

impl Compiled {
    /// Position of the operation to which a step belongs.
    pub(crate) fn operation(&self, step: usize) -> Option<usize> {
        self.owners.get(step).copied()
    }
}

/// Compiles `plan`.
pub(crate) fn compile(plan: &Plan, parts: Parts) -> Result<Compiled, LaunchError> {
    let mapped = parts.user_namespace.is_some();
    let mut program = Program::new();
    let mut binds: Vec<Option<PreparedBind>> = parts.prepared.binds.into_iter().map(Some).collect();
    let mut prepared = parts.prepared.mounts;
    let mut compiler = Compiler {
        root: program.keep(parts.root),
        mounts: (0..plan.mounts().count())
            .map(|position| match prepared.remove(&position) {
                Some(mount) => program.keep(mount),
                None => program.reserve(),
            })
            .collect(),
        program,
        owners: Vec::new(),
        current: 0,
        mounted: 0,
        mapped,
    };
    let mut stdio = Some(parts.stdio);
    let mut doors = parts.cgroup_doors;
    let mut user_namespace = parts.user_namespace;
    let mut parent = Some(parts.parent);
    for (index, op) in plan.ops.iter().enumerate() {
        compiler.current = index;
        let compiled = match op {
            SetupOp::JoinCgroup => compiler.join(std::mem::take(&mut doors)),
            SetupOp::Bind { index, place, .. } => match binds.get_mut(*index).and_then(Option::take) {
                Some(bind) => compiler.bind(bind, place),
                None => Err(missing()),
            },
            SetupOp::Stdio => match stdio.take() {
                Some(stdio) => compiler.stdio(stdio),
                None => Err(missing()),
            },
            SetupOp::Console { dev, devpts } => match &parts.console {
                Some(name) => compiler.console(name.clone(), *dev, *devpts),
                None => Err(missing()),
            },
            SetupOp::UserNamespace => match user_namespace.take() {
                Some(namespace) => {
                    let namespace = compiler.program.keep(namespace);
                    compiler.step(Step::EnterUserNamespace(namespace));
                    Ok(())
                }
                None => Err(missing()),
            },
            SetupOp::DieWithParent => match parent.take() {
                Some(parent) => {
                    let parent = compiler.program.keep(parent);
                    compiler.step(Step::DieWithParent { parent });
                    Ok(())
                }
                None => Err(missing()),
            },
            SetupOp::Seccomp => {
                compiler.step(Step::Seccomp(parts.seccomp.clone()));
                Ok(())
            }
            other => compiler.other(other),
        };
        compiled.map_err(|source| LaunchError::Prepare { what: format!("`{op}`"), source })?;
    }
    Ok(Compiled { program: compiler.program, owners: compiler.owners })
}

fn missing() -> io::Error {
    io::ErrorKind::InvalidInput.into()
}

struct Compiler {
    program: Program,
    owners: Vec<usize>,
    current: usize,
    root: Handle,
    /// One for each mount of the plan.
    mounts: Vec<Handle>,
    /// How many of them have been compiled.
    mounted: usize,
    /// Whether the container has a user namespace.
    mapped: bool,
}

impl Compiler {
    fn step(&mut self, step: Step) {
        self.program.push(step);
        self.owners.push(self.current);
    }

    fn mount_at(&self, position: usize) -> io::Result<Handle> {
        self.mounts.get(position).copied().ok_or_else(missing)
    }

    /// Where `place` is looked up, and whether symlinks count there. In what we mounted there are none to follow; what
    /// the kernel's own file systems are mounted on must be a plain directory of the image.
    fn locate(&self, place: &Place, follow: Follow) -> io::Result<(Handle, CString, Follow)> {
        Ok(match place.mount {
            Some(position) => (self.mount_at(position)?, path(&place.path)?, Follow::Nothing),
            None => (self.root, path(&place.path)?, follow),
        })
    }

    fn attach(&mut self, mount: Handle, place: &Place, follow: Follow) -> io::Result<()> {
        let (root, path, follow) = self.locate(place, follow)?;
        self.step(Step::Attach { mount, root, path, follow });
        Ok(())
    }

    fn join(&mut self, doors: Vec<OwnedFd>) -> io::Result<()> {
        for door in doors {
            let file = self.program.keep(door);
            // 0 is whoever writes it (cgroups(7)).
            self.step(Step::Write { file, bytes: b"0".to_vec() });
        }
        Ok(())
    }

    fn bind(&mut self, bind: PreparedBind, place: &Place) -> io::Result<()> {
        let mount = self.program.keep(bind.mount);
        self.attach(mount, place, Follow::Links)?;
        for (below, submount) in bind.below {
            let submount = self.program.keep(submount);
            // Relative to what was just bound, whatever else has that name.
            self.step(Step::Attach {
                mount: submount,
                root: mount,
                path: path(&below)?,
                follow: Follow::Nothing,
            });
        }
        Ok(())
    }

    /// By the time of this the devpts is attached: older kernels clone nothing out of a mount that isn't.
    fn console(&mut self, name: CString, dev: usize, devpts: usize) -> io::Result<()> {
        let node = self.program.reserve();
        self.step(Step::CloneIn { dir: self.mount_at(devpts)?, path: name, into: node });
        self.step(Step::Attach {
            mount: node,
            root: self.mount_at(dev)?,
            path: text("console")?,
            follow: Follow::Nothing,
        });
        Ok(())
    }

    fn stdio(&mut self, stdio: Stdio) -> io::Result<()> {
        let mut keep = |fd: OwnedFd| -> io::Result<Handle> {
            // One of them could itself be 0, 1 or 2 and be overwritten by another.
            let fd = rustix::io::fcntl_dupfd_cloexec(&fd, 3)?;
            Ok(self.program.keep(fd))
        };
        let (stdin, stdout, stderr) = (keep(stdio.stdin)?, keep(stdio.stdout)?, keep(stdio.stderr)?);
        self.step(Step::Stdio { stdin, stdout, stderr });
        Ok(())
    }

    fn mount(
        &mut self,
        kind: &MountKind,
        place: &Place,
        attributes: Attributes,
        options: &[FsOption],
    ) -> io::Result<()> {
        let mount = self.mount_at(self.mounted)?;
        self.mounted += 1;
        if let Some(mut fs) = new_fs(kind, attributes) {
            for (key, value) in options {
                match value {
                    Some(value) => fs.strings.push((text(key)?, text(value)?)),
                    None => fs.flags.push(text(key)?),
                }
            }
            self.step(Step::MountNew { fs, into: mount });
        }
        // Memory may be wanted below a link of the image (`/tmp`); the rest belongs on a plain directory.
        let follow = if *kind == MountKind::Tmpfs { Follow::Links } else { Follow::Nothing };
        self.attach(mount, place, follow)
    }

    fn other(&mut self, op: &SetupOp) -> io::Result<()> {
        let step = match op {
            SetupOp::Session => Step::Session,
            SetupOp::CgroupNamespace => Step::Unshare(libc::CLONE_NEWCGROUP as u32),
            SetupOp::Hostname(name) => Step::Hostname(name.clone().into_bytes()),
            SetupOp::Domainname(name) => Step::Domainname(name.clone().into_bytes()),
            SetupOp::Loopback => Step::LoopbackUp,
            SetupOp::Root { .. } => Step::AttachAt { mount: self.root, path: text(NEW_ROOT)? },
            SetupOp::Mount { kind, place, attributes, options } => {
                return self.mount(kind, place, *attributes, options);
            }
            SetupOp::Device { name, dev } => {
                let node = self.program.reserve();
                self.step(Step::CloneAt { path: device(name, self.mapped)?, into: node });
                Step::Attach {
                    mount: node,
                    root: self.mount_at(*dev)?,
                    path: text(name)?,
                    follow: Follow::Nothing,
                }
            }
            SetupOp::Sysctl { proc, key, value } => Step::WriteIn {
                dir: self.mount_at(*proc)?,
                path: text(&format!("sys/{}", key.replace('.', "/")))?,
                bytes: value.clone().into_bytes(),
            },
            SetupOp::OomScore { proc, score } => Step::WriteIn {
                dir: self.mount_at(*proc)?,
                path: text("self/oom_score_adj")?,
                bytes: score.to_string().into_bytes(),
            },
            SetupOp::Mask(place) => {
                let (root, path, _) = self.locate(place, Follow::Nothing)?;
                Step::Mask { root, path, file: device("null", self.mapped)?, directory: text(EMPTY)? }
            }
            SetupOp::ReadOnly(place) => {
                let (root, path, _) = self.locate(place, Follow::Nothing)?;
                Step::ReadOnly { root, path, descriptors: text(&format!("{NEW_ROOT}/proc/self/fd/"))? }
            }
            SetupOp::EnterRoot => Step::EnterRoot { root: self.root },
            SetupOp::WorkingDirectory(directory) => {
                Step::ChangeDirectory { root: self.root, path: path(directory)? }
            }
            SetupOp::Limit { resource, soft, hard, .. } => {
                Step::Limit { resource: *resource, soft: *soft, hard: *hard }
            }
            SetupOp::Terminal => Step::ControllingTerminal,
            SetupOp::Bound { keep, last } => Step::Bound { keep: *keep, last: *last },
            SetupOp::Groups(groups) => Step::Groups(groups.clone()),
            SetupOp::Group(id) => Step::Group(*id),
            SetupOp::User(id) => Step::User(*id),
            SetupOp::Capabilities(capabilities) => Step::Capabilities(capabilities.sets),
            SetupOp::NoNewPrivileges => Step::NoNewPrivileges,
            SetupOp::Umask(mask) => Step::Umask(*mask),
            SetupOp::CloseDescriptors { proc } => Step::CloseAll { proc: self.mount_at(*proc)? },
            SetupOp::Execute { paths, args, env } => {
                Step::Execute { paths: texts(paths)?, argv: texts(args)?, envp: texts(env)? }
            }
            SetupOp::JoinCgroup
            | SetupOp::Bind { .. }
            | SetupOp::Stdio
            | SetupOp::Console { .. }
            | SetupOp::UserNamespace
            | SetupOp::DieWithParent
            | SetupOp::Seccomp => return Err(missing()),
        };
        self.step(step);
        Ok(())
    }
}

/// What the child has to make itself, since it shows the namespaces of its maker.
fn new_fs(kind: &MountKind, attributes: Attributes) -> Option<NewFs> {
    let (fstype, flags) = match kind {
        MountKind::Proc => (c"proc", Vec::new()),
        MountKind::Sysfs => (c"sysfs", Vec::new()),
        MountKind::Mqueue => (c"mqueue", Vec::new()),
        MountKind::CgroupUnified => (c"cgroup2", Vec::new()),
        MountKind::CgroupLegacy(controllers) => {
            let flags = controllers.iter().filter_map(|controller| text(controller).ok()).collect();
            (c"cgroup", flags)
        }
        MountKind::CgroupDirectory | MountKind::Dev | MountKind::Devpts | MountKind::Tmpfs => return None,
    };
    Some(NewFs {
        fstype: fstype.to_owned(),
        flags,
        strings: Vec::new(),
        attributes: attributes.flags().bits(),
    })
}

fn text(text: &str) -> Result<CString, NulError> {
    CString::new(text)
}

fn texts(texts: &[String]) -> Result<Vec<CString>, NulError> {
    texts.iter().map(|text| CString::new(text.as_str())).collect()
}

fn path(path: &Path) -> Result<CString, NulError> {
    CString::new(path.as_os_str().as_bytes())
}
