//! From the IR of a Dockerfile to an image.

mod base;
mod build;
pub mod cache_key;
mod cancel;
pub mod cause;
mod chmod;
mod context;
mod difference;
mod error;
pub mod event;
mod expand;
pub mod expanded;
mod fault;
mod from_line;
pub mod graph;
pub mod history;
pub mod input;
mod metadata;
mod platform_args;
mod progress;
mod request;
mod resolve;
mod run_mount;
pub mod scope;
mod source_tree;
mod stage_state;
mod step;

pub use base::{BaseImage, BaseImageError, BaseImages, StoreImages};
pub use build::{BuildOutcome, Services, build};
pub use cancel::CancelToken;
pub use context::{Absence, ContextError};
pub use error::{BuildError, NamedContextError, ProcessFailure, StepError, StoreFailure};
pub use request::{BuildRequest, CachePolicy, NamedContext, NetworkMode, SecretValue};
pub use source_tree::SourceError;
pub use stage_state::{BaseState, Expansion, StageState};
