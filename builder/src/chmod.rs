//! `--chmod`: octal, or in chmod(1)'s words.

use crate::expanded::Chmod;

/// Reads `0644` and `u=rwX,go=rX`.
///
/// # Errors
///
/// Why the text is no mode.
pub(crate) fn parse_chmod(text: &str) -> Result<Chmod, String> {
    if text.bytes().all(|byte| byte.is_ascii_digit()) {
        let mode = u32::from_str_radix(text, 8).ok().filter(|mode| *mode <= 0o7777);
        return mode.map(Chmod::Mode).ok_or_else(|| {
            format!("invalid chmod parameter: `{text}`: it should be an octal string between 0 and 07777")
        });
    }
    if text.split(',').all(is_clause) {
        return Ok(Chmod::Symbolic(text.to_owned()));
    }
    Err(format!("invalid chmod parameter: `{text}`"))
}

/// `[ugoa]*([-+=]([rwxXst]*|[ugo]))+`
fn is_clause(clause: &str) -> bool {
    let actions = clause.trim_start_matches(['u', 'g', 'o', 'a']);
    let mut parts = actions.split(['+', '-', '=']);
    let starts_well = parts.next() == Some("") && !actions.is_empty();
    starts_well
        && parts
            .all(|part| part.bytes().all(|byte| b"rwxXst".contains(&byte)) || matches!(part, "u" | "g" | "o"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn octal_and_symbolic_modes() {
        assert_eq!(parse_chmod("644"), Ok(Chmod::Mode(0o644)));
        assert_eq!(parse_chmod("07777"), Ok(Chmod::Mode(0o7777)));
        for good in ["u=rwX,go=rX", "+x", "a-w", "u+s,g=u", "go=", "u=rw-x", "ug+rwXst"] {
            assert_eq!(parse_chmod(good), Ok(Chmod::Symbolic(good.to_owned())));
        }
        for bad in ["10000", "8", "0o644", "rwx", "u", "u=z", ",", "u=r,", "x=r", "u=ug", "-1"] {
            assert!(parse_chmod(bad).is_err(), "{bad}");
        }
    }
}
