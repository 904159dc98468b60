//! The child's half: steps to system calls. Nothing here may allocate, lock, panic or use thread-local storage.

use std::ffi::CStr;
use std::sync::atomic::{AtomicI32, Ordering};

use super::resolve::{kind_of, open_in_root};
use super::{CapabilitySets, Follow, Handle, NOTHING, NewFs, Report, Step};
use crate::raw;

/// An error number, positive.
pub(super) type Errno = i32;

/// All that the child may look at.
pub(super) struct Context<'a> {
    pub(super) steps: &'a [Step],
    pub(super) vectors: &'a [Vectors],
    pub(super) descriptors: &'a [AtomicI32],
    pub(super) report: &'a Report,
    pub(super) openat2: bool,
    pub(super) setattr: bool,
    pub(super) close_range: bool,
}

/// Pointer arrays for `execve(2)`, ended by a null pointer. Empty for other steps.
#[derive(Debug, Default)]
pub(super) struct Vectors {
    argv: Vec<usize>,
    envp: Vec<usize>,
}

impl Vectors {
    /// Pointers to the strings of `step`, which must not move before the child has run.
    pub(super) fn of(step: &Step) -> Self {
        let Step::Execute { argv, envp, .. } = step else { return Self::default() };
        let pointers = |strings: &[std::ffi::CString]| {
            strings.iter().map(|string| string.as_ptr() as usize).chain([0]).collect()
        };
        Self { argv: pointers(argv), envp: pointers(envp) }
    }
}

/// Carries out the steps. Returns only when one failed: its exit status.
pub(super) fn run(context: &Context<'_>) -> i32 {
    for (index, step) in context.steps.iter().enumerate() {
        if let Err(errno) = carry_out(context, index, step) {
            context.report.errno.store(errno, Ordering::Release);
            context.report.step.store(u32::try_from(index).unwrap_or(NOTHING - 1), Ordering::Release);
            return 127;
        }
    }
    context.report.errno.store(libc::ENOEXEC, Ordering::Release);
    context.report.step.store(NOTHING - 1, Ordering::Release);
    127
}

pub(super) fn check(ret: isize) -> Result<usize, Errno> {
    usize::try_from(ret).map_err(|_| i32::try_from(ret.unsigned_abs()).unwrap_or(libc::EINVAL))
}

/// A system call whose arguments are numbers, or point to what outlives it.
///
/// # Safety
///
/// As for the call itself.
unsafe fn call<const N: usize>(number: libc::c_long, args: [usize; N]) -> Result<usize, Errno> {
    let mut all = [0; 6];
    for (to, from) in all.iter_mut().zip(args) {
        *to = from;
    }
    // SAFETY: promised by the caller.
    check(unsafe { raw::syscall(number, all) })
}

fn address(text: &CStr) -> usize {
    text.as_ptr() as usize
}

const AT_CWD: usize = libc::AT_FDCWD as usize;

impl Context<'_> {
    fn fd(&self, handle: Handle) -> Result<i32, Errno> {
        match self.descriptors.get(handle.0).map(|fd| fd.load(Ordering::Relaxed)) {
            Some(fd) if fd >= 0 => Ok(fd),
            _ => Err(libc::EBADF),
        }
    }

    fn store(&self, handle: Handle, fd: i32) -> Result<(), Errno> {
        self.descriptors.get(handle.0).ok_or(libc::EBADF)?.store(fd, Ordering::Relaxed);
        Ok(())
    }

    /// Opens (`O_PATH`) what `path` names below `root`; never leaves it, never through a magic link.
    fn open(&self, root: i32, path: &CStr, follow: Follow) -> Result<i32, Errno> {
        if self.openat2 {
            let mut resolve = libc::RESOLVE_IN_ROOT | libc::RESOLVE_NO_MAGICLINKS;
            if follow == Follow::Nothing {
                resolve |= libc::RESOLVE_NO_SYMLINKS;
            }
            let how = [(libc::O_PATH | libc::O_CLOEXEC) as u64, 0, resolve];
            let mut tries = 0;
            loop {
                // SAFETY: `how` is a `struct open_how` (three u64) and lives across the call, as does `path`.
                let ret = unsafe {
                    call(
                        libc::SYS_openat2,
                        [root as usize, address(path), how.as_ptr() as usize, size_of_val(&how)],
                    )
                };
                match ret {
                    // A rename or mount somewhere made the kernel unsure of a `..` (`openat2(2)`, EAGAIN).
                    Err(libc::EAGAIN) if tries < 1000 => tries += 1,
                    other => return other.map(|fd| fd as i32),
                }
            }
        }
        open_in_root(root, path.to_bytes(), follow == Follow::Links)
    }
}

