//! Sessions of the native protocol that outlive the server.
//!
//! What a client asks to be kept is who the session is and what it has selected: its name and its token, its properties, its selections. What waited for it
//! goes with the server, so each of its topics comes anew, and the client knows by WELCOME that what it heard before is void. The record is written at most once a turn,
//! whatever changes in it.

use crate::audience::Audience;
use crate::base::{SessionId, SessionKey, Time, TopicId};
use crate::desk::{Desk, Storing};
use crate::journal::{Change, DURABLE_BRANCH, DURABLE_KIND, Expiry, StoredTopic};
use crate::mail::Mail;
use crate::session::{Durable, Form, Life, Resume, Secret, Session, Step, Who};
use crate::topic::path::TopicPath;
use crate::topic::publication::{Encodings, Publication};
use crate::topic::selector::Selector;
use rkyv::rancor::Failure;
use rkyv::{Archive, Deserialize, Serialize};
use std::sync::Arc;

/// What a record begins with.
const FORM: [u8; 8] = *b"\xf7tw\x00dur\x02";

/// The most sessions that a tick writes of those that were not written while storage failed.
const STORED_PER_TICK: usize = 1000;

/// A session as it is kept.
#[derive(Archive, Serialize, Deserialize, Debug, PartialEq, Eq)]
pub struct DurableRecord {
    secret: Secret,
    stay_ms: u64,
    /// Milliseconds since the epoch at which it began, and at which it ends; `None` while its client is connected.
    began_ms: u64,
    expires_ms: Option<u64>,
    is_text: bool,
    capabilities: u64,
    is_conflated: bool,
    properties: Vec<(String, String)>,
    /// Who its client is: the principal, the roles, and until when that holds in milliseconds since the epoch.
    who: Option<(String, String, Option<u64>)>,
    /// Selections in their order: scope, selector, and the number of what the step does.
    selections: Vec<(String, String, u8)>,
}

impl DurableRecord {
    fn of(desk: &Desk, session: &Session, (resume, durable): (&Resume, &Durable), expires: Option<Time>) -> Self {
        let expires = expires.filter(|expires| *expires < Time(u64::MAX));
        let properties = session.extras.iter().flat_map(|extras| extras.properties.iter());
        let (is_text, capabilities) = match session.form {
            Form::Binary(encodings) => (false, encodings.capabilities()),
            Form::Text | Form::Mqtt(_) => (true, 0),
        };
        Self {
            secret: resume.secret(),
            stay_ms: resume.stay_ms,
            began_ms: durable.began_ms,
            expires_ms: expires.map(|expires| desk.wall_ms_of(expires)),
            is_text,
            capabilities,
            is_conflated: session.is_conflated,
            properties: properties.map(|(key, value)| (key.to_owned(), value.to_owned())).collect(),
            who: session.who.as_ref().map(|who| {
                let expires_ms = who.expires.map(|expires| desk.wall_ms_of(expires));
                (who.principal.to_string(), who.roles.to_string(), expires_ms)
            }),
            selections: session
                .selections
                .steps()
                .map(|(scope, selector, step)| (scope.into(), selector.as_str().into(), step as u8))
                .collect(),
        }
    }

    fn encode(&self) -> Vec<u8> {
        let archived = rkyv::to_bytes::<Failure>(self).expect("memory takes it");
        [&FORM[..], &archived[..]].concat()
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let archived = bytes.strip_prefix(&FORM)?;
        let mut aligned = rkyv::util::AlignedVec::<16>::new();
        aligned.extend_from_slice(archived);
        rkyv::from_bytes::<Self, Failure>(&aligned).ok()
    }

    fn form(&self) -> Form {
        if self.is_text { Form::Text } else { Form::Binary(Encodings::from_capabilities(self.capabilities)) }
    }

    /// The selectors that select, and those that do not, parsed.
    fn steps(&self, desk: &Desk) -> Result<Vec<(&str, Selector, Step)>, String> {
        let parse = |text: &str| Selector::parse(text, desk.limits.selector).map_err(|error| error.to_string());
        let step = |number: u8| Step::of_number(number).ok_or_else(|| format!("there is no step {number} of a selection"));
        self.selections.iter().map(|(scope, text, number)| Ok((&**scope, parse(text)?, step(*number)?))).collect()
    }
}

/// What of a session's record every shard has to know.
#[derive(Default)]
pub struct DurableInterest {
    pub selecting: Vec<Selector>,
    /// A moment at which the server was there, in milliseconds since the epoch.
    pub stored_ms: u64,
}

