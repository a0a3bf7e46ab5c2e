//! The greeting of two servers, and why one refuses the other.
//!
//! Both sides say who they are and whom they mean, and each judges the other by the same rules. Who refuses says why, in a last frame, so the reason stands in
//! both logs. What is added to a greeting later is passed over by who does not know it: versions say what may be said behind it.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::consensus::{Lane, NodeId};

use super::members::Members;

/// What a greeting begins with.
pub const MAGIC: &str = "tidewire-cluster";

/// The versions of what follows the greeting that this server speaks, lowest and highest. Servers of two versions run beside each other while a cluster is
/// upgraded, so the lowest goes up a release later than the highest does.
pub const VERSIONS: (u16, u16) = (1, 1);

/// The lane that a connection is for, as it is said.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LaneName {
    Log,
    Heartbeat,
    Snapshot,
    Ask,
}

/// The first thing that each side says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    pub magic: String,
    pub versions: (u16, u16),
    pub cluster: u64,
    pub from: NodeId,
    pub to: NodeId,
    /// Drawn by each process when it starts.
    pub boot: u64,
    pub lane: LaneName,
    /// The wall clock of who speaks, in milliseconds since the epoch.
    pub clock_ms: u64,
    pub members: Members,
}

/// What of a greeting is read by every version.
#[derive(Deserialize)]
struct Preface {
    magic: String,
    versions: (u16, u16),
}

/// Why one server does not speak with another, by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reason {
    Malformed,
    Version,
    OtherCluster,
    OtherNode,
    Certificate,
    Left,
    Twice,
    Clock,
    TokenUnknown,
    TokenExpired,
    TokenUsed,
    NameTaken,
    Name,
    Full,
    Failed,
    /// One that this version does not know.
    #[serde(other)]
    Unknown,
}

/// What the last frame says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    pub reason: Reason,
    pub text: String,
}

/// Who judges a greeting, and by what.
pub struct Judge<'a> {
    pub cluster: u64,
    pub me: NodeId,
    /// The cluster and the node that the other's certificate names.
    pub certified: Option<(u64, NodeId)>,
    pub clock_ms: u64,
    pub clock_skew_max_ms: u64,
    pub members: &'a Members,
    pub boots: &'a Boots,
}

/// Which process of each node is connected, and by how many connections.
#[derive(Debug, Default)]
pub struct Boots(BTreeMap<NodeId, (u64, usize)>);

impl From<Lane> for LaneName {
    fn from(lane: Lane) -> Self {
        match lane {
            Lane::Log => Self::Log,
            Lane::Heartbeat => Self::Heartbeat,
            Lane::Snapshot => Self::Snapshot,
            Lane::Ask => Self::Ask,
        }
    }
}

impl LaneName {
    pub const ALL: [Self; 4] = [Self::Log, Self::Heartbeat, Self::Snapshot, Self::Ask];
}

impl Refusal {
    pub fn new(reason: Reason, text: impl Into<String>) -> Self {
        Self { reason, text: text.into() }
    }

    /// The reason's name, as it is said.
    pub fn name(&self) -> String {
        serde_json::to_value(self.reason).ok().and_then(|name| name.as_str().map(str::to_owned)).unwrap_or_default()
    }

    /// What of a frame can be read; its text only as far as it is fit for a log.
    pub fn read(body: &[u8]) -> Self {
        let mut refusal: Self =
            serde_json::from_slice(body).unwrap_or_else(|_| Self::new(Reason::Unknown, "for a reason that cannot be read"));
        refusal.text = refusal.text.chars().filter(|letter| !letter.is_control()).take(300).collect();
        refusal
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.text)
    }
}

impl Boots {
    fn has_another(&self, node: NodeId, boot: u64) -> bool {
        self.0.get(&node).is_some_and(|(connected, _)| *connected != boot)
    }

    /// A process is connected once more. It was judged before.
    pub fn hold(&mut self, node: NodeId, boot: u64) {
        self.0.entry(node).or_insert((boot, 0)).1 += 1;
    }

    /// One of its connections has ended.
    pub fn release(&mut self, node: NodeId) {
        if let Some((_, connections)) = self.0.get_mut(&node) {
            *connections -= 1;
            if *connections == 0 {
                self.0.remove(&node);
            }
        }
    }
}

/// Whether any version is spoken by both.
pub fn check_versions(theirs: (u16, u16)) -> Result<(), Refusal> {
    let (lowest, highest) = VERSIONS;
    if theirs.0 <= highest && lowest <= theirs.1 {
        return Ok(());
    }
    let text = format!("one speaks versions {} to {} of the protocol between servers, the other {lowest} to {highest}", theirs.0, theirs.1);
    Err(Refusal::new(Reason::Version, text))
}

/// Whether two clocks are close enough.
pub fn check_clocks(theirs_ms: u64, ours_ms: u64, skew_max_ms: u64) -> Result<(), Refusal> {
    let skew_ms = theirs_ms.abs_diff(ours_ms);
    if skew_ms <= skew_max_ms {
        return Ok(());
    }
    // In seconds, so that it is the same with each attempt.
    let skew_s = skew_ms.saturating_add(500) / 1000;
    Err(Refusal::new(Reason::Clock, format!("the clocks of the two servers are some {skew_s} s apart; at most {skew_max_ms} ms are taken")))
}

