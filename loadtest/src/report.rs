//! What a run found, told three ways: a table for the terminal, JSON, and a page made from that JSON.

pub mod chart;
pub mod html;

use crate::host;
use crate::plan::Plan;
use crate::run::{Outcome, Stage};
use hdrhistogram::Histogram;
use serde_json::{Value, json};

/// The quantiles that are named in tables.
const QUANTILES: [(&str, f64); 8] =
    [("p0", 0.0), ("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99.9", 0.999), ("p99.99", 0.9999), ("p99.999", 0.99999), ("max", 1.0)];

/// The whole result as JSON. Times are in nanoseconds and say so.
pub fn to_json(plan: &Plan, outcome: &Outcome) -> Value {
    let flags = &plan.flags;
    let machine = host::machine();
    let stages: Vec<Value> = outcome.stages.iter().map(|stage| stage_json(plan, stage)).collect();
    json!({
        "label": flags.label,
        "passed": passed(plan, outcome),
        "highest_rate_held": highest_rate_held(plan, outcome),
        "machine": {"processor": machine.processor, "cores": machine.cores, "kernel": machine.kernel},
        "commit": flags.commit,
        "parameters": {
            "url": flags.url, "publish_url": flags.publish_url, "dialect": plan.dialect.name(), "qos": flags.qos, "retain": flags.retain, "topics": flags.topics, "subscribers": flags.subscribers,
            "fan_out": plan.fan_out, "publishers": flags.publishers, "rate_per_topic": flags.rate, "payload_bytes": flags.payload,
            "type": plan.value_type.name(), "duration_ns": plan.duration_ns, "warmup_ns": plan.warmup_ns,
            "ramp_per_second": plan.ramp_per_second, "idle": flags.idle, "stalled": flags.stalled, "core": flags.core,
            "busy_poll": flags.busy_poll, "acknowledged": plan.acknowledged, "deltas": flags.deltas, "verify": flags.verify,
            "allow_conflation": flags.allow_conflation, "p99_max_ns": plan.p99_max_ns, "find_max": flags.find_max,
        },
        "connect_ns": outcome.connect_ns,
        "stalled_closed": outcome.stalled_closed,
        "server_memory": memory_json(plan, outcome),
        "stages": stages,
    })
}

/// Whether everything that was asked for held. A search for the maximum passes if any rate held.
pub fn passed(plan: &Plan, outcome: &Outcome) -> bool {
    if plan.flags.find_max {
        return highest_rate_held(plan, outcome).is_some();
    }
    outcome.stages.iter().all(|stage| stage.faults(plan).is_empty())
}

fn highest_rate_held(plan: &Plan, outcome: &Outcome) -> Option<f64> {
    let held = outcome.stages.iter().filter(|stage| stage.faults(plan).is_empty());
    held.map(|stage| stage.rate).next_back().filter(|_| plan.flags.find_max)
}

fn memory_json(plan: &Plan, outcome: &Outcome) -> Value {
    let Some(memory) = outcome.memory else { return Value::Null };
    let each = |bytes: u64, connections: usize| match connections {
        0 => Value::Null,
        count => json!((bytes as f64 - memory.before as f64) / count as f64),
    };
    let connections = plan.connections() - plan.flags.publishers;
    json!({
        "before_bytes": memory.before, "with_idle_bytes": memory.with_idle, "with_all_bytes": memory.with_all, "end_bytes": memory.end,
        "bytes_per_idle_connection": each(memory.with_idle, plan.flags.idle),
        "bytes_per_connection": each(memory.with_all, connections),
    })
}

fn stage_json(plan: &Plan, stage: &Stage) -> Value {
    let counts = stage.measured.counts;
    let seconds: Vec<Value> = stage
        .measured
        .seconds
        .iter()
        .map(|second| {
            json!({"at_ns": second.at_ns, "delivered": second.delivered, "p50_ns": second.p50_ns, "p99_ns": second.p99_ns, "max_ns": second.max_ns})
        })
        .collect();
    json!({
        "rate_per_topic": stage.rate,
        "faults": stage.faults(plan),
        "offered_per_second": if plan.flags.publishers == 0 { Value::Null } else { json!(stage.rate * plan.flags.topics as f64 * plan.fan_out as f64) },
        "delivered_per_second": stage.measured.delivered_per_second(),
        "updates_sent": stage.updates_sent, "updates_unsent": stage.updates_unsent, "updates_refused": stage.updates_refused,
        "delivered": counts.delivered, "skipped": counts.skipped, "missing_last": counts.missing_last,
        "duplicates": counts.duplicates, "out_of_order": counts.out_of_order, "corrupt": counts.corrupt, "deltas": stage.deltas,
        "deliveries_acknowledged": stage.deliveries_acknowledged,
        "closed": stage.closed,
        "server_cores": stage.server_cores, "generator_cores": stage.generator_cores,
        "latency": histogram_json(&stage.measured.latency),
        "acknowledgement": stage.acknowledgement.as_ref().map(histogram_json),
        "generator_late": stage.late.as_ref().map(histogram_json),
        "seconds": seconds,
    })
}

