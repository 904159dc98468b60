//! What `--progress=tty` shows, as lines: from the events of a build and a moment to text, without a terminal.
//!
//! Lines are of two kinds. What has ended is said once and stays ([`Screen::take_finished`]); what runs is drawn over
//! ([`Screen::live`]). No line is wider than it may be, counted in columns of the terminal.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write;
use std::time::Duration;

use builder::event::{BuildEvent, VertexId};
use unicode_width::UnicodeWidthChar;

use crate::human;

/// Most bytes of a line of output that are kept for the screen.
const LINE_LIMIT: usize = 4096;
/// Most bytes of a running step's output that are kept in case it fails.
const OUTPUT_LIMIT: usize = 256 * 1024;
/// Most lines about sizes and names that work beside the steps leaves.
const STATUS_LIMIT: usize = 8;

/// How a piece of a line looks where there are colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Style {
    /// As the terminal has it.
    Plain,
    /// Output of steps, and what explains.
    Dim,
    /// It went well.
    Done,
    /// It went wrong.
    Failed,
    /// Neither.
    Warning,
}

impl Style {
    fn code(self) -> Option<&'static str> {
        match self {
            Self::Plain => None,
            Self::Dim => Some("2"),
            Self::Done => Some("34"),
            Self::Failed => Some("31"),
            Self::Warning => Some("33"),
        }
    }
}

/// A line without its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Line {
    text: String,
    style: Style,
}

impl Line {
    /// `text`, which has no control characters, in at most `columns`.
    pub(crate) fn new(style: Style, text: &str, columns: usize) -> Self {
        Self { text: fit(text, columns), style }
    }

    /// Columns that it takes.
    pub(crate) fn width(&self) -> usize {
        width(&self.text)
    }

    /// The bytes for the terminal.
    pub(crate) fn paint(&self, colour: bool) -> String {
        match self.style.code().filter(|_| colour) {
            Some(code) => format!("\u{1b}[{code}m{}\u{1b}[0m", self.text),
            None => self.text.clone(),
        }
    }
}

/// How much room there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Size {
    /// Characters in a line.
    pub(crate) columns: usize,
    /// Lines.
    pub(crate) rows: usize,
}

/// All that a build has told so far. Moments are given as time since its start.
#[derive(Debug)]
pub(crate) struct Screen {
    vertices: BTreeMap<VertexId, Vertex>,
    /// Ended, and not yet said.
    finished: Vec<Finished>,
    ended: usize,
    cached: usize,
    failed: Option<FailedOutput>,
    log_lines: usize,
}

#[derive(Debug, Default)]
struct Vertex {
    label: String,
    is_instruction: bool,
    started: Option<Duration>,
    is_running: bool,
    was_cached: bool,
    was_same: bool,
    cause: Option<String>,
    statuses: VecDeque<String>,
    log: Log,
}

#[derive(Debug)]
enum Finished {
    Step {
        style: Style,
        mark: &'static str,
        label: String,
        time: Option<Duration>,
        cause: Option<String>,
        below: Vec<String>,
    },
    Note(String),
}

/// Output of a step while it runs.
#[derive(Debug, Default)]
struct Log {
    /// The last lines that have ended, as they came: few of them are ever looked at.
    lines: VecDeque<Vec<u8>>,
    /// The line that has not.
    open: Vec<u8>,
    /// The end of all of it.
    tail: VecDeque<u8>,
    left_out: u64,
}

/// What a step that failed had printed.
#[derive(Clone, Debug, PartialEq, Eq)]
struct FailedOutput {
    label: String,
    text: String,
    left_out: u64,
}

impl Screen {
    /// Nothing happened yet. `log_lines`: so many lines of output are shown under a running step.
    pub(crate) fn new(log_lines: usize) -> Self {
        Self { vertices: BTreeMap::new(), finished: Vec::new(), ended: 0, cached: 0, failed: None, log_lines }
    }

