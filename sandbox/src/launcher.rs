//! The thread from which all containers are started.
//!
//! It lives as long as any handle to it: parent-death signals fire when the thread that cloned ends. It has a mount
//! namespace of its own that holds one small tmpfs and nothing of the host's, so that a child copies two mounts instead of
//! all of the host's, and at no time can name a file of the host.

use std::ffi::{CString, NulError};
use std::io;
use std::os::fd::OwnedFd;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use rustix::fs::{AtFlags, CWD, FileType, Mode, chmodat, makedev, mkdirat, mknodat};
use sys::child::Spawner;
use sys::mount::{FsContext, MountAttrFlags, MountFlags};

use crate::error::OpenError;
use crate::idmap::IdMap;
use crate::plan::DEVICES;

/// Where a child puts its root file system, in the launcher's mount namespace.
pub(crate) const NEW_ROOT: &str = "/new";
/// Where an overlay is put together when the kernel wants its layers attached.
pub(crate) const STAGE: &str = "/stage";
/// An empty directory that can't be written, to hide others.
pub(crate) const EMPTY: &str = "/template/empty";

/// A device node whose owner is the container's root: in its user namespace, or the host's.
pub(crate) fn device(name: &str, mapped: bool) -> Result<CString, NulError> {
    CString::new(format!("/template/{}/{name}", if mapped { "mapped" } else { "host" }))
}

type Job = Box<dyn FnOnce(&mut Spawner) + Send>;

/// A handle to the thread.
#[derive(Clone, Debug)]
pub(crate) struct Launcher(Arc<Thread>);

#[derive(Debug)]
struct Thread {
    jobs: Mutex<Option<Sender<Job>>>,
    handle: Mutex<Option<JoinHandle<()>>>,
}

/// The thread has ended.
#[derive(Debug)]
pub(crate) struct Gone;

impl Launcher {
    /// Starts the thread and its mount namespace. `id_map`: owners of the devices that mapped containers see.
    pub(crate) fn start(id_map: &IdMap) -> Result<Self, OpenError> {
        let (jobs, receiver) = channel();
        let (ready, is_ready) = channel();
        let root = id_map.outside(0).unwrap_or(0);
        let handle = std::thread::Builder::new()
            .name("launcher".to_owned())
            .spawn(move || match prepare(root) {
                Ok(spawner) => {
                    let _ = ready.send(Ok(()));
                    serve(spawner, &receiver);
                }
                Err(error) => {
                    let _ = ready.send(Err(error));
                }
            })
            .map_err(|source| OpenError::Prepare { what: "a thread", source })?;
        is_ready.recv().map_err(|_| OpenError::NoLauncher)??;
        Ok(Self(Arc::new(Thread { jobs: Mutex::new(Some(jobs)), handle: Mutex::new(Some(handle)) })))
    }

    /// Runs `job` on the thread and waits for what it returns.
    pub(crate) fn run<T: Send + 'static>(
        &self,
        job: impl FnOnce(&mut Spawner) -> T + Send + 'static,
    ) -> Result<T, Gone> {
        let (answer, result) = channel();
        self.send(Box::new(move |spawner| {
            // The caller waits; if it is gone nobody misses the answer.
            let _ = answer.send(job(spawner));
        }))?;
        result.recv().map_err(|_| Gone)
    }

    fn send(&self, job: Job) -> Result<(), Gone> {
        let jobs = self.0.jobs.lock().unwrap_or_else(PoisonError::into_inner);
        jobs.as_ref().ok_or(Gone)?.send(job).map_err(|_| Gone)
    }
}

impl Drop for Thread {
    fn drop(&mut self) {
        drop(self.jobs.get_mut().unwrap_or_else(PoisonError::into_inner).take());
        let handle = self.handle.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        // The last handle may be dropped by a job on the thread itself.
        if let Some(handle) = handle.filter(|handle| handle.thread().id() != std::thread::current().id()) {
            let _ = handle.join();
        }
    }
}

fn serve(mut spawner: Spawner, jobs: &Receiver<Job>) {
    while let Ok(job) = jobs.recv() {
        job(&mut spawner);
    }
}

fn prepare(mapped_root: u32) -> Result<Spawner, OpenError> {
    let step = |what| move |source| OpenError::Prepare { what, source };
    // Handlers of the process must not run here: they would run in children that share its memory.
    sys::process::block_signals().map_err(step("a thread without signals"))?;
    sys::process::unshare_mounts().map_err(step("a mount namespace"))?;
    enter_small_root(mapped_root).map_err(step("a root for the mount namespace"))?;
    Spawner::new().map_err(step("a stack"))
}

fn tmpfs() -> io::Result<OwnedFd> {
    let context = FsContext::open(c"tmpfs")?;
    context.set_string(c"mode", c"755")?;
    context.set_string(c"size", c"1m")?;
    context.create()?;
    context.mount(MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NOATIME)
}

fn enter_small_root(mapped_root: u32) -> io::Result<()> {
    // This thread's own, now that it shares no file-system settings: modes below are meant as written.
    rustix::process::umask(Mode::empty());
    let root = tmpfs()?;
    sys::mount::attach(&root, CWD, c"/")?;
    sys::mount::replace_root(&root)?;
    for name in ["/new", "/stage", "/template"] {
        mkdirat(CWD, name, Mode::from_raw_mode(0o755))?;
    }
    let template = tmpfs()?;
    mkdirat(&template, "empty", Mode::from_raw_mode(0o755))?;
    for (directory, owner) in [("mapped", mapped_root), ("host", 0)] {
        mkdirat(&template, directory, Mode::from_raw_mode(0o755))?;
        for (name, major, minor) in DEVICES {
            let path = format!("{directory}/{name}");
            let mode = Mode::from_raw_mode(0o666);
            mknodat(&template, path.as_str(), FileType::CharacterDevice, mode, makedev(major, minor))?;
            let (uid, gid) = (rustix::process::Uid::from_raw(owner), rustix::process::Gid::from_raw(owner));
            rustix::fs::chownat(&template, path.as_str(), Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
            chmodat(&template, path.as_str(), mode, AtFlags::empty())?;
        }
    }
    sys::mount::attach(&template, CWD, c"/template")?;
    // All containers share these inodes: none may change their mode or owner.
    sys::mount::remount_bind(
        c"/template",
        MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NOEXEC | MountFlags::NOATIME,
    )
}
