//! `tidewire latency`: each core's latencies and all cores' together, from the server's histograms: in the last interval, and since the start.

use super::client::ClientError;
use super::print::printable;
use super::read::{Failure, Target, exit};
use crate::protocol::ErrorCode;
use crate::wire::http::LATENCY;
use base64::Engine;
use clap::Args;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::Deserializer;
use serde_json::Value;
use std::fmt::Write as _;
use std::io::{IsTerminal, Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;
use zeroize::Zeroizing;

#[derive(Args)]
pub struct Latency {
    /// Print again every second
    #[arg(long)]
    watch: bool,
    /// Write the merged histograms since the start as NAME.hgrm into this folder
    #[arg(long, value_name = "DIR")]
    hgrm: Option<PathBuf>,
    #[command(flatten)]
    target: Target,
}

/// One histogram of every shard.
struct Series {
    name: String,
    /// Of the last interval, this; since the server's start where it is `None`.
    interval_ms: Option<u64>,
    by_shard: Vec<(u64, Histogram<u64>)>,
}

pub fn latency(arguments: &Latency) -> ExitCode {
    // Once: standard input is not there again.
    let authorization = match arguments.target.authorization() {
        Ok(authorization) => authorization,
        Err(failure) => return exit(Err(failure)),
    };
    loop {
        let series = match read(&arguments.target, &authorization) {
            Ok(series) => series,
            Err(failure) => return exit(Err(failure)),
        };
        if arguments.watch && std::io::stdout().is_terminal() {
            print!("\x1b[2J\x1b[H");
        }
        print!("{}", print_table(&series));
        if let Some(folder) = &arguments.hgrm
            && let Err(error) = write_hgrm(folder, &series)
        {
            eprintln!("error: {}: {error}", folder.display());
            return ExitCode::from(2);
        }
        if !arguments.watch {
            return ExitCode::SUCCESS;
        }
        std::thread::sleep(Duration::from_secs(1));
    }
}

fn read(target: &Target, authorization: &str) -> Result<Vec<Series>, Failure> {
    let (mut stream, authority) = target.connect_http()?;
    let lost = |error: std::io::Error| ClientError::Connection(format!("cannot read /latency of {authority}: {error}"));
    stream.tcp().set_read_timeout(Some(Duration::from_secs(10))).map_err(lost)?;
    let request = Zeroizing::new(format!("GET {LATENCY} HTTP/1.1\r\nHost: {authority}\r\n{authorization}\r\n"));
    stream.write_all(request.as_bytes()).map_err(lost)?;
    let mut response = Vec::new();
    stream.read_to_end(&mut response).map_err(lost)?;
    let strange = || ClientError::Connection(format!("{authority} did not answer with a report to /latency"));
    let end = response.windows(4).position(|window| window == b"\r\n\r\n").ok_or_else(strange)?;
    let (head, body) = (&response[..end], &response[end + 4..]);
    refuse(head, body)?;
    Ok(parse(&serde_json::from_slice(body).map_err(|_| strange())?).ok_or_else(strange)?)
}

/// What the server says instead of a report.
fn refuse(head: &[u8], body: &[u8]) -> Result<(), Failure> {
    let message = || printable(String::from_utf8_lossy(body).trim());
    let refused = |code: ErrorCode| Err(ClientError::Refused { code: code.code(), position: None, message: message() }.into());
    match head.split(|byte| *byte == b' ').nth(1) {
        Some(b"401") => refused(ErrorCode::AuthenticationFailed),
        Some(b"403") => refused(ErrorCode::AccessDenied),
        Some(b"503") => Err(Failure::Undone(message())),
        _ => Ok(()),
    }
}

fn parse(report: &Value) -> Option<Vec<Series>> {
    let interval_ms = report["interval_ms"].as_u64()?;
    let mut series: Vec<Series> = Vec::new();
    for shard in report["shards"].as_array()? {
        take_histograms(&mut series, shard["shard"].as_u64()?, &shard["histograms"], interval_ms)?;
    }
    if !report["storage"].is_null() {
        take_histograms(&mut series, 0, &report["storage"]["histograms"], interval_ms)?;
    }
    Some(series)
}

/// Adds a shard's histograms to those of the same name.
fn take_histograms(series: &mut Vec<Series>, shard: u64, histograms: &Value, interval_ms: u64) -> Option<()> {
    for (name, printed) in histograms.as_object()? {
        for (interval_ms, printed) in [(Some(interval_ms), &printed["interval"]), (None, printed)] {
            let bytes = base64::engine::general_purpose::STANDARD.decode(printed["hdr"].as_str()?).ok()?;
            let histogram = Deserializer::new().deserialize(&mut &bytes[..]).ok()?;
            match series.iter_mut().find(|series| series.name == *name && series.interval_ms == interval_ms) {
                Some(series) => series.by_shard.push((shard, histogram)),
                None => series.push(Series { name: name.clone(), interval_ms, by_shard: vec![(shard, histogram)] }),
            }
        }
    }
    Some(())
}

impl Series {
    fn merged(&self) -> Histogram<u64> {
        let mut merged = Histogram::new_with_bounds(1, 60_000_000_000, 3).expect("the bounds are valid");
        for (_, histogram) in &self.by_shard {
            merged.add(histogram).expect("the server's bounds are the same");
        }
        merged
    }
}

const QUANTILES: [(&str, f64); 5] = [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99.9", 0.999), ("p99.99", 0.9999)];

fn print_table(series: &[Series]) -> String {
    let mut out = String::new();
    for series in series {
        let when = series.interval_ms.map_or("since the start".to_owned(), |ms| format!("in the last {} s", ms / 1000));
        let _ = write!(out, "{} {when} (µs)\n{:>8} {:>12}", series.name, "core", "count");
        for (name, _) in QUANTILES {
            let _ = write!(out, " {name:>10}");
        }
        let _ = writeln!(out, " {:>10}", "max");
        for (shard, histogram) in &series.by_shard {
            print_row(&mut out, &shard.to_string(), histogram);
        }
        print_row(&mut out, "all", &series.merged());
        out.push('\n');
    }
    out
}

fn print_row(out: &mut String, label: &str, histogram: &Histogram<u64>) {
    let us = |ns: u64| format!("{:.1}", ns as f64 / 1000.0);
    let _ = write!(out, "{label:>8} {:>12}", histogram.len());
    for (_, quantile) in QUANTILES {
        let _ = write!(out, " {:>10}", us(histogram.value_at_quantile(quantile)));
    }
    let _ = writeln!(out, " {:>10}", us(histogram.max()));
}

fn write_hgrm(folder: &Path, series: &[Series]) -> std::io::Result<()> {
    std::fs::create_dir_all(folder)?;
    for series in series.iter().filter(|series| series.interval_ms.is_none()) {
        std::fs::write(folder.join(format!("{}.hgrm", series.name)), print_hgrm(&series.merged()))?;
    }
    Ok(())
}

/// The percentile file that HdrHistogram's plotters read, in microseconds.
fn print_hgrm(histogram: &Histogram<u64>) -> String {
    let mut out = String::from("       Value     Percentile TotalCount 1/(1-Percentile)\n\n");
    for step in histogram.iter_quantiles(5) {
        let quantile = step.quantile_iterated_to();
        let value = step.value_iterated_to() as f64 / 1000.0;
        let count = histogram.count_between(0, step.value_iterated_to());
        let _ = write!(out, "{value:12.3} {quantile:2.12} {count:10}");
        let _ = writeln!(out, "{}", if quantile < 1.0 { format!(" {:14.2}", 1.0 / (1.0 - quantile)) } else { String::new() });
    }
    let _ = writeln!(out, "#[Mean    = {:12.3}, StdDeviation   = {:12.3}]", histogram.mean() / 1000.0, histogram.stdev() / 1000.0);
    let _ = writeln!(out, "#[Max     = {:12.3}, Total count    = {:12}]", histogram.max() as f64 / 1000.0, histogram.len());
    out
}
