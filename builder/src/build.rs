//! One build from start to end.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use parser::ParseErrors;
use store::{BuildInfo, BuildLog, Image, Lease, Store};

use crate::base::{BaseImage, BaseImages};
use crate::cancel::CancelToken;
use crate::check::{self, BaseConfig};
use crate::error::{BuildError, NamedContextError, StoreFailure};
use crate::event::{BuildEvent, BuildWarning, Observer};
use crate::export::export;
use crate::graph::{Base, BuildGraph, ContentSource, ImageSource};
use crate::progress::Progress;
use crate::request::{BuildRequest, NamedContext};
use crate::root::Roots;
use crate::schedule::Executor;

/// What a build works with.
#[derive(Clone, Copy)]
pub struct Services<'a> {
    /// Where layers, records and images are kept.
    pub store: &'a Store,
    /// Opens the sandbox, at most once and only when a RUN step really runs.
    pub sandbox: &'a (dyn Fn() -> Result<sandbox::Sandbox, sandbox::OpenError> + Sync),
    /// How FROM gets an image.
    pub base_images: &'a dyn BaseImages,
    /// Called with the step's text when COPY or ADD was keyed and before it copies: tests change files there.
    pub between_key_and_copy: Option<&'a (dyn Fn(&str) + Sync)>,
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
    let started = Instant::now();
    let info = BuildInfo {
        dockerfile: request.dockerfile.name().to_owned(),
        target: request.target.clone(),
        started: jiff::Timestamp::now().to_string(),
    };
    let log = services.store.build_log(&info).map_err(BuildError::Log)?;
    let progress = Progress::new(observer);
    let build = log.id().to_owned();
    progress.emit(&BuildEvent::BuildStarted {
        build: build.clone(),
        dockerfile: request.dockerfile.name().to_owned(),
    });
    let result = run(request, services, &progress, &log);
    let error = result.as_ref().err().map(ToString::to_string);
    if let Err(failure) = log.finish(&jiff::Timestamp::now().to_string(), error.as_deref()) {
        // The first error counts; without one the image is there and only its log lacks an end.
        progress.note(format!("the log of this build is incomplete: {failure}"));
    }
    let Finished { image, steps, cached } = result?;
    let duration = started.elapsed();
    progress.emit(&BuildEvent::BuildFinished { image: image.id, duration });
    Ok(BuildOutcome { build, image, warnings: progress.warnings(), steps, cached, duration })
}

struct Finished {
    image: Image,
    steps: usize,
    cached: usize,
}

fn run(
    request: &BuildRequest,
    services: &Services<'_>,
    progress: &Progress<'_>,
    log: &BuildLog,
) -> Result<Finished, BuildError> {
    let graph = load_definition(request, progress)?;
    let mut lease = services.store.lease().map_err(lease_failed)?;
    let mut roots = Roots::new(request, services, progress);
    let graph = resolve_images(graph, request, services, &mut roots, &mut lease)?;
    check_before(&graph, &roots, progress)?;
    let epoch = epoch(&graph)?;
    let stop = CancelToken::new().map_err(|source| BuildError::Descriptors { source })?;
    let executor = Executor::new(request, services, &graph, progress, &roots, log, lease, stop, epoch);
    let target = executor.run();
    roots.save_indexes();
    let target = target?;
    let image = export(request, services.store, progress, &target)?;
    let (steps, cached) = executor.counts();
    Ok(Finished { image, steps, cached })
}

/// Finds what can be found before anything runs: faults of expansion in all needed stages, and warnings, which fail the
/// build where `# check=error=true` says so.
fn check_before(graph: &BuildGraph, roots: &Roots<'_>, progress: &Progress<'_>) -> Result<(), BuildError> {
    let found = check::expand(graph, &graph.needed(), &|stage| {
        let image = match stage.base() {
            Base::Image(source) => Some(roots.image(source)),
            Base::NamedContext(name) => roots.named_image(name),
            Base::Scratch | Base::Stage(_) => None,
        };
        image.map_or(BaseConfig::Scratch, |image| {
            BaseConfig::Image(Box::new(image.image.config.value().clone()))
        })
    });
    for warning in graph.warnings().into_iter().chain(found.warnings) {
        progress.warn(warning);
    }
    if let Some(errors) = ParseErrors::new(found.errors) {
        return Err(BuildError::Dockerfile(errors));
    }
    let warnings = progress.warnings();
    let rules = check::violated_rules(&warnings);
    if graph.check().error && !rules.is_empty() {
        let first = warnings.iter().filter(|warning| rules.contains(&warning.code));
        let span = first.filter_map(|warning| warning.span).min_by_key(|span| span.start);
        return Err(BuildError::Lint { rules, span });
    }
    Ok(())
}

fn lease_failed(source: store::LeaseError) -> BuildError {
    BuildError::Export { op: "hold layers".to_owned(), source: StoreFailure::Lease(source) }
}

