//! A way out that writes files: for trying out, and for a local delivery agent.
