//! The stages of a Dockerfile as a graph: what each builds on, what its steps read, which are needed. Pure.
//!
//! The order of work is:
//!
//! 1. [`BuildGraph::new`] resolves every name;
//! 2. the caller gets the config of each base image ([`BuildGraph::image_bases`]) and hands its `ONBUILD` triggers to
//!    [`BuildGraph::add_triggers`], which may make further stages needed: again until nothing is left;
//! 3. stages, steps and numbers are now final. [`BuildGraph::needed`] is an order in which each stage comes after all
//!    that it depends on.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use oci::{Platform, Reference};
use parser::{
    Dockerfile, Escape, Instruction, InstructionKind, ParseError, ParseErrors, RunMountKind, Source, Span,
    Spanned, Word,
};

use crate::NetworkMode;
use crate::event::BuildWarning;
use crate::platform_args::platform_args;
use crate::scope::GlobalScope;
use crate::suggest::nearest;

/// What a graph depends on beside the Dockerfile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GraphOptions {
    /// `--target`: a stage's name (in any case) or index; the last stage where nothing is said.
    pub target: Option<String>,
    /// `--build-arg`s that have a value (`K` without one in the client's environment isn't passed at all).
    pub build_args: BTreeMap<String, String>,
    /// The platform of the result.
    pub platform: Platform,
    /// The platform of this machine.
    pub build_platform: Platform,
    /// Names given by `--build-context`. A name that is an image's counts for all ways to write that image.
    pub named_contexts: BTreeSet<String>,
    /// `build --network`: what RUN has where it says nothing.
    pub network: NetworkMode,
}

/// The place of a stage in the Dockerfile, from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StageId(usize);

impl StageId {
    /// From 0: what `--from=0` counts.
    pub const fn index(self) -> usize {
        self.0
    }
}

impl fmt::Display for StageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// An image that a Dockerfile names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageSource {
    /// Its name, normalised.
    pub reference: Reference,
    /// For which platform.
    pub platform: Platform,
    /// Where it is named.
    pub span: Span,
    /// What to say when there is no such image: the name may be meant for a stage.
    pub hint: Option<String>,
}

/// What a stage starts from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Base {
    /// Nothing.
    Scratch,
    /// What an earlier stage made.
    Stage(StageId),
    /// An image.
    Image(ImageSource),
    /// A `--build-context`, by its name as it was given there. A stage that is *named* as a context is replaced by it
    /// and has no steps.
    NamedContext(String),
}

/// What COPY and mounts read from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ContentSource {
    /// The build context.
    Context,
    /// Nothing (`from=scratch`).
    Scratch,
    /// What an earlier stage made.
    Stage(StageId),
    /// A `--build-context`, by its name as it was given there.
    NamedContext(String),
    /// An image.
    Image(ImageSource),
}

/// Who wrote a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// It stands in the stage.
    Stage,
    /// An `ONBUILD` of the base stage: its spans are places in this Dockerfile.
    StageTrigger,
    /// An `ONBUILD` of the base image: its spans mean nothing, the given one is that of our `FROM`.
    ImageTrigger(Span),
}

/// One instruction of a stage, and what it reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    instruction: Instruction,
    origin: Origin,
    position: u32,
    number: Option<u32>,
    sources: Vec<Option<ContentSource>>,
}

impl Step {
    /// The instruction, its variables not yet expanded.
    pub fn instruction(&self) -> &Instruction {
        &self.instruction
    }

    /// Who wrote it.
    pub fn origin(&self) -> Origin {
        self.origin
    }

    /// Its place in the stage from 0, triggers included.
    pub fn position(&self) -> u32 {
        self.position
    }

    /// `2` of `[build 2/4]`; config instructions have none.
    pub fn number(&self) -> Option<u32> {
        self.number
    }

    /// Where it stands in this Dockerfile.
    pub fn span(&self) -> Span {
        self.locate(self.instruction.span)
    }

    /// A place of the instruction as a place in this Dockerfile.
    pub fn locate(&self, span: Span) -> Span {
        match self.origin {
            Origin::Stage | Origin::StageTrigger => span,
            Origin::ImageTrigger(from) => from,
        }
    }

