//! What history says of an instruction: BuildKit's shapes, Go's formats among them.

use oci::{Healthcheck, HistoryEntry};

/// The comment of every entry: which builder, and that it reads Dockerfiles.
pub const COMMENT: &str = "calque.dockerfile.v1";

/// An entry of the image's history.
pub(crate) fn entry(text: String, created: Option<&str>, empty_layer: bool) -> HistoryEntry {
    HistoryEntry {
        created: created.map(str::to_owned),
        created_by: Some(text),
        author: None,
        comment: Some(COMMENT.to_owned()),
        empty_layer,
    }
}

/// The text of a step that runs in the builder: with the mark that tools look for.
pub(crate) fn executed(text: &str) -> String {
    format!("{text} # buildkit")
}

/// Go's `%q` of a list of strings: `["/bin/sh" "-c" "x"]`.
pub(crate) fn quoted_list(items: &[String]) -> String {
    format!("[{}]", items.iter().map(|item| quoted(item)).collect::<Vec<_>>().join(" "))
}

/// Go's `%v` of a list of strings: `[/bin/bash -c]`.
pub(crate) fn plain_list(items: &[String]) -> String {
    format!("[{}]", items.join(" "))
}

/// Go's `strconv.Quote`.
fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\u{7}' => out.push_str("\\a"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{b}' => out.push_str("\\v"),
            c if (c as u32) < 0x20 || c as u32 == 0x7f => out.push_str(&format!("\\x{:02x}", c as u32)),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// Go's `%+v` of a health check.
pub(crate) fn healthcheck(check: &Healthcheck) -> String {
    format!(
        "{{Test:{} Interval:{} Timeout:{} StartPeriod:{} StartInterval:{} Retries:{}}}",
        plain_list(check.test.as_deref().unwrap_or_default()),
        duration(check.interval),
        duration(check.timeout),
        duration(check.start_period),
        duration(check.start_interval),
        check.retries
    )
}

/// Go's `time.Duration.String`: `1m30s`, `1.5s`, `200ms`.
fn duration(ns: i64) -> String {
    let sign = if ns < 0 { "-" } else { "" };
    let total = ns.unsigned_abs();
    let text = match total {
        0 => "0s".to_owned(),
        1..=999 => format!("{total}ns"),
        1_000..=999_999 => format!("{}µs", decimal(total, 1_000)),
        1_000_000..=999_999_999 => format!("{}ms", decimal(total, 1_000_000)),
        _ => {
            const SECOND: u64 = 1_000_000_000;
            let (minutes, rest) = (total / (60 * SECOND), total % (60 * SECOND));
            let seconds = decimal(rest, SECOND);
            match (minutes / 60, minutes % 60) {
                (0, 0) => format!("{seconds}s"),
                (0, minutes) => format!("{minutes}m{seconds}s"),
                (hours, minutes) => format!("{hours}h{minutes}m{seconds}s"),
            }
        }
    };
    format!("{sign}{text}")
}

/// `value / unit` without trailing zeros; `unit` is a power of ten.
fn decimal(value: u64, unit: u64) -> String {
    let fraction = value % unit;
    if fraction == 0 {
        return (value / unit).to_string();
    }
    let width = unit.ilog10() as usize;
    format!("{}.{}", value / unit, format!("{fraction:0width$}").trim_end_matches('0'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_quoted_as_go_does() {
        let list = ["/bin/sh", "-c", "a \"b\"\t\\n\u{1}é"].map(str::to_owned);
        assert_eq!(quoted_list(&list), r#"["/bin/sh" "-c" "a \"b\"\t\\n\x01é"]"#);
        assert_eq!(plain_list(&list[..2]), "[/bin/sh -c]");
        assert_eq!(quoted_list(&[]), "[]");
    }

    #[test]
    fn durations_are_written_as_go_does() {
        let table = [
            (0, "0s"),
            (1, "1ns"),
            (1_500, "1.5µs"),
            (200_000_000, "200ms"),
            (1_500_000_000, "1.5s"),
            (30_000_000_000, "30s"),
            (90_000_000_000, "1m30s"),
            (3_600_000_000_000, "1h0m0s"),
            (-5_000_000_000, "-5s"),
        ];
        for (ns, expected) in table {
            assert_eq!(duration(ns), expected);
        }
    }

    #[test]
    fn a_health_check_is_written_as_go_does() {
        let test = Some(vec!["CMD-SHELL".to_owned(), "curl -f localhost".to_owned()]);
        let check = Healthcheck { test, interval: 30_000_000_000, retries: 3, ..Healthcheck::default() };
        assert_eq!(
            healthcheck(&check),
            "{Test:[CMD-SHELL curl -f localhost] Interval:30s Timeout:0s StartPeriod:0s StartInterval:0s Retries:3}"
        );
    }
}
