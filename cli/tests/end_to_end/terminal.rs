//! calque on a real terminal: `run -t`, and what a build draws.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal};
use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, openpt, unlockpt};
use rustix::termios::{LocalModes, Termios, Winsize, tcgetattr, tcsetwinsize};

use crate::harness::{BOTH_KERNELS, Calque, Kernel, binary};

/// calque in a session and on a terminal of its own.
struct Session {
    child: Child,
    master: OwnedFd,
    slave: OwnedFd,
    printed: Arc<Mutex<Vec<u8>>>,
    reader: Option<JoinHandle<()>>,
}

fn window(columns: u16, rows: u16) -> Winsize {
    Winsize { ws_col: columns, ws_row: rows, ws_xpixel: 0, ws_ypixel: 0 }
}

impl Session {
    fn start(calque: &Calque, size: (u16, u16), env: &[(&str, &str)], arguments: &[&str]) -> Self {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
        unlockpt(&master).unwrap();
        tcsetwinsize(&master, window(size.0, size.1)).unwrap();
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let slave = ioctl_tiocgptpeer(&master, flags).unwrap();
        // setsid(1) makes its stdin the controlling terminal and becomes calque.
        let mut starter = Command::new("setsid");
        starter.arg("--ctty").arg(binary());
        let mut command = calque.command_of(starter, arguments);
        command.env("TERM", "xterm-256color").envs(env.iter().copied());
        let end = || slave.try_clone().unwrap();
        let child = command.stdin(end()).stdout(end()).stderr(end()).spawn().unwrap();
        let printed = Arc::new(Mutex::new(Vec::new()));
        let (mut from, to) = (File::from(master.try_clone().unwrap()), Arc::clone(&printed));
        let reader = std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(length @ 1..) = std::io::Read::read(&mut from, &mut buffer) {
                to.lock().unwrap().extend_from_slice(&buffer[..length]);
            }
        });
        Self { child, master, slave, printed, reader: Some(reader) }
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.printed.lock().unwrap()).into_owned()
    }

    #[track_caller]
    fn wait_until(&mut self, what: &str, mut is_so: impl FnMut(&Self) -> bool) {
        let deadline = Instant::now() + Duration::from_secs(60);
        while !is_so(self) {
            let has_ended = self.child.try_wait().unwrap().is_some();
            assert!(!has_ended && Instant::now() < deadline, "{what} never came:\n{}", self.text());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    #[track_caller]
    fn wait_for(&mut self, text: &str) {
        self.wait_until(text, |session| session.text().contains(text));
    }

    fn press(&self, keys: &[u8]) {
        assert_eq!(rustix::io::write(&self.master, keys).unwrap(), keys.len());
    }

    fn resize(&self, columns: u16, rows: u16) {
        tcsetwinsize(&self.master, window(columns, rows)).unwrap();
    }

    fn settings(&self) -> Termios {
        tcgetattr(&self.slave).unwrap()
    }

    fn is_raw(&self) -> bool {
        !self.settings().local_modes.intersects(LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG)
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.child.id().cast_signed()).unwrap();
        rustix::process::kill_process(pid, signal).unwrap();
    }

    /// Its exit code and all that it printed, when it has ended.
    fn end(mut self) -> (i32, String) {
        let status = self.child.wait().unwrap();
        let Self { slave, reader, printed, .. } = &mut self;
        // The last one: the reader ends after the last byte.
        let null = File::open("/dev/null").unwrap();
        *slave = null.into();
        reader.take().unwrap().join().unwrap();
        let text = String::from_utf8_lossy(&printed.lock().unwrap()).into_owned();
        (status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0)), text)
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if self.child.try_wait().is_ok_and(|status| status.is_none()) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

fn same(a: &Termios, b: &Termios) -> bool {
    a.input_modes == b.input_modes
        && a.output_modes == b.output_modes
        && a.control_modes == b.control_modes
        && a.local_modes == b.local_modes
}

