//! What a command prints: to the log as it is, to the observer in whole lines, its end kept for the error.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use sandbox::Running as Process;

use crate::CancelToken;
use crate::event::LogStream;
use crate::progress::Running;
use crate::secret::Mask;

/// Lines that an error shows.
const LAST_LINES: usize = 50;
/// Most of one line that is kept for the error.
const LINE_LIMIT_BYTES: usize = 4096;
/// A line that grows longer than this is passed on in parts.
const PARTIAL_LIMIT_BYTES: usize = 32 * 1024;
/// After this long a line is shown though it has no end yet.
const PARTIAL_PATIENCE: Duration = Duration::from_millis(250);
/// Between asking a command to end and killing it.
const GRACE: Duration = Duration::from_millis(400);
const BLOCK_BYTES: usize = 64 * 1024;

/// Takes the output of one command.
pub(crate) struct Output<'a> {
    running: &'a Running<'a>,
    log: Option<File>,
    mask: &'a Mask,
    last_lines: VecDeque<String>,
    log_error: Option<io::Error>,
}

/// How following a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Followed {
    /// It closed its output and ended.
    ToTheEnd,
    /// It was killed because the build stops.
    Stopped,
}

impl<'a> Output<'a> {
    pub(crate) fn new(running: &'a Running<'a>, log: Option<File>, mask: &'a Mask) -> Self {
        Self { running, log, mask, last_lines: VecDeque::new(), log_error: None }
    }

    /// Reads both pipes until the command has ended. Memory stays flat: a slow observer makes the command wait.
    pub(crate) fn follow(
        &mut self,
        process: &Process,
        stdout: OwnedFd,
        stderr: OwnedFd,
        stop: &CancelToken,
    ) -> io::Result<Followed> {
        let mut pipes = [Pipe::new(stdout, LogStream::Stdout), Pipe::new(stderr, LogStream::Stderr)];
        let mut buffer = vec![0_u8; BLOCK_BYTES];
        let mut ended = false;
        let mut deadline: Option<Instant> = None;
        let mut killed = false;
        loop {
            let open = pipes.iter().any(|pipe| pipe.open);
            if !open && ended {
                break;
            }
            let waiting_for_end = [
                deadline.filter(|_| !killed).map(|at| at.saturating_duration_since(Instant::now())),
                pipes.iter().any(|pipe| !pipe.partial.is_empty()).then_some(PARTIAL_PATIENCE),
            ];
            let timeout = waiting_for_end.into_iter().flatten().min();
            let ready = wait(&pipes, process, stop, ended, deadline.is_some(), timeout)?;
            if ready.stop && deadline.is_none() {
                // PID 1 of a namespace gets only what it handles; whoever doesn't is killed a moment later.
                let _ = process.signal(SIGTERM);
                deadline = Some(Instant::now() + GRACE);
            }
            if deadline.is_some_and(|at| at <= Instant::now()) && !killed {
                killed = true;
                process.kill()?;
            }
            ended |= ready.ended;
            for (pipe, is_ready) in pipes.iter_mut().zip(ready.pipes) {
                if is_ready {
                    match rustix::io::read(&pipe.fd, &mut buffer) {
                        Ok(0) => {
                            pipe.open = false;
                            self.flush(pipe);
                        }
                        Ok(count) => self.take(pipe, &buffer[..count]),
                        Err(Errno::INTR | Errno::AGAIN) => {}
                        Err(error) => return Err(error.into()),
                    }
                } else if ready.timed_out
                    && pipe.since.is_some_and(|since| since.elapsed() >= PARTIAL_PATIENCE)
                {
                    self.flush(pipe);
                }
            }
        }
        Ok(if deadline.is_some() { Followed::Stopped } else { Followed::ToTheEnd })
    }

