//! A PostgreSQL database, as a URL says it.

use std::fmt;
use std::path::{Path, PathBuf};

use tokio_postgres::config::{Host, SslMode};

use crate::percent;

/// The name that the server shows for the gateway's connections unless the URL says another.
const APPLICATION: &str = "witgate";

/// A PostgreSQL database and how it is reached. It is shown without its password.
#[derive(Clone, PartialEq, Eq)]
pub struct Postgres {
    connection: tokio_postgres::Config,
    tls: PostgresTls,
    ca: Option<PathBuf>,
}

/// How much of TLS a connection to PostgreSQL asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PostgresTls {
    /// `disable`: none.
    Off,
    /// `prefer`, the default: where the server has it, whatever its certificate, since who listens in could turn it off.
    Preferred,
    /// `require`, `verify-ca` and `verify-full`: always, and the certificate has to be right for the host.
    Verified,
}

/// What is wrong with a URL, and what to write instead. Neither holds a part of the URL: it may be one of the password.
#[derive(Debug, PartialEq, Eq)]
pub struct PostgresFault {
    /// What is wrong.
    pub message: &'static str,
    /// What to write.
    pub help: &'static str,
}

impl Postgres {
    /// Reads `postgres://user:password@host:port/database?sslmode=…`; a relative `sslrootcert` is in `folder`.
    ///
    /// Source: PostgreSQL's manual, "Connection URIs" and "Parameter Key Words", for the words; other than there,
    /// `require` verifies the certificate.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(url: &str, folder: &Path) -> Result<Self, PostgresFault> {
        let fault = |message, help| PostgresFault { message, help };
        let is_url = ["postgres://", "postgresql://"].iter().any(|scheme| url.starts_with(scheme));
        if !is_url {
            return Err(fault("`postgres` is no URL of a PostgreSQL database", SHAPE));
        }
        if !has_clear_user(url) {
            return Err(fault(
                "`postgres` has a character in its user or password that means something else",
                ESCAPES,
            ));
        }
        let (place, parameters) = split_parameters(url);
        let (mut tls, mut ca, mut others) = (PostgresTls::Preferred, None, Vec::new());
        for parameter in parameters.split('&').filter(|parameter| !parameter.is_empty()) {
            match parameter.split_once('=') {
                Some(("sslmode", mode)) => {
                    tls = PostgresTls::named(mode).ok_or_else(|| {
                        fault(
                            "`sslmode` of `postgres` has no such value",
                            "write disable, prefer, require, verify-ca or verify-full",
                        )
                    })?;
                }
                Some(("sslrootcert", path)) => ca = Some(folder.join(&*percent::decoded(path))),
                _ => others.push(parameter),
            }
        }
        if ca.is_some() && tls != PostgresTls::Verified {
            return Err(fault(
                "`sslrootcert` of `postgres` verifies nothing with this `sslmode`",
                "add `sslmode=verify-full`, or leave `sslrootcert` out",
            ));
        }
        let url = format!("{place}?{}", others.join("&"));
        let mut connection: tokio_postgres::Config =
            url.parse().map_err(|_| fault("`postgres` is a URL that cannot be understood", ESCAPES))?;
        if connection.get_hosts().is_empty() {
            return Err(fault("`postgres` names no host", SHAPE));
        }
        if connection.get_application_name().is_none() {
            connection.application_name(APPLICATION);
        }
        connection.ssl_mode(match tls {
            PostgresTls::Off => SslMode::Disable,
            PostgresTls::Preferred => SslMode::Prefer,
            PostgresTls::Verified => SslMode::Require,
        });
        Ok(Self { connection, tls, ca })
    }

    /// What a client of PostgreSQL takes.
    pub(crate) fn connection(&self) -> &tokio_postgres::Config {
        &self.connection
    }

    /// How much of TLS is asked for.
    pub fn tls(&self) -> PostgresTls {
        self.tls
    }

    /// A PEM file of further authorities to trust.
    pub fn ca(&self) -> Option<&Path> {
        self.ca.as_deref()
    }
}

const SHAPE: &str = "write it like `postgres://user:password@host:5432/database?sslmode=require`";
const ESCAPES: &str = "write it like `postgres://user:password@host:5432/database`; in the user and the password `@`, `/`, `:`, `?` \
                       and `%` are written as %40, %2F, %3A, %3F and %25";

impl PostgresTls {
    fn named(word: &str) -> Option<Self> {
        match word {
            "disable" => Some(Self::Off),
            "prefer" => Some(Self::Preferred),
            "require" | "verify-ca" | "verify-full" => Some(Self::Verified),
            _ => None,
        }
    }
}

/// Whether it is certain what the password is. The first `@` ends it for PostgreSQL's clients: a second one may have been
/// meant to, and what stands before the first one may be no user at all.
fn has_clear_user(url: &str) -> bool {
    let Some((before, after)) = url.split_once('@') else { return true };
    let user = before.split_once("://").map_or(before, |(_, user)| user);
    let name = user.split_once(':').map_or(user, |(name, _)| name);
    !after.contains('@') && !name.contains(['/', '?', '&', '='])
}

