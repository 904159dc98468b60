//! Locks between processes: `flock(2)`, freed by the kernel when their holder dies.
//!
//! Three kinds: *step locks*, one file for each key under RUNTIME/locks; the *gate*, the store's `format` file, held
//! shared while somebody names a layer or an image and exclusively by whoever removes some; and what lies under
//! `tmp/`, each locked by its maker, so that the next process can tell what a dead one left.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::io::Errno;

use crate::file::OnPath;
use crate::id::random_hex;
use crate::{FileError, StepKey, Store};

/// The right to execute one step; freed on drop.
#[derive(Debug)]
pub struct StepLock {
    _file: FileLock,
}

/// A lock can't be taken.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LockError {
    /// Its file can't be made or locked.
    #[error(transparent)]
    File(#[from] FileError),
}

impl Store {
    /// Waits until nobody else executes the step `key`. `on_wait` is called once, before it waits.
    ///
    /// # Errors
    ///
    /// [`LockError`] when the lock's file can't be made.
    pub fn lock_step(&self, key: &StepKey, on_wait: &mut dyn FnMut()) -> Result<StepLock, LockError> {
        let path = self.layout().step_lock(key);
        if let Some(file) = FileLock::try_new(&path)? {
            return Ok(StepLock { _file: file });
        }
        on_wait();
        Ok(StepLock { _file: FileLock::new(&path)? })
    }

    /// The lock of step `key`, or nothing when somebody else has it: for callers that wait in their own way.
    ///
    /// # Errors
    ///
    /// [`LockError`] when the lock's file can't be made.
    pub fn try_lock_step(&self, key: &StepKey) -> Result<Option<StepLock>, LockError> {
        Ok(FileLock::try_new(&self.layout().step_lock(key))?.map(|file| StepLock { _file: file }))
    }
}

/// Locks `fd`, waiting for it.
pub(crate) fn lock(fd: impl AsFd, operation: FlockOperation) -> io::Result<()> {
    loop {
        match rustix::fs::flock(&fd, operation) {
            Err(Errno::INTR) => {}
            other => return Ok(other?),
        }
    }
}

/// Locks `fd` exclusively, or says that somebody else has it.
pub(crate) fn try_lock(fd: impl AsFd) -> io::Result<bool> {
    try_lock_as(fd, FlockOperation::NonBlockingLockExclusive)
}

/// Locks `fd` without waiting, or says that somebody else has it.
pub(crate) fn try_lock_as(fd: impl AsFd, operation: FlockOperation) -> io::Result<bool> {
    match rustix::fs::flock(fd, operation) {
        Ok(()) => Ok(true),
        Err(Errno::WOULDBLOCK) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Whether `path` still names the file behind `fd`.
pub(crate) fn is_at(fd: impl AsFd, path: &Path) -> io::Result<bool> {
    let open = rustix::fs::fstat(fd)?;
    match fs::symlink_metadata(path) {
        Ok(named) => Ok(named.ino() == open.st_ino && named.dev() == open.st_dev),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// A locked file that exists only while it is locked.
#[derive(Debug)]
pub(crate) struct FileLock {
    path: PathBuf,
    file: File,
}

impl FileLock {
    pub(crate) fn new(path: &Path) -> Result<Self, FileError> {
        loop {
            let file = open_lock_file(path).on("open the lock", path)?;
            lock(&file, FlockOperation::LockExclusive).on("lock", path)?;
            // Its last holder may have removed it before it freed it.
            if is_at(&file, path).on("lock", path)? {
                return Ok(Self { path: path.to_owned(), file });
            }
        }
    }

    pub(crate) fn try_new(path: &Path) -> Result<Option<Self>, FileError> {
        loop {
            let file = open_lock_file(path).on("open the lock", path)?;
            if !try_lock(&file).on("lock", path)? {
                return Ok(None);
            }
            if is_at(&file, path).on("lock", path)? {
                return Ok(Some(Self { path: path.to_owned(), file }));
            }
        }
    }

    /// Removes the lock's file where nobody holds it: what a killed process left.
    pub(crate) fn remove_stale(path: &Path) -> Result<bool, FileError> {
        let Ok(file) = File::open(path) else { return Ok(false) };
        if !try_lock(&file).on("lock", path)? {
            return Ok(false);
        }
        if !is_at(&file, path).on("lock", path)? {
            return Ok(false);
        }
        drop(Self { path: path.to_owned(), file });
        Ok(true)
    }
}

impl Drop for FileLock {
    fn drop(&mut self) {
        // Removed while it is held: whoever waits for it sees that it is gone, and makes another.
        if is_at(&self.file, &self.path).unwrap_or(false) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn open_lock_file(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)
}

/// The gate of a store: shared while references are made, exclusive while things are removed.
#[derive(Debug)]
pub(crate) struct Gate {
    file: Mutex<File>,
    path: PathBuf,
}

/// The gate, passed; freed on drop. Threads of one process pass one by one: what is done inside is short.
#[derive(Debug)]
pub(crate) struct Passed<'a> {
    file: MutexGuard<'a, File>,
}

impl Gate {
    pub(crate) fn new(file: File, path: PathBuf) -> Self {
        Self { file: Mutex::new(file), path }
    }

    pub(crate) fn shared(&self) -> Result<Passed<'_>, FileError> {
        self.pass(FlockOperation::LockShared)
    }

    pub(crate) fn exclusive(&self) -> Result<Passed<'_>, FileError> {
        self.pass(FlockOperation::LockExclusive)
    }

    fn pass(&self, operation: FlockOperation) -> Result<Passed<'_>, FileError> {
        let file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        lock(&*file, operation).on("lock", &self.path)?;
        Ok(Passed { file })
    }
}

impl Drop for Passed<'_> {
    fn drop(&mut self) {
        let _ = rustix::fs::flock(&*self.file, FlockOperation::Unlock);
    }
}

