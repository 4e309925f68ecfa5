//! A figure of several panels with one legend, as SVG and as PNG.

use std::sync::{Arc, OnceLock};

use anyhow::{Context, Result, anyhow};
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use resvg::tiny_skia::{Pixmap, Transform};
use resvg::usvg::{Options, Tree, fontdb};
use serde::Serialize;

use gradmax_experiments::report::{self, BarChart, BarShape, Chart, LineChart, Theme};
use gradmax_experiments::table;

/// A figure.
pub struct Figure {
    pub panels: Vec<Panel>,
    /// What a reader must know, below the panels.
    pub note: String,
    /// Whether lines are steps of one quantity, in the order of the panels' lines, and are coloured by it.
    pub graded: bool,
    /// Width and height of a panel.
    pub size: (u32, u32),
}

/// One chart of a figure.
pub struct Panel {
    pub title: String,
    pub content: Content,
}

/// What a panel shows.
pub enum Content {
    Chart(Chart),
    Network(super::schematic::Drawing),
}

/// A row of the figure's numbers.
#[derive(Serialize)]
struct Drawn {
    panel: String,
    line: String,
    x: String,
    mean: f64,
    low: f64,
    high: f64,
}

const TITLE: u32 = 30;
const LINE: u32 = 24;
const MARGIN: u32 = 14;
const INK: RGBColor = RGBColor(31, 35, 40);
const SOFT: RGBColor = RGBColor(87, 96, 106);
const GRID: RGBColor = RGBColor(222, 226, 230);
const MARK: RGBColor = RGBColor(200, 205, 211);
/// Pixels a pixel of the SVG, in the PNG.
const SCALE: f32 = 2.0;

/// What everybody is drawn with who has a name: one colour a method throughout, from the palette of Okabe and Ito,
/// which colour-blind readers can tell apart. Baselines are dashed.
const NAMED: [(&str, RGBColor, bool); 15] = [
    ("gradmax(_opt)", RGBColor(213, 94, 0), false),
    ("training step", RGBColor(140, 149, 159), false),
    ("small", RGBColor(140, 149, 159), true),
    ("big", RGBColor(0, 0, 0), true),
    ("not grown", RGBColor(0, 0, 0), true),
    ("gradmax", RGBColor(213, 94, 0), false),
    ("random", RGBColor(0, 114, 178), false),
    ("random_positive", RGBColor(86, 180, 233), false),
    ("gradmax_opt", RGBColor(230, 159, 0), false),
    ("gradmax_opt_authors", RGBColor(148, 103, 20), false),
    ("firefly_opt", RGBColor(0, 158, 115), false),
    ("split", RGBColor(204, 121, 167), false),
    ("unit_bias", RGBColor(111, 66, 193), false),
    ("gradmax, outgoing zero", RGBColor(120, 45, 0), false),
    ("random, outgoing zero", RGBColor(0, 55, 95), false),
];
/// For others, in turn.
const OTHERS: [RGBColor; 6] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(230, 159, 0),
    RGBColor(86, 180, 233),
];

impl Figure {
    /// The usual size of a panel.
    pub const PANEL: (u32, u32) = (500, 340);

    /// The labels of all lines and bars, in order of appearance.
    fn labels(&self) -> Vec<&str> {
        let mut labels: Vec<&str> = Vec::new();
        for panel in &self.panels {
            let names = match &panel.content {
                Content::Chart(chart) => chart.labels(),
                Content::Network(_) => Vec::new(),
            };
            for name in names {
                if !labels.contains(&name) {
                    labels.push(name);
                }
            }
        }
        labels
    }

