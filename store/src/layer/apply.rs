//! A tar stream as a layer's tree.

use std::ffi::OsStr;
use std::io::{self, Read};
use std::os::fd::BorrowedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use sys::file::{FileType, Owner, Timestamp};

use super::reader::{Member, MemberKind, TarReader};
use super::walk::to_path;
use super::whiteout::{self, TarName};
use crate::merged::{Merged, MergedError};
use crate::tree_writer::{Attributes, DirAttributes, TreeWriter, WriteDir, WriteError};

/// What a layer may cost at most: the tar comes from elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ApplyLimits {
    /// Entries of any kind.
    pub entries: u64,
    /// Bytes of all files together.
    pub size_bytes: u64,
}

impl Default for ApplyLimits {
    fn default() -> Self {
        Self { entries: 10_000_000, size_bytes: 1 << 40 }
    }
}

/// What a tar stream held.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ApplyFacts {
    /// Entries in it, whiteouts included.
    pub entries: u64,
    /// Bytes of all files together.
    pub size_bytes: u64,
}

/// Why a tar wasn't applied. The tree is part written: discard it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ApplyError {
    /// The entry, or a link's target, leaves the root.
    #[error("entry `{}` escapes the layer root", entry.display())]
    Escape {
        /// The entry as the tar names it.
        entry: PathBuf,
    },
    /// The entry can't be what it says.
    #[error("entry `{}` {reason}", entry.display())]
    Invalid {
        /// The entry as the tar names it.
        entry: PathBuf,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// More entries, bytes or levels than allowed.
    #[error("layer has more than {limit} {what}")]
    Limit {
        /// What is counted.
        what: &'static str,
        /// How many are allowed.
        limit: u64,
    },
    /// The stream is no tar, or ends early.
    #[error("cannot read the layer's tar")]
    Read {
        /// The cause.
        source: io::Error,
    },
    /// The tree can't be written.
    #[error("cannot {op} `{}`", path.display())]
    Io {
        /// What was attempted.
        op: &'static str,
        /// The path in the tree.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
}

/// Applies one *uncompressed* layer tar to the empty directory `tree` (`O_PATH` will do).
///
/// The tar is hostile until checked: no entry, link or whiteout reaches outside of `tree`, and none brings a
/// device 0:0 or an attribute of overlayfs's own. A whiteout stands for what lower layers left, never for what
/// this layer wrote (image-spec `layer.md`, "Whiteouts"): where the layer has both, the entry stays and hides
/// what is below it. An entry may come several times, the last counts; missing parents are root's with mode
/// 0755. The stream is read to its end, beyond the tar's.
///
/// # Errors
///
/// On any error `tree` is part written: discard it.
pub fn apply_tar(
    tar: &mut dyn Read,
    tree: BorrowedFd<'_>,
    limits: ApplyLimits,
) -> Result<ApplyFacts, ApplyError> {
    let root = Path::new("/");
    let tree = tree.try_clone_to_owned().map_err(|source| ApplyError::Io {
        op: "open",
        path: root.into(),
        source,
    })?;
    let nothing = Merged::new(Vec::new()).map_err(|error| from_lookup(error, b""))?;
    let writer = TreeWriter::new(tree, &nothing).map_err(|error| from_write(error, b""))?;
    let base = writer.root().map_err(|error| from_write(error, b""))?;
    let missing = Attributes::parent_dir(Timestamp::from_seconds(0));
    let mut unpack = Unpack { purpose: Purpose::Layer, ..Unpack::new(&writer, base, &missing, limits) };
    let facts = unpack.all(tar)?;
    writer.finish().map_err(|error| from_write(error, b""))?;
    Ok(facts)
}

/// What is unpacked, which decides about names that begin with `.wh.` and about the root's own entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Purpose {
    Layer,
    Files { owner: Option<Owner> },
}

