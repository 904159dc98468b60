//! `index.db`: cache records and input nodes, looked up by key.
//!
//! SQLite in WAL mode, disposable: the JSON documents beside the layers are the truth. It is opened when it is first
//! needed. Where it is missing, damaged or of another version, it is moved away and made anew from the documents.
//!
//! It is never synced (`synchronous=OFF`): a killed process leaves it whole, since the kernel has what was written, and
//! the first to open the store after a boot throws it away. So no commit and no checkpoint waits for the disk.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OpenFlags, Transaction, TransactionBehavior};

use crate::id::random_hex;
use crate::layout::Layout;
use crate::lock::FileLock;
use crate::{FileError, record};

/// Kept in `user_version`; another one means: make it anew.
const VERSION: i64 = 1;

const SCHEMA: &str = "
    CREATE TABLE steps (
        step_key BLOB NOT NULL PRIMARY KEY,
        content_key BLOB,
        shape BLOB NOT NULL,
        layer BLOB NOT NULL,
        inputs BLOB NOT NULL,
        build TEXT NOT NULL,
        stage TEXT NOT NULL,
        position INTEGER NOT NULL,
        text_hash INTEGER NOT NULL,
        recorded_ns INTEGER NOT NULL,
        record TEXT NOT NULL
    ) WITHOUT ROWID;
    CREATE INDEX steps_by_content ON steps (content_key) WHERE content_key IS NOT NULL;
    CREATE INDEX steps_by_shape ON steps (shape);
    CREATE INDEX steps_by_layer ON steps (layer);
    CREATE INDEX steps_by_place ON steps (build, stage, position);
    CREATE INDEX steps_by_text ON steps (text_hash);
    CREATE TABLE nodes (id BLOB NOT NULL PRIMARY KEY, data BLOB NOT NULL) WITHOUT ROWID;
";

/// Pages that the write-ahead log may have before a commit copies them into the database. The first to open the index
/// reads all of the log, so it stays small; copying costs little, for nothing is synced.
const AUTOCHECKPOINT_PAGES: i64 = 100;

/// A log longer than this is copied when the index is closed.
const LONG_LOG_BYTES: u64 = 512 << 10;

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
    /// A damaged index can't be moved away, or a document not be read for the new one.
    #[error(transparent)]
    File(#[from] FileError),
}

/// The index of one store, opened when it is first used.
#[derive(Debug)]
pub(crate) struct Index {
    layout: Layout,
    open: Mutex<Option<Open>>,
}

#[derive(Debug)]
struct Open {
    connection: Connection,
    /// Device and inode: tells that another process made the index anew.
    file: (u64, u64),
}

enum Try<T> {
    Done(T),
    /// The index is missing, damaged or of another version.
    Unusable,
}

impl Index {
    pub(crate) fn new(layout: Layout) -> Self {
        Self { layout, open: Mutex::new(None) }
    }