    /// All that is drawn, as numbers.
    pub fn csv(&self) -> Result<Vec<u8>> {
        let mut rows = Vec::new();
        for panel in &self.panels {
            let mut row = |line: &str, x: String, values: [f64; 3]| {
                // Six digits: more would be rounding, and this is to be kept.
                let [mean, low, high] = values.map(|value| format!("{value:.5e}").parse().unwrap_or(value));
                rows.push(Drawn { panel: panel.title.clone(), line: line.into(), x, mean, low, high });
            };
            match &panel.content {
                Content::Chart(Chart::Lines(LineChart { series, .. })) => series.iter().for_each(|one| {
                    let name = one.methods.last().map_or("", String::as_str);
                    one.points.iter().for_each(|at| row(name, at.x.to_string(), [at.y, at.low, at.high]));
                }),
                Content::Chart(Chart::Bars(BarChart { series, groups, .. })) => series.iter().for_each(|one| {
                    let bars = groups.iter().zip(&one.bars).filter_map(|(group, bar)| Some((group, (*bar)?)));
                    bars.for_each(|(group, bar)| row(&one.method, group.clone(), [bar.value, bar.low, bar.high]));
                }),
                Content::Network(_) => {}
            }
        }
        table::csv(&rows)
    }

    /// The figure as SVG.
    pub fn svg(&self) -> Result<String> {
        let mut svg = String::new();
        self.draw(&mut svg).map_err(|error| anyhow!("cannot draw the figure: {error}"))?;
        Ok(svg)
    }

    fn draw(&self, out: &mut String) -> Result<(), Box<dyn std::error::Error>> {
        // Eight panels are two rows of four, of which the lower says more of the upper.
        let columns = match self.panels.len() {
            4 => 2,
            8 => 4,
            count => count.clamp(1, 3),
        };
        let rows = self.panels.len().div_ceil(columns).max(1);
        let width = columns as u32 * self.size.0 + 2 * MARGIN;
        let labels = self.labels();
        let legend = legend_places(&labels, width - 2 * MARGIN);
        let note = wrapped(&self.note, (width - 2 * MARGIN) as usize * 10 / 63);
        let panels_height = rows as u32 * (self.size.1 + TITLE);
        let legend_height = legend.last().map_or(0, |(_, row)| (row + 1) * LINE + 6);
        let height = MARGIN + panels_height + legend_height + note.len() as u32 * 19 + MARGIN;

        let root = SVGBackend::with_string(out, (width, height)).into_drawing_area();
        root.fill(&WHITE)?;
        let styles = self.styles(&labels);
        for (index, panel) in self.panels.iter().enumerate() {
            let (column, row) = ((index % columns) as u32, (index / columns) as u32);
            let (left, top) = (MARGIN + column * self.size.0, MARGIN + row * (self.size.1 + TITLE));
            let title = report::text(17, INK).pos(Pos::new(HPos::Center, VPos::Top));
            // Over the plot, which has its axis on the left.
            let axis = if matches!(panel.content, Content::Network(_)) { 0 } else { 26 };
            let middle = (left + self.size.0 / 2 + axis) as i32;
            root.draw(&Text::new(panel.title.clone(), (middle, top as i32 + 4), title))?;
            let top = top + TITLE;
            let area = root.clone().shrink((left, top), self.size);
            draw_panel(&panel.content, &labels, &styles, &area)?;
        }
        let top = (MARGIN + panels_height + 4) as i32;
        let dots = self.panels.iter().all(|panel| {
            matches!(panel.content, Content::Chart(Chart::Bars(BarChart { shape: BarShape::Dot { .. }, .. })))
        });
        for ((label, (color, dashed)), (x, row)) in labels.iter().zip(&styles).zip(&legend) {
            let (x, y) = ((MARGIN + x) as i32, top + (row * LINE) as i32 + 9);
            if dots {
                root.draw(&Circle::new((x + 14, y), 5, color.filled()))?;
            } else {
                let dashes: &[[i32; 2]] = if *dashed { &[[0, 11], [17, 28]] } else { &[[0, 28]] };
                for [from, to] in dashes {
                    root.draw(&PathElement::new([(x + from, y), (x + to, y)], color.stroke_width(3)))?;
                }
            }
            root.draw(&Text::new(label.to_string(), (x + 35, y - 8), report::text(15, INK)))?;
        }
        let top = top + legend_height as i32;
        for (index, line) in note.iter().enumerate() {
            let at = (MARGIN as i32, top + 19 * index as i32);
            root.draw(&Text::new(line.clone(), at, report::text(13, SOFT)))?;
        }
        root.present()?;
        Ok(())
    }

