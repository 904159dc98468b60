//! `--progress=plain`: lines that stay, for logs (BuildKit's `progressui` text form).
//!
//! ```text
//! #5 [build 2/4] RUN make
//! #5 MISS: COPY package.json changed
//! #5 0.312 cc -c main.c
//! #5 ...
//!
//! #6 [assets 3/3] COPY a b
//! #6 CACHED
//!
//! #5 [build 2/4] RUN make
//! #5 DONE 12.4s
//! ```
//!
//! One vertex has the screen until it ends, or until it had it for a while and another has something to say. What
//! the others say meanwhile is kept, up to a limit.

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use builder::event::{BuildEvent, BuildWarning, Observer, VertexId};
use parser::Source;

use super::{Ui, warnings_block, write_ignoring_errors};
use crate::human;

/// How long a vertex that has not ended keeps the screen from another.
const PATIENCE: Duration = Duration::from_secs(5);
/// Most bytes that are kept for a vertex without the screen.
const PENDING_LIMIT: usize = 256 * 1024;

/// The plain display.
pub(crate) struct Plain {
    shared: Arc<Shared>,
    ticker: Mutex<Option<JoinHandle<()>>>,
}

struct Shared {
    state: Mutex<State>,
    over: Condvar,
}

struct State {
    out: Box<dyn Write + Send>,
    dockerfile: Source,
    vertices: BTreeMap<VertexId, VertexState>,
    next_number: u32,
    /// Who has the screen, and since when.
    current: Option<(VertexId, Instant)>,
    warnings: Vec<BuildWarning>,
    is_over: bool,
}

#[derive(Default)]
struct VertexState {
    label: String,
    /// Given when it is first printed.
    number: Option<u32>,
    started: Option<Instant>,
    /// What it said while it hadn't the screen: lines without `#N `.
    pending: Vec<u8>,
    /// The last line has no end yet.
    is_open: bool,
    was_cached: bool,
    has_ended: bool,
}

impl Plain {
    /// Writes to `out`.
    pub(crate) fn new(out: Box<dyn Write + Send>, dockerfile: Source) -> Self {
        let state = State {
            out,
            dockerfile,
            vertices: BTreeMap::new(),
            next_number: 1,
            current: None,
            warnings: Vec::new(),
            is_over: false,
        };
        let shared = Arc::new(Shared { state: Mutex::new(state), over: Condvar::new() });
        Self { shared, ticker: Mutex::new(None) }
    }

