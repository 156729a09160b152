//! What a trained model leaves as: files that the rest of the field opens.

use std::io::{Cursor, Read, Write};

use serde_json::{Value, json};
use zip::{CompressionMethod, ZipArchive, ZipWriter, write::SimpleFileOptions};

use crate::{
    adapter::{self, PeftConfig},
    apply::Applied,
    config::{Method, Task},
    error::{Error, Result},
    weights::{
        folder::json_bytes,
        read_f32,
        safetensors::{self, DType, Named},
    },
};

/// The files of a trained model, without folders: PEFT's two with the classifier's config.json after LoRA, a Hugging
/// Face folder after full fine-tuning; with both the configuration and the metrics of the run.
pub async fn folder(applied: &mut Applied) -> Result<Vec<(String, Vec<u8>)>> {
    let config = applied.config.clone();
    let classifier = config.task == Task::TextClassification;
    let mut files = Vec::new();
    let model_json = if classifier {
        let names = if applied.labels.is_empty() { vec!["value".to_string()] } else { applied.labels.clone() };
        applied.folder.config().classifier_json(&names)
    } else {
        applied.folder.config().raw.clone()
    };
    match config.training.method {
        Method::Lora => {
            let peft = PeftConfig::new(&config.lora, &config.model.name_or_path, classifier);
            let tensors = adapter::tensors(&mut applied.model).await?;
            files.push(("adapter_config.json".into(), json_bytes(&peft)));
            files.push(("adapter_model.safetensors".into(), safetensors::write(&tensors, DType::F32)));
        }
        Method::Full => {
            let dtype = applied.folder.weights.dtype();
            let mut tensors: Vec<Named> = Vec::new();
            for param in applied.model.params_mut() {
                tensors.push((param.name.clone(), param.shape(), read_f32(param.value()).await?));
            }
            files.push(("model.safetensors".into(), safetensors::write(&tensors, dtype)));
            files.extend(applied.folder.texts.iter().cloned());
        }
    }
    files.push(("config.json".into(), json_bytes(&model_json)));
    files.push(("run.yaml".into(), config.to_yaml().into_bytes()));
    if let Some(summary) = &applied.summary {
        let metrics: Value = json!({
            "before": summary.before, "after": summary.after, "rows": summary.rows,
            "steps": summary.steps, "seconds": summary.seconds, "completed": summary.completed,
        });
        files.push(("metrics.json".into(), json_bytes(&metrics)));
    }
    Ok(files)
}

/// One zip of these files. Not compressed: weights hardly shrink.
pub fn zip(files: &[(String, Vec<u8>)]) -> Result<Vec<u8>> {
    let failed = |e: zip::result::ZipError| Error::io("adapter.zip", e.into());
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, bytes) in files {
        let options = SimpleFileOptions::default().compression_method(CompressionMethod::Stored);
        zip.start_file(name.as_str(), options).map_err(failed)?;
        zip.write_all(bytes).map_err(|e| Error::io("adapter.zip", e))?;
    }
    Ok(zip.finish().map_err(failed)?.into_inner())
}

/// The files in a zip by their names without folders, together at most `most` bytes.
pub fn unzip(name: &str, bytes: Vec<u8>, most: u64) -> Result<Vec<(String, Vec<u8>)>> {
    let failed = |e: zip::result::ZipError| Error::io(name, e.into());
    let mut zip = ZipArchive::new(Cursor::new(bytes)).map_err(failed)?;
    let mut files = Vec::new();
    let mut left = most;
    for i in 0..zip.len().min(100) {
        let file = zip.by_index(i).map_err(failed)?;
        if file.is_dir() {
            continue;
        }
        let inside = file.name().rsplit(['/', '\\']).next().unwrap_or_default().to_string();
        // What is read counts, not what the archive claims.
        let mut content = Vec::new();
        let read = file.take(left + 1).read_to_end(&mut content).map_err(|e| Error::io(name, e))? as u64;
        left = left.checked_sub(read).ok_or_else(|| {
            let got = "more: not an adapter that Paddock wrote";
            Error::model(name, "the archive", format!("at most {most} bytes in all"), got)
        })?;
        files.push((inside, content));
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_zip_gives_back_its_files() {
        let files = vec![("a.json".to_string(), b"{}".to_vec()), ("b.bin".to_string(), vec![7; 1000])];
        let bytes = zip(&files).expect("zip");
        assert_eq!(unzip("x.zip", bytes.clone(), 1 << 20).expect("unzip"), files);
        assert!(unzip("x.zip", bytes.clone(), 100).is_err(), "too large inside");
        assert!(unzip("x.zip", bytes[..bytes.len() / 2].to_vec(), 1 << 20).is_err(), "truncated");
    }
}
