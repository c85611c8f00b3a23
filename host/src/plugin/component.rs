//! One compiled component: what it is, which hooks it has and what it wants, all read off it before anything runs.

use serde_json::Value;
use sha2::{Digest, Sha256};
use wasmparser::{Parser, Payload};
use wasmtime::Store;
use wasmtime::component::types::ComponentItem;
use wasmtime::component::{Component, InstancePre};

use crate::config::Allow;
use crate::plugin::bindings::hooks;
use crate::plugin::engine::{Engines, Host, Needs};
use crate::plugin::hook::{Hook, Hooks};
use crate::plugin::state::State;

/// The contract this gateway has, as in `wit/plugin.wit`.
pub(crate) const CONTRACT: (u64, u64, u64) = (0, 1, 0);
const PACKAGE: &str = "witgate:plugin/";
/// The component's section that says what the plugin is.
const MANIFEST_SECTION: &str = "witgate:manifest";

/// A compiled component.
pub(crate) struct Code {
    /// The SHA-256 of its bytes.
    pub(crate) digest: [u8; 32],
    /// How many bytes it has.
    pub(crate) bytes_len: usize,
    /// What it says of itself.
    pub(crate) manifest: Manifest,
    /// Which hooks it has.
    pub(crate) hooks: Hooks,
    /// The interfaces it imports, with their versions.
    pub(crate) imports: Vec<String>,
    /// Whether its instances come from the pool.
    pub(crate) is_pooled: bool,
    /// The memory it begins with, in bytes.
    pub(crate) memory_initial: u64,
    pub(crate) pre: InstancePre<State>,
    pub(crate) indices: Indices,
}

/// What a component says of itself in its manifest.
#[derive(Clone, Debug, Default)]
pub(crate) struct Manifest {
    pub(crate) name: Option<String>,
    pub(crate) version: Option<String>,
    pub(crate) description: Option<String>,
    /// The JSON Schema of its configuration.
    pub(crate) schema: Option<Value>,
}

/// Where in an instance its hooks are.
pub(crate) struct Indices {
    pub(crate) lifecycle: hooks::lifecycle::GuestIndices,
    pub(crate) authenticate: Option<hooks::authenticate::GuestIndices>,
    pub(crate) on_request: Option<hooks::on_request::GuestIndices>,
    pub(crate) on_route: Option<hooks::on_route::GuestIndices>,
    pub(crate) on_upstream_request: Option<hooks::on_upstream_request::GuestIndices>,
    pub(crate) on_response: Option<hooks::on_response::GuestIndices>,
    pub(crate) stream_text: Option<hooks::stream_text::GuestIndices>,
    pub(crate) stream_events: Option<hooks::stream_events::GuestIndices>,
    pub(crate) on_error: Option<hooks::on_error::GuestIndices>,
    pub(crate) on_complete: Option<hooks::on_complete::GuestIndices>,
    pub(crate) on_tick: Option<hooks::on_tick::GuestIndices>,
}

