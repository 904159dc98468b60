//! The tree of a git commit, fetched by the system's `git`.
//!
//! A repository is a stranger's: no hook, no filter and no setting of it, of the user or of the machine has a say, no
//! protocol but git's own and HTTP is spoken, nothing is asked of anybody, and no credential is known or kept.

use std::fs;
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::url::shown;
use super::{FetchError, GitSource};
use crate::CancelToken;

/// How long all of one source may take.
const LIMIT: Duration = Duration::from_secs(20 * 60);

/// How much of what git says is kept.
const OUTPUT_LIMIT_BYTES: u64 = 64 << 10;

/// Where programs are looked for: the caller's `PATH` may lead to the context.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Settings for every call.
const SETTINGS: &[&str] = &[
    "advice.detachedHead=false",
    "core.attributesFile=/dev/null",
    "core.fsmonitor=false",
    "core.hooksPath=/dev/null",
    "core.autocrlf=false",
    "core.symlinks=true",
    "credential.helper=",
    "fetch.recurseSubmodules=false",
    "gc.auto=0",
    "http.followRedirects=initial",
    "init.defaultBranch=main",
    "init.templateDir=",
    "maintenance.auto=false",
    "protocol.allow=never",
    "protocol.git.allow=always",
    "protocol.http.allow=always",
    "protocol.https.allow=always",
    "submodule.recurse=false",
    "transfer.fsckObjects=true",
];

/// Checks `source` out into `dir`, an empty folder, and gives the commit.
pub(crate) fn check_out(
    source: &GitSource,
    dir: &Path,
    proxies: &[(String, String)],
    stop: &CancelToken,
) -> Result<String, FetchError> {
    let git = Git { source, dir, proxies, stop, until: Instant::now() + LIMIT };
    git.run("make a repository", &["init", "--quiet", "."])?;
    git.run("make a repository", &["remote", "add", "origin", &source.url])?;
    let commit = git.fetch()?;
    if let Some(expected) = &source.commit
        && !commit.starts_with(&expected.to_ascii_lowercase())
    {
        return Err(FetchError::Checksum {
            url: shown(&source.url).to_owned(),
            expected: expected.clone(),
            actual: commit,
        });
    }
    git.run("check out the commit", &["checkout", "--quiet", "--force", "--detach", &commit])?;
    if source.submodules && fs::symlink_metadata(dir.join(".gitmodules")).is_ok_and(|m| m.is_file()) {
        let update = ["submodule", "--quiet", "update", "--init", "--recursive", "--depth=1", "--checkout"];
        git.run("get the submodules", &update)?;
    }
    normalize(dir, source.keep_git_dir, true)
        .map_err(|source| FetchError::Keep { op: "keep a checkout", source })?;
    Ok(commit)
}

struct Git<'g> {
    source: &'g GitSource,
    dir: &'g Path,
    proxies: &'g [(String, String)],
    stop: &'g CancelToken,
    until: Instant,
}

