//! The command line as written. `plan` makes it into a plan or says what is wrong.

use crate::login::LoginFlags;
use clap::{Parser, ValueEnum};
use std::path::PathBuf;

/// Loads a Tidewire server, any MQTT broker or Centrifugo, and reports latency as percentiles. Open loop: an update's latency
/// counts from when it was due, so a stall of the server or of the generator shows.
///
/// Exit code: 0 nothing lost and all bars held, 1 something lost or a bar missed, 2 the flags are
/// wrong, 3 no connection, 4 the server refused a request.
#[derive(Parser, Clone, Debug)]
#[command(name = "tidewire-loadtest", version)]
pub struct Flags {
    /// The server: ws://host:port, with a path where it is not the protocol's own, or mqtt://host:port; wss:// and mqtts:// for TLS. Several times for the servers of a
    /// cluster: connections are spread over them.
    #[arg(long, default_value = "ws://127.0.0.1:8080")]
    pub url: Vec<String>,
    /// Where publishers connect, if elsewhere than the others. Several times as --url.
    #[arg(long)]
    pub publish_url: Vec<String>,
    /// Who signs the server's certificate (PEM); TLS needs it.
    #[arg(long)]
    pub ca: Option<PathBuf>,
    /// A certificate to show to the server (PEM), and its key.
    #[arg(long, requires = "client_key")]
    pub client_cert: Option<PathBuf>,
    #[arg(long, requires = "client_cert")]
    pub client_key: Option<PathBuf>,
    #[command(flatten)]
    pub login: LoginFlags,
    /// Which protocol to speak; mqtt for mqtt:// and native for ws:// where not given.
    #[arg(long, value_enum)]
    pub dialect: Option<DialectFlag>,
    /// The version of MQTT; 3.1.1 where not given.
    #[arg(long, value_enum)]
    pub mqtt_version: Option<MqttVersionFlag>,
    /// MQTT's quality of service, of subscriptions and of updates; above 0 every update and every delivery is acknowledged.
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u8).range(0..=2))]
    pub qos: u8,
    /// Publish MQTT's updates as retained ones.
    #[arg(long)]
    pub retain: bool,
    /// Topics that are updated.
    #[arg(long, default_value_t = 1)]
    pub topics: usize,
    /// Connections that receive updates and are measured.
    #[arg(long, default_value_t = 1000)]
    pub subscribers: usize,
    /// Subscribers of each topic; all of them where not given.
    #[arg(long)]
    pub fan_out: Option<usize>,
    /// Connections that publish; 0: another process publishes, only receive.
    #[arg(long, default_value_t = 1)]
    pub publishers: usize,
    /// Updates a second to each topic.
    #[arg(long, default_value_t = 200.0)]
    pub rate: f64,
    /// Bytes of each value.
    #[arg(long, default_value_t = 125)]
    pub payload: usize,
    /// Type of the values: binary, json or string; binary where not given, json where the dialect knows no other.
    #[arg(long = "type")]
    pub value_type: Option<String>,
    /// How long to measure: 500ms, 10s, 5m.
    #[arg(long, default_value = "10s")]
    pub duration: String,
    /// How long to publish before measuring.
    #[arg(long, default_value = "2s")]
    pub warmup: String,
    /// How long to wait at the end for what is still on its way.
    #[arg(long, default_value = "5s")]
    pub drain: String,
    /// Connections opened a second: 2000/s.
    #[arg(long, default_value = "2000/s")]
    pub ramp: String,
    /// Connections that subscribe to a topic that never changes.
    #[arg(long, default_value_t = 0)]
    pub idle: usize,
    /// Gives each idle connection a topic of its own, which has a value.
    #[arg(long)]
    pub idle_topics: bool,
    /// Connections that subscribe to everything and then never read.
    #[arg(long, default_value_t = 0)]
    pub stalled: usize,
    /// Local addresses 127.0.0.1, 127.0.0.2, … that connections are spread over.
    #[arg(long, default_value_t = 1)]
    pub sources: u8,
    /// The core that the generator pins itself to.
    #[arg(long)]
    pub core: Option<usize>,
    /// Never sleep: takes the generator's own wake-up out of what is measured, for a whole core.
    #[arg(long)]
    pub busy_poll: bool,
    /// Ask the server to answer every update, and measure that too.
    #[arg(long)]
    pub acknowledged: bool,
    /// Declare that deltas are understood, and apply them.
    #[arg(long)]
    pub deltas: bool,
    /// Check every byte of every value, not only its length and stamp.
    #[arg(long)]
    pub verify: bool,
    /// Take skipped updates for conflation; only a missing last value counts as lost.
    #[arg(long)]
    pub allow_conflation: bool,
    /// Topics are made below this path; load/ and the process id where not given.
    #[arg(long)]
    pub root: Option<String>,
    /// A bar: a 99th percentile above this fails the run, or ends --find-max.
    #[arg(long)]
    pub p99_max: Option<String>,
    /// Raise the rate until something is lost or --p99-max is exceeded.
    #[arg(long)]
    pub find_max: bool,
    /// The factor between two rates of --find-max.
    #[arg(long, default_value_t = 1.25)]
    pub step: f64,
    /// The server's process on this machine, to report its memory and processor time.
    #[arg(long)]
    pub server_pid: Option<u32>,
    /// Write the result as JSON.
    #[arg(long)]
    pub json: Option<PathBuf>,
    /// Write the result as one HTML page.
    #[arg(long)]
    pub html: Option<PathBuf>,
    /// What the report calls this run.
    #[arg(long, default_value = "")]
    pub label: String,
    /// The server's commit, for the report.
    #[arg(long)]
    pub commit: Option<String>,
    /// No progress lines.
    #[arg(long)]
    pub quiet: bool,
}

/// A protocol's name on the command line.
#[derive(ValueEnum, Clone, Copy, Debug)]
pub enum DialectFlag {
    /// Tidewire's protocol, binary form.
    Native,
    /// Tidewire's protocol, text form.
    Json,
    Mqtt,
    /// Centrifugo's protocol in JSON.
    Centrifugo,
}

/// A version of MQTT on the command line.
#[derive(ValueEnum, Clone, Copy, Debug)]
pub enum MqttVersionFlag {
    #[value(name = "3.1.1")]
    V3_1_1,
    #[value(name = "5")]
    V5,
}
