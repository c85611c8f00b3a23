//! Where rows go: files or a database.

use std::time::{Duration, SystemTime};

use tracing::warn;

use crate::audit::database::Failure;
use crate::audit::end::End;
use crate::audit::files::{Files, LATE_MAX};
use crate::audit::period::Period;
use crate::audit::postgres::Postgres;
use crate::audit::queue::Entry;
use crate::audit::retention;
use crate::config::{self, OnFull, Rotation};

/// What to do about a file that cannot be used.
const ADVICE: &str =
    "; name another file in `audit.path`, or turn the audit off with `audit: { enabled: false }`";

/// What to do about a database that says no for good.
const POSTGRES_ADVICE: &str =
    "; mend `audit.postgres` or the server, or turn the audit off with `audit: { enabled: false }`";

/// What is written to.
pub(super) enum Store {
    /// SQLite.
    Files(Box<Files>),
    /// PostgreSQL.
    Postgres(Box<Postgres>),
}

/// How often something happened to files.
#[derive(Default)]
pub(super) struct FileEvents {
    /// A file was closed because its time was over.
    pub(super) rotations: u64,
    /// A damaged file was put aside.
    pub(super) quarantined: u64,
}

impl Default for Store {
    /// Files, none of them open.
    fn default() -> Self {
        Self::Files(Box::default())
    }
}

impl Store {
    /// Opens what the settings name, if it can be opened now or later.
    ///
    /// # Errors
    /// Why it cannot and what to change, in words. A server that does not answer may do so later.
    pub(super) fn open(settings: &config::Audit, end: &End) -> Result<Self, String> {
        let mut store = Self::of(settings, end);
        match &mut store {
            Self::Files(files) => open_files(files, settings)?,
            Self::Postgres(postgres) => open_postgres(postgres)?,
        }
        Ok(store)
    }

    fn of(settings: &config::Audit, end: &End) -> Self {
        match &settings.postgres {
            Some(place) => Self::Postgres(Box::new(Postgres::new(place, end))),
            None => Self::default(),
        }
    }

    /// Becomes what the settings name.
    fn follow(&mut self, settings: &config::Audit, end: &End) {
        let is_it = match self {
            Self::Files(_) => settings.postgres.is_none(),
            Self::Postgres(postgres) => settings.postgres.as_ref() == Some(postgres.place()),
        };
        if !is_it {
            self.close();
            *self = Self::of(settings, end);
        }
    }

    /// Which rows may be written at once with one of this number.
    pub(super) fn period(&mut self, settings: &config::Audit, end: &End, number: i64) -> Period {
        self.follow(settings, end);
        match self {
            Self::Files(_) => Period::of(number, settings.rotate),
            Self::Postgres(_) => Period::of(number, Rotation::Never),
        }
    }

    /// Writes all of these, which are of one period.
    ///
    /// # Errors
    /// `Row` if it is because of one of them: some may be written then, and writing those again changes nothing. Else
    /// `Blocked` or `Foreign`.
    pub(super) fn write(
        &mut self,
        settings: &config::Audit,
        period: &Period,
        now: SystemTime,
        entries: &[Entry],
    ) -> Result<(), Failure> {
        match self {
            Self::Files(files) => files.write(settings, period, now, entries),
            Self::Postgres(postgres) => postgres.write(entries),
        }
    }

    /// Closes the file if its time is over, and removes a part of what is too old or too much; says whether there is more.
    ///
    /// # Errors
    /// Any but `Row`.
    pub(super) fn keep_bounds(
        &mut self,
        settings: &config::Audit,
        end: &End,
        now: SystemTime,
    ) -> Result<bool, Failure> {
        self.follow(settings, end);
        match self {
            Self::Files(files) => {
                files.absorb_logs(settings);
                files.rotate_if_over(settings, now)?;
                retention::enforce(files, settings, now)
            }
            Self::Postgres(postgres) => postgres.enforce(settings.retention, now),
        }
    }

    /// Closes what is open for nothing.
    pub(super) fn tidy(&mut self, settings: &config::Audit) {
        match self {
            Self::Files(files) if settings.postgres.is_none() => files.tidy(settings),
            Self::Postgres(postgres)
                if settings.is_enabled && settings.postgres.as_ref() == Some(postgres.place()) => {}
            Self::Files(_) | Self::Postgres(_) => self.close(),
        }
    }

    /// How soon something open has to be looked after, at most.
    pub(super) fn rest_max(&self) -> Duration {
        match self {
            Self::Files(files) if files.has_late() => LATE_MAX,
            Self::Files(_) | Self::Postgres(_) => Duration::MAX,
        }
    }

    /// Closes everything, in an orderly way.
    pub(super) fn close(&mut self) {
        match self {
            Self::Files(files) => files.close(),
            Self::Postgres(postgres) => postgres.close(),
        }
    }

    /// Closes everything as it is.
    pub(super) fn forget(&mut self) {
        match self {
            Self::Files(files) => files.forget(),
            Self::Postgres(postgres) => postgres.forget(),
        }
    }

    /// What happened since it was asked last.
    pub(super) fn file_events(&mut self) -> FileEvents {
        match self {
            Self::Files(files) => FileEvents {
                rotations: std::mem::take(&mut files.rotations),
                quarantined: std::mem::take(&mut files.quarantined),
            },
            Self::Postgres(_) => FileEvents::default(),
        }
    }
}

fn open_files(files: &mut Files, settings: &config::Audit) -> Result<(), String> {
    match files.open(settings) {
        Err(failure) if settings.on_full == OnFull::Block || failure.is_lasting() => {
            let path = std::path::absolute(&settings.path).unwrap_or_else(|_| settings.path.clone());
            // What lasts says itself what to do.
            let advice = if failure.is_lasting() { "" } else { ADVICE };
            Err(format!("the audit cannot use `{}`: {failure}{advice}", path.display()))
        }
        Err(failure) => {
            warn!(reason = %failure, "the audit cannot be written yet");
            Ok(())
        }
        Ok(()) => Ok(()),
    }
}

fn open_postgres(postgres: &mut Postgres) -> Result<(), String> {
    match postgres.open() {
        Err(failure) if failure.is_lasting() => {
            Err(format!("the audit cannot use `{}`: {failure}{POSTGRES_ADVICE}", postgres.place()))
        }
        Err(failure) => {
            let place = postgres.place().to_string();
            warn!(place, reason = %failure, "the audit cannot be written yet; its rows are kept and tried again");
            Ok(())
        }
        Ok(()) => Ok(()),
    }
}
