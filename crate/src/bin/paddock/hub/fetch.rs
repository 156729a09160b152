//! One file after the other: resumed where a connection broke, checked by length and SHA-256, kept under its tag.

use std::{
    fs::{self, File},
    io::{Read, Write},
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use paddock::event::Failure;
use sha2::{Digest, Sha256};
use ureq::{
    Body,
    http::{Response, StatusCode},
};

use super::{
    Repo,
    cache::{self, Cache},
    request::{ATTEMPTS, Answer, Client, Failed, pause},
};
use crate::{
    files::{self, Result, failure},
    output::Output,
};

const BUFFER: usize = 1 << 20;
const SHOWN_EVERY: Duration = Duration::from_millis(500);

pub struct Fetcher<'a> {
    pub client: &'a Client,
    pub cache: &'a Cache,
    pub repo: &'a Repo,
    pub commit: &'a str,
    pub output: &'a mut Output,
}

/// How an attempt ended.
enum Ended {
    Whole,
    /// The connection broke, or the server sent less than it said.
    Short(String),
    /// What is there does not go on from where it stands: from the start again.
    Restart(String),
}

impl Fetcher<'_> {
    /// The place of a file in the snapshot, fetched where it is not there.
    pub fn file(&mut self, name: &str) -> Result<PathBuf> {
        let place = self.cache.snapshot(self.commit).join(name);
        if place.is_file() {
            return Ok(place);
        }
        let mut idle = 0;
        let mut restarts = 0;
        let mut seen = 0;
        loop {
            let reason = match self.attempt(name) {
                Ok((tag, Ended::Whole)) => return self.cache.link(&tag, self.commit, name),
                Ok((tag, Ended::Short(reason))) => {
                    let length = length(&self.part(&tag));
                    if length > seen {
                        (idle, seen) = (0, length);
                    }
                    reason
                }
                Ok((tag, Ended::Restart(reason))) => {
                    restarts += 1;
                    seen = 0;
                    remove(&self.part(&tag))?;
                    if restarts > 1 {
                        return Err(damaged(name, &reason));
                    }
                    reason
                }
                Err(Failed::Refused(failure)) => return Err(failure),
                Err(Failed::Unreachable(reason)) => reason,
            };
            idle += 1;
            if idle >= ATTEMPTS {
                return Err(self.client.unreachable(self.repo, &format!("{name}: {reason}")));
            }
            self.output.note(&format!("{name}: {reason}; trying again"));
            thread::sleep(pause(idle));
        }
    }

    /// One request, from where an earlier one stopped.
    fn attempt(&mut self, name: &str) -> Answer<(String, Ended)> {
        let refused = |failure: Failure| Failed::Refused(failure);
        // Which content it is, and so where an earlier attempt has left it, only an answer tells.
        let (info, mut response) = self.client.file(self.repo, self.commit, name, 0)?;
        let tag = info.tag;
        let _lock = self.cache.lock(&tag).map_err(refused)?;
        if self.cache.blob(&tag).is_file() {
            return Ok((tag, Ended::Whole));
        }
        let part = self.part(&tag);
        cache::make_parent(&part).map_err(refused)?;
        let mut start = length(&part);
        if info.size.is_some_and(|size| start > size) {
            return Ok((tag, Ended::Restart(format!("{start} bytes are there, more than it has"))));
        }
        if start > 0 && Some(start) != info.size {
            response = self.client.file(self.repo, self.commit, name, start)?.1;
            match response.status() {
                StatusCode::PARTIAL_CONTENT if begins_at(&response) == Some(start) => {}
                // It sends all of it: what is there is written over.
                StatusCode::OK => start = 0,
                _ => return Ok((tag, Ended::Restart(format!("the server does not go on from byte {start}")))),
            }
        }
        let received = if Some(start) == info.size && start > 0 {
            Ended::Whole
        } else {
            self.receive(name, response, &part, start, info.size).map_err(refused)?
        };
        if !matches!(received, Ended::Whole) {
            return Ok((tag, received));
        }
        // Large files are tagged by their SHA-256.
        if tag.len() == 64 && sha256(&part).map_err(refused)? != tag.to_ascii_lowercase() {
            return Ok((tag, Ended::Restart("its SHA-256 is not the one that the hub has".into())));
        }
        let blob = self.cache.blob(&tag);
        fs::rename(&part, &blob).map_err(|error| refused(files::cannot("write", &blob, &error)))?;
        Ok((tag, Ended::Whole))
    }

    /// Writes a body behind the first `start` bytes of `part`.
    fn receive(
        &mut self,
        name: &str,
        response: Response<Body>,
        part: &Path,
        start: u64,
        size: Option<u64>,
    ) -> Result<Ended> {
        let cannot = |error| files::cannot("write", part, &error);
        let mut file = File::options().create(true).append(true).open(part).map_err(cannot)?;
        file.set_len(start).map_err(cannot)?;
        let mut body = response.into_body().into_with_config().limit(u64::MAX).reader();
        let mut buffer = vec![0; BUFFER];
        let mut at = start;
        let mut shown = Instant::now();
        self.output.download(name, at, size)?;
        let broken = loop {
            let read = match body.read(&mut buffer) {
                Ok(0) => break None,
                Ok(read) => read,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(error) => break Some(format!("the connection broke ({error})")),
            };
            at += read as u64;
            if size.is_some_and(|size| at > size) {
                return Ok(Ended::Restart(format!(
                    "the server sends more than the {} bytes it has",
                    size.unwrap_or(0)
                )));
            }
            file.write_all(&buffer[..read]).map_err(cannot)?;
            if shown.elapsed() >= SHOWN_EVERY {
                shown = Instant::now();
                self.output.download(name, at, size)?;
            }
        };
        file.sync_all().map_err(cannot)?;
        self.output.download(name, at, size)?;
        match (broken, size) {
            (None, None) => Ok(Ended::Whole),
            (_, Some(size)) if at == size => Ok(Ended::Whole),
            (broken, _) => {
                let of = size.map(|size| format!(" of {size}")).unwrap_or_default();
                let why = broken.unwrap_or_else(|| "the connection ended early".into());
                Ok(Ended::Short(format!("{why}, {at}{of} bytes are there")))
            }
        }
    }

    fn part(&self, tag: &str) -> PathBuf {
        self.cache.blob(&format!("{tag}.incomplete"))
    }
}

fn damaged(name: &str, reason: &str) -> Failure {
    failure(
        format!("{name} comes damaged: {reason}"),
        "Try again later or over another connection; HF_ENDPOINT says which hub is asked.",
    )
}

/// The first byte of a partial answer.
fn begins_at(response: &Response<Body>) -> Option<u64> {
    let range = response.headers().get("content-range")?.to_str().ok()?;
    range.strip_prefix("bytes ")?.split('-').next()?.trim().parse().ok()
}

fn length(path: &Path) -> u64 {
    fs::metadata(path).map_or(0, |metadata| metadata.len())
}

fn remove(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(files::cannot("remove", path, &error)),
        _ => Ok(()),
    }
}

fn sha256(path: &Path) -> Result<String> {
    let cannot = |error| files::cannot("read", path, &error);
    let mut file = File::open(path).map_err(cannot)?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; BUFFER];
    loop {
        match file.read(&mut buffer).map_err(cannot)? {
            0 => break,
            read => hash.update(&buffer[..read]),
        }
    }
    Ok(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}
