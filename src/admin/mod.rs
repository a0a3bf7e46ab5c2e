//! The HTTP side: health, latency reports, and the pages that the process serves.

use crate::mail::report::Report;
use crate::storage::Counters;
use base64::Engine;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::{Serializer, V2Serializer};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::sync::atomic::Ordering::Relaxed;

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
        "/health" => text(200, "ok\n"),
        "/latency" => Answer::Latency,
        _ => match pages.files.get(path) {
            Some((content_type, body)) => Answer::Page { status: 200, content_type, body },
            None => text(404, "there is no such page; /health and /latency are served, WebSocket at /tidewire\n"),
        },
    }
}

/// The reports as JSON: counts, percentiles in nanoseconds, and each histogram whole (HdrHistogram V2, base64) to merge and keep. `storage` is null
/// where nothing is stored.
pub fn print_reports(reports: &[Report], storage: Option<&Counters>) -> Vec<u8> {
    let shards: Vec<Value> = reports.iter().map(print_report).collect();
    let storage = storage.map(print_storage);
    serde_json::to_vec(&json!({ "unit": "ns", "shards": shards, "storage": storage })).expect("JSON values print")
}

fn print_storage(counters: &Counters) -> Value {
    let counts = json!({
        "records": counters.records.load(Relaxed), "bytes": counters.bytes.load(Relaxed), "groups": counters.groups.load(Relaxed),
        "syncs": counters.syncs.load(Relaxed), "failures": counters.failures.load(Relaxed),
        "failing": u64::from(counters.is_failing.load(Relaxed)),
        "checkpoint_failing": u64::from(counters.is_checkpoint_failing.load(Relaxed)),
        "checkpoints": counters.checkpoints.load(Relaxed), "checkpoint_us": counters.checkpoint_us.load(Relaxed),
        "segment_bytes": counters.segment_bytes.load(Relaxed), "segments_waiting": counters.segments_waiting.load(Relaxed),
    });
    let histograms =
        json!({ "storage_write": print_histogram(&counters.write_ns()), "storage_sync": print_histogram(&counters.sync_ns()) });
    json!({ "counts": counts, "histograms": histograms })
}

fn print_report(report: &Report) -> Value {
    let mut counts = serde_json::Map::new();
    for (name, count) in report.counts() {
        counts.insert(name.into(), count.into());
    }
    let mut histograms = serde_json::Map::new();
    for (name, histogram) in report.histograms() {
        histograms.insert(name.into(), print_histogram(histogram));
    }
    json!({ "shard": report.shard, "counts": counts, "histograms": histograms })
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
