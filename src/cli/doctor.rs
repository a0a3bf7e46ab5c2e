//! `tidewire doctor`: compares the running host with the tuning files, prints what to change.
//!
//! Reads only. What the host is like is in `host`, what is wanted of it in `examine`; here
//! both are asked and the findings printed.

mod examine;
mod host;
mod print;
mod sysctl;
#[cfg(test)]
mod tests;

use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde::Serialize;

use crate::config::{self, Overrides};
pub use examine::{Wanted, examine, missing_for_start};
pub use host::{Host, Ring};

/// The flags of `tidewire doctor`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Print the findings as a JSON array.
    #[arg(long)]
    pub json: bool,
    /// The server's configuration: its shards and limits say what the host has to give.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    Ok,
    /// The server runs, but slower, with less, or less evenly than the host could.
    Advice,
    /// The server does not start.
    Problem,
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    pub severity: Severity,
    pub what: String,
    pub found: String,
    pub wanted: String,
    pub why: String,
    /// What the operator can do; empty where nothing has to be done.
    pub remedy: String,
}

/// One line for the log of a server that does not start.
impl std::fmt::Display for Finding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: found {}, wanted {}. {} To do: {}", self.what, self.found, self.wanted, self.why, self.remedy)
    }
}

/// Runs the command. Exit code 0 when nothing is a problem, 1 when something is, 2 when the
/// configuration is wrong.
pub fn run(arguments: &Arguments) -> ExitCode {
    let environment = config::process_environment();
    let config = match config::load(arguments.config.as_deref(), environment, Overrides::default()) {
        Ok(config) => config,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::from(config::EXIT_CODE);
        }
    };
    let wanted = Wanted { shard_cores: config.placement(&config::usable_cores()), connections_max: config.limits.connections_max };
    let findings = examine(&Host::read(Path::new("/"), Ring::probe()), &wanted);

    let mut output = std::io::stdout().lock();
    let text = if arguments.json {
        serde_json::to_string_pretty(&findings).expect("findings are plain strings") + "\n"
    } else {
        print::table(&findings, print::Style::for_terminal(output.is_terminal()))
    };
    // A reader that has gone (`tidewire doctor | head`) changes nothing about the host.
    let _ = output.write_all(text.as_bytes());
    let problem = findings.iter().any(|finding| finding.severity == Severity::Problem);
    ExitCode::from(u8::from(problem))
}
