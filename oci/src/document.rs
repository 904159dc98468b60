//! JSON documents that keep the bytes they were received as.

use std::fmt;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::Digest;

/// A JSON document: the bytes as received, the parsed value and the digest of the bytes.
///
/// A digest belongs to bytes: the value is never serialised again to get it.
#[derive(Clone)]
pub struct Document<T> {
    bytes: Vec<u8>,
    value: T,
    digest: Digest,
}

/// Why bytes are no document of the type asked for.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DocumentError {
    /// The bytes are not JSON of that shape.
    #[error("not a valid {kind}")]
    Json {
        /// What was expected.
        kind: &'static str,
        /// What the JSON reader says.
        source: serde_json::Error,
    },
    /// Larger than anything honest (rule R13).
    #[error("a {kind} of {size_bytes} bytes is over the limit of {limit_bytes}")]
    TooLarge {
        /// What was expected.
        kind: &'static str,
        /// Size of what came.
        size_bytes: usize,
        /// The limit.
        limit_bytes: usize,
    },
}

impl<T: DeserializeOwned> Document<T> {
    /// Most bytes that a manifest, index or config may have: containerd's and Docker Hub's own limit is 4 MiB.
    pub const LIMIT_BYTES: usize = 4 << 20;

    /// Reads `bytes` as a `kind`, a word for messages such as "image config".
    ///
    /// # Errors
    ///
    /// [`DocumentError`] when they are too many or of another shape.
    pub fn parse(kind: &'static str, bytes: Vec<u8>) -> Result<Self, DocumentError> {
        if bytes.len() > Self::LIMIT_BYTES {
            return Err(DocumentError::TooLarge {
                kind,
                size_bytes: bytes.len(),
                limit_bytes: Self::LIMIT_BYTES,
            });
        }
        let value = serde_json::from_slice(&bytes).map_err(|source| DocumentError::Json { kind, source })?;
        let digest = Digest::of(&bytes);
        Ok(Self { bytes, value, digest })
    }
}

impl<T: Serialize> Document<T> {
    /// Writes `value` once, compactly, in the order of its fields; these bytes are the document from now on.
    pub fn from_value(value: T) -> Self {
        let bytes = serde_json::to_vec(&value).expect("our document types have only string keys");
        let digest = Digest::of(&bytes);
        Self { bytes, value, digest }
    }
}

impl<T> Document<T> {
    /// The bytes as received or first written.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The parsed value.
    pub fn value(&self) -> &T {
        &self.value
    }

    /// Digest of the bytes.
    pub fn digest(&self) -> Digest {
        self.digest
    }
}

impl<T: fmt::Debug> fmt::Debug for Document<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Document")
            .field("digest", &self.digest)
            .field("value", &self.value)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_digest_is_of_the_bytes_received_not_of_the_value() {
        let spaced = Document::<serde_json::Value>::parse("document", b"{ \"a\": 1 }".to_vec()).unwrap();
        assert_eq!(spaced.digest(), Digest::of(b"{ \"a\": 1 }"));
        let ours = Document::from_value(spaced.value().clone());
        assert_eq!(ours.bytes(), b"{\"a\":1}");
        assert_ne!(ours.digest(), spaced.digest());
    }

    #[test]
    fn a_document_over_the_limit_is_refused_before_it_is_parsed() {
        let huge = vec![b'['; Document::<serde_json::Value>::LIMIT_BYTES + 1];
        let error = Document::<serde_json::Value>::parse("manifest", huge).unwrap_err();
        assert!(matches!(error, DocumentError::TooLarge { .. }), "{error}");
    }
}
