//! The unit for systemd and the program for supervisord.

use std::fs::{self, File};
use std::process::{Child, Command};

use witgate_tests::eventually;
use witgate_tests::gateway::{binary, command};
use witgate_tests::tool::{finish, is_there};

use super::{STOP_SECONDS_MIN, packages, parse, read};

const UNIT: &str = "config/systemd/witgate.service";
/// Where both files say that the binary is.
const INSTALLED: &str = "/usr/local/bin/witgate";
/// The worst exposure that `systemd-analyze security` may find, in tenths; a service without any protection has 96.
const EXPOSURE_MAX: &str = "20";

/// The value of a key that the unit sets once.
#[track_caller]
fn setting(unit: &str, key: &str) -> String {
    let values: Vec<&str> =
        unit.lines().filter_map(|line| line.strip_prefix(key)?.strip_prefix('=')).collect();
    assert_eq!(values.len(), 1, "{key}: {values:?}");
    values[0].to_owned()
}

/// The words after the binary are arguments that it understands.
#[track_caller]
fn check_arguments(line: &str) {
    let arguments = line.strip_prefix(INSTALLED).unwrap_or_else(|| panic!("`{line}` runs {INSTALLED}"));
    assert!(arguments.contains("--config /etc/witgate/witgate.yaml"), "{line}");
    let output = command().args(arguments.split_whitespace()).arg("--help").output();
    assert!(output.expect("the binary can be run").status.success(), "{line}");
}

// parity: 163
#[test]
fn the_unit_bounds_what_a_gateway_can_do_but_lets_it_work() {
    let unit = read(UNIT);
    for (key, value) in [
        ("DynamicUser", "yes"),
        ("NoNewPrivileges", "yes"),
        ("ProtectSystem", "strict"),
        ("ProtectHome", "yes"),
        ("PrivateTmp", "yes"),
        ("CapabilityBoundingSet", ""),
        ("StateDirectory", "witgate"),
        ("WorkingDirectory", "%S/witgate"),
        // Plugins become machine code while it runs.
        ("MemoryDenyWriteExecute", "no"),
        ("ExecReload", "/bin/kill -HUP $MAINPID"),
        ("Restart", "on-failure"),
        ("WantedBy", "multi-user.target"),
    ] {
        assert_eq!(setting(&unit, key), value, "{key}");
    }
    assert!(!unit.contains("KillSignal="), "SIGTERM is the default, and what drains");
    check_arguments(&setting(&unit, "ExecStart"));
    let number = |key: &str| setting(&unit, key).parse::<u64>().expect("a number");
    assert!(number("TimeoutStopSec") >= STOP_SECONDS_MIN);
    // Both ends of 20,000 exchanges, the default of `server.connections_max`.
    assert!(number("LimitNOFILE") >= 2 * 20_000);
}

// parity: 163
#[test]
fn systemd_accepts_the_unit() {
    if !is_there("systemd-analyze") {
        return;
    }
    let folder = tempfile::tempdir().expect("the temporary folder is writable");
    let file = folder.path().join("witgate.service");
    let binary = binary();
    let unit = read(UNIT).replace(INSTALLED, binary.to_str().expect("its name is UTF-8"));
    fs::write(&file, unit).expect("the temporary folder is writable");
    let verified = Command::new("systemd-analyze").arg("verify").arg(&file).output().expect("it can be run");
    let said = String::from_utf8_lossy(&verified.stderr);
    assert!(verified.status.success() && !said.contains("witgate.service"), "{said}");
    let security = ["security", "--offline=yes", "--no-pager"];
    let threshold = format!("--threshold={EXPOSURE_MAX}");
    finish(Command::new("systemd-analyze").args(security).arg(threshold).arg(&file));
}

