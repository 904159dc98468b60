//! `calque tag`: another name for an image.

use oci::Reference;

use crate::arguments::{Count, Invocation, Verb};
use crate::report::Failure;

/// The command.
pub(crate) const VERB: Verb = Verb {
    places: &[("", "tag"), ("image", "tag")],
    about: "Give an image another name",
    synopsis: "SOURCE_IMAGE[:TAG] TARGET_IMAGE[:TAG]",
    examples: &["tag app:1.0 app:latest", "tag 3f2a9c81d0e7 registry.example/team/app:1.0"],
    is_trailing: false,
    flags: Vec::new,
    execute,
};

fn execute(invocation: &Invocation<'_>) -> Result<u8, Failure> {
    let names = invocation.arguments(Count::Exactly(2))?;
    let target: Reference = names[1].parse().map_err(|error| Failure::error(1, &error))?;
    let store = invocation.app.store(1)?;
    let image = store.find_image(&names[0]).map_err(|error| Failure::error(1, &error))?;
    store.tag(&target, image.id).map_err(|error| Failure::error(1, &error))?;
    Ok(0)
}
