//! What is asked under which address.

use std::{sync::Arc, time::Duration};

use axum::{
    Extension, Router,
    body::{Bytes, HttpBody},
    extract::{DefaultBodyLimit, FromRequest, Path, Request, State},
    http::{StatusCode, header},
    middleware::from_fn_with_state,
    response::{IntoResponse, Response},
    routing::{get, post},
};
use paddock::event::Prediction;
use serde_json::{Value, json};
use tokio::{
    sync::mpsc::UnboundedReceiver,
    time::{Instant, timeout, timeout_at},
};

use super::{
    App, door,
    handle::{Answer, Ask, Model, Piece, State as EngineState},
    metrics::Now,
    openai,
    refusal::{Refusal, json_response},
    stream,
    ticket::Ticket,
    wire::{Tokens, Wire, classes},
};

type Result<T> = std::result::Result<T, Refusal>;

pub const HEALTH: &str = "/health";
const CHAT: &str = "/v1/chat/completions";
const COMPLETIONS: &str = "/v1/completions";
const CLASSIFY: &str = "/v1/classify";
const MODELS: &str = "/v1/models";
const METRICS: &str = "/metrics";

/// A path as counts and the log have it: what somebody makes up is one of the others.
pub fn known(path: &str) -> &'static str {
    let exact = [CHAT, COMPLETIONS, CLASSIFY, MODELS, HEALTH, METRICS].into_iter().find(|known| *known == path);
    exact.unwrap_or(if path.starts_with("/v1/models/") { "/v1/models/{id}" } else { "other" })
}

pub fn router(app: Arc<App>) -> Router {
    Router::new()
        .route(CHAT, post(chat))
        .route(COMPLETIONS, post(completions))
        .route(CLASSIFY, post(classify))
        .route(MODELS, get(models))
        // A hub's name has a slash.
        .route("/v1/models/{*id}", get(model))
        .route(HEALTH, get(health))
        .route(METRICS, get(metrics))
        .method_not_allowed_fallback(wrong_method)
        .fallback(unknown)
        .layer(from_fn_with_state(app.clone(), door::pass))
        .with_state(app)
}

type Ticketed = Extension<Arc<Ticket>>;

async fn chat(State(app): State<Arc<App>>, Extension(ticket): Ticketed, request: Request) -> Result<Response> {
    let body = body(&app, request).await?;
    answer(&app, &ticket, openai::chat(&body, app.limits.max_new_tokens)?).await
}

async fn completions(State(app): State<Arc<App>>, Extension(ticket): Ticketed, request: Request) -> Result<Response> {
    let body = body(&app, request).await?;
    answer(&app, &ticket, openai::completion(&body)?).await
}

/// The whole body, unless it is too large or too slow.
async fn body(app: &App, mut request: Request) -> Result<Bytes> {
    let most = app.limits.max_body_bytes;
    // Before any of it is read, where it says so itself.
    if request.body().size_hint().lower() > most as u64 {
        return Err(Refusal::too_large(most));
    }
    DefaultBodyLimit::max(most).apply(&mut request);
    match timeout(app.limits.read_timeout, Bytes::from_request(request, &())).await {
        Ok(Ok(body)) => Ok(body),
        Ok(Err(rejection)) if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE => Err(Refusal::too_large(most)),
        Ok(Err(_)) => Err(Refusal::bad(None, "The body broke off.")),
        Err(_) => Err(Refusal::slow()),
    }
}

async fn answer(app: &Arc<App>, ticket: &Arc<Ticket>, request: openai::Request) -> Result<Response> {
    let model = app.engine.model(request.model.as_deref())?;
    ticket.asks(&model.id);
    if !model.info.generates {
        let message = format!("`{}` classifies texts: ask it by POST {CLASSIFY}.", model.id);
        return Err(Refusal::bad(Some("model"), message));
    }
    let chat = !request.messages.is_empty();
    let (count, streams) = (request.texts.len(), request.stream);
    let wire = Wire::new(chat, model.id.clone(), request.include_usage);
    let ask = Ask::Answer(Box::new(Answer {
        texts: request.texts,
        messages: request.messages,
        fields: request.fields,
        sampling: request.sampling,
        // The base goes on from a prompt as it is; a plugin is asked as it was trained.
        apply_chat_template: (model.base && !chat).then_some(false),
        stream: streams,
    }));
    let deadline = deadline(app);
    let mut pieces = app.engine.submit(&model, ask)?;
    if streams {
        // Only what the engine takes is answered with a stream; what it refuses, with a status of its own.
        return match next(&mut pieces, deadline).await? {
            Piece::Failed(refusal) => Err(refusal),
            Piece::Begun | Piece::Text { .. } | Piece::Done { .. } => {
                Ok(stream::respond(wire, pieces, count, deadline, ticket.clone()))
            }
        };
    }
    let answers = collect(&mut pieces, count, deadline).await?;
    let mut tokens = Tokens::default();
    answers.iter().for_each(|answer| tokens.add(answer));
    ticket.answered(count, tokens);
    Ok(json_response(StatusCode::OK, &wire.whole(&answers, tokens)))
}

