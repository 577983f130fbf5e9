//! The simulated world: an admin tool, a mail server, and customers who react as people do.
