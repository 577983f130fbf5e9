//! The rules one by one with their boundary days, and a whole pass. The scene: a deadline on Saturday 2022-10-01 for a
//! vendor that works Monday to Friday; the property tests are in `tests/planner.rs`.

mod life;
mod overtaken;
mod pass;
mod quiet;
mod rules;
mod scene;
mod walk;
