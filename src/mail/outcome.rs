//! What a server said -> accepted, deferred, rejected, unknown, blocked. A table over reply and enhanced status codes.
