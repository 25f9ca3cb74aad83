//! Plots of the results, as SVG.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use plotters::coord::ranged1d::{KeyPointHint, Ranged};
use plotters::prelude::*;

use super::latency::Percentiles;
use super::report::{Report, Series, readable};
use crate::Result;

const SIZE: (u32, u32) = (900, 520);
const COLORS: [RGBColor; 6] = [
    RGBColor(31, 119, 180),
    RGBColor(214, 39, 40),
    RGBColor(44, 160, 44),
    RGBColor(148, 103, 189),
    RGBColor(255, 127, 14),
    RGBColor(90, 90, 90),
];

/// Writes one plot of latencies for each run, and one of throughput; returns their files.
pub(crate) fn write(folder: &Path, reports: &[Report]) -> Result<Vec<PathBuf>> {
    std::fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let mut files = Vec::new();
    let mut kinds: Vec<&str> = reports.iter().map(|report| report.kind).collect();
    kinds.dedup();
    for kind in kinds {
        let lines: Vec<(String, &Percentiles)> = reports
            .iter()
            .filter(|report| report.kind == kind)
            .flat_map(|report| {
                let latencies = report.latencies.iter().filter(|l| l.curve.len() > 3);
                latencies.map(|l| (format!("{} ({})", l.name, short(report)), l))
            })
            .collect();
        if !lines.is_empty() {
            let file = folder.join(format!("{kind}-latency.svg"));
            latencies(&file, kind, &lines)?;
            files.push(file);
        }
    }
    for report in reports {
        // The rate of a soak is in its name, and every machine has its own.
        let alone = reports.iter().filter(|other| other.kind == report.kind).count() == 1;
        let of = if alone { report.kind.to_owned() } else { slug(&report.scenario) };
        for (at, series) in report.series.iter().enumerate() {
            let file = folder.join(format!("{of}-{}.svg", slug(&series.name)));
            over_time(&file, &format!("{}: {}", report.scenario, series.name), series, at)?;
            files.push(file);
        }
    }
    let rates: Vec<(String, f64)> = reports
        .iter()
        .filter_map(|report| Some((report.title(), report.value("delivered")?)))
        .collect();
    if !rates.is_empty() {
        let file = folder.join("delivered.svg");
        bars(&file, "messages delivered per second", &rates)?;
        files.push(file);
    }
    Ok(files)
}

/// What tells a run from others of its kind.
fn short(report: &Report) -> String {
    let last = report.scenario.rsplit(", ").next().unwrap_or_default();
    match last {
        last if last.ends_with("/s") => format!("{}, {last}", report.target),
        _ => report.target.clone(),
    }
}

fn fails(error: impl std::fmt::Display) -> anyhow::Error {
    anyhow::anyhow!("cannot draw: {error}")
}

/// Latency over percentile; each step to the right is ten times closer to 100 %.
fn latencies(file: &Path, title: &str, lines: &[(String, &Percentiles)]) -> Result {
    let points = || lines.iter().flat_map(|(_, line)| &line.curve).map(|&(p, ms)| (nines(p), ms));
    let most = points().map(|(x, _)| x).fold(1.0, f64::max);
    let high = points().map(|(_, ms)| ms).fold(0.1, f64::max) * 1.3;
    let low = points().map(|(_, ms)| ms).fold(high, f64::min).max(0.01) / 1.3;
    let root = SVGBackend::new(file, SIZE).into_drawing_area();
    root.fill(&WHITE).map_err(fails)?;
    let mut chart = ChartBuilder::on(&root)
        .caption(format!("{title}: latency"), ("sans-serif", 20))
        .margin(12)
        .x_label_area_size(40)
        .y_label_area_size(70)
        .build_cartesian_2d(Nines(most), (low..high).log_scale())
        .map_err(fails)?;
    chart
        .configure_mesh()
        .x_desc("percentile")
        .y_desc("milliseconds")
        .x_label_formatter(&|x| format!("{}", 100.0 - 100.0 / 10_f64.powf(*x)))
        .y_label_formatter(&|ms| readable(*ms))
        .draw()
        .map_err(fails)?;
    for ((name, line), color) in lines.iter().zip(COLORS.iter().cycle()) {
        let points = line.curve.iter().map(|&(p, ms)| (nines(p), ms.max(low)));
        chart
            .draw_series(LineSeries::new(points, color.stroke_width(2)))
            .map_err(fails)?
            .label(name)
            .legend(|(x, y)| PathElement::new([(x, y), (x + 18, y)], color.stroke_width(2)));
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperLeft)
        .background_style(WHITE.mix(0.8))
        .border_style(BLACK.mix(0.3))
        .draw()
        .map_err(fails)?;
    root.present().map_err(fails)
}

