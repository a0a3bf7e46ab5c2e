//! `tidewire spec`: what a topic is, and whether what somebody wants a topic to be makes sense.

use super::client::Client;
use super::print::{Printer, Style, json_object, json_string, printable};
use super::read::{self, Failure, Target, exit};
use crate::topic::specification::{Specification, SpecificationLimits, TopicType};
use clap::{Args, Subcommand};
use std::process::ExitCode;

#[derive(Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub struct Spec {
    #[command(subcommand)]
    command: Option<SpecCommand>,
    /// The topic whose type and properties are shown
    #[arg(required = true)]
    path: Option<String>,
    /// One JSON object, also on a terminal
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    target: Target,
}

#[derive(Subcommand)]
enum SpecCommand {
    /// Say whether a topic can have this type and these properties, without a server
    Check(Check),
}

#[derive(Args)]
struct Check {
    /// json, string, int64, double, binary or time_series
    #[arg(value_name = "TYPE", value_parser = read::topic_type)]
    kind: TopicType,
    #[arg(value_name = "KEY=VALUE", value_parser = read::property)]
    properties: Vec<(String, String)>,
    /// One JSON object, also on a terminal
    #[arg(long)]
    json: bool,
}

/// What is wrong is the operator's to change.
const EXIT_USAGE: u8 = 2;

pub fn spec(arguments: &Spec) -> ExitCode {
    match &arguments.command {
        Some(SpecCommand::Check(check)) => check_specification(check),
        None => exit(show(arguments)),
    }
}

fn show(arguments: &Spec) -> Result<(), Failure> {
    let path = arguments.path.as_deref().unwrap_or_default();
    let mut client = arguments.target.connect()?;
    let Some(entry) = client.find(path)? else { return Err(missing(&mut client, path)) };
    let kind = TopicType::from_number(entry.kind).ok_or_else(|| Failure::Usage(format!("'{path}' has a type that is not known here")))?;
    let properties: Vec<(&str, &str)> = entry.properties.iter().map(|(key, value)| (&**key, &**value)).collect();
    print(Printer::new(arguments.json), Some(path), kind, &properties);
    Ok(client.close()?)
}

/// In the server's own words: it tells a path that is none from one where nothing stands.
fn missing(client: &mut Client, path: &str) -> Failure {
    use crate::wire::native::{Update, Verb};
    match client.update(path, Update::new(Verb::Check, TopicType::Json.number(), &[][..])) {
        Err(error) => Failure::Client(error),
        Ok(_) => Failure::Usage(format!("the topic at '{path}' has come just now; try again")),
    }
}

/// A property's value where none is given, for the types to which it means something.
fn default_of(key: &str, kind: TopicType, properties: &[(&str, &str)]) -> Option<&'static str> {
    let is_series = kind == TopicType::TimeSeries;
    let is_number = matches!(kind, TopicType::Int64 | TopicType::Double);
    let is_on = |key: &str| properties.contains(&(key, "true"));
    match key {
        "COMPRESSION" => (!is_number).then_some("low"),
        "PUBLISH_VALUES_ONLY" => (!is_number).then_some("false"),
        "CONFLATION" => Some(if is_series { "off" } else { "conflate" }),
        "DONT_RETAIN_VALUE" | "TIDY_ON_UNSUBSCRIBE" | "VALIDATE_VALUES" => Some("false"),
        "OWNER" | "REMOVAL" => Some("none"),
        "PERSISTENT" => Some("true"),
        "PRIORITY" => Some("default"),
        "TIME_SERIES_RETAINED_RANGE" => is_series.then_some("limit 10"),
        "TIME_SERIES_SUBSCRIPTION_RANGE" if is_on("PUBLISH_VALUES_ONLY") || is_on("DONT_RETAIN_VALUE") => is_series.then_some("none"),
        "TIME_SERIES_SUBSCRIPTION_RANGE" => is_series.then_some("limit 1"),
        _ => None,
    }
}

/// Every property that there is, in the order of keys.
const KEYS: [&str; 13] = [
    "COMPRESSION",
    "CONFLATION",
    "DONT_RETAIN_VALUE",
    "OWNER",
    "PERSISTENT",
    "PRIORITY",
    "PUBLISH_VALUES_ONLY",
    "REMOVAL",
    "TIDY_ON_UNSUBSCRIBE",
    "TIME_SERIES_EVENT_VALUE_TYPE",
    "TIME_SERIES_RETAINED_RANGE",
    "TIME_SERIES_SUBSCRIPTION_RANGE",
    "VALIDATE_VALUES",
];

