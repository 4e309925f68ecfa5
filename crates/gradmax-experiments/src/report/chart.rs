//! Line charts with bands, and bar charts, drawn by plotters onto any area; and both as inline SVG, whose colours are
//! left to the page's style sheet, for light and dark.

use anyhow::{Result, anyhow};
use plotters::coord::Shift;
use plotters::coord::ranged1d::{Ranged, ValueFormatter};
use plotters::coord::types::RangedCoordf64;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::series::Series;
use crate::statistics::Mean;
use crate::table::significant;

/// A chart: what reports and figures are made of.
pub enum Chart {
    /// Lines over a quantity.
    Lines(LineChart),
    /// Bars or dots by group and method.
    Bars(BarChart),
}

/// A chart of lines with bands.
pub struct LineChart {
    /// What the horizontal axis shows.
    pub x_label: String,
    /// What the vertical axis shows.
    pub y_label: String,
    /// What is drawn.
    pub series: Vec<Series>,
    /// Where growth events were.
    pub marks: Vec<f64>,
    /// Whether values of different magnitude matter: a logarithmic axis where they spread.
    pub logarithmic: bool,
    /// How x is written below the axis, which has marks at whole numbers then.
    pub whole_x: Option<fn(f64) -> String>,
}

impl Chart {
    /// Whether there is nothing to draw.
    pub fn is_empty(&self) -> bool {
        match self {
            Self::Lines(chart) => chart.series.is_empty(),
            Self::Bars(chart) => chart.series.is_empty(),
        }
    }

    /// The name of each line, or of the bars of each method: a line that stands for several has the last one's.
    pub fn labels(&self) -> Vec<&str> {
        match self {
            Self::Lines(chart) => {
                chart.series.iter().map(|line| line.methods.last().map_or("", String::as_str)).collect()
            }
            Self::Bars(chart) => chart.series.iter().map(|bars| bars.method.as_str()).collect(),
        }
    }

    /// Draws the chart onto an area.
    pub fn draw(&self, theme: &Theme<'_>, area: &Area<'_>) -> Drawn {
        match self {
            Self::Lines(chart) => draw_lines(chart, theme, area),
            Self::Bars(chart) => draw_bars(chart, theme, area),
        }
    }

    /// The chart as inline SVG; `color_of` gives the style sheet's name of a method's colour.
    pub fn svg(&self, color_of: impl Fn(&str) -> String) -> Result<String> {
        let (y_label, label) = match self {
            Self::Lines(chart) => (&chart.y_label, format!("{} against {}", chart.y_label, chart.x_label)),
            Self::Bars(chart) => (&chart.y_label, format!("{} by method", chart.y_label)),
        };
        let mut svg = inline(|area| self.draw(&PLACEHOLDERS, area), y_label)?;
        for (index, method) in self.labels().into_iter().enumerate() {
            svg = replace(svg, placeholder(index), &format!("var(--{})", color_of(method)));
        }
        Ok(svg.replacen("<svg ", &format!("<svg role=\"img\" aria-label=\"{label}\" "), 1))
    }
}

/// What a chart is drawn with.
pub struct Theme<'a> {
    /// Of text and axes.
    pub ink: RGBColor,
    /// Of the grid.
    pub grid: RGBColor,
    /// Of marks at growth events.
    pub mark: RGBColor,
    /// The colour of the series with this index, and whether its line is dashed.
    pub series: &'a dyn Fn(usize) -> (RGBColor, bool),
}

/// A chart of bars, by group and method.
pub struct BarChart {
    /// What the horizontal axis shows.
    pub x_label: String,
    /// What the vertical axis shows.
    pub y_label: String,
    /// Names of the groups, along the x axis; one without a name, where there is but one.
    pub groups: Vec<String>,
    /// What is drawn.
    pub series: Vec<BarSeries>,
    /// How values are drawn.
    pub shape: BarShape,
}

/// How a value of a bar chart is shown.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum BarShape {
    /// A bar from zero, or from the bottom of a logarithmic axis.
    Bar,
    /// A dot, on an axis that shows where the values are, within what they can be.
    Dot {
        /// The least value of the axis.
        least: f64,
        /// The largest value of the axis.
        most: f64,
    },
}

