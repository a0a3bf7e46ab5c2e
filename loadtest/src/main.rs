//! The load generator's command: flags in, tables and files out, one exit code.

use clap::Parser;
use std::path::Path;
use std::process::ExitCode;
use tidewire_loadtest::failure::{EXIT_CHECK, Failure};
use tidewire_loadtest::flags::Flags;
use tidewire_loadtest::plan::Plan;
use tidewire_loadtest::{host, report, run};

fn main() -> ExitCode {
    match load(Flags::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(EXIT_CHECK),
        Err(failure) => {
            eprintln!("tidewire-loadtest: {failure}");
            ExitCode::from(failure.exit_code())
        }
    }
}

/// Runs and reports; whether everything held.
fn load(flags: Flags) -> Result<bool, Failure> {
    let mut plan = Plan::new(flags, host::raise_open_files_limit())?;
    let outcome = run::run(&mut plan)?;
    print!("{}", report::to_text(&plan, &outcome));
    let result = report::to_json(&plan, &outcome);
    if let Some(path) = &plan.flags.json {
        write(path, &format!("{result:#}\n"))?;
    }
    if let Some(path) = &plan.flags.html {
        write(path, &report::html::page(&result))?;
    }
    Ok(report::passed(&plan, &outcome))
}

fn write(path: &Path, text: &str) -> Result<(), Failure> {
    std::fs::write(path, text).map_err(|error| Failure::Plan(format!("cannot write {}: {error}", path.display())))
}
