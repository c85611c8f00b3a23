//! What the process itself uses, under the names that all of Prometheus's clients have for it.
//!
//! Source: Prometheus, "Writing client libraries", process metrics; proc(5). Where there is no `/proc`, or a field of it
//! cannot be read, that metric is absent.

use std::fs;

use crate::metrics::catalog;
use crate::metrics::text::Page;

/// Source: `linux/auxvec.h`.
const AT_PAGESZ: u64 = 6;
/// Source: `linux/auxvec.h`.
const AT_CLKTCK: u64 = 17;

/// Adds the metrics of this process.
pub(crate) fn collect(page: &mut Page) {
    let Some(units) = Units::read() else { return };
    if let Some(stat) = fs::read_to_string("/proc/self/stat").ok().as_deref().and_then(Stat::parse) {
        let cpu = stat.cpu_ticks as f64 / units.ticks_per_second;
        page.number(&catalog::PROCESS_CPU, &[], cpu);
        page.number(&catalog::PROCESS_RESIDENT, &[], (stat.resident_pages * units.page_bytes) as f64);
        page.number(&catalog::PROCESS_VIRTUAL, &[], stat.virtual_bytes as f64);
        page.number(&catalog::PROCESS_THREADS, &[], stat.threads as f64);
        if let Some(booted) = fs::read_to_string("/proc/stat").ok().as_deref().and_then(boot_time) {
            let started = booted as f64 + stat.start_ticks as f64 / units.ticks_per_second;
            page.number(&catalog::PROCESS_START, &[], started);
        }
    }
    if let Ok(open) = fs::read_dir("/proc/self/fd") {
        // One of them is the one that lists them.
        page.number(&catalog::PROCESS_OPEN_FDS, &[], open.count().saturating_sub(1) as f64);
    }
    if let Some(max) = fs::read_to_string("/proc/self/limits").ok().as_deref().and_then(open_files_max) {
        page.number(&catalog::PROCESS_MAX_FDS, &[], max);
    }
}

/// What the kernel counts in.
struct Units {
    ticks_per_second: f64,
    page_bytes: u64,
}

impl Units {
    /// Reads them off what the kernel gave the process at its start: pairs of numbers.
    fn read() -> Option<Self> {
        let vector = fs::read("/proc/self/auxv").ok()?;
        let word = |bytes: &[u8]| bytes.try_into().map(u64::from_ne_bytes).ok();
        let entry = |kind: u64| {
            vector
                .chunks_exact(16)
                .find(|pair| word(&pair[..8]) == Some(kind))
                .and_then(|pair| word(&pair[8..]))
        };
        Some(Self { ticks_per_second: entry(AT_CLKTCK)? as f64, page_bytes: entry(AT_PAGESZ)? })
    }
}

/// What of `/proc/self/stat` is shown.
#[derive(Debug, PartialEq, Eq)]
struct Stat {
    cpu_ticks: u64,
    threads: u64,
    start_ticks: u64,
    virtual_bytes: u64,
    resident_pages: u64,
}

impl Stat {
    fn parse(text: &str) -> Option<Self> {
        // The second field is the program's name in parentheses, which may hold spaces and parentheses.
        let (_, rest) = text.rsplit_once(") ")?;
        let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
        // Numbered from 1 in proc(5); the state, which is the first one here, is number 3.
        let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
        Some(Self {
            cpu_ticks: field(14)? + field(15)?,
            threads: field(20)?,
            start_ticks: field(22)?,
            virtual_bytes: field(23)?,
            resident_pages: field(24)?,
        })
    }
}

/// When the machine was started, in seconds since 1970.
fn boot_time(stat: &str) -> Option<u64> {
    stat.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()
}

/// The soft limit of open files; none if there is no limit.
fn open_files_max(limits: &str) -> Option<f64> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_the_program_confuses_nothing() {
        let stat = "7 (a) b (c) R 1 7 7 0 -1 0 1 2 3 4 250 50 0 0 20 0 9 0 12345 1048576 300 18446744073709551615 1\n";
        let expected = Stat {
            cpu_ticks: 300,
            threads: 9,
            start_ticks: 12_345,
            virtual_bytes: 1_048_576,
            resident_pages: 300,
        };
        assert_eq!(Stat::parse(stat), Some(expected));
        for cut in ["", "7 (a", "7 (a) R 1"] {
            assert_eq!(Stat::parse(cut), None);
        }
    }

    #[test]
    fn other_files_are_read_by_line() {
        assert_eq!(boot_time("cpu 1 2\nbtime 1700000000\nprocesses 1\n"), Some(1_700_000_000));
        assert_eq!(boot_time("cpu 1 2\n"), None);
        let limits = "Limit  Soft Limit  Hard Limit  Units\nMax open files            1024   4096  files\n";
        assert_eq!(open_files_max(limits), Some(1024.0));
        assert_eq!(open_files_max("Max open files  unlimited  unlimited  files\n"), None);
    }
}
