//! What a file says about the audit, the log, metrics and traces.

use std::path::PathBuf;

use http::HeaderName;

use super::{Reader, duration, flag, integer, size, text, texts, values};
use crate::config::file::Node;
use crate::config::{Audit, Log, LogFormat, LogKeep, OnFull, Otlp, Postgres, Rotation};

impl Reader<'_> {
    pub(super) fn audit(&mut self, node: Option<&Node>, defaults: &Audit) -> Audit {
        let Some(node) = node else { return defaults.clone() };
        for bound in ["queue", "queue_bytes", "body_max"] {
            if let Some(value) = node.get(bound).filter(|_| size(node, bound) == Some(0)) {
                let help = "remove the key for the default, or write `enabled: false` for no audit";
                self.error(value.span, format!("`{bound}` must not be zero"), help);
            }
        }
        if let Some(path) = node.get("path").filter(|_| text(node, "path") == Some("")) {
            self.error(path.span, "`path` is empty", "name a file, or write `enabled: false` for no audit");
        }
        Audit {
            is_enabled: flag(node, "enabled").unwrap_or(defaults.is_enabled),
            path: text(node, "path").map_or_else(|| defaults.path.clone(), PathBuf::from),
            keeps_bodies: text(node, "bodies").map_or(defaults.keeps_bodies, |bodies| bodies == "full"),
            body_max: size(node, "body_max").unwrap_or(defaults.body_max),
            queue: integer(node, "queue").unwrap_or(defaults.queue),
            queue_bytes: size(node, "queue_bytes").unwrap_or(defaults.queue_bytes),
            on_full: match text(node, "on_full") {
                Some("drop") => OnFull::Drop,
                Some("block") => OnFull::Block,
                _ => defaults.on_full,
            },
            rotate: match text(node, "rotate") {
                Some("monthly") => Rotation::Monthly,
                Some("daily") => Rotation::Daily,
                Some("never") => Rotation::Never,
                _ => defaults.rotate,
            },
            retention: duration(node, "retention").unwrap_or(defaults.retention),
            size_max: size(node, "size_max").unwrap_or(defaults.size_max),
            redact: node.get("redact").map_or_else(|| defaults.redact.clone(), |list| self.redact(list)),
            postgres: self.postgres(node),
        }
    }

    /// The database of the audit; an empty text is none.
    fn postgres(&mut self, audit: &Node) -> Option<Postgres> {
        let node = audit.get("postgres")?;
        let url = self.secret_text(node).filter(|url| !url.is_empty())?;
        let parsed = Postgres::parse(&url, &self.folder);
        let place = parsed.map_err(|fault| self.error(node.span, fault.message, fault.help)).ok()?;
        if let Some(ca) = place.ca().filter(|ca| !ca.is_file()) {
            let message = format!("`sslrootcert` of `postgres`: there is no file `{}`", ca.display());
            self.error(node.span, message, "paths are relative to the folder of the configuration file");
        }
        if let Some(bound) =
            audit.get("size_max").filter(|_| size(audit, "size_max").is_some_and(|max| max > 0))
        {
            let help = "remove it, and bound the record with `retention`";
            self.error(bound.span, "`size_max` is not supported together with `postgres`", help);
        }
        Some(place)
    }

    fn redact(&mut self, list: &Node) -> Vec<HeaderName> {
        for item in list.items() {
            let Some(name) = item.scalar().filter(|name| !name.is_unresolved) else { continue };
            if HeaderName::from_bytes(name.text.as_bytes()).is_err() {
                let message = format!("`{}` is not a header's name", name.shown().escape_default());
                self.error(item.span, message, "names are letters, digits and `-`");
            }
        }
        texts(Some(list)).iter().filter_map(|name| HeaderName::from_bytes(name.as_bytes()).ok()).collect()
    }

    pub(super) fn log(&mut self, node: Option<&Node>, defaults: &Log) -> Log {
        let Some(node) = node else { return defaults.clone() };
        let written = |key| match text(node, key) {
            Some("json") => Some(LogFormat::Json),
            Some("text") => Some(LogFormat::Text),
            _ => None,
        };
        let format = written("format").unwrap_or(defaults.format);
        let keep = node.get("keep");
        let days = |kind, default| keep.and_then(|keep| integer(keep, kind)).unwrap_or(default);
        Log {
            format,
            is_access: flag(node, "access").unwrap_or(defaults.is_access),
            access_format: written("access_format").unwrap_or(format),
            dir: text(node, "dir").filter(|dir| !dir.is_empty()).map(PathBuf::from),
            size_max: size(node, "size_max").unwrap_or(defaults.size_max),
            keep: LogKeep {
                info: days("info", defaults.keep.info),
                error: days("error", defaults.keep.error),
                system: days("system", defaults.keep.system),
            },
        }
    }

    pub(super) fn otlp(&mut self, node: &Node) -> Otlp {
        let endpoint =
            node.get("endpoint").filter(|_| text(node, "endpoint").is_some_and(|url| !url.is_empty()));
        Otlp {
            endpoint: endpoint.and_then(|endpoint| {
                let url = endpoint.scalar().filter(|url| !url.is_unresolved)?;
                match values::base_url(&url.text) {
                    Ok(uri) => Some(uri),
                    Err((fault, help)) => {
                        self.error(endpoint.span, format!("`endpoint` {fault}"), help);
                        None
                    }
                }
            }),
            headers: self.headers(node.get("headers")),
            sample: text(node, "sample").and_then(values::percent).map_or(1.0, |percent| percent / 100.0),
        }
    }
}
