//! Limits in hierarchies of version 1.

use std::fs;
use std::path::PathBuf;

use super::Limits;
use crate::error::LaunchError;

/// Writes `limits` to the cgroups of the controllers that they concern.
pub(super) fn set(groups: &[(Vec<String>, PathBuf)], limits: &Limits) -> Result<(), LaunchError> {
    for (controllers, directory) in groups {
        for (file, value) in files(controllers, limits) {
            let path = directory.join(file);
            if let Err(source) = fs::write(&path, &value) {
                return Err(LaunchError::Cgroup { op: "set the limit", path, source });
            }
        }
    }
    Ok(())
}

/// In order: memory before memory and swap, which may not be less.
fn files(controllers: &[String], limits: &Limits) -> Vec<(&'static str, String)> {
    let mut files = Vec::new();
    let has = |name: &str| controllers.iter().any(|controller| controller == name);
    if has("pids")
        && let Some(pids) = limits.pids
    {
        files.push(("pids.max", pids.to_string()));
    }
    if has("memory") {
        if let Some(memory) = limits.memory {
            files.push(("memory.limit_in_bytes", memory.to_string()));
        }
        if let Some(both) = limits.memory_and_swap {
            let value = if both == u64::MAX { "-1".to_owned() } else { both.to_string() };
            files.push(("memory.memsw.limit_in_bytes", value));
        }
    }
    if has("cpu") {
        if let Some((quota, period)) = limits.cpu {
            files.push(("cpu.cfs_period_us", period.to_string()));
            files.push(("cpu.cfs_quota_us", quota.to_string()));
        }
        if let Some(shares) = limits.cpu_shares {
            files.push(("cpu.shares", shares.to_string()));
        }
    }
    files
}
