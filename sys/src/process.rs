//! Processes, their credentials and namespaces.

use std::fs;
use std::io;
use std::marker::PhantomData;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::Mutex;

use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{DumpableBehavior, Pid, PidfdFlags};
use rustix::thread::CapabilitiesSecureBits;

use crate::raw;
use crate::stack::Stack;

/// Sends a signal to the process that `pidfd` names: `pidfd_send_signal(2)`, Linux 5.1.
///
/// `signal` may be 0 (is it there?) or a real-time signal.
pub fn pidfd_send_signal(pidfd: impl AsFd, signal: i32) -> io::Result<()> {
    // SAFETY: the null siginfo makes the kernel fill one in as kill(2) does; it reads no memory of ours.
    let ret = unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            pidfd.as_fd().as_raw_fd(),
            signal,
            std::ptr::null::<libc::siginfo_t>(),
            0,
        )
    };
    if ret < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// A descriptor of this process: `pidfd_open(2)`, Linux 5.3. Readable when its last thread has ended.
pub fn own_pidfd() -> io::Result<OwnedFd> {
    Ok(rustix::process::pidfd_open(rustix::process::getpid(), PidfdFlags::empty())?)
}

/// The boot that this process runs in: differs after each start of the machine.
pub fn boot_id() -> io::Result<String> {
    Ok(fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned())
}

/// When a process started, in clock ticks since boot: with its number it names the process for good.
///
/// `None` when there is no such process, or it has ended and only waits to be reaped.
pub fn start_time(pid: i32) -> io::Result<Option<u64>> {
    let text = match fs::read_to_string(format!("/proc/{pid}/stat")) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        // The process ended between open and read.
        Err(error) if error.raw_os_error() == Some(libc::ESRCH) => return Ok(None),
        Err(error) => return Err(error),
    };
    Ok(parse_stat(&text))
}

/// The name in parentheses may itself hold spaces and parentheses: what follows the last one counts.
fn parse_stat(text: &str) -> Option<u64> {
    let (_, fields) = text.rsplit_once(')')?;
    let mut fields = fields.split_whitespace();
    let state = fields.next()?;
    // Field 22 of proc_pid_stat(5); `state` is field 3.
    let start = fields.nth(18)?.parse().ok()?;
    (!matches!(state, "Z" | "X")).then_some(start)
}

struct Dumpable {
    users: usize,
    before: bool,
}

static DUMPABLE: Mutex<Dumpable> = Mutex::new(Dumpable { users: 0, before: false });

/// Nobody may look into this process's memory while a value of this type is held.
///
/// A child that shares our memory could otherwise be traced by whoever holds `CAP_SYS_PTRACE` in the user namespace
/// that it has entered, and with it all of us. The flag belongs to the memory, not to a thread, so the values are
/// counted; a child that changes its ids changes the flag too, so that the last one sets it back in any case.
#[derive(Debug)]
pub struct NotDumpable(());

impl NotDumpable {
    /// Clears the flag: `prctl(PR_SET_DUMPABLE)`.
    pub fn new() -> io::Result<Self> {
        let mut state = DUMPABLE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if state.users == 0 {
            state.before = rustix::process::dumpable_behavior()? == DumpableBehavior::Dumpable;
        }
        rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
        state.users += 1;
        Ok(Self(()))
    }
}

impl Drop for NotDumpable {
    fn drop(&mut self) {
        let mut state = DUMPABLE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        state.users -= 1;
        if state.users == 0 && state.before {
            // It can fail only for a value that the kernel doesn't know.
            let _ = rustix::process::set_dumpable_behavior(DumpableBehavior::Dumpable);
        }
    }
}

/// While it is held, this thread makes files as another user and keeps its capabilities.
///
/// An overlay records these as the credentials of its mounter, and its upper accepts files of that owner only.
#[derive(Debug)]
pub struct FsIds {
    secure_bits: CapabilitiesSecureBits,
    uid: u32,
    gid: u32,
    /// Each change of these ids takes the dumpable flag away from the whole process; dropped last, this sets it back.
    _dumpable: NotDumpable,
    /// Credentials are a thread's.
    not_send: PhantomData<*const ()>,
}

