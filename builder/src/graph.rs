//! The stages of a Dockerfile as a graph: what each builds on, what its steps read, which are needed. Pure.
//!
//! The order of work is:
//!
//! 1. [`BuildGraph::new`] resolves every name;
//! 2. the caller gets the config of each base image ([`BuildGraph::images`]) and hands its `ONBUILD` triggers to
//!    [`BuildGraph::add_triggers`], which may make further stages needed: again until nothing is left;
//! 3. stages, steps and numbers are now final. [`BuildGraph::needed`] is an order in which each stage comes after all
//!    that it depends on.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use oci::{Platform, Reference};
use parser::{
    CheckOptions, CommentBlock, Dockerfile, Escape, Instruction, InstructionKind, ParseError, ParseErrors,
    Source, Span, nearest,
};

use crate::NetworkMode;
use crate::event::BuildWarning;
use crate::fault::{fault, word_fault};
use crate::from_line::FromLine;
use crate::platform_args::platform_args;
use crate::resolve::Names;
use crate::scope::{GlobalScope, unconsumed};

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
    /// The names that `build --add-host` gives addresses to.
    pub extra_hosts: Vec<String>,
}

/// The place of a stage in the Dockerfile, from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StageId(usize);

impl StageId {
    pub(crate) const fn new(index: usize) -> Self {
        Self(index)
    }

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
    /// Numbered by its stage later.
    pub(crate) fn new(instruction: Instruction, origin: Origin, sources: Vec<Option<ContentSource>>) -> Self {
        Self { instruction, origin, position: 0, number: None, sources }
    }

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
    is_replaced: bool,
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

