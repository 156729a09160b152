//! Files of models: GGML's types, GGUF, what a load holds in memory. See tests/golden/README.md for the fixtures.

#![allow(clippy::disallowed_methods)]

use std::{
    collections::{BTreeMap, HashMap},
    fs::File,
    io::Read,
    path::PathBuf,
    rc::Rc,
};

use burn::tensor::Device;
use half::f16;
use paddock::{
    model::{HeadKind, Llama, LlamaConfig},
    platform::{Blob, LocalFuture, Memory, NamedFile},
    rng,
    weights::{
        Packing, Shards, Weights,
        folder::{Folder, Loader},
        ggml::GgmlType,
        gguf::{GgufModel, gguf_name, read_vocab},
        safetensors::{DType, Header, Named, write},
    },
};
use pollster::block_on;

use crate::{
    golden::{assert_logits, fixture, model_of},
    memory::peak,
};

fn named(name: &str, blob: impl Blob + 'static) -> NamedFile {
    NamedFile { name: name.into(), blob: Box::new(blob) }
}

/// A file of which only the beginning is stored; the rest is zeros.
#[derive(Clone)]
pub struct Sparse {
    pub head: Vec<u8>,
    pub size: u64,
}

impl Blob for Sparse {
    fn size(&self) -> u64 {
        self.size
    }

    fn read(&self, offset: u64, len: usize) -> LocalFuture<'_, std::io::Result<Vec<u8>>> {
        assert!(offset + len as u64 <= self.size, "read beyond the end");
        let mut bytes = vec![0; len];
        let stored = self.head.get(offset as usize..).unwrap_or_default();
        let n = stored.len().min(len);
        bytes[..n].copy_from_slice(&stored[..n]);
        Box::pin(std::future::ready(Ok(bytes)))
    }
}

#[test]
fn ggml_types_as_the_gguf_package_has_them() {
    let bytes = fixture("ggml.safetensors");
    let file = safetensors::SafeTensors::deserialize(&bytes).expect("fixture");
    let data = |name: &str| file.tensor(name).unwrap_or_else(|_| panic!("no {name}")).data().to_vec();
    let floats = |name: &str| -> Vec<f32> {
        data(name).chunks(4).map(|b| f32::from_le_bytes(b.try_into().expect("4 bytes"))).collect()
    };
    let source = floats("source");
    let (mut read, mut written) = (0, 0);
    for kind in GgmlType::ALL.into_iter().filter(|kind| *kind != GgmlType::F32) {
        let name = kind.name();
        let wanted = floats(&format!("values.{name}"));
        let mut got = vec![f32::NAN; wanted.len()];
        kind.dequantize(&data(&format!("blocks.{name}")), &mut got);
        let different = got.iter().zip(&wanted).position(|(a, b)| a.to_bits() != b.to_bits());
        assert_eq!(different, None, "{name}: {:?}", different.map(|i| (got[i], wanted[i])));
        read += 1;
        if let Some(blocks) = kind.quantize(&source) {
            let wanted = data(&format!("written.{name}"));
            let different = blocks.iter().zip(&wanted).position(|(a, b)| a != b);
            assert_eq!((blocks.len(), different), (wanted.len(), None), "{name} written");
            written += 1;
        }
    }
    assert_eq!((read, written), (12, 5));
}

fn gguf_fixture() -> (LlamaConfig, GgufModel) {
    block_on(GgufModel::open(named("model.gguf", Memory(fixture("gguf/model.gguf"))))).expect("fixture")
}

#[test]
fn a_gguf_answers_as_transformers_does_with_its_numbers() {
    let (config, model) = gguf_fixture();
    assert!(config.tie_word_embeddings);
    assert_eq!(config.raw["rope_scaling"]["original_max_position_embeddings"], 32);
    let vocab = read_vocab(&model.gguf).expect("vocabulary");
    assert_eq!((vocab.tokens.len(), vocab.scores.len(), vocab.token_types.len()), (264, 264, 264));
    assert_eq!((vocab.bos, vocab.eos, vocab.unk, vocab.pad), (Some(1), Some(2), Some(0), None));
    assert_eq!((vocab.model.as_str(), vocab.add_space_prefix, vocab.add_eos), ("llama", Some(true), None));
    let weights = Weights::new(config, model).expect("shapes");
    assert_eq!(weights.stored_as("model.layers.0.mlp.up_proj.weight"), Some("Q3_K"));
    assert_logits("gguf", &model_of(weights, HeadKind::CausalLm, 0));
}

