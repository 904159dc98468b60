//! A stage on its way: the config and the scope, instruction by instruction. Pure.
//!
//! ```text
//! let mut state = StageState::new(&graph, stage.id(), BaseState::Image(&config));
//! for step in stage.steps() {
//!     let expansion = state.expand(&graph, step)?;    // a value: make keys of it, carry it out
//!     state.apply(&expansion.step, Some(created));    // config, scope, history
//! }
//! state.config()                                      // everything but rootfs.diff_ids
//! ```

use oci::ImageConfig;
use parser::ParseError;

use crate::event::BuildWarning;
use crate::expand::Expander;
use crate::expanded::{ConfigChange, ExpandedStep};
use crate::graph::{BuildGraph, StageId, Step};
use crate::scope::Scope;
use crate::{history, metadata};

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
        let (config, parent) = match base {
            BaseState::Scratch => {
                let mut config = ImageConfig::scratch(graph.stage(stage).platform().clone());
                "/".clone_into(&mut config.config.working_dir);
                (config, None)
            }
            BaseState::Image(config) => (config.clone(), None),
            BaseState::Stage(parent) => (parent.config.clone(), Some(&parent.scope)),
        };
        let config = metadata::inherit(config);
        let scope = match parent {
            Some(parent) => Scope::of_stage(parent, &config.config),
            None => Scope::of_image(&config.config),
        };
        Self { config, scope, cmd_is_ours: false }
    }

    /// Expands one step. All its words see the variables as they were before it; only the defaults of one `ARG` see
    /// those before them on the same line (BuildKit).
    ///
    /// # Errors
    ///
    /// The fault with its place in the Dockerfile: an expansion that fails, a value that isn't valid, or (code
    /// `unsupported`) something that calque can't do yet, by name.
    pub fn expand(&self, graph: &BuildGraph, step: &Step) -> Result<Expansion, ParseError> {
        Expander::new(graph, step, &self.config.config, &self.scope).expand()
    }

    /// Takes a step over into config, scope and history.
    ///
    /// `created` (RFC 3339) stands in the history: for a step with a layer, the moment it first ran (its record's);
    /// for all others that of the layer below (so that a cached rebuild makes the same bytes), nothing where there is
    /// none. The config's own `created` becomes the same.
    pub fn apply(&mut self, step: &ExpandedStep, created: Option<&str>) {
        let text = match step {
            ExpandedStep::Run(run) => Some(run.history.clone()),
            ExpandedStep::Copy(copy) | ExpandedStep::Add(copy) => Some(copy.history.clone()),
            ExpandedStep::Workdir(workdir) => {
                self.config.config.working_dir.clone_from(&workdir.path);
                Some(workdir.history.clone())
            }
            ExpandedStep::Config(change) => {
                let text = metadata::apply(&mut self.config, change, self.cmd_is_ours);
                match change {
                    ConfigChange::Arg(args) => {
                        args.iter().for_each(|(name, value)| self.scope.declare(name, value.as_deref()));
                    }
                    ConfigChange::Env(pairs) => {
                        pairs.iter().for_each(|(key, value)| self.scope.set_env(key, value));
                    }
                    ConfigChange::Cmd(_) => self.cmd_is_ours = true,
                    _ => {}
                }
                text
            }
        };
        if let Some(text) = text {
            self.config.history.push(history::entry(text, created, !step.makes_layer()));
        }
        if let Some(created) = created {
            self.config.created = Some(created.to_owned());
        }
    }

    /// The config so far. `rootfs.diff_ids` are the base image's: the caller adds those of the new layers.
    pub fn config(&self) -> &ImageConfig {
        &self.config
    }

    /// The variables so far.
    pub fn scope(&self) -> &Scope {
        &self.scope
    }
}

#[cfg(test)]
mod tests;
