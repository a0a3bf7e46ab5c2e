//! One way to one node, in one lane: connects, greets, asks, and connects again when that ends.
//!
//! Whoever asks while there is no connection, or too many questions are under way, is told at once that the node is not reached: consensus waits by itself.

use std::cell::RefCell;
use std::collections::HashMap;
use std::io;
use std::rc::Rc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot};
use tokio::task::{AbortHandle, spawn_local};
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tokio_rustls::client::TlsStream;

use crate::consensus::{Answer, Asking, NodeId, Request, Unreached};

use super::certificates::server_name;
use super::frame::{Frame, GREETING_BYTES_MAX, Kind};
use super::hello::{Hello, LaneName, Reason, Refusal};
use super::shared::{Held, Shared, certified, explain};

/// Frames that are written before they are sent on their way.
const TOGETHER_MAX: usize = 64;

/// See the module.
pub struct Link {
    target: NodeId,
    lane: LaneName,
    requests_max: usize,
    frame_bytes_max: usize,
    state: RefCell<State>,
}

struct State {
    open: Option<Open>,
    /// Why the last attempt has failed, or how the last connection has ended.
    trouble: Option<String>,
    /// Since when it is as it is.
    since_ms: u64,
    /// The number of the next question. Never again the same, whatever connection it goes over.
    next: u64,
}

struct Open {
    out: mpsc::Sender<Frame>,
    waiting: HashMap<u64, oneshot::Sender<Result<Answer, Unreached>>>,
}

/// Forgets a question when its asker has gone.
struct Forget {
    link: Rc<Link>,
    number: u64,
}

/// Ends a task with what it belongs to.
pub struct Ending(pub AbortHandle);

impl Drop for Ending {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Drop for Forget {
    fn drop(&mut self) {
        if let Some(open) = &mut self.link.state.borrow_mut().open {
            open.waiting.remove(&self.number);
        }
    }
}

impl Link {
    /// Begins to connect, and does so until its task ends.
    pub fn start(shared: Rc<Shared>, target: NodeId, lane: LaneName) -> (Rc<Self>, AbortHandle) {
        let state = State { open: None, trouble: None, since_ms: shared.now_ms(), next: 0 };
        let (requests_max, frame_bytes_max) = (shared.options.requests_max(lane), shared.options.frame_bytes_max);
        let link = Rc::new(Self { target, lane, requests_max, frame_bytes_max, state: RefCell::new(state) });
        let task = spawn_local(run(link.clone(), shared)).abort_handle();
        (link, task)
    }

    /// Asks the node. What is returned may be dropped at any time.
    pub fn ask(self: &Rc<Self>, request: &Request) -> Asking {
        let Some((number, answer)) = self.send(request) else { return Box::pin(async { Err(Unreached::Unsent) }) };
        let forget = Forget { link: self.clone(), number };
        Box::pin(async move {
            let answer = answer.await.unwrap_or(Err(Unreached::Unanswered));
            drop(forget);
            answer
        })
    }

    fn send(&self, request: &Request) -> Option<(u64, oneshot::Receiver<Result<Answer, Unreached>>)> {
        let mut state = self.state.borrow_mut();
        let State { open, next, .. } = &mut *state;
        let open = open.as_mut().filter(|open| open.waiting.len() < self.requests_max)?;
        let body = request.encode();
        if body.len() > self.frame_bytes_max {
            tracing::error!(bytes = body.len(), "a message to another server is longer than `frame_bytes_max`");
            return None;
        }
        *next += 1;
        open.out.try_send(Frame::new(Kind::Request, *next, body)).ok()?;
        let (done, answer) = oneshot::channel();
        open.waiting.insert(*next, done);
        Some((*next, answer))
    }

    /// Says something that has no answer, where there is a connection and room.
    pub fn tell(&self, frame: Frame) {
        if let Some(open) = &self.state.borrow().open {
            // What is not told now is told with the next gossip.
            let _ = open.out.try_send(frame);
        }
    }

    /// Whether the node is reached, since when that is so, and why it is not.
    pub fn seen(&self) -> (bool, u64, Option<String>) {
        let state = self.state.borrow();
        (state.open.is_some(), state.since_ms, state.trouble.clone())
    }

    #[cfg(test)]
    pub fn waiting(&self) -> usize {
        self.state.borrow().open.as_ref().map_or(0, |open| open.waiting.len())
    }

    fn open(&self, out: mpsc::Sender<Frame>, now_ms: u64) {
        let mut state = self.state.borrow_mut();
        state.open = Some(Open { out, waiting: HashMap::new() });
        (state.trouble, state.since_ms) = (None, now_ms);
    }

    /// All that is under way is unanswered.
    pub fn close(&self, trouble: &str) {
        self.state.borrow_mut().open = None;
        self.note_trouble(trouble, None);
    }

    /// Notes why there is no connection; in the log where it is another reason than before.
    fn note_trouble(&self, trouble: &str, since_ms: Option<u64>) {
        let mut state = self.state.borrow_mut();
        state.since_ms = since_ms.unwrap_or(state.since_ms);
        if state.trouble.as_deref() != Some(trouble) {
            state.trouble = Some(trouble.to_owned());
            tracing::warn!(node = self.target, lane = ?self.lane, "another server of the cluster is not reached: {trouble}");
        }
    }

