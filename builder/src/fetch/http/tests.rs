use std::io::{BufRead, BufReader};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::AtomicUsize;

use super::*;

/// What a request was: its first line and its headers, in lower case.
type Request = Vec<String>;

/// A server on 127.0.0.1 that answers until its listener is closed with the test's process.
struct Server {
    address: String,
    requests: Arc<Mutex<Vec<Request>>>,
}

impl Server {
    fn new(answer: impl Fn(&Request, &mut TcpStream) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let requests = Arc::new(Mutex::new(Vec::new()));
        let (log, answer) = (Arc::clone(&requests), Arc::new(answer));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (log, answer) = (Arc::clone(&log), Arc::clone(&answer));
                std::thread::spawn(move || {
                    let mut stream = stream;
                    let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
                    let mut request = Request::new();
                    while let Some(Ok(line)) = lines.next() {
                        if line.is_empty() {
                            break;
                        }
                        request.push(line.to_ascii_lowercase());
                    }
                    log.lock().unwrap().push(request.clone());
                    answer(&request, &mut stream);
                });
            }
        });
        Self { address, requests }
    }

    fn count(&self) -> usize {
        self.requests.lock().unwrap().len()
    }

    fn last(&self) -> Request {
        self.requests.lock().unwrap().last().cloned().unwrap_or_default()
    }
}

fn reply(stream: &mut TcpStream, status: &str, headers: &[&str], body: &str) {
    let length = format!("Content-Length: {}", body.len());
    let mut head = format!("HTTP/1.1 {status}\r\nConnection: close\r\n{length}\r\n");
    for header in headers {
        head.push_str(&format!("{header}\r\n"));
    }
    // The client may have gone away on purpose.
    let _ = stream.write_all(format!("{head}\r\n{body}").as_bytes());
}

fn path(request: &Request) -> &str {
    request[0].split([' ', '?']).nth(1).unwrap()
}

fn client(dir: &Path) -> Client {
    Client { dir: dir.to_path_buf(), revalidates: true, ..Client::default() }
}

fn source(url: String) -> HttpSource {
    HttpSource { url, name: "f".to_owned() }
}

fn look(client: &Client, url: String, checksum: Option<&str>) -> Result<Download, FetchError> {
    Download::look(client, &source(url), checksum, &CancelToken::new().unwrap())
}

fn read(download: &Download) -> String {
    let mut text = String::new();
    download.open(Path::new("f")).unwrap().read_to_string(&mut text).unwrap();
    text
}

fn sha256(text: &str) -> String {
    hex(&Sha256::digest(text.as_bytes()))
}

#[test]
fn a_file_has_the_mode_and_time_that_docker_gives_it() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::new(|_, stream| {
        reply(stream, "200 OK", &["Last-Modified: Sun, 06 Nov 1994 08:49:37 GMT"], "body");
    });
    let download = look(&client(dir.path()), format!("{}/x", server.address), None).unwrap();
    assert_eq!(read(&download), "body");
    assert_eq!(read(&download), "body", "each reader begins at the start");
    let metadata = download.metadata();
    assert_eq!((metadata.mode, metadata.mtime.seconds, metadata.size_bytes), (0o600, 784_111_777, 4));
    assert_eq!(server.count(), 1);
    let kept: Vec<_> = std::fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(kept.len(), 1, "only what is remembered has a name: {kept:?}");
}

#[test]
fn what_the_server_says_is_the_same_is_not_sent_again() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::new(|request, stream| {
        if request.iter().any(|header| header == "if-none-match: \"one\"") {
            return reply(stream, "304 Not Modified", &[], "");
        }
        reply(stream, "200 OK", &["ETag: \"one\""], "first");
    });
    let url = || format!("{}/x", server.address);
    let first = look(&client(dir.path()), url(), None).unwrap();
    let second = look(&client(dir.path()), url(), None).unwrap();
    assert_eq!(first.known, second.known);
    assert!(second.content.lock().unwrap().is_none(), "no byte came");
    assert_eq!(read(&second), "first", "its bytes come when somebody reads");
    assert_eq!(server.count(), 3);
    let unconditional = Client { revalidates: false, ..client(dir.path()) };
    assert!(look(&unconditional, url(), None).unwrap().content.lock().unwrap().is_some());
}

#[test]
fn a_304_that_nobody_asked_for_and_errors_are_no_file() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::new(|request, stream| match path(request) {
        "/304" => reply(stream, "304 Not Modified", &[], ""),
        "/401" => reply(stream, "401 Unauthorized", &[], "secret page"),
        _ => reply(stream, "404 Not Found", &[], "no such page"),
    });
    for (path, wanted) in [("/304", 304), ("/404", 404), ("/401", 401)] {
        let error =
            look(&client(dir.path()), format!("{}{path}?token=t0p", server.address), None).err().unwrap();
        assert!(matches!(error, FetchError::Status { status, .. } if status == wanted), "{error}");
        assert!(!format!("{error}{:?}", error.help()).contains("t0p"), "{error}");
    }
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn redirects_are_followed_a_few_times_and_never_out_of_http() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::new(|request, stream| match path(request) {
        "/a" => reply(stream, "302 Found", &["Location: b"], ""),
        "/b" => reply(stream, "307 Temporary Redirect", &["Location: /end"], ""),
        "/loop" => reply(stream, "301 Moved", &["Location: /loop"], ""),
        "/file" => reply(stream, "302 Found", &["Location: file:///etc/passwd"], ""),
        _ => reply(stream, "200 OK", &[], "end"),
    });
    let get = |path: &str| look(&client(dir.path()), format!("{}{path}", server.address), None);
    assert_eq!(read(&get("/a").unwrap()), "end");
    let before = server.count();
    assert!(matches!(get("/loop"), Err(FetchError::Redirects { limit: 10, .. })));
    assert_eq!(server.count() - before, 11);
    assert!(matches!(get("/file"), Err(FetchError::RedirectTarget { .. })));
}