/// The bars of one method, one for each group.
#[derive(Debug, Clone)]
pub struct BarSeries {
    /// The method.
    pub method: String,
    /// A value for each category, where there is one.
    pub bars: Vec<Option<Bar>>,
}

/// A value, and its interval.
#[derive(Debug, Clone, Copy)]
pub struct Bar {
    /// The value.
    pub value: f64,
    /// The lower end of its interval.
    pub low: f64,
    /// The upper end of its interval.
    pub high: f64,
}

impl Bar {
    /// The mean, with its confidence interval.
    pub fn of(mean: &Mean, confidence: f64) -> Self {
        let half = mean.half_width(confidence).unwrap_or(0.0);
        Self { value: mean.mean, low: mean.mean - half, high: mean.mean + half }
    }

    /// Some value without an interval.
    pub fn exact(value: f64) -> Self {
        Self { value, low: value, high: value }
    }
}

const SIZE: (u32, u32) = (500, 340);
/// Colours that stand for roles, replaced by the page's own.
const PLACEHOLDERS: Theme<'static> = Theme {
    ink: RGBColor(1, 2, 1),
    grid: RGBColor(1, 2, 2),
    mark: RGBColor(1, 2, 3),
    series: &|index| (placeholder(index), false),
};

/// A colour that stands for a method.
fn placeholder(index: usize) -> RGBColor {
    RGBColor(1, 3, index as u8 + 1)
}