#[test]
#[ignore = "root: starts containers"]
fn root_run_with_a_terminal_has_one_of_the_right_size_and_keeps_exit_codes() {
    for kernel in BOTH_KERNELS {
        let calque = Calque::with_busybox(kernel);
        for flags in [&["-it"][..], &["-it", "-u", "1000:1000"], &["-it", "--userns", "host"]] {
            let script = "stty size; tty; echo \"TERM=$TERM\"; test -t 0 && test -t 1 && test -t 2 && echo all-ttys; \
                          echo to-tty > /dev/tty; echo to-stderr > /dev/stderr; stty -F /dev/console size > /dev/null && echo console; \
                          for fd in 0 1 2; do readlink /proc/$$/fd/$fd; done; exit 7";
            let mut arguments = vec!["run", "--rm", "-q"];
            arguments.extend(flags);
            arguments.extend(["busybox", "sh", "-c", script]);
            let session = Session::start(&calque, (97, 31), &[], &arguments);
            let before = session.settings();
            let slave = session.slave.try_clone().unwrap();
            let (code, text) = session.end_with_slave_kept(&slave);
            assert_eq!(code, 7, "{flags:?}: {text}");
            let lines: Vec<&str> = text.lines().map(|line| line.trim_end_matches('\r')).collect();
            assert_eq!(
                lines,
                [
                    "31 97",
                    "/dev/pts/0",
                    "TERM=xterm",
                    "all-ttys",
                    "to-tty",
                    "to-stderr",
                    "console",
                    "/dev/pts/0",
                    "/dev/pts/0",
                    "/dev/pts/0"
                ],
                "{flags:?} {kernel:?}"
            );
            assert!(same(&tcgetattr(&slave).unwrap(), &before), "the terminal is as it was");
        }
    }
}

impl Session {
    /// As [`Session::end`], for a caller who still looks at the terminal: reads what there is.
    fn end_with_slave_kept(mut self, slave: impl AsFd) -> (i32, String) {
        let status = self.child.wait().unwrap();
        // What was written before is read before this.
        let mark = b"\0end of session\0";
        rustix::io::write(slave, mark).unwrap();
        let deadline = Instant::now() + Duration::from_secs(10);
        while !self.printed.lock().unwrap().ends_with(mark) {
            assert!(Instant::now() < deadline, "{}", self.text());
            std::thread::sleep(Duration::from_millis(2));
        }
        let text = self.text();
        (
            status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0)),
            text.split('\0').next().unwrap().to_owned(),
        )
    }
}

#[test]
#[ignore = "root: starts containers"]
fn root_a_new_size_and_keys_reach_the_container() {
    let calque = Calque::with_busybox(Kernel::Newest);
    let script = "trap 'stty size' WINCH; trap 'echo interrupted; exit 3' INT; echo ready; \
                  while :; do read -t 1 line && echo \"read <$line>\"; done";
    let mut session =
        Session::start(&calque, (80, 24), &[], &["run", "--rm", "-q", "-it", "busybox", "sh", "-c", script]);
    session.wait_for("ready");
    session.wait_until("raw mode", Session::is_raw);
    session.resize(120, 40);
    session.wait_for("40 120");
    // Echo, and the line's end, are the container's terminal's work.
    session.press(b"hello\r");
    session.wait_for("hello\r\nread <hello>\r\n");
    session.press(b"\x03");
    let (code, text) = session.end();
    assert_eq!(code, 3, "{text}");
    assert!(text.contains("^C") && text.ends_with("interrupted\r\n"), "{text:?}");
}

#[test]
#[ignore = "root: starts containers"]
fn root_the_terminal_is_given_back_however_a_container_ends() {
    let calque = Calque::with_busybox(Kernel::Newest);
    let run = ["run", "--rm", "-q", "-it", "--name", "box", "busybox", "sh", "-c", "echo ready; sleep 1000"];
    type End<'a> = (&'a str, &'a dyn Fn(&Session));
    let ends: [End<'_>; 2] = [
        ("three times SIGTERM", &|session| {
            (0..3).for_each(|_| {
                session.signal(Signal::TERM);
                // One that is pending swallows the next.
                std::thread::sleep(Duration::from_millis(100));
            })
        }),
        ("rm -f", &|_| drop(calque.ok(["rm", "-f", "box"]))),
    ];
    for (how, end) in ends {
        let mut session = Session::start(&calque, (80, 24), &[], &run);
        let before = session.settings();
        session.wait_for("ready");
        session.wait_until("raw mode", Session::is_raw);
        end(&session);
        let slave = session.slave.try_clone().unwrap();
        let (code, text) = session.end_with_slave_kept(&slave);
        assert_eq!(code, 137, "{how}: {text}");
        assert!(same(&tcgetattr(&slave).unwrap(), &before), "{how}");
    }
    // What doesn't come to run leaves it alone, too.
    let session =
        Session::start(&calque, (80, 24), &[], &["run", "--rm", "-it", "busybox", "no-such-program"]);
    let (before, slave) = (session.settings(), session.slave.try_clone().unwrap());
    let (code, text) = session.end_with_slave_kept(&slave);
    assert_eq!(code, 127, "{text}");
    assert!(same(&tcgetattr(&slave).unwrap(), &before));
}

