//! Logs of builds: `builds/<id>/build.json` and one `<n>.log` for each step that ran.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::file::{OnPath, json_bytes, names_in, write_new_json};
use crate::id::random_hex;
use crate::{FileError, LayerDraft, Store, lock};

/// How many uppers of failed steps are kept.
pub(crate) const FAILED_KEPT: usize = 4;

/// How many builds' logs are kept.
pub(crate) const BUILDS_KEPT: usize = 100;

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

/// The content of `build.json`.
#[derive(Serialize, Deserialize)]
struct BuildDocument {
    #[serde(flatten)]
    info: BuildInfo,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    finished: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    error: Option<String>,
}

/// The folder of one build's logs.
#[derive(Debug)]
pub struct BuildLog {
    store: Store,
    id: String,
    path: PathBuf,
    info: BuildInfo,
}

/// Logs can't be written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BuildLogError {
    /// A file can't be made or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// A failed step's upper would take what the next build needs.
    #[error("the disk is nearly full")]
    NearlyFull,
}

impl Store {
    /// A folder for the logs of a build that starts now.
    ///
    /// # Errors
    ///
    /// [`BuildLogError`] when it can't be made.
    pub fn build_log(&self, info: &BuildInfo) -> Result<BuildLog, BuildLogError> {
        // Names sort by time.
        let id = format!("{:011x}{}", jiff::Timestamp::now().as_millisecond(), random_hex::<4>());
        let (made, _locked) = lock::make_locked_dir(&self.layout().tmp(), &random_hex::<8>())?;
        let document = BuildDocument { info: info.clone(), finished: None, error: None };
        write_new_json(&made.join("build.json"), &document)?;
        let path = self.layout().builds().join(&id);
        fs::rename(&made, &path).on("make", &path)?;
        Ok(BuildLog { store: self.clone(), id, path, info: info.clone() })
    }

    /// Keeps the upper of a failed step under `failed/` and says where. Only the last few are kept, and none on a disk
    /// of which less than a twentieth is free: a step that filled the disk would leave no room for the next build.
    ///
    /// # Errors
    ///
    /// [`BuildLogError`]; the draft is then in the trash.
    pub fn keep_failed(&self, draft: LayerDraft, name: &str) -> Result<PathBuf, BuildLogError> {
        let time = jiff::Timestamp::now().as_millisecond();
        let plain: String = name
            .chars()
            .map(|it| if it.is_ascii_alphanumeric() || "_.-".contains(it) { it } else { '_' })
            .take(64)
            .collect();
        let path = self.layout().failed().join(format!("{time:011x}{}-{plain}", random_hex::<2>()));
        let failed = self.layout().failed();
        let disk = rustix::fs::statvfs(&failed).on("look at the file system of", &failed)?;
        if disk.f_bavail < disk.f_blocks / 20 {
            return Err(BuildLogError::NearlyFull);
        }
        draft.place(&path)?;
        self.keep_newest(&failed, FAILED_KEPT)?;
        Ok(path)
    }

    /// Moves all but the newest `count` of a folder to the trash; its names sort by time.
    pub(crate) fn keep_newest(&self, dir: &Path, count: usize) -> Result<(), FileError> {
        let mut names = names_in(dir)?;
        names.sort();
        let old = names.len().saturating_sub(count);
        names[..old].iter().try_for_each(|name| self.discard(&dir.join(name)))
    }
}

impl BuildLog {
    /// The build's id.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The log of step `number`, open for appending, and its path for messages.
    ///
    /// # Errors
    ///
    /// [`BuildLogError`] when it can't be made.
    pub fn step(&self, number: usize) -> Result<(File, PathBuf), BuildLogError> {
        let path = self.path.join(format!("{number}.log"));
        let file = OpenOptions::new().append(true).create(true).mode(0o600).open(&path).on("make", &path)?;
        Ok((file, path))
    }

    /// Notes how the build ended: `error` is its one line, nothing after success.
    ///
    /// # Errors
    ///
    /// [`BuildLogError`] when it can't be written.
    pub fn finish(self, finished: &str, error: Option<&str>) -> Result<(), BuildLogError> {
        let document = BuildDocument {
            info: self.info,
            finished: Some(finished.to_owned()),
            error: error.map(str::to_owned),
        };
        let path = self.path.join("build.json");
        Ok(lock::replace_file(&self.store.layout().tmp(), &path, &json_bytes(&document))?)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;
    use crate::testing::Place;

    #[test]
    fn a_builds_logs_are_named_and_its_end_is_noted() {
        let place = Place::new();
        let store = place.open();
        let info = BuildInfo { dockerfile: "Dockerfile".into(), target: None, started: "t".into() };
        let log = store.build_log(&info).unwrap();
        let (mut file, path) = log.step(3).unwrap();
        file.write_all(b"hello").unwrap();
        assert_eq!(path, store.layout().builds().join(log.id()).join("3.log"));
        assert_eq!(fs::read(&path).unwrap(), b"hello");
        let document = log.path().join("build.json");
        log.finish("later", Some("it failed")).unwrap();
        let document: BuildDocument = serde_json::from_slice(&fs::read(document).unwrap()).unwrap();
        assert_eq!(
            (document.finished.as_deref(), document.error.as_deref()),
            (Some("later"), Some("it failed"))
        );
    }

    #[test]
    fn only_the_last_failed_uppers_are_kept() {
        let place = Place::new();
        let store = place.open();
        let mut paths = Vec::new();
        for number in 0..FAILED_KEPT + 2 {
            let draft = store.draft().unwrap();
            fs::write(draft.tree_path().join("f"), number.to_string()).unwrap();
            paths.push(store.keep_failed(draft, "../RUN make").unwrap());
            // Names sort by milliseconds.
            let now = jiff::Timestamp::now().as_millisecond();
            while jiff::Timestamp::now().as_millisecond() == now {}
        }
        let kept = &paths[2..];
        assert!(paths[..2].iter().all(|path| !path.exists()));
        assert!(
            kept.iter()
                .all(|path| path.join("tree/f").exists() && path.parent() == Some(&store.layout().failed()))
        );
    }
}
