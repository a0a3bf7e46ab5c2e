//! What a session of the binary form asks for, each with its answer.

use crate::client::{Refused, Session};
use tidewire::surface::topic::specification::TopicType;
use tidewire::surface::value::ValueType;
use tidewire::surface::wire::native::{
    self, Append, Ask, Entry, EventEntry, Fetch, NULL_BIT, Outcome, Query, QueryRange, Request, Shown, Update, Verb,
};
use tidewire::surface::wire::varint::Reader;

/// An update of a plain topic, as it is sent.
pub fn update(id: u64, verb: Verb, path: &str, kind: ValueType, value: &[u8]) -> Request<'static> {
    Request { id, ask: Ask::Update { path: path.to_owned().into(), update: Update::new(verb, kind as u8, value.to_vec()) } }
}

/// Properties by key.
pub type Pairs<'a> = &'a [(&'a str, &'a str)];

fn owned(properties: Pairs<'_>) -> native::Properties<'static> {
    properties.iter().map(|(key, value)| ((*key).to_owned().into(), (*value).to_owned().into())).collect()
}

/// A specification of a time series of JSON events, and further properties.
pub fn series_of_json<'a>(further: Pairs<'a>) -> Vec<(&'a str, &'a str)> {
    [("TIME_SERIES_EVENT_VALUE_TYPE", "json")].iter().chain(further).copied().collect()
}

/// A range of a query by its numbers.
pub fn range(anchor: (u8, u64), span: (u8, u64)) -> QueryRange {
    QueryRange { anchor, span }
}

fn selector_request(selector: &str) -> std::borrow::Cow<'static, str> {
    selector.to_owned().into()
}

impl Session {
    pub fn update(&mut self, verb: Verb, path: &str, kind: ValueType, value: &[u8]) -> Result<Vec<u8>, Refused> {
        self.ask(|id| update(id, verb, path, kind, value))
    }

    /// Whether the topic was created.
    pub fn add(&mut self, path: &str, kind: impl Into<TopicType>) -> Result<bool, Refused> {
        self.add_with(path, kind, &[])
    }

    /// Whether the topic was created.
    pub fn add_with(&mut self, path: &str, kind: impl Into<TopicType>, properties: Pairs<'_>) -> Result<bool, Refused> {
        let update = Update { properties: owned(properties), ..Update::new(Verb::Add, kind.into().number(), &b""[..]) };
        let path = path.to_owned().into();
        self.ask(|id| Request { id, ask: Ask::Update { path, update } }).map(|body| body == [1])
    }

    pub fn set(&mut self, path: &str, kind: ValueType, value: &[u8]) -> Result<(), Refused> {
        self.update(Verb::Set, path, kind, value).map(|body| assert!(body.is_empty()))
    }

    /// Sets a topic to no value.
    pub fn set_null(&mut self, path: &str, kind: ValueType) -> Result<(), Refused> {
        let (path, update) = (path.to_owned().into(), Update::new(Verb::Set, kind as u8 | NULL_BIT, &b""[..]));
        self.ask(|id| Request { id, ask: Ask::Update { path, update } }).map(|body| assert!(body.is_empty()))
    }

    /// Whether the topic was created.
    pub fn add_and_set(&mut self, path: &str, kind: ValueType, value: &[u8]) -> Result<bool, Refused> {
        self.update(Verb::AddAndSet, path, kind, value).map(|body| body == [1])
    }

    /// Sets a topic under a constraint.
    pub fn set_if(&mut self, path: &str, kind: ValueType, value: &[u8], constraint: &str) -> Result<(), Refused> {
        let constraint = constraint.as_bytes().to_vec().into();
        let update = Update { constraint, ..Update::new(Verb::Set, kind as u8, value.to_vec()) };
        let path = path.to_owned().into();
        self.ask(|id| Request { id, ask: Ask::Update { path, update } }).map(drop)
    }

    pub fn patch(&mut self, path: &str, patch: &str) -> Result<(), Refused> {
        let (path, update) = (path.to_owned().into(), Update::new(Verb::Patch, 0, patch.as_bytes().to_vec()));
        self.ask(|id| Request { id, ask: Ask::Update { path, update } }).map(drop)
    }

    pub fn remove(&mut self, selector: &str) -> Result<u64, Refused> {
        let selector = selector_request(selector);
        self.ask(|id| Request { id, ask: Ask::Remove { selector } }).map(|body| Reader(&body).varint().expect("the count of topics"))
    }

