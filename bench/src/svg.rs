//! The figures as a picture: for each row a bar an engine, as long as it is near the row's best.

use crate::engines::OURS;
use crate::report::{Report, short};
use crate::rows::Row;

const LEFT: f64 = 130.0;
const BAR: f64 = 14.0;
const LONGEST: f64 = 520.0;
const WIDTH: f64 = LEFT + LONGEST + 110.0;
const TITLE: f64 = 26.0;
/// Ours stands out; plain memory is no peer.
const OURS_COLOUR: &str = "#d9480f";
const PEER_COLOUR: &str = "#4c6ef5";
const RAM_COLOUR: &str = "#adb5bd";

pub fn picture(report: &Report) -> String {
    let mut shapes = Vec::new();
    let mut y = 30.0;
    for row in &report.rows {
        y = chart(report, row, y, &mut shapes);
    }
    let body = shapes.join("\n");
    let height = y + 10.0;
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" \
         width=\"{WIDTH}\" height=\"{height}\" font-family=\"sans-serif\" font-size=\"11\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n{body}\n</svg>\n"
    )
}

/// Draws one row from `y` down; returns where the next begins.
fn chart(report: &Report, row: &Row, mut y: f64, shapes: &mut Vec<String>) -> f64 {
    let bars: Vec<_> = report
        .engines
        .iter()
        .filter_map(|e| Some((e.facts, report.median(row, e.facts.name, false)?)))
        .collect();
    let most = bars.iter().map(|(_, figure)| *figure).fold(0.0, f64::max);
    if most <= 0.0 {
        return y;
    }
    let better = if row.lower_is_better() { ", lower is better" } else { "" };
    shapes.push(format!(
        "<text x=\"10\" y=\"{y}\" font-size=\"13\" font-weight=\"bold\">{} ({}{better})</text>",
        escaped(row.about),
        row.unit()
    ));
    y += 8.0;
    for (facts, figure) in bars {
        let colour = match facts {
            f if f.name == OURS => OURS_COLOUR,
            f if f.ram => RAM_COLOUR,
            _ => PEER_COLOUR,
        };
        let (length, text) = (figure / most * LONGEST, y + BAR - 4.0);
        shapes.push(format!(
            "<text x=\"{}\" y=\"{text}\" text-anchor=\"end\">{}</text>\
             <rect x=\"{LEFT}\" y=\"{y}\" width=\"{length:.1}\" height=\"{}\" fill=\"{colour}\"/>\
             <text x=\"{:.1}\" y=\"{text}\">{}{}</text>",
            LEFT - 6.0,
            escaped(facts.name),
            BAR - 3.0,
            LEFT + length + 6.0,
            if row.lesser(&facts) { "~" } else { "" },
            short(figure),
        ));
        y += BAR;
    }
    y + TITLE
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}
