//! What the names in `FROM`, `--from=` and `from=` stand for.

use std::collections::BTreeSet;

use oci::{Platform, Reference};
use parser::{Escape, Instruction, InstructionKind, ParseError, RunMountKind, Span, Spanned, Word, nearest};

use crate::fault::{fault, word_fault};
use crate::from_line::is_plain_use;
use crate::graph::{Base, ContentSource, ImageSource, Origin, StageId, Step};
use crate::scope::GlobalScope;

/// All names that an instruction can mean.
pub(crate) struct Names<'a> {
    stages: Vec<Option<&'a str>>,
    contexts: &'a BTreeSet<String>,
    /// Of images that `--from` names.
    platform: &'a Platform,
    /// What variables in `--from` are.
    global: &'a GlobalScope,
    escape: Escape,
}

impl<'a> Names<'a> {
    pub(crate) fn new(
        stages: Vec<Option<&'a str>>,
        contexts: &'a BTreeSet<String>,
        platform: &'a Platform,
        global: &'a GlobalScope,
        escape: Escape,
    ) -> Self {
        Self { stages, contexts, platform, global, escape }
    }

    /// The named context that `name` stands for, as it was given.
    pub(crate) fn context(&self, name: &str) -> Option<&'a str> {
        if ["scratch", "context"].iter().any(|reserved| name.eq_ignore_ascii_case(reserved)) {
            return None;
        }
        let wanted = normal_name(name);
        self.contexts.iter().map(String::as_str).find(|context| normal_name(context) == wanted)
    }

    /// The last stage of this name before `at`: where names are doubled, the last one wins.
    fn earlier_stage(&self, at: StageId, name: &str) -> Option<StageId> {
        let is_it = |stage: &Option<&str>| stage.is_some_and(|stage| stage.eq_ignore_ascii_case(name));
        self.stages[..at.index()].iter().rposition(is_it).map(StageId::new)
    }

    fn is_later_stage(&self, at: StageId, name: &str) -> bool {
        self.stages[at.index() + 1..].iter().flatten().any(|stage| stage.eq_ignore_ascii_case(name))
    }

    fn is_own_name(&self, at: StageId, name: &str) -> bool {
        self.stages[at.index()].is_some_and(|own| own.eq_ignore_ascii_case(name))
    }

    /// What messages call a stage.
    fn shown(&self, stage: StageId) -> String {
        self.stages[stage.index()].map_or_else(|| format!("stage-{stage}"), str::to_owned)
    }

    /// What `FROM name` starts stage `at` from.
    pub(crate) fn base(
        &self,
        at: StageId,
        name: &str,
        platform: &Platform,
        span: Span,
    ) -> Result<Base, ParseError> {
        if name == "scratch" {
            return Ok(Base::Scratch);
        }
        if let Some(context) = self.context(name) {
            return Ok(Base::NamedContext(context.to_owned()));
        }
        if let Some(stage) = self.earlier_stage(at, name) {
            return Ok(Base::Stage(stage));
        }
        self.image(at, name, platform, span).map(Base::Image)
    }

    /// The name in `--from`, its variables expanded: global arguments alone, so that the graph is known before
    /// anything runs (D-38).
    fn expanded(&self, from: &Spanned<String>) -> Result<String, ParseError> {
        let word = Word { raw: from.value.clone(), span: from.span };
        if !from.value.contains('$') {
            return Ok(word.raw);
        }
        let mut unset = None;
        let expanded = word.expand(self.escape, &mut |name| {
            let value = self.global.get(name).map(str::to_owned);
            if value.is_none() && is_plain_use(&from.value, name) {
                unset.get_or_insert_with(|| name.to_owned());
            }
            value
        });
        let name = expanded.map_err(|error| word_fault(&error, from.span))?;
        let Some(unset) = unset.or_else(|| name.is_empty().then(|| from.value.clone())) else {
            return Ok(name);
        };
        let help = match nearest(&unset, self.global.names()) {
            Some(known) => format!("did you mean `${{{known}}}`?"),
            None => {
                format!(
                    "`--from` sees global arguments only: write `ARG {unset}=...` before the first `FROM`"
                )
            }
        };
        let message = format!("`{unset}` is no global argument, so `--from` can't use it");
        Err(fault("variable-in-from", message, from.span, "not set", Some(help)))
    }

    /// What `--from=name` of stage `at` reads.
    pub(crate) fn source(&self, at: StageId, from: &Spanned<String>) -> Result<ContentSource, ParseError> {
        let (name, span) = (&*self.expanded(from)?, from.span);
        if !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_digit()) {
            return self.stage_by_index(at, name, span).map(ContentSource::Stage);
        }
        if let Some(context) = self.context(name) {
            return Ok(ContentSource::NamedContext(context.to_owned()));
        }
        if let Some(stage) = self.earlier_stage(at, name) {
            return Ok(ContentSource::Stage(stage));
        }
        if name == "scratch" {
            return Ok(ContentSource::Scratch);
        }
        if self.is_own_name(at, name) {
            return Err(circular(name, span));
        }
        if self.is_later_stage(at, name) {
            return Err(self.too_late(at, name, span));
        }
        self.image(at, name, self.platform, span).map(ContentSource::Image)
    }

    fn stage_by_index(&self, at: StageId, name: &str, span: Span) -> Result<StageId, ParseError> {
        let index = name.parse().unwrap_or(usize::MAX);
        if index == at.index() {
            return Err(circular(&self.shown(at), span));
        }
        if index > at.index() && index < self.stages.len() {
            return Err(self.too_late(at, &self.shown(StageId::new(index)), span));
        }
        if index >= self.stages.len() {
            let help = match at.index() {
                0 => "there is no earlier stage".to_owned(),
                1 => "the only earlier stage is 0".to_owned(),
                count => format!("the earlier stages are 0 to {}", count - 1),
            };
            return Err(fault(
                "unknown-stage",
                format!("invalid stage index {name}"),
                span,
                "no such stage",
                Some(help),
            ));
        }
        Ok(StageId::new(index))
    }

    fn too_late(&self, at: StageId, name: &str, span: Span) -> ParseError {
        let message = format!("stage `{name}` needs to be defined before current stage `{}`", self.shown(at));
        let help = format!("move the `FROM` of `{name}` up");
        fault("stage-defined-later", message, span, "defined later", Some(help))
    }

    fn image(
        &self,
        at: StageId,
        name: &str,
        platform: &Platform,
        span: Span,
    ) -> Result<ImageSource, ParseError> {
        let earlier = self.stages[..at.index()].iter().flatten().copied();
        let hint = if self.is_later_stage(at, name) {
            Some(format!("stage `{name}` is defined later: a stage needs to be defined before it is used"))
        } else {
            nearest(name, earlier).map(|stage| format!("did you mean the stage `{stage}`?"))
        };
        match name.parse::<Reference>() {
            Ok(reference) => Ok(ImageSource { reference, platform: platform.clone(), span, hint }),
            Err(error) => Err(fault("bad-reference", error.to_string(), span, "not an image's name", hint)),
        }
    }

    /// `instruction` as a step of stage `at`, its sources resolved. Faults go to `errors`; then there is no step.
    pub(crate) fn step(
        &self,
        at: StageId,
        instruction: Instruction,
        origin: Origin,
        errors: &mut Vec<ParseError>,
    ) -> Option<Step> {
        let known = errors.len();
        let mut resolve = |from: &Spanned<String>| match self.source(at, from) {
            Ok(source) => Some(source),
            Err(error) => {
                errors.push(match origin {
                    Origin::ImageTrigger(span) => ParseError {
                        message: format!(
                            "in the base image's `ONBUILD {}`: {}",
                            instruction.text, error.message
                        ),
                        span,
                        ..error
                    },
                    Origin::Stage | Origin::StageTrigger => error,
                });
                None
            }
        };
        let sources = match &instruction.kind {
            InstructionKind::Copy(copy) => match &copy.from {
                Some(from) => vec![resolve(from)],
                None => vec![Some(ContentSource::Context)],
            },
            InstructionKind::Add(_) => vec![Some(ContentSource::Context)],
            InstructionKind::Run(run) => run
                .mounts
                .iter()
                .map(|mount| match (mount.kind, &mount.from) {
                    (RunMountKind::Bind, None) => Some(ContentSource::Context),
                    (RunMountKind::Bind | RunMountKind::Cache, Some(from)) => resolve(from),
                    _ => None,
                })
                .collect(),
            _ => Vec::new(),
        };
        (errors.len() == known).then(|| Step::new(instruction, origin, sources))
    }
}

fn circular(name: &str, span: Span) -> ParseError {
    let message = format!("circular dependency detected on stage: `{name}`");
    fault("circular-dependency", message, span, "the stage itself", None)
}

/// One form for all ways to write an image's name; other names in lower case.
fn normal_name(name: &str) -> String {
    match name.parse::<Reference>() {
        Ok(reference) => {
            let familiar = reference.familiar();
            familiar.strip_suffix(":latest").unwrap_or(&familiar).to_owned()
        }
        Err(_) => name.to_ascii_lowercase(),
    }
}
