//! From the IR of a Dockerfile to an image.

pub mod cache_key;
mod cancel;
pub mod cause;
pub mod event;
pub mod expanded;
pub mod graph;
pub mod input;
mod platform_args;
mod request;
pub mod scope;
mod stage_state;
mod suggest;

pub use cancel::CancelToken;
pub use request::{BuildRequest, CachePolicy, NamedContext, NetworkMode, SecretValue};
pub use stage_state::{BaseState, Expansion, StageState};
