//! From a step's inputs to its layer: known, known by content, made by somebody else meanwhile, or made now.

use std::time::Duration;

use store::{
    ContentKey, Layer, LayerDraft, LayerFacts, LayerId, LayerOrigin, RunWindow, StepKey, StepLock, StepPlace,
    StepRecord,
};

use crate::cache_key::LayerContent;
use crate::cause::{self, Cause};
use crate::error::{StepError, StoreFailure};
use crate::expanded::ExpandedStep;
use crate::graph::ContentSource;
use crate::input::StepInputs;
use crate::progress::Running;
use crate::request::CachePolicy;
use crate::schedule::{Executor, LayerSource, LayerStep, StageResult};

/// A step about to be made, and where.
pub(crate) struct StepSite<'s, 'a> {
    pub(crate) executor: &'s Executor<'a>,
    pub(crate) step: &'s LayerStep<'s>,
    /// The stage so far.
    pub(crate) below: &'s StageResult,
    pub(crate) running: &'s Running<'s>,
}

/// The layer of a step.
#[derive(Clone, Debug)]
pub(crate) struct Obtained {
    pub(crate) layer: LayerId,
    pub(crate) step_key: StepKey,
    /// When the step first ran.
    pub(crate) created: String,
    pub(crate) window: Option<RunWindow>,
    pub(crate) cached: bool,
}

/// Why a layer wasn't made.
pub(crate) enum Interruption {
    Failed(StepError),
    /// A file changed between its key and its copy.
    Changed(std::path::PathBuf),
}

/// Fills a draft; sees the earlier results of the step.
pub(crate) type Make<'m> = &'m mut dyn FnMut(&LayerDraft, &[StepRecord]) -> Result<(), Interruption>;

impl From<StepError> for Interruption {
    fn from(error: StepError) -> Self {
        Self::Failed(error)
    }
}

/// How often a step is keyed again because its sources changed under it.
const CHANGE_LIMIT: u32 = 5;

/// How often a lock that another build holds is tried, since the wait must end when this build is stopped.
const LOCK_POLL: Duration = Duration::from_millis(10);

/// Most earlier results whose content a new one is compared with.
const CUTOFF_LIMIT: usize = 2;

impl StepSite<'_, '_> {
    /// Runs `attempt` until no source changes under it.
    pub(crate) fn with_stable_sources(
        &self,
        mut attempt: impl FnMut(u32) -> Result<Obtained, Interruption>,
    ) -> Result<Obtained, StepError> {
        for round in 0.. {
            match attempt(round) {
                Ok(obtained) => return Ok(obtained),
                Err(Interruption::Failed(error)) => return Err(error),
                Err(Interruption::Changed(path)) if round + 1 == CHANGE_LIMIT => {
                    return Err(StepError::Unstable { path });
                }
                Err(Interruption::Changed(path)) => {
                    self.running
                        .status(format!("{} changed while it was copied: keyed again", path.display()));
                }
            }
        }
        unreachable!("the last round returns")
    }

    /// The layer of the step with these inputs. `make` fills a draft; it isn't called where a result is known.
    pub(crate) fn obtain(
        &self,
        inputs: StepInputs,
        secrets: &[(String, Vec<u8>)],
        make: Make<'_>,
    ) -> Result<Obtained, Interruption> {
        let use_cache = self.executor.request.cache == CachePolicy::Use;
        let _lock = if use_cache { Some(self.lock(&inputs.step_key)?) } else { None };
        // Without a look at any layer: found when the parents were cut off and are the very same.
        let mut content_key = self.stack_key(&inputs);
        if use_cache {
            if let Some(record) = self.find_step(&inputs.step_key)? {
                self.note_other_secrets(&record, secrets);
                return Ok(self.cached(&record));
            }
            let mut found = self.find_content(&content_key)?;
            if found.is_none()
                && let Some(by_content) = self.content_key(&inputs)?
            {
                content_key = by_content;
                found = self.find_content(&content_key)?;
            }
            if let Some(record) = found {
                self.note_other_secrets(&record, secrets);
                let renewed = StepRecord {
                    step_key: inputs.step_key,
                    content_key: Some(content_key),
                    place: self.place(),
                    inputs: inputs.root,
                    ..record
                };
                let obtained = self.cached(&renewed);
                self.put(renewed, inputs)?;
                return Ok(obtained);
            }
        }
        let earlier = self.earlier(&inputs, use_cache)?;
        let draft = self.store_call("make a draft", |store| Ok(store.draft()?))?;
        let start_ns = coarse_now_ns();
        if let Err(interruption) = make(&draft, &earlier) {
            return Err(self.keep_failed(draft, interruption));
        }
        let window = Some(RunWindow { start_ns, end_ns: sys::file::Timestamp::now().as_nanos() });
        self.settle(draft, window, &earlier, content_key, secrets, inputs)
    }

