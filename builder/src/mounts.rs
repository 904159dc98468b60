//! What a RUN step sees beside its root file system: binds, caches, tmpfs, secrets, and the files that every step gets.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Component, Path, PathBuf};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use parser::{CacheSharing, Span};
use rustix::fs::{Mode, OFlags};
use sandbox::{Bind, BindIdmap};
use store::merged::Merged;
use store::snapshot::StubKind;
use store::tree_writer::TreeWriter;
use store::{CacheMount, LayerDraft, Sharing, Store};
use sys::RootDir;
use sys::file::Owner;

use crate::cache::{Interruption, StepSite};
use crate::error::{StepError, StoreFailure};
use crate::expanded::{Mount, MountStep, RunStep};
use crate::graph::ContentSource;
use crate::input::SourceNode;
use crate::root::OpenRoot;
use crate::schedule::StageLayer;
use crate::source_tree::Found;
use crate::step::copier::{Copier, Place, write_failed};
use crate::step::copy::{absence, read_failed};
use crate::step::files::StepFiles;
use crate::step::picture::SourcePicture;
use crate::step::select::{Exclude, clean};

/// The roots that a step's bind mounts read from, by the mount's place in the flags.
pub(crate) struct BindRoots {
    roots: BTreeMap<usize, OpenRoot>,
    exclude: Exclude,
}

/// What `--mount=type=bind` shows, as it was keyed.
pub(crate) struct BindSources<'a> {
    found: BTreeMap<usize, (Found<'a>, SourcePicture)>,
    exclude: &'a Exclude,
}

impl BindRoots {
    pub(crate) fn open(site: &StepSite<'_, '_>, run: &RunStep) -> Result<Self, StepError> {
        let executor = site.executor;
        let mut roots = BTreeMap::new();
        for (at, mount) in run.mounts.iter().enumerate() {
            if let Mount::Bind { from, source, .. } = &mount.mount {
                roots.insert(at, executor.roots.get(from, executor)?.open(executor, source)?);
            }
        }
        Ok(Self { roots, exclude: Exclude::default() })
    }

    pub(crate) fn refresh(&mut self) -> Result<(), StepError> {
        self.roots.values_mut().try_for_each(OpenRoot::refresh)
    }

    /// Finds and digests what each bind mount shows.
    pub(crate) fn look(
        &self,
        site: &StepSite<'_, '_>,
        run: &RunStep,
    ) -> Result<BindSources<'_>, Interruption> {
        let mut found = BTreeMap::new();
        for (at, root) in &self.roots {
            let MountStep { span, mount: Mount::Bind { from, source, .. } } = &run.mounts[*at] else {
                continue;
            };
            let place = find(site, root, from, source, *span)?;
            let picture =
                SourcePicture::take(root.tree(), &place, &self.exclude, root.kept(), site.executor.stop())
                    .map_err(|error| read_failed(site, from, root, error))?;
            root.save_index();
            found.insert(*at, (place, picture));
        }
        Ok(BindSources { found, exclude: &self.exclude })
    }
}

impl BindSources<'_> {
    /// For the key.
    pub(crate) fn nodes(&self) -> BTreeMap<usize, SourceNode> {
        self.found.iter().map(|(at, (_, picture))| (*at, picture.node.clone())).collect()
    }
}

fn find<'a>(
    site: &StepSite<'_, '_>,
    root: &'a OpenRoot,
    from: &ContentSource,
    source: &str,
    span: Span,
) -> Result<Found<'a>, Interruption> {
    let path = PathBuf::from(clean(source).0);
    let found = root.tree().find(&path, true).map_err(|error| read_failed(site, from, root, error))?;
    found.ok_or_else(|| {
        StepError::MountSourceMissing {
            path: source.to_owned(),
            root: site.root_name(from),
            absence: absence(root, &path),
            span,
        }
        .into()
    })
}

