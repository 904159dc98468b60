//! The image config: what docker's `inspect` shows as `Config`, and the image's history.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{DiffId, Platform};

/// An image config (image-spec `config.md`) with docker's fields, which `oci-spec`'s own type drops.
///
/// Fields that we don't know stay in `extra` and are written again.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ImageConfig {
    /// When the image was made, RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub created: Option<String>,
    /// Who made it (`MAINTAINER`).
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub author: Option<String>,
    /// Operating system, architecture and variant.
    #[serde(flatten)]
    pub platform: Platform,
    /// How a container of it runs.
    #[serde(default, deserialize_with = "null_as_default")]
    pub config: RunConfig,
    /// Its layers.
    pub rootfs: RootFs,
    /// One entry for each instruction, base first.
    #[serde(skip_serializing_if = "Vec::is_empty", default, deserialize_with = "null_as_default")]
    pub history: Vec<HistoryEntry>,
    /// What else was there.
    #[serde(flatten)]
    pub extra: BTreeMap<String, Value>,
}

/// The layers of an image, base first.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RootFs {
    /// Always `layers`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Digests of the uncompressed tars, base first.
    #[serde(default, deserialize_with = "null_as_default")]
    pub diff_ids: Vec<DiffId>,
}

/// How a container of the image runs (image-spec `config.md`, "config", and docker's additions).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct RunConfig {
    /// `user[:group]`, names or numbers.
    #[serde(skip_serializing_if = "String::is_empty", default)]
    pub user: String,
    /// `80/tcp`, ...
    #[serde(skip_serializing_if = "BTreeMap::is_empty", default, deserialize_with = "null_as_default")]
    pub exposed_ports: BTreeMap<ExposedPort, Empty>,
    /// `KEY=value`, in order of definition.
    #[serde(skip_serializing_if = "Vec::is_empty", default, deserialize_with = "null_as_default")]
    pub env: Vec<String>,
    /// Nothing means not set; an empty list means cleared.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub entrypoint: Option<Vec<String>>,
    /// Arguments of the entrypoint, or the whole argv where there is none.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub cmd: Option<Vec<String>>,
    /// Paths that a container keeps outside its upperdir.
    #[serde(skip_serializing_if = "BTreeMap::is_empty", default, deserialize_with = "null_as_default")]
    pub volumes: BTreeMap<String, Empty>,
    /// Absolute; empty means `/`.
    #[serde(skip_serializing_if = "String::is_empty", default)]
    pub working_dir: String,
    /// `LABEL`s.
    #[serde(skip_serializing_if = "BTreeMap::is_empty", default, deserialize_with = "null_as_default")]
    pub labels: BTreeMap<String, String>,
    /// `SIGTERM`, ...; empty means SIGTERM.
    #[serde(skip_serializing_if = "String::is_empty", default)]
    pub stop_signal: String,
    /// docker's `HEALTHCHECK`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub healthcheck: Option<Healthcheck>,
    /// docker's `ONBUILD`: instructions for the child, as text.
    #[serde(skip_serializing_if = "Vec::is_empty", default, deserialize_with = "null_as_default")]
    pub on_build: Vec<String>,
    /// docker's `SHELL`; nothing means `/bin/sh -c`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub shell: Option<Vec<String>>,
    /// What else was there (`ArgsEscaped`, ...).
    #[serde(flatten)]
    pub extra: BTreeMap<String, Value>,
}

/// Go's `struct{}`, the value in docker's sets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Empty {}

/// `80/tcp`: a port or `8000/udp`, as config keys have it.
pub type ExposedPort = String;

/// docker's health check of a container. Durations are nanoseconds, zero means inherited.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Healthcheck {
    /// `["CMD", ...]`, `["CMD-SHELL", text]` or `["NONE"]`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub test: Option<Vec<String>>,
    /// Nanoseconds between two checks.
    #[serde(skip_serializing_if = "is_zero", default)]
    pub interval: i64,
    /// Nanoseconds that one check may take.
    #[serde(skip_serializing_if = "is_zero", default)]
    pub timeout: i64,
    /// Nanoseconds in which failures don't count.
    #[serde(skip_serializing_if = "is_zero", default)]
    pub start_period: i64,
    /// Nanoseconds between two checks in the start period.
    #[serde(skip_serializing_if = "is_zero", default)]
    pub start_interval: i64,
    /// Failures in a row that make it unhealthy.
    #[serde(skip_serializing_if = "is_zero", default)]
    pub retries: i64,
}

