//! A container that runs, until it is gone.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Mutex;
use std::sync::PoisonError;

use rustix::process::{WaitId, WaitIdOptions, waitid};

use crate::cgroup::Group;
use crate::error::WaitError;
use crate::launcher::Launcher;
use crate::terminal::Terminal;

/// How a container's first process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// It exited with this status.
    Code(i32),
    /// This signal killed it.
    Signal(i32),
}

/// A container that has started. May be shared: one thread waits while another one signals.
///
/// Dropping it kills the container and waits for its end.
#[derive(Debug)]
pub struct Running {
    pid: i32,
    pidfd: OwnedFd,
    notes: Vec<String>,
    group: Option<Group>,
    terminal: Option<Terminal>,
    /// Keeps the thread alive from which it was started: with that thread it would be killed.
    _launcher: Launcher,
    end: Mutex<Option<End>>,
}

#[derive(Clone, Copy, Debug)]
struct End {
    exit: Exit,
    oom_killed: bool,
}

impl Running {
    pub(crate) fn new(
        pid: i32,
        pidfd: OwnedFd,
        group: Option<Group>,
        notes: Vec<String>,
        launcher: Launcher,
    ) -> Self {
        Self { pid, pidfd, notes, group, terminal: None, _launcher: launcher, end: Mutex::new(None) }
    }

    pub(crate) fn with_terminal(mut self, terminal: Option<Terminal>) -> Self {
        self.terminal = terminal;
        self
    }

    /// The other end of its terminal, where it has one. Reading fails with `EIO` when the container has ended,
    /// [`Running::wait`] has noticed it, and all that it printed was read.
    pub fn terminal(&self) -> Option<BorrowedFd<'_>> {
        self.terminal.as_ref().map(Terminal::master)
    }

    /// Process ID of its first process, as the host sees it.
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// A descriptor of its first process: readable (`poll`) when that has ended.
    pub fn pidfd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }

    /// What was degraded for this container only, a sentence each.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// Sends a signal to its first process. No error when it has ended.
    ///
    /// The first process of a process ID namespace gets only the signals that it handles, and SIGKILL and SIGSTOP
    /// (`pid_namespaces(7)`).
    pub fn signal(&self, signal: i32) -> io::Result<()> {
        match sys::process::pidfd_send_signal(&self.pidfd, signal) {
            Err(error) if error.raw_os_error() == Some(libc::ESRCH) => Ok(()),
            other => other,
        }
    }

    /// Kills every process of the container at once: with the first one the namespace ends.
    pub fn kill(&self) -> io::Result<()> {
        self.signal(libc::SIGKILL)
    }

    /// Whether the container's memory limit has killed one of its processes; known once it has ended.
    pub fn oom_killed(&self) -> bool {
        self.end.lock().unwrap_or_else(PoisonError::into_inner).is_some_and(|end| end.oom_killed)
    }

    /// Waits until every process of the container has gone and its root file system is unmounted. May be called again.
    pub fn wait(&self) -> Result<Exit, WaitError> {
        // Others may wait as well, but only one of them reaps; nobody holds the lock while the container runs.
        let failed = |source: io::Error| WaitError::Wait { pid: self.pid, source };
        let mut poll = [rustix::event::PollFd::new(&self.pidfd, rustix::event::PollFlags::IN)];
        rustix::io::retry_on_intr(|| rustix::event::poll(&mut poll, None))
            .map_err(|errno| failed(errno.into()))?;
        let mut end = self.end.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(end) = *end {
            return Ok(end.exit);
        }
        // The kernel ends the first process of a process ID namespace only after all others in it, and with the last
        // process its mounts go.
        let status =
            rustix::io::retry_on_intr(|| waitid(WaitId::PidFd(self.pidfd.as_fd()), WaitIdOptions::EXITED))
                .map_err(|errno| failed(errno.into()))?
                .ok_or_else(|| failed(io::ErrorKind::WouldBlock.into()))?;
        let exit = match (status.exit_status(), status.terminating_signal()) {
            (Some(code), _) => Exit::Code(code),
            (None, Some(signal)) => Exit::Signal(signal),
            (None, None) => return Err(failed(io::ErrorKind::InvalidData.into())),
        };
        let oom_killed = self.group.as_ref().is_some_and(Group::oom_killed);
        *end = Some(End { exit, oom_killed });
        if let Some(terminal) = &self.terminal {
            terminal.end();
        }
        Ok(exit)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let ended = self.end.get_mut().unwrap_or_else(PoisonError::into_inner).is_some();
        if !ended {
            // It can fail only when there is nothing to kill or to wait for.
            let _ = self.kill();
            let _ = self.wait();
        }
        // Not on the launcher's thread, which doesn't see the host's cgroups.
        if let Some(group) = self.group.take() {
            group.remove();
        }
    }
}
