//! The process's side of a store: its threads, and the senders that shards hold.

use super::counters::Counters;
use super::disk::{Disk, Files};
use super::ending::{note_begin, note_end};
use super::error::panic_text;
use super::fold::{Folder, Job, News};
use super::logs::{LogSender, LogWrite};
use super::open::{Lock, journal_path};
use super::snapshots::Snapshots;
use super::writer::{Writer, WriterLimits};
use super::{Answer, OpenError, Options, Store};
use crate::base::{ShardIndex, Time};
use crate::journal::Append;
use crossbeam_channel::{Receiver, bounded, never, select, unbounded};
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

type Message = (ShardIndex, Vec<Append>);

/// One shard's way to the storage thread.
#[derive(Clone)]
pub struct Sender {
    shard: ShardIndex,
    channel: crossbeam_channel::Sender<Message>,
    /// Whether a shard has given up what it could not hand over.
    has_lost: Arc<AtomicBool>,
}

impl Sender {
    /// Hands over changes, in the order of their tickets. Never waits: given back where there is no room, or no store any more.
    pub fn try_send(&self, appends: Vec<Append>) -> Result<(), Vec<Append>> {
        self.channel.try_send((self.shard, appends)).map_err(|refused| refused.into_inner().1)
    }

    /// The shard has given up changes: the run does not end in order.
    pub fn note_lost(&self) {
        self.has_lost.store(true, Relaxed);
    }
}

/// A running store. Dropped without [`Self::stop`], its threads end by themselves, once every sender is gone too.
pub struct Handle {
    channel: crossbeam_channel::Sender<Message>,
    news: crossbeam_channel::Sender<News>,
    jobs: crossbeam_channel::Sender<Job>,
    /// Gives the last record, where all that was handed over is written and nothing else is known to have failed.
    writer: JoinHandle<Option<u64>>,
    /// Tells whether every sync has worked.
    folder: JoinHandle<bool>,
    counters: Arc<Counters>,
    has_lost: Arc<AtomicBool>,
    directory: PathBuf,
    /// Held until it is noted how the run ended.
    _lock: Arc<Lock>,
}

/// Starts the store's two threads. `notify` is called on the storage thread and must not wait.
///
/// Both threads run on `core` if it is given; fjall's own runs where the thread that opened the store may run.
pub fn start(
    store: Store,
    options: Options,
    core: Option<usize>,
    notify: impl Fn(ShardIndex, Answer) + Send + 'static,
) -> Result<Handle, OpenError> {
    let disk = Box::new(open_files(&store)?);
    start_on(disk, store, options, core, notify)
}

fn open_files(store: &Store) -> Result<Files, OpenError> {
    let path = journal_path(&store.directory);
    Files::open(&path).map_err(OpenError::host(&path))
}

/// [`start`] with a journal that is written to `disk`.
pub(super) fn start_on(
    disk: Box<dyn Disk>,
    store: Store,
    options: Options,
    core: Option<usize>,
    notify: impl Fn(ShardIndex, Answer) + Send + 'static,
) -> Result<Handle, OpenError> {
    let files = open_files(&store)?;
    let Store { directory, base, position, sealed, last_run, lock } = store;
    note_begin(&directory, options.ack, last_run).map_err(OpenError::host(&directory))?;
    let counters = Arc::new(Counters::default());
    let salt = position.salt;
    let segments = sealed.len();
    let waiting = sealed.into();
    let folder = Folder { base, files, salt, options, counters: counters.clone(), waiting, has_garbage: true, builds: Vec::new() };
    let Options { ack, shards, segment_bytes, segment_age_ms, .. } = options;
    let limits = WriterLimits { ack, shards, segment_bytes, segment_age_ms };
    let writer = Writer::new(disk, limits, position, counters.clone());

    let (channel, messages) = bounded(options.queue_messages_max);
    let (news_sender, news) = unbounded();
    let (jobs, jobs_receiver) = unbounded();
    let to_folder = jobs.clone();
    let host = |error| OpenError::Host { path: directory.clone(), error };
    let folder_news = news_sender.clone();
    let lock = Arc::new(lock);
    let folder_lock = lock.clone();
    let run_folder = move || {
        let _lock: Arc<Lock> = folder_lock;
        pin(core);
        folder.run(&jobs_receiver, &folder_news)
    };
    let folder = Builder::new().name("storage-fold".to_owned()).spawn(run_folder).map_err(host)?;
    let waiting = Waiting { segments, ..Waiting::default() };
    let (start, answers) = (Instant::now(), Vec::new());
    let logs = VecDeque::new();
    let turn = Turn { writer, messages, news, logs, jobs, options, start, answers, waiting, is_stopping: false };
    let writer_lock = lock.clone();
    let run_writer = move || {
        let _lock: Arc<Lock> = writer_lock;
        pin(core);
        catch_unwind(AssertUnwindSafe(|| turn.run(&notify))).unwrap_or_else(|panic| {
            // Without a word the shards would wait for ever.
            let reason: Arc<str> = format!("the storage thread has ended: {}", panic_text(&*panic)).into();
            (0..shards).for_each(|shard| notify(ShardIndex(shard), Answer::Failing { reason: reason.clone() }));
            None
        })
    };
    let writer = Builder::new().name("storage".to_owned()).spawn(run_writer).map_err(host)?;
    Ok(Handle { channel, news: news_sender, jobs: to_folder, writer, folder, counters, has_lost: Arc::default(), directory, _lock: lock })
}

