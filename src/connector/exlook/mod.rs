//! The ExLook管理ツール as a connector: a guest that reads two settings by their visible labels.
