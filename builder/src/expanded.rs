//! Steps after expansion: what is executed and what keys are made from. Nothing here holds a variable any more.

use std::collections::BTreeMap;

use parser::{CacheSharing, Span};

use crate::NetworkMode;
use crate::fetch::RemoteSource;
use crate::graph::ContentSource;

/// One instruction, ready to be carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ExpandedStep {
    /// `RUN`
    Run(Box<RunStep>),
    /// `COPY`
    Copy(Box<CopyStep>),
    /// `ADD`: [`CopyStep::unpack`] says whether archives are unpacked.
    Add(Box<CopyStep>),
    /// `WORKDIR`
    Workdir(WorkdirStep),
    /// All that changes the config and the scope alone.
    Config(ConfigChange),
}

impl ExpandedStep {
    /// Whether it makes a layer: RUN, COPY and ADD always do, WORKDIR does unless it is `/`.
    pub fn makes_layer(&self) -> bool {
        match self {
            Self::Run(_) | Self::Copy(_) | Self::Add(_) => true,
            Self::Workdir(workdir) => workdir.path != "/",
            Self::Config(_) => false,
        }
    }
}

/// A variable in scope.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Variable {
    /// Its value.
    pub value: String,
    /// What set it last.
    pub kind: VariableKind,
}

/// What sets a variable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum VariableKind {
    /// `ARG`
    Arg,
    /// `ENV`, here or in the base image.
    Env,
}

/// `RUN`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunStep {
    /// What is executed, SHELL put before it where the form asks for it.
    pub argv: Vec<String>,
    /// A heredoc that begins with `#!`: a file of mode 0755 at `argv[0]`, read-only, that is not part of the layer.
    pub script: Option<Script>,
    /// ENV and ARG, in the order of their names (so that their order in the Dockerfile can't matter). `HOME` is
    /// missing where only the image's passwd knows it.
    pub env: BTreeMap<String, Variable>,
    /// Proxies from build arguments that are not declared: put into the environment where `env` has no such name,
    /// in upper and lower case; neither key nor history knows them.
    pub proxy_env: BTreeMap<String, String>,
    /// Absolute.
    pub workdir: String,
    /// `user[:group]`; empty means root.
    pub user: String,
    /// In the order of the line.
    pub mounts: Vec<MountStep>,
    /// The instruction's, else the build's.
    pub network: NetworkMode,
    /// The host name within the step.
    pub hostname: String,
    /// The names that `build --add-host` puts into `/etc/hosts`: they are in the key, their addresses aren't.
    pub extra_hosts: Vec<String>,
    /// What history shows: `RUN |1 A=1 /bin/sh -c make # buildkit`.
    pub history: String,
}

/// A heredoc that is executed as a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Script {
    /// Where RUN finds it: `/dev/pipes/EOF`.
    pub path: String,
    /// Its content.
    pub body: String,
}

/// A `--mount` and its place in the flags.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MountStep {
    /// The flag.
    pub span: Span,
    /// What it mounts.
    pub mount: Mount,
}

/// What `--mount` mounts. Targets are absolute, clean and not `/`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mount {
    /// Files to look at; what is written into a writable one is dropped after the step.
    Bind {
        /// Where.
        target: String,
        /// Whose files.
        from: ContentSource,
        /// Which, absolute within `from`.
        source: String,
        /// Whether writing fails.
        readonly: bool,
    },
    /// A folder that outlives the build.
    Cache {
        /// Where.
        target: String,
        /// Its name among the caches of the build's scope.
        id: String,
        /// Who else may use it now.
        sharing: CacheSharing,
        /// What a new one starts with; nothing: empty.
        from: Option<ContentSource>,
        /// Which folder of `from`, absolute.
        source: String,
        /// Whether writing fails.
        readonly: bool,
        /// Mode of a new one.
        mode: u32,
        /// Owner of a new one.
        uid: u32,
        /// Group of a new one.
        gid: u32,
    },
    /// A new tmpfs.
    Tmpfs {
        /// Where.
        target: String,
        /// Its limit.
        size_bytes: Option<u64>,
    },
    /// A secret as a file, as a variable, or both.
    Secret {
        /// Which.
        id: String,
        /// The file.
        target: Option<String>,
        /// The variable.
        env: Option<String>,
        /// Whether the build fails without it; else there is no file and no variable.
        required: bool,
        /// Mode of the file.
        mode: u32,
        /// Owner of the file.
        uid: u32,
        /// Group of the file.
        gid: u32,
    },
}

