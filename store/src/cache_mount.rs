//! Cache mounts: folders that outlive the steps that mount them.
//!
//! `mounts/<scope>/<hash of the id>/` has `data`, `mount.json` with the id as it was written, and `ready` once the
//! first user has filled it. The folder itself is locked while a step uses it: shared by those that share it,
//! exclusively by those that don't. The id is a Dockerfile's text and is never part of a path (rule R5).

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, Mode, OFlags, RenameFlags};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use crate::file::{OnPath, names_in, now_text, read_json_lossy, write_new_json};
use crate::id::random_hex;
use crate::layout::Layout;
use crate::{FileError, Store, lock};

/// How steps that run at once share a cache mount (Dockerfile reference, `--mount=type=cache`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Sharing {
    /// All use it at once.
    Shared,
    /// Each gets one of its own.
    Private,
    /// One at a time, the others wait.
    Locked,
}

/// A cache mount in use, locked as its sharing says until it is dropped.
#[derive(Debug)]
pub struct CacheMount {
    path: PathBuf,
    lock: File,
    data: OwnedFd,
    sharing: Sharing,
    is_new: bool,
}

/// A cache mount as listings show it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CacheMountRecord {
    /// Who shares it.
    pub scope: String,
    /// Its id as the Dockerfile has it.
    pub id: String,
    /// When it was made, RFC 3339.
    pub created: String,
}

/// A cache mount can't be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CacheMountError {
    /// A file of it can't be made, opened or locked.
    #[error(transparent)]
    File(#[from] FileError),
}

