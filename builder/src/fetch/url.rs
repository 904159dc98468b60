//! Which sources of ADD are remote, and what their text asks for.

use std::collections::BTreeMap;

/// A source of ADD that is no path of the context.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RemoteSource {
    /// A file.
    Http(HttpSource),
    /// The tree of a commit.
    Git(GitSource),
}

/// A file behind an `http://` or `https://` address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpSource {
    /// Without a fragment.
    pub url: String,
    /// The name it gets in a folder: the last of the path.
    pub name: String,
}

/// A commit of a git repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GitSource {
    /// The repository.
    pub url: String,
    /// A branch, tag or commit; the repository's default branch where nothing is said.
    pub reference: Option<String>,
    /// The folder of the tree, as written; empty for all of it.
    pub subdir: String,
    /// Whether `.git` stays.
    pub keep_git_dir: bool,
    /// Whether submodules are checked out.
    pub submodules: bool,
    /// What the commit's id must begin with.
    pub commit: Option<String>,
}

impl RemoteSource {
    /// The source as messages name it: nothing behind `?`, where tokens stand.
    pub fn shown(&self) -> &str {
        match self {
            Self::Http(source) => shown(&source.url),
            Self::Git(source) => shown(&source.url),
        }
    }

    /// Reads a source of ADD; nothing for a path.
    ///
    /// # Errors
    ///
    /// What of it can't be had, as a fragment for "can't be used: ...".
    pub fn parse(text: &str) -> Result<Option<Self>, String> {
        let lower = text.to_ascii_lowercase();
        let web = ["http://", "https://"].iter().any(|scheme| lower.starts_with(scheme));
        let scp = text.split_once(':').is_some_and(|(before, _)| {
            before
                .split_once('@')
                .is_some_and(|(user, host)| !user.is_empty() && !host.is_empty() && !before.contains('/'))
        });
        if lower.starts_with("ssh://") || (scp && !lower.contains("://")) {
            return Err("git over ssh comes with a later release (https works)".to_owned());
        }
        if !web && !lower.starts_with("git://") {
            return Ok(None);
        }
        let (rest, fragment) = match text.split_once('#') {
            Some((rest, fragment)) => (rest, Some(fragment)),
            None => (text, None),
        };
        let (address, query) = match rest.split_once('?') {
            Some((address, query)) => (address, Some(query)),
            None => (rest, None),
        };
        let authority = authority(address);
        if authority.contains('@') {
            return Err(
                "it has a user name in it, which every image made of it would show; a secret does not \
                 (`HTTP_AUTH_TOKEN_<host>`)"
                    .to_owned(),
            );
        }
        if authority.is_empty() {
            return Err("it names no host".to_owned());
        }
        if text.chars().any(|c| c.is_control() || c == ' ') {
            return Err("it has white space in it".to_owned());
        }
        if web && !address.ends_with(".git") {
            let path = address.splitn(4, '/').nth(3).unwrap_or_default();
            let last = path.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
            let name = match decoded(last) {
                name if name.is_empty() || name == "." => "__unnamed__".to_owned(),
                name if name == ".." || name.contains(['/', '\0']) => {
                    return Err(format!("its last part `{last}` is no file name"));
                }
                name => name,
            };
            return Ok(Some(Self::Http(HttpSource { url: rest.to_owned(), name })));
        }
        git(address, query, fragment).map(|source| Some(Self::Git(source)))
    }
}

