//! Cache records: what a step depended on and what it made.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rusqlite::{Connection, OptionalExtension, Transaction};
use rustix::fs::{AtFlags, Timespec, Timestamps, UTIME_NOW};
use serde::{Deserialize, Serialize};

use crate::file::{json_bytes, names_in, read_json_lossy, remove_if_there};
use crate::layout::Layout;
use crate::lock::replace_file;
use crate::{ContentKey, FileError, IndexError, InputNode, LayerId, Lease, NodeId, ShapeKey, StepKey, Store};

/// When a step's command ran, in nanoseconds since 1970. Times of files within it count as "now" in the content ID.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct RunWindow {
    /// Just before it started.
    pub start_ns: i64,
    /// Just after it ended.
    pub end_ns: i64,
}

/// Where in which Dockerfile a step stands: how earlier results of "the same step" are found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepPlace {
    /// The Dockerfile and the target, without the path of the context.
    pub build: String,
    /// Name or number of the stage.
    pub stage: String,
    /// Position in the stage.
    pub position: u32,
    /// The instruction after expansion.
    pub text: String,
}

/// What the cache keeps of a step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepRecord {
    /// Digest of all it depended on.
    pub step_key: StepKey,
    /// The same with the parent named by content, where that was computed.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub content_key: Option<ContentKey>,
    /// Digest of its inputs without the parent.
    pub shape: ShapeKey,
    /// What it made.
    pub layer: LayerId,
    /// When it first ran, RFC 3339.
    pub created: String,
    /// When its command ran, for RUN.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub window: Option<RunWindow>,
    /// Where it stands.
    pub place: StepPlace,
    /// The root of its input tree.
    pub inputs: NodeId,
    /// Name and keyed hash of each secret that it saw.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub secrets: Vec<(String, [u8; 32])>,
}

