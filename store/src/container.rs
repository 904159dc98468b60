//! Containers: a record, an upperdir and a workdir.
//!
//! `container.json` is written once, before the container has its name; its state lies beside it in `state.json`.
//! `.names/<name>` holds the id of whoever has the name: a claim by a container that isn't there counts as none.

use std::fs::{self, File};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use oci::ImageId;
use rustix::fs::{FlockOperation, Mode, OFlags};
use serde::{Deserialize, Serialize};

use crate::file::{
    OnPath, json_bytes, names_in, read_json, read_json_lossy, remove_if_there, write_new_json,
};
use crate::{FileError, LayerId, Store, lock, process};

/// What is known of a container: `containers/<id>/container.json`, and its state beside it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ContainerRecord {
    /// 64 hexadecimal digits.
    pub id: String,
    /// Unique in the store.
    pub name: String,
    /// What it was made from.
    pub image: ImageId,
    /// The image as it was asked for.
    pub reference: String,
    /// The image's layers, base first: the container keeps them even where the image goes.
    pub layers: Vec<LayerId>,
    /// The command as `ps` shows it: the whole argv.
    pub argv: Vec<String>,
    /// When it was made, RFC 3339.
    pub created: String,
    /// Whether it goes when it ends (`--rm`).
    #[serde(default)]
    pub auto_remove: bool,
    /// What it was made with, for `inspect`: the runner's own document.
    #[serde(default)]
    pub settings: serde_json::Value,
}

/// What a container does now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", tag = "status")]
pub enum ContainerState {
    /// Made, not started.
    Created,
    /// Its first process lives.
    Running {
        /// Its first process, as the host sees it.
        pid: i32,
        /// That process's start time in clock ticks since boot: tells it from a later one of the same pid.
        start_time: u64,
        /// The boot it lives in.
        boot_id: String,
        /// When it started, RFC 3339.
        started: String,
    },
    /// It ended.
    Exited {
        /// As a shell has it: `128 + n` after signal `n`; 137 when nobody saw it end: a container is killed when its
        /// parent dies.
        code: i32,
        /// When, RFC 3339; nothing when nobody saw it end.
        finished: Option<String>,
    },
}

/// A container as it is now.
#[derive(Clone, Debug, PartialEq)]
pub struct Container {
    /// What it was made with.
    pub record: ContainerRecord,
    /// What the kernel says it does, not what its file said last.
    pub state: ContainerState,
}

/// The folder of a container: `upper` and `work` in it are its overlay's.
#[derive(Debug)]
pub struct ContainerDir {
    path: PathBuf,
    dir: OwnedFd,
}

/// A container can't be made, read or removed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ContainerError {
    /// Another container has the name.
    #[error("the container name `{name}` is already in use by container `{id}`")]
    NameInUse {
        /// The name.
        name: String,
        /// Who has it.
        id: String,
    },
    /// docker's grammar of names.
    #[error("invalid container name `{0}`: only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed")]
    InvalidName(String),
    /// The id isn't 64 hexadecimal digits.
    #[error("invalid container id `{0}`")]
    InvalidId(String),
    /// A layer of it isn't in the store.
    #[error("no layer `{0}` in the store")]
    MissingLayer(LayerId),
    /// There is none of that id.
    #[error("no such container: `{0}`")]
    Missing(String),
    /// It runs.
    #[error("container `{0}` is running")]
    Running(String),
    /// A file of it can't be read or written.
    #[error(transparent)]
    File(#[from] FileError),
}

/// Why a text names no container.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FindContainerError {
    /// Neither a name nor the beginning of an id.
    #[error("no such container: `{0}`")]
    NotFound(String),
    /// The beginning of several ids.
    #[error("`{text}` is the beginning of several container ids: {}", candidates.join(", "))]
    Ambiguous {
        /// What was asked for.
        text: String,
        /// All that it may mean.
        candidates: Vec<String>,
    },
    /// Containers can't be read.
    #[error(transparent)]
    Container(#[from] ContainerError),
}

impl ContainerState {
    /// What it is now: a container that was last known to run but whose process is gone has exited unseen.
    fn checked_with_the_kernel(self, boot_id: &str) -> Self {
        match &self {
            Self::Running { pid, start_time, boot_id: boot, .. }
                if boot != boot_id || process::start_time(*pid) != Some(*start_time) =>
            {
                Self::Exited { code: 137, finished: None }
            }
            _ => self,
        }
    }
}

