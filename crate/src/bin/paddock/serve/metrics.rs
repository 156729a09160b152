//! `GET /metrics`: counts in Prometheus' text format. No text of anybody is in them.

use std::{
    collections::BTreeMap,
    fmt::Write,
    sync::{Mutex, MutexGuard, PoisonError},
};

use super::{ticket::Record, wire::Tokens};

#[derive(Default)]
pub struct Metrics(Mutex<Counts>);

#[derive(Default)]
struct Counts {
    requests: BTreeMap<(&'static str, u16), u64>,
    /// Seconds and requests a route.
    seconds: BTreeMap<&'static str, (f64, u64)>,
    /// Texts a model.
    uses: BTreeMap<String, u64>,
    tokens: Tokens,
}

/// What stands still only while it is looked at.
pub struct Now {
    pub ready: bool,
    pub waiting: usize,
    pub most_waiting: usize,
    pub running: usize,
    pub connections: usize,
    /// Answers that were broken off, as nobody waited for them any more.
    pub cancelled: u64,
}

impl Metrics {
    fn counts(&self) -> MutexGuard<'_, Counts> {
        // Numbers are whole whatever happened to who held them.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A request that is over.
    pub fn request(&self, record: &Record) {
        let mut counts = self.counts();
        *counts.requests.entry((record.route, record.status)).or_default() += 1;
        let (seconds, requests) = counts.seconds.entry(record.route).or_default();
        *seconds += record.seconds;
        *requests += 1;
        counts.tokens.prompt += record.tokens.prompt;
        counts.tokens.completion += record.tokens.completion;
        if let Some(model) = record.model.as_ref().filter(|_| record.texts > 0) {
            *counts.uses.entry(model.clone()).or_default() += record.texts;
        }
    }

    /// Texts that each model has answered so far.
    pub fn uses(&self) -> BTreeMap<String, u64> {
        self.counts().uses.clone()
    }

    /// Requests so far.
    pub fn requests(&self) -> u64 {
        self.counts().requests.values().sum()
    }

    pub fn render(&self, now: &Now) -> String {
        let counts = self.counts();
        let mut text = String::new();
        let requests = counts
            .requests
            .iter()
            .map(|((route, status), count)| (format!("{{route=\"{route}\",status=\"{status}\"}}"), *count));
        family(&mut text, "requests_total", "counter", "Requests by route and status.", requests);
        let name = "paddock_request_seconds";
        let _ = writeln!(text, "# HELP {name} From a request's head to its answer's end.\n# TYPE {name} summary");
        for (route, (seconds, requests)) in &counts.seconds {
            let _ = writeln!(text, "{name}_sum{{route=\"{route}\"}} {seconds}");
            let _ = writeln!(text, "{name}_count{{route=\"{route}\"}} {requests}");
        }
        let uses = counts.uses.iter().map(|(model, count)| (format!("{{model=\"{}\"}}", escaped(model)), *count));
        family(&mut text, "model_uses_total", "counter", "Texts that a base or plugin has answered.", uses);
        let Tokens { prompt, completion } = counts.tokens;
        for (name, kind, help, value) in [
            ("prompt_tokens_total", "counter", "Tokens that were read.", prompt),
            ("completion_tokens_total", "counter", "Tokens that were written.", completion),
            ("cancelled_total", "counter", "Answers that were broken off as nobody waited any more.", now.cancelled),
            ("queue_length", "gauge", "Requests that wait for the engine.", now.waiting as u64),
            ("queue_limit", "gauge", "Requests that may wait.", now.most_waiting as u64),
            ("running", "gauge", "Texts that are being answered.", now.running as u64),
            ("connections", "gauge", "Open connections.", now.connections as u64),
            ("ready", "gauge", "1 once the models are loaded.", u64::from(now.ready)),
        ] {
            family(&mut text, name, kind, help, [(String::new(), value)]);
        }
        text
    }
}

fn family(text: &mut String, name: &str, kind: &str, help: &str, samples: impl IntoIterator<Item = (String, u64)>) {
    // A string takes whatever is written.
    let _ = writeln!(text, "# HELP paddock_{name} {help}\n# TYPE paddock_{name} {kind}");
    for (labels, value) in samples {
        let _ = writeln!(text, "paddock_{name}{labels} {value}");
    }
}

fn escaped(label: &str) -> String {
    label.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_rendered_by_their_labels() {
        let metrics = Metrics::default();
        let record = |status, texts| Record {
            method: "POST".into(),
            route: "/v1/completions",
            status,
            model: Some("a\"b\\c".into()),
            texts,
            tokens: Tokens { prompt: 3, completion: 4 },
            seconds: 0.5,
            error: None,
        };
        metrics.request(&record(200, 2));
        metrics.request(&record(200, 1));
        metrics.request(&record(400, 0));
        let now = Now { ready: true, waiting: 1, most_waiting: 64, running: 2, connections: 3, cancelled: 1 };
        let text = metrics.render(&now);
        for line in [
            "paddock_requests_total{route=\"/v1/completions\",status=\"200\"} 2",
            "paddock_requests_total{route=\"/v1/completions\",status=\"400\"} 1",
            "paddock_request_seconds_sum{route=\"/v1/completions\"} 1.5",
            "paddock_request_seconds_count{route=\"/v1/completions\"} 3",
            "paddock_model_uses_total{model=\"a\\\"b\\\\c\"} 3",
            "paddock_prompt_tokens_total 9",
            "paddock_completion_tokens_total 12",
            "paddock_queue_length 1",
            "paddock_ready 1",
            "# TYPE paddock_request_seconds summary",
        ] {
            assert!(text.lines().any(|other| other == line), "{line} in\n{text}");
        }
        assert_eq!((metrics.requests(), metrics.uses()["a\"b\\c"]), (3, 3));
    }
}
