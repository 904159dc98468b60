//! What the kernel says of other processes.

use std::fs;

/// The start time of a living process in clock ticks since boot, which tells it from a later one of the same pid;
/// nothing when there is none or only its exit status waits to be read (`proc_pid_stat(5)`).
pub(crate) fn start_time(pid: i32) -> Option<u64> {
    if pid <= 0 {
        return None;
    }
    let stat = fs::read(format!("/proc/{pid}/stat")).ok()?;
    // The command's name, in parentheses, may hold anything, parentheses and spaces among it.
    let after_name = stat.iter().rposition(|byte| *byte == b')')? + 1;
    let mut fields = std::str::from_utf8(&stat[after_name..]).ok()?.split_ascii_whitespace();
    let state = fields.next()?;
    if matches!(state, "Z" | "X") {
        return None;
    }
    // Field 22, of which the state is the third.
    fields.nth(18)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_living_process_has_a_start_time() {
        let own = start_time(std::process::id() as i32).unwrap();
        assert!(own > 0);
        assert_eq!(start_time(-1), None);
        assert_eq!(start_time(0), None);
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let pid = child.id() as i32;
        assert!(start_time(pid).unwrap() >= own);
        child.kill().unwrap();
        while start_time(pid).is_some() {
            std::thread::yield_now();
        }
        child.wait().unwrap();
        assert_eq!(start_time(pid), None);
    }
}