impl Store {
    /// A new container id: 64 random hexadecimal digits.
    pub fn new_container_id() -> String {
        crate::id::random_hex::<32>()
    }

    /// The state of a container whose first process is `pid` and has just started; nothing when it is gone already.
    pub fn running_state(&self, pid: i32, started: String) -> Option<ContainerState> {
        let start_time = process::start_time(pid)?;
        Some(ContainerState::Running { pid, start_time, boot_id: self.inner.boot_id.clone(), started })
    }

    /// Makes the folder of a container in state `created` and takes its name; atomic.
    ///
    /// One with `auto_remove` that hasn't started goes with the next sweep once the [`ContainerDir`] is dropped.
    ///
    /// # Errors
    ///
    /// [`ContainerError::NameInUse`] when another has the name.
    pub fn create_container(&self, record: &ContainerRecord) -> Result<ContainerDir, ContainerError> {
        if !is_id(&record.id) {
            return Err(ContainerError::InvalidId(record.id.clone()));
        }
        if !is_name(&record.name) {
            return Err(ContainerError::InvalidName(record.name.clone()));
        }
        let (made, dir) = lock::make_locked_dir(&self.layout().tmp(), &record.id)?;
        let placed = self.fill_container(&made, record).and_then(|()| self.place_container(&made, record));
        match placed {
            // It stays locked: a sweep tells by it whether whoever made it for `--rm` still lives.
            Ok(path) => Ok(ContainerDir { path, dir }),
            Err(error) => {
                let _ = self.discard(&made);
                Err(error)
            }
        }
    }

    fn fill_container(&self, made: &Path, record: &ContainerRecord) -> Result<(), ContainerError> {
        let upper = made.join("upper");
        fs::DirBuilder::new().mode(0o755).create(&upper).on("make", &upper)?;
        fs::set_permissions(&upper, fs::Permissions::from_mode(0o755)).on("make", &upper)?;
        let work = made.join("work");
        fs::DirBuilder::new().mode(0o700).create(&work).on("make", &work)?;
        write_new_json(&made.join("state.json"), &ContainerState::Created)?;
        write_new_json(&made.join("container.json"), record)?;
        Ok(())
    }

    fn place_container(&self, made: &Path, record: &ContainerRecord) -> Result<PathBuf, ContainerError> {
        let _passed = self.inner.gate.shared()?;
        if let Some(missing) = record.layers.iter().find(|layer| !self.layer_exists(**layer)) {
            return Err(ContainerError::MissingLayer(*missing));
        }
        let _names = self.lock_names()?;
        if let Some(id) = self.name_holder(&record.name) {
            return Err(ContainerError::NameInUse { name: record.name.clone(), id });
        }
        let claim = self.layout().container_name(&record.name);
        lock::replace_file(&self.layout().tmp(), &claim, record.id.as_bytes())?;
        let to = self.layout().container(&record.id);
        if let Err(error) = fs::rename(made, &to) {
            let _ = fs::remove_file(&claim);
            return Err(FileError::new("commit", to, error).into());
        }
        Ok(to)
    }

    /// One at a time takes or frees names.
    fn lock_names(&self) -> Result<File, FileError> {
        let path = self.layout().containers();
        let dir = File::open(&path).on("open", &path)?;
        lock::lock(&dir, FlockOperation::LockExclusive).on("lock", &path)?;
        Ok(dir)
    }

    /// The id of the container that has the name.
    fn name_holder(&self, name: &str) -> Option<String> {
        if !is_name(name) {
            return None;
        }
        let id = fs::read_to_string(self.layout().container_name(name)).ok()?;
        (is_id(&id) && self.layout().container(&id).exists()).then_some(id)
    }

    /// The folder of container `id`.
    ///
    /// # Errors
    ///
    /// [`ContainerError::Missing`] when there is none.
    pub fn container_dir(&self, id: &str) -> Result<ContainerDir, ContainerError> {
        let path = self.existing_container(id)?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let dir = rustix::fs::open(&path, flags, Mode::empty()).on("open", &path)?;
        Ok(ContainerDir { path, dir })
    }

    fn existing_container(&self, id: &str) -> Result<PathBuf, ContainerError> {
        if !is_id(id) {
            return Err(ContainerError::InvalidId(id.to_owned()));
        }
        let path = self.layout().container(id);
        if !path.exists() {
            return Err(ContainerError::Missing(id.to_owned()));
        }
        Ok(path)
    }

