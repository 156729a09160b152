//! Who comes in: the right host, an allowed origin, the key. Every request passes here, and is counted here.

use std::{
    net::{Ipv4Addr, Ipv6Addr},
    sync::Arc,
};

use axum::{
    extract::{ConnectInfo, Request, State},
    http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header, uri::Authority},
    middleware::Next,
    response::{IntoResponse, Response},
};
use sha2::{Digest, Sha256};

use super::{
    App,
    limits::{Peer, Turn},
    refusal::Refusal,
    routes,
    ticket::Ticket,
};

const ALL: &str = "*";
/// Seconds for which a browser remembers that it may ask.
const REMEMBERED: &str = "600";

pub struct Door {
    /// Bound to this machine alone: a page whose name was made to lead here is told by its Host.
    loopback: bool,
    origins: Vec<String>,
    /// Hash of the key: comparing hashes tells nothing of how much of a guess is right.
    key: Option<[u8; 32]>,
}

impl Door {
    pub fn new(loopback: bool, origins: &[String], key: Option<&str>) -> Self {
        let origins = origins.iter().map(|origin| origin.trim_end_matches('/').to_ascii_lowercase()).collect();
        Self { loopback, origins, key: key.map(hash) }
    }

    fn check(&self, request: &Request) -> Result<(), Refusal> {
        let headers = request.headers();
        if self.loopback {
            let named = headers.get_all(header::HOST);
            let here = named.iter().all(|host| host.to_str().is_ok_and(is_here));
            let asked = request.uri().authority().map(Authority::as_str);
            if !here || named.iter().next().is_none() || !asked.is_none_or(is_here) {
                return Err(Refusal::wrong_host());
            }
        }
        if headers.get(header::ORIGIN).is_some_and(|origin| !self.allows(origin) && !is_same(origin, headers)) {
            return Err(Refusal::wrong_origin());
        }
        // A browser asks whether it may ask before it shows its key; whether all is well is no secret.
        if is_preflight(request) || request.uri().path() == routes::HEALTH {
            return Ok(());
        }
        match &self.key {
            Some(key) if given(headers).is_none_or(|given| hash(given) != *key) => Err(Refusal::no_key()),
            _ => Ok(()),
        }
    }

    /// Whether pages of another origin may ask and read.
    fn allows(&self, origin: &HeaderValue) -> bool {
        let origin = origin.to_str().map(str::to_ascii_lowercase).unwrap_or_default();
        self.origins.iter().any(|allowed| allowed == ALL || *allowed == origin)
    }
}

fn hash(key: impl AsRef<[u8]>) -> [u8; 32] {
    Sha256::digest(key).into()
}

/// What stands after `Bearer`.
fn given(headers: &HeaderMap) -> Option<&[u8]> {
    let value = headers.get(header::AUTHORIZATION)?.as_bytes();
    let (scheme, key) = value.split_at_checked("Bearer ".len())?;
    scheme.eq_ignore_ascii_case(b"Bearer ").then(|| key.trim_ascii())
}

/// Whether a name is this machine's own, whatever the port.
fn is_here(authority: &str) -> bool {
    if let Some(address) = authority.strip_prefix('[') {
        let address = address.split(']').next().unwrap_or_default();
        return address.parse::<Ipv6Addr>().is_ok_and(|address| address.is_loopback());
    }
    let host = authority.split(':').next().unwrap_or_default();
    host.eq_ignore_ascii_case("localhost") || host.parse::<Ipv4Addr>().is_ok_and(|address| address.is_loopback())
}

/// A page that came from here.
fn is_same(origin: &HeaderValue, headers: &HeaderMap) -> bool {
    let (Ok(origin), Some(Ok(host))) = (origin.to_str(), headers.get(header::HOST).map(HeaderValue::to_str)) else {
        return false;
    };
    let from = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
    from.is_some_and(|from| from.eq_ignore_ascii_case(host))
}

/// Whether a browser only asks whether it may ask.
fn is_preflight(request: &Request) -> bool {
    let headers = request.headers();
    request.method() == Method::OPTIONS
        && headers.contains_key(header::ORIGIN)
        && headers.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD)
}

