//! A real PostgreSQL for the tests: one server a test binary, on a socket in a folder of its own, a database a test.
//!
//! The server lives as long as the pipe to the shell that started it: however the test process ends, the shell then stops
//! it by its number and removes the folder. As root it runs as `nobody`, for PostgreSQL refuses root.
#![allow(clippy::unwrap_used, dead_code, reason = "each test file uses a part of it")]

use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, OnceLock};

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};

/// Makes a cluster in $1 and serves it with the programs in $2, run by $3, with the settings in $4; a line `stop MODE` or `start` on the standard
/// input stops and starts it, the end of the input ends all.
const SCRIPT: &str = r#"
cd "$1" || exit 1
trap '' INT TERM
serve() {
    $3 "$2/postgres" -D "$1/data" -k "$1" -c listen_addresses='' -c fsync=off -c full_page_writes=off \
        -c max_connections=200 -c shared_buffers=64MB -c log_min_messages=warning $4 >>"$1/log" 2>&1 </dev/null &
    server=$!
    n=0
    until $3 "$2/pg_ctl" status -D "$1/data" >/dev/null 2>&1 && ls "$1"/.s.PGSQL.*[0-9] >/dev/null 2>&1 && grep -q ready "$1/data/postmaster.pid"; do
        n=$((n + 1)); [ $n -gt 600 ] && { echo failed; cat "$1/log"; exit 1; }
        kill -0 $server 2>/dev/null || { echo failed; cat "$1/log"; exit 1; }
        sleep 0.1
    done
}
$3 "$2/initdb" -D "$1/data" -U postgres -A trust -E UTF8 --locale=C.UTF-8 --no-sync >"$1/log" 2>&1 || { echo failed; cat "$1/log"; exit 1; }
serve "$@"
echo ready
while read -r word mode; do
    case "$word" in
        stop) kill -"$mode" $server; wait $server; echo stopped ;;
        start) serve "$@"; echo ready ;;
    esac
done
kill -QUIT $server 2>/dev/null
wait $server 2>/dev/null
cd / && rm -rf "$1"
"#;

/// A server that lets in over TLS, and whom it knows.
pub struct Guarded {
    pub server: Server,
    pub port: u16,
    /// The certificate of its CA.
    pub ca: PathBuf,
    /// Another CA's.
    pub stranger: PathBuf,
}

impl Guarded {
    /// A user who owns a new database of that name.
    pub async fn user(&self, name: &str, password: &str) {
        let sql = format!("CREATE ROLE {name} LOGIN PASSWORD '{password}'");
        self.server.execute("postgres", &sql).await;
        self.server.execute("postgres", &format!("CREATE DATABASE {name} OWNER {name}")).await;
    }

    /// That user's address; `host`: by which name the server is asked for.
    pub fn address(&self, name: &str, host: &str, ca: Option<&Path>) -> String {
        let ca = ca.map(|ca| format!("&sslrootcert={}", ca.display())).unwrap_or_default();
        format!("postgres://{name}@{host}:{}/{name}?sslmode=verify-full{ca}", self.port)
    }
}

/// A server.
pub struct Server {
    folder: PathBuf,
    /// In the name of its socket too.
    port: u16,
    shell: Mutex<(ChildStdin, BufReader<std::process::ChildStdout>)>,
    _child: Child,
    databases: AtomicUsize,
}

