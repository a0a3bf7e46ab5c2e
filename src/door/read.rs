//! What comes from a transport, piece by piece.
//!
//! Who reads pulls: [`Doors::next`] finds the next piece, [`Doors::hear`] says what it means, and between two pieces the shard carries out what was
//! said, which may end the connection. Frames of WebSocket are unmasked in place; a message that came in several frames, or packets that began in an
//! earlier message, are put together first.

use super::native::opcode_of;
use super::{Connection, Doors, Fragments, Stage};
use crate::audience::Audience;
use crate::base::{ConnectionKey, SessionKey};
use crate::desk::Desk;
use crate::protocol::CloseCode;
use crate::protocol::mqtt::Command;
use crate::session::Ended;
use crate::wire::event::Form;
use crate::wire::native::{self, Request, op};
use crate::wire::text::{self, TextError};
use crate::wire::websocket::{self, FrameHead, Opcode, WebSocketError};
use crate::wire::{mqtt, varint};
use std::ops::Range;
use zeroize::Zeroize;

/// What a client says to its session.
pub enum Said<'r> {
    Request { session: SessionKey, form: Form, request: Request<'r> },
    Command { session: SessionKey, command: Command<'r> },
}

/// What one call brought, and how far it is read.
pub struct Reading<'b> {
    bytes: Bytes<'b>,
    used: usize,
    /// A message that was put together.
    message: Vec<u8>,
    rest: Rest,
    /// Where the last packet of MQTT began.
    mark: usize,
}

enum Bytes<'b> {
    Fresh(&'b mut [u8]),
    /// What was held from earlier calls, and the new bytes behind it.
    Held(Vec<u8>),
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Source {
    Bytes,
    Message,
}

/// What of a WebSocket message is not read.
enum Rest {
    Nothing,
    Frames(Source, Range<usize>),
    Objects(Source, std::vec::IntoIter<(usize, Range<usize>)>),
    Packets(Source, Range<usize>),
}

/// A whole message of WebSocket.
struct Message {
    opcode: Opcode,
    source: Source,
    range: Range<usize>,
}

/// One request or packet, by its place in the reading.
pub enum Piece {
    Frame { op: u8, source: Source, body: Range<usize> },
    Object { source: Source, offset: usize, text: Range<usize> },
    Packet { first: u8, source: Source, body: Range<usize> },
}

/// What the packets of MQTT begin with that show who a client is.
const CONNECT_PACKET: u8 = 0x10;
const AUTH_PACKET: u8 = 0xf0;

impl<'b> Reading<'b> {
    fn new(bytes: Bytes<'b>) -> Self {
        Self { bytes, used: 0, message: Vec::new(), rest: Rest::Nothing, mark: 0 }
    }

    fn bytes(&self) -> &[u8] {
        match &self.bytes {
            Bytes::Fresh(bytes) => bytes,
            Bytes::Held(bytes) => bytes,
        }
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        match &mut self.bytes {
            Bytes::Fresh(bytes) => bytes,
            Bytes::Held(bytes) => bytes,
        }
    }

    fn of(&self, source: Source) -> &[u8] {
        match source {
            Source::Bytes => self.bytes(),
            Source::Message => &self.message,
        }
    }

    fn of_mut(&mut self, source: Source) -> &mut [u8] {
        match source {
            Source::Bytes => self.bytes_mut(),
            Source::Message => &mut self.message,
        }
    }

    fn unread(&self) -> &[u8] {
        &self.bytes()[self.used..]
    }

    /// What is not read, to be held.
    fn take_unread(&mut self) -> Vec<u8> {
        match &mut self.bytes {
            Bytes::Fresh(bytes) => bytes[self.used..].to_vec(),
            Bytes::Held(bytes) => keep(std::mem::take(bytes), self.used..usize::MAX),
        }
    }

    /// What of a message is not read, to be held: its bytes move where they are the reading's own, or each frame would copy all that came before.
    fn take_rest(&mut self, source: Source, range: Range<usize>) -> Vec<u8> {
        match source {
            Source::Bytes => self.bytes()[range].to_vec(),
            Source::Message => keep(std::mem::take(&mut self.message), range),
        }
    }
}

impl Reading<'_> {
    /// What of the message of CONNECT was not read, as a message of its own.
    fn take_rest_of_message(&mut self) -> Vec<u8> {
        match std::mem::replace(&mut self.rest, Rest::Nothing) {
            Rest::Frames(source, range) => self.take_rest(source, range),
            Rest::Objects(source, objects) if objects.len() > 0 => {
                let objects: Vec<&[u8]> = objects.map(|(_, text)| &self.of(source)[text]).collect();
                [b"[", &*objects.join(&b','), b"]"].concat()
            }
            Rest::Nothing | Rest::Objects(..) | Rest::Packets(..) => Vec::new(),
        }
    }
}

