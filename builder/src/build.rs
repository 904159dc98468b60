//! One build from start to end.

use std::time::Duration;

use store::{Image, Store};

use crate::base::BaseImages;
use crate::error::BuildError;
use crate::event::{BuildWarning, Observer};
use crate::request::BuildRequest;

/// What a build works with.
#[derive(Clone, Copy)]
pub struct Services<'a> {
    /// Where layers, records and images are kept.
    pub store: &'a Store,
    /// Opens the sandbox, at most once and only when a RUN step really runs.
    pub sandbox: &'a (dyn Fn() -> Result<sandbox::Sandbox, sandbox::OpenError> + Sync),
    /// How FROM gets an image.
    pub base_images: &'a dyn BaseImages,
}

/// What a build made.
#[derive(Clone, Debug)]
pub struct BuildOutcome {
    /// Identity of the build: the folder of its logs.
    pub build: String,
    /// The image, in the store and tagged.
    pub image: Image,
    /// All warnings, in the order in which they were found.
    pub warnings: Vec<BuildWarning>,
    /// How many steps that make layers there were.
    pub steps: usize,
    /// How many of them were taken from the cache.
    pub cached: usize,
    /// The whole build.
    pub duration: Duration,
}

/// Builds an image.
///
/// Tags move at the very end, all layers being in the store; on any error the store is as if nothing had been asked,
/// but for the results of steps that ended well, the logs, and what a failed step wrote (kept under `failed/`).
///
/// # Errors
///
/// The first thing that went wrong; what else runs is then stopped.
pub fn build(
    request: &BuildRequest,
    services: &Services<'_>,
    observer: &dyn Observer,
) -> Result<BuildOutcome, BuildError> {
    let _ = (request, services, observer);
    todo!()
}
