//! The real binary over real sockets: every test starts its own server on a free port, and ends it by SIGTERM with exit code 0.
//!
//! Sessions speak through soketto, which shares no code with the server; broken input goes over plain sockets. Nothing here is timed:
//! the timeouts only bound a test that would hang.

mod client;
mod random;
mod raw;
mod requests;
mod server;

mod closes;
mod command_line;
mod deltas;
mod errors;
mod http;
mod kill;
mod operations;
mod shutdown;
mod slow;
mod storage;
mod subscriptions;
mod text_form;
