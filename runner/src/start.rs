//! `start`: a container's layers under its upperdir, its files, its first process, in the foreground.

use std::ffi::CString;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use oci::{ProcessSettings, RunConfig, SpecError, UserError, UserIds};
use rustix::fs::{CWD, Mode, OFlags};
use rustix::mount::MountAttrFlags;
use sandbox::{
    Bind, BindIdmap, CgroupSettings, Launch, LaunchError, Rootfs, Sandbox, Scratch, SeccompPolicy, Stdio,
};
use store::merged::{Merged, MergedError};
use store::snapshot::{Snapshots, StubKind, mount_point_stubs, prepare_upper};
use store::tree_writer::{Attributes, TreeWriter, WriteError};
use store::working_tree::WorkingTree;
use store::{
    ContainerDir, ContainerError, ContainerRecord, ContainerState, LayerError, Lease, LeaseError, Store,
};
use sys::kernel::{self, Feature};
use sys::mount::FsContext;

use crate::lifecycle;
use crate::settings::{Settings, SettingsError};

/// The host's own files that a container in the host's network sees.
#[derive(Clone, Debug, Default)]
pub struct HostFiles {
    /// Text of `/etc/resolv.conf`.
    pub resolv_conf: String,
    /// Text of `/etc/hosts`.
    pub hosts: String,
}

/// What a container's first process reads and writes.
#[derive(Debug)]
pub enum Streams {
    /// These descriptors, as they are.
    Own(Stdio),
    /// A terminal of its own, whose other end is [`Foreground::terminal`].
    Terminal {
        /// Columns and rows.
        size: Option<(u16, u16)>,
    },
}

