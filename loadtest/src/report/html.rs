//! The result as one page that needs nothing else: style and charts are within.

use super::chart::{self, Line, duration_text};
use serde_json::Value;

/// The page of a result as `to_json` makes it.
pub fn page(result: &Value) -> String {
    let label = match result["label"].as_str() {
        Some(label) if !label.is_empty() => escape(label),
        _ => "Load test".to_owned(),
    };
    let mut body = format!("<h1>{label}</h1>\n{}", verdict(result));
    let stages = result["stages"].as_array().map_or(&[][..], Vec::as_slice);
    if stages.len() > 1 {
        body += &section("Latency at each rate", &stages_chart(stages));
        body += &section("Rates", &rates_table(stages));
    }
    if let Some(stage) = stages.last() {
        let name = if stages.len() > 1 { "The last rate" } else { "Latency" };
        body += &section(name, &(latency_chart(stage) + &quantile_table(stage)));
        body += &section("Over time", &time_chart(stage));
        body += &section("Counts", &counts_table(stage));
    }
    body += &section("Run", &table(&run_rows(result)));
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n<title>{label}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n<main>\n{body}</main>\n</body>\n</html>\n"
    )
}

fn section(title: &str, content: &str) -> String {
    format!("<section>\n<h2>{title}</h2>\n{content}</section>\n")
}

/// What a reader wants first: did it hold, how much, how fast.
fn verdict(result: &Value) -> String {
    let passed = result["passed"].as_bool().unwrap_or(false);
    let stages = result["stages"].as_array().map_or(&[][..], Vec::as_slice);
    let shown = match result["highest_rate_held"].as_f64() {
        Some(rate) => stages.iter().rev().find(|stage| stage["rate_per_topic"].as_f64() == Some(rate)),
        None => stages.last(),
    };
    let Some(stage) = shown else { return String::new() };
    let quantiles = &stage["latency"]["quantiles_ns"];
    let mut tiles = vec![("deliveries a second", count_text(stage["delivered_per_second"].as_f64().unwrap_or(0.0)))];
    if let Some(rate) = result["highest_rate_held"].as_f64() {
        tiles.push(("highest rate held", count_text(rate)));
    }
    for name in ["p50", "p99", "p99.9", "max"] {
        tiles.push((name, duration_text(quantiles[name].as_f64().unwrap_or(0.0))));
    }
    let tiles: String =
        tiles.iter().map(|(name, value)| format!("<div class=\"tile\"><b>{value}</b><span>{name}</span></div>\n")).collect();
    let faults = stages.last().and_then(|stage| stage["faults"].as_array()).map_or(&[][..], Vec::as_slice);
    let faults: String = faults.iter().filter_map(Value::as_str).map(|fault| format!("<li>{}</li>", escape(fault))).collect();
    let (class, word) = if passed { ("held", "Held") } else { ("failed", "Not held") };
    let faults_title = if passed && !faults.is_empty() { "<p class=\"note\">What ended the search:</p>" } else { "" };
    format!(
        "<p class=\"verdict {class}\">{word}</p>\n<div class=\"tiles\">\n{tiles}</div>\n{faults_title}<ul class=\"faults\">{faults}</ul>\n"
    )
}

fn curve(histogram: &Value) -> Vec<(f64, f64)> {
    pairs(histogram["curve"].as_array(), |point| (point[0].as_f64(), point[1].as_f64()))
}

fn pairs(values: Option<&Vec<Value>>, point: impl Fn(&Value) -> (Option<f64>, Option<f64>)) -> Vec<(f64, f64)> {
    values.map_or(&[][..], Vec::as_slice).iter().map(point).filter_map(|(x, y)| x.zip(y)).collect()
}

