//! A place where nobody listens, for as long as a test needs that.

use std::net::{Ipv4Addr, SocketAddr};

use tokio::net::TcpSocket;

/// A loopback port that is taken, so that nobody else comes to listen there, and refuses every connection.
///
/// An address whose listener was dropped is no such place: a test beside this one may be given the same port.
#[derive(Debug)]
pub struct Refusing {
    address: SocketAddr,
    /// Bound, and never listening.
    _socket: TcpSocket,
}

impl Refusing {
    /// Takes a port.
    ///
    /// # Panics
    /// When there is none.
    #[expect(clippy::new_without_default, reason = "it takes a port, as `Upstream::new` does")]
    pub fn new() -> Self {
        let socket = TcpSocket::new_v4().expect("a process may have one more socket");
        socket.bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).expect("loopback has a free port");
        Self { address: socket.local_addr().expect("a bound socket has an address"), _socket: socket }
    }

    /// Its base URL as a configuration names it, with `/v1`.
    pub fn url(&self) -> String {
        format!("{}/v1", self.origin())
    }

    /// Scheme, host and port.
    pub fn origin(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Where nobody listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}