    /// One event.
    pub(crate) fn on(&mut self, event: &BuildEvent, now: Duration) {
        match event {
            BuildEvent::Announced(announced) => {
                let vertex = self.vertex(announced.id);
                vertex.label = printable(announced.label.lines().next().unwrap_or_default());
                vertex.is_instruction = announced.span.is_some();
            }
            BuildEvent::Started(id) => {
                let vertex = self.vertex(*id);
                vertex.started = Some(now);
                vertex.is_running = true;
            }
            BuildEvent::Status { vertex, text } => self.vertex(*vertex).say(text),
            BuildEvent::Cached(id) => {
                self.vertex(*id).was_cached = true;
                self.cached += 1;
            }
            BuildEvent::Missed { vertex, cause } => self.vertex(*vertex).cause = Some(printable(cause)),
            BuildEvent::WaitingForOtherBuild(id) => {
                self.vertex(*id).say("waiting: another build runs this very step");
            }
            BuildEvent::SameAsBefore(id) => self.vertex(*id).was_same = true,
            BuildEvent::Log { vertex, bytes, .. } => {
                let lines = self.log_lines;
                self.vertex(*vertex).log.add(bytes, lines);
            }
            BuildEvent::Done { vertex, duration } => {
                let (style, mark) = match self.vertex(*vertex) {
                    Vertex { was_cached: true, .. } => (Style::Done, "CACHED "),
                    _ => (Style::Done, ""),
                };
                self.end(*vertex, style, mark, Some(*duration));
            }
            BuildEvent::Failed { vertex, duration, .. } => {
                let failed = self.vertex(*vertex);
                let output = FailedOutput {
                    label: failed.label.clone(),
                    text: failed.log.whole(),
                    left_out: failed.log.left_out,
                };
                if !output.text.is_empty() && self.failed.is_none() {
                    self.failed = Some(output);
                }
                self.end(*vertex, Style::Failed, "ERROR ", Some(*duration));
            }
            BuildEvent::Cancelled(id) => self.end(*id, Style::Warning, "CANCELED ", None),
            BuildEvent::Note(text) => self.finished.push(Finished::Note(printable(text))),
            _ => {}
        }
    }

    fn vertex(&mut self, id: VertexId) -> &mut Vertex {
        self.vertices.entry(id).or_default()
    }

    fn end(&mut self, id: VertexId, style: Style, mark: &'static str, time: Option<Duration>) {
        let vertex = self.vertex(id);
        vertex.is_running = false;
        vertex.log = Log::default();
        let cause = vertex.cause.take();
        let mut below = Vec::new();
        if vertex.was_same {
            below.push("SAME: it made what an earlier run made, whose layer is kept".to_owned());
        }
        let statuses = std::mem::take(&mut vertex.statuses);
        // Of an instruction they tell how it went on, which is over; of the rest what it made.
        if !vertex.is_instruction {
            below.extend(statuses);
        }
        let label = vertex.label.clone();
        self.finished.push(Finished::Step { style, mark, label, time, cause, below });
        self.ended += 1;
    }

    /// Lines that stay, each given once.
    pub(crate) fn take_finished(&mut self, columns: usize) -> Vec<Line> {
        let mut lines = Vec::new();
        for finished in std::mem::take(&mut self.finished) {
            match finished {
                Finished::Step { style, mark, label, time, cause, below } => {
                    lines.push(step_line(style, mark, &label, time, columns));
                    if let Some(cause) = cause {
                        wrap(Style::Dim, &format!(" => => MISS: {cause}"), columns, &mut lines);
                    }
                    let below = below.iter().map(|text| format!(" => => {text}"));
                    lines.extend(below.map(|text| Line::new(Style::Dim, &text, columns)));
                }
                Finished::Note(text) => {
                    wrap(Style::Warning, &format!("note: {text}"), columns, &mut lines);
                }
            }
        }
        lines
    }

    /// What runs, in at most `size`.
    pub(crate) fn live(&self, now: Duration, size: Size) -> Vec<Line> {
        let mut lines = Vec::new();
        // As many lines of output as there is room for, for each step alike.
        for log_lines in (0..=self.log_lines).rev() {
            lines = vec![self.total(now, size.columns, "")];
            for vertex in self.vertices.values().filter(|vertex| vertex.is_running) {
                vertex.live(now, size.columns, log_lines, &mut lines);
            }
            if lines.len() <= size.rows {
                return lines;
            }
        }
        let more = lines.len() + 1 - size.rows;
        lines.truncate(size.rows.saturating_sub(1).max(1));
        if size.rows > 1 {
            lines.push(Line::new(Style::Dim, &format!(" => … {more} more lines"), size.columns));
        }
        lines
    }

