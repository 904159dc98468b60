//! The SQLite index.

use std::path::PathBuf;

/// The index can't be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IndexError {
    /// SQLite says so.
    #[error("cannot {op} in the index `{}`", path.display())]
    Sqlite {
        /// What was tried.
        op: &'static str,
        /// The database.
        path: PathBuf,
        /// What SQLite says.
        source: rusqlite::Error,
    },
}
