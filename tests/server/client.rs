//! Sessions over soketto, driven over blocking sockets: one WebSocket, and on it a session of the binary form.

use crate::server::PATIENCE;
use futures_lite::future::block_on;
use futures_lite::io::AssertAsync;
use soketto::connection::Error;
use soketto::handshake::{Client, ServerResponse};
use soketto::{Data, Incoming, Receiver, Sender};
use std::collections::{HashMap, VecDeque};
use std::net::{SocketAddr, TcpStream};
use tidewire::surface::base::TopicId;
use tidewire::surface::topic::specification::TopicType;
use tidewire::surface::value::delta::{self, Form};
use tidewire::surface::wire::native::{self, Ask, CAPABILITY_COPY, CAPABILITY_DEFLATE, Frame, Heard, Request};

type Stream = AssertAsync<TcpStream>;

/// A WebSocket without a dialogue.
pub struct Socket {
    sender: Sender<Stream>,
    receiver: Receiver<Stream>,
}

#[derive(Debug, PartialEq, Eq)]
pub enum Message {
    Text(String),
    Binary(Vec<u8>),
    Closed(u16),
}

impl Socket {
    pub fn open(address: SocketAddr, protocol: &str) -> Self {
        Self::try_open(address, protocol).expect("the server takes the connection")
    }

    /// `None` where the server ends before the handshake does.
    pub fn try_open(address: SocketAddr, protocol: &str) -> Option<Self> {
        let stream = TcpStream::connect(address).ok()?;
        stream.set_read_timeout(Some(PATIENCE)).ok()?;
        stream.set_nodelay(true).ok()?;
        let host = address.to_string();
        let mut client = Client::new(AssertAsync::new(stream), &host, "/tidewire");
        client.add_protocol(protocol);
        match block_on(client.handshake()).ok()? {
            ServerResponse::Accepted { protocol: Some(accepted) } => assert_eq!(accepted, protocol),
            other => panic!("the handshake is refused: {other:?}"),
        }
        let (sender, receiver) = client.into_builder().finish();
        Some(Self { sender, receiver })
    }

    pub fn send_text(&mut self, text: &str) {
        block_on(async {
            self.sender.send_text(text).await?;
            self.sender.flush().await
        })
        .expect("the connection is open");
    }

    pub fn send_binary(&mut self, bytes: &[u8]) {
        assert!(self.try_send_binary(bytes), "the connection is open");
    }

    /// Whether the connection took it.
    pub fn try_send_binary(&mut self, bytes: &[u8]) -> bool {
        let sent = block_on(async {
            self.sender.send_binary(bytes).await?;
            self.sender.flush().await
        });
        sent.is_ok()
    }

    pub fn receive(&mut self) -> Message {
        match self.receive_or_end() {
            Ok(message) => message,
            Err(Error::Closed) => panic!("the connection ended without a close frame"),
            Err(error) => panic!("nothing more came: {error}"),
        }
    }

    /// `None` at the end of the connection, however it came.
    pub fn try_receive(&mut self) -> Option<Message> {
        self.receive_or_end().ok()
    }

    fn receive_or_end(&mut self) -> Result<Message, Error> {
        let mut bytes = Vec::new();
        match block_on(self.receiver.receive(&mut bytes))? {
            Incoming::Data(Data::Text(_)) => Ok(Message::Text(String::from_utf8(bytes).expect("text messages are UTF-8"))),
            Incoming::Data(Data::Binary(_)) => Ok(Message::Binary(bytes)),
            Incoming::Pong(_) => self.receive_or_end(),
            Incoming::Closed(reason) => Ok(Message::Closed(reason.code)),
        }
    }
}

/// What a session of the binary form is sent.
#[derive(Clone, Debug, PartialEq)]
pub enum Seen {
    Welcome,
    Ok(u64, Vec<u8>),
    Error {
        id: u64,
        code: u16,
        position: Option<usize>,
    },
    Subscribed(String, TopicType),
    Value(String, Vec<u8>),
    Null(String),
    Event(String, SeenEvent),
    Unsubscribed(String, u8),
    Received(u64),
    /// CONNECT is to come again in so many milliseconds.
    Later(u64),
    Requested(SeenRequest),
    /// The request's id, and the answer or its error.
    Response(u64, Result<Vec<u8>, u16>),
    Gap(String),
    TopicNotice {
        listener: u64,
        what: u8,
        path: String,
        kind: u8,
        properties: Properties,
    },
    DescendantNotice {
        listener: u64,
        what: u8,
        path: String,
    },
    SubscribersNotice {
        listener: u64,
        path: String,
        has_subscribers: bool,
    },
    MissingNotice {
        listener: u64,
        selector: String,
        session: String,
    },
    SessionNotice {
        listener: u64,
        what: u8,
        state: SeenState,
    },
    /// The session, and the reason.
    SessionClosed(String, u8),
    /// The session, whether it is over its mark, and whether it is conflated.
    QueueNotice(String, bool, bool),
    /// Paths and sessions.
    Presence {
        joined: Vec<(String, String)>,
        left: Vec<(String, String)>,
    },
    Ping,
    Pong,
    Closed(u16),
}

