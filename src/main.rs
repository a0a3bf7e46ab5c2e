//! Flags → command → exit code.

use clap::{Parser, Subcommand};
use std::process::ExitCode;
use tidewire::surface::cli::{
    cluster, demo, doctor, latency, listen, locks, presence, principal, requests, security, series, serve, session_tree, sessions, spec,
    storage, topics, view,
};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The open real-time data server
#[derive(Parser)]
#[command(version)]
struct Flags {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Serve the topic tree (what runs without a command)
    Serve(Box<cluster::Serving>),
    /// Serve, fed from this host's own telemetry, with a page that shows it live
    Demo(serve::Serve),
    /// Print or check the configuration
    #[command(subcommand)]
    Config(serve::ConfigCommand),
    /// Compare this host with the tuning that the server wants
    Doctor(doctor::Arguments),
    /// Set a topic's value; adds the topic if there is none
    Set(topics::Set),
    /// Add a topic without a value
    Add(topics::Add),
    /// Change a JSON topic's value by a patch (RFC 6902)
    Patch(topics::Patch),
    /// Print the topics that a selector matches, with their values
    Fetch(topics::FetchArguments),
    /// Print what happens to the topics that a selector matches, until ended
    Sub(topics::Subscribe),
    /// Print which topics come and go, until ended
    Listen(listen::Listen),
    /// Append to a time series, edit it, or query it
    #[command(subcommand)]
    Series(series::SeriesCommand),
    /// Print a topic's type and properties, or check what a topic should have
    Spec(spec::Spec),
    /// Create, list, show, remove or try out topic views
    #[command(subcommand)]
    View(view::ViewCommand),
    /// Remove the topics that a selector matches
    Remove(topics::Remove),
    /// Run a command while a lock is held, which at most one session of the server holds
    Lock(locks::Lock),
    /// Print which locks are held, by whom, and how many wait
    Locks(locks::Locks),
    /// Print who is subscribed to topics, and who joins and leaves them
    Presence(presence::Presence),
    /// Ask another client, and print what it answers
    Request(requests::RequestArguments),
    /// Answer other clients' requests, by a value or a command, until ended
    Respond(requests::Respond),
    /// Print who is connected, and how each does: the slow client has a name
    Sessions(sessions::Sessions),
    /// Close sessions, conflate them, set their properties, change their roles, or print what one selects
    #[command(subcommand)]
    Session(sessions::SessionCommand),
    /// Put, print or take away branch mapping tables, by which paths mean other topics to some sessions
    #[command(subcommand)]
    SessionTree(session_tree::SessionTreeCommand),
    /// Print the line by which a file of principals knows somebody by a password
    Principal(principal::Principal),
    /// Print, change, check or explain what roles permit, and who has which
    #[command(subcommand)]
    Security(security::SecurityCommand),
    /// Print the server's latencies per core
    Latency(latency::Latency),
    /// Found a cluster of servers, join one, or look after a server of one
    #[command(subcommand)]
    Cluster(cluster::ClusterCommand),
    /// Look after a store that no server has open
    #[command(subcommand)]
    Storage(storage::StorageCommand),
}

fn main() -> ExitCode {
    match Flags::parse().command.unwrap_or(Command::Serve(Box::default())) {
        Command::Serve(arguments) => cluster::serve(&arguments),
        Command::Demo(arguments) => demo::demo(&arguments),
        Command::Config(command) => serve::config(&command),
        Command::Doctor(arguments) => doctor::run(&arguments),
        Command::Set(arguments) => topics::set(&arguments),
        Command::Add(arguments) => topics::add(&arguments),
        Command::Patch(arguments) => topics::patch(&arguments),
        Command::Fetch(arguments) => topics::fetch(&arguments),
        Command::Sub(arguments) => topics::sub(&arguments),
        Command::Listen(arguments) => listen::listen(&arguments),
        Command::Series(command) => series::series(&command),
        Command::Spec(arguments) => spec::spec(&arguments),
        Command::View(command) => view::view(&command),
        Command::Remove(arguments) => topics::remove(&arguments),
        Command::Lock(arguments) => locks::lock(&arguments),
        Command::Locks(arguments) => locks::locks(&arguments),
        Command::Presence(arguments) => presence::presence(&arguments),
        Command::Request(arguments) => requests::request(&arguments),
        Command::Respond(arguments) => requests::respond(&arguments),
        Command::Sessions(arguments) => sessions::sessions(&arguments),
        Command::Session(command) => sessions::session(&command),
        Command::SessionTree(command) => session_tree::session_tree(&command),
        Command::Principal(arguments) => principal::principal(&arguments),
        Command::Security(command) => security::security(&command),
        Command::Latency(arguments) => latency::latency(&arguments),
        Command::Cluster(command) => cluster::cluster(&command),
        Command::Storage(command) => storage::run(&command),
    }
}
