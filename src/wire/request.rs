//! What a client asks for in the native protocol: the table of its requests.
//!
//! A row is an operation by its number and its name, and its members in the order of the binary form, each with how it is read. What follows from
//! the table: the operations of both forms, the requests, how either form reads them and how the binary form is written. A form brings how it reads
//! a member (`Source`).

use super::native::Writer;
use std::borrow::Cow;
use std::fmt;
use zeroize::Zeroize;

/// In an update's `kind`: the value is null, and its bytes are empty.
pub const NULL_BIT: u8 = 0x80;

/// Keys and values of topic properties, as they came.
pub type Properties<'a> = Vec<(Cow<'a, str>, Cow<'a, str>)>;

/// A request of a client; its id is 0 where it has none.
#[derive(Clone, Debug, PartialEq)]
pub struct Request<'a> {
    pub id: u64,
    pub ask: Ask<'a>,
}

/// One operation of a client.
#[derive(Clone, Copy, Debug)]
pub struct Operation {
    pub op: u8,
    /// In the text form.
    pub name: &'static str,
    /// It becomes a question to the owners of topics or views. UNLISTEN does only at times, and is counted where it does.
    pub asks_owners: bool,
    /// It has neither id nor members: whatever its body holds is skipped.
    pub is_bare: bool,
    /// The text form does not have it.
    pub is_binary_only: bool,
}

impl Operation {
    const fn new(op: u8, name: &'static str) -> Self {
        Self { op, name, asks_owners: false, is_bare: false, is_binary_only: false }
    }

    /// The text form's operation of the name.
    pub(super) fn named(name: &str) -> Option<&'static Self> {
        OPERATIONS.iter().find(|operation| operation.name == name && !operation.is_binary_only)
    }
}

macro_rules! requests {
    ($(
        $(#[$doc:meta])*
        $($op:ident = $number:literal $name:literal $([$flag:ident])?),+ =>
        $variant:ident $({ $($member:ident: $type:ty = $method:ident($($argument:expr),*)),* $(,)? })?;
    )*) => {
        /// The numbers of the operations.
        pub mod op {
            $($(pub const $op: u8 = $number;)+)*
        }

        /// Every operation that the server knows.
        pub const OPERATIONS: &[Operation] = &[
            $($(Operation { $($flag: true,)? ..Operation::new($number, $name) },)+)*
        ];

        /// What a client asks for. Values are in their wire form but for the text form's, which are JSON still.
        #[derive(Clone, Debug, PartialEq)]
        pub enum Ask<'a> {
            $($(#[$doc])* $variant $({ $($member: $type),* })?,)*
            /// An operation of a later version.
            Unknown { name: String },
            /// A body that does not have its operation's form.
            Broken,
        }

        impl<'a> Ask<'a> {
            /// `None` for an operation that is not in the table.
            pub(super) fn read<S: Source<'a>>(op: u8, source: &mut S) -> Result<Option<Self>, S::Error> {
                Ok(Some(match op {
                    $($(op::$op)|+ => Self::$variant $({ $($member: source.$method($($argument),*)?),* })?,)*
                    _ => return Ok(None),
                }))
            }

            pub(super) fn write(&self, writer: &mut Writer<'_>) {
                match self {
                    $(Self::$variant $({ $($member),* })? => { $($(writer.$method($($argument,)* $member);)*)? })*
                    Self::Unknown { .. } | Self::Broken => {}
                }
            }

            /// The operation; of those that ask for the same the first.
            pub(super) fn operation(&self) -> Option<&'static Operation> {
                match self {
                    $(Self::$variant { .. } => {
                        const { &[$(Operation { $($flag: true,)? ..Operation::new($number, $name) }),+] }.first()
                    })*
                    Self::Unknown { .. } | Self::Broken => None,
                }
            }
        }
    };
}