/// The name of a session that was kept: its run, and its id in that.
fn name_of(stored: &StoredTopic) -> Result<(u64, SessionId), String> {
    let parse = || {
        let (run, number) = stored.path.as_str().strip_prefix(DURABLE_BRANCH)?.split_once('-')?;
        Some((u64::from_str_radix(run, 16).ok()?, SessionId::from_number(u64::from_str_radix(number, 16).ok()?)))
    };
    parse().ok_or_else(|| format!("the record '{}' of a session names none", stored.path.as_str()))
}

fn record_of(stored: &StoredTopic) -> Result<DurableRecord, String> {
    let record = stored.value.as_deref().and_then(DurableRecord::decode);
    record.ok_or_else(|| format!("the record '{}' of a session cannot be read", stored.path.as_str()))
}

/// The session that was kept. All that are there have one run, which this server goes on with: another one's would be other sessions under the same names.
pub fn id_of(desk: &Desk, stored: &StoredTopic) -> Result<SessionId, String> {
    let (run, session) = name_of(stored)?;
    if run == desk.identity.run {
        return Ok(session);
    }
    let path = stored.path.as_str();
    Err(format!("the record '{path}' of a session is of another server than those before it, of the run {:016x}", desk.identity.run))
}

/// The run that the session goes on with.
pub fn run_of(stored: &StoredTopic) -> Option<u64> {
    name_of(stored).ok().map(|(run, _)| run)
}

/// What a session that was kept selects.
pub fn interest_of(desk: &Desk, stored: &StoredTopic) -> Result<DurableInterest, String> {
    if stored.version == 0 {
        // The server ended when it had begun to keep it.
        return Ok(DurableInterest::default());
    }
    let record = record_of(stored)?;
    let selecting = record.steps(desk)?.into_iter().filter(|(_, _, step)| step.selects()).map(|(_, selector, _)| selector).collect();
    let went_ms = record.expires_ms.map_or(0, |expires_ms| expires_ms.saturating_sub(record.stay_ms));
    Ok(DurableInterest { selecting, stored_ms: record.began_ms.max(went_ms) })
}

impl Audience {
    /// The session outlives the server from now on, if anything does and it outlives its connection. Nothing waits for the record: a server that ends
    /// before it is written has no such session, and its client begins another.
    pub fn make_durable(&mut self, desk: &mut Desk, key: SessionKey) {
        if desk.identity.storing == Storing::Off {
            return;
        }
        let session = self.sessions.get_mut(key).expect("it has just begun");
        let Some(resume) = session.resume.as_mut() else { return };
        let (topic, name) = (desk.take_topic_id(), desk.name_of(session.id));
        resume.durable = Some(Box::new(Durable { topic, version: 0, began_ms: desk.wall_ms(), is_noted: false }));
        let path = TopicPath::of_branch(&format!("{DURABLE_BRANCH}{name}"));
        desk.ledger.append_record(Change::Added { topic, path, kind: DURABLE_KIND, properties: Arc::from([]) });
        self.note_durable(desk, key);
    }

    /// What is kept of the session has changed: it is written when this turn's mail is opened, with all that changes until then.
    #[inline]
    pub fn note_durable(&mut self, desk: &mut Desk, key: SessionKey) {
        let durable = self.sessions.get_mut(key).and_then(|session| session.resume.as_mut()?.durable.as_mut());
        if let Some(durable) = durable.filter(|durable| !durable.is_noted) {
            durable.is_noted = true;
            desk.mail(desk.identity.index, Mail::StoreSession { session: key });
        }
    }

    /// Writes the session as it is now. While storage fails records would pile up: it is written when storage is there again.
    pub fn store_durable(&mut self, desk: &mut Desk, key: SessionKey) {
        if desk.ledger.is_failing() {
            return self.unstored.push_back(key);
        }
        let Some(session) = self.sessions.get_mut(key).filter(|session| session.life != Life::Over) else { return };
        let expires = session.life.away().map(|away| away.expires);
        Self::store(desk, session, expires);
    }

    /// Writes some of those that were not written while storage failed.
    pub fn tick_durable(&mut self, desk: &mut Desk) {
        let count = if desk.ledger.is_failing() { 0 } else { self.unstored.len().min(STORED_PER_TICK) };
        let keys: Vec<SessionKey> = self.unstored.drain(..count).collect();
        keys.into_iter().for_each(|key| self.store_durable(desk, key));
    }