fn pin(core: Option<usize>) {
    if let Some(id) = core {
        core_affinity::set_for_current(core_affinity::CoreId { id });
    }
}

impl Handle {
    pub fn sender(&self, shard: ShardIndex) -> Sender {
        Sender { shard, channel: self.channel.clone(), has_lost: self.has_lost.clone() }
    }

    /// The way to the snapshots of groups.
    pub fn snapshots(&self) -> Snapshots {
        Snapshots { news: self.news.clone(), jobs: self.jobs.clone() }
    }

    /// The way of groups' logs to the store.
    pub fn logs(&self) -> LogSender {
        LogSender(self.news.clone())
    }

    pub fn counters(&self) -> Arc<Counters> {
        self.counters.clone()
    }

    /// Writes what is queued, syncs, closes and waits for the threads: all that was handed over and acknowledged is on disk. Where the
    /// disk fails, what is queued is given up, and the log says how much: no more than was never acknowledged as written.
    pub fn stop(self) {
        self.end(true);
    }

    /// The same of a server that has failed: it is not noted that the run ended in order.
    pub fn stop_failed(self) {
        self.end(false);
    }

    fn end(self, is_in_order: bool) {
        let _ = self.news.send(News::Stop);
        let (last_record, is_synced) = (self.writer.join(), self.folder.join());
        if let (Ok(Some(last_record)), Ok(true)) = (last_record, is_synced)
            && is_in_order
            && !self.has_lost.load(Relaxed)
        {
            note_end(&self.directory, last_record);
        }
    }
}

/// The storage thread.
struct Turn {
    writer: Writer,
    messages: Receiver<Message>,
    news: Receiver<News>,
    /// What is to be kept of logs and is not taken yet.
    logs: VecDeque<LogWrite>,
    jobs: crossbeam_channel::Sender<Job>,
    options: Options,
    start: Instant,
    answers: Vec<(ShardIndex, Answer)>,
    waiting: Waiting,
    is_stopping: bool,
}

/// Segments that are not folded yet, and why if that fails.
#[derive(Default)]
struct Waiting {
    segments: usize,
    reason: Option<String>,
    /// Since when too many wait and none was folded.
    stalled: Option<Instant>,
    /// Why none ever will be.
    ended: Option<String>,
}

impl Turn {
    fn run(mut self, notify: &dyn Fn(ShardIndex, Answer)) -> Option<u64> {
        let mut synced_at = self.start;
        let mut tried_at = self.start;
        while !self.is_stopping {
            self.wait();
            let now = self.now();
            let is_behind = self.is_behind();
            if self.writer.is_failing() {
                if tried_at.elapsed() >= Duration::from_millis(self.options.retry_ms) && !is_behind {
                    if self.jobs.is_empty() {
                        let _ = self.jobs.send(Job::MakeRoom);
                    }
                    self.writer.retry(now, &mut self.answers);
                    tried_at = Instant::now();
                    // What kept segments from being folded may be over as well: the next attempt tells.
                    self.waiting.reason = self.waiting.reason.take().filter(|_| self.writer.is_failing());
                }
            } else if is_behind {
                self.complain();
            } else {
                self.take_group();
                self.writer.commit(now, &mut self.answers);
                tried_at = Instant::now();
                if self.messages.is_empty() && self.logs.is_empty() {
                    self.writer.rest(now, &mut self.answers);
                }
            }
            if synced_at.elapsed() >= Duration::from_millis(self.options.sync_interval_ms) {
                synced_at = Instant::now();
                self.writer.ask_sync();
            }
            self.hand_over();
            self.tell(notify);
        }
        let last_record = self.end();
        self.tell(notify);
        last_record
    }

    fn tell(&mut self, notify: &dyn Fn(ShardIndex, Answer)) {
        self.answers.drain(..).for_each(|(shard, answer)| notify(shard, answer));
        self.writer.poll_kept().into_iter().for_each(|done| done());
    }

