//! Decodes files: straight from their access units where they are known, through the demuxer elsewhere.

use std::sync::Arc;

use reelflow_api::error::SkipReason;
use reelflow_api::item::{Media, Origin};
use reelflow_api::track::Track;

use super::chain::broken;
use super::feeder::{Feeder, Pictures};
use super::reader::{Key, Reader};
use crate::decode::bytes::Bytes;
use crate::decode::feed::stretches;
use crate::decode::{Decoder, Failure, Take};

/// Decoders kept, one a format. Files of one encoder with the same settings have the same format.
const FEEDERS: usize = 4;

/// Pixels of a picture that they may have together, if there is more than one: each holds on to the memory of about a
/// dozen pictures, and opening one takes less than a hundredth of the time that a large clip takes.
const FEEDERS_PIXELS: u64 = 1 << 19;

/// Decodes files.
#[derive(Default)]
pub struct FileDecoder {
    reader: Reader,
    /// The one used last comes last.
    feeders: Vec<Feeder>,
    open: Option<OpenFile>,
}

/// The file that was read last.
struct OpenFile {
    key: Key,
    bytes: Bytes,
    /// Last position that was wanted.
    last: u32,
    /// Its units do not give what they promise.
    is_odd: bool,
}

impl Decoder for FileDecoder {
    fn decode(&mut self, media: &Media, wanted: &[u32], take: &mut Take<'_>) -> Result<u64, Failure> {
        let (Origin::File(_) | Origin::Member(_)) = &media.origin else {
            return Err(Failure::new(SkipReason::NotMedia, format!("{} is not a file", media.name)));
        };
        let key = Key::of(media);
        let (Some(&first), Some(&last)) = (wanted.first(), wanted.last()) else { return Ok(0) };
        if last as usize >= media.times.len() {
            let message = format!("frame {last} of {} does not exist", media.times.len());
            return Err(Failure::new(SkipReason::Corrupt, message));
        }
        super::init()?;
        if let Some(track) = &media.track
            && !self.goes_on(&key, track, first)
        {
            match self.feed(&key, media, track, wanted, take) {
                Ok(decoded) => return Ok(decoded),
                // The demuxer's way may still give it, and knows best what is wrong.
                Err(_) => self.set_odd(&key),
            }
        }
        self.reader.decode(&key, media, wanted, take)
    }
}

impl FileDecoder {
    /// Whether the windows of a file come one after the other within a group: then a decoder that goes on
    /// where it stopped is better than one that starts at the key frame every time.
    fn goes_on(&self, key: &Key, track: &Track, first: u32) -> bool {
        let Some(open) = self.open.as_ref().filter(|open| open.key == *key) else { return false };
        let group = track.group_of(first);
        let is_behind = |last: u32| last < first && track.group_of(last) == group;
        open.is_odd
            || self.reader.next(key).is_some_and(|next| next > 0 && is_behind(next - 1))
            || is_behind(open.last)
    }

    /// Feeds a decoder what the wanted frames need.
    fn feed(
        &mut self,
        key: &Key,
        media: &Media,
        track: &Track,
        wanted: &[u32],
        take: &mut Take<'_>,
    ) -> Result<u64, Failure> {
        let stretches = stretches(track, wanted).ok_or_else(|| broken("a frame without an access unit"))?;
        let mut feeder = self.feeder(&track.caps, media.pixels())?;
        let open = self.open_file(key, media)?;
        open.last = wanted[wanted.len() - 1];
        let mut decoded = feeder.decode(&open.bytes, media, &stretches, wanted, take);
        if decoded.is_err() && feeder.needs_conversion() {
            feeder = Feeder::open(&track.caps, Pictures::Converted)?;
            decoded = feeder.decode(&open.bytes, media, &stretches, wanted, take);
        }
        let decoded = decoded?;
        // One that failed is not used again: nobody knows in what state it is.
        self.feeders.push(feeder);
        Ok(decoded)
    }

    /// A decoder for pictures of so many pixels: one that is kept, or a new one, for which others make room.
    fn feeder(&mut self, caps: &Arc<str>, pixels: u64) -> Result<Feeder, Failure> {
        if let Some(at) = self.feeders.iter().position(|feeder| feeder.takes(caps)) {
            return Ok(self.feeders.remove(at));
        }
        let kept: Vec<u64> = self.feeders.iter().map(Feeder::pixels).collect();
        self.feeders.drain(..too_many(&kept, pixels));
        Feeder::open(caps, Pictures::AsTheyAre)
    }

    /// The medium's bytes, still as many as there were when it was scanned.
    fn open_file(&mut self, key: &Key, media: &Media) -> Result<&mut OpenFile, Failure> {
        if self.open.as_ref().is_none_or(|open| open.key != *key) {
            let bytes = Bytes::open(&media.origin)?;
            if bytes.length() != media.bytes {
                return Err(broken("it is not as long as it was"));
            }
            self.open = Some(OpenFile { key: key.clone(), bytes, last: 0, is_odd: false });
        }
        Ok(self.open.as_mut().expect("opened just above"))
    }

    fn set_odd(&mut self, key: &Key) {
        if let Some(open) = self.open.as_mut().filter(|open| open.key == *key) {
            open.is_odd = true;
        }
    }
}

/// How many decoders, the first of those with `kept` pixels, have to go before one for `pixels` comes.
fn too_many(kept: &[u64], pixels: u64) -> usize {
    let fits = |rest: &[u64]| rest.len() < FEEDERS && rest.iter().sum::<u64>() + pixels <= FEEDERS_PIXELS;
    (0..kept.len()).find(|&gone| fits(&kept[gone..])).unwrap_or(kept.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_decoders_stay_and_large_ones_stay_alone() {
        let small = 320 * 240;
        assert_eq!(too_many(&[], 1920 * 1080), 0);
        assert_eq!(too_many(&[small; 3], small), 0);
        assert_eq!(too_many(&[small; FEEDERS], small), 1);
        assert_eq!(too_many(&[small, small], 1280 * 720), 2);
        assert_eq!(too_many(&[1280 * 720, small], small), 1);
    }
}
