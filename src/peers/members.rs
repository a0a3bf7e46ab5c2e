//! Who is in the cluster: a table that every node has a copy of, and that copies are merged by rules that commute.
//!
//! Whatever order news come in, and however often, all copies that have heard the same say the same. What a node is called and where it is says the node
//! itself, with a number that it counts up; where it stands only goes on, from joined to leaving to left. A node that has left never comes back: it joins
//! anew, under another id.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::consensus::NodeId;

/// Nodes that a table may hold, those that have left too. Each costs its line in every greeting.
pub const MEMBERS_MAX: usize = 1000;
/// The longest name of a node, in bytes.
pub const NAME_BYTES_MAX: usize = 64;
/// The longest address, in bytes.
pub const ADDRESS_BYTES_MAX: usize = 255;

/// How many nodes vote in each group; the others have everything and do not vote.
pub const VOTERS_MAX: usize = 5;

/// Where a node stands. Only goes on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Standing {
    #[default]
    Joined,
    /// It is to leave, and is still asked as a member of its groups until it is none.
    Leaving,
    Left,
}

/// What is known of one node.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Member {
    pub name: String,
    /// Where the others reach it: host and port.
    pub address: String,
    /// Counted up by the node itself with each new name or address.
    pub address_version: u64,
    /// When it was admitted, by the clock of who admitted it, in milliseconds since the epoch: the order of joining.
    pub joined_ms: u64,
    #[serde(default)]
    pub standing: Standing,
}

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Members(BTreeMap<NodeId, Member>);

impl Member {
    /// Whether it could be a member at all.
    pub fn is_valid(&self) -> bool {
        is_name(&self.name) && is_address(&self.address)
    }

    /// Takes what is newer; whether that was anything.
    fn merge(&mut self, other: &Self) -> bool {
        let before = self.clone();
        // The same version with another address is nothing that a node says; of the two all take the same.
        if (self.address_version, &self.address, &self.name) < (other.address_version, &other.address, &other.name) {
            (self.address_version, self.address, self.name) = (other.address_version, other.address.clone(), other.name.clone());
        }
        self.joined_ms = self.joined_ms.min(other.joined_ms);
        self.standing = self.standing.max(other.standing);
        *self != before
    }
}

impl Members {
    pub fn get(&self, node: NodeId) -> Option<&Member> {
        self.0.get(&node)
    }

    pub fn iter(&self) -> impl Iterator<Item = (NodeId, &Member)> {
        self.0.iter().map(|(node, member)| (*node, member))
    }

    /// Notes what is said of one node; whether anything is new. Nothing is where the table is full.
    pub fn note(&mut self, node: NodeId, member: &Member) -> bool {
        if let Some(known) = self.0.get_mut(&node) {
            return known.merge(member);
        }
        if self.0.len() >= MEMBERS_MAX {
            return false;
        }
        self.0.insert(node, member.clone());
        true
    }

    /// Notes all that another table says; whether anything is new.
    pub fn merge(&mut self, other: &Self) -> bool {
        other.0.iter().fold(false, |is_new, (node, member)| self.note(*node, member) | is_new)
    }

    /// Whether no node of it is impossible.
    pub fn is_valid(&self) -> bool {
        self.0.len() <= MEMBERS_MAX && self.0.iter().all(|(node, member)| *node != 0 && member.is_valid())
    }

    /// A node goes on to `standing`; whether it had not.
    pub fn go_on(&mut self, node: NodeId, standing: Standing) -> bool {
        let Some(member) = self.0.get_mut(&node) else { return false };
        let is_new = member.standing < standing;
        member.standing = member.standing.max(standing);
        is_new
    }

    pub fn has_left(&self, node: NodeId) -> bool {
        self.get(node).is_some_and(|member| member.standing == Standing::Left)
    }

    /// The node that is called so and has not left.
    pub fn called(&self, name: &str) -> Option<NodeId> {
        self.iter().find(|(_, member)| member.name == name && member.standing != Standing::Left).map(|(node, _)| node)
    }

    /// Who is to be in every group.
    pub fn joined(&self) -> BTreeSet<NodeId> {
        self.iter().filter(|(_, member)| member.standing == Standing::Joined).map(|(node, _)| node).collect()
    }

    /// Who is to vote: those that joined first.
    pub fn voters(&self) -> BTreeSet<NodeId> {
        let mut joined: Vec<_> = self.iter().filter(|(_, member)| member.standing == Standing::Joined).collect();
        joined.sort_unstable_by_key(|(node, member)| (member.joined_ms, *node));
        joined.into_iter().take(VOTERS_MAX).map(|(node, _)| node).collect()
    }
}

impl FromIterator<(NodeId, Member)> for Members {
    fn from_iter<I: IntoIterator<Item = (NodeId, Member)>>(members: I) -> Self {
        Self(members.into_iter().collect())
    }
}

