//! SMTP over a connection of our own, one phase at a time, each under its own deadline.
