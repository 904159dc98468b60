//! A layer's tree as a tar stream.

use std::collections::HashMap;
use std::io::{self, Write};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::sync::mpsc;

use oci::DiffId;
use sys::file::{self, FileType, Identity, Metadata, Owner, Timestamp};
use sys::xattr::Xattr;

use super::header::{Header, Kind, RECORD_LEN, padding};
use super::walk::{self, Other, Step, WalkError};
use super::whiteout;

/// What a tar stream of a layer held.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TarFacts {
    /// Length of the stream.
    pub size_bytes: u64,
    /// Entries in it, whiteouts included.
    pub entries: u64,
    /// Sockets, which a tar can't hold and which are left out.
    pub skipped_sockets: Vec<PathBuf>,
}

/// Why a layer couldn't be written as a tar.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WriteTarError {
    /// A file is named as the layer format names its whiteouts.
    #[error("`{}` can't be in a layer: names that begin with `.wh.` mark removed files", path.display())]
    ReservedName {
        /// The path in the tree.
        path: PathBuf,
    },
    /// Directories are nested deeper than is walked.
    #[error("`{}` is nested too deeply for a layer", path.display())]
    TooDeep {
        /// The path in the tree.
        path: PathBuf,
    },
    /// A file changed while it was read.
    #[error("`{}` changed while it was read", path.display())]
    Changed {
        /// The path in the tree.
        path: PathBuf,
    },
    /// An attribute's name can't be the key of a PAX record.
    #[error("`{}` has an extended attribute that a layer can't hold: `{attribute}`", path.display())]
    BadXattr {
        /// The path in the tree.
        path: PathBuf,
        /// Its name.
        attribute: String,
    },
    /// The tree can't be read.
    #[error("cannot {op} `{}` of the layer", path.display())]
    Read {
        /// What was attempted.
        op: &'static str,
        /// The path in the tree.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The stream's receiver failed.
    #[error("cannot write the layer's tar")]
    Write {
        /// The cause.
        source: io::Error,
    },
}

impl From<WalkError> for WriteTarError {
    fn from(error: WalkError) -> Self {
        match error {
            WalkError::TooDeep { path } => Self::TooDeep { path },
            WalkError::Io { op, path, source } => Self::Read { op, path, source },
        }
    }
}

/// Writes the layer at `tree` (a directory, `O_PATH` will do) as an uncompressed tar: the same tree
/// always gives the same bytes.
///
/// Entries come depth first, names sorted by their bytes; in each directory its opaque mark and its
/// whiteouts come first. Times are exact to the nanosecond. The second and further names of an inode are hard
/// links to the first. The root has an entry, `./`, only where it is more than a directory of root's with
/// mode 0755. Sockets are left out and named in the facts.
pub fn write_tar(tree: BorrowedFd<'_>, out: &mut dyn Write) -> Result<TarFacts, WriteTarError> {
    write_blocks(tree, |block, len| {
        out.write_all(&block[..len])?;
        Ok(block)
    })
}

/// The digest of what [`write_tar`] writes, with a second thread reading ahead of the hash.
pub fn diff_id(tree: BorrowedFd<'_>) -> Result<(DiffId, TarFacts), WriteTarError> {
    // A few blocks go round: enough to cover the latency of opening small files, few enough for the cache.
    let (send_full, full) = mpsc::sync_channel::<(Block, usize)>(BLOCKS_AHEAD);
    let (send_empty, empty) = mpsc::channel::<Block>();
    for _ in 0..BLOCKS_AHEAD {
        send_empty.send(new_block()).expect("the receiver lives in this function");
    }
    std::thread::scope(|scope| {
        let reader = scope.spawn(move || {
            write_blocks(tree, |block, len| {
                send_full.send((block, len)).map_err(|_| io::ErrorKind::BrokenPipe)?;
                Ok(empty.recv().map_err(|_| io::ErrorKind::BrokenPipe)?)
            })
        });
        let mut hasher = oci::Hasher::new();
        for (block, len) in full {
            hasher.update(&block[..len]);
            // The reader is done when it no longer takes blocks.
            let _ = send_empty.send(block);
        }
        let facts = reader.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        Ok((DiffId::new(hasher.finish()), facts))
    })
}

