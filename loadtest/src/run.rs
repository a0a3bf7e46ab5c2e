//! A run from the first connection to the last: set up, stages, drain, tidy up.

use crate::clock::{MILLISECOND_NS, SECOND_NS, now_ns};
use crate::connection::Role;
use crate::engine::{Engine, Publishing};
use crate::failure::Failure;
use crate::host;
use crate::plan::Plan;
use crate::record::Measured;
use hdrhistogram::Histogram;
use std::collections::BTreeMap;

/// What `--find-max` takes for too slow where no bar is given.
const FIND_MAX_P99_NS: u64 = 100 * MILLISECOND_NS;
const FIND_MAX_STAGES: u32 = 60;
/// How long to wait for what another process published last.
const FOREIGN_DRAIN_NS: u64 = 200 * MILLISECOND_NS;
/// How long the server is left alone before its memory is read.
const REST_NS: u64 = 500 * MILLISECOND_NS;
/// The longest sleep of a turn, so that nothing is late by more.
const TURN_SLEEP_NS: u64 = 20 * MILLISECOND_NS;

/// All that a run found.
pub struct Outcome {
    pub stages: Vec<Stage>,
    pub memory: Option<Memory>,
    pub stalled_closed: u64,
    pub connect_ns: u64,
}

/// One rate, measured.
pub struct Stage {
    /// Updates a second to each topic.
    pub rate: f64,
    pub measured: Measured,
    /// How late the generator itself sent updates.
    pub late: Option<Histogram<u64>>,
    pub acknowledgement: Option<Histogram<u64>>,
    pub updates_sent: u64,
    pub updates_unsent: u64,
    pub updates_unanswered: u64,
    pub updates_refused: u64,
    pub updates_refused_first: Option<String>,
    pub deltas: u64,
    /// Where deliveries are acknowledged: how many the subscribers did.
    pub deliveries_acknowledged: Option<u64>,
    /// Connections that ended, by reason.
    pub closed: BTreeMap<String, u64>,
    /// Processor time over wall time of the stage; 1 is one core.
    pub server_cores: Option<f64>,
    pub generator_cores: f64,
}

/// The server's resident memory as connections come.
#[derive(Clone, Copy, Debug)]
pub struct Memory {
    pub before: u64,
    pub with_idle: u64,
    pub with_all: u64,
    pub end: u64,
}

impl Stage {
    /// What is wrong with this stage; empty if it is as it should be.
    pub fn faults(&self, plan: &Plan) -> Vec<String> {
        let counts = self.measured.counts;
        let skipped = if plan.flags.allow_conflation { 0 } else { counts.skipped };
        let numbers = [
            (skipped + counts.missing_last, "deliveries lost"),
            (counts.duplicates, "deliveries twice"),
            (counts.out_of_order, "deliveries out of order"),
            (counts.corrupt, "values that were not published"),
            (self.updates_unsent, "updates that the server did not take"),
            (self.updates_unanswered, "updates without an answer"),
            (self.updates_refused, "updates refused"),
        ];
        let mut faults: Vec<String> =
            numbers.iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}")).collect();
        faults.extend(self.updates_refused_first.iter().map(|text| format!("first refusal: {text}")));
        faults.extend(self.closed.iter().map(|(reason, count)| format!("{count} connections ended: {reason}")));
        let p99 = self.measured.latency.value_at_quantile(0.99);
        if let Some(max) = plan.p99_max_ns.filter(|max| p99 > *max) {
            faults.push(format!("p99 is {:.3} ms, above {:.3} ms", p99 as f64 / 1e6, max as f64 / 1e6));
        }
        if self.measured.latency.is_empty() && plan.fan_out > 0 {
            faults.push("nothing was received while measuring".to_owned());
        }
        faults
    }
}

