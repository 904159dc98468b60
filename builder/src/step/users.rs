//! Users of the image, by its own passwd and group.

use oci::{UserError, UserIds};
use store::merged::Merged;
use sys::file::Owner;

use crate::error::StepError;
use crate::step::copy::small_file;
use parser::nearest;

/// Whom a process of `user[:group]` runs as, and the home that its passwd gives it.
pub(crate) fn ids(image: &Merged, user: &str) -> Result<(UserIds, String), StepError> {
    let (passwd, group) = (small_file(image, "/etc/passwd")?, small_file(image, "/etc/group")?);
    let ids = oci::resolve_user(user, &passwd, &group).map_err(|error| {
        let help = suggestion(&error, &passwd, &group);
        StepError::User { text: format!("USER {user}"), help, source: error }
    })?;
    let home = ids.home.clone().unwrap_or_else(|| oci::home_of(ids.uid, &passwd));
    Ok((ids, home))
}

/// The owner that `--chown` or WORKDIR's USER names.
pub(crate) fn owner(image: &Merged, text: &str) -> Result<Owner, StepError> {
    let (passwd, group) = (small_file(image, "/etc/passwd")?, small_file(image, "/etc/group")?);
    let (uid, gid) = oci::resolve_owner(text, &passwd, &group).map_err(|error| {
        let help = suggestion(&error, &passwd, &group);
        StepError::User { text: format!("--chown={text}"), help, source: error }
    })?;
    Ok(Owner { uid, gid })
}

fn suggestion(error: &UserError, passwd: &str, group: &str) -> Option<String> {
    let (name, file) = match error {
        UserError::UnknownUser { name } => (name, passwd),
        UserError::UnknownGroup { name } => (name, group),
        _ => return None,
    };
    let names = file.lines().filter_map(|line| line.split(':').next());
    nearest(name, names).map(|near| format!("did you mean `{near}`?"))
}
