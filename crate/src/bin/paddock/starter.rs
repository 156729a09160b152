//! The starter model, compiled into the command.

use paddock::platform::{Memory, NamedFile};

use crate::files::{Result, failure};

/// Pretrained by `crate/configs/starter-pretrain.yaml`.
const FILES: &[(&str, &[u8])] = &[];

pub fn files() -> Result<Vec<NamedFile>> {
    if FILES.is_empty() {
        return Err(failure(
            "this build of paddock carries no starter model",
            "Give a model's folder with --model_name_or_path DIR.",
        ));
    }
    let open =
        |(name, bytes): &(&str, &[u8])| NamedFile { name: (*name).to_owned(), blob: Box::new(Memory(bytes.to_vec())) };
    Ok(FILES.iter().map(open).collect())
}