impl FsIds {
    /// Sets the thread's `fsuid` and `fsgid`: `setfsuid(2)` with `SECBIT_NO_SETUID_FIXUP`.
    pub fn set(uid: u32, gid: u32) -> io::Result<Self> {
        let dumpable = NotDumpable::new()?;
        let secure_bits = rustix::thread::capabilities_secure_bits()?;
        rustix::thread::set_capabilities_secure_bits(secure_bits | CapabilitiesSecureBits::NO_SETUID_FIXUP)?;
        let guard = Self {
            secure_bits,
            uid: exchange(libc::SYS_setfsuid, uid),
            gid: exchange(libc::SYS_setfsgid, gid),
            _dumpable: dumpable,
            not_send: PhantomData,
        };
        // The calls report no failure: ask.
        if exchange(libc::SYS_setfsuid, u32::MAX) != uid || exchange(libc::SYS_setfsgid, u32::MAX) != gid {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        Ok(guard)
    }
}

impl Drop for FsIds {
    fn drop(&mut self) {
        exchange(libc::SYS_setfsuid, self.uid);
        exchange(libc::SYS_setfsgid, self.gid);
        // What we could set we may set back: CAP_SETPCAP was kept.
        let _ = rustix::thread::set_capabilities_secure_bits(self.secure_bits);
    }
}

/// Sets one of the two and returns what it was. An id that isn't valid changes nothing.
fn exchange(call: libc::c_long, id: u32) -> u32 {
    // SAFETY: the call takes a number and touches no memory. glibc's wrapper returns an int, in which ids from 2^31
    // on look like errors; the raw result is cut to 32 bits.
    unsafe { libc::syscall(call, id) as u32 }
}

/// A new user namespace with these maps (lines `inside outside count`), owned by this process's user.
///
/// A throw-away child makes it, since a process with threads can't change its own.
pub fn user_namespace(uid_map: &str, gid_map: &str) -> io::Result<OwnedFd> {
    let stack = Stack::new(32 * 1024)?;
    let (wait_for, hold) = pipe_with(PipeFlags::CLOEXEC)?;
    let mut arg = wait_for.as_raw_fd();
    let flags = libc::CLONE_VM | libc::CLONE_NEWUSER | libc::SIGCHLD;
    // SAFETY: `pause_until_closed` touches nothing but its argument and its own stack, of which `top` is the end;
    // both outlive the child, which is reaped below on every path.
    let pid =
        unsafe { libc::clone(pause_until_closed, stack.top(), flags, std::ptr::from_mut(&mut arg).cast()) };
    if pid < 0 {
        return Err(io::Error::last_os_error());
    }
    let made = (|| {
        fs::write(format!("/proc/{pid}/uid_map"), uid_map)?;
        fs::write(format!("/proc/{pid}/gid_map"), gid_map)?;
        Ok(fs::File::open(format!("/proc/{pid}/ns/user"))?.into())
    })();
    // The child holds a copy of `hold`, so closing ours doesn't end it.
    if let Some(pid) = Pid::from_raw(pid) {
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        let _ = rustix::io::retry_on_intr(|| {
            rustix::process::waitpid(Some(pid), rustix::process::WaitOptions::empty())
        });
    }
    drop(hold);
    made
}

extern "C" fn pause_until_closed(arg: *mut libc::c_void) -> libc::c_int {
    let mut byte = 0_u8;
    // SAFETY: `arg` points to the descriptor that the parent keeps alive; the kernel writes one byte at most.
    unsafe {
        let fd = *arg.cast::<libc::c_int>();
        // Ends with the parent even when that is killed.
        raw::syscall(libc::SYS_prctl, [libc::PR_SET_PDEATHSIG as usize, libc::SIGKILL as usize, 0, 0, 0, 0]);
        raw::syscall(libc::SYS_read, [fd as usize, std::ptr::from_mut(&mut byte) as usize, 1, 0, 0, 0]);
    }
    0
}

/// Gives this thread a mount namespace of its own, with private propagation; the rest of the process stays behind.
pub fn unshare_mounts() -> io::Result<()> {
    // SAFETY: NEWNS and FS concern names of files only; no memory or descriptor table becomes unshared, and other
    // threads keep their root and working directory.
    unsafe {
        rustix::thread::unshare_unsafe(
            rustix::thread::UnshareFlags::NEWNS | rustix::thread::UnshareFlags::FS,
        )?
    };
    crate::mount::make_private(c"/")
}

/// Blocks every signal in this thread, so that handlers run elsewhere.
pub fn block_signals() -> io::Result<()> {
    // SAFETY: `set` is initialised by sigfillset before pthread_sigmask reads it; the old mask isn't asked for.
    let error = unsafe {
        let mut set = std::mem::zeroed::<libc::sigset_t>();
        libc::sigfillset(&mut set);
        libc::pthread_sigmask(libc::SIG_SETMASK, &set, std::ptr::null_mut())
    };
    if error == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(error)) }
}

