//! Any word expands or is refused, whole and split alike.
#![no_main]

use parser::{Escape, Span, Word, expand_heredoc};

libfuzzer_sys::fuzz_target!(|text: &str| {
    let word = Word { raw: text.to_owned(), span: Span::default() };
    let mut lookup = |name: &str| (name.len() % 2 == 1).then(|| name.to_owned());
    for escape in [Escape::Backslash, Escape::Backtick] {
        let whole = word.expand(escape, &mut lookup);
        assert_eq!(whole.is_ok(), word.expand_words(escape, &mut lookup).is_ok());
    }
    let _ = expand_heredoc(text, &mut lookup);
});
