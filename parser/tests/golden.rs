//! `testdata/dockerfile/{ok,err}/<case>/`: a Dockerfile and what becomes of it. `CALQUE_BLESS=1` rewrites the
//! expectations.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use parser::*;
use testutil::assert_golden;

fn cases(kind: &str) -> Vec<PathBuf> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata/dockerfile").join(kind);
    let mut cases: Vec<PathBuf> = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    cases.sort();
    cases
}

fn read(case: &Path) -> (Source, Result<Parsed, ParseErrors>) {
    let bytes = fs::read(case.join("Dockerfile")).unwrap();
    match Source::from_bytes("Dockerfile", &bytes) {
        Ok(source) => {
            let parsed = parse(&source);
            (source, parsed)
        }
        Err(errors) => (Source::from_bytes_lossy("Dockerfile", &bytes), Err(errors)),
    }
}

#[test]
fn what_is_right_becomes_its_ir() {
    let cases = cases("ok");
    assert!(cases.len() >= 40, "only {} cases", cases.len());
    for case in cases {
        let (source, parsed) = read(&case);
        let parsed =
            parsed.unwrap_or_else(|errors| panic!("{}: {}", case.display(), errors_text(&source, &errors)));
        assert_golden(case.join("ir.txt"), &ir_text(&source, &parsed));
    }
}

#[test]
fn formatting_keeps_the_ir_and_settles_at_once() {
    for case in cases("ok") {
        let (source, parsed) = read(&case);
        let before = parsed.unwrap().dockerfile;
        let once = format::format(&source).unwrap_or_else(|error| panic!("{}: {error}", case.display()));
        let again = Source::new("Dockerfile", once.as_str());
        let after = parse(&again).unwrap().dockerfile;
        assert_eq!(format::meaning(&before), format::meaning(&after), "{}", case.display());
        assert_eq!(format::format(&again).unwrap(), once, "{}", case.display());
    }
}

#[test]
fn what_is_wrong_is_said_with_its_place() {
    let cases = cases("err");
    assert!(cases.len() >= 40, "only {} cases", cases.len());
    for case in cases {
        let (source, parsed) = read(&case);
        let errors = parsed.expect_err(&case.display().to_string());
        assert_golden(case.join("stderr.txt"), &errors_text(&source, &errors));
    }
}

fn place(source: &Source, span: Span) -> String {
    let (from, to) = (source.position(span.start), source.position(span.end));
    format!("{}:{}-{}:{}", from.0, from.1, to.0, to.1)
}

/// `line:column-line:column code: message | label | help`
fn errors_text(source: &Source, errors: &ParseErrors) -> String {
    let mut text = String::new();
    for error in errors {
        let _ = write!(text, "{} {}: {}", place(source, error.span), error.code, error.message);
        let _ = write!(text, " | {}", error.label);
        let _ = writeln!(text, " | {}", error.help.as_deref().unwrap_or(""));
    }
    text
}

fn ir_text(source: &Source, parsed: &Parsed) -> String {
    let mut ir = Ir { source, text: String::new() };
    let Dockerfile { directives, global_args, stages, comments: _ } = &parsed.dockerfile;
    if let Some(syntax) = &directives.syntax {
        let line = format!("syntax {}", ir.spanned(syntax));
        ir.line(0, &line);
    }
    if directives.escape == Escape::Backtick {
        ir.line(0, "escape `");
    }
    if let Some(check) = &directives.check {
        let line = format!("check {}", ir.spanned(check));
        ir.line(0, &line);
    }
    for arg in global_args {
        let line = format!("{} global ARG {}", place(source, arg.span), ir.args(&arg.value));
        ir.line(0, &line);
    }
    for stage in stages {
        let FromInstruction { base, name, platform } = &stage.from.value;
        let mut line = format!("{} FROM {}", place(source, stage.from.span), ir.word(base));
        if let Some(name) = name {
            line += &format!(" name={}", ir.spanned(name));
        }
        line += &ir.option("platform", platform.as_ref());
        ir.line(0, &line);
        for instruction in &stage.instructions {
            ir.instruction(1, instruction);
        }
    }
    for warning in &parsed.warnings {
        let line = format!("warning {} {}: {}", place(source, warning.span), warning.rule, warning.message);
        ir.line(0, &line);
    }
    ir.text
}