impl Store {
    /// The cache mount `id` of `scope`, made where there is none. `on_wait` is called once, before it waits for one
    /// that another step uses in a way that excludes this one.
    ///
    /// # Errors
    ///
    /// [`CacheMountError`] when it can't be made or locked.
    pub fn cache_mount(
        &self,
        scope: &str,
        id: &str,
        sharing: Sharing,
        on_wait: &mut dyn FnMut(),
    ) -> Result<CacheMount, CacheMountError> {
        let parent = self.layout().mount_scope(scope);
        match fs::DirBuilder::new().mode(0o700).create(&parent) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            other => other.on("make", &parent)?,
        }
        let name = Layout::mount_name(id);
        let record = CacheMountRecord { scope: scope.to_owned(), id: id.to_owned(), created: now_text() };
        if sharing == Sharing::Private {
            for number in 0_u32.. {
                let path = parent.join(if number == 0 { name.clone() } else { format!("{name}-{number}") });
                let mut is_taken = false;
                let mount = self.open_mount(&path, &record, sharing, &mut || {
                    is_taken = true;
                    Wait::GiveUp
                })?;
                if let Some(mount) = mount {
                    return Ok(mount);
                }
            }
        }
        let mut told = false;
        let mut wait = || {
            if !told {
                on_wait();
                told = true;
            }
            Wait::Block
        };
        let path = parent.join(name);
        Ok(self.open_mount(&path, &record, sharing, &mut wait)?.expect("it waits and doesn't give up"))
    }

    /// Opens and locks the cache mount at `path`; nothing when it is in use and `wait` gives up.
    fn open_mount(
        &self,
        path: &Path,
        record: &CacheMountRecord,
        sharing: Sharing,
        wait: &mut dyn FnMut() -> Wait,
    ) -> Result<Option<CacheMount>, FileError> {
        loop {
            let dir = match File::open(path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    self.make_mount(path, record)?;
                    continue;
                }
                other => other.on("open", path)?,
            };
            let ready = path.join("ready");
            // Whoever is first fills it, and nobody else sees it before.
            let exclusive = sharing != Sharing::Shared || !ready.exists();
            let try_operation = if exclusive {
                FlockOperation::NonBlockingLockExclusive
            } else {
                FlockOperation::NonBlockingLockShared
            };
            if !lock::try_lock_as(&dir, try_operation).on("lock", path)? {
                match wait() {
                    Wait::GiveUp => return Ok(None),
                    Wait::Block if sharing == Sharing::Shared => {
                        // Only until it is filled, not until its user is done; then looked at anew.
                        lock::lock(&dir, FlockOperation::LockShared).on("lock", path)?;
                        continue;
                    }
                    Wait::Block => lock::lock(&dir, FlockOperation::LockExclusive).on("lock", path)?,
                }
            }
            // It may have been pruned, or filled, meanwhile.
            if !lock::is_at(&dir, path).on("lock", path)? {
                continue;
            }
            let is_new = !ready.exists();
            if is_new && !exclusive {
                continue;
            }
            if !is_new && exclusive && sharing == Sharing::Shared {
                lock::lock(&dir, FlockOperation::LockShared).on("lock", path)?;
                if !lock::is_at(&dir, path).on("lock", path)? {
                    continue;
                }
            }
            let data_path = path.join("data");
            if is_new {
                // Whoever was to fill it died on the way.
                self.discard(&data_path)?;
                make_data(&data_path)?;
            }
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
            let data = rustix::fs::open(&data_path, flags, Mode::empty()).on("open", &data_path)?;
            return Ok(Some(CacheMount { path: path.to_owned(), lock: dir, data, sharing, is_new }));
        }
    }

    fn make_mount(&self, path: &Path, record: &CacheMountRecord) -> Result<(), FileError> {
        let (made, _locked) = lock::make_locked_dir(&self.layout().tmp(), &random_hex::<8>())?;
        make_data(&made.join("data"))?;
        write_new_json(&made.join("mount.json"), record)?;
        let cwd = rustix::fs::CWD;
        match rustix::fs::renameat_with(cwd, &made, cwd, path, RenameFlags::NOREPLACE) {
            Err(Errno::EXIST) => self.discard(&made),
            other => other.on("make", path),
        }
    }

    /// All cache mounts; private copies are listed as the mounts they are.
    ///
    /// # Errors
    ///
    /// [`CacheMountError`] when they can't be read.
    pub fn cache_mounts(&self) -> Result<Vec<CacheMountRecord>, CacheMountError> {
        let paths = self.cache_mount_paths()?;
        let mut records: Vec<CacheMountRecord> =
            paths.iter().filter_map(|path| read_json_lossy(&path.join("mount.json"))).collect();
        records.sort_by(|a, b| (&a.scope, &a.id).cmp(&(&b.scope, &b.id)));
        Ok(records)
    }

    pub(crate) fn cache_mount_paths(&self) -> Result<Vec<PathBuf>, FileError> {
        let mounts = self.layout().mounts();
        let mut paths = Vec::new();
        for scope in names_in(&mounts)? {
            let dir = mounts.join(scope);
            paths.extend(names_in(&dir)?.into_iter().map(|name| dir.join(name)));
        }
        Ok(paths)
    }
}

enum Wait {
    Block,
    GiveUp,
}

fn make_data(path: &Path) -> Result<(), FileError> {
    fs::DirBuilder::new().mode(0o755).create(path).on("make", path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).on("make", path)
}

