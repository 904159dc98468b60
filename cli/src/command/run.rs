//! `calque run`: a container of an image, in the foreground.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;

use jiff::Timestamp;
use runner::{BindSpec, CreateOptions, Foreground, HostFiles, Network, Streams};
use rustix::fs::{CWD, Mode, OFlags};
use sandbox::{Sandbox, SandboxSettings, Stdio};
use signal_hook::consts::{SIGCONT, SIGINT, SIGTERM, SIGWINCH};
use signal_hook::iterator::Signals;
use store::{ContainerError, FindImageError, Image, Store};

use crate::arguments::{self, Count, Invocation, Verb, WRONG_FLAG};
use crate::report::{self, Failure};
use crate::{output, settings, terminal};

/// The command.
pub(crate) const VERB: Verb = Verb {
    places: &[("", "run"), ("container", "run")],
    about: "Run a command in a new container, in the foreground",
    synopsis: "[OPTIONS] IMAGE [COMMAND] [ARG...]",
    examples: &[
        "run --rm app:1.0",
        "run --rm -it busybox",
        "run --rm -i busybox sh -c 'wc -l' < notes.txt",
        "run --rm -v ./src:/src:ro -w /src -e CI=1 app:1.0 make test",
    ],
    is_trailing: true,
    flags,
    execute,
};

/// How many removed containers wait in the trash before a run has it emptied.
const TRASH_BEFORE_SWEEP: usize = 32;

/// docker's exit code for `-it` without a terminal.
const NOT_A_TERMINAL: u8 = 1;
/// Exit code of what calque itself couldn't do.
const FAILED: u8 = 125;
/// So many SIGINT or SIGTERM kill a container that doesn't end by them (docker's number).
const PATIENCE: u32 = 3;

fn flags() -> Vec<clap::Arg> {
    vec![
        arguments::switch("rm", "Remove the container when it has ended"),
        arguments::switch("interactive", "Pass stdin on").short('i'),
        arguments::switch("tty", "Give the container a terminal").short('t'),
        arguments::list("env", "KEY[=VALUE]", "Set a variable; without a value the environment's is taken")
            .short('e'),
        arguments::option("workdir", "DIR", "Working directory, made where the image lacks it").short('w'),
        arguments::option("user", "USER[:GROUP]", "Names of the image or numbers").short('u'),
        arguments::list("volume", "SOURCE:TARGET[:ro]", "Show a file or folder of the host in the container")
            .short('v'),
        arguments::option("network", "MODE", "`host` or `none` [default: host, until there are networks]"),
        arguments::option("name", "NAME", "Name the container [default: a random one]"),
        arguments::option("entrypoint", "COMMAND", "Replace the image's ENTRYPOINT; empty takes it away"),
        arguments::option("userns", "MODE", "`host`: root inside is root outside"),
        arguments::option(
            "pull",
            "POLICY",
            "`missing` or `never`: the image must be in the store either way",
        ),
        arguments::switch("quiet", "Don't show notes").short('q'),
        arguments::option("net", "MODE", "The same as --network").hide(true),
    ]
}

fn execute(invocation: &Invocation<'_>) -> Result<u8, Failure> {
    let mut words = invocation.arguments(Count::AtLeast(1))?;
    let reference = words.remove(0);
    let options = options(invocation, reference, words)?;
    if options.tty && options.interactive && !terminal::is_stdin_terminal() {
        return Err(Failure::message(NOT_A_TERMINAL, "the input device is not a TTY"));
    }
    let is_quiet = invocation.is_on("quiet");
    let has_network = invocation.value("network").or_else(|| invocation.value("net")).is_some();
    let store = invocation.app.store(FAILED)?;
    let image = find(&store, &options.reference)?;
    if !is_quiet {
        notes(&image, &options, has_network);
    }
    let now = || Timestamp::now().to_string();
    // From here on signals are kept for the container.
    let signals = forwarded_signals()?;
    let (record, dir) =
        runner::create(&store, &image, &options, now()).map_err(|error| create_failure(&error))?;
    let started = streams(&options).and_then(|streams| {
        let sandbox =
            Sandbox::open(SandboxSettings::default()).map_err(|error| Failure::error(FAILED, &error))?;
        if !is_quiet {
            sandbox.notes().iter().for_each(|note| output::note(note));
        }
        runner::start(&store, &sandbox, (&record, &dir), &host_files(), streams, &now)
            .map_err(|error| start_failure(&error))
    });
    let container = match started {
        Ok(container) => container,
        Err(failure) => {
            if record.auto_remove {
                // The first failure is what the user has to hear of.
                let _ = store.remove_container(&record.id);
            }
            return Err(failure);
        }
    };
    if !is_quiet {
        container.notes().iter().for_each(|note| output::note(note));
    }
    let connection = Connection::make(&container, options.interactive).map_err(|error| {
        Failure::message(FAILED, format!("cannot connect the container's terminal: {error}"))
    })?;
    forward_signals(signals, Arc::clone(&container))?;
    let ended = container.wait(&now);
    connection.finish();
    // Starting a sweeper costs more than the trash of a container that wrote nothing.
    let is_worth_sweeping = || {
        runner::wrote_files(&dir) || store.trash_entries().is_ok_and(|entries| entries >= TRASH_BEFORE_SWEEP)
    };
    if record.auto_remove && is_worth_sweeping() {
        invocation.app.settle_later();
    }
    ended.map_err(|error| match error {
        // The container's own code is what the caller waits for.
        runner::EndError::Record { code, .. } => Failure::error(code.max(1), &error),
        _ => Failure::error(FAILED, &error),
    })
}

