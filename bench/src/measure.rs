//! One timed command: wall time, CPU of all its descendants, peak memory.

use std::fs;
use std::io;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use nix::sys::resource::{UsageWho, getrusage};

/// What one command took.
#[derive(Clone, Copy, Debug, serde::Serialize)]
pub(crate) struct Sample {
    /// Wall time.
    pub(crate) wall_s: f64,
    /// User and system time of all descendants that were waited for, and of the daemons that worked for it.
    pub(crate) cpu_s: f64,
    /// The largest sum of resident anonymous memory of all descendants (and daemons), in bytes: sampled, so that it is a lower bound.
    pub(crate) peak_bytes: u64,
}

/// Runs `command` to its end, quietly.
pub(crate) fn quiet(command: &mut Command) -> Result<(), String> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("cannot start {:?}: {error}", command.get_program()))?;
    if output.status.success() {
        return Ok(());
    }
    let arguments: Vec<_> = command.get_args().map(|word| word.to_string_lossy()).collect();
    Err(format!(
        "{} {} failed: {}\n{}{}",
        command.get_program().display(),
        arguments.join(" "),
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    ))
}

/// Times `command`; `daemons` are names of processes whose work counts too.
pub(crate) fn time(command: &mut Command, daemons: &[&str]) -> Result<Sample, String> {
    let done = AtomicBool::new(false);
    let before = (children_cpu(), daemons_cpu(daemons));
    std::thread::scope(|scope| {
        let sampler = scope.spawn(|| sample_peak(&done, daemons));
        let started = Instant::now();
        let result = quiet(command);
        let wall = started.elapsed();
        done.store(true, Ordering::Relaxed);
        let peak_bytes = sampler.join().map_err(|_| "the memory sampler died".to_owned())?;
        result?;
        let cpu = (children_cpu() - before.0) + daemons_cpu(daemons).saturating_sub(before.1);
        Ok(Sample { wall_s: wall.as_secs_f64(), cpu_s: cpu.as_secs_f64(), peak_bytes })
    })
}

fn children_cpu() -> Duration {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN).expect("the kernel accounts for children");
    let time = |value: nix::sys::time::TimeVal| {
        Duration::from_micros((value.tv_sec() * 1_000_000 + value.tv_usec()).unsigned_abs())
    };
    time(usage.user_time()) + time(usage.system_time())
}

/// CPU time of the processes with these names and of the children they waited for, in clock ticks of 10 ms.
fn daemons_cpu(names: &[&str]) -> Duration {
    if names.is_empty() {
        return Duration::ZERO;
    }
    let ticks: u64 = processes()
        .filter(|pid| is_named(*pid, names))
        .filter_map(|pid| fs::read_to_string(format!("/proc/{pid}/stat")).ok())
        .filter_map(|stat| {
            let fields: Vec<u64> = stat
                .rsplit_once(')')?
                .1
                .split_whitespace()
                .skip(11)
                .take(4)
                .filter_map(|number| number.parse().ok())
                .collect();
            Some(fields.iter().sum::<u64>())
        })
        .sum();
    Duration::from_millis(ticks * 10)
}

fn is_named(pid: u32, names: &[&str]) -> bool {
    fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| names.contains(&name.trim_end()))
}

fn processes() -> impl Iterator<Item = u32> {
    fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .filter_map(|entry: io::Result<fs::DirEntry>| entry.ok()?.file_name().to_str()?.parse().ok())
}

fn sample_peak(done: &AtomicBool, daemons: &[&str]) -> u64 {
    let own = std::process::id();
    let mut peak = 0;
    while !done.load(Ordering::Relaxed) {
        let parents: Vec<(u32, u32)> =
            processes().filter_map(|pid| Some((pid, status_number(pid, "PPid:")? as u32))).collect();
        let mut tree = vec![own];
        let mut next = 0;
        while next < tree.len() {
            let parent = tree[next];
            tree.extend(parents.iter().filter(|(_, its)| *its == parent).map(|(child, _)| *child));
            next += 1;
        }
        tree.remove(0);
        tree.extend(parents.iter().map(|(pid, _)| *pid).filter(|pid| is_named(*pid, daemons)));
        tree.sort_unstable();
        tree.dedup();
        let sum: u64 = tree.iter().filter_map(|pid| status_number(*pid, "RssAnon:")).sum();
        peak = peak.max(sum * 1024);
        std::thread::sleep(Duration::from_millis(20));
    }
    peak
}

fn status_number(pid: u32, name: &str) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    status.lines().find_map(|line| line.strip_prefix(name))?.split_whitespace().next()?.parse().ok()
}
