//! `calque images`: the images and their names.

use jiff::Timestamp;
use oci::Reference;
use serde::Serialize;
use store::{Image, Store, TagRecord};

use super::{Format, format_flag, go_time};
use crate::arguments::{self, Count, Invocation, Verb};
use crate::report::Failure;
use crate::table::Table;
use crate::{human, output};

/// The command.
pub(crate) const VERB: Verb = Verb {
    places: &[("", "images"), ("image", "ls"), ("image", "list")],
    about: "List images",
    synopsis: "[OPTIONS] [REPOSITORY[:TAG]]",
    examples: &["images", "images app", "image ls -q", "image ls --format json"],
    is_trailing: false,
    flags: || {
        vec![
            arguments::switch("all", "Show those too that have no name").short('a'),
            arguments::switch("quiet", "Show only the IDs").short('q'),
            arguments::switch("no-trunc", "Don't cut the IDs"),
            format_flag(),
        ]
    },
    execute,
};

const NONE: &str = "<none>";

/// docker's object for `--format json`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Row {
    created_at: String,
    created_since: String,
    #[serde(rename = "ID")]
    id: String,
    repository: String,
    size: String,
    tag: String,
}

fn execute(invocation: &Invocation<'_>) -> Result<u8, Failure> {
    let wanted = invocation.arguments(Count::AtMost(1))?;
    let format = Format::of(invocation)?;
    let store = invocation.app.store(1)?;
    let images = store.images().map_err(|error| Failure::error(1, &error))?;
    let tags = store.tags().map_err(|error| Failure::error(1, &error))?;
    let shows_nameless = invocation.is_on("all");
    let is_cut = !invocation.is_on("no-trunc");
    let now = Timestamp::now();
    let mut rows = Vec::new();
    for image in &images {
        let names = names(image, &tags, wanted.first().map(String::as_str), shows_nameless);
        if names.is_empty() {
            continue;
        }
        let size = size(&store, image)?;
        rows.extend(names.into_iter().map(|name| row(image, name, size, is_cut, now)));
    }
    if invocation.is_on("quiet") {
        let mut ids: Vec<_> = rows.into_iter().map(|row| format!("{}\n", row.id)).collect();
        ids.dedup();
        output::print(&ids.concat())?;
    } else if format == Format::Json {
        output::print_json_lines(&rows)?;
    } else {
        output::print(&table(rows))?;
    }
    Ok(0)
}

/// Repository and tag of each row that `image` has.
fn names(
    image: &Image,
    tags: &[TagRecord],
    wanted: Option<&str>,
    shows_nameless: bool,
) -> Vec<(String, String)> {
    let own = tags.iter().filter(|tag| tag.image == image.id).map(|tag| &tag.reference);
    let names: Vec<_> = own
        .clone()
        .filter(|reference| wanted.is_none_or(|wanted| is_meant(reference, wanted)))
        .map(|reference| (reference.familiar_repository(), reference.tag().unwrap_or(NONE).to_owned()))
        .collect();
    let is_nameless = own.count() == 0 && shows_nameless && wanted.is_none();
    if is_nameless { vec![(NONE.to_owned(), NONE.to_owned())] } else { names }
}

/// Whether `wanted`, a repository or a whole name, means `reference`.
fn is_meant(reference: &Reference, wanted: &str) -> bool {
    let Ok(parsed) = wanted.parse::<Reference>() else { return false };
    let has_tag = wanted.rsplit('/').next().is_some_and(|last| last.contains(':'));
    parsed.host() == reference.host()
        && parsed.repository() == reference.repository()
        && (!has_tag || parsed.tag() == reference.tag())
}

/// Bytes of the files in all layers of `image`.
pub(crate) fn size(store: &Store, image: &Image) -> Result<u64, Failure> {
    let mut size = 0;
    for id in &image.layers {
        let layer = store.layer(*id).map_err(|error| Failure::error(1, &error))?;
        size += store.layer_size(&layer).map_err(|error| Failure::error(1, &error))?.size_bytes;
    }
    Ok(size)
}

fn row(image: &Image, (repository, tag): (String, String), size: u64, is_cut: bool, now: Timestamp) -> Row {
    let created = image.config.value().created.clone().unwrap_or_default();
    let age = human::age(&created, now);
    Row {
        created_at: go_time(&created),
        created_since: age.map_or_else(|| "N/A".to_owned(), human::ago),
        id: if is_cut { image.id.short() } else { image.id.to_string() },
        repository,
        size: human::size(size),
        tag,
    }
}

fn table(rows: Vec<Row>) -> String {
    let mut table = Table::new(&["REPOSITORY", "TAG", "IMAGE ID", "CREATED", "SIZE"]);
    for row in rows {
        table.push(vec![row.repository, row.tag, row.id, row.created_since, row.size]);
    }
    table.render()
}

#[cfg(test)]
mod tests {
    use oci::{Document, ImageConfig, Platform};

    use super::*;

    fn image(created: &str) -> Image {
        let mut config = ImageConfig::scratch(Platform::host());
        config.created = Some(created.to_owned());
        let config = Document::from_value(config);
        Image {
            id: oci::ImageId::new(config.digest()),
            config,
            layers: Vec::new(),
            stored: created.to_owned(),
        }
    }

    fn tag(name: &str, image: &Image) -> TagRecord {
        TagRecord { reference: name.parse().unwrap(), image: image.id }
    }

    #[test]
    fn an_image_has_a_row_for_each_name() {
        let now: Timestamp = "2026-01-15T00:00:00Z".parse().unwrap();
        let (old, other) = (image("2026-01-01T00:00:00Z"), image("1970-01-01T00:00:00Z"));
        let tags = [tag("app:1.0", &old), tag("registry.example:5000/team/app", &old)];
        let mut rows = Vec::new();
        for image in [&old, &other] {
            let names = names(image, &tags, None, true);
            rows.extend(names.into_iter().map(|name| row(image, name, 4_261_550, true, now)));
        }
        let expected = format!(
            "REPOSITORY                       TAG       IMAGE ID       CREATED       SIZE\n\
             app                              1.0       {0}   2 weeks ago   4.26MB\n\
             registry.example:5000/team/app   latest    {0}   2 weeks ago   4.26MB\n\
             <none>                           <none>    {1}   N/A           4.26MB\n",
            old.id.short(),
            other.id.short()
        );
        assert_eq!(table(rows), expected);
        assert!(names(&other, &tags, None, false).is_empty());
        assert!(names(&other, &tags, Some("app"), true).is_empty());
    }

    #[test]
    fn a_repository_means_all_its_tags() {
        let reference: Reference = "app:1.0".parse().unwrap();
        for (wanted, meant) in
            [("app", true), ("app:1.0", true), ("app:2", false), ("ap", false), ("A", false)]
        {
            assert_eq!(is_meant(&reference, wanted), meant, "{wanted}");
        }
    }
}