/// Parses the Dockerfile and resolves the names in it.
fn load_definition(request: &BuildRequest, progress: &Progress<'_>) -> Result<BuildGraph, BuildError> {
    let label = format!("[internal] load build definition from {}", request.dockerfile.name());
    let vertex = progress.start(label, Vec::new(), None);
    vertex.status(format!("transferring dockerfile: {}B", request.dockerfile.text().len()));
    let graph = parser::parse(&request.dockerfile).and_then(|parsed| {
        let graph = BuildGraph::new(&parsed.dockerfile, &check::graph_options(request))?;
        check::parser_warnings(&parsed.warnings, &graph)
            .into_iter()
            .for_each(|warning| progress.warn(warning));
        Ok(graph)
    });
    match graph {
        Ok(graph) => {
            vertex.done();
            Ok(graph)
        }
        Err(errors) => {
            vertex.failed(errors.to_string());
            Err(BuildError::Dockerfile(errors))
        }
    }
}

/// Gets every image that the graph names and puts their triggers into it, until no stage is left that needs one.
/// A name is resolved once for the whole build.
fn resolve_images(
    mut graph: BuildGraph,
    request: &BuildRequest,
    services: &Services<'_>,
    roots: &mut Roots<'_>,
    lease: &mut Lease,
) -> Result<BuildGraph, BuildError> {
    let mut seen = BTreeSet::new();
    loop {
        let needed = graph.needed();
        let Some(id) = needed.into_iter().find(|id| !seen.contains(id)) else { break };
        seen.insert(id);
        let base = graph.stage(id).base().clone();
        let image = match &base {
            Base::Image(source) => {
                get_image(source, services, roots, lease)?;
                Some(roots.image(source))
            }
            Base::NamedContext(name) => {
                get_named(name, request, services, roots, lease)?;
                roots.named_image(name)
            }
            Base::Scratch | Base::Stage(_) => None,
        };
        let triggers =
            image.map(|image| image.image.config.value().config.on_build.clone()).unwrap_or_default();
        if !triggers.is_empty() {
            graph.add_triggers(id, &triggers).map_err(BuildError::Dockerfile)?;
        }
        let sources: Vec<ContentSource> =
            graph.stage(id).steps().iter().flat_map(|step| step.sources().cloned()).collect();
        for source in sources {
            match &source {
                ContentSource::Image(source) => get_image(source, services, roots, lease)?,
                ContentSource::NamedContext(name) => get_named(name, request, services, roots, lease)?,
                _ => {}
            }
        }
    }
    Ok(graph)
}

fn get_image(
    source: &ImageSource,
    services: &Services<'_>,
    roots: &mut Roots<'_>,
    lease: &mut Lease,
) -> Result<(), BuildError> {
    if roots.has_image(source) {
        return Ok(());
    }
    let image = services.base_images.resolve(&source.reference, &source.platform).map_err(|error| {
        BuildError::BaseImage {
            reference: source.reference.clone(),
            span: source.span,
            hint: source.hint.clone(),
            source: error,
        }
    })?;
    lease.hold(&image.image.layers).map_err(lease_failed)?;
    roots.add_image(source, image);
    Ok(())
}

fn get_named(
    name: &str,
    request: &BuildRequest,
    services: &Services<'_>,
    roots: &mut Roots<'_>,
    lease: &mut Lease,
) -> Result<(), BuildError> {
    if roots.named_image(name).is_some() {
        return Ok(());
    }
    let fail = |source| BuildError::NamedContext { name: name.to_owned(), source };
    let image = match request.named_contexts.get(name) {
        Some(NamedContext::Image(reference)) => services
            .base_images
            .resolve(reference, &request.platform)
            .map_err(NamedContextError::Image)
            .map_err(fail)?,
        Some(NamedContext::OciLayout { path, reference }) => {
            layout_image(services.store, path, reference.as_deref()).map_err(fail)?
        }
        Some(NamedContext::Stage(_)) => {
            return Err(fail(NamedContextError::Unsupported { what: "`target:` as a build context" }));
        }
        Some(NamedContext::Folder(_) | NamedContext::Git(_)) | None => return Ok(()),
    };
    lease.hold(&image.image.layers).map_err(lease_failed)?;
    roots.add_named_image(name, image);
    Ok(())
}

/// The image of an OCI layout that a tag, a digest or nothing (there is only one) names.
fn layout_image(
    store: &Store,
    path: &std::path::Path,
    reference: Option<&str>,
) -> Result<BaseImage, NamedContextError> {
    let loaded = store::archive::load(store, store::archive::Source::Path(path))?;
    let count = loaded.len();
    let mut fitting = loaded.into_iter().filter(|loaded| {
        reference.is_none_or(|wanted| {
            loaded.image.id.to_string() == wanted
                || loaded.selectors.iter().any(|selector| selector == wanted)
                || loaded
                    .references
                    .iter()
                    .any(|name| name.tag() == Some(wanted) || name.familiar() == wanted)
        })
    });
    match (fitting.next(), fitting.next(), reference) {
        (Some(loaded), None, _) => {
            let digest = loaded.image.id.digest();
            Ok(BaseImage { image: loaded.image, digest })
        }
        (None, _, Some(reference)) => {
            Err(NamedContextError::NoSuchImage { path: path.to_path_buf(), reference: reference.to_owned() })
        }
        _ => Err(NamedContextError::NotOne { path: path.to_path_buf(), count }),
    }
}

fn epoch(graph: &BuildGraph) -> Result<Option<i64>, BuildError> {
    let Some(text) = graph.source_date_epoch() else { return Ok(None) };
    match text.parse() {
        Ok(seconds) => Ok(Some(seconds)),
        Err(_) => Err(BuildError::Epoch { text: text.to_owned() }),
    }
}
