//! `calque system df`: what the store takes on disk.

use serde::Serialize;
use store::{Usage, UsageGroup};

use super::{Format, format_flag};
use crate::arguments::{Count, Invocation, Verb};
use crate::report::Failure;
use crate::table::Table;
use crate::{human, output};

/// The command.
pub(crate) const VERB: Verb = Verb {
    places: &[("system", "df")],
    about: "Show what the store takes on disk",
    synopsis: "[OPTIONS]",
    examples: &["system df", "system df --format json"],
    is_trailing: false,
    flags: || vec![format_flag()],
    execute,
};

/// docker's object for `--format json`, and the exact number of bytes.
#[derive(Debug, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Row {
    active: String,
    reclaimable: String,
    size: String,
    size_bytes: u64,
    total_count: String,
    #[serde(rename = "Type")]
    kind: &'static str,
}

fn execute(invocation: &Invocation<'_>) -> Result<u8, Failure> {
    invocation.arguments(Count::None)?;
    let format = Format::of(invocation)?;
    let usage = invocation.app.store(1)?.usage().map_err(|error| Failure::error(1, &error))?;
    let mut rows = rows(&usage);
    match format {
        Format::Json => {
            rows.push(Row {
                active: String::new(),
                reclaimable: String::new(),
                size: human::size_precise(usage.total_bytes),
                size_bytes: usage.total_bytes,
                total_count: String::new(),
                kind: "Store",
            });
            output::print_json_lines(&rows)?;
        }
        Format::Table => output::print(&table(rows))?,
    }
    Ok(0)
}

fn rows(usage: &Usage) -> Vec<Row> {
    let with_share = |kind, group: &UsageGroup| {
        let mut row = row(kind, group);
        if let Some(share) = (group.reclaimable_bytes * 100).checked_div(group.size_bytes) {
            row.reclaimable.push_str(&format!(" ({share}%)"));
        }
        row
    };
    vec![
        with_share("Images", &usage.images),
        with_share("Containers", &usage.containers),
        with_share("Local Volumes", &UsageGroup::default()),
        row("Build Cache", &usage.build_cache),
    ]
}

fn row(kind: &'static str, group: &UsageGroup) -> Row {
    Row {
        active: group.active.to_string(),
        reclaimable: human::size_precise(group.reclaimable_bytes),
        size: human::size_precise(group.size_bytes),
        size_bytes: group.size_bytes,
        total_count: group.count.to_string(),
        kind,
    }
}

fn table(rows: Vec<Row>) -> String {
    let mut table = Table::new(&["TYPE", "TOTAL", "ACTIVE", "SIZE", "RECLAIMABLE"]);
    for row in rows {
        table.push(vec![row.kind.to_owned(), row.total_count, row.active, row.size, row.reclaimable]);
    }
    table.render()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_dockers() {
        let group = |count, active, size_bytes, reclaimable_bytes| UsageGroup {
            count,
            active,
            size_bytes,
            reclaimable_bytes,
        };
        let usage = Usage {
            images: group(5, 2, 16_430_000, 11_630_000),
            containers: group(2, 0, 212, 212),
            build_cache: group(3, 0, 1_234_567_890, 0),
            total_bytes: 0,
        };
        assert_eq!(
            table(rows(&usage)),
            "TYPE            TOTAL     ACTIVE    SIZE      RECLAIMABLE\n\
             Images          5         2         16.43MB   11.63MB (70%)\n\
             Containers      2         0         212B      212B (100%)\n\
             Local Volumes   0         0         0B        0B\n\
             Build Cache     3         0         1.235GB   0B\n"
        );
    }
}
