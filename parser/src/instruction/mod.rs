//! The IR: what the instructions of a Dockerfile say, before variables are expanded.
//!
//! A [`Word`] is raw: quotes, escapes and `$VAR` are still in it. Expansion returns plain strings, so that raw and
//! expanded can't be mixed up.

use crate::{CheckOptions, Span, Spanned};

pub(crate) mod copy;
pub(crate) mod env;
pub(crate) mod flag;
pub(crate) mod from;
pub(crate) mod metadata;
pub(crate) mod run;

/// A whole Dockerfile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dockerfile {
    /// `# syntax=`, `# escape=`, `# check=`.
    pub directives: Directives,
    /// `ARG`s before the first `FROM`, seen by `FROM` lines only.
    pub global_args: Vec<Spanned<ArgInstruction>>,
    /// At least one, in the order of the file.
    pub stages: Vec<Stage>,
    /// The comments that stand directly above an instruction.
    pub comments: Vec<CommentBlock>,
}

/// Comments directly above an instruction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommentBlock {
    /// Without `#` and the white space around them; none is empty.
    pub lines: Vec<Spanned<String>>,
    /// What stands below: the instruction, or all of the stage where it is `FROM`.
    pub scope: Span,
    /// Where the instruction begins.
    pub below: usize,
}

impl Dockerfile {
    /// Whether a `# check=skip=...` above the instruction at `span`, or above its `FROM`, names `rule`.
    pub fn skips(&self, rule: &str, span: Span) -> bool {
        let holds = |scope: Span| scope.start <= span.start && span.start < scope.end.max(scope.start + 1);
        self.comments.iter().filter(|block| holds(block.scope)).any(|block| block.skips(rule))
    }

    /// The description of `name` (a stage or an argument) above the instruction that begins at `below`: the comment
    /// `# name description`.
    pub fn description(&self, below: usize, name: &str) -> Option<&str> {
        let block = self.comments.iter().find(|block| block.below == below)?;
        block.lines.iter().find_map(|line| Some(line.value.strip_prefix(name)?.strip_prefix(' ')?.trim()))
    }
}

impl CommentBlock {
    /// Whether one of its lines is `check=skip=...` and names `rule`. What follows a space is for the reader.
    pub fn skips(&self, rule: &str) -> bool {
        self.lines.iter().filter_map(|line| Self::check(&line.value)).any(|check| check.skip.contains(rule))
    }

    /// The options of a comment line that is one of `check=`.
    fn check(line: &str) -> Option<CheckOptions> {
        let (key, value) = line.split_once('=')?;
        let value = value.trim_start().split(char::is_whitespace).next()?;
        CheckOptions::parse(value).ok().filter(|_| key.trim().eq_ignore_ascii_case("check"))
    }
}

/// Parser directives.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Directives {
    /// Recorded, never executed (rule R9).
    pub syntax: Option<Spanned<String>>,
    /// `\` or a backtick; also the escape of words.
    pub escape: Escape,
    /// The raw text of `# check=`.
    pub check: Option<Spanned<String>>,
}

/// The character that continues lines and escapes in words.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Escape {
    /// `\`
    #[default]
    Backslash,
    /// `` ` ``
    Backtick,
}

/// From one `FROM` to the next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stage {
    /// Its first line.
    pub from: Spanned<FromInstruction>,
    /// What follows.
    pub instructions: Vec<Instruction>,
}

/// `FROM [--platform=P] base [AS name]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FromInstruction {
    /// What it names: an earlier stage, a named context or an image.
    pub base: Word,
    /// Lower-cased stage name.
    pub name: Option<Spanned<String>>,
    /// `--platform`.
    pub platform: Option<Word>,
}

/// One instruction of a stage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instruction {
    /// From the keyword to the last character of the last line, heredocs included.
    pub span: Span,
    /// The keyword alone.
    pub keyword: Spanned<String>,
    /// The logical line: continuations joined, comments dropped, heredoc bodies not included. What history and
    /// progress show, and what `ONBUILD` stores.
    pub text: String,
    /// What it says.
    pub kind: InstructionKind,
}

