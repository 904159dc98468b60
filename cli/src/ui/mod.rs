//! Observers of a build: they draw, log or print JSON. All of them write to stderr; results go to stdout.

mod plain;
mod progress;
mod rawjson;
mod screen;
mod transfer;

use std::io::Write;
use std::str::FromStr;

use builder::event::{BuildEvent, BuildWarning, Observer};
use parser::Source;

use crate::settings::{self, Terminal};

pub(crate) use plain::Plain;
pub(crate) use progress::Progress;
pub(crate) use rawjson::RawJson;
pub(crate) use transfer::Transfer;

/// `--progress`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ProgressMode {
    /// `tty` on a terminal, else `plain`.
    Auto,
    /// Lines that stay.
    Plain,
    /// Lines that are drawn over.
    Tty,
    /// BuildKit's SolveStatus, one JSON object a line.
    RawJson,
    /// Nothing.
    Quiet,
}

impl ProgressMode {
    /// The names, as `--progress` has them.
    pub(crate) const NAMES: [&str; 6] = ["auto", "plain", "tty", "rawjson", "quiet", "none"];
}

impl FromStr for ProgressMode {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Ok(match text {
            "auto" => Self::Auto,
            "plain" => Self::Plain,
            "tty" => Self::Tty,
            "rawjson" => Self::RawJson,
            "quiet" | "none" => Self::Quiet,
            _ => return Err(format!("expected one of {}", Self::NAMES.join(", "))),
        })
    }
}

/// An observer that is told when the build is over, whatever came of it.
pub(crate) trait Ui: Observer {
    /// Takes away what is only for the time of the build and prints what comes last. Tells whether all that a failed
    /// step had printed is there to be read, right above.
    fn finish(&self) -> bool;
}

/// Hears and says nothing.
struct Quiet;

impl Observer for Quiet {
    fn on(&self, _event: &BuildEvent) {}
}

impl Ui for Quiet {
    fn finish(&self) -> bool {
        false
    }
}

/// The observer for `mode`. `dockerfile` is what the spans of warnings are in.
pub(crate) fn observer(mode: ProgressMode, terminal: Terminal, dockerfile: &Source) -> Box<dyn Ui> {
    let stderr = || Box::new(std::io::stderr());
    let drawn = || Box::new(Progress::new(dockerfile.clone(), terminal.colour, settings::log_lines()));
    match mode {
        ProgressMode::Quiet => Box::new(Quiet),
        ProgressMode::RawJson => Box::new(RawJson::new(stderr(), dockerfile.clone())),
        ProgressMode::Tty => drawn(),
        ProgressMode::Auto if terminal.interactive => drawn(),
        ProgressMode::Auto | ProgressMode::Plain => Box::new(Plain::new(stderr(), dockerfile.clone())),
    }
}

/// The block of warnings after a build; nothing where there are none.
fn warnings_block(warnings: &[BuildWarning], dockerfile: &Source) -> String {
    if warnings.is_empty() {
        return String::new();
    }
    let plural = if warnings.len() == 1 { "warning" } else { "warnings" };
    let mut text = format!("\n {} {plural} found:\n", warnings.len());
    for warning in warnings {
        let place = warning.span.map_or_else(String::new, |span| {
            format!(" (line {})", dockerfile.position(span.start.min(dockerfile.text().len())).0)
        });
        text.push_str(&format!(" - {}: {}{place}\n", warning.code, warning.message));
    }
    text
}

/// Writes without caring: a reader of progress that went away is no reason to stop a build.
fn write_ignoring_errors(out: &mut (dyn Write + Send), text: &[u8]) {
    let _ = out.write_all(text);
    let _ = out.flush();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_modes_have_dockers_names() {
        for name in ProgressMode::NAMES {
            assert!(name.parse::<ProgressMode>().is_ok(), "{name}");
        }
        assert_eq!("none".parse(), Ok(ProgressMode::Quiet));
        assert!("fancy".parse::<ProgressMode>().is_err());
    }

    #[test]
    fn warnings_name_their_lines() {
        let dockerfile = Source::new("Dockerfile", "FROM a\nCMD b\n");
        let warning = BuildWarning {
            code: "JSONArgsRecommended",
            message: "JSON arguments recommended for CMD".into(),
            span: Some(parser::Span::new(7, 12)),
        };
        assert_eq!(
            warnings_block(&[warning], &dockerfile),
            "\n 1 warning found:\n - JSONArgsRecommended: JSON arguments recommended for CMD (line 2)\n"
        );
        assert_eq!(warnings_block(&[], &dockerfile), "");
    }
}
