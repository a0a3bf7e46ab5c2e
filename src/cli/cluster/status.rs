//! The tables of `tidewire cluster status`.

use super::super::instant;
use super::super::print::Printer;
use super::super::table::{self, Column};
use super::standing;
use crate::consensus::NodeId;
use crate::peers::{NodeStatus, Status};

/// JSON where it is asked for, or where nobody is there to read.
pub fn print(status: &Status, json: bool) {
    let printer = Printer::new(json);
    if printer.is_json() {
        let text = serde_json::to_string(status).expect("texts and numbers");
        return printer.print(std::iter::once(text));
    }
    let mut lines = table::print(printer, &nodes(status));
    lines.push(String::new());
    lines.extend(table::print(printer, &groups(status)));
    if !status.refused.is_empty() {
        lines.push(String::new());
        lines.extend(status.refused.iter().map(|refused| format!("refused {refused}")));
    }
    printer.print(lines.into_iter());
}

fn nodes(status: &Status) -> Vec<Column> {
    let column = |head, rank, cell: &dyn Fn(&NodeStatus) -> String| Column::new(head, rank, status.nodes.iter().map(cell).collect());
    let reached = |node: &NodeStatus| match (node.node == status.node, node.is_reachable) {
        (true, _) => "itself",
        (false, true) => "yes",
        (false, false) => "no",
    };
    vec![
        column("NAME", 0, &|node| node.name.clone()),
        column("NODE", 2, &|node| node.node.to_string()).right(),
        column("ADDRESS", 1, &|node| node.address.clone()),
        column("STANDING", 0, &|node| standing(node.standing).to_owned()),
        column("REACHED", 0, &|node| reached(node).to_owned()),
        column("SINCE", 3, &|node| instant::print(node.since_ms)),
        column("TROUBLE", 1, &|node| node.trouble.clone().unwrap_or_default()).cut(),
    ]
}

fn groups(status: &Status) -> Vec<Column> {
    let name = |id: NodeId| status.nodes.iter().find(|node| node.node == id).map_or_else(|| id.to_string(), |node| node.name.clone());
    let names = |ids: &[NodeId]| ids.iter().map(|id| name(*id)).collect::<Vec<_>>().join(" ");
    let groups = &status.groups;
    vec![
        Column::new("GROUP", 0, groups.iter().map(|group| group.group.to_string()).collect()).right(),
        Column::new("LEADER", 0, groups.iter().map(|group| group.leader.map_or_else(|| "nobody".to_owned(), name)).collect()),
        Column::new("TERM", 0, groups.iter().map(|group| group.term.to_string()).collect()).right(),
        Column::new("INDEX", 0, groups.iter().map(|group| group.index.map(|index| index.to_string()).unwrap_or_default()).collect())
            .right(),
        Column::new("VOTERS", 1, groups.iter().map(|group| names(&group.voters)).collect()),
        Column::new("LEARNERS", 2, groups.iter().map(|group| names(&group.learners)).collect()),
    ]
}
