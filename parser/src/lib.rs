//! Dockerfile text to a typed IR, with spans on everything. No I/O.

mod instruction;
mod source;

pub use instruction::*;
pub use source::{Source, Span, Spanned};
