//! A directory that paths can't leave.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use crate::file::{self, Metadata};
use crate::kernel::{self, Feature};

/// A directory as the root of every path looked up in it.
///
/// Absolute paths and absolute symlinks begin at it, `..` stops at it, magic links (`/proc/PID/fd/*`)
/// are refused: whatever an image or a context holds, a lookup ends inside. Uses `openat2(2)`
/// (Linux 5.6), else one `openat` for each component with its own handling of symlinks.
///
/// Lookups follow symlinks to their end, unless the method says that the last component is taken as
/// it is. What creates or replaces a name resolves the parent here ([`RootDir::parent`]) and then
/// works on the name itself, never through it.
#[derive(Debug)]
pub struct RootDir {
    fd: OwnedFd,
    lookup: Lookup,
}

/// How paths are resolved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lookup {
    /// By the kernel: `openat2(RESOLVE_IN_ROOT)`.
    Openat2,
    /// By us, one component at a time.
    Components,
}

/// The kernel's own limit (`MAXSYMLINKS`).
const MAX_SYMLINKS: usize = 40;
/// The kernel's own limit on a path, its NUL included (`PATH_MAX`).
const PATH_MAX: usize = 4096;

impl RootDir {
    /// Takes `path`, which the host's owner named and which is resolved in the host's root.
    pub fn open(path: &Path) -> io::Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Self::from_fd(rustix::fs::open(path, flags, Mode::empty())?))
    }

    /// Takes an open directory (`O_PATH` will do).
    pub fn from_fd(fd: OwnedFd) -> Self {
        let lookup = if kernel::has(Feature::Openat2) { Lookup::Openat2 } else { Lookup::Components };
        Self { fd, lookup }
    }

    /// Opens `path` with `flags`; `mode` counts where a file is created (`O_CREAT`, which needs
    /// `O_EXCL` or `O_NOFOLLOW` beside it here: an image's dangling symlink must not choose where).
    pub fn open_at(&self, path: &Path, flags: OFlags, mode: u32) -> io::Result<OwnedFd> {
        if flags.contains(OFlags::CREATE) && !flags.intersects(OFlags::EXCL | OFlags::NOFOLLOW) {
            return Err(Errno::INVAL.into());
        }
        let flags = flags | OFlags::CLOEXEC;
        let mode = Mode::from_raw_mode(mode);
        if self.lookup == Lookup::Openat2 {
            let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
            // EAGAIN: something above was renamed while `..` was looked up. Twice is rare, for ever is an attack.
            for _ in 0..8 {
                match rustix::fs::openat2(&self.fd, path, flags, mode, resolve) {
                    Err(Errno::AGAIN) => {}
                    Err(Errno::NOSYS) => break,
                    other => return Ok(other?),
                }
            }
        }
        self.open_by_components(path, flags, mode)
    }

    /// Opens what `path` leads to as a place (`O_PATH`): a file, a directory, anything.
    pub fn open_path(&self, path: &Path) -> io::Result<OwnedFd> {
        self.open_at(path, OFlags::PATH, 0)
    }

    /// As [`RootDir::open_path`], with a symlink at the end taken as it is.
    pub fn open_path_nofollow(&self, path: &Path) -> io::Result<OwnedFd> {
        self.open_at(path, OFlags::PATH | OFlags::NOFOLLOW, 0)
    }

    /// Opens the directory at `path` as a place (`O_PATH`).
    pub fn open_dir(&self, path: &Path) -> io::Result<OwnedFd> {
        self.open_at(path, OFlags::PATH | OFlags::DIRECTORY, 0)
    }

    /// Opens the regular file at `path` for reading; what is no regular file is `EINVAL` and never opened.
    /// The metadata is from before it could be read.
    pub fn open_file(&self, path: &Path) -> io::Result<(OwnedFd, Metadata)> {
        let place = self.open_path(path)?;
        let found = file::metadata(&place)?;
        if !found.is_file() {
            return Err(Errno::INVAL.into());
        }
        // The inode is pinned and known to be a file: reopening it can't reach another one.
        let path = format!("/proc/self/fd/{}", place.as_raw_fd());
        let opened = rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
        Ok((opened, found))
    }

    /// What is at the end of `path`.
    pub fn metadata(&self, path: &Path) -> io::Result<Metadata> {
        file::metadata(self.open_path(path)?)
    }

    /// What is at `path`; a symlink there is not followed.
    pub fn symlink_metadata(&self, path: &Path) -> io::Result<Metadata> {
        file::metadata(self.open_path_nofollow(path)?)
    }

    /// The target of the symlink at `path`.
    pub fn read_link(&self, path: &Path) -> io::Result<OsString> {
        file::read_link_at(self.open_path_nofollow(path)?, c"")
    }

    /// The directory that holds `path`'s last component, and that component, for the `*_at` functions
    /// of [`crate::file`]. The component itself is not looked at. A path that ends in no name (`/`, `.`,
    /// `..`, empty) is `EINVAL`.
    pub fn parent(&self, path: &Path) -> io::Result<(OwnedFd, OsString)> {
        let bytes = path.as_os_str().as_bytes();
        let end = bytes.iter().rposition(|byte| *byte != b'/').map_or(0, |last| last + 1);
        let start = bytes[..end].iter().rposition(|byte| *byte == b'/').map_or(0, |slash| slash + 1);
        let name = &bytes[start..end];
        if matches!(name, b"" | b"." | b"..") || name.contains(&0) {
            return Err(Errno::INVAL.into());
        }
        let parent = if start == 0 { b"." } else { &bytes[..start] };
        let parent = self.open_dir(Path::new(OsStr::from_bytes(parent)))?;
        Ok((parent, OsStr::from_bytes(name).to_owned()))
    }

    /// Resolves as the kernel does, with a descriptor for each directory passed: `..` goes back to the
    /// one we came through, so nothing that is renamed meanwhile can lead outside.
    fn open_by_components(&self, path: &Path, flags: OFlags, mode: Mode) -> io::Result<OwnedFd> {
        let path = path.as_os_str().as_bytes();
        match path {
            [] => return Err(Errno::NOENT.into()),
            _ if path.contains(&0) => return Err(Errno::INVAL.into()),
            _ if path.len() >= PATH_MAX => return Err(Errno::NAMETOOLONG.into()),
            _ => {}
        }
        let exclusive = flags.contains(OFlags::CREATE | OFlags::EXCL);
        let follow_last = !flags.contains(OFlags::NOFOLLOW) && !exclusive;
        let mut rest = path.to_vec();
        let mut passed: Vec<OwnedFd> = Vec::new();
        let mut symlinks = 0;
        loop {
            let here = passed.last().map_or(self.fd.as_fd(), AsFd::as_fd);
            let start = rest.iter().position(|byte| *byte != b'/').unwrap_or(rest.len());
            let end =
                rest[start..].iter().position(|byte| *byte == b'/').map_or(rest.len(), |len| start + len);
            let name = rest[start..end].to_vec();
            rest.drain(..end);
            match name.as_slice() {
                b"" => return open_again(here, flags, mode),
                b"." => continue,
                b".." => {
                    passed.pop();
                    continue;
                }
                _ => {}
            }
            // A slash after the name asks for a directory and follows a symlink whatever the flags say.
            let last = rest.is_empty();
            let pin_flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let pin = match rustix::fs::openat(here, name.as_slice(), pin_flags, Mode::empty()) {
                Err(Errno::NOENT) if last && flags.contains(OFlags::CREATE) => {
                    return Ok(rustix::fs::openat(here, name, flags | OFlags::NOFOLLOW, mode)?);
                }
                other => other?,
            };
            let found = file::metadata(&pin)?;
            if found.is_symlink() && (!last || follow_last) {
                symlinks += 1;
                if symlinks > MAX_SYMLINKS {
                    return Err(Errno::LOOP.into());
                }
                let mut target = file::read_link_at(&pin, c"")?.into_vec();
                if target.first() == Some(&b'/') {
                    passed.clear();
                }
                target.append(&mut rest);
                rest = target;
            } else if last && flags.contains(OFlags::PATH) {
                let must_be_dir = flags.contains(OFlags::DIRECTORY);
                return if must_be_dir && !found.is_dir() { Err(Errno::NOTDIR.into()) } else { Ok(pin) };
            } else if last {
                // If it became a symlink since, this is ELOOP.
                return Ok(rustix::fs::openat(here, name, flags | OFlags::NOFOLLOW, mode)?);
            } else if found.is_dir() {
                passed.push(pin);
            } else {
                return Err(Errno::NOTDIR.into());
            }
        }
    }
}

