//! Subjects that take turns, so that what else the machine does falls on all of them.

use std::path::Path;

use crate::Result;
use crate::process::{Cpus, Process};
use crate::sample::{Foreign, Sample, Window, median, quiet_half};
use crate::subject::{Calls, Subject, Variant};

/// The upstream and what is compared before it.
pub(crate) struct Lineup {
    mock: Process,
    subjects: Vec<Subject>,
}

/// What one round saw.
pub(crate) struct Reading {
    pub(crate) window: Window,
    pub(crate) calls: Calls,
}

/// The rounds of one subject.
pub(crate) struct Rounds {
    pub(crate) variant: Variant,
    samples: Vec<Sample<Reading>>,
}

impl Lineup {
    /// Starts all; compiled plugins are shared through the folder `cache`.
    pub(crate) fn start(cpus: Cpus, cache: &Path, variants: &[Variant]) -> Result<Self> {
        let mock = Process::role(cpus.mock, "mock", &[])?;
        let upstream = mock.address.to_string();
        let start = |variant| Subject::start(variant, cpus.subject, &upstream, cache);
        let subjects = variants.iter().map(start).collect::<Result<_>>()?;
        Ok(Self { mock, subjects })
    }

    pub(crate) fn first(&self) -> &Subject {
        &self.subjects[0]
    }

    /// Takes a sample of each subject, `rounds` times.
    pub(crate) async fn take_turns(
        &self,
        rounds: usize,
        mut sample: impl AsyncFnMut(&Subject) -> Result<Window>,
    ) -> Result<Vec<Rounds>> {
        let mut all: Vec<Rounds> = self
            .subjects
            .iter()
            .map(|subject| Rounds { variant: subject.variant.clone(), samples: Vec::new() })
            .collect();
        for _ in 0..rounds {
            for (subject, rounds) in self.subjects.iter().zip(&mut all) {
                let (before, calls) = (self.foreign()?, subject.calls().await?);
                let window =
                    sample(subject).await.map_err(|error| format!("`{}`: {error}", subject.variant.name))?;
                let calls = subject.calls().await?.since(calls);
                let value = Reading { window, calls };
                rounds.samples.push(Sample { value, disturbance: self.foreign()?.since(&before) });
            }
        }
        Ok(all)
    }

    fn foreign(&self) -> Result<Foreign> {
        let mut processes = vec![&self.mock];
        processes.extend(self.subjects.iter().map(|subject| &subject.process));
        Foreign::now(&processes)
    }
}

impl Rounds {
    /// The median of the half of the rounds in which other processes ran least.
    pub(crate) fn median(&self, value: impl Fn(&Reading) -> f64) -> f64 {
        median(&quiet_half(&self.samples), value)
    }

    /// CPUs that other processes used at most in that half.
    pub(crate) fn disturbance(&self) -> f64 {
        quiet_half(&self.samples).iter().map(|sample| sample.disturbance).fold(0.0, f64::max)
    }

    /// The first round: for memory, of which a process keeps some from round to round.
    pub(crate) fn resident_megabytes(&self) -> f64 {
        self.samples[0].value.window.resident_bytes / 1e6
    }
}
