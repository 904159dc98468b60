//! `calque load`: images from an archive or a layout.

use std::io::IsTerminal;
use std::path::Path;

use store::archive::{self, Loaded, Source};

use crate::arguments::{self, Count, Invocation, Verb};
use crate::output;
use crate::report::Failure;
use crate::ui::Transfer;

/// The command.
pub(crate) const VERB: Verb = Verb {
    places: &[("", "load"), ("image", "load")],
    about: "Load images from a docker archive, an OCI archive or an OCI layout folder",
    synopsis: "[OPTIONS]",
    examples: &["load -i app.tar", "load -i layout/", "load < app.tar.gz"],
    is_trailing: false,
    flags: || {
        vec![
            arguments::option("input", "PATH", "Read this file or folder instead of stdin").short('i'),
            arguments::switch("quiet", "Show only what was loaded (nothing else is shown anyway)").short('q'),
        ]
    },
    execute,
};

fn execute(invocation: &Invocation<'_>) -> Result<u8, Failure> {
    invocation.arguments(Count::None)?;
    let input = invocation.value("input").filter(|path| *path != "-");
    let stdin = std::io::stdin();
    if input.is_none() && stdin.is_terminal() {
        return Err(
            Failure::message(1, "stdin is a terminal, not an archive").hint("give the file with `-i`")
        );
    }
    let store = invocation.app.store(1)?;
    let loaded = match input {
        Some(path) => archive::load(&store, Source::Path(Path::new(path))),
        None => {
            let transfer = Transfer::new("loading from stdin");
            archive::load(&store, Source::Reader(&mut transfer.read(stdin)))
        }
    };
    for Loaded { image, references, .. } in loaded.map_err(|error| Failure::error(1, &error))? {
        for reference in &references {
            store.tag(reference, image.id).map_err(|error| Failure::error(1, &error))?;
            output::print_line(&format!("Loaded image: {}", reference.familiar()))?;
        }
        if references.is_empty() {
            output::print_line(&format!("Loaded image ID: {}", image.id))?;
        }
    }
    Ok(0)
}
