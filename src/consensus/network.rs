//! What nodes say to each other, and the one boundary it crosses: a closure that sends a request to a node and gets its answer.
//!
//! A request may be lost, late or doubled; an answer too. Requests carry their group, so one connection serves all groups; [`Lane`] says which of them
//! must not wait behind which.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use openraft::Raft;
use openraft::async_runtime::Select2;
use openraft::async_runtime::watch::WatchReceiver;
use openraft::error::{RPCError, ReplicationClosed, StreamingError, Unreachable};
use openraft::network::{RPCOption, RaftNetworkFactory, RaftNetworkV2};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, TransferLeaderRequest, TransferLeaderResponse, VoteRequest, VoteResponse,
};
use openraft::type_config::TypeConfigExt;

use super::group::Group;
use super::machine::{Machine, RaftSnapshot, with_meta};
use super::role::{Role, Seen};
use super::types::{Types, Vote};
use super::{GroupId, Piece, Position};

/// The node could not be asked, or has not answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Unreached {
    /// It never came there, and never will.
    Unsent,
    /// It may have come there.
    Unanswered,
}

/// The answer of a node, when it comes.
pub type Asking = Pin<Box<dyn Future<Output = Result<Answer, Unreached>>>>;

/// Sends a request to a node. Bounds of time are kept by the caller, who drops what takes too long.
pub type Dial = Rc<dyn Fn(u64, Lane, Request) -> Asking>;

/// Requests of one lane may wait for each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lane {
    /// Entries and votes.
    Log,
    /// What keeps leaders; never behind anything else.
    Heartbeat,
    /// Pieces of snapshots.
    Snapshot,
    /// What receivers ask each other.
    Ask,
}

/// What one node asks of another.
#[derive(Clone)]
pub struct Request {
    pub(super) group: GroupId,
    pub(super) body: Body,
}

#[derive(Clone)]
pub(super) enum Body {
    Append(AppendEntriesRequest<Types>),
    Vote(VoteRequest<Types>),
    PreVote(VoteRequest<Types>),
    Transfer(TransferLeaderRequest<Types>),
    Piece(Part),
    Ask(Bytes),
    /// How far the group is committed.
    Committed,
}

/// One piece of a snapshot.
#[derive(Clone)]
pub(super) struct Part {
    pub vote: Vote,
    pub position: Position,
    pub number: u64,
    pub piece: Piece,
}

/// What the other says.
#[derive(Clone)]
pub struct Answer(pub(super) Reply);

#[derive(Clone)]
pub(super) enum Reply {
    Append(AppendEntriesResponse<Types>),
    Vote(VoteResponse<Types>),
    Transfer(TransferLeaderResponse<Types>),
    /// The piece is here, and others are to follow.
    Taken,
    Installed(SnapshotResponse<Types>),
    /// What the receiver says.
    Answered(Bytes),
    /// The last index that is committed. `None` of a node that is not certain that it leads.
    Committed(Option<u64>),
}

/// Answers what other nodes ask. Cheap to clone; on the engine's thread.
#[derive(Clone)]
pub struct Inbox(Rc<Vec<Member>>);

struct Member {
    group: Rc<Group>,
    raft: Raft<Types, Machine>,
    lease: Duration,
    arriving: RefCell<Option<Arriving>>,
    /// One that has come is being put into place; no other comes meanwhile.
    installing: Rc<Cell<bool>>,
}

/// A snapshot whose pieces arrive, in order. Another one, or a gap, ends it.
struct Arriving {
    vote: Vote,
    position: Position,
    next: u64,
}

impl Request {
    /// A receiver's question.
    pub(super) fn ask(group: GroupId, bytes: Bytes) -> Self {
        Self { group, body: Body::Ask(bytes) }
    }

    /// How far the group is committed.
    pub(super) fn committed(group: GroupId) -> Self {
        Self { group, body: Body::Committed }
    }
}

impl Answer {
    /// A receiver's answer.
    pub(super) fn into_bytes(self) -> Option<Bytes> {
        match self.0 {
            Reply::Answered(bytes) => Some(bytes),
            _ => None,
        }
    }

