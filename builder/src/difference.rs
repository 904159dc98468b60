//! The differences between two input trees, in the order in which they are told.

use std::borrow::Cow;
use std::collections::BTreeSet;

use store::{InputMetadata, InputNode, InputValue, NodeId};

use crate::cause::{Cause, PathChange};
use crate::expanded::VariableKind;
use crate::input::{StepInputs, names};

/// Most differences between files that are kept; the others are counted.
const LIMIT: usize = crate::cause::Explanation::LIMIT;

/// A step's inputs beside those of an earlier result.
pub(crate) struct Comparison<'a> {
    current: &'a StepInputs,
    load: &'a mut dyn FnMut(&NodeId) -> Option<InputNode>,
    /// The parts of the two roots.
    after: Parts,
    before: Parts,
    readable: bool,
    causes: Vec<Cause>,
    more: usize,
    added: Vec<(String, InputValue)>,
    removed: Vec<(String, InputValue)>,
}

#[derive(Default)]
struct Parts {
    inputs: InputNode,
    parent: InputNode,
    notes: InputNode,
}

/// Which of the two trees.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Before,
    After,
}

impl<'a> Comparison<'a> {
    /// `before` is the root of the earlier tree, whose nodes `load` gets.
    pub(crate) fn new(
        current: &'a StepInputs,
        before: NodeId,
        load: &'a mut dyn FnMut(&NodeId) -> Option<InputNode>,
    ) -> Self {
        let mut comparison = Self {
            current,
            load,
            after: Parts::default(),
            before: Parts::default(),
            readable: true,
            causes: Vec::new(),
            more: 0,
            added: Vec::new(),
            removed: Vec::new(),
        };
        comparison.after = comparison.parts(Side::After, current.root);
        comparison.before = comparison.parts(Side::Before, before);
        comparison
    }

    /// Whether the earlier tree is there.
    pub(crate) fn is_readable(&self) -> bool {
        self.readable
    }

    /// How far apart the two are, without their files: 1 when the instructions read the same.
    pub(crate) fn distance(&self) -> u8 {
        if !self.readable {
            return u8::MAX;
        }
        let same = |names: &[&str]| {
            names.iter().all(|name| self.after.inputs.get(name) == self.before.inputs.get(name))
        };
        match (same(&[names::INSTRUCTION]), same(&[names::ARGV, names::SCRIPT, "target", "path"])) {
            (true, true) => 1,
            (true, false) => 2,
            (false, _) => 3,
        }
    }

    /// All differences, and how many more there are.
    pub(crate) fn causes(&mut self) -> (Vec<Cause>, usize) {
        let parent = self.parent();
        let (base, step): (Vec<_>, Vec<_>) =
            parent.into_iter().partition(|cause| !matches!(cause, Cause::Parent { .. }));
        self.causes.extend(base);
        self.own();
        self.causes.extend(step);
        (std::mem::take(&mut self.causes), self.more)
    }

    fn node(&mut self, side: Side, id: &NodeId) -> Option<InputNode> {
        match side {
            Side::After => self.current.node(id).cloned(),
            Side::Before => (self.load)(id),
        }
    }

    fn parts(&mut self, side: Side, root: NodeId) -> Parts {
        let Some(root) = self.node(side, &root) else {
            self.readable = false;
            return Parts::default();
        };
        let inputs = self.group(side, root.get(names::INPUTS));
        self.readable &= !inputs.is_empty();
        let parent = self.group(side, root.get(names::PARENT));
        let notes = self.group(side, root.get(names::NOTES));
        Parts { inputs, parent, notes }
    }

    /// The node behind a group; an empty one where there is none.
    fn group(&mut self, side: Side, value: Option<&InputValue>) -> InputNode {
        match value {
            Some(InputValue::Node(id)) => {
                let id = *id;
                self.node(side, &id).unwrap_or_default()
            }
            _ => InputNode::new(),
        }
    }

