//! The hierarchy of version 2.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::{Limits, Unified};
use crate::error::LaunchError;

impl Unified {
    /// Our own directory, the one above it and so on.
    pub(super) fn upwards(&self) -> impl Iterator<Item = &Path> {
        self.own.ancestors().take_while(|directory| directory.starts_with(&self.top))
    }

    /// Whether a container could be given this controller anywhere.
    pub(super) fn has(&self, controller: &str) -> bool {
        self.upwards().any(|directory| lists(directory, "cgroup.controllers", controller))
    }

    /// Directories in which a cgroup with all of `needed` could be made, the best first.
    ///
    /// The kernel refuses (`EBUSY`) to enable a controller below a cgroup that holds processes, as our own does unless
    /// it is the root (cgroups(7), "no internal processes"). The one above mostly holds none: a slice.
    fn candidates<'a>(&'a self, needed: &'a [&'a str]) -> impl Iterator<Item = &'a Path> {
        self.upwards().filter(|directory| {
            let is_root = !directory.join("cgroup.type").exists();
            let is_inner = is_root
                || fs::read_to_string(directory.join("cgroup.procs"))
                    .is_ok_and(|pids| pids.trim().is_empty());
            needed.iter().all(|controller| {
                lists(directory, "cgroup.subtree_control", controller)
                    || is_inner && lists(directory, "cgroup.controllers", controller)
            })
        })
    }
}

fn lists(directory: &Path, file: &str, controller: &str) -> bool {
    let text = fs::read_to_string(directory.join(file)).unwrap_or_default();
    text.split_whitespace().any(|one| one == controller)
}

/// Makes a cgroup with `controllers` (name, whether a limit needs it): below our own if that will do. Without a limit the
/// cgroup serves to count and kill, with as many of them as can be had, or there is none.
pub(super) fn make(
    place: &Unified,
    name: &str,
    controllers: &[(&str, bool)],
) -> Result<Option<PathBuf>, LaunchError> {
    let needed: Vec<&str> = controllers.iter().filter(|(_, needed)| *needed).map(|(name, _)| *name).collect();
    let mut last = (place.own.clone(), io::Error::from(io::ErrorKind::ResourceBusy));
    let most = if needed.is_empty() { 1 } else { usize::MAX };
    for directory in place.candidates(&needed).take(most) {
        match make_in(directory, name, controllers) {
            Ok(made) => return Ok(Some(made)),
            Err((path, source)) => last = (path, source),
        }
    }
    match needed.is_empty() {
        true => Ok(None),
        false => Err(LaunchError::Cgroup { op: "enable the limits in", path: last.0, source: last.1 }),
    }
}

fn make_in(parent: &Path, name: &str, controllers: &[(&str, bool)]) -> Result<PathBuf, (PathBuf, io::Error)> {
    let path = parent.join("cgroup.subtree_control");
    for (controller, needed) in controllers {
        if lists(parent, "cgroup.subtree_control", controller) {
            continue;
        }
        if let Err(source) = append(&path, &format!("+{controller}"))
            && *needed
        {
            return Err((path, source));
        }
    }
    let directory = parent.join(name);
    match fs::create_dir(&directory) {
        Ok(()) => Ok(directory),
        Err(source) => Err((directory, source)),
    }
}

fn append(path: &Path, text: &str) -> io::Result<()> {
    use io::Write;
    fs::OpenOptions::new().write(true).open(path)?.write_all(text.as_bytes())
}

/// Writes `limits` as far as they concern `controllers`.
pub(super) fn set(directory: &Path, controllers: &[&str], limits: &Limits) -> Result<(), LaunchError> {
    for (file, value) in files(controllers, limits)? {
        let path = directory.join(file);
        if let Err(source) = append(&path, &value) {
            return Err(LaunchError::Cgroup { op: "set the limit", path, source });
        }
    }
    Ok(())
}

fn files(controllers: &[&str], limits: &Limits) -> Result<Vec<(&'static str, String)>, LaunchError> {
    let mut files = Vec::new();
    if controllers.contains(&"pids")
        && let Some(pids) = limits.pids
    {
        files.push(("pids.max", pids.to_string()));
    }
    if controllers.contains(&"memory") {
        if let Some(memory) = limits.memory {
            files.push(("memory.max", memory.to_string()));
        }
        match (limits.memory_and_swap, limits.memory) {
            (Some(u64::MAX), _) => files.push(("memory.swap.max", "max".to_owned())),
            // A spec counts both together, version 2 swap alone (runtime-spec `config-linux.md`, "Memory").
            (Some(both), Some(memory)) if both >= memory => {
                files.push(("memory.swap.max", (both - memory).to_string()));
            }
            (Some(_), _) => {
                return Err(LaunchError::Invalid {
                    what: "a limit of memory and swap below that of memory".into(),
                });
            }
            (None, _) => {}
        }
    }
    if controllers.contains(&"cpu") {
        if let Some((quota, period)) = limits.cpu {
            files.push(("cpu.max", format!("{quota} {period}")));
        }
        if let Some(shares) = limits.cpu_shares {
            files.push(("cpu.weight", weight(shares).to_string()));
        }
    }
    Ok(files)
}

/// Shares 2..262144 to weights 1..10000, linearly (runtime-spec's conversion; crun and runc do the same).
fn weight(shares: u64) -> u64 {
    1 + (shares.clamp(2, 262_144) - 2) * 9999 / 262_142
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_said_in_the_words_of_version_2() {
        let limits = Limits {
            pids: Some(64),
            memory: Some(1 << 20),
            memory_and_swap: Some(3 << 20),
            cpu: Some((50_000, 100_000)),
            cpu_shares: Some(1024),
        };
        let files = files(&["pids", "memory", "cpu"], &limits).unwrap();
        let lines: Vec<String> = files.iter().map(|(file, value)| format!("{file} {value}")).collect();
        assert_eq!(
            lines,
            [
                "pids.max 64",
                "memory.max 1048576",
                "memory.swap.max 2097152",
                "cpu.max 50000 100000",
                "cpu.weight 39"
            ]
        );
        assert!(super::files(&["memory"], &Limits { memory_and_swap: Some(1), ..limits }).is_err());
    }

    #[test]
    fn shares_keep_their_ends() {
        assert_eq!((weight(0), weight(2), weight(262_144), weight(u64::MAX)), (1, 1, 10_000, 10_000));
    }
}
