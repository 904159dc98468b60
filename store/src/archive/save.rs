//! Writing images.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use oci::{Digest, Document, ImageIndex, Reference};
use serde::Serialize;
use serde_json::{Value, json};

use crate::blob::{BlobError, BlobFolder};
use crate::file::{OnPath, if_found, json_bytes};
use crate::id::random_hex;
use crate::{FileError, Image, Layer, LayerError, Lease, LeaseError, Store};

/// What [`save`] writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SaveFormat {
    /// A tar of an OCI image layout.
    OciArchive,
    /// What `docker save` writes: the same with docker's `manifest.json`, so that either kind of reader takes it.
    DockerArchive,
}

/// Images can't be saved.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SaveError {
    /// A file of the store or of the archive can't be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// A layer can't be read.
    #[error(transparent)]
    Layer(#[from] LayerError),
    /// A layer can't be held.
    #[error(transparent)]
    Lease(#[from] LeaseError),
    /// A blob isn't what it was.
    #[error(transparent)]
    Blob(#[from] BlobError),
    /// The folder has another layout than ours.
    #[error("`{}` is not an OCI layout that can be added to", path.display())]
    NotALayout {
        /// The file that says so.
        path: PathBuf,
    },
    /// The archive can't be written to where it goes.
    #[error("cannot write the archive")]
    Write {
        /// Why.
        source: io::Error,
    },
}

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
const LAYOUT: &str = r#"{"imageLayoutVersion":"1.0.0"}"#;

/// A file of an archive.
enum Blob {
    Bytes(Vec<u8>),
    Layer(Box<Layer>, u64),
}

impl Blob {
    fn size_bytes(&self) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::Layer(_, size_bytes) => *size_bytes,
        }
    }

    fn write(&self, store: &Store, out: &mut dyn Write) -> Result<(), SaveError> {
        match self {
            Self::Bytes(bytes) => out.write_all(bytes).map_err(|source| SaveError::Write { source }),
            Self::Layer(layer, _) => {
                store.write_layer_tar(layer, out)?;
                Ok(())
            }
        }
    }
}

/// An image with the layers it needs.
struct Prepared<'a> {
    image: &'a Image,
    references: &'a [Reference],
    layers: Vec<(Digest, u64)>,
}

/// All that is to be written, and what holds it meanwhile.
struct Plan<'a> {
    images: Vec<Prepared<'a>>,
    /// Layers by diff ID.
    blobs: BTreeMap<Digest, Blob>,
    _lease: Lease,
}

impl<'a> Plan<'a> {
    fn new(store: &Store, images: &'a [(Image, Vec<Reference>)]) -> Result<Self, SaveError> {
        let mut lease = store.lease()?;
        let mut blobs = BTreeMap::new();
        let mut prepared = Vec::new();
        let mut known = HashMap::new();
        for (image, references) in images {
            lease.hold(&image.layers)?;
            let mut layers = Vec::new();
            for (id, diff_id) in image.layers.iter().zip(&image.config.value().rootfs.diff_ids) {
                let digest = diff_id.digest();
                let size_bytes = match known.get(&digest) {
                    Some(size_bytes) => *size_bytes,
                    None => {
                        let layer = store.layer(*id)?;
                        let size_bytes = store.layer_tar_bytes(&layer)?;
                        blobs.insert(digest, Blob::Layer(Box::new(layer), size_bytes));
                        known.insert(digest, size_bytes);
                        size_bytes
                    }
                };
                layers.push((digest, size_bytes));
            }
            prepared.push(Prepared { image, references, layers });
        }
        Ok(Self { images: prepared, blobs, _lease: lease })
    }

    /// Adds configs and manifests to the blobs; the descriptors of an index.
    fn descriptors(&mut self) -> Vec<Value> {
        let mut descriptors = Vec::new();
        for prepared in &self.images {
            let config = prepared.image.config.bytes();
            let layers: Vec<Value> = prepared
                .layers
                .iter()
                .map(|(digest, size_bytes)| descriptor(LAYER, *digest, *size_bytes))
                .collect();
            let manifest = json_bytes(&json!({
                "schemaVersion": 2,
                "mediaType": MANIFEST,
                "config": descriptor(CONFIG, prepared.image.id.digest(), config.len() as u64),
                "layers": layers,
            }));
            let digest = Digest::of(&manifest);
            let mut plain = descriptor(MANIFEST, digest, manifest.len() as u64);
            plain["platform"] = json_value(&prepared.image.config.value().platform);
            if prepared.references.is_empty() {
                descriptors.push(plain.clone());
            }
            for reference in prepared.references {
                let mut named = plain.clone();
                named["annotations"] = json!({
                    "io.containerd.image.name": reference.to_string(),
                    "org.opencontainers.image.ref.name": reference.tag().unwrap_or_default(),
                });
                descriptors.push(named);
            }
            self.blobs.insert(prepared.image.id.digest(), Blob::Bytes(config.to_vec()));
            self.blobs.insert(digest, Blob::Bytes(manifest));
        }
        descriptors
    }
}

fn descriptor(media_type: &str, digest: Digest, size_bytes: u64) -> Value {
    json!({ "mediaType": media_type, "digest": digest.to_string(), "size": size_bytes })
}

fn json_value(value: &impl Serialize) -> Value {
    serde_json::to_value(value).expect("our documents have only string keys")
}

