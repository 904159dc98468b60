//! A store of its own, a busybox base, a context folder, and builds of Dockerfiles written in the test.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock};

use builder::event::{BuildEvent, Observer, VertexId};
use builder::{
    BuildError, BuildOutcome, BuildRequest, CachePolicy, CancelToken, NamedContext, NetworkMode, SecretValue,
    Services, StoreImages, build,
};
use oci::{Document, ImageConfig, Platform};
use parser::Source;
use sandbox::{Sandbox, SandboxSettings};
use store::merged::Merged;
use store::{Image, LayerFacts, LayerOrigin, Store, StoreMode, StoreOptions};
use tempfile::TempDir;

/// What a test builds in.
pub(crate) struct Harness {
    pub(crate) dir: TempDir,
    pub(crate) store: Store,
    pub(crate) context: PathBuf,
}

/// The options of one build that differ from the usual.
#[derive(Default)]
pub(crate) struct Options<'a> {
    pub(crate) target: Option<&'a str>,
    pub(crate) build_args: &'a [(&'a str, &'a str)],
    pub(crate) secrets: &'a [(&'a str, &'a str)],
    pub(crate) tags: &'a [&'a str],
    pub(crate) labels: &'a [(&'a str, &'a str)],
    pub(crate) no_cache: bool,
    pub(crate) context: Option<PathBuf>,
    pub(crate) dockerfile_path: Option<PathBuf>,
    pub(crate) named_contexts: Vec<(&'a str, NamedContext)>,
    pub(crate) cancel: Option<CancelToken>,
    pub(crate) hook: Option<&'a (dyn Fn(&str) + Sync)>,
    pub(crate) proxies: &'a [(&'a str, &'a str)],
}

/// A build that ended well.
pub(crate) struct Built {
    pub(crate) outcome: BuildOutcome,
    pub(crate) events: Vec<BuildEvent>,
}

/// A build that failed.
#[derive(Debug)]
pub(crate) struct Failed {
    pub(crate) error: BuildError,
    pub(crate) events: Vec<BuildEvent>,
}

#[derive(Default)]
struct Recorder(Mutex<Vec<BuildEvent>>);

impl Observer for Recorder {
    fn on(&self, event: &BuildEvent) {
        self.0.lock().unwrap().push(event.clone());
    }
}

pub(crate) fn sandbox() -> Result<Sandbox, sandbox::OpenError> {
    static SANDBOX: OnceLock<Sandbox> = OnceLock::new();
    if let Some(sandbox) = SANDBOX.get() {
        return Ok(sandbox.clone());
    }
    let sandbox = Sandbox::open(SandboxSettings::default())?;
    Ok(SANDBOX.get_or_init(|| sandbox).clone())
}

impl Harness {
    /// A store with `busybox:latest`, and an empty context.
    pub(crate) fn new() -> Self {
        let dir = TempDir::new().unwrap();
        let store = open_store(dir.path());
        let context = dir.path().join("context");
        fs::create_dir(&context).unwrap();
        let harness = Self { dir, store, context };
        harness.add_base("busybox", "");
        harness
    }

    /// Puts an image of busybox into the store; another `marker` makes another image.
    pub(crate) fn add_base(&self, name: &str, marker: &str) {
        let draft = self.store.draft().unwrap();
        testutil::busybox_rootfs(draft.tree_path());
        if !marker.is_empty() {
            fs::write(draft.tree_path().join("marker"), marker).unwrap();
        }
        let facts = LayerFacts {
            created: "2024-01-01T00:00:00Z".to_owned(),
            origin: LayerOrigin::Archive("busybox.tar".to_owned()),
            diff_id: None,
        };
        let layer = draft.commit(facts).unwrap();
        let mut config = ImageConfig::scratch(Platform::host());
        config.created = Some("2024-01-01T00:00:00Z".to_owned());
        config.rootfs.diff_ids = vec![self.store.diff_id(&layer).unwrap()];
        config.config.env = vec![format!("PATH={}", oci::RunConfig::DEFAULT_PATH)];
        let image = self.store.put_image(Document::from_value(config), vec![layer.id()]).unwrap();
        self.store.tag(&name.parse().unwrap(), image.id).unwrap();
    }