/// Opens the directory `here` once more with other flags.
fn open_again(here: BorrowedFd<'_>, flags: OFlags, mode: Mode) -> io::Result<OwnedFd> {
    if flags.contains(OFlags::PATH) {
        return Ok(rustix::io::fcntl_dupfd_cloexec(here, 0)?);
    }
    Ok(rustix::fs::openat(here, c".", flags, mode)?)
}

impl AsFd for RootDir {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl From<RootDir> for OwnedFd {
    fn from(root: RootDir) -> Self {
        root.fd
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use proptest::prelude::*;

    use super::*;

    fn root(path: &Path, lookup: Lookup) -> RootDir {
        RootDir { lookup, ..RootDir::open(path).unwrap() }
    }

    const BOTH: [Lookup; 2] = [Lookup::Openat2, Lookup::Components];

    /// A folder `secret` beside the root, and a root with ways out of it.
    fn trap() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("root");
        fs::create_dir_all(root.join("a/b")).unwrap();
        fs::write(dir.path().join("secret"), "outside").unwrap();
        fs::write(root.join("secret"), "inside").unwrap();
        symlink("/secret", root.join("absolute")).unwrap();
        symlink("../../../../secret", root.join("a/b/relative")).unwrap();
        symlink("/", root.join("top")).unwrap();
        symlink("loop", root.join("loop")).unwrap();
        symlink("b/", root.join("a/dir")).unwrap();
        symlink("gone", root.join("dangling")).unwrap();
        dir
    }

