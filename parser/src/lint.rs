//! Warnings: what is accepted and better written otherwise. Names are BuildKit's, so that `# check=skip=` works.

use std::fmt;

use crate::error::Sink;
use crate::instruction::flag::Statement;
use crate::{
    ArgInstruction, CommandLine, CommentBlock, FromInstruction, Instruction, InstructionKind, RunInstruction,
    Span, Word,
};

/// One warning.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    /// Which rule.
    pub rule: Rule,
    /// What was found.
    pub message: String,
    /// Where.
    pub span: Span,
}

macro_rules! rules {
    ($($(#[$doc:meta])* $name:ident => $description:literal,)*) => {
        /// The rules that this parser checks.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[non_exhaustive]
        pub enum Rule {
            $($(#[$doc])* $name,)*
        }

        impl Rule {
            /// All rules, in the order of their names.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];

            /// BuildKit's name of the rule.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$name => stringify!($name),)*
                }
            }

            /// What the rule asks for, in one sentence.
            pub const fn description(self) -> &'static str {
                match self {
                    $(Self::$name => $description,)*
                }
            }
        }
    };
}

rules! {
    /// The case of keywords differs.
    ConsistentInstructionCasing => "All commands within the Dockerfile should use the same casing (either upper or lower)",
    /// COPY or ADD of what the ignore file leaves out.
    CopyIgnoredFile => "Attempting to copy a file that is excluded by .dockerignore",
    /// Two stages share a name.
    DuplicateStageName => "Stage names should be unique",
    /// `EXPOSE 127.0.0.1:80:80`.
    ExposeInvalidFormat => "IP address and host-port mapping should not be used in EXPOSE instruction. This will become an error in a future release",
    /// `EXPOSE 80/TCP`.
    ExposeProtoCasing => "Protocol in EXPOSE instruction should be lowercase",
    /// `FROM x as y`.
    FromAsCasing => "The 'as' keyword should match the case of the 'from' keyword",
    /// `FROM --platform=linux/amd64`.
    FromPlatformFlagConstDisallowed => "FROM --platform flag should not use a constant value",
    /// A script that goes on after a command that failed: calque's own rule.
    HeredocNoErrexit => "A script in a heredoc goes on after a command that failed: begin it with `set -e`",
    /// Text after a JSON list: calque's own rule.
    IgnoredTextAfterJSON => "Text after JSON arguments is ignored",
    /// The image is for another platform.
    InvalidBaseImagePlatform => "Base image platform does not match expected target platform",
    /// `ARG TAG` and `FROM image:$TAG`.
    InvalidDefaultArgInFrom => "Default value for global ARG results in an empty or invalid base image name",
    /// A comment above a stage or an argument that doesn't describe it: experimental.
    InvalidDefinitionDescription => "Comment for build stage or argument should follow the format: `# <arg/stage name> <description>`. If this is not intended to be a description comment, add an empty line or comment between the instruction and the comment.",
    /// Shell form where signals matter.
    JSONArgsRecommended => "JSON arguments recommended for ENTRYPOINT/CMD to prevent unintended behavior related to OS signals",
    /// `ENV key value`.
    LegacyKeyValueFormat => "Legacy key/value format with whitespace separator should not be used",
    /// `CMD ['a']`: calque's own rule.
    LooksLikeJSON => "What looks like a JSON list and is none is run by the shell: JSON strings have double quotes",
    /// `MAINTAINER`.
    MaintainerDeprecated => "The MAINTAINER instruction is deprecated, use a label instead to define an image author",
    /// More than one CMD, ENTRYPOINT or HEALTHCHECK in a stage.
    MultipleInstructionsDisallowed => "Multiple instructions of the same type should not be used in the same stage",
    /// An empty line within a continued instruction.
    NoEmptyContinuation => "Empty continuation lines will become errors in a future release",
    /// What docker refuses and calque accepts: calque's own rule.
    NonPortable => "This is an extension of calque's: docker refuses it",
    /// `FROM --platform=$TARGETPLATFORM`.
    RedundantTargetPlatform => "Setting platform to predefined $TARGETPLATFORM in FROM is redundant as this is the default behavior",
    /// A stage named `scratch` or `context`.
    ReservedStageName => "Reserved words should not be used as stage names",
    /// `ARG PASSWORD`.
    SecretsUsedInArgOrEnv => "Sensitive data should not be used in the ARG or ENV commands",
    /// A stage name that isn't lower case.
    StageNameCasing => "Stage names should be lowercase",
    /// A variable of FROM that no ARG declares.
    UndefinedArgInFrom => "FROM command must use declared ARGs",
    /// A variable that nothing sets.
    UndefinedVar => "Variables should be defined before their use",
    /// A relative WORKDIR before any absolute one.
    WorkdirRelativePath => "Relative workdir without an absolute workdir declared within the build can have unexpected results if the base image changes",
}

impl Rule {
    /// The rule of this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|rule| rule.name() == name)
    }

    /// Whether it warns only where `# check=experimental=` names it.
    pub const fn is_experimental(self) -> bool {
        matches!(self, Self::InvalidDefinitionDescription)
    }

    /// Whether BuildKit doesn't know it.
    pub const fn is_calques_own(self) -> bool {
        matches!(
            self,
            Self::HeredocNoErrexit | Self::IgnoredTextAfterJSON | Self::LooksLikeJSON | Self::NonPortable
        )
    }
}

