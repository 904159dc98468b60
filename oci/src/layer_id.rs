//! The identities that OCI defines for layers and images.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::{Digest, DigestError};

macro_rules! digest_newtype {
    ($name:ident) => {
        impl $name {
            /// Takes a digest to be this identity.
            pub const fn new(digest: Digest) -> Self {
                Self(digest)
            }

            /// The digest.
            pub const fn digest(&self) -> Digest {
                self.0
            }

            /// The 64 hexadecimal digits.
            pub fn hex(&self) -> String {
                self.0.hex()
            }

            /// The first 12 hexadecimal digits.
            pub fn short(&self) -> String {
                self.0.short()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }

        impl FromStr for $name {
            type Err = DigestError;

            fn from_str(text: &str) -> Result<Self, DigestError> {
                text.parse().map(Self)
            }
        }
    };
}

/// Digest of an *uncompressed* layer tar. Names no blob: blobs are named by [`Digest`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct DiffId(Digest);
digest_newtype!(DiffId);

/// Identity of a stack of layers, base first (image-spec `config.md`, "Layer ChainID").
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ChainId(Digest);
digest_newtype!(ChainId);

impl ChainId {
    /// The chain of one layer.
    pub fn of_base(layer: DiffId) -> Self {
        Self(layer.0)
    }

    /// This chain with `layer` on top (image-spec `config.md`, "Layer ChainID").
    #[must_use]
    pub fn push(self, layer: DiffId) -> Self {
        Self(Digest::of(format!("{} {}", self.0, layer.0).as_bytes()))
    }

    /// The chain of `layers`, base first; nothing for no layer.
    pub fn of(layers: &[DiffId]) -> Option<Self> {
        let (base, rest) = layers.split_first()?;
        Some(rest.iter().fold(Self::of_base(*base), |chain, layer| chain.push(*layer)))
    }
}

/// Digest of an image's config: what docker calls the image ID.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ImageId(Digest);
digest_newtype!(ImageId);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chain_is_the_hash_of_its_parent_and_the_diff_id() {
        let (a, b) = (DiffId::new(Digest::of(b"a")), DiffId::new(Digest::of(b"b")));
        assert_eq!(ChainId::of(&[]), None);
        assert_eq!(ChainId::of(&[a]).unwrap().digest(), a.digest());
        let expected = Digest::of(format!("{a} {b}").as_bytes());
        assert_eq!(ChainId::of(&[a, b]).unwrap().digest(), expected);
    }
}
