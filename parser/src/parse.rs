//! From a source to the IR.

use crate::{Dockerfile, Instruction, ParseErrors, Source, Warning};

/// A Dockerfile and what to tell about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parsed {
    /// The IR.
    pub dockerfile: Dockerfile,
    /// What was accepted with a warning, in the order of the file.
    pub warnings: Vec<Warning>,
}

/// Reads a whole Dockerfile.
///
/// # Errors
///
/// All that is wrong, as far as one error doesn't hide another.
pub fn parse(_source: &Source) -> Result<Parsed, ParseErrors> {
    todo!()
}

/// Reads what an image stores for `ONBUILD`: one instruction with its heredocs. Spans are places in `trigger`.
///
/// # Errors
///
/// When it isn't exactly one instruction that `ONBUILD` allows.
pub fn parse_onbuild(_trigger: &Source) -> Result<Instruction, ParseErrors> {
    todo!()
}
