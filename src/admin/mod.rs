//! The HTTP side: health, latency reports, and the pages that the process serves.

use crate::base::{INTERVAL_MS, Latencies};
use crate::mail::report::Report;
use crate::storage::Counters;
use crate::wire::http;
use base64::Engine;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::{Serializer, V2Serializer};
use serde_json::{Map, Value, json};
use std::collections::HashMap;

/// Files served, by path.
#[derive(Default)]
pub struct Pages {
    files: HashMap<&'static str, (&'static str, &'static [u8])>,
}

impl Pages {
    pub fn add(&mut self, path: &'static str, content_type: &'static str, body: &'static [u8]) {
        self.files.insert(path, (content_type, body));
    }
}

/// What answers a request.
pub enum Answer<'a> {
    Page {
        status: u16,
        content_type: &'static str,
        body: &'a [u8],
    },
    /// The reports of all shards, once they are there.
    Latency,
}

const TEXT: &str = "text/plain; charset=utf-8";

pub fn answer<'a>(pages: &'a Pages, method: &str, path: &str) -> Answer<'a> {
    let text = |status, body: &'static str| Answer::Page { status, content_type: TEXT, body: body.as_bytes() };
    if method != "GET" {
        return text(405, "only GET is served here\n");
    }
    match path {
        http::HEALTH => text(200, "ok\n"),
        http::LATENCY => Answer::Latency,
        _ => match pages.files.get(path) {
            Some((content_type, body)) => Answer::Page { status: 200, content_type, body },
            None => text(404, "there is no such page; /health and /latency are served, WebSocket at /tidewire\n"),
        },
    }
}

/// The reports as JSON: counts, percentiles in nanoseconds, and each histogram whole (HdrHistogram V2, base64) to merge and keep: since the start, and
/// as `interval` the last whole one of `interval_ms`. `storage` is null where nothing is stored.
pub fn print_reports(reports: &[Report], storage: Option<&Counters>) -> Vec<u8> {
    let shards: Vec<Value> = reports.iter().map(print_report).collect();
    let storage = storage.map(print_storage);
    serde_json::to_vec(&json!({ "unit": "ns", "interval_ms": INTERVAL_MS, "shards": shards, "storage": storage }))
        .expect("JSON values print")
}

fn print_storage(counters: &Counters) -> Value {
    let histograms: Map<String, Value> =
        counters.histograms().into_iter().map(|(name, histogram)| (name.into(), print_latencies(&histogram))).collect();
    json!({ "counts": print_counts(&counters.counts()), "histograms": histograms })
}

fn print_report(report: &Report) -> Value {
    let histograms: Map<String, Value> =
        report.histograms().into_iter().map(|(name, histogram)| (name.into(), print_latencies(histogram))).collect();
    json!({ "shard": report.shard, "counts": print_counts(&report.counts()), "histograms": histograms })
}

fn print_counts(counts: &[(&'static str, u64)]) -> Map<String, Value> {
    counts.iter().map(|(name, count)| ((*name).into(), (*count).into())).collect()
}

fn print_latencies(latencies: &Latencies) -> Value {
    let mut printed = print_histogram(&latencies.total());
    printed["interval"] = print_histogram(latencies.last());
    printed
}

fn print_histogram(histogram: &Histogram<u64>) -> Value {
    let mut bytes = Vec::new();
    V2Serializer::new().serialize(histogram, &mut bytes).expect("a histogram fits its form");
    json!({
        "count": histogram.len(), "min": histogram.min(), "p50": histogram.value_at_quantile(0.5), "p90": histogram.value_at_quantile(0.9),
        "p99": histogram.value_at_quantile(0.99), "p99.9": histogram.value_at_quantile(0.999), "max": histogram.max(),
        "hdr": base64::engine::general_purpose::STANDARD.encode(&bytes),
    })
}
