//! What a build tells while it runs: data for the progress displays, never text for a terminal.

use std::fmt;
use std::time::Duration;

use oci::ImageId;
use parser::Span;

/// Takes the events of a build.
///
/// Called from several threads, in order for each vertex. A slow observer slows the build down (back-pressure):
/// nothing is queued, so memory stays flat whatever a step prints.
pub trait Observer: Sync {
    /// One event.
    fn on(&self, event: &BuildEvent);
}

/// Hears nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Observer for Silent {
    fn on(&self, _event: &BuildEvent) {}
}

/// One line of the progress display: a step, or work beside the steps such as reading the context.
///
/// Numbers are given from 1 in the order in which vertices are announced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VertexId(pub u32);

impl fmt::Display for VertexId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// A vertex as it is announced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vertex {
    /// Its number.
    pub id: VertexId,
    /// `[build 2/4] RUN make`, `[internal] load build context`, `exporting to image`.
    pub label: String,
    /// The vertices it builds on.
    pub inputs: Vec<VertexId>,
    /// The instruction, where it is one.
    pub span: Option<Span>,
}

/// Where a step's output came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogStream {
    /// Descriptor 1.
    Stdout,
    /// Descriptor 2.
    Stderr,
}

/// Something that is allowed but probably not meant; shown after the build.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BuildWarning {
    /// `JSONArgsRecommended`, `CopyIgnoredFile`, ...
    pub code: &'static str,
    /// One line.
    pub message: String,
    /// Where in the Dockerfile.
    pub span: Option<Span>,
}

/// What happened.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum BuildEvent {
    /// The build began. The id names its logs (`builds/<id>`).
    BuildStarted {
        /// Identity of this build.
        build: String,
        /// The Dockerfile's name as the user gave it.
        dockerfile: String,
    },
    /// A vertex is known, not yet started.
    Announced(Vertex),
    /// It began.
    Started(VertexId),
    /// Sizes and counts on the way: `transferring context: 312 files`.
    Status {
        /// Whose.
        vertex: VertexId,
        /// One line.
        text: String,
    },
    /// Its result was there already; [`BuildEvent::Done`] follows.
    Cached(VertexId),
    /// It was not: the first input that differs from the nearest earlier result, on one line.
    Missed {
        /// Whose.
        vertex: VertexId,
        /// `src/app.rs changed`.
        cause: String,
    },
    /// Another build runs this very step; this one takes its result.
    WaitingForOtherBuild(VertexId),
    /// It ran and made what an earlier run made: the earlier layer is taken, what follows can be cached.
    SameAsBefore(VertexId),
    /// What a step printed: whole lines with their ends, except at the end of the output or when a line is long or
    /// stays unfinished for a while.
    Log {
        /// Whose.
        vertex: VertexId,
        /// Which descriptor.
        stream: LogStream,
        /// The bytes as they came, secrets' values masked.
        bytes: Vec<u8>,
    },
    /// It ended well.
    Done {
        /// Which.
        vertex: VertexId,
        /// How long it took, waiting included.
        duration: Duration,
    },
    /// It failed; the build's error has the details.
    Failed {
        /// Which.
        vertex: VertexId,
        /// One line.
        message: String,
        /// How long it took.
        duration: Duration,
    },
    /// It was stopped because the build was cancelled or another step failed.
    Cancelled(VertexId),
    /// A warning.
    Warned(BuildWarning),
    /// What the user should know about how this build runs (a degraded mode), once.
    Note(String),
    /// The image is in the store under its tags.
    BuildFinished {
        /// The image.
        image: ImageId,
        /// The whole build.
        duration: Duration,
    },
}