pub async fn pass(
    State(app): State<Arc<App>>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    mut request: Request,
    next: Next,
) -> Response {
    let route = routes::known(request.uri().path());
    let ticket = Arc::new(Ticket::new(&app, Turn::new(peer.0), request.method().as_str(), route));
    request.extensions_mut().insert(ticket.clone());
    let origin = request.headers().get(header::ORIGIN).filter(|origin| app.door.allows(origin)).cloned();
    let wanted = request.headers().get(header::ACCESS_CONTROL_REQUEST_HEADERS).cloned();
    let preflight = is_preflight(&request);
    let checked = app.door.check(&request);
    let mut response = match checked {
        Err(refusal) => refusal.into_response(),
        Ok(()) if preflight => StatusCode::NO_CONTENT.into_response(),
        Ok(()) => next.run(request).await,
    };
    let headers = response.headers_mut();
    headers.insert(header::VARY, HeaderValue::from_static("Origin"));
    headers.insert(HeaderName::from_static("x-content-type-options"), HeaderValue::from_static("nosniff"));
    if let Some(origin) = origin {
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        if preflight {
            headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("GET, POST"));
            headers.insert(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static(REMEMBERED));
            if let Some(wanted) = wanted {
                headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, wanted);
            }
        }
    }
    ticket.responds(&response);
    response
}

#[cfg(test)]
mod tests {
    use axum::body::Body;

    use super::*;

    fn request(method: &str, path: &str, headers: &[(&str, &str)]) -> Request {
        let mut request = axum::http::Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(Body::empty()).expect("a request")
    }

    fn code(door: &Door, path: &str, headers: &[(&str, &str)]) -> Option<&'static str> {
        door.check(&request("POST", path, headers)).err().and_then(|refusal| refusal.code)
    }

    #[test]
    fn only_names_of_this_machine_lead_to_a_server_that_is_bound_to_it() {
        let door = Door::new(true, &[], None);
        for host in ["localhost", "LOCALHOST:8000", "127.0.0.1:8000", "127.1.2.3", "[::1]:8000", "[::1]"] {
            assert_eq!(code(&door, "/v1/models", &[("host", host)]), None, "{host}");
        }
        for host in [
            "evil.example",
            "evil.example:8000",
            "localhost.evil.example",
            "10.0.0.1",
            "127.0.0.1.evil.example",
            "",
            "a b",
            "localhost@evil.example",
        ] {
            assert_eq!(code(&door, "/v1/models", &[("host", host)]), Some("host_not_allowed"), "{host}");
        }
        assert_eq!(code(&door, "/v1/models", &[]), Some("host_not_allowed"));
        let absolute = code(&door, "http://evil.example/v1/models", &[("host", "localhost")]);
        assert_eq!(absolute, Some("host_not_allowed"));
        assert_eq!(code(&Door::new(false, &[], None), "/", &[("host", "box.example")]), None);
    }

    #[test]
    fn pages_of_other_origins_are_kept_out_unless_they_are_named() {
        let here = ("host", "localhost:8000");
        let door = Door::new(true, &["https://Page.example/".to_owned()], None);
        let of = |door: &Door, origin| code(door, "/", &[here, ("origin", origin)]);
        assert_eq!(of(&door, "https://page.example"), None);
        assert_eq!(of(&door, "http://localhost:8000"), None, "a page from here");
        for origin in ["https://evil.example", "http://localhost:9000", "null", "http://page.example"] {
            assert_eq!(of(&door, origin), Some("origin_not_allowed"), "{origin}");
        }
        assert_eq!(of(&Door::new(true, &["*".to_owned()], None), "https://evil.example"), None);
    }

    #[test]
    fn the_key_opens_all_but_what_is_no_secret() {
        let here = ("host", "localhost");
        let door = Door::new(true, &[], Some("secret"));
        for header in ["Bearer secret", "bearer secret", "Bearer  secret "] {
            assert_eq!(code(&door, "/v1/models", &[here, ("authorization", header)]), None, "{header}");
        }
        for header in ["Bearer secre", "Bearer secrets", "Bearer ", "secret", "Basic secret", ""] {
            assert_eq!(
                code(&door, "/metrics", &[here, ("authorization", header)]),
                Some("invalid_api_key"),
                "{header}"
            );
        }
        assert_eq!(code(&door, "/v1/models", &[here]), Some("invalid_api_key"));
        assert_eq!(code(&door, "/health", &[here]), None);
        let ask = [here, ("origin", "http://localhost"), ("access-control-request-method", "POST")];
        assert!(door.check(&request("OPTIONS", "/v1/models", &ask)).is_ok());
    }
}
