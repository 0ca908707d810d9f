//! Writes a drawing for Graphviz.

use super::Drawing;

pub fn write(drawing: &Drawing) -> String {
    let mut out = format!("digraph \"{}\" {{\n", escaped(&drawing.title));
    out.push_str("  rankdir=LR;\n  node [shape=box, style=\"rounded,filled\", fontname=\"Helvetica\"];\n");
    out.push_str("  edge [fontname=\"Helvetica\", fontsize=11, color=\"#64748b\"];\n");
    for (index, shape) in drawing.shapes.iter().enumerate() {
        let (dark, light) = shape.look.colours();
        let mut lines = vec![shape.title.as_str(), shape.type_name.as_str()];
        lines.extend(shape.lines.iter().map(String::as_str));
        let text = lines.iter().map(|line| escaped(line)).collect::<Vec<_>>().join("\\n");
        out.push_str(&format!("  n{index} [label=\"{text}\", color=\"{dark}\", fillcolor=\"{light}\"];\n"));
    }
    for arrow in &drawing.arrows {
        let style = if arrow.dashed { ", style=dashed, dir=both, constraint=false" } else { "" };
        let label = escaped(&arrow.label);
        out.push_str(&format!("  n{} -> n{} [label=\"{label}\"{style}];\n", arrow.from, arrow.to));
    }
    for (index, frame) in drawing.frames.iter().enumerate() {
        let members: Vec<String> = frame.shapes.iter().map(|shape| format!("n{shape}")).collect();
        let title = escaped(&frame.title);
        out.push_str(&format!(
            "  subgraph cluster_{index} {{ label=\"{title}\"; style=dashed; color=\"#94a3b8\"; {} }}\n",
            members.join("; ")
        ));
    }
    out.push_str("}\n");
    out
}

fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"")
}
