//! What ADD gets from elsewhere: a file over HTTP, the tree of a git commit.
//!
//! Where it lies is told by the Dockerfile, which may be a stranger's: nothing that the other side sends is trusted.
//! Sizes and times have limits, secrets go to the host they are for and to no other, and a source is named in
//! messages without what may be a secret in it.

pub(crate) mod git;
pub(crate) mod http;
mod url;

use std::io;
use std::time::Duration;

pub use url::{GitSource, HttpSource, RemoteSource};
pub(crate) use url::{check_commit, host, shown};

/// Why a remote source can't be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FetchError {
    /// The server can't be reached, or doesn't speak HTTP or TLS as it should.
    #[error("cannot reach `{url}`")]
    Request {
        /// Which.
        url: String,
        /// Why not.
        source: Box<ureq::Error>,
    },
    /// It answered with something else than the file.
    #[error("`{url}` answered with the status {status}")]
    Status {
        /// Which.
        url: String,
        /// The HTTP status.
        status: u16,
    },
    /// It sends on again and again.
    #[error("`{url}` was redirected more than {limit} times")]
    Redirects {
        /// Which.
        url: String,
        /// How often is too often.
        limit: u32,
    },
    /// It sends to where calque doesn't follow.
    #[error("`{url}` redirects to `{target}`, which is not followed: {reason}")]
    RedirectTarget {
        /// Which.
        url: String,
        /// Where it leads.
        target: String,
        /// Why not.
        reason: &'static str,
    },
    /// The body is larger than any file may be.
    #[error("`{url}` is larger than {limit} bytes")]
    TooLarge {
        /// Which.
        url: String,
        /// The limit.
        limit: u64,
    },
    /// The body broke off.
    #[error("`{url}` broke off after {received} bytes")]
    BrokeOff {
        /// Which.
        url: String,
        /// How much came.
        received: u64,
        /// What the connection said.
        source: io::Error,
    },
    /// The content isn't the one that was asked for.
    #[error("`{url}` has the checksum `{actual}`, not `{expected}`")]
    Checksum {
        /// Which.
        url: String,
        /// What `--checksum` says.
        expected: String,
        /// What came.
        actual: String,
    },
    /// A proxy variable can't be understood.
    #[error("the proxy of {scheme} addresses can't be used")]
    Proxy {
        /// `http` or `https`.
        scheme: &'static str,
        /// Why not.
        source: Box<ureq::Error>,
    },
    /// `git` isn't there.
    #[error("`git` is needed to get `{url}`, and can't be started")]
    NoGit {
        /// Which repository.
        url: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// `git` failed.
    #[error("cannot {op} of `{url}`: {message}")]
    Git {
        /// What was tried.
        op: String,
        /// Which repository.
        url: String,
        /// The end of what it said.
        message: String,
    },
    /// It took too long.
    #[error("`{url}` took longer than {} seconds", limit.as_secs())]
    TooSlow {
        /// Which.
        url: String,
        /// The limit.
        limit: Duration,
    },
    /// The folder named isn't in the repository.
    #[error("`{subdir}` is no folder of `{url}`")]
    Subdir {
        /// Which repository.
        url: String,
        /// The folder.
        subdir: String,
    },
    /// What came can't be kept.
    #[error("cannot {op}")]
    Keep {
        /// What was tried.
        op: &'static str,
        /// Why not.
        source: io::Error,
    },
    /// The build was stopped meanwhile; never shown.
    #[error("the download was stopped")]
    Stopped,
}

impl FetchError {
    /// What to do about it, where something is known.
    pub(crate) fn help(&self) -> Option<String> {
        match self {
            Self::NoGit { .. } => Some("install git, or COPY a checkout that you made yourself".to_owned()),
            Self::Status { status: 401 | 403, url } => {
                let host = url::host(url).unwrap_or("HOST");
                Some(format!("give a token with `--secret id=HTTP_AUTH_TOKEN_{host},src=FILE`"))
            }
            Self::Checksum { actual, .. } => {
                Some(format!("if this content is what you want: `--checksum={actual}`"))
            }
            _ => None,
        }
    }
}

/// Lower-case hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
