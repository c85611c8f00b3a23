//! A PostgreSQL server of a test's own, in a temporary folder.

use std::ffi::OsString;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use serde_json::Value;
use tempfile::TempDir;

use crate::tls::Certificate;
use crate::{eventually, tool};

/// The password of the server's one user.
pub const PASSWORD: &str = "pg-password-0815-secret";

/// Users that the server is run as where the tests run as root, which it refuses.
const USERS: [&str; 2] = ["postgres", "nobody"];

/// A server, reached by a socket in its folder; it is ended when it is dropped.
pub struct Postgres {
    folder: TempDir,
    programs: PathBuf,
    /// The user and the group that its programs run as; none for those of the tests.
    user: Option<(u32, u32)>,
    /// Where it listens besides its socket, and with what.
    settings: Vec<String>,
    port: u16,
    server: Option<Child>,
}

impl Postgres {
    /// Makes a server and starts it; none, and the test is skipped, where there is no PostgreSQL.
    ///
    /// # Panics
    /// When it does not start.
    #[track_caller]
    pub fn start() -> Option<Self> {
        let programs = programs()?;
        let folder = tempfile::tempdir().expect("the temporary folder is writable");
        let user = other_user();
        let settings = vec!["listen_addresses=".to_owned()];
        let mut server = Self { folder, programs, user, settings, port: 5432, server: None };
        server.make();
        server.resume();
        Some(server)
    }

    #[track_caller]
    fn make(&self) {
        let (data, password) = (self.data(), self.folder.path().join("password"));
        std::fs::create_dir(&data).expect("the temporary folder is writable");
        std::fs::write(&password, PASSWORD).expect("the temporary folder is writable");
        if let Some((uid, gid)) = &self.user {
            for path in [self.folder.path(), &data, &password] {
                std::os::unix::fs::chown(path, Some(*uid), Some(*gid)).expect("root may");
            }
        }
        let open = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(self.folder.path(), open).expect("it is ours");
        let mut init = self.command("initdb");
        init.arg("-D").arg(&data).args(["-U", "gate", "-A", "scram-sha-256", "-E", "UTF8", "--locale=C"]);
        init.arg("--no-sync").arg(format!("--pwfile={}", password.display()));
        tool::finish(&mut init);
    }

    /// Runs it again after [`crash`](Self::crash).
    #[track_caller]
    pub fn resume(&mut self) {
        let mut command = self.command("postgres");
        command.arg("-D").arg(self.data()).arg("-k").arg(self.folder.path());
        command.args(["-p", &self.port.to_string(), "-c", "fsync=off", "-c", "max_connections=40"]);
        for setting in &self.settings {
            command.arg("-c").arg(setting);
        }
        let log = std::fs::File::create(self.folder.path().join("log")).expect("the folder is writable");
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn();
        self.server = Some(child.expect("the server can be run"));
        eventually("the server to take connections", || {
            let asked = self.psql("postgres", "SELECT 1").output().expect("psql can be run");
            asked.status.success().then_some(())
        });
        let made = self.psql("postgres", "CREATE DATABASE audit").output().expect("psql can be run");
        let error = String::from_utf8_lossy(&made.stderr).into_owned();
        assert!(made.status.success() || error.contains("already exists"), "{error}");
    }

    /// Ends it at once, without a word to anybody: it has to recover when it runs again.
    ///
    /// # Panics
    /// When it does not run.
    #[track_caller]
    pub fn crash(&mut self) {
        let mut server = self.server.take().expect("it runs");
        let status = Command::new("kill").args(["-QUIT", &server.id().to_string()]).status();
        assert!(status.expect("`kill` can be run").success());
        eventually("the server to end", || server.try_wait().expect("it is our child"));
    }

    /// Has it listen on 127.0.0.1, too, with a certificate. Returns the URL there, without parameters.
    ///
    /// # Panics
    /// When it does not start again.
    #[track_caller]
    pub fn listen_with_tls(&mut self, certificate: &Certificate) -> String {
        self.crash();
        let cert = self.give("cert.pem", &certificate.cert_pem);
        let key = self.give("key.pem", &certificate.key_pem);
        // The server takes no port 0.
        let free = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
        self.port = free.expect("the loopback has ports").port();
        self.settings = vec![
            "listen_addresses=127.0.0.1".to_owned(),
            "ssl=on".to_owned(),
            format!("ssl_cert_file={}", cert.display()),
            format!("ssl_key_file={}", key.display()),
        ];
        self.resume();
        format!("postgres://gate:{PASSWORD}@127.0.0.1:{}/audit", self.port)
    }

    /// Where the database is, as `audit.postgres` has it.
    pub fn url(&self) -> String {
        self.url_of("audit")
    }

    fn url_of(&self, database: &str) -> String {
        let host = self.folder.path().display().to_string().replace('/', "%2F");
        format!("postgres://gate:{PASSWORD}@{host}:{}/{database}", self.port)
    }

