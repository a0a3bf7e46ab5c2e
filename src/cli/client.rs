//! A blocking client of the binary form, for the commands.

use super::stream::{Place, Stream};
use crate::base::TopicId;
use crate::topic::specification::TopicType;
use crate::transport::trust::Trust;
use crate::value::delta::Form;
use crate::value::{ValueType, delta};
use crate::wire::native::{
    self, Ask, CAPABILITY_COMPRESSION, CAPABILITY_COPY, CAPABILITY_DEFLATE, EventEntry, Fetch, Heard, Outcome, PresenceEntry, Request,
    Shown, Update,
};
use crate::wire::varint::Reader;
use std::collections::HashMap;
use std::collections::VecDeque;
use std::fmt;
use std::rc::Rc;
use std::time::Duration;
use tungstenite::client::IntoClientRequest;
use tungstenite::http::HeaderValue;
use tungstenite::{Message, WebSocket};
use zeroize::Zeroizing;

/// The tags of what WELCOME says.
const KEEP_ALIVE_MS: u64 = 4;
const MESSAGE_BYTES_MAX: u64 = 5;

/// Why a command did not do its work.
#[derive(Debug)]
pub enum ClientError {
    /// There is no connection, or none any more.
    Connection(String),
    /// The server refused a request.
    Refused { code: u16, position: Option<usize>, message: String },
    /// A request is longer than the messages that the server takes, and was not sent.
    TooLong { bytes: usize, bytes_max: usize },
}

impl From<tungstenite::Error> for ClientError {
    fn from(error: tungstenite::Error) -> Self {
        Self::Connection(error.to_string())
    }
}

impl fmt::Display for ClientError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connection(message) | Self::Refused { message, .. } => f.write_str(message),
            Self::TooLong { bytes, bytes_max } => {
                write!(f, "this takes a message of {bytes} bytes, and the server takes {bytes_max} (limits.message_bytes_max)")
            }
        }
    }
}

/// Who a command is to the server: anonymous by default.
#[derive(Default)]
pub struct Identity {
    pub principal: String,
    pub password: Zeroizing<String>,
    pub bearer: Zeroizing<String>,
}

/// Keys and values, as the server shows them.
pub type Properties = Vec<(String, String)>;

/// What a topic is, as the server shows it.
#[derive(Debug)]
pub struct Topic {
    pub path: String,
    pub kind: TopicType,
    /// The type of its values; of a time series' events.
    pub value_kind: ValueType,
    pub properties: Properties,
}

/// What happens to the topics of this session's selections, and what its listeners are told.
#[derive(Debug)]
pub enum Change {
    Subscribed(Rc<Topic>),
    /// `None` is null.
    Value(Rc<Topic>, Option<Vec<u8>>),
    Event(Rc<Topic>, EventEntry),
    Unsubscribed(Rc<Topic>, u8),
    Notice(Notice),
}

#[derive(Debug)]
pub enum Notice {
    Topic {
        what: u8,
        path: String,
        kind: u8,
        properties: Properties,
    },
    Descendant {
        what: u8,
        path: String,
    },
    Subscribers {
        path: String,
        has_subscribers: bool,
    },
    Missing {
        selector: String,
        session: String,
        properties: Properties,
    },
    /// A session is subscribed from now on, or no longer.
    Presence {
        joins: bool,
        entry: PresenceEntry,
    },
}

/// What other clients say, and what is refused that nobody waited for.
#[derive(Debug)]
pub enum Told {
    /// `request` is 0 where it waits for no answer.
    Requested {
        request: u64,
        session: String,
        path: String,
        kind: u8,
        value: Option<Vec<u8>>,
    },
    Response {
        session: String,
        kind: u8,
        value: Option<Vec<u8>>,
    },
    ResponseError {
        session: String,
        code: u16,
        message: String,
    },
    Refused {
        code: u16,
        message: String,
    },
}

/// What came in a time.
pub enum Coming {
    Nothing,
    /// Something else than the answer.
    Something,
    Answer(Vec<u8>),
}

