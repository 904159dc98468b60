//! docker's rules for command lines, on top of clap: booleans with a value, counts of arguments, exit codes.

use std::ffi::OsString;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, ArgAction, ArgMatches, Command};

use crate::app::App;
use crate::not_yet;
use crate::report::Failure;

/// Exit code of a wrong flag (docker's; clap's own is 2).
pub(crate) const WRONG_FLAG: u8 = 125;
/// Exit code of a wrong number of arguments and of a command that doesn't exist.
pub(crate) const WRONG_COUNT: u8 = 1;

/// Name of the positional arguments of every command.
const ARGUMENTS: &str = "arguments";

/// A flag that is on or off: `--rm`, `--rm=false`, and `-i` in `-ie`.
pub(crate) fn switch(long: &'static str, help: &'static str) -> Arg {
    Arg::new(long)
        .long(long)
        .help(help)
        .num_args(0..=1)
        .require_equals(true)
        .default_missing_value("true")
        .value_parser(go_bool)
        .action(ArgAction::Set)
        .hide_possible_values(true)
        .value_name("BOOL")
}

/// A flag with one value; given twice, the last one holds.
pub(crate) fn option(long: &'static str, value: &'static str, help: &'static str) -> Arg {
    // docker takes the next word whatever it looks like: `--label -x`, `-e -`.
    Arg::new(long).long(long).value_name(value).help(help).allow_hyphen_values(true)
}

/// A flag that may be given several times.
pub(crate) fn list(long: &'static str, value: &'static str, help: &'static str) -> Arg {
    option(long, value, help).action(ArgAction::Append)
}

/// A command: what it is called, what it takes and what it does.
pub(crate) struct Verb {
    /// Its groups and its name in each, the shortest first: `("", "images"), ("image", "ls")`.
    pub(crate) places: &'static [(&'static str, &'static str)],
    /// One line.
    pub(crate) about: &'static str,
    /// What follows its name in the usage line.
    pub(crate) synopsis: &'static str,
    /// Command lines, without `calque`, that show it.
    pub(crate) examples: &'static [&'static str],
    /// Whether the first argument that is no flag ends the flags: the rest is for the container.
    pub(crate) is_trailing: bool,
    /// Its flags.
    pub(crate) flags: fn() -> Vec<Arg>,
    /// Carries it out; gives the exit code.
    pub(crate) execute: fn(&Invocation<'_>) -> Result<u8, Failure>,
}

/// A command as it was called.
pub(crate) struct Invocation<'a> {
    /// What all commands share.
    pub(crate) app: &'a App,
    /// Its flags and arguments.
    pub(crate) matches: &'a ArgMatches,
    /// Its whole name: `calque image rm`.
    pub(crate) name: String,
}

impl Invocation<'_> {
    /// The arguments, if there are as many as the command takes.
    ///
    /// # Errors
    ///
    /// docker's text and exit code 1.
    pub(crate) fn arguments(&self, count: Count) -> Result<Vec<String>, Failure> {
        arguments(self.matches, &self.name, count)
    }

    /// Whether a [`switch`] is on.
    pub(crate) fn is_on(&self, name: &str) -> bool {
        is_on(self.matches, name)
    }

    /// The value of an [`option`].
    pub(crate) fn value(&self, name: &str) -> Option<&str> {
        value(self.matches, name)
    }

    /// The values of a [`list`].
    pub(crate) fn values(&self, name: &str) -> Vec<&str> {
        values(self.matches, name)
    }
}

impl Verb {
    /// The clap command for its place in `group`, under `name`.
    pub(crate) fn command(&self, group: &str, name: &'static str) -> Command {
        let whole = whole_name(group, name);
        let mut examples = String::from("Examples:");
        for example in self.examples {
            examples.push_str(&format!("\n  calque {example}"));
        }
        let positional = Arg::new(ARGUMENTS)
            .num_args(0..)
            .value_parser(clap::value_parser!(OsString))
            .trailing_var_arg(self.is_trailing)
            .hide(true);
        let mut command = Command::new(name)
            .about(self.about)
            .override_usage(format!("{whole} {}", self.synopsis))
            .after_help(examples)
            .args_override_self(true)
            .args((self.flags)())
            .arg(positional);
        if self.is_trailing {
            // docker's `run -h` is `--hostname`.
            command = command
                .disable_help_flag(true)
                .arg(Arg::new("help").long("help").help("Print help").action(ArgAction::Help));
        }
        command
    }
}

