//! Shows pictures of a live stream that are kept in memory.

use reelflow_api::error::SkipReason;
use reelflow_api::feed::Recording;

use super::{Failure, Take};

/// Shows `take` the pictures at the positions `wanted`, and notes that the recording was used. Gives 0: nothing had
/// to be decoded for them.
///
/// # Errors
/// If a position is past the end.
pub fn show(recording: &Recording, wanted: &[u32], take: &mut Take<'_>) -> Result<u64, Failure> {
    let pictures = recording.pictures();
    for (index, &position) in wanted.iter().enumerate() {
        let picture = pictures.get(position as usize).ok_or_else(|| {
            let message = format!("frame {position} of a recording of {}", pictures.len());
            Failure::new(SkipReason::Corrupt, message)
        })?;
        take(index, &picture.frame());
    }
    recording.set_used();
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::pattern;

    #[test]
    fn wanted_pictures_come_with_their_index_and_count_as_use() {
        let pictures = (0..4).map(|time| pattern::picture(1, time * 40_000_000, 16, 8)).collect();
        let recording = Recording::new(pictures);
        let mut seen = Vec::new();
        assert!(!recording.is_used());
        show(&recording, &[1, 3], &mut |index, frame| seen.push((index, frame.time))).unwrap();
        assert_eq!(seen, [(0, 40_000_000), (1, 120_000_000)]);
        assert!(recording.is_used());
        assert_eq!(show(&recording, &[4], &mut |_, _| {}).unwrap_err().reason, SkipReason::Corrupt);
    }
}
