//! Draws who was taken for whom: one square a class and class, one panel a classifier.

use image::Rgb;

use super::canvas::{Canvas, FAINT, INK, PAPER, width_of};
use super::letters;

/// One classifier's counts.
#[derive(Clone, Debug)]
pub struct Panel {
    /// Above the panel.
    pub title: String,
    /// `counts[of][taken_for]`.
    pub counts: Vec<Vec<usize>>,
}

/// Space around everything, pixels.
const MARGIN: u32 = 10;
/// Height of a title with its gap.
const TITLE: u32 = letters::HEIGHT + 9;

/// A PNG of all `panels` side by side. Rows are the classes as they are, columns what they were taken for; a square is
/// as bright as its share of the row, the right ones (on the diagonal) green, the wrong ones red, with its percent
/// written in where there is room.
///
/// # Errors
/// If the picture cannot be encoded.
pub fn png(classes: &[String], panels: &[Panel]) -> Result<Vec<u8>, String> {
    draw(classes, panels).png()
}

/// Side of a square: smaller for many classes, so that a hundred still fit a screen.
fn side(classes: usize) -> u32 {
    match classes {
        0..=30 => 22,
        31..=60 => 12,
        _ => 8,
    }
}

fn draw(classes: &[String], panels: &[Panel]) -> Canvas {
    let (count, side) = (classes.len() as u32, side(classes.len()));
    let names = classes.iter().map(|name| width_of(name)).max().unwrap_or(0) + 6;
    let titles = panels.iter().map(|panel| width_of(&panel.title)).max().unwrap_or(0);
    let panel_width = (count * side).max(titles) + MARGIN;
    let width = MARGIN + names + panels.len() as u32 * panel_width;
    let mut canvas = Canvas::new(width, MARGIN + TITLE + count * side + 6 + names + MARGIN);
    let top = MARGIN + TITLE;
    for (row, name) in classes.iter().enumerate() {
        let y = top + row as u32 * side + side.saturating_sub(letters::HEIGHT) / 2;
        canvas.write(MARGIN + names - 6 - width_of(name), y, name, INK);
    }
    for (number, panel) in panels.iter().enumerate() {
        let left = MARGIN + names + number as u32 * panel_width;
        canvas.write(left, MARGIN, &panel.title, INK);
        for (row, counts) in panel.counts.iter().enumerate() {
            let all: usize = counts.iter().sum();
            for (column, taken) in counts.iter().enumerate() {
                let share = *taken as f32 / all.max(1) as f32;
                let (x, y) = (left + column as u32 * side, top + row as u32 * side);
                canvas.fill(x, y, side - 1, side - 1, shade(share, row == column));
                let text = format!("{:.0}", share * 100.0);
                if *taken > 0 && width_of(&text) <= side {
                    let inside = (side - width_of(&text)) / 2;
                    canvas.write(x + inside, y + (side - letters::HEIGHT) / 2, &text, ink(share));
                }
            }
        }
        for (column, name) in classes.iter().enumerate() {
            let x = left + column as u32 * side + side.saturating_sub(letters::HEIGHT) / 2;
            canvas.write_up(x, top + count * side + 6 + width_of(name), name, FAINT);
        }
    }
    canvas
}

/// From a little above the paper to full green or red.
fn shade(share: f32, right: bool) -> Rgb<u8> {
    let full = if right { [90.0, 200.0, 120.0] } else { [225.0, 90.0, 80.0] };
    let start = PAPER.0.map(|value| f32::from(value) + 14.0);
    // The square root lifts small shares, which are most of what goes wrong.
    let share = share.sqrt();
    Rgb([0, 1, 2].map(|at| (start[at] + (full[at] - start[at]) * share).round() as u8))
}

fn ink(share: f32) -> Rgb<u8> {
    if share > 0.3 { PAPER } else { INK }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn squares_are_as_bright_as_their_share() {
        let classes = ["a".to_owned(), "b".to_owned()];
        let panel = |counts| Panel { title: "knn".to_owned(), counts };
        let panels = [panel(vec![vec![4, 0], vec![1, 3]]), panel(vec![vec![0, 0], vec![0, 2]])];
        let canvas = draw(&classes, &panels);
        let names = width_of("a") + 6;
        let wide = 2 * 22 + MARGIN;
        let at = |panel: u32, row: u32, column: u32| {
            let (x, y) = (MARGIN + names + panel * wide + column * 22, MARGIN + TITLE + row * 22);
            *canvas.picture.get_pixel(x + 1, y + 1)
        };
        assert_eq!((at(0, 0, 0), at(0, 0, 1)), (shade(1.0, true), shade(0.0, false)));
        assert_eq!((at(0, 1, 0), at(0, 1, 1)), (shade(0.25, false), shade(0.75, true)));
        assert_eq!((at(1, 0, 0), at(1, 1, 1)), (shade(0.0, true), shade(1.0, true)));
    }

    #[test]
    fn a_hundred_classes_fit_a_screen() {
        let classes: Vec<String> = (0..101).map(|class| format!("class {class}")).collect();
        let counts = vec![vec![0; 101]; 101];
        let canvas = draw(&classes, &[Panel { title: String::new(), counts }]);
        assert!(canvas.picture.width() < 1000 && canvas.picture.height() < 1000);
    }
}
