//! Reading images.

use std::fs::File;
use std::io;
use std::path::PathBuf;

use oci::{
    Descriptor, DiffId, Digest, DigestError, Document, DocumentError, HashingReader, ImageConfig, ImageIndex,
    LayerCompression, MediaTypes, Platform, Reference,
};
use serde::Deserialize;

use super::document::{self, ManifestOrIndex};
use super::source::{Archive, Source, is_kept_as_it_came};
use crate::blob::{self, BlobError, BlobReader, bounded_decompress};
use crate::file::{OnPath, now_text, write_new_json};
use crate::layer::{self, ApplyError, ApplyLimits, Compression};
use crate::layers::{LaterFacts, ORIGINAL};
use crate::{
    DraftError, FileError, Image, ImageError, Layer, LayerDraft, LayerError, LayerFacts, LayerId,
    LayerOrigin, Lease, LeaseError, Store,
};

/// An image that [`load`] put into the store.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The image.
    pub image: Image,
    /// The names that the archive gives it. Nothing is tagged.
    pub references: Vec<Reference>,
    /// How the index of an OCI layout tells it from others: its `org.opencontainers.image.ref.name` (often a bare tag)
    /// and the digest of its manifest.
    pub selectors: Vec<String>,
}

/// An archive can't be loaded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// A file of the store or of the archive can't be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// It is none of the archives that we know.
    #[error("`{}` is no OCI layout and no docker archive", path.display())]
    NotAnArchive {
        /// The archive.
        path: PathBuf,
        /// What the tar reader says.
        source: Option<io::Error>,
    },
    /// More files than an archive of images has, or a name too long.
    #[error("the archive has more than {limit} files or names that are too long")]
    TooManyFiles {
        /// The limit.
        limit: usize,
    },
    /// A name that leads out of the archive.
    #[error("the archive names a file `{name}` outside of itself")]
    UnsafeName {
        /// The name.
        name: String,
    },
    /// A document over its limit.
    #[error("`{name}` has {size_bytes} bytes, {limit_bytes} at most are read")]
    TooLarge {
        /// The file in the archive.
        name: String,
        /// Its size.
        size_bytes: u64,
        /// The limit.
        limit_bytes: u64,
    },
    /// Something that the archive names isn't in it.
    #[error("the archive lacks `{name}`")]
    Missing {
        /// The file in the archive.
        name: String,
    },
    /// A document is malformed.
    #[error("cannot read `{name}` of the archive")]
    Document {
        /// The file or its digest.
        name: String,
        /// What is wrong.
        source: DocumentError,
    },
    /// The OCI layout has a version that we don't know.
    #[error("OCI layout version `{0}` is not supported, only 1.0.0 is")]
    LayoutVersion(String),
    /// A digest is malformed.
    #[error(transparent)]
    Digest(#[from] DigestError),
    /// A blob isn't what its descriptor says.
    #[error(transparent)]
    Blob(#[from] BlobError),
    /// Descriptor and document disagree.
    #[error("`{name}` says that it is `{body}`, its descriptor says `{descriptor}`")]
    MediaType {
        /// The document's digest.
        name: String,
        /// In the descriptor.
        descriptor: String,
        /// In the document.
        body: String,
    },
    /// A document that can be read as a manifest and as an index.
    #[error("`{name}` is both a manifest and an index")]
    Ambiguous {
        /// The document's digest.
        name: String,
    },
    /// Neither an image manifest nor an index, or a config or layer of another kind.
    #[error("`{name}` of type `{media_type}` is not part of an image that can be loaded")]
    NotAnImage {
        /// Its digest.
        name: String,
        /// Its media type.
        media_type: String,
    },
    /// No image in it for this machine.
    #[error("the archive has no image for {wanted}, only for {}", found.join(", "))]
    Platform {
        /// This machine's.
        wanted: Platform,
        /// What there is.
        found: Vec<String>,
    },
    /// An index in an index in an index.
    #[error("indexes are nested too deeply")]
    TooDeep,
    /// The number of layers in manifest and config differs.
    #[error("the manifest has {layers} layers, the config {diff_ids} diff IDs")]
    LayerCount {
        /// In the manifest.
        layers: usize,
        /// In the config.
        diff_ids: usize,
    },
    /// More layers than any overlay takes.
    #[error("the image has {0} layers, {MAX_LAYERS} at most are supported")]
    TooManyLayers(usize),
    /// A layer is compressed in another way than its media type says.
    #[error("layer `{0}` is not compressed as its media type says")]
    Compression(Digest),
    /// A layer can't be unpacked.
    #[error("cannot unpack layer `{diff_id}`")]
    Apply {
        /// Which, by the config.
        diff_id: DiffId,
        /// Why.
        source: ApplyError,
    },
    /// A layer unpacks from other bytes than the config says.
    #[error("layer `{expected}` of the config has diff ID `{found}`")]
    DiffId {
        /// In the config.
        expected: DiffId,
        /// Of the tar.
        found: DiffId,
    },
    /// A layer can't be made.
    #[error(transparent)]
    Draft(#[from] DraftError),
    /// A layer in the store can't be read.
    #[error(transparent)]
    Layer(#[from] LayerError),
    /// A layer in the store can't be held.
    #[error(transparent)]
    Lease(#[from] LeaseError),
    /// The image can't be put.
    #[error(transparent)]
    Image(#[from] ImageError),
}

/// The most layers of an image: overlayfs takes 500 lowerdirs.
const MAX_LAYERS: usize = 500;

/// How deep indexes may be nested.
const MAX_DEPTH: usize = 3;

/// `manifest.json` of a docker archive.
#[derive(Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct DockerManifest {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    #[serde(default)]
    layers: Option<Vec<String>>,
}

#[derive(Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct LayoutVersion {
    image_layout_version: String,
}

/// One layer in the archive.
struct ArchivedLayer {
    name: String,
    /// Digest and size in its descriptor, where it has one.
    expected: Option<(Digest, u64)>,
    compression: Option<LayerCompression>,
}

/// Puts the images of an archive into the store. Digests and sizes are checked while they are read; a layer whose
/// diff ID is known isn't unpacked again. Of an image for several platforms this machine's is taken.
///
/// # Errors
///
/// [`LoadError`]; images that were complete before it stay.
pub fn load(store: &Store, source: Source<'_>) -> Result<Vec<Loaded>, LoadError> {
    let name = match &source {
        Source::Path(path) => path.file_name().unwrap_or_default().to_string_lossy().into_owned(),
        Source::Reader(_) => "-".to_owned(),
    };
    let archive = Archive::open(store, source)?;
    let mut load = Load { store, archive: &archive, name, lease: store.lease()? };
    // docker's own archives since 25 are both: the OCI part then has digests for everything.
    if let Some(index) = archive.document("index.json", Document::<ImageIndex>::LIMIT_BYTES)? {
        return load.layout(index);
    }
    if let Some(manifest) = archive.document("manifest.json", Document::<ImageIndex>::LIMIT_BYTES)? {
        return load.docker(manifest);
    }
    Err(LoadError::NotAnArchive { path: archive.path().to_owned(), source: None })
}

struct Load<'a> {
    store: &'a Store,
    archive: &'a Archive,
    name: String,
    lease: Lease,
}

impl Load<'_> {
    fn layout(&mut self, index: Vec<u8>) -> Result<Vec<Loaded>, LoadError> {
        let version = self.archive.document("oci-layout", 4096)?;
        let version = version.ok_or_else(|| LoadError::Missing { name: "oci-layout".to_owned() })?;
        let version: LayoutVersion = parse("oci-layout", version)?;
        if version.image_layout_version != "1.0.0" {
            return Err(LoadError::LayoutVersion(version.image_layout_version));
        }
        let index: ImageIndex = parse("index.json", index)?;
        let descriptors: Vec<&Descriptor> =
            index.manifests().iter().filter(|it| !document::is_attestation(it)).collect();
        let mut loaded: Vec<Loaded> = Vec::new();
        for descriptor in for_this_machine(&descriptors)? {
            let image = self.image(descriptor, 0)?;
            let names = names_of(descriptor);
            let annotation = |key: &str| descriptor.annotations().as_ref().and_then(|all| all.get(key));
            let mut selectors = vec![descriptor.digest().to_string()];
            selectors.extend(annotation(REF_NAME).cloned());
            match loaded.iter_mut().find(|known| known.image.id == image.id) {
                Some(known) => {
                    known.references.extend(names);
                    known.selectors.extend(selectors);
                }
                None => loaded.push(Loaded { image, references: names, selectors }),
            }
        }
        Ok(loaded)
    }

    fn image(&mut self, descriptor: &Descriptor, depth: usize) -> Result<Image, LoadError> {
        if depth > MAX_DEPTH {
            return Err(LoadError::TooDeep);
        }
        let manifest = match document::parse(descriptor, self.blob(descriptor)?)? {
            ManifestOrIndex::Manifest(manifest) => manifest,
            ManifestOrIndex::Index(index) => {
                let all: Vec<&Descriptor> =
                    index.manifests().iter().filter(|it| !document::is_attestation(it)).collect();
                let fitting = for_this_machine(&all)?;
                let first = fitting.first().ok_or_else(|| no_platform(&all))?;
                return self.image(first, depth + 1);
            }
        };
        let media_type = manifest.config().media_type();
        if !document::is_config(media_type) {
            return Err(LoadError::NotAnImage {
                name: manifest.config().digest().to_string(),
                media_type: media_type.to_string(),
            });
        }
        let config = self.blob(manifest.config())?;
        let mut layers = Vec::new();
        for layer in manifest.layers() {
            let (digest, size_bytes) = document::target(layer)?;
            let compression = MediaTypes::layer_compression(layer.media_type()).ok_or_else(|| {
                LoadError::NotAnImage { name: digest.to_string(), media_type: layer.media_type().to_string() }
            })?;
            layers.push(ArchivedLayer {
                name: blob_name(digest),
                expected: Some((digest, size_bytes)),
                compression: Some(compression),
            });
        }
        self.put(config, layers)
    }

    /// A document by its descriptor, checked.
    fn blob(&self, descriptor: &Descriptor) -> Result<Vec<u8>, LoadError> {
        let expected = document::target(descriptor)?;
        let name = blob_name(expected.0);
        let bytes = self
            .archive
            .document(&name, Document::<ImageIndex>::LIMIT_BYTES)?
            .ok_or(LoadError::Missing { name })?;
        blob::check(expected, (Digest::of(&bytes), bytes.len() as u64))?;
        Ok(bytes)
    }

    fn docker(&mut self, manifest: Vec<u8>) -> Result<Vec<Loaded>, LoadError> {
        let images: Vec<DockerManifest> = parse("manifest.json", manifest)?;
        let mut loaded = Vec::new();
        for image in images {
            let config = self
                .archive
                .document(&image.config, Document::<ImageConfig>::LIMIT_BYTES)?
                .ok_or_else(|| LoadError::Missing { name: image.config.clone() })?;
            // A config is named by its digest; another name says nothing.
            let stem = image.config.rsplit('/').next().unwrap_or_default();
            if let Ok(digest) = Digest::from_hex(stem.strip_suffix(".json").unwrap_or(stem)) {
                blob::check((digest, config.len() as u64), (Digest::of(&config), config.len() as u64))?;
            }
            let layers = image.layers.unwrap_or_default();
            let layers =
                layers.into_iter().map(|name| ArchivedLayer { name, expected: None, compression: None });
            let put = self.put(config, layers.collect())?;
            // A name that docker wouldn't write names nothing.
            let names = image.repo_tags.unwrap_or_default();
            let references = names.iter().filter_map(|name| name.parse().ok()).collect();
            loaded.push(Loaded { image: put, references, selectors: Vec::new() });
        }
        Ok(loaded)
    }

    fn put(&mut self, config: Vec<u8>, layers: Vec<ArchivedLayer>) -> Result<Image, LoadError> {
        let config: Document<ImageConfig> = Document::parse("image config", config)
            .map_err(|source| LoadError::Document { name: "config".to_owned(), source })?;
        let diff_ids = config.value().rootfs.diff_ids.clone();
        if diff_ids.len() > MAX_LAYERS {
            return Err(LoadError::TooManyLayers(diff_ids.len()));
        }
        if diff_ids.len() != layers.len() {
            return Err(LoadError::LayerCount { layers: layers.len(), diff_ids: diff_ids.len() });
        }
        let created = config.value().created.clone().unwrap_or_else(now_text);
        let mut ids: Vec<LayerId> = Vec::new();
        for (diff_id, archived) in diff_ids.iter().zip(&layers) {
            let layer = match self.store.find_diff_id(*diff_id, &mut self.lease)? {
                Some(known) => known,
                None => {
                    let layer = self.unpack(*diff_id, archived, &created)?;
                    self.lease.hold(&[layer.id()])?;
                    layer
                }
            };
            ids.push(layer.id());
        }
        Ok(self.store.put_image(config, ids)?)
    }

    fn unpack(&self, diff_id: DiffId, archived: &ArchivedLayer, created: &str) -> Result<Layer, LoadError> {
        let missing = || LoadError::Missing { name: archived.name.clone() };
        let (reader, size_bytes) = self.archive.file(&archived.name)?.ok_or_else(missing)?;
        if let Some((digest, expected)) = archived.expected.filter(|(_, expected)| *expected != size_bytes) {
            return Err(BlobError::Size { digest, expected, found: size_bytes }.into());
        }
        let draft = self.store.draft()?;
        let path = self.archive.path().join(&archived.name);
        let blob = BlobReader::new(reader);
        let (compression, tar) = bounded_decompress(Box::new(blob.clone())).on("read", &path)?;
        if let (Some(said), Some((digest, _))) = (archived.compression, archived.expected) {
            let agrees = matches!(
                (said, compression),
                (LayerCompression::None, Compression::Identity)
                    | (LayerCompression::Gzip, Compression::Gzip)
                    | (LayerCompression::Zstd, Compression::Zstd)
            );
            if !agrees {
                return Err(LoadError::Compression(digest));
            }
        }
        let mut tar = HashingReader::new(tar);
        let applied = layer::apply_tar(&mut tar, draft.tree_fd(), ApplyLimits::default());
        // What follows the last entry counts for the digests too.
        let drained = io::copy(&mut tar, &mut io::sink());
        let (tar, found, tar_bytes) = tar.finish();
        applied.map_err(|source| LoadError::Apply { diff_id, source })?;
        drained.on("read", &path)?;
        drop(tar);
        let blob_found = blob.finish().on("read", &path)?;
        if let Some(expected) = archived.expected {
            blob::check(expected, blob_found)?;
        }
        let found = DiffId::new(found);
        if found != diff_id {
            return Err(LoadError::DiffId { expected: diff_id, found });
        }
        self.keep_original(&draft, diff_id, archived, compression)?;
        let later =
            LaterFacts { diff_id: Some(diff_id), tar_bytes: Some(tar_bytes), ..LaterFacts::default() };
        write_new_json(&draft.dir().join("facts.json"), &later)?;
        let origin = LayerOrigin::Archive(self.name.clone());
        let facts = LayerFacts { created: created.to_owned(), origin, diff_id: Some(diff_id) };
        Ok(draft.commit(facts)?)
    }

    /// Keeps the layer's tar, compressed, unless our own tar of the tree is the same: without it the image could
    /// never leave again under its own name.
    fn keep_original(
        &self,
        draft: &LayerDraft,
        diff_id: DiffId,
        archived: &ArchivedLayer,
        compression: Compression,
    ) -> Result<(), LoadError> {
        if layer::diff_id(draft.tree_fd()).is_ok_and(|(own, _)| own == diff_id) {
            return Ok(());
        }
        let missing = || LoadError::Missing { name: archived.name.clone() };
        let (mut reader, _) = self.archive.file(&archived.name)?.ok_or_else(missing)?;
        let path = draft.dir().join(ORIGINAL);
        let mut file = File::create_new(&path).on("make", &path)?;
        if is_kept_as_it_came(compression) {
            io::copy(&mut reader, &mut file).on("copy to", &path)?;
            return Ok(());
        }
        let (_, mut tar) = bounded_decompress(reader).on("read", self.archive.path())?;
        let copied = zstd::Encoder::new(&mut file, 1).and_then(|mut encoder| {
            io::copy(&mut tar, &mut encoder)?;
            encoder.finish()
        });
        copied.on("copy to", &path)?;
        Ok(())
    }
}

fn parse<T: serde::de::DeserializeOwned + Clone>(name: &'static str, bytes: Vec<u8>) -> Result<T, LoadError> {
    let document = Document::parse(name, bytes)
        .map_err(|source| LoadError::Document { name: name.to_owned(), source })?;
    Ok(Document::<T>::value(&document).clone())
}

fn blob_name(digest: Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

fn platform_of(descriptor: &Descriptor) -> Option<Platform> {
    let platform = descriptor.platform().as_ref()?;
    Some(Platform {
        os: platform.os().to_string(),
        architecture: platform.architecture().to_string(),
        variant: platform.variant().clone(),
    })
}

/// Those that name no platform or one that this machine runs.
fn for_this_machine<'a>(descriptors: &[&'a Descriptor]) -> Result<Vec<&'a Descriptor>, LoadError> {
    let host = Platform::host();
    let fits = |descriptor: &&&Descriptor| platform_of(descriptor).is_none_or(|it| host.accepts(&it));
    let fitting: Vec<&Descriptor> = descriptors.iter().filter(fits).copied().collect();
    if fitting.is_empty() && !descriptors.is_empty() {
        return Err(no_platform(descriptors));
    }
    Ok(fitting)
}

fn no_platform(descriptors: &[&Descriptor]) -> LoadError {
    let found = descriptors.iter().filter_map(|it| platform_of(it)).map(|it| it.to_string()).collect();
    LoadError::Platform { wanted: Platform::host(), found }
}

/// The names in a descriptor's annotations: containerd's is whole, OCI's may be a mere tag, which names nothing.
/// The annotation with an image's tag or name.
const REF_NAME: &str = "org.opencontainers.image.ref.name";

fn names_of(descriptor: &Descriptor) -> Vec<Reference> {
    let annotations = descriptor.annotations().as_ref();
    let value = |key: &str| annotations.and_then(|all| all.get(key));
    if let Some(reference) = value("io.containerd.image.name").and_then(|name| name.parse().ok()) {
        return vec![reference];
    }
    let name = value(REF_NAME).filter(|name| name.contains([':', '/']));
    name.and_then(|name| name.parse().ok()).into_iter().collect()
}
