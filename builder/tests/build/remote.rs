//! ADD of what lies elsewhere: files over HTTP, commits of git repositories.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::harness::{Harness, Options, chain, is_anywhere};

/// Serves one body under every path, with an `ETag` that is the body's.
struct Server {
    address: String,
    body: Arc<Mutex<Vec<u8>>>,
    requests: Arc<Mutex<Vec<String>>>,
}

impl Server {
    fn new(body: &[u8]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let body = Arc::new(Mutex::new(body.to_vec()));
        let requests = Arc::new(Mutex::new(Vec::new()));
        let (shared, log) = (Arc::clone(&body), Arc::clone(&requests));
        std::thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                let mut request = String::new();
                for line in BufReader::new(stream.try_clone().unwrap()).lines().map_while(Result::ok) {
                    if line.is_empty() {
                        break;
                    }
                    request.push_str(&line.to_ascii_lowercase());
                    request.push('\n');
                }
                let body = shared.lock().unwrap().clone();
                let etag = format!("\"{}\"", blake3::hash(&body).to_hex());
                let is_same = request.contains(&format!("if-none-match: {etag}"));
                log.lock().unwrap().push(request);
                let (status, body) =
                    if is_same { ("304 Not Modified", Vec::new()) } else { ("200 OK", body) };
                let head = format!(
                    "HTTP/1.1 {status}\r\nConnection: close\r\nETag: {etag}\r\nContent-Length: {}\r\n\
                     Last-Modified: Sun, 06 Nov 1994 08:49:37 GMT\r\n\r\n",
                    body.len()
                );
                let _ = stream.write_all(&[head.as_bytes(), &body].concat());
            }
        });
        Self { address, body, requests }
    }
}

#[test]
#[ignore = "root: makes files of other users"]
fn root_add_of_a_url_is_a_file_of_mode_0600_with_the_servers_time() {
    let harness = Harness::new();
    let server = Server::new(b"body");
    let dockerfile = format!(
        "FROM busybox\nADD {0}/a/file.bin /d/\nADD --chmod=755 --chown=7:8 {0}/x /renamed\n",
        server.address
    );
    let built = harness.build(&dockerfile);
    assert_eq!(harness.stat(&built, "/d/file.bin").as_deref(), Some("600 0:0 4"));
    assert_eq!(harness.stat(&built, "/renamed").as_deref(), Some("755 7:8 4"));
    let mtime = harness.root(&built.outcome.image).metadata("/d/file.bin".as_ref()).unwrap().mtime;
    assert_eq!(mtime.seconds, 784_111_777);
    assert_eq!(harness.build(&dockerfile).ran(), 0, "the server said that it is the same");
    *server.body.lock().unwrap() = b"other".to_vec();
    let changed = harness.build(&dockerfile);
    assert_eq!((changed.ran(), harness.read(&changed, "/d/file.bin").as_str()), (2, "other"));
}

#[test]
#[ignore = "root: makes files of other users"]
fn root_add_of_a_url_needs_no_context_and_unpacks_only_when_told() {
    let harness = Harness::new();
    harness.file("in/file", "packed");
    let archive = harness.dir.path().join("a.tar.gz");
    let status =
        Command::new("tar").arg("-czf").arg(&archive).arg("-C").arg(&harness.context).arg("in").status();
    assert!(status.unwrap().success());
    let server = Server::new(&std::fs::read(&archive).unwrap());
    let built = harness.build(&format!(
        "FROM busybox\nADD {0}/a.tar.gz /plain/\nADD --unpack {0}/a.tar.gz /unpacked/\n",
        server.address
    ));
    assert!(harness.stat(&built, "/plain/a.tar.gz").is_some());
    assert_eq!(harness.read(&built, "/unpacked/in/file"), "packed");
    assert_eq!(harness.stat(&built, "/unpacked/a.tar.gz"), None);
}

#[test]
#[ignore = "root: makes files of other users"]
fn root_add_of_a_url_with_another_checksum_fails_and_a_token_is_kept_nowhere() {
    let harness = Harness::new();
    let server = Server::new(b"body");
    let zeros = "0".repeat(64);
    let failed =
        harness.fail(&format!("FROM busybox\nADD --checksum=sha256:{zeros} {}/x /x\n", server.address));
    let text = chain(&failed.error);
    assert!(text.contains("has the checksum `sha256:230d8358"), "{text}");
    let options = Options { secrets: &[("HTTP_AUTH_TOKEN_127.0.0.1", "t0p-s3cret")], ..Options::default() };
    harness.build_with(&format!("FROM busybox\nADD {}/x /x\n", server.address), &options);
    let requests = server.requests.lock().unwrap();
    assert!(requests.last().unwrap().contains("authorization: bearer t0p-s3cret"), "{requests:?}");
    assert_eq!(is_anywhere(&harness.dir.path().join("store"), "t0p-s3cret"), None);
}

/// `git daemon` for the repositories in a folder, ended with the test.
pub(crate) struct Daemon {
    child: Child,
    pub(crate) address: String,
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // The daemon and the servers that it started.
        let group = rustix::process::Pid::from_raw(self.child.id().cast_signed()).unwrap();
        let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
        let _ = self.child.wait();
    }
}