    /// `[+] Building 4.2s (7/12, 3 cached)`.
    fn total(&self, now: Duration, columns: usize, end: &str) -> Line {
        let cached = match self.cached {
            0 => String::new(),
            cached => format!(", {cached} cached"),
        };
        let counts = format!("({}/{}{cached})", self.ended, self.vertices.len());
        let text = format!("[+] Building {} {counts}{end}", human::seconds(now));
        Line::new(if end.is_empty() { Style::Plain } else { Style::Done }, &text, columns)
    }

    /// The last line of a build.
    pub(crate) fn finish(&self, now: Duration, columns: usize) -> Line {
        self.total(now, columns, " FINISHED")
    }

    /// All that the step that failed had printed, as docker's block; nothing where none failed or it was silent.
    pub(crate) fn failed_output(&self) -> Option<String> {
        let FailedOutput { label, text, left_out } = self.failed.as_ref()?;
        let mut block = format!("------\n > {label}:\n");
        if *left_out > 0 {
            let _ = writeln!(block, "[the first {} are left out here]", human::size(*left_out));
        }
        block.push_str(text);
        block.push_str("------\n");
        Some(block)
    }
}

impl Vertex {
    fn say(&mut self, text: &str) {
        self.statuses.push_back(printable(text));
        if self.statuses.len() > STATUS_LIMIT {
            self.statuses.pop_front();
        }
    }

    fn live(&self, now: Duration, columns: usize, log_lines: usize, lines: &mut Vec<Line>) {
        let time = self.started.map(|started| now.saturating_sub(started));
        lines.push(step_line(Style::Plain, "", &self.label, time, columns));
        let mut below = |text: &str| lines.push(Line::new(Style::Dim, text, columns));
        if let Some(cause) = &self.cause {
            below(&format!(" => => MISS: {cause}"));
        }
        if let Some(status) = self.statuses.back() {
            below(&format!(" => => {status}"));
        }
        for line in self.log.last(log_lines) {
            below(&format!(" => => # {line}"));
        }
    }
}

impl Log {
    fn add(&mut self, bytes: &[u8], kept_lines: usize) {
        for line in bytes.split_inclusive(|&byte| byte == b'\n') {
            let room = LINE_LIMIT.saturating_sub(self.open.len());
            // What a carriage return goes back over is never shown.
            match line.iter().rposition(|&byte| byte == b'\r') {
                Some(at) if !matches!(&line[at + 1..], [] | b"\n") => {
                    self.open.clear();
                    self.open.extend_from_slice(&line[at + 1..][..(line.len() - at - 1).min(LINE_LIMIT)]);
                }
                _ if line.contains(&b'\r') && room < line.len() => {
                    self.open = line[..line.len().min(LINE_LIMIT)].to_vec();
                }
                _ => self.open.extend_from_slice(&line[..line.len().min(room)]),
            }
            if line.ends_with(b"\n") {
                self.lines.push_back(std::mem::take(&mut self.open));
                while self.lines.len() > kept_lines {
                    self.lines.pop_front();
                }
            }
        }
        self.tail.extend(bytes);
        let more = self.tail.len().saturating_sub(OUTPUT_LIMIT);
        self.tail.drain(..more);
        self.left_out += more as u64;
    }

    /// The last lines, the open one included.
    fn last(&self, count: usize) -> Vec<String> {
        let shown = |line: &Vec<u8>| printable(&String::from_utf8_lossy(line));
        let open = (!self.open.is_empty()).then(|| shown(&self.open));
        let ended = count.saturating_sub(usize::from(open.is_some()));
        let lines = self.lines.iter().skip(self.lines.len().saturating_sub(ended)).map(shown);
        lines.chain(open).take(count).collect()
    }

    /// All lines that are still there, as they may be printed.
    fn whole(&self) -> String {
        let (head, rest) = self.tail.as_slices();
        let mut bytes = [head, rest].concat();
        if self.left_out > 0 {
            // Its first line may have lost its start.
            let end = bytes.iter().position(|&byte| byte == b'\n').map_or(0, |at| at + 1);
            bytes.drain(..end);
        }
        let text = String::from_utf8_lossy(&bytes);
        text.lines().fold(String::new(), |mut whole, line| {
            whole.push_str(&printable(line));
            whole.push('\n');
            whole
        })
    }
}

