"""Makes the fixtures of file formats and LLaMA variants: `ggml.safetensors`, `gguf/`, `variants/`.

    python3.11 -m venv .paddock/formats
    .paddock/formats/bin/pip install -r tests/golden/formats.txt
    .paddock/formats/bin/python tests/golden/formats.py            # writes the fixtures anew
    .paddock/formats/bin/python tests/golden/formats.py --check    # makes them elsewhere and says what differs

Its transformers is newer than make.py's, which knows neither Llama 3's rotary scaling nor `head_dim`; the batch, the weights'
distribution and what expected.safetensors holds are make.py's. Blocks are read and written by the `gguf` package's own code.
"""

import argparse
import shutil
import sys
import tempfile
from pathlib import Path

import make
import numpy as np
import torch
from gguf import GGMLQuantizationType, GGUFReader, GGUFWriter
from gguf.constants import GGML_QUANT_SIZES
from gguf.quants import dequantize, quantize
from safetensors.numpy import save_file
from transformers import LlamaConfig, LlamaForCausalLM

FIXTURES = ["ggml.safetensors", "gguf", "variants"]
READ = ["F16", "BF16", "Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K"]
WRITTEN = ["F16", "BF16", "Q8_0", "Q4_0", "Q4_1"]

# Where the f16 scales stand in a block: random bytes there would be infinities.
SCALES = {"Q8_0": [0], "Q4_0": [0], "Q4_1": [0, 2], "Q5_0": [0], "Q5_1": [0, 2], "Q2_K": [80, 82], "Q3_K": [108],
          "Q4_K": [0, 2], "Q5_K": [0, 2], "Q6_K": [208]}
# Numbers spread by about 0.1 each: the f16 scale is this much over the spread of what it multiplies.
SPREAD = {"Q8_0": 74, "Q4_0": 4.6, "Q4_1": 4.6, "Q5_0": 9.2, "Q5_1": 9.2, "Q2_K": 9, "Q3_K": 42, "Q4_K": 160,
          "Q5_K": 320, "Q6_K": 1370}


