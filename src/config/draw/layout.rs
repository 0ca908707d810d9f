//! Finds places for boxes and arrows: columns from left to right, nothing on top of anything.
//!
//! The columns are the longest ways from a source. An arrow that passes a column gets a gap of its own
//! there, so it never runs behind a box. Within a column, boxes stand as near as they can to the middle of
//! what they are connected with (barycentre method; Sugiyama, Tagawa, Toda 1981).

use super::{Drawing, Shape};

/// Text sizes, pixels.
pub const TITLE_SIZE: f64 = 19.0;
/// Text size of the type.
pub const TYPE_SIZE: f64 = 14.0;
/// Text size of parameters and labels.
pub const LINE_SIZE: f64 = 13.0;
/// Height of a line of parameters.
pub const LINE_HEIGHT: f64 = 18.0;
/// Space between the edge of a box and its text.
pub const PADDING: f64 = 14.0;
/// Height of title and type together.
pub const HEAD: f64 = 52.0;

/// Between columns: room for an arrow and the word it carries.
const GAP_X: f64 = 92.0;
/// The same where frames stand between columns.
const GAP_X_FRAMED: f64 = 136.0;
const GAP_Y: f64 = 30.0;
/// Between a sink and its bank: room for the word on the dashed line.
const GAP_BANK: f64 = 44.0;
/// Around everything; on top there is also the title.
const MARGIN: f64 = 44.0;
const MARGIN_TOP: f64 = 84.0;
/// What a frame takes above, and on each other side.
pub const FRAME_TOP: f64 = 42.0;
/// See [`FRAME_TOP`].
pub const FRAME_SIDE: f64 = 20.0;
/// How often places are improved; chains settle at once, fans after a few rounds.
const ROUNDS: usize = 6;

/// A rectangle, pixels from the top left.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Rect {
    pub x: f64,
    pub y: f64,
    pub width: f64,
    pub height: f64,
}

impl Rect {
    pub fn middle_x(self) -> f64 {
        self.x + self.width / 2.0
    }

    pub fn middle_y(self) -> f64 {
        self.y + self.height / 2.0
    }
}

/// Where everything is.
#[derive(Clone, Debug)]
pub struct Places {
    /// One a box.
    pub boxes: Vec<Rect>,
    /// Points that each solid arrow passes, from its box to its box.
    pub paths: Vec<Vec<(f64, f64)>>,
    pub width: f64,
    pub height: f64,
}

/// A box, or the gap through which an arrow passes a column.
struct Cell {
    column: usize,
    /// Space above and below the middle of the line that enters it.
    above: f64,
    below: f64,
    middle: f64,
    shape: Option<usize>,
}

pub fn place(drawing: &Drawing) -> Places {
    let sizes: Vec<(f64, f64)> = drawing.shapes.iter().map(size).collect();
    let columns = columns(drawing);
    let mut cells = Vec::new();
    let mut cell_of = vec![usize::MAX; drawing.shapes.len()];
    for index in (0..drawing.shapes.len()).filter(|index| drawing.shapes[*index].hung_on.is_none()) {
        let hung: f64 = hung_on(drawing, index).map(|bank| GAP_BANK + sizes[bank].1).sum();
        let half = sizes[index].1 / 2.0;
        cell_of[index] = cells.len();
        cells.push(Cell {
            column: columns[index],
            above: half,
            below: half + hung,
            middle: 0.0,
            shape: Some(index),
        });
    }
    let (chains, links) = chains(drawing, &columns, &cell_of, &mut cells);
    settle(&mut cells, &links);

    let count = columns.iter().max().map_or(0, |last| last + 1);
    let mut widths = vec![0.0f64; count];
    for (index, shape) in drawing.shapes.iter().enumerate() {
        let column = columns[shape.hung_on.unwrap_or(index)];
        widths[column] = widths[column].max(sizes[index].0);
    }
    let (gap, frame) = if drawing.frames.is_empty() { (GAP_X, 0.0) } else { (GAP_X_FRAMED, FRAME_TOP) };
    let left = |column: usize| MARGIN + widths[..column].iter().map(|width| width + gap).sum::<f64>();
    let top = cells.iter().map(|cell| cell.middle - cell.above).fold(f64::INFINITY, f64::min);
    let down = MARGIN_TOP + frame - if top.is_finite() { top } else { 0.0 };
    let mut boxes = vec![Rect::default(); drawing.shapes.len()];
    for cell in &cells {
        let Some(index) = cell.shape else { continue };
        let (width, height) = sizes[index];
        let x = left(cell.column) + (widths[cell.column] - width) / 2.0;
        boxes[index] = Rect { x, y: cell.middle + down - height / 2.0, width, height };
        let mut y = boxes[index].y + height;
        for bank in hung_on(drawing, index) {
            let (width, height) = sizes[bank];
            boxes[bank] = Rect { x: boxes[index].middle_x() - width / 2.0, y: y + GAP_BANK, width, height };
            y += GAP_BANK + height;
        }
    }
    let paths = chains
        .iter()
        .map(|chain| path(chain, &cells, &boxes, &|column| (left(column), widths[column]), down))
        .collect();
    let width = left(count.saturating_sub(1)) + widths.last().copied().unwrap_or(0.0) + MARGIN;
    let bottom = cells.iter().map(|cell| cell.middle + cell.below).fold(0.0, f64::max);
    Places { boxes, paths, width, height: bottom + down + MARGIN + frame / 2.0 }
}

