//! What is refused, as OpenAI's API says it.

use axum::{
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use paddock::event::{Failure, FailureKind};
use serde_json::{Value, json};

/// Seconds after which a queue that was full may have a place.
const AGAIN: &str = "1";

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    pub status: StatusCode,
    kind: &'static str,
    pub code: Option<&'static str>,
    param: Option<String>,
    pub message: String,
}

/// Beside a response, for the log: why it is none.
#[derive(Debug, Clone)]
pub struct Why(pub Refusal);

impl Refusal {
    fn new(status: StatusCode, kind: &'static str, code: Option<&'static str>, message: impl Into<String>) -> Self {
        Self { status, kind, code, param: None, message: message.into() }
    }

    fn invalid(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self::new(status, "invalid_request_error", Some(code), message)
    }

    fn fault(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self::new(status, "server_error", Some(code), message)
    }

    /// A request that means nothing; `param` is the key with the fault.
    pub fn bad(param: Option<&str>, message: impl Into<String>) -> Self {
        Self {
            param: param.map(str::to_owned),
            ..Self::new(StatusCode::BAD_REQUEST, "invalid_request_error", None, message)
        }
    }

    pub fn no_model(asked: &str, there: &[String]) -> Self {
        let asked: String = asked.chars().take(100).collect();
        let message = format!("There is no model `{asked}` here; there is {}.", there.join(", "));
        let refusal = Self::invalid(StatusCode::NOT_FOUND, "model_not_found", message);
        Self { param: Some("model".to_owned()), ..refusal }
    }

    pub fn no_route(method: &str, path: &str) -> Self {
        let (method, path): (String, String) = (method.chars().take(20).collect(), path.chars().take(100).collect());
        Self::invalid(StatusCode::NOT_FOUND, "unknown_url", format!("Unknown request URL: {method} {path}."))
    }

    pub fn wrong_method() -> Self {
        let message = "This address is asked by another method.";
        Self::invalid(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", message)
    }

    pub fn too_large(most: usize) -> Self {
        let message = format!("The body has more than {most} bytes (--max_body_bytes).");
        Self::invalid(StatusCode::PAYLOAD_TOO_LARGE, "request_too_large", message)
    }

    pub fn slow() -> Self {
        let message = "The body did not come in time (--read_timeout).";
        Self::invalid(StatusCode::REQUEST_TIMEOUT, "request_timeout", message)
    }

    pub fn no_key() -> Self {
        let message =
            "The API key is missing or wrong: send the value of PADDOCK_API_KEY as `Authorization: Bearer …`.";
        Self::invalid(StatusCode::UNAUTHORIZED, "invalid_api_key", message)
    }

    pub fn wrong_host() -> Self {
        let message = "This server answers to localhost alone: the request's Host is another one.";
        Self::invalid(StatusCode::FORBIDDEN, "host_not_allowed", message)
    }

    pub fn wrong_origin() -> Self {
        let message = "Pages of this origin may not ask here: the server allows them by --allowed_origins.";
        Self::invalid(StatusCode::FORBIDDEN, "origin_not_allowed", message)
    }

    pub fn queue_full() -> Self {
        let message = "The queue is full: ask again in a moment.";
        Self::new(StatusCode::TOO_MANY_REQUESTS, "rate_limit_error", Some("rate_limit_exceeded"), message)
    }

    pub fn late() -> Self {
        let message = "The answer was not made in time (--request_timeout).";
        Self::fault(StatusCode::GATEWAY_TIMEOUT, "timeout", message)
    }

    pub fn loading() -> Self {
        Self::fault(StatusCode::SERVICE_UNAVAILABLE, "loading", "The models are being loaded: ask again in a moment.")
    }

    pub fn stopping() -> Self {
        Self::fault(StatusCode::SERVICE_UNAVAILABLE, "stopping", "The server is being stopped.")
    }

    pub fn broken() -> Self {
        let message = "The engine has ended: the server must be started again.";
        Self::fault(StatusCode::SERVICE_UNAVAILABLE, "engine_failed", message)
    }

    /// What the engine says of a request that it does not take.
    pub fn of_request(failure: &Failure) -> Self {
        match failure.kind {
            Some(FailureKind::TooLong) => {
                Self::invalid(StatusCode::BAD_REQUEST, "context_length_exceeded", told(failure))
            }
            Some(_) => Self::of_work(failure),
            None => Self::bad(None, told(failure)),
        }
    }

    /// What the engine says of an answer that it could not make.
    pub fn of_work(failure: &Failure) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "server_error", None, told(failure))
    }

    pub fn json(&self) -> Value {
        json!({"error": {"message": self.message, "type": self.kind, "param": self.param, "code": self.code}})
    }
}

fn told(failure: &Failure) -> String {
    format!("{} {}", failure.message, failure.advice).trim_end().to_owned()
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let mut response = json_response(self.status, &self.json());
        let headers = response.headers_mut();
        match self.status {
            StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => {
                headers.insert(header::RETRY_AFTER, HeaderValue::from_static(AGAIN));
            }
            StatusCode::UNAUTHORIZED => {
                headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            }
            _ => {}
        }
        response.extensions_mut().insert(Why(self));
        response
    }
}

pub fn json_response(status: StatusCode, value: &Value) -> Response {
    (status, [(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))], value.to_string()).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_are_openais() {
        let refusal = Refusal::no_model(&"x".repeat(1000), &["a".to_owned(), "b".to_owned()]);
        let error = &refusal.json()["error"];
        assert_eq!((&error["type"], &error["code"]), (&json!("invalid_request_error"), &json!("model_not_found")));
        assert_eq!(error["param"], "model");
        let message = error["message"].as_str().expect("a message");
        assert!(message.len() < 200 && message.ends_with("there is a, b."), "{message}");
        let response = Refusal::queue_full().into_response();
        assert_eq!(response.status(), StatusCode::TOO_MANY_REQUESTS);
        assert_eq!(response.headers()[header::RETRY_AFTER], "1");
        let failure = |kind| Failure { message: "It is.".into(), advice: "Do.".into(), kind };
        let of = |kind| Refusal::of_request(&failure(kind));
        assert_eq!(of(Some(FailureKind::TooLong)).code, Some("context_length_exceeded"));
        assert_eq!(of(Some(FailureKind::DeviceLost)).status, StatusCode::INTERNAL_SERVER_ERROR);
        assert_eq!((of(None).status, of(None).message.as_str()), (StatusCode::BAD_REQUEST, "It is. Do."));
    }
}
