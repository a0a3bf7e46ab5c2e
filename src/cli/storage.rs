//! `tidewire storage`: look after a store that no server has open.

use crate::peers::{Home, HomeError};
use crate::storage::{self, Exported, Report, ToolError};
use clap::{Args, Subcommand};
use std::fs::File;
use std::io::{self, BufReader, BufWriter, Write, stdin, stdout};
use std::path::PathBuf;
use std::process::ExitCode;

/// Something is damaged.
const DAMAGE: u8 = 1;
/// The usage is wrong, or the host refuses.
const HOST: u8 = 2;

#[derive(Subcommand)]
pub enum StorageCommand {
    /// Read everything in a store and say whether it is sound
    Check(Directory),
    /// Write a store's topics as lines of JSON
    Export(Export),
    /// Fill an empty or new store from lines of JSON: all of them or none
    Import(Import),
    /// Give up what is behind the first damage of a store's journal, so that a server starts again
    Cut(Directory),
}

#[derive(Args)]
pub struct Directory {
    /// The store's directory
    #[arg(long = "data", value_name = "DIR", env = "STATE_DIRECTORY", default_value = "./tidewire-data")]
    directory: PathBuf,
}

#[derive(Args)]
pub struct Export {
    #[command(flatten)]
    store: Directory,
    /// Where to write; standard output if none is named
    file: Option<PathBuf>,
}

#[derive(Args)]
pub struct Import {
    #[command(flatten)]
    store: Directory,
    /// What to read; standard input if none is named
    file: Option<PathBuf>,
}

/// Exit code 0 when all is well, 1 on damage, 2 on wrong usage or a host that refuses.
pub fn run(command: &StorageCommand) -> ExitCode {
    let result = match command {
        StorageCommand::Check(store) => check(store),
        StorageCommand::Export(arguments) => export(arguments),
        StorageCommand::Import(arguments) => import(arguments),
        StorageCommand::Cut(store) => cut(store),
    };
    result.unwrap_or_else(|error| {
        eprintln!("error: {error}");
        match error {
            ToolError::Open(error) if error.is_damage() => ExitCode::from(DAMAGE),
            _ => ExitCode::from(HOST),
        }
    })
}

fn check(store: &Directory) -> Result<ExitCode, ToolError> {
    let report = storage::check(&store.directory)?;
    print!("{}", print(&report));
    Ok(if report.damage.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(DAMAGE) })
}

fn print(report: &Report) -> String {
    let mut out = String::new();
    for damage in &report.damage {
        out += &format!("damage: {damage}\n");
    }
    if let Some(torn) = &report.torn {
        out += &format!("torn, and cut by the next start: {torn}\n");
    }
    if report.damage.is_empty() {
        out += &format!(
            "sound: {} topics, {} bytes of values, {} events, {} views; state {} bytes; journal {} bytes in {} segments, {} records to replay\n",
            report.topics,
            report.value_bytes,
            report.events,
            report.views,
            report.state_bytes,
            report.journal_bytes,
            report.segments,
            report.records
        );
    }
    out
}

fn export(arguments: &Export) -> Result<ExitCode, ToolError> {
    let directory = &arguments.store.directory;
    let groups = match Home::open(directory) {
        Ok(home) => home.identity.groups,
        Err(HomeError::Missing(_)) => 0,
        Err(error) => return Err(io::Error::other(error).into()),
    };
    let Exported { topics, left } = match &arguments.file {
        Some(path) => {
            let file = File::create(path)?;
            let mut out = BufWriter::new(file);
            let exported = storage::export(directory, groups, &mut out)?;
            out.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()?;
            exported
        }
        None => {
            let mut out = BufWriter::new(stdout().lock());
            let exported = storage::export(directory, groups, &mut out)?;
            out.flush()?;
            exported
        }
    };
    eprintln!("{topics} topics written");
    if left > 0 {
        eprintln!("left out: {left} entries at the ends of logs, of which nothing in this directory says that a majority had them");
    }
    Ok(ExitCode::SUCCESS)
}

fn import(arguments: &Import) -> Result<ExitCode, ToolError> {
    let directory = &arguments.store.directory;
    let topics = match &arguments.file {
        Some(path) => storage::import(directory, &mut BufReader::new(File::open(path)?))?,
        None => storage::import(directory, &mut stdin().lock())?,
    };
    println!("{topics} topics imported");
    Ok(ExitCode::SUCCESS)
}

fn cut(store: &Directory) -> Result<ExitCode, ToolError> {
    let Some(cut) = storage::cut(&store.directory)? else {
        println!("nothing to cut: the journal is sound, or its end is torn, which a start cuts by itself");
        return Ok(ExitCode::SUCCESS);
    };
    println!("found: {}", cut.what);
    if let Some(path) = &cut.kept_as {
        println!("segment {} is cut at byte {}; the damaged one is kept as {}", cut.segment, cut.offset, path.display());
    }
    if !cut.segments_behind.is_empty() {
        println!("renamed, and read no more: segments {:?}", cut.segments_behind);
    }
    Ok(ExitCode::SUCCESS)
}
