//! The percentile plot: how slow the slowest one in ten, hundred, thousand, … was.
//!
//! Both axes are logarithmic. Along x runs `1 / (1 - p)`, so that 90 %, 99 % and 99.9 % lie equally
//! far apart and the tail, which is what a latency plot is for, gets most of the room; up y runs the
//! latency, since a stall may be a thousand times the median.

use std::{ops::Range, time::Duration};

use plotters::{
    backend::SVGBackend,
    chart::{ChartBuilder, SeriesLabelPosition},
    drawing::{DrawingAreaErrorKind, IntoDrawingArea as _},
    element::Rectangle,
    prelude::IntoLogRange as _,
    series::LineSeries,
    style::{Color as _, FontTransform, RGBColor, ShapeStyle, TextStyle, WHITE},
};

use super::{Latency, duration};

/// Width and height in pixels.
const SIZE: (u32, u32) = (960, 540);
/// Points that are taken of each series for each factor of ten along x.
const POINTS_PER_DECADE: u32 = 40;
const FONT: &str = "system-ui, sans-serif";
const INK: RGBColor = RGBColor(0x33, 0x3a, 0x45);
const GRID: RGBColor = RGBColor(0xe3, 0xe7, 0xec);
/// Told apart also without red and green (Okabe and Ito: "Color Universal Design", 2008).
const COLOURS: [RGBColor; 7] = [
    RGBColor(0x00, 0x72, 0xb2),
    RGBColor(0xd5, 0x5e, 0x00),
    RGBColor(0x00, 0x9e, 0x73),
    RGBColor(0xcc, 0x79, 0xa7),
    RGBColor(0xe6, 0x9f, 0x00),
    RGBColor(0x56, 0xb4, 0xe9),
    RGBColor(0x33, 0x3a, 0x45),
];

/// An SVG drawing of the percentiles of each series that has any, with a legend. Several series
/// share one pair of axes.
#[must_use]
pub fn plot_svg(series: &[(&str, &Latency)]) -> String {
    let mut svg = String::new();
    draw(&mut svg, series).expect("drawing into a String cannot fail");
    svg
}

fn draw(
    svg: &mut String,
    series: &[(&str, &Latency)],
) -> Result<(), DrawingAreaErrorKind<impl std::error::Error + Send + Sync + use<>>> {
    let series: Vec<_> = series.iter().filter(|(_, latency)| !latency.is_empty()).collect();
    let root = SVGBackend::with_string(svg, SIZE).into_drawing_area();
    root.fill(&WHITE)?;
    let (x, y) = (x_range(&series), y_range(&series));
    let mut chart = ChartBuilder::on(&root)
        .margin(16)
        .margin_right(28)
        .x_label_area_size(52)
        .y_label_area_size(84)
        .build_cartesian_2d(x.clone().log_scale(), y.log_scale())?;
    let label = TextStyle::from((FONT, 15)).color(&INK);
    chart
        .configure_mesh()
        .bold_line_style(GRID)
        .light_line_style(GRID.mix(0.4))
        .axis_style(INK.mix(0.5))
        .label_style(label.clone())
        .x_desc("percentile")
        .y_desc("latency")
        .axis_desc_style(label.clone())
        .x_labels(8)
        .y_labels(8)
        .x_label_formatter(&|x| percent(*x))
        .y_label_formatter(&|nanos| axis_duration(*nanos))
        .draw()?;
    for ((name, latency), colour) in series.iter().zip(COLOURS.iter().cycle()) {
        let style = ShapeStyle::from(colour).stroke_width(2);
        chart
            .draw_series(LineSeries::new(points(latency, x.end), style))?
            .label(*name)
            .legend(move |(x, y)| Rectangle::new([(x, y - 2), (x + 18, y + 1)], colour.filled()));
    }
    if series.iter().any(|(name, _)| !name.is_empty()) {
        chart
            .configure_series_labels()
            .position(SeriesLabelPosition::UpperLeft)
            .label_font(label.transform(FontTransform::None))
            .background_style(WHITE.mix(0.9))
            .border_style(GRID)
            .margin(12)
            .legend_area_size(26)
            .draw()?;
    }
    root.present()
}

