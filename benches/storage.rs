//! What keeping topics costs: records a second through the storage thread, and how long a restart takes.
//!
//! `cargo bench --bench storage [-- --data DIR]` writes into a new directory under DIR (the system's temporary one unless
//! named) and removes it. The producer, the storage thread, its folding thread and fjall's all share one core. Each shape of
//! record is written for some seconds over 10,000 topics, as a shard does: messages of up to 64 changes, at most 20,000
//! unacknowledged. `--test` does everything once and small.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tidewire::surface::base::{ShardIndex, Time, TopicId};
use tidewire::surface::journal::{Append, Change};
use tidewire::surface::storage::{Ack, Answer, Options, Store, start};
use tidewire::surface::topic::path::TopicPath;
use tidewire::surface::topic::publication::Publication;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const MESSAGE_CHANGES: usize = 64;
const UNACKNOWLEDGED_MAX: u64 = 20_000;

fn argument(name: &str) -> Option<String> {
    std::env::args().skip_while(|argument| argument != name).nth(1)
}

fn main() {
    let test = std::env::args().any(|argument| argument == "--test");
    let parent = argument("--data").map_or_else(std::env::temp_dir, PathBuf::from);
    let directory = parent.join(format!("tidewire-bench-{}", std::process::id()));
    let core = core_affinity::get_core_ids().and_then(|cores| cores.last().copied()).map(|core| core.id);
    if let Some(id) = core {
        core_affinity::set_for_current(core_affinity::CoreId { id });
    }
    let length = if test { Duration::from_millis(50) } else { Duration::from_secs(5) };
    println!(
        "{:<8} {:>8} {:>14} {:>10} {:>14} {:>14} {:>12}",
        "ack", "bytes", "records/s", "MB/s", "write p99 us", "sync p99 us", "checkpoints"
    );
    for ack in [Ack::Memory, Ack::Written, Ack::Durable] {
        for bytes in [125, 1000] {
            write(&directory, core, ack, bytes, length);
            let _ = std::fs::remove_dir_all(&directory);
        }
    }
    restart(&directory, core, if test { 1000 } else { 100_000 });
    let _ = std::fs::remove_dir_all(&directory);
}

fn added(topic: u64) -> Change {
    let path = TopicPath::parse(&format!("bench/{}/{topic}", topic % 100), 100).expect("a path");
    Change::Added { topic: TopicId(topic), path, kind: 5, properties: Arc::new([]) }
}

fn write(directory: &Path, core: Option<usize>, ack: Ack, bytes: usize, length: Duration) {
    let options = Options { ack, ..Options::default() };
    let (store, _) = Store::open(directory, options).expect("a new store");
    let acknowledged = Arc::new(AtomicU64::new(0));
    let heard = acknowledged.clone();
    let notify = move |_, answer| match answer {
        Answer::Acknowledged { through } => heard.store(through, Ordering::Release),
        other => panic!("{other:?}"),
    };
    let handle = start(store, options, core, notify).expect("it starts");
    let sender = handle.sender(ShardIndex(0));
    let value = vec![b'x'; bytes];
    let (mut ticket, topics) = (0_u64, 10_000_u64);
    let began = Instant::now();
    let mut timed = None;
    while timed.is_none_or(|(from, _): (Instant, u64)| from.elapsed() < length) {
        if ticket >= topics && timed.is_none() {
            timed = Some((Instant::now(), ticket));
        }
        let mut changes = Vec::with_capacity(MESSAGE_CHANGES);
        for _ in 0..MESSAGE_CHANGES {
            let topic = TopicId(ticket % topics + 1);
            let version = ticket / topics;
            let change = if version == 0 {
                added(topic.0)
            } else {
                Change::Value { publication: Arc::new(Publication::new(topic, version, Time(0), &value)) }
            };
            ticket += 1;
            changes.push(Append { ticket, change });
        }
        let mut refused = sender.try_send(changes).err();
        while refused.is_some() || ticket - acknowledged.load(Ordering::Acquire) > UNACKNOWLEDGED_MAX {
            std::thread::yield_now();
            refused = refused.and_then(|changes| sender.try_send(changes).err());
        }
    }
    while acknowledged.load(Ordering::Acquire) < ticket {
        std::thread::yield_now();
    }
    let (from, before) = timed.unwrap_or((began, 0));
    let per_second = (ticket - before) as f64 / from.elapsed().as_secs_f64();
    let counters = handle.counters();
    handle.stop();
    println!(
        "{:<8} {bytes:>8} {per_second:>14.0} {:>10.1} {:>14} {:>14} {:>12}",
        format!("{ack:?}").to_lowercase(),
        counters.bytes.load(Ordering::Relaxed) as f64 / 1e6 / began.elapsed().as_secs_f64(),
        counters.write_ns.copied().total().value_at_quantile(0.99) / 1000,
        counters.sync_ns.copied().total().value_at_quantile(0.99) / 1000,
        counters.checkpoints.load(Ordering::Relaxed),
    );
}

/// Fills a store and opens it twice: once with all of it in the journal or being folded, once after all is folded.
fn restart(directory: &Path, core: Option<usize>, topics: u64) {
    let options = Options::default();
    let (store, _) = Store::open(directory, options).expect("a new store");
    let acknowledged = Arc::new(AtomicU64::new(0));
    let heard = acknowledged.clone();
    let notify = move |_, answer| {
        if let Answer::Acknowledged { through } = answer {
            heard.store(through, Ordering::Release);
        }
    };
    let handle = start(store, options, core, notify).expect("it starts");
    let sender = handle.sender(ShardIndex(0));
    let value = vec![b'y'; 1000];
    for topic in 1..=topics {
        let publication = Arc::new(Publication::new(TopicId(topic), 1, Time(0), &value));
        let mut message = vec![
            Append { ticket: topic * 2 - 1, change: added(topic) },
            Append { ticket: topic * 2, change: Change::Value { publication } },
        ];
        while let Err(refused) = sender.try_send(message) {
            message = refused;
            std::thread::yield_now();
        }
    }
    while acknowledged.load(Ordering::Acquire) < topics * 2 {
        std::thread::yield_now();
    }
    handle.stop();
    for what in ["as stopped", "after folding"] {
        let start_at = Instant::now();
        let (store, recovered) = Store::open(directory, options).expect("it opens");
        let took = start_at.elapsed();
        assert_eq!(recovered.state.topics.len() as u64, topics);
        println!("restart, {topics} topics of 1000 bytes, {what}: {took:?}, {} records replayed", recovered.records);
        // Long enough for what an earlier run left to be folded.
        let handle = start(store, options, core, |_, _| ()).expect("it starts");
        while handle.counters().checkpoints.load(Ordering::Relaxed) == 0 && recovered.records > 0 {
            std::thread::sleep(Duration::from_millis(10));
        }
        std::thread::sleep(Duration::from_millis(200));
        handle.stop();
    }
}