/// `name` ends with a NUL byte.
pub(super) fn openat(dir: i32, name: &[u8], flags: i32) -> Result<i32, Errno> {
    let args = [dir as usize, name.as_ptr() as usize, (flags | libc::O_CLOEXEC) as usize, 0];
    // SAFETY: `name` is NUL-terminated and lives across the call.
    unsafe { call(libc::SYS_openat, args) }.map(|fd| fd as i32)
}

pub(super) fn close(fd: i32) {
    // SAFETY: the child closes descriptors of its own table that it opened itself.
    let _ = unsafe { call(libc::SYS_close, [fd as usize]) };
}

fn write(fd: i32, bytes: &[u8]) -> Result<(), Errno> {
    // SAFETY: the kernel reads `bytes` only.
    let written = unsafe { call(libc::SYS_write, [fd as usize, bytes.as_ptr() as usize, bytes.len()]) }?;
    if written == bytes.len() { Ok(()) } else { Err(libc::EIO) }
}

fn clone_tree(dir: usize, path: &CStr, recursive: bool) -> Result<i32, Errno> {
    let mut flags = 1 /* OPEN_TREE_CLONE */ | libc::O_CLOEXEC as usize;
    flags |= (libc::AT_EMPTY_PATH | libc::AT_SYMLINK_NOFOLLOW) as usize;
    if recursive {
        flags |= libc::AT_RECURSIVE as usize;
    }
    // SAFETY: `path` is NUL-terminated and lives across the call.
    unsafe { call(libc::SYS_open_tree, [dir, address(path), flags]) }.map(|fd| fd as i32)
}

/// Puts a detached mount on an open file or directory, or on a path relative to it.
fn move_mount(mount: i32, dir: usize, path: &CStr) -> Result<(), Errno> {
    let flags = 0x4 /* MOVE_MOUNT_F_EMPTY_PATH */ | 0x40 /* MOVE_MOUNT_T_EMPTY_PATH */;
    // SAFETY: both paths are NUL-terminated and live across the call.
    unsafe { call(libc::SYS_move_mount, [mount as usize, address(c""), dir, address(path), flags]) }.map(drop)
}

fn prctl(option: i32, args: [usize; 4]) -> Result<usize, Errno> {
    // SAFETY: the options used here take numbers only.
    unsafe { call(libc::SYS_prctl, [option as usize, args[0], args[1], args[2], args[3]]) }
}

