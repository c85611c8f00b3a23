//! What plugins may call: the host's side of the contract's imports.
//!
//! A mistake of the plugin is an error value of the contract, never a trap: a trap would blame the host's own function.

use std::time::Duration;

use tokio::time::Instant;
use wasmtime::component::{HasSelf, Linker, Resource};
use wasmtime::{Error, Result};

use crate::plugin::bindings::AllHooks;
use crate::plugin::bindings::imports::exchange::Message;
use crate::plugin::bindings::imports::types::Usage;
use crate::plugin::bindings::imports::{exchange, kv, log, metrics, secrets, types};
use crate::plugin::call::Call;
use crate::plugin::logs::{self, Log};
use crate::plugin::metrics::Kind;
use crate::plugin::state::{CallHandle, State};
use crate::wire::messages;

/// Links everything a plugin may import. Whether it may is decided from the component's imports before, so that what it
/// is not granted is told with a name and not as a missing function.
pub(crate) fn link(linker: &mut Linker<State>) -> Result<()> {
    wasmtime_wasi::p2::add_to_linker_async(linker)?;
    wasmtime_wasi_http::p2::add_only_http_to_linker_async(linker)?;
    AllHooks::add_to_linker::<_, HasSelf<State>>(linker, |state| state)
}

impl State {
    /// The call in flight.
    ///
    /// # Errors
    ///
    /// A trap when there is none: `authenticate`, `init`, `on-complete` and `on-tick` are not given any, so the plugin has
    /// kept a handle that it does not own.
    fn call(&mut self) -> Result<&mut Call> {
        self.call
            .as_deref_mut()
            .ok_or_else(|| Error::msg("the call is over: a handle of it must not be kept"))
    }
}

type Handle = Resource<CallHandle>;

impl types::Host for State {}
impl exchange::Host for State {}

impl exchange::HostCall for State {
    fn id(&mut self, _: Handle) -> Result<String> {
        Ok(self.call()?.facts.id.clone())
    }

    fn tenant(&mut self, _: Handle) -> Result<Option<String>> {
        Ok(self.call()?.facts.tenant.as_deref().map(str::to_owned))
    }

    fn operation(&mut self, _: Handle) -> Result<String> {
        Ok(self.call()?.facts.operation().to_owned())
    }

    fn model(&mut self, _: Handle) -> Result<String> {
        Ok(self.call()?.model.to_string())
    }

    fn is_stream(&mut self, _: Handle) -> Result<bool> {
        Ok(self.call()?.facts.is_stream)
    }

    fn attempt(&mut self, _: Handle) -> Result<u32> {
        Ok(self.call()?.attempt)
    }

    fn upstream(&mut self, _: Handle) -> Result<Option<String>> {
        Ok(self.call()?.upstream.as_deref().map(str::to_owned))
    }

    fn header(&mut self, _: Handle, name: String) -> Result<Option<String>> {
        Ok(self.call()?.header(&name))
    }

    fn headers(&mut self, _: Handle) -> Result<Vec<(String, String)>> {
        Ok(self.call()?.visible_headers())
    }

    fn set_header(&mut self, _: Handle, name: String, value: String) -> Result<Result<(), String>> {
        Ok(self.call()?.set_header(&name, &value))
    }

    fn remove_header(&mut self, _: Handle, name: String) -> Result<Result<(), String>> {
        Ok(self.call()?.remove_header(&name))
    }

    fn body(&mut self, _: Handle) -> Result<Vec<u8>> {
        Ok(self.call()?.document.as_ref().map(|document| document.bytes().to_vec()).unwrap_or_default())
    }

    fn body_len(&mut self, _: Handle) -> Result<u64> {
        Ok(self.call()?.document.as_ref().map_or(0, |document| document.bytes().len() as u64))
    }

    fn replace_body(&mut self, _: Handle, json: Vec<u8>) -> Result<Result<(), String>> {
        let call = self.call()?;
        Ok(std::str::from_utf8(&json)
            .map_err(|error| format!("byte {} of the body is not UTF-8", error.valid_up_to()))
            .and_then(|json| call.edit_document()?.set("", json)))
    }

    fn get(&mut self, _: Handle, pointer: String) -> Result<Option<String>> {
        Ok(self.call()?.value(&pointer))
    }

    fn get_many(&mut self, _: Handle, pointers: Vec<String>) -> Result<Vec<Option<String>>> {
        let call = self.call()?;
        Ok(pointers.iter().map(|pointer| call.value(pointer)).collect())
    }

    fn set(&mut self, _: Handle, pointer: String, json: String) -> Result<Result<(), String>> {
        Ok(self.call()?.edit_document().and_then(|document| document.set(&pointer, &json)))
    }

    fn remove(&mut self, _: Handle, pointer: String) -> Result<Result<bool, String>> {
        Ok(self.call()?.edit_document().and_then(|document| document.remove(&pointer)))
    }

    fn attr(&mut self, _: Handle, key: String) -> Result<Option<Vec<u8>>> {
        Ok(self.call()?.attrs.get(&key))
    }

    fn set_attr(&mut self, _: Handle, key: String, value: Vec<u8>) -> Result<()> {
        self.call()?.attrs.set(key, value);
        Ok(())
    }

    fn tag(&mut self, _: Handle, key: String, value: String) -> Result<()> {
        self.call()?.tags.set(key, value);
        Ok(())
    }

