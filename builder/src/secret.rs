//! Secrets of a RUN step: who gets them, and what of the output is masked.

use std::collections::BTreeMap;

use crate::error::StepError;
use crate::expanded::{Mount, RunStep};
use crate::request::SecretValue;

/// The secrets that a step sees, by id: what its record keeps a hash of.
pub(crate) fn seen(run: &RunStep, given: &BTreeMap<String, SecretValue>) -> Vec<(String, Vec<u8>)> {
    let mut seen: Vec<(String, Vec<u8>)> = run
        .mounts
        .iter()
        .filter_map(|mount| match &mount.mount {
            Mount::Secret { id, .. } => Some((id.clone(), given.get(id)?.reveal().to_vec())),
            _ => None,
        })
        .collect();
    seen.sort();
    seen.dedup();
    seen
}

/// Fails for a required secret that wasn't given.
pub(crate) fn require(run: &RunStep, given: &BTreeMap<String, SecretValue>) -> Result<(), StepError> {
    for mount in &run.mounts {
        if let Mount::Secret { id, required: true, .. } = &mount.mount
            && !given.contains_key(id)
        {
            return Err(StepError::SecretMissing { id: id.clone(), span: mount.span });
        }
    }
    Ok(())
}

/// Replaces secrets in output by `****`.
#[derive(Clone, Debug, Default)]
pub(crate) struct Mask {
    /// Longest first, so that a secret within another doesn't uncover the rest of it.
    needles: Vec<Vec<u8>>,
}

/// Shorter values would mask half of the output and are no secrets.
const SHORTEST_BYTES: usize = 4;

impl Mask {
    /// Masks the values, and each line of those that have several: output is looked at line by line.
    pub(crate) fn new(secrets: &[(String, Vec<u8>)]) -> Self {
        let mut needles: Vec<Vec<u8>> = secrets
            .iter()
            .flat_map(|(_, value)| value.split(|&byte| byte == b'\n'))
            .map(|line| line.trim_ascii().to_vec())
            .filter(|line| line.len() >= SHORTEST_BYTES)
            .collect();
        needles.sort_by(|a, b| b.len().cmp(&a.len()).then_with(|| a.cmp(b)));
        needles.dedup();
        Self { needles }
    }

    /// `bytes` with all values replaced.
    pub(crate) fn apply(&self, bytes: Vec<u8>) -> Vec<u8> {
        self.needles.iter().fold(bytes, |bytes, needle| replace(bytes, needle))
    }
}

fn replace(bytes: Vec<u8>, needle: &[u8]) -> Vec<u8> {
    let found = |bytes: &[u8]| bytes.windows(needle.len()).position(|window| window == needle);
    let Some(mut at) = found(&bytes) else { return bytes };
    let mut out = Vec::with_capacity(bytes.len());
    let mut rest = &bytes[..];
    loop {
        out.extend_from_slice(&rest[..at]);
        out.extend_from_slice(b"****");
        rest = &rest[at + needle.len()..];
        match found(rest) {
            Some(next) => at = next,
            None => break,
        }
    }
    out.extend_from_slice(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_masked_wherever_they_stand() {
        let secrets = vec![
            ("token".to_owned(), b"hunter2\n".to_vec()),
            ("key".to_owned(), b"-----BEGIN\nabcdef\n-----END\n".to_vec()),
            ("pin".to_owned(), b"1".to_vec()),
        ];
        let mask = Mask::new(&secrets);
        let out = mask.apply(b"1 hunter2hunter2 xhunter2\nabcdef\n".to_vec());
        assert_eq!(String::from_utf8(out).unwrap(), "1 ******** x****\n****\n");
        assert_eq!(Mask::default().apply(b"hunter2".to_vec()), b"hunter2");
    }
}
