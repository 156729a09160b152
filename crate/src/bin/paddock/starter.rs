//! The starter model, compiled into the command.

use paddock::platform::NamedFile;

use crate::files::{Result, StaticBlob, failure};

/// Pretrained by `crate/configs/starter-pretrain.yaml`.
const FILES: &[(&str, &[u8])] = &[];

pub fn files() -> Result<Vec<NamedFile>> {
    if FILES.is_empty() {
        return Err(failure(
            "this build of paddock carries no starter model",
            "Give a model's folder with --model_name_or_path DIR.",
        ));
    }
    let open = |(name, bytes): &(&str, &'static [u8])| NamedFile {
        name: (*name).to_owned(),
        blob: Box::new(StaticBlob(bytes)),
    };
    Ok(FILES.iter().map(open).collect())
}