    fn read(root: &RootDir, path: &str) -> io::Result<String> {
        io::read_to_string(fs::File::from(root.open_file(Path::new(path))?.0))
    }

    #[test]
    fn an_absolute_symlink_stays_in_the_root() {
        let dir = trap();
        for lookup in BOTH {
            let root = root(&dir.path().join("root"), lookup);
            for path in
                ["absolute", "a/b/relative", "/secret", "../secret", "../../secret", "top/../top/secret"]
            {
                assert_eq!(read(&root, path).unwrap(), "inside", "{lookup:?} {path}");
            }
        }
    }

    #[test]
    fn a_magic_link_is_refused() {
        // Else it leads wherever the process that it belongs to is.
        let root = root(Path::new("/"), Lookup::Openat2);
        for path in ["proc/self/cwd", "proc/self/root/etc", "proc/self/fd/0"] {
            let error = root.open_path(Path::new(path)).unwrap_err();
            assert_eq!(error.raw_os_error(), Some(Errno::LOOP.raw_os_error()), "{path}");
        }
    }

    #[test]
    fn loops_files_as_directories_and_dangling_links_are_errors() {
        let dir = trap();
        for lookup in BOTH {
            let root = root(&dir.path().join("root"), lookup);
            let error = |path: &str| root.open_path(Path::new(path)).unwrap_err().raw_os_error().unwrap();
            assert_eq!(error("loop"), Errno::LOOP.raw_os_error());
            assert_eq!(error("secret/x"), Errno::NOTDIR.raw_os_error());
            assert_eq!(error("secret/"), Errno::NOTDIR.raw_os_error());
            assert_eq!(error("secret/.."), Errno::NOTDIR.raw_os_error());
            assert_eq!(error("dangling"), Errno::NOENT.raw_os_error());
            assert_eq!(error(""), Errno::NOENT.raw_os_error());
            assert_eq!(error(&"x".repeat(300)), Errno::NAMETOOLONG.raw_os_error());
            assert_eq!(error(&"./".repeat(3000)), Errno::NAMETOOLONG.raw_os_error());
            assert!(root.symlink_metadata(Path::new("loop")).unwrap().is_symlink());
            assert!(root.symlink_metadata(Path::new("a/dir/")).unwrap().is_dir());
        }
    }

    #[test]
    fn a_file_is_not_created_through_a_symlink() {
        let dir = trap();
        for lookup in BOTH {
            let root = root(&dir.path().join("root"), lookup);
            let create = |path: &str, flags| {
                root.open_at(Path::new(path), OFlags::CREATE | OFlags::WRONLY | flags, 0o600).map(drop)
            };
            assert!(create("dangling", OFlags::empty()).is_err());
            assert!(create("dangling", OFlags::EXCL).is_err());
            assert!(create("dangling", OFlags::NOFOLLOW).is_err());
            assert!(!dir.path().join("root/gone").exists());
            create("top/a/dir/new", OFlags::EXCL).unwrap();
            assert!(dir.path().join("root/a/b/new").exists());
            fs::remove_file(dir.path().join("root/a/b/new")).unwrap();
        }
    }

    #[test]
    fn a_pipe_is_refused_and_not_opened() {
        let dir = trap();
        let path = dir.path().join("root/pipe");
        rustix::fs::mknodat(
            rustix::fs::CWD,
            &path,
            rustix::fs::FileType::Fifo,
            Mode::from_raw_mode(0o600),
            0,
        )
        .unwrap();
        for lookup in BOTH {
            let root = root(&dir.path().join("root"), lookup);
            let error = root.open_file(Path::new("pipe")).unwrap_err();
            assert_eq!(error.raw_os_error(), Some(Errno::INVAL.raw_os_error()));
        }
    }

