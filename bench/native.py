"""PyTorch, transformers and PEFT's side of bench/native.mjs: LoRA on all linears of a LLaMA, on the rows that Paddock gets.

    python bench/native.py prepare MODEL FOLDER     writes train.jsonl, held-out.jsonl and adapter/ into FOLDER
    python bench/native.py train MODEL FOLDER [--steps N] [--threads N] [--device cpu|cuda] [--precision f32|half]

`train` prints one JSON object a line: {"event": "versions", ...}, then {"event": "step", "loss": ..., "seconds": ...}.
"""

import argparse
import json
import os
import sys
import time
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"

try:
    import peft
    import torch
    import transformers
    from peft import LoraConfig, PeftModel, TaskType, get_peft_model
    from transformers import AutoModelForCausalLM, AutoTokenizer
except ImportError as error:
    sys.exit(f"this Python lacks {error.name}: leave --python out, or install bench/requirements.txt into it")

LINEARS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
BATCH, SEQ, RATE = 4, 128, 1e-3

# Prose of our own: any text does, as long as it is the same on both sides.
PROSE = (
    "The ferry leaves the harbour at seven and carries milk, letters and a few sleepy passengers to the islands. "
    "On clear mornings the pilot points out the lighthouse, which was built of grey stone before the railway came, "
    "and tells how its keeper once rowed nine miles through fog to fetch a doctor. "
    "Nobody knows whether the story is true; the children believe it, and the older people prefer it to silence. "
    "By noon the boat is back, the nets are hung to dry, and the market smells of bread, tar and oranges. "
)


def say(event, **fields):
    print(json.dumps({"event": event, **fields}), flush=True)


def rows(tokenizer):
    """A text of exactly one batch: as many tokens as four rows hold, the end token being the last of them."""
    wanted = BATCH * SEQ - 1
    words = (PROSE * 40).split(" ")
    for first in range(40):
        for last in range(first + wanted // 2, min(first + wanted * 2, len(words))):
            text = " ".join(words[first:last])
            count = len(tokenizer(text)["input_ids"])
            if count == wanted:
                ids = tokenizer(text)["input_ids"] + [tokenizer.eos_token_id]
                return text, [ids[at:at + SEQ] for at in range(0, len(ids), SEQ)]
            if count > wanted:
                break
    sys.exit("no part of the prose has the right number of tokens in this vocabulary: change PROSE in bench/native.py")


def prepare(options):
    tokenizer = AutoTokenizer.from_pretrained(options.model)
    text, _ = rows(tokenizer)
    options.folder.mkdir(parents=True, exist_ok=True)
    for name, row in [("train", text), ("held-out", "The boat comes back at noon.")]:
        (options.folder / f"{name}.jsonl").write_text(json.dumps({"text": row}) + "\n", encoding="utf-8")
    torch.manual_seed(7)
    model = AutoModelForCausalLM.from_pretrained(options.model, torch_dtype=torch.float32)
    model = get_peft_model(model, LoraConfig(
        task_type=TaskType.CAUSAL_LM, r=8, lora_alpha=16, lora_dropout=0.0, target_modules=LINEARS))
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "lora_B" in name:
                weight.normal_(0, 0.02)  # Not zero, so that every gradient counts from the first step.
    model.save_pretrained(options.folder / "adapter")


def load(options):
    half = options.precision == "half"
    model = AutoModelForCausalLM.from_pretrained(options.model, torch_dtype=torch.bfloat16 if half else torch.float32)
    model = PeftModel.from_pretrained(model, options.folder / "adapter", is_trainable=True).to(options.device)
    for weight in model.parameters():
        if weight.requires_grad:
            weight.data = weight.data.float()
    return model


def train(options):
    torch.set_num_threads(options.threads)
    cuda = options.device == "cuda"
    if cuda and not torch.cuda.is_available():
        sys.exit("this torch finds no graphics card: take --device cpu, or a Python whose torch has CUDA with --python")
    say("versions", torch=torch.__version__, transformers=transformers.__version__, peft=peft.__version__,
        python=sys.version.split()[0], threads=torch.get_num_threads(),
        device=torch.cuda.get_device_name() if cuda else "CPU")
    if cuda:
        # f32 is f32: no TF32 products.
        torch.backends.cuda.matmul.allow_tf32 = False
        torch.backends.cudnn.allow_tf32 = False
    _, batch = rows(AutoTokenizer.from_pretrained(options.model))
    model = load(options)
    trained = [weight for weight in model.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=RATE, weight_decay=0.0)
    ids = torch.tensor(batch, device=options.device)
    model.train()
    last = time.perf_counter()
    for _ in range(options.steps):
        with torch.autocast(options.device, dtype=torch.bfloat16, enabled=options.precision == "half"):
            loss = model(input_ids=ids, labels=ids).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        value = loss.item()
        now = time.perf_counter()
        say("step", loss=value, seconds=now - last)
        last = now
    if cuda:
        torch.cuda.synchronize()
        say("memory", peak_bytes=torch.cuda.max_memory_allocated())


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["prepare", "train"])
    parser.add_argument("model", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--precision", choices=["f32", "half"], default="f32")
    options = parser.parse_args()
    if not (options.model / "config.json").is_file():
        sys.exit(f"{options.model} is no Hugging Face folder: it has no config.json")
    {"prepare": prepare, "train": train}[options.what](options)


if __name__ == "__main__":
    main()
