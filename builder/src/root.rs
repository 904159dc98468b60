//! What COPY and mounts read from: contexts, images and finished stages.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use store::LayerDraft;
use store::merged::{Merged, MergedError, Node};
use store::stat_index::{NewStatIndex, StatIndex};
use sys::file::Timestamp;
use sys::xattr::Xattr;

use crate::CancelToken;
use crate::base::BaseImage;
use crate::build::Services;
use crate::context::{Context, Scan};
use crate::error::StepError;
use crate::fetch::{FetchError, GitSource};
use crate::graph::{ContentSource, ImageSource};
use crate::progress::Progress;
use crate::request::{BuildRequest, NamedContext};
use crate::schedule::{Executor, LayerSource, StageLayer, StageResult};
use crate::source_tree::{Entry, Listing, SourceTree, TreeReader};
use crate::step::picture::KeptMetadata;
use crate::step::select::SourcePath;

/// The images and contexts of one build.
pub(crate) struct Roots<'a> {
    request: &'a BuildRequest,
    services: &'a Services<'a>,
    progress: &'a Progress<'a>,
    images: BTreeMap<(String, String), Arc<BaseImage>>,
    named_images: BTreeMap<String, Arc<BaseImage>>,
    /// Opened when first asked for; the empty name is the build context itself.
    contexts: Mutex<BTreeMap<String, Arc<Context>>>,
}

/// One of them.
#[derive(Clone)]
pub(crate) enum SourceRoot {
    Context(Arc<Context>),
    Stage(Arc<StageResult>),
    Image(Arc<BaseImage>),
    Empty,
}

impl<'a> Roots<'a> {
    pub(crate) fn new(
        request: &'a BuildRequest,
        services: &'a Services<'a>,
        progress: &'a Progress<'a>,
    ) -> Self {
        Self {
            request,
            services,
            progress,
            images: BTreeMap::new(),
            named_images: BTreeMap::new(),
            contexts: Mutex::new(BTreeMap::new()),
        }
    }

    pub(crate) fn add_image(&mut self, source: &ImageSource, image: BaseImage) {
        self.images.insert(image_key(source), Arc::new(image));
    }

    pub(crate) fn has_image(&self, source: &ImageSource) -> bool {
        self.images.contains_key(&image_key(source))
    }

    pub(crate) fn add_named_image(&mut self, name: &str, image: BaseImage) {
        self.named_images.insert(name.to_owned(), Arc::new(image));
    }

    /// An image that was added: all that the graph names were.
    pub(crate) fn image(&self, source: &ImageSource) -> &Arc<BaseImage> {
        self.images
            .get(&image_key(source))
            .expect("every image of the graph was resolved before anything ran")
    }

    pub(crate) fn named_image(&self, name: &str) -> Option<&Arc<BaseImage>> {
        self.named_images.get(name)
    }

    /// The root that `source` names; waits for a stage.
    pub(crate) fn get(
        &self,
        source: &ContentSource,
        executor: &Executor<'_>,
    ) -> Result<SourceRoot, StepError> {
        Ok(match source {
            ContentSource::Scratch => SourceRoot::Empty,
            ContentSource::Stage(id) => SourceRoot::Stage(executor.wait_for_stage(*id)?),
            ContentSource::Image(image) => SourceRoot::Image(Arc::clone(self.image(image))),
            ContentSource::Context => SourceRoot::Context(self.context("", executor.stop())?),
            ContentSource::NamedContext(name) => match self.named_images.get(name) {
                Some(image) => SourceRoot::Image(Arc::clone(image)),
                None => SourceRoot::Context(self.context(name, executor.stop())?),
            },
        })
    }