/// One instruction of an image's past (image-spec `config.md`, "history").
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct HistoryEntry {
    /// When it first ran, RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub created: Option<String>,
    /// The instruction.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub created_by: Option<String>,
    /// Who.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub author: Option<String>,
    /// Free text; which builder.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub comment: Option<String>,
    /// Whether it made no layer.
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub empty_layer: bool,
}

fn is_zero(value: &i64) -> bool {
    *value == 0
}

fn null_as_default<'de, D: serde::Deserializer<'de>, T: Default + Deserialize<'de>>(
    deserializer: D,
) -> Result<T, D::Error> {
    Ok(Option::<T>::deserialize(deserializer)?.unwrap_or_default())
}

impl ImageConfig {
    /// A config without layers and settings: what `FROM scratch` starts from.
    pub fn scratch(platform: Platform) -> Self {
        Self {
            created: None,
            author: None,
            platform,
            config: RunConfig::default(),
            rootfs: RootFs { kind: "layers".to_owned(), diff_ids: Vec::new() },
            history: Vec::new(),
            extra: BTreeMap::new(),
        }
    }
}

impl RunConfig {
    /// docker's default for an image that sets no `PATH`.
    pub const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

    /// The value of `key` in the environment.
    pub fn env_value(&self, key: &str) -> Option<&str> {
        self.env.iter().rev().find_map(|entry| entry.strip_prefix(key)?.strip_prefix('='))
    }

    /// Sets `key` in place, or at the end where it is new.
    pub fn set_env(&mut self, key: &str, value: &str) {
        let entry = format!("{key}={value}");
        let is_key =
            |entry: &&mut String| entry.split_once('=').map_or(entry.as_str(), |(name, _)| name) == key;
        match self.env.iter_mut().find(is_key) {
            Some(old) => *old = entry,
            None => self.env.push(entry),
        }
    }

    /// The argv of a container: `entrypoint` and `cmd` joined (docker's rule: an entrypoint given on the command
    /// line clears the image's cmd; arguments replace the cmd).
    pub fn argv(&self, entrypoint: Option<&[String]>, arguments: &[String]) -> Vec<String> {
        let head: &[String] = match entrypoint {
            Some(given) => given,
            None => self.entrypoint.as_deref().unwrap_or_default(),
        };
        let tail: &[String] = if !arguments.is_empty() || entrypoint.is_some() {
            arguments
        } else {
            self.cmd.as_deref().unwrap_or_default()
        };
        head.iter().chain(tail).cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dockers_fields_and_unknown_ones_survive_a_round_trip() {
        let text = r#"{"architecture":"amd64","os":"linux","os.version":"1","config":{"Env":["A=1"],"Cmd":null,
            "Entrypoint":[],"ExposedPorts":{"80/tcp":{}},"Healthcheck":{"Test":["CMD","true"],"Interval":1000000},
            "OnBuild":["RUN x"],"Shell":["/bin/bash","-c"],"ArgsEscaped":true,"Volumes":null},
            "rootfs":{"type":"layers","diff_ids":null},"history":null,"container_config":{"Image":"x"}}"#;
        let config: ImageConfig = serde_json::from_str(text).unwrap();
        assert_eq!(config.config.entrypoint.as_deref(), Some(&[][..]));
        assert_eq!(config.config.shell.as_ref().unwrap()[0], "/bin/bash");
        let written = serde_json::to_value(&config).unwrap();
        assert_eq!(written["config"]["ArgsEscaped"], true);
        assert_eq!(written["os.version"], "1");
        assert_eq!(written["container_config"]["Image"], "x");
        assert_eq!(serde_json::from_value::<ImageConfig>(written).unwrap(), config);
    }

    #[test]
    fn setting_an_environment_variable_keeps_its_place() {
        let mut config = RunConfig { env: vec!["A=1".into(), "AB=2".into()], ..RunConfig::default() };
        config.set_env("A", "3");
        config.set_env("C", "=");
        assert_eq!(config.env, ["A=3", "AB=2", "C=="]);
        assert_eq!((config.env_value("AB"), config.env_value("B")), (Some("2"), None));
    }

    #[test]
    fn argv_follows_dockers_rules() {
        let list = |items: &[&str]| items.iter().map(|&item| item.to_owned()).collect::<Vec<_>>();
        let config =
            RunConfig { entrypoint: Some(list(&["e"])), cmd: Some(list(&["c"])), ..RunConfig::default() };
        assert_eq!(config.argv(None, &[]), ["e", "c"]);
        assert_eq!(config.argv(None, &list(&["x"])), ["e", "x"]);
        assert_eq!(config.argv(Some(&list(&["n"])), &[]), ["n"], "a new entrypoint clears the image's cmd");
        assert_eq!(config.argv(Some(&[]), &list(&["x"])), ["x"]);
    }
}