    pub fn subscribe(&mut self, selector: &str) -> Result<(), Refused> {
        self.subscribe_in(selector, "")
    }

    pub fn subscribe_in(&mut self, selector: &str, scope: &str) -> Result<(), Refused> {
        let (selector, scope) = (selector_request(selector), scope.to_owned().into());
        self.ask(|id| Request { id, ask: Ask::Subscribe { selector, scope } }).map(|body| assert!(body.is_empty()))
    }

    pub fn unsubscribe(&mut self, selector: &str) -> Result<(), Refused> {
        self.unsubscribe_in(selector, "")
    }

    pub fn unsubscribe_in(&mut self, selector: &str, scope: &str) -> Result<(), Refused> {
        let (selector, scope) = (selector_request(selector), scope.to_owned().into());
        self.ask(|id| Request { id, ask: Ask::Unsubscribe { selector, scope } }).map(|body| assert!(body.is_empty()))
    }

    /// One page: whether there is more, and its entries.
    pub fn fetch(&mut self, selector: &str, after: &str, first: u64) -> Result<(bool, Vec<Entry>), Refused> {
        let (selector, after) = (selector_request(selector), after.to_owned().into());
        self.fetch_page(Fetch { selector, after, first, with_values: true, ..Fetch::default() })
    }

    /// One page of a fetch as it is asked for.
    pub fn fetch_page(&mut self, fetch: Fetch<'static>) -> Result<(bool, Vec<Entry>), Refused> {
        let shown = Shown { values: fetch.with_values, properties: fetch.with_properties, sizes: fetch.with_sizes };
        let body = self.ask(|id| Request { id, ask: Ask::Fetch { fetch: Box::new(fetch) } })?;
        match native::decode_page(&mut Reader(&body), shown) {
            Ok(Outcome::Page { has_more, entries, .. }) => Ok((has_more, entries)),
            other => panic!("not a page: {other:?}"),
        }
    }

    /// Every topic that the selector matches, with values and properties, over all pages.
    pub fn fetch_all(&mut self, selector: &str) -> Vec<Entry> {
        let (mut after, mut all) = (String::new(), Vec::new());
        loop {
            let (selector, after_path) = (selector_request(selector), after.clone().into());
            let page = Fetch { selector, after: after_path, with_values: true, with_properties: true, ..Fetch::default() };
            let (has_more, entries) = self.fetch_page(page).expect("the fetch is valid");
            all.extend(entries);
            if !has_more {
                return all;
            }
            after.clone_from(&all.last().expect("more follows something").path);
        }
    }

    // Time series.

    /// The event's sequence and timestamp.
    pub fn append(&mut self, path: &str, kind: ValueType, append: Append, value: &[u8]) -> Result<(u64, u64), Refused> {
        let (path, value) = (path.to_owned().into(), value.to_vec().into());
        let body = self.ask(|id| Request { id, ask: Ask::Append { path, kind: kind as u8, append, value } })?;
        let mut reader = Reader(&body);
        Ok((reader.varint().expect("a sequence"), reader.varint().expect("a timestamp")))
    }

    /// Appends JSON at the server's time; its sequence.
    pub fn append_json(&mut self, path: &str, json: &str) -> u64 {
        let append = Append::Original { timestamp_ms: None };
        self.append(path, ValueType::Json, append, json.as_bytes()).expect("the append is taken").0
    }

    /// Whether the answer is complete, and its events.
    pub fn query(&mut self, path: &str, query: Query) -> Result<(bool, Vec<EventEntry>), Refused> {
        let path = path.to_owned().into();
        let body = self.ask(|id| Request { id, ask: Ask::Query { path, query } })?;
        match native::decode_events(&mut Reader(&body)) {
            Ok(Outcome::Events { is_complete, events, .. }) => Ok((is_complete, events)),
            other => panic!("not events: {other:?}"),
        }
    }

    // Listeners.

    pub fn listen(&mut self, listener: u64, kind: u8, selector: &str) -> Result<(), Refused> {
        let selector = selector_request(selector);
        self.ask(|id| Request { id, ask: Ask::Listen { listener, kind, selector } }).map(drop)
    }

    pub fn unlisten(&mut self, listener: u64, selector: &str) -> Result<(), Refused> {
        let selector = selector_request(selector);
        self.ask(|id| Request { id, ask: Ask::Unlisten { listener, selector } }).map(drop)
    }
}
