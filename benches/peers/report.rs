//! The results: printed, and written as JSON and as a chart.

use std::path::Path;
use std::{fs, io};

use plotters::prelude::*;
use serde::Serialize;

use crate::measure::Figure;

/// gaiter beside one peer in one scenario.
#[derive(Debug, Serialize)]
pub struct Line {
    pub scenario: String,
    pub unit: &'static str,
    pub gaiter: Figure,
    pub peer: &'static str,
    pub theirs: Figure,
    /// gaiter's figure divided by the peer's.
    pub ratio: Figure,
    /// Largest ratio that is wanted.
    pub target: Option<f64>,
}

impl Line {
    /// Returns a line for figures of the same rounds.
    pub fn new(scenario: &str, unit: &'static str, ours: &[f64], peer: &'static str, theirs: &[f64]) -> Self {
        let ratios = ours.iter().zip(theirs).map(|(ours, theirs)| ours / theirs).collect();
        Self::with_ratio(scenario, unit, ours, peer, theirs, Figure::of(ratios))
    }

    /// Returns a line for figures that were not taken in turns.
    pub fn unpaired(scenario: &str, unit: &'static str, ours: &[f64], peer: &'static str, theirs: &[f64]) -> Self {
        let (one, other) = (Figure::of(ours.to_vec()), Figure::of(theirs.to_vec()));
        let (low, high) = (one.low / other.high, one.high / other.low);
        let ratio = Figure { median: one.median / other.median, low, high };
        Self::with_ratio(scenario, unit, ours, peer, theirs, ratio)
    }

    fn with_ratio(
        scenario: &str,
        unit: &'static str,
        ours: &[f64],
        peer: &'static str,
        theirs: &[f64],
        ratio: Figure,
    ) -> Self {
        let line = Self {
            scenario: scenario.to_owned(),
            unit,
            gaiter: Figure::of(ours.to_vec()),
            peer,
            theirs: Figure::of(theirs.to_vec()),
            ratio,
            target: None,
        };
        line.print();
        line
    }

    pub fn at_most(mut self, target: f64) -> Self {
        let reached = if self.ratio.median <= target { "reached" } else { "not reached" };
        println!("    wanted: at most {target}; {reached}");
        self.target = Some(target);
        self
    }

    fn print(&self) {
        let Self { scenario, unit, gaiter, peer, theirs, ratio, .. } = self;
        let figure = |figure: &Figure| {
            format!("{} {unit} ({} to {})", number(figure.median), number(figure.low), number(figure.high))
        };
        println!(
            "{scenario}: gaiter {}, {peer} {}, ratio {} ({} to {})",
            figure(gaiter),
            figure(theirs),
            number(ratio.median),
            number(ratio.low),
            number(ratio.high),
        );
    }
}

/// Formats a number with three significant digits.
pub fn number(value: f64) -> String {
    if value.abs() < 1e-3 && value != 0.0 {
        return format!("{value:.1e}");
    }
    let digits = match value.abs() {
        value if value >= 100.0 => 0,
        value if value >= 10.0 => 1,
        value if value >= 1.0 => 2,
        value if value >= 0.1 => 3,
        value if value > 0.0 => 4,
        _ => 0,
    };
    format!("{value:.digits$}")
}

/// Writes `peers.json` and `peers.svg`.
pub fn write(folder: &Path, lines: &[Line]) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    let json = serde_json::to_string_pretty(lines).map_err(io::Error::other)?;
    fs::write(folder.join("peers.json"), json + "\n")?;
    draw(&folder.join("peers.svg"), lines).map_err(|error| io::Error::other(error.to_string()))
}

const ROW: i32 = 22;
const LABELS: i32 = 620;
const WIDTH: i32 = 1100;

/// Draws a bar for each line, on a logarithmic scale. Left of 1, gaiter takes less.
fn draw(path: &Path, lines: &[Line]) -> Result<(), Box<dyn std::error::Error>> {
    let height = ROW * (lines.len() as i32 + 3);
    let root = SVGBackend::new(path, (WIDTH as u32, height as u32)).into_drawing_area();
    root.fill(&WHITE)?;
    let text = ("sans-serif", 13).into_font();
    let shown = |ratio: f64| ratio.clamp(1e-4, 10.0).log10();
    let x = |ratio: f64| LABELS + ((shown(ratio) + 4.0) / 5.0 * f64::from(WIDTH - LABELS - 70)) as i32;
    let title = "gaiter's figure over the peer's (less is better)";
    root.draw(&Text::new(title, (10, 8), ("sans-serif", 16).into_font()))?;
    for tick in [1e-4, 1e-3, 1e-2, 0.1, 1.0, 10.0] {
        let style = if tick == 1.0 { BLACK.stroke_width(2) } else { BLACK.mix(0.15).stroke_width(1) };
        root.draw(&PathElement::new([(x(tick), 2 * ROW), (x(tick), height - ROW)], style))?;
        root.draw(&Text::new(format!("{tick}"), (x(tick) - 8, height - ROW + 4), text.clone()))?;
    }
    for (row, line) in lines.iter().enumerate() {
        let top = ROW * (row as i32 + 2);
        let label = format!("{}, {}", line.scenario, line.peer);
        root.draw(&Text::new(label, (10, top + 4), text.clone()))?;
        let ratio = line.ratio.median;
        let color = if ratio <= 1.0 { RGBColor(38, 128, 92) } else { RGBColor(190, 84, 52) };
        let (from, to) = (x(ratio).min(x(1.0)), x(ratio).max(x(1.0)));
        root.draw(&Rectangle::new([(from, top + 3), (to, top + ROW - 4)], color.filled()))?;
        root.draw(&Text::new(number(ratio), (WIDTH - 62, top + 4), text.clone()))?;
    }
    root.present()?;
    Ok(())
}