/// All mounts of one step, ready for the sandbox. What it holds must live until the step has ended.
pub(crate) struct StepMounts {
    /// Outer mounts before those within them.
    pub(crate) binds: Vec<Bind>,
    /// Target and limit.
    pub(crate) tmpfs: Vec<(String, Option<u64>)>,
    /// Mount points in the root file system.
    pub(crate) targets: Vec<(PathBuf, StubKind)>,
    /// Variables that secrets are.
    pub(crate) env: Vec<(String, String)>,
    pub(crate) files: StepFiles,
    _caches: BTreeMap<String, CacheMount>,
    _copies: Vec<LayerDraft>,
}

/// Puts the mounts of one step together.
struct Preparation<'p, 's, 'a> {
    site: &'p StepSite<'s, 'a>,
    roots: &'p BindRoots,
    sources: &'p BindSources<'p>,
    caches: BTreeMap<String, CacheMount>,
    copies: Vec<LayerDraft>,
    files: StepFiles,
    placed: Vec<Placed>,
    tmpfs: Vec<(String, Option<u64>)>,
    env: Vec<(String, String)>,
}

/// A bind with its place.
struct Placed {
    target: PathBuf,
    kind: StubKind,
    source: OwnedFd,
    readonly: bool,
    /// Where mount points within it can be made; nothing where they can't.
    inside: Option<RootDir>,
}

impl StepMounts {
    /// `provided` are the files that every step gets: target, content, mode.
    pub(crate) fn prepare(
        site: &StepSite<'_, '_>,
        run: &RunStep,
        roots: &BindRoots,
        sources: &BindSources<'_>,
        provided: &[(&str, Vec<u8>, u32)],
    ) -> Result<Self, Interruption> {
        let files = StepFiles::new(site.executor.services.store).map_err(|source| StepError::Mount {
            target: "/run/secrets".to_owned(),
            span: site.step.span,
            source,
        })?;
        let mut preparation = Preparation {
            site,
            roots,
            sources,
            caches: BTreeMap::new(),
            copies: Vec::new(),
            files,
            placed: Vec::new(),
            tmpfs: Vec::new(),
            env: Vec::new(),
        };
        preparation.lock_caches(run)?;
        for (target, bytes, mode) in provided {
            preparation.file(target, bytes, *mode, Owner::ROOT, false, site.step.span)?;
        }
        for (at, mount) in run.mounts.iter().enumerate() {
            preparation.mount(at, mount)?;
        }
        preparation.finish()
    }
}

