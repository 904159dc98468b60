//! What live processes hold.
//!
//! A process that holds layers has one file `tmp/<id>.lease`, locked for as long as it lives, with a line `+<layer>`
//! or `-<layer>` for each layer that it began or ceased to hold. The lock tells a live process from a dead one, in
//! other pid namespaces too, and needs no index: leases outlive a rebuilt one. Lines are added with the gate passed,
//! so that nobody removes a layer between the look at it and its lease.

use std::collections::{BTreeSet, HashMap};
use std::fs::{self, File};
use std::io::{Seek as _, Write as _};
use std::path::PathBuf;
use std::sync::{MutexGuard, PoisonError};

use crate::file::{OnPath, names_in};
use crate::id::random_hex;
use crate::lock::{self, Passed};
use crate::{FileError, LayerId, Store};

const SUFFIX: &str = ".lease";

/// Layers that this process holds: nothing collects them until it is dropped or the process ends.
#[derive(Debug)]
pub struct Lease {
    store: Store,
    layers: BTreeSet<LayerId>,
}

/// A lease can't be taken.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LeaseError {
    /// The layer isn't in the store (any more).
    #[error("no layer `{0}` in the store")]
    Missing(LayerId),
    /// The file of this process's leases can't be written.
    #[error(transparent)]
    File(#[from] FileError),
}

impl Store {
    /// A lease that holds nothing yet.
    ///
    /// # Errors
    ///
    /// None today: this process's file of leases is made when the first layer is held.
    pub fn lease(&self) -> Result<Lease, LeaseError> {
        Ok(Lease { store: self.clone(), layers: BTreeSet::new() })
    }

    /// Holds `layer` for as long as this process lives.
    pub(crate) fn hold_for_process(&self, _passed: &Passed<'_>, layer: LayerId) -> Result<(), FileError> {
        self.with_holder(|holder| holder.hold(layer))
    }

    fn with_holder<T>(&self, act: impl FnOnce(&mut Holder) -> Result<T, FileError>) -> Result<T, FileError> {
        let mut slot = self.holder_slot();
        let holder = match &mut *slot {
            Some(holder) => holder,
            None => slot.insert(Holder::new(self)?),
        };
        act(holder)
    }

    fn holder_slot(&self) -> MutexGuard<'_, Option<Holder>> {
        self.inner.holder.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All layers that live processes hold, this one among them. Files of dead processes are removed.
    pub(crate) fn held_layers(&self, _passed: &Passed<'_>) -> Result<BTreeSet<LayerId>, FileError> {
        let mut held = BTreeSet::new();
        let tmp = self.layout().tmp();
        for name in names_in(&tmp)?.iter().filter(|name| name.ends_with(SUFFIX)) {
            let path = tmp.join(name);
            let Ok(file) = File::open(&path) else { continue };
            if lock::try_lock(&file).on("lock", &path)? {
                // Its maker is dead, or hasn't locked it yet: then it sees that the file is gone and makes another.
                let _ = fs::remove_file(&path);
                continue;
            }
            let text = fs::read(&path).on("read", &path)?;
            for line in text.split(|byte| *byte == b'\n') {
                let Some((sign, id)) =
                    std::str::from_utf8(line).ok().and_then(|line| line.split_at_checked(1))
                else {
                    continue;
                };
                let Ok(id) = id.parse() else { continue };
                if sign == "+" {
                    held.insert(id)
                } else {
                    held.remove(&id)
                };
            }
        }
        Ok(held)
    }
}

impl Lease {
    /// Holds `layers` too: all of them, or none where one is missing.
    ///
    /// # Errors
    ///
    /// [`LeaseError::Missing`] names the first that isn't there.
    pub fn hold(&mut self, layers: &[LayerId]) -> Result<(), LeaseError> {
        let store = self.store.clone();
        let passed = store.inner.gate.shared()?;
        if let Some(missing) = layers.iter().find(|layer| !store.layer_exists(**layer)) {
            return Err(LeaseError::Missing(*missing));
        }
        layers.iter().try_for_each(|layer| self.hold_existing(&passed, *layer))?;
        Ok(())
    }

