//! Writes entries of a source tree into a new layer, each file verified against its key.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use parser::ignore::Decision;
use rayon::prelude::*;
use rustix::io::Errno;
use store::tree_writer::{Attributes, DirAttributes, TreeWriter, WriteDir, WriteError};
use sys::file::{FileType, Metadata, Owner, Timestamp};
use sys::xattr::Xattr;

use crate::CancelToken;
use crate::cache::Interruption;
use crate::error::{StepError, StoreFailure};
use crate::expanded::Chmod;
use crate::root::OpenRoot;
use crate::source_tree::{Content, Found, SourceError, SourceTree, Stoppable, file_digest};
use crate::step::chmod;
use crate::step::picture::KeptMetadata;
use crate::step::reuse::EarlierDir;
use crate::step::select::{Exclude, Kept};

/// Where in its source an entry lies.
#[derive(Clone, Copy)]
pub(crate) struct Place<'p> {
    /// Path below the source.
    pub(crate) below: &'p Path,
    /// What `--exclude` says of it.
    pub(crate) decision: Option<Decision>,
    /// The directory that holds it, in the earlier layer of the same step.
    pub(crate) earlier: Option<&'p EarlierDir<'p>>,
}

impl Place<'_> {
    /// The source itself, with nothing to reuse.
    pub(crate) fn top() -> Self {
        Self { below: Path::new(""), decision: None, earlier: None }
    }
}

/// Writes entries of one source tree.
pub(crate) struct Copier<'c> {
    tree: &'c SourceTree,
    exclude: &'c Exclude,
    pub(crate) writer: &'c TreeWriter,
    root: String,
    /// Whether the source may change while it is read.
    changes: bool,
    kept: KeptMetadata,
    pub(crate) owner: Option<Owner>,
    pub(crate) chmod: Option<&'c Chmod>,
    pub(crate) epoch: Option<i64>,
    stop: &'c CancelToken,
    /// Files with several names that were written under their first, by path below the source.
    first_names: Mutex<HashMap<PathBuf, (WriteDir<'c>, OsString)>>,
    /// The other names, linked when the source is done.
    later_names: Mutex<Vec<LaterName<'c>>>,
}

struct LaterName<'c> {
    dir: WriteDir<'c>,
    name: OsString,
    first: PathBuf,
}

impl<'c> Copier<'c> {
    /// A copier of a whole tree for other uses than COPY: nothing excluded, nothing changed but owners.
    pub(crate) fn plain(
        tree: &'c SourceTree,
        exclude: &'c Exclude,
        writer: &'c TreeWriter,
        root: &OpenRoot,
        root_name: String,
        stop: &'c CancelToken,
    ) -> Self {
        Self {
            tree,
            exclude,
            writer,
            root: root_name,
            changes: matches!(root, OpenRoot::Context { .. }),
            kept: root.kept(),
            owner: None,
            chmod: None,
            epoch: None,
            stop,
            first_names: Mutex::new(HashMap::new()),
            later_names: Mutex::new(Vec::new()),
        }
    }

    /// What a directory carries that is made on the way: 0755, the owner of `--chown` (D-117).
    pub(crate) fn parent_attributes(&self) -> Attributes {
        let now = Timestamp::now();
        let mtime = self.epoch.map_or(now, |epoch| now.min(Timestamp::from_seconds(epoch)));
        Attributes { owner: self.owner.unwrap_or(Owner::ROOT), ..Attributes::parent_dir(mtime) }
    }

    fn clamped(&self, mtime: Timestamp) -> Timestamp {
        self.epoch.map_or(mtime, |epoch| mtime.min(Timestamp::from_seconds(epoch)))
    }

    fn attributes(&self, metadata: &Metadata, xattrs: Vec<Xattr>) -> Attributes {
        let owner = self.owner.unwrap_or_else(|| self.kept.owner(metadata));
        let mode =
            self.chmod.map_or(metadata.mode, |chmod| chmod::apply(chmod, metadata.mode, metadata.is_dir()));
        Attributes { mode, owner, mtime: self.clamped(metadata.mtime), xattrs }
    }

    pub(crate) fn dir_attributes(&self, found: &Found<'_>) -> Result<Attributes, Interruption> {
        let listing = self.tree.listing(&found.path, found.entry).map_err(|error| self.read_failed(error))?;
        Ok(self.attributes(&found.entry.metadata, listing.xattrs.clone()))
    }

