//! The roles that every server begins with.
//!
//! Each may select and read every topic and send requests to every path, but in the server's own branches, which are isolated: there none has a right but
//! who watches or administers the server. Locks are for those that write: a client that could take any lock could stop them. There is no role for JMX, which
//! this server does not have; a script that sets one makes it a role like any other. Sessions have no roles but what their authentication gives.

/// The store in its own language. `docs/security.md` shows the same.
pub const SCRIPT: &str = r#"set "CLIENT" default path permissions [SELECT_TOPIC, READ_TOPIC, SEND_TO_MESSAGE_HANDLER]
set "TOPIC_CONTROL" permissions [READ_TOPIC_VIEWS, MODIFY_TOPIC_VIEWS]
set "TOPIC_CONTROL" default path permissions [UPDATE_TOPIC, MODIFY_TOPIC, QUERY_OBSOLETE_TIME_SERIES_EVENTS, EDIT_TIME_SERIES_EVENTS, EDIT_OWN_TIME_SERIES_EVENTS, ACQUIRE_LOCK, EXPOSE_BRANCH]
set "TOPIC_CONTROL" includes ["CLIENT"]
set "CLIENT_CONTROL" permissions [VIEW_SESSION, MODIFY_SESSION, REGISTER_HANDLER]
set "CLIENT_CONTROL" default path permissions [SEND_TO_SESSION, ACQUIRE_LOCK]
set "CLIENT_CONTROL" includes ["CLIENT"]
set "AUTHENTICATION_HANDLER" permissions [REGISTER_HANDLER, AUTHENTICATE]
set "AUTHENTICATION_HANDLER" includes ["CLIENT"]
set "OPERATOR" permissions [VIEW_SESSION, VIEW_SERVER, READ_TOPIC_VIEWS]
set "OPERATOR" path "$SYS" permissions [SELECT_TOPIC, READ_TOPIC]
set "OPERATOR" path "Diffusion" permissions [SELECT_TOPIC, READ_TOPIC]
set "OPERATOR" path "Tidewire" permissions [SELECT_TOPIC, READ_TOPIC]
set "OPERATOR" includes ["CLIENT"]
set "ADMINISTRATOR" permissions [CONTROL_SERVER, VIEW_SECURITY, MODIFY_SECURITY]
set "ADMINISTRATOR" includes ["AUTHENTICATION_HANDLER", "CLIENT_CONTROL", "OPERATOR", "TOPIC_CONTROL"]
isolate path "$SYS"
isolate path "Diffusion"
isolate path "Tidewire"
"#;
