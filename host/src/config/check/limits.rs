//! What a file says of limits, tenants and prices.

use std::collections::HashMap;
use std::sync::Arc;

use http::HeaderName;

use super::{Reader, duration, integer, text, values};
use crate::config::file::{Node, Plain, Value};
use crate::config::{Glob, LimitBy, Limits, Price, Quota, Rate, Spend, Tenant, Upstream};

/// Millionths of the unit of money in one.
const MILLIONTHS: f64 = 1e6;
/// The most money a budget or a price may be, in its unit.
const MONEY_MAX: f64 = 1e9;

impl Reader<'_> {
    pub(super) fn limits(&mut self, node: Option<&Node>, defaults: &Limits) -> Limits {
        let Some(node) = node else { return defaults.clone() };
        let timeout = duration(node, "queue_timeout").unwrap_or(defaults.queue_timeout);
        if let Some(value) = node.get("queue_timeout").filter(|_| timeout.is_zero()) {
            let help = "remove the key for 5 s, or write `queue: 0` to let nobody wait";
            self.error(value.span, "`queue_timeout` must not be zero", help);
        }
        Limits {
            each: self.quota(node, &defaults.each),
            total: node.get("total").map(|total| self.quota(total, &Quota::default())).unwrap_or_default(),
            by: node.get("by").map_or_else(|| defaults.by.clone(), |by| self.limit_by(by)),
            queue: integer(node, "queue").unwrap_or(defaults.queue),
            queue_timeout: timeout,
        }
    }

    /// What one block of limits says; a rate of 0 takes a default away.
    pub(super) fn quota(&mut self, node: &Node, defaults: &Quota) -> Quota {
        let mut rate = |name, default: Option<Rate>| {
            let Some(text) = text(node, name) else { return default };
            let (count, window) = values::rate(text)?;
            if count == 0 && !window.is_zero() {
                let span = node.get(name).map_or(node.span, |value| value.span);
                let help = "write `0` for no bound; whom nothing is allowed is better left out of `keys`";
                self.error(span, format!("`{name}` allows nothing"), help);
            }
            (count > 0).then_some(Rate { count, window })
        };
        let (requests, tokens) = (rate("requests", defaults.requests), rate("tokens", defaults.tokens));
        let budget = node.get("budget");
        let mut spend = |period| budget.and_then(|budget| budget.get(period)).map(|node| self.spend(node));
        let (day, month) = (spend("day"), spend("month"));
        Quota {
            requests,
            tokens,
            in_flight: integer(node, "in_flight").unwrap_or(defaults.in_flight),
            day: day.unwrap_or(defaults.day),
            month: month.unwrap_or(defaults.month),
        }
    }

    fn spend(&mut self, node: &Node) -> Spend {
        let money = |amount: f64| (amount * MILLIONTHS).round() as u64;
        Spend {
            tokens: integer(node, "tokens").filter(|tokens: &u64| *tokens > 0),
            money: self.money(node, "money").map(money).filter(|money| *money > 0),
        }
    }

    /// An amount of money in its unit.
    fn money(&mut self, node: &Node, name: &str) -> Option<f64> {
        let amount = match node.get(name)?.scalar()?.plain() {
            Plain::Integer(amount) => amount as f64,
            Plain::Float(amount) => amount,
            Plain::Null | Plain::Bool(_) | Plain::Text => return None,
        };
        (0.0..=MONEY_MAX).contains(&amount).then_some(amount)
    }

    fn limit_by(&mut self, node: &Node) -> LimitBy {
        let Some(word) = node.scalar().filter(|word| !word.is_unresolved) else { return LimitBy::Key };
        let header = word.text.strip_prefix("header:").map(|name| HeaderName::from_bytes(name.as_bytes()));
        match (&*word.text, header) {
            ("key", _) => LimitBy::Key,
            ("tenant", _) => LimitBy::Tenant,
            ("ip", _) => LimitBy::Ip,
            (_, Some(Ok(name))) => LimitBy::Header(name),
            _ => {
                let message =
                    format!("`by` must be `key`, `tenant`, `ip` or `header:NAME`, not `{}`", word.shown());
                self.error(node.span, message, "write for example `header:user`");
                LimitBy::Key
            }
        }
    }

    pub(super) fn tenants(&mut self, node: Option<&Node>, upstreams: &[Upstream]) -> Vec<Tenant> {
        let Some(Value::List(nodes)) = node.map(|node| &node.value) else { return Vec::new() };
        let known = upstreams.iter().map(|upstream| &*upstream.name).collect();
        let mut lines = HashMap::new();
        let mut tenants = Vec::new();
        for node in nodes {
            let Some(name) = text(node, "name") else { continue };
            let span = node.get("name").map_or(node.span, |name| name.span);
            if name.is_empty() {
                self.error(span, "`name` is empty", "write the name that keys have in `tenant`");
            } else if let Some(line) = lines.insert(name.to_owned(), span.line) {
                let help = format!("the first is on line {line}; keep one of them");
                self.error(span, format!("the tenant `{name}` is defined twice"), &help);
            }
            let quota = node.get("limits").map(|limits| self.quota(limits, &Quota::default()));
            let upstreams = self.upstream_names(node.get("upstreams"), &known);
            tenants.push(Tenant { name: Arc::from(name), upstreams, quota: quota.unwrap_or_default() });
        }
        tenants
    }

    /// The prices, in the order of the file: the first that fits a model holds.
    pub(super) fn prices(&mut self, node: Option<&Node>) -> Vec<Price> {
        let entries = node.map(Node::entries).unwrap_or_default();
        entries
            .iter()
            .map(|(key, node)| {
                // A thousandth of the price for a million tokens is what one costs, in millionths.
                let mut token = |name| self.money(node, name).map(|price| (price * 1e3).round() as u64);
                let (input, output) = (token("input").unwrap_or(0), token("output").unwrap_or(0));
                Price {
                    models: Glob::new(&key.text),
                    input,
                    cached: token("cached").unwrap_or(input),
                    output,
                    reasoning: token("reasoning").unwrap_or(output),
                }
            })
            .collect()
    }
}