/// Up to the percentile that the largest series can tell: one in `count`.
fn x_range(series: &[&(&str, &Latency)]) -> Range<f64> {
    let count = series.iter().map(|(_, latency)| latency.count()).max().unwrap_or(1);
    1.0..(count as f64).clamp(100.0, 1e7)
}

/// From the factor of ten below the fastest to a little above the slowest.
fn y_range(series: &[&(&str, &Latency)]) -> Range<f64> {
    let nanos = |duration: Duration| duration.as_nanos() as f64;
    let min = series.iter().map(|(_, latency)| nanos(latency.min())).fold(f64::INFINITY, f64::min);
    let max = series.iter().map(|(_, latency)| nanos(latency.max())).fold(0.0, f64::max);
    if max == 0.0 {
        return 1e3..1e6;
    }
    10_f64.powf(min.log10().floor())..10_f64.powf((max * 1.05).log10().ceil())
}

fn points(latency: &Latency, x_end: f64) -> impl Iterator<Item = (f64, f64)> {
    let x_end = x_end.min((latency.count() as f64).max(2.0));
    let steps = (x_end.log10() * f64::from(POINTS_PER_DECADE)).ceil() as u32;
    (0..=steps).map(move |step| {
        let x = 10_f64.powf(f64::from(step) / f64::from(POINTS_PER_DECADE)).min(x_end);
        (x, latency.percentile(100.0 * (1.0 - 1.0 / x)).as_nanos() as f64)
    })
}

/// `1 / (1 - p)` as a percentage with just the digits it needs: 1 → 0 %, 1000 → 99.9 %.
fn percent(x: f64) -> String {
    let digits = (x.log10().round() as usize).saturating_sub(2);
    format!("{:.digits$} %", 100.0 * (1.0 - 1.0 / x))
}

/// A round duration without the digits that [`duration`] pads it with.
fn axis_duration(nanos: f64) -> String {
    let text = duration(Duration::from_nanos(nanos.round() as u64));
    let (number, unit) = text.split_once(' ').expect("duration() puts a space before the unit");
    let number = if number.contains('.') {
        number.trim_end_matches('0').trim_end_matches('.')
    } else {
        number
    };
    format!("{number} {unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_series_with_values_has_a_line_and_a_name() {
        let mut filled = Latency::new();
        (1..=1000).for_each(|us| filled.record(Duration::from_micros(us)));
        let svg = plot_svg(&[("one", &filled), ("two", &filled), ("idle", &Latency::new())]);
        for colour in ["#0072B2", "#D55E00", "#009E73"] {
            let lines = svg.matches(&format!("stroke=\"{colour}\"")).count();
            assert_eq!(lines, usize::from(colour != "#009E73"), "{colour}");
        }
        assert!(svg.contains("one") && svg.contains("two") && !svg.contains("idle"), "{svg}");
        assert!(svg.contains("99.9 %") && svg.contains("100 µs"), "{svg}");
    }

    #[test]
    fn nothing_recorded_is_a_plot_with_empty_axes() {
        let svg = plot_svg(&[]);
        assert!(svg.starts_with("<svg") && svg.trim_end().ends_with("</svg>"), "{svg}");
    }

    #[test]
    fn a_single_value_can_be_drawn() {
        let mut latency = Latency::new();
        latency.record(Duration::from_micros(10));
        assert!(plot_svg(&[("once", &latency)]).contains("once"));
    }

    #[test]
    fn axis_labels_carry_no_needless_digits() {
        let shown = [1.0, 2.0, 10.0, 100.0, 1000.0, 1e5].map(percent);
        assert_eq!(shown, ["0 %", "50 %", "90 %", "99 %", "99.9 %", "99.999 %"]);
        let shown = [100.0, 1e3, 2e4, 5e5, 1e9].map(axis_duration);
        assert_eq!(shown, ["100 ns", "1 µs", "20 µs", "500 µs", "1 s"]);
    }
}