    /// Writes a file of the context.
    pub(crate) fn file(&self, path: &str, content: &str) {
        let path = self.context.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    pub(crate) fn request(&self, dockerfile: &str, options: &Options<'_>) -> BuildRequest {
        let pairs = |pairs: &[(&str, &str)]| {
            pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect::<Vec<_>>()
        };
        BuildRequest {
            dockerfile: Source::new("Dockerfile", dockerfile),
            dockerfile_path: options.dockerfile_path.clone(),
            context: Some(options.context.clone().unwrap_or_else(|| self.context.clone())),
            named_contexts: options
                .named_contexts
                .iter()
                .map(|(name, context)| ((*name).to_owned(), context.clone()))
                .collect(),
            target: options.target.map(str::to_owned),
            build_args: pairs(options.build_args).into_iter().collect(),
            labels: pairs(options.labels).into_iter().collect(),
            tags: options.tags.iter().map(|tag| tag.parse().unwrap()).collect(),
            platform: Platform::host(),
            cache: if options.no_cache { CachePolicy::Ignore } else { CachePolicy::Use },
            secrets: options
                .secrets
                .iter()
                .map(|(id, value)| ((*id).to_owned(), SecretValue::new(value.as_bytes().to_vec())))
                .collect::<BTreeMap<_, _>>(),
            network: NetworkMode::None,
            extra_hosts: vec![("db".to_owned(), "10.9.8.7".to_owned())],
            proxies: pairs(options.proxies),
            resolv_conf: "nameserver 192.0.2.1\n".to_owned(),
            cache_scope: "test".to_owned(),
            cancel: options.cancel.clone().unwrap_or_else(|| CancelToken::new().unwrap()),
        }
    }

    pub(crate) fn try_build(&self, dockerfile: &str, options: &Options<'_>) -> Result<Built, Failed> {
        let images = StoreImages::new(self.store.clone());
        let services = Services {
            store: &self.store,
            sandbox: &sandbox,
            base_images: &images,
            between_key_and_copy: options.hook,
        };
        let recorder = Recorder::default();
        let result = build(&self.request(dockerfile, options), &services, &recorder);
        let events = recorder.0.into_inner().unwrap();
        match result {
            Ok(outcome) => Ok(Built { outcome, events }),
            Err(error) => Err(Failed { error, events }),
        }
    }

    #[track_caller]
    pub(crate) fn build_with(&self, dockerfile: &str, options: &Options<'_>) -> Built {
        self.try_build(dockerfile, options)
            .unwrap_or_else(|failed| panic!("{}\n{}", chain(&failed.error), transcript(&failed.events)))
    }

    #[track_caller]
    pub(crate) fn build(&self, dockerfile: &str) -> Built {
        self.build_with(dockerfile, &Options::default())
    }

    #[track_caller]
    pub(crate) fn fail(&self, dockerfile: &str) -> Failed {
        self.fail_with(dockerfile, &Options::default())
    }

    #[track_caller]
    pub(crate) fn fail_with(&self, dockerfile: &str, options: &Options<'_>) -> Failed {
        match self.try_build(dockerfile, options) {
            Ok(built) => panic!("it should have failed:\n{}", transcript(&built.events)),
            Err(failed) => failed,
        }
    }

    /// The file system of an image.
    pub(crate) fn root(&self, image: &Image) -> Merged {
        let trees = image.layers.iter().rev();
        Merged::new(trees.map(|id| self.store.layer(*id).unwrap().open_tree().unwrap()).collect()).unwrap()
    }

    #[track_caller]
    pub(crate) fn read(&self, built: &Built, path: &str) -> String {
        let bytes = self.root(&built.outcome.image).read_file(Path::new(path), 1 << 20);
        String::from_utf8(bytes.unwrap_or_else(|error| panic!("{path}: {error}"))).unwrap()
    }

    /// `755 0:0 dir`, `644 0:0 5`, `link target`; nothing where there is nothing.
    pub(crate) fn stat(&self, built: &Built, path: &str) -> Option<String> {
        let root = self.root(&built.outcome.image);
        let node = root.lookup(Path::new(path)).ok()?;
        let metadata = node.metadata();
        let owner = metadata.owner;
        Some(match metadata.file_type {
            sys::file::FileType::Symlink => format!("link {}", node.read_link().unwrap().display()),
            sys::file::FileType::Directory => format!("{:o} {}:{} dir", metadata.mode, owner.uid, owner.gid),
            sys::file::FileType::Regular => {
                format!("{:o} {}:{} {}", metadata.mode, owner.uid, owner.gid, metadata.size_bytes)
            }
            kind => format!("{kind}"),
        })
    }

    /// The names in the topmost layer, sorted, directories with a `/`.
    pub(crate) fn top_layer(&self, built: &Built) -> Vec<String> {
        let id = built.outcome.image.layers.last().unwrap();
        let mut names = Vec::new();
        list(&self.store.layer(*id).unwrap().tree_path(), "", &mut names);
        names.sort();
        names
    }
}

fn list(dir: &Path, prefix: &str, names: &mut Vec<String>) {
    for entry in fs::read_dir(dir).unwrap() {
        let entry = entry.unwrap();
        let name = format!("{prefix}{}", entry.file_name().display());
        if entry.file_type().unwrap().is_dir() {
            names.push(format!("{name}/"));
            list(&entry.path(), &format!("{name}/"), names);
        } else {
            names.push(name);
        }
    }
}

pub(crate) fn open_store(dir: &Path) -> Store {
    let options =
        StoreOptions { root: dir.join("store"), runtime: dir.join("runtime"), mode: StoreMode::Root };
    Store::open(options).unwrap()
}

/// An error with all its causes.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let line = error.to_string();
        if !text.ends_with(&line) {
            text.push_str(": ");
            text.push_str(&line);
        }
        source = error.source();
    }
    text
}

