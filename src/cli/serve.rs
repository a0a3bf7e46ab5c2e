//! `tidewire serve` and `tidewire config`: from flags to a running server.

use super::doctor::{self, Host};
use crate::admin::Pages;
use crate::authentication::administrator;
use crate::config::{self, Config, LogFormat, LogLevel, Overrides, Protocol};
use crate::demo::page;
use crate::server::{self, Server};
use crate::storage::Ack;
use clap::{Args, Subcommand};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use tracing_subscriber::Layer;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

#[derive(Args, Clone, Default)]
pub struct Serve {
    /// The configuration file (TOML); see `tidewire config default`
    #[arg(long)]
    pub config: Option<PathBuf>,
    /// Where to listen, ADDR:PORT
    #[arg(long)]
    pub listen: Option<String>,
    /// Where to listen for MQTT, ADDR:PORT, or off
    #[arg(long, value_name = "ADDR:PORT|off")]
    pub mqtt: Option<String>,
    /// How many shards, one a core; 0 for one on each usable core
    #[arg(long)]
    pub shards: Option<String>,
    /// The cores to use, such as 0,1
    #[arg(long)]
    pub cores: Option<String>,
    /// Ask nobody who clients are: each may do everything, on this host only
    #[arg(long)]
    pub dev: bool,
    /// The directory that topics are kept in [default: $STATE_DIRECTORY, else ./tidewire-data]
    #[arg(long)]
    pub data: Option<String>,
    /// Keep nothing: topics end with the server
    #[arg(long)]
    pub ephemeral: bool,
}

#[derive(Subcommand)]
pub enum ConfigCommand {
    /// Print the commented reference configuration
    Default,
    /// Check a configuration file
    Check { file: PathBuf },
}

/// The exit code where the host or the operator has to change something.
const EXIT_HOST: u8 = 2;

impl Serve {
    /// The configuration in force, or the exit code after saying what is wrong.
    pub fn load(&self) -> Result<Config, ExitCode> {
        let overrides = Overrides {
            listen: self.listen.clone(),
            mqtt: self.mqtt.clone(),
            shards: self.shards.clone(),
            cores: self.cores.clone(),
            dev: self.dev,
            data: self.data.clone(),
            ephemeral: self.ephemeral,
        };
        config::load(self.config.as_deref(), config::process_environment(), overrides).map_err(|error| {
            eprintln!("error: {error}");
            ExitCode::from(config::EXIT_CODE)
        })
    }
}

pub fn serve(arguments: &Serve) -> ExitCode {
    match arguments.load().and_then(|config| start(&config)) {
        Ok(server) => run(server),
        Err(code) => code,
    }
}

/// Starts the server and says in a few lines what it does, or why it cannot.
pub fn start(config: &Config) -> Result<Server, ExitCode> {
    start_logging(config);
    let host = Host::read(Path::new("/"), doctor::Ring::probe());
    let shards = config.placement(&config::usable_cores()).len();
    let missing = doctor::missing_for_start(&host, shards);
    if !missing.is_empty() {
        for finding in missing {
            eprintln!("error: {finding}");
        }
        return Err(ExitCode::from(EXIT_HOST));
    }
    let server = server::start(config, pages()).map_err(|error| {
        eprintln!("error: {error}");
        ExitCode::from(EXIT_HOST)
    })?;
    greet(config, &server, &host);
    Ok(server)
}

