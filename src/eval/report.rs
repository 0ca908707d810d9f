//! The figures of an evaluation beside what guessing would reach, as text and as JSON.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;

use super::EvalOptions;
use super::knn::{Vote, Voting, classify};
use super::labelled::{LabelledSet, Protocol};
use super::retrieval::{chance, first_hit, hit_share};

/// Figures of one encoder. Shares are 0 to 1.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// Who may find whom.
    pub protocol: Protocol,
    /// How neighbours voted.
    pub voting: Voting,
    /// Whether the mean was subtracted.
    pub centre: bool,
    /// Segments that searched.
    pub queries: usize,
    /// Segments that a query may find, mean over queries.
    pub candidates: f64,
    /// Segments without a label, or outside the splits.
    pub left_out: usize,
    /// Share of queries whose class was voted for.
    pub accuracy: f64,
    /// 95 % interval of the accuracy (Wilson): another draw of as many queries is likely to fall there.
    pub accuracy_interval: (f64, f64),
    /// Mean over the classes of the share of their queries that are right.
    pub balanced_accuracy: f64,
    /// One in the number of classes.
    pub chance: f64,
    /// Accuracy of always answering the class most frequent among those that can be found.
    pub majority: f64,
    /// hit@k.
    pub hits: Vec<Hit>,
    /// Every class.
    pub by_class: Vec<ClassFigures>,
}

/// hit@k: a segment of the right class is among the k nearest.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Hit {
    /// How many nearest are looked at.
    pub k: usize,
    /// Share of queries with a hit.
    pub share: f64,
    /// The share that a random ranking reaches on average.
    pub chance: f64,
}

/// Figures of one class.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ClassFigures {
    /// Its name.
    pub name: String,
    /// Queries of the class.
    pub queries: usize,
    /// Those that were voted for.
    pub right: usize,
}

impl Report {
    /// Figures from the neighbours `found` of each query, nearest first.
    #[must_use]
    pub fn new(set: &LabelledSet, found: &[Vec<Vote>], options: &EvalOptions) -> Self {
        let mut by_class: Vec<ClassFigures> = set
            .classes
            .iter()
            .map(|name| ClassFigures { name: name.to_string(), queries: 0, right: 0 })
            .collect();
        for (query, near) in set.queries.iter().zip(found) {
            let class = set.class[*query];
            by_class[class].queries += 1;
            if classify(near, set.classes.len(), options.voting) == Some(class) {
                by_class[class].right += 1;
            }
        }
        let queries = set.queries.len();
        let right: usize = by_class.iter().map(|class| class.right).sum();
        let seen: Vec<_> = by_class.iter().filter(|class| class.queries > 0).collect();
        let recalls: f64 = seen.iter().map(|class| share(class.right, class.queries)).sum();
        let census = Census::new(set);
        let first_hits: Vec<_> =
            set.queries.iter().zip(found).map(|(query, near)| first_hit(near, set.class[*query])).collect();
        let hit =
            |k: &usize| Hit { k: *k, share: hit_share(&first_hits, *k), chance: census.hit_chance(set, *k) };
        Self {
            protocol: set.protocol,
            voting: options.voting,
            centre: options.centre,
            queries,
            candidates: census.candidates(set),
            left_out: set.left_out,
            accuracy: share(right, queries),
            accuracy_interval: wilson(right, queries),
            balanced_accuracy: recalls / seen.len().max(1) as f64,
            chance: 1.0 / set.classes.len().max(1) as f64,
            majority: share(by_class[census.most_frequent()].queries, queries),
            hits: options.ranks.iter().map(hit).collect(),
            by_class,
        }
    }

    /// One sentence on what was measured and how.
    #[must_use]
    pub fn heading(&self) -> String {
        let voting = match self.voting {
            Voting::Weighted { k, temperature } => {
                format!("kNN with k {k} and temperature {temperature}")
            }
            Voting::Plain { k } => format!("kNN with k {k}"),
        };
        let left_out = match self.left_out {
            0 => String::new(),
            count => format!("; {count} left out (no label or no split)"),
        };
        format!(
            "{} queries among {:.0} segments of {} classes, protocol {}, {voting}{}{left_out}",
            self.queries,
            self.candidates,
            self.by_class.len(),
            self.protocol.as_str(),
            if self.centre { ", mean subtracted" } else { "" },
        )
    }

    /// The report as JSON.
    #[must_use]
    pub fn to_json(&self) -> Value {
        serde_json::to_value(self).expect("names and finite numbers always have a JSON form")
    }
}

