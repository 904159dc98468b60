//! What one logical line is made of: keyword, words, JSON lists, durations.

use nom::branch::alt;
use nom::bytes::complete::{tag, take_till, take_while, take_while1};
use nom::character::complete::{anychar, char, none_of};
use nom::combinator::{opt, recognize, value};
use nom::multi::{many0_count, many1_count};
use nom::sequence::{delimited, pair, preceded, terminated};
use nom::{IResult, Parser};

use crate::Escape;

/// White space that separates a keyword and simple words; a wider range counts around quoted words.
fn is_blank(character: char) -> bool {
    matches!(character, ' ' | '\t' | '\x0b' | '\x0c' | '\r')
}

/// The first word and the rest, white space around it removed.
pub(crate) fn split_keyword(line: &str) -> (&str, &str) {
    let word: IResult<&str, &str> = take_till(is_blank).parse(line);
    let (rest, keyword) = word.unwrap_or(("", line));
    (keyword, rest.trim())
}

/// Words between blanks; quotes mean nothing here.
pub(crate) fn blank_separated(text: &str) -> Vec<&str> {
    text.split(is_blank).filter(|word| !word.is_empty()).collect()
}

/// Words of `ENV`, `LABEL` and `ARG`: quotes and escapes hold white space together and stay in the word. An unclosed
/// quote reaches to the end.
pub(crate) fn quoted_words(text: &str, escape: Escape) -> Vec<&str> {
    let mut words = Vec::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        let Ok((after, word)) = quoted_word(rest, escape) else { break };
        words.push(word);
        rest = after.trim_start();
    }
    words
}

fn quoted_word(text: &str, escape: Escape) -> IResult<&str, &str> {
    let escape = escape.character();
    let escaped = || recognize(pair(char(escape), opt(anychar)));
    let single = recognize((char('\''), take_while(|c| c != '\''), opt(char('\''))));
    let within = alt((escaped(), take_while1(move |c| c != '"' && c != escape)));
    let double = recognize((char('"'), many0_count(within), opt(char('"'))));
    let plain = take_while1(move |c: char| !c.is_whitespace() && c != '\'' && c != '"' && c != escape);
    recognize(many1_count(alt((single, double, escaped(), plain)))).parse(text)
}

/// What stands where a list may be written in JSON.
#[derive(Debug)]
pub(crate) enum Json<'a> {
    /// No JSON: the text is meant as it is.
    No,
    /// A list that holds something else than strings.
    NotStrings,
    /// A list of strings, each with the text between its quotes, and what follows the list.
    Strings(Vec<(String, &'a str)>, &'a str),
}

/// Reads a JSON list at the start of `text`.
pub(crate) fn json_list(text: &str) -> Json<'_> {
    if !text.starts_with('[') {
        return Json::No;
    }
    let mut values = serde_json::Deserializer::from_str(text).into_iter::<Vec<serde_json::Value>>();
    let Some(Ok(list)) = values.next() else { return Json::No };
    let (list_text, rest) = text.split_at(values.byte_offset());
    let strings: Option<Vec<String>> = list
        .into_iter()
        .map(|value| match value {
            serde_json::Value::String(text) => Some(text),
            _ => None,
        })
        .collect();
    match (strings, json_literals(list_text)) {
        (Some(strings), Ok((_, literals))) if strings.len() == literals.len() => {
            Json::Strings(strings.into_iter().zip(literals).collect(), rest)
        }
        _ => Json::NotStrings,
    }
}

/// The texts between the quotes of a list that is known to hold strings only.
fn json_literals(list: &str) -> IResult<&str, Vec<&str>> {
    let character = alt((value((), preceded(char('\\'), anychar)), value((), none_of("\"\\"))));
    let string = delimited(char('"'), recognize(many0_count(character)), char('"'));
    let space = || take_while(char::is_whitespace);
    let separator = (space(), char(','), space());
    delimited(
        pair(char('['), space()),
        nom::multi::separated_list0(separator, string),
        pair(space(), char(']')),
    )
    .parse(list)
}

