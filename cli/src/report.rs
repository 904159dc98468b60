//! Failures, as the user sees them: the only file that knows the renderer, colours, hints and exit codes.

use std::error::Error;
use std::fmt::{self, Display};
use std::io;

use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};
use builder::{BuildError, StepError};
use parser::{Source, Span};

use crate::settings::Terminal;

/// Why a command failed, all that is to be printed about it, and its exit code.
#[derive(Debug)]
pub(crate) struct Failure {
    exit: u8,
    /// Printed as they are, above the rest.
    preface: String,
    problems: Vec<Problem>,
    hints: Vec<String>,
    /// `calque image rm`: its help is pointed to.
    usage_of: Option<String>,
}

#[derive(Debug)]
struct Problem {
    message: String,
    frame: Option<Frame>,
}

/// The place in a text that a problem is about.
#[derive(Debug)]
pub(crate) struct Frame {
    pub(crate) source: Source,
    pub(crate) span: Span,
    pub(crate) label: Option<String>,
    pub(crate) help: Option<String>,
    pub(crate) notes: Vec<String>,
}

impl Failure {
    fn empty(exit: u8) -> Self {
        Self { exit, preface: String::new(), problems: Vec::new(), hints: Vec::new(), usage_of: None }
    }

    /// A failure that needs no more than `message`.
    pub(crate) fn message(exit: u8, message: impl Into<String>) -> Self {
        Self::empty(exit).and(message)
    }

    /// A mistake in the command line of `command`.
    pub(crate) fn usage(exit: u8, message: impl Into<String>, command: &str) -> Self {
        Self { usage_of: Some(command.to_owned()), ..Self::message(exit, message) }
    }

    /// An error of a library, with all its causes.
    pub(crate) fn error(exit: u8, error: &(dyn Error + 'static)) -> Self {
        Self::message(exit, chain(error)).hint_at_full_disk(error)
    }

    /// Says what frees space, where a full disk is the cause.
    fn hint_at_full_disk(self, error: &(dyn Error + 'static)) -> Self {
        if is_disk_full(error) { self.hint(FULL_DISK) } else { self }
    }

    /// Nothing is printed: all was said already.
    pub(crate) fn silent(exit: u8) -> Self {
        Self::empty(exit)
    }

    /// Adds another problem.
    #[must_use]
    pub(crate) fn and(mut self, message: impl Into<String>) -> Self {
        self.problems.push(Problem { message: message.into(), frame: None });
        self
    }

    /// Adds a problem with its place.
    #[must_use]
    pub(crate) fn and_at(mut self, message: impl Into<String>, frame: Frame) -> Self {
        self.problems.push(Problem { message: message.into(), frame: Some(frame) });
        self
    }

    /// Puts `text`, whose lines are ended, above everything.
    #[must_use]
    pub(crate) fn preface(mut self, text: impl Into<String>) -> Self {
        self.preface = text.into();
        self
    }

    /// Leaves out what stands above everything.
    #[must_use]
    pub(crate) fn without_preface(mut self) -> Self {
        self.preface.clear();
        self
    }

    /// Says what to do next.
    #[must_use]
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }

    /// The exit code.
    pub(crate) fn exit(&self) -> u8 {
        self.exit
    }

    /// All of it, each line ended.
    pub(crate) fn render(&self, terminal: Terminal) -> String {
        let renderer = if terminal.colour { Renderer::styled() } else { Renderer::plain() };
        let mut text = self.preface.clone();
        for problem in &self.problems {
            match &problem.frame {
                Some(frame) => text.push_str(&frame.render(&problem.message, &renderer)),
                None => {
                    let group = [Group::with_title(Level::ERROR.primary_title(problem.message.as_str()))];
                    text.push_str(&renderer.render(&group));
                }
            }
            text.push('\n');
        }
        for hint in &self.hints {
            text.push_str("hint: ");
            text.push_str(hint);
            text.push('\n');
        }
        if let Some(command) = &self.usage_of {
            text.push_str(&format!("Run '{command} --help' for more information\n"));
        }
        text
    }
}

impl Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(Terminal { interactive: false, colour: false }))
    }
}

impl Frame {
    fn render(&self, message: &str, renderer: &Renderer) -> String {
        self.render_as(Level::ERROR, message, renderer)
    }

    fn render_as(&self, level: Level<'_>, message: &str, renderer: &Renderer) -> String {
        let (text, span) = self.shown();
        let mut annotation = AnnotationKind::Primary.span(span);
        if let Some(label) = &self.label {
            annotation = annotation.label(label.as_str());
        }
        let snippet = Snippet::source(text).path(self.source.name()).annotation(annotation);
        let mut group = Group::with_title(level.primary_title(message)).element(snippet);
        for note in &self.notes {
            group = group.element(Level::NOTE.message(note.as_str()));
        }
        if let Some(help) = &self.help {
            group = group.element(Level::HELP.message(help.as_str()));
        }
        renderer.render(&[group])
    }

