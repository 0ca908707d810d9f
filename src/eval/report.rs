//! The figures of an evaluation beside what guessing would reach, as text and as JSON.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;

use super::EvalOptions;
use super::figures::{Figures, share};
use super::knn::{Vote, Voting, classify};
use super::labelled::{LabelledSet, Protocol};
use super::probe::Probed;
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
    /// How the neighbours' votes did.
    #[serde(flatten)]
    pub knn: Figures,
    /// How a linear classifier on frozen features did, if it was asked for.
    pub probe: Option<Probe>,
    /// How the encoder's own classifier did, if it has one.
    pub classifier: Option<Figures>,
    /// One in the number of classes.
    pub chance: f64,
    /// Accuracy of always answering the class most frequent among those that can be found.
    pub majority: f64,
    /// hit@k.
    pub hits: Vec<Hit>,
}

/// What classifiers beside the neighbours said.
pub struct Classified {
    /// The linear one on frozen features, if it was asked for.
    pub probed: Option<Probed>,
    /// The encoder's own, if it has one; as [`classify`](super::classifier::classify) gives it.
    pub classified: Option<Vec<Option<usize>>>,
}

/// How a linear classifier on frozen features did.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Probe {
    /// How often it was right.
    #[serde(flatten)]
    pub figures: Figures,
    /// The penalty of every classifier that was fitted; see [`Probed`].
    pub strengths: Vec<f64>,
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