/// Why a container did not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// Its settings can't be read.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// Its layers can't be held.
    #[error("cannot hold the layers of the image")]
    Lease(#[from] LeaseError),
    /// A layer can't be opened.
    #[error("cannot open the layers of the image")]
    Layer(#[from] LayerError),
    /// The image can't be read.
    #[error("cannot read the image")]
    Image(#[from] MergedError),
    /// The container's upperdir can't be prepared.
    #[error("cannot prepare the container's file system")]
    Write(#[from] WriteError),
    /// The user isn't known in the image.
    #[error(transparent)]
    User(#[from] UserError),
    /// A file of the container's own can't be written.
    #[error("cannot {op} `{}`", path.display())]
    File {
        /// What was attempted.
        op: &'static str,
        /// The path on the host.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The settings of the sandbox can't be put together.
    #[error(transparent)]
    Spec(#[from] SpecError),
    /// The sandbox can't be used at all.
    #[error("cannot open the sandbox")]
    Sandbox(#[from] sandbox::OpenError),
    /// The first process did not start.
    #[error("cannot start the container")]
    Launch {
        /// What to do about it.
        help: Option<String>,
        /// Why not.
        source: LaunchError,
    },
    /// The start can't be recorded.
    #[error("cannot record that the container runs")]
    Record(#[source] ContainerError),
}

impl StartError {
    /// docker's exit code: 127 where there is no such command, 126 where it can't be executed, else 125.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Launch { source, .. } => lifecycle::launch_exit_code(source),
            _ => 125,
        }
    }

    /// What to do about it, where something is known.
    pub fn help(&self) -> Option<&str> {
        match self {
            Self::Launch { help, .. } => help.as_deref(),
            _ => None,
        }
    }
}

/// A container that runs as our child. It dies with us.
#[derive(Debug)]
pub struct Foreground {
    store: Store,
    id: String,
    auto_remove: bool,
    running: sandbox::Running,
    notes: Vec<String>,
    /// Nothing collects the layers while it runs.
    _lease: Lease,
}

/// Most bytes of the image's passwd and group that are read.
const PASSWD_LIMIT: u64 = 4 << 20;

/// The kernel file systems' mount points, which an image need not have.
const KERNEL_DIRS: [&str; 3] = ["/dev", "/proc", "/sys"];

/// Starts the container `record`, whose folder is `dir`, with `streams`. `now` gives the time as RFC 3339.
///
/// # Errors
///
/// [`StartError`]; the container stays in state `created`.
pub fn start(
    store: &Store,
    sandbox: &Sandbox,
    (record, dir): (&ContainerRecord, &ContainerDir),
    host: &HostFiles,
    streams: Streams,
    now: &dyn Fn() -> String,
) -> Result<Arc<Foreground>, StartError> {
    let settings = Settings::from_record(record)?;
    let mut lease = store.lease()?;
    lease.hold(&record.layers)?;
    let mut lowerdirs = Vec::with_capacity(record.layers.len() + 1);
    for id in record.layers.iter().rev() {
        lowerdirs.push(store.layer(*id)?.open_tree()?);
    }
    let merged = Merged::new(clones(&lowerdirs, dir.path())?)?;
    // What lies below a layer with an opaque root: overlayfs wouldn't hide it.
    lowerdirs.truncate(merged.tree_count());
    let user = resolve_user(&merged, &settings.user)?;
    let (snapshots, note) = store.snapshots();
    let place = own_place(dir).map_err(|error| file_error("make a place for files in", dir.path(), error))?;
    let binds = binds((dir, &place), &settings, host)?;
    let rootfs = if snapshots == Snapshots::Tree {
        working_tree(dir, &merged, &settings.working_dir, &mount_points(&binds)?)?
    } else {
        let upper = open_path(&dir.path().join("upper"), "open")?;
        prepare_upper(&merged, upper.as_fd())?;
        make_working_dir(&merged, upper, &settings.working_dir)?;
        if let Some(stubs) = stubs((dir, &place), &merged, &mount_points(&binds)?)? {
            lowerdirs.insert(0, stubs);
        }
        let scratch = rustix::io::fcntl_dupfd_cloexec(dir.scratch_fd(), 3)
            .map_err(|error| file_error("open", dir.path(), error))?;
        let (upper, work) = (CString::from(c"upper"), CString::from(c"work"));
        Rootfs::Overlay { lowerdirs, scratch: Some(Scratch { dir: scratch, upper, work }) }
    };
    let mut spec = oci::runtime_spec(&ProcessSettings {
        args: record.argv.clone(),
        env: environment(&settings, &user),
        cwd: settings.working_dir.clone(),
        user,
        terminal: matches!(streams, Streams::Terminal { .. }),
        hostname: settings.hostname.clone(),
        readonly_rootfs: false,
        host_network: settings.network == "host",
        host_userns: settings.host_userns,
    })?;
    let stdio = match streams {
        Streams::Own(stdio) => stdio,
        Streams::Terminal { size } => {
            if let Some((columns, rows)) = size {
                oci::set_console_size(&mut spec, columns, rows)?;
            }
            nothing().map_err(|error| file_error("open", Path::new("/dev/null"), error))?
        }
    };
    let launch = Launch {
        spec,
        rootfs,
        binds,
        stdio,
        seccomp: SeccompPolicy::Default,
        // Without limits a group of its own buys nothing: the pid namespace ends with the container. On cgroup v1 a
        // move into one waits some 10 ms for a grace period of the kernel.
        cgroup: CgroupSettings::Inherit,
    };
    let running = sandbox
        .launch(launch)
        .map_err(|source| StartError::Launch { help: exec_help(&source, &merged, &settings), source })?;
    // Nothing when it has ended already: the end is then recorded by `wait`, soon.
    if let Some(state) = store.running_state(running.pid(), now()) {
        // On an error `running` is dropped here, which kills it.
        store.set_container_state(&record.id, &state).map_err(StartError::Record)?;
    }
    let notes = note.into_iter().chain(running.notes().iter().cloned()).collect();
    Ok(Arc::new(Foreground {
        store: store.clone(),
        id: record.id.clone(),
        auto_remove: record.auto_remove,
        running,
        notes,
        _lease: lease,
    }))
}

/// For a container whose descriptors will be its terminal.
fn nothing() -> io::Result<Stdio> {
    let open = || rustix::fs::openat(CWD, "/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty());
    Ok(Stdio { stdin: open()?, stdout: open()?, stderr: open()? })
}

impl Foreground {
    /// What was degraded for this container, a sentence each.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// Our end of its terminal, where it has one: reading it fails with `EIO` when [`Foreground::wait`] is over and all
    /// that was printed has been read.
    pub fn terminal(&self) -> Option<BorrowedFd<'_>> {
        self.running.terminal()
    }

    /// Passes a signal on to its first process.
    ///
    /// # Errors
    ///
    /// The kernel's; none when the process has ended.
    pub fn signal(&self, signal: i32) -> io::Result<()> {
        self.running.signal(signal)
    }

    /// Kills all of it.
    ///
    /// # Errors
    ///
    /// The kernel's.
    pub fn kill(&self) -> io::Result<()> {
        self.running.kill()
    }

    /// Waits for its end, records it, and removes the container where `--rm` asked for it. Gives the exit code as a
    /// shell has it. `now` gives the time as RFC 3339.
    ///
    /// # Errors
    ///
    /// [`EndError`] when the end can't be learned or recorded.
    pub fn wait(&self, now: &dyn Fn() -> String) -> Result<u8, EndError> {
        let exit = self.running.wait()?;
        let code = lifecycle::exit_code(exit);
        let result = if self.auto_remove {
            self.store.remove_container(&self.id)
        } else {
            let state = ContainerState::Exited { code: i32::from(code), finished: Some(now()) };
            self.store.set_container_state(&self.id, &state)
        };
        match result {
            // `rm -f` was quicker.
            Ok(()) | Err(ContainerError::Missing(_)) => Ok(code),
            Err(source) => Err(EndError::Record { code, source }),
        }
    }
}

/// What went wrong at a container's end.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EndError {
    /// The end can't be learned.
    #[error(transparent)]
    Wait(#[from] sandbox::WaitError),
    /// It ended, but that can't be noted.
    #[error("the container ended with exit code {code}, which can't be recorded")]
    Record {
        /// Its exit code.
        code: u8,
        /// Why not.
        source: ContainerError,
    },
}

fn file_error(op: &'static str, path: &Path, source: impl Into<io::Error>) -> StartError {
    StartError::File { op, path: path.to_owned(), source: source.into() }
}

fn clones(fds: &[OwnedFd], path: &Path) -> Result<Vec<OwnedFd>, StartError> {
    fds.iter()
        .map(|fd| fd.try_clone())
        .collect::<io::Result<_>>()
        .map_err(|error| file_error("open", path, error))
}

fn open_path(path: &Path, op: &'static str) -> Result<OwnedFd, StartError> {
    rustix::fs::openat(CWD, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
        .map_err(|error| file_error(op, path, error))
}

fn resolve_user(merged: &Merged, user: &str) -> Result<UserIds, StartError> {
    let passwd = image_file(merged, "/etc/passwd")?;
    let group = image_file(merged, "/etc/group")?;
    let mut ids = oci::resolve_user(user, &passwd, &group)?;
    if ids.home.is_none() {
        ids.home = Some(oci::home_of(ids.uid, &passwd));
    }
    Ok(ids)
}

/// A text file of the image; empty where there is none.
fn image_file(merged: &Merged, path: &str) -> Result<String, StartError> {
    match merged.read_file(Path::new(path), PASSWD_LIMIT) {
        Ok(bytes) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
        Err(
            MergedError::NotFound { .. } | MergedError::NotADirectory { .. } | MergedError::NotAFile { .. },
        ) => Ok(String::new()),
        Err(error) => Err(error.into()),
    }
}

/// docker makes the working directory in the container where the image lacks it.
fn make_working_dir(merged: &Merged, upper: OwnedFd, working_dir: &str) -> Result<(), StartError> {
    let path = Path::new(working_dir);
    match merged.resolve(path) {
        Err(MergedError::NotFound { .. }) => {
            let writer = TreeWriter::new(upper, merged)?;
            let seconds = rustix::time::clock_gettime(rustix::time::ClockId::Realtime);
            let mtime = sys::file::Timestamp {
                seconds: seconds.tv_sec,
                nanoseconds: u32::try_from(seconds.tv_nsec).unwrap_or_default(),
            };
            writer.create_dir_all(path, &Attributes::parent_dir(mtime))?;
            writer.finish()?;
            Ok(())
        }
        // What else is wrong with it the sandbox tells when it enters it.
        _ => Ok(()),
    }
}

/// The container's own files and what `-v` asks for.
fn binds(
    (dir, place): (&ContainerDir, &OwnedFd),
    settings: &Settings,
    host: &HostFiles,
) -> Result<Vec<Bind>, StartError> {
    let is_host = settings.network == "host";
    let hosts = network::hosts(&settings.hostname, is_host.then_some(host.hosts.as_str()), &[]);
    let files = [
        ("/etc/resolv.conf", "resolv.conf", network::resolv_conf(&host.resolv_conf, is_host)),
        ("/etc/hostname", "hostname", format!("{}\n", settings.hostname)),
        ("/etc/hosts", "hosts", hosts),
    ];
    let mut binds = Vec::with_capacity(files.len() + settings.mounts.len());
    for (target, name, text) in files {
        binds.push(Bind {
            source: own_file(place, name, &text)
                .map_err(|error| file_error("write", &dir.file(name), error))?,
            target: target.into(),
            readonly: false,
            idmap: BindIdmap::Identity,
            recursive: false,
        });
    }
    for mount in &settings.mounts {
        let source = Path::new(&mount.source);
        if let Err(error) = std::fs::metadata(source) {
            if error.kind() != io::ErrorKind::NotFound {
                return Err(file_error("bind", source, error));
            }
            std::fs::create_dir_all(source).map_err(|error| file_error("make", source, error))?;
        }
        binds.push(Bind {
            source: open_path(source, "bind")?,
            target: (&mount.destination).into(),
            readonly: !mount.writable,
            idmap: BindIdmap::Identity,
            recursive: true,
        });
    }
    Ok(binds)
}

/// Where the container's own files and its mount points lie: on a tmpfs that is attached nowhere, so that nothing is to
/// be unlinked afterwards and the container's list of mounts doesn't name the store; in the container's folder where
/// the kernel can't bind out of such a mount.
fn own_place(dir: &ContainerDir) -> io::Result<OwnedFd> {
    if !kernel::has(Feature::OverlayFd) {
        return Ok(rustix::io::fcntl_dupfd_cloexec(dir.scratch_fd(), 3)?);
    }
    let tmpfs = FsContext::open(c"tmpfs")?;
    tmpfs.set_string(c"mode", c"0700")?;
    tmpfs.set_string(c"size", c"16m")?;
    tmpfs.create()?;
    tmpfs.mount(MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV)
}

/// Writes a file that everybody in the container may read, and opens it as the source of a bind.
fn own_file(place: &OwnedFd, name: &str, text: &str) -> io::Result<OwnedFd> {
    let mut file = std::fs::File::from(sys::file::create_file_at(place, name, 0o644)?);
    file.write_all(text.as_bytes())?;
    // Whatever the umask is.
    sys::file::set_mode(&file, 0o644)?;
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(rustix::fs::openat(place, name, flags, Mode::empty())?)
}

/// The container's own copy of its layers, where there is no overlay: made with its first start, in place of the empty
/// upperdir, and removed with it.
fn working_tree(
    dir: &ContainerDir,
    merged: &Merged,
    working_dir: &str,
    mount_points: &[(PathBuf, StubKind)],
) -> Result<Rootfs, StartError> {
    let scratch = dir.scratch_fd();
    let open = |name: &str| {
        sys::dir::open_at(scratch, name).map_err(|error| file_error("open", &dir.file(name), error))
    };
    let mut upper = open("upper")?;
    if sys::dir::is_empty(&upper).map_err(|error| file_error("read", &dir.file("upper"), error))? {
        let copy = dir.file("copy");
        // What a copy that was killed left.
        sys::dir::remove_tree(scratch, "copy", None).map_err(|error| file_error("remove", &copy, error))?;
        sys::file::create_dir_at(scratch, "copy", 0o755).map_err(|error| file_error("make", &copy, error))?;
        WorkingTree::fill(open("copy")?, merged)?;
        rustix::fs::renameat(scratch, "copy", scratch, "upper")
            .map_err(|error| file_error("rename", &copy, error))?;
        upper = open("upper")?;
    }
    let tree = WorkingTree::open(upper);
    let missing = Attributes::parent_dir(sys::file::Timestamp::from_seconds(0));
    for (target, kind) in mount_points {
        tree.make_missing(target, *kind, &missing)?;
    }
    let now = Attributes::parent_dir(sys::file::Timestamp::now());
    tree.make_missing(Path::new(working_dir), StubKind::Dir, &now)?;
    let place = tree.fd().try_clone_to_owned().map_err(|error| file_error("open", dir.path(), error))?;
    Ok(Rootfs::Tree(place))
}

/// What must be there for something to be mounted on.
fn mount_points(binds: &[Bind]) -> Result<Vec<(PathBuf, StubKind)>, StartError> {
    let mut targets: Vec<(PathBuf, StubKind)> =
        KERNEL_DIRS.iter().map(|dir| (PathBuf::from(dir), StubKind::Dir)).collect();
    for bind in binds {
        let stat =
            rustix::fs::fstat(&bind.source).map_err(|error| file_error("look at", &bind.target, error))?;
        let is_dir = rustix::fs::FileType::from_raw_mode(stat.st_mode).is_dir();
        targets.push((bind.target.clone(), if is_dir { StubKind::Dir } else { StubKind::File }));
    }
    Ok(targets)
}

/// The tree of mount points that the image lacks; nothing where it has them all.
fn stubs(
    (dir, place): (&ContainerDir, &OwnedFd),
    merged: &Merged,
    targets: &[(PathBuf, StubKind)],
) -> Result<Option<OwnedFd>, StartError> {
    if targets.iter().all(|(target, _)| merged.resolve(target).is_ok()) {
        return Ok(None);
    }
    let tree = sys::file::create_dir_at(place, "stubs", 0o755)
        .and_then(|()| sys::file::open_dir_at(place, "stubs"))
        .map_err(|error| file_error("make", &dir.file("stubs"), error))?;
    let was_made = mount_point_stubs(merged, targets, tree.as_fd())?;
    Ok(was_made.then_some(tree))
}

/// docker's order: `PATH` and `HOSTNAME`, `TERM` of a terminal, then image and flags, which may change them, and `HOME` where it isn't set.
fn environment(settings: &Settings, user: &UserIds) -> Vec<String> {
    let mut config = RunConfig {
        env: vec![format!("PATH={}", RunConfig::DEFAULT_PATH), format!("HOSTNAME={}", settings.hostname)],
        ..RunConfig::default()
    };
    if settings.tty {
        config.set_env("TERM", "xterm");
    }
    for entry in &settings.env {
        let (key, value) = entry.split_once('=').unwrap_or((entry, ""));
        config.set_env(key, value);
    }
    if config.env_value("HOME").is_none_or(str::is_empty) {
        config.set_env("HOME", user.home.as_deref().unwrap_or("/"));
    }
    config.env
}

/// Tells a missing program from a missing interpreter, which the kernel reports alike.
fn exec_help(error: &LaunchError, merged: &Merged, settings: &Settings) -> Option<String> {
    let LaunchError::Exec { program, source } = error else { return None };
    let candidates: Vec<PathBuf> = if program.contains('/') {
        vec![Path::new(&settings.working_dir).join(program)]
    } else {
        let path = settings.env.iter().rev().find_map(|entry| entry.strip_prefix("PATH="));
        let path = path.unwrap_or(RunConfig::DEFAULT_PATH);
        path.split(':').map(|dir| Path::new(dir).join(program)).collect()
    };
    let found = candidates.iter().find(|path| merged.resolve(path).is_ok());
    match (source.kind(), found) {
        (io::ErrorKind::NotFound, Some(path)) => Some(format!(
            "`{}` is in the image, but its interpreter or loader is not (the first line of a script, or a C library)",
            path.display()
        )),
        (io::ErrorKind::NotFound, None) if program.contains('/') => {
            Some(format!("the image has no file `{program}`"))
        }
        (io::ErrorKind::NotFound, None) => {
            Some(format!("`{program}` is in no directory of the image's PATH"))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_environment_is_dockers() {
        let settings = Settings {
            hostname: "box".into(),
            env: vec!["A=1".into(), "PATH=/bin".into()],
            ..Settings::default()
        };
        let user = UserIds { home: Some("/root".into()), ..UserIds::default() };
        assert_eq!(environment(&settings, &user), ["PATH=/bin", "HOSTNAME=box", "A=1", "HOME=/root"]);
        let settings = Settings { env: vec!["HOME=/h".into()], ..settings };
        let env = environment(&settings, &user);
        assert_eq!(env[0], format!("PATH={}", RunConfig::DEFAULT_PATH));
        assert_eq!(env.last().map(String::as_str), Some("HOME=/h"));
    }
}