/// A time series event, without the parts that depend on the clock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeenEvent {
    pub sequence: u64,
    pub original: Option<u64>,
    pub value: Vec<u8>,
}

/// How another session stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeenState {
    pub session: String,
    pub is_away: bool,
    pub properties: Properties,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeenRequest {
    pub handler: u64,
    pub request: u64,
    pub session: String,
    pub path: String,
    pub properties: Properties,
    pub value: Vec<u8>,
}

/// Keys and values, as the server shows them.
pub type Properties = Vec<(String, String)>;

/// The refusal of a request.
#[derive(Debug, PartialEq, Eq)]
pub struct Refused {
    pub code: u16,
    pub position: Option<usize>,
}

pub fn connect_ask(resume_ms: u64, token: &str, processed: u64) -> Ask<'_> {
    let capabilities = CAPABILITY_COPY | CAPABILITY_DEFLATE;
    Ask::Connect {
        version: 1,
        name: "test".into(),
        capabilities,
        resume_ms,
        token: token.into(),
        processed,
        properties: Vec::new(),
        durable: false,
        about: Box::default(),
    }
}

/// A session of the binary form, which keeps the values of its topics as deltas need it.
pub struct Session {
    pub socket: Socket,
    /// What came and is not taken yet, in order.
    seen: VecDeque<Seen>,
    topics: HashMap<TopicId, (String, Vec<u8>)>,
    next_id: u64,
    /// The operation and the length of each value, delta or event that came.
    pub update_frames: Vec<(u8, usize)>,
    /// The properties that came with the latest subscription to a path.
    pub properties: HashMap<String, Properties>,
    /// WELCOME's numbered limits.
    pub limits: HashMap<u64, u64>,
    /// The session's id.
    pub id: String,
    /// By which another connection goes on with it.
    pub token: String,
    /// Messages behind WELCOME that were processed.
    pub processed: u64,
    /// Whether what the server shows may be old, as it was told each time.
    pub staleness: Vec<bool>,
    is_welcome: bool,
}

impl Session {
    pub fn connect(address: SocketAddr, capabilities: u64) -> Self {
        Self::open(address, Ask::connect("test", capabilities))
    }

    pub fn open(address: SocketAddr, ask: Ask<'_>) -> Self {
        let mut session = Self::begin(address, ask);
        match session.next() {
            Seen::Welcome => session,
            other => panic!("{other:?}"),
        }
    }

    /// Says CONNECT, and waits for nothing.
    pub fn begin(address: SocketAddr, ask: Ask<'_>) -> Self {
        let mut session = Self {
            socket: Socket::open(address, "tidewire.1"),
            seen: VecDeque::new(),
            topics: HashMap::new(),
            next_id: 1,
            update_frames: Vec::new(),
            properties: HashMap::new(),
            limits: HashMap::new(),
            id: String::new(),
            token: String::new(),
            processed: 0,
            staleness: Vec::new(),
            is_welcome: false,
        };
        session.say_connect(ask);
        session
    }

    fn say_connect(&mut self, ask: Ask<'_>) {
        self.send(&Request { id: 1, ask });
    }

    /// A session that stays so long without a connection.
    pub fn connect_resumable(address: SocketAddr, resume_ms: u64) -> Self {
        Self::open(address, connect_ask(resume_ms, "", 0))
    }

    /// Goes on by another connection. The old one is given back, which nobody has closed.
    pub fn resume(&mut self, address: SocketAddr) -> Socket {
        let old = self.reconnect(address);
        // What came by the old connection stands before WELCOME.
        let welcome = self.seen.len();
        while self.seen.len() == welcome {
            self.receive();
        }
        assert_eq!(self.seen.remove(welcome), Some(Seen::Welcome));
        old
    }

