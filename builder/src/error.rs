//! Why a build failed, and where in the Dockerfile.

use std::fmt;
use std::io;
use std::path::PathBuf;

use oci::{Reference, UserError};
use parser::glob::PatternError;
use parser::ignore::IgnoreError;
use parser::{ParseErrors, Span};
use store::merged::MergedError;
use store::tree_writer::WriteError;

use crate::base::BaseImageError;
use crate::context::{Absence, ContextError};
use crate::fetch::FetchError;
use crate::source_tree::SourceError;

/// Why a build failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// The Dockerfile can't be understood, or its names don't fit together: each fault with its place.
    #[error(transparent)]
    Dockerfile(ParseErrors),
    /// `# check=error=true`, and there are warnings.
    #[error("lint violation found for rules: {}", rules.join(", "))]
    Lint {
        /// The names of the rules.
        rules: Vec<&'static str>,
        /// Where the first one is violated.
        span: Option<Span>,
    },
    /// A base image can't be had.
    #[error("cannot get the image `{}`", reference.familiar())]
    BaseImage {
        /// Which.
        reference: Reference,
        /// Where it is named.
        span: Span,
        /// What to say when the name may have been meant for a stage.
        hint: Option<String>,
        /// Why not.
        source: BaseImageError,
    },
    /// A named context that is an image can't be had.
    #[error("cannot use the build context `{name}`")]
    NamedContext {
        /// Its name.
        name: String,
        /// Why not.
        source: NamedContextError,
    },
    /// A folder can't be a context.
    #[error(transparent)]
    Context(ContextError),
    /// A step failed.
    #[error("{source}")]
    Step {
        /// Where it stands.
        span: Span,
        /// As progress shows it: `[build 2/4] RUN make`.
        label: String,
        /// What failed.
        #[source]
        source: Box<StepError>,
    },
    /// The image can't be put together or named.
    #[error("cannot {op}")]
    Export {
        /// What was attempted.
        op: String,
        /// Why not.
        source: StoreFailure,
    },
    /// `SOURCE_DATE_EPOCH` is no number of seconds.
    #[error("`SOURCE_DATE_EPOCH` is `{text}`, which is no number of seconds since 1970")]
    Epoch {
        /// Its value.
        text: String,
    },
    /// No descriptor or thread is left.
    #[error("cannot start the build")]
    Descriptors {
        /// The kernel's answer.
        source: io::Error,
    },
    /// The build's folder of logs can't be written.
    #[error("cannot keep the logs of this build")]
    Log(#[source] store::BuildLogError),
    /// Somebody asked for the stop.
    #[error("the build was cancelled")]
    Cancelled,
}

impl BuildError {
    /// Where in the Dockerfile it went wrong, if it is about one place.
    pub fn span(&self) -> Option<Span> {
        match self {
            Self::Dockerfile(errors) => Some(errors.first().span),
            Self::BaseImage { span, .. } => Some(*span),
            Self::Lint { span, .. } => *span,
            Self::Step { span, source, .. } => Some(source.place().unwrap_or(*span)),
            _ => None,
        }
    }

    /// How the process of a RUN step ended, if that is why the build failed.
    pub fn process(&self) -> Option<&ProcessFailure> {
        match self {
            Self::Step { source, .. } => match &**source {
                StepError::Process(failure) => Some(failure),
                _ => None,
            },
            _ => None,
        }
    }
}

