//! Draws a plan: as the writer thinks of it, or as the engine runs it.
//!
//! [`logical`] and [`physical`] make a [`Drawing`], which knows no format; `mermaid`, `dot` and `svg` write
//! it down. Only `svg` needs to know where things stand: `layout` says it.

mod dot;
mod layout;
mod mermaid;
mod physical;
mod svg;
#[cfg(test)]
mod tests;

use reelflow_api::schema::Facets;
use reelflow_api::spec::{Kind, Port, Spec};
use reelflow_api::stage::Stage;
use serde_json::{Map, Value};

pub use physical::physical;

use super::plan::{Node, Plan};

/// How a drawing is written down.
#[derive(clap::ValueEnum, Clone, Copy, Debug, Eq, PartialEq)]
pub enum Format {
    /// For Markdown: Mermaid's `flowchart`.
    Mermaid,
    /// For Graphviz.
    Dot,
    /// A picture.
    Svg,
}

/// What a box stands for; it chooses the colour.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Look {
    /// A source.
    Source,
    /// An operator.
    Operator,
    /// A bank.
    Bank,
    /// A sink.
    Sink,
    /// What the engine puts in between.
    Engine,
}

impl Look {
    /// Colour of lines and of the type, and of the ground: dark and light tones of one hue.
    fn colours(self) -> (&'static str, &'static str) {
        match self {
            Self::Source => ("#0f766e", "#e6f7f4"),
            Self::Operator => ("#1d4ed8", "#eaf1fe"),
            Self::Bank => ("#7e22ce", "#f6ecfe"),
            Self::Sink => ("#c2410c", "#fef0e6"),
            Self::Engine => ("#475569", "#f3f5f8"),
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Source => "source",
            Self::Operator => "operator",
            Self::Bank => "bank",
            Self::Sink => "sink",
            Self::Engine => "engine",
        }
    }
}

/// A box.
#[derive(Clone, Debug, PartialEq)]
pub struct Shape {
    /// Unique in the drawing.
    pub id: String,
    /// Written big.
    pub title: String,
    /// Written below it.
    pub type_name: String,
    /// Written small.
    pub lines: Vec<String>,
    /// What it stands for.
    pub look: Look,
    /// The sink below which a bank hangs.
    pub hung_on: Option<usize>,
}

/// An arrow.
#[derive(Clone, Debug, PartialEq)]
pub struct Arrow {
    /// Position of the box it leaves.
    pub from: usize,
    /// Position of the box it enters.
    pub to: usize,
    /// What it carries.
    pub label: String,
    /// Whether it says "belongs to" rather than "flows to".
    pub dashed: bool,
}

/// A frame around boxes.
#[derive(Clone, Debug, PartialEq)]
pub struct Frame {
    /// Written at its top.
    pub title: String,
    /// Positions of its boxes.
    pub shapes: Vec<usize>,
}

/// What is to be seen, without places.
#[derive(Clone, Debug, PartialEq)]
pub struct Drawing {
    /// Name of the pipeline.
    pub title: String,
    /// Boxes, producers before consumers.
    pub shapes: Vec<Shape>,
    /// Arrows.
    pub arrows: Vec<Arrow>,
    /// Frames.
    pub frames: Vec<Frame>,
}

impl Drawing {
    /// The drawing as text of a format.
    #[must_use]
    pub fn render(&self, format: Format) -> String {
        match format {
            Format::Mermaid => mermaid::write(self),
            Format::Dot => dot::write(self),
            Format::Svg => svg::write(self),
        }
    }

    fn position(&self, id: &str) -> Option<usize> {
        self.shapes.iter().position(|shape| shape.id == id)
    }

    fn connect(&mut self, from: usize, to: usize, label: &str) {
        self.arrows.push(Arrow { from, to, label: label.to_owned(), dashed: false });
    }

    /// Hangs every bank on the sinks that use it.
    fn hang_banks(&mut self, plan: &Plan) {
        for node in &plan.nodes {
            let (Stage::Sink(sink), Some(to)) = (&node.stage, self.position(&node.id)) else { continue };
            for bank in sink.banks() {
                let Some(from) = self.position(&bank) else { continue };
                self.shapes[from].hung_on.get_or_insert(to);
                self.arrows.push(Arrow { from, to, label: "rows".to_owned(), dashed: true });
            }
        }
    }
}

