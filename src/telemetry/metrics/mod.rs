//! Metrics for Prometheus: what there is ([`catalogue`]), and how it is written.
//!
//! The daemon fills a [`Page`] with values at the moment when somebody asks; nothing is kept here. A page takes only
//! metrics that the catalogue declares, with the labels declared there. prometheus-client writes it.

pub mod catalogue;
#[cfg(test)]
mod reference;

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::{Registry, Unit};

use super::latency::{BOUNDS, Durations};

/// A family of numbers under one name.
#[derive(Debug)]
pub struct Metric {
    /// As it is scraped: with `_total` where it only grows, and with its unit.
    pub name: &'static str,
    /// What sort of number it is.
    pub kind: Kind,
    /// What it says, for people; one line without backslashes.
    pub help: &'static str,
    /// What tells its numbers apart.
    pub labels: &'static [Label],
}

/// What sort of number a metric is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Grows, and begins anew with the process.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Durations, by bucket.
    Histogram,
}

/// What tells the numbers of a metric apart.
#[derive(Debug)]
pub struct Label {
    /// Its name.
    pub name: &'static str,
    /// What it may be.
    pub values: Values,
}

/// What a label may be. Never an address of mail.
#[derive(Debug)]
pub enum Values {
    /// One of these.
    Closed(&'static [&'static str]),
    /// What an operator wrote into the configuration, or becalm's version: as many as that names.
    Configured(&'static str),
}

/// How metrics are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exposition {
    /// Prometheus' text format 0.0.4: what everything understands.
    Prometheus,
    /// OpenMetrics 1.0.
    OpenMetrics,
}

impl Exposition {
    /// What a client that sends this `Accept` would like: OpenMetrics where it is named first, as Prometheus does
    /// when it wants it.
    pub fn wanted(accept: &str) -> Self {
        let named = |what| accept.find(what).unwrap_or(usize::MAX);
        if named("application/openmetrics-text") < named("text/plain") {
            Self::OpenMetrics
        } else {
            Self::Prometheus
        }
    }

    /// The type of what is written, for HTTP.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

impl Metric {
    /// Its name without `_total`, as OpenMetrics declares it, and of that what stands before the unit.
    fn parts(&self) -> (&'static str, Option<Unit>) {
        let base = match self.kind {
            Kind::Counter => self.name.strip_suffix("_total").unwrap_or(self.name),
            Kind::Gauge | Kind::Histogram => self.name,
        };
        let with = |unit: &'static str, is| base.strip_suffix(unit).map(|stem| (stem, Some(is)));
        with("_seconds", Unit::Seconds).or_else(|| with("_bytes", Unit::Bytes)).unwrap_or((base, None))
    }
}

/// Metrics at one moment.
#[derive(Debug, Default)]
pub struct Page(Vec<Family>);

#[derive(Debug)]
struct Family {
    metric: &'static Metric,
    samples: Vec<Sample>,
}

#[derive(Debug)]
struct Sample {
    labels: Vec<(&'static str, String)>,
    value: Value,
}

#[derive(Debug)]
enum Value {
    Whole(u64),
    Real(f64),
    Histogram(Durations),
}

impl Page {
    /// A metric without labels.
    pub fn whole(&mut self, metric: &'static Metric, value: u64) {
        self.add(metric, &[], Value::Whole(value));
    }

    /// The same that is no whole number: seconds.
    pub fn real(&mut self, metric: &'static Metric, value: f64) {
        self.add(metric, &[], Value::Real(value));
    }

    /// 1 or 0.
    pub fn flag(&mut self, metric: &'static Metric, is: bool) {
        self.whole(metric, u64::from(is));
    }

    /// A number of a metric with labels; `labels` in the order in which they are declared.
    pub fn labelled(&mut self, metric: &'static Metric, labels: &[&str], value: u64) {
        self.add(metric, labels, Value::Whole(value));
    }