fn carry_out(context: &Context<'_>, index: usize, step: &Step) -> Result<(), Errno> {
    match step {
        // SAFETY: takes nothing.
        Step::Session => unsafe { call(libc::SYS_setsid, []) }.map(drop),
        Step::ControllingTerminal => {
            // SAFETY: takes numbers.
            unsafe { call(libc::SYS_ioctl, [0, libc::TIOCSCTTY as usize, 0]) }.map(drop)
        }
        Step::Write { file, bytes } => write(context.fd(*file)?, bytes),
        Step::WriteIn { dir, path, bytes } => {
            let fd = openat(context.fd(*dir)?, path.to_bytes_with_nul(), libc::O_WRONLY | libc::O_NOFOLLOW)?;
            let written = write(fd, bytes);
            close(fd);
            written
        }
        // SAFETY: the flags are namespaces: they unshare no memory.
        Step::Unshare(flags) => unsafe { call(libc::SYS_unshare, [*flags as usize]) }.map(drop),
        Step::Hostname(name) => {
            // SAFETY: the kernel reads `name` only.
            unsafe { call(libc::SYS_sethostname, [name.as_ptr() as usize, name.len()]) }.map(drop)
        }
        Step::Domainname(name) => {
            // SAFETY: the kernel reads `name` only.
            unsafe { call(libc::SYS_setdomainname, [name.as_ptr() as usize, name.len()]) }.map(drop)
        }
        Step::LoopbackUp => loopback_up(),
        Step::AttachAt { mount, path } => move_mount(context.fd(*mount)?, AT_CWD, path),
        Step::MountNew { fs, into } => context.store(*into, mount_new(fs)?),
        Step::CloneAt { path, into } => context.store(*into, clone_tree(AT_CWD, path, false)?),
        Step::CloneIn { dir, path, into } => {
            let copy = clone_tree(context.fd(*dir)? as usize, path, false)?;
            context.store(*into, copy)
        }
        Step::Attach { mount, root, path, follow } => {
            let target = context.open(context.fd(*root)?, path, *follow)?;
            // Nothing may cover what the kernel's own file systems show, whatever a link of the image says.
            if *follow == Follow::Links && is_kernel_fs(target)? {
                return Err(libc::EACCES);
            }
            let attached = move_mount(context.fd(*mount)?, target as usize, c"");
            close(target);
            attached
        }
        Step::Mask { root, path, file, directory } => {
            let Some(target) = absent(context.open(context.fd(*root)?, path, Follow::Nothing))? else {
                return Ok(());
            };
            let cover = if kind_of(target)? == libc::S_IFDIR { directory } else { file };
            let cover = clone_tree(AT_CWD, cover, false)?;
            move_mount(cover, target as usize, c"")
        }
        Step::ReadOnly { root, path, descriptors } => {
            let Some(target) = absent(context.open(context.fd(*root)?, path, Follow::Nothing))? else {
                return Ok(());
            };
            read_only(context, target, descriptors)
        }
        Step::EnterRoot { root } => enter_root(context.fd(*root)?),
        Step::ChangeDirectory { root, path } => {
            let directory = context.open(context.fd(*root)?, path, Follow::Links)?;
            change_directory(directory)
        }
        Step::Limit { resource, soft, hard } => limit(context, *resource, *soft, *hard),
        Step::Stdio { stdin, stdout, stderr } => {
            for (to, from) in [stdin, stdout, stderr].into_iter().enumerate() {
                // SAFETY: takes numbers; the parent made sure that none of the three is below 3.
                unsafe { call(libc::SYS_dup3, [context.fd(*from)? as usize, to, 0]) }?;
            }
            Ok(())
        }
        Step::EnterUserNamespace(namespace) => {
            // SAFETY: takes numbers. A user namespace can be entered with memory shared: only CLONE_FS forbids it.
            unsafe { call(libc::SYS_setns, [context.fd(*namespace)? as usize, libc::CLONE_NEWUSER as usize]) }
                .map(drop)
        }
        Step::Bound { keep, last } => bound(*keep, *last),
        Step::Groups(groups) => {
            // SAFETY: the kernel reads `groups.len()` IDs from `groups`.
            unsafe { call(libc::SYS_setgroups, [groups.len(), groups.as_ptr() as usize]) }.map(drop)
        }
        Step::Group(id) => {
            let id = *id as usize;
            // SAFETY: takes numbers.
            unsafe { call(libc::SYS_setresgid, [id, id, id]) }.map(drop)
        }
        Step::User(id) => {
            prctl(libc::PR_SET_KEEPCAPS, [1, 0, 0, 0])?;
            let id = *id as usize;
            // SAFETY: takes numbers.
            unsafe { call(libc::SYS_setresuid, [id, id, id]) }.map(drop)
        }
        Step::Capabilities(sets) => capset(sets),
        Step::NoNewPrivileges => prctl(libc::PR_SET_NO_NEW_PRIVS, [1, 0, 0, 0]).map(drop),
        Step::Seccomp(program) => {
            let program = libc::sock_fprog {
                len: u16::try_from(program.len()).map_err(|_| libc::EINVAL)?,
                filter: program.as_ptr().cast_mut().cast(),
            };
            let flags = libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW as usize;
            let args = [libc::SECCOMP_SET_MODE_FILTER as usize, flags, std::ptr::from_ref(&program) as usize];
            // SAFETY: `BpfInstruction` has the layout of `struct sock_filter`; the kernel copies the program.
            unsafe { call(libc::SYS_seccomp, args) }.map(drop)
        }
        // SAFETY: takes a number; without CLONE_FS the mask is the child's own.
        Step::Umask(mask) => unsafe { call(libc::SYS_umask, [*mask as usize]) }.map(drop),
        Step::DieWithParent { parent } => {
            prctl(libc::PR_SET_PDEATHSIG, [libc::SIGKILL as usize, 0, 0, 0])?;
            let mut poll = libc::pollfd { fd: context.fd(*parent)?, events: libc::POLLIN, revents: 0 };
            let now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
            let args = [std::ptr::from_mut(&mut poll) as usize, 1, std::ptr::from_ref(&now) as usize, 0, 0];
            // SAFETY: one pollfd is read and written, one timespec read; both live across the call.
            let ended = unsafe { call(libc::SYS_ppoll, args) }?;
            if ended == 0 { Ok(()) } else { Err(libc::ESRCH) }
        }
        Step::CloseAll { proc } => close_all(context, context.fd(*proc)?),
        Step::Execute { paths, .. } => {
            default_signals()?;
            let vectors = context.vectors.get(index).ok_or(libc::EINVAL)?;
            execute(paths, vectors)
        }
    }
}

