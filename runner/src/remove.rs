//! `rm`: a container that is no longer wanted.

use std::io;
use std::time::{Duration, Instant};

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use store::{Container, ContainerError, ContainerState, FindContainerError, Store};

/// Why a container wasn't removed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RemoveError {
    /// There is none of that name.
    #[error(transparent)]
    Find(#[from] FindContainerError),
    /// It runs, and nobody asked for force.
    #[error("cannot remove container `{name}`: it is running")]
    Running {
        /// Its name.
        name: String,
    },
    /// It can't be killed.
    #[error("cannot kill container `{name}`")]
    Kill {
        /// Its name.
        name: String,
        /// Why not.
        source: io::Error,
    },
    /// It was killed and goes on.
    #[error("container `{name}` is still there {} s after it was killed", PATIENCE.as_secs())]
    StillRunning {
        /// Its name.
        name: String,
    },
    /// Its files can't be removed.
    #[error("cannot remove container `{name}`")]
    Store {
        /// Its name.
        name: String,
        /// Why not.
        source: ContainerError,
    },
}

/// How long the end of a killed container is waited for.
const PATIENCE: Duration = Duration::from_secs(10);

/// Removes the container that `text` names; with `force` one that runs is killed first.
///
/// # Errors
///
/// [`RemoveError`]; the container is then still there, though maybe killed.
pub fn remove(store: &Store, text: &str, force: bool) -> Result<(), RemoveError> {
    let container = store.find_container(text)?;
    let name = || container.record.name.clone();
    if let ContainerState::Running { pid, start_time, .. } = &container.state {
        if !force {
            return Err(RemoveError::Running { name: name() });
        }
        kill(*pid, *start_time).map_err(|source| RemoveError::Kill { name: name(), source })?;
        wait_for_end(store, &container)?;
    }
    match store.remove_container(&container.record.id) {
        // `--rm` was quicker.
        Ok(()) | Err(ContainerError::Missing(_)) => Ok(()),
        Err(source) => Err(RemoveError::Store { name: name(), source }),
    }
}

/// Removes those of `containers` that were to go when they ended (`--rm`) but whose parent was killed before it could
/// do so. Failing is no harm: whoever comes next tries again.
pub fn sweep(store: &Store, containers: &mut Vec<Container>) {
    containers.retain(|container| {
        let is_left =
            container.record.auto_remove && matches!(container.state, ContainerState::Exited { .. });
        !is_left || store.remove_container(&container.record.id).is_err()
    });
}

/// Kills process `pid` if it is still the one that started at `start_time`.
fn kill(pid: i32, start_time: u64) -> io::Result<()> {
    let Some(process) = Pid::from_raw(pid) else { return Ok(()) };
    let pidfd = match pidfd_open(process, PidfdFlags::empty()) {
        Ok(pidfd) => pidfd,
        Err(rustix::io::Errno::SRCH) => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    // Asked after the descriptor is open: from here on it can't become another process.
    if sys::process::start_time(pid)? != Some(start_time) {
        return Ok(());
    }
    match pidfd_send_signal(&pidfd, Signal::KILL) {
        Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Waits until the kernel has ended the container and its parent has noted it or is gone.
fn wait_for_end(store: &Store, container: &Container) -> Result<(), RemoveError> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match store.find_container(&container.record.id) {
            Ok(Container { state: ContainerState::Running { .. }, .. }) => {}
            Ok(_) | Err(FindContainerError::NotFound(_)) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
        if Instant::now() >= deadline {
            return Err(RemoveError::StillRunning { name: container.record.name.clone() });
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}
