//! Names a file by what is in it, so that equal content is known whatever it is called.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use xxhash_rust::xxh3::Xxh3;

/// Files up to this size are read whole; of larger ones as many bytes are read, in blocks.
///
/// Probing has just read the file, so most of it is still in memory. In a container that keeps the sizes and times
/// of its frames together (mp4, mov), one block in 256 of them is enough to tell two recordings apart.
const WHOLE_MAX: u64 = 64 << 20;
const BLOCK: u64 = 256 << 10;

/// 64 bits over the size of the file at `path` and its bytes: all up to 64 MiB; of a larger one the first and last
/// 256 KiB and 254 such blocks evenly spaced between them.
///
/// # Errors
/// If it cannot be read, or ends early.
pub fn of_file(path: &Path) -> io::Result<u64> {
    let file = File::open(path)?;
    let size = file.metadata()?.len();
    let mut hash = Xxh3::new();
    hash.update(&size.to_le_bytes());
    let mut block = vec![0; BLOCK.min(size.max(1)) as usize];
    for offset in blocks(size) {
        let length = BLOCK.min(size - offset) as usize;
        file.read_exact_at(&mut block[..length], offset)?;
        hash.update(&block[..length]);
    }
    Ok(hash.digest())
}

/// Where the blocks begin that are read of a file of `size` bytes.
fn blocks(size: u64) -> impl Iterator<Item = u64> {
    let count = if size <= WHOLE_MAX { size.div_ceil(BLOCK) } else { WHOLE_MAX / BLOCK };
    let last = size.saturating_sub(BLOCK);
    (0..count).map(move |number| match size <= WHOLE_MAX {
        true => number * BLOCK,
        false => (u128::from(last) * u128::from(number) / u128::from(count - 1)) as u64,
    })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_small_file_is_read_whole_and_a_large_one_from_end_to_end() {
        for size in [0, 1, BLOCK, BLOCK + 1, WHOLE_MAX] {
            let starts: Vec<u64> = blocks(size).collect();
            assert!(starts.iter().enumerate().all(|(number, start)| *start == number as u64 * BLOCK));
            assert_eq!(starts.len() as u64, size.div_ceil(BLOCK));
        }
        for size in [WHOLE_MAX + 1, 10 * WHOLE_MAX + 77, u64::MAX / 2] {
            let starts: Vec<u64> = blocks(size).collect();
            assert_eq!((starts[0], starts[255]), (0, size - BLOCK));
            assert!(starts.windows(2).all(|pair| pair[0] < pair[1]));
            assert_eq!(starts.len(), 256);
        }
    }

    #[test]
    fn equal_bytes_are_equal_content_and_others_are_not() {
        let dir = tempfile::tempdir().unwrap();
        let of = |bytes: &[u8]| {
            let path = dir.path().join("a");
            fs::write(&path, bytes).unwrap();
            of_file(&path).unwrap()
        };
        let long = vec![7; BLOCK as usize + 9];
        let mut other = long.clone();
        *other.last_mut().unwrap() = 8;
        assert_eq!(of(&long), of(&long));
        assert_ne!(of(&long), of(&other));
        assert_ne!(of(&[]), of(&[0]));
        assert!(of_file(&dir.path().join("none")).is_err());
    }
}