type Block = Box<[u8]>;

const BLOCK_LEN: usize = 256 * 1024;
const BLOCKS_AHEAD: usize = 4;

fn new_block() -> Block {
    vec![0; BLOCK_LEN].into_boxed_slice()
}

/// Hands over full blocks of the tar to `pass`, which gives an empty one back.
fn write_blocks(
    tree: BorrowedFd<'_>,
    pass: impl FnMut(Block, usize) -> io::Result<Block>,
) -> Result<TarFacts, WriteTarError> {
    let mut tar = TarWriter {
        blocks: Blocks { block: new_block(), filled: 0, passed: 0, pass },
        header: Vec::with_capacity(4 * RECORD_LEN),
        facts: TarFacts::default(),
        first_names: HashMap::new(),
    };
    walk::walk(tree, &mut |step| tar.step(step))?;
    tar.finish()
}

/// The tar stream, cut into blocks.
struct Blocks<F> {
    block: Block,
    filled: usize,
    passed: u64,
    pass: F,
}

impl<F: FnMut(Block, usize) -> io::Result<Block>> Blocks<F> {
    fn pass(&mut self) -> Result<(), WriteTarError> {
        let block = std::mem::take(&mut self.block);
        self.passed += self.filled as u64;
        self.block = (self.pass)(block, self.filled).map_err(|source| WriteTarError::Write { source })?;
        self.filled = 0;
        Ok(())
    }

    /// The rest of the block that is being filled; never empty.
    fn spare(&mut self) -> Result<&mut [u8], WriteTarError> {
        if self.filled == self.block.len() {
            self.pass()?;
        }
        Ok(&mut self.block[self.filled..])
    }

    fn write(&mut self, mut bytes: &[u8]) -> Result<(), WriteTarError> {
        while !bytes.is_empty() {
            let spare = self.spare()?;
            let len = spare.len().min(bytes.len());
            spare[..len].copy_from_slice(&bytes[..len]);
            self.filled += len;
            bytes = &bytes[len..];
        }
        Ok(())
    }

    /// Reads `size_bytes` of `file`; fewer are an error, more are left.
    fn read(&mut self, file: &OwnedFd, size_bytes: u64, path: &[u8]) -> Result<(), WriteTarError> {
        let mut left = size_bytes;
        while left > 0 {
            let spare = self.spare()?;
            let len = usize::try_from(left).map_or(spare.len(), |left| left.min(spare.len()));
            let done = rustix::io::retry_on_intr(|| rustix::io::read(file, &mut spare[..len]))
                .map_err(|error| walk::io_error("read", path)(error.into()))?;
            if done == 0 {
                return Err(WriteTarError::Changed { path: walk::to_path(path) });
            }
            self.filled += done;
            left -= done as u64;
        }
        self.write(&[0; RECORD_LEN][..padding(size_bytes)])
    }
}

struct TarWriter<F> {
    blocks: Blocks<F>,
    header: Vec<u8>,
    facts: TarFacts,
    /// Of inodes with several names, the one that was written.
    first_names: HashMap<Identity, Vec<u8>>,
}

impl<F: FnMut(Block, usize) -> io::Result<Block>> TarWriter<F> {
    fn step(&mut self, step: Step<'_>) -> Result<(), WriteTarError> {
        match step {
            Step::Root { metadata, xattrs } => self.directory(b"./", metadata, &xattrs),
            Step::Dir { path, metadata, xattrs } => {
                check_name(path)?;
                self.directory(&[path, b"/"].concat(), metadata, &xattrs)
            }
            Step::Opaque { path: b"" } => self.mark(whiteout::OPAQUE_NAME),
            Step::Opaque { path } => self.mark(&[path, b"/", whiteout::OPAQUE_NAME].concat()),
            Step::Whiteout { path } => {
                check_name(path)?;
                let (parent, name) = path.split_at(name_start(path));
                self.mark(&[parent, whiteout::PREFIX, name].concat())
            }
            Step::Other(other) => self.other(&other),
        }
    }

