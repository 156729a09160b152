"""Makes sampling.json: what transformers' own logits processors leave of some logits, and what its `generate` answers greedily.

    .paddock/reference/bin/python tests/golden/sampling.py

Runs in the environment of make.py (transformers 4.41.2, torch 2.3.1) and reads the models that make.py and formats.py wrote.
"""

import json
import os
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"
os.environ["HF_HUB_OFFLINE"] = "1"

import torch
from transformers import (
    GenerationConfig, LlamaConfig, LlamaForCausalLM, LogitsProcessorList, MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor, TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper)

HERE = Path(__file__).resolve().parent
VOCAB = 40
SETTINGS = [
    {},
    {"temperature": 0.25},
    {"temperature": 1.7},
    {"top_k": 1},
    {"top_k": 5},
    {"top_k": 1000},
    {"top_p": 0.05},
    {"top_p": 0.5},
    {"top_p": 0.95},
    {"min_p": 0.02},
    {"min_p": 0.3},
    {"min_p": 1.0},
    {"repetition_penalty": 1.3},
    {"repetition_penalty": 0.8},
    {"temperature": 0.7, "top_k": 20, "top_p": 0.9},
    {"temperature": 1.4, "top_p": 0.8, "min_p": 0.05, "repetition_penalty": 1.2},
    {"temperature": 0.9, "top_k": 7, "top_p": 0.97, "min_p": 0.1, "repetition_penalty": 1.05},
]


def processors(settings):
    """In the order of `generate`: processors, then warpers as `_get_logits_warper` lists them."""
    made = [
        ("repetition_penalty", RepetitionPenaltyLogitsProcessor), ("temperature", TemperatureLogitsWarper),
        ("top_k", TopKLogitsWarper), ("top_p", TopPLogitsWarper), ("min_p", MinPLogitsWarper)]
    return LogitsProcessorList([kind(settings[key]) for key, kind in made if key in settings])


def distributions():
    generator = torch.Generator().manual_seed(50)
    logits = (torch.randn(3, VOCAB, generator=generator) * torch.tensor([[0.5], [2.0], [5.0]])).mul(1000).round() / 1000
    # Equal logits, at the top and at the fifth place.
    logits[1, 3] = logits[1, 17] = logits[1].max()
    logits[2, logits[2].argsort(descending=True)[4]] = logits[2].sort(descending=True).values[5]
    seen = torch.randint(0, VOCAB, (3, 12), generator=generator)
    cases = []
    for settings in SETTINGS:
        for row in range(3):
            scores = processors(settings)(seen[row : row + 1], logits[row : row + 1].clone())
            probabilities = scores.softmax(-1)[0]
            kept = probabilities.nonzero()[:, 0].tolist()
            cases.append({"sampling": settings, "row": row, "kept": {i: round(probabilities[i].item(), 8) for i in kept}})
    return {"logits": [[round(x, 3) for x in row] for row in logits.tolist()], "seen": seen.tolist(), "cases": cases}


def config(folder):
    """A newer transformers wrote the variants' scalings under another name."""
    keys = json.loads((HERE / folder / "config.json").read_text())
    if scaling := keys.get("rope_scaling"):
        keys["rope_scaling"] = {"type": scaling["rope_type"], "factor": scaling["factor"]}
    return LlamaConfig(**keys)


def greedy():
    generator = torch.Generator().manual_seed(60)
    cases = []
    for folder in ["causal", "causal-tied", "variants/linear", "variants/dynamic", "variants/biases"]:
        for length, penalty in [(1, 1.0), (5, 1.0), (17, 1.0), (9, 1.3)]:
            # Read anew: the dynamic rotary embedding keeps what a longer sequence made of it.
            model = LlamaForCausalLM.from_pretrained(HERE / folder, config=config(folder), attn_implementation="eager").eval()
            prompt = torch.randint(3, 97, (1, length), generator=generator)
            settings = GenerationConfig(
                max_new_tokens=40, do_sample=False, repetition_penalty=penalty, eos_token_id=2, pad_token_id=0)
            with torch.no_grad():
                answer = model.generate(prompt, attention_mask=torch.ones_like(prompt), generation_config=settings)
            answer = answer[0, length:].tolist()
            cases.append({"model": folder, "prompt": prompt[0].tolist(), "repetition_penalty": penalty, "answer": answer})
    return cases


def main():
    torch.set_num_threads(1)
    lines = lambda items: "[\n" + ",\n".join("  " + json.dumps(item) for item in items) + "\n ]"
    found = distributions()
    parts = [f' "{key}": {lines(found[key])}' for key in ["logits", "seen", "cases"]] + [f' "greedy": {lines(greedy())}']
    (HERE / "sampling.json").write_text("{\n" + ",\n".join(parts) + "\n}\n")


if __name__ == "__main__":
    main()
