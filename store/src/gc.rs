//! What may be deleted, and deleting it.
//!
//! A layer stays while an image, a container or a cache record names it, or a live process holds it: all others go.
//! References are made with the gate passed shared, and layers go with it passed exclusively, so that nothing is
//! removed between somebody's look at a layer and the reference to it.

use std::collections::{BTreeSet, HashSet};
use std::fs::{self, File};

use crate::build_log::{BUILDS_KEPT, FAILED_KEPT};
use crate::container::ContainerRecord;
use crate::file::{OnPath, names_in, read_json_lossy};
use crate::id::random_hex;
use crate::lock::{FileLock, Passed, replace_file, try_lock};
use crate::record::{pack_nodes, unpack_nodes};
use crate::{
    ContainerError, ContainerState, FileError, IndexError, InputNode, LayerId, NodeId, StepKey, Store, lock,
};

/// What a sweep removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// Layers that nothing named.
    pub layers: u64,
    /// Cache mounts that nobody used.
    pub cache_mounts: u64,
    /// Containers of `--rm` whose process is gone.
    pub containers: u64,
    /// Names unlinked from the trash.
    pub trash_entries: u64,
}

/// Collecting failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GcError {
    /// The index fails.
    #[error(transparent)]
    Index(#[from] IndexError),
    /// Containers can't be read or removed.
    #[error(transparent)]
    Container(#[from] ContainerError),
    /// A file can't be read or moved.
    #[error(transparent)]
    File(#[from] FileError),
}

impl Store {
    /// How many things lie in the trash, waiting for a [`Store::sweep`].
    ///
    /// # Errors
    ///
    /// [`GcError`] when its folder can't be read.
    pub fn trash_entries(&self) -> Result<usize, GcError> {
        Ok(names_in(&self.layout().trash())?.len())
    }

    /// Removes what nothing names and unlinks the trash. For after a command, in a detached process: slow.
    ///
    /// # Errors
    ///
    /// [`GcError`]; what was moved to the trash stays there for the next sweep.
    pub fn sweep(&self) -> Result<Swept, GcError> {
        let mut swept = Swept { containers: self.remove_dead_containers()?, ..Swept::default() };
        sweep_tmp(self)?;
        self.sweep_locks()?;
        self.keep_newest(&self.layout().failed(), FAILED_KEPT)?;
        self.keep_newest(&self.layout().builds(), BUILDS_KEPT)?;
        {
            let passed = self.inner.gate.exclusive()?;
            swept.layers = self.remove_unnamed_layers(&passed)?;
        }
        swept.trash_entries = self.empty_trash()?;
        Ok(swept)
    }

    /// Drops cache records, all of them or those not used since `unused_since` (seconds since 1970), the cache mounts
    /// that nobody uses, and then sweeps. A record whose layer a live process holds stays.
    ///
    /// # Errors
    ///
    /// [`GcError`] as for [`Store::sweep`].
    pub fn prune_cache(&self, unused_since: Option<i64>) -> Result<Swept, GcError> {
        {
            let passed = self.inner.gate.exclusive()?;
            let held = self.held_layers(&passed)?;
            let limit = unused_since.unwrap_or(i64::MAX);
            let dropped = self.inner.index.write("drop records", |transaction| {
                Ok::<_, IndexError>((|| {
                    let rows = transaction
                        .prepare("SELECT step_key, layer FROM steps")?
                        .query_map([], |row| Ok((row.get::<_, [u8; 32]>(0)?, row.get::<_, [u8; 16]>(1)?)))?
                        .collect::<Result<Vec<_>, _>>()?;
                    let mut delete = transaction.prepare("DELETE FROM steps WHERE step_key = ?1")?;
                    let mut dropped = Vec::new();
                    for (key, layer) in rows {
                        let (key, layer) = (StepKey::from_bytes(key), LayerId::from_bytes(layer));
                        if !held.contains(&layer) && self.last_use(layer, &key) < limit {
                            delete.execute([key.as_bytes()])?;
                            dropped.push((key, layer));
                        }
                    }
                    Ok(dropped)
                })())
            })?;
            for (key, layer) in dropped {
                crate::file::remove_if_there(&self.layout().step_document(layer, &key))?;
            }
        }
        let cache_mounts = if unused_since.is_none() { self.remove_unused_mounts()? } else { 0 };
        Ok(Swept { cache_mounts, ..self.sweep()? })
    }

    fn remove_unused_mounts(&self) -> Result<u64, FileError> {
        let mut removed = 0;
        for path in self.cache_mount_paths()? {
            let Ok(dir) = File::open(&path) else { continue };
            if try_lock(&dir).on("lock", &path)? && lock::is_at(&dir, &path).on("lock", &path)? {
                self.discard(&path)?;
                removed += 1;
            }
        }
        Ok(removed)
    }

    fn remove_dead_containers(&self) -> Result<u64, ContainerError> {
        let mut removed = 0;
        for container in self.containers()? {
            if !container.record.auto_remove {
                continue;
            }
            let path = self.layout().container(&container.record.id);
            let Ok(dir) = File::open(&path) else { continue };
            let is_over = match container.state {
                ContainerState::Exited { .. } => true,
                ContainerState::Running { .. } => false,
                // Whoever made it was killed before it came to start it.
                ContainerState::Created => try_lock(&dir).on("lock", &path)?,
            };
            if is_over {
                match self.remove_container(&container.record.id) {
                    Err(ContainerError::Missing(_) | ContainerError::Running(_)) => {}
                    other => {
                        other?;
                        removed += 1;
                    }
                }
            }
        }
        Ok(removed)
    }

    /// Step locks that killed processes left.
    fn sweep_locks(&self) -> Result<(), FileError> {
        let locks = self.layout().locks();
        for name in names_in(&locks)? {
            FileLock::remove_stale(&locks.join(name))?;
        }
        Ok(())
    }

    fn remove_unnamed_layers(&self, passed: &Passed<'_>) -> Result<u64, GcError> {
        let layers = self.layer_ids()?;
        let held = self.held_layers(passed)?;
        let candidates: Vec<LayerId> = layers.into_iter().filter(|layer| !held.contains(layer)).collect();
        if candidates.is_empty() {
            return Ok(0);
        }
        let named = self.named_layers(passed)?;
        let unnamed: Vec<LayerId> = candidates.into_iter().filter(|layer| !named.contains(layer)).collect();
        if unnamed.is_empty() {
            return Ok(0);
        }
        self.keep_shared_nodes(&unnamed)?;
        for layer in &unnamed {
            self.discard(&self.layout().layer(*layer))?;
        }
        Ok(unnamed.len() as u64)
    }

    /// All layers that an image, a container or a cache record names.
    fn named_layers(&self, _passed: &Passed<'_>) -> Result<BTreeSet<LayerId>, GcError> {
        let mut named = BTreeSet::new();
        for id in self.image_ids()? {
            named.extend(self.image_layers(id).unwrap_or_default());
        }
        for id in self.container_ids()? {
            let path = self.layout().container(&id).join("container.json");
            let record: Option<ContainerRecord> = read_json_lossy(&path);
            named.extend(record.map(|record| record.layers).unwrap_or_default());
        }
        let recorded = self.inner.index.read("read all layers", |connection| {
            connection
                .prepare("SELECT DISTINCT layer FROM steps")?
                .query_map([], |row| row.get::<_, [u8; 16]>(0))?
                .collect::<Result<Vec<_>, _>>()
        })?;
        named.extend(recorded.into_iter().map(LayerId::from_bytes));
        Ok(named)
    }

    /// Drops input nodes that no record needs, and moves those whose file goes with `layers` into one of their own.
    fn keep_shared_nodes(&self, layers: &[LayerId]) -> Result<(), GcError> {
        let inputs = self.layout().inputs();
        let packs: Vec<_> = names_in(&inputs)?.into_iter().map(|name| inputs.join(name)).collect();
        let mut files = packs.clone();
        for layer in layers {
            let dir = self.layout().layer(*layer);
            files.extend(
                names_in(&dir)?
                    .into_iter()
                    .filter(|name| name.ends_with(".nodes"))
                    .map(|name| dir.join(name)),
            );
        }
        if files.is_empty() {
            return Ok(());
        }
        let needed = self.inner.index.write("collect inputs", |transaction| {
            Ok::<_, IndexError>((|| {
                let needed = needed_nodes(transaction)?;
                let all = transaction
                    .prepare("SELECT id FROM nodes")?
                    .query_map([], |row| row.get::<_, [u8; 32]>(0))?
                    .collect::<Result<Vec<_>, _>>()?;
                let mut delete = transaction.prepare("DELETE FROM nodes WHERE id = ?1")?;
                for id in all {
                    if !needed.contains(&NodeId::from_bytes(id)) {
                        delete.execute([id])?;
                    }
                }
                Ok(needed)
            })())
        })?;
        let contents: Vec<Vec<u8>> = files.iter().filter_map(|path| fs::read(path).ok()).collect();
        let mut seen = HashSet::new();
        let kept: Vec<&[u8]> = contents
            .iter()
            .flat_map(|bytes| unpack_nodes(bytes))
            .filter(|node| {
                let id = NodeId::from(blake3::hash(node));
                needed.contains(&id) && seen.insert(id)
            })
            .collect();
        if !kept.is_empty() {
            let path = inputs.join(format!("{}.nodes", random_hex::<8>()));
            replace_file(&self.layout().tmp(), &path, &pack_nodes(&kept))?;
        }
        for pack in packs {
            crate::file::remove_if_there(&pack)?;
        }
        Ok(())
    }

    /// Unlinks what is in the trash, unless another process does so already.
    fn empty_trash(&self) -> Result<u64, FileError> {
        let path = self.layout().trash();
        let trash = File::open(&path).on("open", &path)?;
        if !try_lock(&trash).on("lock", &path)? {
            return Ok(0);
        }
        let mut removed = 0;
        let mut failure = None;
        for entry in sys::dir::read_sorted(&trash).on("read", &path)? {
            match sys::dir::remove_tree(&trash, entry.name.as_c_str(), None) {
                Ok(()) => removed += 1,
                // The others can go nevertheless.
                Err(error) => {
                    failure.get_or_insert(FileError::new("remove", path.join(entry.os_name()), error));
                }
            }
        }
        failure.map_or(Ok(removed), Err)
    }
}

/// All nodes that a record's input tree has.
fn needed_nodes(connection: &rusqlite::Connection) -> rusqlite::Result<HashSet<NodeId>> {
    let mut pending: Vec<NodeId> = connection
        .prepare("SELECT DISTINCT inputs FROM steps")?
        .query_map([], |row| row.get::<_, [u8; 32]>(0).map(NodeId::from_bytes))?
        .collect::<Result<_, _>>()?;
    let mut needed = HashSet::new();
    let mut select = connection.prepare("SELECT data FROM nodes WHERE id = ?1")?;
    while let Some(id) = pending.pop() {
        if !needed.insert(id) {
            continue;
        }
        let mut rows = select.query([id.as_bytes()])?;
        if let Some(row) = rows.next()?
            && let Ok(node) = InputNode::decode(row.get_ref(0)?.as_blob()?)
        {
            pending.extend(node.children());
        }
    }
    Ok(needed)
}

/// Moves to the trash what dead processes left under `tmp/`: what isn't locked.
pub(crate) fn sweep_tmp(store: &Store) -> Result<(), FileError> {
    let tmp = store.layout().tmp();
    for name in names_in(&tmp)? {
        let path = tmp.join(name);
        // A file or a folder of ours, or gone meanwhile.
        let Ok(found) = File::open(&path) else { continue };
        if try_lock(&found).on("lock", &path)? && lock::is_at(&found, &path).on("lock", &path)? {
            store.discard(&path)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Place, image, inputs, key, layer, record};

    #[test]
    fn only_layers_that_nothing_names_or_holds_are_removed() {
        let place = Place::new();
        let store = place.open();
        let (imaged, recorded, contained, held, orphan) = (
            layer(&store, "1"),
            layer(&store, "2"),
            layer(&store, "3"),
            layer(&store, "4"),
            layer(&store, "5"),
        );
        let image = image(&store, std::slice::from_ref(&imaged), "x").id;
        store.put_step(record("2", recorded.id()), vec![]).unwrap();
        let container =
            ContainerRecord { layers: vec![contained.id()], ..crate::container::tests::record("web", image) };
        store.create_container(&container).unwrap();
        assert_eq!(store.sweep().unwrap().layers, 0, "whoever made a layer holds it");
        drop(store);
        let holder = place.open();
        let mut lease = holder.lease().unwrap();
        lease.hold(&[held.id()]).unwrap();
        let store = place.open();
        let swept = store.sweep().unwrap();
        assert_eq!((swept.layers, swept.trash_entries), (1, 1));
        assert!(!store.layer_exists(orphan.id()));
        for kept in [&imaged, &recorded, &contained, &held] {
            assert!(store.layer_exists(kept.id()));
        }
        drop(lease);
        assert_eq!(store.sweep().unwrap().layers, 1);
        assert_eq!(names_in(&store.layout().trash()).unwrap(), [""; 0]);
    }

    #[test]
    fn prune_drops_records_but_not_what_is_held_or_imaged() {
        let place = Place::new();
        let store = place.open();
        let (free, held, imaged) = (layer(&store, "free"), layer(&store, "held"), layer(&store, "imaged"));
        for (text, layer) in [("free", &free), ("held", &held), ("imaged", &imaged)] {
            store.put_step(record(text, layer.id()), vec![inputs(text)]).unwrap();
        }
        image(&store, std::slice::from_ref(&imaged), "x");
        drop(store);
        let store = place.open();
        let mut lease = store.lease().unwrap();
        store.find_step(&key("held"), &mut lease).unwrap().unwrap();
        drop(lease);
        let times = |text: &str, layer: &crate::Layer, seconds| {
            let file = File::options()
                .write(true)
                .open(store.layout().step_document(layer.id(), &key(text)))
                .unwrap();
            file.set_modified(std::time::UNIX_EPOCH + std::time::Duration::from_secs(seconds)).unwrap();
        };
        times("held", &held, 1000);
        times("free", &free, 3000);
        times("imaged", &imaged, 3000);
        let mut lease = store.lease().unwrap();
        store.find_step(&key("held"), &mut lease).unwrap().unwrap();
        drop(lease);
        assert_eq!(place.open().prune_cache(Some(2000)).unwrap().layers, 0, "a use makes it new");
        let mut lease = store.lease().unwrap();
        store.find_step(&key("held"), &mut lease).unwrap().unwrap();
        assert_eq!(place.open().prune_cache(None).unwrap().layers, 1);
        let mut other = store.lease().unwrap();
        assert!(store.find_step(&key("held"), &mut other).unwrap().is_some());
        assert!(store.find_step(&key("free"), &mut other).unwrap().is_none());
        assert!(store.find_step(&key("imaged"), &mut other).unwrap().is_none());
        assert!(store.layer_exists(imaged.id()) && !store.layer_exists(free.id()));
        assert!(store.input_node(&inputs("free").id()).unwrap().is_none(), "its inputs went with it");
        // A rebuilt index doesn't bring a dropped record back.
        fs::remove_file(store.layout().index()).unwrap();
        assert!(store.find_step(&key("imaged"), &mut other).unwrap().is_none());
    }

    #[test]
    fn nodes_that_another_record_needs_outlive_the_layer_they_came_with() {
        let place = Place::new();
        let store = place.open();
        let (first, second) = (layer(&store, "1"), layer(&store, "2"));
        let mut root = inputs("root");
        root.insert("sub", crate::InputValue::Node(inputs("shared").id()));
        let shares = |text: &str, layer| crate::StepRecord { inputs: root.id(), ..record(text, layer) };
        store
            .put_step(shares("1", first.id()), vec![root.clone(), inputs("shared"), inputs("lost")])
            .unwrap();
        store.put_step(shares("2", second.id()), vec![root.clone(), inputs("shared")]).unwrap();
        drop(store);
        let store = place.open();
        let mut lease = store.lease().unwrap();
        store.find_step(&key("2"), &mut lease).unwrap().unwrap();
        assert_eq!(store.prune_cache(None).unwrap().layers, 1);
        fs::remove_file(store.layout().index()).unwrap();
        assert_eq!(store.input_node(&root.id()).unwrap(), Some(root.clone()));
        assert!(store.input_node(&inputs("shared").id()).unwrap().is_some());
        assert!(store.input_node(&inputs("lost").id()).unwrap().is_none());
    }

    #[test]
    fn what_killed_processes_leave_is_swept() {
        let place = Place::new();
        let store = place.open();
        fs::write(place.options().runtime.join("locks/step-0"), "").unwrap();
        let held = store.lock_step(&key("a"), &mut || ()).unwrap();
        let mut container = crate::container::tests::record("gone", image(&store, &[], "x").id);
        container.auto_remove = true;
        store.create_container(&container).unwrap();
        store
            .set_container_state(&container.id, &ContainerState::Exited { code: 1, finished: None })
            .unwrap();
        assert_eq!(store.sweep().unwrap().containers, 1);
        let waits =
            crate::ContainerRecord { id: Store::new_container_id(), name: "waits".into(), ..container };
        let dir = store.create_container(&waits).unwrap();
        assert_eq!(store.sweep().unwrap().containers, 0, "it is about to start");
        drop(dir);
        assert_eq!(store.sweep().unwrap().containers, 1);
        assert_eq!(names_in(&store.layout().locks()).unwrap().len(), 1);
        drop(held);
        assert_eq!(names_in(&store.layout().locks()).unwrap().len(), 0);
    }
}
