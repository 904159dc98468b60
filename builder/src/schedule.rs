//! Stages side by side, the steps of a stage one after another.
//!
//! Each needed stage has a thread. It waits where a step needs another stage, so a stage runs as early as it can.
//! The first error stops the others: it is kept, theirs are not.

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock};

use oci::DiffId;
use sandbox::Sandbox;
use store::merged::Merged;
use store::snapshot::Snapshots;
use store::{BuildLog, LayerId, Lease, RunWindow};

use crate::build::Services;
use crate::cache::StepSite;
use crate::cancel::CancelToken;
use crate::error::{BuildError, StepError, StoreFailure};
use crate::event::VertexId;
use crate::expanded::{CopySourceStep, CopyStep, ExpandedStep};
use crate::export::DiffQueue;
use crate::graph::{Base, BuildGraph, BuildStage, ContentSource, StageId, Step};
use crate::input::Parent;
use crate::progress::Progress;
use crate::request::BuildRequest;
use crate::root::{Roots, SourceRoot};
use crate::stage_state::{BaseState, StageState};
use crate::stage_tree::StageTrees;
use crate::step;

/// All that the stages of one build share.
pub(crate) struct Executor<'a> {
    pub(crate) request: &'a BuildRequest,
    pub(crate) services: &'a Services<'a>,
    pub(crate) graph: &'a BuildGraph,
    pub(crate) progress: &'a Progress<'a>,
    pub(crate) roots: &'a Roots<'a>,
    pub(crate) log: &'a BuildLog,
    /// `SOURCE_DATE_EPOCH`, in seconds.
    pub(crate) epoch: Option<i64>,
    lease: Mutex<Lease>,
    sandbox: Mutex<Option<Sandbox>>,
    snapshots: OnceLock<Snapshots>,
    /// The working trees of stages, where there is no overlay.
    pub(crate) trees: StageTrees,
    finished: Mutex<BTreeMap<StageId, Arc<StageResult>>>,
    changed: Condvar,
    failure: Mutex<Option<BuildError>>,
    stop: CancelToken,
    diffs: DiffQueue,
    exported: BTreeSet<StageId>,
    steps: AtomicUsize,
    cached: AtomicUsize,
}

/// A stage, as far as it has come.
#[derive(Clone)]
pub(crate) struct StageResult {
    pub(crate) state: StageState,
    /// Base first.
    pub(crate) layers: Vec<StageLayer>,
    pub(crate) parent: Parent,
    /// When the topmost layer was first made.
    pub(crate) created: Option<String>,
    /// What the next step builds on, for the display.
    pub(crate) vertex: Option<VertexId>,
}

/// A layer of a stage.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StageLayer {
    pub(crate) id: LayerId,
    pub(crate) origin: LayerSource,
}

/// Where a stage's layer comes from, which decides how keys name it.
#[derive(Clone, Copy, Debug)]
pub(crate) enum LayerSource {
    /// With the base image.
    Image(DiffId),
    /// A step made it.
    Step { window: Option<RunWindow> },
}

/// Why a stage ended early.
pub(crate) enum Halt {
    Failed(Box<BuildError>),
    /// Another stage failed, or the build was cancelled.
    Stopped,
}

impl<'a> Executor<'a> {
    #[expect(clippy::too_many_arguments, reason = "the parts of one build, put together in one place")]
    pub(crate) fn new(
        request: &'a BuildRequest,
        services: &'a Services<'a>,
        graph: &'a BuildGraph,
        progress: &'a Progress<'a>,
        roots: &'a Roots<'a>,
        log: &'a BuildLog,
        lease: Lease,
        stop: CancelToken,
        epoch: Option<i64>,
    ) -> Self {
        let mut exported = BTreeSet::new();
        let mut next = Some(graph.target());
        while let Some(id) = next {
            exported.insert(id);
            next = match graph.stage(id).base() {
                Base::Stage(below) => Some(*below),
                _ => None,
            };
        }
        Self {
            request,
            services,
            graph,
            progress,
            roots,
            log,
            epoch,
            lease: Mutex::new(lease),
            sandbox: Mutex::new(None),
            snapshots: OnceLock::new(),
            trees: StageTrees::default(),
            finished: Mutex::new(BTreeMap::new()),
            changed: Condvar::new(),
            failure: Mutex::new(None),
            stop,
            diffs: DiffQueue::new(services.store.clone()),
            exported,
            steps: AtomicUsize::new(0),
            cached: AtomicUsize::new(0),
        }
    }

