//! One function a section: its keys, their forms and defaults, and what must hold between them.

pub(super) mod basics;
pub(super) mod campaign;
pub(super) mod connector;
pub(super) mod mail;
pub(super) mod microsoft;
pub(super) mod watch;
