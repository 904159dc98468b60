//! From an image's settings and the user's to an OCI runtime spec (runtime-spec `config.md`, `config-linux.md`).

use std::collections::HashSet;

use oci_spec::OciSpecError;
use oci_spec::runtime::{
    BoxBuilder, Capability, LinuxBuilder, LinuxCapabilitiesBuilder, LinuxNamespaceBuilder,
    LinuxNamespaceType, Mount, MountBuilder, PosixRlimitBuilder, PosixRlimitType, ProcessBuilder,
    RootBuilder, Spec, SpecBuilder, UserBuilder,
};

use crate::UserIds;

/// What a RUN step, a container and, later, an exec may choose about their process.
#[derive(Clone, Debug)]
pub struct ProcessSettings {
    /// The argv, not empty.
    pub args: Vec<String>,
    /// `KEY=value`.
    pub env: Vec<String>,
    /// Absolute path in the rootfs.
    pub cwd: String,
    /// Whom it runs as.
    pub user: UserIds,
    /// Whether stdio is a pty.
    pub terminal: bool,
    /// Name of the host inside.
    pub hostname: String,
    /// Whether `/` can't be written.
    pub readonly_rootfs: bool,
    /// Whether it shares the host's network namespace.
    pub host_network: bool,
    /// Whether root inside is root on the host.
    pub host_userns: bool,
}

/// The spec could not be put together.
#[derive(Debug, thiserror::Error)]
#[error("cannot describe the container as a runtime spec")]
pub struct SpecError {
    #[from]
    source: OciSpecError,
}

/// docker's 14 capabilities (moby `oci/caps/defaults.go`).
const CAPABILITIES: [Capability; 14] = [
    Capability::Chown,
    Capability::DacOverride,
    Capability::Fsetid,
    Capability::Fowner,
    Capability::Mknod,
    Capability::NetRaw,
    Capability::Setgid,
    Capability::Setuid,
    Capability::Setfcap,
    Capability::Setpcap,
    Capability::NetBindService,
    Capability::SysChroot,
    Capability::Kill,
    Capability::AuditWrite,
];

/// moby `oci/defaults.go`, with the later additions of its advisories.
const MASKED_PATHS: [&str; 12] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
];

const READONLY_PATHS: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// Soft and hard limit of open files, whatever the host says: a step that closes all of 2^30 crawls (PAINS P25).
const OPEN_FILES: (u64, u64) = (1024, 524_288);

/// Sets how large the terminal of the spec's process is at its start.
///
/// # Errors
///
/// [`SpecError`] when a builder refuses what it was given.
pub fn set_console_size(spec: &mut Spec, columns: u16, rows: u16) -> Result<(), SpecError> {
    let size = BoxBuilder::default().width(columns).height(rows).build()?;
    if let Some(process) = spec.process_mut() {
        process.set_console_size(Some(size));
    }
    Ok(())
}

/// Describes one container or step.
///
/// The root path is `rootfs`, as a bundle has it; who launches it replaces it by a mount. Mounts are the kernel's
/// own file systems only; binds are added by the caller.
///
/// # Errors
///
/// [`SpecError`] when a builder refuses what it was given.
pub fn runtime_spec(settings: &ProcessSettings) -> Result<Spec, SpecError> {
    let capabilities: HashSet<Capability> = CAPABILITIES.into_iter().collect();
    // docker: a user other than root starts with none, but file capabilities may give what is in the bounding set.
    let held = if settings.user.uid == 0 { capabilities.clone() } else { HashSet::new() };
    let process = ProcessBuilder::default()
        .terminal(settings.terminal)
        .user(
            UserBuilder::default()
                .uid(settings.user.uid)
                .gid(settings.user.gid)
                .additional_gids(settings.user.additional_gids.clone())
                .build()?,
        )
        .args(settings.args.clone())
        .env(settings.env.clone())
        .cwd(&settings.cwd)
        .capabilities(
            LinuxCapabilitiesBuilder::default()
                .bounding(capabilities)
                .effective(held.clone())
                .permitted(held)
                .inheritable(HashSet::new())
                .ambient(HashSet::new())
                .build()?,
        )
        .rlimits(vec![
            PosixRlimitBuilder::default()
                .typ(PosixRlimitType::RlimitNofile)
                .soft(OPEN_FILES.0)
                .hard(OPEN_FILES.1)
                .build()?,
        ])
        .no_new_privileges(false)
        .build()?;
    let mut kinds = vec![
        LinuxNamespaceType::Mount,
        LinuxNamespaceType::Pid,
        LinuxNamespaceType::Ipc,
        LinuxNamespaceType::Uts,
        LinuxNamespaceType::Cgroup,
    ];
    if !settings.host_network {
        kinds.push(LinuxNamespaceType::Network);
    }
    if !settings.host_userns {
        kinds.push(LinuxNamespaceType::User);
    }
    let namespaces = kinds
        .into_iter()
        .map(|kind| LinuxNamespaceBuilder::default().typ(kind).build())
        .collect::<Result<Vec<_>, _>>()?;
    let linux = LinuxBuilder::default()
        .namespaces(namespaces)
        .masked_paths(MASKED_PATHS.map(str::to_owned))
        .readonly_paths(READONLY_PATHS.map(str::to_owned))
        .build()?;
    Ok(SpecBuilder::default()
        .version("1.0.2")
        .root(RootBuilder::default().path("rootfs").readonly(settings.readonly_rootfs).build()?)
        .hostname(&settings.hostname)
        .process(process)
        .mounts(default_mounts(settings.host_network)?)
        .linux(linux)
        .build()?)
}