/// Does the whole run. Progress goes to standard error.
pub fn run(plan: &mut Plan) -> Result<Outcome, Failure> {
    if let Some(core) = plan.flags.core
        && !host::pin(core)
    {
        return Err(Failure::Plan(format!("--core {core}: this thread cannot be pinned to that core")));
    }
    host::sharpen_timers();
    if plan.flags.find_max {
        plan.p99_max_ns.get_or_insert(FIND_MAX_P99_NS);
    }
    let server = plan.flags.server_pid;
    if let Some(pid) = server.filter(|pid| host::resident_bytes(*pid).is_none()) {
        return Err(Failure::Plan(format!("--server-pid {pid}: there is no such process")));
    }
    let mut engine = Engine::new(plan)?;
    let start_ns = now_ns();
    let memory = open_all(plan, &mut engine)?;
    let connect_ns = now_ns() - start_ns;
    tell(plan, format_args!("{} connections in {:.2} s", plan.connections(), connect_ns as f64 / 1e9));
    let stages = run_stages(plan, &mut engine)?;
    let stalled_closed = engine.count_stalled_closed();
    let memory = memory.map(|memory| Memory { end: resident(server), ..memory });
    if let Err(failure) = engine.remove_topics(plan) {
        tell(plan, format_args!("the topics were not removed: {failure}"));
    }
    engine.close_all(plan);
    Ok(Outcome { stages, memory, stalled_closed, connect_ns })
}

fn resident(pid: Option<u32>) -> u64 {
    pid.and_then(host::resident_bytes).unwrap_or(0)
}

/// The server's memory once it had a moment to finish what it was doing.
fn resident_at_rest(plan: &Plan, engine: &mut Engine) -> Result<u64, Failure> {
    if plan.flags.server_pid.is_some() {
        turn_until(plan, engine, now_ns() + REST_NS, None)?;
    }
    Ok(resident(plan.flags.server_pid))
}

fn open_all(plan: &Plan, engine: &mut Engine) -> Result<Option<Memory>, Failure> {
    let flags = &plan.flags;
    engine.open(plan, flags.publishers, |_| Role::Publisher)?;
    if flags.publishers > 0 {
        engine.create_topics(plan, (0..flags.topics).map(|topic| plan.topic_path(topic)))?;
    }
    let before = resident_at_rest(plan, engine)?;
    if flags.publishers > 0 {
        engine.create_topics(plan, plan.idle_paths())?;
    }
    engine.open(plan, flags.idle, Role::Idle)?;
    let with_idle = resident_at_rest(plan, engine)?;
    engine.open(plan, flags.stalled, |_| Role::Stalled)?;
    engine.open(plan, flags.subscribers, Role::Subscriber)?;
    let with_all = resident_at_rest(plan, engine)?;
    Ok(flags.server_pid.map(|_| Memory { before, with_idle, with_all, end: with_all }))
}

fn run_stages(plan: &Plan, engine: &mut Engine) -> Result<Vec<Stage>, Failure> {
    let mut rate = plan.flags.rate;
    let mut base = 0;
    let mut stages = Vec::new();
    loop {
        let stage = run_stage(plan, engine, rate, &mut base)?;
        let faults = stage.faults(plan);
        stages.push(stage);
        if !plan.flags.find_max {
            return Ok(stages);
        }
        tell(plan, format_args!("rate {rate:.1}/s: {}", if faults.is_empty() { "held".to_owned() } else { faults.join(", ") }));
        if !faults.is_empty() || stages.len() as u32 >= FIND_MAX_STAGES {
            return Ok(stages);
        }
        rate *= plan.flags.step;
    }
}

fn run_stage(plan: &Plan, engine: &mut Engine, rate: f64, base: &mut u64) -> Result<Stage, Failure> {
    // A moment for the server to come to rest after the connections.
    let start_ns = now_ns() + 100 * MILLISECOND_NS;
    let measure_ns = start_ns + plan.warmup_ns;
    engine.record().begin(measure_ns, plan.duration_ns);
    if plan.flags.publishers > 0 {
        let publishing = Publishing::new(plan, rate, start_ns, *base);
        engine.shared.begin(&publishing);
        engine.publishing = Some(publishing);
    }
    let pid = std::process::id();
    let cpu = |pid: u32| host::cpu_ns(pid).unwrap_or(0);
    turn_until(plan, engine, measure_ns, None)?;
    let (server_before, own_before, wall_before) = (plan.flags.server_pid.map(cpu), cpu(pid), now_ns());
    turn_until(plan, engine, measure_ns + plan.duration_ns, Some(measure_ns))?;
    let wall = (now_ns() - wall_before) as f64;
    let server_cores = plan.flags.server_pid.zip(server_before).map(|(pid, before)| (cpu(pid) - before) as f64 / wall);
    let generator_cores = (cpu(pid) - own_before) as f64 / wall;
    drain(plan, engine)?;
    Ok(end_stage(plan, engine, rate, base, server_cores, generator_cores))
}

