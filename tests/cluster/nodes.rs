//! Nodes that are real processes, the customers they share, and what was told to whom.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::TimeDelta;
use kigen::clock::{Clock, SystemClock};
use kigen::demo::admin_tool::WorldCustomer;
use kigen::domain::delivery::DeliveryId;
use kigen::store::{self, OutboxFilter, Store};

use crate::common::{self, Lab, Settings, affected, kigen_command, write_private};
use crate::postgres::Server;

/// The line of the configuration for a state in PostgreSQL; `node` names the node's own directory.
pub async fn state() -> String {
    format!("state = \"{}\"\nstate_directory = \"node\"", Server::shared().database().await)
}

pub const CUSTOMERS: usize = 48;

pub fn customers() -> Vec<WorldCustomer> {
    (0..CUSTOMERS).map(|n| affected(&format!("K{n:03}"))).collect()
}

/// A node: the real program with a configuration and a directory of its own.
pub struct Node {
    pub child: Child,
    pub config: PathBuf,
    pub log: PathBuf,
}

impl Node {
    pub fn start(lab: &Lab, name: &str, listen: &str) -> Self {
        Self::with(lab, name, listen, &lab.config_text())
    }

    /// A node whose looks take a while: so many requests a second for all nodes together.
    pub fn slow(lab: &Lab, name: &str, listen: &str) -> Self {
        let text = lab.config_text().replace("requests_per_second = 10000", "requests_per_second = 40");
        Self::with(lab, name, listen, &text)
    }

    pub fn with(lab: &Lab, name: &str, listen: &str, text: &str) -> Self {
        Self::spawn(lab, name, listen, text, |_| {})
    }

    /// A node that tells somebody in systemd's place how it is.
    pub fn told(lab: &Lab, name: &str, listen: &str, text: &str, socket: &std::path::Path) -> Self {
        Self::spawn(lab, name, listen, text, |command| {
            command.env("NOTIFY_SOCKET", socket);
        })
    }

    pub fn spawn(lab: &Lab, name: &str, listen: &str, text: &str, adjust: impl FnOnce(&mut Command)) -> Self {
        let text = text
            .replace("state_directory = \"node\"", &format!("state_directory = \"{name}\""))
            .replace("listen = \"127.0.0.1:0\"", &format!("listen = \"{listen}\""));
        let config = lab.path(&format!("{name}.toml"));
        write_private(&config, text.as_bytes());
        let directory = lab.path(name);
        std::fs::create_dir_all(&directory).unwrap();
        let log = lab.path(&format!("{name}.log"));
        let stderr = std::fs::File::options().create(true).append(true).open(&log).unwrap();
        let mut command = kigen_command(&config, &["run"]);
        adjust(&mut command);
        let child = command.stderr(stderr).stdout(Stdio::null()).spawn().unwrap();
        Self { child, config, log }
    }

    /// Gives their schedules another expression, and waits until they have read it.
    pub fn reschedule(nodes: &[Self], kind: &str, expression: &str) {
        for node in nodes {
            let text = std::fs::read_to_string(&node.config).unwrap();
            let never = format!("{kind} = \"{NEVER}\"");
            assert!(text.contains(&never), "{text}");
            write_private(&node.config, text.replace(&never, &format!("{kind} = \"{expression}\"")).as_bytes());
        }
        for node in nodes {
            common::wait_until("it has read its files again", || node.log().contains("files read again"));
        }
    }

    pub fn signal(&self, signal: &str) {
        let status = Command::new("kill").arg(format!("-{signal}")).arg(self.child.id().to_string()).status().unwrap();
        assert!(status.success());
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- {}\n{}", self.log.display(), self.log());
        }
    }
}

/// At no time while a test runs.
pub const NEVER: &str = "0 0 1 1 *";

/// The cron expression of an instant a few seconds from now.
pub fn soon(seconds: i64) -> String {
    let at = SystemClock.now().with_timezone(&chrono_tz::Asia::Tokyo) + TimeDelta::seconds(seconds);
    at.format("%-S %-M %-H %-d %-m *").to_string()
}

/// A fleet of affected customers, nodes that are believed dead after six seconds, nothing scheduled yet, no cap that would keep mail back.
pub fn fleet(state: String) -> Settings {
    Settings {
        state: format!("{state}\ncluster = {{ lease = \"6s\" }}"),
        schedule: format!("scan = \"{NEVER}\"\nnotices = \"{NEVER}\""),
        safety: "max_new_notices = \"100%\"\nhold_if_newly_affected = \"100%\"".to_owned(),
        ..Settings::default()
    }
}

pub async fn open(lab: &Lab) -> Arc<dyn Store> {
    let config = kigen::config::load(&lab.config()).unwrap();
    store::open(&config.state).await.unwrap()
}

/// Asks again and again; the limit is only there so that a broken test ends.
pub async fn until<T, F: Future<Output = Option<T>>>(what: &str, mut ask: impl FnMut() -> F) -> T {
    let started = Instant::now();
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(started.elapsed() < Duration::from_secs(150), "waited in vain: {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

pub async fn wait_for_nodes(store: &dyn Store, how_many: usize) {
    until("the nodes are there", || async {
        let alive_since = SystemClock.now() - TimeDelta::seconds(6);
        let nodes = store.nodes().await.unwrap();
        (nodes.iter().filter(|node| node.beat_at > alive_since).count() == how_many).then_some(())
    })
    .await;
}

/// The mails that wait for a person.
pub async fn held(store: &dyn Store) -> Vec<DeliveryId> {
    store.deliveries(&OutboxFilter::default()).await.unwrap().iter().map(|delivery| delivery.id).collect()
}

pub fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Mails by recipient, and their identifiers.
pub fn told(lab: &Lab) -> BTreeMap<String, Vec<String>> {
    let mut told: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for mail in lab.told() {
        let text = String::from_utf8_lossy(&mail.data).into_owned();
        let id = text.lines().find_map(|line| line.strip_prefix("Message-ID:")).unwrap().trim().to_owned();
        for recipient in mail.recipients {
            told.entry(recipient).or_default().push(id.clone());
        }
    }
    told
}

/// Everybody was told, and nobody twice: what was in flight just when a node was killed may come once more, as the same mail.
pub fn each_is_told_once(lab: &Lab, in_flight: usize) {
    let told = told(lab);
    assert_eq!(told.len(), CUSTOMERS, "none is lost");
    let twice: Vec<_> = told.iter().filter(|(_, ids)| ids.len() > 1).collect();
    assert!(twice.len() <= in_flight, "{twice:?}");
    assert!(twice.iter().all(|(_, ids)| ids.iter().all(|id| *id == ids[0])), "a repeat is the same mail: {twice:?}");
}