/// The histograms of a stage that have something in them.
fn histograms(stage: &Value) -> Vec<(&'static str, usize, &Value)> {
    let all =
        [("latency", 0, &stage["latency"]), ("answered", 1, &stage["acknowledgement"]), ("generator late", 2, &stage["generator_late"])];
    all.into_iter().filter(|(_, _, histogram)| histogram["count"].as_u64().unwrap_or(0) > 0).collect()
}

fn latency_chart(stage: &Value) -> String {
    let lines: Vec<Line> = histograms(stage)
        .iter()
        .map(|(name, class, histogram)| Line { name: (*name).to_owned(), class: *class, points: curve(histogram) })
        .collect();
    chart::svg("Latency by percentile", &chart::percentile_axis(), &lines)
}

fn stages_chart(stages: &[Value]) -> String {
    // More lines than colours would not be told apart: the last ones are the interesting ones.
    let shown = &stages[stages.len().saturating_sub(6)..];
    let lines: Vec<Line> = shown
        .iter()
        .enumerate()
        .map(|(class, stage)| Line {
            name: format!("{}/s", count_text(stage["rate_per_topic"].as_f64().unwrap_or(0.0))),
            class,
            points: curve(&stage["latency"]),
        })
        .collect();
    chart::svg("Latency by percentile at each rate", &chart::percentile_axis(), &lines)
}

fn time_chart(stage: &Value) -> String {
    let end =
        stage["seconds"].as_array().and_then(|seconds| seconds.last()).and_then(|second| second["at_ns"].as_f64()).unwrap_or(0.0) / 1e9;
    let lines: Vec<Line> = [("p50", "p50_ns"), ("p99", "p99_ns"), ("max", "max_ns")]
        .iter()
        .enumerate()
        .map(|(class, (name, key))| Line {
            name: (*name).to_owned(),
            class,
            points: pairs(stage["seconds"].as_array(), |second| (second["at_ns"].as_f64().map(|ns| ns / 1e9), second[*key].as_f64())),
        })
        .collect();
    chart::svg("Latency over time", &chart::seconds_axis(end), &lines)
}

fn quantile_table(stage: &Value) -> String {
    let names = ["p0", "p50", "p90", "p99", "p99.9", "p99.99", "p99.999", "max"];
    let head: String = names.iter().map(|name| format!("<th>{name}</th>")).collect();
    let rows: String = histograms(stage)
        .iter()
        .map(|(name, _, histogram)| {
            let cells: String = names
                .iter()
                .map(|name| format!("<td>{}</td>", duration_text(histogram["quantiles_ns"][*name].as_f64().unwrap_or(0.0))))
                .collect();
            format!("<tr><th>{name}</th>{cells}</tr>\n")
        })
        .collect();
    format!("<div class=\"wide\"><table class=\"numbers\">\n<tr><th></th>{head}</tr>\n{rows}</table></div>\n")
}

fn rates_table(stages: &[Value]) -> String {
    let rows: String = stages
        .iter()
        .map(|stage| {
            let number = |key: &str| count_text(stage[key].as_f64().unwrap_or(0.0));
            let quantile = |name: &str| duration_text(stage["latency"]["quantiles_ns"][name].as_f64().unwrap_or(0.0));
            let held = stage["faults"].as_array().is_some_and(Vec::is_empty);
            format!(
                "<tr><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td></tr>\n",
                number("rate_per_topic"),
                number("delivered_per_second"),
                quantile("p50"),
                quantile("p99"),
                quantile("max"),
                if held { "held" } else { "not held" }
            )
        })
        .collect();
    format!(
        "<div class=\"wide\"><table class=\"numbers\">\n<tr><th>rate</th><th>deliveries/s</th><th>p50</th><th>p99</th><th>max</th><th></th></tr>\n{rows}</table></div>\n"
    )
}