    /// Durations.
    pub fn durations(&mut self, metric: &'static Metric, durations: Durations) {
        self.add(metric, &[], Value::Histogram(durations));
    }

    /// The whole page.
    pub fn text(self, exposition: Exposition) -> String {
        let counters: Vec<&Metric> =
            self.0.iter().map(|family| family.metric).filter(|metric| metric.kind == Kind::Counter).collect();
        let mut registry = Registry::default();
        registry.register_collector(Box::new(self));
        let mut text = String::new();
        text::encode(&mut text, &registry).expect("a String takes everything that is written to it");
        match exposition {
            Exposition::OpenMetrics => text,
            Exposition::Prometheus => to_prometheus(&text, &counters),
        }
    }

    fn add(&mut self, metric: &'static Metric, labels: &[&str], value: Value) {
        debug_assert_eq!(labels.len(), metric.labels.len(), "the labels of {}", metric.name);
        let labels = metric.labels.iter().zip(labels).map(|(label, is)| {
            if let Values::Closed(values) = label.values {
                debug_assert!(values.contains(is), "{}: {} is none of {values:?}", metric.name, is);
            }
            (label.name, (*is).to_owned())
        });
        let sample = Sample { labels: labels.collect(), value };
        match self.0.iter_mut().find(|family| std::ptr::eq(family.metric, metric)) {
            Some(family) => family.samples.push(sample),
            None => self.0.push(Family { metric, samples: vec![sample] }),
        }
    }
}

impl Collector for Page {
    fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
        for Family { metric, samples } in &self.0 {
            let (name, unit) = metric.parts();
            let kind = match metric.kind {
                Kind::Counter => MetricType::Counter,
                Kind::Gauge => MetricType::Gauge,
                Kind::Histogram => MetricType::Histogram,
            };
            let mut family = encoder.encode_descriptor(name, metric.help, unit.as_ref(), kind)?;
            for sample in samples {
                if sample.labels.is_empty() {
                    sample.value.encode(metric.kind, &mut family)?;
                } else {
                    let labels = sample.labels.as_slice();
                    sample.value.encode(metric.kind, &mut family.encode_family(&labels)?)?;
                }
            }
        }
        Ok(())
    }
}

impl Value {
    fn encode(&self, kind: Kind, to: &mut MetricEncoder<'_>) -> fmt::Result {
        match (self, kind) {
            (Self::Whole(value), Kind::Counter) => to.encode_counter::<NoLabelSet, _, f64>(value, None),
            (Self::Real(value), Kind::Counter) => to.encode_counter::<NoLabelSet, _, f64>(value, None),
            (Self::Whole(value), _) => to.encode_gauge(value),
            (Self::Real(value), _) => to.encode_gauge(value),
            (Self::Histogram(durations), _) => {
                let ends = BOUNDS.iter().map(|nanos| *nanos as f64 / 1e9).chain([f64::INFINITY]);
                let buckets: Vec<(f64, u64)> = ends.zip(durations.counts).collect();
                let count = durations.counts.iter().sum();
                to.encode_histogram::<NoLabelSet>(durations.sum, count, &buckets, None)
            }
        }
    }
}

/// OpenMetrics as Prometheus' older format has it: a counter is declared by its whole name, and neither units nor an
/// end are said.
fn to_prometheus(text: &str, counters: &[&Metric]) -> String {
    let mut out = String::with_capacity(text.len());
    for line in text.lines() {
        let mut words = line.splitn(4, ' ');
        match (words.next(), words.next(), words.next(), words.next()) {
            (Some("#"), Some(what @ ("HELP" | "TYPE")), Some(name), Some(rest)) => {
                let is_counter =
                    counters.iter().any(|metric| metric.name.strip_suffix("_total") == Some(name));
                let suffix = if is_counter { "_total" } else { "" };
                out.push_str(&format!("# {what} {name}{suffix} {rest}"));
            }
            (Some("#"), ..) => continue,
            _ => out.push_str(line),
        }
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    static SPEED: Metric =
        Metric { name: "t_speed_seconds", kind: Kind::Histogram, help: "How fast.", labels: &[] };
    static DONE: Metric = Metric {
        name: "t_done_bytes_total",
        kind: Kind::Counter,
        help: "What was done.",
        labels: &[
            Label { name: "how", values: Values::Closed(&["well", "badly"]) },
            Label { name: "where", values: Values::Configured("A place.") },
        ],
    };
    static AGE: Metric = Metric { name: "t_age_seconds", kind: Kind::Gauge, help: "How old.", labels: &[] };
    static UP: Metric = Metric { name: "t_up", kind: Kind::Gauge, help: "Is it up?", labels: &[] };

    fn page() -> Page {
        let mut page = Page::default();
        page.labelled(&DONE, &["well", "aliases \"a\\b\"\n"], 3);
        page.flag(&UP, true);
        // Families stay together, whoever comes in between.
        page.labelled(&DONE, &["badly", "here"], u64::MAX);
        page.real(&AGE, 0.25);
        let mut durations = Durations { sum: 2.5, ..Durations::default() };
        (durations.counts[0], durations.counts[14]) = (2, 1);
        page.durations(&SPEED, durations);
        page
    }

    #[test]
    fn written_for_prometheus() {
        let text = page().text(Exposition::Prometheus);
        let (head, histogram) = text.split_once("# HELP t_speed_seconds").unwrap();
        assert_eq!(
            head,
            "# HELP t_done_bytes_total What was done.\n\
             # TYPE t_done_bytes_total counter\n\
             t_done_bytes_total{how=\"well\",where=\"aliases \\\"a\\\\b\\\"\\n\"} 3\n\
             t_done_bytes_total{how=\"badly\",where=\"here\"} 18446744073709551615\n\
             # HELP t_up Is it up?\n# TYPE t_up gauge\nt_up 1\n\
             # HELP t_age_seconds How old.\n# TYPE t_age_seconds gauge\nt_age_seconds 0.25\n"
        );
        let lines: Vec<&str> = histogram.lines().skip(1).collect();
        assert_eq!(lines[0], "# TYPE t_speed_seconds histogram");
        assert_eq!(lines.len(), 3 + BOUNDS.len() + 1);
        for line in [
            "t_speed_seconds_sum 2.5",
            "t_speed_seconds_count 3",
            "t_speed_seconds_bucket{le=\"0.000005\"} 2",
            "t_speed_seconds_bucket{le=\"1.0\"} 2",
            "t_speed_seconds_bucket{le=\"+Inf\"} 3",
        ] {
            assert!(lines.contains(&line), "{line}\n{text}");
        }
    }

    #[test]
    fn written_as_openmetrics() {
        let text = page().text(Exposition::OpenMetrics);
        for line in [
            "# TYPE t_done_bytes counter",
            "# UNIT t_done_bytes bytes",
            "t_done_bytes_total{how=\"badly\",where=\"here\"} 18446744073709551615",
            "# UNIT t_age_seconds seconds",
        ] {
            assert!(text.lines().any(|there| there == line), "{line}\n{text}");
        }
        assert!(text.ends_with("# EOF\n"));
    }

    #[test]
    fn a_client_says_what_it_wants() {
        let prometheus = "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,\
                          text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
        assert_eq!(Exposition::wanted(prometheus), Exposition::OpenMetrics);
        for accept in ["", "*/*", "text/html", "text/plain;version=0.0.4, application/openmetrics-text"] {
            assert_eq!(Exposition::wanted(accept), Exposition::Prometheus, "{accept}");
        }
    }

    #[test]
    #[should_panic(expected = "none of")]
    fn a_label_keeps_to_what_is_declared() {
        Page::default().labelled(&DONE, &["so so", "here"], 1);
    }
}
