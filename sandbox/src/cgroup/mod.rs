//! A container's own cgroups.
//!
//! On some hosts all controllers are in the one hierarchy of version 2, on some each has its own of version 1, and on
//! some both kinds are in use at once: decided for each controller. The cgroups lie below the caller's own, so that
//! whatever limits it limits its containers too; where version 2 can't limit anything there, beside it.

mod v1;
mod v2;

use std::ffi::OsStr;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use std::{fs, thread};

use oci_spec::runtime::LinuxResources;

use crate::error::LaunchError;
use crate::plan::{CgroupFacts, CgroupView};
use crate::prepare::unescape;

/// Limits that a container may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(crate) struct Limits {
    pids: Option<u64>,
    memory: Option<u64>,
    /// Memory and swap together; `u64::MAX`: as much as there is.
    memory_and_swap: Option<u64>,
    /// Microseconds in each period of so many.
    cpu: Option<(u64, u64)>,
    cpu_shares: Option<u64>,
}

/// What counts as no limit in a spec.
fn limit(value: i64) -> Option<u64> {
    u64::try_from(value).ok().filter(|value| *value > 0)
}

impl Limits {
    /// # Errors
    ///
    /// A limit that isn't supported is refused rather than ignored.
    pub(crate) fn of(resources: Option<&LinuxResources>) -> Result<Self, LaunchError> {
        let Some(resources) = resources else { return Ok(Self::default()) };
        let memory = resources.memory().unwrap_or_default();
        let cpu = resources.cpu().clone().unwrap_or_default();
        let given = [
            ("device rules", resources.devices().as_ref().is_some_and(|rules| !rules.is_empty())),
            ("block I/O limits", resources.block_io().is_some()),
            ("huge page limits", resources.hugepage_limits().is_some()),
            ("network classes", resources.network().is_some()),
            ("RDMA limits", resources.rdma().is_some()),
            ("cgroup settings (unified)", resources.unified().is_some()),
            ("memory reservation", memory.reservation().is_some()),
            ("kernel memory", memory.kernel().is_some() || memory.kernel_tcp().is_some()),
            ("swappiness", memory.swappiness().is_some()),
            ("disabling the OOM killer", memory.disable_oom_killer() == Some(true)),
            ("real-time CPU", cpu.realtime_runtime().is_some() || cpu.realtime_period().is_some()),
            ("idle CPU", cpu.idle().is_some()),
            ("CPU burst", cpu.burst().is_some()),
            ("CPU sets", cpu.cpus().is_some() || cpu.mems().is_some()),
        ];
        if let Some((what, _)) = given.iter().find(|(_, given)| *given) {
            return Err(LaunchError::Unsupported { what: (*what).to_owned() });
        }
        let swap = match memory.swap() {
            Some(swap) if swap < 0 => Some(u64::MAX),
            swap => swap.and_then(limit),
        };
        Ok(Self {
            pids: resources.pids().and_then(|pids| limit(pids.limit())),
            memory: memory.limit().and_then(limit),
            memory_and_swap: swap,
            cpu: cpu.quota().and_then(limit).map(|quota| (quota, cpu.period().unwrap_or(100_000))),
            cpu_shares: cpu.shares().filter(|shares| *shares > 0),
        })
    }

    fn wants(&self, controller: &str) -> bool {
        match controller {
            "pids" => self.pids.is_some(),
            "memory" => self.memory.is_some() || self.memory_and_swap.is_some(),
            "cpu" => self.cpu.is_some() || self.cpu_shares.is_some(),
            _ => false,
        }
    }
}

/// Controllers whose cgroup a container gets in any case: to be counted and killed as one.
const ALWAYS: [&str; 2] = ["pids", "memory"];
const KNOWN: [&str; 3] = ["pids", "memory", "cpu"];

/// One hierarchy.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Hierarchy {
    /// Empty: version 2.
    controllers: Vec<String>,
    /// This process's own directory in it.
    own: PathBuf,
}

/// The hierarchies of this host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Hierarchies {
    legacy: Vec<Hierarchy>,
    unified: Option<Unified>,
}

/// Where this process is in the hierarchy of version 2.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Unified {
    own: PathBuf,
    /// Where the hierarchy, or the part of it that is seen here, is mounted.
    top: PathBuf,
}

impl Hierarchies {
    /// Reads them from `/proc`.
    pub(crate) fn read() -> io::Result<Self> {
        let cgroups = fs::read_to_string("/proc/self/cgroup")?;
        let mounts = fs::read_to_string("/proc/self/mountinfo")?;
        Ok(Self::parse(&cgroups, &mounts))
    }

