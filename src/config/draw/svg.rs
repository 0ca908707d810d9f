//! Writes a drawing as a picture for a slide: white ground, big names, one colour a kind.

use super::layout::{
    FRAME_SIDE, FRAME_TOP, HEAD, LINE_HEIGHT, LINE_SIZE, PADDING, Places, Rect, TITLE_SIZE, TYPE_SIZE, place,
};
use super::{Drawing, Frame, Shape};

const INK: &str = "#0f172a";
const GREY: &str = "#64748b";
const FONTS: &str = "Inter, 'Helvetica Neue', Arial, 'DejaVu Sans', sans-serif";

pub fn write(drawing: &Drawing) -> String {
    let places = place(drawing);
    let frames: Vec<Rect> = drawing.frames.iter().map(|frame| around(frame, &places)).collect();
    let right = frames.iter().map(|frame| frame.x + frame.width + FRAME_SIDE).fold(places.width, f64::max);
    let (width, height) = (right.ceil(), places.height.ceil());
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" \
         viewBox=\"0 0 {width} {height}\" font-family=\"{FONTS}\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n\
         <defs><marker id=\"tip\" viewBox=\"0 0 10 10\" refX=\"9\" refY=\"5\" markerWidth=\"9\" \
         markerHeight=\"9\" markerUnits=\"userSpaceOnUse\" orient=\"auto\">\
         <path d=\"M0 0.6 L10 5 L0 9.4 z\" fill=\"{GREY}\"/></marker></defs>\n"
    );
    out.push_str(&text(44.0, 46.0, 24.0, "bold", INK, &drawing.title));
    for (frame, rect) in drawing.frames.iter().zip(&frames) {
        out.push_str(&framed(*rect, &frame.title));
    }
    let solid = drawing.arrows.iter().filter(|arrow| !arrow.dashed);
    for (arrow, points) in solid.zip(&places.paths) {
        out.push_str(&curve(points));
        out.push_str(&on_curve(points, &arrow.label));
    }
    for arrow in drawing.arrows.iter().filter(|arrow| arrow.dashed) {
        out.push_str(&dashed(&places, arrow.from, arrow.to, &arrow.label));
    }
    for (shape, rect) in drawing.shapes.iter().zip(&places.boxes) {
        out.push_str(&boxed(shape, *rect));
    }
    out.push_str("</svg>\n");
    out
}

fn boxed(shape: &Shape, rect: Rect) -> String {
    let Rect { x, y, width, height } = rect;
    let (dark, light) = shape.look.colours();
    let mut out = format!(
        "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{height:.1}\" rx=\"10\" fill=\"{light}\" \
         stroke=\"{dark}\" stroke-width=\"1.6\"/>\n"
    );
    let left = x + PADDING;
    out.push_str(&text(left, y + 28.0, TITLE_SIZE, "bold", INK, &shape.title));
    out.push_str(&text(left, y + 47.0, TYPE_SIZE, "600", dark, &shape.type_name));
    for (number, line) in shape.lines.iter().enumerate() {
        let at = y + HEAD + 20.0 + number as f64 * LINE_HEIGHT;
        out.push_str(&text(left, at, LINE_SIZE, "normal", "#334155", line));
    }
    out
}

/// The rectangle around a frame's boxes, wide enough for its title.
fn around(frame: &Frame, places: &Places) -> Rect {
    let members: Vec<Rect> = frame.shapes.iter().map(|shape| places.boxes[*shape]).collect();
    let low = |f: fn(&Rect) -> f64| members.iter().map(f).fold(f64::INFINITY, f64::min);
    let high = |f: fn(&Rect) -> f64| members.iter().map(f).fold(0.0, f64::max);
    let (x, y) = (low(|r| r.x) - FRAME_SIDE, low(|r| r.y) - FRAME_TOP);
    let title = frame.title.chars().count() as f64 * TYPE_SIZE * 0.66 + 2.0 * PADDING;
    let width = (high(|r| r.x + r.width) + FRAME_SIDE - x).max(title);
    Rect { x, y, width, height: high(|r| r.y + r.height) + FRAME_SIDE - y }
}

fn framed(rect: Rect, title: &str) -> String {
    let Rect { x, y, width, height } = rect;
    format!(
        "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{height:.1}\" rx=\"16\" \
         fill=\"#fbfcfe\" stroke=\"#94a3b8\" stroke-width=\"1.4\" stroke-dasharray=\"7 5\"/>\n{}",
        text(x + PADDING, y + 26.0, TYPE_SIZE, "600", GREY, title)
    )
}

fn curve(points: &[(f64, f64)]) -> String {
    let Some((x, y)) = points.first() else { return String::new() };
    let mut path = format!("M{x:.1} {y:.1}");
    for pair in points.windows(2) {
        let ((x0, y0), (x1, y1)) = (pair[0], pair[1]);
        let middle = (x0 + x1) / 2.0;
        path.push_str(&format!(" C{middle:.1} {y0:.1} {middle:.1} {y1:.1} {x1:.1} {y1:.1}"));
    }
    format!(
        "<path d=\"{path}\" fill=\"none\" stroke=\"{GREY}\" stroke-width=\"1.8\" marker-end=\"url(#tip)\"/>\n"
    )
}

/// The word an arrow carries, in the last gap: above a level line, on a rising one.
fn on_curve(points: &[(f64, f64)], label: &str) -> String {
    let [.., (x0, y0), (x1, y1)] = points else { return String::new() };
    let level = (y1 - y0).abs() < 24.0;
    let y = (y0 + y1) / 2.0 + if level { -8.0 } else { 4.0 };
    haloed((x0 + x1) / 2.0, y, label)
}

fn dashed(places: &Places, from: usize, to: usize, label: &str) -> String {
    let (bank, sink) = (places.boxes[from], places.boxes[to]);
    let (x0, y0, x1, y1) = (bank.middle_x(), bank.y, sink.middle_x(), sink.y + sink.height);
    // Not its own sink: the bank hangs in another place, and the line goes to that side.
    let (x0, y0, x1, y1) = match (x0 - x1).abs() < 1.0 && y0 > y1 {
        true => (x0, y0, x1, y1),
        false => (bank.x + bank.width, bank.middle_y(), sink.x, sink.middle_y()),
    };
    format!(
        "<path d=\"M{x0:.1} {y0:.1} L{x1:.1} {y1:.1}\" stroke=\"#7e22ce\" stroke-width=\"1.6\" \
         stroke-dasharray=\"5 4\"/>\n{}",
        haloed((x0 + x1) / 2.0, (y0 + y1) / 2.0 + 4.0, label)
    )
}

/// Centred text that covers the line behind it.
fn haloed(x: f64, y: f64, label: &str) -> String {
    format!(
        "<text x=\"{x:.1}\" y=\"{y:.1}\" font-size=\"{LINE_SIZE}\" text-anchor=\"middle\" fill=\"{GREY}\" \
         stroke=\"#ffffff\" stroke-width=\"5\" stroke-linejoin=\"round\" paint-order=\"stroke\">{}</text>\n",
        escaped(label)
    )
}

fn text(x: f64, y: f64, size: f64, weight: &str, colour: &str, words: &str) -> String {
    format!(
        "<text x=\"{x:.1}\" y=\"{y:.1}\" font-size=\"{size}\" font-weight=\"{weight}\" fill=\"{colour}\">{}</text>\n",
        escaped(words)
    )
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
