//! Monotonic time in nanoseconds, as it stands in payloads.
//!
//! `CLOCK_MONOTONIC` is one clock for all processes of a machine, so a stamp written by one
//! process is comparable in another. Stamps do not travel between machines.

pub const SECOND_NS: u64 = 1_000_000_000;
pub const MILLISECOND_NS: u64 = 1_000_000;

/// Nanoseconds of `CLOCK_MONOTONIC`.
pub fn now_ns() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a valid timespec for the call to fill.
    let result = unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut time) };
    assert_eq!(result, 0, "CLOCK_MONOTONIC exists on every Linux");
    time.tv_sec as u64 * SECOND_NS + time.tv_nsec as u64
}
