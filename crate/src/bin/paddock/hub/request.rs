//! Requests to the hub: addresses, tokens, redirects, and what its refusals mean.

use std::{fs, io, thread, time::Duration};

use paddock::event::Failure;
use serde_json::Value;
use ureq::{
    Agent, Body,
    http::{Response, StatusCode, Uri},
};

use super::{
    Repo,
    cache::{self, is_commit, variable},
};
use crate::files::{Result, failure};

/// Longer descriptions of a repository are refused.
const MOST_INFO: u64 = 32 << 20;
const MOST_REDIRECTS: usize = 5;

/// Attempts that bring nothing new before it is given up.
pub const ATTEMPTS: u32 = 5;

/// Before the next attempt, after `failed` ones.
pub fn pause(failed: u32) -> Duration {
    Duration::from_millis(250) * 2u32.pow(failed.saturating_sub(1).min(10))
}

pub struct Client {
    agent: Agent,
    /// Without a slash at its end.
    endpoint: String,
    token: Option<String>,
    offline: bool,
}

/// An answer, or why there is none.
pub type Answer<T> = std::result::Result<T, Failed>;

/// Why an answer did not come.
pub enum Failed {
    /// Nobody answers, or not now: trying again may help.
    Unreachable(String),
    /// The hub says no.
    Refused(Failure),
}

/// What the hub says of a file before it hands it out.
pub struct FileInfo {
    /// Names the content: its SHA-256 for large files.
    pub tag: String,
    /// Absent where the server does not say it.
    pub size: Option<u64>,
}

impl Client {
    pub fn new() -> Result<Self> {
        let endpoint = match std::env::var("HF_ENDPOINT") {
            Ok(endpoint) if !endpoint.is_empty() => endpoint.trim_end_matches('/').to_owned(),
            _ => "https://huggingface.co".to_owned(),
        };
        let agent = Agent::config_builder()
            .http_status_as_error(false)
            // Followed here: a token must not go along to another host.
            .max_redirects(0)
            .max_redirects_will_error(false)
            .timeout_connect(Some(Duration::from_secs(20)))
            .timeout_recv_response(Some(Duration::from_secs(60)))
            .timeout_per_read(Some(Duration::from_secs(60)))
            .user_agent(concat!("paddock/", env!("CARGO_PKG_VERSION")))
            // Lengths are of the file, not of something packed.
            .accept_encoding("identity")
            .build()
            .into();
        let offline = std::env::var("HF_HUB_OFFLINE")
            .is_ok_and(|value| matches!(value.to_ascii_lowercase().as_str(), "1" | "true" | "yes" | "on"));
        Ok(Self { agent, endpoint, token: token()?, offline })
    }

    /// The commit of a revision, and the names of its files.
    pub fn info(&self, repo: &Repo) -> Answer<(String, Vec<String>)> {
        let revision = repo.revision.replace('/', "%2F");
        let url = format!("{}/api/models/{}/revision/{revision}", self.endpoint, repo.id);
        let mut response = self.get(&url, None)?;
        for failed in 1..ATTEMPTS {
            if !busy(response.status()) {
                break;
            }
            thread::sleep(pause(failed));
            response = self.get(&url, None)?;
        }
        if response.status() != StatusCode::OK {
            return Err(self.refused(repo, None, &response));
        }
        let body = response.body_mut().with_config().limit(MOST_INFO).read_to_vec();
        let body = body.map_err(|error| Failed::Unreachable(format!("{url}: {error}")))?;
        let json: Value = serde_json::from_slice(&body).unwrap_or_default();
        let commit = json["sha"].as_str().filter(|commit| is_commit(commit));
        let files = json["siblings"].as_array();
        let (Some(commit), Some(files)) = (commit, files) else {
            let advice = "Check HF_ENDPOINT: a proxy or another service may stand in the hub's place.";
            return Err(Failed::Refused(failure(format!("{url}: not the answer of a model hub"), advice)));
        };
        let names = files.iter().filter_map(|file| file["rfilename"].as_str().map(str::to_owned));
        Ok((commit.to_owned(), names.collect()))
    }

    fn file_url(&self, repo: &Repo, commit: &str, name: &str) -> String {
        format!("{}/{}/resolve/{commit}/{name}", self.endpoint, repo.id)
    }

