//! What a build is asked to do.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use oci::{Platform, Reference};
use parser::Source;

use crate::CancelToken;
use crate::fetch::GitSource;

/// One build.
#[derive(Clone, Debug)]
pub struct BuildRequest {
    /// The Dockerfile's text, under the name that messages use.
    pub dockerfile: Source,
    /// Where it was read from: its `<path>.dockerignore` stands before the context's own. Nothing for stdin.
    pub dockerfile_path: Option<PathBuf>,
    /// The folder that COPY reads. Nothing when the build has no context (`build - < Dockerfile`).
    pub context: Option<PathBuf>,
    /// `--build-context NAME=...`.
    pub named_contexts: BTreeMap<String, NamedContext>,
    /// `--target`: a stage's name or number; the last one where nothing is said.
    pub target: Option<String>,
    /// `--build-arg`, values filled in.
    pub build_args: BTreeMap<String, String>,
    /// `--label`: after the Dockerfile's, without a row in the history.
    pub labels: BTreeMap<String, String>,
    /// `--tag`.
    pub tags: Vec<Reference>,
    /// `--platform`.
    pub platform: Platform,
    /// `--no-cache`.
    pub cache: CachePolicy,
    /// `--secret`, values read.
    pub secrets: BTreeMap<String, SecretValue>,
    /// `--network`: what RUN has where it says nothing else.
    pub network: NetworkMode,
    /// `--add-host`: extra lines of RUN's `/etc/hosts`.
    pub extra_hosts: Vec<(String, String)>,
    /// The host's proxy variables: RUN has them, but neither keys nor images know them.
    pub proxies: Vec<(String, String)>,
    /// The host's `/etc/resolv.conf`, from which RUN's is made.
    pub resolv_conf: String,
    /// The scope of the cache mounts: builds of one scope share them.
    pub cache_scope: String,
    /// Asked to stop.
    pub cancel: CancelToken,
}

/// A value of `--build-context`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum NamedContext {
    /// A folder, with its own `.dockerignore`.
    Folder(PathBuf),
    /// `oci-layout://FOLDER[:TAG][@DIGEST]`.
    OciLayout {
        /// The layout's folder.
        path: PathBuf,
        /// A tag or digest in its index; its only image where nothing is said.
        reference: Option<String>,
    },
    /// `docker-image://REFERENCE`.
    Image(Reference),
    /// The commit of a git repository: `https://.../x.git#REF:FOLDER`.
    Git(GitSource),
    /// `target:STAGE`.
    Stage(String),
}

/// Whether earlier results may be taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CachePolicy {
    /// Yes.
    #[default]
    Use,
    /// No: everything runs again (`--no-cache`); results are recorded.
    Ignore,
}

/// The network of a RUN step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum NetworkMode {
    /// As calque sees fit: the host's, with a note, until calque has networks of its own.
    #[default]
    Default,
    /// A loopback only.
    None,
    /// The host's.
    Host,
}

/// The value of a secret; its debug form hides it.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretValue(Vec<u8>);

impl SecretValue {
    /// Most bytes that a secret may have (BuildKit's limit).
    pub const LIMIT_BYTES: usize = 500 * 1024;

    /// Takes `bytes` to be a secret.
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }

    /// The value itself.
    pub fn reveal(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for SecretValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretValue({} bytes)", self.0.len())
    }
}
