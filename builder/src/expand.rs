//! From an instruction with variables to a step without.

use oci::{Healthcheck, RunConfig};
use parser::{
    AddInstruction, ArgInstruction, CommandLine, CopyInstruction, CopyPaths, CopySource,
    HealthcheckInstruction, Heredoc, InstructionKind, KeyValue, ParseError, RunInstruction, RunNetwork,
    RunSecurity, Span, Word,
};

use crate::NetworkMode;
use crate::chmod::parse_chmod;
use crate::event::BuildWarning;
use crate::expanded::{ConfigChange, CopySourceStep, CopyStep, ExpandedStep, RunStep, Script, WorkdirStep};
use crate::fault::{fault, unsupported, word_fault};
use crate::fetch::RemoteSource;
use crate::from_line::is_plain_use;
use crate::graph::{BuildGraph, ContentSource, Step};
use crate::history;
use crate::metadata::{is_signal, parse_ports, with_shell};
use crate::scope::{Scope, looks_secret, proxy_env};
use crate::stage_state::Expansion;

/// The host name within RUN where `BUILDKIT_SANDBOX_HOSTNAME` says nothing.
const HOSTNAME: &str = "buildkitsandbox";

/// Expands one step.
pub(crate) struct Expander<'a> {
    pub(crate) graph: &'a BuildGraph,
    pub(crate) step: &'a Step,
    pub(crate) config: &'a RunConfig,
    scope: &'a Scope,
    warnings: Vec<BuildWarning>,
}

impl<'a> Expander<'a> {
    pub(crate) fn new(
        graph: &'a BuildGraph,
        step: &'a Step,
        config: &'a RunConfig,
        scope: &'a Scope,
    ) -> Self {
        Self { graph, step, config, scope, warnings: Vec::new() }
    }

    pub(crate) fn expand(mut self) -> Result<Expansion, ParseError> {
        let step = self.step();
        // A trigger of an image has its places in a text of its own: what the user can see is the FROM.
        let step = step.map_err(|error| ParseError { span: self.step.locate(error.span), ..error })?;
        let warnings = self
            .warnings
            .into_iter()
            .map(|warning| BuildWarning { span: warning.span.map(|span| self.step.locate(span)), ..warning })
            .filter(|warning| !self.graph.skips(warning.code, warning.span))
            .collect();
        Ok(Expansion { step, warnings })
    }

    fn step(&mut self) -> Result<ExpandedStep, ParseError> {
        let instruction = self.step.instruction();
        Ok(ExpandedStep::Config(match &instruction.kind {
            InstructionKind::Run(run) => return self.run(run).map(|run| ExpandedStep::Run(Box::new(run))),
            InstructionKind::Copy(copy) => {
                return self.copy(copy).map(|copy| ExpandedStep::Copy(Box::new(copy)));
            }
            InstructionKind::Add(add) => return self.add(add).map(|add| ExpandedStep::Add(Box::new(add))),
            InstructionKind::Workdir(path) => return self.workdir(path).map(ExpandedStep::Workdir),
            InstructionKind::Arg(arg) => ConfigChange::Arg(self.arg(arg)?),
            InstructionKind::Env(pairs) => {
                let pairs = self.pairs("ENV", pairs)?;
                for (key, _) in &pairs {
                    self.warn_of_secret("ENV", key, instruction.span);
                }
                ConfigChange::Env(pairs)
            }
            InstructionKind::Label(pairs) => ConfigChange::Label(self.pairs("LABEL", pairs)?),
            InstructionKind::User(user) => ConfigChange::User(self.word(user)?),
            InstructionKind::Cmd(command) => ConfigChange::Cmd(self.argv(command)),
            InstructionKind::Entrypoint(command) => ConfigChange::Entrypoint(self.argv(command)),
            InstructionKind::Shell(argv) => ConfigChange::Shell(argv.clone()),
            InstructionKind::Expose(words) => ConfigChange::Expose(self.expose(words)?),
            InstructionKind::Volume(words) => ConfigChange::Volume(self.volume(words)?),
            InstructionKind::StopSignal(word) => {
                let signal = self.word(word)?;
                if !is_signal(&signal) {
                    let help = "a name such as `SIGTERM` or a number from 1 to 64".to_owned();
                    let message = format!("invalid signal: `{signal}`");
                    return Err(fault("bad-signal", message, word.span, "not a signal", Some(help)));
                }
                ConfigChange::StopSignal(signal)
            }
            InstructionKind::Healthcheck(check) => ConfigChange::Healthcheck(healthcheck(check)),
            InstructionKind::Onbuild(onbuild) => ConfigChange::Onbuild(onbuild.text.clone()),
            InstructionKind::Maintainer(author) => ConfigChange::Maintainer(author.clone()),
            _ => {
                return Err(unsupported(&format!("`{}`", instruction.keyword.value), instruction.span, None));
            }
        }))
    }

