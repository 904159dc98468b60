//! Resource limits by number; pure.

use oci_spec::runtime::PosixRlimitType;

/// Number (`RLIMIT_*`, `getrlimit(2)`) and name.
pub(crate) fn number_and_name(limit: PosixRlimitType) -> (u32, &'static str) {
    match limit {
        PosixRlimitType::RlimitCpu => (libc::RLIMIT_CPU, "cpu"),
        PosixRlimitType::RlimitFsize => (libc::RLIMIT_FSIZE, "fsize"),
        PosixRlimitType::RlimitData => (libc::RLIMIT_DATA, "data"),
        PosixRlimitType::RlimitStack => (libc::RLIMIT_STACK, "stack"),
        PosixRlimitType::RlimitCore => (libc::RLIMIT_CORE, "core"),
        PosixRlimitType::RlimitRss => (libc::RLIMIT_RSS, "rss"),
        PosixRlimitType::RlimitNproc => (libc::RLIMIT_NPROC, "nproc"),
        PosixRlimitType::RlimitNofile => (libc::RLIMIT_NOFILE, "nofile"),
        PosixRlimitType::RlimitMemlock => (libc::RLIMIT_MEMLOCK, "memlock"),
        PosixRlimitType::RlimitAs => (libc::RLIMIT_AS, "as"),
        PosixRlimitType::RlimitLocks => (libc::RLIMIT_LOCKS, "locks"),
        PosixRlimitType::RlimitSigpending => (libc::RLIMIT_SIGPENDING, "sigpending"),
        PosixRlimitType::RlimitMsgqueue => (libc::RLIMIT_MSGQUEUE, "msgqueue"),
        PosixRlimitType::RlimitNice => (libc::RLIMIT_NICE, "nice"),
        PosixRlimitType::RlimitRtprio => (libc::RLIMIT_RTPRIO, "rtprio"),
        PosixRlimitType::RlimitRttime => (libc::RLIMIT_RTTIME, "rttime"),
    }
}

/// Notes for the limits whose bit is set in `clamped`.
pub(crate) fn notes<'a>(limits: impl Iterator<Item = (u32, &'a str, u64)>, clamped: u64) -> Vec<String> {
    limits
        .filter(|(number, ..)| clamped & (1 << number) != 0)
        .map(|(_, name, soft)| {
            format!("the limit of `{name}` can't be raised to {soft} here: left as it was")
        })
        .collect()
}
