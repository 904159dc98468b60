//! The end of a build: diff IDs, config, image, tags.

use std::sync::Mutex;
use std::sync::mpsc::{Sender, channel};

use oci::{Document, ImageConfig};
use store::{Image, LayerId, Store};

use crate::error::{BuildError, StoreFailure};
use crate::progress::Progress;
use crate::request::BuildRequest;
use crate::schedule::{LayerSource, StageResult};

/// Computes diff IDs beside the build, one layer after the other. The store records them, so whoever asks later finds
/// them or waits for the one that is under way.
pub(crate) struct DiffQueue {
    store: Store,
    sender: Mutex<Option<Sender<LayerId>>>,
}

impl DiffQueue {
    pub(crate) fn new(store: Store) -> Self {
        Self { store, sender: Mutex::new(None) }
    }

    /// The thread is started with the first layer and ends when the queue is dropped and empty. It is not waited for.
    pub(crate) fn push(&self, layer: LayerId) {
        let mut sender = self.sender.lock().expect("no thread panics while it queues a layer");
        if sender.is_none() {
            let (new_sender, receiver) = channel::<LayerId>();
            let store = self.store.clone();
            let spawned = std::thread::Builder::new().name("diff ids".to_owned()).spawn(move || {
                for id in receiver {
                    // An error comes up again where the image is put together.
                    let _ = store.layer(id).and_then(|layer| store.diff_id(&layer));
                }
            });
            if spawned.is_err() {
                return;
            }
            *sender = Some(new_sender);
        }
        if let Some(sender) = &*sender {
            let _ = sender.send(layer);
        }
    }
}

/// Puts the image of the target into the store, then moves the tags.
pub(crate) fn export(
    request: &BuildRequest,
    store: &Store,
    progress: &Progress<'_>,
    target: &StageResult,
) -> Result<Image, BuildError> {
    let vertex = progress.start("exporting to image".to_owned(), target.vertex.into_iter().collect(), None);
    let result = put(request, store, target).and_then(|image| {
        if request.cancel.is_cancelled() {
            return Err(BuildError::Cancelled);
        }
        vertex.status(format!("writing image {}", image.id));
        for reference in &request.tags {
            let fail = |source| BuildError::Export { op: format!("tag `{}`", reference.familiar()), source };
            store.tag(reference, image.id).map_err(StoreFailure::Tag).map_err(fail)?;
            vertex.status(format!("naming to {reference}"));
        }
        Ok(image)
    });
    match &result {
        Ok(_) => vertex.done(),
        Err(error) => vertex.failed(error.to_string()),
    }
    result
}

fn put(request: &BuildRequest, store: &Store, target: &StageResult) -> Result<Image, BuildError> {
    let fail = |source| BuildError::Export { op: "put the image together".to_owned(), source };
    let mut config: ImageConfig = target.state.config().clone();
    let mut diff_ids = Vec::with_capacity(target.layers.len());
    for layer in &target.layers {
        diff_ids.push(match layer.origin {
            LayerSource::Image(diff_id) => diff_id,
            LayerSource::Step { .. } => store
                .layer(layer.id)
                .and_then(|layer| store.diff_id(&layer))
                .map_err(StoreFailure::Layer)
                .map_err(fail)?,
        });
    }
    config.rootfs.diff_ids = diff_ids;
    config.config.labels.extend(request.labels.clone());
    let layers = target.layers.iter().map(|layer| layer.id).collect();
    store.put_image(Document::from_value(config), layers).map_err(StoreFailure::Image).map_err(fail)
}
