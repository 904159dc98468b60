//! `--progress=tty`: running steps are drawn over, finished ones stay (indicatif).
//!
//! ```text
//!  => CACHED [1/3] FROM busybox                       0.0s
//! [+] Building 4.2s (2/3)
//!  => [2/3] RUN make                                  3.1s
//!  => => # cc -c main.c
//! ```
//!
//! The cursor is never hidden, so that nothing has to be restored however calque ends.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use builder::event::{BuildEvent, BuildWarning, Observer, VertexId};
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use parser::Source;

use super::{Ui, warnings_block, write_ignoring_errors};
use crate::human;

/// Lines of output that are shown under a running step.
const LOG_LINES: usize = 6;
/// How often times are drawn anew.
const TICK: Duration = Duration::from_millis(100);
/// Columns when the terminal doesn't say.
const COLUMNS: usize = 80;

/// The drawn display.
pub(crate) struct Progress {
    bars: MultiProgress,
    state: Mutex<State>,
}

struct State {
    dockerfile: Source,
    start: Instant,
    head: Option<ProgressBar>,
    vertices: BTreeMap<VertexId, VertexState>,
    ended: usize,
    warnings: Vec<BuildWarning>,
}

#[derive(Default)]
struct VertexState {
    label: String,
    bar: Option<ProgressBar>,
    started: Option<Instant>,
    was_cached: bool,
    cause: Option<String>,
    status: Option<String>,
    /// The last lines of output; the last one may be open.
    lines: VecDeque<String>,
    is_open: bool,
}

impl Progress {
    /// Draws on stderr.
    pub(crate) fn new(dockerfile: Source) -> Self {
        let state = State {
            dockerfile,
            start: Instant::now(),
            head: None,
            vertices: BTreeMap::new(),
            ended: 0,
            warnings: Vec::new(),
        };
        let bars = MultiProgress::with_draw_target(ProgressDrawTarget::stderr());
        Self { bars, state: Mutex::new(state) }
    }

    fn say(&self, line: &str) {
        let _ = self.bars.println(line);
    }

    /// Draws the step anew.
    fn draw(&self, state: &mut State, id: VertexId) {
        let vertex = state.vertices.entry(id).or_default();
        if vertex.bar.is_none() {
            let bar = self.bars.add(ProgressBar::new_spinner());
            bar.set_style(ProgressStyle::with_template("{msg}").expect("the template is right"));
            vertex.bar = Some(bar);
        }
        let columns = columns();
        let mut text = step_line("", &vertex.label, vertex.started.map(|start| start.elapsed()), columns);
        if let Some(cause) = &vertex.cause {
            text.push_str(&format!("\n => => {}", human::ellipsis(&format!("MISS: {cause}"), columns - 7)));
        }
        if let Some(status) = &vertex.status {
            text.push_str(&format!("\n => => {}", human::ellipsis(status, columns - 7)));
        }
        for line in &vertex.lines {
            text.push_str(&format!("\n => => # {}", human::ellipsis(line, columns - 9)));
        }
        if let Some(bar) = &vertex.bar {
            bar.set_message(text);
        }
    }

    /// Takes the step's moving lines away and prints one that stays.
    fn end(&self, state: &mut State, id: VertexId, mark: &str, duration: Duration) {
        let vertex = state.vertices.entry(id).or_default();
        if let Some(bar) = vertex.bar.take() {
            bar.finish_and_clear();
            self.bars.remove(&bar);
        }
        self.say(&step_line(mark, &vertex.label, Some(duration), columns()));
        if let Some(cause) = vertex.cause.take() {
            self.say(&format!(" => => {}", human::ellipsis(&format!("MISS: {cause}"), columns() - 7)));
        }
        vertex.lines.clear();
        state.ended += 1;
        self.draw_head(state);
    }

    fn draw_head(&self, state: &mut State) {
        let head = state.head.get_or_insert_with(|| {
            let bar = self.bars.insert(0, ProgressBar::new_spinner());
            bar.set_style(
                ProgressStyle::with_template("[+] Building {elapsed} {msg}").expect("the template is right"),
            );
            bar.enable_steady_tick(TICK);
            bar
        });
        head.set_message(format!("({}/{})", state.ended, state.vertices.len()));
    }
}

