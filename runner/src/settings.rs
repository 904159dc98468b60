//! What a container was made with: the runner's own part of its record.

use serde::{Deserialize, Serialize};
use store::ContainerRecord;

/// How a container runs, image and flags put together.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "snake_case")]
pub struct Settings {
    /// Name of the host inside.
    pub hostname: String,
    /// `user[:group]`, not resolved.
    pub user: String,
    /// `KEY=value`, without what start adds.
    pub env: Vec<String>,
    /// Absolute.
    pub working_dir: String,
    /// As the image or `--entrypoint` has it.
    pub entrypoint: Option<Vec<String>>,
    /// The arguments.
    pub cmd: Option<Vec<String>>,
    /// `-v` as given.
    pub binds: Vec<String>,
    /// What they are.
    pub mounts: Vec<Mount>,
    /// `host` or `none`.
    pub network: String,
    /// Whether root inside is root on the host.
    pub host_userns: bool,
    /// Whether stdin is passed on.
    pub interactive: bool,
    /// Whether it has a terminal.
    pub tty: bool,
}

/// A bind, as docker's API shows it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Mount {
    /// `bind`.
    #[serde(rename = "Type")]
    pub kind: String,
    /// On the host.
    pub source: String,
    /// In the container.
    pub destination: String,
    /// `ro` or empty.
    pub mode: String,
    /// Whether it can be written.
    #[serde(rename = "RW")]
    pub writable: bool,
    /// How mounts below it spread.
    pub propagation: String,
}

/// The record's settings were written by another version.
#[derive(Debug, thiserror::Error)]
#[error("cannot read the settings of container `{id}`")]
pub struct SettingsError {
    id: String,
    source: serde_json::Error,
}

impl Settings {
    /// Those that `record` was made with.
    ///
    /// # Errors
    ///
    /// [`SettingsError`] when they are of another form.
    pub fn from_record(record: &ContainerRecord) -> Result<Self, SettingsError> {
        serde_json::from_value(record.settings.clone())
            .map_err(|source| SettingsError { id: record.id.clone(), source })
    }
}
