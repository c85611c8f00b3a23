//! Rounds of a measurement, and what else the machine did meanwhile.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::Result;
use crate::load::{Load, Received};
use crate::process::{CpuTime, Instructions, Process, machine_time};

/// What one round saw.
pub(crate) struct Window {
    pub(crate) seconds: f64,
    pub(crate) cpu_us: f64,
    pub(crate) answers: f64,
    pub(crate) events: f64,
    pub(crate) resident_bytes: f64,
    /// Not a number where they are not counted.
    pub(crate) instructions: f64,
    /// From the load's beginning to its end, before and after the round too.
    pub(crate) total: Received,
}

impl Window {
    /// Watches a process under a load for `length`, then ends the load.
    ///
    /// # Errors
    ///
    /// An answer was wrong.
    pub(crate) async fn watch(
        process: &Process,
        load: Load,
        length: Duration,
        counts_instructions: bool,
    ) -> Result<Self> {
        let count = counts_instructions.then(|| Instructions::start(process, length)).transpose()?;
        let (start, cpu, received) = (Instant::now(), process.cpu_time()?, load.received());
        sleep(length).await;
        let (end, cpu_end, received_end) = (Instant::now(), process.cpu_time()?, load.received());
        let resident_bytes = process.resident_bytes()? as f64;
        let total = load.finish().await?;
        let seconds = (end - start).as_secs_f64();
        // perf counted for `length` at about the same rate, if not in exactly the same moments.
        let instructions = count
            .map(Instructions::finish)
            .transpose()?
            .map_or(f64::NAN, |count| count as f64 * seconds / length.as_secs_f64());
        Ok(Self {
            seconds,
            cpu_us: cpu_end.since(&cpu).as_secs_f64() * 1e6,
            answers: (received_end.answers - received.answers) as f64,
            events: received_end.events - received.events,
            resident_bytes,
            instructions,
            total,
        })
    }
}

/// One round.
pub(crate) struct Sample<T> {
    pub(crate) value: T,
    /// CPUs that were in use by others meanwhile.
    pub(crate) disturbance: f64,
}

/// The half of the samples in which others used least.
pub(crate) fn quiet_half<T>(samples: &[Sample<T>]) -> Vec<&Sample<T>> {
    let mut samples: Vec<&Sample<T>> = samples.iter().collect();
    samples.sort_by(|one, other| one.disturbance.total_cmp(&other.disturbance));
    samples.truncate(samples.len().div_ceil(2));
    samples
}

/// The value in the middle.
pub(crate) fn median<T>(samples: &[&Sample<T>], value: impl Fn(&T) -> f64) -> f64 {
    let mut values: Vec<f64> = samples.iter().map(|sample| value(&sample.value)).collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// CPU time that is used and how much of it by us, at one moment.
pub(crate) struct Foreign {
    time: Instant,
    machine: Duration,
    ours: Vec<CpuTime>,
}

impl Foreign {
    /// Of these processes and this one.
    pub(crate) fn now(processes: &[&Process]) -> Result<Self> {
        let mut ours = processes.iter().map(|process| process.cpu_time()).collect::<Result<Vec<_>>>()?;
        ours.push(CpuTime::own()?);
        Ok(Self { time: Instant::now(), machine: machine_time()?, ours })
    }

    /// CPUs that others used between `earlier` and this.
    pub(crate) fn since(&self, earlier: &Self) -> f64 {
        let ours: Duration = self.ours.iter().zip(&earlier.ours).map(|(now, then)| now.since(then)).sum();
        let others = (self.machine - earlier.machine).saturating_sub(ours);
        others.as_secs_f64() / (self.time - earlier.time).as_secs_f64()
    }
}
