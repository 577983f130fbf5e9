//! The simulated world: an admin tool, Microsoft's login service, a mail server, and customers who react as people do.
//!
//! The real pipeline runs against it on loopback, in `kigen demo` and in tests, so it is faithful before it is convenient:
//! what a real tool or relay would refuse is refused here. Nothing in here reads a clock or needs a network beyond loopback,
//! and everything is decided by a seed, so that a replay can be repeated.

pub mod admin_tool;
pub mod fleet;
pub mod mail_server;
pub mod microsoft;
mod names;
pub mod people;
mod random;
pub mod replay;

pub use random::Random;
