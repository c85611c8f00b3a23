//! What is measured: the floor, a gateway without plugins, gateways with some.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;

use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::Result;
use crate::process::Process;

/// What a subject is to be.
#[derive(Clone)]
pub(crate) struct Variant {
    pub(crate) name: String,
    role: Role,
    /// Whether its answers differ from the mock's in length.
    pub(crate) rewrites: bool,
    pub(crate) target: Option<Target>,
}

#[derive(Clone)]
enum Role {
    Floor,
    /// A gateway, with the plugins of its configuration.
    Gateway(String),
}

/// What a variant is held to.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Target {
    /// At most so many microseconds more than without plugins, on the machine of the design.
    Added(f64),
    /// At most so many times the floor.
    Floor(f64),
    /// At most so many microseconds in one call.
    Call(f64),
}

/// One plugin in a configuration.
#[derive(Clone, Debug)]
pub(crate) struct Plugin {
    pub(crate) source: String,
    /// Its own configuration, as YAML on one line.
    pub(crate) config: &'static str,
    pub(crate) is_reused: bool,
}

impl Variant {
    pub(crate) fn floor() -> Self {
        Self { name: "the floor".to_owned(), role: Role::Floor, rewrites: false, target: None }
    }

    /// A gateway; without plugins it is what the others are compared with.
    pub(crate) fn gateway(name: impl Into<String>, plugins: &[Plugin]) -> Self {
        let mut yaml = String::new();
        for (index, plugin) in plugins.iter().enumerate() {
            let Plugin { source, config, is_reused } = plugin;
            yaml += &format!("  - name: plugin{index}\n    source: {source}\n    config: {config}\n");
            if *is_reused {
                yaml += "    instance: { reuse: { uses_max: 100000, scope: any } }\n";
            }
        }
        if !yaml.is_empty() {
            yaml = format!("plugins:\n{yaml}");
        }
        Self { name: name.into(), role: Role::Gateway(yaml), rewrites: false, target: None }
    }

    /// Whether it has no plugins.
    pub(crate) fn is_bare(&self) -> bool {
        match &self.role {
            Role::Floor => true,
            Role::Gateway(plugins) => plugins.is_empty(),
        }
    }

    pub(crate) fn target(mut self, target: Target) -> Self {
        self.target = Some(target);
        self
    }

    /// Says that its answers differ from the mock's in length.
    pub(crate) fn rewriting(mut self) -> Self {
        self.rewrites = true;
        self
    }
}

impl Plugin {
    /// The same in instances that are used again.
    pub(crate) fn reused(mut self) -> Self {
        self.is_reused = true;
        self
    }
}

/// A process that runs as a variant.
pub(crate) struct Subject {
    pub(crate) variant: Variant,
    pub(crate) process: Process,
    admin: Option<SocketAddr>,
    /// Holds the gateway's configuration and what it writes.
    _folder: TempDir,
}

/// What the gateway has said of its calls to plugins so far.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Calls {
    pub(crate) count: f64,
    pub(crate) seconds: f64,
}

impl Subject {
    /// Starts a variant before the upstream at `upstream`; compiled plugins are shared through `cache`.
    pub(crate) fn start(variant: &Variant, cpu: Option<usize>, upstream: &str, cache: &Path) -> Result<Self> {
        let folder = TempDir::new()?;
        let (process, admin) = match &variant.role {
            Role::Floor => (Process::role(cpu, "floor", &[upstream])?, None),
            Role::Gateway(plugins) => {
                let config = format!(
                    "server: {{ cache_dir: {} }}\naudit: {{ enabled: false }}\nlog: {{ access: false }}\nupstreams:\n  - name: mock\n    base_url: http://{upstream}/v1\n    model_match: {{ type: prefix, value: [stream, mock] }}\n{plugins}",
                    cache.display()
                );
                fs::write(folder.path().join("witgate.yaml"), config)?;
                let arguments = [
                    "serve",
                    "--config",
                    "witgate.yaml",
                    "--listen",
                    "127.0.0.1:0",
                    "--admin",
                    "127.0.0.1:0",
                ];
                let executable = Path::new(env!("CARGO_BIN_EXE_witgate"));
                let process = Process::start(cpu, executable, &arguments, folder.path())
                    .map_err(|error| format!("`{}`: {error}", variant.name))?;
                let admin = process.admin_address()?;
                (process, Some(admin))
            }
        };
        Ok(Self { variant: variant.clone(), process, admin, _folder: folder })
    }

    /// Asks the gateway what its plugins have been called for so far.
    ///
    /// # Errors
    ///
    /// It does not say, or one of them broke.
    pub(crate) async fn calls(&self) -> Result<Calls> {
        let Some(admin) = self.admin else { return Ok(Calls::default()) };
        let document = get(admin, "/admin/plugins").await?;
        let mut calls = Calls::default();
        for plugin in document["plugins"].as_array().ok_or("no `plugins` in what the gateway says of them")? {
            for (hook, of_hook) in plugin["calls"].as_object().into_iter().flatten() {
                if of_hook["faults"].as_object().is_some_and(|faults| !faults.is_empty())
                    || of_hook["skipped"] != 0
                {
                    return Err(format!("`{}` broke in `{hook}`: {of_hook}", self.variant.name).into());
                }
                calls.count += of_hook["calls"].as_f64().unwrap_or_default();
                calls.seconds += of_hook["seconds"].as_f64().unwrap_or_default();
            }
        }
        Ok(calls)
    }
}

impl Calls {
    pub(crate) fn since(self, earlier: Self) -> Self {
        Self { count: self.count - earlier.count, seconds: self.seconds - earlier.seconds }
    }
}

async fn get(address: SocketAddr, path: &str) -> Result<Value> {
    let mut stream = TcpStream::connect(address).await?;
    let request = format!("GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await?;
    let answer = String::from_utf8(answer)?;
    let (_, body) = answer.split_once("\r\n\r\n").ok_or("no end of a head")?;
    Ok(serde_json::from_str(body).map_err(|error| format!("`{path}`: {error}: {answer}"))?)
}