impl Preparation<'_, '_, '_> {
    fn mount(&mut self, at: usize, mount: &MountStep) -> Result<(), Interruption> {
        let span = mount.span;
        match &mount.mount {
            Mount::Bind { target, readonly, from, .. } => self.bind(at, target, from, *readonly, span),
            Mount::Cache { target, readonly, .. } => {
                let id = cache_id(&mount.mount);
                let cache = self.caches.get(&id).expect("all caches were locked");
                let source = cache.data_fd().try_clone_to_owned().map_err(failed(target, span))?;
                let inside = RootDir::from_fd(source.try_clone().map_err(failed(target, span))?);
                self.placed.push(Placed {
                    target: PathBuf::from(target),
                    kind: StubKind::Dir,
                    source,
                    readonly: *readonly,
                    inside: Some(inside),
                });
                Ok(())
            }
            Mount::Tmpfs { target, size_bytes } => {
                self.tmpfs.push((target.clone(), *size_bytes));
                Ok(())
            }
            Mount::Secret { id, target, env, mode, uid, gid, .. } => {
                let Some(value) = self.site.executor.request.secrets.get(id) else { return Ok(()) };
                let value = value.reveal().to_vec();
                if let Some(name) = env {
                    let text = String::from_utf8(value.clone()).map_err(|_| StepError::Unsupported {
                        what: format!("the secret `{id}` as a variable: it is no UTF-8 and"),
                        span: Some(span),
                    })?;
                    self.env.push((name.clone(), text));
                }
                if let Some(target) = target {
                    self.file(target, &value, *mode, Owner { uid: *uid, gid: *gid }, true, span)?;
                }
                Ok(())
            }
        }
    }

    fn file(
        &mut self,
        target: &str,
        bytes: &[u8],
        mode: u32,
        owner: Owner,
        readonly: bool,
        span: Span,
    ) -> Result<(), StepError> {
        let source = self.files.add(bytes, mode, owner).map_err(failed(target, span))?;
        let target = PathBuf::from(target);
        self.placed.push(Placed { target, kind: StubKind::File, source, readonly, inside: None });
        Ok(())
    }

    /// Shows files of a context, stage or image. A directory or file that lies in one layer alone is bound as it is,
    /// read-only; everything else is a copy: what a context's ignore file leaves, verified against the key while it
    /// is copied, and safe from changes while the command runs.
    fn bind(
        &mut self,
        at: usize,
        target: &str,
        from: &ContentSource,
        readonly: bool,
        span: Span,
    ) -> Result<(), Interruption> {
        let (root, (found, picture)) = (&self.roots.roots[&at], &self.sources.found[&at]);
        let kind = if found.entry.is_dir() { StubKind::Dir } else { StubKind::File };
        if let (true, OpenRoot::Layers { layers, .. }) = (readonly, root)
            && let Some(source) = self.place_in_one_layer(layers, found)?
        {
            let target = PathBuf::from(target);
            self.placed.push(Placed { target, kind, source, readonly, inside: None });
            return Ok(());
        }
        let site = self.site;
        let draft = site.store_call("make a draft", |store| Ok(store.draft()?))?;
        let tree = draft.tree_fd().try_clone_to_owned().map_err(failed(target, span))?;
        let nothing = Merged::new(Vec::new()).map_err(|source| StepError::Store {
            op: "copy a bind mount",
            source: StoreFailure::Merged(source),
        })?;
        let writer = TreeWriter::new(tree, &nothing).map_err(write_failed)?;
        let copier = Copier::plain(
            root.tree(),
            self.sources.exclude,
            &writer,
            root,
            site.root_name(from),
            site.executor.stop(),
        );
        let top = writer.root().map_err(write_failed)?;
        copier.entry(&top, OsStr::new(COPY_NAME), found, Place::top(), &picture.links)?;
        copier.link_later_names()?;
        drop(top);
        drop(copier);
        writer.finish().map_err(write_failed)?;
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let source = rustix::fs::openat(draft.tree_fd(), COPY_NAME, flags, Mode::empty())
            .map_err(io::Error::from)
            .map_err(failed(target, span))?;
        let inside = match kind {
            StubKind::Dir => Some(RootDir::from_fd(source.try_clone().map_err(failed(target, span))?)),
            StubKind::File => None,
        };
        self.copies.push(draft);
        self.placed.push(Placed { target: PathBuf::from(target), kind, source, readonly, inside });
        Ok(())
    }

    fn place_in_one_layer(
        &self,
        layers: &[StageLayer],
        found: &Found<'_>,
    ) -> Result<Option<OwnedFd>, StepError> {
        if found.path.as_os_str().is_empty() {
            return Ok(None);
        }
        let mut place = None;
        for tree in self.site.executor.open_trees(layers)? {
            let tree = RootDir::from_fd(tree);
            let Ok(here) = tree.open_path_nofollow(&found.path) else { continue };
            let Ok(metadata) = sys::file::metadata(&here) else { continue };
            if metadata.identity != found.entry.metadata.identity {
                if found.entry.is_dir() {
                    return Ok(None);
                }
                continue;
            }
            if !found.entry.is_dir() {
                return Ok(Some(here));
            }
            place = Some(here);
        }
        Ok(place)
    }

    /// Takes all caches of the step, sorted, so that two steps never wait for each other (R5). The waiting is done by
    /// a thread that can be left behind when the build is stopped.
    fn lock_caches(&mut self, run: &RunStep) -> Result<(), Interruption> {
        let mut wanted = BTreeMap::new();
        for mount in &run.mounts {
            if let Mount::Cache { sharing, .. } = &mount.mount {
                wanted.entry(cache_id(&mount.mount)).or_insert((mount, *sharing));
            }
        }
        for (id, (mount, sharing)) in wanted {
            let mut cache = self.lock_cache(&id, sharing)?;
            if cache.is_new() {
                self.start_cache(&cache, mount)?;
                cache.set_ready().map_err(|source| StepError::Store {
                    op: "get a cache mount",
                    source: StoreFailure::CacheMount(source),
                })?;
            }
            self.caches.insert(id, cache);
        }
        Ok(())
    }

    fn lock_cache(&self, id: &str, sharing: CacheSharing) -> Result<CacheMount, StepError> {
        let store: Store = self.site.executor.services.store.clone();
        let (scope, name) = (self.site.executor.request.cache_scope.clone(), id.to_owned());
        let sharing = match sharing {
            CacheSharing::Shared => Sharing::Shared,
            CacheSharing::Private => Sharing::Private,
            CacheSharing::Locked => Sharing::Locked,
        };
        let (sender, receiver) = channel();
        std::thread::spawn(move || {
            // Nobody listens when the build was stopped: the lock is then freed at once.
            let told = sender.clone();
            let cache = store.cache_mount(&scope, &name, sharing, &mut || {
                let _ = told.send(None);
            });
            let _ = sender.send(Some(cache));
        });
        loop {
            match receiver.recv_timeout(Duration::from_millis(20)) {
                Ok(Some(cache)) => {
                    return cache.map_err(|source| StepError::Store {
                        op: "get a cache mount",
                        source: StoreFailure::CacheMount(source),
                    });
                }
                Ok(None) => {
                    self.site.running.status(format!("waiting for the cache `{id}`, which another step uses"))
                }
                Err(RecvTimeoutError::Timeout) if self.site.executor.stop().is_cancelled() => {
                    return Err(StepError::Stopped);
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Err(StepError::Stopped),
            }
        }
    }

    /// Gives a new cache its mode, owner and first content.
    fn start_cache(&self, cache: &CacheMount, mount: &MountStep) -> Result<(), Interruption> {
        let Mount::Cache { target, from, source, mode, uid, gid, .. } = &mount.mount else { return Ok(()) };
        let failed = || failed(target, mount.span);
        let dir = sys::dir::reopen(cache.data_fd()).map_err(failed())?;
        if let Some(from) = from {
            let site = self.site;
            let root = site.executor.roots.get(from, site.executor)?.open(site.executor, source)?;
            let found = find(site, &root, from, source, mount.span)?;
            let exclude = Exclude::default();
            let picture =
                SourcePicture::take(root.tree(), &found, &exclude, root.kept(), site.executor.stop())
                    .map_err(|error| read_failed(site, from, &root, error))?;
            let nothing = Merged::new(Vec::new()).map_err(|source| StepError::Store {
                op: "fill a cache",
                source: StoreFailure::Merged(source),
            })?;
            let tree = dir.try_clone().map_err(failed())?;
            let writer = TreeWriter::new(tree, &nothing).map_err(write_failed)?;
            let copier = Copier::plain(
                root.tree(),
                &exclude,
                &writer,
                &root,
                site.root_name(from),
                site.executor.stop(),
            );
            let top = writer.root().map_err(write_failed)?;
            copier.children(&top, &found, Place::top(), &picture.links)?;
            copier.link_later_names()?;
            drop(top);
            drop(copier);
            writer.finish().map_err(write_failed)?;
        }
        sys::file::set_owner(&dir, Owner { uid: *uid, gid: *gid }).map_err(failed())?;
        sys::file::set_mode(&dir, *mode).map_err(failed())?;
        Ok(())
    }

    fn finish(mut self) -> Result<StepMounts, Interruption> {
        let span = self.site.step.span;
        self.placed.sort_by_key(|placed| placed.target.components().count());
        let mut targets = Vec::new();
        for (target, _) in &self.tmpfs {
            let target = PathBuf::from(target);
            if let Some(outer) = self.placed.iter().find(|outer| is_within(&target, &outer.target)) {
                return Err(StepError::Unsupported {
                    what: format!(
                        "a tmpfs on `{}` within the mount on `{}`",
                        target.display(),
                        outer.target.display()
                    ),
                    span: Some(span),
                }
                .into());
            }
            targets.push((target, StubKind::Dir));
        }
        for at in 0..self.placed.len() {
            let placed = &self.placed[at];
            if let Some((target, _)) =
                self.tmpfs.iter().find(|(outer, _)| is_within(&placed.target, Path::new(outer)))
            {
                return Err(StepError::Unsupported {
                    what: format!(
                        "the mount on `{}` within the tmpfs on `{target}`",
                        placed.target.display()
                    ),
                    span: Some(span),
                }
                .into());
            }
            // The innermost mount around it has to have the mount point.
            let outer = self.placed[..at].iter().rev().find(|outer| is_within(&placed.target, &outer.target));
            match outer {
                None => targets.push((placed.target.clone(), placed.kind)),
                Some(outer) => make_mount_point(outer, &placed.target, placed.kind)
                    .map_err(failed(&placed.target.display().to_string(), span))?,
            }
        }
        let binds = self
            .placed
            .into_iter()
            .map(|placed| Bind {
                source: placed.source,
                target: placed.target,
                readonly: placed.readonly,
                idmap: BindIdmap::Identity,
                recursive: false,
            })
            .collect();
        Ok(StepMounts {
            binds,
            tmpfs: self.tmpfs,
            targets,
            env: self.env,
            files: self.files,
            _caches: self.caches,
            _copies: self.copies,
        })
    }
}

