//! `examples/smoke.sh`: it says yes to a gateway that works, and no to one that does not.

use std::process::{Command, Output};

use witgate_tests::gateway::Launch;
use witgate_tests::tool::{is_there, repository};
use witgate_tests::{Gateway, Reply, Upstream};

fn smoke(variables: &[(&str, &str)]) -> Output {
    let mut script = Command::new(repository().join("examples/smoke.sh"));
    for name in ["BASE_URL", "MODEL", "API_KEY", "ADMIN_URL", "WITGATE_ADMIN_TOKEN"] {
        script.env_remove(name);
    }
    script.envs(variables.iter().copied()).output().expect("`sh` can be run")
}

/// Says these lines, of which each is an `ok` or the beginning of a failure, and ends accordingly.
#[track_caller]
fn check(output: &Output, lines: &[&str]) {
    let said = String::from_utf8_lossy(&output.stdout);
    let verdicts: Vec<&str> =
        said.lines().filter(|line| line.starts_with("ok ") || line.starts_with("FAILED ")).collect();
    assert_eq!(verdicts.len(), lines.len(), "{said}");
    for (verdict, line) in verdicts.iter().zip(lines) {
        assert!(
            verdict.split_whitespace().collect::<Vec<_>>().join(" ").starts_with(line),
            "{line}:\n{said}"
        );
    }
    let is_fine = lines.iter().all(|line| line.starts_with("ok "));
    assert_eq!(output.status.code(), Some(i32::from(!is_fine)), "{output:?}");
}

// parity: 164
#[test]
fn a_gateway_that_works_passes() {
    if !is_there("curl") {
        return;
    }
    let gateway = Launch::default().start_embedded();
    let admin = format!("http://{}", gateway.admin());
    check(
        &smoke(&[("BASE_URL", &gateway.url()), ("ADMIN_URL", &admin)]),
        &[
            "ok alive",
            "ok ready",
            "ok health",
            "ok models",
            "ok chat",
            "ok stream",
            "ok malformed request",
            "ok admin: ready",
            "ok admin: configuration",
            "ok admin: metrics",
        ],
    );
}

// parity: 164
#[test]
fn what_does_not_work_is_named() {
    if !is_there("curl") {
        return;
    }
    let upstream = Upstream::new(|request| match request.target.as_str() {
        "/v1/models" => Reply::models(&["another"]),
        _ if request.json()["stream"] == true => Reply::error(500, "out of order"),
        _ => Reply::chat("hello"),
    });
    let gateway = Gateway::before(&upstream);
    check(
        &smoke(&[("BASE_URL", &gateway.url()), ("MODEL", "m"), ("ADMIN_URL", "")]),
        &[
            "ok alive",
            "ok ready",
            "ok health",
            "FAILED models:",
            "ok chat",
            "FAILED stream:",
            "ok malformed request",
        ],
    );
}