/// A topic that the session is subscribed to, with the value that a delta applies to.
struct Subscription {
    topic: Rc<Topic>,
    value: Vec<u8>,
}

pub struct Client {
    socket: WebSocket<Stream>,
    subscriptions: HashMap<TopicId, Subscription>,
    changes: VecDeque<Change>,
    told: VecDeque<Told>,
    next_id: u64,
    value_bytes_max: usize,
    /// How long a message the server takes.
    message_bytes_max: usize,
    /// The server asks after so much silence whether the client is there, and gives it up after twice as much.
    pub keep_alive_ms: u64,
    /// In how many milliseconds the server wants it to come again.
    later_ms: Option<u64>,
}

impl Client {
    /// Connects to `ws://HOST:PORT` or `wss://`; the path is the protocol's. Where the server says when to come, it comes then.
    pub fn connect(url: &str, trust: &Trust, identity: &Identity) -> Result<Self, ClientError> {
        loop {
            let mut later_ms = None;
            match (Self::connect_once(url, trust, identity, &mut later_ms), later_ms) {
                (Err(_), Some(wait_ms)) => {
                    eprintln!("very many clients come to {url}: it begins this session in {wait_ms} ms");
                    std::thread::sleep(Duration::from_millis(wait_ms));
                }
                (result, _) => return result,
            }
        }
    }

    fn connect_once(url: &str, trust: &Trust, identity: &Identity, later_ms: &mut Option<u64>) -> Result<Self, ClientError> {
        let lost = |what: &dyn std::fmt::Display| ClientError::Connection(format!("cannot connect to {url}: {what}"));
        if !url.starts_with("ws://") && !url.starts_with("wss://") {
            return Err(lost(&"the address must begin with ws:// or wss://"));
        }
        let place = Place::parse(url)?;
        let (scheme, path) = (if place.is_secure { "wss" } else { "ws" }, if place.path.is_empty() { "tidewire" } else { place.path });
        let mut request = format!("{scheme}://{}/{path}", place.authority).into_client_request().map_err(|error| lost(&error))?;
        request.headers_mut().insert("Sec-WebSocket-Protocol", HeaderValue::from_static("tidewire.1"));
        let stream = place.connect(trust)?;
        let (socket, _) = tungstenite::client(request, stream).map_err(|error| lost(&error))?;
        let mut client = Self {
            socket,
            subscriptions: HashMap::new(),
            changes: VecDeque::new(),
            told: VecDeque::new(),
            next_id: 1,
            value_bytes_max: 64 << 20,
            message_bytes_max: usize::MAX,
            keep_alive_ms: 30_000,
            later_ms: None,
        };
        let capabilities = CAPABILITY_DEFLATE | CAPABILITY_COPY | CAPABILITY_COMPRESSION;
        let mut connect = Ask::connect("tidewire", capabilities);
        if let Ask::Connect { about, .. } = &mut connect {
            about.environment = concat!("TIDEWIRE_", env!("CARGO_PKG_VERSION")).into();
            let (password, bearer) = (identity.password.to_string().into(), identity.bearer.to_string().into());
            about.credentials = native::Credentials { principal: identity.principal.clone().into(), password, bearer };
        }
        client.send(&Request { id: 1, ask: connect })?;
        let answer = client.wait(1);
        *later_ms = client.later_ms;
        answer.map(|_| client)
    }

    /// Sends an update and waits for its answer; whether it created the topic.
    pub fn update(&mut self, path: &str, update: Update<'_>) -> Result<bool, ClientError> {
        let body = self.request(Ask::Update { path: path.into(), update })?;
        Ok(body == [1])
    }

    /// Sends an update that is answered only if it fails; `flush` sends what waits.
    pub fn write_update(&mut self, path: &str, kind: ValueType, value: &[u8]) -> Result<(), ClientError> {
        let mut bytes = Vec::new();
        let update = Update::new(native::Verb::AddAndSet, kind as u8, value);
        native::put_request(&mut bytes, &Request { id: 0, ask: Ask::Update { path: path.into(), update } });
        Ok(self.socket.write(Message::Binary(bytes.into()))?)
    }

