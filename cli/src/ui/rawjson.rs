//! `--progress=rawjson`: BuildKit's `SolveStatus`, one JSON object a line (buildkit `client/graph.go`), so that
//! what reads BuildKit's progress reads ours.

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::{Mutex, PoisonError};

use builder::event::{BuildEvent, LogStream, Observer, VertexId};
use jiff::Timestamp;
use oci::Digest;
use parser::Source;
use serde::Serialize;

use super::{Ui, write_ignoring_errors};

/// The JSON display.
pub(crate) struct RawJson {
    state: Mutex<State>,
}

struct State {
    out: Box<dyn Write + Send>,
    dockerfile: Source,
    build: String,
    vertices: BTreeMap<VertexId, Vertex>,
}

#[derive(Clone, Default, Serialize)]
struct Vertex {
    digest: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    inputs: Vec<String>,
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    started: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    completed: Option<String>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    cached: bool,
    #[serde(skip_serializing_if = "String::is_empty")]
    error: String,
}

#[derive(Serialize)]
struct Status {
    id: String,
    vertex: String,
    current: i64,
    timestamp: String,
    started: String,
    completed: String,
}

#[derive(Serialize)]
struct Log {
    vertex: String,
    stream: u8,
    data: String,
    timestamp: String,
}

#[derive(Serialize)]
struct Warning {
    level: u8,
    short: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    range: Vec<Range>,
}

#[derive(Serialize)]
struct Range {
    start: Position,
    end: Position,
}

#[derive(Serialize)]
struct Position {
    line: usize,
}

#[derive(Default, Serialize)]
struct SolveStatus {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    vertexes: Vec<Vertex>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    statuses: Vec<Status>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    logs: Vec<Log>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<Warning>,
}

impl RawJson {
    /// Writes to `out`.
    pub(crate) fn new(out: Box<dyn Write + Send>, dockerfile: Source) -> Self {
        let state = State { out, dockerfile, build: String::new(), vertices: BTreeMap::new() };
        Self { state: Mutex::new(state) }
    }
}

impl Observer for RawJson {
    fn on(&self, event: &BuildEvent) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(status) = state.status(event, &Timestamp::now().to_string()) {
            let mut line = serde_json::to_vec(&status).expect("strings and numbers are JSON");
            line.push(b'\n');
            write_ignoring_errors(&mut *state.out, &line);
        }
    }
}

impl Ui for RawJson {
    fn finish(&self) -> bool {
        false
    }
}

impl State {
    /// What BuildKit calls a vertex: some digest.
    fn digest(&self, id: VertexId) -> String {
        Digest::of(format!("{}/{id}", self.build).as_bytes()).to_string()
    }

    /// The vertex after `change`, as a message.
    fn vertex(&mut self, id: VertexId, change: impl FnOnce(&mut Vertex)) -> SolveStatus {
        let digest = self.digest(id);
        let vertex = self.vertices.entry(id).or_default();
        vertex.digest = digest;
        change(vertex);
        SolveStatus { vertexes: vec![vertex.clone()], ..SolveStatus::default() }
    }

    fn note(&self, vertex: VertexId, text: &str, now: &str) -> SolveStatus {
        let status = Status {
            id: text.to_owned(),
            vertex: self.digest(vertex),
            current: 0,
            timestamp: now.to_owned(),
            started: now.to_owned(),
            completed: now.to_owned(),
        };
        SolveStatus { statuses: vec![status], ..SolveStatus::default() }
    }

    fn warning(&self, text: &str, range: Vec<Range>) -> SolveStatus {
        let warning = Warning { level: 1, short: base64(text.as_bytes()), range };
        SolveStatus { warnings: vec![warning], ..SolveStatus::default() }
    }

