//! `tidewire view create|list|show|remove|try`: topic views, and what one would make without a server.
//!
//! - `text` — a view's definition as it is given, and a mark below the place where it is wrong.
//! - `trial` — `try`.

mod text;
mod trial;

use super::client::{Client, ClientError};
use super::print::{Printer, Style, json_string, printable};
use super::read::{Failure, Target, exit};
use crate::protocol::ErrorCode;
use crate::view::{Definition, ViewLimits};
use crate::wire::native::{self, Ask, Outcome, ViewEntry};
use crate::wire::varint::Reader;
use clap::{Args, Subcommand};
use std::process::ExitCode;

#[derive(Subcommand)]
pub enum ViewCommand {
    /// Make a view, or replace the one of that name
    Create(Create),
    /// Print all views, in the order in which they were created
    List(List),
    /// Print one view: its definition, what it makes, and how it last failed
    Show(Show),
    /// Remove a view, and the topics that it makes
    Remove(Remove),
    /// Print what a view would make of topics that are given here, without a server
    Try(trial::Try),
}

#[derive(Args)]
pub struct Create {
    name: String,
    /// The definition, such as 'map ?prices// to by_name/<scalar(/name)>'; - reads it from stdin, @FILE from a file
    #[arg(value_name = "TEXT")]
    definition: String,
    #[command(flatten)]
    target: Target,
}

#[derive(Args)]
pub struct List {
    /// One JSON object a line, also on a terminal
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    target: Target,
}

#[derive(Args)]
pub struct Show {
    name: String,
    /// One JSON object, also on a terminal
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    target: Target,
}

#[derive(Args)]
pub struct Remove {
    name: String,
    #[command(flatten)]
    target: Target,
}

/// What is wrong is the operator's to change.
const EXIT_USAGE: u8 = 2;

/// So much of a definition stands in a table, in characters.
const SHORT_DEFINITION_LENGTH: usize = 72;

pub fn view(command: &ViewCommand) -> ExitCode {
    match command {
        ViewCommand::Create(arguments) => create(arguments),
        ViewCommand::List(arguments) => exit(list(arguments)),
        ViewCommand::Show(arguments) => exit(show(arguments)),
        ViewCommand::Remove(arguments) => exit(remove(arguments)),
        ViewCommand::Try(arguments) => trial::run(arguments),
    }
}

fn create(arguments: &Create) -> ExitCode {
    let definition = match text::read(&arguments.definition) {
        Ok(definition) => definition,
        Err(failure) => return exit(Err(failure)),
    };
    if let Err(code) = parse(&definition) {
        return code;
    }
    let run = || -> Result<(), Failure> {
        let mut client = arguments.target.connect()?;
        let (name, definition) = (arguments.name.as_str().into(), definition.as_str().into());
        let body = client.request(Ask::CreateView { name, definition })?;
        eprintln!("{}", if body == [1] { "created" } else { "replaced" });
        Ok(client.close()?)
    };
    let result = run();
    let mark = match &result {
        Err(Failure::Client(ClientError::Refused { code, position: Some(position), .. })) if *code == ErrorCode::InvalidView.code() => {
            text::pointed(&definition, *position)
        }
        _ => String::new(),
    };
    let code = exit(result);
    eprint!("{mark}");
    code
}

/// A definition that makes sense, or the exit code of a command that has said why it does not.
fn parse(definition: &str) -> Result<Definition, ExitCode> {
    Definition::parse(definition, &ViewLimits::default()).map_err(|error| {
        eprintln!("error: {error}");
        eprint!("{}", text::pointed(definition, error.position));
        ExitCode::from(EXIT_USAGE)
    })
}

fn list(arguments: &List) -> Result<(), Failure> {
    let printer = Printer::new(arguments.json);
    let mut client = arguments.target.connect()?;
    let views = views(&mut client)?;
    if printer.is_json() {
        printer.print(views.iter().map(json_view));
    } else {
        printer.print(table(printer, &views).into_iter());
    }
    Ok(client.close()?)
}

