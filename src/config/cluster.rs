//! How a server speaks with the others of its cluster. Which cluster that is stands in its data directory.

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cluster {
    /// Where other servers are heard; `None`: the address that they reach this one by.
    pub listen: Option<Box<str>>,
    pub heartbeat_ms: u64,
    pub election_min_ms: u64,
    pub election_max_ms: u64,
    pub clock_skew_max_ms: u64,
    pub stale_after_ms: u64,
}

impl Default for Cluster {
    fn default() -> Self {
        Self {
            listen: None,
            heartbeat_ms: 100,
            election_min_ms: 300,
            election_max_ms: 600,
            clock_skew_max_ms: 60_000,
            stale_after_ms: 3000,
        }
    }
}