    /// The value of a word in the scope before the step.
    pub(crate) fn word(&mut self, word: &Word) -> Result<String, ParseError> {
        let mut unset = Vec::new();
        let mut lookup = |name: &str| lookup(self.scope, name, &mut unset);
        let value = word.expand(self.graph.escape(), &mut lookup);
        let value = value.map_err(|error| word_fault(&error, word.span))?;
        self.warn_of_unset(&unset, &word.raw, word.span);
        Ok(value)
    }

    pub(crate) fn optional(&mut self, word: Option<&Word>) -> Result<Option<String>, ParseError> {
        word.map(|word| self.word(word)).transpose()
    }

    fn warn_of_unset(&mut self, unset: &[String], raw: &str, span: Span) {
        for name in unset.iter().filter(|name| is_plain_use(raw, name) && !self.scope.is_declared(name)) {
            let meant = self.scope.suggestion(name).map(|known| format!(" (did you mean ${known}?)"));
            let message = format!("Usage of undefined variable '${name}'{}", meant.unwrap_or_default());
            self.warnings.push(BuildWarning { code: "UndefinedVar", message, span: Some(span) });
        }
    }

    fn warn_of_secret(&mut self, instruction: &str, name: &str, span: Span) {
        if looks_secret(name) {
            let message =
                format!("Do not use ARG or ENV instructions for sensitive data ({instruction} \"{name}\")");
            self.warnings.push(BuildWarning { code: "SecretsUsedInArgOrEnv", message, span: Some(span) });
        }
    }

    fn pairs(&mut self, instruction: &str, pairs: &[KeyValue]) -> Result<Vec<(String, String)>, ParseError> {
        let mut out = Vec::with_capacity(pairs.len());
        for pair in pairs {
            let key = self.word(&pair.key)?;
            if key.is_empty() {
                let message = format!("{instruction} names can not be blank");
                return Err(fault("blank-name", message, pair.key.span, "expands to nothing", None));
            }
            out.push((key, self.word(&pair.value)?));
        }
        Ok(out)
    }

    /// Unlike all other words of one instruction, a default sees the ARGs before it on the line (BuildKit).
    fn arg(&mut self, arg: &ArgInstruction) -> Result<Vec<(String, Option<String>)>, ParseError> {
        let global = self.graph.global();
        let mut scope = self.scope.clone();
        let mut out = Vec::with_capacity(arg.args.len());
        for declaration in &arg.args {
            let name = declaration.name.value.as_str();
            self.warn_of_secret("ARG", name, declaration.name.span);
            // A default that a build argument replaces isn't looked at.
            let default = match &declaration.default {
                Some(word) if global.build_arg(name).is_none() => {
                    let mut unset = Vec::new();
                    let value =
                        word.expand(self.graph.escape(), &mut |name| lookup(&scope, name, &mut unset));
                    let value = value.map_err(|error| word_fault(&error, word.span))?;
                    unset.retain(|name| !scope.is_declared(name));
                    self.warn_of_unset(&unset, &word.raw, word.span);
                    Some(value)
                }
                _ => None,
            };
            let value = global.argument(name, default);
            scope.declare(name, value.as_deref());
            out.push((name.to_owned(), value));
        }
        Ok(out)
    }

    fn argv(&self, command: &CommandLine) -> Vec<String> {
        match command {
            CommandLine::Exec(argv) => argv.clone(),
            CommandLine::Shell(text) => with_shell(self.config, text.clone()),
        }
    }