/// The URL without its parameters, and the parameters. What stands before the first `@` is the user and the password.
fn split_parameters(url: &str) -> (&str, &str) {
    let user_end = url.find('@').unwrap_or(0);
    match url[user_end..].find('?') {
        Some(at) => (&url[..user_end + at], &url[user_end + at + 1..]),
        None => (url, ""),
    }
}

impl fmt::Display for Postgres {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let connection = &self.connection;
        formatter.write_str("postgres://")?;
        if let Some(user) = connection.get_user() {
            let password = if connection.get_password().is_some() { ":***" } else { "" };
            write!(formatter, "{user}{password}@")?;
        }
        let ports = connection.get_ports();
        for (place, host) in connection.get_hosts().iter().enumerate() {
            let comma = if place > 0 { "," } else { "" };
            match host {
                Host::Tcp(host) => write!(formatter, "{comma}{host}")?,
                Host::Unix(folder) => write!(formatter, "{comma}{}", folder.display())?,
            }
            // One port is for all hosts.
            if let Some(port) = ports.get(place).or_else(|| ports.last()) {
                write!(formatter, ":{port}")?;
            }
        }
        write!(formatter, "/{}", connection.get_dbname().unwrap_or_default())
    }
}

impl fmt::Debug for Postgres {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn check(url: &str, shown: &str, tls: PostgresTls) {
        let place = Postgres::parse(url, Path::new("/etc")).unwrap();
        assert_eq!((place.to_string().as_str(), place.tls()), (shown, tls), "{url}");
        assert_eq!(format!("{place:?}"), shown);
    }

    #[test]
    fn a_url_is_shown_without_its_password() {
        use PostgresTls::{Off, Preferred, Verified};
        check("postgres://u:secret@h/db", "postgres://u:***@h:5432/db", Preferred);
        check("postgresql://u@h:5433/db?sslmode=disable", "postgres://u@h:5433/db", Off);
        check("postgres://h/db?sslmode=require", "postgres://h:5432/db", Verified);
        check("postgres://h/db?connect_timeout=3&sslmode=verify-full", "postgres://h:5432/db", Verified);
        check("postgres://u:p%40ss@a:1,b:2/db?sslmode=verify-ca", "postgres://u:***@a:1,b:2/db", Verified);
        check("postgres://u:p?sslmode=x@h/db", "postgres://u:***@h:5432/db", Preferred);
        check("postgres://u@%2Frun%2Fpg/db", "postgres://u@/run/pg:5432/db", Preferred);
        check("postgres:///db?host=/run/pg&user=u&password=secret", "postgres://u:***@/run/pg/db", Preferred);
    }

    #[test]
    fn authorities_are_beside_the_configuration() {
        let url = "postgres://h/db?sslmode=verify-full&sslrootcert=my%20ca.pem";
        let place = Postgres::parse(url, Path::new("/etc")).unwrap();
        assert_eq!(place.ca(), Some(Path::new("/etc/my ca.pem")));
    }

    #[track_caller]
    fn refused(url: &str, message: &str) {
        let fault = Postgres::parse(url, Path::new("")).unwrap_err();
        assert!(fault.message.contains(message), "{url}: {fault:?}");
    }

    #[test]
    fn what_can_never_work_is_refused() {
        refused("mysql://h/db", "no URL");
        refused("host=h password=secret", "no URL");
        refused("postgres://h:port/db", "cannot be understood");
        refused("postgres://h/db?unknown=1", "cannot be understood");
        refused("postgres://h/db?sslmode=allow", "`sslmode`");
        refused("postgres:///db", "no host");
        refused("postgres://gate:p@ssw0rd-tail@127.0.0.1:45432/audit", "means something else");
        refused("postgres://127.0.0.1/db?user=gate&password=hunter2@x", "means something else");
        refused("postgres://h/db?sslrootcert=ca.pem", "verifies nothing");
        refused("postgres://h/db?sslmode=disable&sslrootcert=ca.pem", "verifies nothing");
    }

    proptest! {
        #[test]
        fn a_password_with_a_bare_at_sign_is_refused(rest in "[a-z:@/?&=%,0-9]{0,40}") {
            let url = format!("postgres://u:a@SECRET@{rest}");
            prop_assert!(Postgres::parse(&url, Path::new("")).is_err());
        }

        #[test]
        fn nothing_panics_and_no_password_is_shown(rest in "[a-z:@/?&=%,0-9]{0,40}") {
            if let Ok(place) = Postgres::parse(&format!("postgres://u:SECRET@{rest}"), Path::new("")) {
                prop_assert!(!place.to_string().contains("SECRET"));
            }
        }
    }
}
