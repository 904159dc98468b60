//! The file `format`: what kind of store a folder is.

use serde::{Deserialize, Serialize};

use crate::StoreMode;

/// The version of the layout that this calque reads and writes.
pub(crate) const VERSION: u32 = 1;

/// How the ids of files on disk relate to those in the image.
pub(crate) const IDS: &str = "image";

/// The content of the file `format`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Format {
    /// What it is, for whoever finds the folder.
    pub(crate) store: String,
    pub(crate) version: u32,
    pub(crate) mode: StoreMode,
    /// `image`: files carry the image's own ids.
    pub(crate) ids: String,
}

/// How a store differs from what can be opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Mismatch {
    Version(u32),
    Mode(StoreMode),
    Ids(String),
}

impl Format {
    pub(crate) fn new(mode: StoreMode) -> Self {
        Self { store: "calque".to_owned(), version: VERSION, mode, ids: IDS.to_owned() }
    }

    /// Whether a store of this format can be opened as `mode`.
    pub(crate) fn check(&self, mode: StoreMode) -> Result<(), Mismatch> {
        if self.version != VERSION {
            return Err(Mismatch::Version(self.version));
        }
        if self.mode != mode {
            return Err(Mismatch::Mode(self.mode));
        }
        if self.ids != IDS {
            return Err(Mismatch::Ids(self.ids.clone()));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_difference_is_told() {
        let format = Format::new(StoreMode::Root);
        assert_eq!(format.check(StoreMode::Root), Ok(()));
        assert_eq!(format.check(StoreMode::Rootless), Err(Mismatch::Mode(StoreMode::Root)));
        let newer = Format { version: 2, ..format.clone() };
        assert_eq!(newer.check(StoreMode::Rootless), Err(Mismatch::Version(2)));
        let shifted = Format { ids: "sidecar".to_owned(), ..format };
        assert_eq!(shifted.check(StoreMode::Root), Err(Mismatch::Ids("sidecar".to_owned())));
    }

    #[test]
    fn the_file_never_drifts() {
        let text = serde_json::to_string(&Format::new(StoreMode::Root)).unwrap();
        assert_eq!(text, r#"{"store":"calque","version":1,"mode":"root","ids":"image"}"#);
    }
}