    /// The last index that is committed.
    pub(super) fn into_committed(self) -> Option<u64> {
        match self.0 {
            Reply::Committed(index) => index,
            _ => None,
        }
    }
}

impl Inbox {
    /// A leader is certain of it for as long as `lease` behind a quorum's answer.
    pub(super) fn new(groups: impl Iterator<Item = (Rc<Group>, Raft<Types, Machine>)>, lease: Duration) -> Self {
        let member = |(group, raft)| Member { group, raft, lease, arriving: RefCell::new(None), installing: Rc::default() };
        Self(Rc::new(groups.map(member).collect()))
    }

    pub(super) fn groups(&self) -> impl Iterator<Item = (&Rc<Group>, &Raft<Types, Machine>)> {
        self.0.iter().map(|member| (&member.group, &member.raft))
    }

    /// The answer to `request`, or an error where this node has no such group, or no longer runs it.
    pub async fn answer(&self, request: Request) -> Result<Answer, Unreached> {
        let member = self.0.get(usize::from(request.group.0)).ok_or(Unreached::Unanswered)?;
        let raft = &member.raft;
        let reply = match request.body {
            Body::Append(append) => raft.append_entries(append).await.ok().map(Reply::Append),
            Body::Committed => Some(Reply::Committed(member.committed())),
            Body::Vote(vote) => raft.vote(vote).await.ok().map(Reply::Vote),
            Body::PreVote(vote) => raft.pre_vote(vote).await.ok().map(Reply::Vote),
            Body::Transfer(transfer) => raft.handle_transfer_leader(transfer).await.ok().map(Reply::Transfer),
            Body::Piece(piece) => member.take_piece(piece).await,
            Body::Ask(bytes) => member.group.ask(bytes).await.ok().map(Reply::Answered),
        };
        reply.map(Answer).ok_or(Unreached::Unanswered)
    }
}

impl Member {
    fn committed(&self) -> Option<u64> {
        let (server, data) = (self.raft.server_metrics(), self.raft.data_metrics());
        let (server, data, delivered) = (server.borrow_watched(), data.borrow_watched(), self.group.delivered());
        let role = Role::of(&Seen { server: &server, data: &data, lease: self.lease }, delivered);
        matches!(role, Role::Leads { .. }).then(|| self.group.applied().index()).flatten()
    }

    async fn take_piece(&self, part: Part) -> Option<Reply> {
        let Part { vote, position, number, piece: Piece { bytes, is_last } } = part;
        if self.installing.get() {
            return None;
        }
        self.expect_piece(vote, &position, number)?;
        self.group.stage(position.clone(), number, bytes).await.ok()?;
        if !is_last {
            return Some(Reply::Taken);
        }
        // Unless another has begun meanwhile, whose pieces are not to be installed as this.
        self.arriving.borrow_mut().take_if(|current| current.vote == vote && current.position == position && current.next == number + 1)?;
        // It comes to its end also where nobody waits for the answer any more.
        let (raft, installing) = (self.raft.clone(), self.installing.clone());
        installing.set(true);
        let install = tokio::task::spawn_local(async move {
            let installed = raft.install_full_snapshot(vote, with_meta(position)).await;
            installing.set(false);
            installed
        });
        install.await.ok()?.ok().map(Reply::Installed)
    }

    /// Whether this is the next piece; `None` if not.
    fn expect_piece(&self, vote: Vote, position: &Position, number: u64) -> Option<()> {
        let mut arriving = self.arriving.borrow_mut();
        if number == 0 {
            *arriving = Some(Arriving { vote, position: position.clone(), next: 0 });
        }
        let current =
            arriving.as_mut().filter(|current| current.vote == vote && current.position == *position && current.next == number)?;
        current.next += 1;
        Some(())
    }
}

/// One group's way to the others.
pub struct Network {
    pub group: Rc<Group>,
    pub dial: Dial,
}

/// One group's way to one node, in one lane.
pub struct Client {
    group: Rc<Group>,
    dial: Dial,
    target: u64,
    lane: Lane,
}

impl Network {
    fn client(&self, target: u64, lane: Lane) -> Client {
        Client { group: self.group.clone(), dial: self.dial.clone(), target, lane }
    }
}