    fn take(&mut self, pipe: &mut Pipe, bytes: &[u8]) {
        let end = bytes.iter().rposition(|&byte| byte == b'\n').map_or(0, |at| at + 1);
        let (whole, rest) = bytes.split_at(end);
        if !whole.is_empty() {
            let mut lines = std::mem::take(&mut pipe.partial);
            lines.extend_from_slice(whole);
            pipe.since = None;
            self.pass_on(pipe.stream, lines);
        }
        if !rest.is_empty() {
            pipe.since.get_or_insert_with(Instant::now);
            pipe.partial.extend_from_slice(rest);
            if pipe.partial.len() > PARTIAL_LIMIT_BYTES {
                self.flush(pipe);
            }
        }
    }

    fn flush(&mut self, pipe: &mut Pipe) {
        pipe.since = None;
        if !pipe.partial.is_empty() {
            let part = std::mem::take(&mut pipe.partial);
            self.pass_on(pipe.stream, part);
        }
    }

    fn pass_on(&mut self, stream: LogStream, bytes: Vec<u8>) {
        let bytes = self.mask.apply(bytes);
        if let (Some(log), None) = (&mut self.log, &self.log_error) {
            // A full disk must not stop the command; it is told at the end.
            self.log_error = log.write_all(&bytes).err();
        }
        let text = bytes.strip_suffix(b"\n").unwrap_or(&bytes);
        let lines: Vec<&[u8]> = text.rsplit(|&byte| byte == b'\n').take(LAST_LINES).collect();
        for line in lines.into_iter().rev() {
            if self.last_lines.len() == LAST_LINES {
                self.last_lines.pop_front();
            }
            let line = &line[..line.len().min(LINE_LIMIT_BYTES)];
            self.last_lines.push_back(String::from_utf8_lossy(line).trim_end_matches('\r').to_owned());
        }
        self.running.log(stream, bytes);
    }

    /// The end of the output, and why the log is incomplete if it is.
    pub(crate) fn finish(self) -> (Vec<String>, Option<io::Error>) {
        (self.last_lines.into(), self.log_error)
    }
}

const SIGTERM: i32 = 15;

struct Pipe {
    fd: OwnedFd,
    stream: LogStream,
    open: bool,
    /// The begin of a line whose end hasn't come yet.
    partial: Vec<u8>,
    since: Option<Instant>,
}

impl Pipe {
    fn new(fd: OwnedFd, stream: LogStream) -> Self {
        Self { fd, stream, open: true, partial: Vec::new(), since: None }
    }
}

struct Ready {
    pipes: [bool; 2],
    ended: bool,
    stop: bool,
    timed_out: bool,
}

/// Waits for whatever comes next. What is closed, ended or asked for already isn't waited for again.
fn wait(
    pipes: &[Pipe; 2],
    process: &Process,
    stop: &CancelToken,
    ended: bool,
    stopping: bool,
    timeout: Option<Duration>,
) -> io::Result<Ready> {
    let pidfd = process.pidfd();
    let nothing = PollFlags::empty();
    let mut fds = Vec::with_capacity(4);
    for pipe in pipes {
        if pipe.open {
            fds.push(PollFd::new(&pipe.fd, PollFlags::IN));
        }
    }
    let pipe_count = fds.len();
    if !ended {
        fds.push(PollFd::new(&pidfd, PollFlags::IN));
    }
    if !stopping {
        fds.push(PollFd::new(stop, PollFlags::IN));
    }
    let timeout = timeout.map(|timeout| Timespec {
        tv_sec: i64::try_from(timeout.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: timeout.subsec_nanos().into(),
    });
    let count = match poll(&mut fds, timeout.as_ref()) {
        Ok(count) => count,
        Err(Errno::INTR) => {
            return Ok(Ready { pipes: [false; 2], ended: false, stop: false, timed_out: false });
        }
        Err(error) => return Err(error.into()),
    };
    let mut states = fds.iter().map(|fd| fd.revents() != nothing);
    let mut read: Vec<bool> = states.by_ref().take(pipe_count).collect();
    read.reverse();
    let pipes = [0, 1].map(|at| pipes[at].open && read.pop().unwrap_or(false));
    let ended = !ended && states.next().unwrap_or(false);
    let stop = !stopping && states.next().unwrap_or(false);
    Ok(Ready { pipes, ended, stop, timed_out: count == 0 })
}