fn counts_table(stage: &Value) -> String {
    let keys = [
        ("updates_sent", "updates sent"),
        ("updates_unsent", "updates that the server did not take"),
        ("updates_refused", "updates refused"),
        ("delivered", "deliveries, warm-up included"),
        ("skipped", "skipped: conflated or lost"),
        ("missing_last", "last values missing"),
        ("duplicates", "delivered twice"),
        ("out_of_order", "out of order"),
        ("corrupt", "not what was published"),
        ("deltas", "deltas applied"),
    ];
    let mut rows: Vec<(String, String)> =
        keys.iter().map(|(key, name)| ((*name).to_owned(), count_text(stage[*key].as_f64().unwrap_or(0.0)))).collect();
    for (key, name) in [("server_cores", "server, cores used"), ("generator_cores", "generator, cores used")] {
        rows.extend(stage[key].as_f64().map(|cores| (name.to_owned(), format!("{cores:.2}"))));
    }
    for (reason, count) in stage["closed"].as_object().into_iter().flatten() {
        rows.push((format!("connections ended: {reason}"), count.to_string()));
    }
    table(&rows)
}

fn run_rows(result: &Value) -> Vec<(String, String)> {
    let machine = &result["machine"];
    let word = |value: &Value| value.as_str().unwrap_or("not given").to_owned();
    let mut rows = vec![
        ("machine".to_owned(), format!("{}, {} cores", word(&machine["processor"]), machine["cores"])),
        ("kernel".to_owned(), word(&machine["kernel"])),
        ("commit".to_owned(), word(&result["commit"])),
        ("connecting took".to_owned(), duration_text(result["connect_ns"].as_f64().unwrap_or(0.0))),
    ];
    for (key, value) in result["parameters"].as_object().into_iter().flatten().filter(|(_, value)| !value.is_null()) {
        let text = match (key.strip_suffix("_ns"), value) {
            (Some(_), value) => duration_text(value.as_f64().unwrap_or(0.0)),
            (None, Value::String(text)) => text.clone(),
            (None, Value::Bool(value)) => if *value { "yes" } else { "no" }.to_owned(),
            (None, value) => value.as_f64().map_or_else(|| value.to_string(), count_text),
        };
        rows.push((key.trim_end_matches("_ns").replace('_', " "), text));
    }
    for (key, value) in result["server_memory"].as_object().into_iter().flatten() {
        rows.extend(
            value.as_f64().map(|bytes| (format!("server memory, {}", key.replace("_bytes", "").replace('_', " ")), bytes_text(bytes))),
        );
    }
    if result["parameters"]["stalled"].as_u64().unwrap_or(0) > 0 {
        rows.push(("stalled connections that the server closed".to_owned(), result["stalled_closed"].to_string()));
    }
    rows
}

fn table(rows: &[(String, String)]) -> String {
    let rows: String = rows.iter().map(|(name, value)| format!("<tr><th>{}</th><td>{}</td></tr>\n", escape(name), escape(value))).collect();
    format!("<table>\n{rows}</table>\n")
}

fn bytes_text(bytes: f64) -> String {
    if bytes >= 1024.0 * 1024.0 { format!("{:.1} MiB", bytes / 1024.0 / 1024.0) } else { format!("{bytes:.0} bytes") }
}

/// A number with its thousands apart; a fraction only where it matters.
fn count_text(number: f64) -> String {
    if number.fract() != 0.0 && number.abs() < 100.0 {
        return format!("{number:.2}");
    }
    let digits = format!("{:.0}", number.abs());
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    if number < 0.0 { format!("-{text}") } else { text }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

const STYLE: &str = include_str!("style.css");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_their_thousands_apart() {
        for (number, text) in [(0.0, "0"), (999.0, "999"), (1000.0, "1,000"), (2_500_000.4, "2,500,000"), (1.25, "1.25")] {
            assert_eq!(count_text(number), text);
        }
    }

    #[test]
    fn a_label_cannot_write_into_the_page() {
        let page = page(&serde_json::json!({"label": "<script>", "stages": []}));
        assert!(page.contains("&lt;script&gt;") && !page.contains("<script>"));
    }
}
