//! The keys of a step. Formats that must never drift: a test pins them.
//!
//! ```text
//! shape key   = H("shape key", id of the node of named inputs)
//! step key    = H("step key", shape key, parent)
//! content key = H("content key", shape key, number of layers as 8 bytes, each layer), base first
//! parent      = 0 | 1 image ID | 2 node of a folder | 3 step key of the layer below
//! layer       = 1 diff ID | 2 content ID
//! ```
//!
//! H is blake3 in its key derivation mode, with the first word in its context; the tags 0 to 3 are one byte, all that
//! follows a tag is 32 bytes.

use oci::{DiffId, ImageId};
use store::{ContentId, ContentKey, LayerId, NodeId, ShapeKey, StepKey};

/// What a step stands on, by key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ParentKey {
    /// Nothing.
    Scratch,
    /// A base image.
    Image(ImageId),
    /// A named context that is a folder: the node of its tree.
    Folder(NodeId),
    /// A step.
    Step(StepKey),
}

/// A layer, by content.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LayerContent {
    /// One that came as a tar, with the base image.
    Diff(DiffId),
    /// One that was built here.
    Built(ContentId),
    /// One of this store: names its content without a look at it.
    Stored(LayerId),
}

/// Digest of a step's own inputs.
pub fn shape_key(inputs: NodeId) -> ShapeKey {
    hasher("shape key").update(inputs.as_bytes()).finalize().into()
}

/// Identity of the step under this very parent.
pub fn step_key(shape: ShapeKey, parent: ParentKey) -> StepKey {
    let mut hasher = hasher("step key");
    hasher.update(shape.as_bytes());
    match parent {
        ParentKey::Scratch => hasher.update(&[0]),
        ParentKey::Image(image) => hasher.update(&[1]).update(image.digest().as_bytes()),
        ParentKey::Folder(node) => hasher.update(&[2]).update(node.as_bytes()),
        ParentKey::Step(key) => hasher.update(&[3]).update(key.as_bytes()),
    };
    hasher.finalize().into()
}

/// Identity of the step under a parent with these layers, base first.
pub fn content_key(shape: ShapeKey, layers: &[LayerContent]) -> ContentKey {
    let mut hasher = hasher("content key");
    hasher.update(shape.as_bytes()).update(&(layers.len() as u64).to_le_bytes());
    for layer in layers {
        match layer {
            LayerContent::Diff(diff_id) => hasher.update(&[1]).update(diff_id.digest().as_bytes()),
            LayerContent::Built(content) => hasher.update(&[2]).update(content.as_bytes()),
            LayerContent::Stored(layer) => hasher.update(&[3]).update(layer.as_bytes()),
        };
    }
    hasher.finalize().into()
}