impl Hello {
    /// Reads a greeting. The versions come first: of one that shares none the rest may be of any form.
    pub fn read(body: &[u8]) -> Result<Self, Refusal> {
        let malformed = || Refusal::new(Reason::Malformed, "this is no greeting of a server");
        let Preface { magic, versions } = serde_json::from_slice(body).map_err(|_| malformed())?;
        if magic != MAGIC {
            return Err(malformed());
        }
        check_versions(versions)?;
        serde_json::from_slice(body).map_err(|_| malformed())
    }
}

impl Judge<'_> {
    pub fn judge(&self, hello: &Hello) -> Result<(), Refusal> {
        let Hello { magic, versions, cluster, from, to, boot, lane: _, clock_ms, members } = hello;
        let refuse = |reason, text: String| Err(Refusal::new(reason, text));
        if magic != MAGIC || *from == 0 || !members.is_valid() {
            return refuse(Reason::Malformed, "this is no greeting of a server".to_owned());
        }
        check_versions(*versions)?;
        if *cluster != self.cluster {
            return refuse(Reason::OtherCluster, format!("the servers are of two clusters, {cluster:016x} and {:016x}", self.cluster));
        }
        if self.certified != Some((*cluster, *from)) {
            return refuse(Reason::Certificate, format!("the certificate is not node {from}'s"));
        }
        if *from == self.me || self.boots.has_another(*from, *boot) {
            return refuse(Reason::Twice, format!("node {from} runs already, in another process"));
        }
        if *to != self.me {
            return refuse(Reason::OtherNode, format!("node {to} was meant, and this is node {}", self.me));
        }
        if self.members.has_left(*from) || members.has_left(*from) {
            return refuse(Reason::Left, format!("node {from} has left the cluster; it can join again under another id"));
        }
        check_clocks(*clock_ms, self.clock_ms, self.clock_skew_max_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::peers::members::{Member, Standing};

    fn hello() -> Hello {
        Hello {
            magic: MAGIC.to_owned(),
            versions: VERSIONS,
            cluster: 7,
            from: 2,
            to: 1,
            boot: 20,
            lane: LaneName::Log,
            clock_ms: 100_000,
            members: Members::default(),
        }
    }

    fn check(hello: &Hello, expected: Result<(), Reason>) {
        let left = Member { name: "c".to_owned(), address: "c:1".to_owned(), address_version: 1, joined_ms: 1, standing: Standing::Left };
        let mut boots = Boots::default();
        boots.hold(2, 20);
        boots.hold(4, 40);
        boots.release(4);
        let judge = Judge {
            cluster: 7,
            me: 1,
            certified: Some((7, hello.from)).filter(|_| hello.from != 5),
            clock_ms: 100_000,
            clock_skew_max_ms: 60_000,
            members: &Members::from_iter([(3, left)]),
            boots: &boots,
        };
        assert_eq!(judge.judge(hello).map_err(|refusal| refusal.reason), expected, "{hello:?}");
    }

    #[test]
    fn a_greeting_is_refused_by_its_first_fault() {
        check(&hello(), Ok(()));
        check(&Hello { magic: "other".to_owned(), ..hello() }, Err(Reason::Malformed));
        check(&Hello { from: 0, ..hello() }, Err(Reason::Malformed));
        check(&Hello { versions: (VERSIONS.1 + 1, VERSIONS.1 + 1), ..hello() }, Err(Reason::Version));
        check(&Hello { versions: (0, VERSIONS.0 - 1), ..hello() }, Err(Reason::Version));
        check(&Hello { versions: (VERSIONS.1, u16::MAX), ..hello() }, Ok(()));
        check(&Hello { cluster: 8, ..hello() }, Err(Reason::OtherCluster));
        check(&Hello { from: 5, ..hello() }, Err(Reason::Certificate));
        check(&Hello { to: 9, ..hello() }, Err(Reason::OtherNode));
        check(&Hello { from: 3, ..hello() }, Err(Reason::Left));
        check(&Hello { from: 1, ..hello() }, Err(Reason::Twice));
        check(&Hello { boot: 21, ..hello() }, Err(Reason::Twice));
        check(&Hello { from: 4, boot: 41, ..hello() }, Ok(()));
        check(&Hello { clock_ms: 160_000, ..hello() }, Ok(()));
        check(&Hello { clock_ms: 160_001, ..hello() }, Err(Reason::Clock));
        check(&Hello { clock_ms: 39_999, ..hello() }, Err(Reason::Clock));
    }

    #[test]
    fn a_greeting_of_a_version_that_is_not_spoken_may_have_another_form() {
        let check = |body: &str, expected| assert_eq!(Hello::read(body.as_bytes()).map_err(|refusal| refusal.reason), expected, "{body}");
        let whole = serde_json::to_string(&hello()).unwrap();
        check(&whole, Ok(hello()));
        check(&whole.replacen('{', r#"{"moon":1,"#, 1), Ok(hello()));
        check(r#"{"magic":"tidewire-cluster","versions":[9,9],"moon":1}"#, Err(Reason::Version));
        for body in ["", "[]", r#"{"magic":"tidewire-cluster","versions":[1,1]}"#, r#"{"magic":"moon","versions":[9,9]}"#] {
            check(body, Err(Reason::Malformed));
        }
    }

    #[test]
    fn a_reason_of_a_later_version_is_read_with_its_text() {
        let refusal = Refusal::read(br#"{"reason":"moon","text":"it is\nfull"}"#);
        assert_eq!(refusal, Refusal::new(Reason::Unknown, "it isfull"));
        assert_eq!(Refusal::read(b"?").reason, Reason::Unknown);
    }
}
