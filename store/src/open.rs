//! Opening a store.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use crate::file::{OnPath, names_in};
use crate::format::{Format, Mismatch, VERSION};
use crate::index::Index;
use crate::layout::{FOLDERS, Layout};
use crate::lease::Holder;
use crate::lock::Gate;
use crate::{FileError, durability, gc};

/// Who owns the files of a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StoreMode {
    /// Root of the host: the trees carry the image's own ids.
    Root,
    /// An ordinary user, through a user namespace.
    Rootless,
}

impl StoreMode {
    fn word(self) -> &'static str {
        match self {
            Self::Root => "root",
            Self::Rootless => "rootless",
        }
    }
}

/// Where a store lies and who opens it.
#[derive(Clone, Debug)]
pub struct StoreOptions {
    /// What is kept: `/var/lib/calque` for root.
    pub root: PathBuf,
    /// Sockets and locks, gone with a reboot: `/run/calque/<store>` for root.
    pub runtime: PathBuf,
    /// Root refuses a rootless store and the reverse.
    pub mode: StoreMode,
}

/// Why a store can't be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// A file of it can't be read or made.
    #[error(transparent)]
    File(#[from] FileError),
    /// There are files in the folder, but it is no store.
    #[error(
        "`{}` is not a calque store: it has files but no `format`; name an empty or a new folder as the root",
        root.display()
    )]
    NotAStore {
        /// The folder.
        root: PathBuf,
    },
    /// The file `format` can't be understood.
    #[error("`{}` is damaged; if this is a calque store, move it away and start a new one", path.display())]
    DamagedFormat {
        /// The file.
        path: PathBuf,
        /// What the JSON reader says.
        source: serde_json::Error,
    },
    /// Another calque made it.
    #[error(
        "the store `{}` has format {found}, this calque reads format {VERSION}; use the calque that made it or another root",
        root.display()
    )]
    Version {
        /// The folder.
        root: PathBuf,
        /// Its version.
        found: u32,
    },
    /// A rootless store was opened as root, or the reverse.
    #[error(
        "the store `{}` is {}, this calque runs {}; run it as the store's owner or use another root",
        root.display(), found.word(), wanted.word()
    )]
    Mode {
        /// The folder.
        root: PathBuf,
        /// What it is.
        found: StoreMode,
        /// What was asked for.
        wanted: StoreMode,
    },
    /// Ids on disk are kept in a way that this calque doesn't know.
    #[error("the store `{}` keeps ids as `{found}`, which this calque does not know; use another root", root.display())]
    Ids {
        /// The folder.
        root: PathBuf,
        /// Its scheme.
        found: String,
    },
    /// It belongs to another user.
    #[error("the folder `{}` belongs to user {owner}, not to user {user}; use another one", path.display())]
    Owner {
        /// The folder.
        path: PathBuf,
        /// Its owner.
        owner: u32,
        /// Us.
        user: u32,
    },
    /// Locks and SQLite don't work reliably there.
    #[error(
        "`{}` is on {kind}, a network file system, where locks and overlays do not work; use a root on a local disk",
        root.display()
    )]
    NetworkFileSystem {
        /// The folder.
        root: PathBuf,
        /// Its kind.
        kind: &'static str,
    },
}

/// An open store. Cheap to clone; all clones are one.
#[derive(Clone, Debug)]
pub struct Store {
    pub(crate) inner: Arc<Inner>,
}

#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) options: StoreOptions,
    pub(crate) layout: Layout,
    pub(crate) boot_id: String,
    pub(crate) gate: Gate,
    pub(crate) index: Index,
    pub(crate) holder: Mutex<Option<Holder>>,
}

impl Store {
    /// Opens the store at `options.root`, makes it where there is none, moves what dead processes left to the
    /// trash and drops what another boot of the machine didn't make durable.
    ///
    /// # Errors
    ///
    /// [`OpenError`] where the folder is no store of this format and mode or lies on a network file system.
    pub fn open(options: StoreOptions) -> Result<Store, OpenError> {
        let path = "/proc/sys/kernel/random/boot_id";
        let boot_id = fs::read_to_string(path).on("read", path)?.trim().to_owned();
        Self::open_in_boot(options, boot_id)
    }

