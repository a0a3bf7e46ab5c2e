//! `tidewire session-tree put|get|list|remove`: branch mapping tables, by which paths mean other topics to some sessions than to others.

use super::client::{Client, ClientError};
use super::print::{Printer, Style, json_string, printable};
use super::read::{Failure, Target, exit, to_wire};
use crate::wire::native::{self, Ask, BranchMapping, Outcome};
use crate::wire::varint::Reader;
use clap::{Args, Subcommand};
use std::process::ExitCode;

#[derive(Subcommand)]
pub enum SessionTreeCommand {
    /// Put a branch mapping table in the place of the one that its branch has
    Put(Put),
    /// Print the rows of a branch's table
    Get(Get),
    /// Print the branches that have a table
    List(List),
    /// Take the table of a branch away: its paths mean themselves to all sessions
    Remove(Remove),
}

#[derive(Args)]
pub struct Put {
    /// The branch of session paths
    branch: String,
    /// Rows: a session filter, such as "Tier is 'gold'", and the branch of topics that these sessions find there. The first row that means a session holds for it
    #[arg(required = true, num_args = 2.., value_names = ["FILTER", "BRANCH"])]
    rows: Vec<String>,
    #[command(flatten)]
    target: Target,
}

#[derive(Args)]
pub struct Get {
    /// The branch of session paths
    branch: String,
    /// One JSON object a line, also on a terminal
    #[arg(long)]
    json: bool,
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
pub struct Remove {
    /// The branch of session paths
    branch: String,
    #[command(flatten)]
    target: Target,
}

pub fn session_tree(command: &SessionTreeCommand) -> ExitCode {
    exit(match command {
        SessionTreeCommand::Put(arguments) => put(arguments),
        SessionTreeCommand::Get(arguments) => get(arguments),
        SessionTreeCommand::List(arguments) => list(arguments),
        SessionTreeCommand::Remove(arguments) => replace(&arguments.target, &arguments.branch, &[]),
    })
}

fn put(arguments: &Put) -> Result<(), Failure> {
    let (pairs, rest) = arguments.rows.as_chunks::<2>();
    if let [filter] = rest {
        return Err(Failure::Usage(format!("expected a branch of topics behind the filter '{filter}'")));
    }
    let rows: Vec<(String, String)> = pairs.iter().map(|[filter, branch]| (filter.clone(), branch.clone())).collect();
    replace(&arguments.target, &arguments.branch, &rows)
}

fn replace(target: &Target, branch: &str, rows: &[(String, String)]) -> Result<(), Failure> {
    let mut client = target.connect()?;
    client.request(Ask::PutSessionTree { branch: branch.into(), mappings: to_wire(rows) })?;
    Ok(client.close()?)
}

fn get(arguments: &Get) -> Result<(), Failure> {
    let printer = Printer::new(arguments.json);
    let mut client = arguments.target.connect()?;
    let body = client.request(Ask::GetSessionTree { branch: arguments.branch.as_str().into() })?;
    let Ok(Outcome::SessionTree(rows)) = native::decode_session_tree(&mut Reader(&body)) else { return Err(malformed().into()) };
    if printer.is_json() {
        printer.print(rows.iter().map(json_row));
    } else {
        printer.print(table(printer, &rows).into_iter());
    }
    Ok(client.close()?)
}

fn list(arguments: &List) -> Result<(), Failure> {
    let printer = Printer::new(arguments.json);
    let mut client = arguments.target.connect()?;
    let branches = all(&mut client)?;
    let line = |branch: &String| {
        if printer.is_json() { format!(r#"{{"branch":{}}}"#, json_string(branch)) } else { printer.styled(Style::Path, &printable(branch)) }
    };
    printer.print(branches.iter().map(line));
    Ok(client.close()?)
}

/// All pages: the next one is behind the last branch.
fn all(client: &mut Client) -> Result<Vec<String>, ClientError> {
    let mut all: Vec<String> = Vec::new();
    loop {
        let after = all.last().cloned().unwrap_or_default();
        let body = client.request(Ask::ListSessionTrees { after: after.into() })?;
        let Ok(Outcome::SessionTrees { has_more, branches }) = native::decode_session_trees(&mut Reader(&body)) else {
            return Err(malformed());
        };
        let is_end = branches.is_empty() || !has_more;
        all.extend(branches);
        if is_end {
            return Ok(all);
        }
    }
}

fn malformed() -> ClientError {
    ClientError::Connection("the server sent a branch mapping table that is not of the protocol".to_owned())
}

fn json_row(row: &BranchMapping) -> String {
    format!(r#"{{"filter":{},"branch":{}}}"#, json_string(&row.filter), json_string(&row.branch))
}

/// One line a row, the branch first; nothing where there is none.
fn table(printer: Printer, rows: &[BranchMapping]) -> Vec<String> {
    let width = rows.iter().map(|row| printable(&row.branch).chars().count()).max().unwrap_or(0);
    let line = |row: &BranchMapping| {
        let branch = printer.styled(Style::Path, &format!("{:width$}", printable(&row.branch)));
        format!("{branch}  {}", printable(&row.filter))
    };
    rows.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::super::print::Form;
    use super::*;
    use crate::wire::event;

    fn row(filter: &str, branch: &str) -> BranchMapping {
        BranchMapping { filter: filter.to_owned(), branch: branch.to_owned() }
    }

    #[test]
    fn rows_stand_in_columns() {
        let plain = Printer { form: Form::Plain };
        let rows = [row("Tier is \"gold\"", "backend/current"), row("all", "delayed")];
        assert_eq!(table(plain, &rows), ["backend/current  Tier is \"gold\"", "delayed          all"]);
        assert!(table(plain, &[]).is_empty());
    }

    #[test]
    fn json_is_that_of_the_text_form() {
        let rows = vec![row("Tier is \"gold\"", "a/\u{e9}")];
        let mut answer = Vec::new();
        let outcome = Outcome::SessionTree(rows.clone());
        event::put(&mut answer, event::Form::Text, &event::Event::Ok { id: 1, outcome: &outcome });
        let answer: serde_json::Value = serde_json::from_slice(&answer).unwrap();
        assert_eq!(serde_json::from_str::<serde_json::Value>(&json_row(&rows[0])).unwrap(), answer["mappings"][0]);
    }
}