impl Server {
    /// The server of this test binary.
    pub fn shared() -> &'static Self {
        static SERVER: OnceLock<Server> = OnceLock::new();
        SERVER.get_or_init(Self::start)
    }

    /// A server that a test may stop and start.
    pub fn start() -> Self {
        Self::start_with(5432, |_| String::new())
    }

    /// A server that is as durable and has as much memory as one without settings of its own.
    pub fn start_durable() -> Self {
        let usual = "-c fsync=on -c full_page_writes=on -c shared_buffers=128MB";
        Self::start_with(5432, |_| usual.to_owned())
    }

    /// A server that also listens on a port of 127.0.0.1, under TLS alone and for users with a password; its certificate is
    /// for `localhost`, by a CA of its own. (By its socket it trusts everybody as ever.)
    pub fn start_guarded() -> Guarded {
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let (mut ca, mut stranger) = (PathBuf::new(), PathBuf::new());
        let server = Self::start_with(port, |folder| {
            let mut params = CertificateParams::new(Vec::new()).unwrap();
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            stranger = folder.join("stranger.crt");
            std::fs::write(&stranger, params.self_signed(&KeyPair::generate().unwrap()).unwrap().pem()).unwrap();
            let key = KeyPair::generate().unwrap();
            ca = folder.join("ca.crt");
            std::fs::write(&ca, params.self_signed(&key).unwrap().pem()).unwrap();
            let issuer = Issuer::new(params, key);
            let key = KeyPair::generate().unwrap();
            let made = CertificateParams::new(["localhost".to_owned()]).unwrap().signed_by(&key, &issuer).unwrap();
            let file = |name: &str, text: &str| {
                let path = folder.join(name);
                std::fs::write(&path, text).unwrap();
                std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
                let owner = std::fs::metadata(folder).unwrap();
                std::os::unix::fs::chown(&path, Some(owner.uid()), Some(owner.gid())).unwrap();
                path.display().to_string()
            };
            format!(
                "-c listen_addresses=127.0.0.1 -c port={port} -c ssl=on -c ssl_cert_file={} -c ssl_key_file={} -c hba_file={}",
                file("server.crt", &made.pem()),
                file("server.key", &key.serialize_pem()),
                file("hba", "local all all trust\nhostssl all all 127.0.0.1/32 scram-sha-256\n"),
            )
        });
        Guarded { server, port, ca, stranger }
    }

    fn start_with(port: u16, prepare: impl FnOnce(&Path) -> String) -> Self {
        let folder = tempfile::Builder::new().prefix("kigen-pg-").tempdir().unwrap().keep();
        let root = std::fs::metadata(&folder).unwrap().uid() == 0;
        let run = if root { "setpriv --reuid=65534 --regid=65534 --clear-groups" } else { "" };
        if root {
            std::os::unix::fs::chown(&folder, Some(65534), Some(65534)).unwrap();
        }
        let settings = prepare(&folder);
        let mut child = Command::new("sh")
            .args(["-c", SCRIPT, "sh"])
            .arg(&folder)
            .arg(programs())
            .arg(run)
            .arg(&settings)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let pipes = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        let server = Self { folder, port, shell: Mutex::new(pipes), _child: child, databases: AtomicUsize::new(0) };
        server.expect("ready");
        server
    }

    /// Stops it: `INT` is fast (sessions are ended), `QUIT` is a crash.
    pub fn stop(&self, signal: &str) {
        self.tell(&format!("stop {signal}"));
        self.expect("stopped");
    }

    /// Starts it again.
    pub fn go_on(&self) {
        self.tell("start");
        self.expect("ready");
    }

    fn tell(&self, line: &str) {
        writeln!(self.shell.lock().unwrap().0, "{line}").unwrap();
    }

    fn expect(&self, word: &str) {
        let mut line = String::new();
        let mut pipes = self.shell.lock().unwrap();
        pipes.1.read_line(&mut line).unwrap();
        if line.trim() != word {
            let mut rest = String::new();
            while pipes.1.read_line(&mut rest).is_ok_and(|n| n > 0) {}
            panic!("PostgreSQL did not start: {line}{rest}");
        }
    }

    /// The address of a new, empty database.
    pub async fn database(&self) -> String {
        let name = format!("kigen{}", self.databases.fetch_add(1, Ordering::Relaxed));
        self.execute("postgres", &format!("CREATE DATABASE {name}")).await;
        self.address(&name)
    }

    /// The address of a database.
    pub fn address(&self, name: &str) -> String {
        format!("postgres://postgres@localhost:{}/{name}?host={}", self.port, self.folder.display())
    }

    /// The processor time that it has used so far, with its sessions' (proc(5); a tick is a hundredth of a second).
    pub fn cpu(&self) -> std::time::Duration {
        let text = std::fs::read_to_string(self.folder.join("data/postmaster.pid")).unwrap();
        let server = text.lines().next().unwrap().trim();
        let mut ticks = 0;
        for entry in std::fs::read_dir("/proc").unwrap().flatten() {
            let Ok(stat) = std::fs::read_to_string(entry.path().join("stat")) else { continue };
            // Behind the program's name, which may hold anything: state, parent, …
            let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
            let sum =
                |places: std::ops::Range<usize>| fields[places].iter().map(|n| n.parse::<u64>().unwrap()).sum::<u64>();
            if entry.file_name().to_str() == Some(server) {
                // Its own, and that of sessions that ended.
                ticks += sum(11..15);
            } else if fields[1] == server {
                ticks += sum(11..13);
            }
        }
        std::time::Duration::from_millis(ticks * 10)
    }

    /// Runs statements in a database.
    pub async fn execute(&self, database: &str, sql: &str) {
        use sqlx::{AssertSqlSafe, Connection};
        let mut connection = sqlx::postgres::PgConnection::connect(&self.address(database)).await.unwrap();
        sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut connection).await.unwrap();
        connection.close().await.unwrap();
    }
}

/// Asks a database for one number.
pub async fn number(address: &str, sql: &str) -> i64 {
    use sqlx::{AssertSqlSafe, Connection};
    let mut connection = sqlx::postgres::PgConnection::connect(address).await.unwrap();
    let number = sqlx::query_scalar(AssertSqlSafe(sql)).fetch_one(&mut connection).await.unwrap();
    connection.close().await.unwrap();
    number
}

/// Where the server's programs are: Debian does not put them into the path.
fn programs() -> PathBuf {
    let in_path =
        std::env::var_os("PATH").into_iter().flat_map(|path| std::env::split_paths(&path).collect::<Vec<_>>());
    let mut places: Vec<PathBuf> = std::fs::read_dir("/usr/lib/postgresql")
        .map(|versions| versions.flatten().map(|version| version.path().join("bin")).collect())
        .unwrap_or_default();
    places.sort_by_key(|place| std::cmp::Reverse(version(place)));
    let found = places
        .into_iter()
        .chain(in_path)
        .find(|place| ["initdb", "postgres", "pg_ctl"].iter().all(|p| place.join(p).exists()));
    found.expect("PostgreSQL's server is needed: apt-get install postgresql (tests/run does so)")
}

fn version(place: &Path) -> Option<u32> {
    place.parent()?.file_name()?.to_str()?.parse().ok()
}
