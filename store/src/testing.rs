//! A store of its own for each unit test.

use std::fs;

use oci::{Document, ImageConfig, Platform};

use crate::{
    Image, InputNode, InputValue, Layer, LayerFacts, LayerId, LayerOrigin, StepKey, StepPlace, StepRecord,
    Store, StoreMode, StoreOptions,
};

/// Where a test's store lies.
pub(crate) struct Place {
    dir: tempfile::TempDir,
}

impl Place {
    pub(crate) fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    pub(crate) fn options(&self) -> StoreOptions {
        StoreOptions {
            root: self.dir.path().join("root"),
            runtime: self.dir.path().join("run"),
            mode: StoreMode::Root,
        }
    }

    pub(crate) fn open(&self) -> Store {
        Store::open(self.options()).unwrap()
    }

    /// As after a crash of the machine.
    pub(crate) fn open_in_boot(&self, boot: &str) -> Store {
        Store::open_in_boot(self.options(), boot.to_owned()).unwrap()
    }
}

pub(crate) fn facts(text: &str) -> LayerFacts {
    LayerFacts {
        created: "2026-01-02T03:04:05Z".to_owned(),
        origin: LayerOrigin::Step(text.to_owned()),
        diff_id: None,
    }
}

/// A layer with one file `f` of that content.
pub(crate) fn layer(store: &Store, content: &str) -> Layer {
    let draft = store.draft().unwrap();
    fs::write(draft.tree_path().join("f"), content).unwrap();
    draft.commit(facts(content)).unwrap()
}

pub(crate) fn key(text: &str) -> StepKey {
    blake3::hash(text.as_bytes()).into()
}

pub(crate) fn inputs(text: &str) -> InputNode {
    let mut node = InputNode::new();
    node.insert("text", InputValue::Text(text.to_owned()));
    node
}

pub(crate) fn record(text: &str, layer: LayerId) -> StepRecord {
    StepRecord {
        step_key: key(text),
        content_key: Some(blake3::hash(format!("content {text}").as_bytes()).into()),
        shape: blake3::hash(format!("shape {text}").as_bytes()).into(),
        layer,
        created: "2026-01-02T03:04:05Z".to_owned(),
        window: None,
        place: StepPlace {
            build: "Dockerfile".to_owned(),
            stage: "0".to_owned(),
            position: 1,
            text: text.to_owned(),
        },
        inputs: inputs(text).id(),
        secrets: Vec::new(),
    }
}

pub(crate) fn config(store: &Store, layers: &[Layer], author: &str) -> Document<ImageConfig> {
    let mut config =
        ImageConfig::scratch(Platform { os: "linux".into(), architecture: "amd64".into(), variant: None });
    config.author = Some(author.to_owned());
    config.rootfs.diff_ids = layers.iter().map(|layer| store.diff_id(layer).unwrap()).collect();
    Document::from_value(config)
}

pub(crate) fn image(store: &Store, layers: &[Layer], author: &str) -> Image {
    let ids = layers.iter().map(Layer::id).collect();
    store.put_image(config(store, layers, author), ids).unwrap()
}