    /// The name that messages and cache records use: `build`, `stage-1`; empty in a Dockerfile of one stage.
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
        self.base_count() + self.steps.iter().filter(|step| step.number.is_some()).count() as u32
    }

    fn base_count(&self) -> u32 {
        u32::from(matches!(self.base, Base::Image(_) | Base::NamedContext(_)))
    }

    /// `[build 1/4] FROM debian:12`; nothing for scratch and for an earlier stage.
    pub fn from_label(&self) -> Option<String> {
        (self.base_count() == 1).then(|| format!("{}FROM {}", self.prefix(1), self.base_name))
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
        let mut next = self.base_count();
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
    check: CheckOptions,
    comments: Vec<CommentBlock>,
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
    /// or defined too late, variables in `--from`, and a target that doesn't exist (code `unknown-target`, with an
    /// empty span: it stands in no file).
    pub fn new(dockerfile: &Dockerfile, options: &GraphOptions) -> Result<Self, GraphErrors> {
        let mut errors = Vec::new();
        let mut warnings = Vec::new();
        let names: Vec<Option<&str>> = dockerfile
            .stages
            .iter()
            .map(|stage| stage.from.value.name.as_ref().map(|n| n.value.as_str()))
            .collect();
        let escape = dockerfile.directives.escape;
        let (global, faulty) = global_scope(dockerfile, options, escape, &mut errors);
        // The same without build arguments, whose own faults are told by the first.
        let bare = GraphOptions { build_args: BTreeMap::new(), ..options.clone() };
        let (defaults, _) = global_scope(dockerfile, &bare, escape, &mut Vec::new());
        let check = check_options(dockerfile, options, &mut errors);
        let target = find_target(&names, options, &mut errors);
        let names = Names::new(names, &options.named_contexts, &options.platform, &global, escape);

        let mut stages: Vec<BuildStage> = Vec::new();
        for (index, parsed) in dockerfile.stages.iter().enumerate() {
            let id = StageId(index);
            let mut from_line = FromLine {
                global: &global,
                escape,
                faulty: &faulty,
                errors: &mut errors,
                warnings: &mut warnings,
            };
            let base_name = from_line.base_name(&parsed.from.value.base);
            from_line.check_defaults(&parsed.from.value.base, &defaults);
            let own_platform = parsed
                .from
                .value
                .platform
                .as_ref()
                .and_then(|word| from_line.platform(word, &options.build_platform));
            let platform = own_platform.unwrap_or_else(|| options.platform.clone());
            let name = parsed.from.value.name.as_ref().map(|name| name.value.clone());
            let replaced = name.as_deref().and_then(|name| names.context(name));
            let base = match (replaced, base_name.as_deref()) {
                (Some(context), _) => Base::NamedContext(context.to_owned()),
                (None, Some(base)) => {
                    let span = parsed.from.value.base.span;
                    names.base(id, base, &platform, span).unwrap_or_else(|error| {
                        errors.push(error);
                        Base::Scratch
                    })
                }
                (None, None) => Base::Scratch,
            };
            let platform = match &base {
                Base::Stage(base) => stages[base.0].platform.clone(),
                _ => platform,
            };
            let mut steps = Vec::new();
            if replaced.is_none() {
                if let Base::Stage(base) = &base {
                    for instruction in stage_triggers(&stages[base.0]) {
                        steps.extend(names.step(id, instruction, Origin::StageTrigger, &mut errors));
                    }
                }
                for instruction in &parsed.instructions {
                    steps.extend(names.step(id, instruction.clone(), Origin::Stage, &mut errors));
                }
            }
            let shown_name = match &name {
                _ if dockerfile.stages.len() == 1 => String::new(),
                Some(name) => name.clone(),
                None => format!("stage-{index}"),
            };
            let base_name = match &base {
                Base::NamedContext(name) if replaced.is_some() => name.clone(),
                _ => base_name.unwrap_or_default(),
            };
            let from = parsed.from.span;
            let is_replaced = replaced.is_some();
            let mut stage =
                BuildStage { id, name, shown_name, from, base, base_name, platform, is_replaced, steps };
            stage.number_steps();
            stages.push(stage);
        }
        if stages.is_empty() {
            errors.push(fault("no-stage", "the Dockerfile has no `FROM`", Span::default(), "", None));
        }
        match (GraphErrors::new(errors), target) {
            (None, Some(target)) => {
                let comments = dockerfile.comments.clone();
                let options = options.clone();
                Ok(Self { stages, target, escape, check, comments, global, options, warnings })
            }
            (Some(errors), _) => Err(errors),
            (None, None) => unreachable!("a target that isn't found is an error"),
        }
    }

    /// Puts the `ONBUILD` triggers of its base image before the steps of `stage`, in order. Call it once for each
    /// needed stage with [`Base::Image`] (or a named context that is an image), with the `OnBuild` list of its
    /// config, before anything of the build is run. Afterwards [`BuildGraph::needed`] may have more stages.
    ///
    /// # Errors
    ///
    /// A trigger that can't be parsed or resolved, at the place of the `FROM`.
    pub fn add_triggers(&mut self, stage: StageId, triggers: &[String]) -> Result<(), GraphErrors> {
        let from = self.stages[stage.0].from;
        let mut errors = Vec::new();
        let mut steps = Vec::new();
        let names = Names::new(
            self.stages.iter().map(BuildStage::name).collect(),
            &self.options.named_contexts,
            &self.options.platform,
            &self.global,
            self.escape,
        );
        for trigger in triggers {
            match parser::parse_onbuild(&Source::new("ONBUILD", trigger.as_str())) {
                Ok(instruction) => {
                    steps.extend(names.step(stage, instruction, Origin::ImageTrigger(from), &mut errors));
                }
                Err(faults) => errors.extend(faults.into_iter().map(|error| ParseError {
                    message: format!("in the base image's `ONBUILD {trigger}`: {}", error.message),
                    span: from,
                    ..error
                })),
            }
        }
        if let Some(errors) = GraphErrors::new(errors) {
            return Err(errors);
        }
        let stage = &mut self.stages[stage.0];
        // A stage that is replaced by a context has none of the context's triggers either.
        if !stage.is_replaced {
            stage.steps.splice(0..0, steps);
            stage.number_steps();
        }
        Ok(())
    }

    /// The stage that is asked for.
    pub fn target(&self) -> StageId {
        self.target
    }

    /// The stages that the target needs, itself included, dependencies first.
    pub fn needed(&self) -> Vec<StageId> {
        let mut needed = BTreeSet::from([self.target]);
        let mut open = vec![self.target];
        while let Some(id) = open.pop() {
            open.extend(self.stages[id.0].dependencies().into_iter().filter(|id| needed.insert(*id)));
        }
        // A stage depends on earlier ones only, so the order of the file is an order of work.
        needed.into_iter().collect()
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
        let mut images = Vec::new();
        for id in self.needed() {
            let stage = &self.stages[id.0];
            if let Base::Image(image) = &stage.base {
                images.push(image);
            }
            images.extend(stage.steps.iter().flat_map(Step::sources).filter_map(|source| match source {
                ContentSource::Image(image) => Some(image),
                _ => None,
            }));
        }
        images
    }

    /// The character that escapes in words.
    pub fn escape(&self) -> Escape {
        self.escape
    }

    /// `# check=`, or the build argument `BUILDKIT_DOCKERFILE_CHECK` in its place: which warnings are skipped, and
    /// whether those that are left fail the build. The builder's own warnings are filtered by it already.
    pub fn check(&self) -> &CheckOptions {
        &self.check
    }

    /// Whether `# check=skip=` names the rule `code`, at the top of the file or above the instruction at `span`.
    pub fn skips(&self, code: &str, span: Option<Span>) -> bool {
        let above = |span: Span| {
            let holds =
                |scope: Span| scope.start <= span.start && span.start < scope.end.max(scope.start + 1);
            self.comments.iter().any(|block| holds(block.scope) && block.skips(code))
        };
        self.check.skip.contains(code) || span.is_some_and(above)
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
        let name = "SOURCE_DATE_EPOCH";
        self.global.build_arg(name).or_else(|| self.global.get(name)).filter(|text| !text.is_empty())
    }

    /// What to warn of once all triggers are added: `UndefinedArgInFrom`, build arguments that no `ARG` of the whole
    /// Dockerfile consumes, and those of BuildKit's that have no effect here.
    pub fn warnings(&self) -> Vec<BuildWarning> {
        let mut warnings = self.warnings.clone();
        warnings.retain(|warning| !self.skips(warning.code, warning.span));
        let declared: BTreeSet<&str> = self
            .global
            .names()
            .chain(self.global.declared().iter().map(String::as_str))
            .chain(
                self.stages
                    .iter()
                    .flat_map(|stage| &stage.steps)
                    .flat_map(|step| arg_names(&step.instruction)),
            )
            .collect();
        let unused = unconsumed(&self.options.build_args, &declared);
        if !unused.is_empty() {
            let meant = unused.iter().find_map(|name| {
                let known = nearest(name, declared.iter().copied())?;
                Some(format!(" (did you mean `{known}`?)"))
            });
            let message = format!(
                "one or more build-args [{}] were not consumed{}",
                unused.join(" "),
                meant.unwrap_or_default()
            );
            warnings.push(BuildWarning { code: "UnconsumedBuildArg", message, span: None });
        }
        let is_idle =
            |name: &&String| name.starts_with("BUILDKIT_") && !BUILDKIT_ARGS.contains(&name.as_str());
        for name in self.options.build_args.keys().filter(is_idle) {
            let message = format!("the build-arg {name} has no effect in calque");
            warnings.push(BuildWarning { code: "IneffectiveBuildArg", message, span: None });
        }
        warnings
    }
}

