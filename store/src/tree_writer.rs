//! Writing a new layer's tree over a stack of others: what COPY, ADD and WORKDIR do.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ffi::{CStr, CString, OsStr, OsString};
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use sys::file::{self, FileType, Metadata, Owner, Timestamp};
use sys::xattr::{self, Xattr};

use crate::layer::{ApplyError, ApplyFacts, ApplyLimits};
use crate::layer::{apply, whiteout};
use crate::merged::{Dir, Merged, MergedError, Resolved};

/// Why a tree couldn't be written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WriteError {
    /// The path couldn't be looked up.
    #[error(transparent)]
    Lookup(#[from] MergedError),
    /// A directory is in the way of something that is none.
    #[error("`{}` is a directory", path.display())]
    IsADirectory {
        /// The path in the image.
        path: PathBuf,
    },
    /// Something that is no directory is in the way of one.
    #[error("`{}` exists and is not a directory", path.display())]
    NotADirectory {
        /// The path in the image.
        path: PathBuf,
    },
    /// The name is no single component, or one that marks removed files in a layer.
    #[error("`{}` can't be made in a layer", path.display())]
    BadName {
        /// The path in the image.
        path: PathBuf,
    },
    /// The source of a file failed.
    #[error("cannot read the source of `{}`", path.display())]
    Source {
        /// The path in the image.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The kernel refused.
    #[error("cannot {op} `{}`", path.display())]
    Io {
        /// What was attempted.
        op: &'static str,
        /// The path in the image.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
}

/// What a new file, directory, link or device carries. A symlink has no mode.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attributes {
    /// Permission bits with setuid, setgid and sticky.
    pub mode: u32,
    /// Owner.
    pub owner: Owner,
    /// Modification time.
    pub mtime: Timestamp,
    /// Extended attributes; the overlay's own are left out.
    pub xattrs: Vec<Xattr>,
}

/// A file that was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Written {
    /// Its length.
    pub size_bytes: u64,
    /// blake3 of its bytes.
    pub blake3: [u8; 32],
}

/// Which attributes a directory takes that [`WriteDir::create_dir`] is asked for.
#[derive(Clone, Copy, Debug)]
pub enum DirAttributes<'a> {
    /// These, whether it exists or not.
    Set(&'a Attributes),
    /// These if it has to be made; an existing one keeps its own.
    IfMissing(&'a Attributes),
}

/// Writes a layer's tree on top of a stack of lower trees. May be used by several threads, as long as
/// no two write the same name.
///
/// A directory that only lower trees have is copied up when something is made in it. Every directory of
/// the new tree gets the time it should have, and the default ACL that would else rub off on its files, in
/// [`TreeWriter::finish`].
#[derive(Debug)]
pub struct TreeWriter {
    tree: Arc<OwnedFd>,
    lowers: Merged,
    merged: Merged,
    /// What directories get at the end, by path.
    pending: Mutex<BTreeMap<PathBuf, Pending>>,
}

#[derive(Clone, Debug)]
struct Pending {
    mtime: Timestamp,
    default_acl: Option<Vec<u8>>,
}

/// A directory of the new tree: it exists there, with what the lower trees have of it below.
#[derive(Clone, Debug)]
pub struct WriteDir<'a> {
    writer: &'a TreeWriter,
    tree: Arc<OwnedFd>,
    lower: Option<Dir>,
    path: PathBuf,
    /// New entries would inherit its group.
    is_setgid: bool,
}

const DEFAULT_ACL: &CStr = c"system.posix_acl_default";

/// One block of a copy: large enough to make calls rare, small enough to stay in the cache.
const BLOCK_LEN: usize = 256 * 1024;