    /// `cgroups(7)`, "/proc files"; `proc_pid_mountinfo(5)`.
    fn parse(cgroups: &str, mounts: &str) -> Self {
        let mut found = Self { legacy: Vec::new(), unified: None };
        for line in cgroups.lines() {
            let mut fields = line.splitn(3, ':').skip(1);
            let (Some(controllers), Some(path)) = (fields.next(), fields.next()) else { continue };
            if controllers.is_empty() {
                found.unified =
                    place(mounts, path, "cgroup2", "").map(|(top, own)| Unified { own: top.join(own), top });
            } else if let Some(first) = controllers.split(',').next().filter(|name| !name.contains('='))
                && let Some((top, own)) = place(mounts, path, "cgroup", first)
            {
                let controllers = controllers.split(',').map(str::to_owned).collect();
                found.legacy.push(Hierarchy { controllers, own: top.join(own) });
            }
        }
        found
    }
}

/// The mount of a hierarchy that shows the cgroup `path`, and where in it that is.
fn place(mounts: &str, path: &str, fstype: &str, option: &str) -> Option<(PathBuf, PathBuf)> {
    // Outside of this cgroup namespace: there is no name for it here.
    if Path::new(path).components().any(|component| component == std::path::Component::ParentDir) {
        return None;
    }
    mounts.lines().find_map(|line| {
        let (before, after) = line.split_once(" - ")?;
        let mut before = before.split(' ').skip(3).map(|field| unescape(field.as_bytes()));
        let (root, point) = (before.next()?, before.next()?);
        let mut after = after.split(' ');
        let has_type = after.next()? == fstype;
        let options = after.nth(1).unwrap_or_default();
        if !has_type || !(option.is_empty() || options.split(',').any(|one| one == option)) {
            return None;
        }
        // In a container the mount may show a part of the hierarchy only, and that need not be ours.
        let below = Path::new(path).strip_prefix(OsStr::from_bytes(&root)).ok()?;
        Some((PathBuf::from(OsStr::from_bytes(&point)), below.to_owned()))
    })
}

/// Cgroups of one container. [Removed](Group::remove) when it has ended; what a dead process leaves is swept.
#[derive(Debug)]
pub(crate) struct Group {
    legacy: Vec<(Vec<String>, PathBuf)>,
    unified: Option<PathBuf>,
    /// Whether the memory limit is in version 2.
    memory: Option<PathBuf>,
}

/// Names of cgroups: which process made it, by number and start time, and which of its containers it is.
fn name(pid: u32, start: u64, number: u64) -> String {
    format!("calque-{pid}-{start}-{number}")
}

fn parse_name(name: &str) -> Option<(i32, u64)> {
    let mut parts = name.strip_prefix("calque-")?.split('-');
    let (pid, start) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
    parts.next()?.parse::<u64>().ok()?;
    parts.next().is_none().then_some((pid, start))
}

impl Group {
    /// Makes them and sets `limits`.
    ///
    /// # Errors
    ///
    /// When a limit can't be enforced. Where no cgroup can be made and none is needed the result is `None`: the
    /// container still ends as one, with its process ID namespace.
    pub(crate) fn make(
        hierarchies: &Hierarchies,
        limits: &Limits,
        id: (u32, u64, u64),
    ) -> Result<Option<Self>, LaunchError> {
        let name = name(id.0, id.1, id.2);
        let mut group = Self { legacy: Vec::new(), unified: None, memory: None };
        match group.fill(hierarchies, limits, &name) {
            Ok(()) => Ok((!group.is_empty()).then_some(group)),
            Err(error) => {
                group.remove();
                Err(error)
            }
        }
    }

    fn is_empty(&self) -> bool {
        self.legacy.is_empty() && self.unified.is_none()
    }

    fn fill(&mut self, hierarchies: &Hierarchies, limits: &Limits, name: &str) -> Result<(), LaunchError> {
        let mut in_unified = Vec::new();
        for controller in KNOWN {
            let needed = limits.wants(controller);
            if !needed && !ALWAYS.contains(&controller) {
                continue;
            }
            let legacy = hierarchies
                .legacy
                .iter()
                .find(|hierarchy| hierarchy.controllers.iter().any(|one| one == controller));
            if let Some(hierarchy) = legacy {
                if self.legacy.iter().any(|(controllers, _)| *controllers == hierarchy.controllers) {
                    continue;
                }
                let directory = hierarchy.own.join(name);
                match fs::create_dir(&directory) {
                    Ok(()) => self.legacy.push((hierarchy.controllers.clone(), directory)),
                    Err(source) if needed => {
                        return Err(LaunchError::Cgroup { op: "make the cgroup", path: directory, source });
                    }
                    Err(_) => {}
                }
            } else if hierarchies.unified.as_ref().is_some_and(|place| place.has(controller)) {
                in_unified.push((controller, needed));
            } else if needed {
                let source = io::Error::from(io::ErrorKind::Unsupported);
                return Err(LaunchError::Cgroup {
                    op: "find the controller",
                    path: controller.into(),
                    source,
                });
            }
        }
        // With its own hierarchy for everything there is nothing that version 2 would add.
        if let Some(place) =
            hierarchies.unified.as_ref().filter(|_| !in_unified.is_empty() || self.legacy.is_empty())
        {
            self.unified = v2::make(place, name, &in_unified)?;
        }
        v1::set(&self.legacy, limits)?;
        if let Some(directory) = &self.unified {
            let controllers: Vec<&str> = in_unified.iter().map(|(name, _)| *name).collect();
            v2::set(directory, &controllers, limits)?;
        }
        if limits.wants("memory") {
            let legacy =
                self.legacy.iter().find(|(controllers, _)| controllers.iter().any(|one| one == "memory"));
            self.memory = legacy.map(|(_, directory)| directory).or(self.unified.as_ref()).cloned();
        }
        Ok(())
    }

