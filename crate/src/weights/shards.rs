//! Safetensors in one file or in several with an index.

use std::collections::{BTreeMap, HashMap};

use serde::Deserialize;

use super::safetensors::{Entry, Header};
use crate::{
    error::{Error, Result},
    platform::NamedFile,
};

/// One model's safetensors files.
pub struct Shards {
    files: Vec<(Header, NamedFile)>,
    /// Which file holds a tensor.
    places: HashMap<String, usize>,
}

/// `model.safetensors.index.json`.
#[derive(Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

impl Shards {
    /// A model in one file.
    pub async fn single(file: NamedFile) -> Result<Self> {
        let header = Header::read(&file.name, file.blob.as_ref()).await?;
        let places = header.entries.keys().map(|name| (name.clone(), 0)).collect();
        Ok(Self { files: vec![(header, file)], places })
    }

    /// A model in the files that `index` names, taken out of `files`. Every header is read, and every tensor of the index
    /// must be in its file.
    pub async fn open(name: &str, index: &[u8], files: &mut HashMap<String, NamedFile>) -> Result<Self> {
        let index: Index = serde_json::from_slice(index).map_err(|e| {
            Error::weights(
                name,
                None,
                "an index with a weight_map of tensors and files",
                format!("something else ({e})"),
            )
        })?;
        let mut shards = Self { files: Vec::new(), places: HashMap::new() };
        // Its number, or none where it is missing.
        let mut numbers: HashMap<&str, Option<usize>> = HashMap::new();
        for shard in index.weight_map.values() {
            if numbers.contains_key(shard.as_str()) {
                continue;
            }
            let Some(file) = files.remove(shard) else {
                numbers.insert(shard, None);
                continue;
            };
            numbers.insert(shard, Some(shards.files.len()));
            let header = Header::read(&file.name, file.blob.as_ref()).await?;
            shards.files.push((header, file));
        }
        let mut missing: Vec<&str> = numbers.iter().filter(|(_, n)| n.is_none()).map(|(name, _)| *name).collect();
        if !missing.is_empty() {
            missing.sort_unstable();
            let message = format!("{} of the model's files are missing: {}", missing.len(), some(&missing));
            return Err(Error::format(name, message, "Put all files that the index names into the folder."));
        }
        for (tensor, shard) in &index.weight_map {
            let Some(Some(number)) = numbers.get(shard.as_str()) else { continue };
            if !shards.files[*number].0.entries.contains_key(tensor) {
                let got = format!("none of that name, though {name} says so");
                return Err(Error::weights(shard, Some(tensor), "this tensor in the file", got));
            }
            shards.places.insert(tensor.clone(), *number);
        }
        Ok(shards)
    }

    pub fn files(&self) -> impl Iterator<Item = &NamedFile> {
        self.files.iter().map(|(_, file)| file)
    }

    fn of(&self, name: &str) -> Option<&(Header, NamedFile)> {
        self.files.get(*self.places.get(name)?)
    }

    pub fn entry(&self, name: &str) -> Option<&Entry> {
        self.of(name)?.0.entries.get(name)
    }

    /// The file that errors about the model's tensors name.
    pub fn file(&self, name: &str) -> &str {
        let first = || self.files.first().map_or("model.safetensors", |(_, file)| &file.name);
        self.of(name).map_or_else(first, |(_, file)| &file.name)
    }

    pub async fn tensor(&self, name: &str) -> Result<(Vec<f32>, Vec<usize>)> {
        match self.of(name) {
            Some((header, file)) => header.tensor(file.blob.as_ref(), name).await,
            None => Err(Error::weights(self.file(name), Some(name), "this tensor in the file", "none of that name")),
        }
    }

    /// Of all files.
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|(_, file)| file.blob.size()).sum()
    }
}

/// A list short enough for a message.
fn some(names: &[&str]) -> String {
    const SHOWN: usize = 5;
    let more = names.len().saturating_sub(SHOWN);
    let shown = names[..names.len() - more].join(", ");
    if more == 0 { shown } else { format!("{shown} and {more} more") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        platform::Memory,
        weights::safetensors::{DType, write},
    };

    fn shard(name: &str, tensor: &str, values: &[f32]) -> (String, NamedFile) {
        let bytes = write(&[(tensor.into(), vec![values.len()], values.to_vec())], DType::F32);
        (name.into(), NamedFile { name: name.into(), blob: Box::new(Memory(bytes)) })
    }

    fn open(index: &str, files: &[&str]) -> Result<Shards> {
        let all = [shard("one", "a", &[1.0]), shard("two", "b", &[2.0, 3.0])];
        let mut files = all.into_iter().filter(|(name, _)| files.contains(&name.as_str())).collect();
        pollster::block_on(Shards::open("model.safetensors.index.json", index.as_bytes(), &mut files))
    }

    #[test]
    fn tensors_come_from_their_files() {
        let shards =
            open(r#"{"metadata": {"total_size": 12}, "weight_map": {"a": "one", "b": "two"}}"#, &["one", "two"])
                .expect("both files are there");
        let read = |name| pollster::block_on(shards.tensor(name));
        assert_eq!(read("a").expect("a"), (vec![1.0], vec![1]));
        assert_eq!(read("b").expect("b"), (vec![2.0, 3.0], vec![2]));
        assert!(read("c").is_err());
    }

    #[test]
    fn what_is_missing_is_named() {
        let good = r#"{"weight_map": {"a": "one", "b": "two"}}"#;
        let wrong = r#"{"weight_map": {"a": "one", "b": "one"}}"#;
        for (index, files, words) in [
            (good, ["one"].as_slice(), ["two", "missing"]),
            (wrong, &["one", "two"], ["one", "tensor b"]),
            (r#"{"weight_map": 3}"#, &["one"], ["model.safetensors.index.json", "weight_map"]),
        ] {
            let error = open(index, files).err().expect("refused").to_string();
            assert!(words.iter().all(|word| error.contains(word)), "{error}");
        }
    }
}