    fn expose(&mut self, words: &[Word]) -> Result<Vec<String>, ParseError> {
        let mut ports = Vec::new();
        for word in words {
            let mut unset = Vec::new();
            let mut lookup = |name: &str| lookup(self.scope, name, &mut unset);
            let expanded = word.expand_words(self.graph.escape(), &mut lookup);
            let expanded = expanded.map_err(|error| word_fault(&error, word.span))?;
            self.warn_of_unset(&unset, &word.raw, word.span);
            for text in expanded {
                self.warn_of_port(&text, word.span);
                let parsed = parse_ports(&text);
                ports.extend(
                    parsed.map_err(|message| fault("bad-port", message, word.span, "not a port", None))?,
                );
            }
        }
        Ok(ports)
    }

    fn warn_of_port(&mut self, text: &str, span: Span) {
        let protocol = text.split_once('/').map_or("", |(_, protocol)| protocol);
        if protocol != protocol.to_lowercase() {
            let message = format!("Defined protocol '{protocol}' in EXPOSE instruction should be lowercase");
            self.warnings.push(BuildWarning { code: "ExposeProtoCasing", message, span: Some(span) });
        }
        if text.contains(':') {
            let message = format!(
                "EXPOSE instruction should not define an IP address or host-port mapping, found '{text}'"
            );
            self.warnings.push(BuildWarning { code: "ExposeInvalidFormat", message, span: Some(span) });
        }
    }

    fn volume(&mut self, words: &[Word]) -> Result<Vec<String>, ParseError> {
        let mut paths = Vec::with_capacity(words.len());
        for word in words {
            let path = self.word(word)?;
            if path.is_empty() {
                let message = "VOLUME specified can not be an empty string";
                return Err(fault("blank-volume", message, word.span, "expands to nothing", None));
            }
            paths.push(path);
        }
        Ok(paths)
    }

    fn workdir(&mut self, word: &Word) -> Result<WorkdirStep, ParseError> {
        let path = self.word(word)?;
        if path.is_empty() {
            let message = "WORKDIR specified can not be an empty string";
            return Err(fault("blank-workdir", message, word.span, "expands to nothing", None));
        }
        let path = self.absolute(&path);
        Ok(WorkdirStep { history: format!("WORKDIR {path}"), path, user: self.config.user.clone() })
    }

    /// The working directory before the step.
    fn current_dir(&self) -> &str {
        if self.config.working_dir.is_empty() { "/" } else { &self.config.working_dir }
    }

    /// `path` from the working directory, absolute and clean.
    pub(crate) fn absolute(&self, path: &str) -> String {
        clean(&format!("{}/{path}", if path.starts_with('/') { "" } else { self.current_dir() }))
    }

    fn run(&mut self, run: &RunInstruction) -> Result<RunStep, ParseError> {
        if let Some(security) = run.security.as_ref().filter(|it| it.value == RunSecurity::Insecure) {
            return Err(unsupported("`RUN --security=insecure`", security.span, None));
        }
        if let Some(device) = run.devices.first() {
            return Err(unsupported("`RUN --device`", device.span, None));
        }
        let mounts = self.mounts(run)?;
        let (argv, script) = self.command(run);
        if argv.is_empty() {
            let span = self.step.instruction().span;
            return Err(fault("empty-command", "RUN has no command", span, "nothing to run", None));
        }
        let network = match run.network.as_ref().map(|network| network.value) {
            None | Some(RunNetwork::Default) => self.graph.options().network,
            Some(RunNetwork::None) => NetworkMode::None,
            Some(RunNetwork::Host) => NetworkMode::Host,
        };
        let env = self.scope.variables().clone();
        let mut proxy_env = proxy_env(&self.graph.options().build_args);
        proxy_env.retain(|name, _| !env.contains_key(name));
        let hostname =
            self.graph.global().build_arg("BUILDKIT_SANDBOX_HOSTNAME").filter(|name| !name.is_empty());
        let history = format!("RUN {}{}", self.scope.history_prefix(), argv.join(" "));
        Ok(RunStep {
            argv,
            script,
            env,
            proxy_env,
            workdir: clean(self.current_dir()),
            user: self.config.user.clone(),
            mounts,
            network,
            hostname: hostname.unwrap_or(HOSTNAME).to_owned(),
            extra_hosts: self.graph.options().extra_hosts.clone(),
            history: history::executed(&history),
        })
    }

