//! Numbers for Prometheus.
//!
//! What always holds: labels are route templates, methods and statuses; never a tenant, an id or a
//! path, so that their number is bounded and they tell nothing about customers.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use http::{Method, StatusCode};
use keystead_broker::{Broker, Readiness, RenewalCounters};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    route: &'static str,
    method: &'static str,
    status: u16,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RouteLabels {
    route: &'static str,
}

/// What this crate counts.
pub(crate) struct Metrics {
    registry: Registry,
    requests: Family<RequestLabels, Counter>,
    seconds: Family<RouteLabels, Histogram, fn() -> Histogram>,
    pub(crate) connections: Gauge<i64, AtomicI64>,
    pub(crate) refused_connections: Counter<u64, AtomicU64>,
    pub(crate) panics: Counter<u64, AtomicU64>,
}

/// From half a millisecond, where a warm `reveal` is, to the slow calls of providers.
const SECONDS: [f64; 13] = [
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 2.5, 10.0, 60.0,
];

impl Metrics {
    pub(crate) fn new() -> Metrics {
        let mut registry = Registry::with_prefix("keystead");
        let requests = Family::default();
        let seconds: Family<RouteLabels, Histogram, fn() -> Histogram> =
            Family::new_with_constructor(|| Histogram::new(SECONDS));
        let connections = Gauge::default();
        let refused_connections = Counter::default();
        let panics = Counter::default();
        registry.register("http_requests", "Requests answered", requests.clone());
        registry.register(
            "http_request_seconds",
            "From a request's head to its answer's head",
            seconds.clone(),
        );
        registry.register(
            "http_connections",
            "Connections that are open",
            connections.clone(),
        );
        registry.register(
            "http_refused_connections",
            "Connections above the limit",
            refused_connections.clone(),
        );
        registry.register(
            "http_panics",
            "Requests that ended in a panic",
            panics.clone(),
        );
        Metrics {
            registry,
            requests,
            seconds,
            connections,
            refused_connections,
            panics,
        }
    }

    pub(crate) fn answered(
        &self,
        route: &'static str,
        method: &Method,
        status: StatusCode,
        took: Duration,
    ) {
        let labels = RequestLabels {
            route,
            method: method_word(method),
            status: status.as_u16(),
        };
        self.requests.get_or_create(&labels).inc();
        self.seconds
            .get_or_create(&RouteLabels { route })
            .observe(took.as_secs_f64());
    }

    /// Everything, in OpenMetrics text.
    pub(crate) fn text(&self, broker: &Broker, ready: &Readiness) -> String {
        let mut text = String::with_capacity(8 * 1024);
        // Writing into a string does not fail.
        let _ = encode(&mut text, &self.registry);
        if let Some(cut) = text.rfind("# EOF") {
            text.truncate(cut);
        }
        let counters = broker.counters();
        let numbers = [
            (
                "audit_entries",
                "Entries given to the audit log",
                counters.entries.load(Relaxed),
            ),
            (
                "integration_cache_hits",
                "Integrations found in the cache",
                counters.cache_hits.load(Relaxed),
            ),
            (
                "integration_cache_misses",
                "Integrations read from the store",
                counters.cache_misses.load(Relaxed),
            ),
            ("kms_calls", "Calls to the KMS", broker.kms_calls()),
            (
                "limited_requests",
                "Requests refused by a limit",
                counters.limited.load(Relaxed),
            ),
            (
                "redacted_answers",
                "Answers out of which an echoed credential was taken",
                counters.redacted.load(Relaxed),
            ),
        ];
        for (name, help, value) in numbers {
            text.push_str(&format!("# HELP keystead_{name} {help}.\n# TYPE keystead_{name} counter\nkeystead_{name}_total {value}\n"));
        }
        renewals(&mut text, broker.renewal_counters());
        text.push_str("# HELP keystead_ready Whether what is needed is up, by part.\n# TYPE keystead_ready gauge\n");
        for (part, state) in &ready.parts {
            let up = u8::from(state.is_ok());
            text.push_str(&format!("keystead_ready{{part=\"{part}\"}} {up}\n"));
        }
        text.push_str("# EOF\n");
        text
    }
}

/// How renewals of granted tokens fared.
fn renewals(text: &mut String, counters: &RenewalCounters) {
    text.push_str("# HELP keystead_renewals Renewals of granted tokens, by outcome.\n# TYPE keystead_renewals counter\n");
    let outcomes = [
        ("renewed", &counters.renewed),
        ("reauthorize", &counters.reauthorize),
        ("client", &counters.client),
        ("rate", &counters.rate),
        ("down", &counters.down),
        ("unclear", &counters.unclear),
        ("overtaken", &counters.overtaken),
    ];
    for (outcome, counter) in outcomes {
        let value = counter.load(Relaxed);
        text.push_str(&format!(
            "keystead_renewals_total{{outcome=\"{outcome}\"}} {value}\n"
        ));
    }
    let calls = counters.calls.load(Relaxed);
    text.push_str(&format!("# HELP keystead_token_endpoint_calls Calls to token endpoints.\n# TYPE keystead_token_endpoint_calls counter\nkeystead_token_endpoint_calls_total {calls}\n"));
    let exposed = counters.exposed_micros.load(Relaxed);
    text.push_str(&format!("# HELP keystead_renewed_tokens_unstored_microseconds For how long renewed tokens were in memory alone.\n# TYPE keystead_renewed_tokens_unstored_microseconds counter\nkeystead_renewed_tokens_unstored_microseconds_total {exposed}\n"));
}

/// A method as a label; what is not a standard method is one label, whatever it says.
pub(crate) fn method_word(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        Method::OPTIONS => "OPTIONS",
        _ => "OTHER",
    }
}