/// Cache records can't be read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RecordError {
    /// The layer of the record to be put isn't in the store.
    #[error("no layer `{0}` in the store")]
    Missing(LayerId),
    /// The index fails.
    #[error(transparent)]
    Index(#[from] IndexError),
    /// A document can't be written.
    #[error(transparent)]
    File(#[from] FileError),
}

/// The content of `step-<key>.json`.
#[derive(Serialize, Deserialize)]
struct StepDocument {
    /// Tells the newer of two records of one key.
    recorded_ns: i64,
    #[serde(flatten)]
    record: StepRecord,
}

impl Store {
    /// The record of step `key`, its layer then held by `lease`: looking up and holding is one step for GC.
    ///
    /// # Errors
    ///
    /// [`RecordError`] when the index can't be read or the lease not be noted.
    pub fn find_step(&self, key: &StepKey, lease: &mut Lease) -> Result<Option<StepRecord>, RecordError> {
        self.find_held(lease, |connection| {
            connection
                .prepare_cached("SELECT record FROM steps WHERE step_key = ?1")?
                .query_row([key.as_bytes()], parsed_record)
                .optional()
        })
    }

    /// The newest record with content key `key`, its layer then held by `lease`.
    ///
    /// # Errors
    ///
    /// [`RecordError`] when the index can't be read or the lease not be noted.
    pub fn find_content(
        &self,
        key: &ContentKey,
        lease: &mut Lease,
    ) -> Result<Option<StepRecord>, RecordError> {
        self.find_held(lease, |connection| {
            connection
                .prepare_cached(
                    "SELECT record FROM steps WHERE content_key = ?1 ORDER BY recorded_ns DESC LIMIT 1",
                )?
                .query_row([key.as_bytes()], parsed_record)
                .optional()
        })
    }

    fn find_held(
        &self,
        lease: &mut Lease,
        mut query: impl FnMut(&Connection) -> rusqlite::Result<Option<StepRecord>>,
    ) -> Result<Option<StepRecord>, RecordError> {
        let passed = self.inner.gate.shared()?;
        loop {
            let Some(found) = self.inner.index.read("look up a step", &mut query)? else { return Ok(None) };
            if self.layer_exists(found.layer) {
                lease.hold_existing(&passed, found.layer)?;
                self.note_use(&found);
                return Ok(Some(found));
            }
            // Somebody removed the layer by hand.
            self.forget_layer(found.layer)?;
        }
    }

    /// The time of a record's document is when it was last used: that outlives the index. Losing one is no harm.
    fn note_use(&self, record: &StepRecord) {
        let now = Timespec { tv_sec: 0, tv_nsec: UTIME_NOW };
        let times = Timestamps { last_access: now, last_modification: now };
        let path = self.layout().step_document(record.layer, &record.step_key);
        let _ = rustix::fs::utimensat(rustix::fs::CWD, path, &times, AtFlags::empty());
    }

    /// When a record was last used, in seconds since 1970.
    pub(crate) fn last_use(&self, layer: LayerId, key: &StepKey) -> i64 {
        fs::metadata(self.layout().step_document(layer, key)).map_or(0, |found| found.mtime())
    }

    fn last_use_ns(&self, record: &StepRecord) -> (i64, i64) {
        fs::metadata(self.layout().step_document(record.layer, &record.step_key))
            .map_or((0, 0), |found| (found.mtime(), found.mtime_nsec()))
    }

    fn forget_layer(&self, layer: LayerId) -> Result<(), IndexError> {
        self.inner.index.write("forget a layer", |transaction| {
            Ok::<_, IndexError>(
                transaction.execute("DELETE FROM steps WHERE layer = ?1", [layer.as_bytes()]).map(|_| ()),
            )
        })
    }

    /// Whether some record has these inputs under any parent: whether asking for the content key can pay.
    ///
    /// # Errors
    ///
    /// [`RecordError`] when the index can't be read.
    pub fn has_shape(&self, shape: &ShapeKey) -> Result<bool, RecordError> {
        Ok(self.inner.index.read("look up a step", |connection| {
            connection
                .prepare_cached("SELECT 1 FROM steps WHERE shape = ?1 LIMIT 1")?
                .exists([shape.as_bytes()])
        })?)
    }

    /// Records that `place` may be compared with, nearest first: the same place, else the same text, else the same
    /// stage; last used first at the same place (what the user saw last is what a change is against), else newest first.
    /// A few, not all.
    ///
    /// Their layers aren't held: use [`Lease::hold`] before one is read.
    ///
    /// # Errors
    ///
    /// [`RecordError`] when the index can't be read.
    pub fn earlier_results(&self, place: &StepPlace) -> Result<Vec<StepRecord>, RecordError> {
        const SAME_PLACE: &str = "SELECT record FROM steps WHERE build = ?1 AND stage = ?2 AND position = ?3
            ORDER BY recorded_ns DESC LIMIT 32";
        const SAME_TEXT: &str = "SELECT record FROM steps WHERE text_hash = ?1
            ORDER BY build = ?2 DESC, stage = ?3 DESC, recorded_ns DESC LIMIT 4";
        const SAME_STAGE: &str = "SELECT record FROM steps WHERE build = ?1 AND stage = ?2 AND position <> ?3
            ORDER BY abs(position - ?3), recorded_ns DESC LIMIT 2";
        let (build, stage, position) = (&place.build, &place.stage, place.position);
        let found = self.inner.index.read("look up earlier results", |connection| {
            let mut found: Vec<StepRecord> = Vec::new();
            let mut add = |records: Vec<StepRecord>| {
                for record in records {
                    if found.iter().all(|known| known.step_key != record.step_key) {
                        found.push(record);
                    }
                }
            };
            let mut same_place = connection.prepare_cached(SAME_PLACE)?;
            let records = same_place.query_map((build, stage, position), parsed_record)?;
            let mut records: Vec<StepRecord> = records.collect::<Result<_, _>>()?;
            records.sort_by_cached_key(|record| Reverse(self.last_use_ns(record)));
            records.truncate(4);
            add(records);
            let mut same_text = connection.prepare_cached(SAME_TEXT)?;
            let hash = text_hash(&place.text);
            add(same_text.query_map((hash, build, stage), parsed_record)?.collect::<Result<_, _>>()?);
            let mut same_stage = connection.prepare_cached(SAME_STAGE)?;
            add(same_stage.query_map((build, stage, position), parsed_record)?.collect::<Result<_, _>>()?);
            Ok(found)
        })?;
        Ok(found)
    }

    /// Keeps `record` and those of `nodes` that aren't known yet. A record of the same key is replaced.
    ///
    /// # Errors
    ///
    /// [`RecordError`]; the record is then not kept.
    pub fn put_step(&self, record: StepRecord, nodes: Vec<InputNode>) -> Result<(), RecordError> {
        let _passed = self.inner.gate.shared()?;
        if !self.layer_exists(record.layer) {
            return Err(RecordError::Missing(record.layer));
        }
        let nodes: Vec<(NodeId, Vec<u8>)> = nodes
            .iter()
            .map(|node| {
                let bytes = node.encode();
                (blake3::hash(&bytes).into(), bytes)
            })
            .collect();
        let document = StepDocument { recorded_ns: jiff::Timestamp::now().as_nanosecond() as i64, record };
        let replaced = self
            .inner
            .index
            .write("record a step", |transaction| self.put_step_in(transaction, &document, &nodes))?;
        if let Some(old) = replaced.filter(|old| *old != document.record.layer) {
            // Its nodes stay: other records may share them.
            remove_if_there(&self.layout().step_document(old, &document.record.step_key))?;
        }
        Ok(())
    }

    /// Documents and rows of one record; the layer of a record that it replaces.
    fn put_step_in(
        &self,
        transaction: &Transaction<'_>,
        document: &StepDocument,
        nodes: &[(NodeId, Vec<u8>)],
    ) -> Result<rusqlite::Result<Option<LayerId>>, RecordError> {
        let record = &document.record;
        let new = match insert_nodes(transaction, nodes) {
            Ok(new) => new,
            Err(error) => return Ok(Err(error)),
        };
        let tmp = self.layout().tmp();
        if !new.is_empty() {
            let path = self.layout().step_nodes(record.layer, &record.step_key);
            replace_file(&tmp, &path, &pack_nodes(&new))?;
        }
        let path = self.layout().step_document(record.layer, &record.step_key);
        replace_file(&tmp, &path, &json_bytes(document))?;
        Ok((|| {
            let replaced = transaction
                .prepare_cached("SELECT layer FROM steps WHERE step_key = ?1")?
                .query_row([record.step_key.as_bytes()], |row| row.get::<_, [u8; 16]>(0))
                .optional()?;
            insert_step(transaction, document)?;
            Ok(replaced.map(LayerId::from_bytes))
        })())
    }

    /// The records of the steps that made `layer`, newest first: none for a layer that was loaded, several where
    /// different steps had the same result.
    ///
    /// # Errors
    ///
    /// [`RecordError`] when the layer's folder can't be read.
    pub fn layer_records(&self, layer: LayerId) -> Result<Vec<StepRecord>, RecordError> {
        let dir = self.layout().layer(layer);
        let mut documents: Vec<StepDocument> = names_in(&dir)?
            .iter()
            .filter(|name| name.starts_with("step-") && name.ends_with(".json"))
            .filter_map(|name| read_json_lossy(&dir.join(name)))
            .collect();
        documents.sort_by_key(|document| Reverse(document.recorded_ns));
        Ok(documents.into_iter().map(|document| document.record).collect())
    }

    /// The node `id` of an input tree. Nothing when it is lost: a cause is then told with less detail.
    ///
    /// # Errors
    ///
    /// [`RecordError`] when the index can't be read.
    pub fn input_node(&self, id: &NodeId) -> Result<Option<InputNode>, RecordError> {
        let data: Option<Vec<u8>> = self.inner.index.read("look up an input", |connection| {
            connection
                .prepare_cached("SELECT data FROM nodes WHERE id = ?1")?
                .query_row([id.as_bytes()], |row| row.get(0))
                .optional()
        })?;
        Ok(data.and_then(|data| InputNode::decode(&data).ok()))
    }
}

/// A hash that fits SQLite's integers; records with the same one are compared in full nowhere, for a cause that is
/// told of a less near record does no harm.
fn text_hash(text: &str) -> i64 {
    let hash = blake3::hash(text.as_bytes());
    i64::from_le_bytes(hash.as_bytes()[..8].try_into().expect("a hash has 32 bytes"))
}

fn parsed_record(row: &rusqlite::Row<'_>) -> rusqlite::Result<StepRecord> {
    serde_json::from_str(row.get_ref(0)?.as_str()?).map_err(|error| {
        rusqlite::Error::FromSqlConversionFailure(0, rusqlite::types::Type::Text, Box::new(error))
    })
}

fn insert_step(transaction: &Transaction<'_>, document: &StepDocument) -> rusqlite::Result<()> {
    let record = &document.record;
    let text = serde_json::to_string(record).expect("a record has only string keys");
    transaction
        .prepare_cached(
            "INSERT OR REPLACE INTO steps (step_key, content_key, shape, layer, inputs, build, stage, position,
                text_hash, recorded_ns, record)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
        )?
        .execute((
            record.step_key.as_bytes(),
            record.content_key.as_ref().map(ContentKey::as_bytes),
            record.shape.as_bytes(),
            record.layer.as_bytes(),
            record.inputs.as_bytes(),
            &record.place.build,
            &record.place.stage,
            record.place.position,
            text_hash(&record.place.text),
            document.recorded_ns,
            text,
        ))?;
    Ok(())
}

