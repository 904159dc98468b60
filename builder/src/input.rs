//! The inputs of a step, by name: what its key is made from and what its record keeps.
//!
//! ```text
//! root ─┬─ inputs   what the shape key is the digest of ─┬─ instruction, argv, user, workdir, platform, ...
//!       │                                                ├─ env ── one text for each variable
//!       │                                                ├─ mounts ── one node for each
//!       │                                                └─ sources ── one node for each word, one for each directory
//!       ├─ parent   what it stands on, to be shown; its key goes into the step key
//!       └─ notes    what only causes need: where sources lie, which variables are ARGs; in no key
//! ```
//!
//! An input that has no say is not there at all (no `chmod`, no mounts), so that a new kind of input changes no key of
//! a step that doesn't use it. Names and values are part of the key's format: `cache_key`'s pinned test holds them.

use std::collections::BTreeMap;

use oci::{Digest, ImageId, Platform};
use store::{ContentKey, InputMetadata, InputNode, InputValue, NodeId, ShapeKey, StepKey};

use crate::NetworkMode;
use crate::cache_key::{self, LayerContent, ParentKey};
use crate::expanded::{Chmod, CopySourceStep, CopyStep, Mount, RunStep, VariableKind, WorkdirStep};
use crate::graph::ContentSource;
use crate::scope::looks_secret;

/// What is known of a file of any kind. The rules of the step decide what of it goes into the key: give all of it, as
/// the source has it (0:0 for what lies in a context or another folder of the host).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SourceFacts {
    /// Permission bits, `07777`.
    pub mode: u32,
    /// Owner: counts only for what doesn't come from the build context.
    pub uid: u32,
    /// Group: like the owner.
    pub gid: u32,
    /// Extended attributes that a copy takes along, name to value.
    pub xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    /// Modification time in nanoseconds since 1970, of what a layer holds: a copy takes it along. Nothing for what was
    /// made while its step ran, which counts as "now", and for what lies in a context, whose times have no say.
    pub mtime_ns: Option<i64>,
}

/// A file, directory, link or device that a step reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SourceNode {
    /// A regular file.
    File {
        /// Its metadata.
        facts: SourceFacts,
        /// blake3 of its content.
        digest: [u8; 32],
        /// An earlier file of the same copy (its path within the selected tree) that is hard-linked to this one.
        linked_to: Option<Vec<u8>>,
    },
    /// A symbolic link that is not followed.
    Link {
        /// Its metadata; the mode never counts.
        facts: SourceFacts,
        /// Its text.
        target: Vec<u8>,
    },
    /// A directory.
    Directory {
        /// Its metadata.
        facts: SourceFacts,
        /// What it holds, by file name.
        children: BTreeMap<Vec<u8>, SourceNode>,
    },
    /// A device or FIFO.
    Special {
        /// Its metadata.
        facts: SourceFacts,
        /// The `S_IFMT` bits.
        kind: u32,
        /// Device number.
        device: u64,
    },
}

/// What one word of COPY or ADD selected.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SourceInput {
    /// In the order of copying; empty when a pattern matched nothing.
    pub matches: Vec<SourceMatch>,
}

/// One path that is copied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceMatch {
    /// Where it lies in its root, without a leading `/`; what causes show.
    pub path: Vec<u8>,
    /// What it becomes below the target: its file name; with `--parents` the path that is kept; nothing for a
    /// directory whose contents are copied.
    pub name: Option<Vec<u8>>,
    /// What is there, excluded and ignored files left out, a link that is followed replaced by what it leads to.
    pub node: SourceNode,
}

/// What a step stands on, to name it in a cause.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Parent {
    /// Nothing.
    Scratch,
    /// A base image.
    Image {
        /// Its name as docker shows it: `debian:12`.
        name: String,
        /// The image.
        id: ImageId,
        /// The digest that the name stands for, shown in `base image debian:12 moved`: the manifest's where it is
        /// known, else the image ID.
        digest: Digest,
    },
    /// A named context that is a folder.
    Folder {
        /// Its name.
        name: String,
        /// The node of its tree.
        node: NodeId,
    },
    /// The step with the layer below.
    Step {
        /// Its key.
        key: StepKey,
        /// `3/7` or `build 3/7`: [`BuildStage::step_number`](crate::graph::BuildStage::step_number).
        number: String,
        /// Its text.
        text: String,
    },
}