/// The SHA-256 of a component.
pub(crate) fn digest(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

/// A digest as an operator writes it.
pub(crate) fn hex(digest: &[u8]) -> String {
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What a component's bytes say before they are compiled.
#[derive(Default)]
pub(crate) struct Inspected {
    pub(crate) manifest: Manifest,
    pub(crate) needs: Needs,
    /// The names of what it exports.
    pub(crate) exports: Vec<String>,
    /// The names of what it imports.
    pub(crate) imports: Vec<String>,
}

/// Reads what a component says of itself, without compiling it.
///
/// # Errors
///
/// Why the bytes are no component this gateway can run, and what to do.
pub(crate) fn inspect(bytes: &[u8]) -> Result<Inspected, String> {
    check_magic(bytes)?;
    let mut found = Inspected::default();
    let needs = &mut found.needs;
    // What is inside modules and components inside is no export or import of the whole.
    let mut depth = 0;
    // The manifest is a section of a module inside; the whole file is looked through, so that a cut one is noticed.
    for payload in Parser::new(0).parse_all(bytes) {
        match payload.map_err(damaged)? {
            Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => depth += 1,
            Payload::End(_) => depth -= 1,
            Payload::ComponentExportSection(exports) if depth == 0 => {
                for export in exports {
                    found.exports.push(export.map_err(damaged)?.name.name.to_owned());
                }
            }
            Payload::ComponentImportSection(imports) if depth == 0 => {
                for import in imports {
                    found.imports.push(import.map_err(damaged)?.name.name.to_owned());
                }
            }
            Payload::CustomSection(section) if section.name() == MANIFEST_SECTION => {
                found.manifest = read_manifest(section.data())?;
            }
            Payload::MemorySection(memories) => {
                for memory in memories {
                    needs.memories += 1;
                    needs.memory_bytes = needs.memory_bytes.max(memory.map_err(damaged)?.initial << 16);
                }
            }
            Payload::TableSection(tables) => {
                for table in tables {
                    needs.tables += 1;
                    needs.table_elements = needs.table_elements.max(table.map_err(damaged)?.ty.initial);
                }
            }
            // What only ties exports together is none.
            Payload::InstanceSection(instances) => {
                for instance in instances {
                    let instance = instance.map_err(damaged)?;
                    needs.core_instances +=
                        u32::from(matches!(instance, wasmparser::Instance::Instantiate { .. }));
                }
            }
            _ => {}
        }
    }
    Ok(found)
}

fn damaged(error: wasmparser::BinaryReaderError) -> String {
    format!("the component is cut off or damaged: {error}")
}

fn read_manifest(bytes: &[u8]) -> Result<Manifest, String> {
    let Ok(Value::Object(mut members)) = serde_json::from_slice(bytes) else {
        return Err(format!("the section `{MANIFEST_SECTION}` holds no JSON object: build the plugin again"));
    };
    let mut text = |name: &str| match members.remove(name) {
        Some(Value::String(text)) if !text.is_empty() => Some(text),
        _ => None,
    };
    let (name, version, description) = (text("name"), text("version"), text("description"));
    Ok(Manifest { name, version, description, schema: members.remove("schema") })
}

/// Source: the component model's binary format, "preamble": the layer is in bytes 6 and 7.
fn check_magic(bytes: &[u8]) -> Result<(), String> {
    match bytes.get(..8) {
        Some([0, b'a', b's', b'm', _, _, 1, 0]) => Ok(()),
        Some([0, b'a', b's', b'm', ..]) => Err(
            "it is a core module, not a component: build it for `wasm32-wasip2`, or wrap it with `wasm-tools component new`"
                .to_owned(),
        ),
        Some(_) => Err("it is no WebAssembly: name the `.wasm` file that the build made".to_owned()),
        None => Err("the file is empty or cut off".to_owned()),
    }
}

impl Code {
    /// Compiles a component, or takes it from the cache, and reads off it what it is.
    ///
    /// This takes from milliseconds to seconds of processor time: not for a thread that serves.
    ///
    /// # Errors
    ///
    /// Why this gateway cannot run it, and what to do.
    pub(crate) fn compile(
        engines: &Engines,
        bytes: &[u8],
        memory_max: u64,
        allow: &Allow,
    ) -> Result<Self, String> {
        let Inspected { manifest, needs, exports, imports } = inspect(bytes)?;
        // What it cannot run with is said before it takes a minute to compile.
        let hooks = hooks_among(exports.iter().map(String::as_str))?;
        check_grants(&imports, allow)?;
        let host = engines.host_for(&needs, memory_max)?;
        let component = compile(host, bytes)?;
        check_exports(&component)?;
        let pre = host.linker.instantiate_pre(&component).map_err(|error| explain_import(&error))?;
        let indices = Indices::new(&pre, hooks)?;
        Ok(Self {
            digest: digest(bytes),
            bytes_len: bytes.len(),
            manifest,
            hooks,
            imports,
            is_pooled: engines.is_pool(host),
            memory_initial: needs.memory_bytes,
            pre,
            indices,
        })
    }

    /// Makes sure that the component gets by with what it is granted.
    ///
    /// # Errors
    ///
    /// The grants to add.
    pub(crate) fn check_grants(&self, allow: &Allow) -> Result<(), String> {
        check_grants(&self.imports, allow)
    }

    /// Whether it was compiled for where a plugin with so much memory runs.
    pub(crate) fn fits(&self, engines: &Engines, memory_max: u64) -> bool {
        engines.for_memory(memory_max).is_ok_and(|host| !self.is_pooled || engines.is_pool(host))
    }
}

fn compile(host: &Host, bytes: &[u8]) -> Result<Component, String> {
    Component::from_binary(&host.engine, bytes).map_err(|error| {
        format!("the component is damaged or uses what this gateway does not run: {error:#}")
    })
}

/// Makes sure that what a component exports by the name of an interface is one.
fn check_exports(component: &Component) -> Result<(), String> {
    for (name, item) in component.component_type().exports(component.engine()) {
        if interface(name).is_some() && !matches!(item.ty, ComponentItem::ComponentInstance(_)) {
            return Err(format!("its export `{name}` is no interface"));
        }
    }
    Ok(())
}

/// The hooks among the names of a component's exports.
///
/// # Errors
///
/// Why they are not those of a plugin for this gateway.
pub(crate) fn hooks_among<'a>(exports: impl Iterator<Item = &'a str>) -> Result<Hooks, String> {
    let mut hooks = Hooks::default();
    let mut has_lifecycle = false;
    for name in exports {
        let Some((interface, version)) = interface(name) else { continue };
        check_version(name, version)?;
        match Hook::of(interface) {
            Some(hook) => hooks.insert(hook),
            None if interface == "lifecycle" => has_lifecycle = true,
            None => return Err(newer(name)),
        }
    }
    if hooks.is_empty() {
        let names = Hook::ALL.map(Hook::name).join(", ");
        return Err(format!("it exports no hook of `witgate:plugin`: export at least one of {names}"));
    }
    if !has_lifecycle {
        return Err("it does not export `witgate:plugin/lifecycle`: every plugin has to".to_owned());
    }
    Ok(hooks)
}

/// Splits `witgate:plugin/on-request@0.1.0`.
fn interface(name: &str) -> Option<(&str, &str)> {
    let rest = name.strip_prefix(PACKAGE)?;
    Some(rest.split_once('@').unwrap_or((rest, "")))
}

fn check_version(name: &str, version: &str) -> Result<(), String> {
    let mut numbers = version.split(['.', '-', '+']).map(|number| number.parse::<u64>().ok());
    let (major, minor) = (numbers.next().flatten(), numbers.next().flatten());
    if (major, minor) == (Some(CONTRACT.0), Some(CONTRACT.1)) {
        return Ok(());
    }
    let (x, y, z) = CONTRACT;
    Err(format!(
        "it was built for `{name}`, this gateway has `witgate:plugin@{x}.{y}.{z}`: build it with an SDK of version {x}.{y}, or use a gateway that has version {version}"
    ))
}

fn newer(name: &str) -> String {
    let (x, y, z) = CONTRACT;
    format!(
        "it needs `{name}`, which this gateway (contract {x}.{y}.{z}) does not have yet: use a newer gateway"
    )
}

/// Makes sure that a component gets by with what it is granted.
///
/// What any program's runtime drags in (clocks, random numbers, files and sockets that are not there) is not a grant.
fn check_grants(imports: &[String], allow: &Allow) -> Result<(), String> {
    let mut missing = Vec::new();
    for import in imports {
        let grant = match interface(import) {
            Some(("kv", _)) if allow.kv == 0 => grant(import),
            Some(("metrics", _)) if allow.metrics == 0 => grant(import),
            Some(("secrets", _)) if allow.secrets.is_empty() => grant(import),
            Some(("kv" | "metrics" | "secrets" | "types" | "exchange" | "log", version)) => {
                check_version(import, version)?;
                continue;
            }
            Some(_) => return Err(newer(import)),
            None if import.starts_with("wasi:http/") && allow.http.is_empty() => grant(import),
            None if is_linked(import) => continue,
            None => {
                return Err(format!(
                    "it imports `{import}`, which this gateway does not offer: build it without that"
                ));
            }
        };
        if let Some(grant) = grant {
            missing.push(format!("it imports `{import}`: add `allow: {{ {grant} }}`"));
        }
    }
    missing.dedup();
    if missing.is_empty() { Ok(()) } else { Err(missing.join("; ")) }
}

/// What an operator writes into `allow` for an import, by an example; none if it needs no grant.
pub(crate) fn grant(import: &str) -> Option<&'static str> {
    match interface(import) {
        Some(("kv", _)) => Some("kv: 1MiB"),
        Some(("metrics", _)) => Some("metrics: 20"),
        Some(("secrets", _)) => Some("secrets: [NAME]"),
        Some(_) => None,
        None => import.starts_with("wasi:http/").then_some("http: [\"https://host\"]"),
    }
}