#[test]
fn a_token_goes_to_its_own_host_only() {
    let dir = tempfile::tempdir().unwrap();
    let other = Server::new(|_, stream| reply(stream, "200 OK", &[], "end"));
    let to = format!("Location: {}/end", other.address);
    let own = Server::new(move |request, stream| match path(request) {
        "/away" => reply(stream, "302 Found", &[&to], ""),
        _ => reply(stream, "200 OK", &[], "own"),
    });
    let client = Client { authorization: Some("Bearer t0p".to_owned()), ..client(dir.path()) };
    let has_token = |request: Request| request.iter().any(|header| header == "authorization: bearer t0p");
    assert_eq!(read(&look(&client, format!("{}/x", own.address), None).unwrap()), "own");
    assert!(has_token(own.last()));
    assert_eq!(read(&look(&client, format!("{}/away", own.address), None).unwrap()), "end");
    assert!(has_token(own.last()) && !has_token(other.last()));
}

#[test]
fn a_body_that_breaks_off_or_never_ends_is_no_file() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::new(|request, stream| match path(request) {
        "/short" => {
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nonly this");
        }
        "/chunks" => {
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nchunk\r\n");
        }
        _ => {
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n");
            while stream.write_all(&[0; 4096]).is_ok() {}
        }
    });
    let limits = Limits { size_bytes: 1 << 20, ..Limits::default() };
    let get = |path: &str| {
        let client = Client { limits, ..client(dir.path()) };
        look(&client, format!("{}{path}", server.address), None).err().unwrap()
    };
    assert!(matches!(get("/short"), FetchError::BrokeOff { .. }));
    assert!(matches!(get("/chunks"), FetchError::BrokeOff { .. }));
    assert!(matches!(get("/endless"), FetchError::TooLarge { limit: 1_048_576, .. }));
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "nothing of it is remembered");
}

#[test]
fn a_server_that_stands_still_is_left() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::new(|_, stream| {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nx");
        // Until the client hangs up.
        let _ = stream.read(&mut [0; 1]);
    });
    let limits = Limits { idle: Duration::from_millis(100), ..Limits::default() };
    let slow = Client { limits, ..client(dir.path()) };
    let error = look(&slow, format!("{}/x", server.address), None).err().unwrap();
    assert!(matches!(error, FetchError::BrokeOff { received: 1, .. }), "{error}");

    // The build's stop doesn't wait for it.
    let stop = CancelToken::new().unwrap();
    let asked = Arc::clone(&server.requests);
    let before = server.count();
    let canceller = stop.clone();
    let watcher = std::thread::spawn(move || {
        while asked.lock().unwrap().len() == before {
            std::thread::sleep(Duration::from_millis(1));
        }
        canceller.cancel();
    });
    let download = Download::look(&client(dir.path()), &source(format!("{}/x", server.address)), None, &stop);
    assert!(matches!(download, Err(FetchError::Stopped)));
    watcher.join().unwrap();
}

#[test]
fn a_checksum_is_checked_and_what_is_known_by_it_is_not_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let turn = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&turn);
    let server = Server::new(move |_, stream| {
        let body = if counter.fetch_add(1, Ordering::Relaxed) == 0 { "good" } else { "evil" };
        reply(stream, "200 OK", &[], body);
    });
    let url = || format!("{}/x", server.address);
    let good = sha256("good");
    assert_eq!(read(&look(&client(dir.path()), url(), Some(&good)).unwrap()), "good");
    look(&client(dir.path()), url(), Some(&good)).unwrap();
    assert_eq!(server.count(), 1);
    let without_memory = Client { revalidates: false, ..client(dir.path()) };
    match look(&without_memory, url(), Some(&good)) {
        Err(FetchError::Checksum { actual, .. }) => assert_eq!(actual, format!("sha256:{}", sha256("evil"))),
        other => panic!("{:?}", other.err()),
    }
}

#[test]
fn proxies_are_used_unless_the_host_is_listed() {
    let dir = tempfile::tempdir().unwrap();
    let proxy = Server::new(|request, stream| {
        assert!(request[0].starts_with("connect host.invalid:80 "), "{request:?}");
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n");
        let lines = BufReader::new(stream.try_clone().unwrap()).lines().map_while(Result::ok);
        assert!(lines.take_while(|line| !line.is_empty()).count() > 0);
        reply(stream, "200 OK", &[], "by proxy");
    });
    let with = |no_proxy: &str| Client {
        proxies: vec![
            ("HTTP_PROXY".to_owned(), proxy.address.clone()),
            ("NO_PROXY".to_owned(), no_proxy.to_owned()),
        ],
        ..client(dir.path())
    };
    let download = look(&with("other.invalid"), "http://host.invalid/x".to_owned(), None).unwrap();
    assert_eq!(read(&download), "by proxy");
    let own = Server::new(|_, stream| reply(stream, "200 OK", &[], "direct"));
    let before = proxy.count();
    assert_eq!(read(&look(&with("x,127.0.0.1"), format!("{}/x", own.address), None).unwrap()), "direct");
    assert_eq!(proxy.count(), before);
    for (list, host, listed) in [
        ("a.b", "x.a.b", true),
        (".a.b", "a.b", true),
        ("a.b", "xa.b", false),
        ("*", "h", true),
        ("", "h", false),
    ] {
        assert_eq!(is_listed(list, host), listed, "{list} {host}");
    }
}
