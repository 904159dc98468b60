//! A file over HTTP, and what is remembered of it.
//!
//! A file is asked for with the validators of the last time; where the server says that it is the same, its digests
//! are known without its bytes. They come only when the step really runs.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, mpsc};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use sys::file::{FileType, Identity, Metadata, Owner, Timestamp};
use sys::xattr::Xattr;
use ureq::http::{Response, header};
use ureq::tls::{Certificate, RootCerts, TlsConfig};

use super::url::{join, origin, shown};
use super::{FetchError, HttpSource, hex};
use crate::CancelToken;
use crate::source_tree::{Content, Entry, Listing, SourceTree, TreeReader};

/// What a download may take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) size_bytes: u64,
    pub(crate) total: Duration,
    /// Without a byte.
    pub(crate) idle: Duration,
    pub(crate) redirects: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            size_bytes: 32 << 30,
            total: Duration::from_secs(3600),
            idle: Duration::from_secs(60),
            redirects: 10,
        }
    }
}

/// How downloads are made.
#[derive(Clone, Default)]
pub(crate) struct Client {
    /// `HTTP_PROXY` and its kind, by name.
    pub(crate) proxies: Vec<(String, String)>,
    /// The value of the `Authorization` header for the source's own host.
    pub(crate) authorization: Option<String>,
    pub(crate) limits: Limits,
    /// Where what is remembered lies, and what is downloaded.
    pub(crate) dir: PathBuf,
    /// Whether what is remembered counts.
    pub(crate) revalidates: bool,
}

/// What is remembered of a file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Known {
    etag: Option<String>,
    last_modified: Option<String>,
    sha256: String,
    blake3: String,
    size_bytes: u64,
    mtime_seconds: i64,
}

/// A file that the server has.
pub(crate) struct Download {
    client: Client,
    source: HttpSource,
    known: Known,
    /// Nothing while the server's word was enough.
    content: Mutex<Option<File>>,
}

/// Runs `fetch` beside this thread, so that the build's stop needn't wait for the network.
fn stoppable<T: Send + 'static>(
    stop: &CancelToken,
    fetch: impl FnOnce(&AtomicBool) -> Result<T, FetchError> + Send + 'static,
) -> Result<T, FetchError> {
    let (sender, receiver) = mpsc::channel();
    let stopped = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&stopped);
    std::thread::Builder::new()
        .name("download".to_owned())
        .spawn(move || {
            // Nobody may wait any more.
            let _ = sender.send(fetch(&flag));
        })
        .map_err(|source| FetchError::Keep { op: "start a thread", source })?;
    loop {
        match receiver.recv_timeout(Duration::from_millis(20)) {
            Ok(result) => return result,
            Err(mpsc::RecvTimeoutError::Timeout) if !stop.is_cancelled() => {}
            Err(_) => {
                stopped.store(true, Ordering::Relaxed);
                return Err(FetchError::Stopped);
            }
        }
    }
}

impl Download {
    /// Asks for `source`. With a `checksum` (64 hexadecimal digits of SHA-256) that is known nothing is asked.
    pub(crate) fn look(
        client: &Client,
        source: &HttpSource,
        checksum: Option<&str>,
        stop: &CancelToken,
    ) -> Result<Self, FetchError> {
        let known = if client.revalidates { client.recall(&source.url) } else { None };
        let (known, content) = match known {
            Some(known) if checksum.is_some_and(|wanted| wanted == known.sha256) => (known, None),
            known => {
                let (client, url) = (client.clone(), source.url.clone());
                stoppable(stop, move |stopped| client.get(&url, known, stopped))?
            }
        };
        if let Some(expected) = checksum.filter(|wanted| *wanted != known.sha256) {
            return Err(FetchError::Checksum {
                url: shown(&source.url).to_owned(),
                expected: format!("sha256:{expected}"),
                actual: format!("sha256:{}", known.sha256),
            });
        }
        let (client, source) = (client.clone(), source.clone());
        Ok(Self { client, source, known, content: Mutex::new(content) })
    }

    /// The file as a tree that has nothing else.
    pub(crate) fn into_tree(self) -> SourceTree {
        SourceTree::new(Box::new(self), Metadata::NO_DIR)
    }

    fn metadata(&self) -> Metadata {
        Metadata {
            file_type: FileType::Regular,
            mode: 0o600,
            owner: Owner::ROOT,
            size_bytes: self.known.size_bytes,
            links: 1,
            identity: Identity { dev: 0, ino: 1 },
            device: (0, 0),
            mtime: Timestamp::from_seconds(self.known.mtime_seconds),
            ctime: Timestamp::from_seconds(0),
        }
    }
}

impl TreeReader for Download {
    fn list(&self, _dir: &Path) -> io::Result<Listing> {
        let digest = blake3::Hash::from_hex(&self.known.blake3).map_err(io::Error::other)?;
        let entry = Entry {
            name: self.source.name.clone().into(),
            metadata: self.metadata(),
            content: Content::File(OnceLock::from(*digest.as_bytes())),
        };
        Ok(Listing { entries: vec![entry], xattrs: Vec::new() })
    }