    /// Holds a layer that was seen after the gate was passed.
    pub(crate) fn hold_existing(&mut self, _passed: &Passed<'_>, layer: LayerId) -> Result<(), FileError> {
        if self.layers.contains(&layer) {
            return Ok(());
        }
        self.store.with_holder(|holder| holder.hold(layer))?;
        self.layers.insert(layer);
        Ok(())
    }

    /// The layers it holds.
    pub fn layers(&self) -> impl Iterator<Item = LayerId> {
        self.layers.iter().copied()
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let mut slot = self.store.holder_slot();
        if let Some(holder) = &mut *slot {
            self.layers.iter().for_each(|layer| holder.release(*layer));
        }
    }
}

/// This process's file of leases.
#[derive(Debug)]
pub(crate) struct Holder {
    path: PathBuf,
    file: File,
    counts: HashMap<LayerId, usize>,
}

impl Holder {
    fn new(store: &Store) -> Result<Self, FileError> {
        let (path, file) = lock::make_locked_file(&store.layout().tmp(), &(random_hex::<8>() + SUFFIX))?;
        Ok(Self { path, file, counts: HashMap::new() })
    }

    fn hold(&mut self, layer: LayerId) -> Result<(), FileError> {
        if !self.counts.contains_key(&layer) {
            self.write('+', layer)?;
        }
        *self.counts.entry(layer).or_default() += 1;
        Ok(())
    }

    fn release(&mut self, layer: LayerId) {
        let Some(count) = self.counts.get_mut(&layer) else { return };
        *count -= 1;
        if *count == 0 {
            self.counts.remove(&layer);
            // That a layer is held for too long is no harm.
            let _ = self.write('-', layer);
        }
    }

    fn write(&mut self, sign: char, layer: LayerId) -> Result<(), FileError> {
        let end = self.file.stream_position().unwrap_or(0);
        let written = self.file.write_all(format!("{sign}{layer}\n").as_bytes());
        if written.is_err() {
            let _ = self.file.set_len(end);
        }
        written.on("write", &self.path)
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Place, layer};

    fn held(store: &Store) -> BTreeSet<LayerId> {
        store.held_layers(&store.inner.gate.exclusive().unwrap()).unwrap()
    }

    #[test]
    fn a_lease_is_seen_by_others_until_it_is_dropped() {
        let place = Place::new();
        let maker = place.open();
        let id = layer(&maker, "a").id();
        assert_eq!(held(&place.open()), [id].into(), "a new layer is held by whoever made it");
        let user = place.open();
        let mut lease = user.lease().unwrap();
        lease.hold(&[id]).unwrap();
        drop(maker);
        assert_eq!(held(&place.open()), [id].into());
        let mut second = user.lease().unwrap();
        second.hold(&[id]).unwrap();
        drop(lease);
        assert_eq!(held(&user), [id].into(), "one of two leases of a process holds");
        drop(second);
        assert_eq!(held(&user), BTreeSet::new());
    }

    #[test]
    fn what_is_missing_cannot_be_held() {
        let place = Place::new();
        let store = place.open();
        let id = layer(&store, "a").id();
        drop(store);
        let store = place.open();
        let mut lease = store.lease().unwrap();
        let missing = LayerId::random();
        assert!(matches!(lease.hold(&[id, missing]), Err(LeaseError::Missing(it)) if it == missing));
        assert_eq!(held(&store), BTreeSet::new());
    }

    #[test]
    fn leases_of_the_dead_and_broken_lines_do_not_count() {
        let place = Place::new();
        let store = place.open();
        let path = place.options().root.join("tmp/dead.lease");
        fs::write(&path, format!("+{}\n", LayerId::random())).unwrap();
        assert_eq!(held(&store), BTreeSet::new());
        assert!(!path.exists());
        let live = LayerId::random();
        let (path, _file) = lock::make_locked_file(&store.layout().tmp(), "live.lease").unwrap();
        fs::write(&path, format!("+{live}\n\n+12\n+{}", &LayerId::random().to_string()[..20])).unwrap();
        assert_eq!(held(&store), [live].into());
    }
}
