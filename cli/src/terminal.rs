//! The user's terminal while a container has one: raw, and given back as it was, however calque ends.
//!
//! Bytes go to and fro as they are: what a key means (Ctrl-C too) is decided by the container's terminal.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Mutex, Once, PoisonError};
use std::thread::JoinHandle;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::stdio::{stdin, stdout};
use rustix::termios::{OptionalActions, Termios, isatty, tcgetattr, tcgetwinsize, tcsetattr, tcsetwinsize};

/// The settings to which the terminal goes back. Here, and not in [`Raw`], for the sake of a panic, which in a release
/// ends calque without unwinding.
static SAVED: Mutex<Option<Termios>> = Mutex::new(None);

/// Whether stdin is a terminal.
pub(crate) fn is_stdin_terminal() -> bool {
    isatty(stdin())
}

/// Columns and rows of the user's terminal, where one is known: what is seen is on stdout.
pub(crate) fn size() -> Option<(u16, u16)> {
    [stdout(), stdin()]
        .into_iter()
        .filter_map(|fd| tcgetwinsize(fd).ok())
        .map(|size| (size.ws_col, size.ws_row))
        .find(|size| *size != (0, 0))
}

/// Makes the container's terminal as large as the user's.
pub(crate) fn pass_size_on(master: impl AsFd) {
    // Nobody can do anything about it when it fails, and the next change of size comes soon.
    let Ok(mut size) = tcgetwinsize(&master) else { return };
    if let Some((columns, rows)) = self::size() {
        size.ws_col = columns;
        size.ws_row = rows;
        let _ = tcsetwinsize(master, size);
    }
}

/// Stdin's terminal is raw until this is dropped.
#[derive(Debug)]
pub(crate) struct Raw(());

impl Raw {
    /// Makes it raw.
    pub(crate) fn enter() -> io::Result<Self> {
        static HOOK: Once = Once::new();
        let before = tcgetattr(stdin())?;
        HOOK.call_once(|| {
            let next = std::panic::take_hook();
            std::panic::set_hook(Box::new(move |panic| {
                restore();
                next(panic);
            }));
        });
        *SAVED.lock().unwrap_or_else(PoisonError::into_inner) = Some(before);
        let raw = Self(());
        make_raw()?;
        Ok(raw)
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        restore();
        SAVED.lock().unwrap_or_else(PoisonError::into_inner).take();
    }
}

/// Makes the terminal raw again: a shell that had stopped calque and goes on with it has set it back.
pub(crate) fn make_raw_again() {
    let is_raw = SAVED.lock().unwrap_or_else(PoisonError::into_inner).is_some();
    if is_raw {
        let _ = make_raw();
    }
}

fn make_raw() -> io::Result<()> {
    let mut settings = tcgetattr(stdin())?;
    settings.make_raw();
    Ok(tcsetattr(stdin(), OptionalActions::Now, &settings)?)
}

fn restore() {
    // A panic may have come while it was locked.
    let Ok(saved) = SAVED.try_lock() else { return };
    if let Some(settings) = &*saved {
        let _ = tcsetattr(stdin(), OptionalActions::Now, settings);
    }
}

/// Copies what the container prints to stdout, up to the end of its terminal.
pub(crate) fn copy_output(master: OwnedFd) -> io::Result<JoinHandle<()>> {
    std::thread::Builder::new().name("terminal output".to_owned()).spawn(move || {
        let mut buffer = vec![0; 64 * 1024];
        let mut is_read = true;
        // The end is an error: EIO.
        while let Ok(bytes @ [_, ..]) = read(master.as_fd(), &mut buffer) {
            // The container goes on when nobody reads any more, as it does with docker.
            is_read = is_read && write_all(stdout(), bytes).is_ok();
        }
    })
}

/// Copies stdin to the container, and calls `at_end` at its end: the user's terminal is gone.
pub(crate) fn copy_input(master: OwnedFd, at_end: impl FnOnce() + Send + 'static) -> io::Result<()> {
    let copy = move || {
        let mut buffer = vec![0; 4096];
        while let Ok(bytes @ [_, ..]) = read(stdin(), &mut buffer) {
            if write_all(master.as_fd(), bytes).is_err() {
                // The container has ended.
                return;
            }
        }
        at_end();
    };
    std::thread::Builder::new().name("terminal input".to_owned()).spawn(copy).map(drop)
}

fn read<'a>(fd: BorrowedFd<'_>, buffer: &'a mut [u8]) -> Result<&'a [u8], Errno> {
    loop {
        match rustix::io::read(fd, &mut *buffer) {
            Ok(length) => return Ok(&buffer[..length]),
            Err(Errno::INTR) => {}
            // Others who have the same terminal open may have made it so.
            Err(Errno::AGAIN) => wait(fd, PollFlags::IN)?,
            Err(errno) => return Err(errno),
        }
    }
}

fn write_all(fd: BorrowedFd<'_>, mut bytes: &[u8]) -> Result<(), Errno> {
    while !bytes.is_empty() {
        match rustix::io::write(fd, bytes) {
            Ok(0) => return Err(Errno::IO),
            Ok(length) => bytes = &bytes[length..],
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => wait(fd, PollFlags::OUT)?,
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

fn wait(fd: BorrowedFd<'_>, flags: PollFlags) -> Result<(), Errno> {
    match poll(&mut [PollFd::from_borrowed_fd(fd, flags)], None) {
        Ok(_) | Err(Errno::INTR) => Ok(()),
        Err(errno) => Err(errno),
    }
}