impl Observer for Progress {
    fn on(&self, event: &BuildEvent) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let state = &mut *state;
        match event {
            BuildEvent::BuildStarted { .. } => self.draw_head(state),
            BuildEvent::Announced(vertex) => {
                state.vertices.entry(vertex.id).or_default().label.clone_from(&vertex.label);
            }
            BuildEvent::Started(id) => {
                state.vertices.entry(*id).or_default().started = Some(Instant::now());
                self.draw(state, *id);
                self.draw_head(state);
            }
            BuildEvent::Status { vertex, text } => {
                state.vertices.entry(*vertex).or_default().status = Some(printable(text));
                self.draw(state, *vertex);
            }
            BuildEvent::Cached(id) => state.vertices.entry(*id).or_default().was_cached = true,
            BuildEvent::Missed { vertex, cause } => {
                state.vertices.entry(*vertex).or_default().cause = Some(printable(cause));
                self.draw(state, *vertex);
            }
            BuildEvent::WaitingForOtherBuild(id) => {
                let text = "another build runs this very step".to_owned();
                state.vertices.entry(*id).or_default().status = Some(text);
                self.draw(state, *id);
            }
            BuildEvent::SameAsBefore(id) => {
                let label = state.vertices.entry(*id).or_default().label.clone();
                self.say(&step_line("SAME ", &label, None, columns()));
            }
            BuildEvent::Log { vertex, bytes, .. } => {
                state.vertices.entry(*vertex).or_default().log(bytes);
                self.draw(state, *vertex);
            }
            BuildEvent::Done { vertex, duration } => {
                let was_cached = state.vertices.entry(*vertex).or_default().was_cached;
                self.end(state, *vertex, if was_cached { "CACHED " } else { "" }, *duration);
            }
            BuildEvent::Failed { vertex, duration, .. } => self.end(state, *vertex, "ERROR ", *duration),
            BuildEvent::Cancelled(id) => self.end(state, *id, "CANCELED ", Duration::ZERO),
            BuildEvent::Warned(warning) => state.warnings.push(warning.clone()),
            BuildEvent::Note(text) => self.say(&format!("note: {text}")),
            _ => {}
        }
    }
}

impl Ui for Progress {
    fn finish(&self) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(head) = state.head.take() {
            head.finish_and_clear();
        }
        let _ = self.bars.clear();
        let total = state.start.elapsed();
        let count = format!("({}/{})", state.ended, state.vertices.len());
        self.say(&format!("[+] Building {} {count} FINISHED", human::seconds(total)));
        let block = warnings_block(&state.warnings, &state.dockerfile);
        if !block.is_empty() {
            self.say(block.trim_end_matches('\n'));
        }
        // indicatif fills its last line with spaces and leaves the cursor there.
        write_ignoring_errors(&mut std::io::stderr(), b"\n");
    }
}

impl VertexState {
    /// Keeps the last lines of the step's output.
    fn log(&mut self, bytes: &[u8]) {
        let text = String::from_utf8_lossy(bytes);
        for line in text.split_inclusive('\n') {
            let shown = printable(line);
            match self.lines.back_mut().filter(|_| self.is_open) {
                Some(open) => open.push_str(&shown),
                None => self.lines.push_back(shown),
            }
            self.is_open = !line.ends_with('\n');
        }
        while self.lines.len() > LOG_LINES {
            self.lines.pop_front();
        }
    }
}

/// ` => [2/3] RUN make      3.1s`, the time at the right border.
fn step_line(mark: &str, label: &str, duration: Option<Duration>, columns: usize) -> String {
    let time = duration.map(human::seconds).unwrap_or_default();
    let room = columns.saturating_sub(time.len() + 1);
    let text = human::ellipsis(&format!(" => {mark}{}", printable(label)), room);
    let gap = columns.saturating_sub(text.chars().count() + time.len());
    if time.is_empty() { text } else { format!("{text}{}{time}", " ".repeat(gap)) }
}

/// The text that a terminal would show in the end, without what moves the cursor or changes colours.
fn printable(text: &str) -> String {
    let text = text.trim_end_matches(['\n', '\r']);
    let last = text.rsplit('\r').next().unwrap_or_default();
    let mut shown = String::with_capacity(last.len());
    let mut chars = last.chars();
    while let Some(char) = chars.next() {
        match char {
            '\u{1b}' => {
                // `ESC [ ... letter`; other sequences lose their first character only.
                if chars.next() == Some('[') {
                    let _ = chars.by_ref().find(|char| ('@'..='~').contains(char));
                }
            }
            '\t' => shown.push(' '),
            char if char.is_control() => {}
            char => shown.push(char),
        }
    }
    shown
}

fn columns() -> usize {
    let size = rustix::termios::tcgetwinsize(rustix::stdio::stderr());
    size.map_or(COLUMNS, |size| usize::from(size.ws_col)).clamp(20, 200)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_its_time_at_the_right_border() {
        let line = step_line("", "[2/3] RUN make", Some(Duration::from_millis(3100)), 40);
        assert_eq!(line, " => [2/3] RUN make                  3.1s");
        let line = step_line("CACHED ", "[2/3] RUN make and much more", Some(Duration::ZERO), 30);
        assert_eq!(line, " => CACHED [2/3] RUN mak… 0.0s");
    }

    #[test]
    fn output_can_not_move_the_cursor() {
        assert_eq!(printable("10%\r50%\r\u{1b}[2K\u{1b}[31mred\u{1b}[0m\u{7}\tx\n"), "red x");
        assert_eq!(printable("\u{1b}[31"), "");
    }

    #[test]
    fn the_last_lines_of_output_are_kept() {
        let mut vertex = VertexState::default();
        vertex.log(b"1\n2\n3\n4\n5\n6\n7\nei");
        vertex.log(b"ght\nnine\n");
        assert_eq!(vertex.lines, ["4", "5", "6", "7", "eight", "nine"]);
    }
}
