//! The processes of a measurement: starting them on their CPU, and what the kernel says they cost.

use std::collections::VecDeque;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::Duration;

use crate::Result;

/// A child that serves on loopback; dropping it ends it.
pub(crate) struct Process {
    pub(crate) address: SocketAddr,
    /// Where else it says it is.
    further: mpsc::Receiver<SocketAddr>,
    child: Child,
}

impl Process {
    /// Starts this executable again in another role.
    pub(crate) fn role(cpu: Option<usize>, role: &str, arguments: &[&str]) -> Result<Self> {
        let executable = std::env::current_exe()?;
        Self::start(cpu, &executable, &[&[role], arguments].concat(), Path::new("."))
    }

    /// Starts `executable` and waits until it says where it listens.
    ///
    /// # Errors
    ///
    /// It ended or stayed silent; the message has the end of what it wrote.
    pub(crate) fn start(
        cpu: Option<usize>,
        executable: &Path,
        arguments: &[&str],
        folder: &Path,
    ) -> Result<Self> {
        let mut child = on_cpu(cpu, executable)
            .args(arguments)
            .current_dir(folder)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| format!("cannot start `{}`: {error}", executable.display()))?;
        let (sender, found) = mpsc::channel();
        let said = Arc::new(Mutex::new(VecDeque::new()));
        listen_to(child.stdout.take().expect("it is piped"), said.clone(), Some(sender));
        listen_to(child.stderr.take().expect("it is piped"), said.clone(), None);
        if let Ok(address) = found.recv_timeout(START_MAX) {
            return Ok(Self { address, further: found, child });
        }
        end(&mut child);
        let said = said
            .lock()
            .expect("nothing panics under this lock")
            .iter()
            .cloned()
            .collect::<Vec<String>>()
            .join("\n");
        Err(format!("`{}` did not start to listen; it said:\n{said}", executable.display()).into())
    }

    /// The listener for operators, which the gateway names after its own; to be asked once.
    pub(crate) fn admin_address(&self) -> Result<SocketAddr> {
        self.further.recv_timeout(START_MAX).map_err(|_| "no listener for operators".into())
    }

    /// CPU time so far.
    pub(crate) fn cpu_time(&self) -> Result<CpuTime> {
        CpuTime::of(&self.id().to_string())
    }

    /// Memory that is resident, in bytes.
    pub(crate) fn resident_bytes(&self) -> Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.id()))?;
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:"))
            .ok_or("no `VmRSS` in the status of a process")?;
        Ok(first_number(line)? * 1024)
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        end(&mut self.child);
    }
}

/// CPU time that the threads of a process had used at one moment, user and system.
pub(crate) struct CpuTime {
    /// Nanoseconds by thread. Source: Linux, Documentation/scheduler/sched-stats.rst, `/proc/<pid>/schedstat`.
    threads: Vec<(PathBuf, u64)>,
    /// Coarse, but it keeps what ended threads used.
    ticks: u64,
}

impl CpuTime {
    /// Of this process.
    pub(crate) fn own() -> Result<Self> {
        Self::of("self")
    }

    fn of(id: &str) -> Result<Self> {
        let mut threads = Vec::new();
        for thread in fs::read_dir(format!("/proc/{id}/task"))? {
            let path = thread?.path();
            let nanoseconds = first_number(&fs::read_to_string(path.join("schedstat"))?)?;
            threads.push((path, nanoseconds));
        }
        let stat = fs::read_to_string(format!("/proc/{id}/stat"))?;
        // The name, in parentheses, may hold anything; user and system time are the 12th and 13th field behind it.
        // Source: proc_pid_stat(5), fields 14 and 15.
        let (_, fields) = stat.rsplit_once(')').ok_or("no name in the stat of a process")?;
        let ticks = fields.split_whitespace().skip(11).take(2).map(|field| Ok(field.parse::<u64>()?));
        Ok(Self { threads, ticks: ticks.sum::<Result<u64>>()? })
    }

    /// What was used between `earlier` and this.
    pub(crate) fn since(&self, earlier: &Self) -> Duration {
        let has_all =
            earlier.threads.iter().all(|(path, _)| self.threads.iter().any(|(other, _)| other == path));
        if has_all {
            let total = |time: &Self| time.threads.iter().map(|(_, nanoseconds)| nanoseconds).sum::<u64>();
            Duration::from_nanos(total(self).saturating_sub(total(earlier)))
        } else {
            TICK * u32::try_from(self.ticks - earlier.ticks).unwrap_or(u32::MAX)
        }
    }
}

/// CPU time that the whole machine has used so far, what the host took from it included.
///
/// Source: proc_stat(5): user, nice, system, idle, iowait, irq, softirq, steal.
pub(crate) fn machine_time() -> Result<Duration> {
    let stat = fs::read_to_string("/proc/stat")?;
    let fields = stat.lines().next().unwrap_or_default().split_whitespace().skip(1).take(8);
    let ticks = fields.map(str::parse).collect::<std::result::Result<Vec<u32>, _>>()?;
    Ok(TICK
        * ticks.iter().enumerate().filter(|(index, _)| !matches!(index, 3 | 4)).map(|(_, ticks)| ticks).sum())
}

/// The unit of times in `/proc`: `USER_HZ` is 100 on every Linux this runs on.
const TICK: Duration = Duration::from_millis(10);

/// Which CPU each side runs on; `None` where it is the scheduler's choice.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Cpus {
    /// The floor and the gateway.
    pub(crate) subject: Option<usize>,
    /// The load.
    pub(crate) load: Option<usize>,
    /// The mock: a third CPU, or the load's.
    pub(crate) mock: Option<usize>,
}