    /// Makes a layer of the draft, or takes the earlier one that is the same, and records it.
    fn settle(
        &self,
        draft: LayerDraft,
        window: Option<RunWindow>,
        earlier: &[StepRecord],
        content_key: ContentKey,
        secrets: &[(String, Vec<u8>)],
        inputs: StepInputs,
    ) -> Result<Obtained, Interruption> {
        let record = StepRecord {
            step_key: inputs.step_key,
            content_key: Some(content_key),
            shape: inputs.shape,
            layer: draft.id(),
            created: self.now(),
            window,
            place: self.place(),
            inputs: inputs.root,
            secrets: secrets.iter().map(|(id, value)| (id.clone(), secret_hash(value, None))).collect(),
        };
        let record = match self.same_earlier(&draft, window, earlier, &inputs)? {
            Some(same) => {
                self.running.same_as_before();
                StepRecord { layer: same.layer, created: same.created, window: same.window, ..record }
            }
            None => {
                let facts = LayerFacts {
                    created: record.created.clone(),
                    origin: LayerOrigin::Step(self.step.text.clone()),
                    diff_id: None,
                };
                let layer = self.store_call("commit the layer", |_| Ok(draft.commit(facts)?))?;
                self.hold(layer.id())?;
                record
            }
        };
        let obtained = Obtained { cached: false, ..self.cached(&record) };
        self.put(record, inputs)?;
        Ok(obtained)
    }

    /// Early cut-off: the earlier result of this very step, if it has the same content. COPY, ADD and WORKDIR can't
    /// make the same of other inputs; only RUN can.
    fn same_earlier(
        &self,
        draft: &LayerDraft,
        window: Option<RunWindow>,
        earlier: &[StepRecord],
        inputs: &StepInputs,
    ) -> Result<Option<StepRecord>, StepError> {
        let place = self.place();
        let runs = matches!(self.step.expanded, ExpandedStep::Run(_));
        let is_this_step = |record: &&StepRecord| {
            let same_place = record.place.build == place.build
                && record.place.stage == place.stage
                && record.place.position == place.position;
            (same_place || record.place.text == place.text) && (runs || record.shape == inputs.shape)
        };
        let mut fresh = None;
        for record in earlier.iter().filter(is_this_step).take(CUTOFF_LIMIT) {
            if self.executor.lease().hold(&[record.layer]).is_err() {
                continue;
            }
            let Ok(layer) = self.executor.services.store.layer(record.layer) else { continue };
            let fresh = match fresh {
                Some(fresh) => fresh,
                None => *fresh.insert(self.store_call("compare the layer with the earlier one", |_| {
                    Ok(store::layer::content_id(draft.tree_fd(), window)?)
                })?),
            };
            if self.content_id(&layer, record.window)? == fresh {
                return Ok(Some(record.clone()));
            }
        }
        Ok(None)
    }

    fn content_id(&self, layer: &Layer, window: Option<RunWindow>) -> Result<store::ContentId, StepError> {
        self.store_call("read a layer", |store| Ok(store.content_id(layer, window)?))
    }

    /// The content key with the parents named by their layers' ids.
    fn stack_key(&self, inputs: &StepInputs) -> ContentKey {
        let layers: Vec<LayerContent> =
            self.below.layers.iter().map(|layer| LayerContent::Stored(layer.id)).collect();
        inputs.content_key(&layers)
    }

