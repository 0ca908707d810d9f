//! Nothing may lie on anything, whatever the shape of the graph; texts of all formats are well formed.

use super::layout::{Rect, place};
use super::*;

fn shape(id: &str, look: Look, lines: &[&str]) -> Shape {
    Shape {
        id: id.to_owned(),
        title: id.to_owned(),
        type_name: format!("type of {id}"),
        lines: lines.iter().map(|line| (*line).to_owned()).collect(),
        look,
        hung_on: None,
    }
}

/// Two sources, one sampler, two ways from it, one of them longer, four sinks, two banks.
fn branching() -> Drawing {
    let shapes = vec![
        shape("archive", Look::Source, &["paths data/videos", "segment_secs 10"]),
        shape("lobby_camera_in_the_north_wing", Look::Source, &[]),
        shape("windows", Look::Operator, &["frames 16", "stride 2", "negative disjoint"]),
        shape("views", Look::Operator, &["random_resized_crop", "flip", "colour_jitter", "normalize"]),
        shape("plain", Look::Operator, &[]),
        shape("mix", Look::Operator, &["alpha 0.3"]),
        shape("batch", Look::Operator, &["size 16"]),
        shape("small", Look::Operator, &["size 16"]),
        shape("keys", Look::Bank, &["rows 512"]),
        shape("moments", Look::Bank, &["rows 4096"]),
        shape("train", Look::Sink, &["encoder: r3d", "pretext: vtdl", "optimizer: sgd"]),
        shape("preview", Look::Sink, &["every 200"]),
        shape("digest", Look::Sink, &[]),
        shape("null", Look::Sink, &[]),
    ];
    let mut drawing =
        Drawing { title: "branching".to_owned(), shapes, arrows: Vec::new(), frames: Vec::new() };
    for (from, to, label) in [
        (0, 2, "segments"),
        (1, 2, "segments"),
        (2, 3, "clips"),
        (2, 4, "clips"),
        (3, 5, "views"),
        (5, 6, "views"),
        (4, 7, "views"),
        (6, 10, "batches"),
        (6, 11, "batches"),
        (6, 12, "batches"),
        (7, 13, "batches"),
    ] {
        drawing.connect(from, to, label);
    }
    for bank in [8, 9] {
        drawing.shapes[bank].hung_on = Some(10);
        drawing.arrows.push(Arrow { from: bank, to: 10, label: "rows".to_owned(), dashed: true });
    }
    drawing
}

fn overlap(a: Rect, b: Rect) -> bool {
    a.x < b.x + b.width && b.x < a.x + a.width && a.y < b.y + b.height && b.y < a.y + a.height
}

#[test]
fn boxes_do_not_overlap_and_lie_within_the_picture() {
    let places = place(&branching());
    for (index, rect) in places.boxes.iter().enumerate() {
        assert!(rect.x > 0.0 && rect.y > 0.0, "{rect:?}");
        assert!(rect.x + rect.width < places.width && rect.y + rect.height < places.height, "{rect:?}");
        for other in &places.boxes[..index] {
            assert!(!overlap(*rect, *other), "{rect:?} lies on {other:?}");
        }
    }
}

#[test]
fn arrows_go_right_and_through_no_box() {
    let drawing = branching();
    let places = place(&drawing);
    let solid: Vec<&Arrow> = drawing.arrows.iter().filter(|arrow| !arrow.dashed).collect();
    assert_eq!(solid.len(), places.paths.len());
    for (arrow, points) in solid.iter().zip(&places.paths) {
        assert!(points.windows(2).all(|pair| pair[0].0 < pair[1].0), "{points:?}");
        for (index, rect) in places.boxes.iter().enumerate() {
            if index == arrow.from || index == arrow.to {
                continue;
            }
            // Straight parts are those that pass a column; curves lie in the gaps between columns.
            let inside = |(x, y): (f64, f64)| {
                x > rect.x && x < rect.x + rect.width && y > rect.y && y < rect.y + rect.height
            };
            assert!(!points.iter().any(|point| inside(*point)), "{arrow:?} runs through {rect:?}");
        }
    }
}

#[test]
fn a_chain_is_level() {
    let mut drawing = branching();
    drawing.shapes.truncate(3);
    drawing.shapes.remove(1);
    drawing.arrows.clear();
    drawing.connect(0, 1, "segments");
    let places = place(&drawing);
    assert_eq!(places.boxes[0].middle_y(), places.boxes[1].middle_y());
}

#[test]
fn texts_are_escaped_in_every_format() {
    let mut drawing = branching();
    drawing.shapes[0].lines = vec!["a<b & \"c\"".to_owned()];
    assert!(drawing.render(Format::Svg).contains("a&lt;b &amp; &quot;c&quot;"));
    assert!(drawing.render(Format::Mermaid).contains("a#lt;b #amp; #quot;c#quot;"));
    assert!(drawing.render(Format::Dot).contains("a<b & \\\"c\\\""));
    let svg = drawing.render(Format::Svg);
    assert_eq!(svg.matches("<text").count(), svg.matches("</text>").count());
}

#[test]
fn the_physical_picture_shows_what_the_engine_puts_in_between() {
    let file = std::path::Path::new("pipelines/hello.toml");
    let plan = crate::config::load_file(file, &["run.workers=3".to_owned()]).ok().unwrap();
    let drawing = physical(&plan);
    let titles: Vec<&str> = drawing.shapes.iter().map(|shape| shape.title.as_str()).collect();
    let expected =
        ["patterns", "windows", "decode", "views", "static_mix", "exchange", "batch", "queue", "digest"];
    assert_eq!(titles, expected);
    // A chain: each box reads the one before it.
    let pairs: Vec<(usize, usize)> = drawing.arrows.iter().map(|arrow| (arrow.from, arrow.to)).collect();
    assert_eq!(pairs, (0..8).map(|at| (at, at + 1)).collect::<Vec<_>>());
    assert_eq!(drawing.frames[0].title, "3 worker threads, at most 4 steps ahead of the sinks");
    assert_eq!(drawing.frames[0].shapes, [1, 2, 3, 4, 5, 6]);
    assert_eq!(drawing.frames[1].shapes, [8]);
    let logical = logical(&plan);
    assert_eq!(logical.arrows.len(), 5);
    assert!(logical.shapes[1].lines.contains(&"frames 8".to_owned()), "{:?}", logical.shapes[1]);
}