    /// Runs all needed stages and gives the target's result.
    pub(crate) fn run(&self) -> Result<Arc<StageResult>, BuildError> {
        let ended = CancelToken::new().map_err(|source| BuildError::Descriptors { source })?;
        std::thread::scope(|scope| {
            scope.spawn(|| self.watch(&ended));
            let stages: Vec<_> = self
                .graph
                .needed()
                .into_iter()
                .map(|id| {
                    std::thread::Builder::new()
                        .name(format!("stage {id}"))
                        .spawn_scoped(scope, move || self.stage_thread(id))
                })
                .collect();
            for stage in stages {
                match stage {
                    Ok(thread) => {
                        if let Err(panic) = thread.join() {
                            ended.cancel();
                            std::panic::resume_unwind(panic);
                        }
                    }
                    Err(source) => self.fail(BuildError::Descriptors { source }),
                }
            }
            ended.cancel();
        });
        if let Some(error) = self.failure.lock().expect("no thread panics while it fails").take() {
            return Err(error);
        }
        let target = self.stage_result(self.graph.target());
        target.ok_or(BuildError::Cancelled)
    }

    /// Turns the caller's wish to stop into ours.
    fn watch(&self, ended: &CancelToken) {
        if crate::cancel::wait_for_either(&self.request.cancel, ended) {
            self.fail(BuildError::Cancelled);
        }
    }

    fn stage_thread(&self, id: StageId) {
        match self.run_stage(self.graph.stage(id)) {
            Ok(result) => {
                self.finished().insert(id, Arc::new(result));
                self.changed.notify_all();
            }
            Err(Halt::Failed(error)) => self.fail(*error),
            Err(Halt::Stopped) => {}
        }
    }

    /// Keeps the first error and stops everything.
    fn fail(&self, error: BuildError) {
        self.failure.lock().expect("no thread panics while it fails").get_or_insert(error);
        self.stop.cancel();
        // Under the lock, so that no thread can be between its look at `stop` and its wait.
        let _finished = self.finished();
        self.changed.notify_all();
    }