fn is_kernel_fs(fd: i32) -> Result<bool, Errno> {
    // `struct statfs` in 64-bit words, the first of which is the type.
    let mut statfs = [0_u64; 15];
    // SAFETY: `statfs` has the size of the structure that the kernel fills in.
    unsafe { call(libc::SYS_fstatfs, [fd as usize, statfs.as_mut_ptr() as usize]) }?;
    Ok(matches!(statfs[0], 0x9fa0 /* PROC_SUPER_MAGIC */ | 0x6265_6572 /* SYSFS_MAGIC */))
}

/// For what need not be there.
fn absent(opened: Result<i32, Errno>) -> Result<Option<i32>, Errno> {
    match opened {
        Ok(fd) => Ok(Some(fd)),
        Err(libc::ENOENT | libc::ENOTDIR) => Ok(None),
        Err(errno) => Err(errno),
    }
}

fn loopback_up() -> Result<(), Errno> {
    // `struct ifreq`: the name in 16 bytes, then a union of which the first two are the flags.
    let mut request = [0_u8; 40];
    for (to, from) in request.iter_mut().zip(*b"lo") {
        *to = from;
    }
    for (to, from) in request.iter_mut().skip(16).zip((libc::IFF_UP as u16).to_ne_bytes()) {
        *to = from;
    }
    let kind = (libc::SOCK_DGRAM | libc::SOCK_CLOEXEC) as usize;
    // SAFETY: `request` has the size of `struct ifreq` and lives across the call; the kernel reads it.
    unsafe {
        let socket = call(libc::SYS_socket, [libc::AF_INET as usize, kind, 0])?;
        let up = call(libc::SYS_ioctl, [socket, libc::SIOCSIFFLAGS as usize, request.as_ptr() as usize]);
        close(socket as i32);
        up.map(drop)
    }
}

fn mount_new(fs: &NewFs) -> Result<i32, Errno> {
    const FSCONFIG_SET_FLAG: usize = 0;
    const FSCONFIG_SET_STRING: usize = 1;
    const FSCONFIG_CMD_CREATE: usize = 6;
    // SAFETY: all strings are NUL-terminated and live across the calls; the kernel reads them.
    unsafe {
        let context = call(libc::SYS_fsopen, [address(&fs.fstype), 1 /* FSOPEN_CLOEXEC */])?;
        let made = (|| {
            for key in &fs.flags {
                call(libc::SYS_fsconfig, [context, FSCONFIG_SET_FLAG, address(key), 0, 0])?;
            }
            for (key, value) in &fs.strings {
                call(libc::SYS_fsconfig, [context, FSCONFIG_SET_STRING, address(key), address(value), 0])?;
            }
            call(libc::SYS_fsconfig, [context, FSCONFIG_CMD_CREATE, 0, 0, 0])?;
            call(libc::SYS_fsmount, [context, 1 /* FSMOUNT_CLOEXEC */, fs.attributes as usize])
        })();
        close(context as i32);
        made.map(|fd| fd as i32)
    }
}

fn read_only(context: &Context<'_>, target: i32, descriptors: &CStr) -> Result<(), Errno> {
    let copy = clone_tree(target as usize, c"", true)?;
    if context.setattr {
        let attr = [1_u64 /* MOUNT_ATTR_RDONLY */, 0, 0, 0];
        let flags = (libc::AT_EMPTY_PATH | libc::AT_RECURSIVE) as usize;
        let args = [copy as usize, address(c""), flags, attr.as_ptr() as usize, size_of_val(&attr)];
        // SAFETY: `attr` is a `struct mount_attr` (four u64) and lives across the call.
        unsafe { call(libc::SYS_mount_setattr, args) }?;
        return move_mount(copy, target as usize, c"");
    }
    move_mount(copy, target as usize, c"")?;
    let mut path = [0_u8; 64];
    numbered(&mut path, descriptors.to_bytes(), copy)?;
    // `struct statfs` in 64-bit words; libc leaves out the eleventh, the flags.
    let mut statfs = [0_u64; 15];
    // SAFETY: `statfs` has the size of the structure that the kernel fills in; `path` is NUL-terminated.
    unsafe {
        call(libc::SYS_fstatfs, [copy as usize, statfs.as_mut_ptr() as usize])?;
        // What the mount forbids already must be said again; these bits are the same in both calls.
        let same = (libc::MS_NOSUID | libc::MS_NODEV | libc::MS_NOEXEC) as usize & statfs[10] as usize;
        let flags = (libc::MS_REMOUNT | libc::MS_BIND | libc::MS_RDONLY) as usize | same;
        call(libc::SYS_mount, [address(c""), path.as_ptr() as usize, 0, flags, 0]).map(drop)
    }
}

