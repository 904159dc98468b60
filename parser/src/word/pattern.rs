//! Patterns within `${name#pattern}`, `${name%pattern}` and `${name/pattern/replacement}`: `*` and `?`, no `[]`.

use super::WordError;

/// A compiled pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct WordPattern(Vec<Token>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Token {
    Char(char),
    Any,
    Star,
}

impl WordPattern {
    /// A backslash stands before `*`, `?`, `\`, and before `}` and `/`, which would otherwise end the pattern.
    pub(super) fn parse(text: &str) -> Result<Self, WordError> {
        let mut tokens = Vec::new();
        let mut characters = text.chars();
        while let Some(character) = characters.next() {
            tokens.push(match character {
                '*' => Token::Star,
                '?' => Token::Any,
                '\\' => match characters.next() {
                    Some(escaped @ ('*' | '?' | '\\' | '}' | '/')) => Token::Char(escaped),
                    _ => return Err(WordError::BadPattern { pattern: text.to_owned() }),
                },
                other => Token::Char(other),
            });
        }
        Ok(Self(tokens))
    }

    /// `value` without the shortest or longest match at its start.
    pub(super) fn trim_prefix(&self, value: &str, longest: bool) -> String {
        let value: Vec<char> = value.chars().collect();
        value[match_length(&self.0, &value, longest)..].iter().collect()
    }

    /// `value` without the shortest or longest match at its end.
    pub(super) fn trim_suffix(&self, value: &str, longest: bool) -> String {
        let tokens: Vec<Token> = self.0.iter().rev().copied().collect();
        let reversed: Vec<char> = value.chars().rev().collect();
        reversed[match_length(&tokens, &reversed, longest)..].iter().rev().collect()
    }

    /// `value` with the first match, or all, replaced; each match is the longest at its place.
    pub(super) fn replace(&self, value: &str, replacement: &str, all: bool) -> String {
        let value: Vec<char> = value.chars().collect();
        let mut text = String::new();
        let mut at = 0;
        let mut last_end = None;
        while at <= value.len() {
            let end = ends(&self.0, &value[at..]).last().map(|&length| at + length);
            match end {
                // an empty match right behind another is none
                Some(end) if end > at || last_end != Some(at) => {
                    text.push_str(replacement);
                    if !all {
                        text.extend(&value[end..]);
                        return text;
                    }
                    last_end = Some(end);
                    if end > at {
                        at = end;
                        continue;
                    }
                }
                // what begins with `*` and isn't found here isn't found further on either
                None if self.0.first() == Some(&Token::Star) => {
                    text.extend(&value[at..]);
                    return text;
                }
                _ => {}
            }
            text.extend(value.get(at));
            at += 1;
        }
        text
    }
}

/// How much of `value`'s start matches; 0 when nothing does.
fn match_length(tokens: &[Token], value: &[char], longest: bool) -> usize {
    let ends = ends(tokens, value);
    let end = if longest { ends.last() } else { ends.first() };
    end.copied().unwrap_or(0)
}

/// Where matches that begin at the start of `value` can end, in order.
fn ends(tokens: &[Token], value: &[char]) -> Vec<usize> {
    let mut at = vec![0];
    for token in tokens {
        match token {
            Token::Char(character) => {
                at.retain(|&i| value.get(i) == Some(character));
                at.iter_mut().for_each(|i| *i += 1);
            }
            Token::Any => {
                at.retain(|&i| i < value.len());
                at.iter_mut().for_each(|i| *i += 1);
            }
            Token::Star => {
                if let Some(&first) = at.first() {
                    at = (first..=value.len()).collect();
                }
            }
        }
        if at.is_empty() {
            break;
        }
    }
    at
}