/// Unpacks the files of `tar` into `base`; see [`TreeWriter::extract`].
pub(crate) fn unpack_files(
    writer: &TreeWriter,
    base: WriteDir<'_>,
    tar: &mut dyn Read,
    owner: Option<Owner>,
    missing: &Attributes,
    limits: ApplyLimits,
) -> Result<ApplyFacts, ApplyError> {
    Unpack { purpose: Purpose::Files { owner }, ..Unpack::new(writer, base, missing, limits) }.all(tar)
}

struct Unpack<'w> {
    writer: &'w TreeWriter,
    base: WriteDir<'w>,
    purpose: Purpose,
    missing: &'w Attributes,
    limits: ApplyLimits,
    facts: ApplyFacts,
    /// The directories from below `base` down to the last entry's parent, as long as none of them was
    /// replaced: most entries follow one of the same directory.
    parents: Vec<(Vec<u8>, WriteDir<'w>)>,
}

/// The bytes of trailing zeros, or whatever follows a tar, at most.
const MAX_TRAILER_BYTES: u64 = 64 * 1024 * 1024;
/// `PATH_MAX` and `NAME_MAX`, without the NUL.
const MAX_PATH_LEN: usize = 4095;
const MAX_NAME_LEN: usize = 255;

impl<'w> Unpack<'w> {
    fn new(writer: &'w TreeWriter, base: WriteDir<'w>, missing: &'w Attributes, limits: ApplyLimits) -> Self {
        let facts = ApplyFacts::default();
        Self { writer, base, purpose: Purpose::Layer, missing, limits, facts, parents: Vec::new() }
    }

    fn all(&mut self, tar: &mut dyn Read) -> Result<ApplyFacts, ApplyError> {
        let mut reader = TarReader::new(tar);
        while let Some(member) = reader.next().map_err(|source| ApplyError::Read { source })? {
            self.facts.entries += 1;
            if self.facts.entries > self.limits.entries {
                return Err(ApplyError::Limit { what: "entries", limit: self.limits.entries });
            }
            self.facts.size_bytes = self.facts.size_bytes.saturating_add(member.size_bytes);
            if self.facts.size_bytes > self.limits.size_bytes {
                return Err(ApplyError::Limit { what: "bytes", limit: self.limits.size_bytes });
            }
            self.member(&member, &mut reader)?;
        }
        reader.drain(MAX_TRAILER_BYTES).map_err(|source| ApplyError::Read { source })?;
        Ok(self.facts)
    }

    fn member(&mut self, member: &Member, data: &mut dyn Read) -> Result<(), ApplyError> {
        let names = components(&member.path)?;
        let attributes = self.attributes(member)?;
        let Some((name, parents)) = names.split_last() else {
            // The root itself: only ever a directory.
            return match (member.kind, self.purpose) {
                (MemberKind::Is(FileType::Directory), Purpose::Layer) => {
                    self.base.set_attributes(&attributes).map_err(|error| from_write(error, &member.path))
                }
                (MemberKind::Is(FileType::Directory), Purpose::Files { .. }) => Ok(()),
                _ => Err(invalid(&member.path, "would replace the root")),
            };
        };
        match (whiteout::parse_tar_name(name), self.purpose) {
            (TarName::Plain, _) if parents.iter().any(|parent| parent.starts_with(whiteout::PREFIX)) => {
                // aufs kept its own files in such directories.
                if parents.iter().any(|parent| whiteout::parse_tar_name(parent) == TarName::Bookkeeping) {
                    return Ok(());
                }
                Err(invalid(&member.path, "lies below a whiteout"))
            }
            (TarName::Plain, _) => self.entry(member, parents, name, &attributes, data),
            (_, Purpose::Files { .. }) => {
                Err(invalid(&member.path, "has a name that marks a removed file in layers"))
            }
            (TarName::Bookkeeping, _) => Ok(()),
            (TarName::Reserved, _) => Err(invalid(&member.path, "is a whiteout of nothing")),
            (TarName::Opaque, _) => {
                let dir = self.parent(parents, &member.path)?;
                dir.set_opaque().map_err(|error| from_write(error, &member.path))
            }
            (TarName::Whiteout(name), _) => {
                let dir = self.parent(parents, &member.path)?;
                dir.write_whiteout(OsStr::from_bytes(name)).map_err(|error| from_write(error, &member.path))
            }
        }
    }

