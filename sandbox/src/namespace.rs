//! Which namespaces a container gets; pure.

use oci_spec::runtime::{LinuxNamespace, LinuxNamespaceType};
use sys::child;

use crate::error::LaunchError;

/// Namespaces of its own. Mounts and processes always are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub struct Namespaces {
    pub ipc: bool,
    pub uts: bool,
    pub network: bool,
    pub user: bool,
    pub cgroup: bool,
}

impl Namespaces {
    /// # Errors
    ///
    /// What is missing that must be there, or given that isn't supported: without its own mounts there is no root
    /// file system, and without its own process ids nothing ends with the first process.
    pub(crate) fn of(namespaces: &[LinuxNamespace]) -> Result<Self, LaunchError> {
        let has = |kind: LinuxNamespaceType| namespaces.iter().any(|namespace| namespace.typ() == kind);
        if let Some(joined) = namespaces.iter().find(|namespace| namespace.path().is_some()) {
            return Err(LaunchError::Unsupported { what: format!("joining a namespace ({})", joined.typ()) });
        }
        if has(LinuxNamespaceType::Time) {
            return Err(LaunchError::Unsupported { what: "a time namespace".into() });
        }
        for (kind, name) in [(LinuxNamespaceType::Mount, "mount"), (LinuxNamespaceType::Pid, "pid")] {
            if !has(kind) {
                return Err(LaunchError::Unsupported {
                    what: format!("sharing the host's {name} namespace"),
                });
            }
        }
        Ok(Self {
            ipc: has(LinuxNamespaceType::Ipc),
            uts: has(LinuxNamespaceType::Uts),
            network: has(LinuxNamespaceType::Network),
            user: has(LinuxNamespaceType::User),
            cgroup: has(LinuxNamespaceType::Cgroup),
        })
    }

    /// Those that the child is born in. The user namespace is entered later, when all that the host's root must do
    /// is done; the cgroup namespace is left when the child is in its cgroup, which becomes the root of the new one.
    pub(crate) fn at_birth(self) -> child::Namespaces {
        let mut flags = child::Namespaces::MOUNT.and(child::Namespaces::PID);
        for (wanted, flag) in [
            (self.ipc, child::Namespaces::IPC),
            (self.uts, child::Namespaces::UTS),
            (self.network, child::Namespaces::NETWORK),
        ] {
            if wanted {
                flags = flags.and(flag);
            }
        }
        flags
    }
}

#[cfg(test)]
mod tests {
    use oci_spec::runtime::LinuxNamespaceBuilder;

    use super::*;

    fn of(kinds: &[LinuxNamespaceType]) -> Result<Namespaces, LaunchError> {
        let namespaces: Vec<_> =
            kinds.iter().map(|kind| LinuxNamespaceBuilder::default().typ(*kind).build().unwrap()).collect();
        Namespaces::of(&namespaces)
    }

    #[test]
    fn mounts_and_processes_are_never_shared() {
        assert!(of(&[LinuxNamespaceType::Mount, LinuxNamespaceType::Pid]).is_ok());
        assert!(of(&[LinuxNamespaceType::Mount]).unwrap_err().to_string().contains("pid"));
        assert!(of(&[LinuxNamespaceType::Pid]).unwrap_err().to_string().contains("mount"));
    }

    #[test]
    fn a_namespace_to_join_is_refused() {
        let namespace = LinuxNamespaceBuilder::default()
            .typ(LinuxNamespaceType::Network)
            .path("/proc/1/ns/net")
            .build()
            .unwrap();
        assert!(Namespaces::of(&[namespace]).unwrap_err().to_string().contains("joining"));
    }
}
