//! Input trees: the named inputs of a step as Merkle nodes, one for each directory, shared between records.

use std::collections::BTreeMap;

use crate::NodeId;

/// One node of an input tree: names in byte order, each with what it stands for.
///
/// Its id is the blake3 of its canonical bytes ([`InputNode::encode`]), so that two records with the same inputs
/// share the node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InputNode {
    entries: BTreeMap<Vec<u8>, InputValue>,
}

/// What of a file's metadata the step depends on. Nothing: not part of the key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct InputMetadata {
    /// Permission bits (`07777`), as the image will carry them.
    pub mode: Option<u32>,
    /// uid and gid.
    pub owner: Option<(u32, u32)>,
    /// blake3 of the extended attributes, where there are any.
    pub xattrs: Option<[u8; 32]>,
    /// Modification time in nanoseconds since 1970, of files in layers that carry one of their own.
    pub mtime_ns: Option<i64>,
}

/// One input of a step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InputValue {
    /// A value in words: an instruction's text, an ARG's value, a platform.
    Text(String),
    /// The digest of something that is no file: an image, a layer, a parent's key.
    Digest([u8; 32]),
    /// A regular file.
    File {
        /// Mode, owner, attributes.
        metadata: InputMetadata,
        /// blake3 of its content.
        digest: [u8; 32],
    },
    /// A symbolic link.
    Link {
        /// Owner, attributes.
        metadata: InputMetadata,
        /// Its target, as it stands in the link.
        target: Vec<u8>,
    },
    /// A directory: its own metadata and the node of its entries.
    Directory {
        /// Mode, owner, attributes.
        metadata: InputMetadata,
        /// The node of what it holds.
        node: NodeId,
    },
    /// A device, FIFO or socket.
    Special {
        /// Mode, owner, attributes.
        metadata: InputMetadata,
        /// The `S_IFMT` bits.
        kind: u32,
        /// The device number, zero where there is none.
        device: u64,
    },
    /// A group of inputs: `args`, `env`, `mounts`.
    Node(NodeId),
}

/// The bytes are no input node.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not an input node: {0}")]
pub struct InputNodeError(&'static str);

impl InputNode {
    /// A node without inputs.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets `name` to `value`.
    pub fn insert(&mut self, name: impl Into<Vec<u8>>, value: InputValue) {
        self.entries.insert(name.into(), value);
    }

    /// The value of `name`.
    pub fn get(&self, name: impl AsRef<[u8]>) -> Option<&InputValue> {
        self.entries.get(name.as_ref())
    }

    /// All inputs in byte order of their names.
    pub fn entries(&self) -> impl ExactSizeIterator<Item = (&[u8], &InputValue)> {
        self.entries.iter().map(|(name, value)| (name.as_slice(), value))
    }

    /// How many inputs there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The nodes that this one points at.
    pub fn children(&self) -> impl Iterator<Item = NodeId> {
        self.entries.values().filter_map(|value| match value {
            InputValue::Node(node) | InputValue::Directory { node, .. } => Some(*node),
            _ => None,
        })
    }

    /// Its identity: blake3 of [`InputNode::encode`].
    pub fn id(&self) -> NodeId {
        blake3::hash(&self.encode()).into()
    }

    /// Its canonical bytes: a version, then for each entry in byte order the name and the tagged value, numbers as
    /// LEB128.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(1 + self.entries.len() * 64);
        out.push(VERSION);
        for (name, value) in &self.entries {
            put_bytes(&mut out, name);
            put_value(&mut out, value);
        }
        out
    }

    /// Reads canonical bytes; what isn't canonical is refused, so an id has one form.
    ///
    /// # Errors
    ///
    /// [`InputNodeError`] on bytes that [`InputNode::encode`] never writes.
    pub fn decode(bytes: &[u8]) -> Result<Self, InputNodeError> {
        let mut reader = Reader { rest: bytes };
        if reader.byte()? != VERSION {
            return Err(InputNodeError("another version"));
        }
        let mut entries = BTreeMap::new();
        while !reader.rest.is_empty() {
            let name = reader.bytes()?.to_vec();
            if entries.last_key_value().is_some_and(|(last, _)| *last >= name) {
                return Err(InputNodeError("names out of order"));
            }
            let value = reader.value()?;
            entries.insert(name, value);
        }
        Ok(Self { entries })
    }
}

