use std::collections::HashMap;

use super::*;

/// What the kernel would answer: an interpreter of the few instructions that are used.
fn verdict(program: &[BpfInstruction], architecture: u32, number: u32, argument_0: u64) -> Result<(), i32> {
    let mut data = [0_u32; 16];
    data[0] = number;
    data[1] = architecture;
    data[4] = argument_0 as u32;
    data[5] = (argument_0 >> 32) as u32;
    let (mut at, mut accumulator) = (0_usize, 0_u32);
    for _ in 0..program.len() {
        let BpfInstruction { code, jt, jf, k } = program[at];
        at += 1;
        let condition = match code {
            LOAD => {
                accumulator = data[k as usize / 4];
                continue;
            }
            RETURN if k == ALLOW => return Ok(()),
            RETURN if k & 0xffff_0000 == ERRNO => return Err((k & 0xffff) as i32),
            JUMP => {
                at += k as usize;
                continue;
            }
            IF_EQUAL => accumulator == k,
            IF_AT_LEAST => accumulator >= k,
            IF_ANY_BIT => accumulator & k != 0,
            _ => panic!("instruction {code:#x} at {at}"),
        };
        at += usize::from(if condition { jt } else { jf });
    }
    panic!("the program doesn't end");
}

fn native(number: i64, argument_0: u64) -> Result<(), i32> {
    verdict(&compile(), AUDIT_ARCH_X86_64, number as u32, argument_0)
}

#[test]
fn the_tree_agrees_with_the_table_for_every_number() {
    let program = compile();
    for (architecture, column) in [(AUDIT_ARCH_X86_64, 0), (AUDIT_ARCH_I386, 1)] {
        let table: HashMap<u32, Rule> = PROFILE
            .iter()
            .map(|(_, native, compatible, rule)| (if column == 0 { *native } else { *compatible }, *rule))
            .filter(|(number, _)| *number != NONE)
            .collect();
        for number in 0..=LAST + 100 {
            let expected = match table.get(&number) {
                Some(Rule::Errno(errno)) => Err(*errno),
                // Argument 0 is none of those refused.
                Some(_) => Ok(()),
                None if number > LAST => Err(libc::ENOSYS),
                None => Err(libc::EPERM),
            };
            assert_eq!(verdict(&program, architecture, number, 0), expected, "{architecture:#x} {number}");
        }
    }
}

#[test]
fn the_table_names_each_call_once_and_with_its_number() {
    let mut seen = HashMap::new();
    for (name, native, compatible, _) in PROFILE {
        assert!(seen.insert(*name, ()).is_none(), "{name}");
        assert!(*native <= LAST || *native == NONE, "{name}");
        assert!(*compatible <= LAST || *compatible == NONE, "{name}");
    }
    let number = |wanted: &str| {
        PROFILE.iter().find(|(name, ..)| *name == wanted).map(|(_, number, ..)| i64::from(*number))
    };
    for (name, expected) in [
        ("read", libc::SYS_read),
        ("execve", libc::SYS_execve),
        ("openat2", libc::SYS_openat2),
        ("clone", libc::SYS_clone),
        ("clone3", libc::SYS_clone3),
        ("socket", libc::SYS_socket),
        ("close_range", libc::SYS_close_range),
        ("seccomp", libc::SYS_seccomp),
        ("io_uring_setup", libc::SYS_io_uring_setup),
        ("faccessat2", libc::SYS_faccessat2),
    ] {
        assert_eq!(number(name), Some(expected), "{name}");
    }
}