    fn parent(&self) -> Option<Cause> {
        let (before, after) = (&self.before.parent, &self.after.parent);
        if before.get(names::KEY) == after.get(names::KEY)
            && before.get(names::KIND) == after.get(names::KIND)
        {
            return None;
        }
        let kind = |node| text_of(node, names::KIND);
        let shown = |node| match kind(node).as_str() {
            "scratch" => "scratch".to_owned(),
            "image" => text_of(node, names::NAME),
            other => format!("{other} {}", text_of(node, names::NAME)),
        };
        Some(match (kind(before).as_str(), kind(after).as_str()) {
            (_, "step") => Cause::Parent { number: text_of(after, names::NUMBER) },
            ("image", "image") if before.get(names::NAME) == after.get(names::NAME) => {
                let digests = (text_of(before, names::DIGEST), text_of(after, names::DIGEST));
                // Two images under one digest: an index whose choice differs.
                let (before, after) = if digests.0 == digests.1 {
                    (text_of(before, names::KEY), text_of(after, names::KEY))
                } else {
                    digests
                };
                Cause::BaseMoved { name: text_of(&self.after.parent, names::NAME), before, after }
            }
            ("folder", "folder") if before.get(names::NAME) == after.get(names::NAME) => Cause::Path {
                path: format!("context {}", text_of(after, names::NAME)),
                change: PathChange::Content,
            },
            _ => Cause::Base { before: shown(before), after: shown(after) },
        })
    }

    /// The step's own inputs: the instruction, then what it sees, then its files.
    fn own(&mut self) {
        let rank = |name: &[u8]| match str::from_utf8(name).unwrap_or_default() {
            names::INSTRUCTION => 0,
            names::ARGV | names::SCRIPT | "target" | "path" => 1,
            names::SOURCES => 2,
            names::ENV => 3,
            names::MOUNTS => 5,
            names::MOUNT_ORDER => 6,
            _ => 4,
        };
        let (old, new) = (&self.before.inputs, &self.after.inputs);
        let mut ordered: Vec<Vec<u8>> =
            all_names(old, new).into_iter().filter(|name| old.get(name) != new.get(name)).collect();
        ordered.sort_by_key(|name| (rank(name), name.clone()));
        if ordered.first().is_some_and(|name| name == names::INSTRUCTION.as_bytes()) {
            ordered.truncate(1);
        }
        for name in ordered {
            let before = self.before.inputs.get(&name).cloned();
            let after = self.after.inputs.get(&name).cloned();
            match str::from_utf8(&name).unwrap_or_default() {
                names::ARGV => self.argv(before.as_ref(), after.as_ref()),
                names::SCRIPT => {
                    let both = (text_value(before.as_ref()), text_value(after.as_ref()));
                    self.text("RUN", &both.0, &both.1);
                }
                names::ENV => self.variables(before.as_ref(), after.as_ref()),
                names::SOURCES => self.sources(before.as_ref(), after.as_ref()),
                names::MOUNTS => self.mounts(before.as_ref(), after.as_ref()),
                // Said already by the mounts themselves, where one came or went.
                names::MOUNT_ORDER if self.causes.iter().any(is_mount) => {}
                name => self.setting(name.to_owned(), before.as_ref(), after.as_ref()),
            }
        }
    }

    fn setting(&mut self, name: String, before: Option<&InputValue>, after: Option<&InputValue>) {
        let text = |value: Option<&InputValue>| value.map(|value| text_value(Some(value)));
        self.causes.push(Cause::Setting { name, before: text(before), after: text(after) });
    }

    fn argv(&mut self, before: Option<&InputValue>, after: Option<&InputValue>) {
        let (before, after) = (self.group(Side::Before, before), self.group(Side::After, after));
        let words = |node: &InputNode| {
            node.entries().map(|(_, value)| text_value(Some(value))).collect::<Vec<_>>().join(" ")
        };
        self.text("RUN", &words(&before), &words(&after));
    }

