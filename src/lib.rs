//! kigen (期限, "deadline"): finds the customers whose sites still sign in to Exchange Online with basic authentication,
//! and tells each of them, once and in time, what to do.
//!
//! The rooms, in reading order; who may use whom is kept by `tests/architecture.rs`.

pub mod clock;
pub mod config;
pub mod connector;
pub mod demo;
pub mod domain;
pub mod fleet;
pub mod mail;
pub mod notice;
pub mod secret;
pub mod store;