    /// A file's bytes from `offset` on, what is known of it, and the answer with the bytes.
    pub fn file(&self, repo: &Repo, commit: &str, name: &str, offset: u64) -> Answer<(FileInfo, Response<Body>)> {
        let mut url = self.file_url(repo, commit, name);
        let mut info: Option<FileInfo> = None;
        for _ in 0..=MOST_REDIRECTS {
            let response = self.get(&url, Some(offset))?;
            let header = |key: &str| response.headers().get(key).and_then(|value| value.to_str().ok());
            // The first answer that names the content is the hub's own; later ones are of where it keeps it. A redirect's
            // plain ETag is its own.
            let own = header("etag").filter(|_| !response.status().is_redirection());
            let tag = header("x-linked-etag").or(own).and_then(tag_of);
            if info.is_none()
                && let Some(tag) = tag
            {
                let here = response.status().is_success().then(|| size_of(&response)).flatten();
                let size = header("x-linked-size").and_then(|size| size.parse().ok()).or(here);
                info = Some(FileInfo { tag, size });
            }
            match response.status() {
                status if status.is_redirection() => {
                    let to = header("location").unwrap_or_default();
                    url = resolve(&url, to).ok_or_else(|| {
                        let advice = "Check HF_ENDPOINT, or try again later.";
                        Failed::Refused(failure(format!("{url}: a redirect to nowhere ({to})"), advice))
                    })?;
                }
                StatusCode::OK | StatusCode::PARTIAL_CONTENT | StatusCode::RANGE_NOT_SATISFIABLE => {
                    let info = info.ok_or_else(|| {
                        let advice = "Check HF_ENDPOINT: a proxy or another service may stand in the hub's place.";
                        Failed::Refused(failure(format!("{url}: the answer names no content (ETag)"), advice))
                    })?;
                    return Ok((info, response));
                }
                _ => return Err(self.refused(repo, Some(name), &response)),
            }
        }
        Err(Failed::Refused(failure(format!("{url}: too many redirects"), "Check HF_ENDPOINT, or try again later.")))
    }

    fn get(&self, url: &str, offset: Option<u64>) -> Answer<Response<Body>> {
        if self.offline {
            return Err(Failed::Unreachable("HF_HUB_OFFLINE is set".into()));
        }
        let mut request = self.agent.get(url);
        if let Some(token) = self.token.as_ref().filter(|_| same_host(url, &self.endpoint)) {
            request = request.header("Authorization", format!("Bearer {token}"));
        }
        if let Some(offset) = offset.filter(|offset| *offset > 0) {
            request = request.header("Range", format!("bytes={offset}-"));
        }
        request.call().map_err(|error| match error {
            ureq::Error::BadUri(_) | ureq::Error::Http(_) => {
                Failed::Refused(failure(format!("{url}: {error}"), "Check HF_ENDPOINT and the repository's name."))
            }
            error => Failed::Unreachable(format!("{}: {error}", host(url))),
        })
    }

    /// What an answer other than the wanted one means.
    fn refused(&self, repo: &Repo, file: Option<&str>, response: &Response<Body>) -> Failed {
        let status = response.status();
        if busy(status) {
            return Failed::Unreachable(format!("{} answers {status}", host(&self.endpoint)));
        }
        let header = |key: &str| response.headers().get(key).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let page = format!("{}/{}", self.endpoint, repo.id);
        let (message, advice) = match (status.as_u16(), header("x-error-code")) {
            (401 | 403, "GatedRepo") => (
                format!("{} is gated: its owner gives access on request", repo.id),
                format!("Accept the conditions at {page}, then set HF_TOKEN to a token of yours that may read it."),
            ),
            (401, _) if self.token.is_none() => (
                format!("{} does not exist, is private, or is gated (401)", repo.id),
                format!("Check the name; for a private or gated model set HF_TOKEN to a token that may read {page}."),
            ),
            (401, _) => (
                format!("{} does not exist, or your token is not valid for it (401)", repo.id),
                "Check the name, and HF_TOKEN or the token file in HF_HOME.".to_owned(),
            ),
            (403, _) => (
                format!("your token may not read {} (403)", repo.id),
                format!("Ask for access at {page}, or use a token with the right to read it."),
            ),
            (404, "RevisionNotFound") => (
                format!("{} has no revision {}", repo.id, repo.revision),
                "Name a branch, a tag or a commit after the @, or leave it out for main.".to_owned(),
            ),
            (404, _) => match file {
                Some(file) => {
                    (format!("{} has no {file}", repo.id), "Choose another repository or revision.".to_owned())
                }
                None => (
                    format!("there is no model {} at {}", repo.id, host(&self.endpoint)),
                    "Check its name; a folder on this machine is meant where it begins with ./ or /.".to_owned(),
                ),
            },
            (code, _) => (
                format!("{}: the hub answers {code}", repo.id),
                "Try again later; HF_ENDPOINT says which hub is asked.".to_owned(),
            ),
        };
        Failed::Refused(failure(message, advice))
    }

