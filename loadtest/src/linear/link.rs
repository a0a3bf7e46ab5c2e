//! One session of the native protocol that waits no longer than it is told to.

use super::history::Value;
use std::collections::HashMap;
use std::error::Error;
use std::io::ErrorKind;
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};
use tidewire::surface::base::TopicId;
use tidewire::surface::wire::native::{self, Ask, Entry, EventEntry, Fetch, Frame, Heard, Outcome, Query, QueryRange, Request, Shown};
use tidewire::surface::wire::varint::Reader;
use tungstenite::client::IntoClientRequest;
use tungstenite::http::HeaderValue;
use tungstenite::{Message, WebSocket};

pub type Failure = Box<dyn Error + Send + Sync>;

/// A server that does not answer a connection within this is not there.
const CONNECT: Duration = Duration::from_secs(2);

pub struct Link {
    socket: WebSocket<TcpStream>,
    /// What came in one message and is not taken yet, the next one last.
    told: Vec<Told>,
    paths: HashMap<TopicId, String>,
}

/// What a server has said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    Welcome,
    Ok(u64, Vec<u8>),
    Error(u64, u16),
    Value(String, Value),
    Event(String, u64, Value),
    Removed(String),
}

impl Link {
    pub fn connect(server: SocketAddr) -> Result<Self, Failure> {
        let mut request = format!("ws://{server}/tidewire").into_client_request()?;
        request.headers_mut().insert("Sec-WebSocket-Protocol", HeaderValue::from_static("tidewire.1"));
        let stream = TcpStream::connect_timeout(&server, CONNECT)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(CONNECT))?;
        stream.set_write_timeout(Some(CONNECT))?;
        let (socket, _) = tungstenite::client(request, stream).map_err(|error| error.to_string())?;
        let mut link = Self { socket, told: Vec::new(), paths: HashMap::new() };
        link.say(&[Request { id: 1, ask: Ask::connect("linear", 0) }])?;
        match link.hear(Instant::now() + CONNECT)? {
            Some(Told::Welcome) => Ok(link),
            other => Err(format!("the server does not begin a session: {other:?}").into()),
        }
    }

    /// Sends requests in one message.
    pub fn say(&mut self, requests: &[Request<'_>]) -> Result<(), Failure> {
        let mut message = Vec::new();
        requests.iter().for_each(|request| native::put_request(&mut message, request));
        Ok(self.socket.send(Message::Binary(message.into()))?)
    }

    /// The next that the server says, until then.
    pub fn hear(&mut self, until: Instant) -> Result<Option<Told>, Failure> {
        loop {
            if let Some(told) = self.told.pop() {
                return Ok(Some(told));
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(None);
            }
            self.socket.get_ref().set_read_timeout(Some(left))?;
            match self.socket.read() {
                Ok(Message::Binary(message)) => self.take(&message)?,
                Ok(_) => {}
                Err(tungstenite::Error::Io(error)) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                    return Ok(None);
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn take(&mut self, message: &[u8]) -> Result<(), Failure> {
        let mut rest = message;
        while let Some(frame) = native::next_frame(&mut rest).map_err(|_| "a frame overruns its message")? {
            let told = self.read(frame)?;
            self.told.extend(told);
        }
        self.told.reverse();
        Ok(())
    }

    fn read(&mut self, frame: Frame<'_>) -> Result<Option<Told>, Failure> {
        Ok(Some(match native::decode_event(frame).map_err(|_| "a frame does not have its form")? {
            Heard::Ping => {
                self.say(&[Request { id: 0, ask: Ask::Pong }])?;
                return Ok(None);
            }
            Heard::Welcome { .. } => Told::Welcome,
            Heard::Ok { id, body } => Told::Ok(id, body.to_vec()),
            Heard::Error { id, code, .. } => Told::Error(id, code),
            Heard::Subscribed { topic, path, .. } => {
                self.paths.insert(topic, path.to_owned());
                return Ok(None);
            }
            Heard::Value { topic, value } => Told::Value(self.path(topic)?, text(value)?),
            Heard::Event { topic, head, value } => Told::Event(self.path(topic)?, head.sequence, text(value)?),
            Heard::Unsubscribed { topic, .. } => Told::Removed(self.paths.remove(&topic).ok_or("a topic ends that was not subscribed")?),
            Heard::Gap { topic } => return Err(format!("values of {} were left out", self.path(topic)?).into()),
            Heard::Delta { .. } | Heard::ValueDeflate { .. } => return Err("a form of values that was not offered".into()),
            _ => return Ok(None),
        }))
    }

    fn path(&self, topic: TopicId) -> Result<String, Failure> {
        Ok(self.paths.get(&topic).ok_or("a value of a topic that was not subscribed")?.clone())
    }

    /// Asks, and waits until then for the answer: its body, or the error's code. What else comes meanwhile is passed over.
    pub fn ask(&mut self, ask: Ask<'_>, until: Instant) -> Result<Result<Vec<u8>, u16>, Failure> {
        self.say(&[Request { id: 2, ask }])?;
        loop {
            match self.hear(until)? {
                Some(Told::Ok(2, body)) => return Ok(Ok(body)),
                Some(Told::Error(_, code)) => return Ok(Err(code)),
                Some(_) => {}
                None => return Err("no answer in time".into()),
            }
        }
    }

    /// All topics of JSON that the selector means, with their values.
    pub fn fetch_all(&mut self, selector: &str, until: Instant) -> Result<Vec<Entry>, Failure> {
        let mut all: Vec<Entry> = Vec::new();
        loop {
            let after = all.last().map(|entry| entry.path.clone()).unwrap_or_default();
            let fetch = Fetch { selector: selector.into(), after: after.into(), with_values: true, ..Fetch::default() };
            let body = self.ask(Ask::Fetch { fetch: Box::new(fetch) }, until)?.map_err(|code| format!("a fetch is refused: {code}"))?;
            let (entries, has_more) = page(&body)?;
            let is_last = !has_more || entries.is_empty();
            all.extend(entries);
            if is_last {
                return Ok(all);
            }
        }
    }

    /// All events of a series.
    pub fn query_all(&mut self, path: &str, until: Instant) -> Result<Vec<EventEntry>, Failure> {
        const EVENTS: u64 = 500;
        let mut all: Vec<EventEntry> = Vec::new();
        loop {
            let after = all.last().map_or(0, |event| event.sequence + 1);
            let range = QueryRange { anchor: (1, after), span: (3, EVENTS) };
            let query = Query { range, ..Query::default() };
            let body = self.ask(Ask::Query { path: path.into(), query }, until)?.map_err(|code| format!("a query is refused: {code}"))?;
            let Ok(Outcome::Events { mut events, .. }) = native::decode_events(&mut Reader(&body)) else {
                return Err("a query's answer does not have its form".into());
            };
            events.retain(|event| event.sequence >= after);
            if events.is_empty() {
                return Ok(all);
            }
            all.extend(events);
        }
    }
}

/// What the answer to a FETCH with values shows, and whether there is more.
pub fn page(body: &[u8]) -> Result<(Vec<Entry>, bool), Failure> {
    let shown = Shown { values: true, ..Shown::default() };
    match native::decode_page(&mut Reader(body), shown) {
        Ok(Outcome::Page { has_more, entries, .. }) => Ok((entries, has_more)),
        _ => Err("a fetch's answer does not have its form".into()),
    }
}

pub fn text(value: &[u8]) -> Result<Value, Failure> {
    Ok(std::str::from_utf8(value)?.into())
}