    /// Waits for a message, news, or the next thing that is due.
    fn wait(&mut self) {
        let takes = !self.writer.is_failing() && !self.is_behind();
        let messages = if takes { self.messages.clone() } else { never() };
        let tick_ms = match takes && !self.logs.is_empty() {
            true => 0,
            false if self.writer.is_failing() => self.options.retry_ms,
            false => self.options.sync_interval_ms,
        };
        select! {
            recv(messages) -> message => match message {
                Ok((shard, appends)) => self.writer.take(shard, &appends, &mut self.answers),
                // Nobody is left who could send.
                Err(_) => self.is_stopping = true,
            },
            recv(self.news) -> news => if let Ok(news) = news {
                self.handle_news(news);
            },
            default(Duration::from_millis(tick_ms)) => {}
        }
        while let Ok(news) = self.news.try_recv() {
            self.handle_news(news);
        }
    }

    fn take_group(&mut self) {
        while self.writer.group_bytes() < self.options.group_bytes_max {
            let write = self.logs.pop_front();
            let has_write = write.is_some();
            if let Some(write) = write {
                self.writer.take_log(write);
            }
            match self.messages.try_recv() {
                Ok((shard, appends)) => self.writer.take(shard, &appends, &mut self.answers),
                Err(_) if has_write => {}
                Err(_) => return,
            }
        }
    }

    fn handle_news(&mut self, news: News) {
        match news {
            News::Folded { checkpoint } => {
                self.writer.handle_folded(checkpoint);
                self.waiting = Waiting { segments: self.waiting.segments.saturating_sub(1), ..Waiting::default() };
            }
            News::FoldFailed { reason } => {
                if self.waiting.reason.is_none() {
                    tracing::warn!(%reason, "the journal cannot be checkpointed now");
                }
                self.waiting.reason = Some(reason);
            }
            News::FolderEnded { reason } => {
                tracing::error!(%reason, "the thread that checkpoints the journal has ended");
                self.waiting.ended = Some(reason);
            }
            News::Synced { through, result } => self.writer.handle_synced(through, &result),
            News::Log(write) => self.logs.push_back(write),
            News::Stop => self.is_stopping = true,
        }
    }

    /// Whether the journal would grow without an end if more was taken.
    fn is_behind(&self) -> bool {
        self.waiting.segments >= self.options.segments_waiting_max || self.waiting.ended.is_some()
    }

    /// The journal is behind: said only if folding fails or takes too long, since otherwise it is under way.
    fn complain(&mut self) {
        let Waiting { segments, reason, stalled, ended } = &mut self.waiting;
        let patience = Duration::from_millis(self.options.fold_patience_ms);
        let stalled = stalled.get_or_insert_with(Instant::now).elapsed();
        let reason = match (ended, reason) {
            (Some(reason), _) => format!("the journal is checkpointed no more until the server starts again: {reason}"),
            (None, Some(reason)) => format!("{segments} segments cannot be checkpointed: {reason}"),
            (None, None) if stalled >= patience => {
                format!("{segments} segments wait, and none was checkpointed for {} s", stalled.as_secs())
            }
            (None, None) => return,
        };
        self.writer.fail(&reason, &mut self.answers);
    }

    fn hand_over(&mut self) {
        for (sync, through) in self.writer.poll_syncs() {
            let _ = self.jobs.send(Job::Sync(sync, through));
        }
        for sealed in self.writer.poll_sealed() {
            self.waiting.segments += 1;
            let _ = self.jobs.send(Job::Fold(sealed));
        }
    }

    /// The last record, where everything is written, and synced but for what the other thread has still to sync.
    fn end(&mut self) -> Option<u64> {
        let now = self.now();
        if self.writer.is_failing() {
            // It may work by now, and what is not checkpointed is no hindrance to the last records.
            self.writer.retry(now, &mut self.answers);
        }
        while !(self.writer.is_failing() || self.messages.is_empty() && self.logs.is_empty()) {
            self.take_group();
            self.writer.commit(now, &mut self.answers);
        }
        let closed = self.writer.close(now, &mut self.answers);
        if let Err(error) = &closed {
            tracing::error!(%error, "the journal could not be synced at the end: what was written last may not survive a loss of power");
        }
        let queued: usize = self.messages.try_iter().map(|(_, appends)| appends.len()).sum();
        let lost = self.writer.unwritten_changes() + queued as u64;
        if lost > 0 {
            tracing::error!(records = lost, "records of stored topics are lost: they could not be written before the end");
        }
        // Segments that were ended on the way may still have to be synced.
        self.hand_over();
        let _ = self.jobs.send(Job::Stop);
        self.answers.retain(|(_, answer)| *answer != Answer::Recovered);
        self.writer.last_record().filter(|_| closed.is_ok() && lost == 0)
    }

    fn now(&self) -> Time {
        Time(self.start.elapsed().as_nanos() as u64)
    }
}