impl Mount {
    /// Where it appears; nothing for a secret that is a variable only.
    pub fn target(&self) -> Option<&str> {
        match self {
            Self::Bind { target, .. } | Self::Cache { target, .. } | Self::Tmpfs { target, .. } => {
                Some(target)
            }
            Self::Secret { target, .. } => target.as_deref(),
        }
    }
}

/// `COPY` and `ADD`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CopyStep {
    /// Whose files.
    pub from: ContentSource,
    /// Paths and patterns as written, then documents.
    pub sources: Vec<CopySourceStep>,
    /// Absolute; ends in `/` where the word did (or was `.`).
    pub target: String,
    /// `user`, `uid`, `user:group` ...; never names with `link`.
    pub chown: Option<String>,
    /// `--chmod`.
    pub chmod: Option<Chmod>,
    /// `--link`.
    pub link: bool,
    /// `--parents`.
    pub parents: bool,
    /// `--exclude`s.
    pub exclude: Vec<String>,
    /// Whether local archives are unpacked: yes for ADD without `--unpack=false`.
    pub unpack: bool,
    /// Whether archives from elsewhere are unpacked: yes for ADD with `--unpack`.
    pub unpack_remote: bool,
    /// `--checksum` of the only source, a file from elsewhere: SHA-256 in hexadecimal digits.
    pub checksum: Option<String>,
    /// What history shows: `COPY --chown=app a b # buildkit`.
    pub history: String,
}

impl CopyStep {
    /// Whether anything is read from [`CopyStep::from`]: not for heredocs and what comes from elsewhere.
    pub fn reads_root(&self) -> bool {
        self.sources.iter().any(|source| matches!(source, CopySourceStep::Path { .. }))
    }
}

/// One source of [`CopyStep`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CopySourceStep {
    /// A path or pattern in [`CopyStep::from`], variables expanded, not yet cleaned.
    Path {
        /// The text.
        text: String,
        /// Where it stands.
        span: Span,
    },
    /// What ADD gets from elsewhere.
    Remote {
        /// What.
        source: RemoteSource,
        /// The text.
        text: String,
        /// Where it stands.
        span: Span,
    },
    /// A heredoc: a file of mode 0644 that belongs to root.
    Document {
        /// Its name where the target is a folder.
        name: String,
        /// Its content, variables expanded unless its word was quoted.
        body: String,
        /// Where its body stands.
        span: Span,
    },
}

/// `--chmod`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Chmod {
    /// `0755`: for files and folders alike.
    Mode(u32),
    /// `u=rwX,go=rX`: as chmod(1) reads it, checked.
    Symbolic(String),
}

/// `WORKDIR`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkdirStep {
    /// Absolute and clean.
    pub path: String,
    /// Who owns what is created: the `USER` in force; empty means root.
    pub user: String,
    /// What history shows: `WORKDIR /x`.
    pub history: String,
}

/// An instruction that changes the config and the scope alone, expanded and checked.
#[derive(Clone, Debug, PartialEq)]
pub enum ConfigChange {
    /// Names with the value they get, if any.
    Arg(Vec<(String, Option<String>)>),
    /// Keys and values.
    Env(Vec<(String, String)>),
    /// Keys and values.
    Label(Vec<(String, String)>),
    /// `user[:group]`.
    User(String),
    /// The argv, SHELL put before it; empty clears.
    Cmd(Vec<String>),
    /// The argv, SHELL put before it; empty clears.
    Entrypoint(Vec<String>),
    /// The argv that shell forms are put behind.
    Shell(Vec<String>),
    /// `80/tcp`s: ranges laid out, protocols in lower case.
    Expose(Vec<String>),
    /// Paths.
    Volume(Vec<String>),
    /// `SIGTERM`, `9`, as it was written.
    StopSignal(String),
    /// As the config has it.
    Healthcheck(oci::Healthcheck),
    /// The instruction as text.
    Onbuild(String),
    /// The author.
    Maintainer(String),
}

impl Eq for ConfigChange {}
