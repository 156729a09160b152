//! Models from the Hugging Face hub: its layout of addresses, its cache on disk and its tokens, so that what another
//! tool has fetched is not fetched again, and the other way round.

mod cache;
mod fetch;
mod request;

use std::path::{Path, PathBuf};

use paddock::event::Failure;
use serde_json::Value;

use crate::{
    files::{self, Result, failure},
    output::Output,
};
pub use cache::variable;

use cache::Cache;
use request::{Client, Failed};

/// `org/name`, with `@revision` where it is not `main`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Repo {
    pub id: String,
    pub revision: String,
}

impl Repo {
    /// None where `text` cannot be a repository's name.
    pub fn parse(text: &str) -> Option<Self> {
        let (id, revision) = text.split_once('@').unwrap_or((text, "main"));
        let (org, name) = id.split_once('/')?;
        let part = |part: &str| {
            let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
            part.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_') && part.chars().all(plain)
        };
        let good = part(org) && part(name) && id.len() <= 96 && !id.contains("--") && !id.contains("..");
        // Branches have slashes; what goes up or begins at the root is none.
        let branch =
            |part: &str| !part.is_empty() && part != "." && part != ".." && !part.contains(['\\', '?', '#', '%']);
        (good && revision.split('/').all(branch)).then(|| Self { id: id.into(), revision: revision.into() })
    }
}

/// What a model needs beside its weights, where the repository has it.
const TEXTS: [&str; 7] = [
    "config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "generation_config.json",
    "tokenizer.model",
    "chat_template.jinja",
];
const WEIGHTS: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";

/// The folder of a repository's model, fetched where it is not there yet.
pub fn open(repo: &Repo, output: &mut Output) -> Result<PathBuf> {
    let cache = Cache::new(&repo.id)?;
    let client = Client::new()?;
    let (commit, names) = match client.info(repo) {
        Ok(found) => found,
        Err(Failed::Unreachable(reason)) => {
            // What was fetched whole before is as good as the hub.
            let commit = cache.commit(&repo.revision).filter(|commit| complete(&cache.snapshot(commit)));
            let Some(commit) = commit else { return Err(client.unreachable(repo, &reason)) };
            output.warning(format!("{}: {reason}; using what was fetched before", repo.id))?;
            return Ok(cache.snapshot(&commit));
        }
        Err(Failed::Refused(failure)) => return Err(failure),
    };
    let mut fetcher = fetch::Fetcher { client: &client, cache: &cache, repo, commit: &commit, output };
    if !names.iter().any(|name| name == "config.json") {
        return Err(no_model(repo, &names));
    }
    for name in TEXTS.into_iter().filter(|name| names.iter().any(|other| other == name)) {
        fetcher.file(name)?;
    }
    if names.iter().any(|name| name == WEIGHTS) {
        fetcher.file(WEIGHTS)?;
    } else if names.iter().any(|name| name == INDEX) {
        let index = fetcher.file(INDEX)?;
        for shard in shards(&index)? {
            fetcher.file(&shard)?;
        }
    } else {
        return Err(no_model(repo, &names));
    }
    // Last, so that a revision that is known is one that is whole.
    cache.remember(&repo.revision, &commit)?;
    Ok(cache.snapshot(&commit))
}

/// Whether a snapshot can be opened as it is.
fn complete(folder: &Path) -> bool {
    let has = |name: &str| folder.join(name).is_file();
    let weights = has(WEIGHTS) || shards(&folder.join(INDEX)).is_ok_and(|shards| shards.iter().all(|name| has(name)));
    has("config.json") && weights
}

/// The files that an index names: plain names, so that none of them leads elsewhere.
fn shards(index: &Path) -> Result<Vec<String>> {
    let text = std::fs::read(index).map_err(|error| files::cannot("read", index, &error))?;
    let json: Value = serde_json::from_slice(&text).unwrap_or_default();
    let names = json["weight_map"].as_object().into_iter().flat_map(|map| map.values());
    let mut names: Vec<String> = names.map(|name| name.as_str().unwrap_or_default().to_owned()).collect();
    names.sort_unstable();
    names.dedup();
    let plain = |name: &String| name.ends_with(".safetensors") && !name.contains(['/', '\\']) && !name.starts_with('.');
    if names.is_empty() || !names.iter().all(plain) {
        return Err(failure(
            format!("{INDEX} of the repository names no weights"),
            "Choose another repository, or download the model by hand and give its folder.",
        ));
    }
    Ok(names)
}

fn no_model(repo: &Repo, names: &[String]) -> Failure {
    let other = ["bin", "gguf", "pt", "pth"].into_iter().find(|ending| {
        names.iter().any(|name| Path::new(name).extension().is_some_and(|extension| extension == *ending))
    });
    let there = match other {
        Some(ending) => format!("only weights as .{ending}"),
        None => format!("{} files, none of them weights as safetensors beside a config.json", names.len()),
    };
    failure(
        format!("{}: the repository holds {there}", repo.id),
        "Choose a repository with config.json, tokenizer.json and model.safetensors, or give a model's folder.",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repositories_are_told_from_paths() {
        let repo = |id: &str, revision: &str| Some(Repo { id: id.into(), revision: revision.into() });
        assert_eq!(Repo::parse("HuggingFaceTB/SmolLM2-135M"), repo("HuggingFaceTB/SmolLM2-135M", "main"));
        assert_eq!(Repo::parse("a/b@refs/pr/1"), repo("a/b", "refs/pr/1"));
        for text in
            ["name", "a/b/c", "/a/b", "../b", "a/..", "a/b@../x", "a/b@", "a b/c", "./b", "a/b@x?y", "a--b/c", "C:\\x"]
        {
            assert_eq!(Repo::parse(text), None, "{text}");
        }
    }
}
