//! Reasons: the one table from the server's own codes to MQTT's, and which of these a packet may carry.

use crate::protocol::ErrorCode;
use crate::wire::mqtt::ReasonCode;

/// What a refusal of the server's is in MQTT 5.
pub fn reason_of(code: ErrorCode) -> ReasonCode {
    use ErrorCode as E;
    match code {
        E::InvalidPath | E::ReservedPath | E::NoSuchTopic => ReasonCode::TOPIC_NAME_INVALID,
        E::InvalidSelector => ReasonCode::TOPIC_FILTER_INVALID,
        E::InvalidValue | E::IncompatibleType => ReasonCode::PAYLOAD_FORMAT_INVALID,
        // Not 0x95: the packet was not longer than the maximum that CONNACK told.
        E::ValueTooLarge
        | E::TopicLimit
        | E::SelectionLimit
        | E::ListenerLimit
        | E::ViewLimit
        | E::Overloaded
        | E::StorageUnavailable
        | E::NoQuorum
        | E::UpdateUnknown => ReasonCode::QUOTA_EXCEEDED,
        E::ReadOnlyTopic | E::AccessDenied => ReasonCode::NOT_AUTHORIZED,
        E::ShuttingDown => ReasonCode::SERVER_SHUTTING_DOWN,
        // Rules of the server's own that MQTT has no word for.
        E::TopicExists
        | E::UnknownType
        | E::UnsupportedProperty
        | E::InvalidProperty
        | E::UnsatisfiedConstraint
        | E::InvalidConstraint
        | E::InvalidPatch
        | E::FailedPatch
        | E::InvalidScope
        | E::InvalidStream
        | E::StreamInUse
        | E::InvalidTimestamp
        | E::NoSuchEvent
        | E::EventIsEdit
        | E::InvalidQuery
        | E::TimestampAhead
        | E::NoSuchView
        | E::InvalidView
        | E::CyclicView
        | E::NoSuchListener
        | E::NoHandler
        | E::RequestTimeout
        | E::HandlerGone
        | E::HandlerAway
        | E::HandlerBusy
        | E::Rejected
        | E::NoSuchRequest
        | E::NoSuchSession
        | E::InvalidFilter
        | E::InvalidSessionProperty => ReasonCode::IMPLEMENTATION_SPECIFIC_ERROR,
        // Of the native protocol's own dialogue: no MQTT client can be refused so.
        // Of the native protocol alone: no MQTT client can be refused so.
        E::MalformedFrame
        | E::UnknownOperation
        | E::NotConnected
        | E::AlreadyConnected
        | E::UnsupportedVersion
        | E::CannotResume
        | E::InvalidCount
        | E::AuthenticationFailed
        | E::InvalidScript
        | E::MalformedJson
        | E::InvalidField
        | E::LockLimit
        | E::LockLost
        | E::InvalidBranchMapping
        | E::SessionTreeLimit
        | E::ResponseLost => ReasonCode::UNSPECIFIED_ERROR,
    }
}

/// The codes that one kind of packet may carry from a server.
#[derive(Clone, Copy, Debug)]
pub(super) struct Codes(&'static [u8]);

/// MQTT-3.2.2-8.
pub(super) const CONNACK: Codes = Codes(&[
    0x00, 0x80, 0x81, 0x82, 0x83, 0x84, 0x85, 0x86, 0x87, 0x88, 0x89, 0x8a, 0x8c, 0x90, 0x95, 0x97, 0x99, 0x9a, 0x9b, 0x9c, 0x9d, 0x9f,
]);
/// MQTT-3.4.2-1, MQTT-3.5.2-1.
pub(super) const PUBACK: Codes = Codes(&[0x00, 0x10, 0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99]);
/// MQTT-3.6.2-1, MQTT-3.7.2-1.
pub(super) const PUBREL: Codes = Codes(&[0x00, 0x92]);
/// MQTT-3.9.3-2.
pub(super) const SUBACK: Codes = Codes(&[0x00, 0x01, 0x02, 0x80, 0x83, 0x87, 0x8f, 0x91, 0x97, 0x9e, 0xa1, 0xa2]);
/// MQTT-3.11.3-2.
pub(super) const UNSUBACK: Codes = Codes(&[0x00, 0x11, 0x80, 0x83, 0x87, 0x8f, 0x91]);
/// MQTT-3.14.2-1.
pub(super) const DISCONNECT: Codes = Codes(&[
    0x00, 0x80, 0x81, 0x82, 0x83, 0x87, 0x89, 0x8b, 0x8d, 0x8e, 0x8f, 0x90, 0x93, 0x94, 0x95, 0x96, 0x97, 0x98, 0x99, 0x9a, 0x9b, 0x9c,
    0x9d, 0x9e, 0x9f, 0xa0, 0xa1, 0xa2,
]);

impl Codes {
    /// `code` if it may be carried, else the one that says most of it.
    pub fn nearest(self, code: ReasonCode) -> ReasonCode {
        let near = match code {
            ReasonCode::SERVER_SHUTTING_DOWN => ReasonCode::SERVER_UNAVAILABLE,
            ReasonCode::SERVER_UNAVAILABLE => ReasonCode::SERVER_BUSY,
            // An implementation's limit is exceeded, which is what the quota means.
            ReasonCode::PACKET_TOO_LARGE | ReasonCode::SERVER_BUSY => ReasonCode::QUOTA_EXCEEDED,
            ReasonCode::BANNED | ReasonCode::BAD_USER_NAME_OR_PASSWORD | ReasonCode::BAD_AUTHENTICATION_METHOD => {
                ReasonCode::NOT_AUTHORIZED
            }
            ReasonCode::TOPIC_NAME_INVALID => ReasonCode::TOPIC_FILTER_INVALID,
            ReasonCode::TOPIC_FILTER_INVALID => ReasonCode::TOPIC_NAME_INVALID,
            _ => ReasonCode::UNSPECIFIED_ERROR,
        };
        let candidates = [code, near, ReasonCode::UNSPECIFIED_ERROR];
        let carried = candidates.into_iter().find(|candidate| self.0.contains(&candidate.0));
        carried.unwrap_or(ReasonCode::PACKET_IDENTIFIER_NOT_FOUND)
    }
}
