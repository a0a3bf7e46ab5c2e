//! How others talk to the engine: from any thread, without waiting.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::mpsc::{Receiver, Sender, UnboundedReceiver, UnboundedSender, channel, unbounded_channel};

use super::{GroupId, NodeId, Options, Piece, Position, Proposal};

/// The way in. What is said after the engine has ended is lost.
#[derive(Clone)]
pub struct Handle {
    proposals: Arc<[Sender<Proposal>]>,
    /// Not bounded, since each message answers a news or is an operator's command.
    control: UnboundedSender<Control>,
}

pub(super) enum Control {
    Took { group: GroupId, bytes: usize },
    Built { group: GroupId, position: Position },
    Read { group: GroupId, reader: u64, piece: Option<Piece> },
    Staged { group: GroupId },
    Installed { group: GroupId },
    NotInstalled { group: GroupId },
    Ask { group: GroupId, to: NodeId, asker: Asker, ticket: u64, bytes: Bytes },
    Answer { group: GroupId, call: u64, bytes: Bytes },
    Found { voters: BTreeSet<NodeId> },
    AddLearner { group: GroupId, node: NodeId },
    SetVoters { group: GroupId, voters: BTreeSet<NodeId> },
    Transfer { group: GroupId, to: NodeId },
    Falters(bool),
    Retire,
    Stop,
}

/// Who asks, of those that ask in an order of their own, and which attempt that is: what was not sent is asked again in another, and nothing that comes behind it goes in the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asker {
    pub number: u16,
    pub attempt: u64,
}

/// The ends that the engine reads.
pub(super) struct Ends {
    pub proposals: Vec<Receiver<Proposal>>,
    pub control: UnboundedReceiver<Control>,
}

impl Handle {
    pub(super) fn new(options: &Options) -> (Self, Ends) {
        let (senders, proposals): (Vec<_>, _) = options.all_groups().map(|_| channel(options.queue_proposals_max)).unzip();
        let (sender, control) = unbounded_channel();
        (Self { proposals: senders.into(), control: sender }, Ends { proposals, control })
    }

    /// Proposes entries. Given back where the group's queue is full, or the engine has ended.
    pub fn propose(&self, proposal: Proposal) -> Result<(), Proposal> {
        let queue = &self.proposals[usize::from(proposal.group.0)];
        queue.try_send(proposal).map_err(|refused| refused.into_inner())
    }

    /// The receiver has room again for `bytes` of the group, as a news said.
    pub fn took(&self, group: GroupId, bytes: usize) {
        self.say(Control::Took { group, bytes });
    }

    /// The snapshot that was asked for, at the position of the news, is kept.
    pub fn built(&self, group: GroupId, position: Position) {
        self.say(Control::Built { group, position });
    }

    /// The piece that a reader wanted. `None` where there is no such snapshot any more; who needs it is sent a newer one.
    pub fn read(&self, group: GroupId, reader: u64, piece: Option<Piece>) {
        self.say(Control::Read { group, reader, piece });
    }

    /// The piece that came is put by.
    pub fn staged(&self, group: GroupId) {
        self.say(Control::Staged { group });
    }

    /// The snapshot that was to be installed is in place, and kept.
    pub fn installed(&self, group: GroupId) {
        self.say(Control::Installed { group });
    }

    /// Asks the receiver of another node. What is asked of one node comes there in order, unless it is lost. Answered by [`super::News::Answered`].
    pub fn ask(&self, group: GroupId, to: NodeId, asker: Asker, ticket: u64, bytes: Bytes) {
        self.say(Control::Ask { group, to, asker, ticket, bytes });
    }

    /// The answer to what another node's receiver has asked.
    pub fn answer(&self, group: GroupId, call: u64, bytes: Bytes) {
        self.say(Control::Answer { group, call, bytes });
    }

    /// The snapshot that was to be installed cannot be: the group ends, as [`super::News::Ended`] says.
    pub fn not_installed(&self, group: GroupId) {
        self.say(Control::NotInstalled { group });
    }

    /// Founds all groups with these voters, where nothing was founded; where something was, nothing comes of it. Said at one node of them.
    pub fn found(&self, voters: BTreeSet<NodeId>) {
        self.say(Control::Found { voters });
    }

    /// Has the group, which this node leads, send everything to `node` too.
    pub fn add_learner(&self, group: GroupId, node: NodeId) {
        self.say(Control::AddLearner { group, node });
    }

    /// Makes these nodes the voters of the group, which this node leads; each is a voter or a learner already. Others leave.
    pub fn set_voters(&self, group: GroupId, voters: BTreeSet<NodeId>) {
        self.say(Control::SetVoters { group, voters });
    }

    /// Has `to` lead the group, which this node leads, once it has the whole log. Nothing comes of it if it does not get there.
    pub fn transfer(&self, group: GroupId, to: NodeId) {
        self.say(Control::Transfer { group, to });
    }

    /// Whether this node's store cannot write. While it cannot, each group that this node leads is handed to another voter that answers, if there is one.
    pub fn falters(&self, falters: bool) {
        self.say(Control::Falters(falters));
    }

    /// This node is about to end: it hands over, as one whose store cannot write.
    pub fn retire(&self) {
        self.say(Control::Retire);
    }

    /// Ends the engine. Of what still waits in queues nothing is said any more.
    pub fn stop(&self) {
        self.say(Control::Stop);
    }

    fn say(&self, control: Control) {
        // An engine that has ended hears nothing, as promised.
        let _ = self.control.send(control);
    }
}