/// The name under which a copy lies in its draft.
const COPY_NAME: &str = "source";

/// What makes a cache another one is part of its name (D-84).
fn cache_id(mount: &Mount) -> String {
    let Mount::Cache { id, from, source, mode, uid, gid, .. } = mount else { return String::new() };
    let mut name = id.clone();
    if *mode != 0o755 {
        name.push_str(&format!(" mode={mode:o}"));
    }
    if (*uid, *gid) != (0, 0) {
        name.push_str(&format!(" owner={uid}:{gid}"));
    }
    if let Some(from) = from {
        name.push_str(&format!(" from={from:?}:{source}"));
    }
    name
}

fn is_within(inner: &Path, outer: &Path) -> bool {
    inner != outer && inner.starts_with(outer)
}

/// Makes the mount point `target` within the source of another mount.
fn make_mount_point(outer: &Placed, target: &Path, kind: StubKind) -> io::Result<()> {
    let below = target.strip_prefix(&outer.target).map_err(io::Error::other)?;
    let Some(inside) = &outer.inside else {
        // A layer can't be written: the mount point must be there.
        let place = RootDir::from_fd(outer.source.try_clone()?);
        return place.open_path(below).map(|_| ());
    };
    let mut path = PathBuf::new();
    let parts: Vec<&OsStr> = below
        .components()
        .filter_map(|component| match component {
            Component::Normal(name) => Some(name),
            _ => None,
        })
        .collect();
    for (at, part) in parts.iter().enumerate() {
        path.push(part);
        if inside.open_path(&path).is_ok() {
            continue;
        }
        let (parent, name) = inside.parent(&path)?;
        if at + 1 == parts.len() && kind == StubKind::File {
            sys::file::create_file_at(&parent, &*name, 0o644)?;
        } else {
            sys::file::create_dir_at(parent.as_fd(), &*name, 0o755)?;
        }
    }
    Ok(())
}

fn failed(target: &str, span: Span) -> impl FnOnce(io::Error) -> StepError {
    let target = target.to_owned();
    move |source| StepError::Mount { target, span, source }
}
