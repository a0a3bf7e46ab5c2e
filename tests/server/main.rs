//! The real binary over real sockets: every test starts its own server on a free port, and ends it by SIGTERM with exit code 0.
//!
//! Sessions speak through soketto, which shares no code with the server; broken input goes over plain sockets. Nothing here is timed:
//! the timeouts only bound a test that would hang.

mod admission;
mod audit;
mod authenticators;
mod client;
mod cluster;
mod durable;
mod messaging;
mod mosquitto;
mod random;
mod raw;
mod relay;
mod requests;
mod server;
mod session_events;
mod secure;
mod sessions;

mod abuse;
mod closes;
mod command_line;
mod command_locks;
mod command_requests;
mod command_sessions;
mod command_topics;
mod command_views;
mod compression;
mod conditions;
mod deltas;
mod errors;
mod falling_behind;
mod fetches;
mod http;
mod identities;
mod identities_http;
mod kill;
mod listeners;
mod locks;
mod looks;
mod mqtt_bridge;
mod mqtt_large;
mod mqtt_mosquitto;
mod mqtt_requests;
mod mqtt_rumqttc;
mod operations;
mod removal;
mod resume;
mod security_commands;
mod session_trees;
mod shutdown;
mod slow;
mod specifications;
mod storage;
mod subscriptions;
mod text_form;
mod time_series;
mod tls;
mod views;
