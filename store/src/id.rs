//! Identities that are calque's own: layers by a random id, everything keyed by content with blake3.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The text is not the lower-case hexadecimal form of an id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not {digits} lower-case hexadecimal digits")]
pub struct IdError {
    text: String,
    digits: usize,
}

fn write_hex(bytes: &[u8], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
}

fn parse_hex<const N: usize>(text: &str) -> Result<[u8; N], IdError> {
    let nibble = |digit: u8| match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    };
    let bad = || IdError { text: text.to_owned(), digits: 2 * N };
    if text.len() != 2 * N {
        return Err(bad());
    }
    let mut out = [0_u8; N];
    for (byte, pair) in out.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        *byte = nibble(pair[0]).zip(nibble(pair[1])).map(|(high, low)| high << 4 | low).ok_or_else(bad)?;
    }
    Ok(out)
}

macro_rules! id_newtype {
    ($(#[$doc:meta])* $name:ident, $size:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name([u8; $size]);

        impl $name {
            /// Takes the raw bytes to be this identity.
            pub const fn from_bytes(bytes: [u8; $size]) -> Self {
                Self(bytes)
            }

            /// The raw bytes.
            pub const fn as_bytes(&self) -> &[u8; $size] {
                &self.0
            }

            /// The first 12 hexadecimal digits, for tables and messages.
            pub fn short(&self) -> String {
                self.to_string()[..12].to_owned()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write_hex(&self.0, f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({self})", stringify!($name))
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                parse_hex(text).map(Self)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

id_newtype!(
    /// The name of a layer in this store: random, so it says nothing of the content.
    LayerId,
    16
);
id_newtype!(
    /// Digest of all that a step's result depends on, its parent named by key (DESIGN section 3).
    StepKey,
    32
);
id_newtype!(
    /// Like [`StepKey`], the parent named by the content of its layers.
    ContentKey,
    32
);
id_newtype!(
    /// Digest of a step's own inputs, without its parent.
    ShapeKey,
    32
);
id_newtype!(
    /// Identity of a layer's content for early cut-off.
    ContentId,
    32
);
id_newtype!(
    /// Identity of one node of an input tree: blake3 of its canonical bytes.
    NodeId,
    32
);

impl From<blake3::Hash> for StepKey {
    fn from(hash: blake3::Hash) -> Self {
        Self(hash.into())
    }
}

impl From<blake3::Hash> for ContentKey {
    fn from(hash: blake3::Hash) -> Self {
        Self(hash.into())
    }
}

impl From<blake3::Hash> for ShapeKey {
    fn from(hash: blake3::Hash) -> Self {
        Self(hash.into())
    }
}

impl From<blake3::Hash> for ContentId {
    fn from(hash: blake3::Hash) -> Self {
        Self(hash.into())
    }
}

impl From<blake3::Hash> for NodeId {
    fn from(hash: blake3::Hash) -> Self {
        Self(hash.into())
    }
}

impl LayerId {
    /// A new id that no other layer has.
    pub fn random() -> Self {
        Self(random_bytes())
    }
}

/// `N` bytes from the kernel's random source.
pub(crate) fn random_bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0_u8; N];
    getrandom::fill(&mut bytes).expect("getrandom(2) can't fail once the machine has booted");
    bytes
}

/// `2 * N` random hexadecimal digits: names of files in flight, ids of containers and builds.
pub(crate) fn random_hex<const N: usize>() -> String {
    random_bytes::<N>().iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_round_trip_as_text_and_refuse_all_else() {
        let id = LayerId::random();
        assert_eq!(id.to_string().parse::<LayerId>().unwrap(), id);
        assert_eq!(serde_json::from_str::<LayerId>(&serde_json::to_string(&id).unwrap()).unwrap(), id);
        for bad in ["", "../..", &"A".repeat(32), &"a".repeat(31), &"a".repeat(33)] {
            assert!(bad.parse::<LayerId>().is_err(), "{bad}");
        }
        assert!("é".repeat(16).parse::<LayerId>().is_err(), "as many bytes but no digits");
    }
}
