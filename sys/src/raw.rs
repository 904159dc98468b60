//! The system call instruction itself.
//!
//! For the child of a vfork-like clone, which shares the parent's thread-local storage: `libc::syscall` would write
//! the parent's `errno`. Results are the kernel's: a negative number is an error.

use std::arch::asm;

/// One system call.
///
/// # Safety
///
/// As for the call itself: pointers must be valid for what the kernel reads and writes through them.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
pub(crate) unsafe fn syscall(number: libc::c_long, args: [usize; 6]) -> isize {
    let ret: isize;
    // SAFETY: the kernel clobbers rax, rcx and r11 only; memory is as the caller promised.
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") number as isize => ret,
            in("rdi") args[0], in("rsi") args[1], in("rdx") args[2],
            in("r10") args[3], in("r8") args[4], in("r9") args[5],
            lateout("rcx") _, lateout("r11") _,
            options(nostack)
        );
    }
    ret
}

/// One system call.
///
/// # Safety
///
/// As for the call itself: pointers must be valid for what the kernel reads and writes through them.
#[cfg(target_arch = "aarch64")]
#[inline(always)]
pub(crate) unsafe fn syscall(number: libc::c_long, args: [usize; 6]) -> isize {
    let ret: isize;
    // SAFETY: the kernel clobbers x0 only; memory is as the caller promised.
    unsafe {
        asm!(
            "svc #0",
            in("x8") number,
            inlateout("x0") args[0] as isize => ret,
            in("x1") args[1], in("x2") args[2], in("x3") args[3], in("x4") args[4], in("x5") args[5],
            options(nostack)
        );
    }
    ret
}