    /// What RUN executes. A heredoc that stands alone is the script itself; several, or one beside a command, are put
    /// together again for the shell to read.
    fn command(&self, run: &RunInstruction) -> (Vec<String>, Option<Script>) {
        let text = match &run.command {
            CommandLine::Exec(argv) => return (argv.clone(), None),
            CommandLine::Shell(text) => text,
        };
        match run.heredocs.as_slice() {
            [] => (with_shell(self.config, text.clone()), None),
            [heredoc] if stands_alone(text, heredoc) => {
                if heredoc.body.starts_with("#!") {
                    let path = format!("/dev/pipes/{}", heredoc.name);
                    (vec![path.clone()], Some(Script { path, body: heredoc.body.clone() }))
                } else {
                    (with_shell(self.config, heredoc.body.clone()), None)
                }
            }
            heredocs => {
                let mut whole = text.clone();
                for heredoc in heredocs {
                    whole.push('\n');
                    whole.push_str(&heredoc.body);
                    if !heredoc.body.is_empty() && !heredoc.body.ends_with('\n') {
                        whole.push('\n');
                    }
                    whole.push_str(&heredoc.name);
                }
                (with_shell(self.config, whole), None)
            }
        }
    }

    fn copy(&mut self, copy: &CopyInstruction) -> Result<CopyStep, ParseError> {
        let from = self.step.source().cloned().unwrap_or(ContentSource::Context);
        let flags = CopyFlags {
            keyword: "COPY",
            chown: copy.chown.as_ref(),
            chmod: copy.chmod.as_ref(),
            link: copy.link,
            parents: copy.parents,
            exclude: &copy.exclude,
        };
        let step = self.copy_step(&copy.paths, flags, from, false)?;
        for source in &step.sources {
            if let CopySourceStep::Path { text, span } = source
                && let Some(kind) = remote(text)
            {
                let message = format!("source can't be a {kind} for COPY");
                return Err(fault("remote-source", message, *span, "", Some("use ADD".to_owned())));
            }
        }
        Ok(step)
    }

    fn add(&mut self, add: &AddInstruction) -> Result<CopyStep, ParseError> {
        let flags = CopyFlags {
            keyword: "ADD",
            chown: add.chown.as_ref(),
            chmod: add.chmod.as_ref(),
            link: add.link,
            parents: false,
            exclude: &add.exclude,
        };
        let mut step =
            self.copy_step(&add.paths, flags, ContentSource::Context, add.unpack.unwrap_or(true))?;
        step.unpack_remote = add.unpack.unwrap_or(false);
        for source in &mut step.sources {
            let CopySourceStep::Path { text, span } = source else { continue };
            let parsed = RemoteSource::parse(text).map_err(|reason| {
                let message = format!("`{}` can't be added: {reason}", shown_source(text));
                fault("bad-remote", message, *span, "", None)
            })?;
            if let Some(remote) = parsed {
                *source = CopySourceStep::Remote { source: remote, text: text.clone(), span: *span };
            }
        }
        if let Some(word) = &add.checksum {
            let checksum = self.word(word)?;
            if step.sources.len() > 1 {
                let message = "checksum can't be specified for multiple sources";
                return Err(fault("checksum-of-many", message, word.span, "", None));
            }
            let bad = |message| fault("bad-checksum", message, word.span, "", None);
            match step.sources.first_mut() {
                Some(CopySourceStep::Remote { source: RemoteSource::Http(_), .. }) => {
                    let digits = checksum.strip_prefix("sha256:").filter(|digits| {
                        digits.len() == 64 && digits.bytes().all(|byte| byte.is_ascii_hexdigit())
                    });
                    let digits = digits.ok_or_else(|| {
                        bad(format!("`{checksum}` is no checksum: `sha256:` and 64 hexadecimal digits"))
                    })?;
                    step.checksum = Some(digits.to_ascii_lowercase());
                }
                Some(CopySourceStep::Remote { source: RemoteSource::Git(git), .. }) => {
                    crate::fetch::check_commit(&checksum).map_err(bad)?;
                    git.commit = Some(checksum);
                }
                _ => {
                    let message = "checksum requires HTTP(S) or Git sources";
                    return Err(fault("checksum-of-local", message, word.span, "the source is local", None));
                }
            }
        }
        if let Some(keep) = add.keep_git_dir {
            let mut has_git = false;
            for source in &mut step.sources {
                if let CopySourceStep::Remote { source: RemoteSource::Git(git), .. } = source {
                    git.keep_git_dir = keep;
                    has_git = true;
                }
            }
            if !has_git {
                let span = self.step.instruction().span;
                let message = "`--keep-git-dir` requires a Git source";
                return Err(fault("keep-git-dir-of-local", message, span, "the source is local", None));
            }
        }
        Ok(step)
    }

