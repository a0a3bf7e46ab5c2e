//! A blocking client of the binary form, for the commands.

use crate::base::TopicId;
use crate::value::{ValueType, delta};
use crate::wire::native::{self, CAPABILITY_COPY, CAPABILITY_DEFLATE, Event, Fetch, Outcome, Request, Shown, Update, VERSION};
use crate::wire::varint::Reader;
use std::collections::HashMap;
use std::collections::VecDeque;
use std::net::TcpStream;
use tungstenite::client::IntoClientRequest;
use tungstenite::http::HeaderValue;
use tungstenite::{Message, WebSocket};

/// Why a command did not do its work.
#[derive(Debug)]
pub enum ClientError {
    /// There is no connection, or none any more.
    Connection(String),
    /// The server refused a request.
    Refused { code: u16, position: Option<usize>, message: String },
}

impl From<tungstenite::Error> for ClientError {
    fn from(error: tungstenite::Error) -> Self {
        Self::Connection(error.to_string())
    }
}

/// What happens to the topics of this session's selections.
#[derive(Debug)]
pub enum Change {
    Subscribed { path: String, kind: ValueType },
    Value { path: String, kind: ValueType, value: Vec<u8> },
    Unsubscribed { path: String, kind: ValueType, reason: u8 },
}

struct Topic {
    path: String,
    kind: ValueType,
    value: Vec<u8>,
}

pub struct Client {
    socket: WebSocket<TcpStream>,
    topics: HashMap<TopicId, Topic>,
    changes: VecDeque<Change>,
    next_id: u64,
    value_bytes_max: usize,
}

impl Client {
    /// Connects to `ws://HOST:PORT`; the path is the protocol's.
    pub fn connect(url: &str) -> Result<Self, ClientError> {
        let lost = |what: &dyn std::fmt::Display| ClientError::Connection(format!("cannot connect to {url}: {what}"));
        let authority = url.strip_prefix("ws://").ok_or_else(|| lost(&"the address must begin with ws://"))?;
        let (authority, path) = authority
            .split_once('/')
            .map_or((authority, "tidewire"), |(host, path)| (host, if path.is_empty() { "tidewire" } else { path }));
        let mut request = format!("ws://{authority}/{path}").into_client_request().map_err(|error| lost(&error))?;
        request.headers_mut().insert("Sec-WebSocket-Protocol", HeaderValue::from_static("tidewire.1"));
        let address = if authority.rsplit(']').next().is_some_and(|rest| rest.contains(':')) {
            authority.to_owned()
        } else {
            format!("{authority}:80")
        };
        let stream = TcpStream::connect(address).map_err(|error| lost(&error))?;
        stream.set_nodelay(true).map_err(|error| lost(&error))?;
        let (socket, _) = tungstenite::client(request, stream).map_err(|error| lost(&error))?;
        let mut client = Self { socket, topics: HashMap::new(), changes: VecDeque::new(), next_id: 1, value_bytes_max: 64 << 20 };
        let capabilities = CAPABILITY_DEFLATE | CAPABILITY_COPY;
        client.send(&Request::Connect { id: 1, version: VERSION, name: "tidewire".into(), capabilities })?;
        client.wait(1)?;
        Ok(client)
    }

    pub fn add_and_set(&mut self, path: &str, kind: ValueType, value: &[u8]) -> Result<(), ClientError> {
        let id = self.take_id();
        let update = Update::new(native::Verb::AddAndSet, kind as u8, value);
        self.send(&Request::Update { id, path: path.into(), update })?;
        self.wait(id).map(drop)
    }

    /// Sends an update that is answered only if it fails; `flush` sends what waits.
    pub fn write_update(&mut self, path: &str, kind: ValueType, value: &[u8]) -> Result<(), ClientError> {
        let mut bytes = Vec::new();
        let update = Update::new(native::Verb::AddAndSet, kind as u8, value);
        native::put_request(&mut bytes, &Request::Update { id: 0, path: path.into(), update });
        Ok(self.socket.write(Message::Binary(bytes.into()))?)
    }

    pub fn flush(&mut self) -> Result<(), ClientError> {
        Ok(self.socket.flush()?)
    }

    /// Removes what the selector matches; the number of topics removed.
    pub fn remove(&mut self, selector: &str) -> Result<u64, ClientError> {
        let id = self.take_id();
        self.send(&Request::Remove { id, selector: selector.into() })?;
        let body = self.wait(id)?;
        Reader(&body).varint().map_err(|_| malformed())
    }