impl Parent {
    /// What the step key of its child is made from.
    pub fn key(&self) -> ParentKey {
        match self {
            Self::Scratch => ParentKey::Scratch,
            Self::Image { id, .. } => ParentKey::Image(*id),
            Self::Folder { node, .. } => ParentKey::Folder(*node),
            Self::Step { key, .. } => ParentKey::Step(*key),
        }
    }

    fn node(&self) -> InputNode {
        let mut node = InputNode::new();
        let mut put = |name: &str, value: InputValue| node.insert(name, value);
        match self {
            Self::Scratch => put(names::KIND, text("scratch")),
            Self::Image { name, id, digest } => {
                put(names::KIND, text("image"));
                put(names::NAME, text(name));
                put(names::KEY, text(&id.to_string()));
                put(names::DIGEST, text(&digest.to_string()));
            }
            Self::Folder { name, node } => {
                put(names::KIND, text("folder"));
                put(names::NAME, text(name));
                put(names::KEY, text(&node.to_string()));
            }
            Self::Step { key, number, text: step } => {
                put(names::KIND, text("step"));
                put(names::NAME, text(step));
                put(names::KEY, text(&key.to_string()));
                put(names::NUMBER, text(number));
            }
        }
        node
    }
}

/// The names of inputs, as nodes have them.
pub(crate) mod names {
    pub(crate) const INPUTS: &str = "inputs";
    pub(crate) const PARENT: &str = "parent";
    pub(crate) const NOTES: &str = "notes";

    pub(crate) const INSTRUCTION: &str = "instruction";
    pub(crate) const ARGV: &str = "argv";
    pub(crate) const SCRIPT: &str = "script";
    pub(crate) const ENV: &str = "env";
    pub(crate) const MOUNTS: &str = "mounts";
    pub(crate) const MOUNT_ORDER: &str = "mount order";
    pub(crate) const CONTENT: &str = "content";
    pub(crate) const SOURCES: &str = "sources";

    /// In `notes`: the names of variables that an ARG set.
    pub(crate) const ARGS: &str = "args";

    pub(crate) const KIND: &str = "kind";
    pub(crate) const NAME: &str = "name";
    pub(crate) const KEY: &str = "key";
    pub(crate) const DIGEST: &str = "digest";
    pub(crate) const NUMBER: &str = "number";

    /// Marks the entry beside a file that says which other file it is linked to. No file name has a NUL.
    pub(crate) const LINKED: &[u8] = b"\0linked";
}

/// The inputs of one step as nodes: [`StepRecord::inputs`](store::StepRecord) is `root`.
#[derive(Clone, Debug)]
pub struct StepInputs {
    /// The node that holds all others.
    pub root: NodeId,
    /// Digest of the inputs without the parent.
    pub shape: ShapeKey,
    /// Under this parent.
    pub step_key: StepKey,
    nodes: BTreeMap<NodeId, InputNode>,
}

impl StepInputs {
    fn new(inputs: InputNode, notes: InputNode, parent: &Parent, mut nodes: Nodes) -> Self {
        let inputs = nodes.add(inputs);
        let shape = cache_key::shape_key(inputs);
        let mut root = InputNode::new();
        root.insert(names::INPUTS, InputValue::Node(inputs));
        let parent_node = nodes.add(parent.node());
        root.insert(names::PARENT, InputValue::Node(parent_node));
        if !notes.is_empty() {
            let notes = nodes.add(notes);
            root.insert(names::NOTES, InputValue::Node(notes));
        }
        let root = nodes.add(root);
        Self { root, shape, step_key: cache_key::step_key(shape, parent.key()), nodes: nodes.0 }
    }

    /// Under parents with these layers, base first.
    pub fn content_key(&self, layers: &[LayerContent]) -> ContentKey {
        cache_key::content_key(self.shape, layers)
    }

    /// A node of it.
    pub fn node(&self, id: &NodeId) -> Option<&InputNode> {
        self.nodes.get(id)
    }

    /// All nodes, for [`Store::put_step`](store::Store::put_step).
    pub fn into_nodes(self) -> Vec<InputNode> {
        self.nodes.into_values().collect()
    }
}