    /// The content key, where some record has these inputs under another parent: else nothing can be found by it.
    fn content_key(&self, inputs: &StepInputs) -> Result<Option<ContentKey>, StepError> {
        if !self.store_call("look a step up", |store| Ok(store.has_shape(&inputs.shape)?))? {
            return Ok(None);
        }
        let mut layers = Vec::with_capacity(self.below.layers.len());
        for layer in &self.below.layers {
            layers.push(match layer.origin {
                LayerSource::Image(diff_id) => LayerContent::Diff(diff_id),
                LayerSource::Step { window } => {
                    let layer = self.store_call("read a layer", |store| Ok(store.layer(layer.id)?))?;
                    LayerContent::Built(self.content_id(&layer, window)?)
                }
            });
        }
        Ok(Some(inputs.content_key(&layers)))
    }

    /// Earlier results of the step, after the cause of the miss was told.
    fn earlier(&self, inputs: &StepInputs, use_cache: bool) -> Result<Vec<StepRecord>, StepError> {
        let place = self.place();
        let earlier = self.store_call("look a step up", |store| Ok(store.earlier_results(&place)?))?;
        let store = self.executor.services.store;
        if use_cache {
            // Another step of the same stage says nothing of this one, which then is new.
            let comparable: Vec<StepRecord> = earlier
                .iter()
                .filter(|record| record.place.position == place.position || record.place.text == place.text)
                .cloned()
                .collect();
            let explanation =
                cause::explain(inputs, &comparable, &mut |id| store.input_node(id).ok().flatten());
            if explanation.causes.first() != Some(&Cause::NeverBuilt) {
                self.running.missed(explanation.to_string());
            }
        }
        Ok(earlier)
    }

    fn lock(&self, key: &StepKey) -> Result<StepLock, StepError> {
        let mut told = false;
        loop {
            if let Some(lock) = self.store_call("lock the step", |store| Ok(store.try_lock_step(key)?))? {
                return Ok(lock);
            }
            if !told {
                told = true;
                self.running.waiting();
            }
            if self.executor.stop().is_cancelled() {
                return Err(StepError::Stopped);
            }
            std::thread::sleep(LOCK_POLL);
        }
    }

    fn find_step(&self, key: &StepKey) -> Result<Option<StepRecord>, StepError> {
        self.store_call("look a step up", |store| Ok(store.find_step(key, &mut self.executor.lease())?))
    }

    fn find_content(&self, key: &ContentKey) -> Result<Option<StepRecord>, StepError> {
        self.store_call("look a step up", |store| Ok(store.find_content(key, &mut self.executor.lease())?))
    }

    fn hold(&self, layer: LayerId) -> Result<(), StepError> {
        self.store_call("hold the layer", |_| Ok(self.executor.lease().hold(&[layer])?))
    }

    fn put(&self, record: StepRecord, inputs: StepInputs) -> Result<(), StepError> {
        self.store_call("record the step", |store| Ok(store.put_step(record, inputs.into_nodes())?))
    }

    fn cached(&self, record: &StepRecord) -> Obtained {
        Obtained {
            layer: record.layer,
            step_key: record.step_key,
            created: self.clamp(&record.created),
            window: record.window,
            cached: true,
        }
    }

    /// What a failed command wrote is kept for a look at it; what was half copied isn't.
    fn keep_failed(&self, draft: LayerDraft, interruption: Interruption) -> Interruption {
        let Interruption::Failed(StepError::Process(mut failure)) = interruption else { return interruption };
        let name = format!("{}-{}", self.executor.log.id(), self.running.id());
        match self.executor.services.store.keep_failed(draft, &name) {
            Ok(path) => failure.kept = Some(path),
            Err(error) => {
                self.executor.progress.note(format!("what the failed step wrote is not kept: {error}"));
            }
        }
        Interruption::Failed(StepError::Process(failure))
    }

    fn note_other_secrets(&self, record: &StepRecord, secrets: &[(String, Vec<u8>)]) {
        for (id, value) in secrets {
            let known = record.secrets.iter().find(|(known, _)| known == id);
            if known.is_none_or(|(_, hash)| secret_hash(value, Some(hash)) != *hash) {
                self.executor.progress.note(format!(
                    "{}: cached although the secret `{id}` has another value than when it ran",
                    self.step.label
                ));
            }
        }
    }