/// Whether an import is one of those every component may have.
fn is_linked(import: &str) -> bool {
    let of_wasi = ["cli", "io", "clocks", "random", "filesystem", "sockets", "http"];
    of_wasi.iter().any(|package| {
        import
            .strip_prefix("wasi:")
            .and_then(|rest| rest.strip_prefix(package))
            .is_some_and(|rest| rest.starts_with('/'))
    })
}

/// wasmtime's words for an import that is not there, in ours.
fn explain_import(error: &wasmtime::Error) -> String {
    let (x, y, z) = CONTRACT;
    format!(
        "it does not fit `witgate:plugin@{x}.{y}.{z}`, or needs a function that a newer gateway has: {error:#}"
    )
}

impl Indices {
    fn new(pre: &InstancePre<State>, exported: Hooks) -> Result<Self, String> {
        macro_rules! hook {
            ($module:ident, $hook:ident) => {
                match exported.has(Hook::$hook) {
                    true => Some(
                        hooks::$module::GuestIndices::new(pre)
                            .map_err(|error| wrong_type(Hook::$hook.name(), &error))?,
                    ),
                    false => None,
                }
            };
        }
        Ok(Self {
            lifecycle: hooks::lifecycle::GuestIndices::new(pre)
                .map_err(|error| wrong_type("lifecycle", &error))?,
            authenticate: hook!(authenticate, Authenticate),
            on_request: hook!(on_request, OnRequest),
            on_route: hook!(on_route, OnRoute),
            on_upstream_request: hook!(on_upstream_request, OnUpstreamRequest),
            on_response: hook!(on_response, OnResponse),
            stream_text: hook!(stream_text, StreamText),
            stream_events: hook!(stream_events, StreamEvents),
            on_error: hook!(on_error, OnError),
            on_complete: hook!(on_complete, OnComplete),
            on_tick: hook!(on_tick, OnTick),
        })
    }

