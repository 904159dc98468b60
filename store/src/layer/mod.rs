//! Layers: a directory tree here, a tar elsewhere.
//!
//! A layer's tree is an overlay lowerdir: a removed name is a character device 0:0, a directory that
//! hides what lies below it carries `trusted.overlay.opaque=y`, ids are the image's own. The tar is
//! image-spec `layer.md`'s: `.wh.<name>` and `.wh..wh..opq`. [`write_tar`] and [`apply_tar`] translate.

pub(crate) mod apply;
#[cfg(test)]
mod apply_test;
mod content_id;
mod decompress;
mod diff;
pub(crate) mod header;
mod reader;
mod walk;
pub(crate) mod whiteout;

pub use apply::{ApplyError, ApplyFacts, ApplyLimits, apply_tar};
pub use content_id::{ContentIdError, content_id};
pub use decompress::{Compression, decompress, detect_archive};
pub use diff::{TarFacts, WriteTarError, diff_id, write_tar};