#[test]
#[ignore = "root: starts containers"]
fn root_a_terminal_without_one_on_stdin() {
    let calque = Calque::with_busybox(Kernel::Newest);
    let refused = calque.run(["run", "--rm", "-it", "busybox", "true"]);
    refused.assert_code(1);
    assert!(refused.stderr.contains("the input device is not a TTY"), "{}", refused.stderr);
    assert_eq!(calque.ok(["ps", "-aq"]).stdout, "", "no container was made");
    let run = calque.run(["run", "--rm", "-q", "-t", "busybox", "sh", "-c", "test -t 1 && echo tty; exit 5"]);
    run.assert_code(5);
    assert_eq!(run.stdout, "tty\r\n");
    // All of it arrives, and what is printed when nobody had the terminal open does, too.
    let many = calque.ok(["run", "--rm", "-q", "-t", "busybox", "seq", "1", "100000"]);
    assert!(many.stdout.lines().map(str::to_owned).eq((1..=100_000).map(|number| number.to_string())));
    let script = "exec <&- >&- 2>&-; sleep 0.3; echo late > /dev/console";
    assert_eq!(calque.ok(["run", "--rm", "-q", "-t", "busybox", "sh", "-c", script]).stdout, "late\r\n");
}

/// What a terminal shows in the end: enough of one for what calque draws.
struct Emulator {
    columns: usize,
    rows: usize,
    /// Lines, those that have scrolled away first.
    lines: Vec<Vec<char>>,
    row: usize,
    column: usize,
    wraps: usize,
}

impl Emulator {
    fn new(columns: usize, rows: usize) -> Self {
        Self { columns, rows, lines: vec![Vec::new()], row: 0, column: 0, wraps: 0 }
    }

    fn feed(&mut self, text: &str) {
        let mut chars = text.chars();
        while let Some(char) = chars.next() {
            match char {
                '\r' => self.column = 0,
                '\n' => self.down(),
                '\u{1b}' => {
                    assert_eq!(chars.next(), Some('['), "{text:?}");
                    let mut number = String::new();
                    let last =
                        chars.by_ref().inspect(|char| number.push(*char)).find(char::is_ascii_alphabetic);
                    number.pop();
                    let count = number.parse().unwrap_or(1);
                    match last {
                        Some('A') => {
                            let top = self.lines.len().saturating_sub(self.rows);
                            self.row = self.row.saturating_sub(count).max(top);
                        }
                        Some('K') => self.lines[self.row].truncate(self.column),
                        Some('J') => {
                            self.lines[self.row].truncate(self.column);
                            self.lines.truncate(self.row + 1);
                        }
                        Some('m') => {}
                        other => panic!("nobody draws {other:?} with {number:?}"),
                    }
                }
                char => {
                    if self.column == self.columns {
                        self.wraps += 1;
                        self.down();
                        self.column = 0;
                    }
                    let line = &mut self.lines[self.row];
                    while line.len() <= self.column {
                        line.push(' ');
                    }
                    line[self.column] = char;
                    self.column += 1;
                }
            }
        }
    }

    fn down(&mut self) {
        self.row += 1;
        if self.row == self.lines.len() {
            self.lines.push(Vec::new());
        }
    }

    fn shown(&self) -> Vec<String> {
        self.lines.iter().map(|line| line.iter().collect::<String>().trim_end().to_owned()).collect()
    }
}

const NOISY: &str = "FROM busybox\n\
    RUN printf 'a\\033[2J\\033[1;1Hb\\033]0;title\\007c\\n'; for i in $(seq 1 30); do echo \"line $i of a step that has much to tell and tells it at length\"; sleep 0.02; done; printf '10%%\\r50%%\\r'; sleep 0.8\n\
    RUN echo second > /second\n";

