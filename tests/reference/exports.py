"""What Paddock exports, opened by the tools that it is meant for: PEFT, transformers, the gguf package, llama.cpp.

    cargo build --release -p paddock
    .paddock/reference/bin/python tests/reference/exports.py [--model DIR] [--data CSV] [--work DIR] [--keep]

Trains a classifier and a language model for a few steps each by the command, exports them in every format, and says how
far apart the answers are. Exits with an error where one is beyond its bound.
"""

import argparse
import csv
import importlib.util
import json
import math
import os
import shutil
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from gguf import GGUFReader
from gguf.quants import dequantize
from peft import LoraConfig, PeftModel, TaskType, get_peft_model
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

from fetch import PADDOCK
from finetune import batches
from smollm2_to_hf import hf_name, unpermute

ROOT = Path(__file__).resolve().parents[2]
LINEARS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
PROMPT = "The union of the states was, at that time,"
MIXED = "Año 2024: 12,345 naïve cafés… 東京タワー 🚀🚀 don't  we'll\n\n\tdef f(x): return x**2 <|im_end|> \u00a0\u200b ½ Ⅷ"
failed = []


def report(what, value, bound):
    good = value <= bound
    print(f"{'ok  ' if good else 'FAIL'} {what}: {value:.3g} (at most {bound:g})", flush=True)
    if not good:
        failed.append(what)


def paddock(program, *arguments):
    command = [str(program), *map(str, arguments), "--device", "cpu", "--log-format", "json"]
    done = subprocess.run(command, capture_output=True, text=True)
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)}: {lines[-1] if lines else done.stderr}")
    return lines


def labels_of(file):
    with open(file, newline="", encoding="utf-8") as rows:
        return sorted({row["label"] for row in csv.DictReader(rows)})


def texts_of(file, count):
    with open(file, newline="", encoding="utf-8") as rows:
        return [row["text"] for row, _ in zip(csv.DictReader(rows), range(count))]


def ours(program, texts, *which):
    """The logarithms of the probabilities: logits but for a constant a row, which is taken out of both sides."""
    asked = [part for text in texts for part in ("--text", text)]
    lines = [line for line in paddock(program, "predict", *which, *asked) if line["event"] == "prediction"]
    return np.array([[math.log(max(score, 1e-30)) for _, score in sorted(line["scores"].items())] for line in lines])


@torch.no_grad()
def theirs(model, folder, texts):
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model.eval()
    rows = []
    for text in texts:
        ids = tokenizer(text, truncation=True, max_length=128, return_tensors="pt")["input_ids"]
        rows.append(torch.log_softmax(model(input_ids=ids).logits[0].double(), -1).numpy())
    return np.array(rows)


def classifier(base, labels=2):
    model = AutoModelForSequenceClassification.from_pretrained(base, num_labels=labels, torch_dtype=torch.float32)
    model.config.pad_token_id = model.config.pad_token_id or 0
    return model


def check_classifier(program, base, data, work):
    adapter, merged = work / "adapter", work / "merged"
    paddock(program, "train", "--model_name_or_path", base, "--train_file", data, "--max_steps", 6, "--batch_size", 4,
            "--learning_rate", 2e-3, "--max_eval_samples", 8, "--output_dir", adapter)
    texts = texts_of(data, 6)
    answers = ours(program, texts, "--model_name_or_path", base, "--adapter", adapter)
    print(f"     spread of the answers: {np.ptp(answers[:, 0]):.3g}")
    model = PeftModel.from_pretrained(classifier(base), adapter)
    report("PEFT opens the adapter: logits", abs(theirs(model, base, texts) - answers).max(), 1e-3)

    paddock(program, "export", "--model_name_or_path", base, "--adapter", adapter, "--format", "merged", "--dtype", "f32", "--output_dir", merged)
    model = AutoModelForSequenceClassification.from_pretrained(merged)
    report("transformers opens the merged folder: logits", abs(theirs(model, merged, texts) - answers).max(), 1e-3)
    names = [model.config.id2label[i] for i in range(model.config.num_labels)]
    report("its class names are ours", float(names != labels_of(data)), 0)
    report("we open the merged folder: logits", abs(ours(program, texts, "--model_name_or_path", merged) - answers).max(), 1e-3)
    paddock(program, "export", "--model_name_or_path", base, "--adapter", adapter, "--format", "merged", "--output_dir", work / "half")
    model = AutoModelForSequenceClassification.from_pretrained(work / "half", torch_dtype=torch.float32)
    report("the same in the base's F16: logits", abs(theirs(model, work / "half", texts) - answers).max(), 0.05)


