//! Capabilities by number; pure.

use std::collections::HashSet;

use oci_spec::runtime::{Capability, LinuxCapabilities};
use sys::child::CapabilitySets;

use crate::error::LaunchError;

/// What a process may hold: bit N for capability N of `capabilities(7)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capabilities {
    /// What the program and all its descendants may ever gain.
    pub bounding: u64,
    /// The other sets; inheritable is empty, and so is ambient.
    pub sets: CapabilitySets,
}

impl Capabilities {
    /// None at all when the spec has none.
    ///
    /// # Errors
    ///
    /// Inheritable and ambient sets are refused: a program that isn't trusted with a capability by its file or by
    /// being root would get it from its parent (rule R4).
    pub(crate) fn of(capabilities: Option<&LinuxCapabilities>) -> Result<Self, LaunchError> {
        let none = CapabilitySets { effective: 0, permitted: 0, inheritable: 0 };
        let Some(capabilities) = capabilities else { return Ok(Self { bounding: 0, sets: none }) };
        for (name, set) in [("inheritable", capabilities.inheritable()), ("ambient", capabilities.ambient())]
        {
            if set.as_ref().is_some_and(|set| !set.is_empty()) {
                return Err(LaunchError::Unsupported { what: format!("{name} capabilities") });
            }
        }
        let (effective, permitted) = (bits(capabilities.effective()), bits(capabilities.permitted()));
        if effective & !permitted != 0 {
            return Err(LaunchError::Invalid {
                what: "effective capabilities that are not permitted".into(),
            });
        }
        Ok(Self {
            bounding: bits(capabilities.bounding()),
            sets: CapabilitySets { effective, permitted, ..none },
        })
    }
}

fn bits(set: &Option<HashSet<Capability>>) -> u64 {
    set.iter().flatten().fold(0, |bits, capability| bits | 1 << number(*capability))
}

/// Its number (`linux/capability.h`).
fn number(capability: Capability) -> u32 {
    match capability {
        Capability::Chown => 0,
        Capability::DacOverride => 1,
        Capability::DacReadSearch => 2,
        Capability::Fowner => 3,
        Capability::Fsetid => 4,
        Capability::Kill => 5,
        Capability::Setgid => 6,
        Capability::Setuid => 7,
        Capability::Setpcap => 8,
        Capability::LinuxImmutable => 9,
        Capability::NetBindService => 10,
        Capability::NetBroadcast => 11,
        Capability::NetAdmin => 12,
        Capability::NetRaw => 13,
        Capability::IpcLock => 14,
        Capability::IpcOwner => 15,
        Capability::SysModule => 16,
        Capability::SysRawio => 17,
        Capability::SysChroot => 18,
        Capability::SysPtrace => 19,
        Capability::SysPacct => 20,
        Capability::SysAdmin => 21,
        Capability::SysBoot => 22,
        Capability::SysNice => 23,
        Capability::SysResource => 24,
        Capability::SysTime => 25,
        Capability::SysTtyConfig => 26,
        Capability::Mknod => 27,
        Capability::Lease => 28,
        Capability::AuditWrite => 29,
        Capability::AuditControl => 30,
        Capability::Setfcap => 31,
        Capability::MacOverride => 32,
        Capability::MacAdmin => 33,
        Capability::Syslog => 34,
        Capability::WakeAlarm => 35,
        Capability::BlockSuspend => 36,
        Capability::AuditRead => 37,
        Capability::Perfmon => 38,
        Capability::Bpf => 39,
        Capability::CheckpointRestore => 40,
    }
}

#[cfg(test)]
mod tests {
    use oci_spec::runtime::LinuxCapabilitiesBuilder;

    use super::*;

    fn set(capabilities: &[Capability]) -> HashSet<Capability> {
        capabilities.iter().copied().collect()
    }

    #[test]
    fn sets_become_bits() {
        let capabilities = LinuxCapabilitiesBuilder::default()
            .bounding(set(&[Capability::Chown, Capability::Setfcap, Capability::CheckpointRestore]))
            .effective(set(&[Capability::Chown]))
            .permitted(set(&[Capability::Chown, Capability::Kill]))
            .inheritable(set(&[]))
            .ambient(set(&[]))
            .build()
            .unwrap();
        let capabilities = Capabilities::of(Some(&capabilities)).unwrap();
        assert_eq!(capabilities.bounding, 1 | 1 << 31 | 1 << 40);
        assert_eq!(capabilities.sets, CapabilitySets { effective: 1, permitted: 1 | 1 << 5, inheritable: 0 });
    }

    #[test]
    fn what_would_be_inherited_is_refused() {
        for builder in [
            LinuxCapabilitiesBuilder::default().ambient(set(&[Capability::Chown])).inheritable(set(&[])),
            LinuxCapabilitiesBuilder::default().inheritable(set(&[Capability::Chown])).ambient(set(&[])),
        ] {
            assert!(matches!(
                Capabilities::of(Some(&builder.build().unwrap())),
                Err(LaunchError::Unsupported { .. })
            ));
        }
    }
}
