//! What removes and hides: in a tree as overlayfs has it, in a tar as image-spec `layer.md` has it.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use sys::file::{FileType, Metadata};
use sys::xattr::{self, Xattr};

/// Marks a directory that hides all that lower trees have of it. A rootless store would have
/// `user.overlay.opaque`; every reader and writer of the mark is in this file.
const OPAQUE: &CStr = c"trusted.overlay.opaque";

/// What a name in a layer's tar stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TarName<'a> {
    /// Itself.
    Plain,
    /// The removal of this name.
    Whiteout(&'a [u8]),
    /// The directory it is in hides what lower layers have of it.
    Opaque,
    /// Nothing: `.wh.` alone, `.wh..` or `.wh...`.
    Reserved,
    /// Another of aufs's own names, such as `.wh..wh.plnk`: to be left out.
    Bookkeeping,
}

/// The prefix of a removed name in a tar.
pub(crate) const PREFIX: &[u8] = b".wh.";
/// The name in a tar that makes its directory opaque.
pub(crate) const OPAQUE_NAME: &[u8] = b".wh..wh..opq";

/// Reads one component of a path in a tar.
pub(crate) fn parse_tar_name(name: &[u8]) -> TarName<'_> {
    if name == OPAQUE_NAME {
        return TarName::Opaque;
    }
    match name.strip_prefix(PREFIX) {
        None => TarName::Plain,
        Some(b"" | b"." | b"..") => TarName::Reserved,
        Some(rest) if rest.starts_with(PREFIX) => TarName::Bookkeeping,
        Some(rest) => TarName::Whiteout(rest),
    }
}

/// Whether what has this metadata removes its name from the trees below: a character device 0:0.
pub(crate) fn is_whiteout(metadata: &Metadata) -> bool {
    metadata.file_type == FileType::CharDevice && metadata.device == (0, 0)
}

/// Makes the whiteout `name` in `dir`, where nothing of that name is.
pub(crate) fn create(dir: BorrowedFd<'_>, name: &CStr) -> io::Result<()> {
    sys::file::create_node_at(dir, name, FileType::CharDevice, 0, (0, 0))
}

/// Whether the directory `dir` (`O_PATH` will do) hides what lies below it.
pub(crate) fn is_opaque(dir: impl AsFd) -> io::Result<bool> {
    Ok(xattr::get_at(dir, c"", OPAQUE)?.as_deref() == Some(b"y"))
}

/// Makes the directory `dir` (`O_PATH` will do) hide what lies below it.
pub(crate) fn set_opaque(dir: impl AsFd) -> io::Result<()> {
    xattr::set_at(dir, c"", OPAQUE, b"y")
}

/// Whether an attribute is overlayfs's bookkeeping, which never enters or leaves a tree as data.
pub(crate) fn is_overlay_xattr(name: &CStr) -> bool {
    let name = name.to_bytes();
    name.starts_with(b"trusted.overlay.") || name.starts_with(b"user.overlay.")
}

/// The attributes that are content, not bookkeeping.
pub(crate) fn without_overlay(mut xattrs: Vec<Xattr>) -> Vec<Xattr> {
    xattrs.retain(|xattr| !is_overlay_xattr(&xattr.name));
    xattrs
}

/// Whether a directory with these attributes is opaque.
pub(crate) fn is_opaque_by(xattrs: &[Xattr]) -> bool {
    xattrs.iter().any(|xattr| xattr.name.as_c_str() == OPAQUE && xattr.value == b"y")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_names_are_whiteouts() {
        assert_eq!(parse_tar_name(b"a"), TarName::Plain);
        assert_eq!(parse_tar_name(b"a.wh.b"), TarName::Plain);
        assert_eq!(parse_tar_name(b".wh.a"), TarName::Whiteout(b"a"));
        assert_eq!(parse_tar_name(b".wh..hidden"), TarName::Whiteout(b".hidden"));
        assert_eq!(parse_tar_name(b".wh..wh..opq"), TarName::Opaque);
        for reserved in [&b".wh."[..], b".wh..", b".wh..."] {
            assert_eq!(parse_tar_name(reserved), TarName::Reserved);
        }
        assert_eq!(parse_tar_name(b".wh..wh.plnk"), TarName::Bookkeeping);
    }
}