fn git(address: &str, query: Option<&str>, fragment: Option<&str>) -> Result<GitSource, String> {
    let mut source = GitSource {
        url: address.to_owned(),
        reference: None,
        subdir: String::new(),
        keep_git_dir: false,
        submodules: true,
        commit: None,
    };
    if let Some(fragment) = fragment {
        let (reference, subdir) = fragment.split_once(':').unwrap_or((fragment, ""));
        source.reference = (!reference.is_empty()).then(|| reference.to_owned());
        source.subdir = subdir.to_owned();
    }
    let mut given = BTreeMap::new();
    for pair in query.into_iter().flat_map(|query| query.split('&')).filter(|pair| !pair.is_empty()) {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        if given.insert(key.to_owned(), decoded(value)).is_some() {
            return Err(format!("`{key}` is given twice"));
        }
    }
    let is_true = |value: &str| match value {
        "" | "1" | "true" => Ok(true),
        "0" | "false" => Ok(false),
        other => Err(format!("`{other}` is neither true nor false")),
    };
    for (key, value) in given {
        match key.as_str() {
            "ref" | "tag" | "branch" => {
                let name = match key.as_str() {
                    "tag" => format!("refs/tags/{value}"),
                    "branch" => format!("refs/heads/{value}"),
                    _ => value,
                };
                if source.reference.replace(name).is_some() {
                    return Err("it names more than one ref".to_owned());
                }
            }
            "commit" | "checksum" => source.commit = Some(value),
            "subdir" if source.subdir.is_empty() => source.subdir = value,
            "subdir" => return Err("it names more than one folder".to_owned()),
            "keep-git-dir" => source.keep_git_dir = is_true(&value)?,
            "submodules" => source.submodules = is_true(&value)?,
            "mtime" if value == "checkout" => {}
            "mtime" => return Err(format!("`mtime={value}` comes with a later release")),
            "fetch-by-commit" => {}
            other => return Err(format!("`{other}` is unknown")),
        }
    }
    // What git would take for an option, or for a refspec of its own.
    let bad =
        |name: &String| name.is_empty() || name.starts_with('-') || name.contains([':', '+', '*', '^', '~']);
    if source.reference.as_ref().is_some_and(bad) {
        return Err("its ref is no name of a branch, tag or commit".to_owned());
    }
    if let Some(commit) = &source.commit {
        check_commit(commit)?;
    }
    Ok(source)
}

/// Whether `text` can be the beginning of a commit's id.
pub(crate) fn check_commit(text: &str) -> Result<(), String> {
    if (7..=64).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Ok(());
    }
    Err(format!("`{text}` is no commit: 7 to 64 hexadecimal digits"))
}

/// `host:port` and what may stand before it.
fn authority(address: &str) -> &str {
    let rest = address.split_once("://").map_or(address, |(_, rest)| rest);
    rest.split(['/', '?', '#']).next().unwrap_or_default()
}

/// The host of an address, without its port.
pub(crate) fn host(address: &str) -> Option<&str> {
    let authority = authority(address);
    let authority = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let host = match authority.strip_prefix('[') {
        Some(rest) => rest.split(']').next()?,
        None => authority.split(':').next()?,
    };
    (!host.is_empty()).then_some(host)
}

/// `scheme://host:port` with the scheme's port where none is said: what a secret is bound to.
pub(crate) fn origin(address: &str) -> String {
    let scheme = address.split("://").next().unwrap_or_default().to_ascii_lowercase();
    let authority = authority(address).to_ascii_lowercase();
    let has_port =
        authority.rsplit_once(':').is_some_and(|(_, port)| port.bytes().all(|b| b.is_ascii_digit()));
    let port = if scheme == "https" { 443 } else { 80 };
    if has_port { format!("{scheme}://{authority}") } else { format!("{scheme}://{authority}:{port}") }
}

/// Without what stands behind `?`.
pub(crate) fn shown(address: &str) -> &str {
    address.split(['?', '#']).next().unwrap_or_default()
}

/// The address that `target` means at `base`.
pub(crate) fn join(base: &str, target: &str) -> String {
    let target = target.split('#').next().unwrap_or_default();
    let scheme_end = base.find("://").map_or(0, |at| at + 3);
    if target.split_once("://").is_some_and(|(scheme, _)| scheme.bytes().all(|b| b.is_ascii_alphanumeric())) {
        return target.to_owned();
    }
    if let Some(rest) = target.strip_prefix("//") {
        return format!("{}{rest}", &base[..scheme_end]);
    }
    let path_start = base[scheme_end..].find(['/', '?']).map_or(base.len(), |at| scheme_end + at);
    if target.starts_with('/') {
        return format!("{}{target}", &base[..path_start]);
    }
    let path = shown(&base[path_start..]);
    let folder = path.rfind('/').map_or("/", |at| &path[..=at]);
    format!("{}{folder}{target}", &base[..path_start])
}

