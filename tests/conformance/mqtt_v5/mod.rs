//! What only 5 asks.

mod authentication;
mod connack;
mod endings;
mod exchanges;
mod options;
mod properties;
mod shared;
mod sizes;