    /// What COPY reads from; [`ContentSource::Context`] for ADD.
    pub fn source(&self) -> Option<&ContentSource> {
        match self.instruction.kind {
            InstructionKind::Copy(_) | InstructionKind::Add(_) => self.sources.first()?.as_ref(),
            _ => None,
        }
    }

    /// What each mount of RUN reads from, in order; nothing for a tmpfs, a secret and a cache that starts empty.
    pub fn mount_sources(&self) -> &[Option<ContentSource>] {
        match self.instruction.kind {
            InstructionKind::Run(_) => &self.sources,
            _ => &[],
        }
    }

    /// All that it reads from.
    pub fn sources(&self) -> impl Iterator<Item = &ContentSource> {
        self.sources.iter().flatten()
    }

    /// The instruction on one line, as progress shows it: `RUN make`, `RUN <<EOF (set -e...)`.
    pub fn text(&self) -> String {
        let mut text = self.instruction.text.split_whitespace().collect::<Vec<_>>().join(" ");
        if let InstructionKind::Run(run) = &self.instruction.kind
            && let [heredoc] = run.heredocs.as_slice()
        {
            let mut lines = heredoc.body.trim().lines();
            let first = lines.next().unwrap_or_default();
            let rest = if lines.next().is_some() { "..." } else { "" };
            text.push_str(&format!(" ({first}{rest})"));
        }
        text
    }
}

/// A stage with its names resolved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BuildStage {
    id: StageId,
    name: Option<String>,
    shown_name: String,
    from: Span,
    base: Base,
    base_name: String,
    platform: Platform,
    steps: Vec<Step>,
}

impl BuildStage {
    /// Its place in the Dockerfile.
    pub fn id(&self) -> StageId {
        self.id
    }

    /// The name after `AS`, lower-cased.
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// The name that messages and cache records use: `build`, `stage-1`; empty in a Dockerfile of one unnamed stage.
    pub fn shown_name(&self) -> &str {
        &self.shown_name
    }

    /// Its `FROM`.
    pub fn from(&self) -> Span {
        self.from
    }

    /// What it starts from.
    pub fn base(&self) -> &Base {
        &self.base
    }

    /// What `FROM` names, after expansion.
    pub fn base_name(&self) -> &str {
        &self.base_name
    }

    /// The platform that it is built for (`FROM --platform`, else that of its base stage, else the target's).
    pub fn platform(&self) -> &Platform {
        &self.platform
    }

    /// Its steps in order, triggers first.
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// `4` of `[build 2/4]`: the FROM of an image or context, and each RUN, COPY, ADD and WORKDIR.
    pub fn total(&self) -> u32 {
        self.from_count() + self.steps.iter().filter(|step| step.number.is_some()).count() as u32
    }

    fn from_count(&self) -> u32 {
        u32::from(matches!(self.base, Base::Image(_) | Base::NamedContext(_)))
    }

    /// `[build 1/4] FROM debian:12`; nothing for scratch and for an earlier stage.
    pub fn from_label(&self) -> Option<String> {
        (self.from_count() == 1).then(|| format!("{}FROM {}", self.prefix(1), self.base_name))
    }

    /// `[build 2/4] RUN make`; without the brackets for config instructions.
    pub fn step_label(&self, step: &Step) -> String {
        let prefix = step.number.map(|number| self.prefix(number)).unwrap_or_default();
        let trigger = if step.origin == Origin::Stage { "" } else { "ONBUILD " };
        format!("{prefix}{trigger}{}", step.text())
    }

    /// `2/4`, with the stage's name where the Dockerfile has several: `build 2/4`.
    pub fn step_number(&self, step: &Step) -> Option<String> {
        step.number.map(|number| self.numbered(number))
    }

    fn numbered(&self, number: u32) -> String {
        let space = if self.shown_name.is_empty() { "" } else { " " };
        let total = self.total();
        let width = total.to_string().len();
        format!("{}{space}{number:>width$}/{total}", self.shown_name)
    }

