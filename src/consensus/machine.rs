//! Openraft's state machine: it has no state, and hands on to the receiver. A snapshot is where it is; its pieces are with the receiver.

use std::io;
use std::rc::Rc;

use futures_util::{Stream, TryStreamExt};
use openraft::OptionalSend;
use openraft::storage::{EntryResponder, RaftSnapshotBuilder, RaftStateMachine};
use openraft::type_config::alias;

use super::Position;
use super::group::Group;
use super::types::{LogId, Membership, Types};

pub type RaftSnapshot = alias::SnapshotOf<Types, Position>;
pub type SnapshotMeta = alias::SnapshotMetaOf<Types>;

#[derive(Clone)]
pub struct Machine(pub Rc<Group>);

impl RaftStateMachine<Types> for Machine {
    type SnapshotData = Position;
    type SnapshotBuilder = Self;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, Membership), io::Error> {
        let Position { id, membership } = self.0.applied();
        Ok((id, membership))
    }

    async fn apply<S>(&mut self, mut entries: S) -> Result<(), io::Error>
    where
        S: Stream<Item = Result<EntryResponder<Types>, io::Error>> + Unpin + OptionalSend,
    {
        let mut applied = Vec::new();
        while let Some((entry, responder)) = entries.try_next().await? {
            if let Some(responder) = responder {
                // Notes the ticket, which goes with the entry.
                responder.send(());
            }
            applied.push(entry);
        }
        self.0.apply(applied);
        Ok(())
    }

    async fn try_create_snapshot_builder(&mut self, is_forced: bool) -> Option<Self> {
        (is_forced || self.0.can_build()).then(|| self.clone())
    }

    async fn get_snapshot_builder(&mut self) -> Self {
        self.clone()
    }

    async fn install_snapshot(&mut self, _meta: &SnapshotMeta, snapshot: Position) -> Result<(), io::Error> {
        self.0.install(snapshot).await.map_err(|_| gone())
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<RaftSnapshot>, io::Error> {
        Ok(self.0.snapshot().map(with_meta))
    }
}

impl RaftSnapshotBuilder<Types> for Machine {
    type SnapshotData = Position;

    async fn build_snapshot(&mut self) -> Result<RaftSnapshot, io::Error> {
        if !self.0.can_build() {
            // Forced, which openraft does where it finds a log without a snapshot.
            return Ok(with_meta(self.0.snapshot().unwrap_or_default()));
        }
        self.0.build().await.map_err(|_| gone())?;
        self.0.snapshot().map(with_meta).ok_or_else(gone)
    }
}

/// The snapshot as openraft knows it.
pub fn with_meta(position: Position) -> RaftSnapshot {
    let Position { id, membership } = position.clone();
    RaftSnapshot { meta: SnapshotMeta { last_log_id: id, last_membership: membership }, snapshot: position }
}

fn gone() -> io::Error {
    io::Error::other("the receiver has gone")
}
