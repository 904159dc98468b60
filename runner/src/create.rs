//! `create`: from an image and flags to a container's record and folder.

use oci::RunConfig;
use store::{ContainerDir, ContainerError, ContainerRecord, Image, Store};

use crate::bind::BindSpec;
use crate::name::random_name;
use crate::settings::{Mount, Settings};

/// Which network a container has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Network {
    /// The host's.
    Host,
    /// A loopback only.
    None,
}

/// What `run` was asked for.
#[derive(Clone, Debug)]
pub struct CreateOptions {
    /// The image as it was asked for.
    pub reference: String,
    /// What follows the image: replaces the image's cmd.
    pub arguments: Vec<String>,
    /// `--entrypoint`: an empty list resets the image's.
    pub entrypoint: Option<Vec<String>>,
    /// `-e`: a key without a value is taken out.
    pub env: Vec<(String, Option<String>)>,
    /// `-u`.
    pub user: Option<String>,
    /// `-w`.
    pub working_dir: Option<String>,
    /// `-v`.
    pub binds: Vec<BindSpec>,
    /// `--name`.
    pub name: Option<String>,
    /// `--network`.
    pub network: Network,
    /// `--userns host`.
    pub host_userns: bool,
    /// `-i`.
    pub interactive: bool,
    /// `-t`.
    pub tty: bool,
    /// `--rm`.
    pub auto_remove: bool,
}

/// Why a container can't be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CreateError {
    /// Neither the image nor the command line says what to run.
    #[error("no command specified: the image has none, and none was given")]
    NoCommand,
    /// `-w` with a relative path.
    #[error("the working directory `{0}` is not absolute")]
    RelativeWorkingDir(String),
    /// `-e =value`.
    #[error("invalid environment variable `{0}`: the name is empty")]
    EmptyName(String),
    /// A word of the command has a zero byte, which no program can take.
    #[error("invalid argument: `{0}` has a zero byte")]
    ZeroByte(String),
    /// The store refused.
    #[error("cannot create the container")]
    Store(#[from] ContainerError),
}

/// How often another name is tried where a random one is taken.
const NAME_ATTEMPTS: usize = 20;

/// Makes a container of `image` in state `created`, under a random name where none is given. `now` is RFC 3339.
///
/// # Errors
///
/// [`CreateError`]; nothing is left behind.
pub fn create(
    store: &Store,
    image: &Image,
    options: &CreateOptions,
    now: String,
) -> Result<(ContainerRecord, ContainerDir), CreateError> {
    let id = Store::new_container_id();
    let (argv, settings) = settle(&image.config.value().config, options, &id)?;
    let mut record = ContainerRecord {
        id,
        name: String::new(),
        image: image.id,
        reference: options.reference.clone(),
        layers: image.layers.clone(),
        argv,
        created: now,
        auto_remove: options.auto_remove,
        settings: serde_json::to_value(settings).expect("settings are JSON"),
    };
    if let Some(name) = &options.name {
        record.name.clone_from(name);
        let dir = store.create_container(&record)?;
        return Ok((record, dir));
    }
    let mut attempt = 1;
    loop {
        record.name = random_name();
        match store.create_container(&record) {
            Ok(dir) => return Ok((record, dir)),
            Err(ContainerError::NameInUse { .. }) if attempt < NAME_ATTEMPTS => attempt += 1,
            Err(error) => return Err(error.into()),
        }
    }
}

