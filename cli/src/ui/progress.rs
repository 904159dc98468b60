//! `--progress=tty`: what runs is drawn over, what has ended stays above it.
//!
//! ```text
//!  => CACHED [1/3] FROM busybox                       0.0s
//! [+] Building 4.2s (1/3, 1 cached)
//!  => [2/3] RUN make                                  3.1s
//!  => => # cc -c main.c
//! ```
//!
//! What is on the screen is [`Screen`]'s; here it is put there, a few times a second and only where it changed. The
//! cursor is never hidden and rests at the start of the line below, so that nothing has to be restored however calque
//! ends.

use std::io::Write;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use builder::event::{BuildEvent, BuildWarning, Observer};
use parser::Source;

use super::screen::{Line, Screen, Size};
use super::{Ui, warnings_block, write_ignoring_errors};

/// How often is drawn.
const TICK: Duration = Duration::from_millis(100);
/// What is assumed when the terminal doesn't say.
const DEFAULT_SIZE: Size = Size { columns: 80, rows: 24 };

/// The drawn display.
pub(crate) struct Progress {
    shared: Arc<Shared>,
    drawer: Mutex<Option<JoinHandle<()>>>,
}

struct Shared {
    state: Mutex<State>,
    over: Condvar,
}

struct State {
    out: Box<dyn Write + Send>,
    size: fn() -> Size,
    colour: bool,
    start: Instant,
    screen: Screen,
    dockerfile: Source,
    warnings: Vec<BuildWarning>,
    /// Lines on the screen that are to be drawn over, and the size for which they were drawn.
    drawn: Vec<Line>,
    drawn_for: Size,
    is_over: bool,
}

impl Progress {
    /// Draws on stderr; `log_lines` lines of output under a running step.
    pub(crate) fn new(dockerfile: Source, colour: bool, log_lines: usize) -> Self {
        Self::on(Box::new(std::io::stderr()), stderr_size, dockerfile, colour, log_lines)
    }

    fn on(
        out: Box<dyn Write + Send>,
        size: fn() -> Size,
        dockerfile: Source,
        colour: bool,
        log_lines: usize,
    ) -> Self {
        let state = State {
            out,
            size,
            colour,
            start: Instant::now(),
            screen: Screen::new(log_lines),
            dockerfile,
            warnings: Vec::new(),
            drawn: Vec::new(),
            drawn_for: DEFAULT_SIZE,
            is_over: false,
        };
        let shared = Arc::new(Shared { state: Mutex::new(state), over: Condvar::new() });
        let drawing = Arc::clone(&shared);
        let drawer = std::thread::Builder::new().name("progress".to_owned()).spawn(move || drawing.draw());
        // Without the thread only the end is drawn.
        Self { shared, drawer: Mutex::new(drawer.ok()) }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn draw(&self) {
        let mut state = self.lock();
        while !state.is_over {
            let now = state.start.elapsed();
            state.draw(now);
            state = self.over.wait_timeout(state, TICK).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl State {
    fn draw(&mut self, now: Duration) {
        let size = (self.size)();
        let stays = self.screen.take_finished(size.columns);
        // The last row is the cursor's.
        let live = self.screen.live(now, Size { rows: size.rows.saturating_sub(1).max(1), ..size });
        if stays.is_empty() && live == self.drawn && size == self.drawn_for {
            return;
        }
        self.replace(&stays, live, size);
    }

    /// Draws over what was drawn: `stays`, to which nobody comes back, and `live`. All of it in one write, each line
    /// over the old one, so that nothing flickers.
    fn replace(&mut self, stays: &[Line], live: Vec<Line>, size: Size) {
        let mut text = String::from("\r");
        // A terminal that became narrower has wrapped what was wider.
        let rows: usize = self.drawn.iter().map(|line| line.width().div_ceil(size.columns).max(1)).sum();
        match rows.min(size.rows.saturating_sub(1)) {
            0 => {}
            rows => text.push_str(&format!("\u{1b}[{rows}A")),
        }
        if size != self.drawn_for {
            text.push_str("\u{1b}[J");
        }
        for line in stays.iter().chain(&live) {
            text.push_str(&line.paint(self.colour));
            // After a full line the cursor is still on its last character.
            if line.width() < size.columns {
                text.push_str("\u{1b}[K");
            }
            text.push('\n');
        }
        text.push_str("\u{1b}[J");
        write_ignoring_errors(&mut *self.out, text.as_bytes());
        self.drawn = live;
        self.drawn_for = size;
    }

    fn finish(&mut self, now: Duration) -> bool {
        self.is_over = true;
        let size = (self.size)();
        let mut stays = self.screen.take_finished(size.columns);
        stays.push(self.screen.finish(now, size.columns));
        self.replace(&stays, Vec::new(), size);
        let output = self.screen.failed_output();
        let block = output.clone().unwrap_or_default() + &warnings_block(&self.warnings, &self.dockerfile);
        write_ignoring_errors(&mut *self.out, block.as_bytes());
        output.is_some()
    }
}

impl Observer for Progress {
    fn on(&self, event: &BuildEvent) {
        let mut state = self.shared.lock();
        if let BuildEvent::Warned(warning) = event {
            state.warnings.push(warning.clone());
        }
        let now = state.start.elapsed();
        state.screen.on(event, now);
    }
}

impl Ui for Progress {
    fn finish(&self) -> bool {
        let has_shown = {
            let mut state = self.shared.lock();
            let now = state.start.elapsed();
            state.finish(now)
        };
        self.shared.over.notify_all();
        let drawer = self.drawer.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(drawer) = drawer {
            let _ = drawer.join();
        }
        has_shown
    }
}

fn stderr_size() -> Size {
    match rustix::termios::tcgetwinsize(rustix::stdio::stderr()) {
        Ok(size) if size.ws_col > 0 && size.ws_row > 0 => {
            Size { columns: usize::from(size.ws_col), rows: usize::from(size.ws_row) }
        }
        _ => DEFAULT_SIZE,
    }
}
