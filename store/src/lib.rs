//! What calque keeps on disk, and the rules of sharing it.
//!
//! A store is a folder that many calque processes use at once, without a daemon. Layers are directory trees,
//! images a config and layer ids, and everything has one JSON document that is the truth; the SQLite index beside
//! them is disposable. Nothing half-made has a name: things are made under `tmp/`, renamed in, recorded last.

pub mod archive;
mod blob;
mod build_log;
mod cache_mount;
mod container;
mod draft;
mod durability;
mod file;
mod file_data;
mod format;
mod gc;
mod id;
mod image;
mod index;
mod input_node;
pub mod layer;
mod layers;
mod layout;
mod lease;
mod lock;
pub mod merged;
mod open;
mod process;
mod record;
pub mod snapshot;
pub mod stat_index;
mod tag;
#[cfg(test)]
mod testing;
pub mod tree_writer;
mod usage;
pub mod working_tree;

#[cfg(test)]
mod merged_overlay_test;
#[cfg(test)]
mod random_tree;
#[cfg(test)]
mod tree_writer_test;

pub use build_log::{BuildInfo, BuildLog, BuildLogError};
pub use cache_mount::{CacheMount, CacheMountError, CacheMountRecord, Sharing};
pub use container::{
    Container, ContainerDir, ContainerError, ContainerRecord, ContainerState, FindContainerError,
};
pub use draft::{DraftError, LayerDraft};
pub use durability::SettleError;
pub use file::{FileError, is_full};
pub use gc::{GcError, Swept};
pub use id::{ContentId, ContentKey, IdError, LayerId, NodeId, ShapeKey, StepKey};
pub use image::{FindImageError, Image, ImageError, RemoveImageError, Removed};
pub use index::IndexError;
pub use input_node::{InputMetadata, InputNode, InputNodeError, InputValue};
pub use layers::{Layer, LayerError, LayerFacts, LayerOrigin, LayerSize};
pub use lease::{Lease, LeaseError};
pub use lock::{LockError, StepLock};
pub use open::{OpenError, Store, StoreMode, StoreOptions};
pub use record::{RecordError, RunWindow, StepPlace, StepRecord};
pub use tag::{TagError, TagRecord};
pub use usage::{Usage, UsageError, UsageGroup};