/// Prints canonical properties, and the defaults in force beside them.
fn print(printer: Printer, path: Option<&str>, kind: TopicType, properties: &[(&str, &str)]) {
    let given = |key: &str| properties.iter().find(|(known, _)| *known == key).map(|(_, value)| *value);
    let defaults: Vec<(&str, &str)> =
        KEYS.into_iter().filter(|key| given(key).is_none()).filter_map(|key| Some((key, default_of(key, kind, properties)?))).collect();
    if printer.is_json() {
        let path = path.map_or(String::new(), |path| format!(r#""path":{},"#, json_string(path)));
        let (given, defaults) = (json_object(properties.iter().copied()), json_object(defaults.iter().copied()));
        let line = format!(r#"{{{path}"type":"{}","properties":{given},"defaults":{defaults}}}"#, kind.name());
        return printer.print(std::iter::once(line));
    }
    let head = match path {
        Some(path) => format!("{} {}", printer.styled(Style::Path, &printable(path)), kind.name()),
        None => kind.name().to_owned(),
    };
    let width = KEYS.iter().map(|key| key.len()).max().unwrap_or(0);
    let row = |key: &&'static str| {
        let default = || defaults.iter().find(|(known, _)| known == key).map(|(_, value)| *value);
        match given(key) {
            Some(value) => Some(format!("  {key:width$}  {}", printable(value))),
            None => default().map(|value| printer.styled(Style::Faint, &format!("  {key:width$}  {value} (default)"))),
        }
    };
    printer.print(std::iter::once(head).chain(KEYS.iter().filter_map(row)));
}

fn check_specification(check: &Check) -> ExitCode {
    let pairs = || check.properties.iter().map(|(key, value)| (key.as_str(), value.as_str()));
    match Specification::parse(check.kind, pairs(), SpecificationLimits::default()) {
        Ok(specification) => {
            let properties: Vec<(&str, &str)> = specification.properties().collect();
            for (key, _) in pairs().filter(|(key, _)| !means_something(key, check.kind, &properties)) {
                eprintln!("ignored: {}", why_ignored(key, check.kind));
            }
            print(Printer::new(check.json), None, check.kind, &properties);
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("error: {error}");
            if let Some((key, value)) = pairs().find(|(key, _)| *key == error.property) {
                eprint!("{}", pointed(key, value, error.position));
            }
            ExitCode::from(EXIT_USAGE)
        }
    }
}

fn means_something(key: &str, kind: TopicType, properties: &[(&str, &str)]) -> bool {
    key == "TIME_SERIES_EVENT_VALUE_TYPE" && kind == TopicType::TimeSeries || default_of(key, kind, properties).is_some()
}

fn why_ignored(key: &str, kind: TopicType) -> String {
    if KEYS.contains(&key) {
        return format!("{key} means nothing for {} topics", kind.name());
    }
    match KEYS.into_iter().find(|known| known.eq_ignore_ascii_case(key)) {
        Some(known) => format!("there is no property {}; {known} is one", printable(key)),
        None => format!("there is no property {}; the properties are {}", printable(key), KEYS.join(", ")),
    }
}

/// The property with a mark below the byte at `position` of its value.
fn pointed(key: &str, value: &str, position: usize) -> String {
    let before = value.get(..position).unwrap_or(value);
    let indent = key.chars().count() + 1 + printable(before).chars().count();
    format!("  {key}={}\n  {}^\n", printable(value), " ".repeat(indent))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(kind: TopicType, properties: &[(&str, &str)]) -> Specification {
        let event = [("TIME_SERIES_EVENT_VALUE_TYPE", "json")];
        let given = properties.iter().chain(event.iter().filter(|_| kind == TopicType::TimeSeries)).copied();
        Specification::parse(kind, given, SpecificationLimits::default()).unwrap()
    }

    #[test]
    fn the_defaults_are_those_of_the_server() {
        for kind in TopicType::ALL {
            let plain = parse(kind, &[]);
            for key in KEYS {
                let Some(default) = default_of(key, kind, &[]).filter(|default| *default != "none") else { continue };
                assert!(parse(kind, &[(key, default)]).agrees_with(&plain), "{kind:?} {key}={default}");
            }
        }
    }

    #[test]
    fn every_property_of_the_server_is_known() {
        let values = [
            ("COMPRESSION", "high"),
            ("CONFLATION", "unsubscribe"),
            ("DONT_RETAIN_VALUE", "true"),
            ("OWNER", "$Principal is \"a\""),
            ("PERSISTENT", "false"),
            ("PRIORITY", "low"),
            ("PUBLISH_VALUES_ONLY", "true"),
            ("REMOVAL", "when no updates for 10s"),
            ("TIDY_ON_UNSUBSCRIBE", "true"),
            ("TIME_SERIES_RETAINED_RANGE", "limit 5"),
            ("TIME_SERIES_SUBSCRIPTION_RANGE", "limit 2"),
            ("VALIDATE_VALUES", "true"),
        ];
        let specification = parse(TopicType::TimeSeries, &values);
        assert_eq!(specification.properties().map(|(key, _)| key).collect::<Vec<_>>(), KEYS);
        for kind in TopicType::ALL {
            for (key, value) in values {
                let is_noted = parse(kind, &[(key, value)]).properties().any(|(known, _)| known == key);
                assert_eq!(is_noted, default_of(key, kind, &[]).is_some(), "{kind:?} {key}");
            }
        }
    }

    #[test]
    fn a_mark_stands_below_the_place() {
        assert_eq!(pointed("REMOVAL", "when never", 5), "  REMOVAL=when never\n               ^\n");
        assert_eq!(pointed("K", "é?", 2), "  K=é?\n     ^\n");
        assert_eq!(pointed("K", "", 9), "  K=\n    ^\n");
    }
}