    /// Starts the thread that gives the screen away when nothing else happens.
    fn start_ticker(&self) {
        let mut ticker = self.ticker.lock().unwrap_or_else(PoisonError::into_inner);
        if ticker.is_none() {
            let shared = Arc::clone(&self.shared);
            *ticker = Some(std::thread::spawn(move || {
                let mut state = shared.lock();
                while !state.is_over {
                    state = shared
                        .over
                        .wait_timeout(state, Duration::from_secs(1))
                        .unwrap_or_else(PoisonError::into_inner)
                        .0;
                    state.give_screen(Instant::now());
                }
            }));
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Observer for Plain {
    fn on(&self, event: &BuildEvent) {
        let has_pending = {
            let mut state = self.shared.lock();
            state.on(event, Instant::now());
            !state.is_over && state.vertices.values().any(|vertex| !vertex.pending.is_empty())
        };
        if has_pending {
            self.start_ticker();
        }
    }
}

impl Ui for Plain {
    fn finish(&self) -> bool {
        {
            let mut state = self.shared.lock();
            state.finish();
        }
        self.shared.over.notify_all();
        let ticker = self.ticker.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(ticker) = ticker {
            let _ = ticker.join();
        }
        false
    }
}

impl State {
    fn on(&mut self, event: &BuildEvent, now: Instant) {
        match event {
            BuildEvent::BuildStarted { .. } => {
                self.print(format!("#0 building with calque {}\n\n", env!("CARGO_PKG_VERSION")).as_bytes());
            }
            BuildEvent::Announced(vertex) => {
                self.vertices.entry(vertex.id).or_default().label.clone_from(&vertex.label);
            }
            BuildEvent::Started(id) => {
                self.vertices.entry(*id).or_default().started = Some(now);
                if self.current.is_none() {
                    self.take_screen(*id, now);
                }
            }
            BuildEvent::Status { vertex, text } => self.say(*vertex, text, now),
            BuildEvent::Cached(id) => {
                self.say(*id, "CACHED", now);
                self.vertices.entry(*id).or_default().was_cached = true;
            }
            BuildEvent::Missed { vertex, cause } => self.say(*vertex, &format!("MISS: {cause}"), now),
            BuildEvent::WaitingForOtherBuild(id) => {
                self.say(*id, "WAIT: another build runs this very step", now);
            }
            BuildEvent::SameAsBefore(id) => {
                self.say(*id, "SAME: it made what an earlier run made, whose layer is kept", now);
            }
            BuildEvent::Log { vertex, bytes, .. } => self.log(*vertex, bytes, now),
            BuildEvent::Done { vertex, duration } => {
                if !self.vertices.entry(*vertex).or_default().was_cached {
                    self.say(*vertex, &format!("DONE {}", human::seconds(*duration)), now);
                }
                self.end(*vertex, now);
            }
            BuildEvent::Failed { vertex, message, .. } => {
                self.say(*vertex, &format!("ERROR: {message}"), now);
                self.end(*vertex, now);
            }
            BuildEvent::Cancelled(id) => {
                self.say(*id, "CANCELED", now);
                self.end(*id, now);
            }
            BuildEvent::Warned(warning) => self.warnings.push(warning.clone()),
            BuildEvent::Note(text) => self.note(text),
            BuildEvent::BuildFinished { .. } => {}
            _ => {}
        }
    }

    fn print(&mut self, bytes: &[u8]) {
        write_ignoring_errors(&mut *self.out, bytes);
    }

    /// A line that belongs to no vertex.
    fn note(&mut self, text: &str) {
        if let Some((id, _)) = self.current {
            self.leave_screen(id);
        }
        self.print(format!("#0 NOTE: {text}\n\n").as_bytes());
    }

    /// Adds a whole line to what `id` says.
    fn say(&mut self, id: VertexId, line: &str, now: Instant) {
        let vertex = self.vertices.entry(id).or_default();
        let mut text = Vec::with_capacity(line.len() + 2);
        if std::mem::take(&mut vertex.is_open) {
            text.push(b'\n');
        }
        text.extend_from_slice(line.replace('\n', " ").as_bytes());
        text.push(b'\n');
        self.add(id, &text, now);
    }

    /// Adds output of `id`; each of its lines begins with the time since the vertex started.
    fn log(&mut self, id: VertexId, bytes: &[u8], now: Instant) {
        let vertex = self.vertices.entry(id).or_default();
        let since = now.duration_since(vertex.started.unwrap_or(now));
        let stamp = format!("{}.{:03} ", since.as_secs(), since.subsec_millis());
        let mut text = Vec::with_capacity(bytes.len() + 16);
        for line in bytes.split_inclusive(|&byte| byte == b'\n') {
            if !vertex.is_open {
                text.extend_from_slice(stamp.as_bytes());
            }
            text.extend_from_slice(line);
            vertex.is_open = !line.ends_with(b"\n");
        }
        self.add(id, &text, now);
    }

    fn add(&mut self, id: VertexId, text: &[u8], now: Instant) {
        self.vertices.entry(id).or_default().pending.extend_from_slice(text);
        match self.current {
            None => self.take_screen(id, now),
            Some((current, _)) if current == id => self.flush(id),
            Some(_) => {
                if self.vertices[&id].pending.len() > PENDING_LIMIT {
                    self.take_screen(id, now);
                } else {
                    self.give_screen(now);
                }
            }
        }
    }

    /// Prints what `id` has to say; it has the screen.
    fn flush(&mut self, id: VertexId) {
        let vertex = self.vertices.get_mut(&id).expect("who has the screen is known");
        let number = vertex.number.unwrap_or_default();
        let pending = std::mem::take(&mut vertex.pending);
        let mut text = Vec::with_capacity(pending.len() + 64);
        // An open line is printed when it ends or when the vertex leaves, so that each line has its number once.
        let complete = pending.iter().rposition(|&byte| byte == b'\n').map_or(0, |at| at + 1);
        for line in pending[..complete].split_inclusive(|&byte| byte == b'\n') {
            if line != b"\n" {
                text.extend_from_slice(format!("#{number} ").as_bytes());
            }
            text.extend_from_slice(line);
        }
        vertex.pending = pending[complete..].to_vec();
        if vertex.pending.len() > PENDING_LIMIT {
            text.extend_from_slice(format!("#{number} ").as_bytes());
            text.append(&mut vertex.pending);
            text.push(b'\n');
            vertex.is_open = false;
        }
        self.print(&text);
    }

    /// `id` has the screen from now on.
    fn take_screen(&mut self, id: VertexId, now: Instant) {
        if let Some((current, _)) = self.current {
            self.leave_screen(current);
        }
        let next = &mut self.next_number;
        let vertex = self.vertices.entry(id).or_default();
        let number = *vertex.number.get_or_insert_with(|| {
            *next += 1;
            *next - 1
        });
        let header = format!("#{number} {}\n", vertex.label.lines().next().unwrap_or_default());
        self.print(header.as_bytes());
        self.current = Some((id, now));
        self.flush(id);
    }

    /// `id`, which has the screen, gives it away: for good where it has ended.
    fn leave_screen(&mut self, id: VertexId) {
        self.flush(id);
        let vertex = &self.vertices[&id];
        let text = if vertex.has_ended {
            "\n".to_owned()
        } else {
            format!("#{} ...\n\n", vertex.number.unwrap_or_default())
        };
        self.print(text.as_bytes());
        self.current = None;
    }

    /// `id` has ended: whoever waits has the screen next, those that have ended first.
    fn end(&mut self, id: VertexId, now: Instant) {
        self.vertices.entry(id).or_default().has_ended = true;
        if self.current.is_some_and(|(current, _)| current == id) {
            self.leave_screen(id);
            self.give_screen(now);
        }
    }

    /// Prints who has ended without having had the screen, and changes to another vertex if it is time.
    fn give_screen(&mut self, now: Instant) {
        let may_switch = self.current.is_none_or(|(_, since)| now.duration_since(since) >= PATIENCE);
        if !may_switch {
            return;
        }
        loop {
            let current = self.current.map(|(id, _)| id);
            let waiting = |ended: bool| {
                self.vertices
                    .iter()
                    .find(|(id, vertex)| {
                        Some(**id) != current && vertex.has_ended == ended && vertex.pending.contains(&b'\n')
                    })
                    .map(|(id, _)| *id)
            };
            if let Some(id) = waiting(true) {
                self.take_screen(id, now);
                self.leave_screen(id);
            } else if let Some(id) = waiting(false) {
                self.take_screen(id, now);
                return;
            } else {
                return;
            }
        }
    }

    fn finish(&mut self) {
        if let Some((id, _)) = self.current {
            self.leave_screen(id);
        }
        self.current = None;
        self.give_screen(Instant::now());
        if let Some((id, _)) = self.current {
            self.leave_screen(id);
        }
        self.is_over = true;
        let block = warnings_block(&self.warnings, &self.dockerfile);
        self.print(block.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use builder::event::{LogStream, Vertex};

    use super::*;

    /// A sink that the test can read.
    #[derive(Clone, Default)]
    struct Sink(Arc<Mutex<Vec<u8>>>);

    impl Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    struct Screen {
        state: State,
        sink: Sink,
        start: Instant,
    }

    impl Screen {
        fn new(labels: &[&str]) -> Self {
            let sink = Sink::default();
            let plain = Plain::new(Box::new(sink.clone()), Source::new("Dockerfile", ""));
            let shared = Arc::into_inner(plain.shared).unwrap();
            let mut screen = Self { state: shared.state.into_inner().unwrap(), sink, start: Instant::now() };
            for (at, label) in labels.iter().enumerate() {
                let id = VertexId(u32::try_from(at).unwrap());
                let vertex = Vertex { id, label: (*label).to_owned(), inputs: Vec::new(), span: None };
                screen.at(0, BuildEvent::Announced(vertex));
            }
            screen
        }

        fn at(&mut self, millis: u64, event: BuildEvent) {
            self.state.on(&event, self.start + Duration::from_millis(millis));
        }

        fn log(&mut self, millis: u64, id: u32, text: &str) {
            let bytes = text.as_bytes().to_vec();
            self.at(millis, BuildEvent::Log { vertex: VertexId(id), stream: LogStream::Stdout, bytes });
        }

        fn done(&mut self, millis: u64, id: u32) {
            let duration = Duration::from_millis(millis);
            self.at(millis, BuildEvent::Done { vertex: VertexId(id), duration });
        }

        fn text(&mut self) -> String {
            self.state.finish();
            String::from_utf8(self.sink.0.lock().unwrap().clone()).unwrap()
        }
    }

    #[test]
    fn steps_one_after_another_have_one_block_each() {
        let mut screen = Screen::new(&["[internal] load", "[2/3] RUN make", "[3/3] COPY a b"]);
        screen.at(0, BuildEvent::Started(VertexId(0)));
        screen.at(0, BuildEvent::Status { vertex: VertexId(0), text: "reading: 227B done".into() });
        screen.done(0, 0);
        screen.at(100, BuildEvent::Started(VertexId(1)));
        screen.at(100, BuildEvent::Missed { vertex: VertexId(1), cause: "src/a.rs changed".into() });
        screen.log(412, 1, "cc -c main.c\nlin");
        screen.log(1412, 1, "k\n");
        screen.done(12_400, 1);
        screen.at(0, BuildEvent::Cached(VertexId(2)));
        screen.done(0, 2);
        assert_eq!(
            screen.text(),
            "#1 [internal] load\n#1 reading: 227B done\n#1 DONE 0.0s\n\n\
             #2 [2/3] RUN make\n#2 MISS: src/a.rs changed\n#2 0.312 cc -c main.c\n#2 0.312 link\n\
             #2 DONE 12.4s\n\n\
             #3 [3/3] COPY a b\n#3 CACHED\n\n"
        );
    }

    #[test]
    fn a_step_keeps_the_screen_until_it_ends_or_had_it_for_a_while() {
        let mut screen = Screen::new(&["a", "b", "c"]);
        screen.at(0, BuildEvent::Started(VertexId(0)));
        screen.at(0, BuildEvent::Started(VertexId(1)));
        screen.log(1000, 1, "b1\n");
        screen.log(2000, 0, "a1\n");
        screen.at(2500, BuildEvent::Cached(VertexId(2)));
        screen.done(2500, 2);
        screen.log(5500, 1, "b2\n");
        screen.done(6000, 0);
        screen.done(7000, 1);
        assert_eq!(
            screen.text(),
            "#1 a\n#1 2.000 a1\n#1 ...\n\n#2 c\n#2 CACHED\n\n#3 b\n#3 1.000 b1\n#3 5.500 b2\n#3 DONE 7.0s\n\n\
             #1 a\n#1 DONE 6.0s\n\n"
        );
    }

    #[test]
    fn output_without_the_screen_is_kept_up_to_a_limit() {
        let mut screen = Screen::new(&["a", "b"]);
        screen.at(0, BuildEvent::Started(VertexId(0)));
        screen.at(0, BuildEvent::Started(VertexId(1)));
        let line = format!("{}\n", "x".repeat(1023));
        for _ in 0..1000 {
            screen.log(10, 1, &line);
            assert!(screen.state.vertices[&VertexId(1)].pending.len() < PENDING_LIMIT + 2048);
        }
        assert_eq!(screen.text().matches("xxx\n").count(), 1000);
    }

    #[test]
    fn a_failure_an_open_line_and_a_stop_are_shown() {
        let mut screen = Screen::new(&["a", "b"]);
        screen.at(0, BuildEvent::Started(VertexId(0)));
        screen.log(5, 0, "no end");
        let failed = BuildEvent::Failed {
            vertex: VertexId(0),
            message: "exit code: 2".into(),
            duration: Duration::from_secs(1),
        };
        screen.at(9, failed);
        screen.at(9, BuildEvent::Cancelled(VertexId(1)));
        assert_eq!(screen.text(), "#1 a\n#1 0.005 no end\n#1 ERROR: exit code: 2\n\n#2 b\n#2 CANCELED\n\n");
    }
}