    fn entry(
        &mut self,
        member: &Member,
        parents: &[&[u8]],
        name: &[u8],
        attributes: &Attributes,
        data: &mut dyn Read,
    ) -> Result<(), ApplyError> {
        let dir = self.parent(parents, &member.path)?;
        let name = OsStr::from_bytes(name);
        let link = OsStr::from_bytes(&member.link);
        match self.write(member, &dir, name, link, attributes, data) {
            // What is there gives way. The data hasn't been touched: it is read once the file is made.
            Err(Failure::Write(WriteError::IsADirectory { .. } | WriteError::NotADirectory { .. })) => {
                self.parents.clear();
                dir.remove(name).map_err(|error| from_write(error, &member.path))?;
                self.write(member, &dir, name, link, attributes, data)
            }
            other => other,
        }
        .map_err(|failure| match failure {
            Failure::Write(error) => from_write(error, &member.path),
            Failure::Apply(error) => error,
        })
    }

    fn write(
        &mut self,
        member: &Member,
        dir: &WriteDir<'w>,
        name: &OsStr,
        link: &OsStr,
        attributes: &Attributes,
        mut data: &mut dyn Read,
    ) -> Result<(), Failure> {
        let refuse = |reason| Err(Failure::Apply(invalid(&member.path, reason)));
        match member.kind {
            MemberKind::Is(FileType::Directory) => {
                dir.create_dir(name, DirAttributes::Set(attributes))?;
            }
            MemberKind::Is(FileType::Regular) => {
                dir.write_file(name, &mut data, attributes)?;
            }
            MemberKind::Is(FileType::Symlink) if link.is_empty() => return refuse("is a symlink to nothing"),
            MemberKind::Is(FileType::Symlink)
                if link.len() > MAX_PATH_LEN || link.as_bytes().contains(&0) =>
            {
                return refuse("has a target that can't be");
            }
            MemberKind::Is(FileType::Symlink) => dir.write_symlink(name, link, attributes)?,
            MemberKind::Is(FileType::CharDevice) if member.device == (0, 0) => {
                return refuse("is a device 0:0, which would remove a file");
            }
            MemberKind::Is(file_type) => dir.write_node(name, file_type, member.device, attributes)?,
            MemberKind::HardLink => {
                // Resolved in the root: an absolute target too.
                let names = components(&member.link).map_err(Failure::Apply)?;
                let Some((old_name, old_parents)) = names.split_last() else {
                    return refuse("is a link to the root");
                };
                let old_name = OsStr::from_bytes(old_name);
                let path = self.in_image(old_parents);
                let old_dir = match self.writer.open_existing(&path) {
                    Err(WriteError::Lookup(_)) => return refuse("is a link to a file that isn't there"),
                    other => other?,
                };
                match old_dir.lookup(old_name)? {
                    Some(old) if old.is_dir() => return refuse("is a link to a directory"),
                    Some(_) => {}
                    None => return refuse("is a link to a file that isn't there"),
                }
                match dir.write_link(name, &old_dir, old_name) {
                    Err(WriteError::Lookup(_)) => return refuse("is a link to a file of another layer"),
                    other => other?,
                }
            }
            MemberKind::Sparse => return refuse("is a sparse file in GNU's format, which isn't supported"),
            MemberKind::Unknown => return refuse("has an unknown type"),
        }
        Ok(())
    }

