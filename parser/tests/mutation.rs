//! The corpus of golden cases, changed at random: a slice of what the fuzz targets do, the same in every run.

use std::fs;
use std::path::Path;

use parser::ignore::IgnoreFile;
use parser::{Escape, Source, Span, Word, expand_heredoc};
use testutil::Seed;

mod spans;

/// Every Dockerfile of the golden cases.
fn corpus() -> Vec<Vec<u8>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata/dockerfile");
    let mut files: Vec<_> = ["ok", "err"]
        .iter()
        .flat_map(|kind| fs::read_dir(root.join(kind)).unwrap())
        .map(|case| case.unwrap().path().join("Dockerfile"))
        .collect();
    files.sort();
    assert!(files.len() >= 80);
    files.iter().map(|file| fs::read(file).unwrap()).collect()
}

/// The lines of the tables of words and ignore files.
fn lines() -> Vec<Vec<u8>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata");
    let tables = ["word/expand.txt", "word/escape-backtick.txt", "ignore/cases.txt"];
    let text: String = tables.iter().map(|table| fs::read_to_string(root.join(table)).unwrap()).collect();
    text.lines().filter(|line| !line.is_empty()).map(|line| line.as_bytes().to_vec()).collect()
}

fn below(seed: &mut Seed, bound: usize) -> usize {
    usize::try_from(seed.below(bound.max(1) as u64)).unwrap()
}

/// One to eight changes: bytes flipped, removed, doubled, or a piece of another file put in.
fn mutate(seed: &mut Seed, corpus: &[Vec<u8>]) -> Vec<u8> {
    const PIECES: &[&[u8]] = &[
        b"\\\n",
        b"<<EOF",
        b"EOF\n",
        b"\n",
        b"\r\n",
        b"\"",
        b"'",
        b"${",
        b"}",
        b"$",
        b"[\"",
        b"--",
        b"=",
        b"`",
        b"\xc3\xbc",
        b"\0",
    ];
    let mut bytes = corpus[below(seed, corpus.len())].clone();
    for _ in 0..=below(seed, 8) {
        let at = below(seed, bytes.len() + 1);
        let end = (at + below(seed, 12)).min(bytes.len());
        match seed.below(5) {
            0 => {
                bytes.drain(at..end);
            }
            1 => {
                let piece = bytes[at..end].to_vec();
                bytes.splice(at..at, piece);
            }
            2 => {
                let piece = PIECES[below(seed, PIECES.len())];
                bytes.splice(at..at, piece.iter().copied());
            }
            3 => {
                let other = &corpus[below(seed, corpus.len())];
                let from = below(seed, other.len() + 1);
                let to = (from + below(seed, 40)).min(other.len());
                bytes.splice(at..at, other[from..to].iter().copied());
            }
            _ => {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte ^= 1 << seed.below(8);
                }
            }
        }
    }
    bytes
}

/// What is right stays so, means the same and settles at once.
fn formatting(bytes: &[u8]) {
    let Ok(source) = Source::from_bytes("Dockerfile", bytes) else { return };
    if parser::parse(&source).is_err() {
        return;
    }
    let once = parser::format::format(&source).expect("formatting keeps the meaning");
    let again = Source::new("Dockerfile", once.as_str());
    assert_eq!(parser::format::format(&again).expect("it is still right"), once);
}

fn dockerfiles(seed: &mut Seed, rounds: usize) {
    let corpus = corpus();
    for round in 0..rounds {
        let state = seed.value();
        let bytes = mutate(seed, &corpus);
        let outcome = std::panic::catch_unwind(|| {
            spans::check(&bytes);
            formatting(&bytes);
        });
        assert!(
            outcome.is_ok(),
            "round {round}, CALQUE_TEST_SEED={state} begins with it:\n{}",
            bytes.escape_ascii()
        );
    }
}

fn words_and_patterns(seed: &mut Seed, rounds: usize) {
    let corpus = lines();
    for round in 0..rounds {
        let state = seed.value();
        let bytes = mutate(seed, &corpus);
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let outcome = std::panic::catch_unwind(|| {
            let word = Word { raw: text.clone(), span: Span::default() };
            let mut lookup = |name: &str| (name.len() % 2 == 1).then(|| name.repeat(3));
            for escape in [Escape::Backslash, Escape::Backtick] {
                let whole = word.expand(escape, &mut lookup);
                assert_eq!(whole.is_ok(), word.expand_words(escape, &mut lookup).is_ok());
            }
            let _ = expand_heredoc(&text, &mut lookup);
            if let Ok(file) = IgnoreFile::parse(&text) {
                let verdict = file.verdict_alone(Path::new("a/b/ü/node_modules/x.md"));
                assert!(verdict.is_none_or(|decision| decision.line >= 1));
            }
        });
        assert!(outcome.is_ok(), "round {round}, CALQUE_TEST_SEED={state} begins with it: {text:?}");
    }
}

#[test]
fn a_changed_corpus_is_read_or_refused() {
    let mut seed = Seed::from_environment(0x0ca1_90e5);
    println!("CALQUE_TEST_SEED={}", seed.value());
    dockerfiles(&mut seed, 3_000);
    words_and_patterns(&mut seed, 10_000);
}

/// `CALQUE_SOAK=1` makes it long; without it this is another short slice, from another seed.
#[test]
#[ignore = "soak: minutes with CALQUE_SOAK=1"]
fn soak_parser_never_panics() {
    let long = std::env::var_os("CALQUE_SOAK").is_some_and(|value| value == "1");
    let rounds = if long { 1_000_000 } else { 1_000 };
    let mut seed = Seed::from_environment(0x50a4);
    println!("CALQUE_TEST_SEED={}, {rounds} rounds", seed.value());
    dockerfiles(&mut seed, rounds);
    words_and_patterns(&mut seed, rounds * 2);
}
