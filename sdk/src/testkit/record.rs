//! Values that the host hands to hooks, with everything a test does not care for filled in.

use crate::{AuditRecord, Candidate, Failure, Finish};

/// Makes a healthy candidate of weight 1.
pub fn candidate(id: &str) -> Candidate {
    Candidate {
        id: id.to_owned(),
        dialect: "openai".to_owned(),
        model: "model".to_owned(),
        weight: 1,
        healthy: true,
        cost_micro_usd_per_mtok: None,
        p50_ttft_ms: None,
    }
}

/// Makes a failure of the first attempt that the gateway would not retry.
pub fn failure(status: u16, code: &str) -> Failure {
    Failure {
        status,
        code: code.to_owned(),
        message: format!("the test says `{code}`"),
        upstream: Some("upstream".to_owned()),
        attempt: 1,
        retryable: false,
    }
}

/// Makes the record of a chat that went well.
pub fn record(id: &str) -> AuditRecord {
    AuditRecord {
        id: id.to_owned(),
        tenant: None,
        operation: "chat.completions".to_owned(),
        model: "model".to_owned(),
        upstream: Some("upstream".to_owned()),
        status: 200,
        finish: Some(Finish::Stop),
        usage: None,
        started_unix_ms: 1_700_000_000_000,
        ttft_us: Some(100_000),
        total_us: 1_000_000,
        tags: Vec::new(),
        request_body: None,
        response_body: None,
    }
}
