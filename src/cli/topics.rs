//! `tidewire set|add|patch|fetch|sub|remove`: one command, one session.

use super::client::{Client, ClientError};
use super::print::Printer;
use super::read::{self, Failure, Target, exit};
use crate::protocol::ErrorCode;
use crate::topic::specification::TopicType;
use crate::value::ValueType;
use crate::wire::native::{Entry, Fetch, NULL_BIT, Shown, Update, Verb};
use clap::Args;
use std::process::ExitCode;

#[derive(Args)]
pub struct Set {
    path: String,
    /// JSON text; for string and binary: raw text; binary also as hex (0x…) or @FILE
    #[arg(allow_hyphen_values = true, required_unless_present = "null", conflicts_with = "null")]
    value: Option<String>,
    /// Set the topic to no value: string, int64 and double topics have that
    #[arg(long)]
    null: bool,
    /// json, string, int64, double, binary or time_series; without it an existing topic's type, else json
    #[arg(long = "type", value_name = "TYPE", value_parser = read::topic_type)]
    kind: Option<TopicType>,
    /// A property of the topic where it is added; one that exists must have the same ones
    #[arg(long = "property", value_name = "KEY=VALUE", value_parser = read::property)]
    properties: Vec<(String, String)>,
    /// Set it only where this constraint holds, such as '{"value":{"lt":5}}' or '{"no_topic":true}'
    #[arg(long = "if", value_name = "CONSTRAINT")]
    constraint: Option<String>,
    #[command(flatten)]
    target: Target,
}

#[derive(Args)]
pub struct Add {
    path: String,
    /// json, string, int64, double, binary or time_series
    #[arg(long = "type", value_name = "TYPE", value_parser = read::topic_type)]
    kind: TopicType,
    /// A property of the topic, such as PERSISTENT=false; `tidewire spec check` knows them
    #[arg(long = "property", value_name = "KEY=VALUE", value_parser = read::property)]
    properties: Vec<(String, String)>,
    #[command(flatten)]
    target: Target,
}

#[derive(Args)]
pub struct Patch {
    path: String,
    /// An RFC 6902 patch, such as '[{"op":"replace","path":"/price","value":5}]'
    patch: String,
    /// Patch it only where this constraint holds
    #[arg(long = "if", value_name = "CONSTRAINT")]
    constraint: Option<String>,
    #[command(flatten)]
    target: Target,
}

#[derive(Args)]
pub struct FetchArguments {
    selector: String,
    /// Show each topic's properties
    #[arg(long)]
    properties: bool,
    /// Show how many bytes each value has
    #[arg(long)]
    sizes: bool,
    /// Begin with this path
    #[arg(long, value_name = "PATH", conflicts_with = "after")]
    from: Option<String>,
    /// Begin behind this path
    #[arg(long, value_name = "PATH")]
    after: Option<String>,
    /// End with this path
    #[arg(long, value_name = "PATH", conflicts_with = "before")]
    to: Option<String>,
    /// End in front of this path
    #[arg(long, value_name = "PATH")]
    before: Option<String>,
    /// Only the first N topics
    #[arg(long, value_name = "N", conflicts_with = "last", value_parser = clap::value_parser!(u64).range(1..))]
    first: Option<u64>,
    /// Only the last N topics
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    last: Option<u64>,
    /// Only topics of these types, as in json,int64
    #[arg(long = "type", value_name = "TYPE", value_parser = read::topic_type, value_delimiter = ',')]
    kinds: Vec<TopicType>,
    /// Of each branch whose root has at most this many segments, only some topics
    #[arg(long, value_name = "D", requires = "depth_limit", value_parser = clap::value_parser!(u64).range(1..))]
    depth: Option<u64>,
    /// How many topics of such a branch
    #[arg(long, value_name = "N", requires = "depth", value_parser = clap::value_parser!(u64).range(1..))]
    depth_limit: Option<u64>,
    /// One JSON object a line, also on a terminal
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    target: Target,
}

#[derive(Args)]
pub struct Subscribe {
    selector: String,
    /// One JSON object a line, also on a terminal
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    target: Target,
}

#[derive(Args)]
pub struct Remove {
    selector: String,
    #[command(flatten)]
    target: Target,
}

pub fn set(arguments: &Set) -> ExitCode {
    let run = || -> Result<(), Failure> {
        let mut client = arguments.target.connect()?;
        let (topic, value_kind) = match arguments.kind {
            Some(kind) => (kind, event_kind(kind, &arguments.properties)?),
            None => client
                .find(&arguments.path)?
                .and_then(|entry| Some((TopicType::from_number(entry.kind)?, entry.value_kind)))
                .unwrap_or((TopicType::Json, ValueType::Json)),
        };
        let value = arguments.value.as_deref().map(|text| read::value(value_kind, text)).transpose()?;
        set_or_add(&mut client, arguments, topic, value_kind, value.as_deref())?;
        Ok(client.close()?)
    };
    exit(run())
}

/// The type of the values of a topic that is described on the command line.
fn event_kind(kind: TopicType, properties: &[(String, String)]) -> Result<ValueType, Failure> {
    let named = || properties.iter().find(|(key, _)| key == "TIME_SERIES_EVENT_VALUE_TYPE");
    kind.value_type().or_else(|| ValueType::from_name(&named()?.1.to_ascii_lowercase())).ok_or_else(|| {
        Failure::Usage("a time series needs --property TIME_SERIES_EVENT_VALUE_TYPE=json|string|int64|double|binary".to_owned())
    })
}