    pub(crate) fn create_dirs(&self, path: &Path) -> Result<WriteDir<'c>, Interruption> {
        self.writer
            .create_dir_all(path, &self.parent_attributes())
            .map_err(|error| self.conflict(error, "the directory", path))
    }

    pub(crate) fn is_dir(&self, path: &Path) -> bool {
        self.writer.merged().resolve(path).is_ok_and(|node| node.as_dir().is_some())
    }

    /// Where a file goes: into the directory at `target`, or to `target` itself. A symlink there is followed inside
    /// the image (D-116).
    pub(crate) fn place(
        &self,
        target: &Path,
        names_dir: bool,
        base_name: OsString,
    ) -> Result<(WriteDir<'c>, OsString), Interruption> {
        if names_dir || self.is_dir(target) {
            return Ok((self.create_dirs(target)?, base_name));
        }
        self.writer
            .create_parents(target, &self.parent_attributes(), true)
            .map_err(|error| self.conflict(error, "the file", target))
    }

    /// Writes what `dir` of the source holds into `to`.
    pub(crate) fn children(
        &self,
        to: &WriteDir<'c>,
        dir: &Found<'_>,
        place: Place<'_>,
        links: &HashMap<PathBuf, PathBuf>,
    ) -> Result<(), Interruption> {
        let children = self.tree.children(&dir.path, dir.entry).map_err(|error| self.read_failed(error))?;
        let kept: Vec<_> = self.exclude.keep(children, place.below, place.decision).collect();
        kept.par_iter().with_min_len(8).try_for_each(|(child, decision, kept)| {
            if self.stop.is_cancelled() {
                return Err(StepError::Stopped.into());
            }
            let found = Found { path: dir.path.join(&child.name), entry: child };
            let below = place.below.join(&child.name);
            if !child.is_dir() {
                let place = Place { below: &below, decision: *decision, earlier: place.earlier };
                return self.entry(to, &child.name, &found, place, links);
            }
            if *kept == Kept::IfNotEmpty && !self.has_kept(&found, &below, *decision)? {
                return Ok(());
            }
            let attributes = self.dir_attributes(&found)?;
            let made = to
                .create_dir(&child.name, DirAttributes::Set(&attributes))
                .map_err(|error| self.conflict(error, "the directory", &found.path))?;
            let earlier = place.earlier.and_then(|earlier| earlier.dir(&child.name));
            let place = Place { below: &below, decision: *decision, earlier: earlier.as_ref() };
            self.children(&made, &found, place, links)
        })
    }

    /// Whether an excluded directory has something that an exception brings back.
    fn has_kept(
        &self,
        dir: &Found<'_>,
        below: &Path,
        decision: Option<Decision>,
    ) -> Result<bool, Interruption> {
        let children = self.tree.children(&dir.path, dir.entry).map_err(|error| self.read_failed(error))?;
        for (child, decision, kept) in self.exclude.keep(children, below, decision) {
            let found = Found { path: dir.path.join(&child.name), entry: child };
            if kept == Kept::Whole || self.has_kept(&found, &below.join(&child.name), decision)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Writes one entry under `name` in `to`; a directory with all it holds.
    pub(crate) fn entry(
        &self,
        to: &WriteDir<'c>,
        name: &OsStr,
        found: &Found<'_>,
        place: Place<'_>,
        links: &HashMap<PathBuf, PathBuf>,
    ) -> Result<(), Interruption> {
        let metadata = &found.entry.metadata;
        match &found.entry.content {
            Content::Dir(_) => {
                let attributes = self.dir_attributes(found)?;
                let made = to
                    .create_dir(name, DirAttributes::Set(&attributes))
                    .map_err(|error| self.conflict(error, "the directory", &found.path))?;
                self.children(&made, found, Place { earlier: None, ..place }, links)
            }
            Content::File(_) if metadata.links < 2 => {
                if let Some(earlier) = place.earlier {
                    let attributes = self.attributes(metadata, Vec::new());
                    if earlier.link(to, name, found.entry, &attributes) {
                        return Ok(());
                    }
                }
                self.file(to, name, found)
            }
            Content::File(_) => {
                if let Some(first) = links.get(place.below) {
                    let later = LaterName { dir: to.clone(), name: name.to_owned(), first: first.clone() };
                    self.later_names.lock().expect("no thread panics while it notes a name").push(later);
                    return Ok(());
                }
                self.file(to, name, found)?;
                let mut names = self.first_names.lock().expect("no thread panics while it notes a name");
                names.insert(place.below.to_path_buf(), (to.clone(), name.to_owned()));
                Ok(())
            }
            Content::Symlink(target) => to
                .write_symlink(name, target, &self.attributes(metadata, Vec::new()))
                .map_err(|error| self.conflict(error, "the symlink", &found.path)),
            Content::Special if metadata.file_type == FileType::Socket => Ok(()),
            Content::Special => to
                .write_node(name, metadata.file_type, metadata.device, &self.attributes(metadata, Vec::new()))
                .map_err(|error| self.conflict(error, "the device", &found.path)),
        }
    }

    /// Copies a file and makes sure that it is the one that was keyed.
    fn file(&self, to: &WriteDir<'c>, name: &OsStr, found: &Found<'_>) -> Result<(), Interruption> {
        let (mut file, xattrs) = self.open(found)?;
        let attributes = self.attributes(&found.entry.metadata, xattrs);
        let written = to
            .write_file(name, &mut Stoppable { inner: &mut file, stop: self.stop }, &attributes)
            .map_err(|error| match error {
                WriteError::Source { source, .. } => {
                    self.read_failed(SourceError::Io { op: "read", path: found.path.clone(), source })
                }
                error => self.conflict(error, "the file", &found.path),
            })?;
        self.verify(found, file_digest(written.blake3, &attributes.xattrs))
    }

    /// Opens a file of the source, with the attributes that a copy keeps.
    pub(crate) fn open(&self, found: &Found<'_>) -> Result<(File, Vec<Xattr>), Interruption> {
        let failed =
            |op| move |source| self.read_failed(SourceError::Io { op, path: found.path.clone(), source });
        let file = self.tree.reader().open(&found.path).map_err(failed("open"))?;
        let xattrs =
            self.tree.reader().xattrs(&file, &found.path).map_err(failed("read the attributes of"))?;
        Ok((file, xattrs))
    }

    /// Whether a file was, while it was copied, what it was when it was keyed.
    pub(crate) fn verify(&self, found: &Found<'_>, digest: [u8; 32]) -> Result<(), Interruption> {
        if found.entry.digest() == Some(digest) {
            return Ok(());
        }
        Err(Interruption::Changed(found.path.clone()))
    }

    /// Writes a heredoc: 0644 and root's (D-120).
    pub(crate) fn document(&self, to: &WriteDir<'c>, name: &OsStr, body: &str) -> Result<(), Interruption> {
        let mode = self.chmod.map_or(0o644, |chmod| chmod::apply(chmod, 0o644, false));
        let attributes = Attributes { mode, ..self.parent_attributes() };
        to.write_file(name, &mut body.as_bytes(), &attributes)
            .map_err(|error| self.conflict(error, "the file", Path::new(name)))?;
        Ok(())
    }

    /// Gives the files of the source that have several names the others.
    pub(crate) fn link_later_names(&self) -> Result<(), Interruption> {
        let mut firsts = self.first_names.lock().expect("no thread panics while it notes a name");
        let mut laters = self.later_names.lock().expect("no thread panics while it notes a name");
        for later in laters.drain(..) {
            let Some((dir, name)) = firsts.get(&later.first) else {
                // The first name was left out meanwhile: can't be, the same walk named both.
                return Err(Interruption::Changed(later.first));
            };
            later
                .dir
                .write_link(&later.name, dir, name)
                .map_err(|error| self.conflict(error, "the file", Path::new(&later.name)))?;
        }
        firsts.clear();
        Ok(())
    }

    /// An error of reading: a file that was there when it was keyed and is gone has changed.
    pub(crate) fn read_failed(&self, error: SourceError) -> Interruption {
        source_failed(error, self.changes, self.stop, self.root.clone())
    }

    fn conflict(&self, error: WriteError, what: &'static str, path: &Path) -> Interruption {
        let (existing, target) = match error {
            WriteError::IsADirectory { path } => ("the directory", path),
            WriteError::NotADirectory { path } => ("the file", path),
            error => return write_failed(error).into(),
        };
        StepError::Conflict { what, path: path.to_path_buf(), existing, target }.into()
    }
}

/// Why a source can't be read: the build stops, it changed since it was looked at, or a fault.
pub(crate) fn source_failed(
    error: SourceError,
    changes: bool,
    stop: &CancelToken,
    root: String,
) -> Interruption {
    if stop.is_cancelled() {
        return StepError::Stopped.into();
    }
    if let (true, SourceError::Io { path, source, .. }) = (changes, &error) {
        // Gone, or another kind of thing now.
        let gone = [Errno::NOENT, Errno::NOTDIR, Errno::INVAL, Errno::LOOP, Errno::STALE];
        if gone.iter().any(|errno| source.raw_os_error() == Some(errno.raw_os_error())) {
            return Interruption::Changed(path.clone());
        }
    }
    StepError::Source { root, source: error }.into()
}

pub(crate) fn write_failed(source: WriteError) -> StepError {
    StepError::Store { op: "write the layer", source: StoreFailure::Write(source) }
}