    pub fn unreachable(&self, repo: &Repo, reason: &str) -> Failure {
        failure(
            format!("{} cannot be fetched: {reason}", repo.id),
            "Check the connection (HTTPS_PROXY, HF_ENDPOINT) and start again: what has come is kept. Without a \
             connection give a model's folder, or `starter`.",
        )
    }
}

/// Later it may be another answer.
fn busy(status: StatusCode) -> bool {
    status == StatusCode::TOO_MANY_REQUESTS || status.is_server_error()
}

/// `HF_TOKEN`, or the token that a login has left.
fn token() -> Result<Option<String>> {
    let named = ["HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"].into_iter().find_map(|name| std::env::var(name).ok());
    let token = match named {
        Some(token) => token,
        None => {
            let place = match variable("HF_TOKEN_PATH") {
                Some(place) => place,
                None => cache::home()?.join("token"),
            };
            match fs::read_to_string(&place) {
                Ok(token) => token,
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
                Err(error) => return Err(crate::files::cannot("read", &place, &error)),
            }
        }
    };
    let token = token.trim();
    if !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(failure("the token for the hub is not one line of plain characters", "Set HF_TOKEN anew."));
    }
    Ok(Some(token.to_owned()).filter(|token| !token.is_empty()))
}

/// An ETag without its quotes, where it can be a file's name.
fn tag_of(header: &str) -> Option<String> {
    let tag = header.trim().trim_start_matches("W/").trim_matches('"');
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    (!tag.is_empty() && tag.len() <= 128 && tag.bytes().all(plain)).then(|| tag.to_owned())
}

/// The whole file's size as an answer tells it.
fn size_of(response: &Response<Body>) -> Option<u64> {
    let header = |key: &str| response.headers().get(key).and_then(|value| value.to_str().ok());
    match response.status() {
        StatusCode::PARTIAL_CONTENT => header("content-range")?.rsplit('/').next()?.parse().ok(),
        _ => header("content-length")?.parse().ok(),
    }
}

fn host(url: &str) -> String {
    let uri: Option<Uri> = url.parse().ok();
    uri.and_then(|uri| uri.authority().map(ToString::to_string)).unwrap_or_else(|| url.to_owned())
}

/// Same scheme, host and port.
fn same_host(a: &str, b: &str) -> bool {
    let parse = |url: &str| url.parse::<Uri>().ok();
    match (parse(a), parse(b)) {
        (Some(a), Some(b)) => a.scheme() == b.scheme() && a.authority() == b.authority(),
        _ => false,
    }
}

/// Where a redirect leads; only to the web.
fn resolve(from: &str, to: &str) -> Option<String> {
    if to.starts_with("https://") || to.starts_with("http://") {
        return Some(to.to_owned());
    }
    let path = to.strip_prefix('/').filter(|path| !path.starts_with('/'))?;
    let from: Uri = from.parse().ok()?;
    Some(format!("{}://{}/{path}", from.scheme_str()?, from.authority()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_are_plain_names() {
        assert_eq!(tag_of("W/\"abc-1\"").as_deref(), Some("abc-1"));
        assert_eq!(tag_of("\"../../etc/passwd\""), None);
        assert_eq!(tag_of("\"\""), None);
    }

    #[test]
    fn a_token_stays_with_its_host() {
        assert!(same_host("https://hub.example/a/b", "https://hub.example"));
        for other in ["http://hub.example/a", "https://cdn.hub.example/a", "https://hub.example:444/a", "nonsense"] {
            assert!(!same_host(other, "https://hub.example"), "{other}");
        }
        assert_eq!(resolve("https://h/a/b", "/c/d").as_deref(), Some("https://h/c/d"));
        assert_eq!(resolve("https://h/a/b", "//evil/c"), None);
        assert_eq!(resolve("https://h/a/b", "file:///etc/passwd"), None);
    }
}
