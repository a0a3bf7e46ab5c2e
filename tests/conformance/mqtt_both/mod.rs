//! What 3.1.1 and 5 ask alike, by each of them.

mod connections;
mod filters;
mod large;
mod malformed;
mod messages;
mod quality;
mod retained;
mod sessions;
mod subscriptions;
mod wills;

use crate::mqtt_packets::{V5, V311};

fn both(test: impl Fn(u8)) {
    for version in [V311, V5] {
        test(version);
    }
}
