//! `-v SOURCE:TARGET[:OPTIONS]` with a path of the host as its source.

use std::path::{Component, Path, PathBuf};

/// A file or directory of the host that a container sees.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BindSpec {
    /// Absolute path on the host.
    pub source: PathBuf,
    /// Absolute path in the container.
    pub target: PathBuf,
    /// Whether the container can't write it.
    pub readonly: bool,
    /// As it was given.
    pub text: String,
}

/// Why a text is no bind.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BindError {
    /// No target, or too many parts.
    #[error("invalid volume `{text}`: expected `SOURCE:TARGET[:OPTIONS]`")]
    Form {
        /// As given.
        text: String,
    },
    /// The target is relative.
    #[error("invalid volume `{text}`: the path in the container must be absolute")]
    RelativeTarget {
        /// As given.
        text: String,
    },
    /// The target is the root directory.
    #[error("invalid volume `{text}`: the path in the container can't be `/`")]
    RootTarget {
        /// As given.
        text: String,
    },
    /// A volume with a name.
    #[error(
        "named volumes are not supported yet: `{name}` in `{text}` is no path (a path begins with `/` or `.`)"
    )]
    Named {
        /// The volume's name.
        name: String,
        /// As given.
        text: String,
    },
    /// A volume without a name.
    #[error("anonymous volumes are not supported yet: `{text}` names no path of the host")]
    Anonymous {
        /// As given.
        text: String,
    },
    /// An option that is neither `ro` nor `rw`.
    #[error("the volume option `{option}` in `{text}` is not supported yet: only `ro` and `rw` are")]
    Option {
        /// The option.
        option: String,
        /// As given.
        text: String,
    },
}

impl BindSpec {
    /// Reads a value of `-v`. A source that begins with `.` or `~` is taken as docker does: relative to
    /// `current_dir`, the latter literally.
    ///
    /// # Errors
    ///
    /// [`BindError`] for what is no bind, volumes included.
    pub fn parse(text: &str, current_dir: &Path) -> Result<Self, BindError> {
        let given = || text.to_owned();
        let parts: Vec<&str> = text.split(':').collect();
        let (source, target, options) = match parts[..] {
            [target] if target.starts_with('/') => return Err(BindError::Anonymous { text: given() }),
            [source, target] => (source, target, ""),
            [source, target, options] => (source, target, options),
            _ => return Err(BindError::Form { text: given() }),
        };
        if source.is_empty() || target.is_empty() {
            return Err(BindError::Form { text: given() });
        }
        if !source.starts_with(['/', '.', '~']) {
            return Err(BindError::Named { name: source.to_owned(), text: given() });
        }
        let target = Path::new(target);
        if !target.is_absolute() {
            return Err(BindError::RelativeTarget { text: given() });
        }
        let target = cleaned(target);
        if target == Path::new("/") {
            return Err(BindError::RootTarget { text: given() });
        }
        let mut readonly = false;
        for option in options.split(',').filter(|option| !option.is_empty()) {
            match option {
                "ro" | "readonly" => readonly = true,
                "rw" => readonly = false,
                _ => return Err(BindError::Option { option: option.to_owned(), text: given() }),
            }
        }
        Ok(Self { source: current_dir.join(source), target, readonly, text: given() })
    }
}

/// The path without `.`, `..` and double slashes, by its text only (Go's `path.Clean`).
fn cleaned(path: &Path) -> PathBuf {
    let mut clean = PathBuf::from("/");
    for component in path.components() {
        match component {
            Component::Normal(name) => clean.push(name),
            Component::ParentDir => {
                clean.pop();
            }
            _ => {}
        }
    }
    clean
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<BindSpec, BindError> {
        BindSpec::parse(text, Path::new("/home/me"))
    }

    #[test]
    fn sources_are_paths_and_relative_ones_begin_with_a_dot() {
        let cases = [
            ("/a:/b", "/a", "/b", false),
            ("./x:/src", "/home/me/./x", "/src", false),
            (".:/src", "/home/me/.", "/src", false),
            ("../x:/src:ro", "/home/me/../x", "/src", true),
            ("/a:/b/../c//d/:rw", "/a", "/c/d", false),
        ];
        for (text, source, target, readonly) in cases {
            let bind = parse(text).unwrap();
            assert_eq!(bind.source.to_str(), Some(source), "{text}");
            assert_eq!(bind.target.to_str(), Some(target), "{text}");
            assert_eq!(bind.readonly, readonly, "{text}");
        }
    }

    #[test]
    fn volumes_and_unknown_options_are_refused_by_name() {
        assert!(matches!(parse("data:/d"), Err(BindError::Named { name, .. }) if name == "data"));
        assert!(matches!(parse("/d"), Err(BindError::Anonymous { .. })));
        assert!(matches!(parse("/a:/b:z"), Err(BindError::Option { option, .. }) if option == "z"));
        assert!(matches!(parse("/a:b"), Err(BindError::RelativeTarget { .. })));
        for text in ["/a:/", "/a:/x/.."] {
            assert!(matches!(parse(text), Err(BindError::RootTarget { .. })), "{text}");
        }
        for text in ["", ":", "/a:", ":/b", "a", "/a:/b:ro:x"] {
            assert!(matches!(parse(text), Err(BindError::Form { .. })), "{text}");
        }
    }
}