    /// Says by another connection that it goes on.
    pub fn reconnect(&mut self, address: SocketAddr) -> Socket {
        let old = std::mem::replace(&mut self.socket, Socket::open(address, "tidewire.1"));
        self.is_welcome = false;
        let (token, processed) = (self.token.clone(), self.processed);
        self.say_connect(connect_ask(60_000, &token, processed));
        old
    }

    /// Tells the server what was processed.
    pub fn say_processed(&mut self) {
        self.send(&Request { id: 0, ask: Ask::Processed { messages: self.processed } });
    }

    pub fn send(&mut self, request: &Request<'_>) {
        let mut bytes = Vec::new();
        native::put_request(&mut bytes, request);
        self.socket.send_binary(&bytes);
    }

    /// Sends requests in one message.
    pub fn send_batch(&mut self, requests: &[Request<'_>]) {
        let mut bytes = Vec::new();
        requests.iter().for_each(|request| native::put_request(&mut bytes, request));
        self.socket.send_binary(&bytes);
    }

    /// The next thing that came, in order.
    pub fn next(&mut self) -> Seen {
        loop {
            if let Some(seen) = self.seen.pop_front() {
                return seen;
            }
            self.receive();
        }
    }

    /// Everything that comes before the answer to a PING sent now.
    pub fn settle(&mut self) -> Vec<Seen> {
        self.send(&Request { id: 0, ask: Ask::Ping });
        let mut before = Vec::new();
        loop {
            match self.next() {
                Seen::Pong => return before,
                seen => before.push(seen),
            }
        }
    }

    /// Waits for a value of the topic and passes over everything before it.
    pub fn wait_for_value(&mut self, path: &str, value: &[u8]) {
        while self.next() != Seen::Value(path.into(), value.into()) {}
    }

    /// Reads to the close and its code.
    pub fn wait_for_close(&mut self) -> u16 {
        loop {
            if let Seen::Closed(code) = self.next() {
                return code;
            }
        }
    }

    fn receive(&mut self) {
        let message = match self.socket.receive() {
            Message::Binary(message) => message,
            Message::Closed(code) => return self.seen.push_back(Seen::Closed(code)),
            Message::Text(text) => panic!("text in the binary form: {text}"),
        };
        let (mut rest, before) = (&message[..], self.seen.len());
        while let Some(frame) = native::next_frame(&mut rest).expect("the server's frames fit their message") {
            match native::decode_event(frame) {
                Ok(Heard::Staleness { is_stale }) => self.staleness.push(is_stale),
                _ => {
                    let seen = self.read(frame);
                    self.seen.push_back(seen);
                }
            }
        }
        self.processed += u64::from(self.is_welcome);
        self.is_welcome |= self.seen.get(before) == Some(&Seen::Welcome);
    }

    fn read(&mut self, frame: Frame<'_>) -> Seen {
        match native::decode_event(frame).expect("the server's frames have their form") {
            Heard::Ping => Seen::Ping,
            Heard::Pong => Seen::Pong,
            Heard::Welcome { limits, session, token, .. } => {
                self.limits = limits.into_iter().collect();
                self.id = session.to_owned();
                self.token = token.to_owned();
                Seen::Welcome
            }
            Heard::Ok { id, body } => Seen::Ok(id, body.to_vec()),
            Heard::Error { id, code, position, .. } => Seen::Error { id, code, position },
            Heard::Subscribed { topic, path, kind, properties } => {
                self.topics.insert(topic, (path.to_owned(), Vec::new()));
                self.properties.insert(path.to_owned(), owned(&properties));
                Seen::Subscribed(path.to_owned(), TopicType::from_number(kind).expect("a topic has a type"))
            }
            Heard::Requested { handler, request, session, path, properties, value, .. } => Seen::Requested(SeenRequest {
                handler,
                request,
                session: session.to_owned(),
                path: path.to_owned(),
                properties: owned(&properties),
                value: value.unwrap_or_default().to_vec(),
            }),
            Heard::Response { id, value, .. } => Seen::Response(id, Ok(value.unwrap_or_default().to_vec())),
            Heard::ResponseError { id, code, .. } => Seen::Response(id, Err(code)),
            Heard::Received { requests } => Seen::Received(requests),
            Heard::Later { wait_ms, .. } => Seen::Later(wait_ms),
            Heard::Gap { topic } => Seen::Gap(self.topics[&topic].0.clone()),
            Heard::Unsubscribed { topic, reason } => {
                let (path, _) = self.topics.remove(&topic).expect("only what was subscribed is unsubscribed");
                Seen::Unsubscribed(path, reason)
            }
            Heard::TopicNotice { listener, what, path, kind, properties } => {
                Seen::TopicNotice { listener, what, path: path.to_owned(), kind, properties: owned(&properties) }
            }
            Heard::DescendantNotice { listener, what, path } => Seen::DescendantNotice { listener, what, path: path.to_owned() },
            Heard::SubscribersNotice { listener, path, has_subscribers } => {
                Seen::SubscribersNotice { listener, path: path.to_owned(), has_subscribers }
            }
            Heard::MissingNotice { listener, selector, session, .. } => {
                Seen::MissingNotice { listener, selector: selector.to_owned(), session: session.to_owned() }
            }
            Heard::SessionNotice { listener, what, session, is_away, properties } => {
                let state = SeenState { session: session.to_owned(), is_away, properties: owned(&properties) };
                Seen::SessionNotice { listener, what, state }
            }
            Heard::SessionClosed { session, reason, .. } => Seen::SessionClosed(session.to_owned(), reason),
            Heard::QueueNotice { session, is_over, is_conflated, .. } => Seen::QueueNotice(session.to_owned(), is_over, is_conflated),
            Heard::PresenceNotice { joined, left, .. } => {
                let places = |present: Vec<native::PresenceEntry>| {
                    present.into_iter().map(|entry| (entry.path.to_string(), entry.session.to_string())).collect()
                };
                Seen::Presence { joined: places(joined), left: places(left) }
            }
            Heard::Staleness { .. } => unreachable!("it is noted for itself"),
            Heard::Unknown => panic!("an unknown operation: {:#x}", frame.op),
            update => self.read_update(frame, update),
        }
    }

    fn read_update(&mut self, frame: Frame<'_>, update: Heard<'_>) -> Seen {
        self.update_frames.push((frame.op, frame.body.len()));
        match update {
            Heard::Value { topic, value } => self.note_value(topic, value.to_vec()),
            Heard::ValueDeflate { topic, deflated } => self.note_value(topic, inflate(deflated)),
            Heard::Delta { topic, form, delta } => {
                let previous = &self.topics[&topic].1;
                let value = delta::apply(form, previous, delta, 64 << 20).expect("a delta applies to the value that came last");
                self.note_value(topic, value)
            }
            Heard::Null { topic } => {
                let (path, latest) = self.topics.get_mut(&topic).expect("a null comes behind its subscription");
                latest.clear();
                Seen::Null(path.clone())
            }
            Heard::Event { topic, head, value } => {
                let (path, _) = self.topics.get(&topic).expect("an event comes behind its subscription");
                let event = SeenEvent { sequence: head.sequence, original: head.original, value: value.to_vec() };
                Seen::Event(path.clone(), event)
            }
            other => panic!("not about a topic: {other:?}"),
        }
    }

    fn note_value(&mut self, topic: TopicId, value: Vec<u8>) -> Seen {
        let (path, latest) = self.topics.get_mut(&topic).expect("a value comes behind its subscription");
        latest.clone_from(&value);
        Seen::Value(path.clone(), value)
    }

    /// The answer to the request of this id, or its refusal's code. What comes before it stays in `seen`.
    pub fn answer_to(&mut self, wanted: u64) -> Result<Vec<u8>, Refused> {
        let mut at = 0;
        loop {
            while let Some(seen) = self.seen.get(at) {
                match seen {
                    Seen::Ok(id, _) | Seen::Error { id, .. } if *id == wanted => {
                        return match self.seen.remove(at) {
                            Some(Seen::Ok(_, body)) => Ok(body),
                            Some(Seen::Error { code, position, .. }) => Err(Refused { code, position }),
                            _ => unreachable!("it was looked at just now"),
                        };
                    }
                    Seen::Closed(code) => panic!("closed with {code} instead of an answer"),
                    _ => at += 1,
                }
            }
            self.receive();
        }
    }

    /// Sends a request and gives the answer's body. What comes before it stays in `seen`.
    pub fn ask(&mut self, make: impl FnOnce(u64) -> Request<'static>) -> Result<Vec<u8>, Refused> {
        self.next_id += 1;
        let wanted = self.next_id;
        self.send(&make(wanted));
        self.answer_to(wanted)
    }
}

fn owned(properties: &[(&str, &str)]) -> Properties {
    properties.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

/// A raw DEFLATE stream, which must end where the bytes end.
fn inflate(deflated: &[u8]) -> Vec<u8> {
    delta::apply(Form::Deflate, &[], deflated, 64 << 20).expect("a deflated value inflates")
}