    fn answer(&self, number: u64, answer: Result<Answer, Unreached>) {
        let waiting = self.state.borrow_mut().open.as_mut().and_then(|open| open.waiting.remove(&number));
        if let Some(waiting) = waiting {
            // Whoever has given up has forgotten it already.
            let _ = waiting.send(answer);
        }
    }
}

async fn run(link: Rc<Link>, shared: Rc<Shared>) {
    let (first_ms, most_ms) = shared.options.backoff_ms;
    let mut backoff_ms = first_ms;
    loop {
        let handshake = Duration::from_millis(shared.options.handshake_ms);
        match timeout(handshake, connect(&link, &shared)).await {
            Ok(Ok((stream, held))) => {
                backoff_ms = first_ms;
                let trouble = converse(&link, &shared, stream).await;
                drop(held);
                link.state.borrow_mut().open = None;
                link.note_trouble(&trouble, Some(shared.now_ms()));
            }
            Ok(Err(trouble)) => link.note_trouble(&trouble, None),
            Err(_) => link.note_trouble("it has not answered in time", None),
        }
        sleep(Duration::from_millis(backoff_ms)).await;
        backoff_ms = (backoff_ms * 2).min(most_ms);
    }
}

/// A connection on which both have greeted, or why there is none.
async fn connect(link: &Link, shared: &Rc<Shared>) -> Result<(TlsStream<TcpStream>, Held), String> {
    let address = shared.with_members(|members| members.get(link.target).map(|member| member.address.clone()));
    let address = address.ok_or("nobody knows its address")?;
    let text = |error: io::Error| explain(&error);
    let stream = TcpStream::connect(&address).await.map_err(text)?;
    stream.set_nodelay(true).map_err(text)?;
    let name = server_name(shared.home.identity.cluster, link.target);
    let mut stream = shared.connector.connect(name, stream).await.map_err(text)?;
    Frame::new(Kind::Hello, 0, shared.hello(link.target, link.lane)).write(&mut stream).await.map_err(text)?;
    stream.flush().await.map_err(text)?;
    let frame = Frame::read(&mut stream, GREETING_BYTES_MAX).await.map_err(text)?;
    let judged = match frame.kind {
        Kind::Refused => return Err(format!("it refuses: {}", Refusal::read(&frame.body))),
        Kind::Hello => Hello::read(&frame.body).and_then(|hello| shared.greet(&hello, certified(stream.get_ref().1))),
        _ => Err(Refusal::new(Reason::Malformed, "it does not greet")),
    };
    match judged {
        Ok(held) => Ok((stream, held)),
        Err(refusal) => {
            refuse(&mut stream, &refusal).await;
            Err(format!("refused: {refusal}"))
        }
    }
}

/// Says why nothing more is said, as the last thing.
pub async fn refuse(stream: &mut (impl AsyncRead + AsyncWrite + Unpin), refusal: &Refusal) {
    let body = serde_json::to_vec(refusal).expect("texts");
    let say = async {
        Frame::new(Kind::Refused, 0, body).write(stream).await?;
        stream.shutdown().await?;
        // What still comes is read, since a system may take back what it has sent where something is left unread.
        let mut rest = tokio::io::AsyncReadExt::take(stream, 64 << 10);
        tokio::io::copy(&mut rest, &mut tokio::io::sink()).await
    };
    // Whoever does not hear it has gone.
    let _ = timeout(Duration::from_millis(500), say).await;
}

/// Asks and hears answers until the connection ends; why it has.
async fn converse(link: &Rc<Link>, shared: &Rc<Shared>, stream: TlsStream<TcpStream>) -> String {
    let (mut reading, writing) = tokio::io::split(stream);
    // Gossip and what says that this node lives have room beside the questions.
    let (out, queue) = mpsc::channel(link.requests_max + 4);
    let gossip_every = Duration::from_millis(shared.options.gossip_ms);
    let gossiping = shared.clone();
    let is_heartbeat = link.lane == LaneName::Heartbeat;
    let gossip = move || if is_heartbeat { gossiping.gossip() } else { Vec::new() };
    let _writer = Ending(spawn_local(write(writing, queue, Some((gossip_every, gossip)))).abort_handle());
    link.open(out, shared.now_ms());
    let silence = Duration::from_millis(shared.options.silence_ms);
    loop {
        let frame = match timeout(silence, Frame::read(&mut reading, link.frame_bytes_max)).await {
            Ok(Ok(frame)) => frame,
            Ok(Err(error)) => return explain(&error),
            Err(_) => return "it has been silent for too long".to_owned(),
        };
        match frame.kind {
            Kind::Answer => match Answer::decode(&frame.body) {
                Ok(answer) => link.answer(frame.number, Ok(answer)),
                Err(_) => return "its answer cannot be read".to_owned(),
            },
            Kind::Unanswered => link.answer(frame.number, Err(Unreached::Unanswered)),
            Kind::Heard => {}
            Kind::Refused => return format!("it refuses: {}", Refusal::read(&frame.body)),
            _ => return "it says what only a side that asks may say".to_owned(),
        }
    }
}

/// Writes what is queued until nobody queues any more, and `unasked` each so often, where that is given.
pub async fn write<G: Fn() -> Vec<u8>>(
    mut to: impl AsyncWrite + Unpin,
    mut queue: mpsc::Receiver<Frame>,
    unasked: Option<(Duration, G)>,
) -> io::Result<()> {
    // The first thing that is said.
    let mut next = Instant::now();
    loop {
        let queued = match &unasked {
            // However much is asked.
            Some((every, say)) if next <= Instant::now() => {
                next = Instant::now() + *every;
                Some(Frame::new(Kind::Gossip, 0, say()))
            }
            Some(_) => match timeout_at(next, queue.recv()).await {
                Ok(queued) => queued,
                Err(_) => continue,
            },
            None => queue.recv().await,
        };
        let Some(frame) = queued else { return to.shutdown().await };
        frame.write(&mut to).await?;
        // What is queued meanwhile goes with it.
        for _ in 0..TOGETHER_MAX {
            let Ok(frame) = queue.try_recv() else { break };
            frame.write(&mut to).await?;
        }
        to.flush().await?;
    }
}
