//! What a session needs to answer its client, as long as the client is connected: how packets are written, and how many of the client's messages
//! are not acknowledged.

use super::{ClientLimits, reason};
use crate::wire::mqtt::{self, Acknowledgement, AcknowledgementKind, Fault, QoS, ReasonCode, Version};

/// See the module. No packet is put that is longer than the client takes: a reason string is left out first, then the packet.
#[derive(Clone, Copy, Debug)]
pub struct Answers {
    version: Version,
    packet_bytes_max: u32,
    wants_problem_information: bool,
    /// Messages of the client's that are not acknowledged to the end.
    taken: u16,
}

impl Answers {
    pub(super) fn new(version: Version, client: ClientLimits) -> Self {
        let ClientLimits { packet_bytes_max, wants_problem_information, .. } = client;
        Self { version, packet_bytes_max, wants_problem_information, taken: 0 }
    }

    /// A PUBLISH came. MQTT-3.3.4-7: a client does not send more than the server's receive maximum before one is acknowledged. For 3.x this only
    /// bounds what is kept: there are no more identifiers than it counts.
    pub fn take_publish(&mut self, qos: QoS, receive_maximum: u16) -> Result<(), Fault> {
        let count_max = if self.version == Version::V5 { receive_maximum } else { u16::MAX };
        if qos == QoS::AtMostOnce {
            return Ok(());
        }
        if self.taken >= count_max {
            return Err(Fault::new(ReasonCode::RECEIVE_MAXIMUM_EXCEEDED, "more messages than the receive maximum are not acknowledged"));
        }
        self.taken += 1;
        Ok(())
    }

    /// A PUBLISH came that the session already has and that waits for its PUBREL: its PUBREC is sent again, but of both only one PUBCOMP will
    /// come, so that the client's quota gets one back here.
    ///
    /// The PUBLISH before it may have come on another connection, whose count is gone; then the quota is one too generous, as it is for a PUBREL
    /// that is sent again. It never is too small.
    pub fn repeated(&mut self) {
        self.give_back();
    }

    /// Section 4.9: a quota that is whole stays as it is, for a PUBREL that is sent again has a PUBCOMP more than there were PUBLISHes.
    fn give_back(&mut self) {
        self.taken = self.taken.saturating_sub(1);
    }

    /// Puts PUBACK, PUBREC, PUBREL or PUBCOMP. What ends a message of the client's gives back its quota.
    pub fn put_acknowledgement(&mut self, out: &mut Vec<u8>, acknowledgement: Acknowledgement, reason_string: Option<&str>) {
        let Acknowledgement { kind, id, code } = acknowledgement;
        // Section 4.9: PUBACK, PUBCOMP, and PUBREC with an error end a message. In 3.x a PUBREC that refuses says no more than any other: PUBREL
        // follows, and its PUBCOMP gives back.
        let (codes, is_end) = match kind {
            AcknowledgementKind::Puback => (reason::PUBACK, true),
            AcknowledgementKind::Pubrec => (reason::PUBACK, code.is_error() && self.version == Version::V5),
            AcknowledgementKind::Pubrel => (reason::PUBREL, false),
            AcknowledgementKind::Pubcomp => (reason::PUBREL, true),
        };
        if is_end {
            self.give_back();
        }
        let code = if self.version == Version::V5 { codes.nearest(code) } else { code };
        self.put(out, self.wanted(reason_string), |out, reason_string| {
            mqtt::put_acknowledgement(out, self.version, kind, id, code, reason_string);
        });
    }

    pub fn put_suback(&self, out: &mut Vec<u8>, id: u16, codes: &[ReasonCode]) {
        match self.version {
            Version::V5 => {
                let codes: Vec<_> = codes.iter().map(|code| reason::SUBACK.nearest(*code)).collect();
                self.put(out, None, |out, _| mqtt::put_suback(out, Version::V5, id, &codes, None));
            }
            version => mqtt::put_suback(out, version, id, codes, None),
        }
    }

    pub fn put_unsuback(&self, out: &mut Vec<u8>, id: u16, codes: &[ReasonCode]) {
        match self.version {
            Version::V5 => {
                let codes: Vec<_> = codes.iter().map(|code| reason::UNSUBACK.nearest(*code)).collect();
                self.put(out, None, |out, _| mqtt::put_unsuback(out, Version::V5, id, &codes));
            }
            version => mqtt::put_unsuback(out, version, id, codes),
        }
    }

    /// MQTT-3.1.2-29: a client may forbid reason strings on packets other than PUBLISH, CONNACK and DISCONNECT; 3.x has none.
    fn wanted<'a>(&self, reason_string: Option<&'a str>) -> Option<&'a str> {
        reason_string.filter(|_| self.version == Version::V5 && self.wants_problem_information)
    }

    fn put(&self, out: &mut Vec<u8>, reason_string: Option<&str>, put: impl Fn(&mut Vec<u8>, Option<&str>)) {
        put_fitting(out, self.packet_bytes_max, reason_string, put);
    }
}

/// Puts one packet. MQTT-3.1.2-24: it is not longer than the client's maximum; MQTT-3.2.2-19, MQTT-3.4.2-2, MQTT-3.14.2-3 and their like: a reason
/// string that makes it longer is left out.
pub(super) fn put_fitting(out: &mut Vec<u8>, packet_bytes_max: u32, reason_string: Option<&str>, put: impl Fn(&mut Vec<u8>, Option<&str>)) {
    let start = out.len();
    let fits = |out: &Vec<u8>| out.len() - start <= packet_bytes_max as usize;
    put(out, reason_string);
    if !fits(out) && reason_string.is_some() {
        out.truncate(start);
        put(out, None);
    }
    if !fits(out) {
        out.truncate(start);
    }
}