/// All pages: the next one is behind the place of the last view.
fn views(client: &mut Client) -> Result<Vec<ViewEntry>, ClientError> {
    let mut all: Vec<ViewEntry> = Vec::new();
    loop {
        let after = all.last().map_or(0, |view| view.place);
        let body = client.request(Ask::ListViews { after })?;
        let (has_more, views) = decode(&body)?;
        let is_end = views.is_empty() || !has_more;
        all.extend(views);
        if is_end {
            return Ok(all);
        }
    }
}

fn decode(body: &[u8]) -> Result<(bool, Vec<ViewEntry>), ClientError> {
    match native::decode_views(&mut Reader(body)) {
        Ok(Outcome::Views { has_more, views }) => Ok((has_more, views)),
        _ => Err(ClientError::Connection("the server sent views that are not of the protocol".to_owned())),
    }
}

fn show(arguments: &Show) -> Result<(), Failure> {
    let printer = Printer::new(arguments.json);
    let mut client = arguments.target.connect()?;
    let body = client.request(Ask::GetView { name: arguments.name.as_str().into() })?;
    let (_, views) = decode(&body)?;
    for view in &views {
        if printer.is_json() {
            printer.print(std::iter::once(json_view(view)));
        } else {
            printer.print(rows(printer, view).into_iter());
        }
    }
    Ok(client.close()?)
}

fn remove(arguments: &Remove) -> Result<(), Failure> {
    let mut client = arguments.target.connect()?;
    let body = client.request(Ask::RemoveView { name: arguments.name.as_str().into() })?;
    match body.as_slice() {
        [0] => eprintln!("there was no view '{}'", printable(&arguments.name)),
        _ => eprintln!("removed"),
    }
    Ok(client.close()?)
}

fn json_view(view: &ViewEntry) -> String {
    let ViewEntry { place, is_dormant, sources, references, evaluations, failures, .. } = view;
    let (name, definition, last_failure) = (json_string(&view.name), json_string(&view.definition), json_string(&view.last_failure));
    format!(
        r#"{{"name":{name},"definition":{definition},"place":{place},"dormant":{is_dormant},"sources":{sources},"references":{references},"evaluations":{evaluations},"failures":{failures},"last_failure":{last_failure}}}"#
    )
}

/// One line a view below a head, in columns; nothing where there is no view.
fn table(printer: Printer, views: &[ViewEntry]) -> Vec<String> {
    if views.is_empty() {
        return Vec::new();
    }
    let head = ["NAME", "PLACE", "SOURCES", "REFERENCES", "FAILURES"].map(str::to_owned);
    let cells: Vec<[String; 5]> = views
        .iter()
        .map(|view| {
            let [place, sources, references, failures] = [view.place, view.sources, view.references, view.failures].map(|n| n.to_string());
            [printable(&view.name), place, sources, references, failures]
        })
        .collect();
    let width = |column: usize| std::iter::once(&head).chain(&cells).map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths = [0, 1, 2, 3, 4].map(width);
    let line = |style: Style, row: &[String; 5], definition: &str| {
        let numbers: String = (1..5).map(|at| format!("  {:>1$}", row[at], widths[at])).collect();
        format!("{}{numbers}  {definition}", printer.styled(style, &format!("{:1$}", row[0], widths[0])))
    };
    let rows = cells.iter().zip(views).map(|(row, view)| {
        let dormant = if view.is_dormant { printer.styled(Style::Faint, "(dormant) ") } else { String::new() };
        line(Style::Path, row, &format!("{dormant}{}", shortened(&view.definition)))
    });
    std::iter::once(line(Style::Faint, &head, "DEFINITION")).chain(rows).collect()
}

/// A definition on one line, the end cut off where it is long.
fn shortened(definition: &str) -> String {
    let line = definition.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(SHORT_DEFINITION_LENGTH) {
        Some((end, _)) => format!("{}…", printable(&line[..end])),
        None => printable(&line),
    }
}