impl Doors {
    /// The transport brought bytes, behind those that are held.
    pub fn begin_reading<'b>(&mut self, desk: &Desk, key: ConnectionKey, bytes: &'b mut [u8]) -> Option<Reading<'b>> {
        let connection = self.connections.get_mut(key)?;
        connection.last_received = desk.turn.now;
        if let Some(pace) = connection.pace.as_deref_mut() {
            pace.note_bytes(desk.turn.now, bytes.len(), desk.limits.bytes_per_s_max);
        }
        let mut held = std::mem::take(&mut connection.unread);
        if held.is_empty() {
            return Some(Reading::new(Bytes::Fresh(bytes)));
        }
        held.extend_from_slice(bytes);
        Some(Reading::new(Bytes::Held(held)))
    }

    /// Goes on with what is held, after a wait.
    pub fn go_on_reading(&mut self, key: ConnectionKey) -> Option<Reading<'static>> {
        let connection = self.connections.get_mut(key)?;
        let mut reading = Reading::new(Bytes::Held(std::mem::take(&mut connection.unread)));
        match &mut connection.stage {
            Stage::Mqtt(link) => {
                reading.message = link.take_stream();
                reading.rest = Rest::Packets(Source::Message, 0..reading.message.len());
            }
            Stage::Native(native) => {
                reading.message = native.take_rest();
                let whole = 0..reading.message.len();
                reading.rest = match native.form {
                    _ if whole.is_empty() => Rest::Nothing,
                    Form::Binary => Rest::Frames(Source::Message, whole),
                    Form::Text => match split_text(&reading.message, 0) {
                        Ok(Ok(objects)) => Rest::Objects(Source::Message, objects.into_iter()),
                        _ => unreachable!("it was split before"),
                    },
                };
            }
            Stage::Head { .. } | Stage::Page(_) | Stage::Ending(_) => {}
        }
        Some(reading)
    }

    /// Holds what was not read. A client of another shard goes there with it.
    pub fn finish_reading(&mut self, desk: &mut Desk, key: ConnectionKey, reading: &mut Reading<'_>) {
        let Connection { stage, unread, .. } = self.connections.get_mut(key).expect("a connection that is read is there");
        let mark = reading.mark;
        if let Stage::Mqtt(link) = stage {
            // The shard that the connection goes to reads CONNECT again.
            let is_leaving = link.home().is_some();
            match &reading.rest {
                Rest::Packets(source, range) if link.is_websocket => {
                    let from = if is_leaving { mark } else { range.start };
                    let (source, range) = (*source, from..range.end);
                    link.keep_stream(reading.take_rest(source, range));
                }
                _ if is_leaving => {
                    reading.used = mark;
                    *unread = reading.take_unread();
                    return self.hand_over(desk, key);
                }
                _ => {}
            }
            *unread = reading.take_unread();
            if is_leaving {
                self.hand_over(desk, key);
            }
        } else if let Stage::Native(native) = stage
            && native.is_held()
        {
            let is_moving = native.is_moving();
            native.keep_rest(reading.take_rest_of_message());
            *unread = reading.take_unread();
            if is_moving {
                self.hand_native_over(desk, key);
            }
        } else if !matches!(stage, Stage::Page(_) | Stage::Ending(_)) {
            *unread = reading.take_unread();
        }
    }

    /// The next request or packet that is whole.
    pub fn next(&mut self, desk: &mut Desk, audience: &mut Audience, key: ConnectionKey, reading: &mut Reading<'_>) -> Option<Piece> {
        // Each turn takes a frame, a packet or a head out of what came with one read.
        loop {
            if matches!(self.stage(key), Some(Stage::Native(native)) if native.is_held()) {
                return None;
            }
            if !matches!(reading.rest, Rest::Nothing)
                && let Some(piece) = self.next_of_message(desk, audience, key, reading)
            {
                return Some(piece);
            }
            if reading.unread().is_empty() {
                return None;
            }
            if desk.limits.has_pace() && self.has_to_wait(desk, key) {
                return None;
            }
            match &self.connections.get(key).expect("a connection that is read is there").stage {
                Stage::Page(_) | Stage::Ending(_) => return None,
                Stage::Head { listener } => {
                    let used = self.read_head(desk, audience, (key, *listener), reading.unread());
                    if used == 0 {
                        return None;
                    }
                    let from = reading.used;
                    reading.used += used;
                    // It may have shown a password.
                    reading.bytes_mut()[from..from + used].zeroize();
                }
                Stage::Mqtt(link) if link.is_waiting() => return None,
                Stage::Mqtt(link) if !link.is_websocket => {
                    let range = reading.used..reading.bytes().len();
                    let piece = self.next_packet(desk, audience, key, Source::Bytes, range, reading)?;
                    if let Piece::Packet { body, .. } = &piece {
                        reading.used = body.end;
                    }
                    return Some(piece);
                }
                Stage::Mqtt(_) | Stage::Native(_) => {
                    let unread = reading.unread();
                    match websocket::parse_head(unread, desk.limits.message_bytes_max) {
                        Ok(Some(head)) if unread.len() >= head.head_len + head.payload_len => {
                            let from = reading.used + head.head_len;
                            reading.used = from + head.payload_len;
                            self.read_frame(desk, audience, key, head, from..reading.used, reading);
                        }
                        Ok(_) => return None,
                        Err(error) => {
                            self.close_broken(desk, audience, key, error);
                            return None;
                        }
                    }
                }
            }
        }
    }

    /// What the piece means. Gives what its client says to a session; all else is done here.
    pub fn hear<'r>(
        &mut self,
        desk: &mut Desk,
        audience: &mut Audience,
        key: ConnectionKey,
        piece: &Piece,
        reading: &'r Reading<'_>,
    ) -> Option<Said<'r>> {
        self.note_message(desk, key);
        match piece {
            Piece::Frame { op, source, body } => {
                let frame = native::Frame { op: *op, body: &reading.of(*source)[body.clone()] };
                self.hear_request(desk, audience, key, native::decode_request(frame))
            }
            Piece::Object { source, offset, text } => {
                let object = std::str::from_utf8(&reading.of(*source)[text.clone()]).expect("the whole message is UTF-8");
                match text::decode_request(object) {
                    Ok(request) => self.hear_request(desk, audience, key, request),
                    Err(error) => {
                        // Its client counts it with the others, as it does a frame whose body does not parse.
                        if let Some(session) = self.session(key) {
                            audience.note_request(desk, session);
                        }
                        self.refuse_text(desk, audience, key, *offset, error);
                        None
                    }
                }
            }
            Piece::Packet { first, source, body } => self.hear_packet(desk, audience, key, *first, &reading.of(*source)[body.clone()]),
        }
    }

    /// What a client shows for being who it says is wiped where it was read.
    #[inline]
    pub fn forget_shown(&mut self, key: ConnectionKey, piece: &Piece, reading: &mut Reading<'_>) {
        let (source, range) = match piece {
            Piece::Frame { op: op::CONNECT | op::AUTHENTICATE, source, body } => (*source, body.clone()),
            // CONNECT is read again by the shard that its connection goes to.
            Piece::Packet { first: CONNECT_PACKET | AUTH_PACKET, source, body } if matches!(self.stage(key), Some(Stage::Mqtt(link)) if link.home().is_none()) => {
                (*source, body.clone())
            }
            Piece::Object { source, text, .. } if matches!(self.stage(key), Some(Stage::Native(native)) if native.is_held()) => {
                (*source, text.clone())
            }
            _ => return,
        };
        reading.of_mut(source)[range].zeroize();
    }

    /// A message counts for the connection's pace.
    #[inline]
    fn note_message(&mut self, desk: &Desk, key: ConnectionKey) {
        let per_s = desk.limits.messages_per_s_max;
        if per_s > 0
            && let Some(pace) = self.connections.get_mut(key).and_then(|connection| connection.pace.as_deref_mut())
        {
            pace.note_message(desk.turn.now, per_s);
        }
    }

    fn next_of_message(
        &mut self,
        desk: &mut Desk,
        audience: &mut Audience,
        key: ConnectionKey,
        reading: &mut Reading<'_>,
    ) -> Option<Piece> {
        match (&mut reading.rest, self.stage(key).expect("a connection that is read is there")) {
            (Rest::Frames(source, range), Stage::Native(_)) => {
                let (source, mut range) = (*source, range.clone());
                let mut message = &reading.of(source)[range.clone()];
                match native::next_frame(&mut message) {
                    Ok(Some(frame)) => {
                        // The body is the frame's end.
                        range.start = range.end - message.len();
                        let (op, body) = (frame.op, range.start - frame.body.len()..range.start);
                        reading.rest = if message.is_empty() { Rest::Nothing } else { Rest::Frames(source, range) };
                        return Some(Piece::Frame { op, source, body });
                    }
                    Ok(None) => {}
                    Err(varint::Malformed) => {
                        self.close_now(desk, audience, key, CloseCode::MalformedMessage, "a frame overruns its message");
                    }
                }
            }
            (Rest::Objects(source, objects), Stage::Native(_)) => {
                if let Some((offset, text)) = objects.next() {
                    return Some(Piece::Object { source: *source, offset, text });
                }
            }
            // Packets that have to wait stay in the reading until it ends.
            (Rest::Packets(..), Stage::Mqtt(link)) if link.is_waiting() => return None,
            (Rest::Packets(source, range), Stage::Mqtt(_)) => {
                let (source, range) = (*source, range.clone());
                if let Some(piece) = self.next_packet(desk, audience, key, source, range.clone(), reading) {
                    if let Piece::Packet { body, .. } = &piece {
                        reading.rest = Rest::Packets(source, body.end..range.end);
                    }
                    return Some(piece);
                }
                if let Some(Connection { stage: Stage::Mqtt(link), .. }) = self.connections.get_mut(key) {
                    link.keep_stream(reading.take_rest(source, range));
                }
            }
            _ => {}
        }
        reading.rest = Rest::Nothing;
        None
    }

    fn next_packet(
        &mut self,
        desk: &mut Desk,
        audience: &mut Audience,
        key: ConnectionKey,
        source: Source,
        range: Range<usize>,
        reading: &mut Reading<'_>,
    ) -> Option<Piece> {
        let packet_bytes_max = desk.limits.mqtt.packet_bytes_max;
        reading.mark = range.start;
        match mqtt::parse_head(&reading.of(source)[range.clone()], packet_bytes_max) {
            Ok(Some(head)) if range.len() >= head.head_len + head.body_len => {
                let from = range.start + head.head_len;
                Some(Piece::Packet { first: head.first, source, body: from..from + head.body_len })
            }
            Ok(_) => None,
            Err(fault) => {
                if fault.code == mqtt::ReasonCode::PACKET_TOO_LARGE {
                    self.note_oversized(desk, audience, key, "mqtt.packet_bytes_max");
                }
                self.close_faulty(desk, audience, key, fault);
                None
            }
        }
    }

    /// The operator is told: a client of MQTT 3.x cannot be.
    fn note_oversized(&self, desk: &mut Desk, audience: &Audience, key: ConnectionKey, limit: &'static str) {
        let name = |key| match audience.session(key).and_then(|session| session.mqtt.as_ref()) {
            Some(mqtt) => mqtt.client_id.to_string(),
            None => audience.session_id(desk, key),
        };
        let client = self.session(key).map(name);
        desk.note_oversized(client.unwrap_or_default().into(), limit);
    }

    // WebSocket.

    fn read_frame(
        &mut self,
        desk: &mut Desk,
        audience: &mut Audience,
        key: ConnectionKey,
        head: FrameHead,
        place: Range<usize>,
        reading: &mut Reading<'_>,
    ) {
        if matches!(head.opcode, websocket::PING | websocket::PONG) {
            self.note_message(desk, key);
        }
        let payload = &mut reading.bytes_mut()[place.clone()];
        websocket::unmask(payload, head.mask);
        let connection = self.connections.get_mut(key).expect("a connection that is read is there");
        match head.opcode {
            websocket::PING => {
                if connection.raw.len() < desk.limits.pong_bytes_high {
                    websocket::put_frame(&mut connection.raw, websocket::PONG, payload);
                }
                desk.effects.wake(key);
            }
            websocket::PONG => {}
            websocket::CLOSE => match websocket::close_answer(payload) {
                Ok(code) => {
                    websocket::put_close(&mut connection.raw, code, "");
                    if let Some(session) = connection.stage.session() {
                        audience.note_end(session, Ended::ByClient);
                    }
                    self.end(desk, audience, key);
                }
                Err(error) => self.close_broken(desk, audience, key, error),
            },
            _ => match self.gather_message(desk, key, head, place, reading) {
                Ok(Some(message)) => self.begin_message(desk, audience, key, message, reading),
                Ok(None) => {}
                Err(error) => self.close_broken(desk, audience, key, error),
            },
        }
    }

    /// The message that the frame completes.
    fn gather_message(
        &mut self,
        desk: &Desk,
        key: ConnectionKey,
        head: FrameHead,
        place: Range<usize>,
        reading: &mut Reading<'_>,
    ) -> Result<Option<Message>, WebSocketError> {
        let fragments = self.fragments(key);
        let is_first = head.opcode != websocket::CONTINUATION;
        if is_first == fragments.is_some() {
            return Err(WebSocketError::Protocol("a message's fragments are out of order"));
        }
        if is_first && head.is_final {
            return Ok(Some(Message { opcode: head.opcode, source: Source::Bytes, range: place }));
        }
        let (_, message) = &mut **fragments.get_or_insert_with(|| Box::new((head.opcode, Vec::new())));
        if message.len() + place.len() > desk.limits.message_bytes_max {
            return Err(WebSocketError::TooLarge);
        }
        message.extend_from_slice(&reading.bytes()[place]);
        if !head.is_final {
            return Ok(None);
        }
        let (opcode, message) = *fragments.take().expect("it was just there");
        let range = 0..message.len();
        reading.message = message;
        Ok(Some(Message { opcode, source: Source::Message, range }))
    }

    fn fragments(&mut self, key: ConnectionKey) -> &mut Fragments {
        let connection = self.connections.get_mut(key).expect("a connection that is read is there");
        match &mut connection.stage {
            Stage::Native(native) => &mut native.fragments,
            Stage::Mqtt(link) => link.fragments(),
            Stage::Head { .. } | Stage::Page(_) | Stage::Ending(_) => unreachable!("frames are read of no others"),
        }
    }

    fn begin_message(&mut self, desk: &mut Desk, audience: &mut Audience, key: ConnectionKey, message: Message, reading: &mut Reading<'_>) {
        let Message { opcode, source, range } = message;
        let connection = self.connections.get_mut(key).expect("a connection that is read is there");
        let expected = match &connection.stage {
            Stage::Native(native) => opcode_of(native.form),
            _ => websocket::BINARY,
        };
        if opcode != expected {
            let reason = "the subprotocol in force has the other kind of message";
            return self.close_now(desk, audience, key, CloseCode::WrongMessageKind, reason);
        }
        reading.rest = match &mut connection.stage {
            Stage::Mqtt(link) => match link.take_stream() {
                stream if stream.is_empty() => Rest::Packets(source, range),
                mut stream => {
                    stream.extend_from_slice(&reading.of(source)[range]);
                    reading.message = stream;
                    Rest::Packets(Source::Message, 0..reading.message.len())
                }
            },
            Stage::Native(native) if native.form == Form::Binary => Rest::Frames(source, range),
            _ => match split_text(&reading.of(source)[range.clone()], range.start) {
                Ok(Ok(objects)) => Rest::Objects(source, objects.into_iter()),
                Ok(Err(error)) => return self.refuse_text(desk, audience, key, 0, error),
                Err(std::str::Utf8Error { .. }) => {
                    return self.close_now(desk, audience, key, CloseCode::InvalidUtf8, "a text message is not UTF-8");
                }
            },
        };
    }

    fn close_broken(&mut self, desk: &mut Desk, audience: &mut Audience, key: ConnectionKey, error: WebSocketError) {
        match error {
            WebSocketError::Protocol(reason) => self.close_now(desk, audience, key, CloseCode::WebSocketError, reason),
            WebSocketError::TooLarge => {
                self.note_oversized(desk, audience, key, "limits.message_bytes_max");
                let reason = format!("a message is longer than {} bytes (limits.message_bytes_max)", desk.limits.message_bytes_max);
                self.close_now(desk, audience, key, CloseCode::MessageTooLarge, &reason);
            }
        }
    }
}

