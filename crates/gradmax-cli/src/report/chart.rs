//! Line charts with bands as inline SVG, drawn by plotters; colours are left to the page's style sheet, for light and dark.

use anyhow::{Result, anyhow};
use plotters::coord::ranged1d::{Ranged, ValueFormatter};
use plotters::coord::types::RangedCoordf64;
use plotters::prelude::*;

use super::series::Series;
use crate::table::significant;

/// A chart to draw.
pub struct Chart<'a> {
    pub x_label: &'a str,
    pub y_label: &'a str,
    pub series: &'a [Series],
    /// Where growth events were.
    pub marks: &'a [f64],
    /// Whether values of different magnitude matter: a logarithmic axis where they spread.
    pub logarithmic: bool,
}

const SIZE: (u32, u32) = (500, 340);
/// Colours that stand for roles, replaced by the page's own.
const INK: RGBColor = RGBColor(1, 2, 1);
const GRID: RGBColor = RGBColor(1, 2, 2);
const MARK: RGBColor = RGBColor(1, 2, 3);

/// A colour that stands for a method.
fn placeholder(index: usize) -> RGBColor {
    RGBColor(1, 3, index as u8 + 1)
}

/// Draws the chart; `color_of` gives the style sheet's name of a method's colour.
pub fn svg(chart: &Chart<'_>, color_of: impl Fn(&str) -> String) -> Result<String> {
    let mut drawn = String::new();
    draw(chart, &mut drawn).map_err(|error| anyhow!("cannot draw the chart of {}: {error}", chart.y_label))?;
    let mut replaced = replace(drawn, INK, "var(--ink)");
    replaced = replace(replaced, GRID, "var(--grid)");
    replaced = replace(replaced, MARK, "var(--mark)");
    for (index, series) in chart.series.iter().enumerate() {
        replaced = replace(
            replaced,
            placeholder(index),
            &format!("var(--{})", color_of(series.methods.last().expect("a line stands for a method"))),
        );
    }
    let label = format!("<svg role=\"img\" aria-label=\"{} against {}\" ", chart.y_label, chart.x_label);
    Ok(replaced.replacen("<svg ", &label, 1))
}

fn replace(svg: String, color: RGBColor, with: &str) -> String {
    svg.replace(&format!("#{:02X}{:02X}{:02X}", color.0, color.1, color.2), with)
}

fn draw(chart: &Chart<'_>, out: &mut String) -> Result<(), Box<dyn std::error::Error>> {
    let points = || chart.series.iter().flat_map(|series| &series.points);
    let area = SVGBackend::with_string(out, SIZE).into_drawing_area();
    let right = points().map(|point| point.x).fold(0.0, f64::max);
    let high = points().map(|point| point.y).fold(f64::NEG_INFINITY, f64::max);
    let lowest = |skip: usize| {
        let points = chart.series.iter().flat_map(|series| series.points.iter().skip(skip));
        points.map(|point| point.y).fold(f64::INFINITY, f64::min)
    };
    // What untrained networks score would squeeze everything else: such a first point is cut off.
    let rising = !chart.logarithmic && chart.series.iter().all(|series| series.points.len() > 2);
    let low = if rising { lowest(1) } else { lowest(0) };
    let mut builder = ChartBuilder::on(&area);
    builder.margin(8).margin_right(22).x_label_area_size(46).y_label_area_size(74);
    let x = 0.0..right.max(1e-9);
    if chart.logarithmic && low > 0.0 && high / low > 12.0 {
        let (floor, ceiling) = (low / 1.3, high * 1.3);
        fill(chart, builder.build_cartesian_2d(x, (floor..ceiling).log_scale())?, [floor, ceiling])?;
    } else {
        let room = ((high - low) * 0.08).max(high.abs() * 1e-3).max(1e-12);
        let floor = if low >= 0.0 { (low - room).max(0.0) } else { low - room };
        let ceiling = high + room;
        fill(chart, builder.build_cartesian_2d(x, floor..ceiling)?, [floor, ceiling])?;
    }
    area.present()?;
    Ok(())
}

type Context<'a, 'b, Y> = ChartContext<'a, SVGBackend<'b>, Cartesian2d<RangedCoordf64, Y>>;

fn fill<Y>(
    chart: &Chart<'_>,
    mut context: Context<'_, '_, Y>,
    [floor, ceiling]: [f64; 2],
) -> Result<(), Box<dyn std::error::Error>>
where
    Y: Ranged<ValueType = f64> + ValueFormatter<f64>,
{
    let text = |size: i32| ("sans-serif", size).into_font().color(&INK);
    context
        .configure_mesh()
        .disable_x_mesh()
        .bold_line_style(GRID.stroke_width(1))
        .light_line_style(TRANSPARENT)
        .axis_style(GRID.stroke_width(1))
        .label_style(text(15))
        .axis_desc_style(text(16))
        .x_labels(6)
        .y_labels(6)
        .x_label_formatter(&|x| short(*x))
        .y_label_formatter(&|y| short(*y))
        .x_desc(chart.x_label)
        .y_desc(chart.y_label)
        .draw()?;
    for mark in chart.marks {
        context.draw_series(LineSeries::new([(*mark, floor), (*mark, ceiling)], MARK.stroke_width(1)))?;
    }
    for (index, series) in chart.series.iter().enumerate() {
        let color = placeholder(index);
        let top = series.points.iter().map(|point| (point.x, point.high.clamp(floor, ceiling)));
        let bottom = series.points.iter().rev().map(|point| (point.x, point.low.clamp(floor, ceiling)));
        if series.points.iter().any(|point| point.high > point.low) {
            let outline = top.chain(bottom).collect::<Vec<_>>();
            context.draw_series([Polygon::new(outline, color.mix(0.16).filled())])?;
        }
        let line = series.points.iter().map(|point| (point.x, point.y.max(floor)));
        context.draw_series(LineSeries::new(line, color.stroke_width(2)))?;
    }
    Ok(())
}

/// A tick's label: 0, 0.25, 1500, 20k, 3.2e9.
fn short(value: f64) -> String {
    let magnitude = value.abs();
    let trimmed = |text: String| match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_string(),
        false => text,
    };
    match magnitude {
        0.0 => "0".into(),
        m if m < 1e-3 => format!("{value:.0e}"),
        m if m < 1e4 => trimmed(significant(value)),
        m if m < 1e6 => trimmed(format!("{:.1}", value / 1e3)) + "k",
        m if m < 1e9 => trimmed(format!("{:.1}", value / 1e6)) + "M",
        _ => {
            let exponent = magnitude.log10().floor();
            trimmed(format!("{:.1}", value / 10_f64.powf(exponent))) + &format!("e{exponent}")
        }
    }
}
