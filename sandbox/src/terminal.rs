//! A container's terminal: a pair of its own devpts, so that its programs find it under `/dev/pts`.
//!
//! It is made by the parent, through its descriptor of the mount, before the child is born: the child only takes what is
//! there, and nothing of the image is run or looked at on the way.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Mutex, PoisonError};

use rustix::fs::{Mode, OFlags, Uid, fchown, openat};
use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

use crate::launch::Stdio;

/// Both ends.
#[derive(Debug)]
pub(crate) struct Terminal {
    master: OwnedFd,
    /// Kept until the container has ended: with no slave open at all, as a program may have it for a while, reading
    /// the master would look like the end.
    slave: Mutex<Option<OwnedFd>>,
}

/// A terminal for a container, and what its child needs of it.
pub(crate) struct NewTerminal {
    pub(crate) terminal: Terminal,
    pub(crate) stdio: Stdio,
    /// Its name in the devpts.
    pub(crate) name: CString,
}

impl Terminal {
    /// Makes it in `devpts`. `size`: columns and rows; `owner`: the host's id of the user whose terminal it is.
    pub(crate) fn make(
        devpts: impl AsFd,
        size: Option<(u16, u16)>,
        owner: Option<u32>,
    ) -> io::Result<NewTerminal> {
        let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
        let master = openat(devpts, "ptmx", flags, Mode::empty())?;
        unlockpt(&master)?;
        if let Some((columns, rows)) = size {
            tcsetwinsize(&master, Winsize { ws_col: columns, ws_row: rows, ws_xpixel: 0, ws_ypixel: 0 })?;
        }
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let slave = ioctl_tiocgptpeer(&master, flags)?;
        if let Some(owner) = owner {
            fchown(&slave, Some(Uid::from_raw(owner)), None)?;
        }
        // `/dev/pts/0`: as ptsname(3) puts it, wherever the devpts is.
        let path = ptsname(&master, Vec::new())?;
        let name = path.to_bytes().rsplit(|byte| *byte == b'/').next().unwrap_or_default();
        let name = CString::new(name)?;
        let stdio =
            Stdio { stdin: slave.try_clone()?, stdout: slave.try_clone()?, stderr: slave.try_clone()? };
        let terminal = Self { master, slave: Mutex::new(Some(slave)) };
        Ok(NewTerminal { terminal, stdio, name })
    }

    /// The end that isn't the container's.
    pub(crate) fn master(&self) -> BorrowedFd<'_> {
        self.master.as_fd()
    }

    /// From now on what is read ends after the last byte that was written.
    pub(crate) fn end(&self) {
        drop(self.slave.lock().unwrap_or_else(PoisonError::into_inner).take());
    }
}