/// ` => [2/3] RUN make      3.1s`, the time at the right border.
fn step_line(style: Style, mark: &str, label: &str, time: Option<Duration>, columns: usize) -> Line {
    let text = format!(" => {mark}{label}");
    let time = time.map(human::seconds).unwrap_or_default();
    // A time beside which nothing can be read says nothing.
    let room = columns.saturating_sub(time.len() + 1);
    if time.is_empty() || room < 8 {
        return Line::new(style, &text, columns);
    }
    let text = fit(&text, room);
    let gap = columns - width(&text) - time.len();
    Line { text: format!("{text}{}{time}", " ".repeat(gap)), style }
}

/// `text`, of which nothing may be lost, in as many lines as it takes, broken between words where that is possible.
fn wrap(style: Style, text: &str, columns: usize, lines: &mut Vec<Line>) {
    const INDENT: &str = "    ";
    let mut rest = text.to_owned();
    while width(&rest) > columns {
        let mut taken = 0;
        let too_far = rest.char_indices().find(|(_, char)| {
            taken += char_width(*char);
            taken > columns
        });
        let end = too_far.map_or(rest.len(), |(at, _)| at);
        let indent = rest.len() - rest.trim_start().len();
        // A line that begins with its only word isn't broken before it.
        let at = rest[..end].rfind(' ').filter(|at| *at > indent.max(INDENT.len())).unwrap_or(end);
        // Too narrow for anything.
        if at <= INDENT.len() {
            break;
        }
        lines.push(Line { text: rest[..at].to_owned(), style });
        rest = format!("{INDENT}{}", rest[at..].trim_start());
    }
    lines.push(Line::new(style, &rest, columns));
}

/// Columns that `text` takes; a terminal may join characters into fewer, but never needs more.
fn width(text: &str) -> usize {
    text.chars().map(char_width).sum()
}

fn char_width(char: char) -> usize {
    char.width().unwrap_or(0)
}

/// `text` cut to `columns`, the last character `…` where something is missing.
fn fit(text: &str, columns: usize) -> String {
    if width(text) <= columns {
        return text.to_owned();
    }
    let mut room = columns.saturating_sub(1);
    let mut cut = String::with_capacity(text.len().min(columns * 4));
    for char in text.chars() {
        let Some(rest) = room.checked_sub(char_width(char)) else { break };
        room = rest;
        cut.push(char);
    }
    if columns > 0 {
        cut.push('…');
    }
    cut
}

/// The text that a terminal would show in the end, without what moves the cursor, changes colours or turns the
/// direction of writing.
pub(crate) fn printable(text: &str) -> String {
    let text = text.trim_end_matches(['\n', '\r']);
    let last = text.rsplit('\r').next().unwrap_or_default();
    let mut shown = String::with_capacity(last.len());
    let mut chars = last.chars().peekable();
    while let Some(char) = chars.next() {
        match char {
            '\u{1b}' => match chars.next() {
                Some('[') => skip_to_final(&mut chars),
                // A string, up to BEL or `ESC \`: titles, links, pictures.
                Some(']' | 'P' | 'X' | '^' | '_') => skip_string(&mut chars),
                // `ESC ( B`: a character after some between space and slash.
                Some(' '..='/') => {
                    let _ = chars.find(|char| !(' '..='/').contains(char));
                }
                _ => {}
            },
            '\u{9b}' => skip_to_final(&mut chars),
            '\u{90}' | '\u{98}' | '\u{9d}'..='\u{9f}' => skip_string(&mut chars),
            '\t' => shown.push(' '),
            '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {}
            char if char.is_control() => {}
            char => shown.push(char),
        }
    }
    shown
}

fn skip_to_final(chars: &mut impl Iterator<Item = char>) {
    let _ = chars.find(|char| ('@'..='~').contains(char));
}

fn skip_string(chars: &mut std::iter::Peekable<impl Iterator<Item = char>>) {
    while let Some(char) = chars.next() {
        match char {
            '\u{7}' | '\u{9c}' => return,
            '\u{1b}' => {
                chars.next_if_eq(&'\\');
                return;
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests;