pub(crate) fn transcript(events: &[BuildEvent]) -> String {
    let mut text = String::new();
    for event in events {
        match event {
            BuildEvent::Log { bytes, .. } => text.push_str(&String::from_utf8_lossy(bytes)),
            other => text.push_str(&format!("{other:?}\n")),
        }
    }
    text
}

/// The vertex whose label contains `part`.
#[track_caller]
pub(crate) fn vertex(events: &[BuildEvent], part: &str) -> VertexId {
    events
        .iter()
        .find_map(|event| match event {
            BuildEvent::Announced(vertex) if vertex.label.contains(part) => Some(vertex.id),
            _ => None,
        })
        .unwrap_or_else(|| panic!("no vertex `{part}` in\n{}", transcript(events)))
}

impl Built {
    #[track_caller]
    pub(crate) fn is_cached(&self, part: &str) -> bool {
        let id = vertex(&self.events, part);
        self.events.iter().any(|event| matches!(event, BuildEvent::Cached(cached) if *cached == id))
    }

    #[track_caller]
    pub(crate) fn cause(&self, part: &str) -> Option<String> {
        let id = vertex(&self.events, part);
        self.events.iter().find_map(|event| match event {
            BuildEvent::Missed { vertex, cause } if *vertex == id => Some(cause.clone()),
            _ => None,
        })
    }

    #[track_caller]
    pub(crate) fn log(&self, part: &str) -> String {
        log_of(&self.events, part)
    }

    /// How many steps ran.
    pub(crate) fn ran(&self) -> usize {
        self.outcome.steps - self.outcome.cached
    }

    pub(crate) fn config(&self) -> &ImageConfig {
        self.outcome.image.config.value()
    }
}

#[track_caller]
pub(crate) fn log_of(events: &[BuildEvent], part: &str) -> String {
    let id = vertex(events, part);
    let mut text = String::new();
    for event in events {
        if let BuildEvent::Log { vertex, bytes, .. } = event
            && *vertex == id
        {
            text.push_str(&String::from_utf8_lossy(bytes));
        }
    }
    text
}

/// Whether `needle` stands in any file below `dir`.
pub(crate) fn is_anywhere(dir: &Path, needle: &str) -> Option<PathBuf> {
    for entry in fs::read_dir(dir).ok()?.flatten() {
        let path = entry.path();
        let kind = entry.file_type().ok()?;
        if kind.is_dir() {
            if let Some(found) = is_anywhere(&path, needle) {
                return Some(found);
            }
        } else if kind.is_file() {
            let bytes = fs::read(&path).unwrap_or_default();
            if bytes.windows(needle.len()).any(|window| window == needle.as_bytes()) {
                return Some(path);
            }
        }
    }
    None
}

/// Nothing of the build is mounted any more.
pub(crate) fn assert_nothing_mounted(harness: &Harness) {
    testutil::LeakCheck::new(harness.dir.path()).assert_clean(std::time::Duration::from_secs(5));
}
