//! Times calque beside the builders that are installed and usable, and beside the floors: what the work itself
//! takes with the plainest tools. Everything is measured in this one run, interleaved, and given as ratios too;
//! figures of programs that were not run here are never shown.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program that reports to its terminal")]

mod floor;
mod input;
mod measure;
mod report;
mod subject;
mod workload;

use std::path::PathBuf;
use std::process::ExitCode;

/// What the command line asks for.
struct Settings {
    calque: PathBuf,
    base_script: PathBuf,
    rounds: u32,
    workloads: Vec<String>,
    without: Vec<String>,
    scale: input::Scale,
    json: Option<PathBuf>,
    dir: Option<PathBuf>,
}

const USAGE: &str = "\
usage: bench --calque BINARY [--rounds N] [--only W1,W3] [--without docker,podman] [--small] [--dir DIR] [--json FILE]

  --rounds N     measure each N times, interleaved (default 3)
  --only LIST    these workloads: W1 W2 W3 W4 W5 W6 W7
  --without LIST leave these peers out
  --small        a hundredth of the input: shows that it works, the figures mean nothing
  --dir DIR      work there instead of in a fresh folder below $TMPDIR
  --json FILE    write all figures there too
";

/// Set in the re-executed process.
const HAS_OWN_MOUNTS: &str = "CALQUE_BENCH_OWN_MOUNTS";

/// Measures in a mount namespace of its own: what peers leave mounted goes with it. On hybrid hosts it has the v1
/// control groups only, for some releases of crun refuse to run with both.
fn in_own_mounts(arguments: &[String]) -> Option<ExitCode> {
    let unified = "/sys/fs/cgroup/unified";
    if std::env::var_os(HAS_OWN_MOUNTS).is_some()
        || !std::path::Path::new(unified).join("cgroup.procs").exists()
    {
        return None;
    }
    let program = std::env::current_exe().ok()?;
    let status = std::process::Command::new("unshare")
        .args([
            "--mount",
            "--propagation",
            "private",
            "sh",
            "-c",
            "if [ -e \"$0/cgroup.procs\" ]; then umount \"$0\"; fi; exec \"$@\"",
            unified,
        ])
        .arg(program)
        .args(arguments)
        .env(HAS_OWN_MOUNTS, "1")
        .status()
        .ok()?;
    Some(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.first().is_some_and(|first| first == "__floor") {
        return floor::main(&arguments[1..]);
    }
    let settings = match settings(&arguments) {
        Ok(settings) => settings,
        Err(message) => {
            eprint!("{message}\n\n{USAGE}");
            return ExitCode::from(125);
        }
    };
    if let Some(code) = in_own_mounts(&arguments) {
        return code;
    }
    match run(&settings) {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("error: {message}");
            ExitCode::FAILURE
        }
    }
}

fn settings(arguments: &[String]) -> Result<Settings, String> {
    let mut settings = Settings {
        calque: PathBuf::new(),
        base_script: PathBuf::from("scripts/base-image.sh"),
        rounds: 3,
        workloads: workload::NAMES.iter().map(|name| (*name).to_owned()).collect(),
        without: Vec::new(),
        scale: input::Scale::FULL,
        json: None,
        dir: None,
    };
    let mut arguments = arguments.iter();
    while let Some(flag) = arguments.next() {
        if flag == "--small" {
            settings.scale = input::Scale::SMALL;
            continue;
        }
        let value = arguments.next().ok_or_else(|| format!("`{flag}` needs a value"))?;
        let list = || value.split(',').map(str::to_owned).collect::<Vec<String>>();
        match flag.as_str() {
            "--calque" => settings.calque = value.into(),
            "--rounds" => {
                settings.rounds = value.parse().map_err(|_| format!("`{value}` is not a number"))?
            }
            "--only" => settings.workloads = list(),
            "--without" => settings.without = list(),
            "--dir" => settings.dir = Some(value.into()),
            "--json" => settings.json = Some(value.into()),
            _ => return Err(format!("unknown flag `{flag}`")),
        }
    }
    if let Some(name) = settings.workloads.iter().find(|name| !workload::NAMES.contains(&name.as_str())) {
        return Err(format!("unknown workload `{name}`"));
    }
    settings.calque = settings
        .calque
        .canonicalize()
        .map_err(|error| format!("cannot find calque at `{}`: {error}", settings.calque.display()))?;
    Ok(settings)
}

fn run(settings: &Settings) -> Result<(), String> {
    let fresh;
    let dir = match &settings.dir {
        Some(dir) => dir.clone(),
        None => {
            fresh = tempfile::Builder::new()
                .prefix("calque-bench-")
                .tempdir()
                .map_err(|error| error.to_string())?;
            fresh.path().to_owned()
        }
    };
    std::fs::create_dir_all(&dir).map_err(|error| format!("cannot make `{}`: {error}", dir.display()))?;
    let base = dir.join("busybox.tar");
    measure::quiet(std::process::Command::new("sh").arg(&settings.base_script).arg(&base))?;

    let subjects = subject::usable(&settings.calque, &dir, &base, &settings.without);
    let mut report = report::Report::new(settings.scale, settings.rounds);
    for (name, verdict) in &subjects.left_out {
        println!("{name}: left out: {verdict}");
        report.left_out(name, verdict);
    }
    for name in &settings.workloads {
        let rows = workload::measure(name, settings, &dir, &subjects.list)?;
        report.add(name, rows);
        println!("\n{}", report.table(name));
    }
    println!("\n{}", report.summary());
    if let Some(path) = &settings.json {
        std::fs::write(path, report.json())
            .map_err(|error| format!("cannot write `{}`: {error}", path.display()))?;
    }
    Ok(())
}
