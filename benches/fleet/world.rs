//! The files of a fleet, and its scan.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use chrono::TimeDelta;
use kigen::app;
use kigen::clock::{Clock as _, SystemClock};
use kigen::daemon::progress::Silent;
use kigen::daemon::reload;
use kigen::daemon::scan::{ScanReport, ScanRequest, Scanned, scan};
use tokio_util::sync::CancellationToken;

/// A directory with `config.toml`, a customers file and no state yet.
pub struct World {
    dir: tempfile::TempDir,
}

impl World {
    /// Customers of the admin tool at that URL.
    pub fn of_tool(url: &str, customers: usize, concurrency: usize) -> Self {
        let mut csv = "customer_id,name,email,account,password\n".to_owned();
        for n in 0..customers {
            csv.push_str(&format!("C{n:07},株式会社{n},admin@c{n}.example,admin{n},pass{n}\n"));
        }
        let connector = format!(
            "[connector]\nkind = \"exlook\"\n[connector.exlook]\nlogon_url = \"{url}/exlookconfig/logon.aspx\"\n\
             [scan]\nconcurrency = {concurrency}\nrequests_per_second = 10000\nallow_private_hosts = true\n"
        );
        Self::with(&csv, &connector)
    }

    /// Customers whose sites another system wrote down, of every so many one affected.
    pub fn of_export(customers: usize, every: usize) -> Self {
        let mut csv = "customer_id,name,email\n".to_owned();
        let mut sites = "customer_id,site,server_type,auth_method\n".to_owned();
        for n in 0..customers {
            csv.push_str(&format!("C{n:07},株式会社{n},admin@c{n}.example\n"));
            let method = if n % every == 0 { "basic" } else { "oauth" };
            sites.push_str(&format!("C{n:07},本社,exchange_online,{method}\n"));
        }
        let world = Self::with(&csv, "[connector]\nkind = \"export\"\n[connector.export]\npath = \"sites.csv\"\n");
        std::fs::write(world.dir.path().join("sites.csv"), sites).unwrap();
        world
    }

    fn with(csv: &str, connector: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let deadline = SystemClock.now().date_naive() + TimeDelta::days(40);
        let config = format!(
            "mode = \"review\"\n[business_hours]\ndays = [\"Mon\", \"Tue\", \"Wed\", \"Thu\", \"Fri\", \"Sat\", \"Sun\"]\n\
             hours = \"00:00-24:00\"\nholidays = \"none\"\n[fleet]\ncustomers = \"customers.csv\"\n{connector}[[campaign]]\n\
             id = \"exchange-online-basic-auth\"\ndeadline = {deadline}\n[mail]\nfrom = \"a@vendor.example\"\n\
             transport = \"maildir\"\nsupport = {{ name = \"x\", phone = \"1\" }}\n[mail.maildir]\npath = \"out\"\n[safety]\n\
             max_new_notices = \"100%\"\nhold_if_newly_affected = \"100%\"\n[alerts]\nto = [\"ops@vendor.example\"]\n"
        );
        write_private(&dir.path().join("customers.csv"), csv);
        write_private(&dir.path().join("config.toml"), &config);
        Self { dir }
    }

    /// Its configuration.
    pub fn config(&self) -> PathBuf {
        self.dir.path().join("config.toml")
    }
}

/// One scan of everybody, as the daemon does it: files, store and all.
pub async fn scanned(config: &Path) -> ScanReport {
    let snapshot = reload::load(config).unwrap_or_else(|e| panic!("{}", app::describe(&e)));
    let ctx = app::open_with(snapshot, Arc::new(SystemClock)).await.unwrap();
    let stop = CancellationToken::new();
    let scanned = scan(&ctx, &ScanRequest::default(), &stop, &Silent, |_| {}).await.unwrap();
    let Scanned::Ran(report) = scanned else { panic!("it did not run") };
    ctx.store.close().await;
    *report
}

fn write_private(path: &Path, text: &str) {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::write(path, text).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
}