/// Translates the command line.
fn options(
    invocation: &Invocation<'_>,
    reference: String,
    arguments: Vec<String>,
) -> Result<CreateOptions, Failure> {
    let refused = |flag: &str, value: &str, reason: &str| {
        Failure::message(WRONG_FLAG, format!("`--{flag} {value}` is not supported yet: {reason}"))
    };
    let network = match invocation.value("network").or_else(|| invocation.value("net")) {
        None | Some("host") => Network::Host,
        Some("none") => Network::None,
        Some(other) => {
            return Err(refused(
                "network",
                other,
                "only `host` and `none` are, other networks come with a later release",
            ));
        }
    };
    let host_userns = match invocation.value("userns") {
        None | Some("") => false,
        Some("host") => true,
        Some(other) => return Err(refused("userns", other, "only `host` is")),
    };
    match invocation.value("pull") {
        None | Some("missing" | "never") => {}
        Some(other @ ("always" | "newer")) => {
            return Err(refused("pull", other, "registries come with a later release"));
        }
        Some(other) => {
            let message =
                format!("invalid value `{other}` for flag `--pull`: it can be `missing` or `never`");
            return Err(Failure::usage(WRONG_FLAG, message, &invocation.name));
        }
    }
    let volumes = invocation.values("volume");
    let current_dir = match volumes.is_empty() {
        true => PathBuf::new(),
        false => std::env::current_dir().map_err(|error| {
            Failure::message(FAILED, format!("cannot find out the current directory: {error}"))
        })?,
    };
    let binds = volumes
        .into_iter()
        .map(|text| BindSpec::parse(text, &current_dir).map_err(|error| Failure::error(WRONG_FLAG, &error)))
        .collect::<Result<_, _>>()?;
    let env = invocation.values("env").into_iter().map(|text| match text.split_once('=') {
        Some((key, value)) => (key.to_owned(), Some(value.to_owned())),
        None => (text.to_owned(), settings::variable(text)),
    });
    Ok(CreateOptions {
        reference,
        arguments,
        entrypoint: invocation.value("entrypoint").map(|text| match text {
            "" => Vec::new(),
            text => vec![text.to_owned()],
        }),
        env: env.collect(),
        user: invocation.value("user").map(str::to_owned),
        working_dir: invocation.value("workdir").filter(|dir| !dir.is_empty()).map(str::to_owned),
        binds,
        name: invocation.value("name").map(str::to_owned),
        network,
        host_userns,
        interactive: invocation.is_on("interactive"),
        tty: invocation.is_on("tty"),
        auto_remove: invocation.is_on("rm"),
    })
}

fn find(store: &Store, reference: &str) -> Result<Image, Failure> {
    store.find_image(reference).map_err(|error| {
        let failure = Failure::error(FAILED, &error);
        match error {
            FindImageError::NotFound { .. } => failure.hint(format!(
                "looked in the store at `{}`; pulling comes with a later release: build it or `calque load` it",
                store.options().root.display()
            )),
            _ => failure,
        }
    })
}

/// What differs from docker in this run.
fn notes(image: &Image, options: &CreateOptions, has_network: bool) {
    if !has_network {
        output::note(
            "the container has the host's network, until calque has networks of its own (`--network host` says so, `--network none` is without)",
        );
    }
    let config = &image.config.value().config;
    let ports = || config.exposed_ports.keys().filter(|port| is_privileged(port)).map(String::as_str);
    if options.network == Network::Host && !options.host_userns && ports().next().is_some() {
        output::note(&format!(
            "the image exposes {}: listening below port 1024 of the host needs `--userns host`",
            ports().collect::<Vec<_>>().join(", ")
        ));
    }
    let volumes = &config.volumes;
    if !volumes.is_empty() {
        let paths: Vec<&str> = volumes.keys().map(String::as_str).collect();
        output::note(&format!(
            "the image's volumes ({}) stay part of the container: volumes come with a later release",
            paths.join(", ")
        ));
    }
}

/// Whether `port`, as in `80/tcp` or `80-90/tcp`, is one that only root of the host may listen on.
fn is_privileged(port: &str) -> bool {
    port.split(['-', '/'])
        .next()
        .and_then(|number| number.parse::<u16>().ok())
        .is_some_and(|port| port < 1024)
}