    /// As [`Store::open`] in a boot of that name: tests crash the machine with it.
    #[doc(hidden)]
    pub fn open_in_boot(options: StoreOptions, boot_id: String) -> Result<Store, OpenError> {
        let layout = Layout::new(&options.root, &options.runtime);
        make_private_dir(layout.root())?;
        if let Some(kind) = network_file_system(layout.root())? {
            return Err(OpenError::NetworkFileSystem { root: options.root, kind });
        }
        let (format, file) = match read_format(&layout)? {
            Some(found) => found,
            None => make_store(&layout, options.mode)?,
        };
        format.check(options.mode).map_err(|mismatch| match mismatch {
            Mismatch::Version(found) => OpenError::Version { root: options.root.clone(), found },
            Mismatch::Mode(found) => {
                OpenError::Mode { root: options.root.clone(), found, wanted: options.mode }
            }
            Mismatch::Ids(found) => OpenError::Ids { root: options.root.clone(), found },
        })?;
        make_private_dir(layout.runtime())?;
        make_dir(&layout.locks())?;
        let inner = Inner {
            gate: Gate::new(file, layout.format()),
            index: Index::new(layout.clone()),
            holder: Mutex::new(None),
            options,
            layout,
            boot_id,
        };
        let store = Self { inner: Arc::new(inner) };
        gc::sweep_tmp(&store)?;
        durability::check_boot(&store)?;
        Ok(store)
    }

    /// What the store was opened with.
    pub fn options(&self) -> &StoreOptions {
        &self.inner.options
    }

    /// The folder of stat indexes, for [`stat_index`](crate): one file for each build context.
    pub fn contexts_path(&self) -> PathBuf {
        self.layout().contexts()
    }

    pub(crate) fn layout(&self) -> &Layout {
        &self.inner.layout
    }

    /// Moves `path` out of sight, to be unlinked by a later sweep.
    pub(crate) fn discard(&self, path: &Path) -> Result<(), FileError> {
        let to = self.layout().trash().join(crate::id::random_hex::<8>());
        match fs::rename(path, &to) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other.on("move to the trash", path),
        }
    }
}

fn make_dir(path: &Path) -> Result<(), FileError> {
    match fs::DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        other => other.on("make", path),
    }
}

/// Makes a folder that only we can enter, or checks that it is one; its parents are made as others make them.
fn make_private_dir(path: &Path) -> Result<(), OpenError> {
    let found = match fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            if let Some(parent) = path.parent() {
                fs::create_dir_all(parent).on("make", parent)?;
            }
            make_dir(path)?;
            fs::metadata(path)
        }
        other => other,
    };
    let found = found.on("open", path)?;
    if !found.is_dir() {
        return Err(FileError::new("open", path, rustix::io::Errno::NOTDIR).into());
    }
    let user = rustix::process::geteuid().as_raw();
    if found.uid() != user {
        return Err(OpenError::Owner { path: path.to_owned(), owner: found.uid(), user });
    }
    if found.mode() & 0o077 != 0 {
        fs::set_permissions(path, fs::Permissions::from_mode(0o700)).on("close to others", path)?;
    }
    Ok(())
}

fn network_file_system(root: &Path) -> Result<Option<&'static str>, FileError> {
    let found = rustix::fs::statfs(root).on("look at the file system of", root)?;
    Ok(network_file_system_kind(found.f_type as u32))
}

fn network_file_system_kind(magic: u32) -> Option<&'static str> {
    // linux/magic.h and the file systems' own sources.
    Some(match magic {
        0x6969 => "NFS",
        0x517b | 0xff53_4d42 | 0xfe53_4d42 => "SMB/CIFS",
        0x0102_1997 => "9p",
        0x5346_414f => "AFS",
        0x7375_7245 => "Coda",
        0x00c3_6400 => "Ceph",
        0x0bd0_0bd0 => "Lustre",
        0x0116_1970 => "GFS2",
        0x7461_636f => "OCFS2",
        0x4750_4653 => "GPFS",
        0x1983_0326 => "FhGFS/BeeGFS",
        _ => return None,
    })
}

fn read_format(layout: &Layout) -> Result<Option<(Format, File)>, OpenError> {
    let path = layout.format();
    let mut file = match OpenOptions::new().read(true).open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(FileError::new("open", path, error).into()),
    };
    let mut text = String::new();
    (&mut file).take(4096).read_to_string(&mut text).on("read", &path)?;
    match serde_json::from_str(&text) {
        Ok(format) => Ok(Some((format, file))),
        Err(source) => Err(OpenError::DamagedFormat { path, source }),
    }
}

