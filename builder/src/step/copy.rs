//! COPY and ADD: a new tree, written in place.

use std::collections::{BTreeMap, HashMap};
use std::ffi::OsString;
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use parser::Span;
use parser::ignore::IgnoreFile;
use store::merged::Merged;
use store::tree_writer::{DirAttributes, TreeWriter, WriteError};
use store::{LayerDraft, StepRecord};

use crate::CancelToken;
use crate::cache::{Interruption, Obtained, StepSite};
use crate::context::{Absence, nearest_path};
use crate::error::{StepError, StoreFailure};
use crate::expanded::{CopySourceStep, CopyStep};
use crate::graph::ContentSource;
use crate::input::{SourceInput, SourceMatch, copy_inputs};
use crate::root::OpenRoot;
use crate::source_tree::SourceError;
use crate::step::copier::{Copier, Place, source_failed, write_failed};
use crate::step::picture::SourcePicture;
use crate::step::remote::{self, Fetched};
use crate::step::reuse::Reuse;
use crate::step::select::{Exclude, Layout, SelectError, Selected, SourcePath, select};
use crate::step::{add, users};

/// Carries COPY or ADD out.
pub(crate) fn copy(site: &StepSite<'_, '_>, copy: &CopyStep) -> Result<Obtained, StepError> {
    let executor = site.executor;
    let from = if copy.reads_root() { &copy.from } else { &ContentSource::Scratch };
    let mut root = executor.roots.get(from, executor)?.open(executor, &format!("{:?}", parts(copy)))?;
    let mut fetched = remote::fetch(site, copy)?;
    site.with_stable_sources(|round| {
        if round > 0 {
            root.refresh()?;
            if !fetched.is_empty() {
                fetched = remote::fetch(site, copy)?;
            }
        }
        let job = CopyJob::prepare(site, copy, &root, &fetched)?;
        let inputs = copy_inputs(copy, &job.inputs, executor.epoch, &site.below.parent);
        site.obtain(inputs, &[], &mut |draft, earlier| {
            if let Some(hook) = executor.services.between_key_and_copy {
                hook(&site.step.text);
            }
            job.write(site, draft, earlier)
        })
    })
}

fn parts(copy: &CopyStep) -> (Vec<&str>, &[String]) {
    let texts = copy.sources.iter().filter_map(|source| match source {
        CopySourceStep::Path { text, .. } => Some(text.as_str()),
        CopySourceStep::Remote { .. } | CopySourceStep::Document { .. } => None,
    });
    (texts.collect(), &copy.exclude)
}

/// One COPY or ADD, its sources looked up and digested.
struct CopyJob<'t> {
    copy: &'t CopyStep,
    root: &'t OpenRoot,
    /// Of the words that have one.
    fetched: &'t [Fetched],
    exclude: Exclude,
    selected: Vec<Picked<'t>>,
    inputs: Vec<SourceInput>,
}

/// A selected source, and which of its files are names of one inode.
struct Picked<'t> {
    /// Which of the instruction's words named it.
    word: usize,
    selected: Selected<'t>,
    /// Path below the source of a later name to that of the first.
    links: HashMap<PathBuf, PathBuf>,
}

impl<'t> CopyJob<'t> {
    fn prepare(
        site: &StepSite<'_, '_>,
        copy: &'t CopyStep,
        root: &'t OpenRoot,
        fetched: &'t [Fetched],
    ) -> Result<Self, Interruption> {
        let exclude = IgnoreFile::from_patterns(copy.exclude.iter().map(String::as_str))
            .map(Exclude)
            .map_err(StepError::Exclude)?;
        let layout = if copy.parents { Layout::Parents } else { Layout::Flat };
        let mut job = Self { copy, root, fetched, exclude, selected: Vec::new(), inputs: Vec::new() };
        for (word, source) in copy.sources.iter().enumerate() {
            let (text, span) = match source {
                CopySourceStep::Path { text, span } => (text, span),
                CopySourceStep::Document { .. } => continue,
                CopySourceStep::Remote { .. } => {
                    job.pick_fetched(word, site.executor.stop())
                        .map_err(|source| read_failed(site, &copy.from, root, source))?;
                    continue;
                }
            };
            let selected = select(root.tree(), &SourcePath::new(text), layout)
                .map_err(|error| explain(site, copy, root, error, *span))?;
            let kept = selected.into_iter().filter(|selected| !job.exclude.excludes_source(selected));
            job.pick(word, root, kept.collect(), site.executor.stop())
                .map_err(|source| read_failed(site, &copy.from, root, source))?;
        }
        root.save_index();
        Ok(job)
    }