    /// Reads with `act`.
    pub(crate) fn read<T>(
        &self,
        op: &'static str,
        mut act: impl FnMut(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T, IndexError> {
        self.with(op, |connection| act(connection))
    }

    /// Writes with `act` in one transaction.
    pub(crate) fn write<T, E: From<IndexError>>(
        &self,
        op: &'static str,
        mut act: impl FnMut(&Transaction<'_>) -> Result<rusqlite::Result<T>, E>,
    ) -> Result<T, E> {
        // An error of the caller's own passes through SQLite's result type.
        let mut own = None;
        let written = self.with(op, |connection| {
            let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            match act(&transaction) {
                Ok(result) => {
                    let value = result?;
                    transaction.commit()?;
                    Ok(Some(value))
                }
                Err(error) => {
                    own = Some(error);
                    Ok(None)
                }
            }
        });
        match (written, own) {
            (_, Some(error)) => Err(error),
            (Err(error), None) => Err(error.into()),
            (Ok(value), None) => Ok(value.expect("there was no error of the caller's own")),
        }
    }

    fn with<T>(
        &self,
        op: &'static str,
        mut act: impl FnMut(&mut Connection) -> rusqlite::Result<T>,
    ) -> Result<T, IndexError> {
        let mut slot = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if slot.as_ref().is_some_and(|open| file_identity(&self.layout) != Some(open.file)) {
            *slot = None;
        }
        for is_last in [false, false, true] {
            let open = match &mut *slot {
                Some(open) => open,
                None => match self.open_existing(op)? {
                    Try::Done(open) => slot.insert(open),
                    Try::Unusable => slot.insert(self.make_anew(op)?),
                },
            };
            match act(&mut open.connection) {
                Err(error) if is_damage(&error) && !is_last => {
                    *slot = None;
                    *slot = Some(self.make_anew_if_damaged(op)?);
                }
                other => return other.map_err(|source| self.sqlite_error(op, source)),
            }
        }
        unreachable!("the last try returns")
    }

    fn sqlite_error(&self, op: &'static str, source: rusqlite::Error) -> IndexError {
        IndexError::Sqlite { op, path: self.layout.index(), source }
    }

    fn open_existing(&self, op: &'static str) -> Result<Try<Open>, IndexError> {
        let Some(file) = file_identity(&self.layout) else { return Ok(Try::Unusable) };
        let opened = self.connect(OpenFlags::empty()).and_then(|connection| {
            let version: i64 = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
            Ok((connection, version))
        });
        match opened {
            Ok((connection, VERSION)) => Ok(Try::Done(Open { connection, file })),
            Ok(_) => Ok(Try::Unusable),
            Err(error) if is_damage(&error) => Ok(Try::Unusable),
            Err(error) => Err(self.sqlite_error(op, error)),
        }
    }

    fn connect(&self, create: OpenFlags) -> rusqlite::Result<Connection> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX | create;
        let connection = Connection::open_with_flags(self.layout.index(), flags)?;
        connection.busy_timeout(Duration::from_secs(60))?;
        // Without this the last connection to close removes the log and the next one makes it again.
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
        connection.pragma_update(None, "synchronous", "OFF")?;
        connection.pragma_update(None, "wal_autocheckpoint", AUTOCHECKPOINT_PAGES)?;
        Ok(connection)
    }

    fn make_anew_if_damaged(&self, op: &'static str) -> Result<Open, IndexError> {
        let lock = FileLock::new(&self.layout.index_lock())?;
        // Another process may have been faster.
        if let Try::Done(open) = self.open_existing(op)? {
            let check = open.connection.query_row("PRAGMA quick_check(1)", [], |row| row.get::<_, String>(0));
            if check.is_ok_and(|text| text == "ok") {
                return Ok(open);
            }
        }
        self.make_locked(op, &lock)
    }

    fn make_anew(&self, op: &'static str) -> Result<Open, IndexError> {
        let lock = FileLock::new(&self.layout.index_lock())?;
        if let Try::Done(open) = self.open_existing(op)? {
            return Ok(open);
        }
        self.make_locked(op, &lock)
    }

    fn make_locked(&self, op: &'static str, _lock: &FileLock) -> Result<Open, IndexError> {
        self.move_away()?;
        let fail = |source| self.sqlite_error(op, source);
        let mut connection = self.connect(OpenFlags::SQLITE_OPEN_CREATE).map_err(fail)?;
        connection.pragma_update(None, "journal_mode", "WAL").map_err(fail)?;
        // One transaction: whoever finds the version finds everything.
        let transaction =
            connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(fail)?;
        transaction.execute_batch(SCHEMA).map_err(fail)?;
        record::rebuild(&transaction, &self.layout)?.map_err(fail)?;
        transaction.pragma_update(None, "user_version", VERSION).map_err(fail)?;
        transaction.commit().map_err(fail)?;
        let file = file_identity(&self.layout).ok_or_else(|| {
            FileError::new("open", self.layout.index(), io::Error::from(io::ErrorKind::NotFound))
        })?;
        Ok(Open { connection, file })
    }

    fn move_away(&self) -> Result<(), FileError> {
        use crate::file::OnPath as _;
        let index = self.layout.index();
        // The database first: a log without one is nothing, a database without its log may be an old one.
        for suffix in ["", "-wal", "-shm"] {
            let mut path = index.clone().into_os_string();
            path.push(suffix);
            let path = PathBuf::from(path);
            match fs::rename(&path, self.layout.trash().join(random_hex::<8>())) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(error).on("move to the trash", path);
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Copies the log into the database, so that a test can damage that.
    #[cfg(test)]
    pub(crate) fn checkpoint(&self) -> Result<(), IndexError> {
        if file_identity(&self.layout).is_none() {
            return Ok(());
        }
        self.read("checkpoint", |connection| {
            connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))
        })
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        // SQLite starts the log anew only in the process that copied it. So where each process writes a little, the
        // log would grow for ever, and whoever is first to open the index reads all of it.
        let log = self.connection.path().map(|path| format!("{path}-wal"));
        let is_long =
            log.and_then(|log| fs::metadata(log).ok()).is_some_and(|log| log.len() > LONG_LOG_BYTES);
        if is_long {
            // Whoever reads at the moment isn't waited for.
            let _ = self.connection.busy_timeout(Duration::ZERO);
            let _ = self.connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()));
        }
    }
}

