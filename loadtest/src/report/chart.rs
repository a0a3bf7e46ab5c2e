//! Line charts as inline SVG with a logarithmic latency axis.
//!
//! Colours are classes; the page's style gives them a light and a dark form.

/// One line: its name, its class number, and points of x and nanoseconds.
pub struct Line {
    pub name: String,
    pub class: usize,
    pub points: Vec<(f64, f64)>,
}

/// The horizontal axis: its end, its name, and marks with their texts.
pub struct Axis {
    pub end: f64,
    pub name: &'static str,
    pub marks: Vec<(f64, String)>,
}

const WIDTH: f64 = 920.0;
const HEIGHT: f64 = 360.0;
const LEFT: f64 = 74.0;
const RIGHT: f64 = 16.0;
const TOP: f64 = 40.0;
const BOTTOM: f64 = 46.0;

/// Percentiles on the axis of nines: each mark has ten times fewer samples beyond it.
pub fn percentile_axis() -> Axis {
    let names = ["p0", "p90", "p99", "p99.9", "p99.99", "p99.999"];
    let mut marks: Vec<(f64, String)> = names.iter().enumerate().map(|(nines, name)| (nines as f64, (*name).to_owned())).collect();
    marks.push((2f64.log10(), "p50".to_owned()));
    Axis { end: 5.0, name: "percentile", marks }
}

/// Seconds from 0 to `end`.
pub fn seconds_axis(end: f64) -> Axis {
    let steps = [1.0, 2.0, 5.0, 10.0, 20.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0, 7200.0, 21600.0];
    let step = steps.into_iter().find(|step| end / step <= 12.0).unwrap_or(86400.0);
    let count = (end / step) as usize;
    Axis {
        end: end.max(1.0),
        name: "seconds",
        marks: (0..=count).map(|mark| (mark as f64 * step, format!("{}", mark as f64 * step))).collect(),
    }
}

/// The chart as one `svg` element, titled for those who cannot see it.
pub fn svg(title: &str, axis: &Axis, lines: &[Line]) -> String {
    let values = || lines.iter().flat_map(|line| line.points.iter().map(|point| point.1.max(1.0)));
    let low = values().fold(f64::INFINITY, f64::min).log10().floor();
    let high = values().fold(1.0, f64::max).log10().ceil();
    if !low.is_finite() {
        return "<p class=\"empty\">Nothing was measured.</p>".to_owned();
    }
    let high = high.max(low + 1.0);
    let x = |value: f64| LEFT + value / axis.end * (WIDTH - LEFT - RIGHT);
    let y = |ns: f64| HEIGHT - BOTTOM - (ns.max(1.0).log10() - low) / (high - low) * (HEIGHT - TOP - BOTTOM);
    let mut out = format!("<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{title}\">\n");
    grid(axis, (low as i32, high as i32), &x, &y, &mut out);
    for line in lines.iter().filter(|line| !line.points.is_empty()) {
        let points: Vec<String> = line.points.iter().map(|point| format!("{:.1},{:.1}", x(point.0), y(point.1))).collect();
        if let [(at, ns)] = line.points[..] {
            out += &format!("<circle class=\"dot s{}\" cx=\"{:.1}\" cy=\"{:.1}\" r=\"3.5\"/>\n", line.class, x(at), y(ns));
        }
        out += &format!("<polyline class=\"line s{}\" points=\"{}\"/>\n", line.class, points.join(" "));
    }
    legend(lines, &mut out);
    out + "</svg>\n"
}

fn grid(axis: &Axis, decades: (i32, i32), x: &dyn Fn(f64) -> f64, y: &dyn Fn(f64) -> f64, out: &mut String) {
    let (right, bottom) = (WIDTH - RIGHT, HEIGHT - BOTTOM);
    for decade in decades.0..=decades.1 {
        let ns = 10f64.powi(decade);
        let at = y(ns);
        *out += &format!("<line class=\"grid\" x1=\"{LEFT}\" x2=\"{right}\" y1=\"{at:.1}\" y2=\"{at:.1}\"/>");
        *out +=
            &format!("<text class=\"mark\" x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>\n", LEFT - 8.0, at + 4.0, duration_text(ns));
        for part in (2..10).filter(|_| decade < decades.1) {
            let at = y(ns * f64::from(part));
            *out += &format!("<line class=\"grid fine\" x1=\"{LEFT}\" x2=\"{right}\" y1=\"{at:.1}\" y2=\"{at:.1}\"/>");
        }
    }
    for (value, name) in &axis.marks {
        let at = x(*value);
        *out += &format!("<line class=\"grid\" x1=\"{at:.1}\" x2=\"{at:.1}\" y1=\"{TOP}\" y2=\"{bottom}\"/>");
        let anchor = if *value == axis.end { "end" } else { "middle" };
        *out += &format!("<text class=\"mark\" x=\"{at:.1}\" y=\"{:.1}\" text-anchor=\"{anchor}\">{name}</text>\n", bottom + 18.0);
    }
    *out += &format!(
        "<text class=\"mark\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>\n",
        (LEFT + right) / 2.0,
        HEIGHT - 8.0,
        axis.name
    );
}

fn legend(lines: &[Line], out: &mut String) {
    let mut at = LEFT;
    for line in lines {
        *out += &format!("<line class=\"line s{}\" x1=\"{at:.0}\" x2=\"{:.0}\" y1=\"18\" y2=\"18\"/>", line.class, at + 22.0);
        *out += &format!("<text class=\"name\" x=\"{:.0}\" y=\"22\">{}</text>\n", at + 28.0, line.name);
        at += 52.0 + line.name.chars().count() as f64 * 7.0;
    }
}

/// A duration with its natural unit.
pub fn duration_text(ns: f64) -> String {
    let (value, unit) = match ns {
        ..1e3 => (ns, "ns"),
        1e3..1e6 => (ns / 1e3, "µs"),
        1e6..1e9 => (ns / 1e6, "ms"),
        _ => (ns / 1e9, "s"),
    };
    let digits = if value >= 100.0 || value.fract() == 0.0 {
        0
    } else if value >= 10.0 {
        1
    } else {
        2
    };
    format!("{value:.digits$} {unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_their_natural_unit() {
        for (ns, text) in [(7.0, "7 ns"), (1500.0, "1.50 µs"), (12_340_000.0, "12.3 ms"), (250e6, "250 ms"), (3e9, "3 s")] {
            assert_eq!(duration_text(ns), text);
        }
    }

    #[test]
    fn a_chart_without_points_says_so() {
        assert!(svg("x", &percentile_axis(), &[]).contains("Nothing was measured"));
    }
}
