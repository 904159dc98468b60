//! Patterns of paths: Go's `filepath.Match` and `**`.
//!
//! `*` and `?` don't match `/`, nor does a class (`[a-z]`, `[^a]`), `\` takes the next character as it is. With
//! [`Globstar::Crosses`] `**/` matches any number of directories, none included, and `**` at the end matches all that
//! follows. A pattern is matched by following the set of places in the path that each of its tokens can end at, so
//! that no pattern is slow; most patterns are decided by comparing bytes before that.

use std::iter::Peekable;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::str::Chars;

/// A compiled pattern. It matches whole paths, `/`-separated, without a leading `/`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    tokens: Vec<Token>,
    /// The bytes that each match begins with.
    prefix: Vec<u8>,
    /// The bytes that each match ends with.
    suffix: Vec<u8>,
    /// The longest bytes that each match holds, wherever.
    inner: Vec<u8>,
    shape: Shape,
}

/// A pattern that isn't one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason} in the pattern `{pattern}`")]
pub struct PatternError {
    /// The pattern.
    pub pattern: String,
    /// What is wrong with it.
    pub reason: &'static str,
}

/// Whether `**` is more than `*`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Globstar {
    /// `**` crosses directories (`.dockerignore`, `COPY --parents`, `--exclude`).
    Crosses,
    /// `**` is `*` twice (`COPY`).
    Plain,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Token {
    Literal(Vec<u8>),
    /// `?`
    Any,
    Class {
        negated: bool,
        ranges: Vec<(char, char)>,
    },
    /// `*`
    Star,
    /// `**/`: nothing, or anything that ends with `/`.
    Directories,
    /// `**` at the end, or at the start right before a literal that is the rest: anything.
    Anything,
}

/// What of the pattern must be looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shape {
    /// The prefix is all of it.
    Literal,
    /// The prefix, then anything.
    Prefix,
    /// Anything, then the suffix.
    Suffix,
    /// `**/`, then the suffix.
    Name,
    Tokens,
}

impl Pattern {
    /// Compiles `text`, which must be cleaned already (no `./`, no `//`, no trailing `/`).
    ///
    /// # Errors
    ///
    /// An unclosed or empty `[`, a bad range, a lone `\` at the end.
    pub fn parse(text: &str, globstar: Globstar) -> Result<Self, PatternError> {
        let tokens =
            tokens(text, globstar).map_err(|reason| PatternError { pattern: text.to_owned(), reason })?;
        let edge = |token: Option<&Token>| match token {
            Some(Token::Literal(bytes)) => bytes.clone(),
            _ => Vec::new(),
        };
        let (prefix, suffix) = (edge(tokens.first()), edge(tokens.last()));
        let shape = match tokens.as_slice() {
            [] | [Token::Literal(_)] => Shape::Literal,
            [Token::Anything] | [Token::Literal(_), Token::Anything] => Shape::Prefix,
            [Token::Anything, Token::Literal(_)] => Shape::Suffix,
            [Token::Directories, Token::Literal(_)] => Shape::Name,
            _ => Shape::Tokens,
        };
        let literals = tokens.iter().filter_map(|token| match token {
            Token::Literal(bytes) => Some(bytes.clone()),
            _ => None,
        });
        let inner = literals.max_by_key(Vec::len).unwrap_or_default();
        Ok(Self { tokens, prefix, suffix, inner, shape })
    }

    /// The one path that it matches, escapes removed, if it has no wildcard.
    pub fn as_literal(&self) -> Option<&str> {
        // the prefix was cut from a string at wildcards, which are characters
        (self.shape == Shape::Literal).then(|| std::str::from_utf8(&self.prefix).unwrap_or_default())
    }

    /// The directories before the first component with a wildcard, escapes removed: a walk may start there. Of a
    /// literal pattern: the directory that holds it. Empty for the root.
    pub fn literal_parent(&self) -> &str {
        let prefix = std::str::from_utf8(&self.prefix).unwrap_or_default();
        prefix.rfind('/').map_or("", |slash| &prefix[..slash])
    }

    /// Whether it matches all of `path`.
    pub fn matches(&self, path: &Path) -> bool {
        self.matches_bytes(path.as_os_str().as_bytes())
    }

    pub(crate) fn matches_bytes(&self, path: &[u8]) -> bool {
        match self.shape {
            Shape::Literal => path == self.prefix,
            Shape::Prefix => begins(path, &self.prefix),
            Shape::Suffix => ends(path, &self.suffix),
            Shape::Name => {
                let start = path.len().wrapping_sub(self.suffix.len());
                ends(path, &self.suffix) && (start == 0 || path[start - 1] == b'/')
            }
            Shape::Tokens => {
                begins(path, &self.prefix)
                    && ends(path, &self.suffix)
                    && holds(path, &self.inner)
                    && follow(&self.tokens, path, |_, _| false).binary_search(&path.len()).is_ok()
            }
        }
    }