#[test]
fn a_gguf_alone_is_a_model_with_its_tokenizer() {
    let files = || vec![named("model.gguf", Memory(fixture("gguf/model.gguf")))];
    let folder = block_on(Folder::open(String::new(), files())).expect("fixture");
    assert_eq!((folder.name.as_str(), folder.summary().dtype.as_str()), ("model.gguf", "Q4_1"));
    let ids = folder.tokenizer.encode("ae!", None).expect("tokens").ids;
    // Beginning of text, `▁a`, `e`, and the byte of `!`.
    assert_eq!(ids, [1, 262, 261, 3 + 0x21]);
    let names: Vec<&str> = folder.texts.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["tokenizer.json", "tokenizer_config.json"]);
}

#[test]
fn packed_rows_are_the_tensors_rows() {
    let (config, model) = gguf_fixture();
    let shapes = Llama::shapes(&config, HeadKind::CausalLm, 0);
    let weights = Weights::new(config, model).expect("shapes");
    for (name, shape) in shapes {
        let (values, found) = block_on(weights.tensor(&name)).expect("tensor");
        assert_eq!(found, shape, "{name}");
        let (kind, bytes) = block_on(weights.packed(&name)).expect("blocks").expect("a GGUF has blocks");
        let mut unpacked = vec![f32::NAN; values.len()];
        kind.dequantize(&bytes, &mut unpacked);
        assert_eq!(unpacked, values, "{name}");
    }
}

#[test]
fn a_model_in_parts_answers_as_it_does_whole() {
    let config = LlamaConfig::from_json(&fixture("causal/config.json")).expect("config.json");
    let whole = Memory(fixture("causal/model.safetensors"));
    let header = block_on(Header::read("model.safetensors", &whole)).expect("fixture");
    let mut parts: [Vec<Named>; 2] = Default::default();
    let mut places = serde_json::Map::new();
    for (i, name) in header.entries.keys().enumerate() {
        let (values, shape) = block_on(header.tensor(&whole, name)).expect("tensor");
        parts[i % 2].push((name.clone(), shape, values));
        places.insert(name.clone(), format!("part-{}.safetensors", i % 2).into());
    }
    let index = serde_json::json!({"metadata": {"total_size": 0}, "weight_map": places}).to_string();
    let mut files: HashMap<String, NamedFile> = (0..2)
        .map(|i| format!("part-{i}.safetensors"))
        .zip(&parts)
        .map(|(name, tensors)| (name.clone(), named(&name, Memory(write(tensors, DType::F32)))))
        .collect();
    let shards = block_on(Shards::open("model.safetensors.index.json", index.as_bytes(), &mut files)).expect("parts");
    let weights = Weights::new(config, shards).expect("shapes");
    assert_logits("causal", &model_of(weights, HeadKind::CausalLm, 0));
}

/// The fixture with some bytes after the first `mark` replaced.
fn damaged(mark: &str, after: usize, bytes: &[u8]) -> Vec<u8> {
    let mut gguf = fixture("gguf/model.gguf");
    let at = gguf.windows(mark.len()).position(|w| w == mark.as_bytes()).expect("mark") + mark.len() + after;
    gguf[at..at + bytes.len()].copy_from_slice(bytes);
    gguf
}