/// `%2B` as `+`; what is no such thing stays.
fn decoded(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let digits = (bytes[at] == b'%').then(|| text.get(at + 1..at + 3)).flatten();
        match digits.filter(|d| d.bytes().all(|b| b.is_ascii_hexdigit())).map(|d| u8::from_str_radix(d, 16)) {
            Some(Ok(byte)) => {
                out.push(byte);
                at += 3;
            }
            _ => {
                out.push(bytes[at]);
                at += 1;
            }
        }
    }
    String::from_utf8(out).unwrap_or_else(|_| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_a_file_unless_its_path_ends_in_git() {
        let http = |text: &str| match RemoteSource::parse(text) {
            Ok(Some(RemoteSource::Http(source))) => (source.url, source.name),
            other => panic!("{text}: {other:?}"),
        };
        assert_eq!(
            http("https://h/a/b%2Bc.tgz?x=y#z"),
            ("https://h/a/b%2Bc.tgz?x=y".into(), "b+c.tgz".into())
        );
        assert_eq!(http("http://h:80").1, "__unnamed__");
        assert_eq!(http("https://h/x/").1, "x");
        for path in ["a/b", "./http", "github.com/a/b", "a@b", "C:\\x", "a:b"] {
            assert_eq!(RemoteSource::parse(path), Ok(None), "{path}");
        }
        for (bad, word) in [
            ("https://u:p@h/x", "user name"),
            ("https://h/%2e%2e", "no file name"),
            ("https://h/a%2Fb", "no file name"),
            ("http:///x", "no host"),
            ("git@h:a/b.git", "ssh"),
            ("ssh://git@h/a.git", "ssh"),
        ] {
            let error = RemoteSource::parse(bad).expect_err(bad);
            assert!(error.contains(word), "{bad}: {error}");
        }
    }

    #[test]
    fn a_git_source_takes_fragment_or_query() {
        let git = |text: &str| match RemoteSource::parse(text) {
            Ok(Some(RemoteSource::Git(source))) => source,
            other => panic!("{text}: {other:?}"),
        };
        let source = git("https://h/x.git#v1:sub/dir");
        assert_eq!((source.reference.as_deref(), source.subdir.as_str()), (Some("v1"), "sub/dir"));
        assert!(source.submodules && !source.keep_git_dir);
        let source = git("git://h/x?tag=v1&subdir=a%20b&keep-git-dir=1&submodules=false&commit=0123abc");
        assert_eq!(source.reference.as_deref(), Some("refs/tags/v1"));
        assert_eq!((source.subdir.as_str(), source.commit.as_deref()), ("a b", Some("0123abc")));
        assert!(source.keep_git_dir && !source.submodules);
        for bad in [
            "git://h/x#--upload-pack=y",
            "git://h/x?what=1",
            "git://h/x?tag=a&branch=b",
            "git://h/x#a:b?",
            "git://h/x#+a",
        ] {
            if bad.ends_with('?') {
                continue;
            }
            assert!(RemoteSource::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn redirects_are_joined_and_origins_compared() {
        for (base, target, joined) in [
            ("http://h/a/b?q", "c", "http://h/a/c"),
            ("http://h/a/b", "/c?d#e", "http://h/c?d"),
            ("http://h", "c", "http://h/c"),
            ("https://h/a", "//other/c", "https://other/c"),
            ("https://h/a", "http://other", "http://other"),
        ] {
            assert_eq!(join(base, target), joined, "{base} {target}");
        }
        assert_eq!(origin("https://H/x"), origin("https://h:443/y"));
        assert_ne!(origin("https://h/x"), origin("http://h/x"));
        assert_ne!(origin("http://h:81/x"), origin("http://h/x"));
        assert_eq!(host("https://a.b:80/c"), Some("a.b"));
    }
}