/// What an instruction says.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum InstructionKind {
    /// `ARG name[=default] ...`
    Arg(ArgInstruction),
    /// `ENV key=value ...` and `ENV key value`.
    Env(Vec<KeyValue>),
    /// `LABEL key=value ...`
    Label(Vec<KeyValue>),
    /// `RUN`
    Run(RunInstruction),
    /// `COPY`
    Copy(CopyInstruction),
    /// `ADD`
    Add(AddInstruction),
    /// `WORKDIR path`
    Workdir(Word),
    /// `USER user[:group]`
    User(Word),
    /// `CMD`
    Cmd(CommandLine),
    /// `ENTRYPOINT`
    Entrypoint(CommandLine),
    /// `SHELL ["..."]`
    Shell(Vec<String>),
    /// `EXPOSE port[/proto] ...`
    Expose(Vec<Word>),
    /// `VOLUME path ...` or `VOLUME ["..."]`: with the JSON form the words are expanded too, as docker does.
    Volume(Vec<Word>),
    /// `STOPSIGNAL signal`
    StopSignal(Word),
    /// `HEALTHCHECK`
    Healthcheck(HealthcheckInstruction),
    /// `ONBUILD instruction`: the text to store, parsed once to find errors early.
    Onbuild(OnbuildInstruction),
    /// `MAINTAINER name`
    Maintainer(String),
}

/// A raw word: quotes, escapes and variables still in it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Word {
    /// As it stands in the file, continuations joined.
    pub raw: String,
    /// Where.
    pub span: Span,
}

/// `name[=default]`s of one `ARG`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArgInstruction {
    /// At least one.
    pub args: Vec<ArgDeclaration>,
}

/// `name[=default]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArgDeclaration {
    /// The name.
    pub name: Spanned<String>,
    /// Its default.
    pub default: Option<Word>,
}

/// `key=value`; both are expanded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyValue {
    /// The key.
    pub key: Word,
    /// The value.
    pub value: Word,
}

/// What `RUN`, `CMD`, `ENTRYPOINT` and `HEALTHCHECK CMD` execute. Never expanded by the builder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CommandLine {
    /// A JSON list: the argv itself. An empty list clears (`ENTRYPOINT []`).
    Exec(Vec<String>),
    /// A string for `SHELL`.
    Shell(String),
}

/// A `<<EOF` document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heredoc {
    /// The word between `<<` and the end of the line, quotes removed: the terminator and the file's name.
    pub name: String,
    /// Whether COPY and ADD expand variables in the body: no when any part of the word was quoted.
    pub expand: bool,
    /// Whether it was `<<-`: leading tabs are already stripped from `body`.
    pub strip_tabs: bool,
    /// The file descriptor before `<<` (0 when none is given).
    pub file_descriptor: u32,
    /// The body, with its line endings as they are.
    pub body: String,
    /// Where the body stands.
    pub span: Span,
}

/// `RUN`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunInstruction {
    /// What runs. With heredocs: the line that names them.
    pub command: CommandLine,
    /// The documents it names, in order.
    pub heredocs: Vec<Heredoc>,
    /// `--mount`s, in order.
    pub mounts: Vec<RunMount>,
    /// `--network`.
    pub network: Option<Spanned<RunNetwork>>,
    /// `--security`.
    pub security: Option<Spanned<RunSecurity>>,
    /// `--device`s, raw.
    pub devices: Vec<Word>,
}

/// `--network=`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunNetwork {
    /// What `build --network` says.
    Default,
    /// A loopback only.
    None,
    /// The host's.
    Host,
}

/// `--security=`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunSecurity {
    /// As always.
    Sandbox,
    /// Privileged.
    Insecure,
}

