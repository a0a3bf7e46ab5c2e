//! One shard with several sessions of either form, driven by bytes and by what a runtime would tell it.

use crate::frames::{BINARY, FIN, TEXT, frame, parse_frames};
use crate::peer::{WALL_MS, identity, limits, restored};
use crate::permissions::as_who;
use serde_json::{Value, json};
use std::collections::{HashMap, HashSet};
use tidewire::surface::base::{ConnectionKey, SessionId, Time};
use tidewire::surface::journal::{Append, Record, State};
use tidewire::surface::shard::{Effect, Limits, Log, Shard, Storing, Transport};
use tidewire::surface::wire::native::{self, Ask, Heard, Request};
use tidewire::surface::wire::text;

pub struct Server {
    shard: Shard,
    now: Time,
    /// What the host's clock said at the start.
    wall_ms: u64,
    sent: HashMap<ConnectionKey, Vec<u8>>,
    records: Vec<Append>,
    /// Views whose depth the log was told.
    pub too_deep: Vec<String>,
    /// Whose socket takes nothing.
    stalled: HashSet<ConnectionKey>,
    /// How often the shard went on with what is done slice by slice.
    pub slices: usize,
    /// What sessions within the process were told, and which of them take nothing or are over.
    told_inside: HashMap<SessionId, Vec<u8>>,
    stalled_inside: HashSet<SessionId>,
    over_inside: HashSet<SessionId>,
    /// What sessions have said of who clients are, and the errors where none has.
    judged: Vec<(u64, Result<String, u16>)>,
}

/// A session within the process.
#[derive(Clone, Copy, Debug)]
pub struct Inside(SessionId);

#[derive(Clone, Copy, Debug)]
pub struct Client(ConnectionKey);

impl Server {
    pub fn new() -> Self {
        Self::with(Storing::Off, limits())
    }

    pub fn with(storing: Storing, limits: Limits) -> Self {
        let shard = Shard::new(identity(storing), limits, Time(0), WALL_MS);
        Self {
            shard,
            now: Time(0),
            wall_ms: WALL_MS,
            sent: HashMap::new(),
            records: Vec::new(),
            too_deep: Vec::new(),
            stalled: HashSet::new(),
            slices: 0,
            told_inside: HashMap::new(),
            stalled_inside: HashSet::new(),
            over_inside: HashSet::new(),
            judged: Vec::new(),
        }
    }

    /// The process ends, and another, whose answers wait for no disk, starts with all that there was to store, while the host's clock says so.
    pub fn restart(mut self, wall_ms: u64) -> Self {
        self.stored_last();
        let mut state = State::default();
        self.records.iter().for_each(|append| state.apply(&Record::from(&append.change)));
        let shard = restored(&state, Storing::Memory, limits(), wall_ms);
        Self { shard, wall_ms, ..Self::with(Storing::Memory, limits()) }
    }

    /// The chain asks sessions that are authenticators of this name.
    pub fn ask_authenticators(&mut self, number: u64, name: &str, question: &str) {
        self.shard.ask_authenticators(self.now, (number, 5000), name, question.as_bytes().into());
        self.carry_out();
    }

    pub fn take_judged(&mut self) -> Vec<(u64, Result<String, u16>)> {
        std::mem::take(&mut self.judged)
    }

    pub fn open_inside(&mut self) -> Inside {
        Inside(self.shard.open_inside(self.now))
    }

    pub fn ask_inside(&mut self, inside: Inside, request: Request<'_>) -> Vec<u8> {
        assert!(self.shard.handle_inside(self.now, inside.0, request));
        self.carry_out();
        self.take_inside(inside)
    }

    pub fn take_inside(&mut self, inside: Inside) -> Vec<u8> {
        self.told_inside.remove(&inside.0).unwrap_or_default()
    }

    pub fn stall_inside(&mut self, inside: Inside) {
        self.stalled_inside.insert(inside.0);
    }

    pub fn is_over(&self, inside: Inside) -> bool {
        self.over_inside.contains(&inside.0)
    }

    pub fn close_inside(&mut self, inside: Inside) {
        self.shard.close_inside(self.now, inside.0);
        self.carry_out();
    }

    /// Answers that wait for storage.
    pub fn held(&self) -> usize {
        self.shard.persistence().held()
    }

    /// What is kept on account of views.
    pub fn view_counts(&self) -> [usize; 8] {
        self.shard.views().counts()
    }

    /// A session of the text form.
    pub fn connect(&mut self) -> Client {
        let client = self.upgrade("tidewire.1.json");
        self.ok(client, json!({ "op": "connect" }));
        client
    }