/// A comment above the `FROM` or `ARG` of `name` describes it, as the other rules' comments do nothing but that.
pub(crate) fn describes(keyword: &str, name: &str, block: Option<&CommentBlock>, sink: &mut Sink) {
    let Some(block) = block else { return };
    let describes = |line: &str| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(' '));
    let is_check = |line: &str| line.to_ascii_lowercase().starts_with("check=");
    if block.lines.iter().any(|line| describes(&line.value) || is_check(&line.value)) {
        return;
    }
    let message = format!("Comment for {keyword} should follow the format: `# {name} <description>`");
    let first = block.lines.first().map_or(block.scope, |line| line.span);
    sink.warn(Rule::InvalidDefinitionDescription, message, first);
}

/// The same for each argument of an `ARG`; one of several may be described.
pub(crate) fn describes_args(arg: &ArgInstruction, block: Option<&CommentBlock>, sink: &mut Sink) {
    if let [only] = arg.args.as_slice() {
        describes("ARG", &only.name.value, block, sink);
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What the rules must remember from line to line.
#[derive(Default)]
pub(crate) struct Linter {
    keywords: Vec<(String, Span)>,
    stages: Vec<StageFacts>,
}

#[derive(Clone, Default)]
struct StageFacts {
    name: Option<String>,
    shell: bool,
    workdir: bool,
    cmd: Option<Span>,
    entrypoint: Option<Span>,
    healthcheck: Option<Span>,
}

impl Linter {
    /// A line, before it is understood.
    pub(crate) fn line(&mut self, statement: &Statement<'_>, empty_lines: &[Span], sink: &mut Sink) {
        self.keywords.push((statement.keyword.to_owned(), statement.keyword_span()));
        for &span in empty_lines {
            sink.warn(Rule::NoEmptyContinuation, "Empty continuation line", span);
        }
    }

    /// A new stage: it inherits from an earlier one that it names.
    pub(crate) fn from(&mut self, from: &FromInstruction, sink: &mut Sink) {
        let name = from.name.as_ref().map(|name| name.value.clone());
        if let Some(name) = &from.name
            && self.stages.iter().any(|stage| stage.name.as_ref() == Some(&name.value))
        {
            let message = format!("Duplicate stage name \"{}\", stage names should be unique", name.value);
            sink.warn(Rule::DuplicateStageName, message, name.span);
        }
        if let Some(platform) = &from.platform {
            check_platform(platform, name.as_deref(), sink);
        }
        let base = from.base.literal(sink.escape).map(|base| base.to_lowercase());
        let base =
            base.and_then(|base| self.stages.iter().rev().find(|stage| stage.name.as_ref() == Some(&base)));
        let (shell, workdir) = base.map_or((false, false), |stage| (stage.shell, stage.workdir));
        self.stages.push(StageFacts { name, shell, workdir, ..StageFacts::default() });
    }

    /// An instruction of the stage.
    pub(crate) fn instruction(&mut self, instruction: &Instruction, sink: &mut Sink) {
        let Some(stage) = self.stages.last_mut() else { return };
        let span = instruction.span;
        match &instruction.kind {
            InstructionKind::Shell(_) => stage.shell = true,
            InstructionKind::Run(run) => check_run(run, span, sink),
            InstructionKind::Cmd(command) => {
                looks_like_json("CMD", command, span, sink);
                recommend_json("CMD", command, stage.shell, span, sink);
                only_last("CMD", &mut stage.cmd, span, sink);
            }
            InstructionKind::Entrypoint(command) => {
                looks_like_json("ENTRYPOINT", command, span, sink);
                recommend_json("ENTRYPOINT", command, stage.shell, span, sink);
                only_last("ENTRYPOINT", &mut stage.entrypoint, span, sink);
            }
            InstructionKind::Healthcheck(_) => only_last("HEALTHCHECK", &mut stage.healthcheck, span, sink),
            InstructionKind::Workdir(path) => {
                if !stage.workdir
                    && let Some(literal) = path.literal(sink.escape).filter(|path| !path.starts_with('/'))
                {
                    let message = format!(
                        "Relative workdir \"{literal}\" can have unexpected results if the base image changes"
                    );
                    sink.warn(Rule::WorkdirRelativePath, message, path.span);
                }
                stage.workdir = true;
            }
            _ => {}
        }
    }

    /// The case of keywords is known when all were seen.
    pub(crate) fn finish(self, sink: &mut Sink) {
        let lower =
            self.keywords.iter().filter(|(keyword, _)| keyword.chars().all(char::is_lowercase)).count();
        let upper =
            self.keywords.iter().filter(|(keyword, _)| keyword.chars().all(char::is_uppercase)).count();
        let (majority, fits): (_, fn(char) -> bool) = match lower > upper {
            true => ("lowercase", char::is_lowercase),
            false => ("uppercase", char::is_uppercase),
        };
        for (keyword, span) in self.keywords.iter().filter(|(keyword, _)| !keyword.chars().all(fits)) {
            let message =
                format!("Command '{keyword}' should match the case of the command majority ({majority})");
            sink.warn(Rule::ConsistentInstructionCasing, message, *span);
        }
    }
}

fn check_platform(platform: &Word, stage: Option<&str>, sink: &mut Sink) {
    let raw = platform.raw.as_str();
    if matches!(raw, "$TARGETPLATFORM" | "${TARGETPLATFORM}") {
        let message = format!(
            "Setting platform to predefined {raw} in FROM is redundant as this is the default behavior"
        );
        sink.warn(Rule::RedundantTargetPlatform, message, platform.span);
    }
    if raw.contains('$') {
        return;
    }
    // A stage that is there for one platform says so by its name.
    let is_named = raw.split('/').any(|part| stage.is_some_and(|stage| stage.contains(part)));
    if !is_named {
        let message = format!("FROM --platform flag should not use constant value \"{raw}\"");
        sink.warn(Rule::FromPlatformFlagConstDisallowed, message, platform.span);
    }
}

fn check_run(run: &RunInstruction, span: Span, sink: &mut Sink) {
    looks_like_json("RUN", &run.command, span, sink);
    let Some(script) = run.script() else { return };
    let mut commands =
        script.body.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    let first = commands.next().unwrap_or_default();
    if script.body.starts_with("#!") || first.starts_with("set -") || commands.next().is_none() {
        return;
    }
    let message = "The script goes on after a command that failed, and its last command decides: begin it with \
                   `set -e`";
    sink.warn(Rule::HeredocNoErrexit, message, Span::new(span.start, script.span.start));
}

/// Brackets around it and a quote after the first one: meant as a list, and run by the shell.
fn looks_like_json(keyword: &str, command: &CommandLine, span: Span, sink: &mut Sink) {
    let CommandLine::Shell(text) = command else { return };
    let inner = text.trim().strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    if inner.is_some_and(|inner| inner.trim_start().starts_with(['\'', '"', '“', '‘'])) {
        let message = format!("{keyword} looks like a JSON list but is none, so the shell runs it");
        sink.warn(Rule::LooksLikeJSON, message, span);
    }
}

fn recommend_json(keyword: &str, command: &CommandLine, shell: bool, span: Span, sink: &mut Sink) {
    if matches!(command, CommandLine::Shell(_)) && !shell {
        let message = format!(
            "JSON arguments recommended for {keyword} to prevent unintended behavior related to OS signals"
        );
        sink.warn(Rule::JSONArgsRecommended, message, span);
    }
}

/// Warns of the one before, which has no effect.
fn only_last(keyword: &str, seen: &mut Option<Span>, span: Span, sink: &mut Sink) {
    if let Some(before) = seen.replace(span) {
        let message = format!(
            "Multiple {keyword} instructions should not be used in the same stage because only the last one will be used"
        );
        sink.warn(Rule::MultipleInstructionsDisallowed, message, before);
    }
}
