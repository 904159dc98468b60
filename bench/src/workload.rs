//! The workloads. Each gives one row for each subject and floor.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::Settings;
use crate::input::{self, writing_script};
use crate::measure::{Sample, quiet, time};
use crate::subject::{BASE, Kind, Subject};

/// All of them.
pub(crate) const NAMES: [&str; 7] = ["W1", "W2", "W3", "W4", "W5", "W6", "W7"];

/// What each is.
pub(crate) fn describe(name: &str) -> &'static str {
    match name {
        "W1" => "rebuild, nothing changed, COPY of 20,000 files in 200 MB",
        "W2" => "one of the 20,000 files changed",
        "W3" => "cold COPY of 20,000 files in 200 MB and of 1 GiB in eight files",
        "W4" => "20 RUN steps, host network",
        "W5" => "four independent stages of `sleep 2`",
        "W6" => "one RUN that writes 30,000 files and 500 MB",
        "W7" => "run --rm of `true`, no network (each the mean of 20 in a row)",
        _ => "",
    }
}

/// The samples of one subject or floor.
#[derive(Clone, Debug, serde::Serialize)]
pub(crate) struct Row {
    pub(crate) who: String,
    pub(crate) is_floor: bool,
    pub(crate) samples: Vec<Sample>,
}

type Step<'a> = Box<dyn FnMut(u32) -> Result<Sample, String> + 'a>;

/// Measures one workload: every round runs all subjects and floors in turn.
pub(crate) fn measure(
    name: &str,
    settings: &Settings,
    dir: &Path,
    subjects: &[Subject],
) -> Result<Vec<Row>, String> {
    let dir = dir.join(name);
    fs::create_dir_all(&dir).map_err(|error| format!("cannot make `{}`: {error}", dir.display()))?;
    let mut steps: Vec<(String, bool, Step<'_>)> = match name {
        "W1" => rebuild(settings, &dir, subjects, false)?,
        "W2" => rebuild(settings, &dir, subjects, true)?,
        "W3" => cold_copy(settings, &dir, subjects)?,
        "W4" => run_steps(&dir, subjects)?,
        "W5" => stages(&dir, subjects)?,
        "W6" => writing(settings, &dir, subjects)?,
        _ => containers(subjects),
    };
    let mut rows: Vec<Row> = steps
        .iter()
        .map(|(who, is_floor, _)| Row { who: who.clone(), is_floor: *is_floor, samples: Vec::new() })
        .collect();
    let shows_progress = std::io::IsTerminal::is_terminal(&std::io::stderr());
    for round in 0..settings.rounds {
        for ((who, _, step), row) in steps.iter_mut().zip(&mut rows) {
            if shows_progress {
                eprint!("\r{name} round {} of {}: {who:<24}", round + 1, settings.rounds);
            }
            // A peer that fails in the middle is shown with the samples it has.
            match step(round) {
                Ok(sample) => row.samples.push(sample),
                Err(error) if who == "calque" => return Err(error),
                Err(error) => eprintln!("\n{who} failed: {error}"),
            }
        }
    }
    if shows_progress {
        eprint!("\r{:60}\r", "");
    }
    rows.retain(|row| !row.samples.is_empty());
    Ok(rows)
}

fn context(dir: &Path, dockerfile: &str) -> Result<PathBuf, String> {
    let context = dir.join("context");
    fs::create_dir_all(&context)
        .and_then(|()| fs::write(context.join("Dockerfile"), dockerfile))
        .map_err(|error| format!("cannot write `{}`: {error}", context.display()))?;
    Ok(context)
}

fn floor(name: &str, dir: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("the program knows where it lies"));
    command.args(["__floor", name]).arg(dir);
    command
}

fn shell(script: &str, arguments: &[&Path]) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", script, "sh"]).args(arguments);
    command
}

fn builders(subjects: &[Subject]) -> impl Iterator<Item = &Subject> {
    subjects.iter().filter(|subject| subject.can_build())
}