    /// Notes what container `id` does now.
    ///
    /// # Errors
    ///
    /// [`ContainerError`] when it can't be written.
    pub fn set_container_state(&self, id: &str, state: &ContainerState) -> Result<(), ContainerError> {
        let path = self.existing_container(id)?.join("state.json");
        Ok(lock::replace_file(&self.layout().tmp(), &path, &json_bytes(state))?)
    }

    /// The container `id` (a whole id).
    ///
    /// # Errors
    ///
    /// [`ContainerError::Missing`] when there is none.
    pub fn container(&self, id: &str) -> Result<Container, ContainerError> {
        let path = self.existing_container(id)?;
        let record: ContainerRecord =
            read_json(&path.join("container.json"))?.ok_or_else(|| ContainerError::Missing(id.to_owned()))?;
        // A state that a crash damaged: it isn't running any more.
        let state = read_json_lossy(&path.join("state.json"))
            .unwrap_or(ContainerState::Exited { code: 137, finished: None });
        Ok(Container { record, state: state.checked_with_the_kernel(&self.inner.boot_id) })
    }

    pub(crate) fn container_ids(&self) -> Result<Vec<String>, FileError> {
        Ok(names_in(&self.layout().containers())?.into_iter().filter(|name| is_id(name)).collect())
    }

    /// All containers, newest first.
    ///
    /// # Errors
    ///
    /// [`ContainerError`] when they can't be read.
    pub fn containers(&self) -> Result<Vec<Container>, ContainerError> {
        let mut containers = Vec::new();
        for id in self.container_ids()? {
            match self.container(&id) {
                Ok(container) => containers.push(container),
                Err(ContainerError::Missing(_)) => {}
                Err(error) => return Err(error),
            }
        }
        let created = |container: &Container| container.record.created.parse::<jiff::Timestamp>().ok();
        containers.sort_by(|a, b| created(b).cmp(&created(a)).then_with(|| a.record.id.cmp(&b.record.id)));
        Ok(containers)
    }

    /// The container that `text` names: docker's precedence is a whole id, a name, the beginning of an id.
    ///
    /// # Errors
    ///
    /// [`FindContainerError`] when it names none or several.
    pub fn find_container(&self, text: &str) -> Result<Container, FindContainerError> {
        if is_id(text) && self.layout().container(text).exists() {
            return Ok(self.container(text)?);
        }
        if let Some(id) = self.name_holder(text.strip_prefix('/').unwrap_or(text)) {
            return Ok(self.container(&id)?);
        }
        let mut candidates = self.container_ids().map_err(ContainerError::from)?;
        candidates.retain(|id| !text.is_empty() && id.starts_with(text));
        match &candidates[..] {
            [] => Err(FindContainerError::NotFound(text.to_owned())),
            [id] => Ok(self.container(id)?),
            _ => {
                candidates.sort();
                Err(FindContainerError::Ambiguous { text: text.to_owned(), candidates })
            }
        }
    }

    /// Removes container `id` (a whole id), its upperdir and its name.
    ///
    /// # Errors
    ///
    /// [`ContainerError::Running`] while it runs.
    pub fn remove_container(&self, id: &str) -> Result<(), ContainerError> {
        let _names = self.lock_names()?;
        let container = match self.container(id) {
            // Its document is damaged: it can only be removed.
            Err(ContainerError::File(_)) => None,
            other => Some(other?),
        };
        if container.as_ref().is_some_and(|it| matches!(it.state, ContainerState::Running { .. })) {
            return Err(ContainerError::Running(id.to_owned()));
        }
        self.discard(&self.layout().container(id))?;
        if let Some(container) = container {
            let claim = self.layout().container_name(&container.record.name);
            if fs::read_to_string(&claim).is_ok_and(|holder| holder == id) {
                remove_if_there(&claim)?;
            }
        }
        Ok(())
    }
}

fn is_id(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// docker's grammar, and short enough for a file name.
fn is_name(text: &str) -> bool {
    let mut bytes = text.bytes();
    bytes.next().is_some_and(|first| first.is_ascii_alphanumeric())
        && (2..=255).contains(&text.len())
        && bytes.all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte))
}

impl ContainerDir {
    /// Path of the folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Path of a file of the runner's own in it (`log`, `hosts`, `resolv.conf`).
    pub fn file(&self, name: &str) -> PathBuf {
        self.path().join(name)
    }

    /// The folder: `upper` and `work` in it are the overlay's.
    pub fn scratch_fd(&self) -> BorrowedFd<'_> {
        self.dir.as_fd()
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::testing::Place;

