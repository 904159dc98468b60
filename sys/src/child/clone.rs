//! The parent's half: `clone3(2)` or `clone(2)`, and what came of it.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::sync::atomic::{AtomicI32, AtomicU32, AtomicU64, Ordering};

use rustix::process::{WaitId, WaitIdOptions, waitid};

use super::run::{Context, Vectors, run};
use super::{NOTHING, Program, Report, SpawnError, Spawned, Step};
use crate::kernel::{self, Feature};
use crate::process::NotDumpable;
use crate::stack::Stack;

/// Namespaces that the child is born in, as `CLONE_NEW*` bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Namespaces(u64);

impl Namespaces {
    /// None.
    pub const NONE: Self = Self(0);
    /// Mounts.
    pub const MOUNT: Self = Self(libc::CLONE_NEWNS as u64);
    /// Process IDs.
    pub const PID: Self = Self(libc::CLONE_NEWPID as u64);
    /// System V IPC and POSIX message queues.
    pub const IPC: Self = Self(libc::CLONE_NEWIPC as u64);
    /// Names of the host.
    pub const UTS: Self = Self(libc::CLONE_NEWUTS as u64);
    /// Network.
    pub const NETWORK: Self = Self(libc::CLONE_NEWNET as u64);

    /// Both.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// Starts children, one at a time, from the thread that holds it.
#[derive(Debug)]
pub struct Spawner {
    stack: Stack,
    /// Lets go of the parent at once, so that only [`await_own_memory`] holds it: the kernel's gap between the two is
    /// too short for a test.
    #[cfg(test)]
    pub(super) without_vfork: bool,
}

/// The child needs little: the deepest step is the walk that replaces `openat2`, with two paths on the stack.
const STACK: usize = 256 * 1024;

impl Spawner {
    /// Makes the stack.
    pub fn new() -> io::Result<Self> {
        Ok(Self {
            stack: Stack::new(STACK)?,
            #[cfg(test)]
            without_vfork: false,
        })
    }

    fn flags(&self, namespaces: Namespaces) -> u64 {
        #[cfg(test)]
        if self.without_vfork {
            return (SHARED & !(libc::CLONE_VFORK as u64)) | namespaces.0;
        }
        SHARED | namespaces.0
    }

