//! `calque rm`: containers that are no longer wanted.

use super::{Attempt, for_each};
use crate::arguments::{self, Count, Invocation, Verb};
use crate::output;
use crate::report::Failure;

/// The command.
pub(crate) const VERB: Verb = Verb {
    places: &[("", "rm"), ("container", "rm"), ("container", "remove")],
    about: "Remove one or more containers",
    synopsis: "[OPTIONS] CONTAINER [CONTAINER...]",
    examples: &["rm focused_hopper", "rm -f 4c01db0b339c"],
    is_trailing: false,
    flags: || vec![arguments::switch("force", "Kill a running container first").short('f')],
    execute,
};

fn execute(invocation: &Invocation<'_>) -> Result<u8, Failure> {
    let names = invocation.arguments(Count::AtLeast(1))?;
    let is_forced = invocation.is_on("force");
    let store = invocation.app.store(1)?;
    let result = for_each(invocation, &names, |name| match runner::remove(&store, name, is_forced) {
        Ok(()) => Ok(output::print_line(name)?),
        Err(error @ runner::RemoveError::Find(store::FindContainerError::NotFound(_))) if is_forced => {
            Err(Attempt::Forgiven(Failure::error(1, &error)))
        }
        Err(error @ runner::RemoveError::Running { .. }) => Err(Attempt::Failed(
            Failure::error(1, &error).hint("stop it first, or use `-f` to kill it".to_owned()),
        )),
        Err(error) => Err(Attempt::Failed(Failure::error(1, &error))),
    });
    // Outlives this command: unlinking may take long.
    invocation.app.settle_later();
    result
}