    /// The text and the span to draw: within the text, on one line where the place has several (the lines of a
    /// long RUN would push everything else off the screen), and not empty.
    fn shown(&self) -> (&str, std::ops::Range<usize>) {
        let text = self.source.text();
        let start = self.span.start.min(text.len());
        let end = self.span.end.clamp(start, text.len());
        let first_line = text[start..end].find('\n').map_or(end, |at| start + at);
        let first_line = start + text[start..first_line].trim_end_matches(['\r', '\\', ' ', '\t']).len();
        (text, start..first_line.max(start))
    }
}

/// A build that failed: the output of the step, its place in the Dockerfile, what to do. `interrupted` is the exit code
/// of a build that a signal stopped.
pub(crate) fn build_failure(error: &BuildError, dockerfile: &Source, interrupted: Option<u8>) -> Failure {
    const FAILED: u8 = 1;
    let frame =
        |span: Span| Frame { source: dockerfile.clone(), span, label: None, help: None, notes: Vec::new() };
    if let (BuildError::Cancelled, Some(code)) = (error, interrupted) {
        return Failure::message(code, "the build was cancelled");
    }
    let failure = match error {
        BuildError::Dockerfile(errors) => {
            return errors.iter().fold(Failure::silent(FAILED), |failure, error| {
                // `--target` and a build argument stand in no file.
                if error.span == Span::default() && !dockerfile.text().is_empty() {
                    let failure = failure.and(error.message.clone());
                    return error.help.iter().fold(failure, |failure, help| failure.hint(help.clone()));
                }
                let label = Some(error.label.clone()).filter(|label| !label.is_empty());
                failure.and_at(
                    error.message.clone(),
                    Frame { label, help: error.help.clone(), ..frame(error.span) },
                )
            });
        }
        BuildError::Lint { span: Some(span), .. } => Failure::silent(FAILED).and_at(
            chain(error),
            Frame { help: Some("`# check=error=true` makes warnings errors".to_owned()), ..frame(*span) },
        ),
        BuildError::BaseImage { span, hint, .. } => {
            Failure::silent(FAILED).and_at(chain(error), Frame { help: hint.clone(), ..frame(*span) })
        }
        BuildError::Step { span, label, source } => {
            let mut place = Frame { help: source.help(), ..frame(source.place().unwrap_or(*span)) };
            let mut failure = Failure::silent(FAILED);
            if let StepError::Process(process) = &**source {
                if !process.last_lines.is_empty() {
                    failure = failure.preface(last_lines(label, &process.last_lines));
                }
                if let Some(log) = &process.log {
                    place.notes.push(format!("all of its output is in {}", log.display()));
                }
                if let Some(kept) = &process.kept {
                    place.notes.push(format!("what it had written is kept in {}", kept.display()));
                }
            }
            failure.and_at(chain(&**source), place)
        }
        _ => Failure::message(FAILED, chain(error)),
    };
    failure.hint_at_full_disk(error)
}

/// A warning and its place, drawn as failures are, without colours: it goes to stdout.
pub(crate) fn warning_at(message: &str, source: &Source, span: Option<Span>) -> String {
    let renderer = Renderer::plain();
    let Some(span) = span else {
        return renderer.render(&[Group::with_title(Level::WARNING.primary_title(message))]);
    };
    let frame = Frame { source: source.clone(), span, label: None, help: None, notes: Vec::new() };
    frame.render_as(Level::WARNING, message, &renderer)
}

/// docker's block: the step and the end of its output.
fn last_lines(label: &str, lines: &[String]) -> String {
    let mut text = format!("------\n > {label}:\n");
    for line in lines {
        text.push_str(line.trim_end_matches(['\n', '\r']));
        text.push('\n');
    }
    text.push_str("------\n");
    text
}

const FULL_DISK: &str =
    "the disk is full: `calque system df` shows what the store takes, `calque rmi` and `calque rm` free some";

/// Whether the file system or the quota was full.
fn is_disk_full(error: &(dyn Error + 'static)) -> bool {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<io::Error>()
            && matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
        {
            return true;
        }
        cause = error.source();
    }
    false
}