def check_peft_adapter(program, base, data, work):
    torch.manual_seed(1)
    model = get_peft_model(classifier(base), LoraConfig(task_type=TaskType.SEQ_CLS, r=4, lora_alpha=12, target_modules=LINEARS))
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "lora_B" in name:
                weight.normal_(0, 0.02)
    folder = work / "peft"
    model.save_pretrained(folder, save_embedding_layers=False)
    # PEFT does not keep the names of the classes: they are the base's matter, and this base has none.
    config = json.loads((Path(base) / "config.json").read_text())
    config.update(architectures=["LlamaForSequenceClassification"], id2label={"0": "negative", "1": "positive"})
    (folder / "config.json").write_text(json.dumps(config))
    texts = texts_of(data, 4)
    answers = ours(program, texts, "--model_name_or_path", base, "--adapter", folder)
    report("we open PEFT's adapter: logits", abs(theirs(model, base, texts) - answers).max(), 1e-3)


def tensors_of(file):
    """A GGUF's tensors as Hugging Face has them."""
    reader = GGUFReader(file)
    heads = {"attn_q": reader.fields["llama.attention.head_count"].contents(),
             "attn_k": reader.fields["llama.attention.head_count_kv"].contents()}
    for tensor in reader.tensors:
        values = dequantize(tensor.data, tensor.tensor_type).astype(np.float32)
        part = tensor.name.split(".")[-2]
        yield hf_name(tensor.name), unpermute(values, heads[part]) if part in heads else values


@torch.no_grad()
def next_logits(folder, ids):
    return AutoModelForCausalLM.from_pretrained(folder, torch_dtype=torch.float32)(torch.tensor([ids])).logits[0].numpy()


