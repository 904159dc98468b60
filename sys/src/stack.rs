//! A stack for a child that shares our memory.

use std::io;
use std::ptr::NonNull;

const PAGE: usize = 4096;

/// Memory with a guard page below it.
#[derive(Debug)]
pub(crate) struct Stack {
    start: NonNull<libc::c_void>,
    length: usize,
}

// SAFETY: the memory belongs to the value alone, whichever thread holds it.
unsafe impl Send for Stack {}

impl Stack {
    /// `size` bytes, rounded up to pages; pages cost nothing until touched.
    pub(crate) fn new(size: usize) -> io::Result<Self> {
        let length = size.next_multiple_of(PAGE) + PAGE;
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_STACK | libc::MAP_NORESERVE;
        // SAFETY: a new mapping at an address that the kernel chooses touches no memory in use.
        let start = unsafe { libc::mmap(std::ptr::null_mut(), length, protection, flags, -1, 0) };
        let start = if start == libc::MAP_FAILED { None } else { NonNull::new(start) };
        let stack = Self { start: start.ok_or_else(io::Error::last_os_error)?, length };
        // SAFETY: the first page of the mapping just made.
        if unsafe { libc::mprotect(stack.start.as_ptr(), PAGE, libc::PROT_NONE) } != 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(stack)
    }

    /// Its end, where a stack begins; a multiple of 16.
    pub(crate) fn top(&self) -> *mut libc::c_void {
        // SAFETY: one past the end of the mapping is in bounds for pointer arithmetic.
        unsafe { self.start.as_ptr().add(self.length) }
    }

    /// The lowest usable address and the size from there, as `clone3(2)` wants them.
    pub(crate) fn usable(&self) -> (usize, usize) {
        (self.start.as_ptr() as usize + PAGE, self.length - PAGE)
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours and no child runs on it: each is waited for before its stack is dropped.
        unsafe { libc::munmap(self.start.as_ptr(), self.length) };
    }
}
