//! The tables of `tidewire cluster status`.

use super::super::instant;
use super::super::print::Printer;
use super::super::table::{self, Column};
use super::standing;
use crate::consensus::NodeId;
use crate::peers::{GroupLine, NodeStatus, Status};

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
    let column = |head, rank, cell: &dyn Fn(&GroupLine) -> String| Column::new(head, rank, status.groups.iter().map(cell).collect());
    vec![
        column("GROUP", 0, &|group| group.group.to_string()).right(),
        column("LEADER", 0, &|group| group.leader.map_or_else(|| "nobody".to_owned(), name)),
        column("TERM", 0, &|group| group.term.to_string()).right(),
        column("INDEX", 0, &|group| group.index.map(|index| index.to_string()).unwrap_or_default()).right(),
        column("VOTERS", 1, &|group| names(&group.voters)),
        column("LEARNERS", 2, &|group| names(&group.learners)),
    ]
}

#[cfg(test)]
mod tests {
    use super::super::super::print::Form;
    use super::*;
    use crate::peers::Standing;

    #[test]
    fn nodes_are_named_and_say_why_they_are_not_reached() {
        let node = |node, name: &str, trouble: Option<&str>| NodeStatus {
            node,
            name: name.to_owned(),
            address: format!("{name}:7400"),
            standing: Standing::Joined,
            is_reachable: trouble.is_none(),
            since_ms: 0,
            trouble: trouble.map(str::to_owned),
        };
        let group = |leader| GroupLine { group: 0, leader, term: 2, index: Some(9), voters: vec![1, 2], learners: vec![7] };
        let nodes_seen = vec![node(1, "a", None), node(2, "b", Some("connection refused"))];
        let status = Status { cluster: 1, node: 1, nodes: nodes_seen, groups: vec![group(Some(2)), group(None)], refused: Vec::new() };
        let fit = |columns: &[Column]| table::fit(Printer { form: Form::Plain }, columns, Some(64));
        let expected = [
            "NAME  NODE  ADDRESS  STANDING  REACHED  TROUBLE",
            "a        1  a:7400   joined    itself",
            "b        2  b:7400   joined    no       connection refused",
        ];
        assert_eq!(fit(&nodes(&status)), expected);
        let expected = [
            "GROUP  LEADER  TERM  INDEX  VOTERS  LEARNERS",
            "    0  b          2      9  a b     7",
            "    0  nobody     2      9  a b     7",
        ];
        assert_eq!(fit(&groups(&status)), expected);
    }
}
