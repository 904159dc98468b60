//! States of a container and what its end means to the shell; pure.

use std::io;

use sandbox::{Exit, LaunchError};

/// The exit code of a container, as a shell has it: `128 + n` after signal `n`.
pub fn exit_code(exit: Exit) -> u8 {
    let code = match exit {
        // The kernel keeps eight bits of a status.
        Exit::Code(code) => code & 0xff,
        Exit::Signal(signal) => (128 + signal) & 0xff,
    };
    u8::try_from(code).expect("eight bits")
}

/// docker's exit code for a container that did not start: 127 where there is no such command, 126 where it can't be
/// executed, 125 for all else.
pub fn launch_exit_code(error: &LaunchError) -> u8 {
    match error {
        LaunchError::Exec { source, .. } => match source.kind() {
            io::ErrorKind::NotFound => 127,
            _ => 126,
        },
        _ => 125,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exits_are_a_shells() {
        assert_eq!(exit_code(Exit::Code(0)), 0);
        assert_eq!(exit_code(Exit::Code(42)), 42);
        assert_eq!(exit_code(Exit::Code(-1)), 255);
        assert_eq!(exit_code(Exit::Signal(9)), 137);
        assert_eq!(exit_code(Exit::Signal(15)), 143);
    }

    #[test]
    fn what_can_not_start_has_dockers_codes() {
        let exec = |errno: i32| LaunchError::Exec {
            program: "x".to_owned(),
            source: io::Error::from_raw_os_error(errno),
        };
        const ENOENT: i32 = 2;
        const ENOEXEC: i32 = 8;
        const EACCES: i32 = 13;
        const EISDIR: i32 = 21;
        assert_eq!(launch_exit_code(&exec(ENOENT)), 127);
        for errno in [ENOEXEC, EACCES, EISDIR] {
            assert_eq!(launch_exit_code(&exec(errno)), 126);
        }
    }
}
