//! Requests between clients: how long an answer takes beside an update of a topic, and how many are answered in a second.
//!
//! First one at a time: an update until its subscriber has it, and a request until its asker has the answer, in turn, by the same connections. The client looks at its
//! sockets without end, so no wake-up of its own is in the times. Then as many as the connections carry, with several under way in each.

use clap::Parser;
use hdrhistogram::Histogram;
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use tidewire::surface::value::ValueType;
use tidewire::surface::wire::native::{self, Ask, Heard, Request, Update, Verb};
use tidewire_loadtest::host;
use tidewire_loadtest::link::{Failure, Link, PATIENCE};

/// Asks a handler of requests, one at a time and many.
#[derive(Parser)]
struct Flags {
    #[arg(long, default_value = "127.0.0.1:8080")]
    server: SocketAddr,
    /// Pairs of an asker and a handler, for the second part.
    #[arg(long, default_value_t = 8)]
    pairs: usize,
    /// Requests of an asker under way.
    #[arg(long, default_value_t = 100)]
    window: usize,
    /// Bytes of a value, and of an answer.
    #[arg(long, default_value_t = 125)]
    payload: usize,
    /// Seconds of each part.
    #[arg(long, default_value_t = 5)]
    duration: u64,
    #[arg(long)]
    core: Option<usize>,
}

const BINARY: u8 = ValueType::Binary as u8;

/// Answers the requests that have come.
fn respond(handler: &mut Link) -> Result<(), Failure> {
    handler.poll(|heard, frames| {
        if let Heard::Requested { request, value, .. } = heard {
            let value = value.unwrap_or_default().into();
            native::put_request(frames, &Request { id: 0, ask: Ask::Respond { request, kind: BINARY, value } });
        }
    })?;
    handler.flush()
}

fn main() -> Result<(), Failure> {
    let flags = Flags::parse();
    if let Some(core) = flags.core {
        assert!(host::pin(core), "this thread cannot be pinned to core {core}");
    }
    one_at_a_time(&flags)?;
    many(&flags)
}

fn request<'a>(path: &'a str, value: &'a [u8]) -> Ask<'a> {
    Ask::Request { path: path.into(), timeout_ms: 10_000, kind: BINARY, value: value.into() }
}

fn one_at_a_time(flags: &Flags) -> Result<(), Failure> {
    let root = format!("load/requests/{}", std::process::id());
    let (topic, asked, value) = (format!("{root}/topic"), format!("{root}/asked"), vec![7; flags.payload]);
    let (mut asker, mut handler) = (Link::connect(flags.server, "requests")?, Link::connect(flags.server, "requests")?);
    let update = |verb| Ask::Update { path: (&*topic).into(), update: Update::new(verb, BINARY, &value) };
    asker.ask(update(Verb::AddAndSet))?;
    handler.ask(Ask::Subscribe { selector: (&*topic).into(), scope: "".into() })?;
    handler.ask(Ask::HandleRequests { handler: 1, path: (&*asked).into(), session_properties: Vec::new() })?;
    let times = || Histogram::<u64>::new_with_bounds(1, 60_000_000_000, 3);
    let (mut update_ns, mut request_ns) = (times()?, times()?);
    let end = Instant::now() + Duration::from_secs(flags.duration);
    while Instant::now() < end {
        let start = Instant::now();
        asker.say(&Request { id: 0, ask: update(Verb::Set) });
        asker.flush()?;
        handler.wait(|heard| matches!(heard, Heard::Value { .. }))?;
        update_ns.saturating_record(start.elapsed().as_nanos() as u64);
        let start = Instant::now();
        asker.say(&Request { id: 3, ask: request(&asked, &value) });
        asker.flush()?;
        let mut is_answered = false;
        while !is_answered {
            if start.elapsed() > PATIENCE {
                return Err(format!("no answer to a request within {} s", PATIENCE.as_secs()).into());
            }
            respond(&mut handler)?;
            asker.poll(|heard, _| is_answered |= matches!(heard, Heard::Ok { id: 3, .. }))?;
        }
        request_ns.saturating_record(start.elapsed().as_nanos() as u64);
    }
    let us = |histogram: &Histogram<u64>, quantile| histogram.value_at_quantile(quantile) as f64 / 1000.0;
    println!(
        "one at a time: update p50 {:.1} p99 {:.1} µs, request p50 {:.1} p99 {:.1} µs, ratio of p50 {:.2}",
        us(&update_ns, 0.5),
        us(&update_ns, 0.99),
        us(&request_ns, 0.5),
        us(&request_ns, 0.99),
        us(&request_ns, 0.5) / us(&update_ns, 0.5)
    );
    Ok(())
}

fn many(flags: &Flags) -> Result<(), Failure> {
    let (root, value) = (format!("load/requests/{}", std::process::id()), vec![7; flags.payload]);
    let mut pairs = Vec::new();
    for number in 0..flags.pairs {
        let (asker, mut handler) = (Link::connect(flags.server, "requests")?, Link::connect(flags.server, "requests")?);
        let path = format!("{root}/many/{number}");
        handler.ask(Ask::HandleRequests { handler: 1, path: (&*path).into(), session_properties: Vec::new() })?;
        pairs.push((asker, handler, path, 0, 9));
    }
    let (start, mut answered) = (Instant::now(), 0u64);
    while start.elapsed() < Duration::from_secs(flags.duration) {
        for (asker, handler, path, under_way, last_id) in &mut pairs {
            let mut came = 0;
            asker.poll(|heard, _| came += usize::from(matches!(heard, Heard::Ok { .. })))?;
            *under_way -= came;
            answered += came as u64;
            for _ in *under_way..flags.window {
                *last_id += 1;
                asker.say(&Request { id: *last_id, ask: request(path, &value) });
            }
            *under_way = flags.window;
            asker.flush()?;
            respond(handler)?;
        }
    }
    println!("{} pairs, {} under way in each: {:.0} answers/s", flags.pairs, flags.window, answered as f64 / start.elapsed().as_secs_f64());
    Ok(())
}