pub fn run(server: Server) -> ExitCode {
    match server.run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// The live page and the SDK that it imports.
fn pages() -> Pages {
    let mut pages = Pages::default();
    for file in page::FILES {
        pages.add(file.path, file.content_type, file.content);
    }
    for (path, content) in SDK {
        pages.add(path, "text/javascript; charset=utf-8", content);
    }
    pages
}

/// The JavaScript SDK's modules.
const SDK: &[(&str, &[u8])] = &[
    ("/sdk/bytes.js", include_bytes!("../../sdk/javascript/bytes.js")),
    ("/sdk/clients.js", include_bytes!("../../sdk/javascript/clients.js")),
    ("/sdk/connection.js", include_bytes!("../../sdk/javascript/connection.js")),
    ("/sdk/constraint.js", include_bytes!("../../sdk/javascript/constraint.js")),
    ("/sdk/credentials.js", include_bytes!("../../sdk/javascript/credentials.js")),
    ("/sdk/decode.js", include_bytes!("../../sdk/javascript/decode.js")),
    ("/sdk/delta.js", include_bytes!("../../sdk/javascript/delta.js")),
    ("/sdk/encode.js", include_bytes!("../../sdk/javascript/encode.js")),
    ("/sdk/errors.js", include_bytes!("../../sdk/javascript/errors.js")),
    ("/sdk/fetch.js", include_bytes!("../../sdk/javascript/fetch.js")),
    ("/sdk/inflate.js", include_bytes!("../../sdk/javascript/inflate.js")),
    ("/sdk/listeners.js", include_bytes!("../../sdk/javascript/listeners.js")),
    ("/sdk/locks.js", include_bytes!("../../sdk/javascript/locks.js")),
    ("/sdk/messaging.js", include_bytes!("../../sdk/javascript/messaging.js")),
    ("/sdk/missed.js", include_bytes!("../../sdk/javascript/missed.js")),
    ("/sdk/options.js", include_bytes!("../../sdk/javascript/options.js")),
    ("/sdk/pattern.js", include_bytes!("../../sdk/javascript/pattern.js")),
    ("/sdk/presence.js", include_bytes!("../../sdk/javascript/presence.js")),
    ("/sdk/requests.js", include_bytes!("../../sdk/javascript/requests.js")),
    ("/sdk/resumption.js", include_bytes!("../../sdk/javascript/resumption.js")),
    ("/sdk/security.js", include_bytes!("../../sdk/javascript/security.js")),
    ("/sdk/selections.js", include_bytes!("../../sdk/javascript/selections.js")),
    ("/sdk/selector.js", include_bytes!("../../sdk/javascript/selector.js")),
    ("/sdk/series.js", include_bytes!("../../sdk/javascript/series.js")),
    ("/sdk/session-trees.js", include_bytes!("../../sdk/javascript/session-trees.js")),
    ("/sdk/session.js", include_bytes!("../../sdk/javascript/session.js")),
    ("/sdk/stream.js", include_bytes!("../../sdk/javascript/stream.js")),
    ("/sdk/subscriptions.js", include_bytes!("../../sdk/javascript/subscriptions.js")),
    ("/sdk/tidewire.js", include_bytes!("../../sdk/javascript/tidewire.js")),
    ("/sdk/topics.js", include_bytes!("../../sdk/javascript/topics.js")),
    ("/sdk/types.js", include_bytes!("../../sdk/javascript/types.js")),
    ("/sdk/updates.js", include_bytes!("../../sdk/javascript/updates.js")),
    ("/sdk/views.js", include_bytes!("../../sdk/javascript/views.js")),
    ("/sdk/websocket.js", include_bytes!("../../sdk/javascript/websocket.js")),
];

fn greet(config: &Config, server: &Server, host: &Host) {
    let cores: Vec<String> = server.cores.iter().map(usize::to_string).collect();
    let limits = &config.limits;
    greet_listeners(config, server);
    println!("  shards   {} on core {}", cores.len(), cores.join(", "));
    println!(
        "  limits   {} connections, {} topics, messages of {} bytes, {} bytes queued a session",
        limits.connections_max, limits.topics_max, limits.message_bytes_max, limits.queue.bytes_max
    );
    match &server.restored {
        Some(found) => {
            let ack = Ack::NAMES[config.storage.options.ack as usize];
            println!("  storage  {} ({found}), acknowledged when {ack}", config.storage.directory.display());
        }
        None => println!("  storage  none: topics end with the server"),
    }
    println!("  access   {}", config.exposure());
    if let Some(file) = server.new_administrator() {
        println!("  new      principal administrator, whose password stands in {}: the command line finds it by itself", file.display());
        greet_administrator(file);
    }
    println!("  host     {}", missing(config, server, host));
}

/// The password is told once, to who sits there: what goes elsewhere is kept by others.
fn greet_administrator(file: &Path) {
    let known =
        file.parent().map(administrator::read).and_then(Result::ok).filter(|_| std::io::IsTerminal::is_terminal(&std::io::stdout()));
    if let Some(administrator) = known
        && let Ok(password) = std::str::from_utf8(administrator.password.bytes())
    {
        println!("  password {password} (told once)");
    }
}

/// The first line names the first listener; those of tables have a line each.
fn greet_listeners(config: &Config, server: &Server) {
    let of = |protocol| server.listeners.iter().find(move |listener| listener.protocol == protocol);
    let first = server.listeners.first().expect("a server listens somewhere");
    println!("tidewire {} listening on {}://{}", env!("CARGO_PKG_VERSION"), first.scheme(), first.address);
    let websocket = of(Protocol::Http).map(|http| format!("{}://{}", if http.has_tls() { "wss" } else { "ws" }, http.address));
    if let Some(websocket) = &websocket {
        println!("  serves   {websocket}/tidewire (tidewire.1, tidewire.1.json), /health, /latency");
    }
    match of(Protocol::Mqtt) {
        Some(mqtt) => {
            let beside = websocket.map_or_else(String::new, |websocket| format!(", {websocket}/mqtt"));
            println!("  mqtt     {}://{}{beside} (MQTT 5, 3.1.1, 3.1)", mqtt.scheme(), mqtt.address);
        }
        None => println!("  mqtt     off"),
    }
    // The page says nothing of who looks at it, so where clients are asked it is shown nothing.
    if let Some(http) = of(Protocol::Http).filter(|_| config.authentication.chain.is_empty()) {
        println!("  page     {}://{}/ shows the tree live", http.scheme(), http.address);
    }
    let short_forms = server.listeners.len() - config.listeners.len();
    for listener in &server.listeners[short_forms..] {
        println!("  listens  {} at {}://{}", listener.name, listener.scheme(), listener.address);
    }
}

/// What the host could do better, in a line.
fn missing(config: &Config, server: &Server, host: &Host) -> String {
    let wanted = doctor::Wanted { shard_cores: server.cores.clone(), connections_max: config.limits.connections_max };
    let findings = doctor::examine(host, &wanted);
    let names: Vec<&str> =
        findings.iter().filter(|finding| finding.severity != doctor::Severity::Ok).map(|finding| &*finding.what).collect();
    match names.len() {
        0 => "tuned as `tidewire doctor` wants it".to_owned(),
        count => format!(
            "{count} settings are short of what is wanted ({}, …); `tidewire doctor` tells which and why",
            names[..count.min(3)].join(", ")
        ),
    }
}

fn start_logging(config: &Config) {
    let level = match config.log.level {
        LogLevel::Error => tracing::Level::ERROR,
        LogLevel::Warn => tracing::Level::WARN,
        LogLevel::Info => tracing::Level::INFO,
        LogLevel::Debug => tracing::Level::DEBUG,
        LogLevel::Trace => tracing::Level::TRACE,
    };
    // What the consensus engine finds worth a word is a developer's concern: who leads is told by the server's own.
    let levels = Targets::new()
        .with_default(level)
        .with_target("openraft", if level < tracing::Level::DEBUG { tracing::Level::ERROR } else { level });
    let layer = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let registry = tracing_subscriber::registry();
    // A second start in one process keeps the first one's log.
    let _ = match config.log.format {
        LogFormat::Text => {
            registry.with(layer.with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr())).with_filter(levels)).try_init()
        }
        LogFormat::Json => registry.with(layer.json().with_filter(levels)).try_init(),
    };
}

pub fn config(command: &ConfigCommand) -> ExitCode {
    match command {
        ConfigCommand::Default => {
            print!("{}", config::REFERENCE);
            ExitCode::SUCCESS
        }
        ConfigCommand::Check { file } => check(file),
    }
}

fn check(file: &Path) -> ExitCode {
    let name = file.display().to_string();
    let checked = std::fs::read_to_string(file).map_err(|error| format!("{name}: {error}"));
    match checked.and_then(|text| config::check_text(&text, &name).map_err(|error| error.to_string())) {
        Ok(_) => {
            println!("{name}: ok");
            ExitCode::SUCCESS
        }
        Err(message) => {
            eprintln!("error: {message}");
            ExitCode::from(config::EXIT_CODE)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_module_of_the_sdk_is_served() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("sdk/javascript");
        let names = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut modules: Vec<String> = names.filter(|name| name.ends_with(".js")).map(|name| format!("/sdk/{name}")).collect();
        modules.sort();
        assert_eq!(modules, SDK.iter().map(|(path, _)| (*path).to_owned()).collect::<Vec<_>>());
    }
}
