//! Ids, time, bytes: what everything above stands on.