    /// The server stops: the session is over here, and its record stays.
    pub fn leave_durable(&mut self, desk: &mut Desk, key: SessionKey) {
        let Some(session) = self.sessions.get_mut(key) else { return };
        let expires = session.resume.as_ref().map(|resume| desk.turn.now.after_ms(resume.stay_ms));
        Self::store(desk, session, expires);
        session.resume.as_mut().map(|resume| resume.durable.take());
    }

    fn store(desk: &mut Desk, session: &mut Session, expires: Option<Time>) {
        let Some(durable) = session.resume.as_mut().and_then(|resume| resume.durable.as_mut()) else { return };
        durable.is_noted = false;
        durable.version += 1;
        let Some(resume) = &session.resume else { return };
        let Some(durable) = &resume.durable else { return };
        let record = DurableRecord::of(desk, session, (resume, durable), expires).encode();
        let publication = Arc::new(Publication::new(durable.topic, durable.version, desk.turn.now, &record));
        desk.ledger.append_record(Change::Value { publication });
    }

    /// The session is over.
    pub fn forget_durable(&mut self, desk: &mut Desk, key: SessionKey) {
        let durable = self.sessions.get_mut(key).and_then(|session| session.resume.as_mut()?.durable.take());
        if let Some(durable) = durable {
            desk.ledger.append_record(Change::Removed { topic: durable.topic });
        }
    }

    /// Takes up a session that was kept. Its client is not connected.
    pub fn restore_durable(&mut self, desk: &mut Desk, topic: TopicId, stored: &StoredTopic) -> Result<(), String> {
        if stored.version == 0 {
            desk.ledger.append_record(Change::Removed { topic });
            return Ok(());
        }
        let id = id_of(desk, stored)?;
        let record = record_of(stored)?;
        let (now, wall_ms) = (desk.turn.now, desk.wall_ms());
        let began = Time(now.0.saturating_sub(wall_ms.saturating_sub(record.began_ms).saturating_mul(1_000_000)));
        let mut session = Session::new(id, Life::GivenUp, record.form(), began);
        session.is_conflated = record.is_conflated;
        let durable = Durable { topic, version: stored.version, began_ms: record.began_ms, is_noted: false };
        session.resume = Some(Box::new(Resume::restored(record.secret, record.stay_ms, durable)));
        let steps = record.steps(desk)?;
        session.selections.restore(steps.iter().map(|(scope, selector, step)| (*scope, selector, *step)));
        let stay_ms = record.stay_ms;
        let was_connected = record.expires_ms.is_none();
        let left_ms = record.expires_ms.map_or(stay_ms, |at_ms| Expiry { at_ms, left_ms: stay_ms }.left_ms(wall_ms));
        let selecting = session.selecting();
        let key = self.enter(session);
        let who = record.who.map(|(principal, roles, expires_ms)| {
            let expires = expires_ms.map(|at_ms| now.after_ms(at_ms.saturating_sub(wall_ms)));
            Box::new(Who { principal: principal.into(), roles: roles.into(), expires })
        });
        self.give_who(desk, key, who);
        if !record.properties.is_empty() {
            let properties: Vec<(Box<str>, Box<str>)> =
                record.properties.into_iter().map(|(key, value)| (key.into(), value.into())).collect();
            self.give_properties(key, &properties);
        }
        selecting.iter().for_each(|selector| self.hold_selector(key, selector));
        self.fall_asleep(desk, key, now.after_ms(left_ms));
        self.remap(desk, key);
        if was_connected {
            // From now on its time goes on, also when the server is not there.
            self.note_durable(desk, key);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_read_as_it_was_written_and_nothing_else_is_one() {
        let record = DurableRecord {
            secret: [3; 16],
            stay_ms: 300_000,
            began_ms: 1,
            expires_ms: Some(2),
            is_text: false,
            capabilities: 3,
            is_conflated: true,
            properties: vec![("tier".into(), "gold".into())],
            who: Some(("ann".into(), "\"A\"".into(), Some(7))),
            selections: vec![("".into(), "?a//".into(), 2), ("s".into(), "a/b".into(), 0)],
        };
        let bytes = record.encode();
        assert_eq!(DurableRecord::decode(&bytes), Some(record));
        for cut in 0..bytes.len() {
            assert_eq!(DurableRecord::decode(&bytes[..cut]), None, "{cut} bytes");
        }
    }
}
