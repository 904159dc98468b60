//! `calque layers`: the layers of an image and the instructions that made them.

use serde::Serialize;

use super::{Format, format_flag};
use crate::arguments::{self, Count, Invocation, Verb};
use crate::report::Failure;
use crate::table::Table;
use crate::{human, output};

/// The command.
pub(crate) const VERB: Verb = Verb {
    places: &[("", "layers"), ("image", "layers")],
    about: "Show the layers of an image, base first",
    synopsis: "[OPTIONS] IMAGE",
    examples: &["layers app:1.0", "layers --no-trunc app:1.0", "layers --format json app:1.0"],
    is_trailing: false,
    flags: || vec![arguments::switch("no-trunc", "Don't cut anything"), format_flag()],
    execute,
};

/// One layer.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Row {
    index: usize,
    /// The tree's id in the store.
    layer: String,
    /// The step key under which the cache knows it; empty for what was loaded.
    record: String,
    diff_id: String,
    size_bytes: u64,
    files: u64,
    created: String,
    created_by: String,
}

fn execute(invocation: &Invocation<'_>) -> Result<u8, Failure> {
    let name = invocation.arguments(Count::Exactly(1))?.remove(0);
    let format = Format::of(invocation)?;
    let store = invocation.app.store(1)?;
    let image = store.find_image(&name).map_err(|error| Failure::error(1, &error))?;
    let config = image.config.value();
    let mut made = config.history.iter().filter(|entry| !entry.empty_layer);
    let mut rows = Vec::new();
    for (index, (id, diff_id)) in image.layers.iter().zip(&config.rootfs.diff_ids).enumerate() {
        let layer = store.layer(*id).map_err(|error| Failure::error(1, &error))?;
        let size = store.layer_size(&layer).map_err(|error| Failure::error(1, &error))?;
        let records = store.layer_records(*id).map_err(|error| Failure::error(1, &error))?;
        let entry = made.next();
        rows.push(Row {
            index: index + 1,
            layer: id.to_string(),
            record: records.first().map(|record| record.step_key.to_string()).unwrap_or_default(),
            diff_id: diff_id.to_string(),
            size_bytes: size.size_bytes,
            files: size.entries,
            created: layer.facts().created.clone(),
            created_by: entry.and_then(|entry| entry.created_by.clone()).unwrap_or_default(),
        });
    }
    match format {
        Format::Json => output::print_json_lines(&rows)?,
        Format::Table => output::print(&table(&rows, !invocation.is_on("no-trunc")))?,
    }
    Ok(0)
}

fn table(rows: &[Row], is_cut: bool) -> String {
    let mut table = Table::new(&["LAYER", "ID", "SIZE", "FILES", "DIFF ID", "CACHE RECORD", "CREATED BY"]);
    for row in rows {
        let created_by = row.created_by.replace(['\t', '\n'], " ");
        let (_, hex) = row.diff_id.split_once(':').unwrap_or(("", &row.diff_id));
        let short = |text: &str| text.chars().take(12).collect::<String>();
        table.push(vec![
            row.index.to_string(),
            if is_cut { short(&row.layer) } else { row.layer.clone() },
            human::size(row.size_bytes),
            row.files.to_string(),
            if is_cut { short(hex) } else { row.diff_id.clone() },
            match row.record.as_str() {
                "" => "-".to_owned(),
                record if is_cut => short(record),
                record => record.to_owned(),
            },
            if is_cut { human::ellipsis(&created_by, 60) } else { created_by },
        ]);
    }
    table.render()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_layer_is_a_row() {
        let row = Row {
            index: 1,
            layer: "0123456789abcdef0123456789abcdef".into(),
            record: String::new(),
            diff_id: format!("sha256:{}", "f".repeat(64)),
            size_bytes: 4_260_000,
            files: 402,
            created: String::new(),
            created_by: "ADD rootfs.tar /".into(),
        };
        assert_eq!(
            table(&[row], true),
            "LAYER     ID             SIZE      FILES     DIFF ID        CACHE RECORD   CREATED BY\n\
             1         0123456789ab   4.26MB    402       ffffffffffff   -              ADD rootfs.tar /\n"
        );
    }
}
