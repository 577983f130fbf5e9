//! Several nodes on one PostgreSQL: the same pipeline, shared out, and what happens when a node or the database dies.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod common;
#[path = "cluster/deaths.rs"]
mod deaths;
#[path = "cluster/mail.rs"]
mod mail;
#[path = "cluster/nodes.rs"]
mod nodes;
#[path = "common/postgres.rs"]
mod postgres;
#[path = "cluster/state.rs"]
mod state;
#[path = "cluster/together.rs"]
mod together;