/// The inputs of `RUN`. `binds` has the tree of each bind mount's source, by the mount's place in
/// [`RunStep::mounts`]; caches and secrets never count by content.
pub fn run_inputs(
    run: &RunStep,
    platform: &Platform,
    binds: &BTreeMap<usize, SourceNode>,
    parent: &Parent,
) -> StepInputs {
    let mut nodes = Nodes::default();
    let mut inputs = InputNode::new();
    let mut notes = InputNode::new();
    inputs.insert(names::INSTRUCTION, text("RUN"));
    let mut argv = InputNode::new();
    for (index, argument) in run.argv.iter().enumerate() {
        argv.insert(ordinal(index), text(argument));
    }
    inputs.insert(names::ARGV, nodes.group(argv));
    if let Some(script) = &run.script {
        inputs.insert(names::SCRIPT, text(&script.body));
    }

    let mut env = InputNode::new();
    let mut args = InputNode::new();
    for (name, variable) in &run.env {
        env.insert(name.as_str(), variable_value(name, &variable.value));
        if variable.kind == VariableKind::Arg {
            args.insert(name.as_str(), text(""));
        }
    }
    inputs.insert(names::ENV, nodes.group(env));
    if !args.is_empty() {
        notes.insert(names::ARGS, nodes.group(args));
    }

    inputs.insert("user", text(&run.user));
    inputs.insert("workdir", text(&run.workdir));
    inputs.insert("platform", text(&platform.to_string()));
    let network = match run.network {
        NetworkMode::Default => "default",
        NetworkMode::None => "none",
        NetworkMode::Host => "host",
    };
    inputs.insert("network", text(network));
    inputs.insert("hostname", text(&run.hostname));
    if !run.extra_hosts.is_empty() {
        inputs.insert("extra hosts", text(&run.extra_hosts.join(" ")));
    }

    let mut mounts = InputNode::new();
    let mut places = InputNode::new();
    let mut order = Vec::new();
    for (index, step) in run.mounts.iter().enumerate() {
        let name = free_name(&mounts, mount_name(&step.mount).into_bytes());
        let node = mount_node(&step.mount, binds.get(&index), &mut nodes);
        mounts.insert(name.clone(), nodes.group(node));
        if let Mount::Bind { from, source, .. } = &step.mount {
            places.insert(name.clone(), place(from, source.trim_start_matches('/').as_bytes()));
        }
        order.push(String::from_utf8_lossy(&name).into_owned());
    }
    if !mounts.is_empty() {
        inputs.insert(names::MOUNTS, nodes.group(mounts));
        // One mount may hide another.
        if order.len() > 1 {
            inputs.insert(names::MOUNT_ORDER, text(&order.join(" ")));
        }
    }
    if !places.is_empty() {
        notes.insert(names::MOUNTS, nodes.group(places));
    }
    StepInputs::new(inputs, notes, parent, nodes)
}

/// The target, or the variable of a secret that has no file.
fn mount_name(mount: &Mount) -> String {
    match mount {
        Mount::Secret { target: None, env, .. } => format!("${}", env.as_deref().unwrap_or_default()),
        mount => mount.target().unwrap_or_default().to_owned(),
    }
}

fn mount_node(mount: &Mount, content: Option<&SourceNode>, nodes: &mut Nodes) -> InputNode {
    let mut node = InputNode::new();
    let mut put = |name: &str, value: String| node.insert(name, InputValue::Text(value));
    match mount {
        Mount::Bind { from, readonly, .. } => {
            put("type", "bind".to_owned());
            put("readonly", readonly.to_string());
            let policy = Policy { modes: true, owners: *from != ContentSource::Context };
            if let Some(content) = content {
                let value = nodes.value(content, policy);
                node.insert(names::CONTENT, value);
            }
        }
        // Neither id nor sharing: two caches differ in what they hold, and that has no say.
        Mount::Cache { readonly, mode, uid, gid, id: _, sharing: _, from: _, source: _, target: _ } => {
            put("type", "cache".to_owned());
            put("readonly", readonly.to_string());
            put("mode", format!("{mode:04o}"));
            put("owner", format!("{uid}:{gid}"));
        }
        Mount::Tmpfs { size_bytes, .. } => {
            put("type", "tmpfs".to_owned());
            if let Some(size) = size_bytes {
                put("size", size.to_string());
            }
        }
        Mount::Secret { id, target: _, env, required, mode, uid, gid } => {
            put("type", "secret".to_owned());
            put("id", id.clone());
            if let Some(env) = env {
                put("env", env.clone());
            }
            put("required", required.to_string());
            put("mode", format!("{mode:04o}"));
            put("owner", format!("{uid}:{gid}"));
        }
    }
    node
}

