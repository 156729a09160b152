//! The starter model, compiled into the command.

use paddock::platform::{Memory, NamedFile};

/// Pretrained by `crate/configs/starter-pretrain.yaml`.
const FILES: [(&str, &[u8]); 3] = [
    ("config.json", include_bytes!("../../../starter/config.json")),
    ("model.safetensors", include_bytes!("../../../starter/model.safetensors")),
    ("tokenizer.json", include_bytes!("../../../starter/tokenizer.json")),
];

pub fn files() -> Vec<NamedFile> {
    FILES
        .iter()
        .map(|(name, bytes)| NamedFile { name: (*name).into(), blob: Box::new(Memory(bytes.to_vec())) })
        .collect()
}
