//! The build context: a folder of the user's, what `.dockerignore` leaves of it, and the digests of its files.
//!
//! A folder is opened once; everything below is reached by descriptor, one component at a time, never through a
//! symlink and never above it. Only regular files are ever opened.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock, RwLock};

use parser::ignore::{Decision, IgnoreError, IgnoreFile};
use rustix::fs::OFlags;
use store::LayerDraft;
use store::stat_index::{NewStatIndex, StatIndex};
use sys::RootDir;
use sys::file::Timestamp;
use sys::xattr::Xattr;

use crate::source_tree::{Content, Entry, Listing, SourceTree, TreeReader};
use parser::nearest;

/// A folder as a build sees it.
pub(crate) struct Context {
    folder: PathBuf,
    root: RootDir,
    ignore: Ignore,
    index: Option<PathBuf>,
    known: Arc<StatIndex>,
    scan: RwLock<Arc<Scan>>,
    /// Where it lies, if it is the build's own.
    _draft: Option<LayerDraft>,
}

/// A context as it was at one moment.
pub(crate) struct Scan {
    started: Timestamp,
    tree: SourceTree,
}

impl Scan {
    fn new(root: &RootDir, ignore: &Ignore, known: &Arc<StatIndex>) -> io::Result<Self> {
        let started = Timestamp::now();
        let metadata = sys::file::metadata(root)?;
        let reader = ContextReader {
            root: RootDir::from_fd(root.as_fd().try_clone_to_owned()?),
            ignore: ignore.patterns.clone(),
            index: Arc::clone(known),
        };
        Ok(Self { started, tree: SourceTree::new(Box::new(reader), metadata) })
    }

    pub(crate) fn tree(&self) -> &SourceTree {
        &self.tree
    }
}

/// Why a folder can't be a context.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ContextError {
    /// It can't be opened, or is no folder.
    #[error("cannot open the build context `{}`", folder.display())]
    Open {
        /// As given.
        folder: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// An ignore file can't be read.
    #[error("cannot read `{}`", path.display())]
    ReadIgnore {
        /// Which.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// An ignore file can't be understood.
    #[error("cannot parse `{}`", path.display())]
    ParseIgnore {
        /// Which.
        path: PathBuf,
        /// The line.
        source: IgnoreError,
    },
    /// The stat index can't be written.
    #[error("cannot keep the stat index of `{}`", folder.display())]
    StatIndex {
        /// The context.
        folder: PathBuf,
        /// Why not.
        source: store::stat_index::SaveError,
    },
}

/// An ignore file and where it stands.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ignore {
    /// As messages name it: `.dockerignore`.
    name: String,
    lines: Vec<String>,
    patterns: IgnoreFile,
}

/// An ignore file is a list of patterns; one of this size is something else.
const IGNORE_LIMIT_BYTES: u64 = 4 << 20;

impl Ignore {
    /// What it matches.
    pub(crate) fn patterns(&self) -> &IgnoreFile {
        &self.patterns
    }

    /// Its lines, white space around them removed.
    pub(crate) fn lines(&self) -> &[String] {
        &self.lines
    }

    /// Finds the ignore file of a build: `<Dockerfile>.dockerignore` stands before `.dockerignore`, and that before
    /// `.containerignore`; they are never merged (D-141).
    pub(crate) fn find(root: &RootDir, dockerfile: Option<&Path>) -> Result<Self, ContextError> {
        if let Some(dockerfile) = dockerfile {
            let mut path = dockerfile.as_os_str().to_owned();
            path.push(".dockerignore");
            let path = PathBuf::from(path);
            let fail = |source| ContextError::ReadIgnore { path: path.clone(), source };
            // The user named the Dockerfile: its neighbour is looked up as he sees it.
            match sys::file::metadata_at(rustix::fs::CWD, &path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(fail(error)),
                Ok(_) => {
                    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
                    let folder = RootDir::open(parent.unwrap_or(Path::new("."))).map_err(fail)?;
                    let name = path.file_name().expect("a suffix was added");
                    let (file, _) = folder.open_file(Path::new(name)).map_err(fail)?;
                    return Self::read(path.clone(), File::from(file));
                }
            }
        }
        for name in [".dockerignore", ".containerignore"] {
            match root.open_file(Path::new(name)) {
                Ok((file, _)) => return Self::read(PathBuf::from(name), File::from(file)),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(source) => return Err(ContextError::ReadIgnore { path: PathBuf::from(name), source }),
            }
        }
        Ok(Self::default())
    }

