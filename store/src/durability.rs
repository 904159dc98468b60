//! Volatile and durable.
//!
//! Nothing is synced while a command works. What it made is *volatile*: a layer knows the boot it was made in, and
//! isn't marked `durable` yet. [`Store::settle`] syncs the file system, marks, and syncs the marks. The first to open
//! the store after a boot, told by the file `boot`, drops what is volatile from another boot and whatever names it;
//! tags fall back to their last durable value.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use crate::file::{OnPath, names_in, read_json_lossy, remove_if_there};
use crate::layers::LayerDocument;
use crate::lock::replace_file;
use crate::tag::TagDocument;
use crate::{FileError, LayerId, OpenError, Store};

/// The store can't be made durable.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SettleError {
    /// A file can't be synced or marked.
    #[error(transparent)]
    File(#[from] FileError),
}

impl Store {
    /// Syncs the store's file system and marks what was there before as durable: it then survives a crash of the
    /// machine. For after a command, in a detached process; push, save and `--durable` wait for it.
    ///
    /// # Errors
    ///
    /// [`SettleError`]; what isn't marked stays volatile.
    pub fn settle(&self) -> Result<(), SettleError> {
        let layers = self.volatile_layers()?;
        let tags = self.new_tags()?;
        let root = File::open(self.layout().root()).on("open", self.layout().root())?;
        rustix::fs::syncfs(&root).on("sync the file system of", self.layout().root())?;
        if layers.is_empty() && tags.is_empty() {
            return Ok(());
        }
        {
            // Nobody may remove a layer or set a tag again between the look and the mark.
            let _passed = self.inner.gate.exclusive()?;
            for layer in layers.into_iter().filter(|layer| self.layer_exists(*layer)) {
                let mark = self.layout().layer(layer).join("durable");
                File::create(&mark).on("make", mark)?;
            }
            for (path, inode) in tags {
                // Set again since: that value isn't synced.
                if fs::metadata(&path).is_ok_and(|now| now.ino() == inode) {
                    fs::rename(&path, path.with_extension("json")).on("replace", &path)?;
                }
            }
        }
        rustix::fs::syncfs(&root).on("sync the file system of", self.layout().root())?;
        Ok(())
    }

    fn volatile_layers(&self) -> Result<Vec<LayerId>, FileError> {
        let mut layers = self.layer_ids()?;
        layers.retain(|layer| !self.layout().layer(*layer).join("durable").exists());
        Ok(layers)
    }

    fn new_tags(&self) -> Result<Vec<(PathBuf, u64)>, FileError> {
        let dir = self.layout().tags();
        let paths =
            names_in(&dir)?.into_iter().filter(|name| name.ends_with(".new")).map(|name| dir.join(name));
        Ok(paths.filter_map(|path| Some((path.clone(), fs::metadata(&path).ok()?.ino()))).collect())
    }
}

/// Drops what another boot didn't make durable, once a boot.
pub(crate) fn check_boot(store: &Store) -> Result<(), OpenError> {
    let path = store.layout().boot();
    let is_this_boot = || fs::read_to_string(&path).is_ok_and(|text| text == store.inner.boot_id);
    if is_this_boot() {
        return Ok(());
    }
    let _passed = store.inner.gate.exclusive()?;
    if is_this_boot() {
        return Ok(());
    }
    drop_volatile(store)?;
    replace_file(&store.layout().tmp(), &path, store.inner.boot_id.as_bytes())?;
    Ok(())
}