/// Inserts nodes; those that were not there.
fn insert_nodes<'a>(
    transaction: &Transaction<'_>,
    nodes: &'a [(NodeId, Vec<u8>)],
) -> rusqlite::Result<Vec<&'a [u8]>> {
    let mut insert = transaction.prepare_cached("INSERT OR IGNORE INTO nodes (id, data) VALUES (?1, ?2)")?;
    let mut new = Vec::new();
    for (id, data) in nodes {
        if insert.execute((id.as_bytes(), data))? == 1 {
            new.push(data.as_slice());
        }
    }
    Ok(new)
}

/// The bytes of a `.nodes` file: each node after its length, four bytes little-endian.
pub(crate) fn pack_nodes(nodes: &[&[u8]]) -> Vec<u8> {
    let mut out = Vec::with_capacity(nodes.iter().map(|node| 4 + node.len()).sum());
    for node in nodes {
        let length = u32::try_from(node.len()).expect("a node is far below 4 GiB");
        out.extend_from_slice(&length.to_le_bytes());
        out.extend_from_slice(node);
    }
    out
}

/// The nodes of a `.nodes` file; what is cut off at its end is left out.
pub(crate) fn unpack_nodes(mut bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let (length, rest) = bytes.split_first_chunk::<4>()?;
        let (node, rest) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
        bytes = rest;
        Some(node)
    })
}

