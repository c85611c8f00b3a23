//! What a plugin imports, played by the kit: the functions of the contract on values of the test's thread.

use std::cell::RefCell;
use std::collections::BTreeMap;

use super::{LogLine, Metric};
use crate::wit::witgate::plugin::metrics::Kind;

thread_local! {
    static WORLD: RefCell<World> = RefCell::default();
}

/// The host's side, one for each thread of tests.
#[derive(Default)]
pub(super) struct World {
    pub(super) lines: Vec<LogLine>,
    pub(super) metrics: Vec<Metric>,
    pub(super) secrets: BTreeMap<String, String>,
    pub(super) values: BTreeMap<String, Entry>,
    /// How many bytes keys and values may have; `None`: as many as they like.
    pub(super) kv_bytes_max: Option<usize>,
    pub(super) now_ms: u64,
    #[cfg(feature = "http")]
    pub(super) server: Option<Server>,
    #[cfg(feature = "http")]
    pub(super) requests: Vec<crate::http::Request>,
}

/// What answers requests to other servers.
#[cfg(feature = "http")]
pub(super) type Server =
    std::rc::Rc<dyn Fn(&crate::http::Request) -> Result<crate::http::Response, crate::http::Error>>;

/// A value of `kv`.
pub(super) struct Entry {
    pub(super) value: Vec<u8>,
    pub(super) ends_ms: Option<u64>,
}

/// Replaces the thread's world.
pub(super) fn set_world(new: World) {
    world(|world| *world = new);
}

/// Uses the thread's world.
pub(super) fn world<R>(use_it: impl FnOnce(&mut World) -> R) -> R {
    WORLD.with(|world| use_it(&mut world.borrow_mut()))
}

/// The contract's `log`.
pub(crate) mod log {
    use super::{LogLine, world};
    use crate::log::Level;

    pub(crate) fn max_level() -> Level {
        Level::Trace
    }

    pub(crate) fn write(level: Level, message: &str, fields: &[(String, String)]) {
        let line = LogLine { level, message: message.to_owned(), fields: fields.to_vec() };
        world(|world| world.lines.push(line));
    }
}

/// The contract's `metrics`.
pub(crate) mod metrics {
    use super::{Kind, Metric, world};

    pub(crate) fn declare(name: &str, kind: Kind, labels: &[String]) -> Result<u32, String> {
        let is_name = |name: &str| {
            !name.starts_with(|first: char| first.is_ascii_digit())
                && !name.is_empty()
                && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        };
        if let Some(wrong) =
            [name].into_iter().chain(labels.iter().map(String::as_str)).find(|name| !is_name(name))
        {
            return Err(format!("`{wrong}` is no name for a metric or a label: use letters, digits and `_`"));
        }
        world(|world| match world.metrics.iter().position(|metric| metric.name == name) {
            Some(id) if world.metrics[id].kind == kind && world.metrics[id].labels == labels => Ok(id as u32),
            Some(_) => Err(format!("metric `{name}` was declared before with another kind or other labels")),
            None => {
                let labels = labels.to_vec();
                world.metrics.push(Metric { name: name.to_owned(), kind, labels, values: Vec::new() });
                Ok(world.metrics.len() as u32 - 1)
            }
        })
    }

    pub(crate) fn record_value(id: u32, value: f64, label_values: &[String]) {
        world(|world| {
            let metric = &mut world.metrics[id as usize];
            assert_eq!(label_values.len(), metric.labels.len(), "labels of metric `{}`", metric.name);
            metric.values.push((label_values.to_vec(), value));
        });
    }
}

/// The contract's `secrets`.
pub(crate) mod secrets {
    pub(crate) fn get(name: &str) -> Option<String> {
        super::world(|world| world.secrets.get(name).cloned())
    }
}

/// The contract's `kv`.
pub(crate) mod kv {
    use super::{Entry, World, world};
    use crate::wit::witgate::plugin::kv::Error;

    pub(crate) fn get(key: &str) -> Result<Option<Vec<u8>>, Error> {
        Ok(world(|world| world.value(key).map(|entry| entry.value.clone())))
    }

    pub(crate) fn set(key: &str, value: &[u8], ttl_ms: Option<u64>) -> Result<(), Error> {
        world(|world| world.set(key, value, ttl_ms))
    }

    pub(crate) fn delete(key: &str) -> Result<(), Error> {
        world(|world| world.values.remove(key));
        Ok(())
    }

    pub(crate) fn add(key: &str, delta: i64, ttl_ms: Option<u64>) -> Result<i64, Error> {
        world(|world| {
            let Some(entry) = world.value(key) else {
                world.set(key, delta.to_string().as_bytes(), ttl_ms)?;
                return Ok(delta);
            };
            let number = std::str::from_utf8(&entry.value).ok().and_then(|text| text.parse::<i64>().ok());
            let number = number.ok_or_else(|| Error::Other(format!("the value of `{key}` is no number")))?;
            let sum = number.saturating_add(delta);
            entry.value = sum.to_string().into_bytes();
            Ok(sum)
        })
    }

    pub(crate) fn compare_and_set(key: &str, expected: Option<&[u8]>, value: &[u8]) -> Result<bool, Error> {
        world(|world| {
            if world.value(key).map(|entry| entry.value.as_slice()) != expected {
                return Ok(false);
            }
            world.set(key, value, None)?;
            Ok(true)
        })
    }

    impl World {
        fn value(&mut self, key: &str) -> Option<&mut Entry> {
            let now_ms = self.now_ms;
            self.values.retain(|_, entry| entry.ends_ms.is_none_or(|ends| ends > now_ms));
            self.values.get_mut(key)
        }

        fn set(&mut self, key: &str, value: &[u8], ttl_ms: Option<u64>) -> Result<(), Error> {
            let others = self.values.iter().filter(|(other, _)| *other != key);
            let bytes: usize = others.map(|(key, entry)| key.len() + entry.value.len()).sum();
            match self.kv_bytes_max {
                Some(0) => return Err(Error::Denied),
                Some(max) if bytes + key.len() + value.len() > max => return Err(Error::TooLarge),
                _ => {}
            }
            let ends_ms = ttl_ms.map(|ttl| self.now_ms.saturating_add(ttl));
            self.values.insert(key.to_owned(), Entry { value: value.to_owned(), ends_ms });
            Ok(())
        }
    }
}

/// `wasi:http`.
#[cfg(feature = "http")]
pub(crate) mod http {
    use super::world;
    use crate::http::{Error, Request, Response, Target};

    pub(crate) fn send(request: &Request, _: &Target<'_>) -> Result<Response, Error> {
        // The server may look at the kit, so the world must not be borrowed while it answers.
        let server = world(|world| {
            world.requests.push(request.clone());
            world.server.clone()
        });
        server.map_or(Err(Error::Denied), |server| server(request))
    }
}
