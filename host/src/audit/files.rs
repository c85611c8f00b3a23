//! The live file and the closed ones beside it: which of them a row belongs to, when the live one is closed, and what
//! happens to one that is gone, damaged or somebody else's.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use tokio::time::Instant;
use tracing::{error, info, warn};

use crate::audit::database::{self, Database, Failure};
use crate::audit::period::{self, Period, closed_files};
use crate::audit::queue::Entry;
use crate::config::{self, Rotation};

/// How long a closed file is kept open for further rows that come late.
pub(super) const LATE_MAX: Duration = Duration::from_secs(10);

/// How many files of one period there may be.
const COPIES_MAX: u32 = 10_000;

/// How often in a row a damaged file is replaced before that counts as a failure.
const REPLACEMENTS_MAX: usize = 3;

/// The open files.
#[derive(Default)]
pub(super) struct Files {
    live: Option<Live>,
    late: Option<Late>,
    /// How often the live file was closed because its period was over.
    pub(super) rotations: u64,
    /// How many damaged files were put aside.
    pub(super) quarantined: u64,
}

struct Live {
    database: Database,
    /// The path as the settings have it.
    path: PathBuf,
    /// The period of its rows; none while it has none.
    period: Option<Period>,
    rotation: Rotation,
    /// Held as long as the file is open.
    _lock: Option<File>,
}

/// A closed file that has been opened again for rows that end after their period.
struct Late {
    database: Database,
    period: Period,
    used: Instant,
}

impl Files {
    /// Opens the live file, unless it is open and where it should be.
    ///
    /// # Errors
    /// `Blocked` or `Foreign`. A damaged file is put aside and a new one is made.
    pub(super) fn open(&mut self, settings: &config::Audit) -> Result<(), Failure> {
        if let Some(live) = &mut self.live {
            if live.path == settings.path && live.database.is_in_place() {
                return live.follow(settings.rotate);
            }
            if live.path == settings.path {
                warn!(file = %live.path.display(), "the audit's file was removed; a new one is made");
            }
            // Its lock has to be given up before it is asked for again.
            self.forget();
        }
        let path = live_path(settings)?;
        database::make_folder(&path)?;
        let lock = lock(&path)?;
        let opened = Live::open(&path, settings, lock);
        let live = match opened {
            Err((Failure::Corrupt(reason), lock)) => {
                self.quarantine(&path, &reason)?;
                Live::open(&path, settings, lock)
            }
            opened => opened,
        };
        self.live = Some(live.map_err(|(failure, _)| failure)?);
        Ok(())
    }

    /// Writes all of these, which are of one period, or none.
    ///
    /// # Errors
    /// `Row` if it is because of one of them, else `Blocked` or `Foreign`; the files are closed then.
    pub(super) fn write(
        &mut self,
        settings: &config::Audit,
        period: &Period,
        now: SystemTime,
        entries: &[Entry],
    ) -> Result<(), Failure> {
        for _ in 0..REPLACEMENTS_MAX {
            let mut path = settings.path.clone();
            let written = self.database(settings, period, now).and_then(|database| {
                database.path().clone_into(&mut path);
                database.write(entries)
            });
            match written {
                Err(Failure::Corrupt(reason)) => {
                    self.forget();
                    self.quarantine(&path, &reason)?;
                }
                Err(failure @ (Failure::Blocked(_) | Failure::Foreign(_))) => {
                    self.forget();
                    return Err(failure);
                }
                done @ (Ok(()) | Err(Failure::Row(_))) => return done,
            }
        }
        Err(Failure::Blocked("every new file is damaged at once".to_owned()))
    }

    /// The file for a period, open: the live one, after a rotation if it is time for one, or a closed one.
    fn database(
        &mut self,
        settings: &config::Audit,
        period: &Period,
        now: SystemTime,
    ) -> Result<&mut Database, Failure> {
        self.open(settings)?;
        let is_empty = self.live.as_ref().is_some_and(|live| live.period.is_none());
        // It would have to be closed again at once, although its period may have a closed file.
        if is_empty && period.is_over(now) {
            return self.late(settings, period);
        }
        let current = self.begin(period)?;
        if period.is_before(&current) {
            return self.late(settings, period);
        }
        if current.is_before(period) {
            self.rotate()?;
            self.open(settings)?;
            self.begin(period)?;
        }
        Ok(&mut self.live.as_mut().expect("it was opened above").database)
    }