    /// One page: its entries, and whether there is more.
    pub fn fetch(&mut self, selector: &str, after: &str, with_values: bool) -> Result<(Vec<native::Entry>, bool), ClientError> {
        let fetch = Fetch { selector: selector.into(), after: after.into(), with_values, with_properties: true, ..Fetch::default() };
        let body = self.request(|id| Request::Fetch { id, fetch: Box::new(fetch) })?;
        let shown = Shown { values: with_values, properties: true, sizes: false };
        match native::decode_page(&mut Reader(&body), shown) {
            Ok(Outcome::Page { has_more, entries, .. }) => Ok((entries, has_more)),
            _ => Err(malformed()),
        }
    }

    pub fn subscribe(&mut self, selector: &str) -> Result<(), ClientError> {
        let id = self.take_id();
        self.send(&Request::Subscribe { id, selector: selector.into(), scope: "".into() })?;
        self.wait(id).map(drop)
    }

    /// The next change, waited for.
    pub fn next_change(&mut self) -> Result<Change, ClientError> {
        while self.changes.is_empty() {
            self.read(None)?;
        }
        Ok(self.changes.pop_front().expect("it is not empty"))
    }

    /// Reads whatever has come, up to the socket's read timeout: keep-alive is answered, errors of unanswered updates are reported.
    pub fn serve(&mut self, timeout: std::time::Duration) -> Result<(), ClientError> {
        self.socket.get_ref().set_read_timeout(Some(timeout)).map_err(|error| ClientError::Connection(error.to_string()))?;
        match self.read(None) {
            Err(ClientError::Connection(_)) if self.socket.can_read() => {}
            other => drop(other?),
        }
        self.socket.get_ref().set_read_timeout(None).map_err(|error| ClientError::Connection(error.to_string()))
    }

    /// Sends the close and waits for what was sent before to be taken.
    pub fn close(mut self) -> Result<(), ClientError> {
        self.socket.close(None)?;
        while self.socket.read().is_ok() {}
        Ok(())
    }

    /// Sends a request and waits for its answer's body.
    pub fn request<'a>(&mut self, make: impl FnOnce(u64) -> Request<'a>) -> Result<Vec<u8>, ClientError> {
        let id = self.take_id();
        self.send(&make(id))?;
        self.wait(id)
    }

    fn take_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    fn send(&mut self, request: &Request<'_>) -> Result<(), ClientError> {
        let mut bytes = Vec::new();
        native::put_request(&mut bytes, request);
        Ok(self.socket.send(Message::Binary(bytes.into()))?)
    }

    /// The body of the answer to `id`.
    fn wait(&mut self, id: u64) -> Result<Vec<u8>, ClientError> {
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
                Event::Ping => self.send(&Request::Pong)?,
                Event::Welcome { id: to, .. } if Some(to) == id => answer = Some(Vec::new()),
                Event::Ok { id: to, body } if Some(to) == id => answer = Some(body.to_vec()),
                Event::Error { id: to, code, position, message } if Some(to) == id || to == 0 => {
                    return Err(ClientError::Refused { code, position, message: message.to_owned() });
                }
                event => self.note(event)?,
            }
        }
        Ok(answer)
    }

    fn note(&mut self, event: Event<'_>) -> Result<(), ClientError> {
        match event {
            Event::Subscribed { topic, path, kind, properties } => {
                let event_kind = || properties.iter().find(|(key, _)| *key == "TIME_SERIES_EVENT_VALUE_TYPE").map(|(_, name)| *name);
                let kind = ValueType::from_number(kind).or_else(|| ValueType::from_name(event_kind()?)).ok_or_else(malformed)?;
                self.changes.push_back(Change::Subscribed { path: path.to_owned(), kind });
                self.topics.insert(topic, Topic { path: path.to_owned(), kind, value: Vec::new() });
            }
            Event::Value { topic, value } | Event::Event { topic, value, .. } => self.set_value(topic, value.to_vec())?,
            Event::Delta { topic, form, delta } => {
                let previous = &self.topics.get(&topic).ok_or_else(malformed)?.value;
                let value = delta::apply(form, previous, delta, self.value_bytes_max).map_err(|_| malformed())?;
                self.set_value(topic, value)?;
            }
            Event::Unsubscribed { topic, reason } => {
                if let Some(Topic { path, kind, .. }) = self.topics.remove(&topic) {
                    self.changes.push_back(Change::Unsubscribed { path, kind, reason });
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn set_value(&mut self, topic: TopicId, value: Vec<u8>) -> Result<(), ClientError> {
        let topic = self.topics.get_mut(&topic).ok_or_else(malformed)?;
        topic.value.clone_from(&value);
        self.changes.push_back(Change::Value { path: topic.path.clone(), kind: topic.kind, value });
        Ok(())
    }
}

fn malformed() -> ClientError {
    ClientError::Connection("the server sent something that is not of the protocol".to_owned())
}