#[test]
fn what_is_not_read_is_refused_by_its_name() {
    // A name is followed by the number of dimensions, these, the type and the place.
    let (kind, place) = (4 + 2 * 8, 4 + 2 * 8 + 4);
    let gguf = fixture("gguf/model.gguf");
    // A key of as many letters lends its place, its value gives way.
    let scaled = |kind: &str| {
        let mut gguf = gguf.clone();
        let key = gguf.windows(23).position(|w| w == b"tokenizer.chat_template").expect("key");
        gguf[key..key + 23].copy_from_slice(b"llama.rope.scaling.type");
        let value = key + 23 + 4;
        let old = u64::from_le_bytes(gguf[value..value + 8].try_into().expect("8 bytes")) as usize;
        let new = (kind.len() as u64).to_le_bytes().into_iter().chain(kind.bytes());
        gguf.splice(value..value + 8 + old, new);
        gguf
    };
    let cases: Vec<(&str, Vec<u8>, &[&str])> = vec![
        ("a.gguf", damaged("general.architecture", 12, b"qwen2"), &["a.gguf", "general.architecture is qwen2"]),
        ("a.gguf", damaged("GGUF", 0, &[4]), &["version", "4"]),
        ("a.gguf", damaged("GGUF", 0, &[0, 0, 0, 3]), &["big-endian"]),
        ("a.gguf", damaged("blk.0.attn_q.weight", kind, &[23]), &["blk.0.attn_q.weight", "IQ4_XS", "Q4_K"]),
        ("a.gguf", damaged("blk.0.attn_q.weight", place, &[0xff; 8]), &["blk.0.attn_q.weight", "truncated"]),
        ("a.gguf", damaged("blk.0.attn_q", 0, b"_norms!"), &["blk.0.attn_q_norms!", "not part of a LLaMA"]),
        ("a.gguf", damaged("llama.rope.dimension_count", 4, &[4]), &["llama.rope.dimension_count", "8", "4"]),
        ("a.gguf", scaled("yarn"), &["llama.rope.scaling.type is yarn"]),
        ("a.gguf", scaled("linear"), &["llama.rope.scaling.factor"]),
        ("a.gguf", gguf[..gguf.len() - 1].to_vec(), &["truncated"]),
        ("a.gguf", gguf[..4000].to_vec(), &["a.gguf", "truncated"]),
        ("a.gguf", b"GGML".to_vec(), &["a GGUF file"]),
    ];
    for (i, (name, bytes, words)) in cases.into_iter().enumerate() {
        let error = block_on(GgufModel::open(named(name, Memory(bytes)))).err().expect("refused").to_string();
        assert!(words.iter().all(|word| error.contains(word)), "case {i}: {error}");
    }
    let json = fixture("causal/config.json");
    let folder = |names: &[&str]| {
        let texts = [("config.json", json.clone()), ("tokenizer.json", b"{}".to_vec())];
        let others = names.iter().map(|name| named(name, Memory(gguf.clone())));
        let files = texts.into_iter().map(|(name, bytes)| named(name, Memory(bytes))).chain(others).collect();
        block_on(Folder::open("folder".into(), files)).err().expect("refused")
    };
    for (names, message, advice) in [
        (["pytorch_model.bin", "x.json"], "PyTorch", "save_pretrained"),
        (["model-00001-of-00002.safetensors", "x.json"], "model.safetensors.index.json", "index"),
        (["a.gguf", "b.GGUF"], "2 GGUF files", "one of the files"),
        (["weights.h5", "x.json"], "weights.h5", "weight file"),
    ] {
        let error = folder(&names);
        assert!(error.to_string().contains(message) && error.advice().contains(advice), "{error}: {}", error.advice());
    }
}

/// A file on disk, a range at a time.
struct OnDisk(std::cell::RefCell<File>, u64);

impl OnDisk {
    fn open(path: &PathBuf) -> Option<Self> {
        let file = File::open(path).ok()?;
        let size = file.metadata().ok()?.len();
        Some(Self(file.into(), size))
    }
}

impl Blob for OnDisk {
    fn size(&self) -> u64 {
        self.1
    }

