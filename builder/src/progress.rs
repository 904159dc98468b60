//! Numbers for vertices, and the events of one vertex from start to end.

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use parser::Span;

use crate::event::{BuildEvent, BuildWarning, LogStream, Observer, Vertex, VertexId};

/// The one place from which a build's events go out.
pub(crate) struct Progress<'a> {
    observer: &'a dyn Observer,
    next: AtomicU32,
    notes: Mutex<BTreeSet<String>>,
    warnings: Mutex<Vec<BuildWarning>>,
}

/// A vertex that has started. Exactly one of its ends must be called.
pub(crate) struct Running<'a> {
    progress: &'a Progress<'a>,
    id: VertexId,
    started: Instant,
}

impl<'a> Progress<'a> {
    pub(crate) fn new(observer: &'a dyn Observer) -> Self {
        Self {
            observer,
            next: AtomicU32::new(1),
            notes: Mutex::new(BTreeSet::new()),
            warnings: Mutex::new(Vec::new()),
        }
    }

    pub(crate) fn emit(&self, event: &BuildEvent) {
        self.observer.on(event);
    }

    /// Tells something once, however often it is found out.
    pub(crate) fn note(&self, text: String) {
        let mut notes = self.notes.lock().expect("no thread panics while it notes");
        if notes.insert(text.clone()) {
            self.observer.on(&BuildEvent::Note(text));
        }
    }

    pub(crate) fn warn(&self, warning: BuildWarning) {
        let mut warnings = self.warnings.lock().expect("no thread panics while it warns");
        if !warnings.contains(&warning) {
            self.observer.on(&BuildEvent::Warned(warning.clone()));
            warnings.push(warning);
        }
    }

    pub(crate) fn warnings(&self) -> Vec<BuildWarning> {
        self.warnings.lock().expect("no thread panics while it warns").clone()
    }

    /// Announces a vertex and starts it.
    pub(crate) fn start(&'a self, label: String, inputs: Vec<VertexId>, span: Option<Span>) -> Running<'a> {
        let id = VertexId(self.next.fetch_add(1, Ordering::Relaxed));
        self.emit(&BuildEvent::Announced(Vertex { id, label, inputs, span }));
        self.emit(&BuildEvent::Started(id));
        Running { progress: self, id, started: Instant::now() }
    }
}

impl<'a> Running<'a> {
    pub(crate) fn id(&self) -> VertexId {
        self.id
    }

    pub(crate) fn duration(&self) -> Duration {
        self.started.elapsed()
    }

    pub(crate) fn status(&self, text: String) {
        self.progress.emit(&BuildEvent::Status { vertex: self.id, text });
    }

    pub(crate) fn missed(&self, cause: String) {
        self.progress.emit(&BuildEvent::Missed { vertex: self.id, cause });
    }

    pub(crate) fn waiting(&self) {
        self.progress.emit(&BuildEvent::WaitingForOtherBuild(self.id));
    }

    pub(crate) fn same_as_before(&self) {
        self.progress.emit(&BuildEvent::SameAsBefore(self.id));
    }

    pub(crate) fn log(&self, stream: LogStream, bytes: Vec<u8>) {
        self.progress.emit(&BuildEvent::Log { vertex: self.id, stream, bytes });
    }

    pub(crate) fn cached(&self) {
        self.progress.emit(&BuildEvent::Cached(self.id));
    }

    pub(crate) fn done(&self) {
        self.progress.emit(&BuildEvent::Done { vertex: self.id, duration: self.duration() });
    }

    pub(crate) fn failed(&self, message: String) {
        self.progress.emit(&BuildEvent::Failed { vertex: self.id, message, duration: self.duration() });
    }

    pub(crate) fn cancelled(&self) {
        self.progress.emit(&BuildEvent::Cancelled(self.id));
    }
}
