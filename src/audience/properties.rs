//! The sessions of this shard as others see them: their fixed properties, how many match a filter, and when one is over.
//!
//! Other shards' questions wait for a tick, which answers as many as it has time for.

use crate::audience::Audience;
use crate::audience::messaging::parse_name;
use crate::base::{Key, SessionId, SessionKey, ShardIndex, SlabKey, TopicId};
use crate::desk::Desk;
use crate::mail::Mail;
use crate::protocol::Refusal;
use crate::session::{Form, Life, Origin, Place, Session};
use crate::topic::path::TopicPath;
use crate::topic::session_filter::SessionFilter;
use std::cell::OnceCell;

/// What a tick may count, in bytes of filters for each session that they are held against: a filter's length says roughly what holding a session
/// against it costs. So a filter of 20 bytes is held against 50,000 sessions. One filter is counted in any case, whole: a session that moved
/// between two parts of a count would be missed.
const COUNTED_BYTES_PER_TICK: usize = 1_000_000;

/// Another shard's question how many sessions match a filter.
pub struct Asked {
    from: ShardIndex,
    count: Key,
    filter: SessionFilter,
}

/// What a slice may look at, counted likewise.
pub(super) const SCANNED_BYTES_PER_SLICE: usize = 40_000;

/// In the order in which they are shown.
const PROPERTIES: [&str; 14] = [
    "$ClientIP",
    "$ClientType",
    "$Connector",
    "$Country",
    "$Environment",
    "$Language",
    "$Latitude",
    "$Longitude",
    "$Principal",
    "$Roles",
    "$ServerName",
    "$SessionId",
    "$StartTime",
    "$Transport",
];

/// A session's fixed properties, each made when it is asked for first.
pub(super) struct Properties<'s> {
    audience: &'s Audience,
    desk: &'s Desk,
    key: SessionKey,
    session: &'s Session,
    id: OnceCell<String>,
    start: OnceCell<String>,
    address: OnceCell<String>,
    position: OnceCell<[String; 2]>,
}

impl<'s> Properties<'s> {
    pub(super) fn of(audience: &'s Audience, desk: &'s Desk, key: SessionKey) -> Self {
        let session = audience.sessions.get(key).expect("only a session that stands is looked at");
        let (id, start, address, position) = (OnceCell::new(), OnceCell::new(), OnceCell::new(), OnceCell::new());
        Self { audience, desk, key, session, id, start, address, position }
    }

    pub(super) fn value(&self, name: &str) -> Option<&str> {
        match name {
            "$ClientIP" => {
                let address = Some(self.session.address).filter(|address| !address.is_unspecified())?;
                Some(self.address.get_or_init(|| address.to_canonical().to_string()))
            }
            "$ClientType" if self.session.mqtt.is_some() => Some("MQTT"),
            "$ClientType" => Some(self.origin().map_or("OTHER", Origin::client_kind)),
            "$Connector" => match self.session.form {
                _ if self.is_inside() => None,
                Form::Mqtt(form) if !form.is_websocket => Some("mqtt"),
                _ => Some("http"),
            },
            "$Country" => self.origin()?.country(),
            "$Environment" => Some(self.origin().map(|origin| &*origin.environment).filter(|said| !said.is_empty()).unwrap_or("UNKNOWN")),
            "$Language" => self.origin()?.language(),
            "$Latitude" => Some(&self.position()?[0]),
            "$Longitude" => Some(&self.position()?[1]),
            "$Principal" => Some(self.session.principal()),
            "$Roles" => Some(self.session.who.as_ref().map_or("", |who| &who.roles)),
            "$ServerName" => Some(&self.desk.identity.server),
            "$SessionId" => Some(self.id.get_or_init(|| self.audience.session_id(self.desk, self.key))),
            "$StartTime" => Some(self.start.get_or_init(|| self.start_ms().to_string())),
            "$Transport" => Some(match self.session.form {
                _ if self.is_inside() => "OTHER",
                Form::Mqtt(form) if !form.is_websocket => "TCP",
                _ => "WEBSOCKET",
            }),
            name => self.session.extras.as_ref()?.properties.get(name),
        }
    }

    fn origin(&self) -> Option<&'s Origin> {
        self.session.origin.as_deref()
    }

    fn position(&self) -> Option<&[String; 2]> {
        let position = self.origin()?.place.position?;
        Some(self.position.get_or_init(|| position.map(Place::degrees)))
    }

    /// Whether it is used from within the process, and has no connection.
    fn is_inside(&self) -> bool {
        matches!(self.session.life, Life::Inside { .. })
    }

    /// When the session began, in milliseconds since the epoch.
    fn start_ms(&self) -> u64 {
        let durable = self.session.resume.as_ref().and_then(|resume| resume.durable.as_ref());
        durable.map_or_else(|| self.desk.began_ms(self.session.connected), |durable| durable.began_ms)
    }
}

impl Audience {
    /// Those of the sessions here that a slice looks at for the filter, from a place on, and where the next one goes on. A filter that names sessions
    /// is held against them alone.
    pub(super) fn next_candidates(
        &self,
        desk: &Desk,
        filter: &SessionFilter,
        from: u32,
        bytes_max: usize,
    ) -> (Vec<SessionKey>, Option<u32>) {
        if let Some(mut named) = self.named(desk, filter) {
            named.retain(|key| key.index() >= from);
            return (named, None);
        }
        let looked_max = (bytes_max / filter.as_str().len().max(1)).max(16);
        self.sessions.slab.keys_from(from, looked_max)
    }

