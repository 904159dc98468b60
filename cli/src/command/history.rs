//! `calque history`: the instructions that made an image.

use jiff::Timestamp;
use oci::HistoryEntry;
use serde::Serialize;
use store::{Image, Store};

use super::{Format, format_flag};
use crate::arguments::{self, Count, Invocation, Verb};
use crate::report::Failure;
use crate::table::Table;
use crate::{human, output};

/// The command.
pub(crate) const VERB: Verb = Verb {
    places: &[("", "history"), ("image", "history")],
    about: "Show the instructions that made an image",
    synopsis: "[OPTIONS] IMAGE",
    examples: &["history app:1.0", "history --no-trunc app:1.0", "history --human=false app:1.0"],
    is_trailing: false,
    flags: || {
        vec![
            arguments::switch("human", "Show sizes and times for humans [default: true]").short('H'),
            arguments::switch("no-trunc", "Don't cut anything"),
            arguments::switch("quiet", "Show only the IDs").short('q'),
            format_flag(),
        ]
    },
    execute,
};

/// docker's object for `--format json`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Row {
    comment: String,
    created_at: String,
    created_by: String,
    created_since: String,
    #[serde(rename = "ID")]
    id: String,
    size: String,
}

/// How rows are written.
#[derive(Clone, Copy)]
struct Look {
    is_human: bool,
    is_cut: bool,
    now: Timestamp,
}

fn execute(invocation: &Invocation<'_>) -> Result<u8, Failure> {
    let name = invocation.arguments(Count::Exactly(1))?.remove(0);
    let format = Format::of(invocation)?;
    let store = invocation.app.store(1)?;
    let image = store.find_image(&name).map_err(|error| Failure::error(1, &error))?;
    let sizes = sizes(&store, &image)?;
    let look = Look {
        is_human: invocation.matches.get_one::<bool>("human").copied().unwrap_or(true),
        is_cut: !invocation.is_on("no-trunc"),
        now: Timestamp::now(),
    };
    let rows = rows(&image.config.value().history, &sizes, &image, look);
    if invocation.is_on("quiet") {
        output::print(&rows.iter().map(|row| format!("{}\n", row.id)).collect::<String>())?;
    } else if format == Format::Json {
        output::print_json_lines(&rows)?;
    } else {
        output::print(&table(rows, look.is_human))?;
    }
    Ok(0)
}

fn sizes(store: &Store, image: &Image) -> Result<Vec<u64>, Failure> {
    image
        .layers
        .iter()
        .map(|id| {
            let layer = store.layer(*id).map_err(|error| Failure::error(1, &error))?;
            Ok(store.layer_size(&layer).map_err(|error| Failure::error(1, &error))?.size_bytes)
        })
        .collect()
}

/// The rows, newest first. Layers that no entry stands for (a history may be missing) come last.
fn rows(history: &[HistoryEntry], sizes: &[u64], image: &Image, look: Look) -> Vec<Row> {
    let mut sizes = sizes.iter().copied();
    let mut rows: Vec<Row> = history
        .iter()
        .map(|entry| row(entry, if entry.empty_layer { 0 } else { sizes.next().unwrap_or(0) }, look))
        .collect();
    rows.reverse();
    rows.extend(sizes.map(|size| row(&HistoryEntry::default(), size, look)));
    if let Some(first) = rows.first_mut() {
        first.id = if look.is_cut { image.id.short() } else { image.id.to_string() };
    }
    rows
}

fn row(entry: &HistoryEntry, size: u64, look: Look) -> Row {
    let created = entry.created.as_deref().unwrap_or_default();
    let created_by = entry.created_by.as_deref().unwrap_or_default().replace(['\t', '\n'], " ");
    Row {
        comment: entry.comment.clone().unwrap_or_default(),
        created_at: created.to_owned(),
        created_by: if look.is_cut { human::ellipsis(&created_by, 45) } else { created_by },
        created_since: human::age(created, look.now).map_or_else(|| "N/A".to_owned(), human::ago),
        id: "<missing>".to_owned(),
        size: if look.is_human { human::size(size) } else { size.to_string() },
    }
}

fn table(rows: Vec<Row>, is_human: bool) -> String {
    let created = if is_human { "CREATED" } else { "CREATED AT" };
    let mut table = Table::new(&["IMAGE", created, "CREATED BY", "SIZE", "COMMENT"]);
    for row in rows {
        let created = if is_human { row.created_since } else { row.created_at };
        table.push(vec![row.id, created, row.created_by, row.size, row.comment]);
    }
    table.render()
}

#[cfg(test)]
mod tests {
    use oci::{Document, ImageConfig, Platform};

    use super::*;

    fn entry(created_by: &str, empty_layer: bool) -> HistoryEntry {
        HistoryEntry {
            created: Some("2026-01-01T00:00:00Z".into()),
            created_by: Some(created_by.into()),
            comment: Some("buildkit.dockerfile.v0".into()),
            empty_layer,
            ..HistoryEntry::default()
        }
    }

    fn image() -> Image {
        let config = Document::from_value(ImageConfig::scratch(Platform::host()));
        Image { id: oci::ImageId::new(config.digest()), config, layers: Vec::new(), stored: String::new() }
    }

    #[test]
    fn rows_are_dockers_newest_first() {
        let look = Look { is_human: true, is_cut: true, now: "2026-01-01T00:00:05Z".parse().unwrap() };
        let history = [
            entry("ADD rootfs.tar /", false),
            entry("CMD [\"sh\"]", true),
            entry("RUN /bin/sh -c apt-get update &&\tapt-get install -y a b c", false),
        ];
        let image = image();
        let rows = rows(&history, &[4_260_000, 12], &image, look);
        let id = image.id.short();
        assert_eq!(
            table(rows, true),
            format!(
                "IMAGE          CREATED         CREATED BY                                      SIZE      COMMENT\n\
                 {id}   5 seconds ago   RUN /bin/sh -c apt-get update && apt-get ins…   12B       buildkit.dockerfile.v0\n\
                 <missing>      5 seconds ago   CMD [\"sh\"]                                      0B        buildkit.dockerfile.v0\n\
                 <missing>      5 seconds ago   ADD rootfs.tar /                                4.26MB    buildkit.dockerfile.v0\n"
            )
        );
    }

    #[test]
    fn plain_numbers_and_layers_without_history_are_shown() {
        let look = Look { is_human: false, is_cut: false, now: "2026-01-01T00:00:05Z".parse().unwrap() };
        let image = image();
        let rows = rows(&[entry("A", false)], &[7, 8], &image, look);
        assert_eq!(rows.iter().map(|row| row.size.as_str()).collect::<Vec<_>>(), ["7", "8"]);
        assert_eq!(rows[0].id, image.id.to_string());
        assert!(table(rows, false).contains("2026-01-01T00:00:00Z"));
    }
}