    pub fn flush(&mut self) -> Result<(), ClientError> {
        Ok(self.socket.flush()?)
    }

    /// Removes what the selector matches; the number of topics removed.
    pub fn remove(&mut self, selector: &str) -> Result<u64, ClientError> {
        let id = self.take_id();
        self.send(&Request { id, ask: Ask::Remove { selector: selector.into() } })?;
        let body = self.wait(id)?;
        Reader(&body).varint().map_err(|_| malformed())
    }

    /// One page: its entries, and whether there is more. Properties come always: they tell the type of a time series' events.
    pub fn fetch(&mut self, fetch: Fetch<'_>) -> Result<(Vec<native::Entry>, bool), ClientError> {
        let fetch = Fetch { with_properties: true, ..fetch };
        let shown = Shown { values: fetch.with_values, properties: true, sizes: fetch.with_sizes };
        let body = self.request(Ask::Fetch { fetch: Box::new(fetch) })?;
        match native::decode_page(&mut Reader(&body), shown) {
            Ok(Outcome::Page { has_more, entries, .. }) => Ok((entries, has_more)),
            _ => Err(malformed()),
        }
    }

    /// What stands at the path; `None` where nothing does, or where it is no path.
    pub fn find(&mut self, path: &str) -> Result<Option<native::Entry>, ClientError> {
        match self.fetch(Fetch { selector: format!(">{path}").into(), ..Fetch::default() }) {
            Ok((entries, _)) => Ok(entries.into_iter().next()),
            // Whatever is done with the path says what is wrong in the words of paths.
            Err(ClientError::Refused { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    pub fn subscribe(&mut self, selector: &str) -> Result<(), ClientError> {
        let id = self.take_id();
        self.send(&Request { id, ask: Ask::Subscribe { selector: selector.into(), scope: "".into() } })?;
        self.wait(id).map(drop)
    }

    /// The next change, waited for.
    pub fn next_change(&mut self) -> Result<Change, ClientError> {
        while self.changes.is_empty() {
            self.read(None)?;
        }
        Ok(self.changes.pop_front().expect("it is not empty"))
    }

    /// The next message, waited for.
    pub fn next_told(&mut self) -> Result<Told, ClientError> {
        while self.told.is_empty() {
            self.read(None)?;
        }
        Ok(self.told.pop_front().expect("it is not empty"))
    }

    /// The next message, if one comes in a short time.
    pub fn told_within(&mut self, timeout: Duration) -> Result<Option<Told>, ClientError> {
        if self.told.is_empty() {
            self.hear(None, timeout)?;
        }
        Ok(self.told.pop_front())
    }

    /// Reads whatever has come, up to the socket's read timeout: keep-alive is answered, errors of unanswered updates are reported.
    pub fn serve(&mut self, timeout: Duration) -> Result<(), ClientError> {
        self.hear(None, timeout).map(drop)
    }

    /// Waits at most so long for something to come, perhaps for the answer to `id`. Keep-alive is answered.
    pub fn hear(&mut self, id: Option<u64>, timeout: Duration) -> Result<Coming, ClientError> {
        self.socket.get_ref().tcp().set_read_timeout(Some(timeout)).map_err(|error| ClientError::Connection(error.to_string()))?;
        let coming = match self.read(id) {
            Err(ClientError::Connection(_)) if self.socket.can_read() => Coming::Nothing,
            other => other?.map_or(Coming::Something, Coming::Answer),
        };
        self.socket.get_ref().tcp().set_read_timeout(None).map_err(|error| ClientError::Connection(error.to_string()))?;
        Ok(coming)
    }

    /// Asks whether the server is there.
    pub fn ping(&mut self) -> Result<(), ClientError> {
        self.send(&Request { id: 0, ask: Ask::Ping })
    }

    /// Sends the close and waits for what was sent before to be taken.
    pub fn close(mut self) -> Result<(), ClientError> {
        self.socket.close(None)?;
        while self.socket.read().is_ok() {}
        Ok(())
    }

    /// Sends a request and waits for its answer's body.
    pub fn request(&mut self, ask: Ask<'_>) -> Result<Vec<u8>, ClientError> {
        let id = self.start(ask)?;
        self.wait(id)
    }

    /// Sends a request; the id of its answer.
    pub fn start(&mut self, ask: Ask<'_>) -> Result<u64, ClientError> {
        let id = self.take_id();
        self.send(&Request { id, ask })?;
        Ok(id)
    }

    fn take_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    fn send(&mut self, request: &Request<'_>) -> Result<(), ClientError> {
        let mut bytes = Vec::new();
        native::put_request(&mut bytes, request);
        if bytes.len() > self.message_bytes_max {
            return Err(ClientError::TooLong { bytes: bytes.len(), bytes_max: self.message_bytes_max });
        }
        Ok(self.socket.send(Message::Binary(bytes.into()))?)
    }

    /// The body of the answer to `id`.
    pub fn wait(&mut self, id: u64) -> Result<Vec<u8>, ClientError> {
        loop {
            if let Some(body) = self.read(Some(id))? {
                return Ok(body);
            }
        }
    }

    /// Reads one message; the answer to `id` if it was in it.
    fn read(&mut self, id: Option<u64>) -> Result<Option<Vec<u8>>, ClientError> {
        let message = match self.socket.read()? {
            Message::Binary(message) => message,
            Message::Close(frame) => {
                let what =
                    frame.map_or_else(|| "without a reason".to_owned(), |frame| format!("{} {}", u16::from(frame.code), frame.reason));
                return Err(ClientError::Connection(format!("the server closed the connection: {what}")));
            }
            _ => return Ok(None),
        };
        let mut rest = &message[..];
        let mut answer = None;
        while let Some(frame) = native::next_frame(&mut rest).map_err(|_| malformed())? {
            match native::decode_event(frame).map_err(|_| malformed())? {
                Heard::Ping => self.send(&Request { id: 0, ask: Ask::Pong })?,
                Heard::Welcome { id: to, limits, .. } if Some(to) == id => {
                    let told = |tag| limits.iter().find(|(told, _)| *told == tag).map(|(_, limit)| *limit);
                    self.keep_alive_ms = told(KEEP_ALIVE_MS).unwrap_or(self.keep_alive_ms);
                    let message_bytes_max = told(MESSAGE_BYTES_MAX).and_then(|limit| usize::try_from(limit).ok());
                    self.message_bytes_max = message_bytes_max.unwrap_or(self.message_bytes_max);
                    answer = Some(Vec::new());
                }
                Heard::Ok { id: to, body } if Some(to) == id => answer = Some(body.to_vec()),
                Heard::Error { id: to, code, position, message } if Some(to) == id || to == 0 => {
                    return Err(ClientError::Refused { code, position, message: message.to_owned() });
                }
                Heard::Later { wait_ms, .. } => self.later_ms = Some(wait_ms),
                event => self.note(event)?,
            }
        }
        Ok(answer)
    }

    fn note(&mut self, event: Heard<'_>) -> Result<(), ClientError> {
        match event {
            Heard::Subscribed { topic, path, kind, properties } => {
                let described = Rc::new(describe(path, kind, &properties)?);
                self.changes.push_back(Change::Subscribed(described.clone()));
                self.subscriptions.insert(topic, Subscription { topic: described, value: Vec::new() });
            }
            Heard::Value { topic, value } => self.set_value(topic, Some(value.to_vec()))?,
            Heard::ValueDeflate { topic, deflated } => {
                let value = delta::apply(Form::Deflate, &[], deflated, self.value_bytes_max).map_err(|_| malformed())?;
                self.set_value(topic, Some(value))?;
            }
            Heard::Null { topic } => self.set_value(topic, None)?,
            Heard::Delta { topic, form, delta } => {
                let previous = &self.subscriptions.get(&topic).ok_or_else(malformed)?.value;
                let value = delta::apply(form, previous, delta, self.value_bytes_max).map_err(|_| malformed())?;
                self.set_value(topic, Some(value))?;
            }
            Heard::Event { topic, head, value } => {
                let topic = self.subscriptions.get(&topic).ok_or_else(malformed)?.topic.clone();
                let native::EventHead { sequence, timestamp_ms, original, author } = head;
                let event = EventEntry { sequence, timestamp_ms, original, author: author.into(), value: value.to_vec() };
                self.changes.push_back(Change::Event(topic, event));
            }
            Heard::Unsubscribed { topic, reason } => {
                if let Some(Subscription { topic, .. }) = self.subscriptions.remove(&topic) {
                    self.changes.push_back(Change::Unsubscribed(topic, reason));
                }
            }
            Heard::PresenceNotice { joined, left, .. } => {
                let told = |joins| move |entry| Change::Notice(Notice::Presence { joins, entry });
                self.changes.extend(joined.into_iter().map(told(true)).chain(left.into_iter().map(told(false))));
            }
            Heard::Requested { request, session, path, kind, value, .. } => {
                let (session, path, value) = (session.to_owned(), path.to_owned(), value.map(<[u8]>::to_vec));
                self.told.push_back(Told::Requested { request, session, path, kind, value });
            }
            Heard::Response { session, kind, value, .. } => {
                let (session, value) = (session.to_owned(), value.map(<[u8]>::to_vec));
                self.told.push_back(Told::Response { session, kind, value });
            }
            Heard::ResponseError { session, code, message, .. } => {
                let (session, message) = (session.to_owned(), message.to_owned());
                self.told.push_back(Told::ResponseError { session, code, message });
            }
            Heard::Error { code, message, .. } => self.told.push_back(Told::Refused { code, message: message.to_owned() }),
            event => self.changes.extend(notice(&event).map(Change::Notice)),
        }
        Ok(())
    }

    fn set_value(&mut self, topic: TopicId, value: Option<Vec<u8>>) -> Result<(), ClientError> {
        let subscription = self.subscriptions.get_mut(&topic).ok_or_else(malformed)?;
        subscription.value.clear();
        subscription.value.extend_from_slice(value.as_deref().unwrap_or_default());
        self.changes.push_back(Change::Value(subscription.topic.clone(), value));
        Ok(())
    }
}

fn owned(properties: &[(&str, &str)]) -> Properties {
    properties.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

fn describe(path: &str, kind: u8, properties: &[(&str, &str)]) -> Result<Topic, ClientError> {
    let kind = TopicType::from_number(kind).ok_or_else(malformed)?;
    let event_kind = || properties.iter().find(|(key, _)| *key == "TIME_SERIES_EVENT_VALUE_TYPE").map(|(_, name)| *name);
    let value_kind = kind.value_type().or_else(|| ValueType::from_name(event_kind()?)).ok_or_else(malformed)?;
    Ok(Topic { path: path.to_owned(), kind, value_kind, properties: owned(properties) })
}

fn notice(event: &Heard<'_>) -> Option<Notice> {
    Some(match event {
        Heard::TopicNotice { what, path, kind, properties, .. } => {
            Notice::Topic { what: *what, path: (*path).to_owned(), kind: *kind, properties: owned(properties) }
        }
        Heard::DescendantNotice { what, path, .. } => Notice::Descendant { what: *what, path: (*path).to_owned() },
        Heard::SubscribersNotice { path, has_subscribers, .. } => {
            Notice::Subscribers { path: (*path).to_owned(), has_subscribers: *has_subscribers }
        }
        Heard::MissingNotice { selector, session, properties, .. } => {
            Notice::Missing { selector: (*selector).to_owned(), session: (*session).to_owned(), properties: owned(properties) }
        }
        _ => return None,
    })
}

fn malformed() -> ClientError {
    ClientError::Connection("the server sent something that is not of the protocol".to_owned())
}
