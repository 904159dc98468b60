//! Any ignore file is read or refused; what is seen lies where a walk goes.
#![no_main]

use std::path::Path;

use parser::ignore::IgnoreFile;

libfuzzer_sys::fuzz_target!(|input: (&str, &str)| {
    let (text, path) = input;
    let Ok(file) = IgnoreFile::parse(text) else { return };
    let path = Path::new(path);
    if path.is_absolute() || path.components().collect::<std::path::PathBuf>() != path {
        return;
    }
    if file.verdict_alone(path).is_some_and(|decision| decision.ignored) {
        return;
    }
    for dir in path.ancestors().skip(1).filter(|dir| !dir.as_os_str().is_empty()) {
        if let Some(above) = file.verdict_alone(dir).filter(|decision| decision.ignored) {
            assert!(file.may_match_below(dir, above), "{text:?} hides {path:?}");
        }
    }
});
