//! Warnings: what is accepted and better written otherwise. Names are BuildKit's, so that `# check=skip=` works.

use std::fmt;

use crate::Span;

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
