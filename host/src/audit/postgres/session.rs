//! One connection to PostgreSQL, driven by whoever asks for something.

use std::error::Error as _;
use std::io;
use std::ops::AsyncFnOnce;
use std::time::Duration;

use rustls::ClientConfig;
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_postgres::error::SqlState;
use tokio_postgres::tls::MakeTlsConnect;
use tokio_postgres::{CancelToken, Client, Error, NoTls, Socket};
use tokio_postgres_rustls::MakeRustlsConnect;
use tokio_util::sync::CancellationToken;

use crate::audit::database::Failure;
use crate::audit::end::End;
use crate::config::{Postgres, PostgresTls, UpstreamTls};
use crate::tls::Trust;

/// How long connecting may take, over all hosts.
const CONNECT_TIME_MAX: Duration = Duration::from_secs(10);

/// How long the last words may take.
const CLOSE_TIME_MAX: Duration = Duration::from_secs(1);

/// The protocol's name in the handshake. Source: PostgreSQL's manual, "SSL Session Encryption".
const ALPN: &[u8] = b"postgresql";

/// Answers of the server that stay the same until somebody changes something: the user, the password, the rules of who
/// may come, the database, the rights.
const LASTING: [SqlState; 5] = [
    SqlState::INVALID_PASSWORD,
    SqlState::INVALID_AUTHORIZATION_SPECIFICATION,
    SqlState::INVALID_CATALOG_NAME,
    SqlState::INSUFFICIENT_PRIVILEGE,
    SqlState::INVALID_SCHEMA_NAME,
];

/// Classes of answers that are about what was sent: its values, the rules they have to keep, their size.
const ABOUT_A_ROW: [&str; 3] = ["22", "23", "54"];

/// An open connection. It moves only while something is asked for, on the asker's thread, which must not be one of a
/// runtime's.
pub(super) struct Session {
    client: Client,
    /// Ends with the connection.
    driver: JoinHandle<()>,
    tls: Option<MakeRustlsConnect>,
    end: End,
    motor: Motor,
}

/// What drives a connection; may be dropped on a thread that must not wait. None only while it is dropped.
struct Motor(Option<Runtime>);

impl Session {
    /// Connects; it and what is asked for then takes less time while the gateway ends.
    ///
    /// # Errors
    /// `Foreign` if the server says no for good, else `Blocked`.
    pub(super) fn open(place: &Postgres, end: &End) -> Result<Self, Failure> {
        let tls = tls(place).map_err(Failure::Foreign)?;
        let runtime = Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| Failure::Blocked(format!("the connection cannot be driven: {error}")))?;
        let connected = runtime.block_on(async {
            let connecting = async {
                match &tls {
                    Some(tls) => connect(place, tls.clone(), &runtime).await,
                    None => connect(place, NoTls, &runtime).await,
                }
            };
            let begun = Instant::now();
            tokio::select! {
                connected = connecting => connected.map_err(refusal),
                () = end.patience(CONNECT_TIME_MAX) => Err(too_late(begun)),
            }
        });
        let (client, driver) = connected?;
        Ok(Self { client, driver, tls, end: end.clone(), motor: Motor(Some(runtime)) })
    }

    /// Whether it is known to be of no use any more.
    pub(super) fn is_closed(&self) -> bool {
        self.client.is_closed()
    }

    /// Asks for something. What takes too long is broken off, and the server is told to leave it, but may have done it:
    /// the session is of no use then.
    ///
    /// # Errors
    /// What the server says, or `Blocked` after `time_max`.
    pub(super) fn run<T, E: Into<Failure>>(
        &mut self,
        time_max: Duration,
        work: impl AsyncFnOnce(&mut Client) -> Result<T, E>,
    ) -> Result<T, Failure> {
        let Self { client, motor, tls, end, .. } = self;
        let (cancel, begun) = (client.cancel_token(), Instant::now());
        motor.runtime().block_on(async {
            tokio::select! {
                done = work(client) => done.map_err(E::into),
                () = end.patience(time_max) => {
                    break_off(&cancel, tls.as_ref()).await;
                    Err(too_late(begun))
                }
            }
        })
    }

    /// Asks for something until `stop` is cancelled; none then, and the server is told to leave it.
    ///
    /// # Errors
    /// What the server says.
    pub(super) fn run_until<T, E: Into<Failure>>(
        &mut self,
        stop: Option<&CancellationToken>,
        work: impl AsyncFnOnce(&mut Client) -> Result<T, E>,
    ) -> Result<Option<T>, Failure> {
        let Self { client, motor, tls, .. } = self;
        let runtime = motor.runtime();
        let Some(stop) = stop else { return runtime.block_on(work(client)).map(Some).map_err(E::into) };
        let cancel = client.cancel_token();
        runtime.block_on(async {
            tokio::select! {
                done = work(client) => done.map(Some).map_err(E::into),
                () = stop.cancelled() => {
                    break_off(&cancel, tls.as_ref()).await;
                    Ok(None)
                }
            }
        })
    }

    /// Takes leave.
    pub(super) fn close(self) {
        let Self { client, driver, motor, .. } = self;
        drop(client);
        // Whether the server heard it does not matter.
        let _ = motor.runtime().block_on(async { tokio::time::timeout(CLOSE_TIME_MAX, driver).await });
    }
}

