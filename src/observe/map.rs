//! Draws points on a plane, a colour a class, one panel an encoder, with a legend.

use super::canvas::{Canvas, FAINT, INK, palette, width_of};
use super::letters;

/// One encoder's points.
#[derive(Clone, Debug)]
pub struct Panel {
    /// Above the panel.
    pub title: String,
    /// Below the title.
    pub note: String,
    /// Where each segment lies; drawn to fill the panel, both axes to one scale.
    pub points: Vec<[f32; 2]>,
}

/// Side of a panel, pixels.
const SIDE: u32 = 420;
/// Space around panels, pixels.
const MARGIN: u32 = 12;
/// Height of a line of text.
const LINE: u32 = letters::HEIGHT + 6;
/// Radius of a dot.
const RADIUS: u32 = 3;

/// A PNG of all `panels` side by side and the legend of `classes`; `class` has the class of each point.
///
/// # Errors
/// If the picture cannot be encoded.
pub fn png(classes: &[String], class: &[usize], panels: &[Panel]) -> Result<Vec<u8>, String> {
    draw(classes, class, panels).png()
}

fn draw(classes: &[String], class: &[usize], panels: &[Panel]) -> Canvas {
    let colours = palette(classes.len());
    let names = classes.iter().map(|name| width_of(name)).max().unwrap_or(0);
    let legend = MARGIN + panels.len() as u32 * (SIDE + MARGIN);
    let height = (2 * LINE + SIDE).max(classes.len() as u32 * LINE) + 2 * MARGIN;
    let mut canvas = Canvas::new(legend + 2 * RADIUS + 6 + names + MARGIN, height);
    for (number, panel) in panels.iter().enumerate() {
        let left = MARGIN + number as u32 * (SIDE + MARGIN);
        canvas.write(left, MARGIN, &panel.title, INK);
        canvas.write(left, MARGIN + LINE, &panel.note, FAINT);
        let top = MARGIN + 2 * LINE;
        canvas.fill(left, top, SIDE, SIDE, image::Rgb([34, 34, 40]));
        for (place, class) in places(&panel.points).into_iter().zip(class) {
            canvas.dot(left + place[0], top + place[1], RADIUS, colours[*class]);
        }
    }
    for (number, (name, colour)) in classes.iter().zip(&colours).enumerate() {
        let y = MARGIN + number as u32 * LINE;
        canvas.dot(legend + RADIUS, y + letters::HEIGHT / 2, RADIUS, *colour);
        canvas.write(legend + 2 * RADIUS + 6, y, name, INK);
    }
    canvas
}

/// Pixels within the panel, up is up.
fn places(points: &[[f32; 2]]) -> Vec<[u32; 2]> {
    let bound = |axis: usize, pick: fn(f32, f32) -> f32, from: f32| {
        points.iter().map(|point| point[axis]).fold(from, pick)
    };
    let low = [0, 1].map(|axis| bound(axis, f32::min, f32::INFINITY));
    let high = [0, 1].map(|axis| bound(axis, f32::max, f32::NEG_INFINITY));
    let extent = (high[0] - low[0]).max(high[1] - low[1]).max(f32::MIN_POSITIVE);
    let free = (SIDE - 4 * RADIUS) as f32;
    let place = |point: &[f32; 2]| {
        let [x, y] = [0, 1].map(|axis| {
            let centred = point[axis] - (low[axis] + high[axis]) / 2.0;
            centred / extent * free
        });
        [(SIDE as f32 / 2.0 + x).round() as u32, (SIDE as f32 / 2.0 - y).round() as u32]
    };
    points.iter().map(place).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_fill_the_panel_to_one_scale() {
        let (edge, middle) = (2 * RADIUS, SIDE / 2);
        let points = [[-10.0, 0.0], [10.0, 5.0], [0.0, -5.0]];
        let quarter = (SIDE - 4 * RADIUS) / 4;
        assert_eq!(
            places(&points),
            [[edge, middle], [SIDE - edge, middle - quarter], [middle, middle + quarter]]
        );
        assert_eq!(places(&[[3.0, 3.0]]), [[middle, middle]]);
    }

    #[test]
    fn each_point_has_the_colour_of_its_class() {
        let panel = Panel { title: "t".into(), note: "n".into(), points: vec![[0.0, 0.0], [1.0, 0.0]] };
        let canvas = draw(&["a".to_owned(), "b".to_owned()], &[1, 0], &[panel]);
        let y = MARGIN + 2 * LINE + SIDE / 2;
        let colours = palette(2);
        assert_eq!(*canvas.picture.get_pixel(MARGIN + 2 * RADIUS, y), colours[1]);
        assert_eq!(*canvas.picture.get_pixel(MARGIN + SIDE - 2 * RADIUS, y), colours[0]);
    }
}