/// The texts of an error and all its causes, on one line; a cause that the text above it ends with is not said
/// twice.
pub(crate) fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let next = error.to_string();
        if !next.is_empty() && !text.ends_with(&next) {
            text.push_str(": ");
            text.push_str(&next);
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    enum Sample {
        #[error("cannot open `a`")]
        Open { source: Box<Sample> },
        #[error("cannot read")]
        Read { source: std::io::Error },
        #[error("no such thing: {source}")]
        Repeated { source: std::io::Error },
    }

    fn frame(text: &str, span: Span) -> Frame {
        Frame { source: Source::new("Dockerfile", text), span, label: None, help: None, notes: Vec::new() }
    }

    #[test]
    fn causes_follow_on_one_line_and_once() {
        let io = || std::io::Error::other("disk on fire");
        let error = Sample::Open { source: Box::new(Sample::Read { source: io() }) };
        assert_eq!(chain(&error), "cannot open `a`: cannot read: disk on fire");
        assert_eq!(chain(&Sample::Repeated { source: io() }), "no such thing: disk on fire");
    }

    #[test]
    fn a_place_is_drawn_as_the_style_guide_says() {
        let place = Frame {
            label: Some("not an instruction".into()),
            help: Some("did you mean `COPY`?".into()),
            ..frame("FROM a\nCOPPY a b\n", Span::new(7, 16))
        };
        let failure = Failure::silent(1).and_at("unknown instruction `COPPY`", place);
        assert_eq!(
            failure.to_string(),
            "error: unknown instruction `COPPY`\n \
             --> Dockerfile:2:1\n  \
             |\n\
             2 | COPPY a b\n  \
             | ^^^^^^^^^ not an instruction\n  \
             |\n  \
             = help: did you mean `COPY`?\n"
        );
    }

    #[test]
    fn a_place_beyond_the_text_or_over_many_lines_is_drawn_too() {
        for (text, span) in [
            ("", Span::new(0, 0)),
            ("RUN a", Span::new(5, 9)),
            ("FROM a\nRUN a \\\n  b \\\n  c\n", Span::new(7, 23)),
            ("FROM a\r\nRUN a\r\n", Span::new(8, 15)),
        ] {
            let text = Failure::silent(1).and_at("m", frame(text, span)).to_string();
            assert!(text.starts_with("error: m\n") && text.contains("Dockerfile:"), "{text}");
            assert!(!text.contains('\r'), "{text}");
        }
    }

    #[test]
    fn what_stands_in_no_file_has_no_place() {
        let source = Source::new("Dockerfile", "FROM busybox AS app\n");
        let error = parser::ParseError {
            code: "unknown-target",
            message: "target stage `ap` could not be found".to_owned(),
            span: Span::default(),
            label: String::new(),
            help: Some("did you mean `app`?".to_owned()),
        };
        let failure = build_failure(&BuildError::Dockerfile(error.into()), &source, None);
        assert_eq!(
            failure.to_string(),
            "error: target stage `ap` could not be found\nhint: did you mean `app`?\n"
        );
    }

    #[test]
    fn all_errors_of_a_dockerfile_are_drawn() {
        let source = Source::new("Dockerfile", "FROM busybox\nCOPPY a b\nRUN --mount=type=nope true\n");
        let errors = parser::parse(&source).unwrap_err();
        let text = build_failure(&BuildError::Dockerfile(errors), &source, None).to_string();
        assert!(
            text.starts_with(
                "error: unknown instruction `COPPY`\n \
                 --> Dockerfile:2:1\n  \
                 |\n\
                 2 | COPPY a b\n  \
                 | ^^^^^ not an instruction\n  \
                 |\n  \
                 = help: did you mean `COPY`?\n\
                 error: "
            ),
            "{text}"
        );
        assert!(text.contains(" --> Dockerfile:3:"), "{text}");
    }

    #[test]
    fn a_failed_command_shows_its_end_its_line_and_its_log() {
        let source = Source::new("Dockerfile", "FROM busybox\nRUN make \\\n    all\n");
        let process = builder::ProcessFailure {
            command: "/bin/sh -c make all".into(),
            exit: sandbox::Exit::Code(2),
            last_lines: vec!["cc -c main.c".into(), "cc: error: main.c\r\n".into()],
            log: Some("/store/builds/b/2.log".into()),
            kept: None,
        };
        let error = BuildError::Step {
            span: Span::new(13, source.text().len() - 1),
            label: "[2/2] RUN make all".into(),
            source: Box::new(StepError::Process(process)),
        };
        assert_eq!(
            build_failure(&error, &source, None).to_string(),
            "------\n \
             > [2/2] RUN make all:\n\
             cc -c main.c\n\
             cc: error: main.c\n\
             ------\n\
             error: process \"/bin/sh -c make all\" did not complete successfully: exit code: 2\n \
             --> Dockerfile:2:1\n  \
             |\n\
             2 | RUN make \\\n  \
             | ^^^^^^^^\n  \
             |\n  \
             = note: all of its output is in /store/builds/b/2.log\n"
        );
    }

    #[test]
    fn a_full_disk_is_followed_by_what_frees_space() {
        let error = Sample::Read { source: std::io::Error::from(std::io::ErrorKind::StorageFull) };
        assert!(Failure::error(1, &error).to_string().contains("hint: the disk is full"));
        let error = Sample::Read { source: std::io::Error::other("x") };
        assert!(!Failure::error(1, &error).to_string().contains("hint"));
    }

    #[test]
    fn a_cancelled_build_has_the_signals_exit_code() {
        let source = Source::new("Dockerfile", "");
        assert_eq!(build_failure(&BuildError::Cancelled, &source, Some(130)).exit(), 130);
        assert_eq!(build_failure(&BuildError::Cancelled, &source, None).exit(), 1);
    }

    #[test]
    fn every_problem_is_printed_then_the_hints() {
        let failure = Failure::message(125, "a").and("b").hint("c");
        assert_eq!(failure.to_string(), "error: a\nerror: b\nhint: c\n");
        let failure = Failure::usage(1, "a", "calque rm");
        assert_eq!(failure.to_string(), "error: a\nRun 'calque rm --help' for more information\n");
    }
}
