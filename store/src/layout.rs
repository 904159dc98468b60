//! Where each thing lies. Pure: nothing here touches the disk.
//!
//! ```text
//! ROOT                                    mode 0700
//!   format                                version, root or rootless, id scheme; locked while references change
//!   boot                                  the boot that last looked for what a crash left
//!   layers/<id>/tree                      the layer; never written after commit
//!              /layer.json                what was known at commit; never written again
//!              /facts.json                what was computed since (diff ID, content IDs, size); may be lost
//!              /step-<key>.json, .nodes   cache records of it, and the input nodes that they brought
//!              /durable                   there when the layer survives a crash of the machine
//!   images/<hex>/config.json, image.json  the config as received; the layers
//!   tags/<name>.json, <name>.new          the durable value of a tag; a later one that isn't durable yet
//!   containers/<id>/container.json, state.json, upper, work    containers/.names/<name> has the id
//!   inputs/<id>.nodes                     input nodes whose own layer was collected
//!   mounts/<scope>/<hash>/data, mount.json, ready              cache mounts
//!   builds/<id>/build.json, <n>.log       contexts/ stat indexes       failed/ kept uppers
//!   index.db                              disposable
//!   tmp/                                  in flight, each locked by its maker; <id>.lease: what a process holds
//!   trash/                                renamed here, unlinked later
//! RUNTIME
//!   locks/                                step locks
//! ```

use std::path::{Path, PathBuf};

use oci::{ImageId, Reference};

use crate::{LayerId, StepKey};

/// The paths of one store.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    root: PathBuf,
    runtime: PathBuf,
}

/// The folders that every store has.
pub(crate) const FOLDERS: [&str; 13] = [
    "layers",
    "images",
    "tags",
    "containers",
    "containers/.names",
    "inputs",
    "mounts",
    "builds",
    "contexts",
    "failed",
    "tmp",
    "trash",
    "volumes",
];