    /// How the plan has to deal with them.
    pub(crate) fn facts(&self, at_birth: bool) -> CgroupFacts {
        let view = match (&self.unified, self.legacy.is_empty()) {
            (Some(_), true) => CgroupView::Unified,
            (_, false) => {
                CgroupView::Legacy(self.legacy.iter().map(|(controllers, _)| controllers.clone()).collect())
            }
            (None, true) => CgroupView::Nothing,
        };
        CgroupFacts { join: !self.legacy.is_empty() || self.unified.is_some() && !at_birth, view }
    }

    /// Directory of version 2, to be born in.
    pub(crate) fn birthplace(&self) -> io::Result<Option<OwnedFd>> {
        self.unified.as_ref().map(|directory| Ok(fs::File::open(directory)?.into())).transpose()
    }

    /// Files to which the child writes itself.
    pub(crate) fn doors(&self, at_birth: bool) -> Result<Vec<OwnedFd>, LaunchError> {
        let unified = self.unified.iter().filter(|_| !at_birth);
        self.legacy
            .iter()
            .map(|(_, directory)| directory)
            .chain(unified)
            .map(|directory| {
                let path = directory.join("cgroup.procs");
                match fs::File::options().write(true).open(&path) {
                    Ok(file) => Ok(file.into()),
                    Err(source) => Err(LaunchError::Cgroup { op: "open", path, source }),
                }
            })
            .collect()
    }

    /// Whether the memory limit has killed a process.
    pub(crate) fn oom_killed(&self) -> bool {
        let Some(directory) = &self.memory else { return false };
        let read = |name: &str| fs::read_to_string(directory.join(name)).unwrap_or_default();
        let text = read("memory.events") + &read("memory.oom_control");
        text.lines().any(|line| line.strip_prefix("oom_kill ").is_some_and(|count| count != "0"))
    }

    fn directories(&self) -> impl Iterator<Item = &PathBuf> {
        self.legacy.iter().map(|(_, directory)| directory).chain(&self.unified)
    }

    /// Removes them. What is left in them is killed: nothing should be.
    pub(crate) fn remove(&self) {
        for directory in self.directories() {
            // What can't be removed now is left to the next sweep.
            let _ = remove_directory(directory);
        }
    }
}

/// Removes a cgroup and kills what is in it.
fn remove_directory(directory: &Path) -> io::Result<()> {
    let end = Instant::now() + Duration::from_secs(2);
    loop {
        match fs::remove_dir(directory) {
            Ok(()) => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            // The last process has gone but isn't forgotten yet; or there is one.
            Err(error) if error.raw_os_error() == Some(libc::EBUSY) && Instant::now() < end => {
                kill(directory)?;
                thread::sleep(Duration::from_micros(200));
            }
            Err(error) => return Err(error),
        }
    }
}

/// Kills every process in a cgroup: at once by version 2 (Linux 5.14), else one by one while none can be made.
fn kill(directory: &Path) -> io::Result<()> {
    if fs::write(directory.join("cgroup.kill"), "1").is_ok() {
        return Ok(());
    }
    // Only where the pids controller is: elsewhere the same processes are met again until they are gone.
    let _ = fs::write(directory.join("pids.max"), "0");
    for pid in fs::read_to_string(directory.join("cgroup.procs"))?.lines() {
        if let Some(pid) = pid.parse().ok().and_then(rustix::process::Pid::from_raw) {
            // It may have ended meanwhile.
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
    }
    Ok(())
}

/// Kills and removes what processes that are no more have left.
pub(crate) fn sweep(hierarchies: &Hierarchies) {
    let own = hierarchies.legacy.iter().map(|hierarchy| hierarchy.own.as_path());
    for directory in own.chain(hierarchies.unified.iter().flat_map(Unified::upwards)) {
        for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
            let maker = entry.file_name().to_str().and_then(parse_name);
            let is_dead =
                |(pid, start)| matches!(sys::process::start_time(pid), Ok(now) if now != Some(start));
            if maker.is_some_and(is_dead) {
                let _ = remove_directory(&entry.path());
            }
        }
    }
}

#[cfg(test)]
mod tests;
