//! Manifests and indexes, checked before they are believed (rule R8).

use oci::{Descriptor, Digest, Document, ImageIndex, ImageManifest, MediaType, MediaTypes};
use serde_json::Value;

use super::LoadError;

/// A manifest or an index.
pub(super) enum ManifestOrIndex {
    Manifest(Box<ImageManifest>),
    Index(Box<ImageIndex>),
}

/// What a descriptor points at.
pub(super) fn target(descriptor: &Descriptor) -> Result<(Digest, u64), LoadError> {
    Ok((descriptor.digest().to_string().parse()?, descriptor.size()))
}

/// Whether a descriptor stands for what isn't an image to run: buildkit's attestations.
pub(super) fn is_attestation(descriptor: &Descriptor) -> bool {
    let annotations = descriptor.annotations().as_ref();
    annotations.is_some_and(|all| all.contains_key("vnd.docker.reference.type"))
        || descriptor.platform().as_ref().is_some_and(|platform| platform.os().to_string() == "unknown")
}

/// Reads the document that `descriptor` points at. Its own media type must be the descriptor's, and it must not look
/// like both a manifest and an index (CVE-2021-41190).
pub(super) fn parse(descriptor: &Descriptor, bytes: Vec<u8>) -> Result<ManifestOrIndex, LoadError> {
    let media_type = descriptor.media_type();
    let what = || descriptor.digest().to_string();
    let value: Document<Value> =
        Document::parse("manifest", bytes).map_err(|source| LoadError::Document { name: what(), source })?;
    let has = |key: &str| value.value().get(key).is_some_and(|value| !value.is_null());
    if let Some(body) = value.value().get("mediaType").and_then(Value::as_str)
        && body != media_type.to_string()
    {
        return Err(LoadError::MediaType {
            name: what(),
            descriptor: media_type.to_string(),
            body: body.to_owned(),
        });
    }
    let is_manifest = MediaTypes::is_manifest(media_type);
    if !is_manifest && !MediaTypes::is_index(media_type) {
        return Err(LoadError::NotAnImage { name: what(), media_type: media_type.to_string() });
    }
    if (is_manifest && has("manifests")) || (!is_manifest && (has("layers") || has("config"))) {
        return Err(LoadError::Ambiguous { name: what() });
    }
    let bytes = value.bytes().to_vec();
    let fail = |source| LoadError::Document { name: what(), source };
    if is_manifest {
        let document: Document<ImageManifest> = Document::parse("manifest", bytes).map_err(fail)?;
        Ok(ManifestOrIndex::Manifest(Box::new(document.value().clone())))
    } else {
        let document: Document<ImageIndex> = Document::parse("index", bytes).map_err(fail)?;
        Ok(ManifestOrIndex::Index(Box::new(document.value().clone())))
    }
}

/// Whether a media type is an image config's, OCI's or docker's.
pub(super) fn is_config(media_type: &MediaType) -> bool {
    matches!(media_type, MediaType::ImageConfig)
        || media_type.to_string() == "application/vnd.docker.container.image.v1+json"
}
