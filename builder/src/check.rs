//! `build --check`: a Dockerfile is read, resolved and expanded as a build would, and nothing is run.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use oci::{ImageConfig, Platform};
use parser::{CopySource, Dockerfile, InstructionKind, ParseError, ParseErrors, Rule, Warning};
use sys::RootDir;

use crate::base::{BaseImageError, BaseImages};
use crate::context::Ignore;
use crate::event::BuildWarning;
use crate::graph::{Base, BuildGraph, BuildStage, ContentSource, GraphOptions, StageId};
use crate::request::BuildRequest;
use crate::stage_state::{BaseState, StageState};

/// A Dockerfile that has been checked.
#[derive(Clone, Debug)]
pub struct Checked {
    /// Its instructions.
    pub dockerfile: Dockerfile,
    /// Its stages, triggers of the base images that are at hand included.
    pub graph: BuildGraph,
    /// What to tell, in the order of the file; what stands in no place of it comes last.
    pub warnings: Vec<BuildWarning>,
    /// What calque can't do yet, by name: no fault of the Dockerfile, but a build is refused.
    pub unsupported: Vec<ParseError>,
}

/// Checks all stages of the Dockerfile of `request`, those that aren't needed too. Only images that `bases` has are
/// looked into; where one is missing, a variable that it may set isn't called undefined.
///
/// # Errors
///
/// All that is wrong with it.
pub fn check(request: &BuildRequest, bases: &dyn BaseImages) -> Result<Checked, ParseErrors> {
    let parsed = parser::parse(&request.dockerfile)?;
    let mut graph = BuildGraph::new(&parsed.dockerfile, &graph_options(request))?;
    let mut warnings = parser_warnings(&parsed.warnings, &graph);
    let mut known = BTreeMap::new();
    for id in graph.stages().iter().map(BuildStage::id).collect::<Vec<_>>() {
        let Base::Image(source) = graph.stage(id).base().clone() else { continue };
        match bases.resolve(&source.reference, &source.platform) {
            Ok(image) => {
                let config = image.image.config.value().clone();
                graph.add_triggers(id, &config.config.on_build)?;
                known.insert(id, config);
            }
            Err(BaseImageError::Platform { wanted, found }) => {
                let message = format!(
                    "Base image {} was pulled with platform \"{found}\", expected \"{wanted}\" for current build",
                    source.reference.familiar()
                );
                let span = Some(source.span);
                warnings.push(BuildWarning { code: "InvalidBaseImagePlatform", message, span });
            }
            Err(_) => {}
        }
    }
    warnings.extend(graph.warnings());
    let all: Vec<StageId> = graph.stages().iter().map(BuildStage::id).collect();
    let found = expand(&graph, &all, &|stage| match stage.base() {
        Base::Image(_) => match known.get(&stage.id()) {
            Some(config) => BaseConfig::Image(Box::new(config.clone())),
            None => BaseConfig::Unknown,
        },
        Base::NamedContext(_) => BaseConfig::Unknown,
        Base::Scratch | Base::Stage(_) => BaseConfig::Scratch,
    });
    warnings.extend(found.warnings);
    let (unsupported, errors) = found.errors.into_iter().partition(|error| error.code == "unsupported");
    if let Some(errors) = ParseErrors::new(errors) {
        return Err(errors);
    }
    warnings.extend(ignored_sources(request, &graph));
    warnings.retain(|warning| !graph.skips(warning.code, warning.span));
    warnings.sort_by_key(|warning| warning.span.map_or((usize::MAX, 0), |span| (span.start, span.end)));
    let mut seen = BTreeSet::new();
    warnings.retain(|warning| {
        let start = warning.span.map(|span| (span.start, span.end));
        seen.insert((warning.code, warning.message.clone(), start))
    });
    Ok(Checked { dockerfile: parsed.dockerfile, graph, warnings, unsupported })
}

/// What the graph of a request depends on.
pub(crate) fn graph_options(request: &BuildRequest) -> GraphOptions {
    GraphOptions {
        target: request.target.clone(),
        build_args: request.build_args.clone(),
        platform: request.platform.clone(),
        build_platform: Platform::host(),
        named_contexts: request.named_contexts.keys().cloned().collect(),
        network: request.network,
        extra_hosts: request.extra_hosts.iter().map(|(name, _)| name.clone()).collect(),
    }
}

/// The parser's warnings; a build argument may skip more of them than the file does.
pub(crate) fn parser_warnings(warnings: &[Warning], graph: &BuildGraph) -> Vec<BuildWarning> {
    let warnings = warnings.iter().map(|warning| BuildWarning {
        code: warning.rule.name(),
        message: warning.message.clone(),
        span: Some(warning.span),
    });
    warnings.filter(|warning| !graph.skips(warning.code, warning.span)).collect()
}

