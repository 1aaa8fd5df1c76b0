//! The official SDKs, unmodified, against this server: JavaScript in two versions, and Python.
//!
//! The drivers are `scripts/sdk-js/drive.mjs` and `scripts/sdk-python/drive.py`; what they need lies in the folder that
//! `scripts/fetch-sdk` makes, given as `LITEKEEP_TEST_SDK`. `ORACLENET_TEST_SERVER=pocketbase` drives the real
//! PocketBase instead, which proves the drivers.

mod common;

use common::server::{PocketBase, Server, oraclenet};
use common::{ADMIN, repository, variable, witness};
use std::path::Path;
use std::process::Command;

#[test]
fn the_javascript_sdk_works_unmodified() {
    check("the JavaScript SDK", |server, sdk| {
        driver(server, "node", "sdk-js/drive.mjs", &sdk.join("js"), "pocketbase")
    });
}

#[test]
fn the_javascript_sdk_of_the_first_clients_works_unmodified() {
    check("the JavaScript SDK 0.25", |server, sdk| {
        driver(server, "node", "sdk-js/drive.mjs", &sdk.join("js"), "pocketbase-0.25")
    });
}

#[test]
fn the_python_sdk_works_unmodified() {
    check("the Python SDK", |server, sdk| {
        driver(server, "python3", "sdk-python/drive.py", &sdk.join("python"), "")
    });
}

/// How many steps each driver must at least have done: a driver that stops early and says nothing is no success.
const STEPS: usize = 11;

fn check(what: &str, command: impl Fn(&Server, &Path) -> Command) {
    let Some(sdk) = witness("LITEKEEP_TEST_SDK", what) else { return };
    let directory = tempfile::tempdir().expect("a temporary directory");
    let data = directory.path().join("data");
    let server = if variable("ORACLENET_TEST_SERVER").is_some_and(|value| value == "pocketbase") {
        let Some(pocketbase) = PocketBase::found(what) else { return };
        pocketbase.prepare(&data);
        pocketbase.serve(&data)
    } else {
        oraclenet(&data)
    };
    let mut command = command(&server, &sdk);
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let said = String::from_utf8_lossy(&output.stdout);
    let steps = said.lines().filter(|line| line.starts_with("ok ")).count();
    assert!(
        output.status.success() && steps >= STEPS,
        "{what}: {} after {steps} steps\n{said}{}\nthe server said:\n{}",
        output.status,
        String::from_utf8_lossy(&output.stderr),
        server.said()
    );
}

fn driver(server: &Server, program: &str, script: &str, folder: &Path, module: &str) -> Command {
    let mut command = Command::new(program);
    command.arg(repository().join("scripts").join(script));
    command.arg(format!("http://{}", server.address)).arg(folder);
    if !module.is_empty() {
        command.arg(module);
    }
    command.env("ADMIN_EMAIL", ADMIN.0).env("ADMIN_PASSWORD", ADMIN.1);
    command
}