/// The pipeline as it is written.
#[must_use]
pub fn logical(plan: &Plan) -> Drawing {
    let parameters = Parameters::of(plan);
    let mut drawing =
        Drawing { title: plan.name.clone(), shapes: Vec::new(), arrows: Vec::new(), frames: Vec::new() };
    for node in &plan.nodes {
        let to = drawing.shapes.len();
        drawing.shapes.push(parameters.shape(node));
        for input in &node.inputs {
            let Some(from) = drawing.position(input) else { continue };
            drawing.connect(from, to, carried(plan, input));
        }
    }
    drawing.hang_banks(plan);
    drawing
}

/// What `id` hands on.
fn carried(plan: &Plan, id: &str) -> &'static str {
    let node = plan.nodes.iter().find(|node| node.id == id);
    node.and_then(|node| node.output).map_or("", Port::name)
}

/// All parameters of a plan, with every default.
struct Parameters(Value);

impl Parameters {
    fn of(plan: &Plan) -> Self {
        Self(toml::from_str(&plan.resolved).expect("a resolved plan is TOML"))
    }

    fn shape(&self, node: &Node) -> Shape {
        let spec = crate::engine::registry::find(node.kind, node.type_name);
        let values = &self.0[node.kind.table()][&node.id];
        let lines = match (spec, values.as_object()) {
            (Some(spec), Some(values)) => telling(spec, values),
            _ => Vec::new(),
        };
        Shape {
            id: node.id.clone(),
            title: node.id.clone(),
            type_name: node.type_name.to_owned(),
            lines,
            look: match node.kind {
                Kind::Source => Look::Source,
                Kind::Operator => Look::Operator,
                Kind::Bank => Look::Bank,
                Kind::Sink => Look::Sink,
            },
            hung_on: None,
        }
    }
}

/// Lines that a box has room for.
const LINES_MAX: usize = 5;

/// Longest line, characters.
const LINE_CHARS_MAX: usize = 24;

/// The parameters that say most: those without a default, then those that differ from theirs.
fn telling(spec: &Spec, values: &Map<String, Value>) -> Vec<String> {
    let schema = (spec.schema)();
    let facets = Facets::new(schema.as_value(), schema.as_value());
    let mut chosen = Vec::new();
    for (name, schema) in facets.properties() {
        let default = facets.sub(schema).default();
        let Some(value) = values.get(name).filter(|value| Some(*value) != default.as_ref()) else { continue };
        chosen.push((default.is_some(), name, value));
    }
    chosen.sort_by_key(|(has_default, _, _)| *has_default);
    let mut lines = Vec::new();
    for (_, name, value) in chosen.into_iter().take(3) {
        match value {
            Value::Array(items) if items.first().is_some_and(Value::is_object) => {
                lines.extend(items.iter().map(summary));
            }
            Value::Object(_) => lines.push(format!("{name}: {}", summary(value))),
            _ => lines.push(format!("{name} {}", summary(value))),
        }
    }
    if lines.len() > LINES_MAX {
        lines.truncate(LINES_MAX - 1);
        lines.push("…".to_owned());
    }
    lines.iter().map(|line| shortened(line)).collect()
}

/// A value in few words.
fn summary(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(items) => items.iter().map(summary).collect::<Vec<_>>().join(", "),
        Value::Object(entries) => {
            let name = ["op", "name", "type"].iter().find_map(|key| entries.get(*key)?.as_str());
            name.map_or_else(|| format!("{} values", entries.len()), str::to_owned)
        }
        other => other.to_string(),
    }
}

/// At most as long as a box is wide; the end says more than the middle.
fn shortened(line: &str) -> String {
    let chars: Vec<char> = line.chars().collect();
    if chars.len() <= LINE_CHARS_MAX {
        return line.to_owned();
    }
    let (head, tail) = (LINE_CHARS_MAX / 2 - 1, LINE_CHARS_MAX / 2);
    let start: String = chars[..head].iter().collect();
    let end: String = chars[chars.len() - tail..].iter().collect();
    format!("{start}…{end}")
}
