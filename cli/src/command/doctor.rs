//! `calque doctor`: what calque wants of this machine, what of it is there, and what helps where it isn't.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use serde::Serialize;
use sys::kernel::{self, Feature};

use super::{Format, format_flag};
use crate::arguments::{Count, Invocation, Verb};
use crate::report::Failure;
use crate::table::Table;
use crate::{output, settings};

/// The command.
pub(crate) const VERB: Verb = Verb {
    places: &[("", "doctor")],
    about: "Show what this machine offers to calque, and what helps where something is missing",
    synopsis: "[OPTIONS]",
    examples: &["doctor", "doctor --format json"],
    is_trailing: false,
    flags: || vec![format_flag()],
    execute,
};

/// The answer to one check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Status {
    /// It is there.
    Yes,
    /// It isn't.
    No,
    /// It can't be found out by this user.
    Unknown,
}

impl Status {
    fn of(is_there: bool) -> Self {
        if is_there { Self::Yes } else { Self::No }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Yes => "yes",
            Self::No => "no",
            Self::Unknown => "unknown",
        }
    }
}

/// One thing that was looked at.
#[derive(Debug, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Row {
    check: String,
    status: Status,
    /// What was found, or what helps.
    detail: String,
}

impl Row {
    fn new(check: impl Into<String>, status: Status, detail: impl Into<String>) -> Self {
        Self { check: check.into(), status, detail: detail.into() }
    }
}

fn execute(invocation: &Invocation<'_>) -> Result<u8, Failure> {
    invocation.arguments(Count::None)?;
    let format = Format::of(invocation)?;
    let disabled = settings::disabled_features().map_err(|error| Failure::error(1, &error))?;
    kernel::disable(&disabled);
    let uid = rustix::process::getuid().as_raw();
    let is_root = rustix::process::geteuid().is_root();

    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    let mut rows = vec![Row::new("kernel", Status::Yes, release)];
    rows.extend(Feature::ALL.map(|feature| {
        let is_disabled = disabled.contains(&feature);
        feature_row(feature, kernel::has(feature), is_disabled, is_root)
    }));
    // overlayfs keeps its marks in `user.overlay.*` since 5.11.
    rows.push(Row::new("overlay-userxattr", Status::of(kernel::release() >= (5, 11)), "since Linux 5.11"));
    rows.push(user_namespaces(|name| fs::read_to_string(Path::new("/proc/sys").join(name)).ok()));
    // Root takes ids that belong to nobody and maps them itself.
    if !is_root {
        let name = user_name(uid, &fs::read_to_string("/etc/passwd").unwrap_or_default());
        for file in ["/etc/subuid", "/etc/subgid"] {
            let text = fs::read_to_string(file).unwrap_or_default();
            rows.push(subordinate_ids(file, &text, uid, name.as_deref()));
        }
        for program in ["newuidmap", "newgidmap"] {
            rows.push(id_mapper(program, settings::program(program)));
        }
    }
    rows.push(cgroups(Path::new("/sys/fs/cgroup")));
    rows.push(store_row(invocation.app.store_place()));
    match format {
        Format::Json => output::print_json_lines(&rows)?,
        Format::Table => output::print(&table(rows))?,
    }
    Ok(0)
}

fn feature_row(feature: Feature, has: bool, is_disabled: bool, is_root: bool) -> Row {
    let fallback = match feature {
        Feature::Overlay => "steps and containers work on a copy of their layers",
        Feature::OverlayFd => "layers are mounted by name",
        Feature::Idmap => "containers have no user namespace",
        Feature::MountSetattr => "mounts are remounted",
        Feature::Openat2 => "paths are walked one component at a time",
        Feature::Clone3 => "processes start with clone",
        Feature::CloseRange => "descriptors are closed one by one",
        _ => "an older way is taken",
    };
    let needs_root = matches!(feature, Feature::Overlay | Feature::OverlayFd);
    match (has, is_disabled) {
        (true, _) => Row::new(feature.name(), Status::Yes, ""),
        (false, true) => {
            Row::new(feature.name(), Status::No, format!("disabled by CALQUE_DISABLE: {fallback}"))
        }
        (false, false) if needs_root && !is_root => {
            Row::new(feature.name(), Status::Unknown, "only root can try it: `sudo calque doctor`")
        }
        (false, false) => Row::new(feature.name(), Status::No, format!("instead: {fallback}")),
    }
}

