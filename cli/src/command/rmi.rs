//! `calque rmi`: names and images that are no longer wanted.

use store::{FindImageError, RemoveImageError, Removed};

use super::{Attempt, for_each};
use crate::arguments::{self, Count, Invocation, Verb};
use crate::output;
use crate::report::Failure;

/// The command.
pub(crate) const VERB: Verb = Verb {
    places: &[("", "rmi"), ("image", "rm"), ("image", "remove")],
    about: "Remove one or more images",
    synopsis: "[OPTIONS] IMAGE [IMAGE...]",
    examples: &["rmi app:1.0", "image rm -f 3f2a9c81d0e7"],
    is_trailing: false,
    flags: || {
        vec![arguments::switch("force", "Remove it with all its names, and though it is in use").short('f')]
    },
    execute,
};

fn execute(invocation: &Invocation<'_>) -> Result<u8, Failure> {
    let names = invocation.arguments(Count::AtLeast(1))?;
    let is_forced = invocation.is_on("force");
    let store = invocation.app.store(1)?;
    let result = for_each(invocation, &names, |name| match store.remove_image(name, is_forced) {
        Ok(removed) => Ok(output::print(&removed.iter().map(line).collect::<String>())?),
        Err(error @ RemoveImageError::Find(FindImageError::NotFound { .. })) if is_forced => {
            Err(Attempt::Forgiven(Failure::error(1, &error)))
        }
        Err(error) => Err(Attempt::Failed(Failure::error(1, &error))),
    });
    // Outlives this command: unlinking may take long.
    invocation.app.settle_later();
    result
}

fn line(removed: &Removed) -> String {
    match removed {
        Removed::Untagged(reference) => format!("Untagged: {}\n", reference.familiar()),
        Removed::Deleted(id) => format!("Deleted: {id}\n"),
    }
}
