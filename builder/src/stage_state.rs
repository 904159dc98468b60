//! A stage on its way: the config and the scope, instruction by instruction. Pure.
//!
//! ```text
//! let mut state = StageState::new(&graph, stage.id(), BaseState::Image(&config));
//! for step in stage.steps() {
//!     let expansion = state.expand(step)?;            // a value: make keys of it, carry it out
//!     state.apply(&expansion.step, Some(created));    // config, scope, history
//! }
//! state.config()                                      // everything but rootfs.diff_ids
//! ```

use oci::ImageConfig;
use parser::ParseError;

use crate::event::BuildWarning;
use crate::expanded::ExpandedStep;
use crate::graph::{BuildGraph, StageId, Step};
use crate::scope::Scope;

/// What a stage starts from.
#[derive(Clone, Copy, Debug)]
pub enum BaseState<'a> {
    /// `FROM scratch`, or a named context that is a folder.
    Scratch,
    /// An image's config. Its layers and history are taken over; its triggers belong to
    /// [`BuildGraph::add_triggers`] and are dropped here.
    Image(&'a ImageConfig),
    /// The end of an earlier stage.
    Stage(&'a StageState),
}

/// The config and the scope after some steps of a stage.
#[derive(Clone, Debug)]
pub struct StageState {
    config: ImageConfig,
    scope: Scope,
    cmd_is_ours: bool,
}

/// A step after expansion.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expansion {
    /// What to do.
    pub step: ExpandedStep,
    /// `UndefinedVar`, `SecretsUsedInArgOrEnv` ...
    pub warnings: Vec<BuildWarning>,
}

impl StageState {
    /// The state before the first step of `stage`.
    ///
    /// `PATH` gets its default where the base has none, in the config too (docker does). A scratch config has the
    /// stage's platform and the working directory `/`.
    pub fn new(graph: &BuildGraph, stage: StageId, base: BaseState<'_>) -> Self {
        todo!()
    }

    /// Expands one step. All its words see the variables as they were before it.
    ///
    /// # Errors
    ///
    /// The fault with its place in the Dockerfile: an expansion that fails, a value that isn't valid, or (code
    /// `unsupported`) something that calque can't do yet, by name.
    pub fn expand(&self, graph: &BuildGraph, step: &Step) -> Result<Expansion, ParseError> {
        todo!()
    }

    /// Takes a step over into config, scope and history.
    ///
    /// `created` (RFC 3339) stands in the history: for a step with a layer, the moment it first ran (its record's);
    /// for all others that of the layer below (so that a cached rebuild makes the same bytes), nothing where there is
    /// none. The config's own `created` becomes the same.
    pub fn apply(&mut self, step: &ExpandedStep, created: Option<&str>) {
        todo!()
    }

    /// The config so far. `rootfs.diff_ids` are the base's: the caller adds those of the new layers.
    pub fn config(&self) -> &ImageConfig {
        &self.config
    }

    /// The variables so far.
    pub fn scope(&self) -> &Scope {
        &self.scope
    }
}