/// `calque image rm`.
pub(crate) fn whole_name(group: &str, name: &str) -> String {
    if group.is_empty() { format!("calque {name}") } else { format!("calque {group} {name}") }
}

/// Go's `strconv.ParseBool`.
fn go_bool(text: &str) -> Result<bool, String> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err("expected `true` or `false`".to_owned()),
    }
}

/// Whether a [`switch`] is on.
fn is_on(matches: &ArgMatches, name: &str) -> bool {
    matches.get_one::<bool>(name).copied().unwrap_or(false)
}

/// The value of an [`option`].
fn value<'a>(matches: &'a ArgMatches, name: &str) -> Option<&'a str> {
    matches.get_one::<String>(name).map(String::as_str)
}

/// The values of a [`list`].
fn values<'a>(matches: &'a ArgMatches, name: &str) -> Vec<&'a str> {
    matches.get_many::<String>(name).into_iter().flatten().map(String::as_str).collect()
}

/// How many arguments a command takes.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Count {
    /// None at all.
    None,
    /// As many.
    Exactly(usize),
    /// As many or more.
    AtLeast(usize),
    /// None or one.
    AtMost(usize),
}

/// The arguments of `command` (its full name: `calque image rm`), if there are as many as it takes.
///
/// # Errors
///
/// docker's text and exit code 1.
fn arguments(matches: &ArgMatches, command: &str, count: Count) -> Result<Vec<String>, Failure> {
    let given = matches.get_many::<OsString>(ARGUMENTS).into_iter().flatten();
    let given = given
        .map(|argument| {
            argument.to_str().map(str::to_owned).ok_or_else(|| {
                Failure::usage(
                    WRONG_COUNT,
                    format!("the argument `{}` is not UTF-8", argument.display()),
                    command,
                )
            })
        })
        .collect::<Result<Vec<_>, _>>()?;
    let plural = |number: usize| if number == 1 { "argument" } else { "arguments" };
    let wanted = match count {
        Count::None if !given.is_empty() => "accepts no arguments".to_owned(),
        Count::Exactly(number) if given.len() != number => {
            format!("requires {number} {}", plural(number))
        }
        Count::AtLeast(number) if given.len() < number => {
            format!("requires at least {number} {}", plural(number))
        }
        Count::AtMost(number) if given.len() > number => {
            format!("requires at most {number} {}", plural(number))
        }
        _ => return Ok(given),
    };
    Err(Failure::usage(WRONG_COUNT, format!("`{command}` {wanted}"), command))
}

/// What clap found wrong, with docker's exit codes. `command` is the full name of the command that was parsed.
pub(crate) fn rejected(error: &clap::Error, command: &str) -> Failure {
    let context = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text.clone()),
        // Suggestions come with the nearest one last.
        Some(ContextValue::Strings(texts)) => texts.last().cloned(),
        _ => None,
    };
    let flag = context(ContextKind::InvalidArg).unwrap_or_default();
    let flag_name = flag.split([' ', '=']).next().unwrap_or_default().to_owned();
    match error.kind() {
        ErrorKind::UnknownArgument => {
            if let Some(reason) = not_yet::flag(command, &flag_name) {
                return Failure::message(WRONG_FLAG, format!("`{flag_name}` is not supported yet: {reason}"));
            }
            let failure = Failure::usage(WRONG_FLAG, format!("unknown flag: `{flag_name}`"), command);
            match context(ContextKind::SuggestedArg) {
                Some(suggestion) => failure.hint(format!("did you mean `{suggestion}`?")),
                None => failure,
            }
        }
        ErrorKind::InvalidSubcommand => {
            let name = context(ContextKind::InvalidSubcommand).unwrap_or_default();
            if let Some(reason) = not_yet::command(command, &name) {
                let message = format!("`{command} {name}` is not supported yet: {reason}");
                return Failure::message(WRONG_FLAG, message);
            }
            let failure =
                Failure::usage(WRONG_COUNT, format!("unknown command: `{command} {name}`"), command);
            match context(ContextKind::SuggestedSubcommand) {
                Some(suggestion) => failure.hint(format!("did you mean `{command} {suggestion}`?")),
                None => failure,
            }
        }
        ErrorKind::InvalidValue
            if context(ContextKind::InvalidValue).is_none_or(|value| value.is_empty()) =>
        {
            Failure::usage(WRONG_FLAG, format!("flag needs an argument: `{flag_name}`"), command)
        }
        ErrorKind::InvalidValue | ErrorKind::ValueValidation => {
            let value = context(ContextKind::InvalidValue).unwrap_or_default();
            let cause =
                std::error::Error::source(error).map(|cause| format!(": {cause}")).unwrap_or_default();
            let message = format!("invalid value `{value}` for flag `{flag_name}`{cause}");
            let failure = Failure::usage(WRONG_FLAG, message, command);
            match error.get(ContextKind::ValidValue) {
                Some(ContextValue::Strings(valid)) if !valid.is_empty() => {
                    failure.hint(format!("it can be {}", valid.join(", ")))
                }
                _ => failure,
            }
        }
        _ => Failure::usage(WRONG_FLAG, first_line(error), command),
    }
}

