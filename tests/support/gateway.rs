//! A gateway process under test.

use std::ffi::OsString;
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use tempfile::TempDir;

use crate::client::{Answer, Connection, Request};
use crate::{PATIENCE, within};

/// Where the gateway's binary is: `WITGATE_BIN`, else beside the folder of the test executable.
///
/// # Panics
/// When it is not there.
#[track_caller]
pub fn binary() -> PathBuf {
    if let Some(path) = std::env::var_os("WITGATE_BIN") {
        return path.into();
    }
    let test = std::env::current_exe().expect("a running program has a path");
    let profile = test.parent().and_then(Path::parent).expect("tests run from target/<profile>/deps");
    let path = profile.join("witgate");
    assert!(path.exists(), "{} is missing: run `cargo build -p witgate`", path.display());
    path
}

/// A command that runs the gateway's binary with an environment of nothing but PATH and HOME.
pub fn command() -> Command {
    let mut command = Command::new(binary());
    command.env_clear();
    for name in ["PATH", "HOME"] {
        if let Some(value) = std::env::var_os(name) {
            command.env(name, value);
        }
    }
    command.stdin(Stdio::null());
    command
}

/// How a gateway is to be started.
#[derive(Debug, Default)]
pub struct Launch {
    arguments: Vec<OsString>,
    environment: Vec<(String, String)>,
    listens_by_itself: bool,
    has_own_admin: bool,
    files: Vec<(String, String)>,
    patience: Option<Duration>,
    shell: Option<String>,
    is_unheard: bool,
}

impl Launch {
    /// Adds an argument.
    pub fn argument(mut self, argument: impl Into<OsString>) -> Self {
        self.arguments.push(argument.into());
        self
    }

    /// Adds a variable to the environment.
    pub fn variable(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Leaves it to the environment and other arguments where the main listener is.
    pub fn listening_by_itself(mut self) -> Self {
        self.listens_by_itself = true;
        self
    }

    /// Leaves it to the environment and other arguments where the admin listener is.
    pub fn admin_by_itself(mut self) -> Self {
        self.has_own_admin = true;
        self
    }

    /// Adds a file beside the configuration.
    pub fn file(mut self, name: &str, text: &str) -> Self {
        self.files.push((name.to_owned(), text.to_owned()));
        self
    }

    /// Runs these commands of a shell first, in the gateway's process.
    pub fn after(mut self, shell: &str) -> Self {
        self.shell = Some(shell.to_owned());
        self
    }

    /// Lets nobody read its standard error: what it writes there stays in the pipe, until that is full.
    pub fn unheard(mut self) -> Self {
        self.is_unheard = true;
        self
    }

    /// Gives it so long to start instead of [`PATIENCE`].
    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = Some(patience);
        self
    }

    /// Starts the gateway with this configuration and waits until it listens.
    #[track_caller]
    pub fn start(self, config: &str) -> Gateway {
        let folder = tempfile::tempdir().expect("the temporary folder is writable");
        for (name, text) in &self.files {
            std::fs::write(folder.path().join(name), text).expect("the temporary folder is writable");
        }
        std::fs::write(folder.path().join("witgate.yaml"), config).expect("the temporary folder is writable");
        let mut command = self.command();
        command.arg("serve").arg("--config").arg(folder.path().join("witgate.yaml"));
        self.run(command, folder)
    }

    /// Starts the gateway without a configuration and waits until it listens.
    #[track_caller]
    pub fn start_embedded(self) -> Gateway {
        let folder = tempfile::tempdir().expect("the temporary folder is writable");
        let mut command = self.command();
        command.arg("serve");
        self.run(command, folder)
    }

    fn command(&self) -> Command {
        let Some(shell) = &self.shell else { return command() };
        let mut outer = Command::new("sh");
        outer.arg("-c").arg(format!("{shell}; exec \"$0\" \"$@\"")).arg(binary());
        let inner = command();
        outer.env_clear().envs(inner.get_envs().filter_map(|(name, value)| Some((name, value?))));
        outer.stdin(Stdio::null());
        outer
    }

