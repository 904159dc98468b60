//! What the store takes on disk.

use std::collections::hash_map::Entry;
use std::collections::{BTreeSet, HashMap};
use std::ffi::CString;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, FileType, StatxFlags};

use crate::file::{OnPath, if_found, names_in};
use crate::layers::LayerSize;
use crate::{
    CacheMountError, Container, ContainerError, ContainerState, FileError, ImageError, LayerError, LayerId,
    Store, TagError,
};

/// What the store takes on disk, as `system df` shows it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Images and the layers they name.
    pub images: UsageGroup,
    /// Containers' uppers and logs.
    pub containers: UsageGroup,
    /// Layers that only cache records name, and cache mounts.
    pub build_cache: UsageGroup,
    /// All of the store's folder, as `du` counts it.
    pub total_bytes: u64,
}

/// One line of `system df`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UsageGroup {
    /// How many there are.
    pub count: u64,
    /// How many are in use.
    pub active: u64,
    /// Bytes on disk.
    pub size_bytes: u64,
    /// Bytes that a prune would free.
    pub reclaimable_bytes: u64,
}

/// Usage can't be counted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UsageError {
    /// A file can't be read.
    #[error(transparent)]
    File(#[from] FileError),
    /// A layer can't be measured.
    #[error(transparent)]
    Layer(#[from] LayerError),
    /// Images can't be read.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// Tags can't be read.
    #[error(transparent)]
    Tag(#[from] TagError),
    /// Containers can't be read.
    #[error(transparent)]
    Container(#[from] ContainerError),
    /// Cache mounts can't be read.
    #[error(transparent)]
    CacheMount(#[from] CacheMountError),
}

impl Store {
    /// Counts what the store takes; layers count as recorded, what can change is walked.
    ///
    /// # Errors
    ///
    /// [`UsageError`] when a folder can't be read.
    pub fn usage(&self) -> Result<Usage, UsageError> {
        let containers = self.containers()?;
        let mut usage = Usage::default();
        let mut in_images = BTreeSet::new();
        let mut in_used_images = BTreeSet::new();
        for id in self.image_ids()? {
            let Some(layers) = self.image_layers(id) else { continue };
            let is_used = containers.iter().any(|container| container.record.image == id);
            usage.images.count += 1;
            usage.images.active += u64::from(is_used);
            in_images.extend(layers.iter().copied());
            if is_used {
                in_used_images.extend(layers);
            }
        }
        let in_containers: BTreeSet<LayerId> =
            containers.iter().flat_map(|container| container.record.layers.iter().copied()).collect();
        let mut sizes = Vec::new();
        for layer in self.layers()? {
            match self.layer_size(&layer) {
                // Collected meanwhile.
                Err(LayerError::Missing(_)) => {}
                Err(LayerError::File(error)) if error.io_error().kind() == io::ErrorKind::NotFound => {}
                other => sizes.push((layer, other?)),
            }
        }
        // Only where layers share files has each to be looked at again.
        let mut linked = sizes.iter().any(|(_, size)| size.shared_disk_bytes > 0).then(Linked::new);
        for (layer, size) in sizes {
            let tree = match &mut linked {
                None => size.disk_bytes,
                Some(linked) => match layer.open_tree() {
                    Err(LayerError::Missing(_)) => continue,
                    other => measure_with(other?.as_fd(), linked).on("walk", layer.tree_path())?.disk_bytes,
                },
            };
            let bytes = tree + folder_without(&layer.dir, "tree")?;
            usage.total_bytes += bytes;
            let is_kept = in_containers.contains(&layer.id) || in_used_images.contains(&layer.id);
            let group =
                if in_images.contains(&layer.id) { &mut usage.images } else { &mut usage.build_cache };
            group.add(bytes, is_kept);
            if !in_images.contains(&layer.id) {
                usage.build_cache.count += 1;
                usage.build_cache.active += u64::from(is_kept);
            }
        }
        for Container { record, state } in &containers {
            let is_running = matches!(state, ContainerState::Running { .. });
            let bytes = walk(&self.layout().container(&record.id))?;
            usage.total_bytes += bytes;
            usage.containers.count += 1;
            usage.containers.active += u64::from(is_running);
            usage.containers.add(bytes, is_running);
        }
        for path in self.cache_mount_paths()? {
            let bytes = walk(&path)?;
            let is_used = File::open(&path).is_ok_and(|dir| !crate::lock::try_lock(&dir).unwrap_or(true));
            usage.total_bytes += bytes;
            usage.build_cache.count += 1;
            usage.build_cache.active += u64::from(is_used);
            usage.build_cache.add(bytes, is_used);
        }
        usage.total_bytes += self.rest()?;
        Ok(usage)
    }

    /// Bytes of all that is not counted by itself: documents, the index, logs, what is in flight, the trash.
    fn rest(&self) -> Result<u64, UsageError> {
        let layout = self.layout();
        let mut bytes = folder_without(layout.root(), "")?;
        for name in names_in(layout.root())? {
            let path = layout.root().join(&name);
            bytes += match name.as_str() {
                // Their content is counted above.
                "layers" => own_blocks(&path)?,
                "containers" => own_blocks(&path)? + walk(&path.join(".names"))?,
                "mounts" => {
                    let scopes = names_in(&path)?;
                    let own = own_blocks(&path)?;
                    scopes.iter().try_fold(own, |sum, scope| {
                        Ok::<_, FileError>(sum + own_blocks(&path.join(scope))?)
                    })?
                }
                _ if path.is_dir() => walk(&path)?,
                // A file: counted with the folder.
                _ => 0,
            };
        }
        Ok(bytes)
    }
}

impl UsageGroup {
    fn add(&mut self, bytes: u64, is_kept: bool) {
        self.size_bytes += bytes;
        if !is_kept {
            self.reclaimable_bytes += bytes;
        }
    }
}

/// Blocks of a folder itself.
fn own_blocks(path: &Path) -> Result<u64, FileError> {
    let Some(dir) = if_found(File::open(path)).on("open", path)? else { return Ok(0) };
    let stat = rustix::fs::statx(&dir, c"", AtFlags::EMPTY_PATH, StatxFlags::BLOCKS).on("look at", path)?;
    Ok(stat.stx_blocks * 512)
}

/// Blocks of a folder and of the files in it, without the folders in it, of which `name` is one.
fn folder_without(path: &Path, name: &str) -> Result<u64, FileError> {
    let Some(dir) = if_found(File::open(path)).on("open", path)? else { return Ok(0) };
    let mut bytes = own_blocks(path)?;
    let added = sys::dir::for_each(dir.as_fd(), |entry, file_type| {
        if entry.to_bytes() == name.as_bytes() || file_type == Some(sys::file::FileType::Directory) {
            return Ok(());
        }
        match rustix::fs::statx(&dir, entry, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::BLOCKS | StatxFlags::TYPE)
        {
            Ok(stat) if FileType::from_raw_mode(stat.stx_mode.into()) != FileType::Directory => {
                bytes += stat.stx_blocks * 512;
                Ok(())
            }
            Ok(_) | Err(rustix::io::Errno::NOENT) => Ok(()),
            Err(error) => Err(error.into()),
        }
    });
    if_found(added).on("walk", path)?;
    Ok(bytes)
}

/// Blocks of all below `path`, which may change meanwhile.
fn walk(path: &Path) -> Result<u64, FileError> {
    match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(0),
        other => Ok(measure_tree(other.on("open", path)?.as_fd()).on("walk", path)?.disk_bytes),
    }
}

/// Measures all below a directory, the directory among it; hard links count once. What vanishes meanwhile is left out.
pub(crate) fn measure_tree(tree: BorrowedFd<'_>) -> io::Result<LayerSize> {
    let mut linked = Linked::new();
    let mut size = measure_with(tree, &mut linked)?;
    let shared = linked.values().filter(|file| file.names > 0);
    size.shared_disk_bytes = shared.map(|file| file.disk_bytes).sum();
    Ok(size)
}

/// Files with several names, by device and inode.
type Linked = HashMap<(u32, u32, u64), LinkedFile>;

#[derive(Clone, Copy, Debug)]
struct LinkedFile {
    disk_bytes: u64,
    /// Names that were not seen yet.
    names: u32,
}

/// As [`measure_tree`]; files in `linked` were counted already.
fn measure_with(tree: BorrowedFd<'_>, linked: &mut Linked) -> io::Result<LayerSize> {
    let mut size = LayerSize::default();
    let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
    let wanted = StatxFlags::BASIC_STATS;
    let Some(top) = if_found(sys::dir::reopen(tree))? else { return Ok(size) };
    let stat = rustix::fs::statx(&top, c"", AtFlags::EMPTY_PATH, wanted)?;
    size.disk_bytes += stat.stx_blocks * 512;
    size.entries += 1;
    let mut visit = |dir: &OwnedFd| -> io::Result<Vec<CString>> {
        let mut folders = Vec::new();
        let read = sys::dir::for_each(dir.as_fd(), |name, _| {
            let stat = match rustix::fs::statx(dir, name, flags, wanted) {
                Err(rustix::io::Errno::NOENT) => return Ok(()),
                other => other?,
            };
            size.entries += 1;
            let kind = FileType::from_raw_mode(stat.stx_mode.into());
            let is_first = kind == FileType::Directory || stat.stx_nlink == 1 || {
                let inode = (stat.stx_dev_major, stat.stx_dev_minor, stat.stx_ino);
                match linked.entry(inode) {
                    Entry::Occupied(mut known) => {
                        known.get_mut().names = known.get().names.saturating_sub(1);
                        false
                    }
                    Entry::Vacant(place) => {
                        place.insert(LinkedFile {
                            disk_bytes: stat.stx_blocks * 512,
                            names: stat.stx_nlink - 1,
                        });
                        true
                    }
                }
            };
            if is_first {
                size.disk_bytes += stat.stx_blocks * 512;
                if kind == FileType::RegularFile {
                    size.size_bytes += stat.stx_size;
                }
            }
            if kind == FileType::Directory {
                folders.push(name.to_owned());
            }
            Ok(())
        });
        // A directory that was removed while it was open can't be read.
        if_found(read)?;
        Ok(folders)
    };
    // One descriptor a level, however many directories lie side by side.
    let folders = visit(&top)?;
    let mut levels = vec![(top, folders)];
    while let Some((dir, folders)) = levels.last_mut() {
        let Some(name) = folders.pop() else {
            levels.pop();
            continue;
        };
        if let Some(below) = if_found(sys::dir::open_at(&*dir, name.as_c_str()))? {
            let folders = visit(&below)?;
            levels.push((below, folders));
        }
    }
    Ok(size)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::process::Command;

    use super::*;
    use crate::testing::{Place, facts, image, layer, record};

    /// What `du` says of the store, in bytes.
    fn du(place: &Place) -> u64 {
        let output = Command::new("du").args(["-s", "-B1"]).arg(place.options().root).output().unwrap();
        String::from_utf8(output.stdout).unwrap().split_whitespace().next().unwrap().parse().unwrap()
    }

    #[test]
    fn hard_links_count_once_and_sparse_files_by_their_blocks() {
        let place = Place::new();
        let store = place.open();
        let draft = store.draft().unwrap();
        fs::write(draft.tree_path().join("a"), vec![1; 100_000]).unwrap();
        fs::hard_link(draft.tree_path().join("a"), draft.tree_path().join("b")).unwrap();
        fs::create_dir(draft.tree_path().join("d")).unwrap();
        fs::File::create(draft.tree_path().join("d/sparse")).unwrap().set_len(1 << 30).unwrap();
        let size = measure_tree(draft.tree_fd()).unwrap();
        assert_eq!((size.size_bytes, size.entries), (100_000 + (1 << 30), 5));
        assert!(size.disk_bytes >= 100_000 && size.disk_bytes < 200_000, "{}", size.disk_bytes);
    }

    #[test]
    fn files_that_layers_share_count_once() {
        let place = Place::new();
        let store = place.open();
        let first = store.draft().unwrap();
        fs::write(first.tree_path().join("a"), vec![1; 1_000_000]).unwrap();
        let first = first.commit(facts("COPY . .")).unwrap();
        store.usage().unwrap();
        let second = store.draft().unwrap();
        fs::hard_link(first.tree_path().join("a"), second.tree_path().join("a")).unwrap();
        let second = second.commit(facts("COPY . .")).unwrap();
        assert!(store.layer_size(&second).unwrap().shared_disk_bytes >= 1_000_000);
        store.usage().unwrap();
        let (usage, du) = (store.usage().unwrap(), du(&place));
        assert!(usage.total_bytes.abs_diff(du) <= du / 100, "{} is not {du}", usage.total_bytes);
    }

    #[test]
    fn more_directories_side_by_side_than_a_process_may_open() {
        let dir = tempfile::tempdir().unwrap();
        for number in 0..3000 {
            fs::create_dir(dir.path().join(number.to_string())).unwrap();
        }
        fs::create_dir_all(dir.path().join("d/".repeat(200))).unwrap();
        let size = measure_tree(File::open(dir.path()).unwrap().as_fd()).unwrap();
        assert_eq!(size.entries, 3201);
    }

    #[test]
    fn what_is_removed_meanwhile_is_left_out() {
        let dir = tempfile::tempdir().unwrap();
        let gone = dir.path().join("gone");
        fs::create_dir(&gone).unwrap();
        let open = File::open(&gone).unwrap();
        fs::remove_dir(&gone).unwrap();
        measure_tree(open.as_fd()).unwrap();
        assert_eq!((walk(&gone).unwrap(), own_blocks(&gone).unwrap()), (0, 0));
    }

    #[test]
    fn the_total_is_what_du_says() {
        let place = Place::new();
        let store = place.open();
        let big = store.draft().unwrap();
        for number in 0..300 {
            fs::write(big.tree_path().join(format!("file-{number}")), vec![b'x'; number * 37]).unwrap();
        }
        let big = big.commit(facts("COPY . .")).unwrap();
        let (base, cached) = (layer(&store, "base"), layer(&store, "cached"));
        let put = image(&store, &[base.clone(), big], "x");
        store.tag(&"app".parse().unwrap(), put.id).unwrap();
        store.put_step(record("cached", cached.id()), vec![]).unwrap();
        let container = crate::container::tests::record("web", put.id);
        let dir = store.create_container(&container).unwrap();
        fs::write(dir.file("upper/data"), vec![1; 50_000]).unwrap();
        let mut mount = store.cache_mount("default", "apt", crate::Sharing::Shared, &mut || ()).unwrap();
        mount.set_ready().unwrap();
        drop(store.draft().unwrap());
        // Sizes are recorded by the first look, which itself takes blocks.
        store.usage().unwrap();
        let (usage, du) = (store.usage().unwrap(), du(&place));
        assert!(usage.total_bytes.abs_diff(du) <= du / 100, "{} is not {du}", usage.total_bytes);
        assert_eq!((usage.images.count, usage.images.active), (1, 1));
        assert_eq!((usage.containers.count, usage.containers.active), (1, 0));
        assert_eq!((usage.build_cache.count, usage.build_cache.active), (2, 1));
        assert!(usage.containers.size_bytes > 50_000);
        assert!(usage.images.reclaimable_bytes == 0 && usage.build_cache.reclaimable_bytes > 0);
    }
}