/// Makes a folder under `tmp`, locked for as long as the descriptor lives.
///
/// A sweeper that comes between the two takes it for a dead process's and moves it away: once it lets go of the lock
/// there is another try.
pub(crate) fn make_locked_dir(tmp: &Path, name: &str) -> Result<(PathBuf, OwnedFd), FileError> {
    let path = tmp.join(name);
    loop {
        fs::DirBuilder::new().mode(0o700).create(&path).on("make", &path)?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let dir = match rustix::fs::open(&path, flags, Mode::empty()) {
            Err(Errno::NOENT) => continue,
            other => other.on("open", &path)?,
        };
        lock(&dir, FlockOperation::LockExclusive).on("lock", &path)?;
        if is_at(&dir, &path).on("lock", &path)? {
            return Ok((path, dir));
        }
    }
}

/// Makes a file under `tmp`, locked for as long as the descriptor lives.
pub(crate) fn make_locked_file(tmp: &Path, name: &str) -> Result<(PathBuf, File), FileError> {
    let path = tmp.join(name);
    loop {
        let file = OpenOptions::new().append(true).read(true).create_new(true).mode(0o600).open(&path);
        let file = file.on("make", &path)?;
        lock(&file, FlockOperation::LockExclusive).on("lock", &path)?;
        if is_at(&file, &path).on("lock", &path)? {
            return Ok((path, file));
        }
    }
}

/// Puts `bytes` at `path` in one step: whoever reads sees the old file or the new one.
pub(crate) fn replace_file(tmp: &Path, path: &Path, bytes: &[u8]) -> Result<(), FileError> {
    use std::io::Write as _;
    let (made, mut file) = make_locked_file(tmp, &random_hex::<8>())?;
    let written =
        file.write_all(bytes).on("write", &made).and_then(|()| fs::rename(&made, path).on("replace", path));
    if written.is_err() {
        let _ = fs::remove_file(&made);
    }
    written
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn a_file_lock_excludes_others_and_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let held = FileLock::try_new(&path).unwrap().unwrap();
        assert!(FileLock::try_new(&path).unwrap().is_none());
        assert!(!FileLock::remove_stale(&path).unwrap());
        drop(held);
        assert!(!path.exists());
    }

    #[test]
    fn only_one_thread_is_inside_though_the_file_is_removed_again_and_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let inside = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..300 {
                        let _held = FileLock::new(&path).unwrap();
                        assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0);
                        // Time for another to come in.
                        std::thread::sleep(std::time::Duration::from_micros(20));
                        inside.fetch_sub(1, Ordering::SeqCst);
                    }
                });
            }
        });
        assert!(!path.exists());
    }

    #[test]
    fn a_stale_lock_file_is_removed_and_a_held_one_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        fs::write(&path, "").unwrap();
        assert!(FileLock::remove_stale(&path).unwrap());
        assert!(!path.exists());
    }
}