/// Makes an empty folder a store. Another process may do the same: the first file `format` holds.
fn make_store(layout: &Layout, mode: StoreMode) -> Result<(Format, File), OpenError> {
    let ours = |name: &String| FOLDERS.contains(&name.as_str()) || name.starts_with("format");
    if !names_in(layout.root())?.iter().all(ours) {
        // Another process may have been faster, and use it already.
        return read_format(layout)?.ok_or_else(|| OpenError::NotAStore { root: layout.root().to_owned() });
    }
    for folder in FOLDERS {
        make_dir(&layout.root().join(folder))?;
    }
    let made = layout.root().join(format!("format.{}", crate::id::random_hex::<4>()));
    let written =
        OpenOptions::new().write(true).create_new(true).mode(0o600).open(&made).and_then(|mut file| {
            file.write_all(&crate::file::json_bytes(&Format::new(mode)))?;
            // The one file that must never be half there.
            file.sync_all()
        });
    written.on("write", &made)?;
    let linked = fs::hard_link(&made, layout.format());
    fs::remove_file(&made).on("remove", &made)?;
    match linked {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            return Err(FileError::new("make", layout.format(), error).into());
        }
        _ => {}
    }
    read_format(layout)?.ok_or_else(|| OpenError::NotAStore { root: layout.root().to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Place;

    #[test]
    fn a_new_store_is_private_and_opens_again() {
        let place = Place::new();
        place.open();
        let mode = fs::metadata(&place.options().root).unwrap().mode();
        assert_eq!(mode & 0o777, 0o700);
        fs::set_permissions(&place.options().root, fs::Permissions::from_mode(0o755)).unwrap();
        place.open();
        assert_eq!(fs::metadata(&place.options().root).unwrap().mode() & 0o777, 0o700);
    }

    #[test]
    fn a_store_of_another_mode_version_or_id_scheme_is_refused_with_what_to_do() {
        let place = Place::new();
        place.open();
        let error = Store::open(StoreOptions { mode: StoreMode::Rootless, ..place.options() }).unwrap_err();
        assert!(matches!(error, OpenError::Mode { found: StoreMode::Root, .. }), "{error}");
        assert!(error.to_string().contains("use another root"), "{error}");
        let format = place.options().root.join("format");
        fs::write(&format, r#"{"store":"calque","version":9,"mode":"root","ids":"image"}"#).unwrap();
        let error = Store::open(place.options()).unwrap_err();
        assert!(matches!(error, OpenError::Version { found: 9, .. }), "{error}");
        fs::write(&format, r#"{"store":"calque","version":1,"mode":"root","ids":"x"}"#).unwrap();
        assert!(matches!(Store::open(place.options()).unwrap_err(), OpenError::Ids { .. }));
        fs::write(&format, "{").unwrap();
        assert!(matches!(Store::open(place.options()).unwrap_err(), OpenError::DamagedFormat { .. }));
    }

    #[test]
    fn a_folder_with_other_files_is_left_alone() {
        let place = Place::new();
        fs::create_dir_all(&place.options().root).unwrap();
        fs::write(place.options().root.join("thesis.tex"), "").unwrap();
        let error = Store::open(place.options()).unwrap_err();
        assert!(matches!(error, OpenError::NotAStore { .. }), "{error}");
        assert_eq!(fs::read_dir(place.options().root).unwrap().count(), 1);
    }

    #[test]
    fn many_at_once_make_one_store() {
        for _ in 0..10 {
            let place = Place::new();
            std::thread::scope(|scope| {
                for _ in 0..4 {
                    scope.spawn(|| place.open());
                }
            });
            let left = fs::read_dir(place.options().root)
                .unwrap()
                .filter(|entry| entry.as_ref().unwrap().file_name().to_str().unwrap().starts_with("format."));
            assert_eq!(left.count(), 0);
        }
    }

    #[test]
    fn network_file_systems_are_known_by_their_magic() {
        assert_eq!(network_file_system_kind(0x6969), Some("NFS"));
        assert_eq!(network_file_system_kind(0xff53_4d42), Some("SMB/CIFS"));
        assert_eq!(network_file_system_kind(0x0102_1997), Some("9p"));
        for local in [0xef53_u32, 0x0102_1994, 0x5846_5342, 0x9123_683e, 0x794c_7630] {
            assert_eq!(network_file_system_kind(local), None, "{local:x}");
        }
    }
}