    /// Whether it could match a path below `dir`. May say yes in vain, never no in vain.
    pub fn may_match_below(&self, dir: &Path) -> bool {
        self.may_match_below_bytes(dir.as_os_str().as_bytes())
    }

    pub(crate) fn may_match_below_bytes(&self, dir: &[u8]) -> bool {
        if dir.is_empty() {
            return true;
        }
        let below = [dir, b"/"].concat();
        let common = below.len().min(self.prefix.len());
        if below[..common] != self.prefix[..common] {
            return false;
        }
        let mut possible = false;
        follow(&self.tokens, &below, |token, at| {
            possible |= match token {
                Token::Directories | Token::Anything => !at.is_empty(),
                Token::Literal(bytes) => {
                    at.iter().any(|&i| bytes.len() > below.len() - i && bytes.starts_with(&below[i..]))
                }
                // one component: it must begin right below
                Token::Any | Token::Class { .. } | Token::Star => at.contains(&below.len()),
            };
            possible
        });
        possible
    }
}

/// `starts_with` for the few bytes that these are: most differ at once, and a call of `memcmp` costs more.
fn begins(path: &[u8], with: &[u8]) -> bool {
    path.len() >= with.len() && path.iter().zip(with).all(|(a, b)| a == b)
}

/// `ends_with`, from the end.
fn ends(path: &[u8], with: &[u8]) -> bool {
    path.len() >= with.len() && path.iter().rev().zip(with.iter().rev()).all(|(a, b)| a == b)
}

/// Whether `needle` lies in `path`.
fn holds(path: &[u8], needle: &[u8]) -> bool {
    let Some(&first) = needle.first() else { return true };
    path.iter().enumerate().any(|(at, &byte)| byte == first && begins(&path[at..], needle))
}

/// Where the tokens can end in `path`, in order. `look` sees each token with the places it starts at; true stops.
fn follow(tokens: &[Token], path: &[u8], mut look: impl FnMut(&Token, &[usize]) -> bool) -> Vec<usize> {
    let mut at = vec![0];
    for token in tokens {
        if at.is_empty() || look(token, &at) {
            return Vec::new();
        }
        at = match token {
            Token::Literal(bytes) => {
                at.retain(|&i| begins(&path[i..], bytes));
                at.iter_mut().for_each(|i| *i += bytes.len());
                at
            }
            Token::Any | Token::Class { .. } => {
                at.iter().filter_map(|&i| one_character(token, &path[i..]).map(|length| i + length)).collect()
            }
            Token::Star => {
                let mut reached: Vec<usize> = Vec::new();
                for start in at {
                    // an earlier start in the same component reached all of it
                    if reached.last().is_none_or(|&last| start > last) {
                        let slash = path[start..].iter().position(|&byte| byte == b'/');
                        reached.extend(start..=slash.map_or(path.len(), |length| start + length));
                    }
                }
                reached
            }
            Token::Directories => {
                let first = at[0];
                let mut reached = at;
                reached.extend((first + 1..=path.len()).filter(|&i| path[i - 1] == b'/'));
                reached.sort_unstable();
                reached.dedup();
                reached
            }
            Token::Anything => (at[0]..=path.len()).collect(),
        };
    }
    at
}

/// Length in bytes of the character at the start of `path`, if the token takes it.
fn one_character(token: &Token, path: &[u8]) -> Option<usize> {
    let (character, length) = first_character(path)?;
    let taken = character != '/'
        && match token {
            Token::Class { negated, ranges } => {
                ranges.iter().any(|&(low, high)| low <= character && character <= high) != *negated
            }
            _ => true,
        };
    taken.then_some(length)
}

/// A byte that isn't UTF-8 counts as one character, U+FFFD.
fn first_character(path: &[u8]) -> Option<(char, usize)> {
    let head = &path[..path.len().min(4)];
    let valid = match std::str::from_utf8(head) {
        Ok(text) => text,
        Err(error) => std::str::from_utf8(&head[..error.valid_up_to()]).unwrap_or_default(),
    };
    match valid.chars().next() {
        Some(character) => Some((character, character.len_utf8())),
        None => (!path.is_empty()).then_some((char::REPLACEMENT_CHARACTER, 1)),
    }
}