    fn context(&self, name: &str, stop: &CancelToken) -> Result<Arc<Context>, StepError> {
        let mut contexts = self.contexts.lock().expect("no thread panics while it opens a context");
        if let Some(context) = contexts.get(name) {
            return Ok(Arc::clone(context));
        }
        let (folder, dockerfile, label) = if name.is_empty() {
            let folder = self.request.context.as_deref().ok_or(StepError::NoContext)?;
            (folder, self.request.dockerfile_path.as_deref(), "[internal] load build context".to_owned())
        } else {
            match self.request.named_contexts.get(name) {
                Some(NamedContext::Folder(folder)) => {
                    (folder.as_path(), None, format!("[context {name}] load from client"))
                }
                Some(NamedContext::Git(source)) => {
                    let context = Arc::new(self.check_out(name, source, stop)?);
                    contexts.insert(name.to_owned(), Arc::clone(&context));
                    return Ok(context);
                }
                _ => return Err(StepError::NoContext),
            }
        };
        let vertex = self.progress.start(label, Vec::new(), None);
        let index = self.index_file(folder);
        match Context::open(folder, dockerfile, index) {
            Ok(context) => {
                vertex.done();
                Ok(Arc::clone(contexts.entry(name.to_owned()).or_insert(Arc::new(context))))
            }
            Err(error) => {
                vertex.failed(error.to_string());
                Err(StepError::Context(error))
            }
        }
    }

    fn check_out(&self, name: &str, source: &GitSource, stop: &CancelToken) -> Result<Context, StepError> {
        let shown = crate::fetch::shown(&source.url);
        let vertex = self.progress.start(format!("[context {name}] load from {shown}"), Vec::new(), None);
        let fail = |source| StepError::Store {
            op: "make a draft",
            source: crate::error::StoreFailure::Draft(source),
        };
        let context = self.services.store.draft().map_err(fail).and_then(|draft| {
            crate::fetch::git::check_out(source, draft.tree_path(), &self.request.proxies, stop).map_err(
                |error| match error {
                    FetchError::Stopped => StepError::Stopped,
                    source => StepError::ContextFetch { name: name.to_owned(), source },
                },
            )?;
            let below = SourcePath::new(&source.subdir).clean;
            Ok(Context::of_draft(draft, Path::new(&below))?)
        });
        match &context {
            Ok(_) => vertex.done(),
            Err(error) => vertex.failed(error.to_string()),
        }
        context
    }

    /// Where the stat index of a folder lies: by its real path, so that the same folder has one index.
    fn index_file(&self, folder: &Path) -> Option<PathBuf> {
        let real = std::path::absolute(folder).ok()?;
        let name = blake3::hash(real.as_os_str().as_encoded_bytes()).to_hex();
        let dir = self.services.store.contexts_path();
        Some(dir.join(name.as_str()))
    }

    /// Keeps what was learned of the contexts' files. A failure costs time, nothing else.
    pub(crate) fn save_indexes(&self) {
        let contexts = self.contexts.lock().expect("no thread panics while it opens a context");
        for context in contexts.values() {
            if let Err(error) = context.save_index() {
                self.progress.note(format!("{error}: the next build reads all files again"));
            }
        }
    }
}

fn image_key(source: &ImageSource) -> (String, String) {
    (source.reference.to_string(), source.platform.to_string())
}

/// A root opened for reading.
pub(crate) enum OpenRoot {
    Context {
        context: Arc<Context>,
        scan: Arc<Scan>,
    },
    Layers {
        tree: Box<SourceTree>,
        layers: Vec<StageLayer>,
        index: PathBuf,
    },
    /// What ADD got from elsewhere; it lies in the draft, if it is more than a file.
    Fetched {
        tree: Box<SourceTree>,
        _draft: Option<LayerDraft>,
    },
}

impl SourceRoot {
    /// `part` says what of it is to be read. Layers never change, so the digests of their files are kept for each
    /// stack and part.
    pub(crate) fn open(&self, executor: &Executor<'_>, part: &str) -> Result<OpenRoot, StepError> {
        let layers = match self {
            Self::Context(context) => {
                return Ok(OpenRoot::Context { context: Arc::clone(context), scan: context.scan() });
            }
            Self::Stage(stage) => stage.layers.clone(),
            Self::Image(image) => image_layers(image),
            Self::Empty => Vec::new(),
        };
        let merged = executor.merged(&layers)?;
        let fail = |source| StepError::Store {
            op: "open the layers",
            source: crate::error::StoreFailure::Merged(source),
        };
        let metadata = *merged.root().map_err(fail)?.metadata();
        let mut name = blake3::Hasher::new_derive_key("calque 2026: part of a stack of layers");
        for layer in &layers {
            name.update(layer.id.as_bytes());
        }
        name.update(part.as_bytes());
        let name = format!("layers-{}", name.finalize().to_hex());
        let index = executor.services.store.contexts_path().join(name);
        let known = StatIndex::load(&index);
        let tree = Box::new(SourceTree::new(Box::new(LayersReader { merged, known }), metadata));
        Ok(OpenRoot::Layers { tree, layers, index })
    }
}

