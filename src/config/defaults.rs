//! The values of keys that are not set: one place, which `config.toml.example` is tested against.