impl Daemon {
    pub(crate) fn new(base: &Path) -> Self {
        use std::os::unix::process::CommandExt;
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let child = Command::new("git")
            .arg("daemon")
            .args(["--export-all", "--reuseaddr", "--listen=127.0.0.1"])
            .arg(format!("--port={port}"))
            .arg(format!("--base-path={}", base.display()))
            .arg(base)
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .unwrap();
        let daemon = Self { child, address: format!("git://127.0.0.1:{port}") };
        let until = Instant::now() + Duration::from_secs(20);
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(Instant::now() < until, "git daemon doesn't listen");
            std::thread::sleep(Duration::from_millis(5));
        }
        daemon
    }
}

fn git(dir: &Path, arguments: &[&str]) -> String {
    let output = Command::new("git")
        .args(["-c", "user.name=t", "-c", "user.email=t@t", "-c", "init.defaultBranch=main"])
        .args(["-c", "protocol.allow=always", "-c", "core.hooksPath=/dev/null"])
        .args(arguments)
        .current_dir(dir)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .output()
        .unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// A repository with a script, a link out of it, an ignore file and a hook; tag `v1`, then another commit on `main`.
pub(crate) fn repository(dir: &Path) -> (String, String) {
    use std::os::unix::fs::{PermissionsExt, symlink};
    std::fs::create_dir_all(dir.join("sub")).unwrap();
    git(dir, &["init", "-q"]);
    std::fs::write(dir.join("run.sh"), "#!/bin/sh\n").unwrap();
    std::fs::set_permissions(dir.join("run.sh"), std::fs::Permissions::from_mode(0o775)).unwrap();
    std::fs::write(dir.join("sub/file"), "one").unwrap();
    std::fs::write(dir.join(".dockerignore"), "sub\n").unwrap();
    std::fs::write(dir.join(".gitattributes"), "sub/file filter=evil\n").unwrap();
    symlink("/etc", dir.join("out")).unwrap();
    git(dir, &["add", "-A"]);
    git(dir, &["commit", "-q", "-m", "one"]);
    git(dir, &["tag", "v1"]);
    let first = git(dir, &["rev-parse", "HEAD"]);
    std::fs::write(dir.join("sub/file"), "two").unwrap();
    git(dir, &["commit", "-q", "-a", "-m", "two"]);
    (first, git(dir, &["rev-parse", "HEAD"]))
}

#[test]
#[ignore = "root: makes files of other users"]
fn root_add_of_a_git_repository_takes_the_tree_of_a_commit() {
    let harness = Harness::new();
    let base = harness.dir.path().join("repositories");
    let (first, second) = repository(&base.join("x.git"));
    let daemon = Daemon::new(&base);
    let url = format!("{}/x.git", daemon.address);
    let dockerfile = format!(
        "FROM busybox\nADD {url} /head\nADD {url}#v1 /tag/\nADD {url}#main:sub /sub\nADD {url}?commit={first}&subdir=sub /commit\n\
         ADD --checksum={second} {url}#main /pinned\nADD --keep-git-dir=true {url} /kept\nADD {url}#{} /short\n",
        &first[..10]
    );
    let built = harness.build(&dockerfile);
    for (path, stat) in [
        ("/head/run.sh", Some("755 0:0 10")),
        ("/head/sub", Some("755 0:0 dir")),
        ("/head/sub/file", Some("644 0:0 3")),
        ("/head/out", Some("link /etc")),
        ("/head/.git", None),
        ("/kept/.git/HEAD", Some("644 0:0 41")),
    ] {
        assert_eq!(harness.stat(&built, path).as_deref(), stat, "{path}");
    }
    for (path, content) in [
        ("/head/sub/file", "two"),
        ("/tag/sub/file", "one"),
        ("/sub/file", "two"),
        ("/commit/file", "one"),
        ("/pinned/sub/file", "two"),
        ("/short/sub/file", "one"),
    ] {
        assert_eq!(harness.read(&built, path), content, "{path}");
    }
    assert_eq!(harness.build(&dockerfile).ran(), 0, "the same commits are the same");
}

#[test]
#[ignore = "root: makes files of other users"]
fn root_add_of_a_git_repository_stays_in_it_and_says_what_is_missing() {
    let harness = Harness::new();
    let base = harness.dir.path().join("repositories");
    let (first, _) = repository(&base.join("x.git"));
    let daemon = Daemon::new(&base);
    for (source, words) in [
        ("x.git#main:out", "`out` is no folder of"),
        ("x.git#main:../..", ""),
        ("x.git#nowhere", "cannot fetch `nowhere`"),
        ("none.git", "cannot fetch `HEAD`"),
        (&format!("x.git?ref=main&commit={first}"), "has the checksum"),
    ] {
        let dockerfile = format!("FROM busybox\nADD {}/{source} /x\n", daemon.address);
        if words.is_empty() {
            let built = harness.build(&dockerfile);
            assert_eq!(
                harness.stat(&built, "/x/run.sh").as_deref(),
                Some("755 0:0 10"),
                "`..` stops at the root"
            );
            continue;
        }
        let text = chain(&harness.fail(&dockerfile).error);
        assert!(text.contains(words), "{source}: {text}");
    }
}