    /// Makes sure that every hook has the type the contract gives it.
    ///
    /// # Errors
    ///
    /// Which one has not.
    pub(crate) fn check_types(
        &self,
        store: &mut Store<State>,
        instance: &wasmtime::component::Instance,
    ) -> Result<(), String> {
        macro_rules! check {
            ($module:ident, $hook:ident) => {
                if let Some(indices) = &self.$module {
                    indices
                        .load(&mut *store, instance)
                        .map_err(|error| wrong_type(Hook::$hook.name(), &error))?;
                }
            };
        }
        self.lifecycle.load(&mut *store, instance).map_err(|error| wrong_type("lifecycle", &error))?;
        check!(authenticate, Authenticate);
        check!(on_request, OnRequest);
        check!(on_route, OnRoute);
        check!(on_upstream_request, OnUpstreamRequest);
        check!(on_response, OnResponse);
        check!(stream_text, StreamText);
        check!(stream_events, StreamEvents);
        check!(on_error, OnError);
        check!(on_complete, OnComplete);
        check!(on_tick, OnTick);
        Ok(())
    }
}

fn wrong_type(interface: &str, error: &wasmtime::Error) -> String {
    let (x, y, z) = CONTRACT;
    format!(
        "its export `{interface}` has not the functions and types of `witgate:plugin@{x}.{y}.{z}`: {error:#}"
    )
}
