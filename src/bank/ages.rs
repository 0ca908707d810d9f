//! How old the rows are that a reader sees: steps between the one that wrote a row and now.

use std::collections::BTreeMap;

use super::rows::{Changes, NO_SEGMENT};

/// Ages of the rows that belong to segments.
#[derive(Clone, Debug, PartialEq)]
pub struct Ages {
    /// Rows of the bank.
    pub rows: u64,
    /// Those that belong to a segment; the others have no age.
    pub filled: u64,
    /// Lowest, middle and highest age in steps; `None` without any.
    pub spread: Option<[u64; 3]>,
    /// Highest age of a class, and the rows in it: ages 0, 1, 2 to 3, 4 to 7 and so on, classes with rows only.
    pub classes: Vec<(u64, u64)>,
}

impl Ages {
    /// At `step`, of versions in rising order and the number of rows of each.
    pub fn at(step: u64, rows: u64, versions: impl IntoIterator<Item = (i64, u64)>) -> Self {
        let mut counts: Vec<(u64, u64)> = versions
            .into_iter()
            .map(|(version, count)| (step.saturating_sub(version.max(0) as u64), count))
            .collect();
        counts.reverse();
        let filled: u64 = counts.iter().map(|(_, count)| count).sum();
        let mut classes: BTreeMap<u64, u64> = BTreeMap::new();
        for (age, count) in &counts {
            *classes.entry((age + 1).next_power_of_two() - 1).or_default() += count;
        }
        let mut left = filled / 2;
        let middle = counts.iter().find(|(_, count)| {
            let is_here = left < *count;
            left = left.saturating_sub(*count);
            is_here
        });
        let spread = match (counts.first(), middle, counts.last()) {
            (Some(low), Some(middle), Some(high)) => Some([low.0, middle.0, high.0]),
            _ => None,
        };
        Self { rows, filled, spread, classes: classes.into_iter().collect() }
    }

    /// At `step`, of `rows` rows, each with its segment's id and its version.
    pub fn of_rows<'r>(step: u64, rows: u64, all: impl Iterator<Item = (&'r i64, &'r i64)>) -> Self {
        let mut versions: Vec<(i64, u64)> =
            all.filter(|(id, _)| **id != NO_SEGMENT).map(|(_, version)| (*version, 1)).collect();
        versions.sort_unstable();
        Self::at(step, rows, versions)
    }

    /// `5 of 8 rows filled, ages 1: 2, up to 3: 3`.
    #[must_use]
    pub fn to_text(&self) -> String {
        let classes: Vec<String> = self.classes.iter().map(|(age, rows)| format!("{age}: {rows}")).collect();
        let ages =
            if classes.is_empty() { String::new() } else { format!("; ages up to {}", classes.join(", ")) };
        format!("{} of {} rows filled{ages}", self.filled, self.rows)
    }
}

/// What the reader was given so far, as far as ages need it.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// Version of each row, `None` if it belongs to nobody.
    versions: Vec<Option<i64>>,
    /// Rows of each version.
    counts: BTreeMap<i64, u64>,
    /// Step of the newest read.
    pub step: u64,
}

impl Seen {
    pub fn apply(&mut self, changes: &Changes) {
        for (i, &row) in changes.rows.iter().enumerate() {
            let row = row as usize;
            self.versions.resize(self.versions.len().max(row + 1), None);
            let now = (changes.ids[i] != NO_SEGMENT).then_some(changes.versions[i]);
            let before = std::mem::replace(&mut self.versions[row], now);
            if let Some(version) = now {
                *self.counts.entry(version).or_default() += 1;
            }
            if let Some(count) = before.and_then(|version| self.counts.get_mut(&version)) {
                *count -= 1;
            }
        }
        self.counts.retain(|_, count| *count > 0);
    }

    pub fn is_empty(&self) -> bool {
        self.versions.is_empty()
    }

    pub fn ages(&self) -> Ages {
        let counts = self.counts.iter().map(|(version, count)| (*version, *count));
        Ages::at(self.step, self.versions.len() as u64, counts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_fall_into_classes_that_double() {
        let ages = Ages::at(10, 20, [(0, 1), (2, 1), (3, 2), (6, 1), (7, 1), (9, 3)]);
        assert_eq!(ages.classes, [(1, 3), (3, 1), (7, 3), (15, 2)]);
        assert_eq!((ages.filled, ages.spread), (9, Some([1, 4, 10])));
        assert_eq!(ages.to_text(), "9 of 20 rows filled; ages up to 1: 3, 3: 1, 7: 3, 15: 2");
        let none = Ages::at(3, 4, []);
        assert_eq!((none.spread, none.to_text().as_str()), (None, "0 of 4 rows filled"));
    }

    #[test]
    fn a_row_counts_once_and_a_forgotten_one_not_at_all() {
        let mut seen = Seen::default();
        let mut give = |row: i64, id: i64, version: i64| {
            let (values, rows) = (vec![1.0], vec![row]);
            seen.apply(&Changes { rows, values, ids: vec![id], versions: vec![version] });
            seen.step = 5;
            seen.ages()
        };
        give(0, 7, 1);
        assert_eq!(give(1, 8, 2).spread, Some([3, 4, 4]));
        assert_eq!(give(0, 9, 4).spread, Some([1, 3, 3]));
        assert_eq!(give(1, NO_SEGMENT, 2).filled, 1);
    }
}
