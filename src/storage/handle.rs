//! The process's side of a store: its threads, and the senders that shards hold.

use super::counters::Counters;
use super::disk::{Disk, Files};
use super::fold::{Folder, Job, News};
use super::open::{Lock, journal_path};
use super::writer::{Limits, Writer};
use super::{Answer, OpenError, Options, Store};
use crate::base::{ShardIndex, Time};
use crate::journal::Append;
use crossbeam_channel::{Receiver, bounded, never, select, unbounded};
use std::sync::Arc;
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

type Message = (ShardIndex, Vec<Append>);

/// One shard's way to the storage thread.
#[derive(Clone)]
pub struct Sender {
    shard: ShardIndex,
    channel: crossbeam_channel::Sender<Message>,
}

impl Sender {
    /// Hands over changes, in the order of their tickets. Never waits: given back where there is no room, or no store any more.
    pub fn try_send(&self, appends: Vec<Append>) -> Result<(), Vec<Append>> {
        self.channel.try_send((self.shard, appends)).map_err(|refused| refused.into_inner().1)
    }
}

/// A running store. Dropped without [`Self::stop`], its threads end by themselves, once every sender is gone too.
pub struct Handle {
    channel: crossbeam_channel::Sender<Message>,
    news: crossbeam_channel::Sender<News>,
    writer: JoinHandle<()>,
    folder: JoinHandle<()>,
    counters: Arc<Counters>,
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
    let Store { directory, base, position, sealed, lock } = store;
    let counters = Arc::new(Counters::default());
    let path = journal_path(&directory);
    let open_files = || Files::open(&path).map_err(OpenError::host(&path));
    let salt = position.salt;
    let segments = sealed.len();
    let waiting = sealed.into();
    let folder = Folder { base, files: open_files()?, salt, options, counters: counters.clone(), waiting, has_garbage: true };
    let Options { ack, shards, segment_bytes, segment_age_ms, .. } = options;
    let limits = Limits { ack, shards, segment_bytes, segment_age_ms };
    let disk: Box<dyn Disk> = Box::new(open_files()?);
    let writer = Writer::new(disk, limits, position, counters.clone());

    let (channel, messages) = bounded(options.queue_messages_max);
    let (news_sender, news) = unbounded();
    let (jobs, jobs_receiver) = unbounded();
    let host = |error| OpenError::Host { path: directory.clone(), error };
    let folder_news = news_sender.clone();
    let lock = Arc::new(lock);
    let folder_lock = lock.clone();
    let run_folder = move || {
        let _lock: Arc<Lock> = folder_lock;
        pin(core);
        folder.run(&jobs_receiver, &folder_news);
    };
    let folder = Builder::new().name("storage-fold".to_owned()).spawn(run_folder).map_err(host)?;
    let waiting = Waiting { segments, reason: None };
    let turn = Turn { writer, messages, news, jobs, options, start: Instant::now(), answers: Vec::new(), waiting, is_stopping: false };
    let run_writer = move || {
        let _lock: Arc<Lock> = lock;
        pin(core);
        turn.run(&notify);
    };
    let writer = Builder::new().name("storage".to_owned()).spawn(run_writer).map_err(host)?;
    Ok(Handle { channel, news: news_sender, writer, folder, counters })
}

fn pin(core: Option<usize>) {
    if let Some(id) = core {
        core_affinity::set_for_current(core_affinity::CoreId { id });
    }
}

impl Handle {
    pub fn sender(&self, shard: ShardIndex) -> Sender {
        Sender { shard, channel: self.channel.clone() }
    }

    pub fn counters(&self) -> Arc<Counters> {
        self.counters.clone()
    }

    /// Writes what is queued, syncs, closes and waits for the threads. While the disk fails, what is queued is given up: its
    /// updates were never acknowledged as written.
    pub fn stop(self) {
        let _ = self.news.send(News::Stop);
        let _ = self.writer.join();
        let _ = self.folder.join();
    }
}

/// The storage thread.
struct Turn {
    writer: Writer,
    messages: Receiver<Message>,
    news: Receiver<News>,
    jobs: crossbeam_channel::Sender<Job>,
    options: Options,
    start: Instant,
    answers: Vec<(ShardIndex, Answer)>,
    waiting: Waiting,
    is_stopping: bool,
}

/// Segments that are not folded yet, and why if that fails.
struct Waiting {
    segments: usize,
    reason: Option<String>,
}

impl Turn {
    fn run(mut self, notify: &dyn Fn(ShardIndex, Answer)) {
        let mut synced_at = self.start;
        let mut tried_at = self.start;
        while !self.is_stopping {
            self.wait();
            let now = self.now();
            let is_behind = self.waiting.segments >= self.options.segments_waiting_max;
            if self.writer.is_failing() {
                if tried_at.elapsed() >= Duration::from_millis(self.options.retry_ms) && !is_behind {
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
                if self.messages.is_empty() {
                    self.writer.rest(now, &mut self.answers);
                }
            }
            if synced_at.elapsed() >= Duration::from_millis(self.options.sync_interval_ms) {
                synced_at = Instant::now();
                self.writer.ask_sync();
            }
            self.hand_over();
            self.answers.drain(..).for_each(|(shard, answer)| notify(shard, answer));
        }
        self.end();
        self.answers.drain(..).for_each(|(shard, answer)| notify(shard, answer));
    }

    /// Waits for a message, news, or the next thing that is due.
    fn wait(&mut self) {
        let is_behind = self.waiting.segments >= self.options.segments_waiting_max;
        let takes = !self.writer.is_failing() && !is_behind;
        let messages = if takes { self.messages.clone() } else { never() };
        let tick_ms = if self.writer.is_failing() { self.options.retry_ms } else { self.options.sync_interval_ms };
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
            let Ok((shard, appends)) = self.messages.try_recv() else { return };
            self.writer.take(shard, &appends, &mut self.answers);
        }
    }

    fn handle_news(&mut self, news: News) {
        match news {
            News::Folded { checkpoint } => {
                self.writer.handle_folded(checkpoint);
                self.waiting = Waiting { segments: self.waiting.segments.saturating_sub(1), reason: None };
            }
            News::FoldFailed { reason } => self.waiting.reason = Some(reason),
            News::Synced { through, result } => self.writer.handle_synced(through, &result),
            News::Stop => self.is_stopping = true,
        }
    }

    /// Too many segments wait: said only if folding fails, since otherwise it is under way.
    fn complain(&mut self) {
        if let Some(reason) = &self.waiting.reason {
            let reason = format!("{} segments cannot be checkpointed: {reason}", self.waiting.segments);
            self.writer.fail(&reason, &mut self.answers);
        }
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

    fn end(&mut self) {
        let now = self.now();
        while !self.writer.is_failing() && !self.messages.is_empty() {
            self.take_group();
            self.writer.commit(now, &mut self.answers);
        }
        self.hand_over();
        self.writer.close(now, &mut self.answers);
        let _ = self.jobs.send(Job::Stop);
    }

    fn now(&self) -> Time {
        Time(self.start.elapsed().as_nanos() as u64)
    }
}