/// Turns until `until_ns`; from `measure_ns` on each second is rolled and told.
fn turn_until(plan: &Plan, engine: &mut Engine, until_ns: u64, measure_ns: Option<u64>) -> Result<(), Failure> {
    let mut roll_ns = measure_ns.map_or(u64::MAX, |measure| measure + SECOND_NS);
    let mut told = 0;
    loop {
        let now = now_ns();
        if now >= roll_ns {
            roll(plan, engine, now, &mut told);
            roll_ns += SECOND_NS;
        }
        if now >= until_ns {
            return Ok(());
        }
        engine.turn(plan, (until_ns.min(roll_ns) - now).min(TURN_SLEEP_NS))?;
    }
}

fn roll(plan: &Plan, engine: &mut Engine, now: u64, told: &mut u64) {
    let second = engine.record().roll(now);
    *told += 1;
    let seconds = plan.duration_ns / SECOND_NS;
    // A line a second for a short run, a line every ten for a long one.
    if seconds > 60 && !told.is_multiple_of(10) {
        return;
    }
    let counts = engine.record().counts();
    tell(
        plan,
        format_args!(
            "{told:>4}/{seconds} s  {:>9} deliveries  p50 {:.3} ms  p99 {:.3} ms  max {:.3} ms  skipped {}",
            second.delivered,
            second.p50_ns as f64 / 1e6,
            second.p99_ns as f64 / 1e6,
            second.max_ns as f64 / 1e6,
            counts.skipped
        ),
    );
}

/// Waits until everything that was published has arrived, at most the plan's drain time.
fn drain(plan: &Plan, engine: &mut Engine) -> Result<(), Failure> {
    if plan.flags.publishers == 0 {
        return turn_until(plan, engine, now_ns() + FOREIGN_DRAIN_NS.min(plan.drain_ns), None);
    }
    let until_ns = now_ns() + plan.drain_ns;
    let mut roll_ns = now_ns() + SECOND_NS;
    let mut told = plan.duration_ns / SECOND_NS;
    while now_ns() < until_ns {
        let Some(publishing) = &engine.publishing else { return Ok(()) };
        let (sent, total) = (publishing.sent(), publishing.total());
        let answered = !plan.acknowledged || engine.shared.acknowledged + engine.shared.updates_refused >= sent;
        if sent == total && answered && engine.record().advanced() >= sent * plan.fan_out as u64 {
            break;
        }
        if now_ns() >= roll_ns {
            roll(plan, engine, now_ns(), &mut told);
            roll_ns += SECOND_NS;
        }
        engine.turn(plan, TURN_SLEEP_NS)?;
    }
    // What comes although everything is there comes twice: a moment to see it.
    turn_until(plan, engine, now_ns() + TURN_SLEEP_NS, None)
}

fn end_stage(plan: &Plan, engine: &mut Engine, rate: f64, base: &mut u64, server_cores: Option<f64>, generator_cores: f64) -> Stage {
    let publishing = engine.publishing.take();
    let measured = engine.record().end(now_ns(), |topic| publishing.as_ref().map(|publishing| publishing.last_sequence(topic)));
    let (sent, total) = publishing.as_ref().map_or((0, 0), |publishing| (publishing.sent(), publishing.total()));
    // Topics that missed their last update count on all the same: the next stage starts level.
    *base += total.div_ceil(plan.flags.topics as u64);
    let shared = &mut engine.shared;
    let acknowledged = plan.acknowledged;
    Stage {
        rate,
        measured,
        late: publishing.map(|publishing| publishing.late),
        acknowledgement: acknowledged.then(|| shared.acknowledgement.clone()),
        updates_sent: sent,
        updates_unsent: total - sent,
        updates_unanswered: if acknowledged { sent.saturating_sub(shared.acknowledged + shared.updates_refused) } else { 0 },
        updates_refused: std::mem::take(&mut shared.updates_refused),
        updates_refused_first: shared.updates_refused_first.take(),
        deltas: std::mem::take(&mut shared.deltas),
        deliveries_acknowledged: plan.dialect.acknowledges_deliveries().then(|| std::mem::take(&mut shared.deliveries_acknowledged)),
        closed: std::mem::take(&mut engine.closed),
        server_cores,
        generator_cores,
    }
}

fn tell(plan: &Plan, text: std::fmt::Arguments<'_>) {
    if !plan.flags.quiet {
        eprintln!("{text}");
    }
}