    fn read(&self, offset: u64, len: usize) -> LocalFuture<'_, std::io::Result<Vec<u8>>> {
        use std::io::Seek;
        let mut bytes = vec![0; len];
        let mut file = self.0.borrow_mut();
        let read = file.seek(std::io::SeekFrom::Start(offset)).and_then(|_| file.read_exact(&mut bytes));
        Box::pin(std::future::ready(read.map(|()| bytes)))
    }
}

/// The GGUF of a real model against the folder that tests/reference/smollm2_to_hf.py wrote of it by the gguf package.
#[test]
fn smollm2_is_what_its_reference_conversion_is() {
    let models = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../.paddock/models");
    let folder = models.join("SmolLM2-135M-Instruct");
    let gguf = OnDisk::open(&models.join("SmolLM2-135M-Instruct.Q4_1.gguf"));
    let (Some(gguf), Some(reference)) = (gguf, OnDisk::open(&folder.join("model.safetensors"))) else {
        eprintln!("skipped smollm2_is_what_its_reference_conversion_is: run tests/reference/smollm2_to_hf.py first");
        return;
    };
    let (config, model) = block_on(GgufModel::open(named("SmolLM2.gguf", gguf))).expect("SmolLM2");
    let json = std::fs::read(folder.join("config.json")).expect("config.json");
    let wanted = LlamaConfig::from_json(&json).expect("config.json");
    let same = LlamaConfig { raw: config.raw.clone(), initializer_range: 0.02, ..wanted.clone() };
    assert_eq!(config, same);
    let ours = Weights::new(config, model).expect("shapes");
    let theirs = block_on(Weights::open(wanted, named("model.safetensors", reference))).expect("shapes");
    assert_eq!(theirs.stored_as("model.norm.weight"), Some("F16"));
    for (name, _) in Llama::shapes(&ours.config, HeadKind::CausalLm, 0) {
        let (a, _) = block_on(ours.tensor(&name)).expect("ours");
        let (b, _) = block_on(theirs.tensor(&name)).expect("theirs");
        let different = a.iter().zip(&b).position(|(a, b)| f16::from_f32(*a).to_f32().to_bits() != b.to_bits());
        assert_eq!((a.len(), different), (b.len(), None), "{name}");
    }
}

/// A model of one layer with a large vocabulary.
fn wide() -> LlamaConfig {
    let keys = serde_json::json!({
        "model_type": "llama", "vocab_size": 48_000, "hidden_size": 512, "intermediate_size": 64,
        "num_hidden_layers": 1, "num_attention_heads": 8, "tie_word_embeddings": true,
    });
    LlamaConfig::from_json(keys.to_string().as_bytes()).expect("configuration")
}

/// A safetensors file of zeros.
fn safetensors_of(shapes: &[(String, Vec<usize>)]) -> Sparse {
    let mut header = serde_json::Map::new();
    let mut end = 0;
    for (name, shape) in shapes {
        let start = end;
        end += shape.iter().product::<usize>() * 2;
        let entry = serde_json::json!({"dtype": "BF16", "shape": shape, "data_offsets": [start, end]});
        header.insert(name.clone(), entry);
    }
    let json = serde_json::Value::Object(header).to_string();
    let mut head = (json.len() as u64).to_le_bytes().to_vec();
    head.extend_from_slice(json.as_bytes());
    Sparse { size: (head.len() + end) as u64, head }
}