/// Fills an empty index from the documents beside the layers.
pub(crate) fn rebuild(
    transaction: &Transaction<'_>,
    layout: &Layout,
) -> Result<rusqlite::Result<()>, FileError> {
    let mut newest: BTreeMap<StepKey, StepDocument> = BTreeMap::new();
    let mut node_files = Vec::new();
    for layer in names_in(&layout.layers())? {
        let dir = layout.layers().join(&layer);
        let Ok(names) = names_in(&dir) else { continue };
        for name in names {
            if name.ends_with(".nodes") {
                node_files.push(dir.join(name));
            } else if name.starts_with("step-") {
                let Some(document) = read_json_lossy::<StepDocument>(&dir.join(name)) else { continue };
                let key = document.record.step_key;
                if document.record.layer.to_string() == layer
                    && newest.get(&key).is_none_or(|known| known.recorded_ns < document.recorded_ns)
                {
                    newest.insert(key, document);
                }
            }
        }
    }
    node_files.extend(names_in(&layout.inputs())?.into_iter().map(|name| layout.inputs().join(name)));
    Ok((|| {
        for document in newest.values() {
            insert_step(transaction, document)?;
        }
        for path in &node_files {
            insert_node_file(transaction, path)?;
        }
        Ok(())
    })())
}

fn insert_node_file(transaction: &Transaction<'_>, path: &Path) -> rusqlite::Result<()> {
    let Ok(bytes) = fs::read(path) else { return Ok(()) };
    let nodes: Vec<(NodeId, Vec<u8>)> = unpack_nodes(&bytes)
        .filter(|node| InputNode::decode(node).is_ok())
        .map(|node| (blake3::hash(node).into(), node.to_vec()))
        .collect();
    insert_nodes(transaction, &nodes).map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Place, inputs, key, layer, record};

    #[test]
    fn the_earlier_result_that_was_used_last_is_the_nearest() {
        let place = Place::new();
        let store = place.open();
        let layer = layer(&store, "a");
        for name in ["a", "b"] {
            let step = record(name, layer.id());
            store.put_step(StepRecord { place: record("a", layer.id()).place, ..step }, vec![]).unwrap();
        }
        let nearest = || store.earlier_results(&record("a", layer.id()).place).unwrap()[0].step_key;
        assert_eq!(nearest(), key("b"));
        // The clock of file times is coarse.
        let mut lease = store.lease().unwrap();
        let seen = std::iter::repeat_with(|| {
            store.find_step(&key("a"), &mut lease).unwrap().unwrap();
            nearest()
        });
        assert!(seen.take(1000).any(|nearest| nearest == key("a")));
    }

    #[test]
    fn a_layer_knows_the_steps_that_made_it() {
        let place = Place::new();
        let store = place.open();
        let layer = layer(&store, "a");
        assert_eq!(store.layer_records(layer.id()).unwrap(), []);
        for name in ["a", "b"] {
            store.put_step(record(name, layer.id()), vec![inputs(name)]).unwrap();
        }
        let keys: Vec<_> =
            store.layer_records(layer.id()).unwrap().into_iter().map(|record| record.step_key).collect();
        assert_eq!(keys, [key("b"), key("a")]);
    }

    #[test]
    fn a_record_is_found_by_step_key_content_key_and_shape() {
        let place = Place::new();
        let store = place.open();
        let layer = layer(&store, "a");
        let put = StepRecord {
            window: Some(RunWindow { start_ns: -1, end_ns: i64::MAX }),
            secrets: vec![("token".to_owned(), [3; 32])],
            ..record("a", layer.id())
        };
        store.put_step(put.clone(), vec![inputs("a")]).unwrap();
        let mut lease = store.lease().unwrap();
        assert_eq!(store.find_step(&key("a"), &mut lease).unwrap().as_ref(), Some(&put));
        assert_eq!(lease.layers().collect::<Vec<_>>(), [layer.id()]);
        assert_eq!(store.find_content(&put.content_key.unwrap(), &mut lease).unwrap(), Some(put.clone()));
        assert!(store.has_shape(&put.shape).unwrap());
        assert!(!store.has_shape(&record("b", layer.id()).shape).unwrap());
        assert_eq!(store.find_step(&key("b"), &mut lease).unwrap(), None);
    }

    #[test]
    fn a_record_of_a_layer_that_is_gone_is_no_hit() {
        let place = Place::new();
        let store = place.open();
        let layer = layer(&store, "a");
        store.put_step(record("a", layer.id()), vec![]).unwrap();
        fs::remove_dir_all(&layer.dir).unwrap();
        let mut lease = store.lease().unwrap();
        assert_eq!(store.find_step(&key("a"), &mut lease).unwrap(), None);
        assert!(!store.has_shape(&record("a", layer.id()).shape).unwrap(), "the row is gone too");
        assert!(matches!(store.put_step(record("a", layer.id()), vec![]), Err(RecordError::Missing(_))));
    }

    #[test]
    fn a_record_is_replaced_by_a_later_one_after_a_rebuild_too() {
        let place = Place::new();
        let store = place.open();
        let (old, new) = (layer(&store, "old"), layer(&store, "new"));
        store.put_step(record("a", old.id()), vec![inputs("a")]).unwrap();
        store.put_step(record("a", new.id()), vec![inputs("a")]).unwrap();
        let mut lease = store.lease().unwrap();
        assert_eq!(store.find_step(&key("a"), &mut lease).unwrap().unwrap().layer, new.id());
        assert!(!store.layout().step_document(old.id(), &key("a")).exists());
        fs::remove_file(store.layout().index()).unwrap();
        assert_eq!(store.find_step(&key("a"), &mut lease).unwrap().unwrap().layer, new.id());
        assert!(store.input_node(&inputs("a").id()).unwrap().is_some(), "the old layer's file has the node");
    }

    #[test]
    fn earlier_results_are_the_same_place_then_the_same_text_then_the_same_stage() {
        let place = Place::new();
        let store = place.open();
        let layer = layer(&store, "a").id();
        let at = |stage: &str, position, text: &str, salt: &str| StepRecord {
            step_key: key(salt),
            place: StepPlace { build: "D".into(), stage: stage.into(), position, text: text.into() },
            ..record(text, layer)
        };
        let (here_old, here_new, text, stage, other) = (
            at("0", 3, "RUN old", "1"),
            at("0", 3, "RUN newer", "2"),
            at("1", 7, "RUN x", "3"),
            at("0", 2, "RUN before", "4"),
            at("2", 9, "RUN other", "5"),
        );
        for record in [&stage, &other, &text, &here_old, &here_new] {
            store.put_step(record.clone(), vec![]).unwrap();
        }
        let asked = StepPlace { build: "D".into(), stage: "0".into(), position: 3, text: "RUN x".into() };
        assert_eq!(store.earlier_results(&asked).unwrap(), [here_new, here_old, text, stage]);
    }

    #[test]
    fn only_new_nodes_are_written_beside_a_record() {
        let place = Place::new();
        let store = place.open();
        let (a, b) = (layer(&store, "a"), layer(&store, "b"));
        store.put_step(record("a", a.id()), vec![inputs("a"), inputs("shared")]).unwrap();
        store.put_step(record("b", b.id()), vec![inputs("b"), inputs("shared")]).unwrap();
        let bytes = fs::read(store.layout().step_nodes(b.id(), &key("b"))).unwrap();
        let nodes: Vec<_> = unpack_nodes(&bytes).map(|node| InputNode::decode(node).unwrap()).collect();
        assert_eq!(nodes, [inputs("b")]);
        let cut = &bytes[..bytes.len() - 1];
        assert_eq!(unpack_nodes(cut).count(), 0);
    }
}
