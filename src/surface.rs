//! What others use of this crate: its binary, its tests and benches, and the load test.
//!
//! Item by item, in the order of the rooms. The rooms themselves are private, so the compiler finds every other item that nobody uses; what
//! stands here and is named by nobody is found by `tests/tidy.rs`. It is no promise to other crates.

pub mod security {
    pub use crate::security::{Author, PrincipalLimits, PrincipalScript, PrincipalStore, SecurityLimits, SecurityStore};
}

pub mod base {
    pub use crate::base::{ConnectionKey, SessionId, ShardIndex, SlabKey, Time, TopicId};

    pub mod placement {
        pub use crate::base::placement::owner_of;
    }
}

pub mod value {
    pub use crate::value::ValueType;

    pub mod delta {
        pub use crate::value::delta::{Encoder, Form, apply};
    }

    pub mod json {
        pub use crate::value::json::{Checker, JsonLimits, is_compact};

        pub mod plain {
            pub use crate::value::json::plain::compact;
        }
    }

    pub mod patch {
        pub use crate::value::patch::{PatchError, PatchLimits, apply};
    }

    pub mod pointer {
        pub use crate::value::pointer::{Pointer, find};
    }

    pub mod scalar {
        pub use crate::value::scalar::{append_json, check, from_json};
    }
}

pub mod wire {
    pub mod event {
        pub use crate::wire::event::{Event, Form, Properties, put};
    }

    pub mod forwarded {
        pub use crate::wire::forwarded::Networks;
    }

    pub mod http {
        pub use crate::wire::http::{HEALTH, LATENCY, parse_head};
    }

    pub mod mqtt {
        pub use crate::wire::mqtt::{
            Fault, Packet, PacketLimits, PublishHead, QoS, ReasonCode, Version, decode, decode_connect, parse_head, put_acknowledgement,
            put_publish,
        };
    }

    pub mod origin {
        pub use crate::wire::origin::{Hosts, Origins, WebRules};
    }

    pub mod native {
        pub use crate::wire::native::{
            Append, Ask, CAPABILITY_COMPRESSION, CAPABILITY_COPY, CAPABILITY_DEFLATE, Credentials, Entry, EventEntry, EventHead, Fetch,
            Frame, Heard, LockEntry, NULL_BIT, OPERATIONS, Outcome, PresenceEntry, Properties, Query, QueryRange, Request, Resumption,
            SelectionEntry, SessionEntry, Shown, Update, VERSION, Verb, ViewEntry, Welcome, decode_authenticated, decode_event,
            decode_events, decode_locks, decode_message, decode_page, decode_presence, decode_request, decode_script, decode_selections,
            decode_session_tree, decode_session_trees, decode_sessions, decode_views, delta_frame, event_frame, next_frame, null_frame,
            put_request, value_deflate_frame, value_frame,
        };

        pub mod op {
            pub use crate::wire::native::op::{
                CLOSE, DELTA_COPY, DELTA_DEFLATE, ERROR, NULL_VALUE, OK, PING, PONG, SUBSCRIBED, UPDATE, VALUE, VALUE_DEFLATE,
            };
        }
    }

    pub mod text {
        pub use crate::wire::text::{TextError, decode_request, put_event, put_null, put_value, split_batch, type_name};
    }

    pub mod varint {
        pub use crate::wire::varint::{Malformed, Reader, put};
    }

    pub mod websocket {
        pub use crate::wire::websocket::{close_answer, parse_head};
    }
}

pub mod protocol {
    pub use crate::protocol::{ErrorCode, Reason};
}

pub mod series {
    pub use crate::series::{Anchor, EVENT_BYTES, EVENT_NUMBERS_BYTES, Query, QueryKind, QueryRange, Range, Series, Span};
}

pub mod topic {
    pub mod constraint {
        pub use crate::topic::constraint::{Constraint, ConstraintLimits, Subject};
    }

    pub mod path {
        pub use crate::topic::path::{TopicPath, check_form, compare, is_within};
    }

    pub mod publication {
        pub use crate::topic::publication::Publication;
    }

    pub mod range_expression {
        pub use crate::topic::range_expression::RangeExpression;
    }

    pub mod removal {
        pub use crate::topic::removal::{RemovalLimits, RemovalPolicy};
    }

    pub mod selector {
        pub use crate::topic::selector::{Selector, SelectorLimits};
    }

