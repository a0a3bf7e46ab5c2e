//! `tidewire listen`: what listeners are told.

use super::print::Printer;
use super::read::{Failure, Target, exit};
use crate::wire::native::Ask;
use clap::Args;
use std::process::ExitCode;

#[derive(Args)]
pub struct Listen {
    /// Topics that come and go, and those immediately below selected paths
    #[arg(required_unless_present = "missing")]
    selector: Option<String>,
    /// Tell as well which of the topics selected get their first subscriber or lose the last
    #[arg(long, requires = "selector")]
    subscribers: bool,
    /// Tell which selectors of subscriptions and fetches match nothing in this branch
    #[arg(long, value_name = "BRANCH")]
    missing: Option<String>,
    /// One JSON object a line, also on a terminal
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    target: Target,
}

/// Kinds of listeners; each has the listener of its own number.
const TOPICS: u8 = 1;
const SUBSCRIBERS: u8 = 2;
const MISSING: u8 = 3;

pub fn listen(arguments: &Listen) -> ExitCode {
    let printer = Printer::new(arguments.json);
    let selector = arguments.selector.as_deref();
    let wanted = [(TOPICS, selector), (SUBSCRIBERS, selector.filter(|_| arguments.subscribers)), (MISSING, arguments.missing.as_deref())];
    let run = || -> Result<(), Failure> {
        let mut client = arguments.target.connect()?;
        for (kind, selector) in wanted {
            let Some(selector) = selector else { continue };
            client.request(Ask::Listen { listener: u64::from(kind), kind, selector: selector.into() })?;
        }
        loop {
            let change = client.next_change()?;
            printer.print(std::iter::once(printer.change(&change)));
        }
    };
    exit(run())
}