def llama_cpp():
    """The bindings alone: the package around them wants more packages."""
    [file] = Path(importlib.util.find_spec("llama").submodule_search_locations[0]).glob("_llama_cpp_cpu*.so")
    spec = importlib.util.spec_from_file_location("_llama_cpp_cpu", file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.lib, module.ffi


@contextmanager
def quiet():
    """llama.cpp tells stderr of every layer."""
    sys.stderr.flush()
    kept, null = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(null)


class LlamaCpp:
    def __init__(self, file, adapter=None):
        with quiet():
            self.open(file, adapter)

    def open(self, file, adapter):
        self.lib, self.ffi = lib, ffi = llama_cpp()
        self.model = lib.llama_model_load_from_file(str(file).encode(), lib.llama_model_default_params())
        if self.model == ffi.NULL:
            sys.exit(f"llama.cpp does not open {file}")
        self.vocab = lib.llama_model_get_vocab(self.model)
        params = lib.llama_context_default_params()
        params.n_ctx, params.n_threads, params.flash_attn = 256, 2, False
        params.type_k = params.type_v = 0  # F32
        self.context = lib.llama_init_from_model(self.model, params)
        if adapter:
            self.adapter = lib.llama_adapter_lora_init(self.model, str(adapter).encode())
            if self.adapter == ffi.NULL:
                sys.exit(f"llama.cpp does not open {adapter}")
            lib.llama_set_adapter_lora(self.context, self.adapter, 1.0)

    def tokenize(self, text):
        text = text.encode()
        ids = self.ffi.new("llama_token[]", len(text) + 16)
        return list(ids[0:self.lib.llama_tokenize(self.vocab, text, len(text), ids, len(ids), True, True)])

    def metadata(self, key):
        text = self.ffi.new("char[]", 1 << 16)
        length = self.lib.llama_model_meta_val_str(self.model, key.encode(), text, len(text))
        return self.ffi.buffer(text, max(length, 0))[:].decode()

    def logits(self, ids):
        """Of the last token."""
        tokens = self.ffi.new("llama_token[]", ids)
        if self.lib.llama_decode(self.context, self.lib.llama_batch_get_one(tokens, len(ids))):
            sys.exit("llama.cpp does not run the model")
        return np.array(self.ffi.unpack(self.lib.llama_get_logits_ith(self.context, -1), self.lib.llama_vocab_n_tokens(self.vocab)))


def check_language_model(program, base, work):
    speeches = PADDOCK / "data" / "sotu.txt"
    words = speeches.read_text(encoding="utf-8").split()[:1200]
    lines = [" ".join(part) for part in batches(words, 30)]
    (work / "text.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    out = work / "causal"
    paddock(program, "train", "--model_name_or_path", base, "--train_file", work / "text.txt", "--task", "text-generation",
            "--max_steps", 4, "--batch_size", 2, "--max_seq_length", 48, "--learning_rate", 2e-3, "--max_eval_samples", 2, "--output_dir", out)
    which = ("export", "--model_name_or_path", base, "--adapter", out, "--format")
    paddock(program, *which, "merged", "--dtype", "f32", "--output_dir", out / "merged")
    paddock(program, *which, "gguf_lora", "--output_dir", out / "lora")
    for dtype in ("f32", "f16", "q8_0"):
        paddock(program, *which, "gguf", "--dtype", dtype, "--output_dir", out / dtype)
    paddock(program, "export", "--model_name_or_path", base, "--format", "gguf", "--dtype", "f32", "--output_dir", out / "base")
    file = lambda folder: next((out / folder).glob("*.gguf"))

    merged = load_file(out / "merged" / "model.safetensors")
    for dtype, bound in (("f32", 0), ("f16", 5e-4), ("q8_0", 0.5 / 127 + 5e-4)):
        found = dict(tensors_of(file(dtype)))
        report(f"the gguf package reads {dtype}: tensors missing", len(set(merged) ^ set(found)), 0)
        worst = max(abs(found[name] - merged[name].numpy()).max() / abs(merged[name].numpy()).max() for name in merged)
        report(f"the gguf package reads {dtype}: of a tensor's largest number", float(worst), bound)

    tokenizer = AutoTokenizer.from_pretrained(out / "merged")
    ids = tokenizer(PROMPT)["input_ids"]
    wanted = next_logits(out / "merged", ids)
    scale = abs(wanted[-1]).max()
    ours = LlamaCpp(file("f32"))
    report("llama.cpp's tokenizer on the prompt", float(ours.tokenize(PROMPT) != ids), 0)
    mixed = [ours.tokenize(MIXED), tokenizer(MIXED)["input_ids"]]
    report("llama.cpp's tokenizer on mixed text", float(mixed[0] != mixed[1]), 0)
    for dtype, bound in (("f32", 1e-3), ("f16", 1e-2), ("q8_0", 5e-2)):
        logits = LlamaCpp(file(dtype)).logits(ids)
        report(f"llama.cpp runs {dtype}: logits, of the largest", float(abs(logits - wanted[-1]).max() / scale), bound)
    before = LlamaCpp(file("base")).logits(ids)
    print(f"     what the adapter changes: {abs(before - wanted[-1]).max() / scale:.3g}")
    logits = LlamaCpp(file("base"), file("lora")).logits(ids)
    report("llama.cpp runs the base with our GGUF adapter", float(abs(logits - wanted[-1]).max() / scale), 1e-3)
    chat = ours.metadata("tokenizer.chat_template")
    report("the chat template is there", float(chat != (tokenizer.chat_template or "")), 0)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=PADDOCK / "models" / "SmolLM2-135M-Instruct")
    parser.add_argument("--data", type=Path, default=PADDOCK / "data" / "snippets-train-200.csv")
    target = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    parser.add_argument("--paddock", type=Path, default=target / "release" / "paddock")
    parser.add_argument("--work", type=Path)
    parser.add_argument("--parts", default="classifier,peft,causal", help="which of them to check")
    parser.add_argument("--keep", action="store_true", help="leave the exports in --work")
    options = parser.parse_args()
    torch.set_num_threads(2)
    work = options.work or Path(tempfile.mkdtemp(prefix="paddock-exports-"))
    work.mkdir(parents=True, exist_ok=True)
    try:
        parts = options.parts.split(",")
        if "classifier" in parts:
            check_classifier(options.paddock, options.model, options.data, work)
        if "peft" in parts:
            check_peft_adapter(options.paddock, options.model, options.data, work)
        if "causal" in parts:
            check_language_model(options.paddock, options.model, work)
    finally:
        if not options.keep:
            shutil.rmtree(work, ignore_errors=True)
    sys.exit(f"beyond their bounds: {', '.join(failed)}" if failed else 0)


if __name__ == "__main__":
    main()