/// A table with one column an encoder (`untrained`, `trained`) beside the column of guessing.
#[must_use]
pub fn side_by_side(columns: &[(&str, &Report)]) -> String {
    let Some((_, first)) = columns.first() else { return String::new() };
    let mut rows: Vec<Vec<String>> = vec![vec![String::new(), "guessing".to_owned()]];
    let mut row = |name: String, guess: String, of: &dyn Fn(&Report) -> String| {
        let figures = columns.iter().map(|(_, report)| of(report));
        rows.push([name, guess].into_iter().chain(figures).collect());
    };
    row("kNN accuracy".into(), percent(first.majority), &|report| percent(report.accuracy));
    row("  95 % interval".into(), String::new(), &|report| {
        let (low, high) = report.accuracy_interval;
        format!("{:.0}-{:.0} %", low * 100.0, high * 100.0)
    });
    row("balanced accuracy".into(), percent(first.chance), &|report| percent(report.balanced_accuracy));
    for (index, hit) in first.hits.iter().enumerate() {
        let figure = |report: &Report| report.hits.get(index).map_or(String::new(), |hit| percent(hit.share));
        row(format!("hit@{}", hit.k), percent(hit.chance), &figure);
    }
    for (index, class) in first.by_class.iter().enumerate() {
        row(format!("  {} ({})", class.name, class.queries), String::new(), &|report| {
            report
                .by_class
                .get(index)
                .map_or(String::new(), |class| percent(share(class.right, class.queries)))
        });
    }
    rows[0].extend(columns.iter().map(|(name, _)| (*name).to_owned()));
    format!("{}\n\n{}", first.heading(), aligned(&rows))
}

/// First column to the left, the others to the right.
fn aligned(rows: &[Vec<String>]) -> String {
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..rows[0].len()).map(width).collect();
    let line = |row: &Vec<String>| {
        let cells = row.iter().zip(&widths).enumerate().map(|(column, (cell, width))| match column {
            0 => format!("{cell:<width$}"),
            _ => format!("  {cell:>width$}"),
        });
        cells.collect::<String>().trim_end().to_owned()
    };
    rows.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// How many there are to be found, by class and by (group, class).
struct Census {
    of_class: Vec<usize>,
    of_group: BTreeMap<(usize, usize), usize>,
    group_size: BTreeMap<usize, usize>,
    all: usize,
}

impl Census {
    fn new(set: &LabelledSet) -> Self {
        let mut census = Self {
            of_class: vec![0; set.classes.len()],
            of_group: BTreeMap::new(),
            group_size: BTreeMap::new(),
            all: set.gallery.len(),
        };
        for index in &set.gallery {
            let (class, group) = (set.class[*index], set.group[*index]);
            census.of_class[class] += 1;
            *census.of_group.entry((group, class)).or_default() += 1;
            *census.group_size.entry(group).or_default() += 1;
        }
        census
    }

    /// Of all that `query` may find, how many are of its class; and how many there are.
    fn of_query(&self, set: &LabelledSet, query: usize) -> (usize, usize) {
        let (class, group) = (set.class[query], set.group[query]);
        let hidden = self.of_group.get(&(group, class)).copied().unwrap_or(0);
        let hidden_all = self.group_size.get(&group).copied().unwrap_or(0);
        (self.of_class[class] - hidden, self.all - hidden_all)
    }

    fn hit_chance(&self, set: &LabelledSet, k: usize) -> f64 {
        let chances = set.queries.iter().map(|query| {
            let (right, all) = self.of_query(set, *query);
            chance(right, all, k)
        });
        chances.sum::<f64>() / set.queries.len().max(1) as f64
    }

    fn candidates(&self, set: &LabelledSet) -> f64 {
        let all: usize = set.queries.iter().map(|query| self.of_query(set, *query).1).sum();
        all as f64 / set.queries.len().max(1) as f64
    }

    fn most_frequent(&self) -> usize {
        // Of equals the first, so that the figure does not depend on the order of a map.
        let most = self.of_class.iter().copied().max().unwrap_or(0);
        self.of_class.iter().position(|count| *count == most).unwrap_or(0)
    }
}

fn share(part: usize, whole: usize) -> f64 {
    part as f64 / whole.max(1) as f64
}

fn percent(share: f64) -> String {
    format!("{:.1} %", share * 100.0)
}

/// Wilson's score interval at 95 % (z = 1.96).
fn wilson(right: usize, all: usize) -> (f64, f64) {
    if all == 0 {
        return (0.0, 1.0);
    }
    const Z: f64 = 1.959_964;
    let (n, p) = (all as f64, share(right, all));
    let middle = (p + Z * Z / (2.0 * n)) / (1.0 + Z * Z / n);
    let half = Z / (1.0 + Z * Z / n) * (p * (1.0 - p) / n + Z * Z / (4.0 * n * n)).sqrt();
    ((middle - half).max(0.0), (middle + half).min(1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// At one half it is `1/2 -+ z / (2 sqrt(n + z^2))`: for 20 queries 0.5 -+ 0.20070.
    #[test]
    fn the_interval_is_wilsons() {
        let (low, high) = wilson(10, 20);
        assert!((low - 0.299_298).abs() < 1e-5 && (high - 0.700_702).abs() < 1e-5, "{low} {high}");
        assert_eq!(wilson(0, 0), (0.0, 1.0));
        assert!(wilson(0, 10).0 < 1e-9 && wilson(0, 10).1 < 0.3);
    }

    #[test]
    fn columns_line_up() {
        let rows = [["", "guessing"], ["kNN accuracy", "5 %"]].map(|row| row.map(String::from).to_vec());
        assert_eq!(aligned(&rows), "              guessing\nkNN accuracy       5 %");
    }
}