    #[track_caller]
    fn run(self, mut command: Command, folder: TempDir) -> Gateway {
        if !self.listens_by_itself {
            command.args(["--listen", "127.0.0.1:0"]);
        }
        if !self.has_own_admin {
            command.args(["--admin", "127.0.0.1:0"]);
        }
        command.args(self.arguments).envs(self.environment);
        command.current_dir(folder.path()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the binary can be run");
        let (lines, stdout) = read_lines(child.stdout.take().expect("it is piped"));
        let heard = if self.is_unheard { None } else { child.stderr.take() };
        let stderr = heard.map(|stderr| read_lines(stderr).1).unwrap_or_default();
        // Held in the guard already, so that a start that fails leaves no process behind.
        let mut gateway =
            Gateway { child, folder, address: unset(), admin: unset(), is_tls: false, stdout, stderr };
        let patience = self.patience.unwrap_or(PATIENCE);
        let mut missing = 2;
        while missing > 0 {
            let Ok(line) = lines.recv_timeout(patience) else {
                panic!("the gateway did not start:\n{}\n{}", gateway.stdout(), gateway.stderr());
            };
            if let Some(url) = line.strip_prefix("listening on ") {
                gateway.is_tls = url.starts_with("https://");
                gateway.address = address_of(url);
                missing -= 1;
            } else if let Some(url) = line.strip_prefix("admin on ") {
                gateway.admin = address_of(url);
                missing -= 1;
            }
        }
        gateway
    }
}

fn unset() -> SocketAddr {
    ([127, 0, 0, 1], 0).into()
}

#[track_caller]
fn address_of(url: &str) -> SocketAddr {
    let (_, address) =
        url.trim_end().trim_end_matches('/').split_once("://").expect("the gateway prints a URL");
    address.parse().expect("the gateway prints an address")
}

type Captured = Arc<Mutex<String>>;

fn read_lines(stream: impl Read + Send + 'static) -> (mpsc::Receiver<String>, Captured) {
    let (sender, receiver) = mpsc::channel();
    let captured = Captured::default();
    let keep = Arc::clone(&captured);
    std::thread::spawn(move || {
        let mut reader = BufReader::new(stream);
        let mut line = Vec::new();
        while reader.read_until(b'\n', &mut line).is_ok_and(|length| length > 0) {
            let text = String::from_utf8_lossy(&line).into_owned();
            keep.lock().expect("nobody panics with it").push_str(&text);
            // Nobody listens once the start is over.
            let _ = sender.send(text.trim_end().to_owned());
            line.clear();
        }
    });
    (receiver, captured)
}

/// A running gateway; it is killed when it is dropped.
#[derive(Debug)]
pub struct Gateway {
    child: Child,
    folder: TempDir,
    address: SocketAddr,
    admin: SocketAddr,
    is_tls: bool,
    stdout: Captured,
    stderr: Captured,
}

impl Gateway {
    /// Starts one with this configuration and waits until it listens.
    #[track_caller]
    pub fn start(config: &str) -> Self {
        Launch::default().start(config)
    }

    /// Starts one with a single upstream, named `one`, that takes every model.
    #[track_caller]
    pub fn before(upstream: &crate::Upstream) -> Self {
        Self::start(&format!("upstreams:\n  - name: one\n    base_url: {}\n", upstream.url()))
    }

    /// Where its main listener is.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where its admin listener is.
    pub fn admin(&self) -> SocketAddr {
        self.admin
    }

    /// The main listener's URL, without a path.
    pub fn url(&self) -> String {
        let scheme = if self.is_tls { "https" } else { "http" };
        format!("{scheme}://{}", self.address)
    }

    /// The process's id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// The folder of its configuration, which is also its working folder.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The configuration file.
    pub fn config(&self) -> PathBuf {
        self.folder.path().join("witgate.yaml")
    }

    /// Puts another configuration in place by writing it beside the old one and renaming.
    pub fn rewrite_config(&self, text: &str) {
        let beside = self.folder.path().join("next.yaml");
        std::fs::write(&beside, text).expect("the temporary folder is writable");
        std::fs::rename(&beside, self.config()).expect("the temporary folder is writable");
    }

    /// What it has printed.
    pub fn stdout(&self) -> String {
        self.stdout.lock().expect("nobody panics with it").clone()
    }

    /// What it has logged.
    pub fn stderr(&self) -> String {
        self.stderr.lock().expect("nobody panics with it").clone()
    }

    /// Asks the main listener and reads the whole answer.
    #[track_caller]
    pub fn send(&self, request: &Request) -> Answer {
        Connection::open(self.address).send(request)
    }

    /// Asks the main listener and leaves the answer to be read.
    #[track_caller]
    pub fn ask(&self, request: &Request) -> Connection {
        let mut connection = Connection::open(self.address);
        connection.write(&request.bytes());
        connection
    }

    /// Asks the admin listener.
    #[track_caller]
    pub fn send_admin(&self, request: &Request) -> Answer {
        Connection::open(self.admin).send(&request.clone().host(&self.admin.to_string()))
    }

    /// Sends it a signal: `TERM`, `INT`, `HUP`.
    #[track_caller]
    pub fn signal(&self, name: &str) {
        let id = self.child.id().to_string();
        let status =
            Command::new("kill").args([&format!("-{name}"), &id]).status().expect("`kill` can be run");
        assert!(status.success(), "the gateway takes signals");
    }

    /// Waits until it has ended.
    #[track_caller]
    pub fn wait_exit(&mut self) -> ExitStatus {
        self.wait_exit_within(PATIENCE)
    }

    /// Waits until the process of a gateway has ended that has something to end which takes long.
    #[track_caller]
    pub fn wait_exit_within(&mut self, patience: Duration) -> ExitStatus {
        let child = &mut self.child;
        within(patience, "the gateway to end", || child.try_wait().expect("it is our child"))
    }

    /// Memory that is resident, in bytes.
    #[track_caller]
    pub fn resident_bytes(&self) -> u64 {
        let path = format!("/proc/{}/status", self.id());
        let status = std::fs::read_to_string(path).expect("it runs, on Linux");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("it has memory");
        let kib: u64 = line.trim().trim_end_matches(" kB").parse().expect("the kernel writes a number");
        kib << 10
    }

    /// How many files and sockets it has open.
    #[track_caller]
    pub fn descriptors(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.id())).expect("it runs, on Linux").count()
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("it is our child").is_none()
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- the gateway's log ---\n{}", self.stderr());
        }
    }
}