    #[test]
    fn the_last_component_is_lexical_in_parent() {
        let dir = trap();
        for lookup in BOTH {
            let root = root(&dir.path().join("root"), lookup);
            let (parent, name) = root.parent(Path::new("top/a/dir/")).unwrap();
            assert_eq!(name, "dir");
            assert!(file::metadata_at(parent, name.as_os_str()).unwrap().is_symlink());
            for path in ["", "/", ".", "a/..", "a/.", "//"] {
                let error = root.parent(Path::new(path)).unwrap_err();
                assert_eq!(error.raw_os_error(), Some(Errno::INVAL.raw_os_error()), "{path}");
            }
        }
    }

    /// Names that often exist, joined in ways that often go wrong.
    fn any_path() -> impl Strategy<Value = String> {
        let part = prop_oneof![
            4 => prop::sample::select(vec!["a", "b", "c", "d"]),
            1 => Just(".."),
            1 => Just("."),
            1 => Just(""),
        ];
        (any::<bool>(), prop::collection::vec(part, 1..6)).prop_map(|(absolute, parts)| {
            let path = parts.join("/");
            if absolute || path.is_empty() { format!("/{path}") } else { path }
        })
    }

    #[derive(Clone, Debug)]
    enum Make {
        Dir(String),
        File(String),
        Link(String, String),
    }

    fn any_make() -> impl Strategy<Value = Make> {
        prop_oneof![
            any_path().prop_map(Make::Dir),
            any_path().prop_map(Make::File),
            (any_path(), any_path()).prop_map(|(path, target)| Make::Link(path, target)),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 400, rng_seed: proptest::test_runner::RngSeed::Fixed(1), failure_persistence: None, ..ProptestConfig::default() })]
        #[test]
        fn both_lookups_agree_and_never_leave(
            makes in prop::collection::vec(any_make(), 0..24),
            paths in prop::collection::vec(any_path(), 1..24),
        ) {
            let outside = tempfile::tempdir().unwrap();
            let path = outside.path().join("root");
            fs::create_dir(&path).unwrap();
            for name in ["a", "b", "c", "d"] {
                fs::create_dir(outside.path().join(name)).unwrap();
            }
            let [kernel, own] = BOTH.map(|lookup| root(&path, lookup));
            for make in &makes {
                let (Make::Dir(at) | Make::File(at) | Make::Link(at, _)) = make;
                // What can't be made is left out: the point is what is there in the end.
                let Ok((parent, name)) = kernel.parent(Path::new(at)) else { continue };
                let _ = match make {
                    Make::Dir(_) => file::create_dir_at(parent, name.as_os_str(), 0o755),
                    Make::File(_) => file::create_file_at(parent, name.as_os_str(), 0o644).map(drop),
                    Make::Link(_, target) => file::create_symlink_at(target.as_str(), parent, name.as_os_str()),
                };
            }
            let mut inside = Vec::new();
            let mut todo = vec![path.clone()];
            while let Some(dir) = todo.pop() {
                inside.push(file::metadata(RootDir::open(&dir).unwrap()).unwrap().identity);
                for entry in fs::read_dir(&dir).unwrap() {
                    let entry = entry.unwrap();
                    if entry.file_type().unwrap().is_dir() {
                        todo.push(entry.path());
                    } else {
                        let place = kernel.open_path_nofollow(entry.path().strip_prefix(&path).unwrap());
                        inside.push(file::metadata(place.unwrap()).unwrap().identity);
                    }
                }
            }
            for path in &paths {
                let path = Path::new(path);
                for flags in [OFlags::PATH, OFlags::PATH | OFlags::NOFOLLOW, OFlags::PATH | OFlags::DIRECTORY, OFlags::RDONLY] {
                    let [by_kernel, by_us] = [&kernel, &own].map(|root| {
                        root.open_at(path, flags, 0)
                            .and_then(file::metadata)
                            .map(|found| found.identity)
                            .map_err(|error| error.raw_os_error())
                    });
                    prop_assert_eq!(&by_kernel, &by_us, "{:?} {:?}", path, flags);
                    if let Ok(identity) = by_us {
                        prop_assert!(inside.contains(&identity), "{:?} left the root", path);
                    }
                }
            }
        }
    }
}