fn blob_name(digest: Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

fn index(descriptors: &[Value]) -> Vec<u8> {
    json_bytes(&json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": descriptors }))
}

/// Writes images and the names each is to have as one archive; the same images give the same bytes.
///
/// # Errors
///
/// [`SaveError`]; `out` is then part written.
pub fn save(
    store: &Store,
    images: &[(Image, Vec<Reference>)],
    format: SaveFormat,
    out: &mut dyn Write,
) -> Result<(), SaveError> {
    let mut plan = Plan::new(store, images)?;
    let mut tar = TarWriter { out };
    let descriptors = plan.descriptors();
    tar.folder("blobs/")?;
    tar.folder("blobs/sha256/")?;
    for (digest, blob) in &plan.blobs {
        tar.file(store, &blob_name(*digest), blob)?;
    }
    tar.file(store, "index.json", &Blob::Bytes(index(&descriptors)))?;
    if format == SaveFormat::DockerArchive {
        let manifest: Vec<Value> = plan
            .images
            .iter()
            .map(|prepared| {
                json!({
                    "Config": blob_name(prepared.image.id.digest()),
                    "RepoTags": prepared.references.iter().map(Reference::familiar).collect::<Vec<_>>(),
                    "Layers":
                        prepared.layers.iter().map(|(digest, _)| blob_name(*digest)).collect::<Vec<_>>(),
                })
            })
            .collect();
        tar.file(store, "manifest.json", &Blob::Bytes(json_bytes(&manifest)))?;
    }
    tar.file(store, "oci-layout", &Blob::Bytes(LAYOUT.into()))?;
    tar.finish()
}

/// Writes images into the OCI layout folder `to`, which is made where there is none; images in it already stay, but
/// lose names that are given again.
///
/// # Errors
///
/// [`SaveError`]; blobs that were complete before it stay, and the index is as it was.
pub fn save_layout(store: &Store, images: &[(Image, Vec<Reference>)], to: &Path) -> Result<(), SaveError> {
    let mut plan = Plan::new(store, images)?;
    let descriptors = plan.descriptors();
    let version = to.join("oci-layout");
    let index_path = to.join("index.json");
    let old = match if_found(fs::read(&version)).on("read", &version)? {
        Some(text) => {
            let value: Option<Value> = serde_json::from_slice(&text).ok();
            if value.is_none_or(|value| value["imageLayoutVersion"] != "1.0.0") {
                return Err(SaveError::NotALayout { path: version });
            }
            old_descriptors(&index_path)?
        }
        None => Vec::new(),
    };
    let blobs = BlobFolder::new(to)?;
    for (digest, blob) in &plan.blobs {
        blobs.put((*digest, blob.size_bytes()), |out| blob.write(store, out))?;
    }
    let name = |descriptor: &Value| {
        descriptor["annotations"]["org.opencontainers.image.ref.name"].as_str().map(str::to_owned)
    };
    let new_names: BTreeSet<Option<String>> = descriptors.iter().map(name).collect();
    let is_kept = |old: &Value| {
        let is_same = descriptors.iter().any(|new| new["digest"] == old["digest"] && name(new) == name(old));
        !is_same && (name(old).is_none() || !new_names.contains(&name(old)))
    };
    let all: Vec<Value> = old.into_iter().filter(is_kept).chain(descriptors.iter().cloned()).collect();
    replace(&version, LAYOUT.as_bytes())?;
    replace(&index_path, &index(&all))?;
    Ok(())
}

fn old_descriptors(path: &Path) -> Result<Vec<Value>, SaveError> {
    let Some(bytes) = if_found(fs::read(path)).on("read", path)? else { return Ok(Vec::new()) };
    // Read as the type that it must be, kept as the values that it has.
    let not_layout = || SaveError::NotALayout { path: path.to_owned() };
    Document::<ImageIndex>::parse("index", bytes.clone()).map_err(|_| not_layout())?;
    let value: Value = serde_json::from_slice(&bytes).map_err(|_| not_layout())?;
    Ok(value["manifests"].as_array().cloned().unwrap_or_default())
}

fn replace(path: &Path, bytes: &[u8]) -> Result<(), FileError> {
    let made = path.with_file_name(format!(".{}", random_hex::<8>()));
    let written =
        fs::write(&made, bytes).on("write", &made).and_then(|()| fs::rename(&made, path).on("replace", path));
    if written.is_err() {
        let _ = fs::remove_file(&made);
    }
    written
}

/// A tar of files that all belong to root and to 1970.
struct TarWriter<'a> {
    out: &'a mut dyn Write,
}

const BLOCK: u64 = 512;

impl TarWriter<'_> {
    fn header(
        &mut self,
        name: &str,
        kind: tar::EntryType,
        mode: u32,
        size_bytes: u64,
    ) -> Result<(), SaveError> {
        let mut header = tar::Header::new_ustar();
        header.set_path(name).expect("names in an archive of ours are short and relative");
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_size(size_bytes);
        header.set_cksum();
        self.out.write_all(header.as_bytes()).map_err(|source| SaveError::Write { source })
    }

    fn folder(&mut self, name: &str) -> Result<(), SaveError> {
        self.header(name, tar::EntryType::Directory, 0o755, 0)
    }

    fn file(&mut self, store: &Store, name: &str, blob: &Blob) -> Result<(), SaveError> {
        let size_bytes = blob.size_bytes();
        self.header(name, tar::EntryType::Regular, 0o644, size_bytes)?;
        // A damaged layer is told by its digest, and its length with it.
        blob.write(store, &mut *self.out)?;
        let padding = vec![0; (size_bytes.next_multiple_of(BLOCK) - size_bytes) as usize];
        self.out.write_all(&padding).map_err(|source| SaveError::Write { source })
    }

    fn finish(self) -> Result<(), SaveError> {
        let end = [0; 2 * BLOCK as usize];
        self.out.write_all(&end).and_then(|()| self.out.flush()).map_err(|source| SaveError::Write { source })
    }
}