impl Layout {
    pub(crate) fn new(root: &Path, runtime: &Path) -> Self {
        Self { root: root.to_owned(), runtime: runtime.to_owned() }
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    pub(crate) fn runtime(&self) -> &Path {
        &self.runtime
    }

    pub(crate) fn format(&self) -> PathBuf {
        self.root.join("format")
    }

    pub(crate) fn boot(&self) -> PathBuf {
        self.root.join("boot")
    }

    pub(crate) fn layers(&self) -> PathBuf {
        self.root.join("layers")
    }

    pub(crate) fn layer(&self, id: LayerId) -> PathBuf {
        self.root.join(format!("layers/{id}"))
    }

    pub(crate) fn step_document(&self, layer: LayerId, key: &StepKey) -> PathBuf {
        self.root.join(format!("layers/{layer}/step-{key}.json"))
    }

    pub(crate) fn step_nodes(&self, layer: LayerId, key: &StepKey) -> PathBuf {
        self.root.join(format!("layers/{layer}/step-{key}.nodes"))
    }

    pub(crate) fn inputs(&self) -> PathBuf {
        self.root.join("inputs")
    }

    pub(crate) fn images(&self) -> PathBuf {
        self.root.join("images")
    }

    pub(crate) fn image(&self, id: ImageId) -> PathBuf {
        self.root.join("images").join(id.hex())
    }

    pub(crate) fn tags(&self) -> PathBuf {
        self.root.join("tags")
    }

    /// The durable value of a tag.
    pub(crate) fn tag(&self, reference: &Reference) -> PathBuf {
        self.root.join("tags").join(tag_file_name(reference) + ".json")
    }

    /// The later value of a tag that isn't durable yet.
    pub(crate) fn new_tag(&self, reference: &Reference) -> PathBuf {
        self.root.join("tags").join(tag_file_name(reference) + ".new")
    }

    pub(crate) fn containers(&self) -> PathBuf {
        self.root.join("containers")
    }

    /// `id` has been checked to be hexadecimal digits.
    pub(crate) fn container(&self, id: &str) -> PathBuf {
        self.root.join("containers").join(id)
    }

    /// `name` has been checked to be a container name, which has no `/` and begins with no `.`.
    pub(crate) fn container_name(&self, name: &str) -> PathBuf {
        self.root.join("containers/.names").join(name)
    }

    pub(crate) fn mounts(&self) -> PathBuf {
        self.root.join("mounts")
    }

    /// The folder of a scope's cache mounts.
    pub(crate) fn mount_scope(&self, scope: &str) -> PathBuf {
        self.mounts().join(safe_name(scope))
    }

    /// The name of a cache mount's folder in its scope: `id` is a Dockerfile's text, so only its hash.
    pub(crate) fn mount_name(id: &str) -> String {
        blake3::hash(id.as_bytes()).to_hex()[..32].to_owned()
    }

    pub(crate) fn builds(&self) -> PathBuf {
        self.root.join("builds")
    }

    pub(crate) fn contexts(&self) -> PathBuf {
        self.root.join("contexts")
    }

    pub(crate) fn failed(&self) -> PathBuf {
        self.root.join("failed")
    }

    pub(crate) fn tmp(&self) -> PathBuf {
        self.root.join("tmp")
    }

    pub(crate) fn trash(&self) -> PathBuf {
        self.root.join("trash")
    }

    pub(crate) fn index(&self) -> PathBuf {
        self.root.join("index.db")
    }

    pub(crate) fn locks(&self) -> PathBuf {
        self.runtime.join("locks")
    }

    pub(crate) fn step_lock(&self, key: &StepKey) -> PathBuf {
        self.runtime.join(format!("locks/step-{key}"))
    }

    pub(crate) fn index_lock(&self) -> PathBuf {
        self.root.join("index.lock")
    }
}

/// The longest name that leaves room for a suffix: file systems take 255 bytes.
const MAX_NAME: usize = 240;

/// A reference as a file name: `/` is written `+`, which no reference has; names too long end in `~` and a hash.
fn tag_file_name(reference: &Reference) -> String {
    let name = reference.to_string().replace('/', "+");
    if name.len() <= MAX_NAME {
        return name;
    }
    let hash = blake3::hash(name.as_bytes()).to_hex();
    format!("{}~{}", &name[..MAX_NAME - 33], &hash[..32])
}

/// `text` where it can be a file name as it is, else a hash of it.
pub(crate) fn safe_name(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte);
    if !text.is_empty() && text.len() <= 64 && !text.starts_with('.') && text.bytes().all(plain) {
        return text.to_owned();
    }
    format!("~{}", &blake3::hash(text.as_bytes()).to_hex()[..32])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_tags_are_one_component_short_enough_and_tell_references_apart() {
        let name = |text: &str| tag_file_name(&text.parse().unwrap());
        assert_eq!(name("app:1.0"), "docker.io+library+app:1.0");
        assert_eq!(name("localhost:5000/a/b"), "localhost:5000+a+b:latest");
        let repository = "a/".repeat(100) + "b";
        let (one, two) = (
            name(&format!("{repository}:{}", "x".repeat(128))),
            name(&format!("{repository}:{}y", "x".repeat(127))),
        );
        assert_ne!(one, two);
        for name in [one, two] {
            assert!(name.len() <= MAX_NAME && !name.contains('/'), "{name}");
        }
    }

    #[test]
    fn a_hostile_scope_or_id_is_only_a_hash() {
        let layout = Layout::new(Path::new("/r"), Path::new("/run"));
        assert_eq!(layout.mount_scope("default"), Path::new("/r/mounts/default"));
        for hostile in ["", ".", "..", "../x", "a/b", "a\0b", "~x"] {
            let path = layout.mount_scope(hostile);
            assert_eq!(path.parent(), Some(Path::new("/r/mounts")), "{hostile:?}");
            assert!(path.file_name().unwrap().to_str().unwrap().starts_with('~'), "{hostile:?}");
            assert_eq!(Layout::mount_name(hostile).len(), 32);
        }
    }
}