/// A `--build-context` that stands for an image.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NamedContextError {
    /// The layout can't be read.
    #[error(transparent)]
    Layout(#[from] store::archive::LoadError),
    /// It has none or several images, and none was chosen.
    #[error("`{}` has {count} images: name one as `oci-layout://{}:TAG`", path.display(), path.display())]
    NotOne {
        /// The layout.
        path: PathBuf,
        /// How many it has.
        count: usize,
    },
    /// What was chosen isn't in it.
    #[error("`{}` has no image `{reference}`", path.display())]
    NoSuchImage {
        /// The layout.
        path: PathBuf,
        /// What was asked for.
        reference: String,
    },
    /// The image of `docker-image://` can't be had.
    #[error(transparent)]
    Image(#[from] BaseImageError),
    /// Its layers can't be held or read.
    #[error(transparent)]
    Store(#[from] StoreFailure),
    /// A kind of context that isn't there yet.
    #[error("{what} is not supported yet")]
    Unsupported {
        /// Which.
        what: &'static str,
    },
}

/// The store refused something; one type, since a step may touch any part of it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[expect(missing_docs, reason = "each variant is the error of one part of the store")]
pub enum StoreFailure {
    #[error(transparent)]
    Draft(#[from] store::DraftError),
    #[error(transparent)]
    Layer(#[from] store::LayerError),
    #[error(transparent)]
    Lease(#[from] store::LeaseError),
    #[error(transparent)]
    Lock(#[from] store::LockError),
    #[error(transparent)]
    Record(#[from] store::RecordError),
    #[error(transparent)]
    Image(#[from] store::ImageError),
    #[error(transparent)]
    Tag(#[from] store::TagError),
    #[error(transparent)]
    Log(#[from] store::BuildLogError),
    #[error(transparent)]
    CacheMount(#[from] store::CacheMountError),
    #[error(transparent)]
    ContentId(#[from] store::layer::ContentIdError),
    #[error(transparent)]
    Merged(#[from] MergedError),
    #[error(transparent)]
    Write(#[from] WriteError),
}

/// Why a step failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StepError {
    /// An instruction can't be expanded, or asks for what isn't there yet.
    #[error(transparent)]
    Expand(parser::ParseError),
    /// The command of RUN failed.
    #[error(transparent)]
    Process(ProcessFailure),
    /// The sandbox can't be used at all.
    #[error("cannot open the sandbox")]
    Sandbox(#[source] sandbox::OpenError),
    /// The command of RUN did not start.
    #[error("cannot start `{command}`")]
    Launch {
        /// What should have run.
        command: String,
        /// What to do about it.
        help: Option<String>,
        /// Why not.
        source: sandbox::LaunchError,
    },
    /// The end of the command can't be learned, or its output can't be read.
    #[error("cannot follow `{command}`")]
    Follow {
        /// What ran.
        command: String,
        /// Why not.
        source: io::Error,
    },
    /// The settings of the sandbox can't be put together.
    #[error(transparent)]
    Spec(oci::SpecError),
    /// A source of COPY or ADD isn't there.
    #[error("`{path}` is not in {root}{absence}", absence = AbsenceText(absence))]
    SourceMissing {
        /// As written.
        path: String,
        /// `the build context`, `stage `build``.
        root: String,
        /// Why not.
        absence: Absence,
        /// Where the word stands.
        span: Span,
    },
    /// A source of COPY or ADD would leave its root.
    #[error("`{path}` leaves {root}")]
    SourceEscapes {
        /// As written.
        path: String,
        /// `the build context`, `stage `build``.
        root: String,
        /// Where the word stands.
        span: Span,
    },
    /// There is no build context to read from.
    #[error("there is no build context: the Dockerfile was read from standard input")]
    NoContext,
    /// The source of a `--mount` isn't there.
    #[error("`{path}` is not in {root}{absence}", absence = AbsenceText(absence))]
    MountSourceMissing {
        /// As written.
        path: String,
        /// `the build context`, `stage `build``.
        root: String,
        /// Why not.
        absence: Absence,
        /// The flag.
        span: Span,
    },
    /// A pattern is malformed.
    #[error(transparent)]
    Pattern(PatternError),
    /// A pattern of `--exclude` is malformed.
    #[error("`--exclude` can't be understood")]
    Exclude(#[source] IgnoreError),
    /// A context or stage can't be read.
    #[error("cannot read from {root}")]
    Source {
        /// `the build context`, `stage `build``.
        root: String,
        /// Why not.
        source: SourceError,
    },
    /// The context can't be opened.
    #[error(transparent)]
    Context(#[from] ContextError),
    /// Several sources need a directory to go to.
    #[error("with more than one source the destination must be a directory and end in `/`")]
    TargetNotDirectory,
    /// A directory would replace a file, or a file a directory.
    #[error("cannot copy {what} `{}` over {existing} `{}`", path.display(), target.display())]
    Conflict {
        /// `the directory`, `the file`.
        what: &'static str,
        /// The source.
        path: PathBuf,
        /// `the directory`, `the file`.
        existing: &'static str,
        /// The path in the image.
        target: PathBuf,
    },
    /// A file of the context changed again and again while it was copied.
    #[error("`{}` keeps changing while it is copied", path.display())]
    Unstable {
        /// Which.
        path: PathBuf,
    },
    /// A user or group isn't known in the image.
    #[error("cannot resolve `{text}`")]
    User {
        /// `--chown=app`, `USER app`.
        text: String,
        /// A name that is near.
        help: Option<String>,
        /// Why not.
        source: UserError,
    },
    /// An archive can't be unpacked.
    #[error("cannot unpack `{}`", path.display())]
    Unpack {
        /// The archive.
        path: PathBuf,
        /// Why not.
        source: store::layer::ApplyError,
    },
    /// An archive can't be read.
    #[error("cannot read the archive `{}`", path.display())]
    Archive {
        /// The archive.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A remote source of ADD can't be had.
    #[error("cannot get `{remote}`")]
    Fetch {
        /// Its address.
        remote: String,
        /// Where the word stands.
        span: Span,
        /// Why not.
        source: FetchError,
    },
    /// A named context that lies elsewhere can't be had.
    #[error("cannot get the build context `{name}`")]
    ContextFetch {
        /// Its name.
        name: String,
        /// Why not.
        source: FetchError,
    },
    /// A required secret was not given.
    #[error("the secret `{id}` is required but was not given")]
    SecretMissing {
        /// Its id.
        id: String,
        /// The flag.
        span: Span,
    },
    /// A mount can't be prepared.
    #[error("cannot prepare the mount on `{target}`")]
    Mount {
        /// Where.
        target: String,
        /// The flag.
        span: Span,
        /// Why not.
        source: io::Error,
    },
    /// Something that calque can't do (yet).
    #[error("{what} is not supported yet")]
    Unsupported {
        /// What.
        what: String,
        /// Where it stands.
        span: Option<Span>,
    },
    /// The store can't be read or written.
    #[error("cannot {op}")]
    Store {
        /// What was attempted.
        op: &'static str,
        /// Why not.
        source: StoreFailure,
    },
    /// Another step failed, or somebody asked for the stop; never shown.
    #[error("the step was stopped")]
    Stopped,
}

impl StepError {
    /// The place within the instruction, where it is known more exactly.
    pub fn place(&self) -> Option<Span> {
        match self {
            Self::Expand(error) => Some(error.span),
            Self::SourceMissing { span, .. }
            | Self::SourceEscapes { span, .. }
            | Self::MountSourceMissing { span, .. }
            | Self::Fetch { span, .. }
            | Self::SecretMissing { span, .. }
            | Self::Mount { span, .. } => Some(*span),
            Self::Unsupported { span, .. } => *span,
            _ => None,
        }
    }

    /// What to do about it, where something is known.
    pub fn help(&self) -> Option<String> {
        match self {
            Self::Expand(error) => error.help.clone(),
            Self::Launch { help, .. } | Self::User { help, .. } => help.clone(),
            Self::SourceMissing { absence: Absence::Near { suggestion }, .. }
            | Self::MountSourceMissing { absence: Absence::Near { suggestion }, .. } => {
                Some(format!("did you mean `{suggestion}`?"))
            }
            Self::SourceMissing { absence: Absence::Ignored { file, line, .. }, .. }
            | Self::MountSourceMissing { absence: Absence::Ignored { file, line, .. }, .. } => {
                Some(format!("remove line {line} of `{file}`, or add an exception (`!`) below it"))
            }
            Self::SourceEscapes { .. } => Some(
                "give the folder a name with `--build-context NAME=FOLDER` and use `--from=NAME`".to_owned(),
            ),
            Self::Fetch { source, .. } | Self::ContextFetch { source, .. } => source.help(),
            Self::TargetNotDirectory => Some("end the destination in `/`".to_owned()),
            Self::SecretMissing { id, .. } => Some(format!("give it with `--secret id={id},src=FILE`")),
            _ => None,
        }
    }
}

struct AbsenceText<'a>(&'a Absence);

impl fmt::Display for AbsenceText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Absence::Ignored { file, line, pattern } => {
                write!(f, ": it exists but is excluded by {file}:{line} (`{pattern}`)")
            }
            Absence::Near { .. } | Absence::Unknown => Ok(()),
        }
    }
}

/// A command of RUN that did not succeed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProcessFailure {
    /// The argv on one line: `/bin/sh -c make`.
    pub command: String,
    /// How it ended.
    pub exit: sandbox::Exit,
    /// The end of what it printed, secrets masked.
    pub last_lines: Vec<String>,
    /// All of what it printed.
    pub log: Option<PathBuf>,
    /// What it had written when it failed.
    pub kept: Option<PathBuf>,
}

impl fmt::Display for ProcessFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "process \"{}\" did not complete successfully: ", self.command)?;
        match self.exit {
            sandbox::Exit::Code(code) => write!(f, "exit code: {code}"),
            sandbox::Exit::Signal(signal) => write!(f, "killed by signal {signal}"),
        }
    }
}

impl std::error::Error for ProcessFailure {}