    fn finished(&self) -> MutexGuard<'_, BTreeMap<StageId, Arc<StageResult>>> {
        self.finished.lock().expect("no thread panics while it holds the results")
    }

    fn stage_result(&self, id: StageId) -> Option<Arc<StageResult>> {
        self.finished().get(&id).cloned()
    }

    /// Asked to stop: readable when the build fails or is cancelled.
    pub(crate) fn stop(&self) -> &CancelToken {
        &self.stop
    }

    pub(crate) fn lease(&self) -> MutexGuard<'_, Lease> {
        self.lease.lock().expect("no thread panics while it holds the lease")
    }

    /// How many steps that make layers there were, and how many of them were cached.
    pub(crate) fn counts(&self) -> (usize, usize) {
        (self.steps.load(Ordering::Relaxed), self.cached.load(Ordering::Relaxed))
    }

    /// Waits until a stage is complete.
    pub(crate) fn wait_for_stage(&self, id: StageId) -> Result<Arc<StageResult>, StepError> {
        let mut finished = self.finished();
        loop {
            if let Some(result) = finished.get(&id) {
                return Ok(Arc::clone(result));
            }
            if self.stop.is_cancelled() {
                return Err(StepError::Stopped);
            }
            finished = self.changed.wait(finished).expect("no thread panics while it holds the results");
        }
    }

    /// The sandbox, opened by the first step that needs it.
    pub(crate) fn sandbox(&self) -> Result<Sandbox, StepError> {
        let mut sandbox = self.sandbox.lock().expect("no thread panics while it opens the sandbox");
        if let Some(open) = &*sandbox {
            return Ok(open.clone());
        }
        let open = (self.services.sandbox)().map_err(StepError::Sandbox)?;
        for note in open.notes() {
            self.progress.note(note);
        }
        Ok(sandbox.insert(open).clone())
    }

    /// How a step sees its layers. What is less than usual is told once.
    pub(crate) fn snapshots(&self) -> Snapshots {
        *self.snapshots.get_or_init(|| {
            let (snapshots, note) = self.services.store.snapshots();
            if let Some(note) = note {
                self.progress.note(note);
            }
            snapshots
        })
    }

    /// The trees of `layers` (base first), opened, topmost first.
    pub(crate) fn open_trees(&self, layers: &[StageLayer]) -> Result<Vec<OwnedFd>, StepError> {
        let fail = |source| StepError::Store { op: "open a layer", source: StoreFailure::Layer(source) };
        let open = |layer: &StageLayer| self.services.store.layer(layer.id)?.open_tree();
        layers.iter().rev().map(open).collect::<Result<_, _>>().map_err(fail)
    }

    /// `layers` (base first) seen as one tree.
    pub(crate) fn merged(&self, layers: &[StageLayer]) -> Result<Merged, StepError> {
        let fail = |source| StepError::Store { op: "open the layers", source: StoreFailure::Merged(source) };
        Merged::new(self.open_trees(layers)?).map_err(fail)
    }

    fn run_stage(&self, stage: &BuildStage) -> Result<StageResult, Halt> {
        let mut result = self.start_stage(stage)?;
        for step in stage.steps() {
            if self.stop.is_cancelled() {
                return Err(Halt::Stopped);
            }
            self.run_step(stage, step, &mut result)?;
        }
        self.trees.remove(stage.id());
        Ok(result)
    }

    fn start_stage(&self, stage: &BuildStage) -> Result<StageResult, Halt> {
        let state = |base: BaseState<'_>| StageState::new(self.graph, stage.id(), base);
        let step_failed =
            |source| self.step_failed(stage.from(), stage.from_label().unwrap_or_default(), source);
        let image = match stage.base() {
            Base::Scratch => {
                return Ok(StageResult {
                    state: state(BaseState::Scratch),
                    layers: Vec::new(),
                    parent: Parent::Scratch,
                    created: None,
                    vertex: None,
                });
            }
            Base::Stage(id) => {
                let below = self.wait_for_stage(*id).map_err(step_failed)?;
                let mut result = StageResult::clone(&below);
                result.state = state(BaseState::Stage(&below.state));
                return Ok(result);
            }
            Base::Image(source) => self.roots.image(source),
            Base::NamedContext(name) => match self.roots.named_image(name) {
                Some(image) => image,
                None => return self.start_on_folder(stage, name),
            },
        };
        let vertex = self.progress.start(
            stage.from_label().unwrap_or_else(|| format!("FROM {}", stage.base_name())),
            Vec::new(),
            Some(stage.from()),
        );
        let config = image.image.config.value();
        let layers = image.image.layers.iter().zip(&config.rootfs.diff_ids);
        let layers = layers
            .map(|(id, diff_id)| StageLayer { id: *id, origin: LayerSource::Image(*diff_id) })
            .collect();
        vertex.cached();
        vertex.done();
        Ok(StageResult {
            state: state(BaseState::Image(config)),
            layers,
            parent: Parent::Image {
                name: stage.base_name().to_owned(),
                id: image.image.id,
                digest: image.digest,
            },
            created: config.created.clone(),
            vertex: Some(vertex.id()),
        })
    }

    /// A folder as a base is a COPY of all of it onto nothing.
    fn start_on_folder(&self, stage: &BuildStage, name: &str) -> Result<StageResult, Halt> {
        let label = stage.from_label().unwrap_or_else(|| format!("FROM {name}"));
        let text = CopySourceStep::Path { text: ".".to_owned(), span: stage.from() };
        let copy = CopyStep {
            from: ContentSource::NamedContext(name.to_owned()),
            sources: vec![text],
            target: "/".to_owned(),
            chown: None,
            chmod: None,
            link: false,
            parents: false,
            exclude: Vec::new(),
            unpack: false,
            unpack_remote: false,
            checksum: None,
            history: format!("FROM {name}"),
        };
        let mut result = StageResult {
            state: StageState::new(self.graph, stage.id(), BaseState::Scratch),
            layers: Vec::new(),
            parent: Parent::Scratch,
            created: None,
            vertex: None,
        };
        let expanded = ExpandedStep::Copy(Box::new(copy));
        let site = LayerStep {
            stage,
            expanded: &expanded,
            label,
            span: stage.from(),
            position: u32::MAX,
            number: String::new(),
            text: format!("FROM {name}"),
        };
        self.run_layer_step(&site, &mut result)?;
        Ok(result)
    }

    fn run_step(&self, stage: &BuildStage, step: &Step, result: &mut StageResult) -> Result<(), Halt> {
        let label = stage.step_label(step);
        let expansion = result
            .state
            .expand(self.graph, step)
            .map_err(|error| self.step_failed(step.span(), label.clone(), StepError::Expand(error)))?;
        for warning in expansion.warnings {
            self.progress.warn(warning);
        }
        if !expansion.step.makes_layer() {
            result.state.apply(&expansion.step, result.created.as_deref());
            return Ok(());
        }
        let site = LayerStep {
            stage,
            expanded: &expansion.step,
            label,
            span: step.span(),
            position: step.position(),
            number: stage.step_number(step).unwrap_or_default(),
            text: step.text(),
        };
        self.run_layer_step(&site, result)
    }

    fn run_layer_step(&self, step: &LayerStep<'_>, result: &mut StageResult) -> Result<(), Halt> {
        let failed = |source| self.step_failed(step.span, step.label.clone(), source);
        // Waited for before the step's own clock starts.
        let mut inputs: Vec<VertexId> = result.vertex.into_iter().collect();
        for source in sources(step.expanded) {
            if let SourceRoot::Stage(stage) = self.roots.get(source, self).map_err(failed)? {
                inputs.extend(stage.vertex);
            }
        }
        let running = self.progress.start(step.label.clone(), inputs, Some(step.span));
        let site = StepSite { executor: self, step, below: result, running: &running };
        let outcome = match step.expanded {
            ExpandedStep::Run(run) => step::run(&site, run),
            ExpandedStep::Copy(copy) | ExpandedStep::Add(copy) => step::copy(&site, copy),
            ExpandedStep::Workdir(workdir) => step::workdir(&site, workdir),
            ExpandedStep::Config(_) => unreachable!("config instructions make no layer"),
        };
        let obtained = match outcome {
            Ok(obtained) => obtained,
            Err(StepError::Stopped) => {
                running.cancelled();
                return Err(Halt::Stopped);
            }
            Err(error) => {
                running.failed(error.to_string());
                return Err(failed(error));
            }
        };
        self.steps.fetch_add(1, Ordering::Relaxed);
        if obtained.cached {
            self.cached.fetch_add(1, Ordering::Relaxed);
            running.cached();
        }
        running.done();
        if self.exported.contains(&step.stage.id()) && !obtained.cached {
            self.diffs.push(obtained.layer);
        }
        result
            .layers
            .push(StageLayer { id: obtained.layer, origin: LayerSource::Step { window: obtained.window } });
        result.state.apply(step.expanded, Some(&obtained.created));
        result.created = Some(obtained.created);
        result.parent =
            Parent::Step { key: obtained.step_key, number: step.number.clone(), text: step.text.clone() };
        result.vertex = Some(running.id());
        Ok(())
    }

    fn step_failed(&self, span: parser::Span, label: String, source: StepError) -> Halt {
        match source {
            StepError::Stopped => Halt::Stopped,
            source => Halt::Failed(Box::new(BuildError::Step { span, label, source: Box::new(source) })),
        }
    }
}

/// A step that makes a layer.
pub(crate) struct LayerStep<'a> {
    pub(crate) stage: &'a BuildStage,
    pub(crate) expanded: &'a ExpandedStep,
    pub(crate) label: String,
    pub(crate) span: parser::Span,
    pub(crate) position: u32,
    pub(crate) number: String,
    pub(crate) text: String,
}

/// Where a step reads from beside its own stage.
fn sources(step: &ExpandedStep) -> Vec<&ContentSource> {
    use crate::expanded::Mount;
    match step {
        ExpandedStep::Copy(copy) | ExpandedStep::Add(copy) if copy.reads_root() => vec![&copy.from],
        ExpandedStep::Run(run) => run
            .mounts
            .iter()
            .filter_map(|mount| match &mount.mount {
                Mount::Bind { from, .. } => Some(from),
                Mount::Cache { from, .. } => from.as_ref(),
                _ => None,
            })
            .collect(),
        _ => Vec::new(),
    }
}
