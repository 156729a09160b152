//! A folder for one test, with a tiny random LLaMA and tables to train it on; and the command, run in it.

use std::{
    collections::BTreeMap,
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use safetensors::{Dtype, tensor::TensorView};
use serde_json::{Value, json};
use temp_dir::TempDir;

const VOCAB: usize = 258;
const HIDDEN: usize = 32;
const FFN: usize = 64;
const LAYERS: usize = 2;
const HEADS: usize = 4;
const KV_HEADS: usize = 2;

pub struct Folder(TempDir);

impl Folder {
    /// Holds `model/` and `reviews.csv`.
    pub fn new() -> Self {
        let folder = Self(TempDir::new().unwrap());
        fs::create_dir(folder.path("model")).unwrap();
        folder.write("model/config.json", config().to_string());
        folder.write("model/tokenizer.json", tokenizer().to_string());
        folder.write("model/model.safetensors", weights());
        folder.write("reviews.csv", reviews(120));
        folder
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub fn write(&self, name: &str, bytes: impl AsRef<[u8]>) {
        fs::write(self.path(name), bytes).unwrap();
    }

    pub fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }

    pub fn json(&self, name: &str) -> Value {
        serde_json::from_str(&self.read(name)).unwrap()
    }

    pub fn names(&self, folder: &str) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(self.path(folder))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    pub fn command<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_paddock"));
        command.current_dir(&self.0).args(args);
        command
    }

    pub fn run(&self, args: &[&str]) -> Run {
        Run::from(self.command(args).output().unwrap())
    }

    /// A short training run on `file`, with `more` flags.
    pub fn train(&self, file: &str, more: &[&str]) -> Run {
        self.run(&[&train_args(file), more].concat())
    }
}

pub fn train_args(file: &str) -> [&str; 11] {
    [
        "train",
        "--model_name_or_path",
        "model",
        "--train_file",
        file,
        "--device",
        "cpu",
        "--max_seq_length",
        "32",
        "--log-format",
        "json",
    ]
}

/// How a command ended.
pub struct Run {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl From<Output> for Run {
    fn from(output: Output) -> Self {
        let run = Self {
            code: output.status.code().expect("ended by itself, not by a signal"),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        };
        assert!(!run.stderr.contains("panicked"), "{}", run.stderr);
        run
    }
}

impl Run {
    /// The JSON lines.
    pub fn lines(&self) -> Vec<Value> {
        let parse = |line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error} in {line}"));
        self.stdout.lines().map(parse).collect()
    }

    pub fn events(&self, kind: &str) -> Vec<Value> {
        self.lines().into_iter().filter(|line| line["event"] == kind).collect()
    }

    /// The last line of a command that went well.
    pub fn result(&self) -> Value {
        assert_eq!(self.code, 0, "{}{}", self.stdout, self.stderr);
        let last = self.lines().pop().expect("a result line");
        assert_eq!(last["event"], "result", "{last}");
        last
    }

    /// The message and advice of a command that went badly.
    pub fn error(&self) -> String {
        assert!(self.code == 1 || self.code == 2, "exit status {}: {}{}", self.code, self.stdout, self.stderr);
        let last = self.lines().pop().expect("an error line");
        assert_eq!(last["event"], "error", "{last}");
        let part = |key: &str| last[key].as_str().unwrap_or_default().to_owned();
        assert!(!part("message").is_empty() && !part("advice").is_empty(), "{last}");
        format!("{} / {}", part("message"), part("advice"))
    }
}

/// Rows whose last word tells the label.
pub fn reviews(rows: usize) -> String {
    let words = [("great", "positive"), ("poor", "negative"), ("fine", "positive"), ("awful", "negative")];
    let things = ["film", "plot", "cast", "score", "scene"];
    let mut csv = String::from("text,label\n");
    for row in 0..rows {
        let (word, label) = words[row % words.len()];
        csv += &format!("\"the {}, as a whole, is {word}\",{label}\n", things[row % things.len()]);
    }
    csv
}

pub fn config() -> Value {
    json!({
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": VOCAB,
        "hidden_size": HIDDEN,
        "intermediate_size": FFN,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "num_key_value_heads": KV_HEADS,
        "max_position_embeddings": 64,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "hidden_act": "silu",
        "tie_word_embeddings": true,
        "attention_bias": false,
        "mlp_bias": false,
        "bos_token_id": 256,
        "eos_token_id": 257,
        "torch_dtype": "float32"
    })
}

/// Byte-level BPE without merges: every byte is a token.
pub fn tokenizer() -> Value {
    // GPT-2's table: printable bytes stand for themselves, the others for the letters from U+0100.
    let mut next = 0x100;
    let mut vocab = BTreeMap::new();
    for byte in 0..=255u8 {
        let printable = matches!(byte, b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF);
        let letter = if printable { u32::from(byte) } else { next };
        next += u32::from(!printable);
        vocab.insert(char::from_u32(letter).unwrap().to_string(), usize::from(byte));
    }
    let special = |id: usize, content: &str| {
        json!({"id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false,
               "normalized": false, "special": true})
    };
    vocab.insert("<s>".to_owned(), 256);
    vocab.insert("</s>".to_owned(), 257);
    let byte_level = json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true});
    json!({
        "version": "1.0", "truncation": null, "padding": null, "normalizer": null, "post_processor": null,
        "added_tokens": [special(256, "<s>"), special(257, "</s>")],
        "pre_tokenizer": byte_level, "decoder": byte_level,
        "model": {"type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
                  "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "ignore_merges": false,
                  "vocab": vocab, "merges": []}
    })
}

fn weights() -> Vec<u8> {
    let mut shapes = vec![
        ("model.embed_tokens.weight".to_owned(), vec![VOCAB, HIDDEN]),
        ("model.norm.weight".to_owned(), vec![HIDDEN]),
    ];
    let kv = HIDDEN / HEADS * KV_HEADS;
    for layer in 0..LAYERS {
        let mut add = |name: &str, shape: &[usize]| {
            shapes.push((format!("model.layers.{layer}.{name}.weight"), shape.to_vec()));
        };
        add("input_layernorm", &[HIDDEN]);
        add("post_attention_layernorm", &[HIDDEN]);
        add("self_attn.q_proj", &[HIDDEN, HIDDEN]);
        add("self_attn.k_proj", &[kv, HIDDEN]);
        add("self_attn.v_proj", &[kv, HIDDEN]);
        add("self_attn.o_proj", &[HIDDEN, HIDDEN]);
        add("mlp.gate_proj", &[FFN, HIDDEN]);
        add("mlp.up_proj", &[FFN, HIDDEN]);
        add("mlp.down_proj", &[HIDDEN, FFN]);
    }
    let mut rng = ChaCha8Rng::seed_from_u64(7);
    let mut value = |norm: bool| if norm { 1.0f32 } else { rng.random_range(-0.2..0.2) };
    let data: Vec<_> = shapes
        .into_iter()
        .map(|(name, shape)| {
            let count = shape.iter().product();
            let bytes: Vec<u8> = (0..count).flat_map(|_| value(shape.len() == 1).to_le_bytes()).collect();
            (name, shape, bytes)
        })
        .collect();
    let views = data
        .iter()
        .map(|(name, shape, bytes)| (name.as_str(), TensorView::new(Dtype::F32, shape.clone(), bytes).unwrap()));
    safetensors::serialize(views, None).unwrap()
}

/// What `path` must still hold after a command that must not touch it.
pub fn bytes(path: &Path) -> Vec<u8> {
    fs::read(path).unwrap()
}
