//! COPY and ADD: a new tree, written in place.

use std::collections::{BTreeMap, HashMap};
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use parser::Span;
use parser::ignore::{Decision, IgnoreFile};
use rayon::prelude::*;
use rustix::io::Errno;
use store::LayerDraft;
use store::merged::Merged;
use store::tree_writer::{Attributes, DirAttributes, TreeWriter, WriteDir, WriteError};
use sys::file::{FileType, Metadata, Owner, Timestamp};
use sys::xattr::Xattr;

use crate::cache::{Interruption, Obtained, StepSite};
use crate::context::{Absence, nearest_path};
use crate::error::{StepError, StoreFailure};
use crate::expanded::{Chmod, CopySourceStep, CopyStep};
use crate::graph::ContentSource;
use crate::input::{SourceFacts, SourceInput, SourceMatch, SourceNode, copy_inputs};
use crate::root::OpenRoot;
use crate::source_tree::{Content, Entry, Found, SourceError, SourceTree, file_digest};
use crate::step::select::{Exclude, Kept, Layout, SelectError, Selected, SourcePath, select};
use crate::step::{add, chmod, users};

/// Carries COPY or ADD out.
pub(crate) fn copy(site: &StepSite<'_, '_>, copy: &CopyStep) -> Result<Obtained, StepError> {
    let executor = site.executor;
    let mut root = executor.roots.get(&copy.from, executor)?.open(executor, &format!("{:?}", parts(copy)))?;
    site.with_stable_sources(|round| {
        if round > 0 {
            root.refresh()?;
        }
        let job = CopyJob::prepare(site, copy, &root)?;
        let inputs = copy_inputs(copy, &job.inputs, executor.epoch, &site.below.parent);
        site.obtain(inputs, &[], &mut |draft| {
            if let Some(hook) = executor.services.between_key_and_copy {
                hook(&site.step.text);
            }
            job.write(site, draft)
        })
    })
}

fn parts(copy: &CopyStep) -> (Vec<&str>, &[String]) {
    let texts = copy.sources.iter().filter_map(|source| match source {
        CopySourceStep::Path { text, .. } => Some(text.as_str()),
        CopySourceStep::Document { .. } => None,
    });
    (texts.collect(), &copy.exclude)
}

/// One COPY or ADD, its sources looked up and digested.
struct CopyJob<'t> {
    copy: &'t CopyStep,
    root: &'t OpenRoot,
    exclude: Exclude,
    selected: Vec<Picked<'t>>,
    inputs: Vec<SourceInput>,
}

/// A selected source, and which of its files are names of one inode.
struct Picked<'t> {
    selected: Selected<'t>,
    /// Path below the source of a later name to that of the first.
    links: HashMap<PathBuf, PathBuf>,
}

impl<'t> CopyJob<'t> {
    fn prepare(site: &StepSite<'_, '_>, copy: &'t CopyStep, root: &'t OpenRoot) -> Result<Self, StepError> {
        let exclude = IgnoreFile::from_patterns(copy.exclude.iter().map(String::as_str))
            .map(Exclude)
            .map_err(StepError::Exclude)?;
        let layout = if copy.parents { Layout::Parents } else { Layout::Flat };
        let mut job = Self { copy, root, exclude, selected: Vec::new(), inputs: Vec::new() };
        for source in &copy.sources {
            let CopySourceStep::Path { text, span } = source else { continue };
            let selected = select(root.tree(), &SourcePath::new(text), layout)
                .map_err(|error| explain(site, copy, root, error, *span))?;
            let kept = selected.into_iter().filter(|selected| !job.exclude.excludes_source(selected));
            job.pick(kept.collect()).map_err(|source| read_failed(site, &copy.from, source))?;
        }
        root.save_index();
        Ok(job)
    }