/// Banks below a sink.
fn hung_on(drawing: &Drawing, sink: usize) -> impl Iterator<Item = usize> + '_ {
    (0..drawing.shapes.len()).filter(move |index| drawing.shapes[*index].hung_on == Some(sink))
}

/// Width and height of a box. Widths of letters are those of a wide font, so any font fits.
fn size(shape: &Shape) -> (f64, f64) {
    let text = |text: &str, size: f64, letter: f64| text.chars().count() as f64 * size * letter;
    let widest = shape
        .lines
        .iter()
        .map(|line| text(line, LINE_SIZE, 0.6))
        .chain([text(&shape.title, TITLE_SIZE, 0.68), text(&shape.type_name, TYPE_SIZE, 0.62)])
        .fold(92.0, f64::max);
    let lines = if shape.lines.is_empty() { 0.0 } else { shape.lines.len() as f64 * LINE_HEIGHT + 8.0 };
    (widest + 2.0 * PADDING, HEAD + lines + PADDING)
}

/// The column of each box: its longest way from a box without inputs.
fn columns(drawing: &Drawing) -> Vec<usize> {
    let mut columns = vec![0; drawing.shapes.len()];
    // Boxes are in the order of the flow, so every producer is settled before its consumers.
    for index in 0..drawing.shapes.len() {
        let before = drawing.arrows.iter().filter(|arrow| arrow.to == index && !arrow.dashed);
        columns[index] = before.map(|arrow| columns[arrow.from] + 1).max().unwrap_or(0);
    }
    columns
}

type Links = Vec<(usize, usize)>;

/// The cells each solid arrow passes, with a new cell in each column between its ends.
fn chains(
    drawing: &Drawing,
    columns: &[usize],
    cell_of: &[usize],
    cells: &mut Vec<Cell>,
) -> (Vec<Vec<usize>>, Links) {
    let (mut chains, mut links) = (Vec::new(), Links::new());
    for arrow in drawing.arrows.iter().filter(|arrow| !arrow.dashed) {
        let mut chain = vec![cell_of[arrow.from]];
        for column in columns[arrow.from] + 1..columns[arrow.to] {
            chain.push(cells.len());
            cells.push(Cell { column, above: 10.0, below: 10.0, middle: 0.0, shape: None });
        }
        chain.push(cell_of[arrow.to]);
        links.extend(chain.windows(2).map(|pair| (pair[0], pair[1])));
        chains.push(chain);
    }
    (chains, links)
}

/// Moves each cell towards what it is connected with, alternately looking back and ahead.
fn settle(cells: &mut [Cell], links: &Links) {
    let count = cells.iter().map(|cell| cell.column + 1).max().unwrap_or(0);
    for column in 0..count {
        let members: Vec<usize> = (0..cells.len()).filter(|cell| cells[*cell].column == column).collect();
        stack(cells, &members);
    }
    for round in 0..ROUNDS {
        let forward = round % 2 == 0;
        for step in 0..count {
            let column = if forward { step } else { count - 1 - step };
            let mut members: Vec<(f64, usize)> = (0..cells.len())
                .filter(|cell| cells[*cell].column == column)
                .map(|cell| (wish(cells, links, cell, forward), cell))
                .collect();
            members.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
            for (wish, cell) in &members {
                cells[*cell].middle = *wish;
            }
            let order: Vec<usize> = members.into_iter().map(|(_, cell)| cell).collect();
            stack(cells, &order);
        }
    }
}

/// The mean height of the neighbours on one side; where it is if there are none.
fn wish(cells: &[Cell], links: &Links, cell: usize, backward: bool) -> f64 {
    let neighbours: Vec<f64> = links
        .iter()
        .filter_map(|(from, to)| match backward {
            true => (*to == cell).then_some(cells[*from].middle),
            false => (*from == cell).then_some(cells[*to].middle),
        })
        .collect();
    if neighbours.is_empty() {
        return cells[cell].middle;
    }
    neighbours.iter().sum::<f64>() / neighbours.len() as f64
}

/// Pushes the cells of a column apart, in this order, and keeps their mean height.
fn stack(cells: &mut [Cell], order: &[usize]) {
    let wished: f64 = order.iter().map(|cell| cells[*cell].middle).sum();
    let mut floor = f64::NEG_INFINITY;
    for cell in order {
        let cell = &mut cells[*cell];
        cell.middle = cell.middle.max(floor + cell.above);
        floor = cell.middle + cell.below + GAP_Y;
    }
    let moved: f64 = order.iter().map(|cell| cells[*cell].middle).sum();
    let shift = (wished - moved) / order.len().max(1) as f64;
    order.iter().for_each(|cell| cells[*cell].middle += shift);
}

type Column<'c> = &'c dyn Fn(usize) -> (f64, f64);

/// Leaves a box on its right, passes the gaps straight, enters a box on its left.
fn path(chain: &[usize], cells: &[Cell], boxes: &[Rect], column: Column<'_>, down: f64) -> Vec<(f64, f64)> {
    let mut points = Vec::new();
    for (position, cell) in chain.iter().map(|cell| &cells[*cell]).enumerate() {
        let y = cell.middle + down;
        match cell.shape {
            Some(shape) if position == 0 => points.push((boxes[shape].x + boxes[shape].width, y)),
            Some(shape) => points.push((boxes[shape].x, y)),
            None => {
                let (x, width) = column(cell.column);
                points.extend([(x, y), (x + width, y)]);
            }
        }
    }
    points
}
