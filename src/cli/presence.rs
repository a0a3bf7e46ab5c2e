//! `tidewire presence`: who is subscribed to the topics of a selector, and who joins and leaves them.

use super::client::{Change, Client, ClientError, Notice};
use super::print::Printer;
use super::read::{Failure, Target, exit};
use crate::wire::native::{self, Ask, Outcome, PresenceEntry};
use crate::wire::varint::Reader;
use clap::Args;
use std::process::ExitCode;

#[derive(Args)]
pub struct Presence {
    /// The topics
    selector: String,
    /// Each session once, whichever of the topics it is subscribed to
    #[arg(long)]
    once: bool,
    /// Go on with who joins and leaves
    #[arg(long)]
    follow: bool,
    /// One JSON object a line, also on a terminal
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    target: Target,
}

/// The only listener of the command.
const LISTENER: u64 = 1;

pub fn presence(arguments: &Presence) -> ExitCode {
    let printer = Printer::new(arguments.json);
    let run = || -> Result<(), Failure> {
        let mut client = arguments.target.connect()?;
        if arguments.follow {
            return Ok(follow(&mut client, arguments, printer)?);
        }
        let mut last: Option<PresenceEntry> = None;
        loop {
            let (path, session) = last.as_ref().map_or(("", ""), |last| (&*last.path, &*last.session));
            let (after_path, after, selector) = (path.to_owned().into(), session.to_owned().into(), arguments.selector.as_str().into());
            let body = client.request(Ask::ListPresence { selector, after_path, after, first: 0, once: arguments.once })?;
            let Ok(Outcome::Presence { has_more, present }) = native::decode_presence(&mut Reader(&body)) else {
                return Err(malformed().into());
            };
            printer.print(present.iter().map(|entry| printer.presence(entry, None)));
            last = present.into_iter().next_back();
            if !has_more || last.is_none() {
                return Ok(client.close()?);
            }
        }
    };
    exit(run())
}

/// Who is there has joined.
fn follow(client: &mut Client, arguments: &Presence, printer: Printer) -> Result<(), ClientError> {
    client.request(Ask::ListenPresence { listener: LISTENER, selector: arguments.selector.as_str().into(), once: arguments.once })?;
    loop {
        if let Change::Notice(Notice::Presence { joins, entry }) = client.next_change()? {
            printer.print(std::iter::once(printer.presence(&entry, Some(joins))));
        }
    }
}

fn malformed() -> ClientError {
    ClientError::Connection("the server sent something that is not of the protocol".to_owned())
}
