//! The text that `/metrics` answers: the Prometheus text format, by a crate
//! that knows it. Names follow its conventions: base units, `_total`.

use std::fmt;
use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{
    DescriptorEncoder, EncodeGaugeValue, MetricEncoder, NoLabelSet, prometheus_text,
};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::exemplar::Exemplar;
use prometheus_client::registry::Registry;

use super::histogram::Recorded;
use super::{Histogram, Metrics, Route};

/// Never given: no sample of ours has one.
const NO_EXEMPLAR: Option<&Exemplar<NoLabelSet, u64>> = None;

/// What is looked up when somebody asks.
#[derive(Debug)]
pub struct Gauges {
    /// The version of the program.
    pub version: &'static str,
    /// When it was started, in seconds since 1970.
    pub started_at: i64,
    /// Passwords that wait to be checked, and to be hashed for new accounts.
    pub hashing_queues: [(&'static str, usize); 2],
    /// Clients that the quota remembers.
    pub quota_clients: usize,
    /// Calls that the quota has refused so far.
    pub quota_refusals: u64,
    /// The keys in memory, one entry a state.
    pub keys: Vec<KeysInState>,
    /// Seconds until the next key is due; negative when it is overdue.
    pub next_key_in: Option<i64>,
    /// Ticks of the rotation that have failed so far.
    pub rotation_failures: u64,
    /// Whether the latest has.
    pub rotation_fails: bool,
}

/// The keys in one state.
#[derive(Debug)]
pub struct KeysInState {
    /// Its name.
    pub state: &'static str,
    /// How many.
    pub number: usize,
    /// Seconds until the first of them leaves it; none where it is not known.
    pub next_change_in: Option<i64>,
}

/// All metrics as text, and its content type.
pub fn page(metrics: &Arc<Metrics>, gauges: Gauges) -> (&'static str, String) {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Page {
        metrics: Arc::clone(metrics),
        gauges,
    }));
    let mut text = String::new();
    // Writing to a string does not fail.
    let _ = prometheus_text::encode(&mut text, &registry);
    (prometheus_text::CONTENT_TYPE, text)
}

#[derive(Debug)]
struct Page {
    metrics: Arc<Metrics>,
    gauges: Gauges,
}

impl Collector for Page {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut page = Writer(encoder);
        self.process(&mut page)?;
        self.http(&mut page)?;
        self.sign_ins(&mut page)?;
        self.keys(&mut page)?;
        self.commits(&mut page)
    }
}

impl Page {
    fn process(&self, page: &mut Writer<'_>) -> fmt::Result {
        page.family("jwks_build", "What is running.", MetricType::Info)?
            .encode_info(&[("version", self.gauges.version)])?;
        page.gauge(
            "process_start_time_seconds",
            "When the process was started, in seconds since 1970.",
            &self.gauges.started_at,
        )
    }

    fn http(&self, page: &mut Writer<'_>) -> fmt::Result {
        let http = &self.metrics.http;
        let mut family = page.family(
            "jwks_http_requests",
            "Requests that were answered.",
            MetricType::Counter,
        )?;
        for (route, method, status, number) in http.answers() {
            let code = match status {
                0 => "other".to_owned(),
                status => status.to_string(),
            };
            let labels = [("route", route.name()), ("method", method), ("code", &code)];
            family
                .encode_family(&labels)?
                .encode_counter(&number, NO_EXEMPLAR)?;
        }
        let mut family = page.family(
            "jwks_http_request_duration_seconds",
            "From the head of a request to the head of its answer.",
            MetricType::Histogram,
        )?;
        for route in Route::ALL {
            let took = http.took(route);
            if took.count > 0 {
                let labels = [("route", route.name())];
                write(&mut family.encode_family(&labels)?, &took)?;
            }
        }
        page.counters(
            "jwks_http_requests_abandoned",
            "Requests whose client went away before the answer.",
            "route",
            Route::ALL.map(|route| (route.name(), http.abandoned_of(route))),
        )
    }

    fn sign_ins(&self, page: &mut Writer<'_>) -> fmt::Result {
        page.counters(
            "jwks_sign_ins",
            "Calls of /auth that the quota let in, by what became of them.",
            "outcome",
            self.metrics.sign_ins.each(),
        )?;
        page.counter(
            "jwks_quota_refusals",
            "Calls of /auth that the quota has refused.",
            self.gauges.quota_refusals,
        )?;
        page.gauge(
            "jwks_quota_clients",
            "Clients that the quota remembers.",
            &self.gauges.quota_clients,
        )?;
        page.gauges(
            "jwks_hashing_queue_length",
            "Passwords that wait for a hashing thread.",
            "lane",
            self.gauges.hashing_queues,
        )
    }