#[test]
fn calls_that_give_holes_are_refused() {
    for number in [
        libc::SYS_mount,
        libc::SYS_umount2,
        libc::SYS_pivot_root,
        libc::SYS_open_tree,
        libc::SYS_move_mount,
        libc::SYS_fsopen,
        libc::SYS_fsconfig,
        libc::SYS_fsmount,
        libc::SYS_fspick,
        libc::SYS_mount_setattr,
        libc::SYS_unshare,
        libc::SYS_setns,
        libc::SYS_bpf,
        libc::SYS_userfaultfd,
        libc::SYS_perf_event_open,
        libc::SYS_keyctl,
        libc::SYS_add_key,
        libc::SYS_request_key,
        libc::SYS_kexec_load,
        libc::SYS_init_module,
        libc::SYS_finit_module,
        libc::SYS_open_by_handle_at,
        libc::SYS_pidfd_getfd,
        libc::SYS_reboot,
        libc::SYS_swapon,
        libc::SYS_settimeofday,
        libc::SYS_clock_settime,
        libc::SYS_iopl,
        libc::SYS_ioperm,
        libc::SYS_syslog,
        libc::SYS_acct,
        libc::SYS_quotactl,
        libc::SYS_mbind,
        libc::SYS_sethostname,
    ] {
        assert_eq!(native(number, 0), Err(libc::EPERM), "{number}");
    }
    for number in
        [libc::SYS_io_uring_setup, libc::SYS_io_uring_enter, libc::SYS_io_uring_register, libc::SYS_clone3]
    {
        assert_eq!(native(number, 0), Err(libc::ENOSYS), "{number}");
    }
}

#[test]
fn threads_and_processes_may_be_made_but_no_namespaces() {
    let clone = |flags: i32| native(libc::SYS_clone, flags as u32 as u64);
    assert_eq!(clone(libc::SIGCHLD), Ok(()));
    assert_eq!(clone(libc::CLONE_VM | libc::CLONE_THREAD | libc::CLONE_SIGHAND), Ok(()));
    for flag in [
        libc::CLONE_NEWNS,
        libc::CLONE_NEWUSER,
        libc::CLONE_NEWPID,
        libc::CLONE_NEWNET,
        libc::CLONE_NEWIPC,
        libc::CLONE_NEWUTS,
        libc::CLONE_NEWCGROUP,
    ] {
        assert_eq!(clone(flag | libc::SIGCHLD), Err(libc::EPERM), "{flag:#x}");
    }
}

#[test]
fn sockets_of_the_kernels_crypto_are_refused() {
    for (family, expected) in [
        (libc::AF_INET, Ok(())),
        (libc::AF_INET6, Ok(())),
        (libc::AF_UNIX, Ok(())),
        (libc::AF_NETLINK, Ok(())),
        (libc::AF_PACKET, Ok(())),
        (libc::AF_ALG, Err(libc::EAFNOSUPPORT)),
        (libc::AF_VSOCK, Err(libc::EAFNOSUPPORT)),
    ] {
        assert_eq!(native(libc::SYS_socket, family as u64), expected, "{family}");
        // The kernel looks at the low half only, so the filter must too.
        assert_eq!(native(libc::SYS_socket, family as u64 | 1 << 32), expected, "{family}");
    }
    // On i386 one call stands for all of them and its arguments lie in memory, out of sight.
    assert_eq!(verdict(&compile(), AUDIT_ARCH_I386, 102, 1), Err(libc::ENOSYS));
}

#[test]
fn other_personalities_than_linux_are_refused() {
    for (persona, expected) in [
        (0, Ok(())),
        (8, Ok(())),
        (0xffff_ffff, Ok(())),
        (0x0004_0000 /* ADDR_NO_RANDOMIZE */, Err(libc::EPERM)),
    ] {
        assert_eq!(native(libc::SYS_personality, persona), expected, "{persona:#x}");
    }
}

#[test]
fn other_architectures_and_x32_are_refused_whatever_the_number() {
    for number in 0..=LAST {
        assert_eq!(verdict(&compile(), 0xC000_00B7 /* aarch64 */, number, 0), Err(libc::ENOSYS));
        assert_eq!(verdict(&compile(), AUDIT_ARCH_X86_64, number | 0x4000_0000, 0), Err(libc::ENOSYS));
    }
}

#[test]
fn the_program_is_short() {
    // Loading costs by the instruction: 55 us for 160 of them.
    assert!(compile().len() < 500, "{}", compile().len());
}