/// A part of the bytes, to be held. Not more room than twice what is held, or a connection that brought one long packet would hold as much for ever.
fn keep(mut bytes: Vec<u8>, part: Range<usize>) -> Vec<u8> {
    bytes.truncate(part.end);
    bytes.drain(..part.start);
    if bytes.capacity() / 2 > bytes.len() {
        bytes.shrink_to_fit();
    }
    bytes
}

/// The objects of a message that begins at `start`, by their offsets in it and their places.
#[expect(clippy::type_complexity, reason = "two things may be wrong with a message, which are answered differently")]
fn split_text(message: &[u8], start: usize) -> Result<Result<Vec<(usize, Range<usize>)>, TextError>, std::str::Utf8Error> {
    let objects = text::split_batch(std::str::from_utf8(message)?);
    let placed = |(offset, object): (usize, &str)| (offset, start + offset..start + offset + object.len());
    Ok(objects.map(|objects| objects.into_iter().map(placed).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_held_takes_no_more_room_than_twice_its_size() {
        let long = || vec![7; 1 << 20];
        for (part, held) in [(1 << 20..usize::MAX, 0), ((1 << 20) - 3..usize::MAX, 3), (10..20, 10), (1 << 19..1 << 20, 1 << 19)] {
            let kept = keep(long(), part.clone());
            assert!(kept.len() == held && kept.capacity() <= 2 * held, "{part:?}: {} bytes in {}", kept.len(), kept.capacity());
        }
        let mut growing = Vec::new();
        for _ in 0..1000 {
            growing.extend_from_slice(&[7; 1000]);
            let before = growing.as_ptr();
            growing = keep(growing, 0..usize::MAX);
            assert!(growing.as_ptr() == before, "what grows is not copied each time");
        }
    }

    #[test]
    fn nothing_is_held_behind_a_packet() {
        let mut reading = Reading::new(Bytes::Held(vec![7; 1 << 20]));
        reading.used = 1 << 20;
        assert_eq!(reading.take_unread().capacity(), 0);
        reading.message = vec![7; 1 << 20];
        assert_eq!(reading.take_rest(Source::Message, 1 << 20..1 << 20).capacity(), 0);
    }
}