impl CacheMount {
    /// Its folder, open for reading: the source of the bind.
    pub fn data_fd(&self) -> BorrowedFd<'_> {
        self.data.as_fd()
    }

    /// Whether it is empty and nobody else sees it, so that `from=`, `mode=`, `uid=` and `gid=` have to be applied.
    /// [`CacheMount::set_ready`] has to be called afterwards, in any case: until then others wait.
    pub fn is_new(&self) -> bool {
        self.is_new
    }

    /// Lets others see it, as its sharing says. Does nothing when it isn't new.
    ///
    /// # Errors
    ///
    /// [`CacheMountError`]; the next user then finds it new and empty.
    pub fn set_ready(&mut self) -> Result<(), CacheMountError> {
        if !self.is_new {
            return Ok(());
        }
        let ready = self.path.join("ready");
        File::create(&ready).on("make", &ready)?;
        self.is_new = false;
        if self.sharing == Sharing::Shared {
            // A held exclusive lock becomes a shared one at once, for nobody can hold another meanwhile.
            lock::lock(&self.lock, FlockOperation::LockShared).on("lock", &self.path)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;
    use crate::testing::Place;

    fn no_wait() {
        panic!("nobody else uses it");
    }

    fn ready(store: &Store, id: &str, sharing: Sharing) -> CacheMount {
        let mut mount = store.cache_mount("default", id, sharing, &mut no_wait).unwrap();
        mount.set_ready().unwrap();
        mount
    }

    #[test]
    fn a_shared_mount_that_somebody_fills_is_waited_for_only_until_it_is_filled() {
        let place = Place::new();
        let store = place.open();
        let mut first = store.cache_mount("default", "c", Sharing::Shared, &mut no_wait).unwrap();
        assert!(first.is_new());
        std::thread::scope(|scope| {
            let (sender, receiver) = mpsc::channel();
            let other = store.clone();
            let waiter = scope.spawn(move || {
                other
                    .cache_mount("default", "c", Sharing::Shared, &mut || sender.send(()).unwrap())
                    .unwrap()
                    .is_new()
            });
            receiver.recv().unwrap();
            first.set_ready().unwrap();
            // `first` is still held.
            assert!(!waiter.join().unwrap());
        });
        drop(first);
    }

    #[test]
    fn what_is_left_in_it_is_there_again() {
        let place = Place::new();
        let store = place.open();
        let mut mount = store.cache_mount("default", "../../etc", Sharing::Locked, &mut no_wait).unwrap();
        assert!(mount.is_new());
        fs::write(mount.path.join("data/kept"), "").unwrap();
        mount.set_ready().unwrap();
        drop(mount);
        let mount = store.cache_mount("default", "../../etc", Sharing::Locked, &mut no_wait).unwrap();
        assert!(!mount.is_new());
        assert!(mount.path.join("data/kept").exists());
        assert!(mount.path.starts_with(store.layout().mounts()));
        let other = ready(&store, "other", Sharing::Shared);
        assert!(!other.path.join("data/kept").exists());
        let ids: Vec<String> = store.cache_mounts().unwrap().into_iter().map(|record| record.id).collect();
        assert_eq!(ids, ["../../etc", "other"]);
    }

    #[test]
    fn one_that_nobody_finished_filling_is_new_and_empty_again() {
        let place = Place::new();
        let store = place.open();
        let mount = store.cache_mount("default", "a", Sharing::Shared, &mut no_wait).unwrap();
        fs::write(mount.path.join("data/half"), "").unwrap();
        drop(mount);
        let mount = store.cache_mount("default", "a", Sharing::Shared, &mut no_wait).unwrap();
        assert!(mount.is_new());
        assert!(!mount.path.join("data/half").exists());
    }

    #[test]
    fn shared_ones_are_used_at_once_and_private_ones_are_apart() {
        let place = Place::new();
        let store = place.open();
        let first = ready(&store, "s", Sharing::Shared);
        let second = ready(&store, "s", Sharing::Shared);
        assert_eq!(first.path, second.path);
        let (one, two) = (ready(&store, "p", Sharing::Private), ready(&store, "p", Sharing::Private));
        assert_ne!(one.path, two.path);
        let path = one.path.clone();
        drop(one);
        assert_eq!(ready(&store, "p", Sharing::Private).path, path);
    }

    #[test]
    fn a_locked_one_makes_the_next_wait() {
        let place = Place::new();
        let store = place.open();
        for (held, wanted) in [(Sharing::Locked, Sharing::Locked), (Sharing::Locked, Sharing::Shared)] {
            let first = ready(&store, "l", held);
            let (told, waits) = mpsc::channel();
            std::thread::scope(|scope| {
                let other = place.open();
                let second = scope.spawn(move || {
                    let mut on_wait = || told.send(()).unwrap();
                    other.cache_mount("default", "l", wanted, &mut on_wait).unwrap();
                });
                waits.recv().unwrap();
                assert!(!second.is_finished());
                drop(first);
                second.join().unwrap();
            });
        }
    }
}
