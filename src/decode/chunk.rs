//! Reads the access units of a stretch, in one go where they lie close together.

use reelflow_api::error::SkipReason;
use reelflow_api::track::Unit;

use super::Failure;
use super::bytes::Bytes;

/// A part of the file that was read at once, because the units of a stretch lie close together in it.
#[derive(Default)]
pub struct Chunk {
    start: u64,
    bytes: Vec<u8>,
}

/// Largest part that is read at once.
const CHUNK_MAX: u64 = 4 << 20;

impl Chunk {
    /// Reads the units of `stretch` if at least half of what lies between them is theirs.
    pub fn load(&mut self, file: &Bytes, stretch: &[Unit]) {
        self.bytes.clear();
        let start = stretch.iter().map(|unit| unit.offset).min().unwrap_or(0);
        let end = stretch.iter().map(|unit| unit.offset + u64::from(unit.size)).max().unwrap_or(0);
        let own: u64 = stretch.iter().map(|unit| u64::from(unit.size)).sum();
        if end - start > CHUNK_MAX.min(2 * own) {
            return;
        }
        self.start = start;
        self.bytes.resize((end - start) as usize, 0);
        if file.read_exact_at(&mut self.bytes, start).is_err() {
            // Unit by unit it will show which cannot be read.
            self.bytes.clear();
        }
    }

    /// The bytes of `unit`, read now if they were not before.
    ///
    /// # Errors
    /// `unreadable`
    pub fn take(&self, file: &Bytes, unit: &Unit) -> Result<Vec<u8>, Failure> {
        let read = unit.offset.checked_sub(self.start).and_then(|at| {
            let at = usize::try_from(at).ok()?;
            self.bytes.get(at..at + unit.size as usize)
        });
        if let Some(bytes) = read {
            return Ok(bytes.to_vec());
        }
        let mut bytes = vec![0; unit.size as usize];
        file.read_exact_at(&mut bytes, unit.offset).map_err(|error| {
            Failure::new(SkipReason::Unreadable, format!("cannot be read at byte {}: {error}", unit.offset))
        })?;
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use reelflow_api::item::Origin;

    use super::*;

    #[test]
    fn near_and_far_units_are_read_as_they_are() {
        let path = tempfile::NamedTempFile::new().unwrap();
        let content: Vec<u8> = (0..2000u32).map(|i| (i % 251) as u8).collect();
        std::fs::write(path.path(), &content).unwrap();
        let file = Bytes::open(&Origin::File(path.path().to_owned())).unwrap();
        let unit = |offset, size| Unit { offset, size, shows: 0, is_key: false, is_disposable: false };
        let mut chunk = Chunk::default();
        for (units, is_at_once) in [
            ([unit(10, 90), unit(120, 100), unit(100, 20)], true),
            ([unit(10, 9), unit(1500, 10), unit(1990, 10)], false),
        ] {
            chunk.load(&file, &units);
            assert_eq!(!chunk.bytes.is_empty(), is_at_once);
            for unit in &units {
                let range = unit.offset as usize..unit.offset as usize + unit.size as usize;
                assert_eq!(chunk.take(&file, unit).unwrap(), content[range]);
            }
        }
        // Past the end of a file that was cut meanwhile.
        chunk.load(&file, &[unit(1990, 20)]);
        assert_eq!(chunk.take(&file, &unit(1990, 20)).unwrap_err().reason, SkipReason::Unreadable);
        assert_eq!(chunk.take(&file, &unit(10, 3)).unwrap(), content[10..13]);
    }
}
