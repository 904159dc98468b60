//! `USER` and `--chown`: names and numbers to ids, by the image's own `/etc/passwd` and `/etc/group`.

/// Whom a process runs as.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UserIds {
    /// User.
    pub uid: u32,
    /// Primary group.
    pub gid: u32,
    /// Supplementary groups, the primary one among them, sorted, without doubles.
    pub additional_gids: Vec<u32>,
    /// The home directory in passwd, where the user has an entry.
    pub home: Option<String>,
}

/// Why a user or group can't be resolved.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum UserError {
    /// No such name in the image.
    #[error("unable to find user `{name}`: no matching entry in the image's /etc/passwd")]
    UnknownUser {
        /// The name.
        name: String,
    },
    /// No such name in the image.
    #[error("unable to find group `{name}`: no matching entry in the image's /etc/group")]
    UnknownGroup {
        /// The name.
        name: String,
    },
    /// A number above 2147483647 (rule R4).
    #[error("id `{text}` is out of range: ids go from 0 to 2147483647")]
    Range {
        /// The digits.
        text: String,
    },
}

/// Most lines of passwd or group that are looked at (rule R13).
const LINE_LIMIT: usize = 100_000;

struct PasswdEntry<'a> {
    name: &'a str,
    uid: u32,
    gid: u32,
    home: &'a str,
}

fn passwd_entries(passwd: &str) -> impl Iterator<Item = PasswdEntry<'_>> {
    passwd.lines().take(LINE_LIMIT).filter_map(|line| {
        let mut fields = line.trim().split(':');
        let name = fields.next().filter(|name| !name.is_empty() && !name.starts_with('#'))?;
        let uid = fields.nth(1)?.parse().ok()?;
        let gid = fields.next()?.parse().ok()?;
        let home = fields.nth(1).unwrap_or_default();
        Some(PasswdEntry { name, uid, gid, home })
    })
}

fn group_entries(group: &str) -> impl Iterator<Item = (&str, u32, &str)> {
    group.lines().take(LINE_LIMIT).filter_map(|line| {
        let mut fields = line.trim().split(':');
        let name = fields.next().filter(|name| !name.is_empty() && !name.starts_with('#'))?;
        let gid = fields.nth(1)?.parse().ok()?;
        Some((name, gid, fields.next().unwrap_or_default()))
    })
}

/// A strictly decimal id, before any name is looked up: a text of digits is never a name (rule R4).
fn numeric(text: &str) -> Option<Result<u32, UserError>> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let in_range = |id: &u32| i32::try_from(*id).is_ok();
    Some(text.parse().ok().filter(in_range).ok_or_else(|| UserError::Range { text: text.to_owned() }))
}

fn find_gid(name: &str, group: &str) -> Result<u32, UserError> {
    match numeric(name) {
        Some(id) => id,
        None => group_entries(group)
            .find(|(entry, ..)| *entry == name)
            .map(|(_, gid, _)| gid)
            .ok_or_else(|| UserError::UnknownGroup { name: name.to_owned() }),
    }
}

/// Resolves `user[:group]` for a process; an empty text is root.
///
/// With a group given there are no other supplementary groups; without one they are those that `group` lists the user
/// in (moby `pkg/user`). The primary group is always one of them: else a program that drops it would pass by a file's
/// mode that refuses the group (CVE-2022-36109). A number without an entry has group 0.
///
/// # Errors
///
/// [`UserError`] for a name that isn't there or a number out of range.
pub fn resolve_user(spec: &str, passwd: &str, group: &str) -> Result<UserIds, UserError> {
    let (user, group_name) = match spec.split_once(':') {
        Some((user, group_name)) => (user, Some(group_name).filter(|name| !name.is_empty())),
        None => (spec, None),
    };
    let entry = match numeric(user) {
        Some(uid) => {
            let uid = uid?;
            passwd_entries(passwd).find(|entry| entry.uid == uid).ok_or(uid)
        }
        None if user.is_empty() => passwd_entries(passwd).find(|entry| entry.uid == 0).ok_or(0),
        None => Ok(passwd_entries(passwd)
            .find(|entry| entry.name == user)
            .ok_or_else(|| UserError::UnknownUser { name: user.to_owned() })?),
    };
    let (uid, primary, home, name) = match &entry {
        Ok(entry) => {
            (entry.uid, entry.gid, Some(entry.home).filter(|home| !home.is_empty()), Some(entry.name))
        }
        Err(uid) => (*uid, 0, None, None),
    };
    let mut ids = UserIds { uid, gid: primary, additional_gids: Vec::new(), home: home.map(str::to_owned) };
    if let Some(group_name) = group_name {
        ids.gid = find_gid(group_name, group)?;
    } else if let Some(name) = name {
        let lists_user = |members: &str| members.split(',').any(|member| member.trim() == name);
        ids.additional_gids =
            group_entries(group).filter(|(.., members)| lists_user(members)).map(|(_, gid, _)| gid).collect();
    }
    ids.additional_gids.push(ids.gid);
    ids.additional_gids.sort_unstable();
    ids.additional_gids.dedup();
    Ok(ids)
}