    fn copy_step(
        &mut self,
        paths: &CopyPaths,
        flags: CopyFlags<'_>,
        from: ContentSource,
        unpack: bool,
    ) -> Result<CopyStep, ParseError> {
        let chown = self.optional(flags.chown)?.filter(|chown| !chown.is_empty());
        let chmod_text = self.optional(flags.chmod)?.filter(|chmod| !chmod.is_empty());
        let chmod = match (&chmod_text, flags.chmod) {
            (Some(text), Some(word)) => Some(parse_chmod(text).map_err(|message| {
                let help = "an octal number such as `0644`, or `u=rwX,go=rX`".to_owned();
                fault("bad-chmod", message, word.span, "not a mode", Some(help))
            })?),
            _ => None,
        };
        if let (true, Some(owner), Some(word)) = (flags.link, &chown, flags.chown)
            && !owner.split(':').all(|id| id.bytes().all(|byte| byte.is_ascii_digit()))
        {
            let help =
                "use numbers: with `--link` the layer is made without the image's /etc/passwd".to_owned();
            let message = format!("`--chown={owner}` can't be used with `--link`: it names a user or group");
            return Err(fault("named-owner-of-link", message, word.span, "a name", Some(help)));
        }

        let mut sources = Vec::with_capacity(paths.sources.len());
        for source in &paths.sources {
            sources.push(match source {
                CopySource::Path(word) => CopySourceStep::Path { text: self.word(word)?, span: word.span },
                CopySource::Heredoc(heredoc) => CopySourceStep::Document {
                    name: heredoc.name.clone(),
                    body: self.document(heredoc)?,
                    span: heredoc.span,
                },
            });
        }
        // Paths are copied before documents (BuildKit).
        sources.sort_by_key(|source| matches!(source, CopySourceStep::Document { .. }));

        let target_text = self.word(&paths.target)?;
        let is_folder = ["", ".", "./"].contains(&target_text.as_str())
            || target_text.ends_with('/')
            || target_text.ends_with("/.")
            || target_text.ends_with("/..")
            || target_text == "..";
        let mut target = self.absolute(&target_text);
        if is_folder && !target.ends_with('/') {
            target.push('/');
        }
        if sources.len() > 1 && !is_folder {
            let keyword = flags.keyword;
            let message = format!(
                "when using {keyword} with more than one source file, the destination must be a directory and end with a `/`"
            );
            let help = Some(format!("write `{}/`", paths.target.raw));
            return Err(fault("several-into-file", message, paths.target.span, "must end with `/`", help));
        }

        let mut history = flags.keyword.to_owned();
        if flags.parents {
            history.push_str(" --parents");
        }
        if let Some(chown) = &chown {
            history.push_str(&format!(" --chown={chown}"));
        }
        if let Some(chmod) = &chmod_text {
            history.push_str(&format!(" --chmod={chmod}"));
        }
        for source in &sources {
            match source {
                CopySourceStep::Path { text, .. } | CopySourceStep::Remote { text, .. } => {
                    history.push_str(&format!(" {text}"));
                }
                CopySourceStep::Document { name, .. } => history.push_str(&format!(" <<{name}")),
            }
        }
        history.push_str(&format!(" {target_text}"));

        Ok(CopyStep {
            from,
            sources,
            target,
            chown,
            chmod,
            link: flags.link,
            parents: flags.parents,
            // Patterns are taken as they stand (BuildKit).
            exclude: flags.exclude.iter().map(|word| word.raw.clone()).collect(),
            unpack,
            unpack_remote: false,
            checksum: None,
            history: history::executed(&history),
        })
    }

