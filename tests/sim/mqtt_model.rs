//! The auditor of messages of MQTT: who has to hear which, how often, and in which order.

use crate::mqtt_order::Order;
use std::collections::{BTreeMap, BTreeSet};

/// The topics that clients publish to, below one root and beside it.
pub const TOPICS: [&str; 6] = ["a", "a/b", "a/c", "a/b/d", "m/x", "m/y"];
pub const FILTERS: [&str; 8] = ["a/#", "a/+", "#", "a/b", "m/+", "m/x", "+/b/#", "a"];

/// Section 4.7, level by level. Of a shared subscription it is the filter behind the group.
pub fn matches(filter: &str, topic: &str) -> bool {
    let filter = filter.strip_prefix("$share/g/").unwrap_or(filter);
    let (mut wanted, mut levels) = (filter.split('/'), topic.split('/'));
    loop {
        match (wanted.next(), levels.next()) {
            (None, None) => return true,
            (Some("#"), _) => return true,
            (Some("+"), Some(_)) => {}
            (Some(a), Some(b)) if a == b => {}
            _ => return false,
        }
    }
}

pub struct Message {
    pub publisher: usize,
    pub topic: &'static str,
    pub qos: u8,
    pub is_retained: bool,
    padding: usize,
    /// Without a payload: it says that there is no retained message any more.
    pub is_clearing: bool,
    pub is_acknowledged: bool,
    is_refused: bool,
    /// By client the QoS of the subscriptions that it surely had, and has.
    wanted: BTreeMap<usize, u8>,
    /// By client how often it was heard with each QoS.
    heard: BTreeMap<usize, [usize; 3]>,
}

impl Message {
    pub fn payload(&self, number: usize) -> Vec<u8> {
        if self.is_clearing { Vec::new() } else { format!("{number}.{}", "x".repeat(self.padding)).into_bytes() }
    }

    /// 0 of one that clears.
    pub fn number_of(payload: &[u8]) -> usize {
        let digits = payload.split(|byte| *byte == b'.').next().unwrap_or_default();
        std::str::from_utf8(digits).ok().and_then(|text| text.parse().ok()).unwrap_or(0)
    }
}

pub struct Messages {
    all: Vec<Message>,
    /// The server's own bound of what is under way.
    pub inflight_max: usize,
    /// By client, publisher, topic, and QoS as published and as heard: the last that came for the first time.
    publishers: BTreeMap<(usize, usize, &'static str, u8, u8), usize>,
    /// The order of owners.
    pub order: Order,
    pub v5_clients: BTreeSet<usize>,
    /// How many messages each client was told that its session had no room for.
    missed: BTreeMap<usize, usize>,
    /// What is dropped for room and sent again, its acknowledgement being lost, comes behind what was sent later.
    pub has_drops: bool,
    /// Clients end their sessions by connections that may be read late.
    pub has_ends: bool,
    /// What is refused and sent again comes behind what was sent later.
    pub has_refusals: bool,
}

impl Messages {
    pub fn new(inflight_max: usize) -> Self {
        Self {
            all: Vec::new(),
            inflight_max,
            publishers: BTreeMap::new(),
            order: Order::default(),
            v5_clients: BTreeSet::new(),
            missed: BTreeMap::new(),
            has_drops: false,
            has_ends: false,
            has_refusals: false,
        }
    }

    pub fn get(&self, number: usize) -> &Message {
        &self.all[number - 1]
    }

    pub fn numbers(&self) -> std::ops::RangeInclusive<usize> {
        1..=self.all.len()
    }

    /// A new message and who is subscribed to it; its number.
    pub fn add(
        &mut self,
        publisher: usize,
        topic: &'static str,
        qos: u8,
        is_retained: bool,
        padding: usize,
        wanted: BTreeMap<usize, u8>,
    ) -> usize {
        let wanted = wanted.into_iter().map(|(client, granted)| (client, granted.min(qos))).collect();
        let (is_acknowledged, is_refused, heard) = (false, false, BTreeMap::new());
        self.all.push(Message {
            publisher,
            topic,
            qos,
            is_retained,
            padding,
            is_clearing: false,
            is_acknowledged,
            is_refused,
            wanted,
            heard,
        });
        self.all.len()
    }

    /// A new message that clears a topic; its number.
    pub fn add_clearing(&mut self, publisher: usize, topic: &'static str) -> usize {
        let number = self.add(publisher, topic, 1, true, 0, BTreeMap::new());
        self.all[number - 1].is_clearing = true;
        number
    }

    pub fn note_acknowledged(&mut self, number: usize) {
        self.all[number - 1].is_acknowledged = true;
    }

    pub fn note_refused(&mut self, number: usize) {
        self.all[number - 1].is_refused = true;
    }

