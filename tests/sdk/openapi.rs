//! The description of the admin listener: valid by a validator that is not ours, and true of a running gateway.

use std::path::Path;
use std::process::Command;

use witgate_tests::{Gateway, Request};

use super::{finish, is_there, once, target_folder};

const PACKAGES: [&str; 2] = ["openapi-spec-validator==0.9.0", "jsonschema==4.26.0"];

#[test]
fn the_admin_listener_is_as_it_is_described() {
    if !is_there("python3") {
        return;
    }
    let folder = target_folder("sdk-packages", &PACKAGES.join("-"));
    let python = folder.join("bin/python");
    once(&folder, || {
        finish(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&folder));
        let install = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check"];
        finish(Command::new(&python).args(install).args(PACKAGES));
    });
    let gateway = Gateway::start(
        "server: { admin_token: t0ken }\nupstreams:\n  - { name: echo, base_url: 'builtin:echo', model_match: { type: prefix, value: [m] } }\n  - { name: two/spare, base_url: 'builtin:echo', model_match: { type: exact, value: [m] }, max_in_flight: 2 }\n",
    );
    for request in [Request::chat("hi"), Request::chat_stream("hi")] {
        gateway.send(&request).expect(200);
    }
    gateway.send(&Request::post("/v1/chat/completions", "{")).expect(400);
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("sdk/openapi/check.py");
    let mut command = Command::new(&python);
    command.arg("-B").arg(script).arg(format!("http://{}", gateway.admin())).arg("t0ken");
    command.env("NO_PROXY", "*").env("no_proxy", "*");
    finish(&mut command);
}