/// Sets a topic as it is. Where there is none, or where it is said what it has to be, as a topic of that specification.
fn set_or_add(
    client: &mut Client,
    arguments: &Set,
    topic: TopicType,
    value_kind: ValueType,
    value: Option<&[u8]>,
) -> Result<(), ClientError> {
    let null = if value.is_none() { NULL_BIT } else { 0 };
    let constraint = arguments.constraint.as_deref().unwrap_or_default().as_bytes();
    let update = |verb, kind: u8| Update { constraint: constraint.into(), ..Update::new(verb, kind | null, value.unwrap_or_default()) };
    if arguments.properties.is_empty() {
        match client.update(&arguments.path, update(Verb::Set, value_kind as u8)) {
            Err(ClientError::Refused { code, .. }) if code == ErrorCode::NoSuchTopic.code() => {}
            result => return result.map(drop),
        }
    }
    let properties = read::to_wire(&arguments.properties);
    client.update(&arguments.path, Update { properties, ..update(Verb::AddAndSet, topic.number()) }).map(drop)
}

pub fn add(arguments: &Add) -> ExitCode {
    let run = || -> Result<(), Failure> {
        let mut client = arguments.target.connect()?;
        let properties = read::to_wire(&arguments.properties);
        let update = Update { properties, ..Update::new(Verb::Add, arguments.kind.number(), &[][..]) };
        let is_created = client.update(&arguments.path, update)?;
        eprintln!("{}", if is_created { "added" } else { "it was there" });
        Ok(client.close()?)
    };
    exit(run())
}

pub fn patch(arguments: &Patch) -> ExitCode {
    let run = || -> Result<(), Failure> {
        let mut client = arguments.target.connect()?;
        let constraint = arguments.constraint.as_deref().unwrap_or_default().as_bytes();
        let update = Update { constraint: constraint.into(), ..Update::new(Verb::Patch, 0, arguments.patch.as_bytes()) };
        client.update(&arguments.path, update)?;
        Ok(client.close()?)
    };
    exit(run())
}

impl FetchArguments {
    fn shown(&self) -> Shown {
        Shown { values: true, properties: self.properties, sizes: self.sizes }
    }

    /// The whole range, of which a page is asked for at a time.
    fn request(&self) -> Fetch<'_> {
        let path = |path: &Option<String>| path.clone().unwrap_or_default().into();
        Fetch {
            selector: self.selector.as_str().into(),
            from: path(&self.from),
            after: path(&self.after),
            to: path(&self.to),
            before: path(&self.before),
            types: self.kinds.iter().fold(0, |types, kind| types | 1 << kind.number()),
            with_values: true,
            with_properties: true,
            with_sizes: self.sizes,
            depth: self.depth.unwrap_or(0),
            depth_limit: self.depth_limit.unwrap_or(0),
            ..Fetch::default()
        }
    }
}

pub fn fetch(arguments: &FetchArguments) -> ExitCode {
    let printer = Printer::new(arguments.json);
    let shown = arguments.shown();
    let print = |entries: &[Entry]| printer.print(entries.iter().map(|entry| printer.entry(entry, shown)));
    let run = || -> Result<(), Failure> {
        let mut client = arguments.target.connect()?;
        match arguments.last {
            None => fetch_forward(&mut client, arguments, &print)?,
            Some(last) => print(&fetch_last(&mut client, arguments, last)?),
        }
        Ok(client.close()?)
    };
    exit(run())
}

fn fetch_forward(client: &mut Client, arguments: &FetchArguments, print: &dyn Fn(&[Entry])) -> Result<(), ClientError> {
    let mut fetch = arguments.request();
    let mut left = arguments.first.unwrap_or(u64::MAX);
    loop {
        fetch.first = if arguments.first.is_some() { left } else { 0 };
        let (entries, has_more) = client.fetch(fetch.clone())?;
        print(&entries);
        left = left.saturating_sub(entries.len() as u64);
        let Some(last) = entries.last().filter(|_| has_more && left > 0) else { return Ok(()) };
        if arguments.depth.is_some() {
            // A further page would begin inside a branch and count its topics anew.
            eprintln!("there is more: a branch's limit, or that of a page, was reached");
            return Ok(());
        }
        (fetch.from, fetch.after) = ("".into(), last.path.clone().into());
    }
}

/// The pages come from the end, so all are held until the first is there.
fn fetch_last(client: &mut Client, arguments: &FetchArguments, count: u64) -> Result<Vec<Entry>, ClientError> {
    let mut fetch = arguments.request();
    let mut pages: Vec<Vec<Entry>> = Vec::new();
    let mut left = count;
    loop {
        fetch.last = left;
        let (entries, has_more) = client.fetch(fetch.clone())?;
        left = left.saturating_sub(entries.len() as u64);
        let first = entries.first().map(|first| first.path.clone()).filter(|_| has_more && left > 0 && arguments.depth.is_none());
        pages.push(entries);
        match first {
            Some(first) => (fetch.to, fetch.before) = ("".into(), first.into()),
            None => return Ok(pages.into_iter().rev().flatten().collect()),
        }
    }
}

pub fn sub(arguments: &Subscribe) -> ExitCode {
    let printer = Printer::new(arguments.json);
    let run = || -> Result<(), Failure> {
        let mut client = arguments.target.connect()?;
        client.subscribe(&arguments.selector)?;
        loop {
            let change = client.next_change()?;
            printer.print(std::iter::once(printer.change(&change)));
        }
    };
    exit(run())
}

pub fn remove(arguments: &Remove) -> ExitCode {
    let run = || -> Result<(), Failure> {
        let mut client = arguments.target.connect()?;
        let count = client.remove(&arguments.selector)?;
        eprintln!("removed {count} {}", if count == 1 { "topic" } else { "topics" });
        Ok(client.close()?)
    };
    exit(run())
}