thread_local! {
    /// The block of this thread: page faults cost more than the copy of a small file.
    static BLOCK: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

impl TreeWriter {
    /// Writes into the directory `tree` (`O_PATH` will do) over `lowers`. An empty tree's root takes the mode,
    /// owner, attributes and time of the lower root.
    pub fn new(tree: OwnedFd, lowers: &Merged) -> Result<Self, WriteError> {
        let root = Path::new("/");
        let tree = Arc::new(tree);
        let merged = lowers.with_top(tree.clone())?;
        let writer = Self { tree, lowers: lowers.clone(), merged, pending: Mutex::default() };
        let is_new = sys::dir::is_empty(&writer.tree).map_err(io_error("read directory", root))?;
        if is_new && lowers.has_trees() {
            let lower = lowers.root()?;
            let attributes = Attributes::of(lower.metadata(), lower.xattrs()?);
            writer.set_dir_attributes(&writer.tree, root, &attributes)?;
        }
        Ok(writer)
    }

    /// The stack with the new tree on top: sees what was written so far.
    pub fn merged(&self) -> &Merged {
        &self.merged
    }

    /// The root directory.
    pub fn root(&self) -> Result<WriteDir<'_>, WriteError> {
        let path = PathBuf::from("/");
        let found = file::metadata(&self.tree).map_err(io_error("stat", &path))?;
        let lower = if self.merged.hides_lowers(&self.lowers) { None } else { Some(self.lowers.root()?) };
        Ok(WriteDir { writer: self, tree: self.tree.clone(), lower, path, is_setgid: is_setgid(&found) })
    }

    /// The directory that `path` leads to, symlinks followed within the stack. What is missing is made
    /// with `missing`; what only lower trees have is copied up with its mode, owner, xattrs and mtime.
    pub fn create_dir_all(&self, path: &Path, missing: &Attributes) -> Result<WriteDir<'_>, WriteError> {
        match self.merged.resolve_missing(path)? {
            Resolved::Found(node) if node.as_dir().is_some() => self.descend(node.path(), missing),
            Resolved::Found(node) => Err(WriteError::NotADirectory { path: node.path().to_owned() }),
            Resolved::Missing { parent, rest } => {
                let mut dir = self.descend(parent.path(), missing)?;
                for name in &rest {
                    dir = dir.create_dir(name, DirAttributes::IfMissing(missing))?;
                }
                Ok(dir)
            }
        }
    }

    /// The directory that `path` leads to, which must exist somewhere in the stack.
    pub fn open_existing(&self, path: &Path) -> Result<WriteDir<'_>, WriteError> {
        let node = self.merged.resolve(path)?;
        if node.as_dir().is_none() {
            return Err(WriteError::NotADirectory { path: node.path().to_owned() });
        }
        // Nothing is missing, so this is never used.
        self.descend(node.path(), &Attributes::parent_dir(Timestamp::from_seconds(0)))
    }

    /// The directory that will hold what is made at `path`, and its name there. Symlinks on the way are
    /// followed; with `follow_last` one at the end too, even where it dangles.
    pub fn create_parents(
        &self,
        path: &Path,
        missing: &Attributes,
        follow_last: bool,
    ) -> Result<(WriteDir<'_>, OsString), WriteError> {
        let bad_name = || WriteError::BadName { path: path.to_owned() };
        if follow_last {
            match self.merged.resolve_missing(path)? {
                Resolved::Found(node) => {
                    let name = node.path().file_name().ok_or_else(bad_name)?.to_owned();
                    let parent = node.path().parent().ok_or_else(bad_name)?;
                    Ok((self.descend(parent, missing)?, name))
                }
                Resolved::Missing { parent, mut rest } => {
                    let name = rest.pop().ok_or_else(bad_name)?;
                    let mut dir = self.descend(parent.path(), missing)?;
                    for name in &rest {
                        dir = dir.create_dir(name, DirAttributes::IfMissing(missing))?;
                    }
                    Ok((dir, name))
                }
            }
        } else {
            let bytes = path.as_os_str().as_bytes();
            let end = bytes.iter().rposition(|byte| *byte != b'/').map_or(0, |last| last + 1);
            let start = bytes[..end].iter().rposition(|byte| *byte == b'/').map_or(0, |slash| slash + 1);
            let name = OsStr::from_bytes(&bytes[start..end]);
            if matches!(name.as_bytes(), b"" | b"." | b"..") {
                return Err(bad_name());
            }
            let parent = Path::new(OsStr::from_bytes(&bytes[..start]));
            Ok((self.create_dir_all(parent, missing)?, name.to_owned()))
        }
    }

    /// Unpacks an uncompressed tar below `path`, as ADD does: no whiteouts; hostile until checked.
    /// `owner` takes the place of the entries' own. Symlinks on an entry's way are followed within the image.
    pub fn extract(
        &self,
        tar: &mut dyn Read,
        path: &Path,
        owner: Option<Owner>,
        missing: &Attributes,
        limits: ApplyLimits,
    ) -> Result<ApplyFacts, ApplyError> {
        let entry = path.as_os_str().as_bytes();
        let base = self.create_dir_all(path, missing).map_err(|error| apply::from_write(error, entry))?;
        apply::unpack_files(self, base, tar, owner, missing, limits)
    }

    /// Sets the times of the directories written to. Without it they stay at the moment of the last write.
    pub fn finish(self) -> Result<(), WriteError> {
        let pending = self.pending.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
        let mut parents = OpenChain::new(self.tree);
        for (path, Pending { mtime, default_acl }) in pending {
            let dir = match parents.open(&path) {
                // Replaced or removed after it was written to.
                Err(error) if is_gone(&error) => continue,
                other => other.map_err(io_error("open", &path))?,
            };
            if let Some(acl) = default_acl {
                xattr::set_at(&dir, c"", DEFAULT_ACL, &acl).map_err(io_error("set attributes of", &path))?;
            }
            file::set_mtime_at(&dir, c".", mtime).map_err(io_error("set the time of", &path))?;
        }
        Ok(())
    }

    /// Goes down `path`, which has no symlink in it and whose directories exist somewhere in the stack.
    fn descend(&self, path: &Path, missing: &Attributes) -> Result<WriteDir<'_>, WriteError> {
        let mut dir = self.root()?;
        for name in path {
            if name != "/" {
                dir = dir.create_dir(name, DirAttributes::IfMissing(missing))?;
            }
        }
        Ok(dir)
    }

    /// Sets all but what [`TreeWriter::finish`] sets.
    fn set_dir_attributes(
        &self,
        dir: &OwnedFd,
        path: &Path,
        attributes: &Attributes,
    ) -> Result<(), WriteError> {
        file::set_owner_at(dir, c".", attributes.owner).map_err(io_error("set the owner of", path))?;
        file::set_mode_at(dir, c".", attributes.mode).map_err(io_error("set the mode of", path))?;
        let mut default_acl = None;
        for Xattr { name, value } in &attributes.xattrs {
            if name.as_c_str() == DEFAULT_ACL {
                default_acl = Some(value.clone());
            } else if !whiteout::is_overlay_xattr(name) {
                xattr::set_at(dir, c"", name, value).map_err(io_error("set attributes of", path))?;
            }
        }
        self.pending().insert(path.to_owned(), Pending { mtime: attributes.mtime, default_acl });
        Ok(())
    }

    fn pending(&self) -> std::sync::MutexGuard<'_, BTreeMap<PathBuf, Pending>> {
        // A panic elsewhere leaves the map whole: each change of it is one insertion.
        self.pending.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl Attributes {
    /// What a directory that had to be made on the way carries: 0755 and root's.
    pub fn parent_dir(mtime: Timestamp) -> Self {
        Self { mode: 0o755, owner: Owner::ROOT, mtime, xattrs: Vec::new() }
    }

    /// What an existing file carries.
    pub fn of(metadata: &Metadata, xattrs: Vec<Xattr>) -> Self {
        Self { mode: metadata.mode, owner: metadata.owner, mtime: metadata.mtime, xattrs }
    }
}