fn default_mounts(host_network: bool) -> Result<Vec<Mount>, SpecError> {
    let mount = |target: &str, kind: &str, options: &[&str]| {
        MountBuilder::default()
            .destination(target)
            .typ(kind)
            .source(kind)
            .options(options.iter().map(|&option| option.to_owned()).collect::<Vec<_>>())
            .build()
    };
    let mut mounts = vec![
        mount("/proc", "proc", &["nosuid", "noexec", "nodev"])?,
        mount("/dev", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"])?,
        mount(
            "/dev/pts",
            "devpts",
            &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
        )?,
        mount("/dev/shm", "tmpfs", &["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"])?,
        mount("/dev/mqueue", "mqueue", &["nosuid", "noexec", "nodev"])?,
    ];
    // A sysfs can be mounted only by who owns the network namespace it would show; the host's is bound instead.
    mounts.push(if host_network {
        MountBuilder::default()
            .destination("/sys")
            .typ("none")
            .source("/sys")
            .options(["rbind", "nosuid", "noexec", "nodev", "ro"].map(str::to_owned))
            .build()?
    } else {
        mount("/sys", "sysfs", &["nosuid", "noexec", "nodev", "ro"])?
    });
    mounts.push(mount("/sys/fs/cgroup", "cgroup", &["nosuid", "noexec", "nodev", "ro"])?);
    Ok(mounts)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(uid: u32, host: bool) -> ProcessSettings {
        ProcessSettings {
            args: vec!["true".into()],
            env: vec!["PATH=/bin".into()],
            cwd: "/".into(),
            user: UserIds { uid, ..UserIds::default() },
            terminal: false,
            hostname: "h".into(),
            readonly_rootfs: false,
            host_network: host,
            host_userns: host,
        }
    }

    fn namespace_kinds(spec: &Spec) -> Vec<LinuxNamespaceType> {
        spec.linux()
            .as_ref()
            .unwrap()
            .namespaces()
            .as_ref()
            .unwrap()
            .iter()
            .map(|namespace| namespace.typ())
            .collect()
    }

    #[test]
    fn root_holds_dockers_capabilities_and_others_hold_none() {
        let held = |uid| {
            let spec = runtime_spec(&settings(uid, false)).unwrap();
            let capabilities = spec.process().as_ref().unwrap().capabilities().clone().unwrap();
            assert_eq!(capabilities.bounding().as_ref().unwrap().len(), 14);
            assert!(capabilities.inheritable().as_ref().is_none_or(HashSet::is_empty));
            assert!(capabilities.ambient().as_ref().is_none_or(HashSet::is_empty));
            capabilities.effective().as_ref().map_or(0, HashSet::len)
        };
        assert_eq!((held(0), held(1000)), (14, 0));
    }

    #[test]
    fn sharing_with_the_host_leaves_out_the_namespace_and_binds_sys() {
        let private = runtime_spec(&settings(0, false)).unwrap();
        assert!(namespace_kinds(&private).contains(&LinuxNamespaceType::User));
        assert!(namespace_kinds(&private).contains(&LinuxNamespaceType::Network));
        let shared = runtime_spec(&settings(0, true)).unwrap();
        assert_eq!(namespace_kinds(&shared).len(), 5);
        let sys = shared
            .mounts()
            .as_ref()
            .unwrap()
            .iter()
            .find(|mount| mount.destination().to_str() == Some("/sys"));
        assert!(sys.unwrap().options().as_ref().unwrap().contains(&"rbind".to_owned()));
    }
}