/// The names of BuildKit's rules among `warnings`: those that `# check=error=true` makes errors. calque's own rules are
/// none of them: what docker builds isn't refused.
pub fn violated_rules(warnings: &[BuildWarning]) -> Vec<&'static str> {
    let rules: BTreeSet<&'static str> = warnings
        .iter()
        .filter_map(|warning| Rule::from_name(warning.code))
        .filter(|rule| !rule.is_calques_own())
        .map(Rule::name)
        .collect();
    rules.into_iter().collect()
}

/// What is known of a base before anything is run.
pub(crate) enum BaseConfig {
    /// Nothing is in it.
    Scratch,
    /// Its config.
    Image(Box<ImageConfig>),
    /// It may set any variable.
    Unknown,
}

/// What the expansion of all steps has to tell.
pub(crate) struct Found {
    pub(crate) errors: Vec<ParseError>,
    pub(crate) warnings: Vec<BuildWarning>,
}

/// Expands every step of `stages`, which come after all that they depend on.
pub(crate) fn expand(
    graph: &BuildGraph,
    stages: &[StageId],
    base_of: &dyn Fn(&BuildStage) -> BaseConfig,
) -> Found {
    let mut states: BTreeMap<StageId, (StageState, bool)> = BTreeMap::new();
    let mut found = Found { errors: Vec::new(), warnings: Vec::new() };
    for id in stages {
        let stage = graph.stage(*id);
        let parent = match stage.base() {
            Base::Stage(parent) => states.get(parent),
            _ => None,
        };
        let (mut state, is_open) = match (parent, base_of(stage)) {
            (Some((parent, is_open)), _) => (StageState::new(graph, *id, BaseState::Stage(parent)), *is_open),
            (None, BaseConfig::Image(config)) => {
                (StageState::new(graph, *id, BaseState::Image(&config)), false)
            }
            (None, BaseConfig::Scratch) => (StageState::new(graph, *id, BaseState::Scratch), false),
            (None, BaseConfig::Unknown) => (StageState::new(graph, *id, BaseState::Scratch), true),
        };
        for step in stage.steps() {
            match state.expand(graph, step) {
                Ok(expansion) => {
                    state.apply(&expansion.step, None);
                    let told = expansion.warnings.into_iter();
                    found.warnings.extend(told.filter(|warning| !is_open || warning.code != "UndefinedVar"));
                }
                Err(error) => found.errors.push(error),
            }
        }
        states.insert(*id, (state, is_open));
    }
    found
}

/// COPY and ADD of what the ignore file leaves out. With exceptions in it nothing is said, as in docker.
fn ignored_sources(request: &BuildRequest, graph: &BuildGraph) -> Vec<BuildWarning> {
    let Some(context) = &request.context else { return Vec::new() };
    let Ok(root) = RootDir::open(context) else { return Vec::new() };
    // What is wrong with the file is said by the build that reads it.
    let Ok(ignore) = Ignore::find(&root, request.dockerfile_path.as_deref()) else { return Vec::new() };
    let patterns = ignore.patterns();
    if patterns.is_empty() || patterns.has_exceptions() {
        return Vec::new();
    }
    let mut warnings = Vec::new();
    for step in graph.stages().iter().flat_map(BuildStage::steps) {
        let (verb, paths) = match &step.instruction().kind {
            InstructionKind::Copy(copy) => ("Copy", &copy.paths),
            InstructionKind::Add(add) => ("Add", &add.paths),
            _ => continue,
        };
        if step.source() != Some(&ContentSource::Context) {
            continue;
        }
        for source in &paths.sources {
            let CopySource::Path(word) = source else { continue };
            let Some(path) = word.literal(graph.escape()).filter(|path| !is_remote(path)) else { continue };
            let clean = clean(&path);
            let is_ignored = match clean.as_str() {
                "" => ignore.lines().iter().any(|line| matches!(line.as_str(), "*" | "**" | "**/*")),
                path => patterns.verdict_alone(Path::new(path)).is_some_and(|decision| decision.ignored),
            };
            if is_ignored {
                let shown = if clean.is_empty() { "." } else { clean.as_str() };
                let message =
                    format!("Attempting to {verb} file \"{shown}\" that is excluded by .dockerignore");
                let span = Some(step.locate(word.span));
                warnings.push(BuildWarning { code: "CopyIgnoredFile", message, span });
            }
        }
    }
    warnings
}

fn is_remote(path: &str) -> bool {
    path.contains("://") || path.starts_with("git@")
}

/// The path from the context's root, without `.` and `..`.
fn clean(path: &str) -> String {
    let mut parts = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.join("/")
}