    /// A session of the binary form, whose client has these capabilities.
    pub fn connect_binary(&mut self, capabilities: u64) -> Client {
        let client = self.upgrade("tidewire.1");
        self.ask_binary(client, &Request { id: 1, ask: Ask::connect("", capabilities) });
        client
    }

    /// A session of the principal, which has the role of that name, of either form.
    pub fn connect_as(&mut self, protocol: &str, principal: &str) -> Client {
        let client = self.upgrade(protocol);
        let connect = json!({ "op": "connect", "id": 1, "principal": principal }).to_string();
        if protocol.ends_with(".json") {
            self.give(client, FIN | TEXT, connect.as_bytes());
        } else {
            let mut message = Vec::new();
            native::put_request(&mut message, &text::decode_request(&connect).expect("it is a request"));
            self.give(client, FIN | BINARY, &message);
        }
        client
    }

    /// A connection that has not said CONNECT yet.
    pub fn upgrade(&mut self, protocol: &str) -> Client {
        let key = self.shard.handle_accept(self.now, Transport::Http).expect("the connection is taken");
        self.shard.handle_bytes(self.now, key, &mut crate::handshake::request(protocol).into_bytes());
        self.carry_out();
        self.sent.remove(&key);
        Client(key)
    }

    /// What comes of a message of the text form.
    pub fn ask_text(&mut self, client: Client, message: &str) -> Vec<Value> {
        self.give(client, FIN | TEXT, message.as_bytes());
        self.take(client)
    }

    pub fn ask(&mut self, client: Client, message: Value) -> Vec<Value> {
        self.ask_text(client, &message.to_string())
    }

    /// The frames that come of a request of the binary form.
    pub fn ask_binary(&mut self, client: Client, request: &Request<'_>) -> Vec<Vec<u8>> {
        let mut message = Vec::new();
        native::put_request(&mut message, request);
        self.give(client, FIN | BINARY, &message);
        self.take_binary(client)
    }

    pub fn give(&mut self, client: Client, first: u8, message: &[u8]) {
        self.shard.handle_bytes(self.now, client.0, &mut frame(first, message));
        self.carry_out();
    }

    /// What a session of the text form was sent since the last time.
    pub fn take(&mut self, client: Client) -> Vec<Value> {
        let sent = self.sent.remove(&client.0).unwrap_or_default();
        parse_frames(&sent).iter().map(|(_, payload)| serde_json::from_slice(payload).expect("the text form is JSON")).collect()
    }

    /// The bytes that a client was sent since the last time.
    pub fn take_bytes(&mut self, client: Client) -> Vec<u8> {
        self.sent.remove(&client.0).unwrap_or_default()
    }

    /// The frames that a session of the binary form was sent since the last time.
    pub fn take_binary(&mut self, client: Client) -> Vec<Vec<u8>> {
        let sent = self.sent.remove(&client.0).unwrap_or_default();
        let mut frames = Vec::new();
        for (_, payload) in parse_frames(&sent) {
            let mut rest = &payload[..];
            while let Some(frame) = native::next_frame(&mut rest).expect("whole frames") {
                frames.push([&[frame.op], frame.body].concat());
            }
        }
        frames
    }

    /// Asks for what is granted, with an id where there is none; gives what the answer has beside `op` and `id`.
    pub fn ok(&mut self, client: Client, mut message: Value) -> Value {
        // An update without an id is not answered.
        message.as_object_mut().expect("an object").entry("id").or_insert(json!(1));
        let mut told = self.ask(client, message.clone());
        let mut answer = told.pop().unwrap_or_else(|| panic!("no answer to {message}"));
        assert!(answer["op"] == "ok" || answer["op"] == "welcome", "{message}: {answer}");
        let members = answer.as_object_mut().expect("an object");
        members.remove("op");
        members.remove("id");
        answer
    }

    /// Asks for what is refused, with this code, at this position; gives the refusal's message.
    pub fn refuse(&mut self, client: Client, message: Value, code: u64, position: Option<u64>) -> String {
        let told = self.ask(client, message.clone());
        let [answer] = &told[..] else { panic!("one answer to {message}: {told:?}") };
        let found = (answer["op"].as_str(), answer["code"].as_u64(), answer["position"].as_u64());
        assert_eq!(found, (Some("error"), Some(code), position), "{message}: {answer}");
        assert_eq!(answer["id"], *message.get("id").unwrap_or(&json!(0)), "{message}");
        answer["message"].as_str().expect("a text").to_owned()
    }

