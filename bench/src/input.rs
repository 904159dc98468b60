//! Deterministic build contexts.

use std::fs;
use std::io::{self, Write};
use std::path::Path;

/// How much input.
#[derive(Clone, Copy, Debug, serde::Serialize)]
pub(crate) struct Scale {
    /// Small files of the context.
    pub(crate) files: u32,
    /// Their size on average, in bytes.
    pub(crate) mean_bytes: u32,
    /// Size of each of the eight large files, in bytes.
    pub(crate) large_bytes: u64,
    /// Files that the writing step writes.
    pub(crate) written_files: u32,
    /// Megabytes that it writes besides.
    pub(crate) written_megabytes: u32,
}

impl Scale {
    /// 20,000 files in 200 MB, 1 GiB in eight files; 30,000 files and 500 MB written.
    pub(crate) const FULL: Scale = Scale {
        files: 20_000,
        mean_bytes: 10_000,
        large_bytes: 128 << 20,
        written_files: 30_000,
        written_megabytes: 500,
    };
    /// A hundredth of it.
    pub(crate) const SMALL: Scale = Scale {
        files: 200,
        mean_bytes: 10_000,
        large_bytes: 1 << 20,
        written_files: 300,
        written_megabytes: 5,
    };
}

/// `splitmix64`: bytes that don't compress.
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn fill(&mut self, buffer: &mut [u8]) {
        for chunk in buffer.chunks_mut(8) {
            chunk.copy_from_slice(&self.next().to_le_bytes()[..chunk.len()]);
        }
    }
}

/// Small files in folders of twelve, sizes from a tenth to about twice the mean.
pub(crate) fn small_files(dir: &Path, scale: Scale) -> io::Result<()> {
    let mut noise = Noise(1);
    let mut buffer = Vec::new();
    for number in 0..scale.files {
        let folder = dir.join(format!("src/part{:02}/dir{:03}", number % 17, number / 12 % 1000));
        fs::create_dir_all(&folder)?;
        let size = u64::from(scale.mean_bytes) / 10 + noise.next() % (u64::from(scale.mean_bytes) * 9 / 5);
        buffer.resize(size as usize, 0);
        noise.fill(&mut buffer);
        fs::write(folder.join(format!("file{number:05}")), &buffer)?;
    }
    Ok(())
}

/// The file that W2 changes.
pub(crate) fn changed_file(dir: &Path, round: u32) -> io::Result<()> {
    fs::write(dir.join("src/part00/dir000/file00000"), format!("changed in round {round}\n"))
}

/// Eight large files.
pub(crate) fn large_files(dir: &Path, scale: Scale) -> io::Result<()> {
    let folder = dir.join("large");
    fs::create_dir_all(&folder)?;
    let mut buffer = vec![0; 1 << 20];
    for number in 0..8 {
        let mut noise = Noise(1000 + number);
        let mut file = fs::File::create(folder.join(format!("large{number}")))?;
        let mut left = scale.large_bytes;
        while left > 0 {
            let length = left.min(buffer.len() as u64) as usize;
            noise.fill(&mut buffer[..length]);
            file.write_all(&buffer[..length])?;
            left -= length as u64;
        }
    }
    Ok(())
}

/// The script of W6, for `sh`: `$1` is the folder to write into.
pub(crate) fn writing_script(scale: Scale) -> String {
    format!(
        "mkdir -p $1 && cd $1 && i=0 && while [ $i -lt {folders} ]; do mkdir d$i && cd d$i && \
         seq 1 12 | while read n; do echo $i $n > f$n; done && cd .. && i=$((i+1)); done && \
         dd if=/dev/zero of=big bs=1M count={megabytes} 2>/dev/null",
        folders = scale.written_files / 12,
        megabytes = scale.written_megabytes
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_input_is_the_same_every_time() {
        let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        for dir in [&one, &two] {
            small_files(dir.path(), Scale::SMALL).unwrap();
        }
        let path = "src/part03/dir001/file00020";
        assert_eq!(fs::read(one.path().join(path)).unwrap(), fs::read(two.path().join(path)).unwrap());
        let total: u64 = walk(one.path());
        assert!((1_500_000..2_500_000).contains(&total), "{total} bytes");
    }

    fn walk(dir: &Path) -> u64 {
        fs::read_dir(dir)
            .unwrap()
            .map(|entry| {
                let entry = entry.unwrap();
                if entry.file_type().unwrap().is_dir() {
                    walk(&entry.path())
                } else {
                    entry.metadata().unwrap().len()
                }
            })
            .sum()
    }
}