/// Resolves `--chown=user[:group]` to owner ids: without a group it is the user's primary one, or for a number
/// that number (BuildKit's rule).
///
/// # Errors
///
/// [`UserError`] for a name that isn't there (BuildKit silently takes root) or a number out of range.
pub fn resolve_owner(spec: &str, passwd: &str, group: &str) -> Result<(u32, u32), UserError> {
    let (user, group_name) = spec.split_once(':').map_or((spec, None), |(user, name)| (user, Some(name)));
    let (uid, primary) = match numeric(user) {
        Some(uid) => {
            let uid = uid?;
            (uid, uid)
        }
        None if user.is_empty() => (0, 0),
        None => passwd_entries(passwd)
            .find(|entry| entry.name == user)
            .map(|entry| (entry.uid, entry.gid))
            .ok_or_else(|| UserError::UnknownUser { name: user.to_owned() })?,
    };
    let gid = match group_name.filter(|name| !name.is_empty()) {
        Some(name) => find_gid(name, group)?,
        None => primary,
    };
    Ok((uid, gid))
}

/// The home directory that `passwd` gives `uid`; docker's fallback is `/`.
pub fn home_of(uid: u32, passwd: &str) -> String {
    passwd_entries(passwd)
        .find(|entry| entry.uid == uid)
        .map(|entry| entry.home)
        .filter(|home| !home.is_empty())
        .map_or_else(|| if uid == 0 { "/root".to_owned() } else { "/".to_owned() }, str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str =
        "root:x:0:0:root:/root:/bin/sh\n# comment\nwww:x:33:33::/var/www:/bin/false\n4444:x:7:7::/:\nbad\n";
    const GROUP: &str = "root:x:0:\nwww:x:33:\naudio:x:29:www,root\nvideo:x:44:root, www\n";

    #[test]
    fn users_are_found_by_name_and_number() {
        let www =
            UserIds { uid: 33, gid: 33, additional_gids: vec![29, 33, 44], home: Some("/var/www".into()) };
        assert_eq!(resolve_user("www", PASSWD, GROUP).unwrap(), www);
        assert_eq!(resolve_user("33", PASSWD, GROUP).unwrap(), www);
        let grouped = resolve_user("www:audio", PASSWD, GROUP).unwrap();
        assert_eq!((grouped.gid, grouped.additional_gids), (29, vec![29]), "a named group stands alone");
        let unknown = UserIds { uid: 1000, gid: 0, additional_gids: vec![0], home: None };
        assert_eq!(resolve_user("1000", PASSWD, GROUP).unwrap(), unknown);
        assert_eq!(resolve_user("", PASSWD, GROUP).unwrap().additional_gids, [0, 29, 44]);
    }

    #[test]
    fn digits_are_never_a_name() {
        assert_eq!(resolve_user("4444", PASSWD, GROUP).unwrap().uid, 4444);
    }

    #[test]
    fn an_id_over_two_to_the_31_is_refused_before_it_wraps() {
        for text in ["2147483648", "4294967296", "99999999999999999999"] {
            assert_eq!(resolve_user(text, PASSWD, GROUP), Err(UserError::Range { text: text.into() }));
            assert!(resolve_owner(&format!("0:{text}"), PASSWD, GROUP).is_err());
        }
        assert!(resolve_user("-1", PASSWD, GROUP).is_err());
    }

    #[test]
    fn owners_follow_buildkit_but_unknown_names_fail() {
        assert_eq!(resolve_owner("www", PASSWD, GROUP), Ok((33, 33)));
        assert_eq!(resolve_owner("1000", PASSWD, GROUP), Ok((1000, 1000)));
        assert_eq!(resolve_owner("1000:audio", PASSWD, GROUP), Ok((1000, 29)));
        assert_eq!(
            resolve_owner("nobody", PASSWD, GROUP),
            Err(UserError::UnknownUser { name: "nobody".into() })
        );
        assert_eq!(resolve_owner("0:no", PASSWD, GROUP), Err(UserError::UnknownGroup { name: "no".into() }));
    }
}
