//! What leaves this process, on disk and to other nodes, as bytes: rkyv archives behind a number for their form, checked on read.
//!
//! Whoever wrote them may be of another version, or they are damaged: bytes that are no message of this form are [`Malformed`], and so is a message that openraft
//! would not expect of a node that keeps the rules, such as entries with gaps. The bytes of entries and pieces are slices of what was read.

use std::collections::BTreeSet;

use bytes::Bytes;
use openraft::EntryPayload;
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, TransferLeaderError, TransferLeaderRequest, TransferLeaderResponse,
    VoteRequest, VoteResponse,
};
use openraft::vote::RaftLeaderId;
use rkyv::api::high::{HighSerializer, HighValidator};
use rkyv::bytecheck::CheckBytes;
use rkyv::rancor::Failure;
use rkyv::ser::allocator::ArenaHandle;
use rkyv::with::InlineAsBox;
use rkyv::{Archive, Portable, Serialize};

use super::network::{Body, Part, Reply};
use super::types::{Judged, LogEntry, LogId, Membership, Types, Vote};
use super::{Answer, GroupId, Piece, Position, Request};

/// What all begin with.
const FORM: u8 = 1;

/// An entry of a log without its place there.
pub(super) type Payload = <Types as openraft::RaftTypeConfig>::Payload;

type Members = openraft::Membership<u64, ()>;

/// The bytes are nothing that this version knows, or nothing that may be said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed;

#[derive(Archive, Serialize)]
struct KeptId {
    term: u64,
    index: u64,
}

#[derive(Archive, Serialize)]
struct KeptVote {
    term: u64,
    node: u64,
    is_committed: bool,
}

#[derive(Archive, Serialize)]
struct KeptMembers {
    /// The voters; two sets while one takes the other's place.
    voters: Vec<Vec<u64>>,
    /// All, learners too.
    nodes: Vec<u64>,
}

#[derive(Archive, Serialize)]
struct KeptPosition {
    id: Option<KeptId>,
    members_id: Option<KeptId>,
    members: KeptMembers,
}

#[derive(Archive, Serialize)]
enum KeptPayload<'a> {
    Blank,
    Judged {
        term: u64,
        #[rkyv(with = InlineAsBox)]
        bytes: &'a [u8],
    },
    Members(KeptMembers),
}

#[derive(Archive, Serialize)]
struct KeptEntry<'a> {
    term: u64,
    index: u64,
    payload: KeptPayload<'a>,
}

#[derive(Archive, Serialize)]
struct KeptRequest<'a> {
    group: u16,
    body: KeptBody<'a>,
}

#[derive(Archive, Serialize)]
enum KeptBody<'a> {
    Append {
        vote: KeptVote,
        previous: Option<KeptId>,
        entries: Vec<KeptEntry<'a>>,
        commit: Option<KeptId>,
    },
    Vote {
        vote: KeptVote,
        last: Option<KeptId>,
        is_transfer: bool,
    },
    PreVote {
        vote: KeptVote,
        last: Option<KeptId>,
        is_transfer: bool,
    },
    Transfer {
        vote: KeptVote,
        to: u64,
        last: Option<KeptId>,
    },
    Piece {
        vote: KeptVote,
        position: KeptPosition,
        number: u64,
        #[rkyv(with = InlineAsBox)]
        bytes: &'a [u8],
        is_last: bool,
    },
    Ask(#[rkyv(with = InlineAsBox)] &'a [u8]),
    Committed,
}

#[derive(Archive, Serialize)]
enum KeptReply<'a> {
    Appended,
    AppendedTo(Option<KeptId>),
    Conflict,
    HigherVote(KeptVote),
    Vote { vote: KeptVote, is_granted: bool, last: Option<KeptId> },
    Transferred,
    VoteChanged { expected: KeptVote, actual: KeptVote },
    NotFlushed { expected: Option<KeptId>, actual: Option<KeptId> },
    Taken,
    Installed(KeptVote),
    Answered(#[rkyv(with = InlineAsBox)] &'a [u8]),
    Committed(Option<u64>),
}

/// An entry of a log without its place there, which whoever keeps it knows.
pub(super) fn encode_payload(payload: &Payload) -> Vec<u8> {
    archive(&KeptPayload::of(payload))
}

/// Its bytes are a slice of `bytes`.
///
/// # Errors
/// [`Malformed`].
pub(super) fn decode_payload(bytes: &Bytes) -> Result<Payload, Malformed> {
    access::<ArchivedKeptPayload<'_>>(bytes)?.read(bytes)
}

