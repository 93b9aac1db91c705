//! Bars as SVG.

use core::fmt::Write;

/// A row: what it is, how long its bar is, and what stands behind it.
pub(crate) struct Row {
    pub(crate) name: &'static str,
    pub(crate) value: u64,
    pub(crate) text: String,
}

const LEFT: u64 = 150;
const LONGEST: u64 = 480;
const WIDTH: u64 = 720;
const STEP: u64 = 22;

/// One picture with a bar for each row; `full` is the value of the longest.
pub(crate) fn bars(title: &str, rows: &[Row], full: u64) -> String {
    let height = 44 + STEP * rows.len() as u64;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" \
         height=\"{height}\" font-family=\"sans-serif\" font-size=\"13\">\n\
         <rect width=\"{WIDTH}\" height=\"{height}\" fill=\"#ffffff\"/>\n\
         <text x=\"10\" y=\"22\" font-weight=\"bold\" fill=\"#222222\">{title}</text>\n"
    );
    for (n, row) in (0u64..).zip(rows) {
        let y = 36 + STEP * n;
        let length = (row.value * LONGEST / full.max(1)).clamp(1, LONGEST);
        let (text_y, end) = (y + 14, LEFT + length + 6);
        let (x, name, text) = (LEFT - 8, row.name, &row.text);
        let _ = write!(
            svg,
            "<text x=\"{x}\" y=\"{text_y}\" text-anchor=\"end\" fill=\"#222222\">{name}</text>\n\
             <rect x=\"{LEFT}\" y=\"{y}\" width=\"{length}\" height=\"16\" fill=\"#3b6ea5\"/>\n\
             <text x=\"{end}\" y=\"{text_y}\" fill=\"#222222\">{text}</text>\n"
        );
    }
    svg.push_str("</svg>\n");
    svg
}
