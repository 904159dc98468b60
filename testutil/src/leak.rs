//! What a test may leave behind: mounts, processes, control groups.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// One line of a `mountinfo`, as far as a leak check needs it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mount {
    /// A process in whose mount namespace it was seen.
    pub pid: u32,
    /// Where it is mounted.
    pub mount_point: PathBuf,
    /// The whole line.
    pub line: String,
}

/// Mounts anywhere on the machine (in the mount namespace of any process) that have to do with `dir`: their
/// mount point, their root or one of their options lies below it.
pub fn mounts_below(dir: &Path) -> Vec<Mount> {
    let needle = dir.to_string_lossy().into_owned();
    let mut seen_namespaces = BTreeSet::new();
    let mut found = Vec::new();
    for pid in processes() {
        let Ok(namespace) = fs::read_link(format!("/proc/{pid}/ns/mnt")) else { continue };
        if !seen_namespaces.insert(namespace) {
            continue;
        }
        let Ok(text) = fs::read_to_string(format!("/proc/{pid}/mountinfo")) else { continue };
        for line in text.lines() {
            if mentions(line, &needle) {
                let mount_point = line.split(' ').nth(4).unwrap_or_default().into();
                found.push(Mount { pid, mount_point, line: line.to_owned() });
            }
        }
    }
    found
}

/// Whether a word of `line` is `dir` or a path below it.
fn mentions(line: &str, dir: &str) -> bool {
    line.split([' ', ',', '=', ':'])
        .any(|word| word.strip_prefix(dir).is_some_and(|rest| rest.is_empty() || rest.starts_with('/')))
}

/// Processes with `argument` as one whole argument; zombies have none and are not found.
pub fn processes_with_argument(argument: &str) -> Vec<u32> {
    processes()
        .filter(|pid| {
            fs::read(format!("/proc/{pid}/cmdline"))
                .is_ok_and(|line| line.split(|byte| *byte == 0).any(|word| word == argument.as_bytes()))
        })
        .collect()
}

/// All living descendants of `pid`.
pub fn descendants(pid: u32) -> Vec<u32> {
    let parents: Vec<(u32, u32)> = processes().filter_map(|pid| Some((pid, parent_of(pid)?))).collect();
    let mut found = vec![pid];
    let mut next = 0;
    while next < found.len() {
        let parent = found[next];
        found.extend(parents.iter().filter(|(_, its_parent)| *its_parent == parent).map(|(child, _)| *child));
        next += 1;
    }
    found.remove(0);
    found
}

fn processes() -> impl Iterator<Item = u32> {
    fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok())
}

fn parent_of(pid: u32) -> Option<u32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
}

/// Looks, at its end, for what a test on one folder left behind.
///
/// Teardown of control groups and namespaces may go on for a moment after a command has returned, so
/// [`LeakCheck::assert_clean`] waits for the condition, at most `patience`.
#[derive(Debug)]
pub struct LeakCheck {
    dir: PathBuf,
    marker: Option<String>,
}

impl LeakCheck {
    /// Watches mounts that have to do with `dir`.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self { dir: dir.into(), marker: None }
    }

    /// Watches for processes that have `argument` as an argument too.
    #[must_use]
    pub fn with_argument(mut self, argument: impl Into<String>) -> Self {
        self.marker = Some(argument.into());
        self
    }

    /// What is there now, one line each.
    pub fn found(&self) -> Vec<String> {
        let mut found: Vec<String> = mounts_below(&self.dir)
            .into_iter()
            .map(|mount| format!("mount seen by process {}: {}", mount.pid, mount.line))
            .collect();
        if let Some(marker) = &self.marker {
            found.extend(processes_with_argument(marker).into_iter().map(|pid| format!("process {pid}")));
        }
        found
    }

    /// Waits until nothing is left.
    ///
    /// # Panics
    ///
    /// When something is still there after `patience`.
    #[track_caller]
    pub fn assert_clean(&self, patience: Duration) {
        let deadline = Instant::now() + patience;
        loop {
            let found = self.found();
            if found.is_empty() {
                return;
            }
            assert!(Instant::now() < deadline, "left behind after {patience:?}:\n{}", found.join("\n"));
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_components_count_as_below() {
        let line = "36 35 98:0 /mnt1 /tmp/store/x rw,noatime - overlay overlay rw,lowerdir=/tmp/store/l:/a";
        assert!(mentions(line, "/tmp/store"));
        assert!(mentions(line, "/tmp/store/l"));
        assert!(!mentions(line, "/tmp/sto"));
    }

    #[test]
    fn a_process_and_its_parent_are_found() {
        let marker = format!("calque-leak-{}", std::process::id());
        let mut child = std::process::Command::new("sh")
            .args(["-c", "read line", &marker])
            .stdin(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let check = LeakCheck::new("/calque-no-such-folder").with_argument(&marker);
        while check.found().is_empty() {
            std::thread::yield_now();
        }
        assert_eq!(processes_with_argument(&marker), [child.id()]);
        assert!(descendants(std::process::id()).contains(&child.id()));
        drop(child.stdin.take());
        child.wait().unwrap();
        check.assert_clean(Duration::from_secs(10));
    }
}