/// A duration as Go writes it, in nanoseconds: `1h2m3.5s`, `100ms`, `0`. `None` when it isn't one or is too long.
pub(crate) fn duration_ns(text: &str) -> Option<i64> {
    let (negative, magnitude) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    if magnitude == "0" {
        return Some(0);
    }
    let mut rest = magnitude;
    let mut total: i128 = 0;
    while !rest.is_empty() {
        let (after, (number, unit)) = duration_part(rest).ok()?;
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if whole.is_empty() && fraction.is_empty() {
            return None;
        }
        let mut part = unit.checked_mul(if whole.is_empty() { 0 } else { whole.parse::<i128>().ok()? })?;
        let mut place = unit;
        for digit in fraction.bytes() {
            place /= 10;
            part += place * i128::from(digit - b'0');
        }
        total = total.checked_add(part)?;
        rest = after;
    }
    i64::try_from(if negative { -total } else { total }).ok().filter(|_| !magnitude.is_empty())
}

fn duration_part(text: &str) -> IResult<&str, (&str, i128)> {
    let digits = || take_while(|c: char| c.is_ascii_digit());
    let number = recognize((digits(), opt(pair(char('.'), digits()))));
    let unit = alt((
        value(1, tag("ns")),
        value(1_000, alt((tag("us"), tag("µs"), tag("μs")))),
        value(1_000_000, tag("ms")),
        value(1_000_000_000, tag("s")),
        value(60_000_000_000, tag("m")),
        value(3_600_000_000_000, tag("h")),
    ));
    pair(number, unit).parse(text)
}

/// Whether `text` names a signal: a number, or a name with or without `SIG`, in any case.
pub(crate) fn is_signal(text: &str) -> bool {
    const NAMES: &[&str] = &[
        "ABRT", "ALRM", "BUS", "CHLD", "CLD", "CONT", "FPE", "HUP", "ILL", "INT", "IO", "IOT", "KILL",
        "PIPE", "POLL", "PROF", "PWR", "QUIT", "SEGV", "STKFLT", "STOP", "SYS", "TERM", "TRAP", "TSTP",
        "TTIN", "TTOU", "UNUSED", "URG", "USR1", "USR2", "VTALRM", "WINCH", "XCPU", "XFSZ", "RTMIN", "RTMAX",
    ];
    if text.bytes().all(|byte| byte.is_ascii_digit()) {
        return text.parse::<u32>().is_ok_and(|number| (1..=64).contains(&number));
    }
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    let offset = |text: &str, most: u32| {
        !text.starts_with('0')
            && text.bytes().all(|byte| byte.is_ascii_digit())
            && text.parse::<u32>().is_ok_and(|number| number <= most)
    };
    NAMES.contains(&name)
        || name.strip_prefix("RTMIN+").is_some_and(|rest| offset(rest, 15))
        || name.strip_prefix("RTMAX-").is_some_and(|rest| offset(rest, 14))
}

/// Fields of one line of CSV as ranges of text to join: quoted fields have `""` for `"`.
pub(crate) fn csv_fields(text: &str) -> Result<Vec<Vec<&str>>, &'static str> {
    let mut fields = Vec::new();
    let mut rest = text;
    loop {
        let (after, field) = csv_field(rest)?;
        fields.push(field);
        match after.strip_prefix(',') {
            Some(after) => rest = after,
            None if after.is_empty() => return Ok(fields),
            None => return Err("text after a closing quote"),
        }
    }
}