    /// A colour for each label, and whether its line is dashed.
    fn styles(&self, labels: &[&str]) -> Vec<(RGBColor, bool)> {
        let known =
            |label: &str| NAMED.iter().find(|(name, ..)| *name == label).map(|(_, color, dash)| (*color, *dash));
        let others = labels.iter().filter(|label| known(label).is_none()).count();
        let mut other = 0;
        labels
            .iter()
            .map(|label| {
                known(label).unwrap_or_else(|| {
                    let color = match self.graded {
                        true => graded(other as f64 / (others.max(2) - 1) as f64),
                        false => OTHERS[other % OTHERS.len()],
                    };
                    other += 1;
                    (color, false)
                })
            })
            .collect()
    }
}

/// From dark to light, as the paper's figures of several sizes (the ends of matplotlib's viridis, and what lies
/// between).
fn graded(share: f64) -> RGBColor {
    const STOPS: [[f64; 3]; 5] =
        [[68.0, 1.0, 84.0], [59.0, 82.0, 139.0], [33.0, 145.0, 140.0], [94.0, 201.0, 98.0], [222.0, 200.0, 30.0]];
    let at = share.clamp(0.0, 1.0) * (STOPS.len() - 1) as f64;
    let low = (at as usize).min(STOPS.len() - 2);
    let mix = |channel: usize| {
        let [a, b] = [STOPS[low][channel], STOPS[low + 1][channel]];
        (a + (b - a) * (at - low as f64)) as u8
    };
    RGBColor(mix(0), mix(1), mix(2))
}

fn draw_panel(
    content: &Content,
    labels: &[&str],
    styles: &[(RGBColor, bool)],
    area: &report::Area<'_>,
) -> report::Drawn {
    match content {
        Content::Chart(chart) => {
            let own = chart.labels();
            let of =
                |index: usize| styles[labels.iter().position(|label| *label == own[index]).expect("it is one of them")];
            chart.draw(&Theme { ink: INK, grid: GRID, mark: MARK, series: &of }, area)
        }
        Content::Network(drawing) => drawing.draw(area, INK, SOFT),
    }
}

/// Where each entry of the legend stands: pixels from the left, and the row.
fn legend_places(labels: &[&str], width: u32) -> Vec<(u32, u32)> {
    let (mut x, mut row) = (0, 0);
    let place = |label: &&str| {
        let needed = 35 + 9 * label.chars().count() as u32 + 18;
        if x > 0 && x + needed > width {
            (x, row) = (0, row + 1);
        }
        let at = (x, row);
        x += needed;
        at
    };
    labels.iter().map(place).collect()
}

/// Text in lines of at most so many characters.
pub fn wrapped(text: &str, characters: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.len() + 1 + word.len() <= characters => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_string()),
        }
    }
    lines
}

/// An SVG as PNG, with a font of the program's own, so that it looks the same everywhere.
pub fn png(svg: &str) -> Result<Vec<u8>> {
    static FONTS: OnceLock<Arc<fontdb::Database>> = OnceLock::new();
    let fonts = FONTS.get_or_init(|| {
        let mut fonts = fontdb::Database::new();
        fonts.load_font_data(dejavu::sans::regular().to_vec());
        fonts.set_sans_serif_family("DejaVu Sans");
        Arc::new(fonts)
    });
    let options = Options { fontdb: fonts.clone(), ..Options::default() };
    let tree = Tree::from_str(svg, &options).context("cannot read the figure")?;
    let size = tree.size();
    let (width, height) = ((size.width() * SCALE) as u32, (size.height() * SCALE) as u32);
    let mut pixels = Pixmap::new(width, height).context("the figure is empty")?;
    resvg::render(&tree, Transform::from_scale(SCALE, SCALE), &mut pixels.as_mut());
    pixels.encode_png().context("cannot write the figure as PNG")
}