    /// The earlier result of the step at this very place.
    pub(crate) fn earlier_here<'r>(&self, earlier: &'r [StepRecord]) -> Option<&'r StepRecord> {
        let place = self.place();
        earlier.iter().find(|record| {
            record.place.build == place.build
                && record.place.stage == place.stage
                && record.place.position == place.position
        })
    }

    fn place(&self) -> StepPlace {
        let request = self.executor.request;
        let file = std::path::Path::new(request.dockerfile.name());
        let file = file.file_name().map_or_else(|| "-".into(), |name| name.to_string_lossy());
        let project = match (request.tags.first(), &request.context) {
            (Some(tag), _) => tag.familiar_repository(),
            (None, Some(folder)) => std::path::absolute(folder)
                .ok()
                .and_then(|folder| Some(folder.file_name()?.to_string_lossy().into_owned()))
                .unwrap_or_default(),
            (None, None) => String::new(),
        };
        let target = request.target.as_deref().unwrap_or_default();
        StepPlace {
            build: format!("{project} {file} {target}"),
            stage: self.step.stage.shown_name().to_owned(),
            position: self.step.position,
            text: self.step.text.clone(),
        }
    }

    /// How messages name a source.
    pub(crate) fn root_name(&self, from: &ContentSource) -> String {
        match from {
            ContentSource::Context => "the build context".to_owned(),
            ContentSource::Scratch => "`scratch`, which is empty".to_owned(),
            ContentSource::Stage(id) => {
                format!("the stage `{}`", self.executor.graph.stage(*id).shown_name())
            }
            ContentSource::NamedContext(name) => format!("the build context `{name}`"),
            ContentSource::Image(image) => format!("the image `{}`", image.reference.familiar()),
        }
    }

    fn now(&self) -> String {
        let now = jiff::Timestamp::now();
        match self.executor.epoch.and_then(|epoch| jiff::Timestamp::from_second(epoch).ok()) {
            Some(epoch) => epoch.min(now).to_string(),
            None => now.to_string(),
        }
    }

    /// A time of the record, not later than `SOURCE_DATE_EPOCH`.
    fn clamp(&self, created: &str) -> String {
        let epoch = self.executor.epoch.and_then(|epoch| jiff::Timestamp::from_second(epoch).ok());
        match (epoch, created.parse::<jiff::Timestamp>()) {
            (Some(epoch), Ok(created)) if created > epoch => epoch.to_string(),
            _ => created.to_owned(),
        }
    }

    pub(crate) fn store_call<T>(
        &self,
        op: &'static str,
        call: impl FnOnce(&store::Store) -> Result<T, StoreFailure>,
    ) -> Result<T, StepError> {
        call(self.executor.services.store).map_err(|source| StepError::Store { op, source })
    }
}

/// The clock that file systems stamp files with: never ahead of the time of a file written from now on.
fn coarse_now_ns() -> i64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::RealtimeCoarse);
    now.tv_sec.saturating_mul(1_000_000_000).saturating_add(now.tv_nsec)
}

/// Sixteen bytes of salt and sixteen of a hash of salt and value: says whether a secret is another one, and nothing
/// when two records are compared. With `like`, the salt of that hash.
fn secret_hash(value: &[u8], like: Option<&[u8; 32]>) -> [u8; 32] {
    let mut hash = [0_u8; 32];
    match like {
        Some(like) => hash[..16].copy_from_slice(&like[..16]),
        None => {
            // An unset salt would only make equal secrets look equal.
            let _ = rustix::rand::getrandom(&mut hash[..16], rustix::rand::GetRandomFlags::empty());
        }
    }
    let mut hasher = blake3::Hasher::new_derive_key("calque 2026: the value of a secret");
    hasher.update(&hash[..16]);
    hasher.update(value);
    hash[16..].copy_from_slice(&hasher.finalize().as_bytes()[..16]);
    hash
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secrets_hash_is_salted_and_still_tells_another_value() {
        let hash = secret_hash(b"hunter2", None);
        assert_eq!(secret_hash(b"hunter2", Some(&hash)), hash);
        assert_ne!(secret_hash(b"hunter3", Some(&hash)), hash);
        assert_ne!(
            secret_hash(b"hunter2", None),
            hash,
            "two records don't tell that they saw the same secret"
        );
    }
}