pub(super) fn encode_vote(vote: &Vote) -> Vec<u8> {
    archive(&KeptVote::of(vote))
}

/// # Errors
/// [`Malformed`].
pub(super) fn decode_vote(bytes: &[u8]) -> Result<Vote, Malformed> {
    Ok(access::<ArchivedKeptVote>(bytes)?.read())
}

impl Position {
    pub fn encode(&self) -> Vec<u8> {
        archive(&KeptPosition::of(self))
    }

    /// # Errors
    /// `Malformed`.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        access::<ArchivedKeptPosition>(bytes)?.read()
    }
}

impl Request {
    pub fn encode(&self) -> Vec<u8> {
        archive(&KeptRequest { group: self.group.0, body: KeptBody::of(&self.body) })
    }

    /// What it carries are slices of `bytes`.
    ///
    /// # Errors
    /// `Malformed`.
    pub fn decode(bytes: &Bytes) -> Result<Self, Malformed> {
        let kept = access::<ArchivedKeptRequest<'_>>(bytes)?;
        Ok(Self { group: GroupId(kept.group.to_native()), body: kept.body.read(bytes)? })
    }
}

impl Answer {
    pub fn encode(&self) -> Vec<u8> {
        archive(&KeptReply::of(&self.0))
    }

    /// # Errors
    /// `Malformed`.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        access::<ArchivedKeptReply<'_>>(bytes)?.read().map(Self)
    }
}

fn archive(kept: &impl for<'a> Serialize<HighSerializer<Vec<u8>, ArenaHandle<'a>, Failure>>) -> Vec<u8> {
    rkyv::api::high::to_bytes_in::<_, Failure>(kept, vec![FORM]).expect("memory takes it")
}

fn access<T>(bytes: &[u8]) -> Result<&T, Malformed>
where
    T: Portable + for<'a> CheckBytes<HighValidator<'a, Failure>>,
{
    let bytes = bytes.strip_prefix(&[FORM]).ok_or(Malformed)?;
    rkyv::access::<T, Failure>(bytes).map_err(|_| Malformed)
}

impl KeptId {
    fn of(id: &LogId) -> Self {
        Self { term: id.leader_id.term, index: id.index }
    }
}

impl ArchivedKeptId {
    fn read(&self) -> Result<LogId, Malformed> {
        log_id(self.term.to_native(), self.index.to_native())
    }
}

/// An id that another can follow.
fn log_id(term: u64, index: u64) -> Result<LogId, Malformed> {
    if index == u64::MAX { Err(Malformed) } else { Ok(LogId::new(term.into(), index)) }
}

fn read_id(kept: &rkyv::option::ArchivedOption<ArchivedKeptId>) -> Result<Option<LogId>, Malformed> {
    kept.as_ref().map(ArchivedKeptId::read).transpose()
}

impl KeptVote {
    fn of(vote: &Vote) -> Self {
        Self { term: vote.leader_id.term(), node: *vote.leader_id.node_id(), is_committed: vote.committed }
    }
}

impl ArchivedKeptVote {
    fn read(&self) -> Vote {
        let (term, node) = (self.term.to_native(), self.node.to_native());
        if self.is_committed { Vote::new_committed(term, node) } else { Vote::new(term, node) }
    }

    /// The vote of who says that it leads.
    fn read_committed(&self) -> Result<Vote, Malformed> {
        if self.is_committed { Ok(self.read()) } else { Err(Malformed) }
    }

    /// The vote of who wants to lead.
    fn read_candidate(&self) -> Result<Vote, Malformed> {
        if self.is_committed { Err(Malformed) } else { Ok(self.read()) }
    }
}

impl KeptMembers {
    fn of(members: &Members) -> Self {
        let voters = members.get_joint_config().iter().map(|voters| voters.iter().copied().collect());
        Self { voters: voters.collect(), nodes: members.nodes().map(|(node, ())| *node).collect() }
    }
}

impl ArchivedKeptMembers {
    fn read(&self) -> Result<Members, Malformed> {
        let voters: Vec<BTreeSet<u64>> = self.voters.iter().map(|voters| voters.iter().map(|node| node.to_native()).collect()).collect();
        let nodes: BTreeSet<u64> = self.nodes.iter().map(|node| node.to_native()).collect();
        Members::new(voters, nodes).map_err(|_| Malformed)
    }
}

