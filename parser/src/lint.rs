//! Warnings: what is accepted and better written otherwise. Names are BuildKit's, so that `# check=skip=` works.

use std::fmt;

use crate::error::Sink;
use crate::instruction::flag::Statement;
use crate::{CommandLine, FromInstruction, Instruction, InstructionKind, Span};

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
    ConsistentInstructionCasing => "all instructions within the Dockerfile should use the same casing",
    /// Two stages share a name.
    DuplicateStageName => "stage names should be unique",
    /// `FROM x as y`.
    FromAsCasing => "`as` should match the case of `FROM`",
    /// Text after a JSON list: calque's own rule.
    IgnoredTextAfterJSON => "text after JSON arguments is ignored",
    /// Shell form where signals matter.
    JSONArgsRecommended => "JSON arguments are recommended for ENTRYPOINT and CMD: signals reach the command itself",
    /// `ENV key value`.
    LegacyKeyValueFormat => "write `key=value` rather than `key value`",
    /// `MAINTAINER`.
    MaintainerDeprecated => "use a label in place of MAINTAINER",
    /// More than one CMD, ENTRYPOINT or HEALTHCHECK in a stage.
    MultipleInstructionsDisallowed => "only the last of several such instructions in a stage has an effect",
    /// An empty line within a continued instruction.
    NoEmptyContinuation => "empty lines in a continued instruction will become errors",
    /// A stage named `scratch` or `context`.
    ReservedStageName => "`scratch` and `context` should not be stage names",
    /// A stage name that isn't lower case.
    StageNameCasing => "stage names should be lower case",
    /// A relative WORKDIR before any absolute one.
    WorkdirRelativePath => "a relative WORKDIR without an absolute one before it depends on the base image",
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
            InstructionKind::Cmd(command) => {
                recommend_json("CMD", command, stage.shell, span, sink);
                only_last("CMD", &mut stage.cmd, span, sink);
            }
            InstructionKind::Entrypoint(command) => {
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