    fn prefix(&self, number: u32) -> String {
        format!("[{}] ", self.numbered(number))
    }

    /// The stages that it needs.
    pub fn dependencies(&self) -> BTreeSet<StageId> {
        let base = match &self.base {
            Base::Stage(id) => Some(*id),
            _ => None,
        };
        let sources = self.steps.iter().flat_map(Step::sources).filter_map(|source| match source {
            ContentSource::Stage(id) => Some(*id),
            _ => None,
        });
        base.into_iter().chain(sources).collect()
    }

    fn number_steps(&mut self) {
        let mut next = self.from_count();
        for (position, step) in self.steps.iter_mut().enumerate() {
            step.position = position as u32;
            step.number = is_numbered(&step.instruction.kind).then(|| {
                next += 1;
                next
            });
        }
    }
}

fn is_numbered(kind: &InstructionKind) -> bool {
    matches!(
        kind,
        InstructionKind::Run(_)
            | InstructionKind::Copy(_)
            | InstructionKind::Add(_)
            | InstructionKind::Workdir(_)
    )
}

/// The stages of a Dockerfile and what they need of each other.
#[derive(Clone, Debug)]
pub struct BuildGraph {
    stages: Vec<BuildStage>,
    target: StageId,
    escape: Escape,
    global: GlobalScope,
    options: GraphOptions,
    warnings: Vec<BuildWarning>,
}

impl BuildGraph {
    /// Resolves the names of `dockerfile`.
    ///
    /// # Errors
    ///
    /// All faults that don't hide one another: bases that are blank or malformed, platforms, stages that are unknown
    /// or defined too late, variables in `--from`, and a target that doesn't exist.
    pub fn new(dockerfile: &Dockerfile, options: &GraphOptions) -> Result<Self, GraphErrors> {
        todo!()
    }

    /// Puts the `ONBUILD` triggers of its base image before the steps of `stage`, in order. Call it once for each
    /// needed stage with [`Base::Image`] (or a named context that is an image), with the `OnBuild` list of its
    /// config, before anything of the build is run. Afterwards [`BuildGraph::needed`] may have more stages.
    ///
    /// # Errors
    ///
    /// A trigger that can't be parsed or resolved, at the place of the `FROM`.
    pub fn add_triggers(&mut self, stage: StageId, triggers: &[String]) -> Result<(), GraphErrors> {
        todo!()
    }

    /// The stage that is asked for.
    pub fn target(&self) -> StageId {
        self.target
    }

    /// The stages that the target needs, itself included, dependencies first.
    pub fn needed(&self) -> Vec<StageId> {
        todo!()
    }

    /// A stage.
    pub fn stage(&self, id: StageId) -> &BuildStage {
        &self.stages[id.0]
    }

    /// All stages in the order of the file, those that aren't needed too.
    pub fn stages(&self) -> &[BuildStage] {
        &self.stages
    }

    /// The images that needed stages are built on or read from, as far as is known before all triggers are added.
    pub fn images(&self) -> Vec<&ImageSource> {
        todo!()
    }

    /// The character that escapes in words.
    pub fn escape(&self) -> Escape {
        self.escape
    }

    /// What `FROM` lines see.
    pub fn global(&self) -> &GlobalScope {
        &self.global
    }

    /// What the graph was made with.
    pub fn options(&self) -> &GraphOptions {
        &self.options
    }

    /// `SOURCE_DATE_EPOCH` as a build argument, else as a global ARG; not checked to be a number.
    pub fn source_date_epoch(&self) -> Option<&str> {
        self.global
            .build_arg("SOURCE_DATE_EPOCH")
            .or_else(|| self.global.get("SOURCE_DATE_EPOCH"))
            .filter(|text| !text.is_empty())
    }

    /// Warnings so far: `UndefinedArgInFrom`, build arguments that no `ARG` of the whole Dockerfile consumes.
    pub fn warnings(&self) -> &[BuildWarning] {
        &self.warnings
    }
}

/// What is wrong with the stages of a Dockerfile: like the parser's errors, each with its place.
pub type GraphErrors = ParseErrors;