    fn document(&mut self, heredoc: &Heredoc) -> Result<String, ParseError> {
        if !heredoc.expand {
            return Ok(heredoc.body.clone());
        }
        let mut unset = Vec::new();
        let body = parser::expand_heredoc(&heredoc.body, &mut |name| lookup(self.scope, name, &mut unset));
        let body = body.map_err(|error| word_fault(&error, heredoc.span))?;
        self.warn_of_unset(&unset, &heredoc.body, heredoc.span);
        Ok(body)
    }
}

struct CopyFlags<'a> {
    keyword: &'static str,
    chown: Option<&'a Word>,
    chmod: Option<&'a Word>,
    link: bool,
    parents: bool,
    exclude: &'a [Word],
}

fn lookup(scope: &Scope, name: &str, unset: &mut Vec<String>) -> Option<String> {
    let value = scope.get(name).map(str::to_owned);
    if value.is_none() && !unset.iter().any(|known| known == name) {
        unset.push(name.to_owned());
    }
    value
}

fn healthcheck(check: &HealthcheckInstruction) -> Healthcheck {
    let prefixed = |kind: &str, rest: &[String]| {
        Some(std::iter::once(kind.to_owned()).chain(rest.iter().cloned()).collect())
    };
    match check {
        HealthcheckInstruction::None => Healthcheck { test: prefixed("NONE", &[]), ..Healthcheck::default() },
        HealthcheckInstruction::Command {
            command,
            interval_ns,
            timeout_ns,
            start_period_ns,
            start_interval_ns,
            retries,
        } => Healthcheck {
            test: match command {
                CommandLine::Exec(argv) => prefixed("CMD", argv),
                CommandLine::Shell(text) => prefixed("CMD-SHELL", std::slice::from_ref(text)),
            },
            interval: interval_ns.unwrap_or_default(),
            timeout: timeout_ns.unwrap_or_default(),
            start_period: start_period_ns.unwrap_or_default(),
            start_interval: start_interval_ns.unwrap_or_default(),
            retries: retries.unwrap_or_default(),
        },
    }
}

/// Whether the line of a RUN is nothing but `<<EOF`.
fn stands_alone(line: &str, heredoc: &Heredoc) -> bool {
    let line = line.trim().trim_start_matches(|c: char| c.is_ascii_digit());
    let Some(word) = line.strip_prefix("<<") else { return false };
    let word: String = word
        .strip_prefix('-')
        .unwrap_or(word)
        .trim_start()
        .chars()
        .filter(|c| !"'\"\\".contains(*c))
        .collect();
    word == heredoc.name
}

/// What a source that isn't local is.
fn remote(source: &str) -> Option<&'static str> {
    let is_web = source.starts_with("http://") || source.starts_with("https://");
    let path = source.split(['#', '?']).next().unwrap_or_default();
    if is_web {
        return Some(if path.ends_with(".git") { "git repository" } else { "URL" });
    }
    let is_git = source.starts_with("git://")
        || source.starts_with("ssh://")
        || (source.starts_with("git@") && source.contains(':'));
    is_git.then_some("git repository")
}

/// An address without what may be a secret in it.
fn shown_source(text: &str) -> String {
    let text = text.split(['?', '#']).next().unwrap_or_default();
    match text.split_once("://") {
        Some((scheme, rest)) if rest.split('/').next().unwrap_or_default().contains('@') => {
            let (_, host) = rest.split_once('@').unwrap_or_default();
            format!("{scheme}://...@{host}")
        }
        _ => text.to_owned(),
    }
}

/// An absolute path without `.`, `..` and doubled slashes; `..` stops at the root.
pub(crate) fn clean(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}