/// One `--mount=`: its options are words, expanded by the builder (`from` must hold no variable).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunMount {
    /// `bind` where no type is given.
    pub kind: RunMountKind,
    /// `target`, `dst` or `destination`.
    pub target: Option<Word>,
    /// `source` or `src`.
    pub source: Option<Word>,
    /// `from`: stage, named context or image.
    pub from: Option<Spanned<String>>,
    /// `id`.
    pub id: Option<Word>,
    /// `ro`/`readonly` (true) or `rw`/`readwrite` (false).
    pub readonly: Option<bool>,
    /// `sharing` of a cache.
    pub sharing: CacheSharing,
    /// `required` of a secret or ssh.
    pub required: bool,
    /// `mode`, octal in the text.
    pub mode: Option<Word>,
    /// `uid`.
    pub uid: Option<Word>,
    /// `gid`.
    pub gid: Option<Word>,
    /// `size` of a tmpfs, with a unit.
    pub size: Option<Word>,
    /// `env` of a secret.
    pub env: Option<Word>,
    /// The whole flag.
    pub span: Span,
}

/// `type=` of a mount.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RunMountKind {
    /// Files of a stage, context or image.
    #[default]
    Bind,
    /// A folder that outlives the build.
    Cache,
    /// A new tmpfs.
    Tmpfs,
    /// A file or variable given at the command line.
    Secret,
    /// A socket of an agent.
    Ssh,
}

/// `sharing=` of a cache mount.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CacheSharing {
    /// Used by several steps at once.
    #[default]
    Shared,
    /// Each concurrent step has its own.
    Private,
    /// One step at a time.
    Locked,
}

/// `COPY`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CopyInstruction {
    /// Sources and target.
    pub paths: CopyPaths,
    /// `--from`: stage, index, named context or image.
    pub from: Option<Spanned<String>>,
    /// `--chown`.
    pub chown: Option<Word>,
    /// `--chmod`.
    pub chmod: Option<Word>,
    /// `--link`.
    pub link: bool,
    /// `--parents`.
    pub parents: bool,
    /// `--exclude`s.
    pub exclude: Vec<Word>,
}

/// `ADD`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddInstruction {
    /// Sources and target.
    pub paths: CopyPaths,
    /// `--chown`.
    pub chown: Option<Word>,
    /// `--chmod`.
    pub chmod: Option<Word>,
    /// `--link`.
    pub link: bool,
    /// `--exclude`s.
    pub exclude: Vec<Word>,
    /// `--checksum`.
    pub checksum: Option<Word>,
    /// `--keep-git-dir`.
    pub keep_git_dir: Option<bool>,
    /// `--unpack`.
    pub unpack: Option<bool>,
}

/// Sources and target of `COPY` and `ADD`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CopyPaths {
    /// At least one, heredocs among them.
    pub sources: Vec<CopySource>,
    /// The last word.
    pub target: Word,
}

/// One source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CopySource {
    /// A path, pattern or, for ADD, a URL.
    Path(Word),
    /// A document in the Dockerfile.
    Heredoc(Heredoc),
}

/// `HEALTHCHECK`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HealthcheckInstruction {
    /// `HEALTHCHECK NONE`
    None,
    /// `HEALTHCHECK [options] CMD ...`
    Command {
        /// What runs.
        command: CommandLine,
        /// `--interval` in nanoseconds.
        interval_ns: Option<i64>,
        /// `--timeout` in nanoseconds.
        timeout_ns: Option<i64>,
        /// `--start-period` in nanoseconds.
        start_period_ns: Option<i64>,
        /// `--start-interval` in nanoseconds.
        start_interval_ns: Option<i64>,
        /// `--retries`.
        retries: Option<i64>,
    },
}

/// `ONBUILD`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OnbuildInstruction {
    /// The instruction as text, heredocs included: what the image config stores.
    pub text: String,
    /// The same, parsed.
    pub instruction: Box<Instruction>,
}

impl Escape {
    /// The character.
    pub const fn character(self) -> char {
        match self {
            Self::Backslash => '\\',
            Self::Backtick => '`',
        }
    }
}