    /// What a word got from elsewhere: a file, or a folder's contents.
    fn pick_fetched(&mut self, word: usize, stop: &CancelToken) -> Result<(), SourceError> {
        let fetched: &'t [Fetched] = self.fetched;
        let Some(found) = fetched.iter().find(|fetched| fetched.word == word) else { return Ok(()) };
        let tree = found.root.tree();
        let entry = tree.find(Path::new(&found.path), true)?.unwrap_or_else(|| tree.root());
        let name = if entry.entry.is_dir() { PathBuf::new() } else { entry.path.clone() };
        let selected = Selected { name, found: entry, parents: Vec::new() };
        let kept = if self.exclude.excludes_source(&selected) { Vec::new() } else { vec![selected] };
        self.pick(word, &found.root, kept, stop)?;
        for matched in self.inputs.last_mut().into_iter().flat_map(|input| &mut input.matches) {
            matched.path = found.shown.clone().into_bytes();
            if let Some(identity) = found.identity {
                let facts = crate::input::SourceFacts::default();
                matched.node = crate::input::SourceNode::File { facts, digest: identity, linked_to: None };
            }
        }
        Ok(())
    }

    /// Digests what one word selected and describes it for the key.
    fn pick(
        &mut self,
        word: usize,
        root: &'t OpenRoot,
        selected: Vec<Selected<'t>>,
        stop: &CancelToken,
    ) -> Result<(), SourceError> {
        let mut matches = Vec::with_capacity(selected.len());
        for selected in selected {
            let picture =
                SourcePicture::take(root.tree(), &selected.found, &self.exclude, root.kept(), stop)?;
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
            self.selected.push(Picked { word, selected, links: picture.links });
        }
        self.inputs.push(SourceInput { matches });
        Ok(())
    }

    fn write(
        &self,
        site: &StepSite<'_, '_>,
        draft: &LayerDraft,
        earlier: &[StepRecord],
    ) -> Result<(), Interruption> {
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
        let copier = |root: &'t OpenRoot, name: String| {
            let mut copier = Copier::plain(root.tree(), &self.exclude, &writer, root, name, executor.stop());
            copier.owner = owner;
            copier.chmod = self.copy.chmod.as_ref();
            copier.epoch = executor.epoch;
            copier
        };
        let fetched: BTreeMap<usize, Copier<'_>> = self
            .fetched
            .iter()
            .map(|fetched| (fetched.word, copier(&fetched.root, format!("`{}`", fetched.shown))))
            .collect();
        let copier = copier(self.root, site.root_name(&self.copy.from));
        let reuse = site.earlier_here(earlier).and_then(|record| Reuse::open(site, record));
        self.write_sources(&copier, &fetched, reuse.as_ref())?;
        writer.finish().map_err(write_failed)?;
        Ok(())
    }

    fn write_sources<'c>(
        &self,
        copier: &Copier<'c>,
        fetched: &BTreeMap<usize, Copier<'c>>,
        reuse: Option<&Reuse<'_>>,
    ) -> Result<(), Interruption> {
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
            let (copier, unpack) = match fetched.get(&picked.word) {
                Some(fetched) => (fetched, self.copy.unpack_remote),
                None => (copier, self.copy.unpack),
            };
            if self.copy.parents {
                self.write_with_parents(copier, picked, target)?;
            } else if picked.selected.found.entry.is_dir() {
                let dir = copier.create_dirs(target)?;
                let earlier = reuse.and_then(|reuse| reuse.source(picked.word, dir.path()));
                let place = Place { below: Path::new(""), decision: None, earlier: earlier.as_ref() };
                copier.children(&dir, &picked.selected.found, place, &picked.links)?;
            } else if unpack && add::unpack(copier, picked.selected.found.clone(), target)? {
                // It was an archive.
            } else {
                let (dir, name) = copier.place(target, names_dir, picked.selected.base_name())?;
                copier.entry(&dir, &name, &picked.selected.found, Place::top(), &HashMap::new())?;
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
            return copier.children(&dir, found, Place::top(), &picked.links);
        }
        copier.entry(&dir, &picked.selected.base_name(), found, Place::top(), &picked.links)
    }
}

/// An error of looking at a source before it is keyed.
pub(crate) fn read_failed(
    site: &StepSite<'_, '_>,
    from: &ContentSource,
    root: &OpenRoot,
    source: SourceError,
) -> Interruption {
    let changes = matches!(root, OpenRoot::Context { .. });
    source_failed(source, changes, site.executor.stop(), site.root_name(from))
}

/// Says why a source isn't there, as far as it can be known.
fn explain(
    site: &StepSite<'_, '_>,
    copy: &CopyStep,
    root: &OpenRoot,
    error: SelectError,
    span: Span,
) -> Interruption {
    match error {
        SelectError::Pattern(error) => StepError::Pattern(error).into(),
        SelectError::Source(error) => read_failed(site, &copy.from, root, error),
        SelectError::Missing(source) => {
            let name = site.root_name(&copy.from);
            if source.escapes {
                return StepError::SourceEscapes { path: source.written, root: name, span }.into();
            }
            let absence = absence(root, Path::new(&source.clean));
            StepError::SourceMissing { path: source.written, root: name, absence, span }.into()
        }
    }
}

/// Why `path` isn't in `root`.
pub(crate) fn absence(root: &OpenRoot, path: &Path) -> Absence {
    match root {
        OpenRoot::Context { context, .. } => context.explain_absence(path),
        OpenRoot::Layers { tree, .. } | OpenRoot::Fetched { tree, .. } => {
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