struct Ir<'a> {
    source: &'a Source,
    text: String,
}

impl Ir<'_> {
    fn line(&mut self, depth: usize, line: &str) {
        let _ = writeln!(self.text, "{}{line}", "  ".repeat(depth));
    }

    fn word(&self, word: &Word) -> String {
        format!("{:?}@{}", word.raw, place(self.source, word.span))
    }

    fn spanned(&self, text: &Spanned<String>) -> String {
        format!("{:?}@{}", text.value, place(self.source, text.span))
    }

    fn option(&self, name: &str, word: Option<&Word>) -> String {
        word.map(|word| format!(" {name}={}", self.word(word))).unwrap_or_default()
    }

    fn args(&self, args: &ArgInstruction) -> String {
        let args = args.args.iter().map(|arg| {
            let default = arg.default.as_ref().map(|default| format!("={}", self.word(default)));
            format!("{}{}", self.spanned(&arg.name), default.unwrap_or_default())
        });
        args.collect::<Vec<_>>().join(" ")
    }

    fn pairs(&self, pairs: &[KeyValue]) -> String {
        let pairs = pairs.iter().map(|pair| format!("{}={}", self.word(&pair.key), self.word(&pair.value)));
        pairs.collect::<Vec<_>>().join(" ")
    }

    fn words(&self, words: &[Word]) -> String {
        words.iter().map(|word| self.word(word)).collect::<Vec<_>>().join(" ")
    }

    fn command(command: &CommandLine) -> String {
        match command {
            CommandLine::Exec(argv) => format!("exec {argv:?}"),
            CommandLine::Shell(text) => format!("shell {text:?}"),
        }
    }

    fn heredoc(&self, heredoc: &Heredoc) -> String {
        let mut line = format!("heredoc {:?}@{}", heredoc.name, place(self.source, heredoc.span));
        if !heredoc.expand {
            line += " raw";
        }
        if heredoc.strip_tabs {
            line += " tabs-stripped";
        }
        if heredoc.file_descriptor != 0 {
            line += &format!(" fd={}", heredoc.file_descriptor);
        }
        format!("{line} {:?}", heredoc.body)
    }

    fn paths(&mut self, depth: usize, paths: &CopyPaths) {
        for source in &paths.sources {
            let line = match source {
                CopySource::Path(word) => format!("source {}", self.word(word)),
                CopySource::Heredoc(heredoc) => self.heredoc(heredoc),
            };
            self.line(depth, &line);
        }
        let line = format!("target {}", self.word(&paths.target));
        self.line(depth, &line);
    }

    fn mount(&self, mount: &RunMount) -> String {
        let mut line = format!("mount {:?}@{}", mount.kind, place(self.source, mount.span)).to_lowercase();
        line += &self.option("target", mount.target.as_ref());
        line += &self.option("source", mount.source.as_ref());
        if let Some(from) = &mount.from {
            line += &format!(" from={}", self.spanned(from));
        }
        line += &self.option("id", mount.id.as_ref());
        if let Some(readonly) = mount.readonly {
            line += &format!(" readonly={readonly}");
        }
        if mount.sharing != CacheSharing::Shared {
            line += &format!(" sharing={:?}", mount.sharing);
        }
        if mount.required {
            line += " required";
        }
        for (name, word) in [
            ("mode", &mount.mode),
            ("uid", &mount.uid),
            ("gid", &mount.gid),
            ("size", &mount.size),
            ("env", &mount.env),
        ] {
            line += &self.option(name, word.as_ref());
        }
        line
    }

    fn instruction(&mut self, depth: usize, instruction: &Instruction) {
        let head = format!("{} {}", place(self.source, instruction.span), instruction.keyword.value);
        let mut line = match &instruction.kind {
            InstructionKind::Arg(args) => format!("{head} {}", self.args(args)),
            InstructionKind::Env(pairs) | InstructionKind::Label(pairs) => {
                format!("{head} {}", self.pairs(pairs))
            }
            InstructionKind::Run(run) => format!("{head} {}", Self::command(&run.command)),
            InstructionKind::Cmd(command) | InstructionKind::Entrypoint(command) => {
                format!("{head} {}", Self::command(command))
            }
            InstructionKind::Shell(shell) => format!("{head} {shell:?}"),
            InstructionKind::Workdir(word)
            | InstructionKind::User(word)
            | InstructionKind::StopSignal(word) => {
                format!("{head} {}", self.word(word))
            }
            InstructionKind::Expose(words) | InstructionKind::Volume(words) => {
                format!("{head} {}", self.words(words))
            }
            InstructionKind::Maintainer(name) => format!("{head} {name:?}"),
            InstructionKind::Onbuild(onbuild) => format!("{head} {:?}", onbuild.text),
            InstructionKind::Healthcheck(HealthcheckInstruction::None) => format!("{head} none"),
            InstructionKind::Healthcheck(HealthcheckInstruction::Command {
                command,
                interval_ns,
                timeout_ns,
                start_period_ns,
                start_interval_ns,
                retries,
            }) => format!(
                "{head} {} {interval_ns:?} {timeout_ns:?} {start_period_ns:?} {start_interval_ns:?} {retries:?}",
                Self::command(command)
            ),
            _ => head.clone(),
        };
        if let InstructionKind::Copy(copy) = &instruction.kind {
            if let Some(from) = &copy.from {
                line += &format!(" from={}", self.spanned(from));
            }
            line += &self.option("chown", copy.chown.as_ref());
            line += &self.option("chmod", copy.chmod.as_ref());
            for (name, on) in [("link", copy.link), ("parents", copy.parents)] {
                line += &if on { format!(" {name}") } else { String::new() };
            }
            for exclude in &copy.exclude {
                line += &self.option("exclude", Some(exclude));
            }
        }
        if let InstructionKind::Add(add) = &instruction.kind {
            line += &self.option("chown", add.chown.as_ref());
            line += &self.option("chmod", add.chmod.as_ref());
            line += &if add.link { " link".to_owned() } else { String::new() };
            for exclude in &add.exclude {
                line += &self.option("exclude", Some(exclude));
            }
            line += &self.option("checksum", add.checksum.as_ref());
            for (name, value) in [("keep-git-dir", add.keep_git_dir), ("unpack", add.unpack)] {
                line += &value.map(|value| format!(" {name}={value}")).unwrap_or_default();
            }
        }
        self.line(depth, &line);
        match &instruction.kind {
            InstructionKind::Run(run) => {
                for mount in &run.mounts {
                    let line = self.mount(mount);
                    self.line(depth + 1, &line);
                }
                if let Some(network) = &run.network {
                    self.line(depth + 1, &format!("network {:?}", network.value).to_lowercase());
                }
                if let Some(security) = &run.security {
                    self.line(depth + 1, &format!("security {:?}", security.value).to_lowercase());
                }
                for device in &run.devices {
                    let line = format!("device {}", self.word(device));
                    self.line(depth + 1, &line);
                }
                for heredoc in &run.heredocs {
                    let line = self.heredoc(heredoc);
                    self.line(depth + 1, &line);
                }
                if run.script().is_some() {
                    self.line(depth + 1, "script");
                }
            }
            InstructionKind::Copy(copy) => self.paths(depth + 1, &copy.paths),
            InstructionKind::Add(add) => self.paths(depth + 1, &add.paths),
            InstructionKind::Onbuild(onbuild) => self.instruction(depth + 1, &onbuild.instruction),
            _ => {}
        }
    }
}