def random_blocks(kind, rows, columns, rng, spread=0.1):
    """Blocks with every bit random but their scales: no quantiser leaves so few patterns out."""
    block, size = GGML_QUANT_SIZES[GGMLQuantizationType[kind]]
    blocks = rng.integers(0, 256, (rows, columns // block, size), dtype=np.uint8)
    for place in SCALES[kind]:
        scale = spread / SPREAD[kind] * rng.uniform(0.5, 1.5, (rows, columns // block, 1))
        if place == 2 and kind in ("Q4_1", "Q5_1"):
            scale *= -SPREAD[kind] * 1.6
        blocks[:, :, place:place + 2] = scale.astype(np.float16).view(np.uint8)
    return blocks.reshape(rows, -1)


def ggml(root):
    """For each type: random blocks with the numbers in them, and numbers with the blocks made of them."""
    rng = np.random.default_rng(1)
    tensors = {}
    for kind in READ:
        ggml_type = GGMLQuantizationType[kind]
        if kind in SCALES:
            blocks = random_blocks(kind, 1, 1024, rng)[0]
        else:
            # Every kind of number: subnormal, infinite; not NaN, which is not equal to itself.
            blocks = rng.integers(0, 1 << 16, 512, dtype=np.uint16)
            values = dequantize(blocks.view(np.uint8), ggml_type)
            blocks = np.where(np.isnan(values), 0, blocks).astype(np.uint16).view(np.uint8)
        tensors[f"blocks.{kind}"] = blocks
        tensors[f"values.{kind}"] = dequantize(blocks, ggml_type).astype(np.float32)
    values = rng.standard_normal(1024).astype(np.float32)
    values[:32] = 0.0
    values[32:64] = np.arange(32) - 15.5  # Halves, where roundings differ.
    values[64:96] = np.repeat([1.0, -1.0], 16)  # Twice the largest: the first one decides.
    values[96:128] *= 1e-7
    tensors["source"] = values
    for kind in WRITTEN:
        tensors[f"written.{kind}"] = quantize(values, GGMLQuantizationType[kind]).view(np.uint8)
    save_file(tensors, root / "ggml.safetensors")


LAYERS = {"input_layernorm": "attn_norm", "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k",
          "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output", "post_attention_layernorm": "ffn_norm",
          "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down"}
# One type a matrix; rows of 32 numbers cannot be K blocks.
TYPES = {
    "0.attn_q": "Q4_K", "0.attn_k": "Q6_K", "0.attn_v": "Q5_K", "0.attn_output": "Q5_0",
    "0.ffn_gate": "Q2_K", "0.ffn_up": "Q3_K", "0.ffn_down": "Q5_1",
    "1.attn_q": "F16", "1.attn_k": "Q8_0", "1.attn_v": "BF16", "1.attn_output": "Q4_0",
    "1.ffn_gate": "Q4_1", "1.ffn_up": "F32", "1.ffn_down": "Q8_0",
}
ROPE = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 32}


def gguf_model(root):
    """A GGUF file as llama.cpp's converter lays it out, and what transformers computes with the numbers in it."""
    folder = root / "gguf"
    folder.mkdir()
    rng = np.random.default_rng(2)
    tokens = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁", "a", "e", "▁a", "ae"]
    config = LlamaConfig(
        vocab_size=len(tokens), hidden_size=256, intermediate_size=32, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, head_dim=8, max_position_embeddings=256, rope_theta=10000.0, rms_norm_eps=1e-5, bos_token_id=1,
        eos_token_id=2, tie_word_embeddings=True, rope_scaling=ROPE, attn_implementation="eager")
    model = LlamaForCausalLM(config).eval()
    writer = GGUFWriter(folder / "model.gguf", "llama")
    writer.add_name("Random")
    writer.add_vocab_size(config.vocab_size)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_rope_dimension_count(config.head_dim)
    writer.add_key_length(config.head_dim)
    writer.add_value_length(config.head_dim)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_rope_freq_base(config.rope_theta)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_tokenizer_model("llama")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(tokens)
    writer.add_token_scores([-float(i) for i in range(len(tokens))])
    writer.add_token_types([2, 3, 3, *([6] * 256), *([1] * (len(tokens) - 259))])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)
    writer.add_add_bos_token(True)
    writer.add_add_space_prefix(True)
    writer.add_chat_template("{{ messages[0].content }}")

    # The divisors of Llama 3's rotary frequencies, by transformers' own frequencies.
    plain = 1.0 / (10000.0 ** (np.arange(0, 8, 2) / 8.0))
    writer.add_tensor("rope_freqs.weight", (plain / model.model.rotary_emb.inv_freq.numpy()).astype(np.float32))
    state = {}
    for name, parameter in model.state_dict().items():
        if name == "lm_head.weight":
            continue
        rows, columns = parameter.shape if parameter.dim() == 2 else (1, parameter.shape[0])
        if name == "model.embed_tokens.weight":
            gguf_name, kind = "token_embd.weight", "Q4_1"
        elif name == "model.norm.weight":
            gguf_name, kind = "output_norm.weight", "F32"
        else:
            layer, module = name.removeprefix("model.layers.").removesuffix(".weight").split(".", 1)
            gguf_name = f"blk.{layer}.{LAYERS[module]}.weight"
            kind = TYPES.get(f"{layer}.{LAYERS[module]}", "F32")
        if kind in SCALES:
            blocks = random_blocks(kind, rows, columns, rng)
        else:
            values = rng.standard_normal((rows, columns)).astype(np.float32) * 0.2 + (rows == 1)
            blocks = quantize(values.reshape(tuple(parameter.shape)), GGMLQuantizationType[kind])
        raw = GGMLQuantizationType[kind] if kind not in ("F32", "F16") else None
        writer.add_tensor(gguf_name, blocks, raw_dtype=raw)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()

    # Read again by the package's reader, rows of Q and K put back into Hugging Face's order.
    back = {gguf: hf for hf, gguf in LAYERS.items()}
    for tensor in GGUFReader(folder / "model.gguf").tensors:
        if tensor.name == "rope_freqs.weight":
            continue
        values = dequantize(tensor.data, tensor.tensor_type).astype(np.float32)
        if ".attn_q." in tensor.name or ".attn_k." in tensor.name:
            rows, columns = values.shape
            values = values.reshape(rows // 8, 4, 2, columns).swapaxes(1, 2).reshape(rows, columns)
        if tensor.name == "token_embd.weight":
            name = "model.embed_tokens.weight"
        elif tensor.name == "output_norm.weight":
            name = "model.norm.weight"
        else:
            _, layer, part, _ = tensor.name.split(".")
            name = f"model.layers.{layer}.{back[part]}.weight"
        state[name] = torch.tensor(values)
    state["lm_head.weight"] = state["model.embed_tokens.weight"]
    model.load_state_dict(state)
    batch = make.inputs(seed=40)
    with torch.no_grad():
        logits = model(**batch).logits
    make.write_expected(folder, {**batch, "logits": logits})


def variants(root, summary):
    """LLaMAs with keys that change the computation; gradients and ten steps as in make.py's cases."""
    folder = root / "variants"
    folder.mkdir()
    cases = {
        "llama3": {"rope_scaling": {**ROPE, "original_max_position_embeddings": 8}},
        "linear": {"rope_scaling": {"type": "linear", "factor": 4.0}},
        # The batch has 11 tokens: beyond the 8 that the model was made for.
        "dynamic": {"rope_scaling": {"rope_type": "dynamic", "factor": 2.0}, "max_position_embeddings": 8},
        "biases": {"attention_bias": True, "mlp_bias": True},
        # Heads that are together narrower than the hidden states.
        "head-dim": {"head_dim": 6},
    }
    for number, (name, keys) in enumerate(cases.items()):
        base = dict(
            vocab_size=make.VOCAB, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
            num_key_value_heads=2, max_position_embeddings=64, rope_theta=10000.0, rms_norm_eps=1e-5, pad_token_id=make.PAD,
            bos_token_id=1, eos_token_id=2, tie_word_embeddings=True, attn_implementation="eager")
        model = make.randomize(LlamaForCausalLM(LlamaConfig(**{**base, **keys})), 50 + number)
        batch = make.inputs(seed=60 + number)
        batch["labels"] = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, -100)
        make.full(folder, name, model, batch, summary)


def build(root):
    ggml(root)
    gguf_model(root)
    variants(root, {})


def main():
    parser = argparse.ArgumentParser(description="Makes the fixtures of file formats and LLaMA variants.")
    parser.add_argument("--check", action="store_true", help="compare instead of writing")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    with tempfile.TemporaryDirectory() as folder:
        fresh = Path(folder)
        build(fresh)
        if arguments.check:
            sys.exit(0 if make.check(fresh, FIXTURES) else 1)
        for name in FIXTURES:
            if (make.HERE / name).is_dir():
                shutil.rmtree(make.HERE / name)
            shutil.move(fresh / name, make.HERE / name)


if __name__ == "__main__":
    main()