fn histogram_json(histogram: &Histogram<u64>) -> Value {
    let named: serde_json::Map<String, Value> =
        QUANTILES.iter().map(|(name, quantile)| ((*name).to_owned(), json!(at(histogram, *quantile)))).collect();
    // Evenly on the logarithmic axis, as far as there are enough samples to say anything.
    let steps = (0..=100).map(|step| f64::from(step) / 20.0);
    let known = steps.take_while(|nines| 10f64.powf(*nines) <= histogram.len() as f64);
    let curve: Vec<Value> = known.map(|nines| json!([nines, at(histogram, 1.0 - 10f64.powf(-nines))])).collect();
    json!({"count": histogram.len(), "mean_ns": histogram.mean(), "quantiles_ns": named, "curve": curve})
}

fn at(histogram: &Histogram<u64>, quantile: f64) -> u64 {
    match quantile {
        0.0 => histogram.min(),
        1.0 => histogram.max(),
        _ => histogram.value_at_quantile(quantile),
    }
}

/// The result as a person at a terminal wants it.
pub fn to_text(plan: &Plan, outcome: &Outcome) -> String {
    let mut text = String::new();
    for stage in &outcome.stages {
        text.push_str(&stage_text(plan, stage));
    }
    if let Some(memory) = outcome.memory {
        let mib = |bytes: u64| bytes as f64 / (1 << 20) as f64;
        let figures = memory_json(plan, outcome);
        let [before, idle, all, end] = [memory.before, memory.with_idle, memory.with_all, memory.end].map(mib);
        text += &format!("server memory      {before:.1} MiB before, {idle:.1} with idle, {all:.1} with all, {end:.1} at the end\n");
        for (key, name) in [("bytes_per_idle_connection", "each idle"), ("bytes_per_connection", "each")] {
            if let Some(bytes) = figures[key].as_f64() {
                text += &format!("                   {bytes:.0} bytes for {name} connection\n");
            }
        }
    }
    if plan.flags.stalled > 0 {
        text += &format!("stalled            {} connections, {} closed by the server\n", plan.flags.stalled, outcome.stalled_closed);
    }
    if plan.flags.find_max {
        text += &match highest_rate_held(plan, outcome) {
            Some(rate) => format!("highest rate held  {rate:.1} updates/s to each topic\n"),
            None => "no rate held\n".to_owned(),
        };
    }
    text
}

fn stage_text(plan: &Plan, stage: &Stage) -> String {
    let counts = stage.measured.counts;
    let mut text = String::new();
    if plan.flags.publishers > 0 {
        let topics = plan.flags.topics;
        text += &format!(
            "updates            {} sent at {:.1}/s to each of {topics} topics, each to {} subscribers\n",
            stage.updates_sent, stage.rate, plan.fan_out
        );
    }
    text += &format!(
        "deliveries         {:.0}/s, {} in all, {} measured\n",
        stage.measured.delivered_per_second(),
        counts.delivered,
        stage.measured.latency.len()
    );
    text += &format!(
        "checks             {} skipped, {} last missing, {} twice, {} out of order, {} corrupt\n",
        counts.skipped, counts.missing_last, counts.duplicates, counts.out_of_order, counts.corrupt
    );
    if let Some(count) = stage.deliveries_acknowledged {
        text += &format!("acknowledged       {count} deliveries, by the subscribers\n");
    }
    text += &histogram_text("latency", &stage.measured.latency);
    text += &stage.acknowledgement.as_ref().map_or_else(String::new, |histogram| histogram_text("answered", histogram));
    text += &stage.late.as_ref().map_or_else(String::new, |histogram| histogram_text("generator late", histogram));
    text += &format!("generator          {:.2} cores\n", stage.generator_cores);
    if let Some(cores) = stage.server_cores {
        text += &format!("server             {cores:.2} cores\n");
    }
    for fault in stage.faults(plan) {
        text += &format!("FAULT              {fault}\n");
    }
    text
}

fn histogram_text(name: &str, histogram: &Histogram<u64>) -> String {
    let quantiles: Vec<String> =
        QUANTILES.iter().map(|(name, quantile)| format!("{name} {:.3}", at(histogram, *quantile) as f64 / 1e6)).collect();
    format!("{name:<19}{} ms\n", quantiles.join("  "))
}