// parity: 163
#[test]
fn supervisord_gives_a_gateway_time_to_drain() {
    if !is_there("python3") {
        return;
    }
    let parsed = parse(
        "config/supervisor/witgate.conf",
        "(lambda p: (p.read_file(open(path, encoding='utf-8')), {name: dict(p[name]) for name in p.sections()}))(configparser.RawConfigParser())[1]",
    );
    let program = &parsed["program:witgate"];
    let text = |key: &str| program[key].as_str().unwrap_or_else(|| panic!("no {key} in {program}"));
    check_arguments(text("command"));
    assert_eq!(text("stopsignal"), "TERM");
    assert!(text("stopwaitsecs").parse::<u64>().is_ok_and(|seconds| seconds >= STOP_SECONDS_MIN));
    assert_eq!((text("autostart"), text("autorestart")), ("true", "true"));
    assert_ne!(text("user"), "root");
    for stream in ["stdout", "stderr"] {
        let is_bounded = program[format!("{stream}_logfile_maxbytes")].is_string()
            && program[format!("{stream}_logfile_backups")].is_string();
        assert!(is_bounded, "{stream}");
    }
}

/// A supervisord; it and what it runs are ended when it is dropped.
struct Supervisor(Child);

impl Drop for Supervisor {
    fn drop(&mut self) {
        // It may have ended by itself; killed, it would leave the gateway behind.
        let _ = Command::new("kill").args(["-TERM", &self.0.id().to_string()]).output();
        let _ = self.0.wait();
    }
}

// parity: 163
#[test]
fn supervisord_starts_a_gateway_again_and_stops_it() {
    if !is_there("python3") {
        return;
    }
    let folder = tempfile::tempdir().expect("the temporary folder is writable");
    let path = |name: &str| folder.path().join(name).to_str().expect("its name is UTF-8").to_owned();
    let write =
        |name: &str, text: &str| fs::write(path(name), text).expect("the temporary folder is writable");
    let logged = |name: &str| fs::read_to_string(path(name)).unwrap_or_default();
    write("witgate.yaml", "upstreams:\n  - { name: echo, base_url: \"builtin:echo\" }\n");
    // As it is installed, but for its places and the user, who is not there.
    let installed = format!("{INSTALLED} serve --config /etc/witgate/witgate.yaml");
    let here = format!(
        "{} serve --config {} --listen 127.0.0.1:0 --admin 127.0.0.1:0",
        binary().display(),
        path("witgate.yaml")
    );
    let program = read("config/supervisor/witgate.conf");
    assert!(program.contains(&installed) && program.contains("\nuser=witgate\n"));
    let program = program
        .replace(&installed, &here)
        .replace("\nuser=witgate\n", "\n")
        .replace("/var/lib/witgate", &path(""))
        .replace("/var/log/witgate/", &path(""));
    write("witgate.conf", &program);
    let own = format!("[supervisord]\nlogfile={}\npidfile={}\n", path("log"), path("pid"));
    write("supervisord.conf", &format!("{own}[include]\nfiles={}\n", path("witgate.conf")));
    let printed = File::create(path("printed")).expect("the temporary folder is writable");
    let mut supervisord = Command::new(packages().with_file_name("supervisord"));
    supervisord.args(["-n", "-c", &path("supervisord.conf")]).stdout(printed).current_dir(folder.path());
    let mut supervisor = Supervisor(supervisord.spawn().expect("it has been installed"));

    let starts = || logged("out.log").matches("admin on http://").count();
    eventually("the gateway to start", || (starts() == 1).then_some(()));
    let spawned = logged("log");
    let (_, id) = spawned.rsplit_once("with pid ").expect("supervisord says whom it started");
    finish(Command::new("kill").args(["-KILL", id.trim()]));
    eventually("the gateway to start again", || (starts() == 2).then_some(()));
    let id = supervisor.0.id().to_string();
    finish(Command::new("kill").args(["-TERM", &id]));
    let status = eventually("supervisord to end", || supervisor.0.try_wait().expect("it is our child"));
    assert!(status.success(), "{status}: {}", logged("log"));
    assert!(logged("err.log").contains("stopped"), "{}", logged("err.log"));
}
