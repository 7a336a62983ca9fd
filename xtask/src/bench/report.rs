//! Medians and ratios of a benchmark, as a table for `docs/benchmarks.md` and as JSON.

use std::fmt::Write;

use serde_json::{Value, json};

use super::{CONNECTIONS, Case};

/// One run of the load.
pub(crate) struct Sample {
    /// Its place in the list of cases.
    pub(crate) case: usize,
    pub(crate) connections: usize,
    pub(crate) rps: f64,
    pub(crate) p50_us: f64,
    pub(crate) p99_us: f64,
}

/// A case's medians.
struct Row<'a> {
    case: &'a Case,
    connections: usize,
    rps: f64,
    p50_us: f64,
    p99_us: f64,
    /// Of the same round: its rate by that of the case beside, and its median less that one's.
    beside: Option<(f64, f64)>,
}

pub(crate) fn table(cases: &[Case], samples: &[Sample]) -> String {
    let mut text = String::from(
        "| | store | connections | requests/s | p50 µs | p99 µs | of the rate beside | added to the median |\n\
         | --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |\n",
    );
    for row in rows(cases, samples) {
        let (ratio, added) = match (row.beside, row.case.beside) {
            (Some((ratio, added)), Some(name)) => {
                (format!("{ratio:.2} of {name}"), format!("{added:.0} µs"))
            }
            _ => (String::new(), String::new()),
        };
        // Writing to a string does not fail.
        let _ = writeln!(
            text,
            "| {} | {} | {} | {:.0} | {:.0} | {:.0} | {ratio} | {added} |",
            row.case.name, row.case.store, row.connections, row.rps, row.p50_us, row.p99_us,
        );
    }
    text
}

pub(crate) fn json(cases: &[Case], samples: &[Sample]) -> Value {
    rows(cases, samples)
        .iter()
        .map(|row| {
            json!({
                "name": row.case.name,
                "store": row.case.store,
                "connections": row.connections,
                "rps": row.rps,
                "p50_us": row.p50_us,
                "p99_us": row.p99_us,
                "beside": row.case.beside,
                "rate_ratio": row.beside.map(|(ratio, _)| ratio),
                "added_p50_us": row.beside.map(|(_, added)| added),
            })
        })
        .collect()
}

fn rows<'a>(cases: &'a [Case], samples: &[Sample]) -> Vec<Row<'a>> {
    let mut rows = Vec::new();
    for connections in CONNECTIONS {
        // The samples of a case, by round.
        let of = |case: usize| {
            samples
                .iter()
                .filter(move |sample| sample.case == case && sample.connections == connections)
        };
        for (index, case) in cases.iter().enumerate() {
            let other = cases
                .iter()
                .position(|other| Some(other.name) == case.beside);
            rows.push(Row {
                case,
                connections,
                rps: median(of(index).map(|sample| sample.rps)),
                p50_us: median(of(index).map(|sample| sample.p50_us)),
                p99_us: median(of(index).map(|sample| sample.p99_us)),
                beside: other.map(|other| {
                    let pairs = || of(index).zip(of(other));
                    (
                        median(pairs().map(|(this, other)| this.rps / other.rps)),
                        median(pairs().map(|(this, other)| this.p50_us - other.p50_us)),
                    )
                }),
            });
        }
    }
    rows
}

pub(super) fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