/// The layers of an image, base first.
pub(crate) fn image_layers(image: &BaseImage) -> Vec<StageLayer> {
    let diff_ids = &image.image.config.value().rootfs.diff_ids;
    let layers = image.image.layers.iter().zip(diff_ids);
    layers.map(|(id, diff_id)| StageLayer { id: *id, origin: LayerSource::Image(*diff_id) }).collect()
}

impl OpenRoot {
    pub(crate) fn tree(&self) -> &SourceTree {
        match self {
            Self::Context { scan, .. } => scan.tree(),
            Self::Layers { tree, .. } | Self::Fetched { tree, .. } => tree,
        }
    }

    /// What a copy takes along of its files' metadata.
    pub(crate) fn kept(&self) -> KeptMetadata {
        match self {
            Self::Context { .. } | Self::Fetched { .. } => KeptMetadata::OfContext,
            Self::Layers { layers, .. } => KeptMetadata::OfLayers {
                windows: layers
                    .iter()
                    .filter_map(|layer| match layer.origin {
                        LayerSource::Step { window } => window,
                        LayerSource::Image(_) => None,
                    })
                    .collect(),
            },
        }
    }

    /// Keeps the digests of layers' files, if files were read for them. A failure costs time, nothing else.
    pub(crate) fn save_index(&self) {
        let Self::Layers { tree, index, .. } = self else { return };
        if tree.read_count() == 0 {
            return;
        }
        // No file of a layer is racily clean: layers don't change.
        let mut new = NewStatIndex::new(Timestamp::from_seconds(i64::MAX / 4));
        tree.collect_digests(&mut new);
        let _ = new.save(index);
    }

    /// After a file was found to have changed: the same root, looked at anew.
    pub(crate) fn refresh(&mut self) -> Result<(), StepError> {
        if let Self::Context { context, scan } = self {
            *scan = context.rescan(scan)?;
        }
        Ok(())
    }
}

/// The layers of a stage or image.
struct LayersReader {
    merged: Merged,
    known: StatIndex,
}

impl TreeReader for LayersReader {
    fn list(&self, dir: &Path) -> io::Result<Listing> {
        let node = self.merged.lookup(dir).map_err(into_io)?;
        let dir = node.as_dir().ok_or(io::ErrorKind::NotADirectory)?;
        let mut entries = Vec::new();
        for entry in dir.entries().map_err(into_io)? {
            let name = OsStr::to_owned(entry.os_name());
            let Some(child) = dir.child(&name).map_err(into_io)? else { continue };
            entries.push(Entry::new(name, *child.metadata(), || child.read_link().map_err(into_io))?);
        }
        Ok(Listing { entries, xattrs: kept(dir.xattrs().map_err(into_io)?) })
    }

    fn open(&self, file: &Path) -> io::Result<File> {
        Ok(File::from(self.node(file)?.open_file().map_err(into_io)?))
    }

    fn xattrs(&self, _file: &File, path: &Path) -> io::Result<Vec<Xattr>> {
        Ok(kept(self.node(path)?.xattrs().map_err(into_io)?))
    }

    fn stat_index(&self) -> Option<&StatIndex> {
        Some(&self.known)
    }
}

impl LayersReader {
    fn node(&self, path: &Path) -> io::Result<Node> {
        self.merged.lookup(path).map_err(into_io)
    }
}

/// A label of the host's policy is no part of an image.
fn kept(xattrs: Vec<Xattr>) -> Vec<Xattr> {
    let is_label = |xattr: &Xattr| xattr.name.to_bytes() == b"security.selinux";
    xattrs.into_iter().filter(|xattr| !is_label(xattr)).collect()
}

fn into_io(error: MergedError) -> io::Error {
    match error {
        MergedError::Io { source, .. } => source,
        MergedError::NotFound { .. } => io::Error::new(io::ErrorKind::NotFound, error),
        MergedError::NotADirectory { .. } => io::Error::new(io::ErrorKind::NotADirectory, error),
        other => io::Error::other(other),
    }
}
