//! `tidewire cluster`: found a cluster, join one, and look after a server that runs in one.
//!
//! Founding, joining and tokens need only a server's directory; what the others do, the running server does, which is asked by its control socket.

mod serving;
mod status;

pub use serving::{Serving, serve};

use crate::peers::{self, Command, Home, HomeError, JoinError, Standing, Status, ask, directory, wall_clock_ms};
use clap::{Args, Subcommand};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// The server or the cluster refuses.
const REFUSED: u8 = 1;
/// The usage is wrong, or the host refuses.
const HOST: u8 = 2;

/// Groups of a cluster, unless something else is said.
const GROUPS: u16 = 12;

/// How long is waited for a server that is about to start, and how often `token --wait` looks.
const WAIT: Duration = Duration::from_secs(60);
const WAIT_LOOK: Duration = Duration::from_millis(50);

/// How often a server that leaves is asked how far it is.
const LOOK: Duration = Duration::from_millis(300);

#[derive(Subcommand)]
pub enum ClusterCommand {
    /// Make a server the first one of a new cluster, and print a token by which the next one joins
    Found(Found),
    /// Make a server one of a cluster whose token it was given
    Join(Join),
    /// Print a token by which one server may join at this one, within 24 hours
    Token(Token),
    /// Print the cluster's servers and groups, as a running server sees them
    Status(StatusArguments),
    /// Have a running server hand over what it leads and leave the cluster for good
    Leave(Directory),
    /// Say that a server of the cluster is gone for good: it is no part of it any more, and cannot come back
    Remove(Remove),
    /// Have a server go on with what it has, though what it had acknowledged may be missing: where most servers are so
    Recover(Directory),
    /// Have a running server hand over a group that it leads, or all
    Transfer(Transfer),
}

#[derive(Args)]
pub struct Directory {
    /// The server's data directory
    #[arg(value_name = "DIR")]
    data: PathBuf,
}

#[derive(Args)]
pub struct Found {
    #[command(flatten)]
    server: Directory,
    #[command(flatten)]
    node: Node,
    /// Groups that topics are shared out among, fixed for good: each has a leader of its own, and costs heartbeats
    #[arg(long, default_value_t = GROUPS, value_parser = clap::value_parser!(u16).range(1..=64))]
    groups: u16,
}

#[derive(Args)]
pub struct Join {
    /// What `tidewire cluster found` or `tidewire cluster token` has printed
    token: String,
    #[command(flatten)]
    server: Directory,
    #[command(flatten)]
    node: Node,
}

#[derive(Args)]
struct Node {
    /// Where the other servers reach this one
    #[arg(long = "listen", value_name = "HOST:PORT")]
    address: String,
    /// What the server is called in the cluster; the host's name unless it is given
    #[arg(long)]
    name: Option<String>,
}

#[derive(Args)]
pub struct Token {
    #[command(flatten)]
    server: Directory,
    /// Wait up to a minute for the directory to be one of a cluster's servers
    #[arg(long)]
    wait: bool,
}

