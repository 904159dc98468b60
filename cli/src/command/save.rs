//! `calque save`: images as an archive or a layout.

use std::fs::File;
use std::io::{self, BufWriter, IsTerminal, Write};
use std::path::{Path, PathBuf};

use oci::Reference;
use store::archive::{self, SaveFormat};
use store::{Image, Store};

use crate::arguments::{self, Count, Invocation, Verb, WRONG_FLAG};
use crate::output;
use crate::report::Failure;
use crate::ui::Transfer;

/// The command.
pub(crate) const VERB: Verb = Verb {
    places: &[("", "save"), ("image", "save")],
    about: "Save images as an archive (stdout by default) or an OCI layout folder",
    synopsis: "[OPTIONS] IMAGE [IMAGE...]",
    examples: &[
        "save -o app.tar app:1.0",
        "save app:1.0 | gzip > app.tar.gz",
        "save --format oci-archive -o app.oci.tar app:1.0",
        "save --format oci-dir -o layout/ app:1.0",
    ],
    is_trailing: false,
    flags: || {
        vec![
            arguments::option("output", "PATH", "Write to this file (or folder, for `oci-dir`)").short('o'),
            arguments::option(
                "format",
                "FORMAT",
                "`docker-archive`, `oci-archive` or `oci-dir` [default: docker-archive]",
            ),
        ]
    },
    execute,
};

fn execute(invocation: &Invocation<'_>) -> Result<u8, Failure> {
    let names = invocation.arguments(Count::AtLeast(1))?;
    let format = match invocation.value("format").unwrap_or("docker-archive") {
        "docker-archive" => Some(SaveFormat::DockerArchive),
        "oci-archive" => Some(SaveFormat::OciArchive),
        "oci-dir" => None,
        other => {
            let message =
                format!("unknown format `{other}`: it can be docker-archive, oci-archive or oci-dir");
            return Err(Failure::usage(WRONG_FLAG, message, &invocation.name));
        }
    };
    let to = invocation.value("output").filter(|path| *path != "-").map(PathBuf::from);
    if to.is_none() && (format.is_none() || io::stdout().is_terminal()) {
        let message = match format {
            None => "a folder can't be written to stdout",
            Some(_) => "an archive isn't written to a terminal",
        };
        return Err(Failure::message(1, message).hint("name a place with `-o`, or redirect stdout"));
    }
    let store = invocation.app.store(1)?;
    let images = images(&store, &names)?;
    match (format, to) {
        (None, to) => {
            let to = to.unwrap_or_default();
            archive::save_layout(&store, &images, &to).map_err(|error| Failure::error(1, &error))?;
        }
        (Some(format), None) => {
            let mut out = BufWriter::with_capacity(256 * 1024, io::stdout().lock());
            archive::save(&store, &images, format, &mut out).map_err(|error| Failure::error(1, &error))?;
            out.flush().map_err(|error| output::cannot_write(&error))?;
        }
        (Some(format), Some(to)) => save_to(&store, &images, format, &to)?,
    }
    Ok(0)
}

/// The images in the order of their first mention, each with the names it was asked for by.
fn images(store: &Store, names: &[String]) -> Result<Vec<(Image, Vec<Reference>)>, Failure> {
    let mut images: Vec<(Image, Vec<Reference>)> = Vec::new();
    for name in names {
        let image = store.find_image(name).map_err(|error| Failure::error(1, &error))?;
        // An ID gives no name to what is saved: only what is a tag does.
        let reference = name
            .parse::<Reference>()
            .ok()
            .filter(|reference| matches!(store.resolve_tag(reference), Ok(Some(id)) if id == image.id));
        match images.iter_mut().find(|(other, _)| other.id == image.id) {
            Some((_, references)) => references.extend(reference),
            None => images.push((image, reference.into_iter().collect())),
        }
    }
    Ok(images)
}

/// Writes beside `to` first, so that a failure leaves what was there as it was.
fn save_to(
    store: &Store,
    images: &[(Image, Vec<Reference>)],
    format: SaveFormat,
    to: &Path,
) -> Result<(), Failure> {
    let cannot = |op: &str, path: &Path, error: io::Error| {
        Failure::message(1, format!("cannot {op} `{}`: {error}", path.display()))
    };
    if to.exists() && !to.is_file() {
        // A pipe or a device is written as it is; a folder fails with the system's own words.
        let file = File::create(to).map_err(|error| cannot("open", to, error))?;
        return write(store, images, format, file, to);
    }
    let mut part = to.as_os_str().to_owned();
    part.push(format!(".{}.part", std::process::id()));
    let part = PathBuf::from(part);
    let file = File::create(&part).map_err(|error| cannot("make", &part, error))?;
    let result = write(store, images, format, file, &part)
        .and_then(|()| std::fs::rename(&part, to).map_err(|error| cannot("rename into place", to, error)));
    if result.is_err() {
        let _ = std::fs::remove_file(&part);
    }
    result
}

fn write(
    store: &Store,
    images: &[(Image, Vec<Reference>)],
    format: SaveFormat,
    file: File,
    path: &Path,
) -> Result<(), Failure> {
    let transfer = Transfer::new("saving");
    let mut out = BufWriter::with_capacity(256 * 1024, transfer.write(file));
    archive::save(store, images, format, &mut out).map_err(|error| Failure::error(1, &error))?;
    out.flush().map_err(|error| Failure::message(1, format!("cannot write `{}`: {error}", path.display())))
}