    /// Digests what one word selected and describes it for the key.
    fn pick(&mut self, selected: Vec<Selected<'t>>) -> Result<(), SourceError> {
        let root: &'t OpenRoot = self.root;
        let mut matches = Vec::with_capacity(selected.len());
        for selected in selected {
            let picture =
                SourcePicture::take(root.tree(), &selected.found, &self.exclude, root.keeps_owners())?;
            let name = match (self.copy.parents, selected.found.entry.is_dir()) {
                (true, _) => Some(selected.kept_path().as_os_str().as_bytes().to_vec()),
                (false, true) => None,
                (false, false) => Some(selected.base_name().as_bytes().to_vec()),
            };
            matches.push(SourceMatch {
                path: selected.name.as_os_str().as_bytes().to_vec(),
                name,
                node: picture.node,
            });
            self.selected.push(Picked { selected, links: picture.links });
        }
        self.inputs.push(SourceInput { matches });
        Ok(())
    }

    fn write(&self, site: &StepSite<'_, '_>, draft: &LayerDraft) -> Result<(), Interruption> {
        let executor = site.executor;
        let image = executor.merged(&site.below.layers)?;
        let owner = match &self.copy.chown {
            Some(text) => Some(users::owner(&image, text)?),
            None => None,
        };
        // With --link the layer knows nothing of what lies below it (D-108).
        let lowers = if self.copy.link { executor.merged(&[])? } else { image };
        let tree = draft.tree_fd().try_clone_to_owned().map_err(|source| {
            write_failed(WriteError::Io { op: "open", path: PathBuf::from("/"), source })
        })?;
        let writer = TreeWriter::new(tree, &lowers).map_err(write_failed)?;
        let copier = Copier {
            tree: self.root.tree(),
            exclude: &self.exclude,
            writer: &writer,
            root: site.root_name(&self.copy.from),
            changes: matches!(self.root, OpenRoot::Context { .. }),
            keeps_owners: self.root.keeps_owners(),
            owner,
            chmod: self.copy.chmod.as_ref(),
            epoch: executor.epoch,
            stop: executor.stop(),
            first_names: Mutex::new(HashMap::new()),
            later_names: Mutex::new(Vec::new()),
        };
        self.write_sources(&copier)?;
        writer.finish().map_err(write_failed)?;
        Ok(())
    }

    fn write_sources(&self, copier: &Copier<'_>) -> Result<(), Interruption> {
        let target = Path::new(&self.copy.target);
        let names_dir = self.copy.target.ends_with('/') || self.copy.sources.len() > 1;
        if self.copy.sources.len() > 1 && !self.copy.target.ends_with('/') {
            return Err(StepError::TargetNotDirectory.into());
        }
        let files = self.selected.iter().filter(|picked| !picked.selected.found.entry.is_dir()).count();
        if files > 1 && !names_dir && !copier.is_dir(target) && !self.copy.parents {
            return Err(StepError::TargetNotDirectory.into());
        }
        for picked in &self.selected {
            if self.copy.parents {
                self.write_with_parents(copier, picked, target)?;
            } else if picked.selected.found.entry.is_dir() {
                let dir = copier.create_dirs(target)?;
                copier.children(&dir, &picked.selected.found, Path::new(""), None, &picked.links)?;
            } else if self.copy.unpack && add::unpack(copier, picked.selected.found.clone(), target)? {
                // It was an archive.
            } else {
                let (dir, name) = copier.place(target, names_dir, picked.selected.base_name())?;
                copier.entry(&dir, &name, &picked.selected.found, Path::new(""), &HashMap::new())?;
            }
            copier.link_later_names()?;
        }
        for source in &self.copy.sources {
            let CopySourceStep::Document { name, body, .. } = source else { continue };
            let (dir, name) = copier.place(target, names_dir, OsString::from(name))?;
            copier.document(&dir, &name, body)?;
        }
        Ok(())
    }

    fn write_with_parents(
        &self,
        copier: &Copier<'_>,
        picked: &Picked<'_>,
        target: &Path,
    ) -> Result<(), Interruption> {
        let mut dir = copier.create_dirs(target)?;
        for parent in &picked.selected.parents {
            let name = parent.path.file_name().unwrap_or_default().to_owned();
            let attributes = copier.dir_attributes(parent)?;
            dir = dir.create_dir(&name, DirAttributes::IfMissing(&attributes)).map_err(write_failed)?;
        }
        let found = &picked.selected.found;
        if found.entry.is_dir() && found.path.as_os_str().is_empty() {
            return copier.children(&dir, found, Path::new(""), None, &picked.links);
        }
        copier.entry(&dir, &picked.selected.base_name(), found, Path::new(""), &picked.links)
    }
}

