//! `rm`: a container that is no longer wanted.

use std::io;
use std::time::{Duration, Instant};

use rustix::fs::{Mode, OFlags};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use store::{Container, ContainerDir, ContainerError, ContainerState, FindContainerError, Store};

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

/// Whether the container in `dir`, which may have been removed already, wrote files: then there is something to unlink.
pub fn wrote_files(dir: &ContainerDir) -> bool {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(dir.scratch_fd(), "upper", flags, Mode::empty())
        .ok()
        .and_then(|upper| sys::dir::read_sorted(&upper).ok())
        .is_some_and(|entries| !entries.is_empty())
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

#[cfg(test)]
mod tests {
    use std::process::Command;

    use oci::{Digest, ImageId};
    use store::{ContainerRecord, StoreMode, StoreOptions};

    use super::*;

    fn store(dir: &tempfile::TempDir) -> Store {
        let options = StoreOptions {
            root: dir.path().join("root"),
            runtime: dir.path().join("run"),
            mode: StoreMode::Root,
        };
        Store::open(options).unwrap()
    }

    fn container(store: &Store, name: &str, auto_remove: bool) -> String {
        let record = ContainerRecord {
            id: Store::new_container_id(),
            name: name.to_owned(),
            image: ImageId::new(Digest::of(b"")),
            reference: "app".to_owned(),
            layers: Vec::new(),
            argv: vec!["sh".to_owned()],
            created: "2026-01-01T00:00:00Z".to_owned(),
            auto_remove,
            settings: serde_json::Value::Null,
        };
        store.create_container(&record).unwrap();
        record.id
    }

    #[test]
    #[ignore = "root: opens a store as root"]
    fn root_a_running_container_is_removed_by_force_only() {
        let dir = tempfile::tempdir().unwrap();
        let store = store(&dir);
        let id = container(&store, "web", false);
        let mut child = Command::new("sleep").arg("1000").spawn().unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        let state = store.running_state(pid, "2026-01-01T00:00:00Z".to_owned()).unwrap();
        store.set_container_state(&id, &state).unwrap();
        assert!(matches!(remove(&store, "web", false), Err(RemoveError::Running { .. })));
        assert!(child.try_wait().unwrap().is_none(), "it was left alone");
        // Somebody has to reap it, or it stays as a zombie.
        let waiter = std::thread::spawn(move || child.wait().unwrap());
        remove(&store, &id[..12], true).unwrap();
        assert!(!waiter.join().unwrap().success());
        assert!(matches!(
            remove(&store, "web", true),
            Err(RemoveError::Find(FindContainerError::NotFound(_)))
        ));
    }

    #[test]
    #[ignore = "root: opens a store as root"]
    fn root_a_process_that_took_the_pid_over_is_not_killed() {
        let mut child = Command::new("sleep").arg("1000").spawn().unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        let start_time = sys::process::start_time(pid).unwrap().unwrap();
        kill(pid, start_time + 1).unwrap();
        assert!(child.try_wait().unwrap().is_none());
        kill(pid, start_time).unwrap();
        assert!(!child.wait().unwrap().success());
        kill(pid, start_time).unwrap();
    }

    #[test]
    #[ignore = "root: opens a store as root"]
    fn root_what_rm_left_behind_goes_and_the_rest_stays() {
        let dir = tempfile::tempdir().unwrap();
        let store = store(&dir);
        let ended = ContainerState::Exited { code: 137, finished: None };
        for (name, auto_remove) in [("kept", false), ("left", true)] {
            let id = container(&store, name, auto_remove);
            store.set_container_state(&id, &ended).unwrap();
        }
        container(&store, "being-made", true);
        let mut containers = store.containers().unwrap();
        sweep(&store, &mut containers);
        for containers in [containers, store.containers().unwrap()] {
            let mut names: Vec<_> = containers.into_iter().map(|container| container.record.name).collect();
            names.sort();
            assert_eq!(names, ["being-made", "kept"]);
        }
    }
}