/// All that there is to say of a view, the definition in its lines.
fn rows(printer: Printer, view: &ViewEntry) -> Vec<String> {
    let dormant = if view.is_dormant { printer.styled(Style::Changed, " dormant") } else { String::new() };
    let head = format!("{}{dormant}", printer.styled(Style::Path, &printable(&view.name)));
    let definition = view.definition.lines().map(|line| format!("  {}", printable(line)));
    let numbers = [
        ("place", view.place),
        ("sources", view.sources),
        ("references", view.references),
        ("evaluations", view.evaluations),
        ("failures", view.failures),
    ];
    let numbers = numbers.into_iter().map(|(name, number)| format!("{} {number}", printer.styled(Style::Faint, &format!("{name:12}"))));
    let failed = Some(&view.last_failure).filter(|failure| !failure.is_empty());
    let failed = failed.map(|failure| format!("{} {}", printer.styled(Style::Faint, "last failure"), printable(failure)));
    std::iter::once(head).chain(definition).chain(numbers).chain(failed).collect()
}

#[cfg(test)]
mod tests {
    use super::super::print::Form;
    use super::*;
    use crate::wire::event;

    const PLAIN: Printer = Printer { form: Form::Plain };

    fn view(name: &str, definition: &str, place: u64) -> ViewEntry {
        ViewEntry { name: name.to_owned(), definition: definition.to_owned(), place, sources: 3, references: 12, ..ViewEntry::default() }
    }

    #[test]
    fn a_table_stands_in_columns() {
        let far = ViewEntry { is_dormant: true, failures: 7, ..view("far away", "map ?a//\n  from other to b", 10) };
        let expected = [
            "NAME      PLACE  SOURCES  REFERENCES  FAILURES  DEFINITION",
            "n             1        3          12         0  map a to b",
            "far away     10        3          12         7  (dormant) map ?a// from other to b",
        ];
        assert_eq!(table(PLAIN, &[view("n", "map a to b", 1), far]), expected);
        assert!(table(PLAIN, &[]).is_empty());
    }

    #[test]
    fn a_long_definition_is_cut() {
        let (fits, long) = ("é".repeat(SHORT_DEFINITION_LENGTH), "é".repeat(SHORT_DEFINITION_LENGTH + 1));
        assert_eq!(shortened(&fits), fits);
        assert_eq!(shortened(&long), format!("{fits}…"));
        assert_eq!(shortened("a\n\tb \x1bc"), "a b \\u{1b}c");
    }

    #[test]
    fn a_view_is_shown_whole() {
        let failing = ViewEntry { evaluations: 9, failures: 2, last_failure: "a/x: no\n".to_owned(), ..view("n", "map a\n  to b", 1) };
        let expected =
            ["n", "  map a", "    to b", "place        1", "sources      3", "references   12", "evaluations  9", "failures     2"];
        let printed = rows(PLAIN, &failing);
        assert_eq!(printed[..8], expected);
        assert_eq!(printed[8..], ["last failure a/x: no\\n"]);
        assert_eq!(rows(PLAIN, &view("n", "map a\n  to b", 1)).len(), 8);
    }

    #[test]
    fn json_is_that_of_the_text_form() {
        let view = ViewEntry { failures: 1, last_failure: "a: \"".to_owned(), is_dormant: true, ..view("n", "map a to b", 1) };
        let mut answer = Vec::new();
        let outcome = Outcome::Views { has_more: false, views: vec![view.clone()] };
        event::put(&mut answer, event::Form::Text, &event::Event::Ok { id: 1, outcome: &outcome });
        let answer: serde_json::Value = serde_json::from_slice(&answer).unwrap();
        assert_eq!(serde_json::from_str::<serde_json::Value>(&json_view(&view)).unwrap(), answer["views"][0]);
    }
}