    fn directory(&mut self, path: &[u8], metadata: &Metadata, xattrs: &[Xattr]) -> Result<(), WriteTarError> {
        let kind = Kind::Node { file_type: FileType::Directory, device: (0, 0) };
        self.entry(path, kind, metadata, xattrs)
    }

    /// A whiteout or opaque mark: an empty file of no one and no time.
    fn mark(&mut self, path: &[u8]) -> Result<(), WriteTarError> {
        self.header.clear();
        Header {
            path,
            kind: Kind::File { size_bytes: 0 },
            mode: 0,
            owner: Owner::ROOT,
            mtime: Timestamp::from_seconds(0),
            xattrs: &[],
        }
        .write(&mut self.header);
        self.facts.entries += 1;
        self.blocks.write(&self.header)
    }

    fn other(&mut self, other: &Other<'_>) -> Result<(), WriteTarError> {
        let Other { path, dir, name, metadata } = other;
        check_name(path)?;
        if metadata.file_type == FileType::Socket {
            self.facts.skipped_sockets.push(walk::to_path(path));
            return Ok(());
        }
        if metadata.links > 1 {
            if let Some(first) = self.first_names.get(&metadata.identity) {
                let first = first.clone();
                return self.entry(path, Kind::HardLink { target: &first }, metadata, &[]);
            }
            self.first_names.insert(metadata.identity, path.to_vec());
        }
        match metadata.file_type {
            FileType::Regular => {
                let file = file::open_file_at(dir, *name).map_err(walk::io_error("open", path))?;
                let xattrs = sys::xattr::all(&file).map_err(walk::io_error("read attributes of", path))?;
                let size_bytes = metadata.size_bytes;
                self.entry(path, Kind::File { size_bytes }, metadata, &whiteout::without_overlay(xattrs))?;
                self.blocks.read(&file, size_bytes, path)
            }
            FileType::Symlink => {
                let target = file::read_link_at(dir, *name).map_err(walk::io_error("read link", path))?;
                let target = std::os::unix::ffi::OsStrExt::as_bytes(target.as_os_str());
                self.entry(path, Kind::Symlink { target }, metadata, &other.xattrs()?)
            }
            file_type => {
                let kind = Kind::Node { file_type, device: metadata.device };
                self.entry(path, kind, metadata, &other.xattrs()?)
            }
        }
    }

    fn entry(
        &mut self,
        path: &[u8],
        kind: Kind<'_>,
        metadata: &Metadata,
        xattrs: &[Xattr],
    ) -> Result<(), WriteTarError> {
        if let Some(bad) = xattrs.iter().find(|xattr| xattr.name.to_bytes().contains(&b'=')) {
            let attribute = bad.name.to_string_lossy().into_owned();
            return Err(WriteTarError::BadXattr { path: walk::to_path(path), attribute });
        }
        self.header.clear();
        let Metadata { mode, owner, mtime, .. } = *metadata;
        Header { path, kind, mode, owner, mtime, xattrs }.write(&mut self.header);
        self.facts.entries += 1;
        self.blocks.write(&self.header)
    }

    fn finish(mut self) -> Result<TarFacts, WriteTarError> {
        self.blocks.write(&[0; 2 * RECORD_LEN])?;
        self.blocks.pass()?;
        self.facts.size_bytes = self.blocks.passed;
        Ok(self.facts)
    }
}

fn name_start(path: &[u8]) -> usize {
    path.iter().rposition(|byte| *byte == b'/').map_or(0, |slash| slash + 1)
}