/// The inputs of `COPY` and `ADD`. `sources` has what each [`CopySourceStep::Path`] selected, in order.
/// `epoch` is `SOURCE_DATE_EPOCH`, which clamps the times that files keep.
///
/// Patterns, `--exclude`s and the place of the sources have no say of their own: what they select has.
pub fn copy_inputs(
    copy: &CopyStep,
    sources: &[SourceInput],
    epoch: Option<i64>,
    parent: &Parent,
) -> StepInputs {
    let mut nodes = Nodes::default();
    let mut inputs = InputNode::new();
    inputs.insert(names::INSTRUCTION, text("COPY"));
    inputs.insert("target", text(&copy.target));
    if let Some(chown) = &copy.chown {
        inputs.insert("chown", text(chown));
    }
    let policy = Policy {
        // What an absolute mode replaces has no say.
        modes: !matches!(copy.chmod, Some(Chmod::Mode(_))),
        owners: copy.from != ContentSource::Context && copy.chown.is_none(),
    };
    match &copy.chmod {
        Some(Chmod::Mode(mode)) => inputs.insert("chmod", text(&format!("{mode:04o}"))),
        Some(Chmod::Symbolic(words)) => inputs.insert("chmod", text(words)),
        None => {}
    }
    for (name, is_set) in [("link", copy.link), ("parents", copy.parents), ("unpack", copy.unpack)]
        .into_iter()
        // Not there for those that have none, so that their keys stay as they are.
        .chain(copy.unpack_remote.then_some(("unpack remote", true)))
    {
        if is_set {
            inputs.insert(name, text("true"));
        }
    }
    if let Some(epoch) = epoch {
        inputs.insert("epoch", text(&epoch.to_string()));
    }

    let mut words = InputNode::new();
    let mut places = InputNode::new();
    let mut selected = sources.iter();
    for (index, source) in copy.sources.iter().enumerate() {
        let mut word = InputNode::new();
        let mut word_places = InputNode::new();
        match source {
            CopySourceStep::Path { .. } | CopySourceStep::Remote { .. } => {
                for found in selected.next().map(|input| input.matches.as_slice()).unwrap_or_default() {
                    let name = free_name(&word, found.name.clone().unwrap_or_default());
                    nodes.put(&mut word, name.clone(), &found.node, policy);
                    word_places.insert(name, place(&copy.from, &found.path));
                }
            }
            CopySourceStep::Document { name, body, .. } => {
                let metadata =
                    InputMetadata { mode: policy.modes.then_some(0o644), ..InputMetadata::default() };
                let digest = *blake3::hash(body.as_bytes()).as_bytes();
                word.insert(name.as_str(), InputValue::File { metadata, digest });
                word_places.insert(name.as_str(), InputValue::Text(format!("<<{name}")));
            }
        }
        words.insert(ordinal(index), nodes.group(word));
        places.insert(ordinal(index), nodes.group(word_places));
    }
    inputs.insert(names::SOURCES, nodes.group(words));
    let mut notes = InputNode::new();
    notes.insert(names::SOURCES, nodes.group(places));
    StepInputs::new(inputs, notes, parent, nodes)
}

/// The inputs of `WORKDIR`.
pub fn workdir_inputs(workdir: &WorkdirStep, epoch: Option<i64>, parent: &Parent) -> StepInputs {
    let mut inputs = InputNode::new();
    inputs.insert(names::INSTRUCTION, text("WORKDIR"));
    inputs.insert("path", text(&workdir.path));
    inputs.insert("user", text(&workdir.user));
    if let Some(epoch) = epoch {
        inputs.insert("epoch", text(&epoch.to_string()));
    }
    StepInputs::new(inputs, InputNode::new(), parent, Nodes::default())
}

/// The node of a folder that is a base ([`Parent::Folder`]): modes count, owners don't.
pub fn folder_node(tree: &SourceNode) -> (NodeId, Vec<InputNode>) {
    let mut nodes = Nodes::default();
    let mut root = InputNode::new();
    let policy = Policy { modes: true, owners: false };
    nodes.put(&mut root, Vec::new(), tree, policy);
    let id = nodes.add(root);
    (id, nodes.0.into_values().collect())
}