fn tokens(text: &str, globstar: Globstar) -> Result<Vec<Token>, &'static str> {
    let mut tokens: Vec<Token> = Vec::new();
    let mut rest = text.chars().peekable();
    let literal = |tokens: &mut Vec<Token>, character: char| {
        let bytes = match tokens.last_mut() {
            Some(Token::Literal(bytes)) => bytes,
            _ => {
                tokens.push(Token::Literal(Vec::new()));
                let Some(Token::Literal(bytes)) = tokens.last_mut() else { return };
                bytes
            }
        };
        bytes.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
    };
    while let Some(character) = rest.next() {
        match character {
            '*' if globstar == Globstar::Crosses && rest.peek() == Some(&'*') => {
                rest.next();
                let slash = rest.next_if_eq(&'/').is_some();
                if rest.peek().is_none() {
                    tokens.push(Token::Anything);
                } else if slash || !tokens.is_empty() || has_wildcard(rest.clone()) {
                    tokens.push(Token::Directories);
                } else {
                    // `**name`: moby compares the end alone
                    tokens.push(Token::Anything);
                }
            }
            '*' => {
                if tokens.last() != Some(&Token::Star) {
                    tokens.push(Token::Star);
                }
            }
            '?' => tokens.push(Token::Any),
            '[' => tokens.push(class(&mut rest)?),
            '\\' => literal(&mut tokens, rest.next().ok_or("a lone `\\` at the end")?),
            other => literal(&mut tokens, other),
        }
    }
    Ok(tokens)
}

fn has_wildcard(mut rest: impl Iterator<Item = char>) -> bool {
    rest.any(|character| matches!(character, '*' | '?' | '[' | '\\'))
}

fn class(rest: &mut Peekable<Chars<'_>>) -> Result<Token, &'static str> {
    const UNCLOSED: &str = "a `[` that is never closed";
    let negated = rest.next_if_eq(&'^').is_some();
    let mut ranges = Vec::new();
    loop {
        let low = match rest.next().ok_or(UNCLOSED)? {
            ']' if !ranges.is_empty() => return Ok(Token::Class { negated, ranges }),
            ']' => return Err("an empty `[]`"),
            '-' => return Err("a `-` without its range"),
            '\\' => rest.next().ok_or(UNCLOSED)?,
            other => other,
        };
        let high = match rest.next_if_eq(&'-') {
            None => low,
            Some(_) => match rest.next().ok_or(UNCLOSED)? {
                ']' | '-' => return Err("a `-` without its range"),
                '\\' => rest.next().ok_or(UNCLOSED)?,
                other => other,
            },
        };
        if low > high {
            return Err("a range that runs backwards");
        }
        ranges.push((low, high));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(text: &str) -> Pattern {
        Pattern::parse(text, Globstar::Crosses).unwrap()
    }

    #[test]
    fn literals_lose_their_escapes() {
        assert_eq!(pattern("a/\\*b").as_literal(), Some("a/*b"));
        assert_eq!(pattern("a/*b").as_literal(), None);
        assert_eq!(pattern("").as_literal(), Some(""));
        assert_eq!(pattern("src/lib/*.rs").literal_parent(), "src/lib");
        assert_eq!(pattern("src/li*/a.rs").literal_parent(), "src");
        assert_eq!(pattern("*.rs").literal_parent(), "");
        assert_eq!(pattern("src/main.rs").literal_parent(), "src");
    }

    #[test]
    fn without_globstar_two_stars_stay_in_their_directory() {
        let plain = Pattern::parse("a/**/c", Globstar::Plain).unwrap();
        assert!(plain.matches(Path::new("a/b/c")));
        assert!(!plain.matches(Path::new("a/b/b/c")));
        assert!(!plain.matches(Path::new("a/c")));
    }

    #[test]
    fn a_path_that_is_not_utf_8_matches_byte_by_byte() {
        assert!(pattern("?x").matches_bytes(b"\xffx"));
        assert!(pattern("*").matches_bytes(b"\xff\xfe"));
        assert!(!pattern("?").matches_bytes(b"\xff\xfe"));
        assert!(pattern("?").matches_bytes("\u{20ac}".as_bytes()));
    }

    #[test]
    fn a_walk_is_told_where_matches_may_lie() {
        let below = |text: &str, dir: &str| pattern(text).may_match_below(Path::new(dir));
        assert!(below("a/b/c", "a"));
        assert!(below("a/b/c", "a/b"));
        assert!(!below("a/b/c", "a/b/c"));
        assert!(!below("a/b/c", "ab"));
        assert!(!below("a/b/c", "b"));
        assert!(below("*/keep", "x"));
        assert!(!below("*/keep", "x/y"));
        assert!(!below("*", "x"));
        assert!(below("**/keep", "x/y/z"));
        assert!(below("a/**/keep", "a/y/z"));
        assert!(!below("a/**/keep", "b/y/z"));
        assert!(below("a?c/d", "abc"));
        assert!(!below("a?c/d", "abd"));
        assert!(below("ab**", "abc"));
        assert!(below("*/*/x", "a/b"));
        assert!(below("anything", ""));
    }

    #[test]
    fn no_pattern_is_slow() {
        let text = "*a".repeat(60) + "b";
        let path = "a".repeat(4000);
        // with backtracking neither would end
        assert!(!pattern(&text).matches_bytes(format!("{path}/b").as_bytes()));
        assert!(!pattern(&"**/a".repeat(30)).matches_bytes("a/".repeat(2000).as_bytes()));
    }
}