/// A file that is named as a whiteout would remove another one when the layer is applied.
fn check_name(path: &[u8]) -> Result<(), WriteTarError> {
    if path[name_start(path)..].starts_with(whiteout::PREFIX) {
        return Err(WriteTarError::ReservedName { path: walk::to_path(path) });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::fd::AsFd;
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::path::Path;
    use std::process::Command;

    use sys::xattr;

    use super::*;

    fn tar_of(dir: &Path) -> (Vec<u8>, TarFacts) {
        let tree = file::open_dir_at(rustix::fs::CWD, dir).unwrap();
        let mut out = Vec::new();
        let facts = write_tar(tree.as_fd(), &mut out).unwrap();
        assert_eq!(facts.size_bytes, out.len() as u64);
        let (id, threaded) = diff_id(tree.as_fd()).unwrap();
        assert_eq!((id, threaded), (DiffId::new(oci::Digest::of(&out)), facts.clone()), "both ways agree");
        (out, facts)
    }

    fn set_times(dir: &Path, seconds: i64, nanoseconds: u32) {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.symlink_metadata().unwrap().is_dir() {
                set_times(&path, seconds, nanoseconds);
            }
            file::set_mtime_at(rustix::fs::CWD, &path, Timestamp { seconds, nanoseconds }).unwrap();
        }
    }

    /// A tree with most of what a layer can hold without privilege.
    fn sample() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        fs::set_permissions(root, fs::Permissions::from_mode(0o755)).unwrap();
        fs::create_dir_all(root.join("a/b")).unwrap();
        fs::write(root.join("a/b/file"), vec![7; 70_000]).unwrap();
        fs::write(root.join("a-"), "x".repeat(512)).unwrap();
        fs::hard_link(root.join("a-"), root.join("z")).unwrap();
        symlink("../a-", root.join("a/link")).unwrap();
        symlink("t".repeat(300), root.join("a/long link")).unwrap();
        fs::write(root.join("n".repeat(200)), "long").unwrap();
        for path in ["a", "a/b", "a/b/file", "a-"] {
            let mode = if root.join(path).is_dir() { 0o755 } else { 0o644 };
            fs::set_permissions(root.join(path), fs::Permissions::from_mode(mode)).unwrap();
        }
        fs::set_permissions(root.join("n".repeat(200)), fs::Permissions::from_mode(0o4755)).unwrap();
        set_times(root, 1_000_000_000, 0);
        dir
    }

    #[test]
    #[ignore = "root: owners are part of the bytes"]
    fn root_the_bytes_of_a_layer_never_drift() {
        let dir = sample();
        let (tar, _) = tar_of(dir.path());
        let pinned = "sha256:bd49ec0bd92ae7716fb1c3a49c04feafe36171f8f8cc0a936c2303d780262ce1";
        assert_eq!(oci::Digest::of(&tar).to_string(), pinned);
        assert_eq!(tar_of(sample().path()).0, tar, "another tree of the same content");
    }

    #[test]
    fn the_tar_crate_and_gnu_tar_read_what_is_there() {
        let dir = sample();
        set_times(dir.path(), 1_000_000_000, 123_456_789);
        let (tar, facts) = tar_of(dir.path());
        let mut archive = tar::Archive::new(&tar[..]);
        let mut seen = Vec::new();
        for entry in archive.entries().unwrap() {
            let mut entry = entry.unwrap();
            let pax: Vec<(String, String)> = entry
                .pax_extensions()
                .unwrap()
                .unwrap()
                .map(|pair| pair.unwrap())
                .map(|pair| (pair.key().unwrap().to_owned(), pair.value().unwrap().to_owned()))
                .collect();
            assert!(pax.contains(&("mtime".into(), "1000000000.123456789".into())), "{pax:?}");
            let path = entry.path().unwrap().to_str().unwrap().to_owned();
            let link = entry.link_name().unwrap().map(|link| link.to_str().unwrap().to_owned());
            seen.push((path, entry.header().entry_type(), entry.size(), link));
        }
        assert_eq!(seen.len() as u64, facts.entries);
        use tar::EntryType as Kind;
        let expected = [
            ("a/", Kind::Directory, 0, None),
            ("a/b/", Kind::Directory, 0, None),
            ("a/b/file", Kind::Regular, 70_000, None),
            ("a/link", Kind::Symlink, 0, Some("../a-".to_owned())),
            ("a/long link", Kind::Symlink, 0, Some("t".repeat(300))),
            ("a-", Kind::Regular, 512, None),
            (&"n".repeat(200), Kind::Regular, 4, None),
            ("z", Kind::Link, 0, Some("a-".to_owned())),
        ];
        let mut expected: Vec<_> = expected
            .iter()
            .map(|(path, kind, size, link)| (path.to_string(), *kind, *size, link.clone()))
            .collect();
        // Names sort by bytes within a directory: "a" before "a-".
        assert_eq!(seen, std::mem::take(&mut expected));
        let file = dir.path().with_extension("tar");
        fs::write(&file, &tar).unwrap();
        let out = Command::new("tar")
            .arg("--compare")
            .arg("-f")
            .arg(&file)
            .arg("-C")
            .arg(dir.path())
            .output()
            .unwrap();
        fs::remove_file(&file).unwrap();
        assert!(out.status.success() && out.stdout.is_empty(), "{out:?}");
    }

    #[test]
    #[ignore = "root: makes devices and trusted attributes"]
    fn root_whiteouts_and_opaque_directories_become_markers() {
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        fs::create_dir(dir.path().join("opaque")).unwrap();
        let root = file::open_dir_at(rustix::fs::CWD, dir.path()).unwrap();
        whiteout::set_opaque(file::open_dir_at(&root, "opaque").unwrap()).unwrap();
        whiteout::create(root.as_fd(), c"gone").unwrap();
        xattr::set_at(&root, c"opaque", c"user.kept", b"1").unwrap();
        let (tar, _) = tar_of(dir.path());
        let mut archive = tar::Archive::new(&tar[..]);
        let names: Vec<_> = archive
            .entries()
            .unwrap()
            .map(|entry| {
                let mut entry = entry.unwrap();
                let keys = entry.pax_extensions().unwrap();
                let keys: Vec<_> =
                    keys.into_iter().flatten().map(|pair| pair.unwrap().key().unwrap().to_owned()).collect();
                (
                    entry.path().unwrap().to_str().unwrap().to_owned(),
                    keys.into_iter().filter(|key| key != "mtime").collect::<Vec<_>>(),
                )
            })
            .collect();
        let expected = [
            (".wh.gone", vec![]),
            ("opaque/", vec!["SCHILY.xattr.user.kept".to_owned()]),
            ("opaque/.wh..wh..opq", vec![]),
        ];
        assert_eq!(names, expected.map(|(name, keys)| (name.to_owned(), keys)));
    }

    #[test]
    #[ignore = "root: owners other than our own"]
    fn root_a_changed_root_directory_has_an_entry_of_its_own() {
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        assert_eq!(tar_of(dir.path()).1.entries, 0);
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o700)).unwrap();
        file::set_mtime_at(rustix::fs::CWD, dir.path(), Timestamp::from_seconds(1)).unwrap();
        let (tar, facts) = tar_of(dir.path());
        assert_eq!((facts.entries, &tar[..3]), (1, &b"./\0"[..]));
    }

    #[test]
    fn a_name_that_would_be_a_whiteout_elsewhere_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(".wh.x"), "").unwrap();
        let tree = file::open_dir_at(rustix::fs::CWD, dir.path()).unwrap();
        let error = write_tar(tree.as_fd(), &mut io::sink()).unwrap_err();
        assert!(matches!(error, WriteTarError::ReservedName { .. }), "{error}");
    }

    #[test]
    fn a_socket_is_left_out_and_told() {
        let dir = tempfile::tempdir().unwrap();
        let _listener = std::os::unix::net::UnixListener::bind(dir.path().join("s")).unwrap();
        assert_eq!(tar_of(dir.path()).1.skipped_sockets, [PathBuf::from("s")]);
    }

    #[test]
    fn a_receiver_that_fails_ends_the_writing() {
        struct Full;
        impl Write for Full {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::StorageFull.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let dir = sample();
        let tree = file::open_dir_at(rustix::fs::CWD, dir.path()).unwrap();
        assert!(matches!(write_tar(tree.as_fd(), &mut Full), Err(WriteTarError::Write { .. })));
    }
}