/// BuildKit's own build arguments that calque knows.
const BUILDKIT_ARGS: &[&str] = &["BUILDKIT_SANDBOX_HOSTNAME", "BUILDKIT_DOCKERFILE_CHECK"];

/// What is wrong with the stages of a Dockerfile: like the parser's errors, each with its place.
pub type GraphErrors = ParseErrors;

fn arg_names(instruction: &Instruction) -> Vec<&str> {
    match &instruction.kind {
        InstructionKind::Arg(arg) => arg.args.iter().map(|arg| arg.name.value.as_str()).collect(),
        _ => Vec::new(),
    }
}

/// The `ONBUILD`s that stand in a stage, for those that are built on it.
fn stage_triggers(stage: &BuildStage) -> Vec<Instruction> {
    let triggers = stage.steps.iter().filter_map(|step| match &step.instruction.kind {
        InstructionKind::Onbuild(onbuild) => Some((*onbuild.instruction).clone()),
        _ => None,
    });
    triggers.collect()
}

/// The global arguments, and the names of those whose defaults can't be expanded.
fn global_scope(
    dockerfile: &Dockerfile,
    options: &GraphOptions,
    escape: Escape,
    errors: &mut Vec<ParseError>,
) -> (GlobalScope, BTreeSet<String>) {
    let mut faulty = BTreeSet::new();
    let last_name = || dockerfile.stages.last()?.from.value.name.as_ref().map(|name| name.value.as_str());
    let target = options.target.as_deref().or_else(last_name);
    let predefined = platform_args(&options.platform, &options.build_platform, target);
    let mut global = GlobalScope::new(predefined, &options.build_args);
    for argument in dockerfile.global_args.iter().flat_map(|instruction| &instruction.value.args) {
        let name = argument.name.value.as_str();
        // A default that a build argument replaces isn't looked at (docker).
        let default = match &argument.default {
            Some(word) if global.build_arg(name).is_none() => {
                match word.expand(escape, &mut |name| global.get(name).map(str::to_owned)) {
                    Ok(value) => Some(value),
                    Err(error) => {
                        errors.push(word_fault(&error, word.span));
                        faulty.insert(name.to_owned());
                        None
                    }
                }
            }
            _ => None,
        };
        global.declare(name, default);
    }
    (global, faulty)
}