/// What a source is, for its key, and which of its files are one inode.
pub(crate) struct SourcePicture {
    pub(crate) node: SourceNode,
    pub(crate) links: HashMap<PathBuf, PathBuf>,
}

impl SourcePicture {
    /// Walks `found`, reads what must be read, and describes all of it but what `exclude` leaves out and sockets.
    pub(crate) fn take(
        tree: &SourceTree,
        found: &Found<'_>,
        exclude: &Exclude,
        keeps_owners: bool,
    ) -> Result<Self, SourceError> {
        if exclude.is_empty() {
            tree.preload(found)?;
        }
        let mut files = Vec::new();
        collect_files(tree, &found.path, found.entry, exclude, Path::new(""), None, &mut files)?;
        tree.digest(&files)?;
        let mut links = Links::default();
        let describe = Description { tree, exclude, keeps_owners };
        let node = describe.node(&found.path, found.entry, Path::new(""), None, &mut links)?;
        // An empty source stands where only a socket was named.
        let node = node.unwrap_or_else(|| SourceNode::Directory {
            facts: SourceFacts::default(),
            children: BTreeMap::new(),
        });
        Ok(Self { node, links: links.later })
    }
}

fn collect_files<'a>(
    tree: &SourceTree,
    path: &Path,
    entry: &'a Entry,
    exclude: &Exclude,
    below: &Path,
    decision: Option<Decision>,
    files: &mut Vec<(PathBuf, &'a Entry)>,
) -> Result<(), SourceError> {
    match entry.content {
        Content::Dir(_) => {
            for (child, decision, _) in exclude.keep(tree.children(path, entry)?, below, decision) {
                if matches!(child.content, Content::Dir(_) | Content::File(_)) {
                    let (path, below) = (path.join(&child.name), below.join(&child.name));
                    collect_files(tree, &path, child, exclude, &below, decision, files)?;
                }
            }
        }
        Content::File(_) => files.push((path.to_path_buf(), entry)),
        _ => {}
    }
    Ok(())
}

#[derive(Default)]
struct Links {
    first: HashMap<(u64, u64), PathBuf>,
    later: HashMap<PathBuf, PathBuf>,
}

impl Links {
    /// The first name of the file that has another name at `below`.
    fn note(&mut self, metadata: &Metadata, below: &Path) -> Option<Vec<u8>> {
        if metadata.links < 2 {
            return None;
        }
        match self.first.entry((metadata.identity.dev, metadata.identity.ino)) {
            std::collections::hash_map::Entry::Occupied(first) => {
                self.later.insert(below.to_path_buf(), first.get().clone());
                Some(first.get().as_os_str().as_bytes().to_vec())
            }
            std::collections::hash_map::Entry::Vacant(place) => {
                place.insert(below.to_path_buf());
                None
            }
        }
    }
}

/// Describes a source for its key.
struct Description<'d> {
    tree: &'d SourceTree,
    exclude: &'d Exclude,
    keeps_owners: bool,
}

