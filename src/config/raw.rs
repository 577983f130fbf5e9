//! The file as written: plain structs with spans, unknown keys refused.