    fn open(&self, _file: &Path) -> io::Result<File> {
        let mut content = self.content.lock().expect("no thread panics while it downloads");
        let file = match &*content {
            Some(file) => file,
            None => {
                let never = AtomicBool::new(false);
                // Another content is found by whoever reads it: it hasn't the digest that was keyed.
                let (_, file) = self.client.get(&self.source.url, None, &never).map_err(io::Error::other)?;
                let file = file.ok_or_else(|| io::Error::other("no content came"))?;
                content.insert(file)
            }
        };
        // A file of its own position.
        File::open(format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(file)))
    }

    fn xattrs(&self, _file: &File, _path: &Path) -> io::Result<Vec<Xattr>> {
        Ok(Vec::new())
    }
}

impl Client {
    fn memory(&self, url: &str) -> PathBuf {
        let mut hasher = blake3::Hasher::new_derive_key("calque 2026: what is known of a URL");
        hasher.update(url.as_bytes());
        // Who asks may decide what comes.
        hasher.update(self.authorization.as_deref().unwrap_or_default().as_bytes());
        self.dir.join(format!("http-{}", hasher.finalize().to_hex()))
    }

    fn recall(&self, url: &str) -> Option<Known> {
        serde_json::from_slice(&std::fs::read(self.memory(url)).ok()?).ok()
    }

    /// A failure costs a download, nothing else.
    fn remember(&self, url: &str, known: &Known) {
        let path = self.memory(url);
        let mut random = [0_u8; 8];
        if rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty()).is_err() {
            return;
        }
        let new = path.with_extension(hex(&random));
        let written = serde_json::to_vec(known).map_err(io::Error::from).and_then(|bytes| {
            std::fs::write(&new, bytes)?;
            std::fs::rename(&new, &path)
        });
        if written.is_err() {
            let _ = std::fs::remove_file(&new);
        }
    }

    /// Gets the file, or learns that it is still the `known` one.
    fn get(
        &self,
        url: &str,
        known: Option<Known>,
        stopped: &AtomicBool,
    ) -> Result<(Known, Option<File>), FetchError> {
        let started = Instant::now();
        let response = self.follow(url, known.as_ref())?;
        let status = response.status().as_u16();
        match (status, known) {
            (304, Some(known)) => return Ok((known, None)),
            (200, _) => {}
            _ => return Err(FetchError::Status { url: shown(url).to_owned(), status }),
        }
        let text = |name: header::HeaderName| {
            response.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned)
        };
        let last_modified = text(header::LAST_MODIFIED);
        let mtime_seconds = last_modified.as_deref().and_then(http_date).unwrap_or(0);
        let mut known = Known { etag: text(header::ETAG), last_modified, mtime_seconds, ..Known::default() };
        let mut body = response.into_body().into_reader();
        let keep = |op| move |source| FetchError::Keep { op, source };
        let mut file = unnamed_file(&self.dir).map_err(keep("make a file for a download"))?;
        let (mut sha256, mut blake3) = (Sha256::new(), blake3::Hasher::new());
        let mut buffer = vec![0_u8; 128 * 1024];
        loop {
            if stopped.load(Ordering::Relaxed) {
                return Err(FetchError::Stopped);
            }
            if started.elapsed() > self.limits.total {
                return Err(FetchError::TooSlow { url: shown(url).to_owned(), limit: self.limits.total });
            }
            let count = body.read(&mut buffer).map_err(|source| FetchError::BrokeOff {
                url: shown(url).to_owned(),
                received: known.size_bytes,
                source,
            })?;
            if count == 0 {
                break;
            }
            known.size_bytes += count as u64;
            if known.size_bytes > self.limits.size_bytes {
                let limit = self.limits.size_bytes;
                return Err(FetchError::TooLarge { url: shown(url).to_owned(), limit });
            }
            sha256.update(&buffer[..count]);
            blake3.update(&buffer[..count]);
            file.write_all(&buffer[..count]).map_err(keep("keep a download"))?;
        }
        known.sha256 = hex(&sha256.finalize());
        known.blake3 = blake3.finalize().to_hex().to_string();
        self.remember(url, &known);
        Ok((known, Some(file)))
    }

    /// Sends the request, wherever it is sent on to.
    fn follow(&self, url: &str, known: Option<&Known>) -> Result<Response<ureq::Body>, FetchError> {
        let mut here = url.to_owned();
        for _ in 0..=self.limits.redirects {
            let response = self.request(&here, origin(&here) == origin(url), known)?;
            if ![301, 302, 303, 307, 308].contains(&response.status().as_u16()) {
                return Ok(response);
            }
            let Some(location) = response.headers().get(header::LOCATION).and_then(|l| l.to_str().ok())
            else {
                return Ok(response);
            };
            let next = join(&here, location);
            let refuse = |reason| FetchError::RedirectTarget {
                url: shown(&here).to_owned(),
                target: shown(&next).to_owned(),
                reason,
            };
            if !next.starts_with("http://") && !next.starts_with("https://") {
                return Err(refuse("it is no http address"));
            }
            if here.starts_with("https://") && next.starts_with("http://") {
                return Err(refuse("it leaves https"));
            }
            here = next;
        }
        Err(FetchError::Redirects { url: shown(url).to_owned(), limit: self.limits.redirects })
    }

    fn request(
        &self,
        url: &str,
        is_own_host: bool,
        known: Option<&Known>,
    ) -> Result<Response<ureq::Body>, FetchError> {
        let mut config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .user_agent(concat!("calque/", env!("CARGO_PKG_VERSION")))
            .timeout_resolve(Some(self.limits.idle))
            .timeout_connect(Some(self.limits.idle))
            .timeout_recv_response(Some(self.limits.idle))
            .timeout_per_read(Some(self.limits.idle))
            .timeout_global(Some(self.limits.total))
            .proxy(self.proxy(url)?);
        if url.starts_with("https://") || url.starts_with("HTTPS://") {
            config = config.tls_config(tls().clone());
        }
        let mut request = ureq::Agent::from(config.build()).get(url);
        if let Some(value) = self.authorization.as_deref().filter(|_| is_own_host) {
            request = request.header(header::AUTHORIZATION, value);
        }
        if let Some(known) = known {
            if let Some(etag) = &known.etag {
                request = request.header(header::IF_NONE_MATCH, etag);
            } else if let Some(date) = &known.last_modified {
                request = request.header(header::IF_MODIFIED_SINCE, date);
            }
        }
        let fail = |source| FetchError::Request { url: shown(url).to_owned(), source: Box::new(source) };
        request.call().map_err(fail)
    }

    /// The proxy that the variables name for `url`.
    fn proxy(&self, url: &str) -> Result<Option<ureq::Proxy>, FetchError> {
        let (scheme, own) = match url.split("://").next() {
            Some(scheme) if scheme.eq_ignore_ascii_case("https") => ("https", "https_proxy"),
            _ => ("http", "http_proxy"),
        };
        let value = |wanted: &str| {
            let found = self.proxies.iter().find(|(name, _)| name.eq_ignore_ascii_case(wanted));
            found.map(|(_, value)| value.as_str()).filter(|value| !value.is_empty())
        };
        let Some(address) = value(own).or_else(|| value("all_proxy")) else { return Ok(None) };
        let host = super::url::host(url).unwrap_or_default();
        if value("no_proxy").is_some_and(|list| is_listed(list, host)) {
            return Ok(None);
        }
        let fail = |source| FetchError::Proxy { scheme, source: Box::new(source) };
        ureq::Proxy::new(address).map(Some).map_err(fail)
    }
}