/// The highest capability that the kernel knows.
pub fn last_capability() -> io::Result<u32> {
    let text = fs::read_to_string("/proc/sys/kernel/cap_last_cap")?;
    text.trim().parse().map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_parentheses_does_not_hide_the_start_time() {
        let text = "42 (a) b (c) S 1 42 42 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 777 0 0";
        assert_eq!(parse_stat(text), Some(777));
        assert_eq!(parse_stat(&text.replace(" S ", " Z ")), None);
    }

    #[test]
    fn this_process_has_a_start_time_and_a_boot() {
        let pid = std::process::id() as i32;
        assert_eq!(start_time(pid).unwrap(), start_time(pid).unwrap());
        assert!(start_time(pid).unwrap().is_some());
        assert_eq!(start_time(i32::MAX).unwrap(), None);
        assert_eq!(boot_id().unwrap().len(), 36);
    }

    #[test]
    fn the_flag_comes_back_with_the_last_user_even_when_it_was_changed_meanwhile() {
        let _only = crate::serial();
        let flag = || rustix::process::dumpable_behavior().unwrap();
        assert_eq!(flag(), DumpableBehavior::Dumpable);
        let first = NotDumpable::new().unwrap();
        let second = NotDumpable::new().unwrap();
        drop(first);
        assert_eq!(flag(), DumpableBehavior::NotDumpable);
        drop(second);
        assert_eq!(flag(), DumpableBehavior::Dumpable);
    }

    #[test]
    #[ignore = "root: changes the file-system ids of a thread"]
    fn root_file_system_ids_from_the_upper_half_are_set_and_come_back() {
        let _only = crate::serial();
        for id in [1_879_048_192, 2_147_549_184] {
            let guard = FsIds::set(id, id).unwrap();
            assert_eq!(exchange(libc::SYS_setfsuid, u32::MAX), id);
            drop(guard);
            assert_eq!(exchange(libc::SYS_setfsuid, u32::MAX), 0);
            let bits = rustix::thread::capabilities_secure_bits().unwrap();
            assert!(!bits.contains(CapabilitiesSecureBits::NO_SETUID_FIXUP));
            assert_eq!(rustix::process::dumpable_behavior().unwrap(), DumpableBehavior::Dumpable);
        }
    }

    #[test]
    #[ignore = "root: makes a user namespace with a full map"]
    fn root_a_user_namespace_has_both_extents_and_its_maker_is_gone() {
        let _only = crate::serial();
        let before = children();
        let map = "0 1879048192 65536\n65536 2147549184 2147418111\n";
        let namespace = user_namespace(map, map).unwrap();
        let kind = rustix::fs::fstatfs(&namespace).unwrap().f_type;
        assert_eq!(kind as u64, 0x6e73_6673, "a namespace file");
        assert_eq!(children(), before);
    }

    fn children() -> usize {
        let mut count = 0;
        for task in fs::read_dir("/proc/self/task").unwrap() {
            let text = fs::read_to_string(task.unwrap().path().join("children")).unwrap_or_default();
            count += text.split_whitespace().count();
        }
        count
    }

    #[test]
    #[ignore = "root: makes mount namespaces"]
    fn root_mounts_of_a_new_namespace_are_private() {
        std::thread::spawn(|| {
            unshare_mounts().unwrap();
            // As systemd has it on the host; in the first namespace it concerns nobody.
            let shared =
                rustix::mount::MountPropagationFlags::SHARED | rustix::mount::MountPropagationFlags::REC;
            rustix::mount::mount_change("/", shared).unwrap();
            let table = || std::fs::read_to_string("/proc/thread-self/mountinfo").unwrap();
            assert!(table().contains(" shared:"));
            unshare_mounts().unwrap();
            assert!(!table().contains(" shared:") && !table().contains(" master:"), "{}", table());
        })
        .join()
        .unwrap();
    }
}