impl KeptPosition {
    fn of(position: &Position) -> Self {
        let Position { id, membership } = position;
        let members_id = membership.log_id().as_ref().map(KeptId::of);
        Self { id: id.as_ref().map(KeptId::of), members_id, members: KeptMembers::of(membership.membership()) }
    }
}

impl ArchivedKeptPosition {
    fn read(&self) -> Result<Position, Malformed> {
        let membership = Membership::new(read_id(&self.members_id)?, self.members.read()?);
        Ok(Position { id: read_id(&self.id)?, membership })
    }
}

impl<'a> KeptPayload<'a> {
    fn of(payload: &'a Payload) -> Self {
        match payload {
            EntryPayload::Blank => Self::Blank,
            EntryPayload::Normal(Judged { term, bytes }) => Self::Judged { term: *term, bytes },
            EntryPayload::Membership(members) => Self::Members(KeptMembers::of(members)),
        }
    }
}

impl ArchivedKeptPayload<'_> {
    /// `whole` is what it is read from.
    fn read(&self, whole: &Bytes) -> Result<Payload, Malformed> {
        Ok(match self {
            Self::Blank => EntryPayload::Blank,
            Self::Judged { term, bytes } => EntryPayload::Normal(Judged { term: term.to_native(), bytes: whole.slice_ref(bytes) }),
            Self::Members(members) => EntryPayload::Membership(members.read()?),
        })
    }
}

impl<'a> KeptEntry<'a> {
    fn of(entry: &'a LogEntry) -> Self {
        let KeptId { term, index } = KeptId::of(&entry.log_id);
        Self { term, index, payload: KeptPayload::of(&entry.payload) }
    }
}

impl ArchivedKeptEntry<'_> {
    fn read(&self, whole: &Bytes) -> Result<LogEntry, Malformed> {
        let log_id = log_id(self.term.to_native(), self.index.to_native())?;
        Ok(LogEntry { log_id, payload: self.payload.read(whole)? })
    }
}

impl<'a> KeptBody<'a> {
    fn of(body: &'a Body) -> Self {
        let id = |id: &Option<LogId>| id.as_ref().map(KeptId::of);
        match body {
            Body::Append(AppendEntriesRequest { vote, prev_log_id, entries, leader_commit }) => Self::Append {
                vote: KeptVote::of(vote),
                previous: id(prev_log_id),
                entries: entries.iter().map(KeptEntry::of).collect(),
                commit: id(leader_commit),
            },
            Body::Vote(VoteRequest { vote, last_log_id, leadership_transfer }) => {
                Self::Vote { vote: KeptVote::of(vote), last: id(last_log_id), is_transfer: *leadership_transfer }
            }
            Body::PreVote(VoteRequest { vote, last_log_id, leadership_transfer }) => {
                Self::PreVote { vote: KeptVote::of(vote), last: id(last_log_id), is_transfer: *leadership_transfer }
            }
            Body::Transfer(transfer) => Self::Transfer {
                vote: KeptVote::of(transfer.from_leader()),
                to: *transfer.to_node_id(),
                last: transfer.last_log_id().map(KeptId::of),
            },
            Body::Piece(Part { vote, position, number, piece: Piece { bytes, is_last } }) => {
                Self::Piece { vote: KeptVote::of(vote), position: KeptPosition::of(position), number: *number, bytes, is_last: *is_last }
            }
            Body::Ask(bytes) => Self::Ask(bytes),
            Body::Committed => Self::Committed,
        }
    }
}

impl ArchivedKeptBody<'_> {
    fn read(&self, whole: &Bytes) -> Result<Body, Malformed> {
        let vote_request = |vote: &ArchivedKeptVote, last, is_transfer: &bool| {
            Ok(VoteRequest { vote: vote.read_candidate()?, last_log_id: read_id(last)?, leadership_transfer: *is_transfer })
        };
        Ok(match self {
            Self::Append { vote, previous, entries, commit } => {
                let prev_log_id = read_id(previous)?;
                let entries = entries.iter().map(|entry| entry.read(whole)).collect::<Result<Vec<_>, _>>()?;
                check_order(prev_log_id, &entries)?;
                Body::Append(AppendEntriesRequest { vote: vote.read_committed()?, prev_log_id, entries, leader_commit: read_id(commit)? })
            }
            Self::Vote { vote, last, is_transfer } => Body::Vote(vote_request(vote, last, is_transfer)?),
            Self::PreVote { vote, last, is_transfer } => Body::PreVote(vote_request(vote, last, is_transfer)?),
            Self::Transfer { vote, to, last } => {
                Body::Transfer(TransferLeaderRequest::new(vote.read_committed()?, to.to_native(), read_id(last)?))
            }
            Self::Piece { vote, position, number, bytes, is_last } => Body::Piece(Part {
                vote: vote.read_committed()?,
                position: position.read()?,
                number: number.to_native(),
                piece: Piece { bytes: whole.slice_ref(bytes), is_last: *is_last },
            }),
            Self::Ask(bytes) => Body::Ask(whole.slice_ref(bytes)),
            Self::Committed => Body::Committed,
        })
    }
}

