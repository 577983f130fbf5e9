//! Which facts a notice must hold (ids as in its tests), and until when they are true.
