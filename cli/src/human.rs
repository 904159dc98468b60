//! Sizes and durations as docker writes them (go-units), so that scripts that parse docker's tables parse ours.

use std::time::Duration;

const UNITS: [&str; 9] = ["B", "kB", "MB", "GB", "TB", "PB", "EB", "ZB", "YB"];

/// `size` in decimal units with three significant digits: `1.65GB`, `8.22kB`, `0B`.
pub(crate) fn size(size_bytes: u64) -> String {
    size_with_digits(size_bytes, 3)
}

/// As [`size`] with four digits, which is what `system df` has.
pub(crate) fn size_precise(size_bytes: u64) -> String {
    size_with_digits(size_bytes, 4)
}

fn size_with_digits(size_bytes: u64, digits: usize) -> String {
    #[expect(clippy::cast_precision_loss, reason = "at most four digits are shown")]
    let mut value = size_bytes as f64;
    let mut unit = 0;
    loop {
        let text = significant(value, digits);
        // What rounds up to 1000 is shown in the next unit, where docker would print `1e+03kB`.
        if text.len() < 5 && text.parse::<f64>().is_ok_and(|shown| shown >= 1000.0) || value >= 1000.0 {
            value /= 1000.0;
            unit += 1;
            continue;
        }
        return format!("{text}{}", UNITS[unit]);
    }
}

/// C's `%.{digits}g` for a value of at least one (or zero).
fn significant(value: f64, digits: usize) -> String {
    let before_point = if value >= 100.0 {
        3
    } else if value >= 10.0 {
        2
    } else {
        1
    };
    let text = format!("{value:.*}", digits.saturating_sub(before_point));
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

/// How long ago, or how long: `Less than a second`, `About a minute`, `3 weeks`.
pub(crate) fn duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let minutes = seconds / 60;
    let hours = (seconds + 1800) / 3600;
    match () {
        () if seconds < 1 => "Less than a second".to_owned(),
        () if seconds == 1 => "1 second".to_owned(),
        () if seconds < 60 => format!("{seconds} seconds"),
        () if minutes == 1 => "About a minute".to_owned(),
        () if minutes < 60 => format!("{minutes} minutes"),
        () if hours == 1 => "About an hour".to_owned(),
        () if hours < 48 => format!("{hours} hours"),
        () if hours < 24 * 7 * 2 => format!("{} days", hours / 24),
        () if hours < 24 * 30 * 2 => format!("{} weeks", hours / 24 / 7),
        () if hours < 24 * 365 * 2 => format!("{} months", hours / 24 / 30),
        () => format!("{} years", seconds / 3600 / 24 / 365),
    }
}

/// `3 weeks ago`.
pub(crate) fn ago(age: Duration) -> String {
    format!("{} ago", duration(age))
}

/// Seconds with one decimal, as progress shows them: `12.4s`.
pub(crate) fn seconds(duration: Duration) -> String {
    format!("{:.1}s", duration.as_secs_f64())
}

/// `text` cut to `width` characters, the last of them `…` where something is missing.
pub(crate) fn ellipsis(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    let mut cut: String = text.chars().take(width.saturating_sub(1)).collect();
    cut.push('…');
    cut
}

/// How long ago an RFC 3339 moment was; nothing for one that can't be read or lies before the year 2000, which
/// docker shows as `N/A`.
pub(crate) fn age(moment: &str, now: jiff::Timestamp) -> Option<Duration> {
    const YEAR_2000: i64 = 946_684_800;
    let moment: jiff::Timestamp = moment.parse().ok()?;
    if moment.as_second() < YEAR_2000 {
        return None;
    }
    Some(Duration::from_secs(now.as_second().saturating_sub(moment.as_second()).max(0).unsigned_abs()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_dockers() {
        let cases = [
            (0, "0B"),
            (1, "1B"),
            (999, "999B"),
            (1000, "1kB"),
            (8_220, "8.22kB"),
            (13_256, "13.3kB"),
            (109_000_000, "109MB"),
            (999_499, "999kB"),
            (999_900, "1MB"),
            (999_999_999, "1GB"),
            (1_650_000_000, "1.65GB"),
            (u64::MAX, "18.4EB"),
        ];
        for (bytes, text) in cases {
            assert_eq!(size(bytes), text, "{bytes}");
        }
        assert_eq!(size_precise(1_234_567_890), "1.235GB");
        assert_eq!(size_precise(212), "212B");
        assert_eq!(size_precise(16_430_000), "16.43MB");
    }

    #[test]
    fn durations_are_dockers() {
        const HOUR: u64 = 3600;
        const DAY: u64 = 24 * HOUR;
        let cases = [
            (0, "Less than a second"),
            (1, "1 second"),
            (59, "59 seconds"),
            (60, "About a minute"),
            (119, "About a minute"),
            (120, "2 minutes"),
            (59 * 60 + 59, "59 minutes"),
            (HOUR, "About an hour"),
            (HOUR + 1799, "About an hour"),
            (HOUR + 1800, "2 hours"),
            (47 * HOUR, "47 hours"),
            (2 * DAY, "2 days"),
            (13 * DAY, "13 days"),
            (14 * DAY, "2 weeks"),
            (59 * DAY, "8 weeks"),
            (60 * DAY, "2 months"),
            (729 * DAY, "24 months"),
            (730 * DAY, "2 years"),
        ];
        for (seconds, text) in cases {
            assert_eq!(duration(Duration::from_secs(seconds)), text, "{seconds}");
        }
        assert_eq!(ago(Duration::from_secs(7)), "7 seconds ago");
    }

    #[test]
    fn long_text_is_cut_with_an_ellipsis() {
        assert_eq!(ellipsis("abcdef", 6), "abcdef");
        assert_eq!(ellipsis("äbcdefg", 6), "äbcde…");
    }

    #[test]
    fn an_age_needs_a_moment_after_1999() {
        let now: jiff::Timestamp = "2026-01-01T00:01:00Z".parse().unwrap();
        assert_eq!(age("2026-01-01T00:00:00.5Z", now), Some(Duration::from_secs(60)));
        assert_eq!(age("2027-01-01T00:00:00Z", now), Some(Duration::ZERO));
        assert_eq!(age("1970-01-01T00:00:00Z", now), None);
        assert_eq!(age("soon", now), None);
    }
}
