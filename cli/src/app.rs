//! The root of the command line, and what all commands share.

use std::ffi::OsString;
use std::io::Write;
use std::path::PathBuf;
use std::process::{ExitCode, Stdio};

use clap::error::ErrorKind;
use clap::{Arg, ArgAction, ArgMatches, Command};
use store::{Store, StoreMode, StoreOptions};

use crate::arguments::{self, Invocation, Verb, whole_name};
use crate::report::Failure;
use crate::settings::{self, Terminal};
use crate::{command, output};

/// Groups of commands and what they are about.
const GROUPS: [(&str, &str); 6] = [
    ("builder", "Manage builds"),
    ("buildx", "docker's other name for `builder`"),
    ("container", "Manage containers"),
    ("dockerfile", "Look at Dockerfiles as text"),
    ("image", "Manage images"),
    ("system", "Manage calque's store"),
];

/// The name under which calque starts itself to make the store durable and to sweep it.
const SETTLE: &str = "__settle";

/// What all commands share.
pub(crate) struct App {
    root: Option<PathBuf>,
    /// What stderr is.
    pub(crate) terminal: Terminal,
}

impl App {
    /// Opens the store.
    ///
    /// # Errors
    ///
    /// A [`Failure`] with exit code `exit`.
    pub(crate) fn store(&self, exit: u8) -> Result<Store, Failure> {
        let fail = |error: &(dyn std::error::Error + 'static)| Failure::error(exit, error);
        let features = settings::disabled_features().map_err(|error| fail(&error))?;
        sys::kernel::disable(&features);
        let place = self.store_place().map_err(|error| fail(&error))?;
        let options = StoreOptions { root: place.root, runtime: place.runtime, mode: StoreMode::Root };
        Store::open(options).map_err(|error| fail(&error))
    }

    /// Where the store lies.
    ///
    /// # Errors
    ///
    /// As [`settings::store_place`].
    pub(crate) fn store_place(&self) -> Result<settings::StorePlace, settings::SettingsError> {
        settings::store_place(self.root.as_deref())
    }

    /// Has what the command left in the store made durable, and what it threw away unlinked, by a process of its own
    /// which nobody waits for.
    pub(crate) fn settle_later(&self) {
        let Ok(place) = self.store_place() else { return };
        // Failing is no harm: what isn't marked durable is only lost when the machine crashes.
        let _ = std::process::Command::new("/proc/self/exe")
            .arg(SETTLE)
            .arg(place.root)
            .arg(place.runtime)
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
    }
}

/// The whole command line.
pub(crate) fn command() -> Command {
    let in_group = |group: &str| {
        command::VERBS
            .iter()
            .flat_map(|verb| verb.places.iter().map(move |place| (*verb, *place)))
            .filter(|(_, (of, _))| *of == group)
            .map(|(verb, (group, name))| verb.command(group, name))
            .collect::<Vec<_>>()
    };
    let groups = GROUPS.map(|(name, about)| {
        Command::new(name).about(about).disable_help_subcommand(true).subcommands(in_group(name))
    });
    Command::new("calque")
        .bin_name("calque")
        .about("Builds images from Dockerfiles and runs them, without a daemon")
        .version(env!("CARGO_PKG_VERSION"))
        .disable_version_flag(true)
        .arg(
            Arg::new("version")
                .short('v')
                .long("version")
                .help("Print the version")
                .action(ArgAction::Version),
        )
        .arg(
            Arg::new("root")
                .long("root")
                .value_name("DIR")
                .help("Where the store lies [default: CALQUE_ROOT, else /var/lib/calque]")
                .display_order(900)
                .value_parser(clap::value_parser!(PathBuf))
                .global(true),
        )
        .max_term_width(100)
        .subcommands(in_group(""))
        .subcommands(groups)
        .after_help(
            "Examples:\n  calque build -t app:1.0 .\n  calque run --rm app:1.0\n  calque history app:1.0",
        )
}

/// Parses, carries out and reports.
pub(crate) fn main(line: Vec<OsString>) -> ExitCode {
    if let [_, name, root, runtime] = &line[..]
        && name == SETTLE
    {
        return settle(root.into(), runtime.into());
    }
    match execute(&line) {
        Ok(code) => ExitCode::from(code),
        Err(failure) => {
            let text = failure.render(settings::stderr_terminal());
            let _ = std::io::stderr().write_all(text.as_bytes());
            ExitCode::from(failure.exit())
        }
    }
}

/// Makes the store durable and sweeps it, out of reach of the terminal that the command was started from.
fn settle(root: PathBuf, runtime: PathBuf) -> ExitCode {
    let _ = rustix::process::setsid();
    if !root.join("format").exists() {
        // Whoever started us has removed the store meanwhile: it isn't to be made anew.
        return ExitCode::SUCCESS;
    }
    let options = StoreOptions { root, runtime, mode: StoreMode::Root };
    let Ok(store) = Store::open(options) else { return ExitCode::FAILURE };
    // Sweeping first: what is thrown away needn't be synced.
    let swept = store.sweep().is_ok();
    if store.settle().is_ok() && swept { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn execute(line: &[OsString]) -> Result<u8, Failure> {
    let matches = match command().try_get_matches_from(line) {
        Ok(matches) => matches,
        Err(error) if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) => {
            error.print().map_err(|error| output::cannot_write(&error))?;
            return Ok(0);
        }
        Err(error) => return Err(arguments::rejected(&error, &called(line))),
    };
    let Some((group, name, matches)) = chosen(&matches) else {
        return print_help(&matches);
    };
    let verb = find(group, name).expect("every command of the command line is in the table");
    let app =
        App { root: matches.get_one::<PathBuf>("root").cloned(), terminal: settings::stderr_terminal() };
    (verb.execute)(&Invocation { app: &app, matches, name: whole_name(group, name) })
}

/// The command that was called: its group, its name, its own matches. Nothing where only a group was.
fn chosen(matches: &ArgMatches) -> Option<(&str, &str, &ArgMatches)> {
    let (name, inner) = matches.subcommand()?;
    if GROUPS.iter().any(|(group, _)| *group == name) {
        let (verb, own) = inner.subcommand()?;
        return Some((name, verb, own));
    }
    Some(("", name, inner))
}

fn find(group: &str, name: &str) -> Option<&'static Verb> {
    command::VERBS.iter().copied().find(|verb| verb.places.contains(&(group, name)))
}

/// Help for `calque` or for a group, which is what docker answers without a command.
fn print_help(matches: &ArgMatches) -> Result<u8, Failure> {
    let mut root = command();
    root.build();
    let mut shown = &mut root;
    if let Some((group, _)) = matches.subcommand() {
        shown = shown.find_subcommand_mut(group).expect("it was parsed");
    }
    output::print(&shown.render_help().to_string())?;
    Ok(0)
}

/// The whole name of the command that `line` calls, as far as it is one.
fn called(line: &[OsString]) -> String {
    let mut root = command();
    root.build();
    let mut current = &root;
    let mut name = "calque".to_owned();
    let mut words = line.iter().skip(1).filter_map(|word| word.to_str());
    while let Some(word) = words.next() {
        if word == "--root" {
            words.next();
        } else if !word.starts_with('-') {
            let Some(child) = current.find_subcommand(word) else { break };
            name = format!("{name} {word}");
            current = child;
        }
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(line: &str) -> Result<u8, Failure> {
        let line: Vec<OsString> = line.split(' ').map(OsString::from).collect();
        execute(&line)
    }

    #[test]
    fn the_command_line_is_consistent() {
        command().debug_assert();
    }

    #[test]
    fn every_command_has_examples_and_flags_that_say_what_they_do() {
        for verb in command::VERBS {
            assert!(!verb.examples.is_empty(), "{:?}", verb.places);
            for flag in (verb.flags)() {
                assert!(
                    flag.get_help().is_some_and(|help| !help.to_string().is_empty()),
                    "{:?}",
                    flag.get_id()
                );
            }
        }
    }

    #[test]
    fn mistakes_have_dockers_exit_codes() {
        for (line, code) in [
            ("calque frobnicate", 1),
            ("calque image frobnicate", 1),
            ("calque pull busybox", 125),
            ("calque swarm init", 125),
            ("calque --wrong", 125),
            ("calque --debug ps", 125),
            ("calque ps --wrong", 125),
            ("calque ps extra", 1),
            ("calque rm", 1),
            ("calque tag a", 1),
            ("calque image tag a b c", 1),
            ("calque run", 1),
            ("calque run --wrong busybox", 125),
            ("calque run --publish 80 busybox", 125),
            ("calque build --wrong .", 125),
            ("calque build", 1),
            ("calque build a b", 1),
            ("calque --root /nowhere rm", 1),
        ] {
            assert_eq!(run(line).unwrap_err().exit(), code, "{line}");
        }
    }

    #[test]
    fn a_mistyped_command_is_answered_with_the_nearest_one() {
        let text = run("calque biuld .").unwrap_err().to_string();
        assert!(text.contains("unknown command: `calque biuld`"), "{text}");
        assert!(text.contains("did you mean `calque build`?"), "{text}");
        let text = run("calque image lst").unwrap_err().to_string();
        assert!(text.contains("`calque image ls"), "{text}");
    }

    #[test]
    fn help_is_pointed_to_by_the_commands_own_name() {
        let text = run("calque --root /x image rm").unwrap_err().to_string();
        assert!(text.contains("Run 'calque image rm --help' for more information"), "{text}");
        let text = run("calque --root=/x image rm --wrong").unwrap_err().to_string();
        assert!(text.contains("Run 'calque image rm --help' for more information"), "{text}");
    }

    #[test]
    fn a_flag_of_dockers_that_is_missing_is_named_with_its_reason() {
        let text = run("calque run --publish 80:80 busybox").unwrap_err().to_string();
        assert!(text.starts_with("error: `--publish` is not supported yet: networks"), "{text}");
        let text = run("calque buildx build --push .").unwrap_err().to_string();
        assert!(text.starts_with("error: `--push` is not supported yet: registries"), "{text}");
    }
}
