//! Which files each format consists of.

use serde_json::{Map, Value, json};

use super::{card, gguf, piece::Planned};
use crate::{
    adapter::{self, PeftConfig},
    apply::Applied,
    config::Method,
    error::{Error, Result},
    event::{ExportDType, ExportFormat},
    model::Llama,
    plan,
    plugin::{self, Manifest},
    weights::{folder::json_bytes, safetensors},
};

/// Where Hugging Face's `save_pretrained` begins another file.
const SHARD: u64 = 5_000_000_000;

pub(super) fn plan(applied: &mut Applied, format: ExportFormat, dtype: Option<ExportDType>) -> Result<Vec<Planned>> {
    refuse(applied, format, dtype)?;
    let mut files = match format {
        ExportFormat::Adapter => adapter_folder(applied, dtype.unwrap_or(ExportDType::F32))?,
        ExportFormat::Merged => {
            let own = applied.folder.weights.dtype().into();
            merged_folder(applied, dtype.unwrap_or(own), SHARD)?
        }
        ExportFormat::Gguf => {
            let dtype = dtype.unwrap_or(ExportDType::F16);
            vec![gguf::merged(applied, gguf_file(applied, "", dtype), dtype)?]
        }
        ExportFormat::GgufLora => {
            let dtype = dtype.unwrap_or(ExportDType::F32);
            let file = gguf_file(applied, "-lora", dtype);
            vec![gguf::adapter(applied, file, dtype)?]
        }
    };
    files.push(Planned::ready("README.md", card::write(applied, format).into_bytes()));
    Ok(files)
}

/// The name of the one zip that holds an export.
pub(super) fn archive_name(format: ExportFormat) -> String {
    match format {
        ExportFormat::Adapter | ExportFormat::GgufLora => "adapter.zip".into(),
        ExportFormat::Merged | ExportFormat::Gguf => "model.zip".into(),
    }
}

/// What cannot be: said before anything is written, with what can be instead.
fn refuse(applied: &Applied, format: ExportFormat, dtype: Option<ExportDType>) -> Result<()> {
    let lora = applied.config.training.method == Method::Lora;
    if !lora && matches!(format, ExportFormat::Adapter | ExportFormat::GgufLora) {
        return Err(Error::session(
            "There is no adapter: every weight of this model was trained.",
            "Export the whole model (merged, or gguf).",
        ));
    }
    let gguf = matches!(format, ExportFormat::Gguf | ExportFormat::GgufLora);
    if gguf && applied.config.task.classifies() {
        return Err(Error::session(
            "A classifier cannot be written as GGUF: llama.cpp's LLaMA has no classification head.",
            "Export it as merged (transformers opens that) or as an adapter (PEFT opens that).",
        ));
    }
    if !gguf && dtype.is_some_and(|dtype| dtype.safetensors().is_none()) {
        return Err(Error::session("Q8_0 is a type of GGUF files.", "Choose f32, f16 or bf16, or the format gguf."));
    }
    Ok(())
}

/// PEFT's folder, with the classifier's config.json for the names of its classes.
fn adapter_folder(applied: &mut Applied, dtype: ExportDType) -> Result<Vec<Planned>> {
    let config = &applied.config;
    let classifier = config.task.classifies();
    let peft = PeftConfig::new(&config.lora, &config.model.name_or_path, classifier);
    let tensors = adapter::names(&mut applied.model);
    let mut files = vec![
        Planned::ready("adapter_config.json", json_bytes(&peft)),
        weights("adapter_model.safetensors", &tensors, dtype)?,
        Planned::ready("config.json", json_bytes(&model_json(applied))),
    ];
    let name = applied.name.clone().unwrap_or_else(|| plugin::default_name(&applied.config));
    let manifest = Manifest::new(plugin::id_of(&name), name, applied);
    files.push(Planned::ready(plugin::MANIFEST, json_bytes(&manifest)));
    files.append(&mut record(applied));
    Ok(files)
}

/// A Hugging Face folder; the weights in several files where one would have more than `most` bytes.
fn merged_folder(applied: &Applied, dtype: ExportDType, most: u64) -> Result<Vec<Planned>> {
    let config = applied.folder.config();
    let outputs = plan::outputs(&applied.config, &applied.labels);
    let tensors: Vec<Tensor> = Llama::shapes(config, plan::head(applied.config.task), outputs)
        .into_iter()
        .map(|(name, shape)| (name.clone(), name, shape))
        .collect();
    let mut json = model_json(applied);
    if let Some(dtype) = dtype.safetensors() {
        json.insert("torch_dtype".into(), dtype.torch_name().into());
    }
    let mut files = sharded(&tensors, dtype, most)?;
    files.push(Planned::ready("config.json", json_bytes(&json)));
    let texts = applied.folder.texts.iter();
    // How to generate is no question to a classifier.
    let classifier = applied.config.task.classifies();
    let wanted = texts.filter(|(name, _)| !(classifier && name == "generation_config.json"));
    files.extend(wanted.map(|(name, bytes)| Planned::ready(name.as_str(), bytes.clone())));
    files.append(&mut record(applied));
    Ok(files)
}

/// Name in the file, the weight's own name, shape.
type Tensor = (String, String, Vec<usize>);