    /// The sessions here that the filter may mean, where it names them.
    fn named(&self, desk: &Desk, filter: &SessionFilter) -> Option<Vec<SessionKey>> {
        if let Some(ids) = filter.values_of("$SessionId") {
            let mut keys: Vec<SessionKey> = ids.iter().filter_map(|id| self.find(parse_name(desk, id).ok()?)).collect();
            keys.sort_unstable();
            keys.dedup();
            return Some(keys);
        }
        if desk.limits.authenticates {
            return None;
        }
        // All are anonymous: nobody has a principal with a name.
        let principals = filter.values_of("$Principal")?;
        principals.iter().all(|principal| !principal.is_empty()).then(Vec::new)
    }

    /// The session's properties, the fixed ones first.
    pub fn session_properties(&self, desk: &Desk, key: SessionKey) -> Vec<(Box<str>, Box<str>)> {
        let properties = Properties::of(self, desk, key);
        let fixed = PROPERTIES.iter().filter_map(|name| Some(((*name).into(), properties.value(name)?.into())));
        let of_user = properties.session.extras.iter().flat_map(|extras| extras.properties.iter());
        fixed.chain(of_user.map(|(key, value)| (key.into(), value.into()))).collect()
    }

    /// Sets properties of the session; whether all had room.
    pub fn set_properties(&mut self, desk: &mut Desk, key: SessionKey, properties: &[(Box<str>, Box<str>)]) -> bool {
        let before = self.see(desk, key);
        let has_room = self.give_properties(key, properties);
        self.properties_changed(desk, key, before);
        has_room
    }

    /// The same of a session that nobody has been told of.
    pub fn give_properties(&mut self, key: SessionKey, properties: &[(Box<str>, Box<str>)]) -> bool {
        let Some(session) = self.session_mut(key) else { return false };
        let has_room = session.extras_mut().properties.set(properties);
        session.give_back_extras();
        has_room
    }

    /// What clients and authenticators have said of it goes.
    pub fn clear_properties(&mut self, key: SessionKey) {
        if let Some(session) = self.session_mut(key)
            && let Some(extras) = session.extras.as_mut()
        {
            extras.properties = crate::session::UserProperties::default();
            session.give_back_extras();
        }
    }

    /// The number of the session of this name.
    pub fn session_number(&self, desk: &Desk, name: &str) -> Result<u64, Refusal> {
        parse_name(desk, name).map(SessionId::number)
    }

    /// The owner of a topic wants to know when the session that made it is over.
    pub fn watch_session(&mut self, desk: &mut Desk, owner: ShardIndex, session: SessionId, path: TopicPath, id: TopicId) {
        match self.find(session).and_then(|session| self.sessions.get_mut(session)) {
            Some(session) => _ = session.extras_mut().watched_by.insert(id, (owner, path)),
            None => desk.mail(owner, Mail::SessionOver { path, id }),
        }
    }

    /// The topic is gone.
    pub fn unwatch_session(&mut self, session: SessionId, id: TopicId) {
        let extras = self.find(session).and_then(|session| self.sessions.get_mut(session)).and_then(|session| session.extras.as_mut());
        extras.map(|extras| extras.watched_by.remove(&id));
    }

    /// A shard asks how many sessions here match.
    pub fn sessions_asked(&mut self, from: ShardIndex, filter: SessionFilter, count: Key) {
        self.counts_asked.push_back(Asked { from, count, filter });
    }

    /// Answers the questions that have waited longest.
    pub fn tick_sessions_asked(&mut self, desk: &mut Desk) {
        let mut cost = 0;
        let sessions = self.sessions.len();
        let fitting = self.counts_asked.iter().take_while(|asked| {
            let is_fitting = cost < COUNTED_BYTES_PER_TICK;
            cost += asked.filter.as_str().len() * sessions;
            is_fitting
        });
        let count = fitting.count();
        let asked: Vec<Asked> = self.counts_asked.drain(..count).collect();
        let counts = self.count_sessions(desk, &asked);
        for (Asked { from, count, .. }, share) in asked.into_iter().zip(counts) {
            desk.mail(from, Mail::Sessions { count, share });
        }
    }

    fn count_sessions(&self, desk: &Desk, asked: &[Asked]) -> Vec<u64> {
        let mut counts = vec![0; asked.len()];
        if asked.is_empty() {
            return counts;
        }
        let mut unnamed = Vec::new();
        for (asked, count) in asked.iter().zip(&mut counts) {
            match self.named(desk, &asked.filter) {
                Some(keys) => *count = keys.into_iter().filter(|key| self.is_meant(desk, *key, &asked.filter)).count() as u64,
                None => unnamed.push((asked, count)),
            }
        }
        if unnamed.is_empty() {
            return counts;
        }
        // Bounded by `COUNTED_BYTES_PER_TICK` for all filters together, or it is one filter.
        for properties in self.sessions.keys().map(|key| Properties::of(self, desk, key)) {
            for (asked, count) in &mut unnamed {
                **count += u64::from(asked.filter.matches(|name| properties.value(name)));
            }
        }
        counts
    }
}
