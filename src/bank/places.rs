//! Which row a key goes to: the oldest key's in a queue, its segment's in a bank of instances.

use std::collections::{BTreeSet, HashMap};

use super::rows::NO_SEGMENT;

/// Where keys go. Pure bookkeeping of the one writer, so it does not depend on any thread's pace.
#[derive(Debug)]
pub(super) enum Places {
    /// Round and round.
    Queue {
        /// Rows of the bank.
        rows: usize,
        /// Row that the next key goes to.
        next: usize,
    },
    /// A row a segment, the lowest free one at its first key.
    Instance {
        /// Rows of the bank.
        rows: usize,
        /// Rows from here on were never given away.
        next: usize,
        /// Rows below `next` whose segment was forgotten.
        free: BTreeSet<usize>,
        /// Row of each segment.
        of: HashMap<i64, usize>,
    },
}

/// Keys that have no room: how many segments there would be.
#[derive(Debug, PartialEq)]
pub(super) struct Full(pub usize);

impl Places {
    /// Of an instance bank in which `taken` belong to segments.
    pub fn instance(rows: usize, next: usize, taken: impl IntoIterator<Item = (i64, usize)>) -> Self {
        let of: HashMap<i64, usize> = taken.into_iter().filter(|(id, _)| *id != NO_SEGMENT).collect();
        let used: BTreeSet<usize> = of.values().copied().collect();
        Self::Instance { rows, next, free: (0..next).filter(|row| !used.contains(row)).collect(), of }
    }

    /// Saved with the bank.
    pub fn next(&self) -> usize {
        match self {
            Self::Queue { next, .. } | Self::Instance { next, .. } => *next,
        }
    }

    /// The row that each of `ids` goes to if these are the next keys.
    ///
    /// # Errors
    /// If a bank of instances has no row left.
    pub fn of(&self, ids: &[i64]) -> Result<Vec<usize>, Full> {
        match self {
            Self::Queue { rows, next } => Ok((0..ids.len()).map(|i| (next + i) % rows).collect()),
            Self::Instance { rows, next, free, of } => {
                let mut open = free.iter().copied().chain(*next..*rows);
                let mut new: HashMap<i64, usize> = HashMap::new();
                let mut places = Vec::with_capacity(ids.len());
                for id in ids {
                    let row = match of.get(id).or_else(|| new.get(id)) {
                        Some(row) => *row,
                        None => {
                            let unknown: BTreeSet<&i64> =
                                ids.iter().filter(|id| !of.contains_key(id)).collect();
                            let row = open.next().ok_or(Full(of.len() + unknown.len()))?;
                            new.insert(*id, row);
                            row
                        }
                    };
                    places.push(row);
                }
                Ok(places)
            }
        }
    }

    /// Keeps what [`Places::of`] said for the same ids.
    pub fn keep(&mut self, ids: &[i64], places: &[usize]) {
        match self {
            Self::Queue { rows, next } => *next = (*next + ids.len()) % *rows,
            Self::Instance { next, free, of, .. } => {
                for (&id, &row) in ids.iter().zip(places) {
                    of.insert(id, row);
                    free.remove(&row);
                    *next = (*next).max(row + 1);
                }
            }
        }
    }

    /// Gives the rows of segments back.
    pub fn forget<'a>(&mut self, ids: impl IntoIterator<Item = &'a i64>) {
        if let Self::Instance { free, of, .. } = self {
            free.extend(ids.into_iter().filter_map(|id| of.remove(id)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_segment_keeps_its_row_and_a_forgotten_ones_is_used_again() {
        let mut places = Places::instance(4, 0, []);
        let go = |places: &mut Places, ids: &[i64]| {
            let rows = places.of(ids).unwrap();
            assert_eq!(places.of(ids).unwrap(), rows, "asking changes nothing");
            places.keep(ids, &rows);
            rows
        };
        assert_eq!(go(&mut places, &[70, 80, 70]), [0, 1, 0]);
        assert_eq!(go(&mut places, &[90, 80]), [2, 1]);
        places.forget(&[80, 5]);
        assert_eq!(go(&mut places, &[60, 50]), [1, 3]);
        assert_eq!(places.of(&[60, 1, 2]), Err(Full(6)));
        // What a checkpoint knows is enough.
        places.forget(&[70]);
        let taken = [(60, 1), (90, 2), (50, 3), (NO_SEGMENT, 0)];
        assert_eq!(Places::instance(4, 4, taken).of(&[7]), places.of(&[7]));
    }
}
