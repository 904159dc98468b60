//! Media types of manifests and layers: OCI's, and docker's older names for the same things.

use oci_spec::image::MediaType;

/// How the blob of a layer is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LayerCompression {
    /// A plain tar.
    None,
    /// gzip, maybe of several members.
    Gzip,
    /// zstd.
    Zstd,
}

/// Names and tests of media types.
#[derive(Debug)]
pub struct MediaTypes;

impl MediaTypes {
    /// docker's manifest of one image, schema 2.
    pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
    /// docker's list of manifests.
    pub const DOCKER_MANIFEST_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";

    /// Whether `media_type` is an image manifest, OCI's or docker's.
    pub fn is_manifest(media_type: &MediaType) -> bool {
        matches!(media_type, MediaType::ImageManifest) || media_type.to_string() == Self::DOCKER_MANIFEST
    }

    /// Whether `media_type` is an index of manifests, OCI's or docker's.
    pub fn is_index(media_type: &MediaType) -> bool {
        matches!(media_type, MediaType::ImageIndex) || media_type.to_string() == Self::DOCKER_MANIFEST_LIST
    }

    /// The compression that a layer's media type claims; nothing when it is no layer that we know
    /// (foreign and encrypted layers among them, rule R10).
    pub fn layer_compression(media_type: &MediaType) -> Option<LayerCompression> {
        match media_type.to_string().as_str() {
            "application/vnd.oci.image.layer.v1.tar" | "application/vnd.docker.image.rootfs.diff.tar" => {
                Some(LayerCompression::None)
            }
            "application/vnd.oci.image.layer.v1.tar+gzip"
            | "application/vnd.docker.image.rootfs.diff.tar.gzip" => Some(LayerCompression::Gzip),
            "application/vnd.oci.image.layer.v1.tar+zstd"
            | "application/vnd.docker.image.rootfs.diff.tar.zstd" => Some(LayerCompression::Zstd),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dockers_names_count_as_ocis() {
        assert!(MediaTypes::is_manifest(&MediaType::from(MediaTypes::DOCKER_MANIFEST)));
        assert!(MediaTypes::is_index(&MediaType::ImageIndex));
        let gzip = MediaType::from("application/vnd.docker.image.rootfs.diff.tar.gzip");
        assert_eq!(MediaTypes::layer_compression(&gzip), Some(LayerCompression::Gzip));
        let foreign = MediaType::from("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip");
        assert_eq!(MediaTypes::layer_compression(&foreign), None);
    }
}
