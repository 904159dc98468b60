//! The commands, a file each: flags in, library call, report out.

mod build;
mod check;
mod dockerfile;
mod doctor;
mod history;
mod images;
mod inspect;
mod layers;
mod load;
mod ps;
mod rm;
mod rmi;
mod run;
mod save;
mod system_df;
mod tag;
mod version;

use crate::arguments::{self, Invocation, Verb};
use crate::report::Failure;

/// All of them, in the order of the help.
pub(crate) const VERBS: &[&Verb] = &[
    &build::VERB,
    &run::VERB,
    &ps::VERB,
    &rm::VERB,
    &images::VERB,
    &rmi::VERB,
    &tag::VERB,
    &history::VERB,
    &layers::VERB,
    &inspect::VERB,
    &inspect::IMAGE,
    &inspect::CONTAINER,
    &load::VERB,
    &save::VERB,
    &system_df::VERB,
    &dockerfile::PARSE,
    &dockerfile::FMT,
    &doctor::VERB,
    &version::VERB,
];

/// How a list is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    /// docker's table.
    Table,
    /// One JSON object a line.
    Json,
}

/// The flag `--format` of lists.
pub(crate) fn format_flag() -> clap::Arg {
    arguments::option("format", "FORMAT", "How to show it: `table` or `json` (an object a line)")
}

impl Format {
    /// What `--format` says.
    ///
    /// # Errors
    ///
    /// For Go templates, which calque doesn't have yet.
    pub(crate) fn of(invocation: &Invocation<'_>) -> Result<Self, Failure> {
        match invocation.value("format") {
            None | Some("table") => Ok(Self::Table),
            Some("json" | "{{json .}}" | "{{ json . }}") => Ok(Self::Json),
            Some(other) => Err(Failure::message(
                arguments::WRONG_FLAG,
                format!(
                    "`--format {other}` is not supported yet: only `table` and `json` are, templates come with a later release"
                ),
            )),
        }
    }
}

/// Carries `action` out for each of `names`: all are tried, each failure is printed, and the exit code is 1 where
/// there was one. `forgive` says which failures don't count.
pub(crate) fn for_each(
    invocation: &Invocation<'_>,
    names: &[String],
    mut action: impl FnMut(&str) -> Result<(), Attempt>,
) -> Result<u8, Failure> {
    let mut code = 0;
    for name in names {
        match action(name) {
            Ok(()) => {}
            Err(Attempt::Forgiven(failure)) => {
                crate::output::tell(failure.render(invocation.app.terminal).trim_end());
            }
            Err(Attempt::Failed(failure)) => {
                crate::output::tell(failure.render(invocation.app.terminal).trim_end());
                code = 1;
            }
            Err(Attempt::Over(failure)) => return Err(failure),
        }
    }
    Ok(code)
}

/// How an action on one of several things failed.
pub(crate) enum Attempt {
    /// It is said, but counts as success.
    Forgiven(Failure),
    /// It counts; the others are tried.
    Failed(Failure),
    /// Nothing more can be done.
    Over(Failure),
}

impl From<Failure> for Attempt {
    fn from(failure: Failure) -> Self {
        Self::Over(failure)
    }
}

/// A moment in Go's form, as docker's JSON has it: `2026-01-01 00:00:00 +0000 UTC`.
pub(crate) fn go_time(moment: &str) -> String {
    match moment.parse::<jiff::Timestamp>() {
        Ok(moment) => moment.strftime("%Y-%m-%d %H:%M:%S +0000 UTC").to_string(),
        Err(_) => moment.to_owned(),
    }
}
