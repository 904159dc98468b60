//! The binary itself.

use std::fs;
use std::process::Command;

use crate::harness::binary;

/// Reads a little-endian number of `size` bytes.
fn number(bytes: &[u8], at: u64, size: usize) -> u64 {
    let at = usize::try_from(at).unwrap();
    bytes[at..at + size].iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

#[test]
fn the_binary_is_static() {
    const PT_DYNAMIC: u64 = 2;
    const PT_INTERP: u64 = 3;
    const DT_NEEDED: u64 = 1;
    let elf = fs::read(binary()).unwrap();
    assert_eq!(&elf[..6], b"\x7fELF\x02\x01", "a 64-bit little-endian ELF file");
    let (table, size, count) = (number(&elf, 0x20, 8), number(&elf, 0x36, 2), number(&elf, 0x38, 2));
    for entry in 0..count {
        let at = table + entry * size;
        let kind = number(&elf, at, 4);
        assert_ne!(kind, PT_INTERP, "it asks for a dynamic loader");
        if kind == PT_DYNAMIC {
            // A static program that can be loaded anywhere relocates itself by this section, and needs no library.
            let (offset, length) = (number(&elf, at + 8, 8), number(&elf, at + 32, 8));
            for tag in (offset..offset + length).step_by(16).map(|at| number(&elf, at, 8)) {
                assert_ne!(tag, DT_NEEDED, "it needs a shared library");
            }
        }
    }
}

#[test]
fn the_version_is_told() {
    let output = Command::new(binary()).arg("--version").output().unwrap();
    assert!(output.status.success());
    assert!(String::from_utf8_lossy(&output.stdout).contains(env!("CARGO_PKG_VERSION")), "{output:?}");
}

#[test]
fn a_wrong_flag_is_125_and_a_wrong_argument_count_is_1() {
    let code = |arguments: &[&str]| Command::new(binary()).args(arguments).output().unwrap().status.code();
    assert_eq!(code(&["run", "--no-such-flag", "busybox"]), Some(125));
    assert_eq!(code(&["build", "--no-such-flag", "."]), Some(125));
    assert_eq!(code(&["tag", "one"]), Some(1));
    assert_eq!(code(&["rmi"]), Some(1));
}