/// Which metadata counts.
#[derive(Clone, Copy)]
struct Policy {
    modes: bool,
    owners: bool,
}

impl Policy {
    fn metadata(self, facts: &SourceFacts) -> InputMetadata {
        InputMetadata {
            mode: self.modes.then_some(facts.mode & 0o7777),
            owner: self.owners.then_some((facts.uid, facts.gid)),
            xattrs: (!facts.xattrs.is_empty()).then(|| digest_of_xattrs(&facts.xattrs)),
            mtime_ns: facts.mtime_ns,
        }
    }
}

fn digest_of_xattrs(xattrs: &BTreeMap<Vec<u8>, Vec<u8>>) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    for part in xattrs.iter().flat_map(|(name, value)| [name, value]) {
        hasher.update(&(part.len() as u64).to_le_bytes()).update(part);
    }
    *hasher.finalize().as_bytes()
}

#[derive(Default)]
struct Nodes(BTreeMap<NodeId, InputNode>);

impl Nodes {
    fn add(&mut self, node: InputNode) -> NodeId {
        let id = node.id();
        self.0.entry(id).or_insert(node);
        id
    }

    fn group(&mut self, node: InputNode) -> InputValue {
        InputValue::Node(self.add(node))
    }

    /// Puts a file of any kind into the node of its directory.
    fn put(&mut self, directory: &mut InputNode, name: Vec<u8>, source: &SourceNode, policy: Policy) {
        if let SourceNode::File { linked_to: Some(other), .. } = source {
            let value = InputValue::Link { metadata: InputMetadata::default(), target: other.clone() };
            directory.insert([&name, names::LINKED].concat(), value);
        }
        let value = self.value(source, policy);
        directory.insert(name, value);
    }

    fn value(&mut self, source: &SourceNode, policy: Policy) -> InputValue {
        match source {
            SourceNode::File { facts, digest, .. } => {
                InputValue::File { metadata: policy.metadata(facts), digest: *digest }
            }
            SourceNode::Link { facts, target } => {
                let metadata = InputMetadata { mode: None, ..policy.metadata(facts) };
                InputValue::Link { metadata, target: target.clone() }
            }
            SourceNode::Directory { facts, children } => {
                let mut node = InputNode::new();
                for (name, child) in children {
                    self.put(&mut node, name.clone(), child, policy);
                }
                InputValue::Directory { metadata: policy.metadata(facts), node: self.add(node) }
            }
            SourceNode::Special { facts, kind, device } => {
                InputValue::Special { metadata: policy.metadata(facts), kind: *kind, device: *device }
            }
        }
    }
}

fn text(value: &str) -> InputValue {
    InputValue::Text(value.to_owned())
}

/// The value of what looks like a secret isn't kept: its digest tells whether it changed.
fn variable_value(name: &str, value: &str) -> InputValue {
    if !looks_secret(name) {
        return text(value);
    }
    let mut hasher = blake3::Hasher::new_derive_key("calque.builder.v1 variable that looks secret");
    hasher.update(&(name.len() as u64).to_le_bytes()).update(name.as_bytes()).update(value.as_bytes());
    InputValue::Digest(*hasher.finalize().as_bytes())
}

/// Where something lies, as causes show it: absolute unless it is in the build context.
fn place(from: &ContentSource, path: &[u8]) -> InputValue {
    let slash: &[u8] = if *from == ContentSource::Context { b"" } else { b"/" };
    InputValue::Link { metadata: InputMetadata::default(), target: [slash, path].concat() }
}

/// Names of ordered things sort by number.
pub(crate) fn ordinal(index: usize) -> String {
    format!("{index:06}")
}

/// `name`, or with a number behind it that no name in `node` has: two sources may become one file, the later winning.
fn free_name(node: &InputNode, name: Vec<u8>) -> Vec<u8> {
    if node.get(&name).is_none() {
        return name;
    }
    (2_u32..)
        .map(|count| [name.as_slice(), b"\0", count.to_string().as_bytes()].concat())
        .find(|candidate| node.get(candidate).is_none())
        .expect("a node has fewer entries than there are numbers")
}