fn rebuild<'a>(
    settings: &Settings,
    dir: &Path,
    subjects: &'a [Subject],
    changes: bool,
) -> Result<Vec<(String, bool, Step<'a>)>, String> {
    let context = context(dir, &format!("FROM {BASE}\nCOPY src /src\n"))?;
    input::small_files(&context, settings.scale).map_err(|error| error.to_string())?;
    // What was written a moment ago can't be trusted by a stat index, in any of them.
    std::thread::sleep(std::time::Duration::from_secs(2));
    let mut steps: Vec<(String, bool, Step<'a>)> = Vec::new();
    let mut change = 0;
    for subject in builders(subjects) {
        quiet(&mut subject.build(&context, "bench-w1", false))?;
        if !changes {
            quiet(&mut subject.build(&context, "bench-w1", false))?;
        }
        let context = context.clone();
        change += 1000;
        let first_change = change;
        steps.push((
            subject.kind.name().to_owned(),
            false,
            Box::new(move |round| {
                if changes {
                    input::changed_file(&context, first_change + round).map_err(|error| error.to_string())?;
                }
                time(&mut subject.build(&context, "bench-w1", false), subject.daemons())
            }),
        ));
    }
    let walked = context.clone();
    if changes {
        steps.push((
            "tar | sha256sum".to_owned(),
            true,
            Box::new(move |_| time(&mut shell("tar -C \"$1\" -cf - src | sha256sum", &[&walked]), &[])),
        ));
    } else {
        steps.push((
            "stat walk".to_owned(),
            true,
            Box::new(move |_| time(&mut floor("stat-walk", &walked), &[])),
        ));
    }
    Ok(steps)
}

fn cold_copy<'a>(
    settings: &Settings,
    dir: &Path,
    subjects: &'a [Subject],
) -> Result<Vec<(String, bool, Step<'a>)>, String> {
    let context = context(dir, &format!("FROM {BASE}\nCOPY src /src\nCOPY large /large\n"))?;
    input::small_files(&context, settings.scale).map_err(|error| error.to_string())?;
    input::large_files(&context, settings.scale).map_err(|error| error.to_string())?;
    let mut steps: Vec<(String, bool, Step<'a>)> = Vec::new();
    for subject in builders(subjects) {
        let context = context.clone();
        steps.push((
            subject.kind.name().to_owned(),
            false,
            Box::new(move |round| {
                let fresh = subject.fresh(&format!("w3-{round}"))?;
                time(&mut fresh.build(&context, "bench-w3", subject.kind == Kind::Docker), subject.daemons())
            }),
        ));
    }
    let (from, to) = (context.clone(), dir.to_owned());
    steps.push((
        "cp -a".to_owned(),
        true,
        Box::new(move |round| {
            let to = to.join(format!("copy{round}"));
            time(Command::new("cp").arg("-a").arg(&from).arg(to), &[])
        }),
    ));
    steps.push((
        "tar | sha256sum".to_owned(),
        true,
        Box::new(move |_| time(&mut shell("tar -C \"$1\" -cf - . | sha256sum", &[&context]), &[])),
    ));
    Ok(steps)
}

fn run_steps<'a>(dir: &Path, subjects: &'a [Subject]) -> Result<Vec<(String, bool, Step<'a>)>, String> {
    let mut dockerfile = format!("FROM {BASE}\n");
    for number in 0..20 {
        dockerfile.push_str(&format!("RUN echo {number} > /file{number}\n"));
    }
    let context = context(dir, &dockerfile)?;
    let mut steps = uncached(subjects, &context, "bench-w4");
    steps.push((
        "20 times sh -c echo".to_owned(),
        true,
        Box::new(move |_| {
            let script = "i=0; while [ $i -lt 20 ]; do sh -c \"echo $i > /dev/null\"; i=$((i+1)); done";
            time(&mut shell(script, &[]), &[])
        }),
    ));
    Ok(steps)
}

fn stages<'a>(dir: &Path, subjects: &'a [Subject]) -> Result<Vec<(String, bool, Step<'a>)>, String> {
    let mut dockerfile = String::new();
    for number in 0..4 {
        dockerfile
            .push_str(&format!("FROM {BASE} AS s{number}\nRUN sleep 2 && echo {number} > /made{number}\n"));
    }
    dockerfile.push_str(&format!("FROM {BASE}\n"));
    for number in 0..4 {
        dockerfile.push_str(&format!("COPY --from=s{number} /made{number} /made{number}\n"));
    }
    let context = context(dir, &dockerfile)?;
    let mut steps = uncached(subjects, &context, "bench-w5");
    steps.push(("sleep 2".to_owned(), true, Box::new(|_| time(Command::new("sleep").arg("2"), &[]))));
    Ok(steps)
}

fn writing<'a>(
    settings: &Settings,
    dir: &Path,
    subjects: &'a [Subject],
) -> Result<Vec<(String, bool, Step<'a>)>, String> {
    let script = writing_script(settings.scale);
    let dockerfile = format!("FROM {BASE}\nRUN set -- /written; {script}\n");
    let context = context(dir, &dockerfile)?;
    let mut steps = uncached(subjects, &context, "bench-w6");
    let dir = dir.to_owned();
    steps.push((
        "the command itself".to_owned(),
        true,
        Box::new(move |round| {
            let to = dir.join(format!("written{round}"));
            // The same shell as in the image.
            let mut command = Command::new("busybox");
            command.args(["sh", "-c", &script, "sh"]).arg(to);
            time(&mut command, &[])
        }),
    ));
    Ok(steps)
}

fn uncached<'a>(subjects: &'a [Subject], context: &Path, tag: &'static str) -> Vec<(String, bool, Step<'a>)> {
    builders(subjects)
        .map(|subject| {
            let context = context.to_owned();
            let step: Step<'a> =
                Box::new(move |_| time(&mut subject.build(&context, tag, true), subject.daemons()));
            (subject.kind.name().to_owned(), false, step)
        })
        .collect()
}

fn containers(subjects: &[Subject]) -> Vec<(String, bool, Step<'_>)> {
    const REPEATS: u32 = 20;
    subjects
        .iter()
        .filter(|subject| subject.run_true().is_some())
        .map(|subject| {
            let step: Step<'_> = Box::new(move |_| {
                let mut sum = Sample { wall_s: 0.0, cpu_s: 0.0, peak_bytes: 0 };
                for _ in 0..REPEATS {
                    let mut command = subject.run_true().expect("it was there above");
                    let sample = time(&mut command, subject.daemons())?;
                    sum.wall_s += sample.wall_s / f64::from(REPEATS);
                    sum.cpu_s += sample.cpu_s / f64::from(REPEATS);
                    sum.peak_bytes = sum.peak_bytes.max(sample.peak_bytes);
                }
                Ok(sum)
            });
            (subject.kind.name().to_owned(), false, step)
        })
        .collect()
}