/// A name that is fit for a file.
fn slug(name: &str) -> String {
    let words = name.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    words.collect::<Vec<_>>().join("-").to_lowercase()
}

/// A figure over the time of a run.
fn over_time(file: &Path, title: &str, series: &Series, color: usize) -> Result {
    let end = series.points.iter().map(|(at, _)| *at).fold(1.0, f64::max);
    let high = series.points.iter().map(|(_, value)| *value).fold(0.1, f64::max) * 1.2;
    let root = SVGBackend::new(file, (SIZE.0, SIZE.1 * 3 / 5)).into_drawing_area();
    root.fill(&WHITE).map_err(fails)?;
    let mut chart = ChartBuilder::on(&root)
        .caption(title, ("sans-serif", 18))
        .margin(12)
        .x_label_area_size(40)
        .y_label_area_size(70)
        .build_cartesian_2d(0.0..end, 0.0..high)
        .map_err(fails)?;
    chart
        .configure_mesh()
        .x_desc("seconds")
        .y_desc(series.unit)
        .y_label_formatter(&|value| readable(*value))
        .draw()
        .map_err(fails)?;
    let color = COLORS.get(color % COLORS.len()).unwrap_or(&BLACK);
    let line = LineSeries::new(series.points.iter().copied(), color.stroke_width(2));
    chart.draw_series(line).map_err(fails)?;
    root.present().map_err(fails)
}

fn nines(percentile: f64) -> f64 {
    -(1.0 - percentile / 100.0).max(1e-9).log10()
}

/// An axis from 0 % with a mark at 90, 99, 99.9 and so on.
struct Nines(f64);

impl Ranged for Nines {
    type FormatOption = plotters::coord::ranged1d::NoDefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, limit: (i32, i32)) -> i32 {
        limit.0 + (value / self.0 * f64::from(limit.1 - limit.0)) as i32
    }

    fn key_points<Hint: KeyPointHint>(&self, _: Hint) -> Vec<f64> {
        (0..=self.0 as i32).map(f64::from).collect()
    }

    fn range(&self) -> std::ops::Range<f64> {
        0.0..self.0
    }
}

impl plotters::coord::ranged1d::ValueFormatter<f64> for Nines {}

fn bars(file: &Path, title: &str, values: &[(String, f64)]) -> Result {
    const ROW: u32 = 34;
    let height = values.len() as u32 * ROW + 60;
    let most = values.iter().map(|(_, value)| *value).fold(1.0, f64::max);
    let root = SVGBackend::new(file, (SIZE.0, height)).into_drawing_area();
    root.fill(&WHITE).map_err(fails)?;
    let text = |size: u32| ("sans-serif", size).into_font().color(&BLACK);
    root.draw(&Text::new(title, (12, 12), text(20))).map_err(fails)?;
    for (row, (name, value)) in (0_i32..).zip(values) {
        let y = 50 + row * ROW as i32;
        let wide = (value / most * f64::from(SIZE.0 - 120)) as i32;
        root.draw(&Text::new(name.as_str(), (12, y), text(13))).map_err(fails)?;
        let bar = Rectangle::new([(12, y + 16), (12 + wide.max(1), y + 26)], COLORS[0].filled());
        root.draw(&bar).map_err(fails)?;
        root.draw(&Text::new(readable(*value), (18 + wide, y + 14), text(13))).map_err(fails)?;
    }
    root.present().map_err(fails)
}
