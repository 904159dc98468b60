//! `--chmod`: octal, or as chmod(1) reads it.

use crate::expanded::Chmod;

/// The mode of an entry that has `mode` in its source.
pub(crate) fn apply(chmod: &Chmod, mode: u32, is_dir: bool) -> u32 {
    match chmod {
        Chmod::Mode(mode) => *mode,
        Chmod::Symbolic(text) => text.split(',').fold(mode, |mode, clause| symbolic(clause, mode, is_dir)),
    }
}

/// One clause: `[ugoa]*([-+=]([rwxXst]*|[ugo]))+`. Without a `who` it is `a`: an image knows no umask.
fn symbolic(clause: &str, mut mode: u32, is_dir: bool) -> u32 {
    let split = clause.find(['+', '-', '=']).unwrap_or(clause.len());
    let (who, mut rest) = clause.split_at(split);
    let all = who.is_empty() || who.contains('a');
    let (user, group, other) = (all || who.contains('u'), all || who.contains('g'), all || who.contains('o'));
    while let Some(operator) = rest.chars().next() {
        rest = &rest[1..];
        let end = rest.find(['+', '-', '=']).unwrap_or(rest.len());
        let (permissions, next) = rest.split_at(end);
        rest = next;
        // One triple of bits for each who, and the bits above them.
        let (mut triple, mut setuid, mut sticky) = (0, false, false);
        for permission in permissions.chars() {
            match permission {
                'r' => triple |= 4,
                'w' => triple |= 2,
                'x' => triple |= 1,
                'X' if is_dir || mode & 0o111 != 0 => triple |= 1,
                's' => setuid = true,
                't' => sticky = true,
                'u' => triple |= mode >> 6 & 7,
                'g' => triple |= mode >> 3 & 7,
                'o' => triple |= mode & 7,
                _ => {}
            }
        }
        let (mut bits, mut mask) = (0, 0);
        for (chosen, shift, special) in [(user, 6, 0o4000), (group, 3, 0o2000), (other, 0, 0)] {
            if chosen {
                bits |= triple << shift;
                mask |= 7 << shift;
                if setuid {
                    bits |= special;
                }
                // A directory keeps setuid and setgid unless they are named, as in GNU chmod.
                if !is_dir {
                    mask |= special;
                }
            }
        }
        if all || other {
            mask |= 0o1000;
            if sticky {
                bits |= 0o1000;
            }
        }
        match operator {
            '+' => mode |= bits,
            '-' => mode &= !bits,
            _ => mode = mode & !mask | bits,
        }
    }
    mode
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn symbolic_modes_are_as_chmod_makes_them() {
        for (text, mode, is_dir, expected) in [
            ("u=rwX,go=rX", 0o600, false, 0o644),
            ("u=rwX,go=rX", 0o700, true, 0o755),
            ("u=rwX,go=rX", 0o711, false, 0o755),
            ("+x", 0o644, false, 0o755),
            ("a-w", 0o666, false, 0o444),
            ("g=u", 0o750, false, 0o770),
            ("u+s", 0o755, false, 0o4755),
            ("+t", 0o777, true, 0o1777),
            ("o=", 0o777, false, 0o770),
            ("u=rw,g+w-x", 0o675, false, 0o665),
        ] {
            let made = apply(&Chmod::Symbolic(text.to_owned()), mode, is_dir);
            assert_eq!(made, expected, "{text} on {mode:o}: {made:o}");
        }
        assert_eq!(apply(&Chmod::Mode(0o4755), 0o600, true), 0o4755);
    }
}