/// Whether ordinary users may make user namespaces; `sysctl` reads a file below `/proc/sys`.
fn user_namespaces(sysctl: impl Fn(&str) -> Option<String>) -> Row {
    const CHECK: &str = "user-namespaces";
    let number = |name: &str| sysctl(name).and_then(|text| text.trim().parse::<u64>().ok());
    match number("user/max_user_namespaces") {
        None => return Row::new(CHECK, Status::No, "this kernel has none (CONFIG_USER_NS)"),
        Some(0) => {
            return Row::new(
                CHECK,
                Status::No,
                "forbidden: `sysctl -w user.max_user_namespaces=10000` allows them",
            );
        }
        Some(_) => {}
    }
    if number("kernel/unprivileged_userns_clone") == Some(0) {
        let detail = "only for root: `sysctl -w kernel.unprivileged_userns_clone=1` allows them to all";
        return Row::new(CHECK, Status::No, detail);
    }
    if number("kernel/apparmor_restrict_unprivileged_userns") == Some(1) {
        let detail = "restricted by AppArmor: a profile with `userns,` for calque or \
                      `sysctl -w kernel.apparmor_restrict_unprivileged_userns=0` allows them";
        return Row::new(CHECK, Status::No, detail);
    }
    Row::new(CHECK, Status::Yes, "")
}

/// The name of `uid` in the text of `/etc/passwd`.
fn user_name(uid: u32, passwd: &str) -> Option<String> {
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(uid)).then(|| name.to_owned())
    })
}

/// The user's ranges in the text of `/etc/subuid` or `/etc/subgid` (`subuid(5)`), where one is as long as images need.
fn subordinate_ids(file: &str, text: &str, uid: u32, name: Option<&str>) -> Row {
    const NEEDED: u64 = 65_536;
    let check = file.trim_start_matches("/etc/");
    let who = name.map_or_else(|| uid.to_string(), str::to_owned);
    let total: u64 = text
        .lines()
        .filter_map(|line| {
            let mut fields = line.trim().split(':');
            let owner = fields.next()?;
            let is_own = Some(owner) == name || owner.parse() == Ok(uid);
            let count = fields.nth(1)?.parse::<u64>().ok()?;
            is_own.then_some(count)
        })
        .fold(0, u64::saturating_add);
    if total >= NEEDED {
        return Row::new(check, Status::Yes, format!("{total} ids for {who}"));
    }
    let flag = if check == "subuid" { "--add-subuids" } else { "--add-subgids" };
    let detail = format!(
        "{total} ids for {who} where {NEEDED} are needed: `usermod {flag} FIRST-LAST {who}` adds unused ones"
    );
    Row::new(check, Status::No, detail)
}

/// Whether `newuidmap` or `newgidmap` is there and may do what only root may.
fn id_mapper(program: &'static str, found: Option<PathBuf>) -> Row {
    let Some(path) = found else {
        return Row::new(
            program,
            Status::No,
            "not in PATH: install the package `uidmap` (or `shadow-utils`)",
        );
    };
    let is_setuid = fs::metadata(&path).is_ok_and(|metadata| metadata.permissions().mode() & 0o4000 != 0);
    let mut value = [0; 64];
    let has_capability = rustix::fs::getxattr(&path, "security.capability", &mut value[..]).is_ok();
    if is_setuid || has_capability {
        return Row::new(program, Status::Yes, path.display().to_string());
    }
    let path = path.display();
    Row::new(program, Status::No, format!("{path} has no rights of root: `chmod u+s {path}` gives them"))
}

/// Which version of cgroups is mounted.
fn cgroups(mount: &Path) -> Row {
    let version = if mount.join("cgroup.controllers").exists() {
        "version 2"
    } else if mount.join("unified/cgroup.controllers").exists() {
        "version 1, with version 2 beside it"
    } else if fs::read_dir(mount).is_ok_and(|mut entries| entries.next().is_some()) {
        "version 1"
    } else {
        return Row::new("cgroups", Status::No, "none are mounted");
    };
    Row::new("cgroups", Status::Yes, version)
}

/// Where the store lies and on what file system.
fn store_row(place: Result<settings::StorePlace, settings::SettingsError>) -> Row {
    let root = match place {
        Ok(place) => place.root,
        Err(error) => return Row::new("store", Status::No, error.to_string()),
    };
    let file_system = root
        .ancestors()
        .find_map(|path| rustix::fs::statfs(path).ok())
        .map_or("an unknown file system", |statfs| file_system_name(statfs.f_type as u64));
    Row::new("store", Status::Yes, format!("{} on {file_system}", root.display()))
}