    /// Gives the live file a period if it has none, and returns the one it has.
    fn begin(&mut self, period: &Period) -> Result<Period, Failure> {
        let live = self.live.as_mut().expect("the caller has opened it");
        if live.period.is_none() {
            live.database.mark(period)?;
        }
        Ok(*live.period.get_or_insert(*period))
    }

    /// A closed file of a period that is over, the first that can be written to.
    fn late(&mut self, settings: &config::Audit, period: &Period) -> Result<&mut Database, Failure> {
        let is_open = |late: &Late| late.period == *period && late.database.is_in_place();
        let late = match self.late.take().filter(is_open) {
            Some(late) => late,
            None => Late {
                database: open_closed(&live_path(settings)?, period)?,
                period: *period,
                used: Instant::now(),
            },
        };
        let late = self.late.insert(late);
        late.used = Instant::now();
        Ok(&mut late.database)
    }

    /// Closes the live file and gives it the name of its period.
    fn rotate(&mut self) -> Result<(), Failure> {
        self.close_late();
        let Some(Live { database, period: Some(period), _lock, .. }) = self.live.take() else {
            return Ok(());
        };
        let path = database.path().to_owned();
        database.close()?;
        let closed = free_name(|copy| period.file(&path, copy))?;
        database::rename(&path, &closed).map_err(|error| blocked(&closed, &error))?;
        self.rotations += 1;
        info!(file = %closed.display(), "the audit's file was closed, because its time is over");
        Ok(())
    }

    /// Closes the live file if its period is over, which it also is while nobody asks for anything.
    ///
    /// # Errors
    /// `Blocked`.
    pub(super) fn rotate_if_over(
        &mut self,
        settings: &config::Audit,
        now: SystemTime,
    ) -> Result<(), Failure> {
        self.open(settings)?;
        let period = self.live.as_ref().and_then(|live| live.period);
        if period.is_some_and(|period| period.is_over(now)) {
            self.rotate()?;
            self.open(settings)?;
        }
        Ok(())
    }

    /// Copies the write-ahead logs into the closed files that have one still, as far as readers let that be done now.
    pub(super) fn absorb_logs(&mut self, settings: &config::Audit) {
        self.close_late();
        // A folder that cannot be listed is told of where files are removed.
        let closed = closed_files(&settings.path).unwrap_or_default();
        let has_log = |path: &PathBuf| database::has_log(path) && database::is_ours(path);
        for path in closed.into_iter().map(|file| file.path).filter(has_log) {
            if let Err(failure) = Database::open(&path).and_then(Database::close) {
                warn!(file = %path.display(), reason = %failure, "a closed file of the audit keeps its write-ahead log");
            }
        }
    }

    /// The live file, if it is open.
    pub(super) fn database_of_now(&self) -> Option<&Database> {
        self.live.as_ref().map(|live| &live.database)
    }

    /// Closes what is open for nothing: late files after a while, the live one if it is not the one of the settings.
    pub(super) fn tidy(&mut self, settings: &config::Audit) {
        if self.late.as_ref().is_some_and(|late| late.used.elapsed() >= LATE_MAX) {
            self.close_late();
        }
        if self.live.as_ref().is_some_and(|live| !settings.is_enabled || live.path != settings.path) {
            self.close();
        }
    }

    /// Whether a closed file is open.
    pub(super) fn has_late(&self) -> bool {
        self.late.is_some()
    }

    /// Closes the closed files again.
    pub(super) fn close_late(&mut self) {
        if let Some(Err(failure)) = self.late.take().map(|late| late.database.close()) {
            warn!(reason = %failure, "a closed file of the audit keeps its write-ahead log");
        }
    }

    /// Closes all files, with everything in them.
    pub(super) fn close(&mut self) {
        self.close_late();
        if let Some(Err(failure)) = self.live.take().map(|live| live.database.close()) {
            // Nothing is lost: whoever opens the file next finds the log.
            warn!(reason = %failure, "the audit's file keeps its write-ahead log");
        }
    }

