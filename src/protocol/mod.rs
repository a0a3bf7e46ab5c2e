//! The one table of error and close codes, and the dialogues of both protocols; `sdk/protocol/codes.json` says the same to every SDK.

pub mod mqtt;
pub mod native;

macro_rules! codes {
    ($(#[$doc:meta])* $name:ident { $($variant:ident = $code:literal $text:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum $name { $($variant = $code,)* }
        impl $name {
            #[allow(dead_code, reason = "of some tables only a test asks for all")]
            pub const ALL: &[Self] = &[$(Self::$variant,)*];
            pub fn code(self) -> u16 { self as u16 }
            #[allow(dead_code, reason = "of some tables nobody asks")]
            pub fn from_code(code: u16) -> Option<Self> { Self::ALL.iter().copied().find(|known| known.code() == code) }
            pub fn name(self) -> &'static str { match self { $(Self::$variant => $text,)* } }
        }
    };
}

codes! {
    /// A request's refusal.
    ErrorCode {
        MalformedFrame = 100 "malformed_frame",
        UnknownOperation = 101 "unknown_operation",
        NotConnected = 102 "not_connected",
        AlreadyConnected = 103 "already_connected",
        UnsupportedVersion = 104 "unsupported_version",
        MalformedJson = 105 "malformed_json",
        InvalidField = 106 "invalid_field",
        CannotResume = 107 "cannot_resume",
        InvalidCount = 108 "invalid_count",
        AuthenticationFailed = 109 "authentication_failed",
        AccessDenied = 110 "access_denied",
        InvalidScript = 111 "invalid_script",
        InvalidPath = 200 "invalid_path",
        InvalidSelector = 201 "invalid_selector",
        NoSuchTopic = 202 "no_such_topic",
        TopicExists = 203 "topic_exists",
        IncompatibleType = 204 "incompatible_type",
        InvalidValue = 205 "invalid_value",
        ValueTooLarge = 206 "value_too_large",
        UnknownType = 207 "unknown_type",
        UnsupportedProperty = 208 "unsupported_property",
        ReservedPath = 209 "reserved_path",
        TopicLimit = 210 "topic_limit",
        InvalidProperty = 211 "invalid_property",
        UnsatisfiedConstraint = 212 "unsatisfied_constraint",
        InvalidConstraint = 213 "invalid_constraint",
        InvalidPatch = 214 "invalid_patch",
        FailedPatch = 215 "failed_patch",
        InvalidScope = 216 "invalid_scope",
        InvalidStream = 220 "invalid_stream",
        StreamInUse = 221 "stream_in_use",
        InvalidTimestamp = 222 "invalid_timestamp",
        NoSuchEvent = 223 "no_such_event",
        EventIsEdit = 224 "event_is_edit",
        InvalidQuery = 225 "invalid_query",
        TimestampAhead = 226 "timestamp_ahead",
        NoSuchView = 230 "no_such_view",
        InvalidView = 231 "invalid_view",
        ViewLimit = 232 "view_limit",
        CyclicView = 233 "cyclic_view",
        ReadOnlyTopic = 234 "read_only_topic",
        SelectionLimit = 300 "selection_limit",
        ListenerLimit = 301 "listener_limit",
        NoSuchListener = 302 "no_such_listener",
        NoHandler = 310 "no_handler",
        RequestTimeout = 311 "request_timeout",
        HandlerGone = 312 "handler_gone",
        HandlerAway = 313 "handler_away",
        HandlerBusy = 314 "handler_busy",
        Rejected = 315 "rejected",
        NoSuchRequest = 316 "no_such_request",
        NoSuchSession = 317 "no_such_session",
        InvalidFilter = 318 "invalid_filter",
        InvalidSessionProperty = 319 "invalid_session_property",
        LockLimit = 320 "lock_limit",
        LockLost = 321 "lock_lost",
        InvalidBranchMapping = 325 "invalid_branch_mapping",
        SessionTreeLimit = 326 "session_tree_limit",
        ResponseLost = 336 "response_lost",
        Overloaded = 400 "overloaded",
        ShuttingDown = 401 "shutting_down",
        StorageUnavailable = 410 "storage_unavailable",
        NoQuorum = 420 "no_quorum",
        UpdateUnknown = 421 "update_unknown",
    }
}

codes! {
    /// Why a connection is closed: the WebSocket close code.
    CloseCode {
        Normal = 1000 "normal",
        ShuttingDown = 1001 "shutting_down",
        WebSocketError = 1002 "websocket_error",
        WrongMessageKind = 1003 "wrong_message_kind",
        InvalidUtf8 = 1007 "invalid_utf8",
        MessageTooLarge = 1009 "message_too_large",
        MalformedMessage = 4100 "malformed_message",
        UnsupportedVersion = 4101 "unsupported_version",
        ConnectTimeout = 4102 "connect_timeout",
        KeepAliveTimeout = 4103 "keep_alive_timeout",
        SendQueueOverflow = 4104 "send_queue_overflow",
        SessionTakenOver = 4105 "session_taken_over",
        ClosedByControl = 4106 "closed_by_control",
        ComeLater = 4107 "come_later",
        AuthenticationFailed = 4108 "authentication_failed",
    }
}

codes! {
    /// Why a subscription ended.
    Reason {
        Requested = 1 "requested",
        Removed = 2 "removed",
        BackPressure = 3 "back_pressure",
        BranchMappings = 4 "branch_mappings",
        AccessDenied = 5 "access_denied",
    }
}

/// A refusal as it is sent: its number, what it is about and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    pub code: ErrorCode,
    /// The byte offset in the text that the refusal is about.
    pub position: Option<usize>,
    pub message: String,
}

impl Refusal {
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code, position: None, message: message.into() }
    }

    pub fn at(code: ErrorCode, position: usize, message: impl Into<String>) -> Self {
        Self { code, position: Some(position), message: message.into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_published_table_says_the_same() {
        let table: serde_json::Value = serde_json::from_str(include_str!("../../sdk/protocol/codes.json")).unwrap();
        let published = |section: &str| -> Vec<(u64, String)> {
            let rows = table[section].as_array().unwrap();
            rows.iter().map(|row| (row["code"].as_u64().unwrap(), row["name"].as_str().unwrap().to_owned())).collect()
        };
        let ours =
            |codes: &mut dyn Iterator<Item = (u16, &'static str)>| codes.map(|(c, n)| (u64::from(c), n.to_owned())).collect::<Vec<_>>();
        assert_eq!(published("errors"), ours(&mut ErrorCode::ALL.iter().map(|c| (c.code(), c.name()))));
        assert_eq!(published("closes"), ours(&mut CloseCode::ALL.iter().map(|c| (c.code(), c.name()))));
        assert_eq!(published("unsubscription_reasons"), ours(&mut Reason::ALL.iter().map(|c| (c.code(), c.name()))));
    }
}