impl<'a> WriteDir<'a> {
    /// The directory of the new tree.
    pub(crate) fn fd(&self) -> &OwnedFd {
        &self.tree
    }

    /// Where it is in the image; absolute, no symlink in it.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What has `name` here, in the new tree or below it; not followed.
    pub fn lookup(&self, name: &OsStr) -> Result<Option<Metadata>, WriteError> {
        let (name, path) = self.name(name)?;
        match self.upper(&name, &path)? {
            Some(found) if whiteout::is_whiteout(&found) => Ok(None),
            Some(found) => Ok(Some(found)),
            None => self.lower_metadata(&name),
        }
    }

    /// The directory `name`: made if it is missing; if it exists it is copied up and, with
    /// [`DirAttributes::Set`], takes those. Something else of that name is [`WriteError::NotADirectory`].
    pub fn create_dir(
        &self,
        name: &OsStr,
        attributes: DirAttributes<'_>,
    ) -> Result<WriteDir<'a>, WriteError> {
        let (name, path) = self.name(name)?;
        let open = || file::open_dir_at(&self.tree, &*name).map_err(io_error("open", &path));
        let mut upper = self.upper(&name, &path)?;
        let mut lower = None;
        let mut hides_lower = false;
        if upper.is_some_and(|found| whiteout::is_whiteout(&found)) {
            file::remove_file_at(&self.tree, &*name).map_err(io_error("remove", &path))?;
            upper = None;
            hides_lower = true;
        } else if let Some(dir) = &self.lower
            && let Some(node) = dir.child(OsStr::from_bytes(name.to_bytes()))?
        {
            match node.as_dir() {
                Some(below) => lower = Some(below.clone()),
                None if upper.is_none() => return Err(WriteError::NotADirectory { path }),
                None => {}
            }
        }
        let dir = match upper {
            Some(found) if found.is_dir() => {
                let dir = open()?;
                if lower.is_some()
                    && whiteout::is_opaque(&dir).map_err(io_error("read attributes of", &path))?
                {
                    lower = None;
                }
                if let DirAttributes::Set(attributes) = attributes {
                    self.writer.set_dir_attributes(&dir, &path, attributes)?;
                }
                dir
            }
            Some(_) => return Err(WriteError::NotADirectory { path }),
            None => {
                match file::create_dir_at(&self.tree, &*name, 0o700) {
                    // Another thread made it since, as a parent of what it writes.
                    Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                    other => other.map_err(io_error("create", &path))?,
                }
                let dir = open()?;
                // Applying a layer there is nothing to look at below, and the whiteout counts.
                if hides_lower && (!self.writer.lowers.has_trees() || self.has_lower_dir(&name)?) {
                    whiteout::set_opaque(&dir).map_err(io_error("make opaque", &path))?;
                }
                let copied_up;
                let attributes = match (attributes, &lower) {
                    (DirAttributes::IfMissing(_), Some(below)) => {
                        copied_up = Attributes::of(below.metadata(), below.xattrs()?);
                        &copied_up
                    }
                    (DirAttributes::Set(given) | DirAttributes::IfMissing(given), _) => given,
                };
                self.writer.set_dir_attributes(&dir, &path, attributes)?;
                dir
            }
        };
        let is_setgid = is_setgid(&file::metadata(&dir).map_err(io_error("stat", &path))?);
        Ok(WriteDir { writer: self.writer, tree: Arc::new(dir), lower, path, is_setgid })
    }

    /// Writes the file `name` from `source`, which is read to its end. Replaces what is no directory.
    pub fn write_file(
        &self,
        name: &OsStr,
        source: &mut dyn Read,
        attributes: &Attributes,
    ) -> Result<Written, WriteError> {
        let (name, path) = self.name(name)?;
        let file = self.create(&name, &path, || file::create_file_at(&self.tree, &*name, 0o600))?;
        let written = copy(source, &file, &path)?;
        self.finish_file(&file, &path, attributes)?;
        Ok(written)
    }

    fn finish_file(&self, file: &OwnedFd, path: &Path, attributes: &Attributes) -> Result<(), WriteError> {
        if self.is_setgid || attributes.owner != Owner::ROOT {
            file::set_owner(file, attributes.owner).map_err(io_error("set the owner of", path))?;
        }
        file::set_mode(file, attributes.mode).map_err(io_error("set the mode of", path))?;
        for Xattr { name, value } in attributes.content_xattrs() {
            xattr::set(file, name, value).map_err(io_error("set attributes of", path))?;
        }
        file::set_mtime(file, attributes.mtime).map_err(io_error("set the time of", path))
    }

    /// As [`WriteDir::write_file`] from an open file of `size_bytes`: its blocks are shared where the file system can,
    /// and holes stay holes.
    pub(crate) fn clone_file(
        &self,
        name: &OsStr,
        source: &OwnedFd,
        size_bytes: u64,
        attributes: &Attributes,
    ) -> Result<(), WriteError> {
        let (name, path) = self.name(name)?;
        let file = self.create(&name, &path, || file::create_file_at(&self.tree, &*name, 0o600))?;
        crate::file_data::copy(source, &file, size_bytes)
            .map_err(|source| WriteError::Source { path: path.clone(), source })?;
        self.finish_file(&file, &path, attributes)
    }

    /// Makes the symlink `name`. Replaces what is no directory.
    pub fn write_symlink(
        &self,
        name: &OsStr,
        target: &OsStr,
        attributes: &Attributes,
    ) -> Result<(), WriteError> {
        let (name, path) = self.name(name)?;
        self.create(&name, &path, || file::create_symlink_at(target, &self.tree, &*name))?;
        self.set_attributes_at(&name, &path, attributes, false)
    }

    /// Makes the device or fifo `name`. Replaces what is no directory. Device 0:0 is refused.
    pub fn write_node(
        &self,
        name: &OsStr,
        file_type: FileType,
        device: (u32, u32),
        attributes: &Attributes,
    ) -> Result<(), WriteError> {
        let (name, path) = self.name(name)?;
        let is_device = matches!(file_type, FileType::CharDevice | FileType::BlockDevice);
        if !(is_device || file_type == FileType::Fifo)
            || file_type == FileType::CharDevice && device == (0, 0)
        {
            return Err(WriteError::BadName { path });
        }
        self.create(&name, &path, || file::create_node_at(&self.tree, &*name, file_type, 0o600, device))?;
        self.set_attributes_at(&name, &path, attributes, true)
    }

    /// Makes `name` another name of `old_name` in `old_dir`, which the new tree itself must hold.
    /// Replaces what is no directory.
    pub fn write_link(
        &self,
        name: &OsStr,
        old_dir: &WriteDir<'_>,
        old_name: &OsStr,
    ) -> Result<(), WriteError> {
        let (name, path) = self.name(name)?;
        let (old_name, old_path) = old_dir.name(old_name)?;
        let old = old_dir.upper(&old_name, &old_path)?.filter(|found| !whiteout::is_whiteout(found));
        let Some(old) = old else {
            return Err(MergedError::NotFound { path: old_path }.into());
        };
        if self.upper(&name, &path)?.is_some_and(|found| found.identity == old.identity) {
            return Ok(());
        }
        self.create(&name, &path, || file::create_link_at(&old_dir.tree, &*old_name, &self.tree, &*name))
    }

    /// Makes `name` another name of the file `old_name` in `old_dir`, a directory of *another* tree that never changes:
    /// for what the same step's earlier layer has at the same path (DESIGN section 4). Replaces what is no directory.
    pub fn write_link_from(
        &self,
        name: &OsStr,
        old_dir: impl AsFd,
        old_name: &OsStr,
    ) -> Result<(), WriteError> {
        let (name, path) = self.name(name)?;
        self.create(&name, &path, || file::create_link_at(old_dir.as_fd(), old_name, &self.tree, &*name))
    }

    /// Removes `name` and all below it; a whiteout hides what lower trees have of it.
    pub fn remove(&self, name: &OsStr) -> Result<(), WriteError> {
        let (name, path) = self.name(name)?;
        if self.upper(&name, &path)?.is_some_and(|found| whiteout::is_whiteout(&found)) {
            return Ok(());
        }
        sys::dir::remove_tree(&self.tree, &*name, None).map_err(io_error("remove", &path))?;
        if self.lower_metadata(&name)?.is_some() {
            whiteout::create(self.tree.as_fd(), &name).map_err(io_error("remove", &path))?;
        }
        Ok(())
    }

    /// Gives the directory these attributes.
    pub fn set_attributes(&self, attributes: &Attributes) -> Result<(), WriteError> {
        self.writer.set_dir_attributes(&self.tree, &self.path, attributes)
    }

    /// Makes the directory hide all that lower trees have of it. The whiteouts in it then hide nothing more.
    pub(crate) fn set_opaque(&self) -> Result<(), WriteError> {
        whiteout::set_opaque(&self.tree).map_err(io_error("make opaque", &self.path))?;
        let entries = sys::dir::reopen(&self.tree)
            .and_then(sys::dir::read_sorted)
            .map_err(io_error("read directory", &self.path))?;
        for entry in entries {
            let path = self.path.join(entry.os_name());
            if self.upper(&entry.name, &path)?.is_some_and(|found| whiteout::is_whiteout(&found)) {
                file::remove_file_at(&self.tree, &*entry.name).map_err(io_error("remove", &path))?;
            }
        }
        Ok(())
    }

    /// Makes a whiteout whether or not there is something to hide. What the new tree itself has stays, and
    /// hides what is below it.
    pub(crate) fn write_whiteout(&self, name: &OsStr) -> Result<(), WriteError> {
        let (name, path) = self.name(name)?;
        let opaque = |dir: &OwnedFd| whiteout::is_opaque(dir).map_err(io_error("read attributes of", &path));
        match self.upper(&name, &path)? {
            Some(found) if found.is_dir() => {
                let dir = file::open_dir_at(&self.tree, &*name).map_err(io_error("open", &path))?;
                if opaque(&dir)? {
                    return Ok(());
                }
                whiteout::set_opaque(&dir).map_err(io_error("make opaque", &path))
            }
            Some(_) => Ok(()),
            None if opaque(&self.tree)? => Ok(()),
            None => whiteout::create(self.tree.as_fd(), &name).map_err(io_error("remove", &path)),
        }
    }

    /// Checks one component.
    fn name(&self, name: &OsStr) -> Result<(CString, PathBuf), WriteError> {
        let bytes = name.as_bytes();
        let path = self.path.join(name);
        let is_component = !matches!(bytes, b"" | b"." | b"..") && !bytes.contains(&b'/');
        match CString::new(bytes) {
            Ok(name) if is_component && !bytes.starts_with(whiteout::PREFIX) => Ok((name, path)),
            _ => Err(WriteError::BadName { path }),
        }
    }

    /// What the new tree itself has of that name.
    fn upper(&self, name: &CStr, path: &Path) -> Result<Option<Metadata>, WriteError> {
        match file::metadata_at(&self.tree, name) {
            Ok(found) => Ok(Some(found)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(io_error("stat", path)(error)),
        }
    }

    fn lower_metadata(&self, name: &CStr) -> Result<Option<Metadata>, WriteError> {
        let Some(lower) = &self.lower else { return Ok(None) };
        Ok(lower.child(OsStr::from_bytes(name.to_bytes()))?.map(|node| *node.metadata()))
    }

    fn has_lower_dir(&self, name: &CStr) -> Result<bool, WriteError> {
        Ok(self.lower_metadata(name)?.is_some_and(|found| found.is_dir()))
    }

    /// Makes something that is no directory with `make`, in place of anything but a directory.
    fn create<T>(
        &self,
        name: &CStr,
        path: &Path,
        mut make: impl FnMut() -> io::Result<T>,
    ) -> Result<T, WriteError> {
        // A lower directory would be hidden with all that is in it: that is for the caller to say, by `remove`,
        // after which a whiteout is what is found here.
        if let Some(lower) = &self.lower
            && lower.child(OsStr::from_bytes(name.to_bytes()))?.is_some_and(|node| node.as_dir().is_some())
            && self.upper(name, path)?.is_none()
        {
            return Err(WriteError::IsADirectory { path: path.to_owned() });
        }
        match make() {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            other => return other.map_err(io_error("create", path)),
        }
        match file::remove_file_at(&self.tree, name) {
            Err(error) if error.kind() == io::ErrorKind::IsADirectory => {
                return Err(WriteError::IsADirectory { path: path.to_owned() });
            }
            other => other.map_err(io_error("replace", path))?,
        }
        make().map_err(io_error("create", path))
    }

    fn set_attributes_at(
        &self,
        name: &CStr,
        path: &Path,
        attributes: &Attributes,
        has_mode: bool,
    ) -> Result<(), WriteError> {
        if self.is_setgid || attributes.owner != Owner::ROOT {
            file::set_owner_at(&self.tree, name, attributes.owner)
                .map_err(io_error("set the owner of", path))?;
        }
        if has_mode {
            file::set_mode_at(&self.tree, name, attributes.mode)
                .map_err(io_error("set the mode of", path))?;
        }
        for Xattr { name: attribute, value } in attributes.content_xattrs() {
            xattr::set_at(&self.tree, name, attribute, value).map_err(io_error("set attributes of", path))?;
        }
        file::set_mtime_at(&self.tree, name, attributes.mtime).map_err(io_error("set the time of", path))
    }
}