const VERSION: u8 = 1;

const TEXT: u8 = 0;
const DIGEST: u8 = 1;
const FILE: u8 = 2;
const LINK: u8 = 3;
const DIRECTORY: u8 = 4;
const SPECIAL: u8 = 5;
const NODE: u8 = 6;

const HAS_MODE: u8 = 1;
const HAS_OWNER: u8 = 2;
const HAS_XATTRS: u8 = 4;
const HAS_MTIME: u8 = 8;

fn put_number(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_number(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

fn put_metadata(out: &mut Vec<u8>, metadata: &InputMetadata) {
    let flag = |present: bool, bit: u8| if present { bit } else { 0 };
    out.push(
        flag(metadata.mode.is_some(), HAS_MODE)
            | flag(metadata.owner.is_some(), HAS_OWNER)
            | flag(metadata.xattrs.is_some(), HAS_XATTRS)
            | flag(metadata.mtime_ns.is_some(), HAS_MTIME),
    );
    if let Some(mode) = metadata.mode {
        put_number(out, mode.into());
    }
    if let Some((uid, gid)) = metadata.owner {
        put_number(out, uid.into());
        put_number(out, gid.into());
    }
    if let Some(xattrs) = &metadata.xattrs {
        out.extend_from_slice(xattrs);
    }
    if let Some(mtime_ns) = metadata.mtime_ns {
        out.extend_from_slice(&mtime_ns.to_le_bytes());
    }
}

fn put_value(out: &mut Vec<u8>, value: &InputValue) {
    match value {
        InputValue::Text(text) => {
            out.push(TEXT);
            put_bytes(out, text.as_bytes());
        }
        InputValue::Digest(digest) => {
            out.push(DIGEST);
            out.extend_from_slice(digest);
        }
        InputValue::File { metadata, digest } => {
            out.push(FILE);
            put_metadata(out, metadata);
            out.extend_from_slice(digest);
        }
        InputValue::Link { metadata, target } => {
            out.push(LINK);
            put_metadata(out, metadata);
            put_bytes(out, target);
        }
        InputValue::Directory { metadata, node } => {
            out.push(DIRECTORY);
            put_metadata(out, metadata);
            out.extend_from_slice(node.as_bytes());
        }
        InputValue::Special { metadata, kind, device } => {
            out.push(SPECIAL);
            put_metadata(out, metadata);
            put_number(out, (*kind).into());
            put_number(out, *device);
        }
        InputValue::Node(node) => {
            out.push(NODE);
            out.extend_from_slice(node.as_bytes());
        }
    }
}

struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], InputNodeError> {
        let (head, rest) = self.rest.split_at_checked(count).ok_or(InputNodeError("it ends too soon"))?;
        self.rest = rest;
        Ok(head)
    }

    fn byte(&mut self) -> Result<u8, InputNodeError> {
        Ok(self.take(1)?[0])
    }

    fn number(&mut self) -> Result<u64, InputNodeError> {
        let mut number = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let part = u64::from(byte & 0x7f);
            if part << shift >> shift != part || (byte == 0 && shift > 0) {
                return Err(InputNodeError("a number is too large or too long"));
            }
            number |= part << shift;
            if byte & 0x80 == 0 {
                return Ok(number);
            }
        }
        Err(InputNodeError("a number is too large or too long"))
    }

    fn number32(&mut self) -> Result<u32, InputNodeError> {
        self.number()?.try_into().map_err(|_| InputNodeError("a number is too large or too long"))
    }

    fn bytes(&mut self) -> Result<&'a [u8], InputNodeError> {
        let count = self.number()?.try_into().map_err(|_| InputNodeError("it ends too soon"))?;
        self.take(count)
    }

    fn digest(&mut self) -> Result<[u8; 32], InputNodeError> {
        Ok(self.take(32)?.try_into().expect("32 bytes were taken"))
    }

    fn metadata(&mut self) -> Result<InputMetadata, InputNodeError> {
        let flags = self.byte()?;
        if flags & !(HAS_MODE | HAS_OWNER | HAS_XATTRS | HAS_MTIME) != 0 {
            return Err(InputNodeError("an unknown flag"));
        }
        let mode = (flags & HAS_MODE != 0).then(|| self.number32()).transpose()?;
        let owner = (flags & HAS_OWNER != 0)
            .then(|| Ok::<_, InputNodeError>((self.number32()?, self.number32()?)))
            .transpose()?;
        let xattrs = (flags & HAS_XATTRS != 0).then(|| self.digest()).transpose()?;
        let mtime_ns = (flags & HAS_MTIME != 0)
            .then(|| {
                let bytes = self.take(8)?.try_into().expect("8 bytes were taken");
                Ok::<_, InputNodeError>(i64::from_le_bytes(bytes))
            })
            .transpose()?;
        Ok(InputMetadata { mode, owner, xattrs, mtime_ns })
    }

    fn value(&mut self) -> Result<InputValue, InputNodeError> {
        Ok(match self.byte()? {
            TEXT => InputValue::Text(
                String::from_utf8(self.bytes()?.to_vec())
                    .map_err(|_| InputNodeError("a text is not UTF-8"))?,
            ),
            DIGEST => InputValue::Digest(self.digest()?),
            FILE => InputValue::File { metadata: self.metadata()?, digest: self.digest()? },
            LINK => InputValue::Link { metadata: self.metadata()?, target: self.bytes()?.to_vec() },
            DIRECTORY => {
                InputValue::Directory { metadata: self.metadata()?, node: NodeId::from_bytes(self.digest()?) }
            }
            SPECIAL => InputValue::Special {
                metadata: self.metadata()?,
                kind: self.number32()?,
                device: self.number()?,
            },
            NODE => InputValue::Node(NodeId::from_bytes(self.digest()?)),
            _ => return Err(InputNodeError("an unknown kind of input")),
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn metadata() -> impl Strategy<Value = InputMetadata> {
        (any::<Option<u32>>(), any::<Option<(u32, u32)>>(), any::<Option<[u8; 32]>>(), any::<Option<i64>>())
            .prop_map(|(mode, owner, xattrs, mtime_ns)| InputMetadata { mode, owner, xattrs, mtime_ns })
    }

    fn value() -> impl Strategy<Value = InputValue> {
        prop_oneof![
            ".*".prop_map(InputValue::Text),
            any::<[u8; 32]>().prop_map(InputValue::Digest),
            (metadata(), any::<[u8; 32]>())
                .prop_map(|(metadata, digest)| InputValue::File { metadata, digest }),
            (metadata(), any::<Vec<u8>>())
                .prop_map(|(metadata, target)| InputValue::Link { metadata, target }),
            (metadata(), any::<[u8; 32]>()).prop_map(|(metadata, node)| InputValue::Directory {
                metadata,
                node: NodeId::from_bytes(node)
            }),
            (metadata(), any::<u32>(), any::<u64>())
                .prop_map(|(metadata, kind, device)| InputValue::Special { metadata, kind, device }),
            any::<[u8; 32]>().prop_map(|node| InputValue::Node(NodeId::from_bytes(node))),
        ]
    }

    proptest! {
        #[test]
        fn a_node_reads_back_and_its_bytes_have_one_form(
            entries in proptest::collection::btree_map(any::<Vec<u8>>(), value(), 0..8)
        ) {
            let node = InputNode { entries };
            let bytes = node.encode();
            prop_assert_eq!(InputNode::decode(&bytes).unwrap(), node);
        }

        #[test]
        fn any_bytes_are_either_canonical_or_refused(bytes in any::<Vec<u8>>()) {
            let mut bytes = bytes;
            if let Some(first) = bytes.first_mut() {
                *first = VERSION;
            }
            if let Ok(node) = InputNode::decode(&bytes) {
                prop_assert_eq!(node.encode(), bytes);
            }
        }
    }

    #[test]
    fn the_encoding_never_drifts() {
        let mut node = InputNode::new();
        node.insert("text", InputValue::Text("RUN make".to_owned()));
        node.insert(
            "file",
            InputValue::File {
                metadata: InputMetadata {
                    mode: Some(0o755),
                    owner: Some((0, 1000)),
                    ..InputMetadata::default()
                },
                digest: [7; 32],
            },
        );
        node.insert("args", InputValue::Node(NodeId::from_bytes([9; 32])));
        assert_eq!(node.id().to_string(), "12b01c4f7160d7e5df68b961df742e4ffbe22c76b02ff76a7faa34be59dd1a49");
    }
}