    fn status(&mut self, event: &BuildEvent, now: &str) -> Option<SolveStatus> {
        let moment = || Some(now.to_owned());
        Some(match event {
            BuildEvent::BuildStarted { build, .. } => {
                self.build.clone_from(build);
                return None;
            }
            BuildEvent::Announced(announced) => {
                let inputs = announced.inputs.iter().map(|&input| self.digest(input)).collect();
                let name = announced.label.clone();
                self.vertex(announced.id, |vertex| {
                    vertex.name = name;
                    vertex.inputs = inputs;
                })
            }
            BuildEvent::Started(id) => self.vertex(*id, |vertex| vertex.started = moment()),
            BuildEvent::Cached(id) => self.vertex(*id, |vertex| vertex.cached = true),
            BuildEvent::Done { vertex, .. } => self.vertex(*vertex, |vertex| {
                vertex.started = vertex.started.take().or_else(moment);
                vertex.completed = moment();
            }),
            BuildEvent::Failed { vertex, message, .. } => {
                let message = message.clone();
                self.vertex(*vertex, |vertex| {
                    vertex.completed = moment();
                    vertex.error = message;
                })
            }
            BuildEvent::Cancelled(id) => self.vertex(*id, |vertex| {
                vertex.completed = moment();
                vertex.error = "context canceled".to_owned();
            }),
            BuildEvent::Status { vertex, text } => self.note(*vertex, text, now),
            BuildEvent::Missed { vertex, cause } => self.note(*vertex, &format!("MISS: {cause}"), now),
            BuildEvent::WaitingForOtherBuild(id) => self.note(*id, "WAIT: another build runs this step", now),
            BuildEvent::SameAsBefore(id) => self.note(*id, "SAME: an earlier run's layer is kept", now),
            BuildEvent::Log { vertex, stream, bytes } => {
                let log = Log {
                    vertex: self.digest(*vertex),
                    stream: match stream {
                        LogStream::Stdout => 1,
                        LogStream::Stderr => 2,
                    },
                    data: base64(bytes),
                    timestamp: now.to_owned(),
                };
                SolveStatus { logs: vec![log], ..SolveStatus::default() }
            }
            BuildEvent::Warned(warning) => {
                let line = |offset: usize| Position {
                    line: self.dockerfile.position(offset.min(self.dockerfile.text().len())).0,
                };
                let range = warning.span.map(|span| Range { start: line(span.start), end: line(span.end) });
                let text = format!("{}: {}", warning.code, warning.message);
                self.warning(&text, range.into_iter().collect())
            }
            BuildEvent::Note(text) => self.warning(text, Vec::new()),
            _ => return None,
        })
    }
}

/// RFC 4648's base64, padded.
fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let byte = |at: usize| u32::from(chunk.get(at).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for at in 0..4 {
            let index = (bits >> (18 - 6 * at)) & 63;
            text.push(if at <= chunk.len() { char::from(ALPHABET[index as usize]) } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn lines(events: &[BuildEvent]) -> Vec<serde_json::Value> {
        let mut state = State {
            out: Box::new(std::io::sink()),
            dockerfile: Source::new("Dockerfile", "FROM a\nCMD b\n"),
            build: String::new(),
            vertices: BTreeMap::new(),
        };
        let now = "2026-01-01T00:00:00Z";
        events
            .iter()
            .filter_map(|event| state.status(event, now))
            .map(|status| serde_json::to_value(status).unwrap())
            .collect()
    }

    #[test]
    fn base64_is_padded() {
        for (text, encoded) in
            [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg==")]
        {
            assert_eq!(base64(text.as_bytes()), encoded);
        }
        assert_eq!(base64(&[0xff, 0xfe, 0xfd]), "//79");
    }

    #[test]
    fn a_step_is_a_vertex_in_buildkits_form() {
        let id = VertexId(2);
        let vertex = builder::event::Vertex {
            id,
            label: "[2/3] RUN make".into(),
            inputs: vec![VertexId(1)],
            span: None,
        };
        let lines = lines(&[
            BuildEvent::BuildStarted { build: "b".into(), dockerfile: "Dockerfile".into() },
            BuildEvent::Announced(vertex),
            BuildEvent::Started(id),
            BuildEvent::Log { vertex: id, stream: LogStream::Stderr, bytes: b"foo".to_vec() },
            BuildEvent::Done { vertex: id, duration: Duration::from_secs(1) },
        ]);
        assert_eq!(lines.len(), 4);
        let first = &lines[0]["vertexes"][0];
        assert_eq!(first["name"], "[2/3] RUN make");
        assert!(first["digest"].as_str().unwrap().starts_with("sha256:"));
        assert_eq!(first["inputs"][0], Digest::of(b"b/1").to_string());
        assert_eq!(first.get("started"), None);
        let log = &lines[2]["logs"][0];
        assert_eq!((log["data"].as_str(), log["stream"].as_u64()), (Some("Zm9v"), Some(2)));
        assert_eq!(log["vertex"], first["digest"]);
        let last = &lines[3]["vertexes"][0];
        assert_eq!(last["completed"], "2026-01-01T00:00:00Z");
        assert_eq!(last["name"], "[2/3] RUN make");
    }

    #[test]
    fn a_warning_has_its_lines() {
        let warning = builder::event::BuildWarning {
            code: "X",
            message: "m".into(),
            span: Some(parser::Span::new(7, 12)),
        };
        let lines = lines(&[BuildEvent::Warned(warning)]);
        let warning = &lines[0]["warnings"][0];
        assert_eq!(warning["short"], base64(b"X: m"));
        assert_eq!(warning["range"][0]["start"]["line"], 2);
    }
}