/// Puts the image's settings and the flags together: the argv and all else. Pure.
fn settle(
    config: &RunConfig,
    options: &CreateOptions,
    id: &str,
) -> Result<(Vec<String>, Settings), CreateError> {
    let argv = config.argv(options.entrypoint.as_deref(), &options.arguments);
    if argv.first().is_none_or(String::is_empty) {
        return Err(CreateError::NoCommand);
    }
    let mut merged = RunConfig { env: config.env.clone(), ..RunConfig::default() };
    for (key, value) in &options.env {
        if key.is_empty() {
            return Err(CreateError::EmptyName(format!("={}", value.as_deref().unwrap_or_default())));
        }
        match value {
            Some(value) => merged.set_env(key, value),
            None => {
                merged.env.retain(|entry| entry.split_once('=').map_or(entry.as_str(), |(k, _)| k) != key)
            }
        }
    }
    if let Some(word) = argv.iter().chain(&merged.env).find(|word| word.contains('\0')) {
        return Err(CreateError::ZeroByte(word.replace('\0', "\\0")));
    }
    let working_dir = match options.working_dir.as_deref() {
        Some(dir) if !dir.starts_with('/') => return Err(CreateError::RelativeWorkingDir(dir.to_owned())),
        Some(dir) => dir,
        None if config.working_dir.is_empty() => "/",
        None => &config.working_dir,
    };
    let cmd = match (&options.entrypoint, options.arguments.is_empty()) {
        (_, false) => Some(options.arguments.clone()),
        (Some(_), true) => None,
        (None, true) => config.cmd.clone(),
    };
    let settings = Settings {
        hostname: id.chars().take(12).collect(),
        user: options.user.clone().unwrap_or_else(|| config.user.clone()),
        env: merged.env,
        working_dir: working_dir.to_owned(),
        entrypoint: options.entrypoint.clone().or_else(|| config.entrypoint.clone()),
        cmd,
        binds: options.binds.iter().map(|bind| bind.text.clone()).collect(),
        mounts: options.binds.iter().map(mount).collect(),
        network: match options.network {
            Network::Host => "host".to_owned(),
            Network::None => "none".to_owned(),
        },
        host_userns: options.host_userns,
        interactive: options.interactive,
        tty: options.tty,
    };
    Ok((argv, settings))
}

fn mount(bind: &BindSpec) -> Mount {
    Mount {
        kind: "bind".to_owned(),
        source: bind.source.display().to_string(),
        destination: bind.target.display().to_string(),
        mode: if bind.readonly { "ro".to_owned() } else { String::new() },
        writable: !bind.readonly,
        propagation: "rprivate".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(items: &[&str]) -> Vec<String> {
        items.iter().map(|&item| item.to_owned()).collect()
    }

    fn options() -> CreateOptions {
        CreateOptions {
            reference: "app".into(),
            arguments: Vec::new(),
            entrypoint: None,
            env: Vec::new(),
            user: None,
            working_dir: None,
            binds: Vec::new(),
            name: None,
            network: Network::None,
            host_userns: false,
            interactive: false,
            tty: false,
            auto_remove: true,
        }
    }

    fn config() -> RunConfig {
        RunConfig {
            env: list(&["PATH=/bin", "A=1"]),
            cmd: Some(list(&["sh"])),
            working_dir: "/src".into(),
            user: "www".into(),
            ..RunConfig::default()
        }
    }

    #[test]
    fn flags_win_over_the_image() {
        let flags = CreateOptions {
            arguments: list(&["-c", "true"]),
            entrypoint: Some(list(&["ash"])),
            env: vec![("A".into(), Some("2".into())), ("B".into(), Some("=".into()))],
            user: Some("0:0".into()),
            working_dir: Some("/w".into()),
            ..options()
        };
        let (argv, settings) = settle(&config(), &flags, &"ab".repeat(32)).unwrap();
        assert_eq!(argv, ["ash", "-c", "true"]);
        assert_eq!(settings.env, ["PATH=/bin", "A=2", "B=="]);
        assert_eq!((settings.user.as_str(), settings.working_dir.as_str()), ("0:0", "/w"));
        assert_eq!(settings.hostname, "abababababab");
        let (argv, settings) = settle(&config(), &options(), "id").unwrap();
        assert_eq!(argv, ["sh"]);
        assert_eq!((settings.user.as_str(), settings.working_dir.as_str()), ("www", "/src"));
    }

    #[test]
    fn a_variable_without_a_value_is_taken_out() {
        let flags = CreateOptions { env: vec![("A".into(), None)], ..options() };
        assert_eq!(settle(&config(), &flags, "id").unwrap().1.env, ["PATH=/bin"]);
    }

    #[test]
    fn nonsense_is_refused() {
        let nothing = RunConfig::default();
        assert!(matches!(settle(&nothing, &options(), "id"), Err(CreateError::NoCommand)));
        let empty = CreateOptions { entrypoint: Some(Vec::new()), ..options() };
        assert!(matches!(settle(&config(), &empty, "id"), Err(CreateError::NoCommand)));
        let relative = CreateOptions { working_dir: Some("w".into()), ..options() };
        assert!(matches!(settle(&config(), &relative, "id"), Err(CreateError::RelativeWorkingDir(_))));
        let nameless = CreateOptions { env: vec![(String::new(), Some("x".into()))], ..options() };
        assert!(matches!(settle(&config(), &nameless, "id"), Err(CreateError::EmptyName(_))));
        let zero = CreateOptions { arguments: list(&["a\0b"]), ..options() };
        assert!(matches!(settle(&config(), &zero, "id"), Err(CreateError::ZeroByte(_))));
    }
}
