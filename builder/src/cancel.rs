//! Stopping a build from outside.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::event::{EventfdFlags, eventfd};
use rustix::io::Errno;

/// Asked to stop: a flag to look at and a descriptor to poll. Cheap to clone.
#[derive(Clone, Debug)]
pub struct CancelToken(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    cancelled: AtomicBool,
    event: OwnedFd,
}

impl CancelToken {
    /// A token that nobody has cancelled.
    ///
    /// # Errors
    ///
    /// When no descriptor is left.
    pub fn new() -> Result<Self, std::io::Error> {
        let event = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Self(Arc::new(Inner { cancelled: AtomicBool::new(false), event })))
    }

    /// Asks for the stop. May be called from a signal handler, and again.
    pub fn cancel(&self) {
        self.0.cancelled.store(true, Ordering::SeqCst);
        // The counter is never read, so it stays readable; when it is full it is readable as well.
        while rustix::io::write(&self.0.event, &1_u64.to_ne_bytes()) == Err(Errno::INTR) {}
    }

    /// Whether somebody asked.
    pub fn is_cancelled(&self) -> bool {
        self.0.cancelled.load(Ordering::SeqCst)
    }
}

impl AsFd for CancelToken {
    /// Readable from the moment of [`CancelToken::cancel`].
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.event.as_fd()
    }
}

/// Waits until one of two tokens is cancelled; says whether it was `first`.
pub(crate) fn wait_for_either(first: &CancelToken, second: &CancelToken) -> bool {
    use rustix::event::{PollFd, PollFlags, poll};
    loop {
        if first.is_cancelled() {
            return true;
        }
        if second.is_cancelled() {
            return false;
        }
        let mut fds = [PollFd::new(first, PollFlags::IN), PollFd::new(second, PollFlags::IN)];
        match poll(&mut fds, None) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(_) => std::thread::sleep(std::time::Duration::from_millis(10)),
        }
    }
}
