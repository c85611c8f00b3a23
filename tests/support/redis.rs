//! A Redis server of a test's own. Alone in its file, and on nothing but the standard library and `tempfile`, because the
//! gateway's unit tests use it, too.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// Ports that are tried: between finding a free one and listening somebody else may take it.
const PORTS_MAX: usize = 20;
/// How often a server is asked whether it is there, and for how long.
const LOOK_INTERVAL: Duration = Duration::from_millis(5);
/// Looks before a test gives up.
const LOOKS_MAX: usize = 4000;

/// A `redis-server` on a loopback port with nothing on the disk; it is killed when it is dropped.
#[derive(Debug)]
pub struct RedisServer {
    process: Option<Child>,
    folder: tempfile::TempDir,
    port: u16,
    arguments: Vec<String>,
}

impl RedisServer {
    /// Starts one and waits until it answers.
    ///
    /// # Panics
    /// When it does not.
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// Starts one with further arguments and waits until it answers.
    ///
    /// # Panics
    /// When it does not.
    pub fn start_with(arguments: &[&str]) -> Self {
        let folder = tempfile::tempdir().expect("the temporary folder is writable");
        let arguments = arguments.iter().map(|&argument| argument.to_owned()).collect();
        let mut server = Self { process: None, folder, port: 0, arguments };
        for _ in 0..PORTS_MAX {
            let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|listener| listener.local_addr());
            server.port = free.expect("loopback has free ports").port();
            if server.try_start() {
                return server;
            }
        }
        panic!("redis-server did not start at any of {PORTS_MAX} ports");
    }

    /// Starts it again where it was, empty.
    ///
    /// # Panics
    /// When it runs, or does not start.
    pub fn restart(&mut self) {
        assert!(self.process.is_none(), "it runs");
        assert!(self.try_start(), "redis-server did not start again at port {}", self.port);
    }

    /// Kills it, as a machine that goes down does.
    ///
    /// # Panics
    /// When it does not run.
    pub fn kill(&mut self) {
        let mut process = self.process.take().expect("it runs");
        process.kill().expect("it can be killed");
        process.wait().expect("it is a child");
    }

    /// Lets it hang: connections stay, nothing is answered.
    pub fn hang(&self) {
        self.signal("STOP");
    }

    /// Lets it go on.
    pub fn go_on(&self) {
        self.signal("CONT");
    }

    /// Where it is.
    pub fn address(&self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.port))
    }

    /// The same as `state` and `REDIS_URL` want it.
    pub fn url(&self) -> String {
        format!("redis://{}", self.address())
    }

    fn try_start(&mut self) -> bool {
        let mut command = Command::new("redis-server");
        command.args(["--bind", "127.0.0.1", "--port", &self.port.to_string(), "--save", ""]);
        command.args(["--appendonly", "no", "--dir"]).arg(self.folder.path());
        command.args(&self.arguments);
        let mut process = command.stdout(Stdio::null()).spawn().expect("redis-server can be run");
        for _ in 0..LOOKS_MAX {
            if process.try_wait().is_ok_and(|ended| ended.is_some()) {
                return false;
            }
            if self.answers() {
                self.process = Some(process);
                return true;
            }
            std::thread::sleep(LOOK_INTERVAL);
        }
        let _ = process.kill();
        false
    }

    fn answers(&self) -> bool {
        // An error is an answer, too: it may want a password.
        let mut answer = [0; 1];
        TcpStream::connect(self.address())
            .and_then(|mut stream| {
                stream.set_read_timeout(Some(Duration::from_secs(1)))?;
                stream.write_all(b"PING\r\n")?;
                stream.read_exact(&mut answer)
            })
            .is_ok_and(|()| matches!(answer, [b'+' | b'-']))
    }

    fn signal(&self, name: &str) {
        let id = self.process.as_ref().expect("it runs").id().to_string();
        let status = Command::new("kill").args([&format!("-{name}"), &id]).status();
        assert!(status.expect("`kill` can be run").success());
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        if let Some(process) = &mut self.process {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}
