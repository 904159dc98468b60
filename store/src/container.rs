//! Containers: a record, an upperdir and a workdir.

use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};

use oci::ImageId;
use serde::{Deserialize, Serialize};

use crate::{FileError, LayerId, Store};

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
        /// As a shell has it: `128 + n` after signal `n`; 255 when nobody saw it end.
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
    _store: Store,
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

impl Store {
    /// A new container id: 64 random hexadecimal digits.
    pub fn new_container_id() -> String {
        crate::id::random_hex::<32>()
    }

    /// Makes the folder of a container in state `created` and takes its name; atomic.
    ///
    /// # Errors
    ///
    /// [`ContainerError::NameInUse`] when another has the name.
    pub fn create_container(&self, record: &ContainerRecord) -> Result<ContainerDir, ContainerError> {
        let _ = record;
        todo!()
    }

    /// The folder of container `id`.
    ///
    /// # Errors
    ///
    /// [`ContainerError::Missing`] when there is none.
    pub fn container_dir(&self, id: &str) -> Result<ContainerDir, ContainerError> {
        let _ = id;
        todo!()
    }

    /// Notes what container `id` does now.
    ///
    /// # Errors
    ///
    /// [`ContainerError`] when it can't be written.
    pub fn set_container_state(&self, id: &str, state: &ContainerState) -> Result<(), ContainerError> {
        let _ = (id, state);
        todo!()
    }

    /// All containers, newest first.
    ///
    /// # Errors
    ///
    /// [`ContainerError`] when they can't be read.
    pub fn containers(&self) -> Result<Vec<Container>, ContainerError> {
        todo!()
    }

    /// The container that `text` names: docker's precedence is a whole id, a name, the beginning of an id.
    ///
    /// # Errors
    ///
    /// [`FindContainerError`] when it names none or several.
    pub fn find_container(&self, text: &str) -> Result<Container, FindContainerError> {
        let _ = text;
        todo!()
    }

    /// Removes container `id` (a whole id), its upperdir and its name.
    ///
    /// # Errors
    ///
    /// [`ContainerError::Running`] while it runs.
    pub fn remove_container(&self, id: &str) -> Result<(), ContainerError> {
        let _ = id;
        todo!()
    }
}

impl ContainerDir {
    /// Path of the folder.
    pub fn path(&self) -> &Path {
        todo!()
    }

    /// Path of a file of the runner's own in it (`log`, `hosts`, `resolv.conf`).
    pub fn file(&self, name: &str) -> PathBuf {
        self.path().join(name)
    }

    /// The folder: `upper` and `work` in it are the overlay's.
    pub fn scratch_fd(&self) -> BorrowedFd<'_> {
        todo!()
    }
}