    /// Asks in the binary form for what is refused with this code.
    pub fn refuse_binary(&mut self, client: Client, request: &Request<'_>, code: u16) {
        let told = self.ask_binary(client, request);
        let [answer] = &told[..] else { panic!("one answer to {request:?}: {told:?}") };
        let frame = native::Frame { op: answer[0], body: &answer[1..] };
        let Ok(Heard::Error { id, code: found, .. }) = native::decode_event(frame) else { panic!("not refused: {request:?}: {answer:?}") };
        assert_eq!((id, found), (request.id, code), "{request:?}");
    }

    /// The value at a path, null where there is none.
    pub fn value(&mut self, client: Client, path: &str) -> Value {
        let answer = self.ok(client, json!({ "op": "fetch", "selector": format!(">{path}"), "values": true }));
        answer["topics"][0]["value"].clone()
    }

    /// The canonical properties of the topic at a path.
    pub fn properties(&mut self, client: Client, path: &str) -> Value {
        let answer = self.ok(client, json!({ "op": "fetch", "selector": format!(">{path}"), "with_properties": true }));
        answer["topics"][0]["properties"].clone()
    }

    pub fn advance(&mut self, ms: u64) {
        self.now = self.now.after_ms(ms);
        self.shard.handle_tick(self.now, self.wall_ms + self.now.0 / 1_000_000);
        self.carry_out();
    }

    /// From here on the client reads nothing.
    pub fn stall(&mut self, client: Client) {
        self.stalled.insert(client.0);
    }

    /// It reads again, all that waits for it.
    pub fn flow(&mut self, client: Client) {
        self.stalled.remove(&client.0);
        self.send(client.0);
        self.carry_out();
    }

    pub fn close(&mut self, client: Client) {
        self.shard.handle_closed(self.now, client.0);
        self.carry_out();
    }

    /// How many records storage has been given by now.
    pub fn stored_last(&mut self) -> u64 {
        self.records.extend(self.shard.poll_records().unwrap_or_default());
        self.records.last().map_or(0, |record| record.ticket)
    }

    pub fn stored(&mut self, through: u64) {
        self.shard.handle_stored(self.now, through);
        self.carry_out();
    }

    pub fn fail_storage(&mut self, reason: &str) {
        self.shard.handle_storage_failure(self.now, reason);
        self.carry_out();
    }

    pub fn recover_storage(&mut self) {
        self.shard.handle_storage_recovery(self.now);
        self.carry_out();
    }

    fn carry_out(&mut self) {
        loop {
            while let Some(effect) = self.shard.poll_effect() {
                match effect {
                    Effect::Wake(key) if self.stalled.contains(&key) => {}
                    Effect::Wake(key) => self.send(key),
                    Effect::Close(key) => self.shard.handle_closed(self.now, key),
                    Effect::Read(_) => {}
                    Effect::Log(Log::ViewTooDeep { view, .. }) => self.too_deep.push(view.into()),
                    Effect::Inside(session) if self.stalled_inside.contains(&session) => {}
                    Effect::Inside(session) => {
                        let told = self.told_inside.entry(session).or_default();
                        while self.shard.poll_inside(self.now, session, told) {}
                    }
                    Effect::InsideOver(session) => {
                        self.shard.close_inside(self.now, session);
                        self.over_inside.insert(session);
                    }
                    Effect::Identify(key, claim) => {
                        let who = as_who(&claim.principal, &[&claim.principal]);
                        self.shard.handle_identified(self.now, key, who);
                    }
                    Effect::Judged(number, judged) => {
                        let text = judged.map(|said| String::from_utf8(said.value.map_or_else(Vec::new, |value| value.to_vec())).unwrap());
                        self.judged.push((number, text.map_err(|refusal| refusal.code.code())));
                    }
                    other => panic!("nobody asks for this: {other:?}"),
                }
            }
            if !self.shard.has_walks() {
                return;
            }
            self.slices += 1;
            self.shard.run_slice(self.now);
        }
    }

    fn send(&mut self, key: ConnectionKey) {
        self.shard.begin_sends();
        while let Some(bytes) = self.shard.poll_transmit(self.now, key) {
            self.sent.entry(key).or_default().extend_from_slice(&bytes);
            self.shard.handle_sent(self.now, key, &bytes);
            if !self.shard.wants_to_send(key) {
                break;
            }
        }
    }
}

/// What a session was told, without the answer behind it.
pub fn events(mut told: Vec<Value>) -> Vec<Value> {
    let answer = told.pop().expect("an answer");
    assert_eq!(answer["op"], "ok", "{answer}");
    told
}
