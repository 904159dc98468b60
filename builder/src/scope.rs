//! ARG and ENV: who sees which variable with which value.
//!
//! The global scope has the predefined platform arguments and the `ARG`s before the first `FROM`; only `FROM` lines
//! see it, and an `ARG name` without a default within a stage takes its value from there. A stage's scope has the
//! base's ENV, then whatever ARG and ENV set, the later one winning.

use std::collections::{BTreeMap, BTreeSet};

use oci::RunConfig;
use parser::nearest;

use crate::expanded::{Variable, VariableKind};

/// The variables that `FROM` lines see, and the values of `--build-arg`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GlobalScope {
    values: BTreeMap<String, String>,
    declared: BTreeSet<String>,
    build_args: BTreeMap<String, String>,
}

impl GlobalScope {
    /// `predefined` are the platform arguments; a build argument of the same name stands in their place.
    pub(crate) fn new(
        predefined: Vec<(&'static str, String)>,
        build_args: &BTreeMap<String, String>,
    ) -> Self {
        let values = predefined
            .into_iter()
            .map(|(name, value)| (name.to_owned(), build_args.get(name).cloned().unwrap_or(value)))
            .collect();
        Self { values, declared: BTreeSet::new(), build_args: build_args.clone() }
    }

    /// The value of a variable in a `FROM` line.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.values.get(name).map(String::as_str)
    }

    /// The value of a `--build-arg`.
    pub fn build_arg(&self, name: &str) -> Option<&str> {
        self.build_args.get(name).map(String::as_str)
    }

    /// All names.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.values.keys().map(String::as_str)
    }

    /// The names that an `ARG` before the first `FROM` declares, with a value or without.
    pub fn declared(&self) -> &BTreeSet<String> {
        &self.declared
    }

    /// `ARG name[=default]` before the first `FROM`, the default already expanded.
    pub(crate) fn declare(&mut self, name: &str, default: Option<String>) {
        self.declared.insert(name.to_owned());
        if let Some(value) = self.build_args.get(name).cloned().or(default) {
            self.values.insert(name.to_owned(), value);
        }
    }

    /// The value that `ARG name` gets within a stage: the build argument, else the default, else the global value.
    pub(crate) fn argument(&self, name: &str, default: Option<String>) -> Option<String> {
        self.build_arg(name).map(str::to_owned).or(default).or_else(|| self.get(name).map(str::to_owned))
    }
}

/// The variables of a stage at one place.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scope {
    variables: BTreeMap<String, Variable>,
    /// Every ARG of the stage and of those it is built from, in order, each name once: what `RUN |n` shows.
    arguments: Vec<(String, Option<String>)>,
}

impl Scope {
    /// The scope at the start of a stage on an image with this config.
    pub fn of_image(config: &RunConfig) -> Self {
        let mut scope = Self::default();
        scope.take_env(config);
        scope
    }

    /// The scope at the start of a stage on another stage: its ARGs are inherited, and the config's ENV counts as set
    /// after them.
    pub fn of_stage(parent: &Self, config: &RunConfig) -> Self {
        let mut scope = parent.clone();
        scope.take_env(config);
        scope
    }

    fn take_env(&mut self, config: &RunConfig) {
        for entry in &config.env {
            let (name, value) = entry.split_once('=').unwrap_or((entry, ""));
            self.set_env(name, value);
        }
    }

    /// `ENV name=value`.
    pub fn set_env(&mut self, name: &str, value: &str) {
        self.set(name, value, VariableKind::Env);
    }

    /// `ARG name`, with the value that it gets. Without one the name is declared but not set, and an ENV of that
    /// name stays.
    pub fn declare(&mut self, name: &str, value: Option<&str>) {
        let owned = value.map(str::to_owned);
        match self.arguments.iter_mut().find(|(known, _)| known == name) {
            Some((_, old)) => *old = owned,
            None => self.arguments.push((name.to_owned(), owned)),
        }
        if let Some(value) = value {
            self.set(name, value, VariableKind::Arg);
        }
    }

    fn set(&mut self, name: &str, value: &str, kind: VariableKind) {
        self.variables.insert(name.to_owned(), Variable { value: value.to_owned(), kind });
    }

    /// The value of a variable.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.variables.get(name).map(|variable| variable.value.as_str())
    }

    /// What a process of RUN finds in its environment.
    pub fn variables(&self) -> &BTreeMap<String, Variable> {
        &self.variables
    }

    /// Whether an ARG of this name was declared, with a value or without.
    pub fn is_declared(&self, name: &str) -> bool {
        self.arguments.iter().any(|(known, _)| known == name)
    }

    /// A name in scope that is close to `name`.
    pub fn suggestion(&self, name: &str) -> Option<&str> {
        nearest(name, self.variables.keys().map(String::as_str))
    }

    /// `|2 A=1 B=2 ` of a RUN's history; empty without ARGs. What looks like a secret is `****`.
    pub fn history_prefix(&self) -> String {
        if self.arguments.is_empty() {
            return String::new();
        }
        let shown = self.arguments.iter().map(|(name, value)| {
            let value = self.get(name).or(value.as_deref()).unwrap_or_default();
            format!("{name}={} ", shown_value(name, value))
        });
        format!("|{} {}", self.arguments.len(), shown.collect::<String>())
    }
}

/// `value`, or `****` where the name says that it is a secret.
pub fn shown_value<'a>(name: &str, value: &'a str) -> &'a str {
    if looks_secret(name) && !value.is_empty() { "****" } else { value }
}

/// Whether a variable's name says that its value is a secret (BuildKit's rule `SecretsUsedInArgOrEnv`).
pub fn looks_secret(name: &str) -> bool {
    const SECRET: &[&str] = &[
        "apikey",
        "auth",
        "credential",
        "credentials",
        "key",
        "password",
        "pword",
        "passwd",
        "secret",
        "token",
    ];
    const HARMLESS: &[&str] = &["public", "file", "version"];
    let lower = name.to_ascii_lowercase();
    let has = |words: &[&str]| lower.split(['_', '-', '.']).any(|part| words.contains(&part));
    has(SECRET) && !has(HARMLESS)
}

const PROXIES: &[&str] = &["HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "NO_PROXY", "ALL_PROXY"];

/// Whether `name` is one of the proxy arguments, which need no `ARG`.
pub fn is_proxy(name: &str) -> bool {
    PROXIES.iter().any(|proxy| proxy.eq_ignore_ascii_case(name))
}

/// The proxy arguments among `build_args`, each in upper and in lower case.
pub fn proxy_env(build_args: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    build_args
        .iter()
        .filter(|(name, _)| is_proxy(name))
        .flat_map(|(name, value)| {
            [name.to_ascii_uppercase(), name.to_ascii_lowercase()].map(|name| (name, value.clone()))
        })
        .collect()
}

/// The build arguments that no `ARG` declares: those that calque itself reads are never among them.
pub(crate) fn unconsumed<'a>(
    build_args: &'a BTreeMap<String, String>,
    declared: &BTreeSet<&str>,
) -> Vec<&'a str> {
    let is_read = |name: &str| is_proxy(name) || name.starts_with("BUILDKIT_") || name == "SOURCE_DATE_EPOCH";
    build_args.keys().map(String::as_str).filter(|name| !is_read(name) && !declared.contains(name)).collect()
}
