//! What the environment says: the only file that reads it.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};

use oci::Digest;

/// Where root's store lies unless told otherwise.
const DEFAULT_ROOT: &str = "/var/lib/calque";
/// Where its sockets, locks and pid files lie: gone with a reboot.
const RUNTIME: &str = "/run/calque";

/// A variable of the environment has a value that can't be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SettingsError {
    /// The variable and what is wrong.
    #[error("the environment variable `{name}` has a value that can't be used: `{value}` ({reason})")]
    Value { name: &'static str, value: String, reason: String },
    /// Not root.
    #[error(
        "calque needs to be root: rootless builds and containers come with the next release, so use `sudo`"
    )]
    Rootless,
    /// The store's folder can't be named.
    #[error("cannot find out the current directory")]
    CurrentDirectory {
        /// Why.
        source: std::io::Error,
    },
}

/// The value of one variable; nothing where it is unset or empty.
fn set(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// The value that the caller's environment gives `name`, as `--build-arg K` and `-e K` want it.
pub(crate) fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// The program `name` in the caller's `PATH`.
pub(crate) fn program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|dir| dir.join(name)).find(|file| file.is_file())
}

/// Where the store lies and where what dies with a reboot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct StorePlace {
    pub(crate) root: PathBuf,
    pub(crate) runtime: PathBuf,
}

/// The store's place: `--root`, else `CALQUE_ROOT`, else the default.
///
/// # Errors
///
/// [`SettingsError::Rootless`] for anyone but root.
pub(crate) fn store_place(flag: Option<&Path>) -> Result<StorePlace, SettingsError> {
    if !rustix::process::geteuid().is_root() {
        return Err(SettingsError::Rootless);
    }
    let root = flag.map(Path::to_owned).or_else(|| set("CALQUE_ROOT").map(PathBuf::from));
    let root = root.unwrap_or_else(|| PathBuf::from(DEFAULT_ROOT));
    let root = std::path::absolute(root).map_err(|source| SettingsError::CurrentDirectory { source })?;
    let name = Digest::of(root.as_os_str().as_encoded_bytes()).to_string();
    let short = name.trim_start_matches("sha256:").chars().take(12).collect::<String>();
    Ok(StorePlace { root, runtime: Path::new(RUNTIME).join(short) })
}

/// The kernel features that `CALQUE_DISABLE` names, which is how a fallback is forced.
pub(crate) fn disabled_features() -> Result<Vec<sys::kernel::Feature>, SettingsError> {
    let Some(list) = set("CALQUE_DISABLE") else { return Ok(Vec::new()) };
    list.split(',')
        .map(str::trim)
        .filter(|name| !name.is_empty())
        .map(|name| {
            name.parse().map_err(|error: <sys::kernel::Feature as std::str::FromStr>::Err| {
                SettingsError::Value {
                    name: "CALQUE_DISABLE",
                    value: name.to_owned(),
                    reason: error.to_string(),
                }
            })
        })
        .collect()
}

/// `--progress` where the flag isn't given: `CALQUE_PROGRESS`, else docker's `BUILDKIT_PROGRESS`.
pub(crate) fn progress() -> Option<String> {
    set("CALQUE_PROGRESS").or_else(|| set("BUILDKIT_PROGRESS"))
}

/// How many lines of its output are drawn under a running step: docker's `BUILDKIT_TTY_LOG_LINES`, else 6.
pub(crate) fn log_lines() -> usize {
    set("BUILDKIT_TTY_LOG_LINES").and_then(|lines| lines.parse().ok()).unwrap_or(6).min(100)
}

/// Seconds since 1970 that times are clamped to.
pub(crate) fn source_date_epoch() -> Result<Option<i64>, SettingsError> {
    let Some(value) = set("SOURCE_DATE_EPOCH") else { return Ok(None) };
    value.parse().map(Some).map_err(|_| SettingsError::Value {
        name: "SOURCE_DATE_EPOCH",
        reason: "expected a number of seconds since 1970".to_owned(),
        value,
    })
}

/// The platform that `DOCKER_DEFAULT_PLATFORM` asks for.
pub(crate) fn default_platform() -> Option<String> {
    set("DOCKER_DEFAULT_PLATFORM")
}

/// The proxies of the caller, which RUN has too: each variable as it is spelt.
pub(crate) fn proxies() -> Vec<(String, String)> {
    let names = ["http_proxy", "https_proxy", "ftp_proxy", "no_proxy", "all_proxy"];
    let spellings = names.iter().flat_map(|name| [(*name).to_owned(), name.to_ascii_uppercase()]);
    spellings.filter_map(|name| set(&name).map(|value| (name, value))).collect()
}

/// What stderr is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Terminal {
    /// Whether it can redraw lines.
    pub(crate) interactive: bool,
    /// Whether text may be coloured.
    pub(crate) colour: bool,
}

/// What stderr can do.
pub(crate) fn stderr_terminal() -> Terminal {
    let is_terminal = std::io::stderr().is_terminal();
    let dumb = set("TERM").is_some_and(|term| term == "dumb");
    let colour = if set("NO_COLOR").is_some() {
        false
    } else if set("CLICOLOR_FORCE").or_else(|| set("FORCE_COLOR")).is_some_and(|value| value != "0") {
        true
    } else {
        is_terminal && !dumb && set("CLICOLOR").is_none_or(|value| value != "0")
    };
    Terminal { interactive: is_terminal && !dumb, colour }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_each_store_has_its_own_runtime_folder() {
        if !rustix::process::geteuid().is_root() {
            assert!(matches!(store_place(None), Err(SettingsError::Rootless)));
            return;
        }
        let one = store_place(Some(Path::new("/a"))).unwrap();
        let other = store_place(Some(Path::new("/b"))).unwrap();
        assert_eq!(one, store_place(Some(Path::new("/a"))).unwrap());
        assert_ne!(one.runtime, other.runtime);
        // A unix socket's path has 107 bytes at most: `/run/calque/<12>/<64>.sock` is 90.
        assert!(one.runtime.as_os_str().len() <= 30);
    }
}