fn drop_volatile(store: &Store) -> Result<(), FileError> {
    let layout = store.layout();
    for layer in store.layer_ids()? {
        let dir = layout.layer(layer);
        // A document that can't be read was never synced.
        let survives = read_json_lossy::<LayerDocument>(&dir.join("layer.json"))
            .is_some_and(|document| document.boot_id == store.inner.boot_id || dir.join("durable").exists());
        if !survives {
            store.discard(&dir)?;
        }
    }
    for id in store.image_ids()? {
        // Reading it checks its digest.
        let is_whole =
            store.image(id).is_ok_and(|image| image.layers.iter().all(|layer| store.layer_exists(*layer)));
        if !is_whole {
            store.discard(&layout.image(id))?;
        }
    }
    let tags = layout.tags();
    for name in names_in(&tags)? {
        let path = tags.join(&name);
        let document: Option<TagDocument> = read_json_lossy(&path);
        let survives = document.is_some_and(|document| {
            store.image_exists(document.tag.image)
                && (!name.ends_with(".new") || document.boot_id == store.inner.boot_id)
        });
        if !survives {
            remove_if_there(&path)?;
        }
    }
    for id in store.container_ids()? {
        let document = layout.container(&id).join("container.json");
        if read_json_lossy::<crate::ContainerRecord>(&document).is_none() {
            store.discard(&layout.container(&id))?;
        }
    }
    // The index is never synced: it is made anew when it is next needed.
    for suffix in ["", "-wal", "-shm"] {
        let mut path = layout.index().into_os_string();
        path.push(suffix);
        store.discard(&PathBuf::from(path))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Place, image, inputs, key, layer, record};
    use crate::{FindImageError, LayerError};

    #[test]
    fn what_was_settled_survives_another_boot_and_what_was_not_is_dropped() {
        let place = Place::new();
        let store = place.open_in_boot("one");
        let old_layer = layer(&store, "old");
        store.put_step(record("old", old_layer.id()), vec![inputs("old")]).unwrap();
        let old = image(&store, std::slice::from_ref(&old_layer), "old").id;
        let app = "app".parse().unwrap();
        store.tag(&app, old).unwrap();
        store.settle().unwrap();
        let new_layer = layer(&store, "new");
        store.put_step(record("new", new_layer.id()), vec![inputs("new")]).unwrap();
        let new = image(&store, std::slice::from_ref(&new_layer), "new").id;
        store.tag(&app, new).unwrap();
        store.tag(&"other".parse().unwrap(), new).unwrap();
        drop(store);
        // The same boot: all is there.
        let store = place.open_in_boot("one");
        assert_eq!(store.resolve_tag(&app).unwrap(), Some(new));
        drop(store);
        let store = place.open_in_boot("two");
        assert_eq!(store.resolve_tag(&app).unwrap(), Some(old), "the last durable value");
        assert!(matches!(store.find_image("other"), Err(FindImageError::NotFound { .. })));
        assert_eq!(store.image_ids().unwrap(), [old]);
        assert!(store.layer(old_layer.id()).is_ok());
        assert!(matches!(store.layer(new_layer.id()), Err(LayerError::Missing(_))));
        let mut lease = store.lease().unwrap();
        assert_eq!(store.find_step(&key("new"), &mut lease).unwrap(), None);
        assert_eq!(store.find_step(&key("old"), &mut lease).unwrap().unwrap().layer, old_layer.id());
        assert!(store.input_node(&inputs("old").id()).unwrap().is_some());
    }

    #[test]
    fn documents_that_a_crash_damaged_are_dropped() {
        let place = Place::new();
        let store = place.open_in_boot("one");
        let (whole, half) = (layer(&store, "whole"), layer(&store, "half"));
        let image = image(&store, std::slice::from_ref(&whole), "x").id;
        store.settle().unwrap();
        fs::write(half.dir.join("layer.json"), "").unwrap();
        fs::write(store.layout().image(image).join("image.json"), "").unwrap();
        fs::write(store.layout().tags().join("x.json"), "{").unwrap();
        drop(store);
        let store = place.open_in_boot("two");
        assert_eq!(store.layer_ids().unwrap(), [whole.id()]);
        assert_eq!(store.image_ids().unwrap(), []);
        assert_eq!(store.tags().unwrap(), []);
    }

    #[test]
    fn a_tag_set_while_it_settles_stays_new() {
        let place = Place::new();
        let store = place.open_in_boot("one");
        let (one, two) = (image(&store, &[], "1").id, image(&store, &[], "2").id);
        let app = "app".parse().unwrap();
        store.tag(&app, one).unwrap();
        let seen = store.new_tags().unwrap();
        store.tag(&app, two).unwrap();
        assert_ne!(store.new_tags().unwrap(), seen, "settle compares the inode");
    }
}