    pub(crate) fn record(name: &str, image: ImageId) -> ContainerRecord {
        ContainerRecord {
            id: Store::new_container_id(),
            name: name.to_owned(),
            image,
            reference: "app".to_owned(),
            layers: vec![],
            argv: vec!["sh".to_owned()],
            created: crate::file::now_text(),
            auto_remove: false,
            settings: serde_json::json!({ "tty": false }),
        }
    }

    pub(crate) fn running_here(store: &Store) -> ContainerState {
        store.running_state(std::process::id() as i32, crate::file::now_text()).unwrap()
    }

    fn named(name: &str) -> ContainerRecord {
        record(name, ImageId::new(oci::Digest::of(b"x")))
    }

    #[test]
    fn a_container_is_found_by_id_name_and_beginning_of_its_id() {
        let place = Place::new();
        let store = place.open();
        let (one, two) = (named("one"), named("two"));
        let dir = store.create_container(&one).unwrap();
        store.create_container(&two).unwrap();
        for folder in ["upper", "work"] {
            assert!(dir.file(folder).is_dir());
        }
        for text in [one.id.as_str(), "one", "/one", &one.id[..20]] {
            let found = store.find_container(text).unwrap();
            assert_eq!((found.record, found.state), (one.clone(), ContainerState::Created), "{text}");
        }
        assert_eq!(store.containers().unwrap().len(), 2);
        for text in ["", "three", "../x", ".names"] {
            assert!(matches!(store.find_container(text), Err(FindContainerError::NotFound(_))), "{text}");
        }
        // A name that is the beginning of another's id wins.
        let short = named(&two.id[..12]);
        store.create_container(&short).unwrap();
        assert_eq!(store.find_container(&two.id[..12]).unwrap().record, short);
    }

    #[test]
    fn a_name_is_taken_once_and_free_again_after_removal() {
        let place = Place::new();
        let store = place.open();
        let first = named("web");
        store.create_container(&first).unwrap();
        let error = store.create_container(&named("web")).unwrap_err();
        assert!(matches!(&error, ContainerError::NameInUse { id, .. } if *id == first.id), "{error}");
        store.remove_container(&first.id).unwrap();
        assert!(matches!(store.remove_container(&first.id), Err(ContainerError::Missing(_))));
        store.create_container(&named("web")).unwrap();
        // A claim whose container isn't there, as kill -9 between the two steps leaves it.
        fs::write(store.layout().container_name("db"), Store::new_container_id()).unwrap();
        store.create_container(&named("db")).unwrap();
        for bad in ["", "a", "-a", "a/b", "..", "a b", &"a".repeat(256)] {
            assert!(
                matches!(store.create_container(&named(bad)), Err(ContainerError::InvalidName(_))),
                "{bad}"
            );
        }
        assert_eq!(names_in(&store.layout().tmp()).unwrap(), [""; 0]);
    }

    #[test]
    fn of_many_that_want_one_name_one_gets_it() {
        let place = Place::new();
        let made: usize = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8)
                .map(|_| scope.spawn(|| usize::from(place.open().create_container(&named("web")).is_ok())))
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert_eq!(made, 1);
        assert_eq!(place.open().containers().unwrap().len(), 1);
    }

    #[test]
    fn a_running_container_whose_process_is_gone_has_exited() {
        let place = Place::new();
        let store = place.open();
        let record = named("web");
        store.create_container(&record).unwrap();
        let running = running_here(&store);
        store.set_container_state(&record.id, &running).unwrap();
        assert_eq!(store.container(&record.id).unwrap().state, running);
        assert!(matches!(store.remove_container(&record.id), Err(ContainerError::Running(_))));
        let unseen = ContainerState::Exited { code: 137, finished: None };
        let ContainerState::Running { pid, start_time, boot_id, started } = running else { unreachable!() };
        // The same pid, another process; another boot; no such process.
        for (pid, start_time, boot_id) in
            [(pid, start_time + 1, boot_id.clone()), (pid, start_time, "b".into()), (i32::MAX, 0, boot_id)]
        {
            let state = ContainerState::Running { pid, start_time, boot_id, started: started.clone() };
            store.set_container_state(&record.id, &state).unwrap();
            assert_eq!(store.container(&record.id).unwrap().state, unseen);
        }
        fs::write(store.layout().container(&record.id).join("state.json"), "").unwrap();
        assert_eq!(store.container(&record.id).unwrap().state, unseen);
        store.remove_container(&record.id).unwrap();
    }
}
