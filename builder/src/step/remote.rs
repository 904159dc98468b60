//! What ADD gets from elsewhere, ready to be keyed and copied.

use std::path::Path;

use crate::cache::StepSite;
use crate::context::folder_tree;
use crate::error::{StepError, StoreFailure};
use crate::expanded::{CopySourceStep, CopyStep};
use crate::fetch::http::{Client, Download, Limits};
use crate::fetch::{FetchError, GitSource, HttpSource, RemoteSource, git};
use crate::request::CachePolicy;
use crate::root::OpenRoot;
use crate::step::select::SourcePath;

/// One source that came from elsewhere.
pub(crate) struct Fetched {
    /// Which of the instruction's words named it.
    pub(crate) word: usize,
    pub(crate) root: OpenRoot,
    /// What of the root is meant; empty for all of it.
    pub(crate) path: String,
    /// As messages name it.
    pub(crate) shown: String,
    /// What counts for the key where it isn't the content.
    pub(crate) identity: Option<[u8; 32]>,
}

/// Gets all remote sources of `copy`, as far as its key needs them.
pub(crate) fn fetch(site: &StepSite<'_, '_>, copy: &CopyStep) -> Result<Vec<Fetched>, StepError> {
    let mut fetched = Vec::new();
    for (word, source) in copy.sources.iter().enumerate() {
        let CopySourceStep::Remote { source, span, .. } = source else { continue };
        let failed = |error| match error {
            FetchError::Stopped => StepError::Stopped,
            source_error => {
                StepError::Fetch { remote: source.shown().to_owned(), span: *span, source: source_error }
            }
        };
        site.running.status(format!("fetching {}", source.shown()));
        fetched.push(match source {
            RemoteSource::Http(http) => download(site, copy, word, http).map_err(failed)?,
            RemoteSource::Git(git) => check_out(site, word, git, failed)?,
        });
    }
    Ok(fetched)
}

fn download(
    site: &StepSite<'_, '_>,
    copy: &CopyStep,
    word: usize,
    source: &HttpSource,
) -> Result<Fetched, FetchError> {
    let request = site.executor.request;
    let client = Client {
        proxies: request.proxies.clone(),
        authorization: authorization(site, source),
        limits: Limits::default(),
        dir: site.executor.services.store.contexts_path(),
        revalidates: request.cache == CachePolicy::Use,
    };
    let download = Download::look(&client, source, copy.checksum.as_deref(), site.executor.stop())?;
    Ok(Fetched {
        word,
        root: OpenRoot::Fetched { tree: Box::new(download.into_tree()), _draft: None },
        path: source.name.clone(),
        shown: crate::fetch::shown(&source.url).to_owned(),
        identity: None,
    })
}

/// The secrets that BuildKit knows for a host.
fn authorization(site: &StepSite<'_, '_>, source: &HttpSource) -> Option<String> {
    let host = crate::fetch::host(&source.url)?;
    let secret = |name: String| {
        let value = site.executor.request.secrets.get(&name)?;
        Some(String::from_utf8_lossy(value.reveal()).trim().to_owned())
    };
    secret(format!("HTTP_AUTH_HEADER_{host}"))
        .or_else(|| secret(format!("HTTP_AUTH_TOKEN_{host}")).map(|token| format!("Bearer {token}")))
}

fn check_out(
    site: &StepSite<'_, '_>,
    word: usize,
    source: &GitSource,
    failed: impl Fn(FetchError) -> StepError,
) -> Result<Fetched, StepError> {
    let executor = site.executor;
    let draft = executor
        .services
        .store
        .draft()
        .map_err(|source| StepError::Store { op: "make a draft", source: StoreFailure::Draft(source) })?;
    let keep = |source| FetchError::Keep { op: "keep a checkout", source };
    let dir = draft.tree_path().to_path_buf();
    let commit = git::check_out(source, &dir, &executor.request.proxies, executor.stop()).map_err(&failed)?;
    let tree = folder_tree(&dir).map_err(keep).map_err(&failed)?;
    // In the checkout, wherever its links lead (CVE-2026-33748).
    let path = SourcePath::new(&source.subdir).clean;
    let is_dir = tree.find(Path::new(&path), true).is_ok_and(|found| found.is_some_and(|f| f.entry.is_dir()));
    if !is_dir {
        let url = crate::fetch::shown(&source.url).to_owned();
        return Err(failed(FetchError::Subdir { url, subdir: source.subdir.clone() }));
    }
    // `.git` has times and names that no two checkouts share: with it the commit is what counts.
    let identity = source.keep_git_dir.then(|| {
        let mut hasher = blake3::Hasher::new_derive_key("calque 2026: a commit with its repository");
        for part in [&source.url, &commit, &path] {
            hasher.update(&(part.len() as u64).to_le_bytes()).update(part.as_bytes());
        }
        hasher.update(&[u8::from(source.submodules)]);
        *hasher.finalize().as_bytes()
    });
    Ok(Fetched {
        word,
        root: OpenRoot::Fetched { tree: Box::new(tree), _draft: Some(draft) },
        path,
        shown: crate::fetch::shown(&source.url).to_owned(),
        identity,
    })
}
