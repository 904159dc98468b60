//! From a profile to a BPF program; pure.
//!
//! The program is a binary tree over *ranges* of numbers with the same verdict: a sixth of the instructions, and of
//! the time to load, that a list of comparisons has (KERNEL.md section 10).

mod profile;

use sys::child::BpfInstruction;

use profile::{LAST, NONE, PROFILE};

/// What becomes of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rule {
    Allow,
    Errno(i32),
    /// Allowed unless it makes namespaces.
    Clone,
    /// Allowed for all families but the kernel's crypto (`AF_ALG`: a long list of holes) and virtual machine sockets
    /// (a way around the network namespace).
    Socket,
    /// Allowed for the personalities that programs use.
    Personality,
}

/// Numbers `first..=last` with one rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Range {
    first: u32,
    rule: Rule,
}

const AUDIT_ARCH_X86_64: u32 = 0xC000_003E;
const AUDIT_ARCH_I386: u32 = 0x4000_0003;

// Offsets in `struct seccomp_data` (`seccomp(2)`); the low half of an argument comes first.
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;
const ARGUMENT_0: u32 = 16;

const LOAD: u16 = 0x20; // BPF_LD | BPF_W | BPF_ABS
const JUMP: u16 = 0x05; // BPF_JMP | BPF_JA
const IF_EQUAL: u16 = 0x15; // BPF_JMP | BPF_JEQ | BPF_K
const IF_AT_LEAST: u16 = 0x35; // BPF_JMP | BPF_JGE | BPF_K
const IF_ANY_BIT: u16 = 0x45; // BPF_JMP | BPF_JSET | BPF_K
const RETURN: u16 = 0x06; // BPF_RET | BPF_K

const ALLOW: u32 = 0x7fff_0000;
const ERRNO: u32 = 0x0005_0000;

/// All `CLONE_NEW*` that `clone(2)` takes: mounts, cgroup, UTS, IPC, user, process IDs, network.
const NEW_NAMESPACES: u32 = 0x7e02_0000;

const FAMILIES_DENIED: [u32; 2] = [38 /* AF_ALG */, 40 /* AF_VSOCK */];

/// `PER_LINUX`, `PER_LINUX32`, each with and without `UNAME26`, and the query.
const PERSONALITIES: [u32; 5] = [0, 8, 0x2_0000, 0x2_0008, 0xffff_ffff];

/// The built-in profile as a program, or `None` on an architecture for which there is no table.
pub(crate) fn default_program() -> Option<Vec<BpfInstruction>> {
    cfg!(target_arch = "x86_64").then(compile)
}

fn compile() -> Vec<BpfInstruction> {
    let native = tree(&ranges(PROFILE.iter().map(|(_, number, _, rule)| (*number, *rule))));
    let compatible = tree(&ranges(PROFILE.iter().map(|(_, _, number, rule)| (*number, *rule))));
    let mut program = vec![instruction(LOAD, ARCHITECTURE)];
    // Numbers mean another thing on another architecture: first of all it is looked at.
    program.push(branch(IF_EQUAL, AUDIT_ARCH_X86_64, 0, 1));
    program.push(instruction(JUMP, 3));
    program.push(branch(IF_EQUAL, AUDIT_ARCH_I386, 0, 1));
    program.push(instruction(JUMP, 1 + native.len() as u32 + 1));
    program.push(instruction(RETURN, ERRNO | libc::ENOSYS as u32));
    program.push(instruction(LOAD, NUMBER));
    program.extend(native);
    program.push(instruction(LOAD, NUMBER));
    program.extend(compatible);
    program
}

/// Every number from 0 on, in ranges. From [`LAST`] on (calls that are newer, and those of x32, which have bit 30
/// set) `ENOSYS`: programs then fall back, as they do on an older kernel.
fn ranges(rules: impl Iterator<Item = (u32, Rule)>) -> Vec<Range> {
    let mut by_number = vec![Rule::Errno(libc::EPERM); LAST as usize + 1];
    for (number, rule) in rules.filter(|(number, _)| *number != NONE) {
        if let Some(place) = by_number.get_mut(number as usize) {
            *place = rule;
        }
    }
    by_number.push(Rule::Errno(libc::ENOSYS));
    let mut ranges: Vec<Range> = Vec::new();
    for (first, rule) in (0..).zip(by_number) {
        if ranges.last().is_none_or(|range| range.rule != rule) {
            ranges.push(Range { first, rule });
        }
    }
    ranges
}

/// Code that decides for any number in these ranges, which is in the accumulator.
fn tree(ranges: &[Range]) -> Vec<BpfInstruction> {
    let (left, right) = match ranges {
        [] => return Vec::new(),
        [range] => return leaf(range.rule),
        _ => ranges.split_at(ranges.len() / 2),
    };
    let Some(middle) = right.first().map(|range| range.first) else { return tree(left) };
    let (left, right) = (tree(left), tree(right));
    let mut code = match u8::try_from(left.len()) {
        Ok(over) => vec![branch(IF_AT_LEAST, middle, over, 0)],
        // Conditional jumps reach 255 instructions.
        Err(_) => vec![branch(IF_AT_LEAST, middle, 0, 1), instruction(JUMP, left.len() as u32)],
    };
    code.extend(left);
    code.extend(right);
    code
}

fn leaf(rule: Rule) -> Vec<BpfInstruction> {
    let deny = |errno: i32| instruction(RETURN, ERRNO | errno as u32);
    let allow = instruction(RETURN, ALLOW);
    match rule {
        Rule::Allow => vec![allow],
        Rule::Errno(errno) => vec![deny(errno)],
        Rule::Clone => vec![
            instruction(LOAD, ARGUMENT_0),
            branch(IF_ANY_BIT, NEW_NAMESPACES, 0, 1),
            deny(libc::EPERM),
            allow,
        ],
        // The kernel takes the family as an int: the high half doesn't count.
        Rule::Socket => one_of(&FAMILIES_DENIED, deny(libc::EAFNOSUPPORT), allow),
        Rule::Personality => one_of(&PERSONALITIES, allow, deny(libc::EPERM)),
    }
}

/// `then` when the low half of argument 0 is one of `values`.
fn one_of(values: &[u32], then: BpfInstruction, otherwise: BpfInstruction) -> Vec<BpfInstruction> {
    let mut code = vec![instruction(LOAD, ARGUMENT_0)];
    for (index, value) in values.iter().enumerate() {
        // Over the comparisons that follow and `otherwise`.
        let over = values.len() - 1 - index + 1;
        code.push(branch(IF_EQUAL, *value, over as u8, 0));
    }
    code.extend([otherwise, then]);
    code
}

fn instruction(code: u16, k: u32) -> BpfInstruction {
    BpfInstruction { code, jt: 0, jf: 0, k }
}

fn branch(code: u16, k: u32, jt: u8, jf: u8) -> BpfInstruction {
    BpfInstruction { code, jt, jf, k }
}

#[cfg(test)]
mod tests;