impl Motor {
    fn runtime(&self) -> &Runtime {
        self.0.as_ref().expect("it is not dropped yet")
    }
}

impl Drop for Motor {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

async fn connect<T>(place: &Postgres, tls: T, runtime: &Runtime) -> Result<(Client, JoinHandle<()>), Error>
where
    T: MakeTlsConnect<Socket>,
    T::Stream: Send + 'static,
{
    let (client, connection) = place.connection().connect(tls).await?;
    let driver = runtime.spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(reason = reason(&error), "a connection to the audit's database ended");
        }
    });
    Ok((client, driver))
}

/// Tells the server to leave what it was asked for.
async fn break_off(cancel: &CancelToken, tls: Option<&MakeRustlsConnect>) {
    let told = async {
        match tls {
            Some(tls) => cancel.cancel_query(tls.clone()).await,
            None => cancel.cancel_query(NoTls).await,
        }
    };
    // Whether it was heard or not, nobody waits for the answer.
    let _ = tokio::time::timeout(CLOSE_TIME_MAX, told).await;
}

/// What TLS needs; none where none is wanted.
fn tls(place: &Postgres) -> Result<Option<MakeRustlsConnect>, String> {
    let is_insecure = match place.tls() {
        PostgresTls::Off => return Ok(None),
        PostgresTls::Preferred => true,
        PostgresTls::Verified => false,
    };
    let settings = UpstreamTls { ca: place.ca().map(ToOwned::to_owned), is_insecure };
    let mut config = ClientConfig::clone(&*Trust::default().client(&settings)?);
    config.alpn_protocols = vec![ALPN.to_vec()];
    Ok(Some(MakeRustlsConnect::new(config)))
}

fn too_late(begun: Instant) -> Failure {
    Failure::Blocked(format!("PostgreSQL did not answer within {} s", begun.elapsed().as_secs()))
}

/// Why there is no connection.
fn refusal(error: Error) -> Failure {
    if is_lasting(&error) { Failure::Foreign(reason(&error)) } else { error.into() }
}

/// Whether connecting fails until somebody changes something.
fn is_lasting(error: &Error) -> bool {
    if let Some(code) = error.code() {
        return LASTING.contains(code);
    }
    // The kinds of errors have no other names. Source: tokio-postgres 0.7, `Error`'s `Display`.
    match error.to_string().as_str() {
        "invalid configuration" | "authentication error" => true,
        "error performing TLS handshake" => match error.source().and_then(|source| source.downcast_ref()) {
            // What rustls has to say of a certificate comes as this.
            Some(cause) => io::Error::kind(cause) == io::ErrorKind::InvalidData,
            None => true,
        },
        _ => false,
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let reason = reason(&error);
        match error.code() {
            Some(code) if ABOUT_A_ROW.contains(&&code.code()[..2]) => Self::Row(reason),
            Some(&SqlState::INSUFFICIENT_PRIVILEGE) => Self::Foreign(reason),
            // What was never sent, since it is too large.
            None if reason.starts_with("error serializing") || reason.starts_with("error encoding") => {
                Self::Row(reason)
            }
            _ => Self::Blocked(reason),
        }
    }
}

/// What went wrong, in words that hold nothing of a row.
fn reason(error: &Error) -> String {
    if let Some(answer) = error.as_db_error() {
        return format!("PostgreSQL says: {} ({})", answer.message(), answer.code().code());
    }
    let mut words = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_words = cause.to_string();
        if !words.ends_with(&cause_words) {
            words = format!("{words}: {cause_words}");
        }
        source = cause.source();
    }
    words
}