/// What is drawn, as SVG with the style sheet's inks.
fn inline(draw: impl FnOnce(&Area<'_>) -> Drawn, about: &str) -> Result<String> {
    let mut svg = String::new();
    let area = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
    draw(&area)
        .and_then(|()| Ok(area.present()?))
        .map_err(|error| anyhow!("cannot draw the chart of {about}: {error}"))?;
    drop(area);
    let replaced = replace(svg, PLACEHOLDERS.ink, "var(--ink)");
    let replaced = replace(replaced, PLACEHOLDERS.grid, "var(--grid)");
    Ok(replace(replaced, PLACEHOLDERS.mark, "var(--mark)"))
}

/// Draws bars onto an area.
fn draw_bars(chart: &BarChart, theme: &Theme<'_>, area: &Area<'_>) -> Drawn {
    let bars = || chart.series.iter().flat_map(|series| series.bars.iter().flatten());
    let mut builder = ChartBuilder::on(area);
    builder.margin(8).margin_right(22).x_label_area_size(46).y_label_area_size(74);
    let x = 0.0..chart.groups.len() as f64;
    let high = bars().map(|bar| bar.high.max(bar.value)).fold(0.0, f64::max).max(f64::MIN_POSITIVE);
    if let BarShape::Dot { least, most } = chart.shape {
        let low = bars().map(|bar| bar.low).fold(f64::INFINITY, f64::min);
        let room = ((high - low) * 0.08).max(1e-9);
        let (floor, ceiling) = ((low - room).max(least), (high + room).min(most));
        return fill_bars(chart, theme, area, builder.build_cartesian_2d(x, floor..ceiling)?, [floor, ceiling]);
    }
    let low = bars().map(|bar| bar.value).filter(|value| *value > 0.0).fold(f64::INFINITY, f64::min);
    match low.is_finite() && high / low > 30.0 {
        true => {
            let (low, high) = (low / 2.0, high * 1.5);
            let context = builder.build_cartesian_2d(x, (low..high).log_scale().base(base(low, high)))?;
            fill_bars(chart, theme, area, context, [low, high])
        }
        false => {
            let floor = bars().map(|bar| bar.low.min(bar.value)).fold(0.0, f64::min);
            let context = builder.build_cartesian_2d(x, floor * 1.08..high * 1.08)?;
            fill_bars(chart, theme, area, context, [0.0, high * 1.08])
        }
    }
}

fn fill_bars<Y>(
    chart: &BarChart,
    theme: &Theme<'_>,
    area: &Area<'_>,
    mut context: Context<'_, '_, Y>,
    [floor, ceiling]: [f64; 2],
) -> Drawn
where
    Y: Ranged<ValueType = f64> + ValueFormatter<f64>,
{
    context
        .configure_mesh()
        .disable_x_mesh()
        .disable_x_axis()
        .bold_line_style(theme.grid.stroke_width(1))
        .light_line_style(TRANSPARENT)
        .axis_style(theme.grid.stroke_width(1))
        .label_style(text(15, theme.ink))
        .axis_desc_style(text(16, theme.ink))
        .y_labels(6)
        .y_label_formatter(&|y| short(*y))
        .y_desc(chart.y_label.as_str())
        .draw()?;
    for (index, series) in chart.series.iter().enumerate() {
        for (group, bar) in series.bars.iter().enumerate().filter_map(|(group, bar)| Some((group, bar.as_ref()?))) {
            draw_bar(&mut context, (chart, theme), [group, index], bar, [floor, ceiling])?;
        }
    }
    let plot = context.plotting_area();
    name_groups(chart, theme, area, (plot.get_base_pixel(), plot.dim_in_pixel()))
}

/// One series' bar in a group, with its whisker.
fn draw_bar<Y: Ranged<ValueType = f64>>(
    context: &mut Context<'_, '_, Y>,
    (chart, theme): (&BarChart, &Theme<'_>),
    [group, index]: [usize; 2],
    bar: &Bar,
    [floor, ceiling]: [f64; 2],
) -> Drawn {
    let share = 0.84 / chart.series.len().max(1) as f64;
    let left = group as f64 + 0.08 + share * index as f64;
    let (middle, (color, _)) = (left + 0.45 * share, (theme.series)(index));
    let inside = [bar.low, bar.value, bar.high].map(|y| y.clamp(floor, ceiling));
    let whisker = |ink: RGBColor| LineSeries::new([(middle, inside[0]), (middle, inside[2])], ink.stroke_width(1));
    match chart.shape {
        BarShape::Bar => {
            let corners = [(left, floor), (left + 0.9 * share, inside[1])];
            context.draw_series([Rectangle::new(corners, color.filled())])?;
            if bar.high > bar.low {
                context.draw_series(whisker(theme.ink))?;
            }
        }
        BarShape::Dot { .. } => {
            context.draw_series(whisker(color))?;
            context.draw_series([Circle::new((middle, inside[1]), 5, color.filled())])?;
        }
    }
    Ok(())
}

/// The names of groups, each below the middle of its own: tick marks at whole numbers would stand between them. A plot
/// is given by its place in the whole picture, of which the area may be a part, and its size.
fn name_groups(
    chart: &BarChart,
    theme: &Theme<'_>,
    area: &Area<'_>,
    ((left, top), (width, height)): ((i32, i32), (u32, u32)),
) -> Drawn {
    let (left, top) = (left - area.get_base_pixel().0, top - area.get_base_pixel().1);
    let (bottom, width) = (top + height as i32, f64::from(width) / chart.groups.len() as f64);
    let centred = |size| text(size, theme.ink).pos(Pos::new(HPos::Center, VPos::Top));
    let every = chart.groups.len().div_ceil(12).max(1);
    for (group, name) in chart.groups.iter().enumerate().step_by(every) {
        let x = left + ((group as f64 + 0.5) * width) as i32;
        area.draw(&Text::new(name.clone(), (x, bottom + 7), centred(15)))?;
    }
    let middle = left + (width * chart.groups.len() as f64 / 2.0) as i32;
    area.draw(&Text::new(chart.x_label.to_string(), (middle, bottom + 28), centred(16)))?;
    Ok(())
}

/// Text of that size.
pub fn text(size: i32, ink: RGBColor) -> TextStyle<'static> {
    ("sans-serif", size).into_font().color(&ink)
}

fn replace(svg: String, color: RGBColor, with: &str) -> String {
    svg.replace(&format!("#{:02X}{:02X}{:02X}", color.0, color.1, color.2), with)
}

/// Draws lines onto an area.
fn draw_lines(chart: &LineChart, theme: &Theme<'_>, area: &Area<'_>) -> Drawn {
    let points = || chart.series.iter().flat_map(|series| &series.points);
    let right = points().map(|point| point.x).fold(0.0, f64::max);
    let high = points().map(|point| point.y).fold(f64::NEG_INFINITY, f64::max);
    let lowest = |skip: usize| {
        let points = chart.series.iter().flat_map(|series| series.points.iter().skip(skip));
        points.map(|point| point.y).fold(f64::INFINITY, f64::min)
    };
    // What untrained networks score would squeeze everything else: such a first point is cut off.
    let rising = !chart.logarithmic && chart.series.iter().all(|series| series.points.len() > 2);
    let low = if rising { lowest(1) } else { lowest(0) };
    let mut builder = ChartBuilder::on(area);
    builder.margin(8).margin_right(22).x_label_area_size(46).y_label_area_size(74);
    let x = match chart.whole_x {
        Some(_) => points().map(|point| point.x).fold(right, f64::min)..right,
        None => 0.0..right.max(1e-9),
    };
    if chart.logarithmic && low > 0.0 && high / low > 12.0 {
        let (floor, ceiling) = (low / 1.3, high * 1.3);
        fill(
            chart,
            theme,
            builder.build_cartesian_2d(x, (floor..ceiling).log_scale().base(base(floor, ceiling)))?,
            [floor, ceiling],
        )
    } else {
        let room = ((high - low) * 0.08).max(high.abs() * 1e-3).max(1e-12);
        let floor = if low >= 0.0 { (low - room).max(0.0) } else { low - room };
        let ceiling = high + room;
        fill(chart, theme, builder.build_cartesian_2d(x, floor..ceiling)?, [floor, ceiling])
    }
}

/// The base of a logarithmic axis: marks are at powers of ten, or of two where there would be too few of these.
fn base(low: f64, high: f64) -> f64 {
    if high / low < 100.0 { 2.0 } else { 10.0 }
}

/// What charts are drawn onto.
pub type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
/// Whether it worked.
pub type Drawn = Result<(), Box<dyn std::error::Error>>;
type Context<'a, 'b, Y> = ChartContext<'a, SVGBackend<'b>, Cartesian2d<RangedCoordf64, Y>>;

fn fill<Y>(chart: &LineChart, theme: &Theme<'_>, mut context: Context<'_, '_, Y>, [floor, ceiling]: [f64; 2]) -> Drawn
where
    Y: Ranged<ValueType = f64> + ValueFormatter<f64>,
{
    context
        .configure_mesh()
        .disable_x_mesh()
        .bold_line_style(theme.grid.stroke_width(1))
        .light_line_style(TRANSPARENT)
        .axis_style(theme.grid.stroke_width(1))
        .label_style(text(15, theme.ink))
        .axis_desc_style(text(16, theme.ink))
        .x_labels(6)
        .y_labels(6)
        .x_label_formatter(&|x| {
            chart.whole_x.map_or_else(|| short(*x), |write| if x.fract() == 0.0 { write(*x) } else { String::new() })
        })
        .y_label_formatter(&|y| short(*y))
        .x_desc(chart.x_label.as_str())
        .y_desc(chart.y_label.as_str())
        .draw()?;
    for mark in &chart.marks {
        context.draw_series(LineSeries::new([(*mark, floor), (*mark, ceiling)], theme.mark.stroke_width(1)))?;
    }
    for (index, series) in chart.series.iter().enumerate() {
        let (color, dashed) = (theme.series)(index);
        let top = series.points.iter().map(|point| (point.x, point.high.clamp(floor, ceiling)));
        let bottom = series.points.iter().rev().map(|point| (point.x, point.low.clamp(floor, ceiling)));
        if series.points.iter().any(|point| point.high > point.low) {
            let outline = top.chain(bottom).collect::<Vec<_>>();
            context.draw_series([Polygon::new(outline, color.mix(0.16).filled())])?;
        }
        let line = series.points.iter().map(|point| (point.x, point.y.max(floor)));
        match dashed {
            true => context.draw_series(DashedLineSeries::new(line, 7, 4, color.stroke_width(2)))?,
            false => context.draw_series(LineSeries::new(line, color.stroke_width(2)))?,
        };
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
        // Ticks are sums of steps, so that 0 can come out as what rounding leaves.
        m if m < 1e-15 => "0".into(),
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