impl Report {
    /// Figures from the neighbours `found` of each query, nearest first, and what the classifiers said.
    #[must_use]
    pub fn new(
        set: &LabelledSet,
        found: &[Vec<Vote>],
        Classified { probed, classified }: Classified,
        options: &EvalOptions,
    ) -> Self {
        let queries = set.queries.len();
        let census = Census::new(set);
        let knn =
            Figures::new(set, found.iter().map(|near| classify(near, set.classes.len(), options.voting)));
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
            majority: share(knn.by_class[census.most_frequent()].queries, queries),
            knn,
            probe: probed.map(|probed| Probe {
                figures: Figures::new(set, probed.classes.iter().map(|class| Some(*class))),
                strengths: probed.strengths,
            }),
            classifier: classified.map(|given| Figures::new(set, given)),
            chance: 1.0 / set.classes.len().max(1) as f64,
            hits: options.ranks.iter().map(hit).collect(),
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
        let probe = match (&self.probe, self.protocol) {
            (None, _) => String::new(),
            (_, Protocol::Split) => "; linear probe fitted to `train`".to_owned(),
            (Some(probe), _) => format!("; linear probe in {} folds by group", probe.strengths.len()),
        };
        format!(
            "{} queries among {:.0} segments of {} classes, protocol {}, {voting}{}{probe}{left_out}",
            self.queries,
            self.candidates,
            self.knn.by_class.len(),
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

/// A report with what it is about.
#[derive(Clone, Debug)]
pub struct Column {
    /// `untrained`, `step 600`.
    pub encoder: String,
    /// Order of the frames in a clip: `forward`, or a control.
    pub order: String,
    /// The figures.
    pub report: Report,
}

impl Column {
    /// The encoder, and the control if it is one.
    #[must_use]
    pub fn name(&self) -> String {
        if self.order == "forward" {
            self.encoder.clone()
        } else {
            format!("{} {}", self.encoder, self.order)
        }
    }
}

/// All reports by their names, each with `encoder` and `order` beside its figures.
#[must_use]
pub fn to_json(columns: &[Column]) -> Value {
    let entry = |column: &Column| {
        let mut report = column.report.to_json();
        report["encoder"] = column.encoder.as_str().into();
        report["order"] = column.order.as_str().into();
        (column.name(), report)
    };
    Value::Object(columns.iter().map(entry).collect())
}

/// A table with one row an encoder and order, below the row of guessing: what is left without the motion.
#[must_use]
pub fn controls(columns: &[Column]) -> String {
    let Some(first) = columns.first().map(|column| &column.report) else { return String::new() };
    let has_probe = first.probe.is_some();
    let head = |name: &str| [name.to_owned(), "95 %".to_owned(), "balanced".to_owned()];
    let guess = [percent(first.majority), String::new(), percent(first.chance)];
    let cells =
        |it: &Figures| [percent(it.accuracy), interval(it.accuracy_interval), percent(it.balanced_accuracy)];
    let hit = |report: &Report, of: &dyn Fn(&Hit) -> f64| {
        report.hits.first().map_or(String::new(), |it| percent(of(it)))
    };
    let has_own = columns.iter().any(|column| column.report.classifier.is_some());
    type Cells = [String; 3];
    let row = |name: String, knn: Cells, probe: Option<Cells>, own: Option<Cells>, hit: String| {
        let more = [probe, own].into_iter().flatten().flatten().collect();
        [vec![name], knn.to_vec(), more, vec![hit]].concat()
    };
    let hit_name = first.hits.first().map_or(String::new(), |hit| format!("hit@{}", hit.k));
    let mut rows = vec![
        row(
            String::new(),
            head("kNN"),
            has_probe.then(|| head("probe")),
            has_own.then(|| head("classifier")),
            hit_name,
        ),
        row(
            "guessing".to_owned(),
            guess.clone(),
            has_probe.then(|| guess.clone()),
            has_own.then_some(guess),
            hit(first, &|it| it.chance),
        ),
    ];
    rows.extend(columns.iter().map(|Column { encoder, order, report }| {
        let probe = report.probe.as_ref().map(|probe| cells(&probe.figures));
        let own = has_own.then(|| report.classifier.as_ref().map_or_else(Default::default, cells));
        row(format!("{encoder}, {order}"), cells(&report.knn), probe, own, hit(report, &|it| it.share))
    }));
    format!("{}\n\n{}", first.heading(), aligned(&rows))
}

/// A table with one column an encoder (`untrained`, `step 600`) beside the column of guessing.
#[must_use]
pub fn side_by_side(columns: &[Column]) -> String {
    let Some(first) = columns.first().map(|column| &column.report) else { return String::new() };
    let mut table = Table { columns, rows: vec![vec![String::new(), "guessing".to_owned()]] };
    table.rows[0].extend(columns.iter().map(Column::name));
    table.classifier(["kNN accuracy", "kNN balanced"], first, &|report| Some(&report.knn));
    if first.probe.is_some() {
        table.classifier(["probe accuracy", "probe balanced"], first, &|report| {
            report.probe.as_ref().map(|probe| &probe.figures)
        });
    }
    if columns.iter().any(|column| column.report.classifier.is_some()) {
        table.classifier(["classifier top-1", "classifier mean class"], first, &|report| {
            report.classifier.as_ref()
        });
    }
    for (index, hit) in first.hits.iter().enumerate() {
        table.row(format!("hit@{}", hit.k), percent(hit.chance), &|report| {
            report.hits.get(index).map_or(String::new(), |hit| percent(hit.share))
        });
    }
    let what = if first.probe.is_some() { "of each class: kNN / probe" } else { "of each class: kNN" };
    table.row(what.to_owned(), String::new(), &|_| String::new());
    for (index, class) in first.knn.by_class.iter().enumerate() {
        table.row(format!("  {} ({})", class.name, class.queries), String::new(), &|report| {
            let right = |figures: &Figures| {
                figures.by_class.get(index).map_or(0.0, |class| 100.0 * share(class.right, class.queries))
            };
            match &report.probe {
                Some(probe) => format!("{:.0} / {:.0} %", right(&report.knn), right(&probe.figures)),
                None => format!("{:.0} %", right(&report.knn)),
            }
        });
    }
    format!("{}\n\n{}", first.heading(), aligned(&table.rows))
}

/// Rows of cells under construction.
struct Table<'a> {
    columns: &'a [Column],
    rows: Vec<Vec<String>>,
}

impl Table<'_> {
    fn row(&mut self, name: String, guess: String, of: &dyn Fn(&Report) -> String) {
        let figures = self.columns.iter().map(|column| of(&column.report));
        self.rows.push([name, guess].into_iter().chain(figures).collect());
    }

    /// Plain and balanced accuracy, each above its interval.
    fn classifier(
        &mut self,
        names: [&str; 2],
        first: &Report,
        figures: &dyn Fn(&Report) -> Option<&Figures>,
    ) {
        let shown =
            |of: &dyn Fn(&Figures) -> String, report: &Report| figures(report).map_or(String::new(), of);
        let [plain, balanced] = names.map(str::to_owned);
        self.row(plain, percent(first.majority), &|report| shown(&|it| percent(it.accuracy), report));
        self.interval(&|report| shown(&|it| interval(it.accuracy_interval), report));
        self.row(balanced, percent(first.chance), &|report| {
            shown(&|it| percent(it.balanced_accuracy), report)
        });
        self.interval(&|report| shown(&|it| interval(it.balanced_interval), report));
    }

    fn interval(&mut self, of: &dyn Fn(&Report) -> String) {
        self.row("  95 % interval".to_owned(), String::new(), of);
    }
}

fn interval((low, high): (f64, f64)) -> String {
    format!("{:.0}-{:.0} %", low * 100.0, high * 100.0)
}

/// Rows of cells below each other: first column to the left, the others to the right.
pub fn aligned(rows: &[Vec<String>]) -> String {
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

fn percent(share: f64) -> String {
    format!("{:.1} %", share * 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        let rows = [["", "guessing"], ["kNN accuracy", "5 %"]].map(|row| row.map(String::from).to_vec());
        assert_eq!(aligned(&rows), "              guessing\nkNN accuracy       5 %");
    }
}