    fn read(path: PathBuf, file: File) -> Result<Self, ContextError> {
        let mut bytes = Vec::new();
        file.take(IGNORE_LIMIT_BYTES)
            .read_to_end(&mut bytes)
            .map_err(|source| ContextError::ReadIgnore { path: path.clone(), source })?;
        let text = String::from_utf8_lossy(&bytes);
        let patterns = IgnoreFile::parse(&text)
            .map_err(|source| ContextError::ParseIgnore { path: path.clone(), source })?;
        let lines = text.lines().map(|line| line.trim().to_owned()).collect();
        Ok(Self { name: path.display().to_string(), lines, patterns })
    }
}

/// Why a path isn't in the context.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Absence {
    /// It is there, but a line of the ignore file leaves it out.
    Ignored {
        /// `.dockerignore`.
        file: String,
        /// From 1.
        line: usize,
        /// The line's text.
        pattern: String,
    },
    /// It isn't there; another name is near.
    Near {
        /// The path with that name.
        suggestion: String,
    },
    /// It isn't there.
    Unknown,
}

impl Context {
    /// Opens `folder`. `dockerfile` is where the Dockerfile was read from, for its own ignore file; `index` is the
    /// file of the stat index.
    pub(crate) fn open(
        folder: &Path,
        dockerfile: Option<&Path>,
        index: Option<PathBuf>,
    ) -> Result<Self, ContextError> {
        let fail = |source| ContextError::Open { folder: folder.to_path_buf(), source };
        let root = RootDir::open(folder).map_err(fail)?;
        let ignore = Ignore::find(&root, dockerfile)?;
        let known = Arc::new(index.as_deref().map(StatIndex::load).unwrap_or_default());
        let scan = Scan::new(&root, &ignore, &known).map_err(fail)?;
        Ok(Self {
            folder: folder.to_path_buf(),
            root,
            ignore,
            index,
            known,
            scan: RwLock::new(Arc::new(scan)),
            _draft: None,
        })
    }

    /// Takes the folder `below` of what was checked out into a draft, wherever its links lead in there; no ignore file
    /// has a say (D-146).
    pub(crate) fn of_draft(draft: LayerDraft, below: &Path) -> Result<Self, ContextError> {
        let folder = draft.tree_path().to_path_buf();
        let fail = |source| ContextError::Open { folder: below.to_path_buf(), source };
        let below = if below.as_os_str().is_empty() { Path::new(".") } else { below };
        let root = RootDir::open(&folder).and_then(|root| root.open_dir(below)).map_err(fail)?;
        let root = RootDir::from_fd(root);
        let (ignore, known) = (Ignore::default(), Arc::default());
        let scan = RwLock::new(Arc::new(Scan::new(&root, &ignore, &known).map_err(fail)?));
        Ok(Self { folder, root, ignore, index: None, known, scan, _draft: Some(draft) })
    }

    /// What the ignore file leaves of the folder, as it was when it was looked at.
    pub(crate) fn scan(&self) -> Arc<Scan> {
        Arc::clone(&self.scan.read().expect("no thread panics while it holds the scan"))
    }

    /// Looks at the folder anew, if `stale` is still the newest scan.
    pub(crate) fn rescan(&self, stale: &Arc<Scan>) -> Result<Arc<Scan>, ContextError> {
        let mut newest = self.scan.write().expect("no thread panics while it holds the scan");
        if Arc::ptr_eq(&newest, stale) {
            let fail = |source| ContextError::Open { folder: self.folder.clone(), source };
            *newest = Arc::new(Scan::new(&self.root, &self.ignore, &self.known).map_err(fail)?);
        }
        Ok(Arc::clone(&newest))
    }

    /// Keeps the digests for the next build, if there are new ones.
    pub(crate) fn save_index(&self) -> Result<(), ContextError> {
        let scan = self.scan();
        let Some(file) = &self.index else { return Ok(()) };
        if scan.tree.read_count() == 0 {
            return Ok(());
        }
        let mut index = NewStatIndex::new(scan.started);
        scan.tree.collect_digests(&mut index);
        index.save(file).map_err(|source| ContextError::StatIndex { folder: self.folder.clone(), source })
    }

    /// Says why `path` (relative, clean) isn't in the tree.
    pub(crate) fn explain_absence(&self, path: &Path) -> Absence {
        if self.root.symlink_metadata(path).is_ok()
            && let Some(Decision { ignored: true, line, .. }) = self.ignore.patterns.verdict_alone(path)
        {
            let pattern = self.ignore.lines.get(line.wrapping_sub(1)).cloned().unwrap_or_default();
            return Absence::Ignored { file: self.ignore.name.clone(), line, pattern };
        }
        nearest_path(&self.scan().tree, path)
            .map_or(Absence::Unknown, |suggestion| Absence::Near { suggestion })
    }
}