impl Cpus {
    /// Pins this process to its CPU and says which are for the others; pins nothing on one CPU or without `taskset`.
    pub(crate) fn claim() -> Result<Self> {
        let allowed = allowed_cpus()?;
        let &[subject, load, ref rest @ ..] = allowed.as_slice() else { return Ok(Self::default()) };
        let is_pinned =
            quiet("taskset").args(["-cp", &load.to_string(), &std::process::id().to_string()]).status();
        if !is_pinned.is_ok_and(|status| status.success()) {
            return Ok(Self::default());
        }
        let mock = rest.first().copied().unwrap_or(load);
        Ok(Self { subject: Some(subject), load: Some(load), mock: Some(mock) })
    }
}

/// Raises the limit of open files as far as it goes, here and in the children to come; returns the limit.
pub(crate) fn raise_files_limit() -> Result<u64> {
    let hard = files_limit()?.1;
    // Only root may go beyond the hard limit. Without `prlimit` the limit stays as it is; parts that need more say so.
    for limit in [hard.max(FILES_WANTED), hard] {
        let set = quiet("prlimit")
            .args(["--pid", &std::process::id().to_string(), &format!("--nofile={limit}:{limit}")])
            .status();
        if set.is_ok_and(|status| status.success()) {
            break;
        }
    }
    Ok(files_limit()?.0)
}

/// Enough for every part of every bench.
const FILES_WANTED: u64 = 65_536;

/// Counts the instructions a process runs in user mode, which differ less from run to run than its time does.
pub(crate) struct Instructions(Child);

impl Instructions {
    /// Whether `perf` can count them on this machine.
    pub(crate) fn are_counted() -> bool {
        let output = perf().arg("true").output();
        output.is_ok_and(|output| instructions(&output.stderr).is_some())
    }

    /// Counts for `length` from now on.
    pub(crate) fn start(process: &Process, length: Duration) -> Result<Self> {
        let mut command = perf();
        command.args(["-p", &process.id().to_string(), "sleep", &length.as_secs_f64().to_string()]);
        Ok(Self(command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn()?))
    }

    /// Waits for the end of the count.
    pub(crate) fn finish(self) -> Result<u64> {
        let output = self.0.wait_with_output()?;
        instructions(&output.stderr).ok_or_else(|| "perf did not count the instructions".into())
    }
}

fn perf() -> Command {
    let mut command = Command::new("perf");
    command.args(["stat", "-x,", "-e", "instructions:u"]).stdin(Stdio::null());
    command
}

/// Reads `count,unit,instructions:u,…`; where it cannot be counted, the count is a text in angle brackets.
fn instructions(output: &[u8]) -> Option<u64> {
    let output = String::from_utf8_lossy(output);
    let line = output.lines().find(|line| line.contains("instructions"))?;
    line.split(',').next()?.parse().ok()
}

const START_MAX: Duration = Duration::from_secs(20);
/// Lines kept for the message about a child that does not start.
const LINES_MAX: usize = 20;

/// Reads on to the end, so that a child never waits for its log to be read.
fn listen_to(
    output: impl Read + Send + 'static,
    said: Arc<Mutex<VecDeque<String>>>,
    found: Option<mpsc::Sender<SocketAddr>>,
) {
    thread::spawn(move || {
        // Dropped at the end of the output, which ends the wait for an address.
        let found = found;
        for line in BufReader::new(output).lines().map_while(std::io::Result::ok) {
            let address = ["listening on http://", "admin on http://"]
                .iter()
                .find_map(|start| line.strip_prefix(start)?.trim().parse().ok());
            if let (Some(address), Some(sender)) = (address, &found) {
                // Nobody listens any more when the wait was given up.
                let _ = sender.send(address);
            }
            let mut said = said.lock().expect("nothing panics under this lock");
            said.push_back(line);
            if said.len() > LINES_MAX {
                said.pop_front();
            }
        }
    });
}

fn end(child: &mut Child) {
    // Both fail only for a child that has ended already.
    let _ = child.kill();
    let _ = child.wait();
}

fn on_cpu(cpu: Option<usize>, executable: &Path) -> Command {
    let Some(cpu) = cpu else { return Command::new(executable) };
    let mut command = Command::new("taskset");
    command.args(["-c", &cpu.to_string()]).arg(executable);
    command
}

fn quiet(program: &str) -> Command {
    let mut command = Command::new(program);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command
}

/// Reads `Cpus_allowed_list`, like `0-3,6`.
fn allowed_cpus() -> Result<Vec<usize>> {
    let status = fs::read_to_string("/proc/self/status")?;
    let list = status
        .lines()
        .find_map(|line| line.strip_prefix("Cpus_allowed_list:"))
        .ok_or("no `Cpus_allowed_list`")?;
    let mut cpus = Vec::new();
    for range in list.trim().split(',') {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        cpus.extend(first.parse::<usize>()?..=last.parse()?);
    }
    Ok(cpus)
}

/// The soft and the hard limit of open files.
fn files_limit() -> Result<(u64, u64)> {
    let limits = fs::read_to_string("/proc/self/limits")?;
    let line =
        limits.lines().find_map(|line| line.strip_prefix("Max open files")).ok_or("no `Max open files`")?;
    let mut numbers = line.split_whitespace().map(|number| number.parse().unwrap_or(u64::MAX));
    numbers.next().zip(numbers.next()).ok_or_else(|| "no limits of open files".into())
}

fn first_number(text: &str) -> Result<u64> {
    Ok(text.split_whitespace().next().ok_or("a number is missing")?.parse()?)
}