    /// The words that differ, without what is the same before and behind them.
    fn text(&mut self, instruction: &str, before: &str, after: &str) {
        let (old, new): (Vec<&str>, Vec<&str>) =
            (before.split_whitespace().collect(), after.split_whitespace().collect());
        let head = old.iter().zip(&new).take_while(|(old, new)| old == new).count();
        let (old, new) = (&old[head..], &new[head..]);
        let tail = old.iter().rev().zip(new.iter().rev()).take_while(|(old, new)| old == new).count();
        let (old, new) = (&old[..old.len() - tail], &new[..new.len() - tail]);
        let (before, after) = if old.is_empty() && new.is_empty() {
            // White space within quotes or lines: the shell sees it.
            ("its white space".to_owned(), "other white space".to_owned())
        } else {
            (old.join(" "), new.join(" "))
        };
        self.causes.push(Cause::Text { instruction: instruction.to_owned(), before, after });
    }

    fn variables(&mut self, before: Option<&InputValue>, after: Option<&InputValue>) {
        let (before, after) = (self.group(Side::Before, before), self.group(Side::After, after));
        let notes = (self.before.notes.get(names::ARGS).cloned(), self.after.notes.get(names::ARGS).cloned());
        let args = (self.group(Side::Before, notes.0.as_ref()), self.group(Side::After, notes.1.as_ref()));
        for name in all_names(&before, &after) {
            let values = (before.get(&name), after.get(&name));
            if values.0 == values.1 {
                continue;
            }
            let is_arg = if values.1.is_some() { args.1.get(&name) } else { args.0.get(&name) }.is_some();
            self.causes.push(Cause::Variable {
                kind: if is_arg { VariableKind::Arg } else { VariableKind::Env },
                name: lossy(&name),
                before: values.0.map(|value| text_value(Some(value))),
                after: values.1.map(|value| text_value(Some(value))),
            });
        }
        // An ARG is the likelier reason: an ENV that is made from it differs too.
        self.causes.sort_by_key(|cause| match cause {
            Cause::Variable { kind: VariableKind::Arg, .. } => 1,
            Cause::Variable { kind: VariableKind::Env, .. } => 2,
            _ => 0,
        });
    }

    fn sources(&mut self, before: Option<&InputValue>, after: Option<&InputValue>) {
        let (before, after) = (self.group(Side::Before, before), self.group(Side::After, after));
        let notes =
            (self.before.notes.get(names::SOURCES).cloned(), self.after.notes.get(names::SOURCES).cloned());
        let places = (self.group(Side::Before, notes.0.as_ref()), self.group(Side::After, notes.1.as_ref()));
        for word in all_names(&before, &after) {
            if before.get(&word) == after.get(&word) {
                continue;
            }
            let values =
                (self.group(Side::Before, before.get(&word)), self.group(Side::After, after.get(&word)));
            let word_places =
                (self.group(Side::Before, places.0.get(&word)), self.group(Side::After, places.1.get(&word)));
            for name in all_names(&values.0, &values.1) {
                let place = |side: &InputNode| side.get(&name).map(path_value);
                let paths = (place(&word_places.0), place(&word_places.1));
                let fallback = || lossy(&name);
                let after_path = paths.1.clone().or(paths.0.clone()).unwrap_or_else(fallback);
                let before_path = paths.0.or(paths.1).unwrap_or_else(fallback);
                self.value(&before_path, &after_path, values.0.get(&name), values.1.get(&name));
            }
        }
        self.pair_renames();
    }