impl RaftNetworkFactory<Types> for Network {
    type Network = Client;

    async fn new_client(&mut self, target: u64, _node: &()) -> Client {
        self.client(target, Lane::Log)
    }

    async fn new_heartbeat_client(&mut self, target: u64, _node: &()) -> Client {
        self.client(target, Lane::Heartbeat)
    }

    async fn new_snapshot_client(&mut self, target: u64, _node: &()) -> Client {
        self.client(target, Lane::Snapshot)
    }
}

impl Client {
    async fn ask(&self, body: Body, within: Duration) -> Result<Reply, Unreachable<Types>> {
        let asking = (self.dial)(self.target, self.lane, Request { group: self.group.id, body });
        match tokio::time::timeout(within, asking).await {
            Ok(Ok(Answer(reply))) => Ok(reply),
            Ok(Err(_)) => Err(unreachable("it is not reached")),
            Err(_) => Err(unreachable("it has not answered in time")),
        }
    }
}

impl RaftNetworkV2<Types> for Client {
    type SnapshotData = Position;

    async fn append_entries(
        &mut self,
        request: AppendEntriesRequest<Types>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<Types>, RPCError<Types>> {
        match self.ask(Body::Append(request), option.soft_ttl()).await? {
            Reply::Append(answer) => Ok(answer),
            _ => Err(unfitting().into()),
        }
    }

    async fn vote(&mut self, request: VoteRequest<Types>, option: RPCOption) -> Result<VoteResponse<Types>, RPCError<Types>> {
        match self.ask(Body::Vote(request), option.soft_ttl()).await? {
            Reply::Vote(answer) => Ok(answer),
            _ => Err(unfitting().into()),
        }
    }

    async fn pre_vote(&mut self, request: VoteRequest<Types>, option: RPCOption) -> Result<VoteResponse<Types>, RPCError<Types>> {
        match self.ask(Body::PreVote(request), option.soft_ttl()).await? {
            Reply::Vote(answer) => Ok(answer),
            _ => Err(unfitting().into()),
        }
    }

    async fn transfer_leader(
        &mut self,
        request: TransferLeaderRequest<Types>,
        option: RPCOption,
    ) -> Result<TransferLeaderResponse<Types>, RPCError<Types>> {
        match self.ask(Body::Transfer(request), option.soft_ttl()).await? {
            Reply::Transfer(answer) => Ok(answer),
            _ => Err(unfitting().into()),
        }
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: RaftSnapshot,
        cancel: impl Future<Output = ReplicationClosed> + 'static,
        option: RPCOption,
    ) -> Result<SnapshotResponse<Types>, StreamingError<Types>> {
        let position = snapshot.snapshot;
        let mut cancel = pin!(cancel);
        for number in 0.. {
            let sending = self.send_piece(vote, &position, number, option.soft_ttl());
            match Types::select2(cancel.as_mut(), sending).await {
                Select2::First(closed) => return Err(closed.into()),
                Select2::Second(Ok(Some(answer))) => return Ok(answer),
                Select2::Second(Ok(None)) => {}
                Select2::Second(Err(error)) => return Err(error.into()),
            }
        }
        Err(unfitting().into())
    }
}

impl Client {
    /// Sends one piece. `Some` is the answer to the last.
    async fn send_piece(
        &self,
        vote: Vote,
        position: &Position,
        number: u64,
        within: Duration,
    ) -> Result<Option<SnapshotResponse<Types>>, Unreachable<Types>> {
        let read = self.group.read(position.clone(), number).await;
        let Ok(Some(piece)) = read else { return Err(unreachable("the snapshot is no more")) };
        let part = Part { vote, position: position.clone(), number, piece };
        match self.ask(Body::Piece(part), within).await? {
            Reply::Taken => Ok(None),
            Reply::Installed(answer) => Ok(Some(answer)),
            _ => Err(unfitting()),
        }
    }
}

fn unfitting() -> Unreachable<Types> {
    unreachable("its answer does not fit")
}

fn unreachable(reason: &str) -> Unreachable<Types> {
    Unreachable::from_string(reason)
}
