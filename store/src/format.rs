//! The file `format`.
