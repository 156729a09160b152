//! One request from its head to its answer's end: what the log and the counts say of it.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use axum::response::Response;
use serde_json::{Value, json};

use super::{
    App, Line,
    limits::Turn,
    refusal::{Refusal, Why},
    wire::Tokens,
};

/// Where the client has gone, as nginx has it.
const GONE: u16 = 499;

/// Dropped when the request is over, however it ended.
pub struct Ticket {
    app: Arc<App>,
    /// The connection waits for no further request meanwhile.
    _turn: Turn,
    started: Instant,
    method: String,
    route: &'static str,
    told: Mutex<Told>,
}

#[derive(Default)]
struct Told {
    status: Option<u16>,
    model: Option<String>,
    texts: u64,
    tokens: Tokens,
    error: Option<String>,
}

/// A request that is over. Neither prompts nor answers are in it.
pub struct Record {
    pub method: String,
    pub route: &'static str,
    pub status: u16,
    pub model: Option<String>,
    /// Texts that were answered.
    pub texts: u64,
    pub tokens: Tokens,
    pub seconds: f64,
    pub error: Option<String>,
}

impl Ticket {
    pub fn new(app: &Arc<App>, turn: Turn, method: &str, route: &'static str) -> Self {
        let method = method.chars().take(20).collect();
        Self { app: app.clone(), _turn: turn, started: Instant::now(), method, route, told: Mutex::default() }
    }

    fn told(&self) -> MutexGuard<'_, Told> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The model that is asked.
    pub fn asks(&self, model: &str) {
        self.told().model = Some(model.to_owned());
    }

    /// All texts have their answers.
    pub fn answered(&self, texts: usize, tokens: Tokens) {
        let mut told = self.told();
        (told.texts, told.tokens) = (texts as u64, tokens);
    }

    /// The head of the answer is on its way.
    pub fn responds(&self, response: &Response) {
        self.told().status = Some(response.status().as_u16());
        if let Some(Why(refusal)) = response.extensions().get() {
            self.refused(refusal);
        }
    }

    /// Why the answer is none, or not whole.
    pub fn refused(&self, refusal: &Refusal) {
        // What is wrong with a request may repeat some of it: only what is wrong here is told at length.
        let error = match refusal.status.is_server_error() && refusal.code.is_none() {
            true => refusal.message.clone(),
            false => refusal.code.unwrap_or("invalid_request").to_owned(),
        };
        self.told().error = Some(error);
    }

    /// The client has gone before its answer's end.
    pub fn gone(&self) {
        let mut told = self.told();
        told.status = Some(GONE);
        told.error = Some("client_gone".to_owned());
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let told = std::mem::take(self.told.get_mut().unwrap_or_else(PoisonError::into_inner));
        let gone = told.status.is_none();
        let record = Record {
            method: std::mem::take(&mut self.method),
            route: self.route,
            status: told.status.unwrap_or(GONE),
            model: told.model,
            texts: told.texts,
            tokens: told.tokens,
            seconds: self.started.elapsed().as_secs_f64(),
            error: told.error.or(gone.then(|| "client_gone".to_owned())),
        };
        self.app.metrics.request(&record);
        // Where nobody reads the log any more, or nobody can keep up with it, requests go on.
        let _ = self.app.lines.try_send(Line::Request(Box::new(record)));
    }
}

impl Record {
    /// For programs.
    pub fn fields(&self) -> Value {
        json!({
            "method": self.method,
            "route": self.route,
            "status": self.status,
            "model": self.model,
            "texts": self.texts,
            "prompt_tokens": self.tokens.prompt,
            "completion_tokens": self.tokens.completion,
            "seconds": self.seconds,
            "error": self.error,
        })
    }

    /// For a person.
    pub fn text(&self) -> String {
        let mut text = format!("{} {} {}", self.method, self.route, self.status);
        if let Some(model) = &self.model {
            text += &format!("  {model}");
        }
        if self.tokens != Tokens::default() {
            text += &format!("  {} + {} tokens", self.tokens.prompt, self.tokens.completion);
        }
        text += &format!("  {:.3} s", self.seconds);
        if let Some(error) = &self.error {
            text += &format!("  {error}");
        }
        text
    }
}