    fn mounts(&mut self, before: Option<&InputValue>, after: Option<&InputValue>) {
        let (before, after) = (self.group(Side::Before, before), self.group(Side::After, after));
        let notes =
            (self.before.notes.get(names::MOUNTS).cloned(), self.after.notes.get(names::MOUNTS).cloned());
        let places = (self.group(Side::Before, notes.0.as_ref()), self.group(Side::After, notes.1.as_ref()));
        for name in all_names(&before, &after) {
            let values = (before.get(&name), after.get(&name));
            if values.0 == values.1 {
                continue;
            }
            let (old, new) = (self.group(Side::Before, values.0), self.group(Side::After, values.1));
            let shown_name = format!("mount {}", lossy(&name));
            if values.0.is_none() || values.1.is_none() {
                let kind = |node: &InputNode| node.get("type").map(|value| text_value(Some(value)));
                self.causes.push(Cause::Setting { name: shown_name, before: kind(&old), after: kind(&new) });
                continue;
            }
            for option in all_names(&old, &new) {
                let options = (old.get(&option).cloned(), new.get(&option).cloned());
                if options.0 == options.1 {
                    continue;
                }
                if option == names::CONTENT.as_bytes() {
                    let place = |node: &InputNode| node.get(&name).map(path_value).unwrap_or_default();
                    let (before_path, after_path) = (place(&places.0), place(&places.1));
                    self.value(&before_path, &after_path, options.0.as_ref(), options.1.as_ref());
                } else {
                    let name = format!("{shown_name} {}", lossy(&option));
                    self.setting(name, options.0.as_ref(), options.1.as_ref());
                }
            }
        }
        self.pair_renames();
    }

    fn path(&mut self, path: &str, change: PathChange) {
        if self.causes.len() < LIMIT {
            self.causes.push(Cause::Path { path: path.to_owned(), change });
        } else {
            self.more += 1;
        }
    }

    /// Two files of any kind; paths are those of the two sides.
    fn value(
        &mut self,
        before_path: &str,
        after_path: &str,
        before: Option<&InputValue>,
        after: Option<&InputValue>,
    ) {
        let (before, after) = match (before, after) {
            (Some(before), Some(after)) if before == after => return,
            (Some(before), Some(after)) => (before, after),
            (None, Some(after)) => return self.came_or_went(after_path, after, Side::After),
            (Some(before), None) => return self.came_or_went(before_path, before, Side::Before),
            (None, None) => return,
        };
        let (old, new) = match (metadata_of(before), metadata_of(after)) {
            (Some(old), Some(new)) if std::mem::discriminant(before) == std::mem::discriminant(after) => {
                (old, new)
            }
            _ => return self.path(after_path, PathChange::Kind),
        };
        match (before, after) {
            (InputValue::File { digest: old, .. }, InputValue::File { digest: new, .. }) if old != new => {
                self.path(after_path, PathChange::Content);
            }
            (InputValue::Link { target: old, .. }, InputValue::Link { target: new, .. }) if old != new => {
                let change = PathChange::LinkTarget { before: lossy(old), after: lossy(new) };
                self.path(after_path, change);
            }
            (
                InputValue::Special { kind: old_kind, device: old, .. },
                InputValue::Special { kind: new_kind, device: new, .. },
            ) if (old_kind, old) != (new_kind, new) => self.path(after_path, PathChange::Device),
            (InputValue::Directory { node: old, .. }, InputValue::Directory { node: new, .. })
                if old != new =>
            {
                let (old, new) = (*old, *new);
                self.directories(before_path, after_path, old, new);
            }
            _ => {}
        }
        if let (Some(before), Some(after)) = (old.mode, new.mode)
            && before != after
        {
            self.path(after_path, PathChange::Mode { before, after });
        }
        if let (Some(before), Some(after)) = (old.owner, new.owner)
            && before != after
        {
            self.path(after_path, PathChange::Owner { before, after });
        }
        if old.xattrs != new.xattrs {
            self.path(after_path, PathChange::Xattrs);
        }
        if old.mtime_ns != new.mtime_ns {
            self.path(after_path, PathChange::Mtime);
        }
    }

