//! Paths in a root, without `openat2`: for the child, so on a fixed amount of stack.

use super::run::{Errno, close, openat};
use crate::raw;

/// As in the kernel (`path_resolution(7)`).
const MAX_LINKS: usize = 40;
const MAX_DEPTH: usize = 128;
const PATH_MAX: usize = 4096;

/// Opens (`O_PATH`) what `path` names below `root`, or gives the error number.
///
/// No `..` is ever looked up: the way is kept and gone back, so that directories that others move meanwhile lead
/// nowhere. A link on procfs is refused, since it may be a magic one.
pub(super) fn open_in_root(root: i32, path: &[u8], follow: bool) -> Result<i32, Errno> {
    let mut walk = Walk { way: [-1; MAX_DEPTH], depth: 0 };
    let result = walk.go(root, path, follow);
    for fd in walk.way.iter().take(walk.depth) {
        close(*fd);
    }
    result
}

struct Walk {
    /// The directories entered below the root.
    way: [i32; MAX_DEPTH],
    depth: usize,
}

impl Walk {
    fn here(&self, root: i32) -> i32 {
        self.depth.checked_sub(1).and_then(|last| self.way.get(last)).copied().unwrap_or(root)
    }

    fn back(&mut self) {
        if let Some(last) = self.depth.checked_sub(1) {
            if let Some(fd) = self.way.get(last) {
                close(*fd);
            }
            self.depth = last;
        }
    }

    fn go(&mut self, root: i32, path: &[u8], follow: bool) -> Result<i32, Errno> {
        // What is still to be walked lies at the end of this buffer.
        let mut rest = [0_u8; PATH_MAX];
        let mut start = prepend(&mut rest, PATH_MAX, path)?;
        let mut links = 0;
        loop {
            while rest.get(start) == Some(&b'/') {
                start += 1;
            }
            let tail = rest.get(start..).unwrap_or_default();
            if tail.is_empty() {
                // A copy of its own, so that the way can be closed.
                return openat(self.here(root), c".".to_bytes_with_nul(), libc::O_PATH);
            }
            let length = tail.iter().position(|byte| *byte == b'/').unwrap_or(tail.len());
            let component = tail.get(..length).unwrap_or_default();
            match component {
                b"." => {}
                b".." => self.back(),
                _ => {
                    let mut name = [0_u8; 256];
                    name.get_mut(..length)
                        .filter(|_| length < 256)
                        .ok_or(libc::ENAMETOOLONG)?
                        .copy_from_slice(component);
                    let fd = openat(self.here(root), &name, libc::O_PATH | libc::O_NOFOLLOW)?;
                    let kind = kind_of(fd)?;
                    if kind == libc::S_IFLNK {
                        let mut target = [0_u8; PATH_MAX];
                        links += 1;
                        let read = if !follow || links > MAX_LINKS || is_proc(fd) {
                            Err(libc::ELOOP)
                        } else {
                            read_link(fd, &mut target)
                        };
                        close(fd);
                        let target = target.get(..read?).unwrap_or_default();
                        if target.first() == Some(&b'/') {
                            while self.depth > 0 {
                                self.back();
                            }
                        }
                        start = prepend(&mut rest, start + length, target)?;
                        continue;
                    }
                    let last = tail.get(length..).unwrap_or_default().iter().all(|byte| *byte == b'/');
                    if last && kind != libc::S_IFDIR {
                        let slash = length < tail.len();
                        if slash {
                            close(fd);
                            return Err(libc::ENOTDIR);
                        }
                        return Ok(fd);
                    }
                    match self.way.get_mut(self.depth) {
                        Some(place) => *place = fd,
                        None => {
                            close(fd);
                            return Err(libc::ENAMETOOLONG);
                        }
                    }
                    self.depth += 1;
                }
            }
            start += length;
        }
    }
}

/// Puts `text` before what begins at `start`; returns where it all begins now.
fn prepend(rest: &mut [u8; PATH_MAX], start: usize, text: &[u8]) -> Result<usize, Errno> {
    let begin = start.checked_sub(text.len()).ok_or(libc::ENAMETOOLONG)?;
    rest.get_mut(begin..start).ok_or(libc::ENAMETOOLONG)?.copy_from_slice(text);
    Ok(begin)
}

/// The file's type, `S_IF*`.
pub(super) fn kind_of(fd: i32) -> Result<u32, Errno> {
    // SAFETY: all zeroes is a valid stat; the kernel writes one into it.
    unsafe {
        let mut stat = std::mem::zeroed::<libc::stat>();
        let args = [
            fd as usize,
            c"".as_ptr() as usize,
            std::ptr::from_mut(&mut stat) as usize,
            libc::AT_EMPTY_PATH as usize,
            0,
            0,
        ];
        super::run::check(raw::syscall(libc::SYS_newfstatat, args))?;
        Ok(stat.st_mode & libc::S_IFMT)
    }
}

fn is_proc(fd: i32) -> bool {
    // SAFETY: all zeroes is a valid statfs; the kernel writes one into it.
    unsafe {
        let mut statfs = std::mem::zeroed::<libc::statfs>();
        let ret = raw::syscall(
            libc::SYS_fstatfs,
            [fd as usize, std::ptr::from_mut(&mut statfs) as usize, 0, 0, 0, 0],
        );
        ret != 0 || statfs.f_type == libc::PROC_SUPER_MAGIC
    }
}

fn read_link(fd: i32, target: &mut [u8; PATH_MAX]) -> Result<usize, Errno> {
    let args = [fd as usize, c"".as_ptr() as usize, target.as_mut_ptr() as usize, target.len(), 0, 0];
    // SAFETY: the kernel writes at most `target.len()` bytes into `target`.
    let length = super::run::check(unsafe { raw::syscall(libc::SYS_readlinkat, args) })?;
    if length == 0 { Err(libc::ENOENT) } else { Ok(length) }
}
