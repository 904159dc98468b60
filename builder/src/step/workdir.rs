//! WORKDIR: the directory, made if it is missing.

use std::path::{Path, PathBuf};

use store::tree_writer::{Attributes, TreeWriter, WriteError};
use sys::file::Timestamp;

use crate::cache::{Obtained, StepSite};
use crate::error::StepError;
use crate::expanded::WorkdirStep;
use crate::input::workdir_inputs;
use crate::step::copier::write_failed;
use crate::step::users;

/// Carries WORKDIR out. What is made belongs to the current USER (D-123); what exists stays as it is.
pub(crate) fn workdir(site: &StepSite<'_, '_>, workdir: &WorkdirStep) -> Result<Obtained, StepError> {
    let executor = site.executor;
    site.with_stable_sources(|_| {
        let inputs = workdir_inputs(workdir, executor.epoch, &site.below.parent);
        site.obtain(inputs, &[], &mut |draft, _| {
            let image = executor.merged(&site.below.layers)?;
            let (ids, _) = users::ids(&image, &workdir.user)?;
            let path = Path::new(&workdir.path);
            if image.resolve(path).is_ok_and(|node| node.as_dir().is_some()) {
                return Ok(());
            }
            let tree = draft.tree_fd().try_clone_to_owned().map_err(|source| {
                write_failed(WriteError::Io { op: "open", path: PathBuf::from("/"), source })
            })?;
            let now = Timestamp::now();
            let mtime = executor.epoch.map_or(now, |epoch| now.min(Timestamp::from_seconds(epoch)));
            let missing = Attributes {
                owner: sys::file::Owner { uid: ids.uid, gid: ids.gid },
                ..Attributes::parent_dir(mtime)
            };
            let writer = TreeWriter::new(tree, &image).map_err(write_failed)?;
            writer.create_dir_all(path, &missing).map_err(write_failed)?;
            writer.finish().map_err(write_failed)?;
            Ok(())
        })
    })
}