/// The path with the last component that fails replaced by the nearest name beside it.
pub(crate) fn nearest_path(tree: &SourceTree, path: &Path) -> Option<String> {
    let mut known = PathBuf::new();
    for component in path.components() {
        let next = known.join(component);
        if matches!(tree.find(&next, true), Ok(Some(_))) {
            known = next;
            continue;
        }
        let here = tree.find(&known, true).ok()??;
        let names = tree.children(&here.path, here.entry).ok()?;
        let wanted = component.as_os_str().to_string_lossy();
        let rest: PathBuf = path.components().skip(next.components().count()).collect();
        let with_rest = |name: &str| known.join(name).join(&rest);
        let names: Vec<String> = names
            .iter()
            .map(|entry| entry.name.to_string_lossy().into_owned())
            .filter(|name| matches!(tree.find(&with_rest(name), true), Ok(Some(_))))
            .collect();
        let near = nearest(&wanted, names.iter().map(String::as_str))?;
        return Some(with_rest(near).display().to_string().trim_end_matches('/').to_owned());
    }
    None
}

/// A folder of calque's own as a tree, all of it: no ignore file has a say (D-146).
pub(crate) fn folder_tree(folder: &Path) -> io::Result<SourceTree> {
    let root = RootDir::open(folder)?;
    Ok(Scan::new(&root, &Ignore::default(), &Arc::default())?.tree)
}

struct ContextReader {
    root: RootDir,
    ignore: IgnoreFile,
    index: Arc<StatIndex>,
}

impl ContextReader {
    /// `decision` is what the ignore file says of `dir` itself.
    fn list_with(&self, dir: &Path, decision: Option<Decision>) -> io::Result<Listing> {
        let path = if dir.as_os_str().is_empty() { Path::new(".") } else { dir };
        let fd = self.root.open_at(path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW, 0)?;
        let xattrs = sys::xattr::all(&fd)?.into_iter().filter(is_kept).collect();
        let mut entries = Vec::new();
        sys::dir::for_each(&fd, |name, file_type| {
            let os_name = OsStr::from_bytes(name.to_bytes());
            let mut listing = None;
            if !self.ignore.is_empty() {
                let path = dir.join(os_name);
                if let Some(verdict @ Decision { ignored: true, .. }) = self.ignore.verdict(&path, decision) {
                    let may_be_dir = file_type.is_none_or(|kind| kind == sys::file::FileType::Directory);
                    if !may_be_dir || !self.ignore.may_match_below(&path, verdict) {
                        return Ok(());
                    }
                    if !sys::file::metadata_at(&fd, name)?.is_dir() {
                        return Ok(());
                    }
                    // Only for what an exception brings back below it.
                    let below = self.list_with(&path, Some(verdict))?;
                    if below.entries.is_empty() {
                        return Ok(());
                    }
                    listing = Some(below);
                }
            }
            let metadata = match sys::file::metadata_at(&fd, name) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
                metadata => metadata?,
            };
            let mut entry = Entry::new(os_name.to_owned(), metadata, || sys::file::read_link_at(&fd, name))?;
            if let (Some(listing), true) = (listing, entry.is_dir()) {
                entry.content = Content::Dir(OnceLock::from(listing));
            }
            entries.push(entry);
            Ok(())
        })?;
        entries.sort_unstable_by(|a, b| a.name.as_bytes().cmp(b.name.as_bytes()));
        Ok(Listing { entries, xattrs })
    }
}

/// The attributes that a copy out of a context keeps: the user's own and file capabilities. Labels and ACLs belong
/// to the machine that the context lies on.
fn is_kept(xattr: &Xattr) -> bool {
    let name = xattr.name.to_bytes();
    name == b"security.capability" || (name.starts_with(b"user.") && !name.starts_with(b"user.overlay."))
}

impl TreeReader for ContextReader {
    fn list(&self, dir: &Path) -> io::Result<Listing> {
        let decision = if dir.as_os_str().is_empty() { None } else { self.ignore.verdict_alone(dir) };
        self.list_with(dir, decision)
    }

    fn open(&self, file: &Path) -> io::Result<File> {
        Ok(File::from(self.root.open_file(file)?.0))
    }

    fn xattrs(&self, file: &File, _path: &Path) -> io::Result<Vec<Xattr>> {
        Ok(sys::xattr::all(file)?.into_iter().filter(is_kept).collect())
    }

    fn stat_index(&self) -> Option<&StatIndex> {
        Some(&self.index)
    }
}
