//! Names of images.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::Digest;

/// `[host/]repository[:tag][@digest]`, normalised as docker does: `app` is `docker.io/library/app:latest`
/// (distribution `reference/normalize.go`).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reference {
    host: String,
    repository: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

/// Why a text is no reference.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReferenceError {
    /// A part is empty or has a character that it may not have.
    #[error("invalid reference format: `{text}`: {reason}")]
    Format {
        /// The text as given.
        text: String,
        /// The part and what is wrong with it.
        reason: &'static str,
    },
    /// Longer than a repository may be.
    #[error("invalid reference format: the repository name must not be more than 255 characters")]
    TooLong,
}

const DEFAULT_HOST: &str = "docker.io";
const DEFAULT_TAG: &str = "latest";

impl Reference {
    /// The registry's host, with its port: `docker.io` where none was given.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The repository on that host: `library/app` for docker.io's short names.
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// The tag; nothing when only a digest was given.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The digest, which wins over the tag.
    pub fn digest(&self) -> Option<Digest> {
        self.digest
    }

    /// The repository as docker shows it: without `docker.io/` and `library/`.
    pub fn familiar_repository(&self) -> String {
        if self.host != DEFAULT_HOST {
            return format!("{}/{}", self.host, self.repository);
        }
        self.repository.strip_prefix("library/").unwrap_or(&self.repository).to_owned()
    }

    /// The whole name as docker shows it: `app:1.0`.
    pub fn familiar(&self) -> String {
        self.with_suffix(self.familiar_repository())
    }

    fn with_suffix(&self, mut name: String) -> String {
        if let Some(tag) = &self.tag {
            name.push(':');
            name.push_str(tag);
        }
        if let Some(digest) = &self.digest {
            name.push('@');
            name.push_str(&digest.to_string());
        }
        name
    }
}

impl FromStr for Reference {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        let fail = |reason| ReferenceError::Format { text: text.to_owned(), reason };
        let (name, digest) = match text.split_once('@') {
            Some((name, digest)) => {
                (name, Some(digest.parse().map_err(|_| fail("the digest is malformed"))?))
            }
            None => (text, None),
        };
        let (name, tag) = match name.rsplit_once(':') {
            Some((name, tag)) if !tag.contains('/') => (name, Some(tag)),
            _ => (name, None),
        };
        if tag.is_some_and(|tag| !is_tag(tag)) {
            return Err(fail(
                "a tag has letters, digits, `_`, `.` and `-`, 128 at most, and begins with none of `.` and `-`",
            ));
        }
        let (host, repository) = match name.split_once('/') {
            Some((first, rest)) if first.contains(['.', ':']) || first == "localhost" || has_upper(first) => {
                (first, rest.to_owned())
            }
            _ => (DEFAULT_HOST, name.to_owned()),
        };
        let host = if host == "index.docker.io" { DEFAULT_HOST } else { host };
        let repository = if host == DEFAULT_HOST && !repository.contains('/') {
            if repository.is_empty() {
                return Err(fail("the repository is empty"));
            }
            format!("library/{repository}")
        } else {
            repository
        };
        if !is_host(host) {
            return Err(fail("the host is malformed"));
        }
        if has_upper(&repository) {
            return Err(fail("repository name must be lowercase"));
        }
        if !repository.split('/').all(is_component) {
            return Err(fail(
                "a repository has lower-case letters and digits, joined by `.`, `_`, `__`, `-` and `/`",
            ));
        }
        if host.len() + 1 + repository.len() > 255 {
            return Err(ReferenceError::TooLong);
        }
        let tag = tag.map(str::to_owned).or_else(|| digest.is_none().then(|| DEFAULT_TAG.to_owned()));
        Ok(Self { host: host.to_owned(), repository, tag, digest })
    }
}

fn has_upper(text: &str) -> bool {
    text.bytes().any(|byte| byte.is_ascii_uppercase())
}

fn is_tag(tag: &str) -> bool {
    let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    tag.len() <= 128
        && tag.bytes().next().is_some_and(word)
        && tag.bytes().all(|byte| word(byte) || byte == b'.' || byte == b'-')
}

fn is_host(host: &str) -> bool {
    let (name, port) = match host.rsplit_once(':') {
        Some((name, port)) if !name.starts_with('[') || name.ends_with(']') => (name, Some(port)),
        _ => (host, None),
    };
    let port_is_valid = port.is_none_or(|port| !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit()));
    let name_is_valid = match name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => name.split('.').all(|label| {
            !label.is_empty()
                && !label.starts_with('-')
                && !label.ends_with('-')
                && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
        }),
    };
    port_is_valid && name_is_valid
}

/// `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*` (distribution-spec, "Pulling manifests").
fn is_component(component: &str) -> bool {
    let alphanumeric = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let bytes = component.as_bytes();
    let ends_are_valid =
        bytes.first().copied().is_some_and(alphanumeric) && bytes.last().copied().is_some_and(alphanumeric);
    ends_are_valid
        && component.split(|c: char| c.is_ascii() && alphanumeric(c as u8)).all(|separator| {
            matches!(separator, "" | "." | "_" | "__") || separator.bytes().all(|byte| byte == b'-')
        })
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.with_suffix(format!("{}/{}", self.host, self.repository)))
    }
}

impl Serialize for Reference {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Reference {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_names_are_normalised_as_docker_does() {
        let table = [
            ("nginx", "docker.io/library/nginx:latest", "nginx:latest"),
            ("app:1.0", "docker.io/library/app:1.0", "app:1.0"),
            ("u/r", "docker.io/u/r:latest", "u/r:latest"),
            ("index.docker.io/a", "docker.io/library/a:latest", "a:latest"),
            ("localhost/a", "localhost/a:latest", "localhost/a:latest"),
            ("localhost:5000/a/b:t", "localhost:5000/a/b:t", "localhost:5000/a/b:t"),
            ("[::1]:5000/a", "[::1]:5000/a:latest", "[::1]:5000/a:latest"),
            ("registry.example.org/x/y:z", "registry.example.org/x/y:z", "registry.example.org/x/y:z"),
            ("a__b/c-d.e", "docker.io/a__b/c-d.e:latest", "a__b/c-d.e:latest"),
        ];
        for (text, canonical, familiar) in table {
            let reference: Reference = text.parse().unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!(
                (reference.to_string().as_str(), reference.familiar().as_str()),
                (canonical, familiar)
            );
            assert_eq!(canonical.parse::<Reference>().unwrap(), reference, "canonical form round-trips");
            assert_eq!(familiar.parse::<Reference>().unwrap(), reference, "familiar form round-trips");
        }
    }

    #[test]
    fn a_digest_stands_without_a_tag_and_beside_one() {
        let digest = Digest::of(b"x");
        let plain: Reference = format!("app@{digest}").parse().unwrap();
        assert_eq!((plain.tag(), plain.digest()), (None, Some(digest)));
        let both: Reference = format!("app:1@{digest}").parse().unwrap();
        assert_eq!((both.tag(), both.digest()), (Some("1"), Some(digest)));
    }

    #[test]
    fn malformed_references_are_refused() {
        for bad in [
            "",
            ":t",
            "App",
            "a//b",
            "/a",
            "a/",
            "a:",
            "a:.t",
            "a b",
            "a@sha256:1",
            "-a",
            "a___b",
            "a..b",
            "../a",
            "a.b/",
        ] {
            assert!(bad.parse::<Reference>().is_err(), "{bad}");
        }
        let long = "a".repeat(256);
        assert_eq!(long.parse::<Reference>(), Err(ReferenceError::TooLong));
    }
}
