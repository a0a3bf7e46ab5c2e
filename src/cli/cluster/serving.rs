//! `tidewire serve` of a server that is, or becomes, one of a cluster: by one command, which is the same each time that the server starts.

use super::{Failure, LOOK, WAIT, host_name};
use crate::cli::serve::{self, Serve};
use crate::config::Config;
use crate::peers::{self, Home, Identity, JoinError, directory, wall_clock_ms};
use clap::Args;
use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

#[derive(Args, Clone, Default)]
pub struct Serving {
    #[command(flatten)]
    serve: Serve,
    #[command(flatten)]
    part: Part,
}

/// What a directory becomes that is no node of a cluster yet.
#[derive(Args, Clone, Default)]
struct Part {
    /// Found a cluster, whose other servers reach this one here; a directory that is a node of one already goes on as that
    #[arg(long, value_name = "HOST:PORT", conflicts_with = "join")]
    found: Option<String>,
    /// Join the cluster of this token; a directory that is a node of one already goes on as that
    #[arg(long, value_name = "TOKEN", requires = "at")]
    join: Option<String>,
    /// Where the other servers reach one that joins
    #[arg(long, value_name = "HOST:PORT", requires = "join")]
    at: Option<String>,
    /// What the server is called in the cluster; the host's name unless it is given
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
}

pub fn serve(arguments: &Serving) -> ExitCode {
    let started = arguments.serve.load().and_then(|config| {
        arguments.part.take(&config).map_err(Failure::tell)?;
        serve::start(&config)
    });
    started.map_or_else(|code| code, serve::run)
}

impl Part {
    /// Makes a node of the server's directory, if it has to be one and is none.
    fn take(&self, config: &Config) -> Result<(), Failure> {
        let data = &config.storage.directory;
        let name = self.name.clone().unwrap_or_else(host_name);
        if directory(data).exists() {
            return Ok(());
        }
        if config.storage.ephemeral && (self.found.is_some() || self.join.is_some()) {
            return Err(Failure::Server("a server of a cluster stores what it holds; it cannot be ephemeral".to_owned()));
        }
        if self.found.is_some() {
            eprintln!(
                "warning: {} is founded anew: a server that was one of a cluster before has lost its directory",
                directory(data).display()
            );
        }
        let identity = match (&self.found, &self.join, &self.at) {
            (Some(address), ..) => {
                peers::found(data, &name, address, super::GROUPS, wall_clock_ms()).map_err(Failure::Home)?;
                Home::open(data).map_err(Failure::Home)?.identity
            }
            (None, Some(token), Some(address)) => join(data, token, &name, address).map_err(Failure::Join)?,
            _ => return Ok(()),
        };
        eprintln!("{} is {} of cluster {:016x} (node {})", data.display(), identity.name, identity.cluster, identity.node);
        Ok(())
    }
}

/// Servers that are started together may come before the one that lets them in.
fn join(data: &Path, token: &str, name: &str, address: &str) -> Result<Identity, JoinError> {
    let began = Instant::now();
    loop {
        match peers::join(data, token, name, address, wall_clock_ms) {
            Err(JoinError::Unreached(_)) if began.elapsed() < WAIT => std::thread::sleep(LOOK),
            result => return result,
        }
    }
}