    fn messages(&mut self, _: Handle) -> Result<Vec<Message>> {
        let call = self.call()?;
        let Some((endpoint, document)) =
            call.endpoint.zip(call.document.as_ref()).filter(|_| call.has_messages)
        else {
            return Ok(Vec::new());
        };
        let turns = messages::messages(endpoint, document);
        Ok((0..)
            .zip(turns)
            .map(|(index, turn)| Message { index, role: turn.role, text: turn.text })
            .collect())
    }

    fn set_message(&mut self, _: Handle, index: u32, text: String) -> Result<Result<(), String>> {
        Ok(self.call()?.edit_messages(|endpoint, document| {
            messages::set_message(endpoint, document, index as usize, &text)
        }))
    }

    fn insert_message(
        &mut self,
        _: Handle,
        index: u32,
        role: String,
        text: String,
    ) -> Result<Result<(), String>> {
        Ok(self.call()?.edit_messages(|endpoint, document| {
            messages::insert_message(endpoint, document, index as usize, &role, &text)
        }))
    }

    fn remove_message(&mut self, _: Handle, index: u32) -> Result<Result<(), String>> {
        Ok(self
            .call()?
            .edit_messages(|endpoint, document| messages::remove_message(endpoint, document, index as usize)))
    }

    fn usage(&mut self, _: Handle) -> Result<Option<Usage>> {
        Ok(self.call()?.usage.map(Usage::from))
    }

    fn elapsed_us(&mut self, _: Handle) -> Result<u64> {
        Ok(u64::try_from(self.call()?.facts.started.elapsed().as_micros()).unwrap_or(u64::MAX))
    }

    fn drop(&mut self, _: Handle) -> Result<()> {
        Ok(())
    }
}

impl From<crate::chat::Usage> for Usage {
    fn from(usage: crate::chat::Usage) -> Self {
        Self {
            prompt_tokens: usage.input,
            completion_tokens: usage.output,
            reasoning_tokens: usage.reasoning,
            cached_prompt_tokens: usage.cached,
        }
    }
}

impl log::Host for State {
    fn max_level(&mut self) -> Result<log::Level> {
        Ok(match Log::max_level() {
            logs::Level::Trace => log::Level::Trace,
            logs::Level::Debug => log::Level::Debug,
            logs::Level::Info => log::Level::Info,
            logs::Level::Warn => log::Level::Warn,
            logs::Level::Error => log::Level::Error,
        })
    }

    fn write(&mut self, level: log::Level, message: String, fields: Vec<(String, String)>) -> Result<()> {
        let level = match level {
            log::Level::Trace => logs::Level::Trace,
            log::Level::Debug => logs::Level::Debug,
            log::Level::Info => logs::Level::Info,
            log::Level::Warn => logs::Level::Warn,
            log::Level::Error => logs::Level::Error,
        };
        self.grants.log.write(level, &message, &fields, Instant::now());
        Ok(())
    }
}

impl metrics::Host for State {
    fn declare(
        &mut self,
        name: String,
        kind: metrics::Kind,
        labels: Vec<String>,
    ) -> Result<Result<u32, String>> {
        let kind = match kind {
            metrics::Kind::Counter => Kind::Counter,
            metrics::Kind::Gauge => Kind::Gauge,
            metrics::Kind::Histogram => Kind::Histogram,
        };
        Ok(self.grants.metrics.declare(&name, kind, &labels))
    }

    fn record_value(&mut self, id: u32, value: f64, label_values: Vec<String>) -> Result<()> {
        self.grants.metrics.record(id, value, label_values);
        Ok(())
    }
}

impl From<crate::plugin::kv::Error> for kv::Error {
    fn from(error: crate::plugin::kv::Error) -> Self {
        match error {
            crate::plugin::kv::Error::TooLarge { .. } => Self::TooLarge,
            crate::plugin::kv::Error::Unavailable => Self::Unavailable(error.to_string()),
            crate::plugin::kv::Error::NotANumber => Self::Other(error.to_string()),
        }
    }
}

// Asynchronous, because a store shared by several gateways has to be waited for.
impl kv::Host for State {
    async fn get(&mut self, key: String) -> Result<Result<Option<Vec<u8>>, kv::Error>> {
        Ok(self.grants.kv.get(&key).await.map_err(kv::Error::from))
    }

    async fn set(
        &mut self,
        key: String,
        value: Vec<u8>,
        ttl_ms: Option<u64>,
    ) -> Result<Result<(), kv::Error>> {
        let ttl = ttl_ms.map(Duration::from_millis);
        Ok(self.grants.kv.set(&key, value, ttl).await.map_err(kv::Error::from))
    }

    async fn delete(&mut self, key: String) -> Result<Result<(), kv::Error>> {
        Ok(self.grants.kv.delete(&key).await.map_err(kv::Error::from))
    }

    async fn add(&mut self, key: String, delta: i64, ttl_ms: Option<u64>) -> Result<Result<i64, kv::Error>> {
        let ttl = ttl_ms.map(Duration::from_millis);
        Ok(self.grants.kv.add(&key, delta, ttl).await.map_err(kv::Error::from))
    }

    async fn compare_and_set(
        &mut self,
        key: String,
        expected: Option<Vec<u8>>,
        value: Vec<u8>,
    ) -> Result<Result<bool, kv::Error>> {
        Ok(self.grants.kv.compare_and_set(&key, expected.as_deref(), value).await.map_err(kv::Error::from))
    }
}

impl secrets::Host for State {
    fn get(&mut self, name: String) -> Result<Option<String>> {
        let found = self.grants.secrets.iter().find(|(known, _)| *known == name);
        Ok(found.map(|(_, secret)| secret.expose().to_owned()))
    }
}