    fn directories(&mut self, before_path: &str, after_path: &str, old: NodeId, new: NodeId) {
        let (Some(old), Some(new)) = (self.node(Side::Before, &old), self.node(Side::After, &new)) else {
            return self.path(after_path, PathChange::Content);
        };
        for name in all_names(&old, &new) {
            let values = (old.get(&name), new.get(&name));
            if values.0 == values.1 {
                continue;
            }
            if let Some(file) = name.strip_suffix(names::LINKED) {
                // A file that came or went says so itself.
                if old.get(file).is_some() && new.get(file).is_some() {
                    self.path(&join(after_path, file), PathChange::HardLink);
                }
                continue;
            }
            let paths = (join(before_path, &name), join(after_path, &name));
            self.value(&paths.0, &paths.1, values.0, values.1);
        }
    }

    fn came_or_went(&mut self, path: &str, value: &InputValue, side: Side) {
        if self.causes.len() >= LIMIT {
            self.more += 1;
            return;
        }
        let (list, change) = match side {
            Side::After => (&mut self.added, PathChange::Added),
            Side::Before => (&mut self.removed, PathChange::Removed),
        };
        list.push((path.to_owned(), value.clone()));
        self.causes.push(Cause::Path { path: path.to_owned(), change });
    }

    /// A path that went and one that came with the same content are one that was renamed.
    fn pair_renames(&mut self) {
        let (removed, mut added) = (std::mem::take(&mut self.removed), std::mem::take(&mut self.added));
        for (from, value) in removed {
            let Some(index) = added.iter().position(|(to, other)| *other == value && *to != from) else {
                continue;
            };
            let (to, _) = added.swap_remove(index);
            let is = |cause: &Cause, path: &str, wanted: &PathChange| matches!(cause, Cause::Path { path: known, change } if known == path && change == wanted);
            self.causes.retain(|cause| !is(cause, &to, &PathChange::Added));
            if let Some(cause) = self.causes.iter_mut().find(|cause| is(cause, &from, &PathChange::Removed)) {
                *cause = Cause::Path { path: from, change: PathChange::Renamed { to } };
            }
        }
    }
}

fn is_mount(cause: &Cause) -> bool {
    matches!(cause, Cause::Setting { name, .. } if name.starts_with("mount "))
}

fn all_names(before: &InputNode, after: &InputNode) -> BTreeSet<Vec<u8>> {
    before.entries().chain(after.entries()).map(|(name, _)| name.to_vec()).collect()
}

fn metadata_of(value: &InputValue) -> Option<InputMetadata> {
    match value {
        InputValue::File { metadata, .. }
        | InputValue::Link { metadata, .. }
        | InputValue::Directory { metadata, .. }
        | InputValue::Special { metadata, .. } => Some(*metadata),
        _ => None,
    }
}

fn text_of(node: &InputNode, name: &str) -> String {
    text_value(node.get(name))
}

/// A value in words; what is kept as a digest because it looks like a secret is `****`.
fn text_value(value: Option<&InputValue>) -> String {
    match value {
        Some(InputValue::Text(text)) => text.clone(),
        Some(InputValue::Digest(_)) => "****".to_owned(),
        _ => String::new(),
    }
}

/// Where something lies, as the notes have it.
fn path_value(value: &InputValue) -> String {
    match value {
        InputValue::Link { target, .. } => lossy(target),
        other => text_value(Some(other)),
    }
}

fn join(directory: &str, name: &[u8]) -> String {
    match directory.trim_end_matches('/') {
        "" if directory.is_empty() => lossy(name),
        directory => format!("{directory}/{}", lossy(name)),
    }
}

/// A name as people read it; what can't be shown on a line is escaped.
fn lossy(name: &[u8]) -> String {
    let text: Cow<'_, str> = String::from_utf8_lossy(name);
    let text = text.split('\0').next().unwrap_or_default();
    text.chars().flat_map(|c| if c.is_control() { c.escape_default().collect() } else { vec![c] }).collect()
}