/// Whether a node may be called so: letters, digits, `-`, `_` and `.`.
pub fn is_name(name: &str) -> bool {
    let is_letter = |letter: char| letter.is_ascii_alphanumeric() || "-_.".contains(letter);
    !name.is_empty() && name.len() <= NAME_BYTES_MAX && name.chars().all(is_letter)
}

/// Whether it could be a host and a port.
pub fn is_address(address: &str) -> bool {
    let is_printable = address.bytes().all(|byte| byte.is_ascii_graphic());
    let port = address.rsplit_once(':').and_then(|(host, port)| port.parse::<u16>().ok().filter(|port| *port != 0 && !host.is_empty()));
    address.len() <= ADDRESS_BYTES_MAX && is_printable && port.is_some()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn member(version: u64, standing: Standing) -> Member {
        Member { name: "a".to_owned(), address: format!("host:{}", version + 1), address_version: version, joined_ms: 5, standing }
    }

    fn table(nodes: &[(NodeId, u64)]) -> Members {
        let member = |joined_ms| Member { joined_ms, ..member(1, Standing::Joined) };
        nodes.iter().map(|(node, joined_ms)| (*node, member(*joined_ms))).collect()
    }

    #[test]
    fn the_newer_address_and_the_later_standing_win() {
        let mut members = Members::from_iter([(1, member(2, Standing::Joined))]);
        assert!(!members.note(1, &member(1, Standing::Joined)));
        assert!(members.note(1, &member(1, Standing::Left)));
        assert_eq!(members.get(1), Some(&member(2, Standing::Left)));
        assert!(members.note(1, &member(3, Standing::Joined)));
        assert_eq!(members.get(1), Some(&member(3, Standing::Left)));
        assert!(!members.go_on(1, Standing::Leaving), "who has left does not come back");
    }

    #[test]
    fn those_that_joined_first_vote() {
        let mut members = table(&[(1, 7), (2, 6), (3, 5), (4, 4), (5, 3), (6, 2), (7, 2)]);
        assert_eq!(members.voters(), BTreeSet::from([7, 6, 5, 4, 3]));
        members.go_on(6, Standing::Leaving);
        members.go_on(7, Standing::Left);
        assert_eq!(members.voters(), BTreeSet::from([5, 4, 3, 2, 1]));
        assert_eq!(members.joined(), BTreeSet::from([5, 4, 3, 2, 1]));
    }

    #[test]
    fn a_full_table_takes_no_more() {
        let mut members = table(&(1..=MEMBERS_MAX as u64).map(|node| (node, 1)).collect::<Vec<_>>());
        assert!(members.is_valid());
        assert!(!members.note(5000, &member(1, Standing::Joined)));
        assert!(members.note(1, &member(9, Standing::Joined)));
    }

    #[test]
    fn names_and_addresses_have_a_form() {
        for (name, expected) in [("a", true), ("eu-1.a_b", true), ("", false), ("a b", false), ("ä", false), (&"x".repeat(65), false)] {
            assert_eq!(is_name(name), expected, "{name}");
        }
        let addresses =
            [("a:1", true), ("[::1]:65535", true), ("a:0", false), ("a", false), (":1", false), ("a b:1", false), ("a:65536", false)];
        for (address, expected) in addresses {
            assert_eq!(is_address(address), expected, "{address}");
        }
    }

    fn some_member() -> impl Strategy<Value = Member> {
        let standing = prop::sample::select(vec![Standing::Joined, Standing::Leaving, Standing::Left]);
        ("[ab]", "[ab]:[12]", 0..3u64, 0..3u64, standing).prop_map(|(name, address, address_version, joined_ms, standing)| Member {
            name,
            address,
            address_version,
            joined_ms,
            standing,
        })
    }

    fn some_members() -> impl Strategy<Value = Members> {
        prop::collection::btree_map(1..4u64, some_member(), 0..4).prop_map(Members)
    }

    fn merged(all: [&Members; 3]) -> Members {
        let mut merged = Members::default();
        for members in all {
            merged.merge(members);
        }
        merged
    }

    proptest! {
        #[test]
        fn the_order_of_what_is_heard_does_not_matter(a in some_members(), b in some_members(), c in some_members()) {
            let one = merged([&a, &b, &c]);
            for other in [[&a, &c, &b], [&b, &a, &c], [&b, &c, &a], [&c, &a, &b], [&c, &b, &a]] {
                prop_assert_eq!(&merged(other), &one);
            }
            // Heard together, and again.
            let mut together = b.clone();
            together.merge(&c);
            let mut heard = a.clone();
            heard.merge(&together);
            prop_assert_eq!(&heard, &one);
            prop_assert!(!heard.merge(&a) && !heard.merge(&one));
        }
    }
}
