"""Twenty LoRA steps of `paddock train --adapter` against transformers and PEFT: the same A and B, batches and schedule; the losses of every step.

    .paddock/reference/bin/python tests/reference/peft_steps.py

SmolLM2-135M-Instruct (`smollm2_to_hf.py` fetches it) learns speeches (`cargo xtask data` fetches them): rank 8 on all seven linears, f32, 4 blocks
of 64 tokens a step, a linear schedule, clipping at 1, no dropout. A and B are drawn here, B too, so that every gradient counts from the first
step. The blocks come in the order that Paddock's seed gives, which is computed anew. Prints a table and fails where a loss differs by more than
1e-3 of itself.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"

import torch
from peft import LoraConfig, TaskType, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer, get_scheduler

ROOT = Path(__file__).resolve().parents[2]
PADDOCK = ROOT / ".paddock"
LINEARS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
BATCH, LENGTH, SEED, BOUND = 4, 64, 42, 1e-3
M32, M64 = 2**32 - 1, 2**64 - 1


class ChaCha8:
    """rand_chacha's ChaCha8Rng, seeded by `seed_from_u64`, on one of its streams."""

    def __init__(self, seed, stream):
        self.key, self.stream, self.block, self.words = [], stream, 0, []
        for _ in range(8):  # PCG32, as rand_core stretches a short seed.
            seed = (seed * 6364136223846793005 + 11634580027462260723) & M64
            mixed, turn = (((seed >> 18) ^ seed) >> 27) & M32, seed >> 59
            self.key.append((mixed >> turn | mixed << (32 - turn)) & M32)

    def next_u64(self):
        if not self.words:
            self.words = self.fresh()
        low, high, *self.words = self.words
        return low | high << 32

    def fresh(self):
        start = [0x61707865, 0x3320646E, 0x79622D32, 0x6B206574, *self.key, self.block & M32, self.block >> 32,
                 self.stream & M32, self.stream >> 32]
        state = list(start)

        def quarter(a, b, c, d):
            for x, y, z, turn in ((a, b, d, 16), (c, d, b, 12), (a, b, d, 8), (c, d, b, 7)):
                state[x] = (state[x] + state[y]) & M32
                mixed = state[z] ^ state[x]
                state[z] = (mixed << turn | mixed >> (32 - turn)) & M32

        for _ in range(4):
            for column in range(4):
                quarter(*(column + 4 * row for row in range(4)))
            for column in range(4):
                quarter(*(4 * row + (column + row) % 4 for row in range(4)))
        self.block += 1
        return [(a + b) & M32 for a, b in zip(start, state)]


def shuffled(count, epoch):
    """data::shuffle"""
    items, random = list(range(count)), ChaCha8(SEED, epoch)
    for last in range(count - 1, 0, -1):
        at = random.next_u64() * (last + 1) >> 64
        items[last], items[at] = items[at], items[last]
    return items


def blocks(tokenizer, texts):
    """Texts, each ended by the end token, as blocks of one length."""
    ids = [token for text in texts for token in [*tokenizer(text)["input_ids"], tokenizer.eos_token_id]]
    return [ids[at:at + LENGTH] for at in range(0, len(ids), LENGTH)]


def adapter_of(model):
    torch.manual_seed(7)
    model = get_peft_model(model, LoraConfig(
        task_type=TaskType.CAUSAL_LM, r=8, lora_alpha=16, lora_dropout=0.0, target_modules=LINEARS))
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "lora_B" in name:
                weight.normal_(0, 0.02)
    return model


def ours(options, folder):
    command = [options.paddock, "train", "--model_name_or_path", options.model, "--adapter", folder / "adapter", "--task", "text-generation",
               "--train_file", folder / "train.jsonl", "--validation_file", folder / "held.jsonl", "--output_dir", folder / "out",
               "--max_steps", options.steps, "--batch_size", BATCH, "--max_seq_length", LENGTH, "--learning_rate", options.lr,
               "--seed", SEED, "--device", options.device, "--quantization", "none", "--log_format", "json"]
    run = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    lines = [json.loads(line) for line in run.stdout.splitlines()]
    if run.returncode:
        sys.exit(f"paddock: {lines[-1] if lines else run.stderr}")
    return [(line["loss"], line["grad_norm"]) for line in lines if line["event"] == "step"]


def theirs(options, model, batches):
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=options.lr, weight_decay=0.0)
    schedule = get_scheduler("linear", optimizer, 0, options.steps)
    model.train()
    for batch in batches:
        ids = torch.tensor(batch)
        loss = model(input_ids=ids, labels=ids).loss
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        yield loss.item(), norm.item()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=PADDOCK / "models" / "SmolLM2-135M-Instruct")
    target = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    parser.add_argument("--paddock", type=Path, default=target / "release" / "paddock")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--lr", type=float, default=1e-3)
    options = parser.parse_args()
    if shuffled(10, 0) != [9, 7, 2, 5, 0, 1, 4, 3, 8, 6]:  # As a test of data::shuffle has it.
        sys.exit("this is not Paddock's order")
    torch.set_num_threads(2)

    words = (PADDOCK / "data" / "sotu.txt").read_text(encoding="utf-8").split()
    texts = [" ".join(words[at:at + 100]) for at in range(0, 8000, 100)]
    tokenizer = AutoTokenizer.from_pretrained(options.model)
    rows = blocks(tokenizer, texts[:-2])
    order = shuffled(len(rows), 0)
    batches = [[rows[at] for at in order[start:start + BATCH]] for start in range(0, options.steps * BATCH, BATCH)]
    if len(batches[-1]) < BATCH or any(len(row) != LENGTH for batch in batches for row in batch):
        sys.exit("the text is too short for so many steps, or its last, shorter block is among them")

    with tempfile.TemporaryDirectory(prefix="paddock-steps-") as folder:
        folder = Path(folder)
        model = adapter_of(AutoModelForCausalLM.from_pretrained(options.model, torch_dtype=torch.float32))
        model.save_pretrained(folder / "adapter")
        for name, part in (("train", texts[:-2]), ("held", texts[-2:])):
            (folder / f"{name}.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in part), encoding="utf-8")
        mine = ours(options, folder)

    if len(mine) != options.steps:
        sys.exit(f"paddock took {len(mine)} steps, not {options.steps}")
    print("step  paddock   PEFT      differs by   gradient norms")
    worst = 0.0
    for step, ((loss, norm), (their_loss, their_norm)) in enumerate(zip(mine, theirs(options, model, batches)), 1):
        gap = abs(loss - their_loss) / their_loss
        worst = max(worst, gap)
        print(f"{step:4}  {loss:.6f}  {their_loss:.6f}  {gap:.1e}      {norm:.5f} {their_norm:.5f}", flush=True)
    print(f"at most {worst:.1e} of the loss; the bound is {BOUND:.0e}")
    sys.exit(worst > BOUND)


if __name__ == "__main__":
    main()
