//! The host's settings for package registries, for `RUN` steps that install packages.
//!
//! Machines differ in their proxies, mirrors and certificate authorities. The Dockerfiles under `testdata`
//! know nothing of that: they take *optional* secrets at the places where the package managers look, and
//! docker's predefined proxy arguments.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What the host's package managers use, as files to be mounted and arguments to be given.
#[derive(Clone, Debug, Default)]
pub struct RegistrySettings {
    ca_bundle: Option<Vec<u8>>,
    apt: String,
    pip: String,
    npm: String,
    proxies: Vec<(String, String)>,
}

const CA_FILES: [&str; 3] =
    ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem"];

const PROXIES: [&str; 4] = ["http_proxy", "https_proxy", "no_proxy", "all_proxy"];

impl RegistrySettings {
    /// Reads the environment (`SSL_CERT_FILE`, `PIP_*`, `NPM_CONFIG_*`, proxies) and the package managers' own
    /// configuration.
    pub fn from_host() -> Self {
        let variables: Vec<(String, String)> = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect();
        let value = |name: &str| {
            variables.iter().find(|(its_name, _)| its_name == name).map(|(_, value)| value.clone())
        };
        let ca_bundle = value("SSL_CERT_FILE")
            .into_iter()
            .chain(CA_FILES.map(str::to_owned))
            .find_map(|path| fs::read(path).ok());
        let proxies = PROXIES
            .into_iter()
            .flat_map(|name| [name.to_owned(), name.to_uppercase()])
            .filter_map(|name| value(&name).map(|value| (name, value)))
            .collect();
        let apt = output("apt-config", &["dump"]).map(|dump| apt_settings(&dump)).unwrap_or_default();
        let pip_files =
            output("pip", &["config", "list"]).map(|list| pip_settings(&list)).unwrap_or_default();
        let pip = pip_files + &pip_settings_of_environment(&variables);
        Self { ca_bundle, apt, pip, npm: npm_settings(&variables), proxies }
    }

    /// Writes the files into `dir` and gives the arguments of `build` that hand them to `RUN`.
    ///
    /// The ids are `ca` (a PEM bundle), `apt` (an `apt.conf` fragment), `pip` (a `pip.conf`) and `npm` (an
    /// `npmrc`). All four are always given, so that a Dockerfile may require them.
    ///
    /// # Panics
    ///
    /// When a file can't be written.
    pub fn build_arguments(&self, dir: &Path) -> Vec<String> {
        let mut arguments = Vec::new();
        let empty = Vec::new();
        let mut secret = |id: &str, content: &[u8]| {
            let path: PathBuf = dir.join(format!("registry-{id}"));
            fs::write(&path, content)
                .unwrap_or_else(|error| panic!("cannot write `{}`: {error}", path.display()));
            arguments.push("--secret".to_owned());
            arguments.push(format!("id={id},src={}", path.display()));
        };
        secret("ca", self.ca_bundle.as_ref().unwrap_or(&empty));
        secret("apt", self.apt.as_bytes());
        let pip = if self.pip.is_empty() { String::new() } else { format!("[global]\n{}", self.pip) };
        secret("pip", pip.as_bytes());
        secret("npm", self.npm.as_bytes());
        for (name, value) in &self.proxies {
            arguments.push("--build-arg".to_owned());
            arguments.push(format!("{name}={value}"));
        }
        arguments
    }

    /// The apt settings, one `--aptopt` value of mmdebstrap each.
    pub fn apt_options(&self) -> Vec<&str> {
        self.apt.lines().collect()
    }
}

fn output(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Of `apt-config dump`, what says how to reach and trust a mirror.
fn apt_settings(dump: &str) -> String {
    const KEPT: [&str; 6] = [
        "Acquire::http::",
        "Acquire::https::",
        "Acquire::Check-",
        "Acquire::Retries",
        "Acquire::AllowInsecure",
        "Acquire::ForceIPv",
    ];
    let kept = |line: &&str| KEPT.iter().any(|prefix| line.starts_with(prefix)) && !line.ends_with(" \"\";");
    dump.lines().filter(kept).map(|line| format!("{line}\n")).collect()
}

/// Of `pip config list` (`global.index-url='...'`), what says where packages come from.
fn pip_settings(list: &str) -> String {
    const KEPT: [&str; 3] = ["index-url", "extra-index-url", "trusted-host"];
    list.lines()
        .filter_map(|line| line.split_once('.')?.1.split_once('='))
        .filter(|(name, _)| KEPT.contains(name))
        .map(|(name, value)| format!("{name} = {}\n", value.trim_matches(['\'', '"'])))
        .collect()
}

fn pip_settings_of_environment(variables: &[(String, String)]) -> String {
    const KEPT: [(&str, &str); 3] = [
        ("PIP_INDEX_URL", "index-url"),
        ("PIP_EXTRA_INDEX_URL", "extra-index-url"),
        ("PIP_TRUSTED_HOST", "trusted-host"),
    ];
    KEPT.iter()
        .filter_map(|(variable, name)| {
            let (_, value) = variables.iter().find(|(its_name, _)| its_name == variable)?;
            Some(format!("{name} = {value}\n"))
        })
        .collect()
}

fn npm_settings(variables: &[(String, String)]) -> String {
    variables
        .iter()
        .filter(|(name, _)| name.eq_ignore_ascii_case("npm_config_registry"))
        .map(|(_, value)| format!("registry={value}\n"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_reaches_a_mirror_is_taken_from_apt() {
        let dump = "Acquire \"\";\nAcquire::Languages \"none\";\nAcquire::Check-Date \"false\";\n\
                    Acquire::http::Proxy \"\";\nDPkg::Post-Invoke:: \"rm -rf /\";\n";
        assert_eq!(apt_settings(dump), "Acquire::Check-Date \"false\";\n");
    }

    #[test]
    fn pip_settings_come_from_files_and_environment() {
        assert_eq!(
            pip_settings("global.cert='/x'\nglobal.index-url='https://i'\n"),
            "index-url = https://i\n"
        );
        let variables = [("PIP_TRUSTED_HOST".to_owned(), "h".to_owned())];
        assert_eq!(pip_settings_of_environment(&variables), "trusted-host = h\n");
    }

    #[test]
    fn every_secret_is_given_even_when_the_host_has_no_settings() {
        let dir = tempfile::tempdir().unwrap();
        let arguments = RegistrySettings::default().build_arguments(dir.path());
        let ids: Vec<&str> =
            arguments.iter().filter_map(|argument| argument.strip_prefix("id=")?.split(',').next()).collect();
        assert_eq!(ids, ["ca", "apt", "pip", "npm"]);
    }
}