fn check_options(
    dockerfile: &Dockerfile,
    options: &GraphOptions,
    errors: &mut Vec<ParseError>,
) -> CheckOptions {
    const ARGUMENT: &str = "BUILDKIT_DOCKERFILE_CHECK";
    let directive = dockerfile.directives.check.as_ref();
    let (text, span) = match (options.build_args.get(ARGUMENT), directive) {
        (Some(argument), _) => (argument, Span::default()),
        // The parser has told what is wrong with it.
        (None, Some(directive)) => return CheckOptions::parse(&directive.value).unwrap_or_default(),
        (None, None) => return CheckOptions::default(),
    };
    CheckOptions::parse(text).unwrap_or_else(|message| {
        errors.push(fault("invalid-check", format!("build-arg {ARGUMENT}: {message}"), span, "", None));
        CheckOptions::default()
    })
}

fn find_target(
    names: &[Option<&str>],
    options: &GraphOptions,
    errors: &mut Vec<ParseError>,
) -> Option<StageId> {
    let last = names.len().checked_sub(1).map(StageId);
    let Some(target) = options.target.as_deref() else { return last };
    let by_name = names.iter().rposition(|name| name.is_some_and(|name| name.eq_ignore_ascii_case(target)));
    let by_index = || target.parse::<usize>().ok().filter(|index| *index < names.len());
    let found = by_name.or_else(by_index).map(StageId);
    if found.is_none() {
        let known: Vec<&str> = names.iter().flatten().copied().collect();
        let help = match nearest(target, known.iter().copied()) {
            Some(name) => Some(format!("did you mean `{name}`?")),
            None if known.is_empty() => Some("no stage has a name".to_owned()),
            None => Some(format!("the stages are {}", quoted_list(&known))),
        };
        let message = format!("target stage `{target}` could not be found");
        errors.push(fault("unknown-target", message, Span::default(), "", help));
    }
    found
}

fn quoted_list(names: &[&str]) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests;