fn hasher(what: &str) -> blake3::Hasher {
    blake3::Hasher::new_derive_key(&format!("calque.builder.v1 {what}"))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use oci::Digest;
    use parser::Span;

    use super::*;
    use crate::NetworkMode;
    use crate::expanded::{CopySourceStep, CopyStep, RunStep, Variable, VariableKind, WorkdirStep};
    use crate::graph::{ContentSource, StageId};
    use crate::input::{
        Parent, SourceFacts, SourceInput, SourceMatch, SourceNode, copy_inputs, run_inputs, workdir_inputs,
    };

    /// A key that drifts makes every cache miss, or worse: change what is hashed only with a new version in the
    /// context of [`hasher`].
    #[test]
    fn keys_never_drift() {
        let variable = Variable { value: "1".to_owned(), kind: VariableKind::Arg };
        let run = RunStep {
            argv: ["/bin/sh", "-c", "make"].map(str::to_owned).to_vec(),
            script: None,
            env: BTreeMap::from([("VERSION".to_owned(), variable)]),
            proxy_env: BTreeMap::new(),
            workdir: "/w".to_owned(),
            user: "app".to_owned(),
            mounts: Vec::new(),
            network: NetworkMode::Host,
            hostname: "buildkitsandbox".to_owned(),
            extra_hosts: Vec::new(),
            history: String::new(),
        };
        let digest = Digest::of(b"image");
        let base = Parent::Image { name: "debian:12".to_owned(), id: ImageId::new(digest), digest };
        let platform = "linux/amd64".parse().unwrap();
        let first = run_inputs(&run, &platform, &BTreeMap::new(), &base);
        let below =
            Parent::Step { key: first.step_key, number: "1/2".to_owned(), text: "RUN make".to_owned() };
        let workdir = WorkdirStep { path: "/x".to_owned(), user: String::new(), history: String::new() };
        let second = workdir_inputs(&workdir, Some(0), &below);
        let layers = [
            LayerContent::Diff(DiffId::new(Digest::of(b"layer"))),
            LayerContent::Built(ContentId::from_bytes([7; 32])),
        ];
        let copy = CopyStep {
            from: ContentSource::Stage(StageId::new(0)),
            sources: vec![CopySourceStep::Path { text: "src".to_owned(), span: Span::default() }],
            target: "/app/".to_owned(),
            chown: None,
            chmod: None,
            link: false,
            parents: false,
            exclude: Vec::new(),
            unpack: false,
            unpack_remote: false,
            checksum: None,
            history: String::new(),
        };
        let facts = |mode, uid| SourceFacts { mode, uid, ..SourceFacts::default() };
        let children = BTreeMap::from([
            (b"a".to_vec(), SourceNode::File { facts: facts(0o644, 1), digest: [1; 32], linked_to: None }),
            (b"b".to_vec(), SourceNode::Link { facts: facts(0o777, 2), target: b"a".to_vec() }),
            (b"c".to_vec(), SourceNode::Special { facts: facts(0o600, 3), kind: 0o010_000, device: 0 }),
        ]);
        let node = SourceNode::Directory { facts: facts(0o755, 0), children };
        let found = SourceInput { matches: vec![SourceMatch { path: b"src".to_vec(), name: None, node }] };
        let keys = [
            first.shape.to_string(),
            first.step_key.to_string(),
            first.content_key(&layers).to_string(),
            second.step_key.to_string(),
            workdir_inputs(&workdir, None, &Parent::Scratch).step_key.to_string(),
            copy_inputs(&copy, &[found], None, &Parent::Scratch).step_key.to_string(),
        ];
        let pinned = [
            "357802f50bdf1215cfcc061fc7131d214220d6ec8200f131139a2dd3f1072537",
            "351c6054c032f33b642de3179bfc8f239fc714efb3fb95bb5b7d948f2d26d8dc",
            "5ec5e6d58375e568113564dceb63bc223c5fdd44f1d1a28880600f8f89f5ab55",
            "5d36ef7ab66fd8e3c3adb1553aff5f08c04472d343a27dfc46cd705070000056",
            "09bdb2ff346f604bb302e05e9e405831d847b23322bc2d6a9640e57971812bc0",
            "e68883f8d968f4d4e86f2f98cd186770ccabf8465cc425656dd1e5fe63c573aa",
        ];
        assert_eq!(keys, pinned);
    }

    #[test]
    fn every_part_of_a_key_counts() {
        let shape = |byte| ShapeKey::from_bytes([byte; 32]);
        let digest = Digest::from_bytes([1; 32]);
        let parents = [
            ParentKey::Scratch,
            ParentKey::Image(ImageId::new(digest)),
            ParentKey::Folder(NodeId::from_bytes([1; 32])),
            ParentKey::Step(StepKey::from_bytes([1; 32])),
            ParentKey::Step(StepKey::from_bytes([2; 32])),
        ];
        let keys: std::collections::BTreeSet<_> = parents
            .iter()
            .flat_map(|parent| [step_key(shape(1), *parent), step_key(shape(2), *parent)])
            .collect();
        assert_eq!(keys.len(), 10);

        let (diff, built) =
            (LayerContent::Diff(DiffId::new(digest)), LayerContent::Built(ContentId::from_bytes([1; 32])));
        let stacks: [&[LayerContent]; 6] =
            [&[], &[diff], &[built], &[diff, built], &[built, diff], &[diff, diff]];
        let keys: std::collections::BTreeSet<_> =
            stacks.iter().map(|stack| content_key(shape(1), stack)).collect();
        assert_eq!(keys.len(), 6);
        assert_ne!(content_key(shape(1), &[diff]), content_key(shape(2), &[diff]));
    }
}