fn weights(file: &str, tensors: &[Tensor], dtype: ExportDType) -> Result<Planned> {
    let stored = dtype.safetensors().ok_or_else(|| Error::session("Q8_0 is a type of GGUF files.", "Choose f16."))?;
    let mut planned = Planned::new(file);
    planned.push(safetensors::header(tensors.iter().map(|(name, _, shape)| (name.as_str(), shape.as_slice())), stored));
    for (_, own, shape) in tensors {
        planned.tensor(own, shape, dtype, None);
    }
    Ok(planned)
}

/// `model.safetensors`, or `model-00001-of-00003.safetensors` … with their index.
fn sharded(tensors: &[Tensor], dtype: ExportDType, most: u64) -> Result<Vec<Planned>> {
    let size = |(_, _, shape): &Tensor| dtype.bytes(shape.iter().map(|n| *n as u64).product());
    let total: u64 = tensors.iter().map(size).sum();
    let mut shards: Vec<&[Tensor]> = Vec::new();
    let (mut start, mut bytes) = (0, 0);
    for (at, tensor) in tensors.iter().enumerate() {
        if bytes > 0 && bytes + size(tensor) > most {
            shards.push(&tensors[start..at]);
            (start, bytes) = (at, 0);
        }
        bytes += size(tensor);
    }
    shards.push(&tensors[start..]);
    if let [all] = shards.as_slice() {
        return Ok(vec![weights("model.safetensors", all, dtype)?]);
    }
    let mut files = Vec::new();
    let mut map = Map::new();
    for (at, shard) in shards.iter().enumerate() {
        let name = format!("model-{:05}-of-{:05}.safetensors", at + 1, shards.len());
        map.extend(shard.iter().map(|(tensor, ..)| (tensor.clone(), Value::from(name.as_str()))));
        files.push(weights(&name, shard, dtype)?);
    }
    let index = json!({"metadata": {"total_size": total}, "weight_map": map});
    files.push(Planned::ready("model.safetensors.index.json", json_bytes(&index)));
    Ok(files)
}

/// `config.json`, a classifier's with the names of its classes.
fn model_json(applied: &Applied) -> Map<String, Value> {
    let config = applied.folder.config();
    if !applied.config.task.classifies() {
        let mut json = config.raw.clone();
        // A classifier's base that is trained to write is none any more.
        let architecture = config.architecture.replace("ForSequenceClassification", "ForCausalLM");
        json.insert("architectures".into(), json!([architecture]));
        return json;
    }
    let labels = if applied.labels.is_empty() { vec!["value".to_string()] } else { applied.labels.clone() };
    let mut json = config.classifier_json(&labels);
    // transformers needs it to find each row's last token.
    if json.get("pad_token_id").is_none_or(Value::is_null) {
        json.insert("pad_token_id".into(), applied.folder.tokenizer.pad_id().into());
    }
    json
}

/// The configuration and the metrics of the run.
fn record(applied: &Applied) -> Vec<Planned> {
    let mut files = vec![Planned::ready("run.yaml", applied.config.to_yaml().into_bytes())];
    if let Some(summary) = &applied.summary {
        let mut metrics = json!(summary);
        metrics["data"] = json!(applied.data);
        metrics["paddock_version"] = env!("CARGO_PKG_VERSION").into();
        files.push(Planned::ready("metrics.json", json_bytes(&metrics)));
    }
    files
}

/// `SmolLM2-135M-F16.gguf`
fn gguf_file(applied: &Applied, what: &str, dtype: ExportDType) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_') { c } else { '_' };
    let name = card::file_name(&applied.folder.name).trim_end_matches(".gguf");
    let base: String = name.chars().map(plain).take(100).collect();
    let base = base.trim_start_matches('.');
    format!("{}{what}-{}.gguf", if base.is_empty() { "model" } else { base }, dtype.ggml().name())
}

#[cfg(test)]
mod tests {
    use super::{super::piece::Piece, *};

    #[test]
    fn a_large_model_is_cut_into_files_that_the_index_finds() {
        let tensors: Vec<Tensor> = (0..10).map(|i| (format!("w{i}"), format!("w{i}"), vec![10 + i, 100])).collect();
        let files = sharded(&tensors, ExportDType::F16, 5000).expect("plan");
        assert_eq!(sharded(&tensors, ExportDType::F16, 1 << 20).expect("plan").len(), 1);
        let Some(Piece::Bytes(index)) = files.last().and_then(|file| file.pieces.front()) else { panic!("index") };
        let index: Value = serde_json::from_slice(index).expect("JSON");
        let mut found = 0;
        for file in &files[..files.len() - 1] {
            let Some(Piece::Bytes(header)) = file.pieces.front() else { panic!("header") };
            assert!(file.bytes() - header.len() as u64 <= 5000, "{}", file.name);
            let header: Map<String, Value> = serde_json::from_slice(&header[8..]).expect("JSON");
            for name in header.keys().filter(|name| *name != "__metadata__") {
                assert_eq!(index["weight_map"][name], file.name);
                found += 1;
            }
        }
        assert_eq!((found, files.len()), (10, 9), "two or one a file, and the index");
        let total: usize = tensors.iter().map(|(_, _, shape)| 2 * shape.iter().product::<usize>()).sum();
        assert_eq!(index["metadata"]["total_size"], total);
    }
}
