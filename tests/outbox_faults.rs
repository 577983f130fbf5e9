//! The outbox under faults: at every point of a delivery the process stops, the store fails or the server is cut off; then
//! everything starts again on the same file. No notice is lost, none is called sent that no server took, and a repeat is
//! the same to the byte and comes if the server had the whole message and its answer was not written down, and only then.

#![allow(clippy::unwrap_used, reason = "helpers of tests panic like tests do")]

mod common;
#[path = "common/faulty_store.rs"]
mod faulty_store;
#[path = "outbox_faults/going_on.rs"]
mod going_on;
#[path = "outbox_faults/lives.rs"]
mod lives;
#[path = "outbox_faults/points.rs"]
mod points;
#[path = "outbox_faults/server.rs"]
mod server;