fn first_line(error: &clap::Error) -> String {
    let text = error.to_string();
    text.lines().next().unwrap_or_default().trim_start_matches("error: ").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAMPLE: Verb = Verb {
        places: &[("", "run")],
        about: "",
        synopsis: "",
        examples: &[],
        is_trailing: true,
        flags: || {
            vec![
                switch("rm", ""),
                switch("interactive", "").short('i'),
                list("env", "E", "").short('e'),
                option("name", "N", ""),
            ]
        },
        execute: |_| Ok(0),
    };

    fn parse(line: &str) -> Result<ArgMatches, clap::Error> {
        SAMPLE.command("", "run").try_get_matches_from(line.split(' '))
    }

    #[test]
    fn the_first_argument_ends_the_flags() {
        let matches = parse("run --rm img -i --name=x -- -e").unwrap();
        assert!(is_on(&matches, "rm") && !is_on(&matches, "interactive"));
        assert_eq!(value(&matches, "name"), None);
        let given = arguments(&matches, "calque run", Count::AtLeast(1)).unwrap();
        assert_eq!(given, ["img", "-i", "--name=x", "--", "-e"]);
        let matches = parse("run --rm -- img -i").unwrap();
        assert_eq!(arguments(&matches, "calque run", Count::AtLeast(1)).unwrap(), ["img", "-i"]);
    }

    #[test]
    fn booleans_take_a_value_after_an_equals_sign_only() {
        for (line, on) in [("--rm=false", false), ("--rm=T", true), ("--rm", true), ("--rm --rm=0", false)] {
            let matches = parse(&format!("run {line} img")).unwrap();
            assert_eq!(is_on(&matches, "rm"), on, "{line}");
        }
        assert!(parse("run --rm=maybe img").is_err());
        let matches = parse("run --rm false").unwrap();
        assert_eq!(arguments(&matches, "calque run", Count::AtLeast(1)).unwrap(), ["false"]);
    }

    #[test]
    fn short_flags_combine_and_take_what_follows() {
        let matches = parse("run -ieA=1 -e B=2 -e -x img").unwrap();
        assert!(is_on(&matches, "interactive"));
        assert_eq!(values(&matches, "env"), ["A=1", "B=2", "-x"]);
    }

    #[test]
    fn a_wrong_count_is_1_and_a_wrong_flag_125() {
        let matches = parse("run --rm").unwrap();
        let failure = arguments(&matches, "calque run", Count::AtLeast(1)).unwrap_err();
        assert_eq!(failure.exit(), 1);
        for line in ["run --wrong img", "run --name", "run --rm=x img", "run -z img", "run --publish 80 img"]
        {
            let failure = rejected(&parse(line).unwrap_err(), "calque run");
            assert_eq!(failure.exit(), 125, "{line}");
        }
    }

    #[test]
    fn dockers_missing_flags_are_refused_by_name() {
        for (line, flag) in
            [("run --publish=80:80 img", "--publish"), ("run -ip 80 img", "-p"), ("run -id img", "-d")]
        {
            let text = rejected(&parse(line).unwrap_err(), "calque run").to_string();
            assert!(text.contains(&format!("`{flag}` is not supported yet: ")), "{text}");
        }
        let text = rejected(&parse("run --nam x").unwrap_err(), "calque run").to_string();
        assert!(text.contains("unknown flag: `--nam`") && text.contains("did you mean `--name`?"), "{text}");
    }
}
