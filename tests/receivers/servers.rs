//! Postfix and Dovecot on free loopback ports, in a folder of their own, with a CA of our own. Nothing of the machine's own
//! configuration is read. Dropping them stops them.
//!
//! Postfix wants to be started by root (it changes to its own users then), so these tests want that too: run elsewhere they
//! fail and say so.

use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use tempfile::TempDir;

use crate::common::wait_until;

/// The password of every mailbox and of the relay's account.
pub const PASSWORD: &str = "pass \"wörd\"";
/// The relay's account.
pub const ACCOUNT: &str = "kigen";

/// Where the servers listen.
#[derive(Clone, Copy)]
pub struct Ports {
    /// Submission: STARTTLS, then a sign-in.
    pub relay: u16,
    /// The same, with a certificate for another name.
    pub imposter: u16,
    /// The same, for messages of 2000 octets at most.
    pub small: u16,
    /// The mail exchanger of `away.example`, which does not know gone@.
    pub exchanger: u16,
    /// IMAP with STARTTLS.
    pub imap: u16,
    /// IMAP under TLS.
    pub imaps: u16,
}

pub struct Servers {
    pub dir: TempDir,
    pub ports: Ports,
    postfix: Option<Child>,
    dovecot: Option<Child>,
}

impl Servers {
    /// Both, ready. Mailboxes: `admin@customer.example` (user admin) and `bounces@vendor.example` (user bounces). At
    /// `tokens` Dovecot asks whether an access token is good.
    pub fn start(tokens: u16) -> Self {
        let user = Command::new("id").arg("-u").output().unwrap();
        assert_eq!(
            String::from_utf8_lossy(&user.stdout).trim(),
            "0",
            "this test starts a Postfix, which must be done as root: run it as root, as tests/run in a container is"
        );
        for (program, package) in [("postfix", "postfix"), ("dovecot", "dovecot-imapd")] {
            let found = Command::new(program).arg("--help").stdout(Stdio::null()).stderr(Stdio::null()).status();
            assert!(found.is_ok(), "this test needs `{program}`: apt-get install {package} (tests/run does it)");
        }
        // Another process may take a port between our choice and the servers' start: then once more.
        for _ in 0..3 {
            let mut servers = Self::prepare(tokens);
            servers.postfix = Some(servers.spawn("postfix", &["-c", &servers.text("postfix"), "start-fg"]));
            servers.dovecot = Some(servers.spawn("dovecot", &["-F", "-c", &servers.text("dovecot.conf")]));
            if servers.ready() {
                return servers;
            }
        }
        panic!("the servers do not start, three times in a row")
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    /// What both logged, for failures.
    pub fn log(&self) -> String {
        ["mail.log", "dovecot.log", "postfix.out", "dovecot.out"]
            .map(|name| format!("{name}:\n{}", std::fs::read_to_string(self.path(name)).unwrap_or_default()))
            .join("\n")
    }

    fn prepare(tokens: u16) -> Self {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        // Held until all six are chosen, so that they differ.
        let held: Vec<TcpListener> = (0..6).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
        let port = |n: usize| held[n].local_addr().unwrap().port();
        let ports = Ports {
            relay: port(0),
            imposter: port(1),
            small: port(2),
            exchanger: port(3),
            imap: port(4),
            imaps: port(5),
        };
        let servers = Self { dir, ports, postfix: None, dovecot: None };
        for name in ["postfix", "queue", "data", "mail", "state"] {
            std::fs::create_dir(servers.path(name)).unwrap();
        }
        for (user, parts) in [("admin", ["new", "cur", "tmp"]), ("bounces", ["new", "cur", "tmp"])] {
            for part in parts {
                std::fs::create_dir_all(servers.path("mail").join(user).join(part)).unwrap();
            }
        }
        let mut chown = Command::new("chown");
        chown.args(["-R", "postfix:postfix"]).args(["data", "mail"].map(|name| servers.path(name)));
        assert!(chown.status().unwrap().success(), "the user postfix, which its package makes, is there");
        servers.write_certificates();
        servers.write_postfix();
        servers.write_dovecot(tokens);
        servers
    }

    fn write_certificates(&self) {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        std::fs::write(self.path("ca.pem"), params.self_signed(&key).unwrap().pem()).unwrap();
        let ca = Issuer::new(params, key);
        for (file, name) in [("server", "127.0.0.1"), ("other", "other.example")] {
            let key = KeyPair::generate().unwrap();
            let certificate = CertificateParams::new([name.to_owned()]).unwrap().signed_by(&key, &ca).unwrap();
            std::fs::write(self.path(&format!("{file}.pem")), certificate.pem()).unwrap();
            crate::common::write_private(&self.path(&format!("{file}.key")), key.serialize_pem().as_bytes());
        }
    }

    fn write_postfix(&self) {
        let at = self.dir.path().display();
        let id = |flag: &str| {
            let output = Command::new("id").args([flag, "postfix"]).output().unwrap();
            String::from_utf8_lossy(&output.stdout).trim().to_owned()
        };
        let Ports { relay, imposter, small, exchanger, .. } = self.ports;
        let main = format!(
            "compatibility_level = 3.6
queue_directory = {at}/queue
data_directory = {at}/data
maillog_file = {at}/mail.log
maillog_file_prefixes = {at}
myhostname = relay.vendor.example
mydestination =
mynetworks =
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
local_header_rewrite_clients =
recipient_delimiter = +
alias_maps =
local_recipient_maps =
disable_dns_lookups = yes
relay_domains = away.example
virtual_mailbox_domains = vendor.example, customer.example
virtual_mailbox_base = {at}/mail
virtual_mailbox_maps = inline:{{ bounces@vendor.example=bounces/, admin@customer.example=admin/ }}
virtual_uid_maps = static:{uid}
virtual_gid_maps = static:{gid}
virtual_minimum_uid = 1
transport_maps = inline:{{ {{away.example = smtp:[127.0.0.1]:{exchanger}}} }}
smtpd_sasl_type = dovecot
smtpd_sasl_path = {at}/auth
smtpd_tls_cert_file = {at}/server.pem
smtpd_tls_key_file = {at}/server.key
smtpd_tls_auth_only = yes
smtpd_relay_restrictions = permit_sasl_authenticated, reject
smtpd_recipient_restrictions = check_recipient_access inline:{{ {{later@customer.example = 450 4.2.0 Try again later}} }}, permit
exchanger_rules = check_recipient_access inline:{{ {{gone@away.example = 550 5.1.1 User unknown}} }}, permit
",
            uid = id("-u"),
            gid = id("-g"),
        );
        let submission = "-o smtpd_tls_security_level=encrypt -o smtpd_sasl_auth_enable=yes";
        let master = format!(
            "127.0.0.1:{relay} inet n - n - - smtpd {submission}
127.0.0.1:{imposter} inet n - n - - smtpd {submission} -o smtpd_tls_cert_file={at}/other.pem -o smtpd_tls_key_file={at}/other.key
127.0.0.1:{small} inet n - n - - smtpd {submission} -o message_size_limit=2000
127.0.0.1:{exchanger} inet n - n - - smtpd -o myhostname=mx.away.example -o smtpd_relay_restrictions=reject_unauth_destination -o smtpd_recipient_restrictions=$exchanger_rules
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
tlsmgr unix - - n 1000? 1 tlsmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
smtp unix - - n - - smtp
error unix - - n - - error
retry unix - - n - - error
virtual unix - n n - - virtual
anvil unix - - n - 1 anvil
scache unix - - n - 1 scache
proxymap unix - - n - - proxymap
postlog unix-dgram n - n - 1 postlogd
"
        );
        std::fs::write(self.path("postfix/main.cf"), main).unwrap();
        std::fs::write(self.path("postfix/master.cf"), master).unwrap();
        std::fs::write(self.path("postfix/dynamicmaps.cf"), "").unwrap();
    }

    fn write_dovecot(&self, tokens: u16) {
        let at = self.dir.path().display();
        let Ports { imap, imaps, .. } = self.ports;
        let text = format!(
            "base_dir = {at}/run
state_dir = {at}/state
log_path = {at}/dovecot.log
protocols = imap
listen = 127.0.0.1
ssl = required
ssl_cert = <{at}/server.pem
ssl_key = <{at}/server.key
auth_mechanisms = plain login xoauth2
first_valid_uid = 1
first_valid_gid = 1
passdb {{
  driver = oauth2
  mechanisms = xoauth2
  args = {at}/oauth2.conf
}}
passdb {{
  driver = passwd-file
  mechanisms = plain login
  args = scheme=PLAIN username_format=%n {at}/users
}}
userdb {{
  driver = static
  args = uid=postfix gid=postfix home={at}/mail/%n mail=maildir:{at}/mail/%n
}}
service auth {{
  unix_listener {at}/auth {{
    mode = 0666
  }}
}}
# Refusals are what some tests want, and many at once: no waiting, which Postfix gives up on after ten seconds.
auth_failure_delay = 0
service anvil {{
  unix_listener anvil-auth-penalty {{
    mode = 0
  }}
}}
service imap-login {{
  inet_listener imap {{
    port = {imap}
  }}
  inet_listener imaps {{
    port = {imaps}
    ssl = yes
  }}
}}
"
        );
        std::fs::write(self.path("dovecot.conf"), text).unwrap();
        let oauth2 = format!(
            "introspection_mode = post
introspection_url = http://127.0.0.1:{tokens}/introspect
username_attribute = username
active_attribute = active
active_value = true
"
        );
        std::fs::write(self.path("oauth2.conf"), oauth2).unwrap();
        let users: String = ["kigen", "admin", "bounces"].map(|user| format!("{user}:{{PLAIN}}{PASSWORD}\n")).concat();
        std::fs::write(self.path("users"), users).unwrap();
    }

    /// In a process group of its own: what a server does to its group must not meet the tests.
    fn spawn(&self, program: &str, args: &[&str]) -> Child {
        use std::os::unix::process::CommandExt as _;
        let out = std::fs::File::create(self.path(&format!("{program}.out"))).unwrap();
        let mut command = Command::new(program);
        command.args(args).stdin(Stdio::null()).stdout(out.try_clone().unwrap()).stderr(out).process_group(0);
        command.spawn().unwrap()
    }

    /// Whether all ports answer; `false` when a server ended.
    fn ready(&mut self) -> bool {
        let Ports { relay, imposter, small, exchanger, imap, imaps } = self.ports;
        let mut ended = false;
        wait_until("Postfix and Dovecot listen", || {
            ended = [&mut self.postfix, &mut self.dovecot]
                .into_iter()
                .any(|child| child.as_mut().is_some_and(|child| child.try_wait().unwrap().is_some()));
            let open = |port| TcpStream::connect(("127.0.0.1", port)).is_ok();
            ended || [relay, imposter, small, exchanger, imap, imaps].into_iter().all(open)
        });
        if ended {
            eprintln!("{}", self.log());
        }
        !ended
    }
}

impl Drop for Servers {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.log());
        }
        if let Some(mut child) = self.postfix.take() {
            // Its master has a session of its own; Postfix's own command finds it by its lock file.
            let _ = quiet("postfix").args(["-c", &self.text("postfix"), "abort"]).status();
            let _ = child.wait();
        }
        if let Some(mut child) = self.dovecot.take() {
            let _ = quiet("kill").args(["-TERM", &child.id().to_string()]).status();
            let _ = child.wait();
        }
    }
}

fn quiet(program: impl AsRef<Path>) -> Command {
    let mut command = Command::new(program.as_ref());
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command
}
