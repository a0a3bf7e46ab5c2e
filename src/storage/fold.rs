//! The thread that folds ended segments into the state and syncs what others do not wait for.
//!
//! What fails is tried again every second and told. Should the thread itself end, that is told too: without it the journal
//! grows for ever and nothing is synced.

use super::base::Base;
use super::counters::Counters;
use super::disk::{Disk, Files, Sync};
use super::error::panic_text;
use super::groups::LogPosition;
use super::logs::LogWrite;
use super::replay::Sealed;
use super::snapshots::{ReadPiece, SnapshotJob};
use super::{BaseError, Options};
use crate::journal::Salt;
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};
use std::collections::VecDeque;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

/// Work, in order.
pub enum Job {
    Fold(Sealed),
    Sync(Sync, u64),
    Snapshot(SnapshotJob),
    /// The disk is full: what the state has left there that nothing needs goes.
    MakeRoom,
    Stop,
}

/// What the storage thread hears.
pub enum News {
    Folded {
        checkpoint: u64,
    },
    FoldFailed {
        reason: String,
    },
    /// Nothing is folded or synced any more.
    FolderEnded {
        reason: String,
    },
    Synced {
        through: u64,
        result: io::Result<()>,
    },
    /// From whoever agrees on logs.
    Log(LogWrite),
    /// From the handle: end.
    Stop,
}

pub struct Folder {
    pub base: Base,
    pub files: Files,
    pub salt: Salt,
    pub options: Options,
    pub counters: Arc<Counters>,
    pub waiting: VecDeque<Sealed>,
    pub has_garbage: bool,
    /// Who waits until a group's state goes as far as an index.
    pub builds: Vec<Build>,
}

/// Who waits for a snapshot.
pub struct Build {
    group: u16,
    index: u64,
    done: Box<dyn FnOnce(LogPosition) + Send>,
}

impl Folder {
    /// Works until it is told to stop. What is not folded by then is replayed at the next start.
    /// Tells at the end whether every sync has worked.
    pub fn run(self, jobs: &Receiver<Job>, news: &Sender<News>) -> bool {
        catch_unwind(AssertUnwindSafe(|| self.work(jobs, news))).unwrap_or_else(|panic| {
            let _ = news.send(News::FolderEnded { reason: panic_text(&*panic) });
            false
        })
    }

    fn work(mut self, jobs: &Receiver<Job>, news: &Sender<News>) -> bool {
        let (mut due, mut is_sync_failing, mut has_failed, mut is_read) = (Instant::now(), false, false, false);
        loop {
            let has_work = !self.waiting.is_empty() || self.has_garbage;
            let idle = Duration::from_secs(if is_read { 60 } else { 3600 });
            // Whatever comes meanwhile does not put it off.
            let wait = if has_work { due.saturating_duration_since(Instant::now()) } else { idle };
            match jobs.recv_timeout(wait) {
                Ok(Job::Fold(sealed)) => self.waiting.push_back(sealed),
                Ok(Job::Sync(sync, through)) => {
                    let start = Instant::now();
                    let result = sync();
                    self.counters.note_sync(start.elapsed());
                    has_failed |= result.is_err();
                    say(&result, std::mem::replace(&mut is_sync_failing, result.is_err()));
                    let _ = news.send(News::Synced { through, result });
                }
                Ok(Job::Snapshot(job)) => self.take_snapshot_job(job),
                Ok(Job::MakeRoom) => self.make_room(),
                Ok(Job::Stop) | Err(RecvTimeoutError::Disconnected) => return !has_failed,
                Err(RecvTimeoutError::Timeout) if !has_work => {}
                Err(RecvTimeoutError::Timeout) => {
                    let result = self.step();
                    self.counters.is_checkpoint_failing.store(result.is_err(), Relaxed);
                    due = Instant::now() + if result.is_err() { Duration::from_secs(1) } else { Duration::ZERO };
                    match result {
                        Ok(Some(checkpoint)) => drop(news.send(News::Folded { checkpoint })),
                        Ok(None) => {}
                        Err(error) => {
                            self.counters.failures.fetch_add(1, Relaxed);
                            let _ = news.send(News::FoldFailed { reason: error.to_string() });
                        }
                    }
                }
            }
            self.counters.segments_waiting.store(self.waiting.len() as u64, Relaxed);
            is_read = self.base.release(Instant::now());
            self.finish_builds();
        }
    }

    /// An engine that has met a full disk leaves there what it had begun, and has threads no more that would go on with it: opened anew, it takes that away. Else the disk could stay
    /// full of it, though others have made room meanwhile.
    fn make_room(&mut self) {
        if let Err(error) = self.base.attempt(Base::revive) {
            tracing::debug!(%error, "the state cannot be opened anew yet");
        }
    }

    fn take_snapshot_job(&mut self, job: SnapshotJob) {
        let said = |result: Result<(), BaseError>| result.map_err(|error| error.to_string());
        match job {
            SnapshotJob::Build { group, index, done } => self.builds.push(Build { group, index, done }),
            SnapshotJob::Read { group, index, number, done } => {
                done(self.base.read_piece(group, index, number).unwrap_or_else(|error| ReadPiece::Failed(error.to_string())));
            }
            SnapshotJob::Stage { group, number, bytes, done } => done(said(self.base.stage(group, number, &bytes))),
            SnapshotJob::Load { group, done } => done(self.base.load(group).map_err(|error| error.to_string())),
            SnapshotJob::Install { group, position, done } => done(said(self.base.install(group, position))),
        }
    }

    /// Tells who waits for a snapshot that is there. What cannot be read now is looked at again behind the next segment.
    fn finish_builds(&mut self) {
        for Build { group, index, done } in std::mem::take(&mut self.builds) {
            match self.base.position(group) {
                Ok(Some(position)) if position.index >= index => done(position),
                _ => self.builds.push(Build { group, index, done }),
            }
        }
    }

    /// Folds one segment, or deletes some events that are no longer retained.
    pub fn step(&mut self) -> Result<Option<u64>, BaseError> {
        let Some(sealed) = self.waiting.front().copied() else {
            self.has_garbage = self.base.collect_garbage(self.options.garbage_events_max)?;
            return Ok(None);
        };
        let start = Instant::now();
        if sealed.until > self.base.through() + 1 {
            let bytes = self.files.read(sealed.segment, usize::MAX).map_err(fjall::Error::Io)?;
            self.base
                .fold(&bytes, self.salt, sealed.first_record, sealed.until)
                .map_err(|error| BaseError::Corrupt(format!("segment {}: {error}", sealed.segment)))?;
        }
        self.counters.note_checkpoint(start.elapsed());
        self.has_garbage = true;
        self.waiting.pop_front();
        // One that stays is found to be stale at the next start.
        let _ = self.files.remove(sealed.segment);
        Ok(Some(self.base.through()))
    }
}

/// Says that syncs fail, and that they work again, once each.
fn say(result: &io::Result<()>, was_failing: bool) {
    match result {
        Err(error) if !was_failing => {
            tracing::error!(%error, "the journal cannot be synced: what was acknowledged as written may not survive a loss of power");
        }
        Ok(()) if was_failing => tracing::info!("the journal is synced again"),
        _ => {}
    }
}