#[test]
#[ignore = "root: builds"]
fn root_a_drawn_build_leaves_a_clean_screen() {
    let calque = Calque::with_busybox(Kernel::Newest);
    let context = calque.context("noisy", &[("Dockerfile", NOISY)]);
    for (columns, rows) in [(80_u16, 24_u16), (20, 6), (200, 50)] {
        let arguments = ["build", "--no-cache", "-t", "noisy", context.to_str().unwrap()];
        let mut session = Session::start(&calque, (columns, rows), &[], &arguments);
        session.wait_for("line 30");
        let (code, text) = session.end();
        assert_eq!(code, 0, "{text}");
        let mut screen = Emulator::new(columns.into(), rows.into());
        screen.feed(&text);
        let shown = screen.shown();
        assert_eq!(screen.wraps, 0, "{shown:#?}");
        assert_eq!((screen.column, shown.last().unwrap().as_str()), (0, ""), "{shown:#?}");
        let count = |text: &str| shown.iter().filter(|line| line.contains(text)).count();
        assert_eq!(count("[+] Building"), 1, "{shown:#?}");
        assert_eq!(count("=> # "), 0, "output of steps that went well is gone: {shown:#?}");
        assert_eq!(count(" => CACHED [1/"), 1, "{shown:#?}");
        assert_eq!(count(" => [2/3"), 1, "{shown:#?}");
        assert_eq!(count(" => [3/3"), 1, "{shown:#?}");
        assert!(!text.contains("\u{1b}]") && !text.contains("\u{1b}[2J"), "{text:?}");
        if columns >= 80 {
            assert!(shown.iter().any(|line| line.starts_with("[+] Building") && line.ends_with("FINISHED")));
            assert!(text.contains("50%"), "an unfinished line is shown while it is the last: {text:?}");
        }
    }
}

#[test]
#[ignore = "root: builds"]
fn root_a_build_follows_the_size_of_its_terminal() {
    let calque = Calque::with_busybox(Kernel::Newest);
    let dockerfile = "FROM busybox\nRUN echo first; while ! test -e /dev/shm/never && ! read -t 1 x; do echo \"again and again and again and again and again\"; sleep 0.05; test $((n=n+1)) -gt 40 && break; done; true\n";
    let context = calque.context("slow", &[("Dockerfile", dockerfile)]);
    let arguments = ["build", "--no-cache", "-t", "slow", context.to_str().unwrap()];
    let mut session = Session::start(&calque, (100, 24), &[], &arguments);
    session.wait_for("again and again and again and again");
    session.resize(30, 10);
    let from = session.text().len();
    // Cut to the new width: ` => => # ` and 20 characters.
    session.wait_until("a narrow line", |session| {
        session.text()[from..].contains(" => => # again and again and …")
    });
    let (code, text) = session.end();
    assert_eq!(code, 0, "{text}");
}

#[test]
#[ignore = "root: builds"]
fn root_a_failed_step_shows_all_of_its_output_once() {
    let calque = Calque::with_busybox(Kernel::Newest);
    let dockerfile = "FROM busybox\nRUN seq 1001 1200; echo \"\\033[31mred\"; exit 9\n";
    let context = calque.context("failing", &[("Dockerfile", dockerfile)]);
    let session =
        Session::start(&calque, (80, 24), &[("NO_COLOR", "1")], &["build", context.to_str().unwrap()]);
    let (code, text) = session.end();
    assert_eq!(code, 1, "{text}");
    let mut screen = Emulator::new(80, 24);
    screen.feed(&text);
    let shown = screen.shown();
    for number in 1001..=1200 {
        let lines = shown.iter().filter(|line| **line == number.to_string()).count();
        assert_eq!(lines, 1, "{number}: {shown:#?}");
    }
    assert!(shown.iter().any(|line| line.starts_with(" => ERROR [2/2] RUN seq")), "{shown:#?}");
    assert!(!text.contains("\u{1b}[3") && !text.contains("\u{1b}[2m"), "NO_COLOR: {text:?}");
}

#[test]
#[ignore = "root: builds"]
fn root_a_dumb_terminal_has_plain_progress() {
    let calque = Calque::with_busybox(Kernel::Newest);
    let context = calque.context("dumb", &[("Dockerfile", "FROM busybox\nRUN true\n")]);
    let session =
        Session::start(&calque, (80, 24), &[("TERM", "dumb")], &["build", context.to_str().unwrap()]);
    let (code, text) = session.end();
    assert_eq!(code, 0, "{text}");
    assert!(text.contains("#1 ") && !text.contains('\u{1b}'), "{text:?}");
}