/// Each entry follows the one before it, and no term goes back.
fn check_order(mut previous: Option<LogId>, entries: &[LogEntry]) -> Result<(), Malformed> {
    for entry in entries {
        let next = previous.map_or(0, |id| id.index + 1);
        if entry.log_id.index != next || previous > Some(entry.log_id) {
            return Err(Malformed);
        }
        previous = Some(entry.log_id);
    }
    Ok(())
}

impl<'a> KeptReply<'a> {
    fn of(reply: &'a Reply) -> Self {
        let id = |id: &Option<LogId>| id.as_ref().map(KeptId::of);
        match reply {
            Reply::Append(AppendEntriesResponse::Success) => Self::Appended,
            Reply::Append(AppendEntriesResponse::PartialSuccess(last)) => Self::AppendedTo(id(last)),
            Reply::Append(AppendEntriesResponse::Conflict) => Self::Conflict,
            Reply::Append(AppendEntriesResponse::HigherVote(vote)) => Self::HigherVote(KeptVote::of(vote)),
            Reply::Vote(VoteResponse { vote, vote_granted, last_log_id }) => {
                Self::Vote { vote: KeptVote::of(vote), is_granted: *vote_granted, last: id(last_log_id) }
            }
            Reply::Transfer(Ok(())) => Self::Transferred,
            Reply::Transfer(Err(TransferLeaderError::VoteChanged { expected, actual })) => {
                Self::VoteChanged { expected: KeptVote::of(expected), actual: KeptVote::of(actual) }
            }
            Reply::Transfer(Err(TransferLeaderError::LogNotFlushed { expected, actual })) => {
                Self::NotFlushed { expected: id(expected), actual: id(actual) }
            }
            Reply::Taken => Self::Taken,
            Reply::Installed(SnapshotResponse { vote }) => Self::Installed(KeptVote::of(vote)),
            Reply::Answered(bytes) => Self::Answered(bytes),
            Reply::Committed(index) => Self::Committed(*index),
        }
    }
}

