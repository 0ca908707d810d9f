//! Writes a drawing as Mermaid's `flowchart`, which Markdown viewers show as a picture.

use super::{Drawing, Look};

pub fn write(drawing: &Drawing) -> String {
    let mut out = String::from("flowchart LR\n");
    for (index, shape) in drawing.shapes.iter().enumerate() {
        let mut text = format!("<b>{}</b><br/>{}", escaped(&shape.title), escaped(&shape.type_name));
        for line in &shape.lines {
            text.push_str(&format!("<br/><small>{}</small>", escaped(line)));
        }
        // A prefix, because words such as `end` mean something to Mermaid.
        out.push_str(&format!("  n{index}[\"{text}\"]:::{}\n", shape.look.name()));
    }
    for arrow in &drawing.arrows {
        let line = match (arrow.dashed, arrow.label.is_empty()) {
            (true, _) => "-.-".to_owned(),
            (false, true) => "-->".to_owned(),
            (false, false) => format!("-->|{}|", escaped(&arrow.label)),
        };
        out.push_str(&format!("  n{} {line} n{}\n", arrow.from, arrow.to));
    }
    for (index, frame) in drawing.frames.iter().enumerate() {
        out.push_str(&format!("  subgraph f{index} [\"{}\"]\n", escaped(&frame.title)));
        for shape in &frame.shapes {
            out.push_str(&format!("    n{shape}\n"));
        }
        out.push_str("  end\n");
    }
    for look in [Look::Source, Look::Operator, Look::Bank, Look::Sink, Look::Engine] {
        let (dark, light) = look.colours();
        out.push_str(&format!("  classDef {} fill:{light},stroke:{dark},color:#0f172a\n", look.name()));
    }
    out
}

fn escaped(text: &str) -> String {
    text.replace('&', "#amp;").replace('"', "#quot;").replace('<', "#lt;").replace('>', "#gt;")
}
