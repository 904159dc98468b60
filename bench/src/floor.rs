//! The floors that are no program of their own, run as `bench __floor NAME DIR` so that they are measured as
//! the others are.

use std::fs;
use std::io;
use std::path::Path;
use std::process::ExitCode;

/// Runs one.
pub(crate) fn main(arguments: &[String]) -> ExitCode {
    let result = match arguments {
        [name, dir] if name == "stat-walk" => stat_walk(Path::new(dir)),
        _ => Err(io::Error::other("unknown floor")),
    };
    match result {
        Ok(_) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Reads every folder and the metadata of every file: the least that any look for changes takes.
fn stat_walk(dir: &Path) -> io::Result<u64> {
    let mut bytes = 0;
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        bytes += if metadata.is_dir() { stat_walk(&entry.path())? } else { metadata.len() };
    }
    Ok(bytes)
}
