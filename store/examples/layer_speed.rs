//! Times the store's hot paths on a tree: `cargo run --release -p store --example layer_speed -- TREE SCRATCH`.
//!
//! Prints wall seconds of a copy through the tree writer (SCRATCH is made and not removed: deleting costs
//! those who create files soon after), a stat walk, the diff ID, the content ID, and the stat index.
#![expect(clippy::print_stdout, reason = "a program that prints what it measured")]

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Instant;

use store::merged::Merged;
use store::stat_index::{NewStatIndex, StatIndex};
use store::tree_writer::{Attributes, DirAttributes, TreeWriter, WriteDir};
use sys::file::{self, Metadata, Timestamp};

fn copy(source: &OwnedFd, target: &WriteDir<'_>) -> Result<u64, Box<dyn std::error::Error>> {
    let mut count = 0;
    for entry in sys::dir::read_sorted(source)? {
        let metadata = file::metadata_at(source, &*entry.name)?;
        let attributes = Attributes::of(&metadata, Vec::new());
        if metadata.is_dir() {
            let target = target.create_dir(entry.os_name(), DirAttributes::Set(&attributes))?;
            count += copy(&sys::dir::open_at(source, &*entry.name)?, &target)?;
        } else if metadata.is_file() {
            let mut file = File::from(file::open_file_at(source, &*entry.name)?);
            target.write_file(entry.os_name(), &mut file, &attributes)?;
            count += 1;
        }
    }
    Ok(count)
}

fn walk(
    dir: &OwnedFd,
    path: &mut Vec<u8>,
    see: &mut dyn FnMut(&[u8], &Metadata),
) -> Result<(), Box<dyn std::error::Error>> {
    let len = path.len();
    for entry in sys::dir::read_sorted(sys::dir::reopen(dir)?)? {
        path.extend_from_slice(entry.name.to_bytes());
        let metadata = file::metadata_at(dir, &*entry.name)?;
        if metadata.is_dir() {
            path.push(b'/');
            walk(&sys::dir::open_at(dir, &*entry.name)?, path, see)?;
        } else if metadata.is_file() {
            see(path, &metadata);
        }
        path.truncate(len);
    }
    Ok(())
}

fn timed<T>(what: &str, run: impl FnOnce() -> T) -> T {
    let start = Instant::now();
    let result = run();
    println!("{:8.3} s  {what}", start.elapsed().as_secs_f64());
    result
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args_os().skip(1).map(PathBuf::from);
    let (Some(tree), Some(scratch)) = (arguments.next(), arguments.next()) else {
        return Err("usage: layer_speed TREE SCRATCH".into());
    };
    std::fs::create_dir(&scratch)?;
    let open = |path: &Path| sys::dir::open_at(rustix::fs::CWD, path);
    let source = open(&tree)?;
    let copied = timed("copy", || -> Result<u64, Box<dyn std::error::Error>> {
        let writer = TreeWriter::new(open(&scratch)?, &Merged::new(Vec::new())?)?;
        let count = copy(&source, &writer.root()?)?;
        writer.finish()?;
        Ok(count)
    })?;
    println!("{copied} files");
    let copied = open(&scratch)?;
    for _ in 0..2 {
        let mut seen = Vec::new();
        timed("walk", || {
            walk(&copied, &mut Vec::new(), &mut |path, found| seen.push((path.to_vec(), *found)))
        })?;
        timed("diff ID", || store::layer::diff_id(copied.as_fd()))?;
        timed("content ID", || store::layer::content_id(copied.as_fd(), None))?;
        let index_file = scratch.with_extension("index");
        let later = Timestamp { seconds: Timestamp::now().seconds + 10, nanoseconds: 0 };
        timed("stat index: make and save", || {
            let mut index = NewStatIndex::new(later);
            seen.iter().for_each(|(path, metadata)| index.insert(path, metadata, [0; 32]));
            index.save(&index_file)
        })?;
        let index = timed("stat index: load", || StatIndex::load(&index_file));
        let found = timed("stat index: find all", || {
            let mut cursor = index.cursor();
            seen.iter().filter(|(path, metadata)| cursor.find(path, metadata).is_some()).count()
        });
        println!("{found} of {} found", seen.len());
    }
    Ok(())
}
