//! Options of a mount in a runtime spec; pure.

use std::fmt;

use sys::mount::MountAttrFlags;

use crate::error::LaunchError;

/// Flags of one mount.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attributes(MountAttrFlags);

impl Attributes {
    /// None set.
    pub const NONE: Self = Self(MountAttrFlags::empty());
    /// Can't be written.
    pub const READONLY: Self = Self(MountAttrFlags::MOUNT_ATTR_RDONLY);
    /// Set-user-ID bits and file capabilities have no effect.
    pub const NOSUID: Self = Self(MountAttrFlags::MOUNT_ATTR_NOSUID);
    /// Device nodes can't be opened.
    pub const NODEV: Self = Self(MountAttrFlags::MOUNT_ATTR_NODEV);

    /// Both.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// As the kernel takes them.
    pub fn flags(self) -> MountAttrFlags {
        self.0
    }
}

const NAMES: [(&str, MountAttrFlags); 7] = [
    ("ro", MountAttrFlags::MOUNT_ATTR_RDONLY),
    ("nosuid", MountAttrFlags::MOUNT_ATTR_NOSUID),
    ("noexec", MountAttrFlags::MOUNT_ATTR_NOEXEC),
    ("nodev", MountAttrFlags::MOUNT_ATTR_NODEV),
    ("noatime", MountAttrFlags::MOUNT_ATTR_NOATIME),
    ("strictatime", MountAttrFlags::MOUNT_ATTR_STRICTATIME),
    ("nodiratime", MountAttrFlags::MOUNT_ATTR_NODIRATIME),
];

impl fmt::Display for Attributes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut names = NAMES.iter().filter(|(_, flag)| self.0.contains(*flag)).map(|(name, _)| *name);
        f.write_str(names.next().unwrap_or("rw"))?;
        names.try_for_each(|name| write!(f, ",{name}"))
    }
}

/// An option of the file system: a flag, or a key and its value.
pub(crate) type FsOption = (String, Option<String>);

/// Tells flags of the mount from options of the file system.
pub(crate) fn parse(options: &[String]) -> Result<(Attributes, Vec<FsOption>), LaunchError> {
    let mut flags = MountAttrFlags::empty();
    let mut rest = Vec::new();
    for option in options {
        if let Some((_, flag)) = NAMES.iter().find(|(name, _)| name == option) {
            flags |= *flag;
            continue;
        }
        match option.as_str() {
            // What a new mount has anyway; and `rbind`, whose meaning is decided by the type.
            "rw" | "suid" | "exec" | "dev" | "relatime" | "defaults" | "private" | "rprivate" | "rbind"
            | "bind" => {}
            // The new instance is the only kind since Linux 4.7.
            "newinstance" => {}
            "shared" | "rshared" | "slave" | "rslave" | "unbindable" | "runbindable" | "rro" | "idmap"
            | "ridmap" | "tmpcopyup" => {
                return Err(LaunchError::Unsupported { what: format!("mount option `{option}`") });
            }
            _ => rest.push(match option.split_once('=') {
                Some((key, value)) => (key.to_owned(), Some(value.to_owned())),
                None => (option.clone(), None),
            }),
        }
    }
    Ok((Attributes(flags), rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_and_options_are_told_apart() {
        let options = ["nosuid", "strictatime", "mode=755", "size=65536k", "rw"].map(str::to_owned);
        let (attributes, rest) = parse(&options).unwrap();
        assert_eq!(attributes.to_string(), "nosuid,strictatime");
        assert_eq!(rest, [("mode".into(), Some("755".into())), ("size".into(), Some("65536k".into()))]);
        assert_eq!(Attributes::NONE.to_string(), "rw");
    }

    #[test]
    fn propagation_is_refused() {
        assert!(parse(&["rshared".to_owned()]).unwrap_err().to_string().contains("rshared"));
    }
}