#[derive(Args)]
pub struct StatusArguments {
    #[command(flatten)]
    server: Directory,
    /// One JSON object, also on a terminal
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
pub struct Remove {
    #[command(flatten)]
    server: Directory,
    /// The name of the server that is gone
    name: String,
}

#[derive(Args)]
pub struct Transfer {
    #[command(flatten)]
    server: Directory,
    /// The group; all that the server leads unless it is given
    #[arg(long)]
    group: Option<u16>,
    /// The name of the server that is to lead
    #[arg(long)]
    to: String,
}

/// Why a command has come to nothing.
enum Failure {
    Home(HomeError),
    Join(JoinError),
    /// In the server's words, or about it.
    Server(String),
}

impl Failure {
    /// Says it, and gives the exit code.
    fn tell(self) -> ExitCode {
        let (text, code) = match self {
            Self::Home(error) => (error.to_string(), HOST),
            Self::Join(error) => {
                let is_usage = matches!(error, JoinError::Token | JoinError::Home(_));
                (error.to_string(), if is_usage { HOST } else { REFUSED })
            }
            Self::Server(error) => (error, REFUSED),
        };
        eprintln!("error: {text}");
        ExitCode::from(code)
    }
}

/// Exit code 0 when it is done, 1 when the server or the cluster refuses, 2 on wrong usage or a host that refuses.
pub fn cluster(command: &ClusterCommand) -> ExitCode {
    let result = match command {
        ClusterCommand::Found(arguments) => found(arguments),
        ClusterCommand::Join(arguments) => join(arguments),
        ClusterCommand::Token(arguments) => token(arguments),
        ClusterCommand::Status(arguments) => status(arguments),
        ClusterCommand::Leave(server) => leave(server),
        ClusterCommand::Remove(arguments) => remove(arguments),
        ClusterCommand::Recover(server) => recover(server),
        ClusterCommand::Transfer(arguments) => transfer(arguments),
    };
    result.map_or_else(Failure::tell, |()| ExitCode::SUCCESS)
}

fn found(arguments: &Found) -> Result<(), Failure> {
    let Found { server, node, groups } = arguments;
    let token = peers::found(&server.data, &node.name(), &node.address, *groups, wall_clock_ms()).map_err(Failure::Home)?;
    eprintln!("founded cluster {:016x}; the server in {} is its first node, {}", token.cluster, server.data.display(), node.name());
    eprintln!("once it runs, another joins by this token, within 24 hours: tidewire cluster join TOKEN DIR --listen HOST:PORT");
    println!("{}", token.text());
    Ok(())
}

fn join(arguments: &Join) -> Result<(), Failure> {
    let Join { token, server, node } = arguments;
    let identity = peers::join(&server.data, token, &node.name(), &node.address, wall_clock_ms).map_err(Failure::Join)?;
    println!(
        "joined cluster {:016x} as {} (node {}); it takes part once the server in {} runs",
        identity.cluster,
        identity.name,
        identity.node,
        server.data.display()
    );
    Ok(())
}

fn recover(server: &Directory) -> Result<(), Failure> {
    let home = Home::open(&server.data).map_err(Failure::Home)?;
    let path = home.directory.join("recovered");
    std::fs::write(&path, b"").map_err(|error| Failure::Home(HomeError::Host(path, error)))?;
    println!("{} goes on with what it has when it starts next; what others have not either is lost", home.identity.name);
    Ok(())
}

fn token(arguments: &Token) -> Result<(), Failure> {
    let Token { server, wait } = arguments;
    let began = Instant::now();
    while *wait && !directory(&server.data).exists() && began.elapsed() < WAIT {
        std::thread::sleep(WAIT_LOOK);
    }
    let token = Home::open(&server.data).and_then(|home| home.token(wall_clock_ms())).map_err(Failure::Home)?;
    println!("{}", token.text());
    Ok(())
}

fn status(arguments: &StatusArguments) -> Result<(), Failure> {
    let value = ask_server(&arguments.server.data, &Command::Status)?;
    let status: Status =
        serde_json::from_value(value).map_err(|error| Failure::Server(format!("the server's answer cannot be read: {error}")))?;
    status::print(&status, arguments.json);
    Ok(())
}

fn leave(server: &Directory) -> Result<(), Failure> {
    let mut told = None;
    loop {
        let answer = ask_server(&server.data, &Command::Leave)?;
        if answer["has_left"] == true {
            println!("the node has left the cluster; its server can be stopped");
            return Ok(());
        }
        let groups = answer["groups"].to_string();
        if told.as_ref() != Some(&groups) {
            eprintln!("still a member of groups {groups}");
            told = Some(groups);
        }
        std::thread::sleep(LOOK);
    }
}

fn remove(arguments: &Remove) -> Result<(), Failure> {
    ask_server(&arguments.server.data, &Command::Remove { name: arguments.name.clone() })?;
    println!("{} is no part of the cluster any more; a server in its place joins by a token, with an empty directory", arguments.name);
    Ok(())
}

fn transfer(arguments: &Transfer) -> Result<(), Failure> {
    let Transfer { server, group, to } = arguments;
    let answer = ask_server(&server.data, &Command::Transfer { group: *group, to: to.clone() })?;
    println!("{to} is to lead groups {}, each once it has all of it", answer["groups"]);
    Ok(())
}

fn ask_server(data: &Path, command: &Command) -> Result<serde_json::Value, Failure> {
    let directory = directory(data);
    if !directory.exists() {
        return Err(Failure::Home(HomeError::Missing(directory)));
    }
    ask(&directory, command).map_err(Failure::Server)
}

impl Node {
    fn name(&self) -> String {
        self.name.clone().unwrap_or_else(host_name)
    }
}

/// The host's own name, without its domain.
fn host_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    name.trim().split('.').next().filter(|name| !name.is_empty()).unwrap_or("node").to_owned()
}

/// As an operator reads it.
fn standing(standing: Standing) -> &'static str {
    match standing {
        Standing::Joined => "joined",
        Standing::Leaving => "leaving",
        Standing::Left => "left",
    }
}