/// Whether `NO_PROXY` has `host`: itself, a domain above it, or `*`.
fn is_listed(list: &str, host: &str) -> bool {
    let host = host.to_ascii_lowercase();
    list.split([',', ' ']).map(str::trim).filter(|entry| !entry.is_empty()).any(|entry| {
        let entry = entry.to_ascii_lowercase();
        let entry = entry.strip_prefix("*.").or_else(|| entry.strip_prefix('.')).unwrap_or(&entry);
        entry == "*" || host == entry || host.strip_suffix(entry).is_some_and(|rest| rest.ends_with('.'))
    })
}

/// TLS with the host's certificates, read once.
fn tls() -> &'static TlsConfig {
    static TLS: OnceLock<TlsConfig> = OnceLock::new();
    TLS.get_or_init(|| {
        // Certificates that can't be read are none: a server that needs them isn't trusted.
        let found = rustls_native_certs::load_native_certs().certs;
        let roots: Vec<_> = found.iter().map(|der| Certificate::from_der(der).to_owned()).collect();
        TlsConfig::builder()
            .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .root_certs(RootCerts::Specific(Arc::new(roots)))
            .build()
    })
}

/// A file that no name leads to: gone with its last descriptor.
fn unnamed_file(dir: &Path) -> io::Result<File> {
    let mut random = [0_u8; 16];
    rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty())?;
    let path = dir.join(format!("download-{}", hex(&random)));
    let file = File::options().read(true).write(true).create_new(true).open(&path)?;
    std::fs::remove_file(&path)?;
    Ok(file)
}

/// `Sun, 06 Nov 1994 08:49:37 GMT` in seconds since 1970.
fn http_date(text: &str) -> Option<i64> {
    jiff::fmt::rfc2822::parse(&text.trim().replace("GMT", "+0000"))
        .ok()
        .map(|time| time.timestamp().as_second())
}

#[cfg(test)]
mod tests;
