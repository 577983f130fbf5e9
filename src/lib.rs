//! kigen (期限, "deadline"): finds the customers whose sites still sign in to Exchange Online with basic authentication,
//! and tells each of them, once and in time, what to do.
//!
//! The rooms, in reading order; who may use whom is kept by `tests/architecture.rs`:
//!
//! - [`domain`]: the pure core. What a site's settings mean, who is due what and why, what an outcome makes of a mail.
//! - [`clock`], [`secret`], [`metrics`], [`spool`] (what is too large for memory): small things everybody uses.
//! - [`config`]: the TOML file, checked into types that cannot be wrong.
//! - [`fleet`]: the customers file. [`connector`]: reading a customer's sites.
//!   [`microsoft`]: what the Microsoft side says of a tenant (asked through the connectors' client). [`store`]: the durable state.
//!   [`notice`]: the texts for customers. [`alert`]: the texts for operators. [`mail`]: messages and the ways out. None of these knows another.
//! - [`daemon`]: scan, notice pass, deliveries, schedule: the shells that fit the rooms above together.
//! - [`web`]: the dashboard, health and metrics. [`app`]: the composition root. [`cli`]: the commands. [`demo`]: a simulated world.

pub mod alert;
pub mod app;
pub mod cli;
pub mod clock;
pub mod config;
pub mod connector;
pub mod daemon;
pub mod demo;
pub mod domain;
pub mod fleet;
pub mod mail;
pub mod metrics;
pub mod microsoft;
pub mod notice;
pub mod secret;
pub mod spool;
pub mod store;
pub mod web;