    /// Starts a child in new namespaces, on cgroup v2 directly in `cgroup`, and returns when its program runs.
    ///
    /// The thread must have all signals blocked ([`block_signals`](crate::process::block_signals)): a handler must not
    /// run in the child. `cgroup` must be `None` without [`Feature::Clone3`].
    pub fn spawn(
        &mut self,
        program: &mut Program,
        namespaces: Namespaces,
        cgroup: Option<BorrowedFd<'_>>,
    ) -> Result<Spawned, SpawnError> {
        program.vectors = program.steps.iter().map(Vectors::of).collect();
        let report =
            Report { step: AtomicU32::new(NOTHING), errno: AtomicI32::new(0), clamped: AtomicU64::new(0) };
        let descriptors = program.descriptors();
        let context = Context {
            steps: &program.steps,
            vectors: &program.vectors,
            descriptors: &descriptors,
            report: &report,
            openat2: kernel::has(Feature::Openat2),
            setattr: kernel::has(Feature::MountSetattr),
            close_range: kernel::has(Feature::CloseRange),
        };
        // From before the child can be seen until it has a memory of its own.
        let not_dumpable = NotDumpable::new().map_err(SpawnError::Clone)?;
        let cloned = if kernel::has(Feature::Clone3) {
            clone3(&self.stack, self.flags(namespaces), cgroup, &context)
        } else {
            clone(&self.stack, self.flags(namespaces), &context)
        };
        if let Ok((pid, _)) = &cloned {
            await_own_memory(*pid);
        }
        drop(not_dumpable);
        let (pid, pidfd) = cloned.map_err(SpawnError::Clone)?;
        let step = report.step.load(Ordering::Acquire);
        if step != NOTHING {
            let _ = rustix::io::retry_on_intr(|| {
                use std::os::fd::AsFd;
                waitid(WaitId::PidFd(pidfd.as_fd()), WaitIdOptions::EXITED)
            });
            let error = io::Error::from_raw_os_error(report.errno.load(Ordering::Acquire));
            return Err(SpawnError::Step { step: step as usize, error });
        }
        Ok(Spawned { pid, pidfd, clamped: report.clamped.load(Ordering::Acquire) })
    }
}

impl Program {
    /// The step at an index, for messages.
    pub fn step(&self, index: usize) -> Option<&Step> {
        self.steps.get(index)
    }
}

/// Waits until the child no longer shares our memory (`kcmp(2)`, Linux 3.5).
///
/// The kernel lets go of a vfork's parent at the start of `exec_mmap`, a moment *before* the child has its new memory: in
/// that moment the child still leads to ours. Where the kernel doesn't answer nothing more can be learned.
fn await_own_memory(child: i32) {
    const KCMP_VM: libc::c_int = 1;
    // SAFETY: the call takes numbers only.
    let same =
        || unsafe { libc::syscall(libc::SYS_kcmp, libc::getpid(), child, KCMP_VM, 0_usize, 0_usize) } == 0;
    while same() {
        std::thread::yield_now();
    }
}

const SHARED: u64 = (libc::CLONE_VM | libc::CLONE_VFORK | libc::CLONE_PIDFD) as u64;

/// `struct clone_args` of `clone3(2)`.
#[repr(C)]
#[derive(Default)]
struct CloneArgs {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

/// By `clone3(2)`, Linux 5.3, into a cgroup of version 2 (5.7).
#[cfg(target_arch = "x86_64")]
fn clone3(
    stack: &Stack,
    flags: u64,
    cgroup: Option<BorrowedFd<'_>>,
    context: &Context<'_>,
) -> io::Result<(i32, OwnedFd)> {
    const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;
    let mut pidfd: libc::c_int = -1;
    let (bottom, size) = stack.usable();
    let mut args = CloneArgs {
        flags,
        pidfd: std::ptr::from_mut(&mut pidfd) as u64,
        exit_signal: libc::SIGCHLD as u64,
        stack: bottom as u64,
        stack_size: size as u64,
        ..CloneArgs::default()
    };
    if let Some(cgroup) = cgroup {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = cgroup.as_raw_fd() as u64;
    }
    let ret: isize;
    // SAFETY: the kernel reads `args` and writes `pidfd`, both alive. Parent and child return here; the child has its
    // own stack, whose end is a multiple of 16, so the call is aligned as the ABI wants it. It calls `main`, which
    // uses `context` (alive: this thread is suspended until the child has another memory or is gone) and never
    // returns; should it, the child ends by the exit below. So the parent's frame is seen by the parent only.
    unsafe {
        std::arch::asm!(
            "syscall",
            "test rax, rax",
            "jnz 2f",
            "xor ebp, ebp",
            "mov rdi, r12",
            "call r13",
            "mov edi, eax",
            "mov eax, 60",
            "syscall",
            "ud2",
            "2:",
            inlateout("rax") libc::SYS_clone3 as isize => ret,
            in("rdi") std::ptr::from_mut(&mut args),
            in("rsi") size_of::<CloneArgs>(),
            in("r12") std::ptr::from_ref(context),
            in("r13") main as extern "C" fn(*mut libc::c_void) -> libc::c_int,
            lateout("rcx") _,
            lateout("r11") _,
        );
    }
    finish(ret, pidfd)
}

#[cfg(not(target_arch = "x86_64"))]
fn clone3(_: &Stack, _: u64, _: Option<BorrowedFd<'_>>, _: &Context<'_>) -> io::Result<(i32, OwnedFd)> {
    // `kernel::has(Feature::Clone3)` says no on these.
    Err(io::ErrorKind::Unsupported.into())
}

/// By `clone(2)`.
fn clone(stack: &Stack, flags: u64, context: &Context<'_>) -> io::Result<(i32, OwnedFd)> {
    let mut pidfd: libc::pid_t = -1;
    let flags = flags as libc::c_int | libc::SIGCHLD;
    // SAFETY: `main` runs on the given stack and uses `context`, which is alive while this thread is suspended;
    // CLONE_PIDFD makes the kernel write the descriptor where the parent's thread ID would go.
    let pid = unsafe {
        libc::clone(
            main,
            stack.top(),
            flags,
            std::ptr::from_ref(context).cast_mut().cast(),
            std::ptr::from_mut(&mut pidfd),
        )
    };
    let ret = if pid < 0 {
        -(io::Error::last_os_error().raw_os_error().unwrap_or(libc::EINVAL) as isize)
    } else {
        pid as isize
    };
    finish(ret, pidfd)
}

fn finish(ret: isize, pidfd: libc::c_int) -> io::Result<(i32, OwnedFd)> {
    if ret < 0 {
        return Err(io::Error::from_raw_os_error(-ret as i32));
    }
    // SAFETY: the kernel has just made this descriptor for us, close-on-exec, and nobody else knows its number.
    Ok((ret as i32, unsafe { OwnedFd::from_raw_fd(pidfd) }))
}

/// Where the child begins.
extern "C" fn main(context: *mut libc::c_void) -> libc::c_int {
    // SAFETY: `context` is the one that the parent passed to clone and keeps alive and unchanged.
    run(unsafe { &*context.cast::<Context<'_>>() })
}