impl ArchivedKeptReply<'_> {
    fn read(&self) -> Result<Reply, Malformed> {
        let transfer = |result: TransferLeaderResponse<Types>| Reply::Transfer(result);
        Ok(match self {
            Self::Appended => Reply::Append(AppendEntriesResponse::Success),
            Self::AppendedTo(last) => Reply::Append(AppendEntriesResponse::PartialSuccess(read_id(last)?)),
            Self::Conflict => Reply::Append(AppendEntriesResponse::Conflict),
            Self::HigherVote(vote) => Reply::Append(AppendEntriesResponse::HigherVote(vote.read())),
            Self::Vote { vote, is_granted, last } => {
                Reply::Vote(VoteResponse { vote: vote.read(), vote_granted: *is_granted, last_log_id: read_id(last)? })
            }
            Self::Transferred => transfer(Ok(())),
            Self::VoteChanged { expected, actual } => {
                transfer(Err(TransferLeaderError::VoteChanged { expected: expected.read(), actual: actual.read() }))
            }
            Self::NotFlushed { expected, actual } => {
                transfer(Err(TransferLeaderError::LogNotFlushed { expected: read_id(expected)?, actual: read_id(actual)? }))
            }
            Self::Taken => Reply::Taken,
            Self::Installed(vote) => Reply::Installed(SnapshotResponse { vote: vote.read() }),
            Self::Answered(bytes) => Reply::Answered(Bytes::copy_from_slice(bytes)),
            Self::Committed(index) => Reply::Committed(index.as_ref().map(|index| index.to_native())),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn members() -> Members {
        Members::new(vec![BTreeSet::from([1, 2, 3]), BTreeSet::from([2, u64::MAX])], BTreeSet::from([1, 2, 3, 9, u64::MAX])).unwrap()
    }

    fn id(term: u64, index: u64) -> LogId {
        LogId::new(term.into(), index)
    }

    fn judged(bytes: &'static [u8]) -> Payload {
        EntryPayload::Normal(Judged { term: 4, bytes: Bytes::from_static(bytes) })
    }

    fn positions() -> [Position; 2] {
        [Position::default(), Position { id: Some(id(3, 7)), membership: Membership::new(Some(id(2, 5)), members()) }]
    }

    fn append(previous: Option<LogId>, entries: Vec<(LogId, Payload)>) -> Body {
        let entries = entries.into_iter().map(|(log_id, payload)| LogEntry { log_id, payload }).collect();
        let vote = Vote::new_committed(4, 1);
        Body::Append(AppendEntriesRequest { vote, prev_log_id: previous, entries, leader_commit: Some(id(3, 6)) })
    }

    fn bodies() -> Vec<Body> {
        let entries = vec![
            (id(3, 8), EntryPayload::Blank),
            (id(4, 9), judged(b"entry")),
            (id(4, 10), judged(b"")),
            (id(4, 11), EntryPayload::Membership(members())),
        ];
        let candidate = VoteRequest { vote: Vote::new(5, 2), last_log_id: Some(id(4, 9)), leadership_transfer: true };
        let part = |position, is_last| Part {
            vote: Vote::new_committed(4, 1),
            position,
            number: 3,
            piece: Piece { bytes: Bytes::from_static(b"a piece"), is_last },
        };
        let [none, some] = positions();
        vec![
            append(None, vec![]),
            append(None, vec![(id(0, 0), EntryPayload::Blank)]),
            append(Some(id(3, 7)), entries),
            Body::Vote(candidate.clone()),
            Body::PreVote(VoteRequest { leadership_transfer: false, last_log_id: None, ..candidate }),
            Body::Transfer(TransferLeaderRequest::new(Vote::new_committed(4, 1), 2, Some(id(4, 9)))),
            Body::Piece(part(none, false)),
            Body::Piece(part(some, true)),
            Body::Ask(Bytes::from_static(b"a question")),
            Body::Committed,
        ]
    }

    /// All that is in it.
    fn shown(body: &Body) -> String {
        match body {
            Body::Append(append) => {
                let bytes = append.entries.iter().filter_map(|entry| match &entry.payload {
                    EntryPayload::Normal(judged) => Some(&judged.bytes),
                    _ => None,
                });
                format!("append {append:?} {:?}", bytes.collect::<Vec<_>>())
            }
            Body::Vote(vote) => format!("vote {vote:?}"),
            Body::PreVote(vote) => format!("pre-vote {vote:?}"),
            Body::Transfer(transfer) => format!("{transfer:?}"),
            Body::Piece(Part { vote, position, number, piece }) => format!("{vote:?} {position:?} {number} {piece:?}"),
            Body::Ask(bytes) => format!("{bytes:?}"),
            Body::Committed => "how far".to_owned(),
        }
    }

    fn replies() -> Vec<Reply> {
        let (vote, last) = (Vote::new_committed(4, 1), Some(id(4, 9)));
        vec![
            Reply::Append(AppendEntriesResponse::Success),
            Reply::Append(AppendEntriesResponse::PartialSuccess(None)),
            Reply::Append(AppendEntriesResponse::PartialSuccess(last)),
            Reply::Append(AppendEntriesResponse::Conflict),
            Reply::Append(AppendEntriesResponse::HigherVote(Vote::new(7, 3))),
            Reply::Vote(VoteResponse { vote, vote_granted: true, last_log_id: last }),
            Reply::Transfer(Ok(())),
            Reply::Transfer(Err(TransferLeaderError::VoteChanged { expected: vote, actual: Vote::new(7, 3) })),
            Reply::Transfer(Err(TransferLeaderError::LogNotFlushed { expected: last, actual: None })),
            Reply::Taken,
            Reply::Installed(SnapshotResponse { vote }),
            Reply::Answered(Bytes::from_static(b"an answer")),
            Reply::Committed(None),
            Reply::Committed(Some(9)),
        ]
    }

    fn shown_reply(reply: &Reply) -> String {
        match reply {
            Reply::Append(append) => format!("{append:?}"),
            Reply::Vote(vote) => format!("{vote:?}"),
            Reply::Transfer(transfer) => format!("{transfer:?}"),
            Reply::Taken => "taken".to_owned(),
            Reply::Installed(installed) => format!("{installed:?}"),
            Reply::Answered(bytes) => format!("{bytes:?}"),
            Reply::Committed(index) => format!("committed {index:?}"),
        }
    }

    fn encoded() -> Vec<Vec<u8>> {
        let payloads = [EntryPayload::Blank, judged(b"entry"), EntryPayload::Membership(members())];
        let mut all: Vec<Vec<u8>> = payloads.iter().map(encode_payload).collect();
        all.extend(bodies().into_iter().map(|body| Request { group: GroupId(1), body }.encode()));
        all.extend(replies().into_iter().map(|reply| Answer(reply).encode()));
        all.extend(positions().iter().map(Position::encode));
        all.push(encode_vote(&Vote::new(1, 2)));
        all
    }

    fn decode_as_all(bytes: Vec<u8>) {
        let bytes = Bytes::from(bytes);
        let _ = decode_payload(&bytes);
        let _ = decode_vote(&bytes);
        let _ = Position::decode(&bytes);
        let _ = Request::decode(&bytes).map(|request| request.encode());
        let _ = Answer::decode(&bytes).map(|answer| answer.encode());
    }

    #[test]
    fn what_is_kept_is_read_again() {
        for payload in [EntryPayload::Blank, judged(b""), judged(b"entry"), EntryPayload::Membership(members())] {
            assert_eq!(decode_payload(&encode_payload(&payload).into()).as_ref(), Ok(&payload));
        }
        for vote in [Vote::new(0, 0), Vote::new(1, 2), Vote::new_committed(u64::MAX, u64::MAX)] {
            assert_eq!(decode_vote(&encode_vote(&vote)), Ok(vote));
        }
        for position in positions() {
            assert_eq!(Position::decode(&position.encode()), Ok(position));
        }
    }

    #[test]
    fn what_is_said_is_understood() {
        for body in bodies() {
            let request = Request { group: GroupId(12), body };
            let Ok(read) = Request::decode(&request.encode().into()) else { panic!("{} is read", shown(&request.body)) };
            assert_eq!((read.group, shown(&read.body)), (request.group, shown(&request.body)));
        }
        for reply in replies() {
            let answer = Answer(reply);
            let Ok(read) = Answer::decode(&answer.encode()) else { panic!("{} is read", shown_reply(&answer.0)) };
            assert_eq!(shown_reply(&read.0), shown_reply(&answer.0));
        }
    }

    #[test]
    fn what_no_node_may_say_is_malformed() {
        let check = |body: Body| assert!(Request::decode(&Request { group: GroupId(0), body }.encode().into()).is_err());
        check(append(None, vec![(id(1, 1), EntryPayload::Blank)]));
        check(append(Some(id(3, 7)), vec![(id(3, 8), EntryPayload::Blank), (id(3, 10), EntryPayload::Blank)]));
        check(append(Some(id(3, 7)), vec![(id(2, 8), EntryPayload::Blank)]));
        check(append(Some(id(3, u64::MAX)), vec![]));
        check(Body::Vote(VoteRequest::new(Vote::new_committed(1, 1), None)));
        check(Body::Transfer(TransferLeaderRequest::new(Vote::new(1, 1), 2, None)));
        let nobody = Members::default();
        assert!(decode_payload(&encode_payload(&EntryPayload::Membership(nobody)).into()).is_ok(), "there are none before it is founded");
        let stranger = KeptMembers { voters: vec![vec![1]], nodes: vec![2] };
        assert!(decode_payload(&archive(&KeptPayload::Members(stranger)).into()).is_err());
    }

    #[test]
    fn bytes_of_an_entry_are_not_copied() {
        let frame = Bytes::from(Request { group: GroupId(0), body: append(None, vec![(id(4, 0), judged(b"entry"))]) }.encode());
        let Ok(Request { body: Body::Append(append), .. }) = Request::decode(&frame) else { panic!("it is read") };
        let EntryPayload::Normal(judged) = &append.entries[0].payload else { panic!("it was judged") };
        assert!(frame.as_ptr_range().contains(&judged.bytes.as_ptr()));
    }

    proptest! {
        #[test]
        fn no_bytes_are_read_beyond_their_end(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            decode_as_all([&[FORM][..], &bytes].concat());
            decode_as_all(bytes);
        }

        #[test]
        fn with_another_byte_it_is_a_message_or_none(which in any::<prop::sample::Index>(), at in any::<prop::sample::Index>(), byte in any::<u8>()) {
            let all = encoded();
            let mut bytes = which.get(&all).clone();
            let at = at.index(bytes.len());
            bytes[at] = byte;
            decode_as_all(bytes[..at].to_vec());
            decode_as_all(bytes);
        }
    }
}