/// `prefix` and then `number`, NUL-terminated.
fn numbered(path: &mut [u8; 64], prefix: &[u8], number: i32) -> Result<(), Errno> {
    let mut digits = [0_u8; 10];
    let mut count = 0;
    let mut rest = u32::try_from(number).map_err(|_| libc::EBADF)?;
    loop {
        if let Some(digit) = digits.get_mut(count) {
            *digit = b'0' + (rest % 10) as u8;
        }
        count += 1;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    if prefix.len() + count >= path.len() {
        return Err(libc::ENAMETOOLONG);
    }
    let text = prefix.iter().chain(digits.iter().take(count).rev());
    for (to, from) in path.iter_mut().zip(text) {
        *to = *from;
    }
    Ok(())
}

/// `pivot_root(2)`, "pivot_root(".", ".")": the old root ends up on top of the new one and is detached from there.
fn enter_root(root: i32) -> Result<(), Errno> {
    let here = address(c".");
    // SAFETY: the paths are literals.
    unsafe {
        call(libc::SYS_fchdir, [root as usize])?;
        call(libc::SYS_pivot_root, [here, here])?;
        call(libc::SYS_umount2, [here, libc::MNT_DETACH as usize])?;
        call(libc::SYS_chdir, [address(c"/")]).map(drop)
    }
}

fn change_directory(directory: i32) -> Result<(), Errno> {
    let mut path = [0_u8; 4096];
    // SAFETY: the kernel writes at most `path.len()` bytes into `path`.
    unsafe {
        call(libc::SYS_fchdir, [directory as usize])?;
        // A directory that the root doesn't hold is "(unreachable)..." (getcwd(2)); the system call, unlike the
        // function, reports it that way and not as an error. A path too long for the buffer is still below.
        match call(libc::SYS_getcwd, [path.as_mut_ptr() as usize, path.len()]) {
            Ok(_) if path.first() == Some(&b'/') => Ok(()),
            Err(libc::ENAMETOOLONG | libc::ERANGE) => Ok(()),
            Ok(_) => Err(libc::EXDEV),
            Err(errno) => Err(errno),
        }
    }
}

fn limit(context: &Context<'_>, resource: u32, soft: u64, hard: u64) -> Result<(), Errno> {
    let set = |soft: u64, hard: u64| {
        let new = [soft, hard];
        // SAFETY: `new` is a `struct rlimit64` and lives across the call.
        unsafe { call(libc::SYS_prlimit64, [0, resource as usize, new.as_ptr() as usize, 0]) }.map(drop)
    };
    match set(soft, hard) {
        // Raising a hard limit takes CAP_SYS_RESOURCE on the host, which not every root has.
        Err(libc::EPERM) => {
            let mut old = [0_u64; 2];
            // SAFETY: `old` is a `struct rlimit64` that the kernel fills in.
            unsafe { call(libc::SYS_prlimit64, [0, resource as usize, 0, old.as_mut_ptr() as usize]) }?;
            let hard = hard.min(old[1]);
            if soft > hard {
                context.report.clamped.fetch_or(1 << (resource & 63), Ordering::Release);
            }
            set(soft.min(hard), hard)
        }
        other => other,
    }
}

fn bound(keep: u64, last: u32) -> Result<(), Errno> {
    prctl(libc::PR_SET_SECUREBITS, [0, 0, 0, 0])?;
    for capability in 0..=last.min(63) {
        if keep & (1 << capability) == 0 {
            prctl(libc::PR_CAPBSET_DROP, [capability as usize, 0, 0, 0])?;
        }
    }
    prctl(libc::PR_CAP_AMBIENT, [libc::PR_CAP_AMBIENT_CLEAR_ALL as usize, 0, 0, 0]).map(drop)
}

fn capset(sets: &CapabilitySets) -> Result<(), Errno> {
    let low = |set: u64| set as u32;
    let high = |set: u64| (set >> 32) as u32;
    // `struct __user_cap_header_struct` and two of `struct __user_cap_data_struct`.
    let header = [0x2008_0522_u32 /* _LINUX_CAPABILITY_VERSION_3 */, 0];
    let data = [
        low(sets.effective),
        low(sets.permitted),
        low(sets.inheritable),
        high(sets.effective),
        high(sets.permitted),
        high(sets.inheritable),
    ];
    // SAFETY: both have the layout that version 3 asks for and live across the call.
    unsafe { call(libc::SYS_capset, [header.as_ptr() as usize, data.as_ptr() as usize]) }.map(drop)
}

fn close_all(context: &Context<'_>, proc: i32) -> Result<(), Errno> {
    if context.close_range {
        // SAFETY: without CLONE_FILES the table is the child's own.
        return unsafe { call(libc::SYS_close_range, [3, u32::MAX as usize, 0]) }.map(drop);
    }
    let dir = openat(proc, c"self/fd".to_bytes_with_nul(), libc::O_RDONLY | libc::O_DIRECTORY)?;
    // Closing entries while reading makes procfs skip none: it lists by number, and goes on after the last one.
    let mut buffer = [0_u64; 128];
    loop {
        let size = size_of_val(&buffer);
        let args = [dir as usize, buffer.as_mut_ptr() as usize, size];
        // SAFETY: the kernel writes at most `size` bytes into `buffer`.
        let length = unsafe { call(libc::SYS_getdents64, args) }?;
        if length == 0 {
            break;
        }
        // SAFETY: a view of the same memory as bytes, of which the first `length` were written.
        let bytes = unsafe { std::slice::from_raw_parts(buffer.as_ptr().cast::<u8>(), length.min(size)) };
        let mut at = 0;
        // `struct linux_dirent64`: u64 inode, u64 offset, u16 length, u8 type, name.
        while let (Some(low), Some(high)) = (bytes.get(at + 16), bytes.get(at + 17)) {
            let record = usize::from(u16::from_ne_bytes([*low, *high]));
            if record == 0 {
                break;
            }
            let name = bytes.get(at + 19..at + record).unwrap_or_default();
            let digits = name.split(|byte| *byte == 0).next().unwrap_or_default();
            let number = digits.iter().try_fold(0_i32, |number, digit| match digit {
                b'0'..=b'9' => number.checked_mul(10)?.checked_add(i32::from(digit - b'0')),
                _ => None,
            });
            if let Some(fd) = number.filter(|fd| !digits.is_empty() && *fd >= 3 && *fd != dir) {
                close(fd);
            }
            at += record;
        }
    }
    close(dir);
    Ok(())
}

/// Ignored signals would stay ignored, and blocked ones blocked, in the program.
fn default_signals() -> Result<(), Errno> {
    // The kernel's `struct sigaction`: handler (0 is SIG_DFL), flags, restorer, mask.
    let default = [0_usize; 4];
    for signal in 1..=64 {
        if signal == libc::SIGKILL || signal == libc::SIGSTOP {
            continue;
        }
        let args = [signal as usize, default.as_ptr() as usize, 0, 8];
        // SAFETY: the kernel reads `default`; without CLONE_SIGHAND the handlers are the child's own.
        unsafe { call(libc::SYS_rt_sigaction, args) }?;
    }
    let none = 0_u64;
    let args = [libc::SIG_SETMASK as usize, std::ptr::from_ref(&none) as usize, 0, 8];
    // SAFETY: the kernel reads a mask of 8 bytes.
    unsafe { call(libc::SYS_rt_sigprocmask, args) }.map(drop)
}

/// As `execvp(3)`: a path that can't be run is passed over, but what was wrong with it is told if none can.
fn execute(paths: &[std::ffi::CString], vectors: &Vectors) -> Result<(), Errno> {
    let mut worst = libc::ENOENT;
    for path in paths {
        let args = [address(path), vectors.argv.as_ptr() as usize, vectors.envp.as_ptr() as usize];
        // SAFETY: the path and both arrays, which end with a null pointer, live until the program has replaced us.
        match unsafe { call(libc::SYS_execve, args) } {
            Err(libc::ENOENT | libc::ENOTDIR) => {}
            Err(libc::EACCES) => worst = libc::EACCES,
            Err(errno) => return Err(errno),
            Ok(_) => return Err(libc::ENOEXEC),
        }
    }
    Err(worst)
}
