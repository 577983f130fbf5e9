//! The customers file: what is read, what is quarantined and with which words, what makes the whole file unusable.

#![allow(clippy::unwrap_used, reason = "the helpers here belong to the tests")]

#[path = "fleet/cells.rs"]
mod cells;
#[path = "fleet/importing.rs"]
mod importing;
#[path = "fleet/large.rs"]
mod large;
#[path = "fleet/rows.rs"]
mod rows;
#[path = "fleet/tables.rs"]
mod tables;
#[path = "fleet/whole.rs"]
mod whole;

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use kigen::fleet::{Fleet, FleetError, RowError, load};

const HEADER: &str = "customer_id,name,email,contact_name,cc,fallback_email,phone,language,account,password,logon_url,\
                      tenant_domain,feature_phone,smartphone,opted_out,done,notify,sites,note";

/// The three errors texts come across most.
const CONTROL: &str = "holds a control character such as a line break; write it on one line";

const NOT_YES_NO: &str = "is neither `yes` nor `no`";

const NO_DOMAIN: &str = "is no domain; write one such as contoso.onmicrosoft.com";

struct File {
    _dir: tempfile::TempDir,
    path: PathBuf,
}

/// A file that only its owner can read.
fn file(name: &str, bytes: &[u8]) -> File {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(name);
    std::fs::write(&path, bytes).unwrap();
    chmod(&path, 0o600);
    File { _dir: dir, path }
}

fn chmod(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

fn csv(text: impl AsRef<[u8]>) -> Fleet {
    load(&file("customers.csv", text.as_ref()).path).unwrap()
}

fn toml(text: &str) -> Fleet {
    load(&file("customers.toml", text.as_bytes()).path).unwrap()
}

fn cp932(text: &str) -> Vec<u8> {
    let (bytes, _, lossy) = encoding_rs::SHIFT_JIS.encode(text);
    assert!(!lossy);
    bytes.into_owned()
}

fn refused(name: &str, bytes: impl AsRef<[u8]>) -> Vec<String> {
    match load(&file(name, bytes.as_ref()).path) {
        Err(FleetError::Invalid { errors, .. }) => errors.iter().map(RowError::to_string).collect(),
        other => panic!("not refused: {other:?}"),
    }
}

fn names(fleet: &Fleet) -> Vec<&str> {
    fleet.members.iter().map(|m| m.customer.name.as_str()).collect()
}

fn errors(fleet: &Fleet) -> Vec<String> {
    fleet.quarantined.iter().flat_map(|q| &q.errors).map(RowError::to_string).collect()
}
