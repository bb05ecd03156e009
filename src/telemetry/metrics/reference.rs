//! The reference page `docs/metrics.md`, made from the catalogue.

use std::fmt::Write as _;
use std::path::Path;

use super::catalogue::ALL;
use super::{Kind, Values};
use crate::telemetry::latency::BOUNDS;

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/metrics.md");

const HEAD: &str = "\
# becalm's metrics

`GET /metrics` on the admin socket, and on the loopback address of `[admin.http]` where one is configured: Prometheus'
text format, or OpenMetrics for who asks for it. Counters begin at 0 with each process, after a takeover too. No label
ever holds an address of mail; the sets of values are closed but for paths that an operator has configured.

Alert rules that use these names are in `packaging/prometheus/becalm.rules.yml`, a board in
`packaging/grafana/becalm.json`.

<!-- Made from src/telemetry/metrics/catalogue.rs. To make it anew: BECALM_WRITE=1 cargo test --lib metrics::reference -->
";

fn page() -> String {
    let mut page = HEAD.to_owned();
    page.push_str("\n| metric | type | what it says |\n|---|---|---|\n");
    for metric in ALL {
        let kind = match metric.kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        let labels: Vec<&str> = metric.labels.iter().map(|label| label.name).collect();
        let labels = if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
        writeln!(page, "| `{}{labels}` | {kind} | {} |", metric.name, metric.help).unwrap();
    }
    page.push_str("\n## Labels\n\n| label | values |\n|---|---|\n");
    let mut seen = Vec::new();
    for label in ALL.iter().flat_map(|metric| metric.labels) {
        if seen.contains(&label.name) {
            continue;
        }
        seen.push(label.name);
        let values = match label.values {
            Values::Closed(values) => {
                values.iter().map(|value| format!("`{value}`")).collect::<Vec<_>>().join(", ")
            }
            Values::Configured(what) => what.to_owned(),
        };
        writeln!(page, "| `{}` | {values} |", label.name).unwrap();
    }
    let bounds: Vec<String> = BOUNDS.iter().map(|nanos| format!("{}", *nanos as f64 / 1e9)).collect();
    writeln!(page, "\nUpper ends of the histogram's buckets, in seconds: {}.", bounds.join(", ")).unwrap();
    page
}

#[test]
fn the_reference_page_is_current() {
    let page = page();
    let path = Path::new(PAGE);
    if std::env::var_os("BECALM_WRITE").is_some() {
        std::fs::write(path, &page).unwrap();
    }
    let there = std::fs::read_to_string(path).unwrap_or_default();
    assert!(
        there == page,
        "docs/metrics.md is not what src/telemetry/metrics/catalogue.rs says; make it anew with\n\
         BECALM_WRITE=1 cargo test --lib metrics::reference"
    );
}