    /// Gives the server a file that nobody else may read.
    #[track_caller]
    fn give(&self, name: &str, text: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        std::fs::write(&path, text).expect("the folder is writable");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).expect("it is ours");
        if let Some((uid, gid)) = &self.user {
            std::os::unix::fs::chown(&path, Some(*uid), Some(*gid)).expect("root may");
        }
        path
    }

    /// The rows that a statement gives, each an object of its columns; none while there is no such table.
    ///
    /// # Panics
    /// When the statement is wrong.
    #[track_caller]
    pub fn rows(&self, sql: &str) -> Vec<Value> {
        let sql = format!("SELECT coalesce(json_agg(row_to_json(found)), '[]') FROM ({sql}) AS found");
        let output = self.psql("audit", &sql).output().expect("psql can be run");
        let (out, error) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        if error.contains("does not exist") {
            return Vec::new();
        }
        assert!(output.status.success(), "{sql}: {error}");
        serde_json::from_str(&out).unwrap_or_else(|problem| panic!("{sql}: {problem}: {out}"))
    }

    /// How many exchanges are there.
    #[track_caller]
    pub fn count(&self) -> usize {
        let rows = self.rows("SELECT count(*) AS n FROM exchanges");
        rows.first().and_then(|row| row["n"].as_u64()).map_or(0, |count| count as usize)
    }

    /// Waits until so many exchanges are there.
    #[track_caller]
    pub fn wait(&self, count: usize) -> Vec<Value> {
        eventually(&format!("{count} rows"), || (self.count() >= count).then_some(()));
        self.rows("SELECT * FROM exchanges ORDER BY id")
    }

    /// Does something to the database.
    ///
    /// # Panics
    /// When that fails.
    #[track_caller]
    pub fn execute(&self, sql: &str) {
        tool::finish(&mut self.psql("audit", sql));
    }

    /// Holds whoever writes to a table up until what is returned is dropped.
    #[track_caller]
    pub fn lock(&self, table: &str) -> Lock<'_> {
        let sql = format!("SET application_name = 'lock'; BEGIN; LOCK TABLE {table}; SELECT pg_sleep(600)");
        let child = self.psql("audit", &sql).stdout(Stdio::null()).spawn().expect("psql can be run");
        let lock = Lock { server: self, child };
        let held = "SELECT 1 FROM pg_locks JOIN pg_stat_activity USING (pid) \
                    WHERE application_name = 'lock' AND granted AND mode = 'AccessExclusiveLock'";
        eventually("the lock", || (!self.rows(held).is_empty()).then_some(()));
        lock
    }

    fn psql(&self, database: &str, sql: &str) -> Command {
        let mut command = Command::new(self.programs.join("psql"));
        command.args([
            "-X",
            "-q",
            "-A",
            "-t",
            "-v",
            "ON_ERROR_STOP=1",
            "-d",
            &self.url_of(database),
            "-c",
            sql,
        ]);
        command
    }

    fn command(&self, program: &str) -> Command {
        let program = self.programs.join(program);
        let mut command = match &self.user {
            None => Command::new(program),
            Some((uid, gid)) => {
                let mut command = Command::new("setpriv");
                command.args([
                    format!("--reuid={uid}"),
                    format!("--regid={gid}"),
                    "--clear-groups".to_owned(),
                ]);
                command.arg(program);
                command
            }
        };
        // Whatever folder the tests run in, that user need not be able to see it.
        command.current_dir(self.folder.path());
        command
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        let Some(mut server) = self.server.take() else { return };
        // Killed itself it would leave its children behind.
        let _ = Command::new("kill").args(["-QUIT", &server.id().to_string()]).status();
        let _ = server.wait();
        if std::thread::panicking() {
            let log = std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
            eprintln!("--- the server's log ---\n{log}");
        }
    }
}

/// A table that is locked.
pub struct Lock<'server> {
    server: &'server Postgres,
    child: Child,
}

impl Drop for Lock<'_> {
    fn drop(&mut self) {
        let sql = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'lock'";
        // A server that has ended holds no lock.
        let _ = self.server.psql("audit", sql).output();
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Where the server's programs are: the newest that Debian has, or on the path.
#[track_caller]
fn programs() -> Option<PathBuf> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut folders: Vec<PathBuf> = versions.map(|version| version.path().join("bin")).collect();
    folders.retain(|folder| folder.join("postgres").exists() && folder.join("psql").exists());
    folders.sort();
    folders.pop().or_else(|| tool::is_there("postgres").then(PathBuf::new))
}

/// Somebody who is not root, if this is.
fn other_user() -> Option<(u32, u32)> {
    let id = |arguments: &[&str]| -> Option<u32> {
        let output = Command::new("id").args(arguments.iter().map(OsString::from)).output().ok()?;
        String::from_utf8_lossy(&output.stdout).trim().parse().ok()
    };
    if id(&["-u"]) != Some(0) {
        return None;
    }
    USERS.iter().find_map(|user| Some((id(&["-u", user])?, id(&["-g", user])?)))
}