fn file_identity(layout: &Layout) -> Option<(u64, u64)> {
    fs::metadata(layout.index()).ok().map(|found| (found.dev(), found.ino()))
}

fn is_damage(error: &rusqlite::Error) -> bool {
    match error {
        rusqlite::Error::SqliteFailure(failure, message) => {
            matches!(failure.code, ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase)
                // Another process's database was moved away under this connection.
                || failure.code == ErrorCode::ReadOnly
                || message.as_deref().is_some_and(|text| text.starts_with("no such table"))
        }
        rusqlite::Error::FromSqlConversionFailure(..) | rusqlite::Error::InvalidColumnType(..) => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Place, inputs, key, layer, record};

    fn put(store: &crate::Store, text: &str) {
        let layer = layer(store, text);
        store.put_step(record(text, layer.id()), vec![inputs(text)]).unwrap();
    }

    fn assert_whole(store: &crate::Store) {
        let mut lease = store.lease().unwrap();
        for text in ["a", "b"] {
            let found = store.find_step(&key(text), &mut lease).unwrap().unwrap();
            assert_eq!(found, record(text, found.layer));
            assert_eq!(store.input_node(&found.inputs).unwrap().unwrap(), inputs(text));
        }
    }

    #[test]
    fn commands_that_need_no_index_open_none() {
        let place = Place::new();
        let store = place.open();
        store.images().unwrap();
        store.containers().unwrap();
        store.tags().unwrap();
        layer(&store, "a");
        assert!(!place.options().root.join("index.db").exists());
    }

    #[test]
    fn a_deleted_index_is_made_anew_from_the_documents() {
        let place = Place::new();
        let store = place.open();
        put(&store, "a");
        put(&store, "b");
        for suffix in ["", "-wal", "-shm"] {
            fs::remove_file(place.options().root.join(format!("index.db{suffix}"))).unwrap();
        }
        assert_whole(&place.open());
        assert_whole(&store);
    }

    #[test]
    fn a_damaged_index_is_made_anew_from_the_documents() {
        for damage in ["no database at all ".repeat(1000), String::new()] {
            let place = Place::new();
            let store = place.open();
            put(&store, "a");
            put(&store, "b");
            store.inner.index.checkpoint().unwrap();
            drop(store);
            fs::write(place.options().root.join("index.db"), &damage).unwrap();
            assert_whole(&place.open());
        }
    }

    #[test]
    fn damage_that_shows_while_it_is_used_is_repaired_too() {
        let place = Place::new();
        let store = place.open();
        put(&store, "a");
        put(&store, "b");
        store.inner.index.checkpoint().unwrap();
        drop(store);
        // All pages but the first: the header reads well.
        let path = place.options().root.join("index.db");
        let mut bytes = fs::read(&path).unwrap();
        bytes[4096..].fill(0xa5);
        fs::write(&path, bytes).unwrap();
        assert_whole(&place.open());
    }

    #[test]
    fn an_index_of_another_version_is_made_anew() {
        let place = Place::new();
        let store = place.open();
        put(&store, "a");
        put(&store, "b");
        store
            .inner
            .index
            .read("test", |connection| connection.pragma_update(None, "user_version", 99))
            .unwrap();
        assert_whole(&place.open());
    }

    #[test]
    fn closing_does_not_copy_the_log_and_the_log_stays_small() {
        let place = Place::new();
        put(&place.open(), "a");
        let log = place.options().root.join("index.db-wal");
        assert!(fs::metadata(&log).unwrap().len() > 0);
        for number in 0..200 {
            put(&place.open(), &number.to_string());
        }
        let size_bytes = fs::metadata(&log).unwrap().len();
        assert!(size_bytes < 1 << 20, "{size_bytes}: whoever is first to open the index reads all of it");
    }
}
