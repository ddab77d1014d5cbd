//! Lines over a shared pair of plain axes.

use plotters::{
    backend::SVGBackend,
    chart::{ChartBuilder, SeriesLabelPosition},
    drawing::{DrawingAreaErrorKind, IntoDrawingArea as _},
    element::Rectangle,
    series::LineSeries,
    style::{Color as _, RGBColor, ShapeStyle, WHITE},
};

const SIZE: (u32, u32) = (960, 540);
const FONT: &str = "system-ui, sans-serif";
/// Told apart also without red and green (Okabe and Ito: "Color Universal Design", 2008).
const COLOURS: [RGBColor; 4] = [
    RGBColor(0x00, 0x72, 0xb2),
    RGBColor(0xd5, 0x5e, 0x00),
    RGBColor(0x00, 0x9e, 0x73),
    RGBColor(0x33, 0x3a, 0x45),
];

/// One line.
pub(crate) struct Line {
    pub(crate) name: &'static str,
    pub(crate) points: Vec<(f64, f64)>,
}

/// An SVG drawing of `lines`, whose axes are called `x` and `y`.
pub(crate) fn chart_svg((x, y): (&str, &str), lines: &[Line]) -> String {
    let mut svg = String::new();
    draw(&mut svg, (x, y), lines).expect("drawing into a String cannot fail");
    svg
}

fn draw(
    svg: &mut String,
    (x, y): (&str, &str),
    lines: &[Line],
) -> Result<(), DrawingAreaErrorKind<impl std::error::Error + Send + Sync + use<>>> {
    let root = SVGBackend::with_string(svg, SIZE).into_drawing_area();
    root.fill(&WHITE)?;
    let points = || lines.iter().flat_map(|line| &line.points);
    let x_max = points().map(|(x, _)| *x).fold(1.0, f64::max);
    let y_max = points().map(|(_, y)| *y).fold(1.0, f64::max) * 1.2;
    let mut chart = ChartBuilder::on(&root)
        .margin(16)
        .x_label_area_size(48)
        .y_label_area_size(64)
        .build_cartesian_2d(0.0..x_max, 0.0..y_max)?;
    chart
        .configure_mesh()
        .disable_mesh()
        .x_desc(x)
        .y_desc(y)
        .label_style((FONT, 15))
        .axis_desc_style((FONT, 15))
        .draw()?;
    for (line, colour) in lines.iter().zip(COLOURS.iter().cycle()) {
        let style = ShapeStyle::from(colour).stroke_width(2);
        chart
            .draw_series(LineSeries::new(line.points.iter().copied(), style))?
            .label(line.name)
            .legend(move |(x, y)| Rectangle::new([(x, y - 2), (x + 18, y + 1)], colour.filled()));
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperRight)
        .label_font((FONT, 15))
        .background_style(WHITE.mix(0.9))
        .margin(12)
        .draw()?;
    root.present()
}
