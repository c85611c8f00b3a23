//! The unit for systemd and the program for supervisord.

use std::process::Command;

use witgate_tests::gateway::{binary, command};
use witgate_tests::tool::{finish, is_there};

use super::{STOP_SECONDS_MIN, parse, read};

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
    std::fs::write(&file, unit).expect("the temporary folder is writable");
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