    pub mod session_filter {
        pub use crate::topic::session_filter::{SessionFilter, SessionFilterLimits};
    }

    pub mod specification {
        pub use crate::topic::specification::{Specification, SpecificationLimits, TopicType};
    }
}

pub mod view {
    pub use crate::view::{Definition, ViewLimits};

    pub mod evaluate {
        pub use crate::view::evaluate::{Derived, Evaluation, EvaluationLimits, Evaluator, Input, Looked, Topics};
    }
}

pub mod session {
    pub use crate::session::{MqttLimits, QueueLimits};
    pub use crate::topic::mqtt_rule::TopicRules;
}

pub mod journal {
    pub use crate::journal::{
        Append, Change, Expected, Frame, HEADER_BYTES, Header, Record, RecordKind, SESSION_KIND, SESSION_TREE_KIND, Salt, State, VIEW_KIND,
        encode, read_segment, synced_mark,
    };
}

pub mod cluster {
    pub use crate::cluster::{Entry, Forward, Source};
    #[cfg(feature = "server")]
    pub use crate::cluster::{last_place, place};
}

pub mod mail {
    pub use crate::mail::{Action, Asker, Batch, Call, Caller, Content, Mail, Update};
}

pub mod shard {
    pub use crate::shard::{
        Claim, DerivationLimits, Effect, Fate, Forwarder, Handover, Identified, Identity, Landed, Leader, Limits, Log, Outgoing, Place,
        PrincipalOrder, Proposal, Replication, Restoring, ResumeLimits, Role, Shard, Shown, Storing, Transport, Unidentified, Verdict, Who,
    };
}

#[cfg(feature = "server")]
pub mod storage {
    pub use crate::storage::{Ack, Answer, Options, Sender, Store, check, start};
}

#[cfg(feature = "server")]
pub mod consensus {
    pub use crate::consensus::{
        Answer, Asker, Asking, Committed, Dial, Engine, Fate, GroupId, Handle, Inbox, News, NodeId, Options, Piece, Position, Proposal,
        Request, Start, Unreached, start,
    };
}

#[cfg(feature = "server")]
pub mod peers {
    pub use crate::peers::{Home, Options, Peers, found, join, wall_clock_ms};
}

#[cfg(feature = "server")]
pub mod runtime {
    pub use crate::runtime::{Completion, Ring, Sizes};
    pub use crate::shard::Send;
}

#[cfg(feature = "server")]
pub mod config {
    pub use crate::config::usable_cores;
}

#[cfg(feature = "server")]
pub mod cli {
    pub mod cluster {
        pub use crate::cli::cluster::{ClusterCommand, Serving, cluster, serve};
    }

    pub mod demo {
        pub use crate::cli::demo::demo;
    }

    pub mod doctor {
        pub use crate::cli::doctor::{Arguments, run};
    }

    pub mod latency {
        pub use crate::cli::latency::{Latency, latency};
    }

    pub mod listen {
        pub use crate::cli::listen::{Listen, listen};
    }

    pub mod locks {
        pub use crate::cli::locks::{Lock, Locks, lock, locks};
    }

    pub mod presence {
        pub use crate::cli::presence::{Presence, presence};
    }
    pub mod principal {
        pub use crate::cli::principal::{Principal, principal};
    }

    pub mod requests {
        pub use crate::cli::requests::{RequestArguments, Respond, request, respond};
    }

    pub mod security {
        pub use crate::cli::security::{SecurityCommand, security};
    }

    pub mod series {
        pub use crate::cli::series::{SeriesCommand, series};
    }

    pub mod session_tree {
        pub use crate::cli::session_tree::{SessionTreeCommand, session_tree};
    }

    pub mod serve {
        pub use crate::cli::serve::{ConfigCommand, Serve, config, serve};
    }

    pub mod sessions {
        pub use crate::cli::sessions::{SessionCommand, Sessions, session, sessions};
    }

    pub mod spec {
        pub use crate::cli::spec::{Spec, spec};
    }

    pub mod storage {
        pub use crate::cli::storage::{StorageCommand, run};
    }

    pub mod topics {
        pub use crate::cli::topics::{Add, FetchArguments, Patch, Remove, Set, Subscribe, add, fetch, patch, remove, set, sub};
    }

    pub mod view {
        pub use crate::cli::view::{ViewCommand, view};
    }
}