impl Attributes {
    fn content_xattrs(&self) -> impl Iterator<Item = &Xattr> {
        self.xattrs.iter().filter(|xattr| !whiteout::is_overlay_xattr(&xattr.name))
    }
}

fn is_setgid(dir: &Metadata) -> bool {
    dir.mode & 0o2000 != 0
}

fn is_gone(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

fn io_error(op: &'static str, path: &Path) -> impl FnOnce(io::Error) -> WriteError {
    let path = path.to_owned();
    move |source| WriteError::Io { op, path, source }
}

/// Copies `source` to its end into the new file, hashing on the way.
fn copy(source: &mut dyn Read, file: &OwnedFd, path: &Path) -> Result<Written, WriteError> {
    BLOCK.with_borrow_mut(|block| {
        block.resize(BLOCK_LEN, 0);
        let mut hasher = blake3::Hasher::new();
        let mut size_bytes = 0;
        let mut ends_in_hole = false;
        loop {
            let len = match source.read(block) {
                Ok(0) => break,
                Ok(len) => len,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(source) => return Err(WriteError::Source { path: path.to_owned(), source }),
            };
            hasher.update(&block[..len]);
            let mut left = &block[..len];
            ends_in_hole = is_zero(left);
            if ends_in_hole {
                // Not written: a hole.
                size_bytes += len as u64;
                continue;
            }
            while !left.is_empty() {
                let done = rustix::io::retry_on_intr(|| rustix::io::pwrite(file, left, size_bytes))
                    .map_err(|error| io_error("write", path)(error.into()))?;
                size_bytes += done as u64;
                left = &left[done..];
            }
        }
        if ends_in_hole {
            rustix::fs::ftruncate(file, size_bytes).map_err(|error| io_error("write", path)(error.into()))?;
        }
        Ok(Written { size_bytes, blake3: *hasher.finalize().as_bytes() })
    })
}

/// Whether there is nothing but zeros; told by the first bytes of most blocks.
fn is_zero(block: &[u8]) -> bool {
    const ZEROS: [u8; 4096] = [0; 4096];
    block.chunks(ZEROS.len()).all(|chunk| *chunk == ZEROS[..chunk.len()])
}

/// Opens directories of a tree by path, in sorted order, through those that are open already. Follows nothing.
struct OpenChain {
    root: Arc<OwnedFd>,
    open: Vec<(OsString, Arc<OwnedFd>)>,
}

impl OpenChain {
    fn new(root: Arc<OwnedFd>) -> Self {
        Self { root, open: Vec::new() }
    }

    fn open(&mut self, path: &Path) -> io::Result<Arc<OwnedFd>> {
        let names: Vec<&OsStr> = path.iter().filter(|name| *name != "/").collect();
        let common = self.open.iter().zip(&names).take_while(|((open, _), name)| open == *name).count();
        self.open.truncate(common);
        for name in &names[common..] {
            let here = self.open.last().map_or(&self.root, |(_, fd)| fd);
            let fd = Arc::new(file::open_dir_at(here, *name)?);
            self.open.push(((*name).to_owned(), fd));
        }
        Ok(self.open.last().map_or(&self.root, |(_, fd)| fd).clone())
    }
}