async fn classify(State(app): State<Arc<App>>, Extension(ticket): Ticketed, request: Request) -> Result<Response> {
    let body = body(&app, request).await?;
    let openai::Classification { model, texts } = openai::classification(&body)?;
    let model = app.engine.model(model.as_deref())?;
    ticket.asks(&model.id);
    if model.info.generates {
        let message = format!("`{}` answers in text: ask it by POST {CHAT}.", model.id);
        return Err(Refusal::bad(Some("model"), message));
    }
    let count = texts.len();
    let mut pieces = app.engine.submit(&model, Ask::Classify(texts))?;
    let predictions = collect(&mut pieces, count, deadline(&app)).await?;
    ticket.answered(count, Tokens::default());
    let numbers = model.info.labels.is_empty();
    Ok(json_response(StatusCode::OK, &classes(&model.id, &predictions, numbers)))
}

fn deadline(app: &App) -> Instant {
    Instant::now() + app.limits.request_timeout
}

/// What comes next of a job; where nothing does, the engine has ended.
pub async fn next(pieces: &mut UnboundedReceiver<Piece>, deadline: Instant) -> Result<Piece> {
    match timeout_at(deadline, pieces.recv()).await {
        Ok(piece) => piece.ok_or_else(Refusal::broken),
        Err(_) => Err(Refusal::late()),
    }
}

/// The answers to all texts, in their order.
async fn collect(pieces: &mut UnboundedReceiver<Piece>, count: usize, deadline: Instant) -> Result<Vec<Prediction>> {
    let mut answers: Vec<Option<Prediction>> = Vec::new();
    answers.resize_with(count, || None);
    while answers.iter().any(Option::is_none) {
        match next(pieces, deadline).await? {
            Piece::Begun | Piece::Text { .. } => {}
            Piece::Done { index, prediction } => {
                if let Some(place) = answers.get_mut(index) {
                    *place = Some(prediction);
                }
            }
            Piece::Failed(refusal) => return Err(refusal),
        }
    }
    Ok(answers.into_iter().flatten().collect())
}

fn described(app: &App, model: &Model, base: Option<&Model>) -> Value {
    json!({
        "id": model.id,
        "object": "model",
        "created": app.started,
        "owned_by": "paddock",
        "parent": base.filter(|_| !model.base).map(|base| &base.id),
        "name": if model.base { &model.id } else { &model.info.name },
        "task": model.info.task,
        "labels": model.info.labels,
        "before": model.info.before,
        "after": model.info.after,
    })
}

async fn models(State(app): State<Arc<App>>) -> Response {
    let models = app.engine.shared.models();
    let base = models.iter().find(|model| model.base);
    let data: Vec<Value> = models.iter().map(|model| described(&app, model, base)).collect();
    json_response(StatusCode::OK, &json!({"object": "list", "data": data}))
}

async fn model(State(app): State<Arc<App>>, Path(id): Path<String>) -> Result<Response> {
    let model = app.engine.model(Some(&id))?;
    let models = app.engine.shared.models();
    let base = models.iter().find(|model| model.base);
    Ok(json_response(StatusCode::OK, &described(&app, &model, base)))
}

async fn health(State(app): State<Arc<App>>) -> Response {
    let (status, word) = match app.engine.shared.state() {
        EngineState::Ready => (StatusCode::OK, "ready"),
        EngineState::Loading => (StatusCode::SERVICE_UNAVAILABLE, "loading"),
        EngineState::Stopping => (StatusCode::SERVICE_UNAVAILABLE, "stopping"),
        EngineState::Broken => (StatusCode::SERVICE_UNAVAILABLE, "broken"),
    };
    json_response(status, &json!({"status": word}))
}

async fn metrics(State(app): State<Arc<App>>) -> Response {
    let (waiting, most_waiting) = app.engine.queue();
    let now = Now {
        ready: app.engine.shared.state() == EngineState::Ready,
        waiting,
        most_waiting,
        running: app.engine.running(),
        connections: app.limits.max_connections.saturating_sub(app.places.available_permits()),
        cancelled: app.engine.cancelled(),
    };
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], app.metrics.render(&now)).into_response()
}

async fn wrong_method() -> Refusal {
    Refusal::wrong_method()
}

async fn unknown(request: Request) -> Refusal {
    Refusal::no_route(request.method().as_str(), request.uri().path())
}

/// Bounds on requests.
#[derive(Debug, Clone)]
pub struct Limits {
    pub max_body_bytes: usize,
    pub max_connections: usize,
    /// Tokens of a chat's answer that says nothing of them.
    pub max_new_tokens: usize,
    pub read_timeout: Duration,
    pub request_timeout: Duration,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_that_somebody_makes_up_are_not_counted_each() {
        assert_eq!(known("/v1/completions"), "/v1/completions");
        assert_eq!((known("/v1/models/org/name"), known("/v1/models")), ("/v1/models/{id}", "/v1/models"));
        assert_eq!((known("/"), known("/v1/completions/x"), known("/metrics")), ("other", "other", "/metrics"));
    }
}