/// The name of a file system by its number in `statfs(2)`.
fn file_system_name(magic: u64) -> &'static str {
    match magic {
        0xef53 => "ext4",
        0x5846_5342 => "xfs",
        0x9123_683e => "btrfs",
        0x0102_1994 => "tmpfs",
        0x794c_7630 => "overlayfs",
        0x2fc1_2fc1 => "zfs",
        0xf2f5_2010 => "f2fs",
        0xca45_1a4e => "bcachefs",
        0x6969 => "nfs",
        0x6573_5546 => "fuse",
        _ => "an unknown file system",
    }
}

fn table(rows: Vec<Row>) -> String {
    let mut table = Table::new(&["CHECK", "THERE", "DETAIL"]);
    for row in rows {
        table.push(vec![row.check, row.status.name().to_owned(), row.detail]);
    }
    table.render()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `user_namespaces` with these values of sysctls.
    fn with(values: &[(&str, &str)]) -> Row {
        user_namespaces(|name| {
            values.iter().find(|(known, _)| *known == name).map(|(_, value)| format!("{value}\n"))
        })
    }

    #[test]
    fn each_way_to_forbid_user_namespaces_names_its_sysctl() {
        let max = ("user/max_user_namespaces", "7000");
        assert_eq!(with(&[max]).status, Status::Yes);
        assert_eq!(with(&[]).status, Status::No);
        for (values, sysctl) in [
            (vec![("user/max_user_namespaces", "0")], "user.max_user_namespaces"),
            (vec![max, ("kernel/unprivileged_userns_clone", "0")], "kernel.unprivileged_userns_clone=1"),
            (
                vec![max, ("kernel/apparmor_restrict_unprivileged_userns", "1")],
                "kernel.apparmor_restrict_unprivileged_userns=0",
            ),
        ] {
            let row = with(&values);
            assert_eq!(row.status, Status::No, "{sysctl}");
            assert!(row.detail.contains(sysctl), "{}", row.detail);
        }
    }

    #[test]
    fn subordinate_ids_count_by_name_and_by_number() {
        let status = |text: &str| subordinate_ids("/etc/subuid", text, 1000, Some("ann")).status;
        assert_eq!(status("ann:100000:65536\n"), Status::Yes);
        assert_eq!(status("1000:100000:65536\n"), Status::Yes);
        assert_eq!(status("ann:100000:32768\n1000:300000:32768\n"), Status::Yes);
        for text in
            ["", "ann:100000:65535\n", "anna:100000:65536\n", "10001:1:65536\n", "ann:100000\n", "ann:1:x\n"]
        {
            assert_eq!(status(text), Status::No, "{text}");
        }
        let row = subordinate_ids("/etc/subgid", "", 1000, None);
        assert!(row.detail.contains("usermod --add-subgids") && row.detail.ends_with("adds unused ones"));
    }

    #[test]
    fn a_user_is_found_by_its_whole_id() {
        let passwd = "root:x:0:0::/root:/bin/sh\nbroken\nann:x:1000:1000::/home/ann:/bin/sh\n";
        assert_eq!(user_name(1000, passwd).as_deref(), Some("ann"));
        assert_eq!(user_name(100, passwd), None);
    }

    #[test]
    fn a_mapper_without_rights_is_not_good_enough() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("newuidmap");
        fs::write(&path, "").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        assert_eq!(id_mapper("newuidmap", Some(path.clone())).status, Status::No);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o4755)).unwrap();
        assert_eq!(id_mapper("newuidmap", Some(path)).status, Status::Yes);
        assert!(id_mapper("newuidmap", None).detail.contains("`uidmap`"));
    }

    #[test]
    fn versions_of_cgroups_are_told_apart() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(cgroups(dir.path()).status, Status::No);
        fs::create_dir_all(dir.path().join("unified")).unwrap();
        assert_eq!(cgroups(dir.path()).detail, "version 1");
        fs::write(dir.path().join("unified/cgroup.controllers"), "").unwrap();
        assert_eq!(cgroups(dir.path()).detail, "version 1, with version 2 beside it");
        fs::write(dir.path().join("cgroup.controllers"), "").unwrap();
        assert_eq!(cgroups(dir.path()).detail, "version 2");
    }

    #[test]
    fn what_only_root_can_try_is_unknown_to_others() {
        assert_eq!(feature_row(Feature::Overlay, false, false, false).status, Status::Unknown);
        assert_eq!(feature_row(Feature::Overlay, false, false, true).status, Status::No);
        let disabled = feature_row(Feature::Overlay, false, true, false);
        assert_eq!(disabled.status, Status::No);
        assert!(disabled.detail.contains("CALQUE_DISABLE"), "{}", disabled.detail);
        assert_eq!(feature_row(Feature::Clone3, false, false, false).status, Status::No);
    }
}