    /// Closes all files as they are.
    pub(super) fn forget(&mut self) {
        self.late = None;
        self.live = None;
    }

    /// Puts a damaged file aside.
    fn quarantine(&mut self, path: &Path, reason: &str) -> Result<(), Failure> {
        let (stem, extension) = period::name_parts(path);
        let aside = free_name(|copy| path.with_file_name(format!("{stem}.corrupt-{copy}{extension}")))?;
        database::rename(path, &aside).map_err(|error| blocked(&aside, &error))?;
        self.quarantined += 1;
        error!(
            file = %path.display(),
            aside = %aside.display(),
            reason,
            "the audit's file is damaged; it was put aside and a new one is begun"
        );
        Ok(())
    }
}

impl Live {
    /// Opens the live file; gives back the lock if that fails.
    fn open(
        path: &Path,
        settings: &config::Audit,
        lock: Option<File>,
    ) -> Result<Self, (Failure, Option<File>)> {
        let open = || {
            let database = Database::open(path)?;
            let period = database.newest()?.map(|number| Period::of(number, settings.rotate));
            Ok((database, period))
        };
        match open() {
            Ok((database, period)) => Ok(Self {
                database,
                path: settings.path.clone(),
                period,
                rotation: settings.rotate,
                _lock: lock,
            }),
            Err(failure) => Err((failure, lock)),
        }
    }

    /// Counts periods as the settings say now.
    fn follow(&mut self, rotation: Rotation) -> Result<(), Failure> {
        if self.rotation != rotation {
            self.period = self.database.newest()?.map(|number| Period::of(number, rotation));
            self.rotation = rotation;
        }
        Ok(())
    }
}

/// Where the live file is.
fn live_path(settings: &config::Audit) -> Result<PathBuf, Failure> {
    std::path::absolute(&settings.path).map_err(|error| Failure::Blocked(error.to_string()))
}

/// Opens the first closed file of a period that is ours and can be written to, or makes one.
///
/// # Errors
/// Why none can be made. What is wrong with one that is there holds up nobody: the next one is taken.
fn open_closed(live: &Path, period: &Period) -> Result<Database, Failure> {
    let open = |path: &Path| {
        let database = Database::open(path)?;
        database.mark(period)?;
        Ok(database)
    };
    for path in (1..=COPIES_MAX).map(|copy| period.file(live, copy)) {
        if database::is_free(&path) {
            return open(&path).inspect_err(|_| {
                // It has no rows, and without its tables it would be taken for somebody else's.
                let _ = database::remove(&path);
            });
        }
        if !database::is_ours(&path) {
            continue;
        }
        match open(&path) {
            Ok(database) => return Ok(database),
            Err(failure) => {
                warn!(file = %path.display(), reason = %failure, "a closed file of the audit cannot be written; its late rows go into another one");
            }
        }
    }
    Err(Failure::Blocked(format!("there are {COPIES_MAX} files for one period")))
}

/// The first of some names that nothing has.
fn free_name(name: impl Fn(u32) -> PathBuf) -> Result<PathBuf, Failure> {
    (1..=COPIES_MAX)
        .map(name)
        .find(|path| database::is_free(path))
        .ok_or_else(|| Failure::Blocked(format!("there are {COPIES_MAX} files of one name")))
}

fn blocked(path: &Path, error: &io::Error) -> Failure {
    Failure::Blocked(format!("`{}`: {error}", path.display()))
}

/// Makes sure that no other gateway writes to a file. None where files cannot be locked.
fn lock(path: &Path) -> Result<Option<File>, Failure> {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    let name = PathBuf::from(name);
    let mut options = OpenOptions::new();
    let file = options.write(true).create(true).truncate(false).mode(0o600).open(&name);
    let file = file.map_err(|error| blocked(&name, &error))?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Err(Failure::Foreign(
            "it is in use by another gateway; stop that one, or name another file in `audit.path`".to_owned(),
        )),
        Err(TryLockError::Error(error)) if error.kind() == io::ErrorKind::Unsupported => Ok(None),
        Err(TryLockError::Error(error)) => Err(blocked(&name, &error)),
    }
}
