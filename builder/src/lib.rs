//! From the IR of a Dockerfile to an image.

mod cancel;
pub mod event;
mod request;

pub use cancel::CancelToken;
pub use request::{BuildRequest, CachePolicy, NamedContext, NetworkMode, SecretValue};