    /// The client has fewer subscriptions than before: what it has not heard it may never hear.
    pub fn note_unsubscribed(&mut self, client: usize, qos: impl Fn(&str) -> Option<u8>) {
        for message in &mut self.all {
            let has_heard = message.heard.contains_key(&client);
            let Some(wanted) = message.wanted.get_mut(&client).filter(|_| !has_heard) else { continue };
            match qos(message.topic) {
                Some(qos) => *wanted = (*wanted).min(qos),
                None => drop(message.wanted.remove(&client)),
            }
        }
    }

    /// The client has another session, to which a message that comes again is a new one: only within a session QoS 2 is once.
    pub fn note_new_session(&mut self, client: usize) {
        for heard in self.all.iter_mut().filter_map(|message| message.heard.get_mut(&client)) {
            heard[1] += std::mem::take(&mut heard[2]);
        }
    }

    pub fn note_heard(&mut self, client: usize, number: usize, topic: &str, qos: u8, is_retained: bool) {
        let message = self.all.get_mut(number.wrapping_sub(1)).unwrap_or_else(|| panic!("message {number} was never published"));
        assert_eq!(message.topic, topic, "message {number} comes by another topic");
        if is_retained {
            // Nothing of a topic's value tells with which QoS it was published before a restart.
            assert!(message.is_retained, "message {number} was not retained");
            return;
        }
        assert!(qos <= message.qos, "message {number} comes with more than it was published with");
        let is_first = !message.heard.contains_key(&client);
        let heard = message.heard.entry(client).or_default();
        heard[usize::from(qos)] += 1;
        // A client of MQTT 5 may send again what was refused, and does not tell that it did.
        let may_repeat = self.has_refusals && self.v5_clients.contains(&message.publisher);
        assert!(heard[2] <= 1 || may_repeat, "client {client} hears the QoS 2 message {number} of {topic} by {} twice", message.publisher);
        // What QoS 0 makes of lost links has no order, nor has what is sent again to who was not subscribed the first time, or at QoS 0.
        let was_kept = message.wanted.get(&client).is_some_and(|granted| *granted > 0);
        let is_ordered = was_kept && !self.has_refusals && (message.qos == 2 || !self.has_drops);
        if is_first && qos > 0 && is_ordered {
            let last = self.publishers.entry((client, message.publisher, message.topic, message.qos, qos)).or_default();
            assert!(*last < number, "client {client} hears message {number} of {topic}, QoS {} as {qos}, behind {last}", message.qos);
            *last = number;
        }
    }

    /// A message comes that this client has not had by an earlier connection; `is_found` says that a subscription has found it as retained.
    pub fn check_order(&mut self, client: usize, number: usize, is_found: bool) {
        let message = self.all.get(number.wrapping_sub(1)).unwrap_or_else(|| panic!("message {number} was never published"));
        self.order.note_heard(client, number, message.topic, message.is_retained, is_found);
    }

    /// A client is told that its session had no room for so many messages.
    pub fn note_missed(&mut self, client: usize, count: usize) {
        assert!(count == 0 || self.has_drops, "client {client}: there is room for all");
        *self.missed.entry(client).or_default() += count;
    }

    /// At rest, and everybody was told: of what was acknowledged each session has heard all but as many as it was told that it missed.
    pub fn check_counted(&self) {
        for client in &self.v5_clients {
            let is_lost = |message: &Message| {
                let heard = message.heard.get(client).copied().unwrap_or_default();
                let is_due = message.is_acknowledged && message.wanted.get(client).is_some_and(|granted| *granted > 0);
                is_due && heard[1] + heard[2] == 0
            };
            let lost: Vec<usize> = self.numbers().filter(|number| is_lost(self.get(*number))).collect();
            let told = self.missed.get(client).copied().unwrap_or(0);
            assert!(lost.len() <= told, "client {client} has not heard {lost:?}, and was told that it missed {told}");
        }
    }

    /// By whom a message was heard, and how often.
    pub fn heard_by(&self, number: usize) -> Vec<(usize, usize)> {
        self.get(number).heard.iter().map(|(client, heard)| (*client, heard.iter().sum())).collect()
    }

    /// At rest: what was acknowledged has been heard by all that were subscribed.
    pub fn check_delivered(&self) {
        for number in self.numbers() {
            let message = self.get(number);
            if !message.is_acknowledged || message.is_refused {
                continue;
            }
            for (client, granted) in message.wanted.iter().filter(|(_, granted)| **granted > 0) {
                let heard = message.heard.get(client).copied().unwrap_or_default();
                assert!(heard[1] + heard[2] > 0, "client {client} has not heard message {number} of {}, QoS {granted}", message.topic);
            }
        }
    }
}