/// A GGUF file of zeros, matrices as Q4_0.
fn gguf_of(config: &LlamaConfig, shapes: &[(String, Vec<usize>)]) -> Sparse {
    let mut head = b"GGUF\x03\0\0\0".to_vec();
    let text = |out: &mut Vec<u8>, text: &str| {
        out.extend((text.len() as u64).to_le_bytes());
        out.extend(text.as_bytes());
    };
    let numbers = [
        ("context_length", 64),
        ("embedding_length", config.hidden_size),
        ("block_count", config.num_hidden_layers),
        ("feed_forward_length", config.intermediate_size),
        ("attention.head_count", config.num_attention_heads),
    ];
    head.extend((shapes.len() as u64).to_le_bytes());
    head.extend((numbers.len() as u64 + 2).to_le_bytes());
    text(&mut head, "general.architecture");
    head.extend(8u32.to_le_bytes());
    text(&mut head, "llama");
    text(&mut head, "llama.attention.layer_norm_rms_epsilon");
    head.extend(6u32.to_le_bytes());
    head.extend(1e-5f32.to_le_bytes());
    for (key, n) in numbers {
        text(&mut head, &format!("llama.{key}"));
        head.extend(4u32.to_le_bytes());
        head.extend((n as u32).to_le_bytes());
    }
    let mut end = 0u64;
    for (name, shape) in shapes {
        text(&mut head, &gguf_name(name).expect("a name"));
        head.extend((shape.len() as u32).to_le_bytes());
        shape.iter().rev().for_each(|n| head.extend((*n as u64).to_le_bytes()));
        let kind = if shape.len() == 1 { GgmlType::F32 } else { GgmlType::Q4_0 };
        head.extend(kind.id().to_le_bytes());
        head.extend(end.to_le_bytes());
        end += kind.bytes(shape.iter().product::<usize>() as u64).expect("blocks").next_multiple_of(32);
    }
    let start = (head.len() as u64).next_multiple_of(32);
    Sparse { head, size: start + end }
}

#[test]
fn a_load_holds_one_tensor_and_a_part_of_its_file() {
    const MORE: usize = 64 << 20;
    let config = wide();
    let shapes = Llama::shapes(&config, HeadKind::CausalLm, 0);
    let sizes: BTreeMap<&str, usize> =
        shapes.iter().map(|(name, shape)| (name.as_str(), shape.iter().product::<usize>() * 4)).collect();
    let largest = sizes["model.embed_tokens.weight"];
    assert!(largest > MORE, "large enough that a second copy would show");
    let safetensors = || named("model.safetensors", safetensors_of(&shapes));
    let gguf = || named("model.gguf", gguf_of(&config, &shapes));
    let open: [(&str, &dyn Fn() -> Weights); 2] = [
        ("safetensors", &|| block_on(Weights::open(config.clone(), safetensors())).expect("weights")),
        ("GGUF", &|| {
            let (config, model) = block_on(GgufModel::open(gguf())).expect("model");
            Weights::new(config, model).expect("weights")
        }),
    ];
    for (format, open) in open {
        let ((), most) = peak(|| {
            let weights = open();
            for (name, bytes) in &sizes {
                let (values, _) = block_on(weights.tensor(name)).expect("tensor");
                assert_eq!(values.len() * 4, *bytes);
            }
        });
        eprintln!("{format}: {} MiB at most, the largest tensor has {} MiB", most >> 20, largest >> 20);
        assert!(most <= largest + MORE, "{format}: {most} bytes, the largest tensor has {largest}");

        // Onto a device in the same memory: what stays there, and no second copy on the way.
        let stays: usize = sizes.values().sum();
        let (_model, most) = peak(|| {
            let mut loader = Loader::new(Rc::new(open()), HeadKind::CausalLm, 0, Device::flex(), Packing::Dense);
            let mut rng = rng::stream(0, rng::INIT);
            loop {
                if let Some(model) = block_on(loader.advance(&mut rng)).expect("weights") {
                    return model;
                }
            }
        });
        eprintln!("{format}: {} MiB at most on the way to the CPU device, where {} stay", most >> 20, stays >> 20);
        assert!(most <= stays + MORE, "{format}: {most} bytes, {stays} stay");
    }
}

#[test]
fn a_tensor_read_in_parts_is_whole() {
    // Longer than a part (8 MiB): three reads whose seams must not show.
    let n = 5 << 20;
    let values: Vec<f32> = (0..n).map(|i| (i % 1021) as f32).collect();
    let tensors = [("w".to_string(), vec![n], values)];
    let bytes = write(&tensors, DType::F32);
    let blob = Memory(bytes);
    let header = block_on(Header::read("model.safetensors", &blob)).expect("own file");
    let (read, _) = block_on(header.tensor(&blob, "w")).expect("tensor");
    assert!(read == tensors[0].2);
}
