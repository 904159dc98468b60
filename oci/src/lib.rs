//! The vocabulary of OCI images: digests, references, platforms, documents.
//!
//! Pure types: nothing here touches a file or the network, so that every other crate can speak these words.

mod config;
mod digest;
mod document;
mod layer_id;
mod media_type;
mod platform;
mod reference;
mod runtime_spec;
mod user;

pub use config::{ExposedPort, Healthcheck, HistoryEntry, ImageConfig, RootFs, RunConfig};
pub use digest::{Digest, DigestError, Hasher, HashingReader, HashingWriter};
pub use document::{Document, DocumentError};
pub use layer_id::{ChainId, DiffId, ImageId};
pub use media_type::{LayerCompression, MediaTypes};
pub use oci_spec::image::{Descriptor, ImageIndex, ImageManifest, MediaType};
pub use oci_spec::runtime::Spec as RuntimeSpec;
pub use platform::{Platform, PlatformError};
pub use reference::{Reference, ReferenceError};
pub use runtime_spec::{ProcessSettings, SpecError, runtime_spec, set_console_size};
pub use user::{UserError, UserIds, home_of, resolve_owner, resolve_user};
