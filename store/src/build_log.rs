//! Logs of builds: `builds/<id>/build.json` and one `<n>.log` for each step that ran.

use std::fs::File;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::{FileError, LayerDraft, Store};

/// What a build was, for its folder's `build.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BuildInfo {
    /// The Dockerfile as given.
    pub dockerfile: String,
    /// The target stage, where one was asked for.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub target: Option<String>,
    /// When it started, RFC 3339.
    pub started: String,
}

/// The folder of one build's logs.
#[derive(Debug)]
pub struct BuildLog {
    _store: Store,
}

/// Logs can't be written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BuildLogError {
    /// A file can't be made or written.
    #[error(transparent)]
    File(#[from] FileError),
}

impl Store {
    /// A folder for the logs of a build that starts now.
    ///
    /// # Errors
    ///
    /// [`BuildLogError`] when it can't be made.
    pub fn build_log(&self, info: &BuildInfo) -> Result<BuildLog, BuildLogError> {
        let _ = info;
        todo!()
    }

    /// Keeps the upper of a failed step under `failed/` and says where. Only the last few are kept.
    ///
    /// # Errors
    ///
    /// [`BuildLogError`]; the draft is then in the trash.
    pub fn keep_failed(&self, draft: LayerDraft, name: &str) -> Result<PathBuf, BuildLogError> {
        let _ = (draft, name);
        todo!()
    }
}

impl BuildLog {
    /// The build's id.
    pub fn id(&self) -> &str {
        todo!()
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        todo!()
    }

    /// The log of step `number`, open for appending, and its path for messages.
    ///
    /// # Errors
    ///
    /// [`BuildLogError`] when it can't be made.
    pub fn step(&self, number: usize) -> Result<(File, PathBuf), BuildLogError> {
        let _ = number;
        todo!()
    }

    /// Notes how the build ended: `error` is its one line, nothing after success.
    ///
    /// # Errors
    ///
    /// [`BuildLogError`] when it can't be written.
    pub fn finish(self, finished: &str, error: Option<&str>) -> Result<(), BuildLogError> {
        let _ = (finished, error);
        todo!()
    }
}
