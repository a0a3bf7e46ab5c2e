//! The deterministic simulator of the core: shards, mail, sockets and clients in one thread, driven by one seed.
//!
//! It is another runtime: it feeds bytes, mail and time into shards in an order that chance chooses, and hands their bytes to simulated clients that
//! check all they hear. `world` is the runtime, `client` a client, which asks by `ask` and hears by `heard`, `model` what must be true, `topics` and `workload` what happens, `disk` what is stored, `derivation` what views make;
//! `resume_client`, `resume_link` and `resume_topics` are clients whose sessions outlive their connections, `talk` what these say to each other; `nodes` are servers that hold topics as one. The other files are the
//! invariants, each with the conditions that strain it most.
//!
//! `TIDEWIRE_SIM_SEEDS` is how many seeds each test runs, `TIDEWIRE_SIM_SEED` the first: a failure names its seed, and that with one seed runs it again.

mod ask;
mod client;
mod derivation;
mod disk;
mod heard;
mod model;
mod mqtt_client;
mod mqtt_link;
mod mqtt_model;
mod mqtt_packet;
mod mqtt_workload;
mod nodes;
mod random;
mod resume_client;
mod resume_link;
mod resume_topics;
mod talk;
mod topics;
mod workload;
mod world;

mod answers;
mod conflation;
mod constraints;
mod convergence;
mod crossing;
mod deltas;
mod durable;
mod ending;
mod listeners;
mod locks;
mod looking;
mod messaging;
mod mqtt_bounds;
mod mqtt_delivery;
mod mqtt_order;
mod mqtt_pacing;
mod mqtt_retained;
mod mqtt_share;
mod order;
mod pacing;
mod pages;
mod queues;
mod removal;
mod replay;
mod replication;
mod resume;
mod security;
mod series;
mod session_events;
mod session_trees;
mod storage;
mod streams;
mod sweeps;
mod views;

const SEEDS: u64 = 18;

/// Runs `test` for each seed.
fn for_each_seed(test: impl Fn(u64)) {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let first = number("TIDEWIRE_SIM_SEED").unwrap_or(1);
    for seed in first..first + number("TIDEWIRE_SIM_SEEDS").unwrap_or(SEEDS) {
        let _named = Named(seed);
        test(seed);
    }
}

/// Names the seed of a failure.
struct Named(u64);

impl Drop for Named {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("seed {} failed; run it again with TIDEWIRE_SIM_SEED={} TIDEWIRE_SIM_SEEDS=1", self.0, self.0);
        }
    }
}