    fn keys(&self, page: &mut Writer<'_>) -> fmt::Result {
        let keys = &self.gauges.keys;
        page.gauges(
            "jwks_keys",
            "Keys in memory: all that are published, and the latest that are not.",
            "state",
            keys.iter().map(|keys| (keys.state, keys.number)),
        )?;
        page.gauges(
            "jwks_keys_next_change_seconds",
            "Until the first key of the state leaves it; negative when that is overdue.",
            "state",
            keys.iter()
                .filter_map(|keys| Some((keys.state, keys.next_change_in?))),
        )?;
        if let Some(seconds) = &self.gauges.next_key_in {
            page.gauge(
                "jwks_next_key_seconds",
                "Until the next key is made; negative when that is overdue.",
                seconds,
            )?;
        }
        page.counter(
            "jwks_rotation_failures",
            "Looks after the keys that have failed.",
            self.gauges.rotation_failures,
        )?;
        page.gauge(
            "jwks_rotation_failing",
            "1 when the latest look after the keys has failed.",
            &u32::from(self.gauges.rotation_fails),
        )
    }

    fn commits(&self, page: &mut Writer<'_>) -> fmt::Result {
        let commits = &self.metrics.commits;
        let read =
            |count: &std::sync::atomic::AtomicU64| count.load(std::sync::atomic::Ordering::Relaxed);
        page.counters(
            "jwks_commits",
            "Transactions that write to the database.",
            "outcome",
            [
                ("committed", read(&commits.committed)),
                ("failed", read(&commits.failed)),
            ],
        )?;
        page.histogram(
            "jwks_commit_writes",
            "Writes that were put into one transaction.",
            &commits.writes,
        )?;
        page.histogram(
            "jwks_commit_duration_seconds",
            "From the begin of a transaction to its end on disk.",
            &commits.took,
        )
    }
}

/// Writes families one after the other.
struct Writer<'a>(DescriptorEncoder<'a>);

impl Writer<'_> {
    fn family<'s>(
        &'s mut self,
        name: &'s str,
        help: &str,
        kind: MetricType,
    ) -> Result<MetricEncoder<'s>, fmt::Error> {
        self.0.encode_descriptor(name, help, None, kind)
    }

    fn counter(&mut self, name: &str, help: &str, number: u64) -> fmt::Result {
        self.family(name, help, MetricType::Counter)?
            .encode_counter(&number, NO_EXEMPLAR)
    }

    fn counters<'v>(
        &mut self,
        name: &str,
        help: &str,
        label: &'static str,
        values: impl IntoIterator<Item = (&'v str, u64)>,
    ) -> fmt::Result {
        let mut family = self.family(name, help, MetricType::Counter)?;
        for (value, number) in values {
            family
                .encode_family(&[(label, value)])?
                .encode_counter(&number, NO_EXEMPLAR)?;
        }
        Ok(())
    }

    fn gauge(&mut self, name: &str, help: &str, value: &impl EncodeGaugeValue) -> fmt::Result {
        self.family(name, help, MetricType::Gauge)?
            .encode_gauge(value)
    }

    fn gauges<'v, G: EncodeGaugeValue>(
        &mut self,
        name: &str,
        help: &str,
        label: &'static str,
        values: impl IntoIterator<Item = (&'v str, G)>,
    ) -> fmt::Result {
        let mut family = self.family(name, help, MetricType::Gauge)?;
        for (value, number) in values {
            family
                .encode_family(&[(label, value)])?
                .encode_gauge(&number)?;
        }
        Ok(())
    }

    fn histogram(&mut self, name: &str, help: &str, histogram: &Histogram) -> fmt::Result {
        let mut recorded = Recorded::default();
        histogram.add_to(&mut recorded);
        write(
            &mut self.family(name, help, MetricType::Histogram)?,
            &recorded,
        )
    }
}

fn write(encoder: &mut MetricEncoder<'_>, recorded: &Recorded) -> fmt::Result {
    encoder.encode_histogram::<NoLabelSet>(recorded.sum, recorded.count, &recorded.buckets, None)
}