fn csv_field(text: &str) -> Result<(&str, Vec<&str>), &'static str> {
    if !text.starts_with('"') {
        let field: IResult<&str, &str> = take_till(|c| c == ',').parse(text);
        let (rest, field) = field.unwrap_or(("", text));
        if field.contains('"') {
            return Err("a quote within a field that isn't quoted");
        }
        return Ok((rest, vec![field]));
    }
    let mut pieces = Vec::new();
    let mut rest = &text[1..];
    loop {
        let piece: IResult<&str, &str> = terminated(take_till(|c| c == '"'), char('"')).parse(rest);
        let (after, piece) = piece.map_err(|_| "a quoted field that is never closed")?;
        if let Some(more) = after.strip_prefix('"') {
            // the doubled quote: its first half belongs to the piece
            pieces.push(&rest[..piece.len() + 1]);
            rest = more;
        } else {
            pieces.push(piece);
            return Ok((after, pieces));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quoted_words_keep_their_quotes() {
        let words = |text| quoted_words(text, Escape::Backslash);
        assert_eq!(
            words("a=1 b='x y' c=\"p \\\" q\" d=e\\ f"),
            ["a=1", "b='x y'", "c=\"p \\\" q\"", "d=e\\ f"]
        );
        assert_eq!(words("a=\"open b"), ["a=\"open b"]);
        assert_eq!(words("a='it\\' b"), ["a='it\\'", "b"]);
        assert_eq!(words("a\\"), ["a\\"]);
        assert_eq!(quoted_words("a=C:\\ b=x`  y", Escape::Backtick), ["a=C:\\", "b=x` ", "y"]);
    }

    #[test]
    fn json_lists_are_found_with_the_places_of_their_strings() {
        let Json::Strings(strings, rest) = json_list("[ \"a\\\"b\" , \"\"] # more") else { panic!() };
        assert_eq!(strings, [("a\"b".to_owned(), "a\\\"b"), (String::new(), "")]);
        assert_eq!(rest, " # more");
        assert!(matches!(json_list("[]"), Json::Strings(list, "") if list.is_empty()));
        assert!(matches!(json_list("['a']"), Json::No));
        assert!(matches!(json_list("[ -f x ] && y"), Json::No));
        assert!(matches!(json_list("[\"a\", 1]"), Json::NotStrings));
        assert!(matches!(json_list("[[]]"), Json::NotStrings));
    }

    #[test]
    fn durations_are_go_durations() {
        for (text, ns) in [
            ("1s", Some(1_000_000_000)),
            ("1m30s", Some(90_000_000_000)),
            ("1.5h", Some(5_400_000_000_000)),
            ("100ms", Some(100_000_000)),
            (".5s", Some(500_000_000)),
            ("0", Some(0)),
            ("-1s", Some(-1_000_000_000)),
            ("5", None),
            ("s", None),
            (".s", None),
            ("", None),
            ("-", None),
            ("1 s", None),
            ("9999999999999h", None),
            ("99999999999999999999999999999999999999999h", None),
        ] {
            assert_eq!(duration_ns(text), ns, "{text}");
        }
    }

    #[test]
    fn signals_have_names_and_numbers() {
        for good in ["SIGTERM", "TERM", "sigterm", "15", "SIGRTMIN+3", "RTMAX-14", "SIGRTMIN"] {
            assert!(is_signal(good), "{good}");
        }
        for bad in ["", "0", "SIG", "SIGFOO", "65", "RTMIN+16", "RTMIN+", "TERM1", "-1"] {
            assert!(!is_signal(bad), "{bad}");
        }
    }

    #[test]
    fn csv_quotes_hold_commas() {
        let joined =
            |text| csv_fields(text).map(|fields| fields.iter().map(|f| f.concat()).collect::<Vec<_>>());
        assert_eq!(joined("a=1,b"), Ok(vec!["a=1".to_owned(), "b".to_owned()]));
        assert_eq!(joined("\"a,\"\"b\"\"\",c"), Ok(vec!["a,\"b\"".to_owned(), "c".to_owned()]));
        assert!(joined("a\"b").is_err());
        assert!(joined("\"a").is_err());
        assert!(joined("\"a\"b").is_err());
    }
}