impl Git<'_> {
    /// Fetches what the source names, and only that where the server allows it.
    fn fetch(&self) -> Result<String, FetchError> {
        let wanted = match (&self.source.reference, &self.source.commit) {
            (Some(reference), _) => reference.clone(),
            (None, Some(commit)) => commit.clone(),
            (None, None) => "HEAD".to_owned(),
        };
        let is_id = wanted.len() >= 7 && wanted.bytes().all(|byte| byte.is_ascii_hexdigit());
        let shallow = ["fetch", "--quiet", "--no-tags", "--depth=1", "origin", &wanted];
        let fetched = self.run(&format!("fetch `{wanted}`"), &shallow);
        let revision = match fetched {
            Ok(_) => "FETCH_HEAD".to_owned(),
            // An abbreviation, or a commit that no ref leads to directly: all of the history is searched.
            Err(FetchError::Git { .. }) if is_id => {
                let all = ["fetch", "--quiet", "--tags", "origin", "+refs/heads/*:refs/remotes/origin/*"];
                self.run("fetch all branches", &all)?;
                wanted.clone()
            }
            Err(error) => return Err(error),
        };
        let revision = format!("{revision}^{{commit}}");
        let commit =
            self.run(&format!("find `{wanted}`"), &["rev-parse", "--verify", "--end-of-options", &revision])?;
        Ok(commit.lines().last().unwrap_or_default().trim().to_owned())
    }

    /// Runs git; gives what it printed.
    fn run(&self, op: &str, arguments: &[&str]) -> Result<String, FetchError> {
        let url = || shown(&self.source.url).to_owned();
        let mut command = Command::new("git");
        for setting in SETTINGS {
            command.args(["-c", setting]);
        }
        command
            .args(arguments)
            .current_dir(self.dir)
            .env_clear()
            .env("PATH", PATH)
            .env("HOME", "/nonexistent")
            .env("LC_ALL", "C")
            .env("GIT_ALLOW_PROTOCOL", "git:http:https")
            .env("GIT_ATTR_NOSYSTEM", "1")
            .env("GIT_CEILING_DIRECTORIES", self.dir.parent().unwrap_or(Path::new("/")))
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("GIT_CONFIG_SYSTEM", "/dev/null")
            .env("GIT_LFS_SKIP_SMUDGE", "1")
            .env("GIT_NO_REPLACE_OBJECTS", "1")
            .env("GIT_TERMINAL_PROMPT", "0")
            .envs(self.proxies.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0);
        let mut child = command.spawn().map_err(|source| FetchError::NoGit { url: url(), source })?;
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let outputs =
            (std::thread::spawn(move || beginning(stdout)), std::thread::spawn(move || beginning(stderr)));
        let mut pause = Duration::from_millis(2);
        let status = loop {
            match child.try_wait() {
                Ok(Some(status)) => break status,
                Ok(None) => {}
                Err(source) => return Err(FetchError::Keep { op: "wait for git", source }),
            }
            let is_late = Instant::now() > self.until;
            if is_late || self.stop.is_cancelled() {
                // Its helpers, too. The child is not yet waited for, so that its id is still its own.
                if let Some(group) = rustix::process::Pid::from_raw(child.id().cast_signed()) {
                    let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
                }
                let _ = child.wait();
                return Err(if is_late {
                    FetchError::TooSlow { url: url(), limit: LIMIT }
                } else {
                    FetchError::Stopped
                });
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(50));
        };
        let text = |output: std::thread::JoinHandle<Vec<u8>>| {
            String::from_utf8_lossy(&output.join().unwrap_or_default()).into_owned()
        };
        let (stdout, stderr) = (text(outputs.0), text(outputs.1));
        if status.success() {
            return Ok(stdout);
        }
        let lines: Vec<&str> = stderr.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        let message = lines[lines.len().saturating_sub(3)..].join("; ");
        let message = message.chars().filter(|c| !c.is_control()).collect();
        Err(FetchError::Git { op: op.to_owned(), url: url(), message })
    }
}

/// The beginning of what comes; the rest is read, too, so that nobody waits for its reader.
fn beginning(output: Option<impl Read>) -> Vec<u8> {
    let mut bytes = Vec::new();
    if let Some(mut output) = output {
        let _ = output.by_ref().take(OUTPUT_LIMIT_BYTES).read_to_end(&mut bytes);
        let _ = io::copy(&mut output, &mut io::sink());
    }
    bytes
}

/// Modes as BuildKit has them (0644, 0755), and no `.git` unless it is asked for.
fn normalize(dir: &Path, keep_git_dir: bool, is_top: bool) -> io::Result<()> {
    let mut pending: Vec<(PathBuf, bool)> = vec![(dir.to_path_buf(), is_top)];
    while let Some((dir, is_top)) = pending.pop() {
        for entry in fs::read_dir(&dir)? {
            let entry = entry?;
            let (path, kind) = (entry.path(), entry.file_type()?);
            if entry.file_name() == ".git" {
                if !keep_git_dir || !is_top {
                    if kind.is_dir() { fs::remove_dir_all(&path)? } else { fs::remove_file(&path)? }
                }
                continue;
            }
            if kind.is_symlink() {
                continue;
            }
            let is_executable = kind.is_dir() || entry.metadata()?.permissions().mode() & 0o100 != 0;
            fs::set_permissions(
                &path,
                fs::Permissions::from_mode(if is_executable { 0o755 } else { 0o644 }),
            )?;
            if kind.is_dir() {
                pending.push((path, false));
            }
        }
    }
    Ok(())
}
