//! Signals: a build is cancelled, a container has them passed on.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};

use builder::CancelToken;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

/// Cancels a build at the first SIGINT, SIGTERM or SIGHUP; the second one ends calque at once, and the kernel
/// then ends its children.
pub(crate) struct Interrupt {
    caught: Arc<AtomicI32>,
}

impl Interrupt {
    /// Listens from now on, for the rest of the process's life.
    pub(crate) fn cancelling(token: CancelToken) -> io::Result<Self> {
        let caught = Arc::new(AtomicI32::new(0));
        let again = Arc::new(AtomicBool::new(false));
        for signal in [SIGINT, SIGTERM, SIGHUP] {
            // In this order: the handler that ends the process looks at the flag before the next one sets it.
            signal_hook::flag::register_conditional_shutdown(signal, 128 + signal, Arc::clone(&again))?;
            signal_hook::flag::register(signal, Arc::clone(&again))?;
        }
        let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP])?;
        let noted = Arc::clone(&caught);
        std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
            for signal in &mut signals {
                let _ = noted.compare_exchange(0, signal, Ordering::SeqCst, Ordering::SeqCst);
                token.cancel();
            }
        })?;
        Ok(Self { caught })
    }

    /// The exit code of what was stopped by a signal; nothing when none came.
    pub(crate) fn exit_code(&self) -> Option<u8> {
        match self.caught.load(Ordering::SeqCst) {
            0 => None,
            signal => u8::try_from(128 + signal).ok(),
        }
    }
}