    fn attributes(&self, member: &Member) -> Result<Attributes, ApplyError> {
        // The largest number means "as it is" to chown(2).
        let id = |id: u64| u32::try_from(id).ok().filter(|id| *id != u32::MAX);
        let owner = match self.purpose {
            Purpose::Files { owner: Some(owner) } => owner,
            _ => match (id(member.uid), id(member.gid)) {
                (Some(uid), Some(gid)) => Owner { uid, gid },
                _ => return Err(invalid(&member.path, "has an owner that can't be")),
            },
        };
        let mut xattrs = whiteout::without_overlay(member.xattrs.clone());
        xattrs.sort_unstable();
        Ok(Attributes { mode: member.mode, owner, mtime: member.mtime, xattrs })
    }

    /// Where `names` lead to from the base.
    fn in_image(&self, names: &[&[u8]]) -> PathBuf {
        names.iter().fold(self.base.path().to_owned(), |path, name| path.join(OsStr::from_bytes(name)))
    }

    /// The directory that `names` lead to, symlinks followed in the root, what is missing made.
    fn parent(&mut self, names: &[&[u8]], entry: &[u8]) -> Result<WriteDir<'w>, ApplyError> {
        let common = self
            .parents
            .iter()
            .zip(names)
            .take_while(|((known, _), name)| known.as_slice() == **name)
            .count();
        self.parents.truncate(common);
        for (at, name) in names.iter().enumerate().skip(common) {
            let here = self.parents.last().map_or(&self.base, |(_, dir)| dir);
            let child = here.create_dir(OsStr::from_bytes(name), DirAttributes::IfMissing(self.missing));
            match child {
                Ok(dir) => self.parents.push((name.to_vec(), dir)),
                // A symlink, or a file: resolve all of it; what is found that way isn't remembered.
                Err(WriteError::NotADirectory { .. }) => {
                    let path = self.in_image(names);
                    self.parents.truncate(at);
                    return self
                        .writer
                        .create_dir_all(&path, self.missing)
                        .map_err(|error| from_write(error, entry));
                }
                Err(error) => return Err(from_write(error, entry)),
            }
        }
        Ok(self.parents.last().map_or(&self.base, |(_, dir)| dir).clone())
    }
}

enum Failure {
    Write(WriteError),
    Apply(ApplyError),
}

impl From<WriteError> for Failure {
    fn from(error: WriteError) -> Self {
        Self::Write(error)
    }
}

/// The names of a path in a tar, none for the root. `.` and slashes too many are dropped.
fn components(path: &[u8]) -> Result<Vec<&[u8]>, ApplyError> {
    if path.is_empty() || path.contains(&0) {
        return Err(invalid(path, "has a name that can't be"));
    }
    if path.len() > MAX_PATH_LEN {
        return Err(invalid(path, "has a path that is too long"));
    }
    let mut names = Vec::new();
    for name in path.split(|byte| *byte == b'/') {
        match name {
            b"" | b"." => {}
            b".." => return Err(ApplyError::Escape { entry: to_path(path) }),
            _ if name.len() > MAX_NAME_LEN => return Err(invalid(path, "has a name that is too long")),
            _ => names.push(name),
        }
    }
    Ok(names)
}

fn invalid(entry: &[u8], reason: &'static str) -> ApplyError {
    ApplyError::Invalid { entry: to_path(entry), reason }
}

fn from_lookup(error: MergedError, entry: &[u8]) -> ApplyError {
    match error {
        MergedError::Io { op, path, source } => ApplyError::Io { op, path, source },
        MergedError::SymlinkLoop { .. } => invalid(entry, "lies below too many symlinks"),
        _ => invalid(entry, "lies below something that is no directory"),
    }
}

pub(crate) fn from_write(error: WriteError, entry: &[u8]) -> ApplyError {
    match error {
        WriteError::Lookup(error) => from_lookup(error, entry),
        WriteError::Source { source, .. } => ApplyError::Read { source },
        WriteError::Io { op, path, source } => ApplyError::Io { op, path, source },
        WriteError::BadName { .. } => invalid(entry, "has a name that can't be"),
        WriteError::IsADirectory { .. } | WriteError::NotADirectory { .. } => {
            invalid(entry, "lies below something that is no directory")
        }
    }
}