impl Description<'_> {
    /// Nothing for a socket.
    fn node(
        &self,
        path: &Path,
        entry: &Entry,
        below: &Path,
        decision: Option<Decision>,
        links: &mut Links,
    ) -> Result<Option<SourceNode>, SourceError> {
        let metadata = &entry.metadata;
        Ok(Some(match &entry.content {
            Content::Dir(_) => {
                let listing = self.tree.listing(path, entry)?;
                let mut children = Vec::with_capacity(listing.entries.len());
                for (child, decision, kept) in self.exclude.keep(&listing.entries, below, decision) {
                    let (path, below) = (path.join(&child.name), below.join(&child.name));
                    let Some(node) = self.node(&path, child, &below, decision, links)? else { continue };
                    let is_empty =
                        matches!(&node, SourceNode::Directory { children, .. } if children.is_empty());
                    if kept == Kept::Whole || !is_empty {
                        children.push((child.name.as_bytes().to_vec(), node));
                    }
                }
                let facts = self.facts(metadata, &listing.xattrs);
                SourceNode::Directory { facts, children: children.into_iter().collect() }
            }
            Content::File(_) => SourceNode::File {
                // Attributes are part of the digest: so the stat index knows of them, too.
                facts: self.facts(metadata, &[]),
                digest: entry.digest().expect("all files were digested"),
                linked_to: links.note(metadata, below),
            },
            Content::Symlink(target) => {
                SourceNode::Link { facts: self.facts(metadata, &[]), target: target.as_bytes().to_vec() }
            }
            Content::Special => {
                let kind = match metadata.file_type {
                    FileType::Fifo => 0o010_000,
                    FileType::CharDevice => 0o020_000,
                    FileType::BlockDevice => 0o060_000,
                    // A socket means nothing without its listener (D-118).
                    _ => return Ok(None),
                };
                let (major, minor) = metadata.device;
                let device = rustix::fs::makedev(major, minor);
                SourceNode::Special { facts: self.facts(metadata, &[]), kind, device }
            }
        }))
    }

    fn facts(&self, metadata: &Metadata, xattrs: &[Xattr]) -> SourceFacts {
        let owner = if self.keeps_owners { metadata.owner } else { Owner::ROOT };
        let xattrs =
            xattrs.iter().map(|xattr| (xattr.name.to_bytes().to_vec(), xattr.value.clone())).collect();
        SourceFacts { mode: metadata.mode, uid: owner.uid, gid: owner.gid, xattrs }
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
    keeps_owners: bool,
    pub(crate) owner: Option<Owner>,
    chmod: Option<&'c Chmod>,
    epoch: Option<i64>,
    stop: &'c crate::CancelToken,
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
        stop: &'c crate::CancelToken,
    ) -> Self {
        Self {
            tree,
            exclude,
            writer,
            root: root_name,
            changes: matches!(root, OpenRoot::Context { .. }),
            keeps_owners: root.keeps_owners(),
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
        let owner = self.owner.unwrap_or(if self.keeps_owners { metadata.owner } else { Owner::ROOT });
        let mode =
            self.chmod.map_or(metadata.mode, |chmod| chmod::apply(chmod, metadata.mode, metadata.is_dir()));
        Attributes { mode, owner, mtime: self.clamped(metadata.mtime), xattrs }
    }

    fn dir_attributes(&self, found: &Found<'_>) -> Result<Attributes, Interruption> {
        let listing = self.tree.listing(&found.path, found.entry).map_err(|error| self.read_failed(error))?;
        Ok(self.attributes(&found.entry.metadata, listing.xattrs.clone()))
    }

    pub(crate) fn create_dirs(&self, path: &Path) -> Result<WriteDir<'c>, Interruption> {
        self.writer
            .create_dir_all(path, &self.parent_attributes())
            .map_err(|error| self.conflict(error, "the directory", path))
    }

    fn is_dir(&self, path: &Path) -> bool {
        self.writer.merged().resolve(path).is_ok_and(|node| node.as_dir().is_some())
    }

    /// Where a file goes: into the directory at `target`, or to `target` itself. A symlink there is followed inside
    /// the image (D-116).
    fn place(
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
        below: &Path,
        decision: Option<Decision>,
        links: &HashMap<PathBuf, PathBuf>,
    ) -> Result<(), Interruption> {
        let children = self.tree.children(&dir.path, dir.entry).map_err(|error| self.read_failed(error))?;
        let kept: Vec<_> = self.exclude.keep(children, below, decision).collect();
        kept.par_iter().with_min_len(8).try_for_each(|(child, decision, kept)| {
            if self.stop.is_cancelled() {
                return Err(StepError::Stopped.into());
            }
            let found = Found { path: dir.path.join(&child.name), entry: child };
            let below = below.join(&child.name);
            if !child.is_dir() {
                return self.entry(to, &child.name, &found, &below, links);
            }
            if *kept == Kept::IfNotEmpty && !self.has_kept(&found, &below, *decision)? {
                return Ok(());
            }
            let attributes = self.dir_attributes(&found)?;
            let made = to
                .create_dir(&child.name, DirAttributes::Set(&attributes))
                .map_err(|error| self.conflict(error, "the directory", &found.path))?;
            self.children(&made, &found, &below, *decision, links)
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
        below: &Path,
        links: &HashMap<PathBuf, PathBuf>,
    ) -> Result<(), Interruption> {
        let metadata = &found.entry.metadata;
        match &found.entry.content {
            Content::Dir(_) => {
                let attributes = self.dir_attributes(found)?;
                let made = to
                    .create_dir(name, DirAttributes::Set(&attributes))
                    .map_err(|error| self.conflict(error, "the directory", &found.path))?;
                self.children(&made, found, below, None, links)
            }
            Content::File(_) => {
                if let Some(first) = links.get(below) {
                    let later = LaterName { dir: to.clone(), name: name.to_owned(), first: first.clone() };
                    self.later_names.lock().expect("no thread panics while it notes a name").push(later);
                    return Ok(());
                }
                self.file(to, name, found)?;
                if metadata.links > 1 {
                    let mut names = self.first_names.lock().expect("no thread panics while it notes a name");
                    names.insert(below.to_path_buf(), (to.clone(), name.to_owned()));
                }
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
        let written = to.write_file(name, &mut file, &attributes).map_err(|error| match error {
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
    fn document(&self, to: &WriteDir<'c>, name: &OsStr, body: &str) -> Result<(), Interruption> {
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
        if let (true, SourceError::Io { path, source, .. }) = (self.changes, &error) {
            // Gone, or another kind of thing now.
            let gone = [Errno::NOENT, Errno::NOTDIR, Errno::INVAL, Errno::LOOP, Errno::STALE];
            if gone.iter().any(|errno| source.raw_os_error() == Some(errno.raw_os_error())) {
                return Interruption::Changed(path.clone());
            }
        }
        StepError::Source { root: self.root.clone(), source: error }.into()
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

pub(crate) fn write_failed(source: WriteError) -> StepError {
    StepError::Store { op: "write the layer", source: StoreFailure::Write(source) }
}

pub(crate) fn read_failed(site: &StepSite<'_, '_>, from: &ContentSource, source: SourceError) -> StepError {
    StepError::Source { root: site.root_name(from), source }
}

/// Says why a source isn't there, as far as it can be known.
fn explain(
    site: &StepSite<'_, '_>,
    copy: &CopyStep,
    root: &OpenRoot,
    error: SelectError,
    span: Span,
) -> StepError {
    match error {
        SelectError::Pattern(error) => StepError::Pattern(error),
        SelectError::Source(error) => read_failed(site, &copy.from, error),
        SelectError::Missing(source) => {
            let name = site.root_name(&copy.from);
            if source.escapes {
                return StepError::SourceEscapes { path: source.written, root: name, span };
            }
            let absence = absence(root, Path::new(&source.clean));
            StepError::SourceMissing { path: source.written, root: name, absence, span }
        }
    }
}

/// Why `path` isn't in `root`.
pub(crate) fn absence(root: &OpenRoot, path: &Path) -> Absence {
    match root {
        OpenRoot::Context { context, .. } => context.explain_absence(path),
        OpenRoot::Layers { tree, .. } => {
            nearest_path(tree, path).map_or(Absence::Unknown, |suggestion| Absence::Near { suggestion })
        }
    }
}

/// Reads all of `reader` and forgets it.
pub(crate) fn drain(reader: &mut dyn Read) -> io::Result<()> {
    io::copy(reader, &mut io::sink()).map(|_| ())
}

/// The image's file at `path`, empty where there is none; a file of more than a megabyte is no list of users (R4).
pub(crate) fn small_file(image: &Merged, path: &str) -> Result<String, StepError> {
    const LIMIT_BYTES: u64 = 1 << 20;
    use store::merged::MergedError;
    match image.read_file(Path::new(path), LIMIT_BYTES) {
        Ok(bytes) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
        Err(
            MergedError::NotFound { .. } | MergedError::NotADirectory { .. } | MergedError::NotAFile { .. },
        ) => Ok(String::new()),
        Err(source) => Err(StepError::Store { op: "read the image", source: StoreFailure::Merged(source) }),
    }
}