fn create_failure(error: &runner::CreateError) -> Failure {
    let failure = Failure::error(FAILED, error);
    match error {
        runner::CreateError::Store(ContainerError::NameInUse { .. }) => {
            failure.hint("remove it with `calque rm`, or take another name")
        }
        _ => failure,
    }
}

fn start_failure(error: &runner::StartError) -> Failure {
    let failure = Failure::message(error.exit_code(), report::chain(error));
    match error.help() {
        Some(help) => failure.hint(help),
        None => failure,
    }
}

fn streams(options: &CreateOptions) -> Result<Streams, Failure> {
    match options.tty {
        true => Ok(Streams::Terminal { size: terminal::size() }),
        false => stdio(options.interactive).map(Streams::Own),
    }
}

/// Between our terminal and the container's, where it has one.
#[derive(Default)]
struct Connection {
    output: Option<JoinHandle<()>>,
    raw: Option<terminal::Raw>,
}

impl Connection {
    fn make(container: &Arc<Foreground>, is_interactive: bool) -> io::Result<Self> {
        let Some(master) = container.terminal() else { return Ok(Self::default()) };
        // Each key is the container's, from the first one on.
        let raw = if is_interactive { Some(terminal::Raw::enter()?) } else { None };
        let output = terminal::copy_output(master.try_clone_to_owned()?)?;
        if is_interactive {
            let container = Arc::clone(container);
            // A raw terminal ends only when it is gone; the container was started for it.
            let hang_up = move || {
                let _ = container.kill();
            };
            terminal::copy_input(master.try_clone_to_owned()?, hang_up)?;
        }
        Ok(Self { output: Some(output), raw })
    }

    /// After the container's end: what it printed is shown to the last byte, then the terminal is ours again.
    fn finish(self) {
        if let Some(output) = self.output {
            let _ = output.join();
        }
        drop(self.raw);
    }
}

/// Our own descriptors, which the container gets as they are: nothing is copied.
fn stdio(is_interactive: bool) -> Result<Stdio, Failure> {
    let cannot = |what: &str, error: rustix::io::Errno| {
        Failure::message(FAILED, format!("cannot open {what}: {error}"))
    };
    let own = |fd: &dyn AsFd, what: &str| -> Result<OwnedFd, Failure> {
        rustix::io::fcntl_dupfd_cloexec(fd.as_fd(), 3).map_err(|error| cannot(what, error))
    };
    let stdin = if is_interactive {
        own(&std::io::stdin(), "stdin")?
    } else {
        rustix::fs::openat(CWD, "/dev/null", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
            .map_err(|error| cannot("`/dev/null`", error))?
    };
    Ok(Stdio {
        stdin,
        stdout: own(&std::io::stdout(), "stdout")?,
        stderr: own(&std::io::stderr(), "stderr")?,
    })
}

fn host_files() -> HostFiles {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    HostFiles { resolv_conf: read("/etc/resolv.conf"), hosts: read("/etc/hosts") }
}

/// Catches what is to be passed on: not the two that can't be caught, nor those that are about ourselves (a child's
/// end, a pipe's, urgent data, faults).
fn forwarded_signals() -> Result<Signals, Failure> {
    use signal_hook::consts::{SIGALRM, SIGHUP, SIGQUIT, SIGTSTP, SIGUSR1, SIGUSR2};
    Signals::new([SIGALRM, SIGCONT, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGTSTP, SIGUSR1, SIGUSR2, SIGWINCH])
        .map_err(cannot_listen)
}

fn cannot_listen(error: std::io::Error) -> Failure {
    Failure::message(FAILED, format!("cannot listen for signals: {error}"))
}

/// Passes signals on until the process ends. The third SIGINT or SIGTERM kills the container.
fn forward_signals(mut signals: Signals, container: Arc<Foreground>) -> Result<(), Failure> {
    let forward = move || {
        let mut pleas = 0;
        for signal in &mut signals {
            if let Some(master) = container.terminal() {
                match signal {
                    // The kernel tells those who use the container's terminal.
                    SIGWINCH => {
                        terminal::pass_size_on(master);
                        continue;
                    }
                    SIGCONT => {
                        terminal::make_raw_again();
                        terminal::pass_size_on(master);
                    }
                    _ => {}
                }
            }
            if matches!(signal, SIGINT | SIGTERM) {
                pleas += 1;
            }
            // The container may have ended meanwhile, which `wait` notices.
            let _ = if pleas >= PATIENCE { container.kill() } else { container.signal(signal) };
        }
    };
    std::thread::Builder::new().name("signals".to_owned()).spawn(forward).map(drop).map_err(cannot_listen)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_below_1024_are_roots() {
        for (port, privileged) in [
            ("80/tcp", true),
            ("1023/udp", true),
            ("1024/tcp", false),
            ("8000-8010/tcp", false),
            ("x", false),
        ] {
            assert_eq!(is_privileged(port), privileged, "{port}");
        }
    }
}