requests! {
    CONNECT = 0x01 "connect" => Connect {
        version: u64 = version(),
        name: Cow<'a, str> = tagged_text(1, "client"),
        capabilities: u64 = capabilities(2),
        token: Cow<'a, str> = tagged_text(4, "token"),
        processed: u64 = tagged_number(5, "processed"),
        resume_ms: u64 = tagged_number(6, "resume_ms"),
        properties: Properties<'a> = tagged_properties(7, "properties"),
        durable: bool = tagged_flag(8, "durable"),
        about: Box<About<'a>> = about(),
    };
    PING = 0x02 "ping" [is_bare] => Ping;
    PONG = 0x03 "pong" [is_bare] => Pong;
    CLOSE = 0x04 "close" [is_bare] => Close;
    /// So many messages of the session.
    PROCESSED = 0x05 "processed" => Processed { messages: u64 = number("messages") };

    ADD = 0x10 "add", SET = 0x11 "set", ADD_AND_SET = 0x12 "add_and_set", UPDATE = 0x15 "update" => Update {
        path: Cow<'a, str> = text("path"),
        update: Update<'a> = update(),
    };
    REMOVE = 0x13 "remove" [asks_owners] => Remove { selector: Cow<'a, str> = text("selector") };
    FETCH = 0x14 "fetch" [asks_owners] => Fetch { fetch: Box<Fetch<'a>> = fetch() };

    SUBSCRIBE = 0x18 "subscribe" [asks_owners] => Subscribe {
        selector: Cow<'a, str> = text("selector"),
        scope: Cow<'a, str> = optional_text("scope"),
    };
    UNSUBSCRIBE = 0x19 "unsubscribe" => Unsubscribe {
        selector: Cow<'a, str> = text("selector"),
        scope: Cow<'a, str> = optional_text("scope"),
    };
    UNSUBSCRIBE_ALL_SCOPES = 0x1a "unsubscribe_all_scopes" => UnsubscribeAllScopes { selector: Cow<'a, str> = text("selector") };

    LISTEN = 0x1c "listen" [asks_owners] => Listen {
        listener: u64 = number("listener"),
        kind: u8 = listener_kind(),
        selector: Cow<'a, str> = text("selector"),
    };
    UNLISTEN = 0x1d "unlisten" => Unlisten { listener: u64 = number("listener"), selector: Cow<'a, str> = optional_text("selector") };

    STREAM_OPEN = 0x20 "stream_open" => StreamOpen {
        stream: u64 = new_stream(),
        path: Cow<'a, str> = text("path"),
        update: Update<'a> = update(),
    };
    STREAM_SET = 0x21 "stream_set" => StreamSet { stream: u64 = number("stream"), value: Cow<'a, [u8]> = rest("value") };
    STREAM_DELTA = 0x22 "stream_delta" [is_binary_only] => StreamDelta {
        stream: u64 = number("stream"),
        form: u8 = byte("form"),
        delta: Cow<'a, [u8]> = rest("delta"),
    };
    STREAM_CLOSE = 0x23 "stream_close" => StreamClose { stream: u64 = number("stream") };

    APPEND = 0x28 "append", EDIT = 0x29 "edit" => Append {
        path: Cow<'a, str> = text("path"),
        kind: u8 = value_kind(),
        append: Append = append(),
        value: Cow<'a, [u8]> = typed_value(),
    };
    QUERY = 0x2a "query" [asks_owners] => Query { path: Cow<'a, str> = text("path"), query: Query = query() };

    HANDLE_REQUESTS = 0x30 "handle_requests" => HandleRequests {
        handler: u64 = number("handler"),
        path: Cow<'a, str> = text("path"),
        session_properties: Vec<Cow<'a, str>> = texts("session_properties"),
    };
    UNHANDLE_REQUESTS = 0x31 "unhandle_requests" => UnhandleRequests { handler: u64 = number("handler") };
    REQUEST = 0x32 "request" => Request {
        path: Cow<'a, str> = text("path"),
        timeout_ms: u64 = optional_number("timeout_ms"),
        kind: u8 = value_kind(),
        value: Cow<'a, [u8]> = typed_value(),
    };
    REQUEST_SESSION = 0x33 "request_session" => RequestSession {
        session: Cow<'a, str> = text("session"),
        path: Cow<'a, str> = text("path"),
        timeout_ms: u64 = optional_number("timeout_ms"),
        kind: u8 = value_kind(),
        value: Cow<'a, [u8]> = typed_value(),
    };
    REQUEST_FILTER = 0x34 "request_filter" => RequestFilter {
        filter: Cow<'a, str> = text("filter"),
        path: Cow<'a, str> = text("path"),
        timeout_ms: u64 = optional_number("timeout_ms"),
        kind: u8 = value_kind(),
        value: Cow<'a, [u8]> = typed_value(),
    };
    RESPOND = 0x35 "respond" => Respond {
        request: u64 = number("request"),
        kind: u8 = value_kind(),
        value: Cow<'a, [u8]> = typed_value(),
    };
    REJECT = 0x36 "reject" => Reject { request: u64 = number("request"), message: Cow<'a, str> = text("message") };

    LIST_SESSIONS = 0x50 "list_sessions" => ListSessions {
        filter: Cow<'a, str> = optional_text("filter"),
        after: Cow<'a, str> = optional_text("after"),
        first: u64 = optional_number("first"),
        slowest: bool = flag("slowest"),
    };
    CLOSE_SESSIONS = 0x51 "close_sessions" => CloseSessions {
        session: Cow<'a, str> = optional_text("session"),
        filter: Cow<'a, str> = optional_text("filter"),
        message: Cow<'a, str> = optional_text("message"),
    };
    SET_SESSION_PROPERTIES = 0x52 "set_session_properties" => SetSessionProperties {
        session: Cow<'a, str> = optional_text("session"),
        filter: Cow<'a, str> = optional_text("filter"),
        properties: Properties<'a> = properties("properties"),
    };
    CONFLATE_SESSIONS = 0x53 "conflate_sessions" => ConflateSessions {
        session: Cow<'a, str> = optional_text("session"),
        filter: Cow<'a, str> = optional_text("filter"),
        conflated: bool = flag("conflated"),
    };
    SUBSCRIBE_SESSIONS = 0x54 "subscribe_sessions" => SubscribeSessions {
        session: Cow<'a, str> = optional_text("session"),
        filter: Cow<'a, str> = optional_text("filter"),
        selector: Cow<'a, str> = text("selector"),
        scope: Cow<'a, str> = optional_text("scope"),
    };
    UNSUBSCRIBE_SESSIONS = 0x55 "unsubscribe_sessions" => UnsubscribeSessions {
        session: Cow<'a, str> = optional_text("session"),
        filter: Cow<'a, str> = optional_text("filter"),
        selector: Cow<'a, str> = text("selector"),
        scope: Cow<'a, str> = optional_text("scope"),
    };

    /// Roles go, others come. Until the client shows anew who it is.
    CHANGE_ROLES = 0x57 "change_roles" => ChangeRoles {
        session: Cow<'a, str> = optional_text("session"),
        filter: Cow<'a, str> = optional_text("filter"),
        remove: Vec<Cow<'a, str>> = texts("remove"),
        add: Vec<Cow<'a, str>> = texts("add"),
    };

    /// The client shows anew who it is, or that it is another.
    AUTHENTICATE = 0x6c "authenticate" => Authenticate { credentials: Box<Credentials<'a>> = credentials() };

    /// The session says who others are where the chain has an authenticator of this name. It is asked by REQUESTED of this handler, which UNHANDLE_REQUESTS ends.
    HANDLE_AUTHENTICATION = 0x6d "handle_authentication" => HandleAuthentication {
        handler: u64 = number("handler"),
        name: Cow<'a, str> = text("name"),
    };

    /// The script of what roles permit, from a byte on.
    GET_SECURITY = 0x68 "get_security" => GetSecurity { offset: u64 = optional_number("offset") };
    /// A script that changes it, or is only checked.
    APPLY_SECURITY = 0x69 "apply_security" [asks_owners] => ApplySecurity {
        check: bool = flag("check"),
        script: Cow<'a, str> = text("script"),
    };

    /// The script of the principals that the server knows, from a byte on.
    GET_PRINCIPALS = 0x6a "get_principals" => GetPrincipals { offset: u64 = optional_number("offset") };
    /// A script that changes them, or is only checked.
    APPLY_PRINCIPALS = 0x6b "apply_principals" [asks_owners] => ApplyPrincipals {
        check: bool = flag("check"),
        script: Cow<'a, str> = text("script"),
    };

    LISTEN_SESSIONS = 0x60 "listen_sessions" => ListenSessions {
        listener: u64 = number("listener"),
        filter: Cow<'a, str> = optional_text("filter"),
        session_properties: Vec<Cow<'a, str>> = texts("session_properties"),
    };
    LISTEN_QUEUES = 0x61 "listen_queues" => ListenQueues {
        listener: u64 = number("listener"),
        filter: Cow<'a, str> = optional_text("filter"),
    };
    LISTEN_PRESENCE = 0x62 "listen_presence" => ListenPresence {
        listener: u64 = number("listener"),
        selector: Cow<'a, str> = text("selector"),
        once: bool = flag("once"),
    };
    /// Of any of the three kinds.
    UNLISTEN_SESSIONS = 0x63 "unlisten_sessions" => UnlistenSessions { listener: u64 = number("listener") };
    /// Those behind the session `after`, at the path `after_path`; empty for the first.
    LIST_PRESENCE = 0x64 "list_presence" [asks_owners] => ListPresence {
        selector: Cow<'a, str> = text("selector"),
        after_path: Cow<'a, str> = optional_text("after_path"),
        after: Cow<'a, str> = optional_text("after"),
        first: u64 = optional_number("first"),
        once: bool = flag("once"),
    };
    /// Those of one session, behind the first so many.
    LIST_SELECTIONS = 0x56 "list_selections" => ListSelections {
        session: Cow<'a, str> = text("session"),
        after: u64 = place_after(),
        first: u64 = optional_number("first"),
    };

    CREATE_VIEW = 0x40 "create_view" [asks_owners] => CreateView {
        name: Cow<'a, str> = text("name"),
        definition: Cow<'a, str> = text("definition"),
    };
    REMOVE_VIEW = 0x41 "remove_view" [asks_owners] => RemoveView { name: Cow<'a, str> = text("name") };
    /// Those created later than the view of the place `after`; of 0 from the first.
    LIST_VIEWS = 0x42 "list_views" [asks_owners] => ListViews { after: u64 = place_after() };
    GET_VIEW = 0x43 "get_view" [asks_owners] => GetView { name: Cow<'a, str> = text("name") };

    LOCK = 0x58 "lock" => Lock { name: Cow<'a, str> = text("name"), scope: u8 = lock_scope() };
    UNLOCK = 0x59 "unlock" => Unlock { name: Cow<'a, str> = text("name"), number: u64 = number("number") };
    /// Those behind the name `after`; empty for the first.
    LIST_LOCKS = 0x5a "list_locks" [asks_owners] => ListLocks { after: Cow<'a, str> = optional_text("after") };

    /// Rows of session filters and branches of topics; with none the branch has no table any more.
    PUT_SESSION_TREE = 0x5c "put_session_tree" [asks_owners] => PutSessionTree {
        branch: Cow<'a, str> = text("branch"),
        mappings: Properties<'a> = mappings("mappings"),
    };
    GET_SESSION_TREE = 0x5d "get_session_tree" => GetSessionTree { branch: Cow<'a, str> = text("branch") };
    /// Those behind the branch `after`; empty for the first.
    LIST_SESSION_TREES = 0x5e "list_session_trees" => ListSessionTrees { after: Cow<'a, str> = optional_text("after") };
}

/// Where a request's members come from: the body of a frame, which has them in their order, or an object, which has them by their names.
pub(super) trait Source<'a> {
    type Error;

    fn number(&mut self, name: &'static str) -> Result<u64, Self::Error>;
    fn byte(&mut self, name: &'static str) -> Result<u8, Self::Error>;
    fn text(&mut self, name: &'static str) -> Result<Cow<'a, str>, Self::Error>;
    /// 0 where the text form leaves it out.
    fn optional_number(&mut self, name: &'static str) -> Result<u64, Self::Error>;
    /// False where the text form leaves it out.
    fn flag(&mut self, name: &'static str) -> Result<bool, Self::Error>;
    fn properties(&mut self, name: &'static str) -> Result<Properties<'a>, Self::Error>;
    /// Pairs in their order, of which several may have one key.
    fn mappings(&mut self, name: &'static str) -> Result<Properties<'a>, Self::Error>;
    /// None where the text form leaves them out.
    fn texts(&mut self, name: &'static str) -> Result<Vec<Cow<'a, str>>, Self::Error>;
    /// Empty where the text form leaves it out.
    fn optional_text(&mut self, name: &'static str) -> Result<Cow<'a, str>, Self::Error>;
    /// A field of the binary form; 0 where there is none of the tag.
    fn tagged_number(&mut self, tag: u64, name: &'static str) -> Result<u64, Self::Error>;
    fn tagged_flag(&mut self, tag: u64, name: &'static str) -> Result<bool, Self::Error>;
    /// The same; none where there is none.
    fn tagged_properties(&mut self, tag: u64, name: &'static str) -> Result<Properties<'a>, Self::Error>;
    /// The same; empty where there is none.
    fn tagged_text(&mut self, tag: u64, name: &'static str) -> Result<Cow<'a, str>, Self::Error>;
    /// The bytes to the end of a frame.
    fn rest(&mut self, name: &'static str) -> Result<Cow<'a, [u8]>, Self::Error>;

    /// The text form may leave it out.
    fn version(&mut self) -> Result<u64, Self::Error>;
    /// The text form has none.
    fn capabilities(&mut self, tag: u64) -> Result<u64, Self::Error>;
    /// What an update does, which its operation says, or its fields.
    fn update(&mut self) -> Result<Update<'a>, Self::Error>;
    fn fetch(&mut self) -> Result<Box<Fetch<'a>>, Self::Error>;
    /// What a client says of itself, in the fields 9 to 12.
    fn about(&mut self) -> Result<Box<About<'a>>, Self::Error>;
    /// The text form may leave each out.
    fn credentials(&mut self) -> Result<Box<Credentials<'a>>, Self::Error>;
    /// By its name in the text form.
    fn listener_kind(&mut self) -> Result<u8, Self::Error>;
    /// The number of a stream that is to be opened.
    fn new_stream(&mut self) -> Result<u64, Self::Error>;
    /// The type of `typed_value`, with `NULL_BIT` for null.
    fn value_kind(&mut self) -> Result<u8, Self::Error>;
    fn typed_value(&mut self) -> Result<Cow<'a, [u8]>, Self::Error>;
    fn append(&mut self) -> Result<Append, Self::Error>;
    fn query(&mut self) -> Result<Query, Self::Error>;
    /// The text form may leave it out.
    fn place_after(&mut self) -> Result<u64, Self::Error>;
    /// By its name in the text form, which may leave it out.
    fn lock_scope(&mut self) -> Result<u8, Self::Error>;
}

impl Ask<'static> {
    /// CONNECT of this version, for a session that ends with its connection.
    pub fn connect(name: &'static str, capabilities: u64) -> Self {
        let (version, token) = (super::native::VERSION, Cow::Borrowed(""));
        let (properties, about) = (Vec::new(), Box::default());
        Self::Connect { version, name: name.into(), capabilities, resume_ms: 0, token, processed: 0, properties, durable: false, about }
    }
}

impl Ask<'_> {
    /// What it is called; `update` for each that changes a topic but by an event.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Update { .. } => "update",
            Self::Append { append: Append::Edit { .. }, .. } => "edit",
            _ => self.operation().map_or("unknown", |operation| operation.name),
        }
    }

    /// Whether it becomes a question to the owners of topics or views.
    pub fn asks_owners(&self) -> bool {
        self.operation().is_some_and(|operation| operation.asks_owners)
    }
}

/// What a client says of itself when it connects. All of it is empty where it does not say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct About<'a> {
    /// What it runs in.
    pub environment: Cow<'a, str>,
    pub credentials: Credentials<'a>,
}

/// Who a client says that it is, and what it shows for that. All of it is empty of one that is anonymous.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Credentials<'a> {
    pub principal: Cow<'a, str>,
    pub password: Cow<'a, str>,
    /// A JSON Web Token, in the place of a password.
    pub bearer: Cow<'a, str>,
}

impl About<'_> {
    pub fn into_owned(self) -> About<'static> {
        About { environment: Cow::Owned(self.environment.into_owned()), credentials: self.credentials.into_owned() }
    }
}

impl Credentials<'_> {
    pub fn into_owned(mut self) -> Credentials<'static> {
        let owned = |text: &mut Cow<'_, str>| Cow::Owned(std::mem::take(text).into_owned());
        let Self { principal, password, bearer } = &mut self;
        Credentials { principal: owned(principal), password: owned(password), bearer: owned(bearer) }
    }
}

/// Wiped where it is not another's memory.
impl Drop for Credentials<'_> {
    fn drop(&mut self) {
        for text in [&mut self.password, &mut self.bearer] {
            if let Cow::Owned(text) = text {
                text.zeroize();
            }
        }
    }
}

/// Without what only the client and the server may know.
impl fmt::Debug for Credentials<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").field("principal", &self.principal).finish_non_exhaustive()
    }
}

/// What happens to one topic.
#[derive(Clone, Debug, PartialEq)]
pub struct Update<'a> {
    pub verb: Verb,
    /// The number of the value's type, with `NULL_BIT` for null; of the topic's type where the topic may be added. 0 where it is not said.
    pub kind: u8,
    /// Of `Verb::Patch` the patch; empty of `Verb::Add`.
    pub value: Cow<'a, [u8]>,
    pub properties: Properties<'a>,
    /// JSON text; empty for none.
    pub constraint: Cow<'a, [u8]>,
}

/// How an update treats a topic that is there, or is not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    Add,
    Set,
    AddAndSet,
    Patch,
    /// Changes nothing: the topic is there, of the type, and the constraint holds.
    Check,
}

/// A new event of a time series.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Append {
    /// `None`: the server's clock.
    Original {
        timestamp_ms: Option<u64>,
    },
    Edit {
        original: u64,
    },
}

/// Which topics a fetch wants, and what of them. Empty paths are not set.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Fetch<'a> {
    pub selector: Cow<'a, str>,
    pub from: Cow<'a, str>,
    pub after: Cow<'a, str>,
    pub to: Cow<'a, str>,
    pub before: Cow<'a, str>,
    pub first: u64,
    pub last: u64,
    /// Bit n for topic type n; 0 for all.
    pub types: u64,
    pub with_values: bool,
    pub with_properties: bool,
    pub with_sizes: bool,
    pub depth: u64,
    pub depth_limit: u64,
    pub bytes_max: u64,
}

/// A range query as it came; 0 is no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Query {
    pub kind: u8,
    pub range: QueryRange,
    pub edit_range: Option<QueryRange>,
    pub limit: u64,
}

/// Anchor and span by the numbers of the wire, each with its figure.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QueryRange {
    pub anchor: (u8, u64),
    pub span: (u8, u64),
}

impl<'a> Update<'a> {
    pub fn new(verb: Verb, kind: u8, value: impl Into<Cow<'a, [u8]>>) -> Self {
        Self { verb, kind, value: value.into(), properties: Vec::new(), constraint: Cow::Borrowed(&[]) }
    }
}
