"""Makes the golden fixtures of this folder with the reference implementation (transformers and PEFT, on the CPU, f32).

    python3.11 -m venv .paddock/reference
    .paddock/reference/bin/pip install -r tests/golden/requirements.txt
    .paddock/reference/bin/python tests/golden/make.py            # writes the fixtures anew
    .paddock/reference/bin/python tests/golden/make.py --check    # makes them elsewhere and says what differs

Everything is seeded and runs on one thread: on the same processor family a second run gives the same bytes. Another
processor (other vector units) may change the last bits of floats; `--check` then reports the largest difference.
What the tensors are called and mean is told in README.md beside this file.
"""

import argparse
import json
import os
import shutil
import sys
import tempfile
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"
os.environ["HF_HUB_OFFLINE"] = "1"

import torch
from peft import LoraConfig, PeftModel, TaskType, get_peft_model
from peft.utils import get_peft_model_state_dict
from safetensors.torch import load_file, save_file
from transformers import LlamaConfig, LlamaForCausalLM, LlamaForSequenceClassification, get_scheduler
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding
from transformers.pytorch_utils import ALL_LAYERNORM_LAYERS
from transformers.trainer_pt_utils import get_parameter_names

HERE = Path(__file__).resolve().parent
FIXTURES = ["causal", "causal-tied", "causal-f16", "causal-bf16", "classify", "regress", "lora", "lora-steps",
            "rope.safetensors", "schedule.json", "expected.json"]
VOCAB, SEQ, LENGTHS, PAD = 97, 11, [11, 7, 4], 0
STEPS, LEARNING_RATE, MAX_GRAD_NORM = 10, 1e-2, 1.0
LINEARS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def llama_config(**extra):
    return LlamaConfig(
        vocab_size=VOCAB, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=64, rope_theta=10000.0, rms_norm_eps=1e-5, pad_token_id=PAD,
        bos_token_id=1, eos_token_id=2, attn_implementation="eager", **extra)


def randomize(model, seed):
    """Weights large enough, and norm weights far enough from 1, that a mistake anywhere shows in the logits."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in sorted(model.named_parameters()):
            noise = torch.randn(parameter.shape, generator=generator) * 0.2
            parameter.copy_(1.0 + noise if name.endswith("norm.weight") else noise)
    return model


def inputs(seed):
    """Three rows of 11, 7 and 4 tokens, padded on the right. No row holds the padding token: transformers 4.41.2 pools at
    `argmax(input_ids == pad_token_id) - 1`, which is the token before the *first* padding token (the last token of the
    row where there is none), not the last token that differs from padding."""
    generator = torch.Generator().manual_seed(seed)
    input_ids = torch.randint(3, VOCAB, (len(LENGTHS), SEQ), generator=generator)
    attention_mask = (torch.arange(SEQ) < torch.tensor(LENGTHS)[:, None]).long()
    input_ids[attention_mask == 0] = PAD
    return {"input_ids": input_ids, "attention_mask": attention_mask}


def expected(model, batch, weight_decay, rename=lambda name: name):
    """Logits, loss and gradients of the model as it stands, then ten AdamW steps on the same batch (changes the model)."""
    model.train()  # No dropout anywhere, so this changes nothing but says what is meant.
    out = model(**batch)
    out.loss.backward()
    tensors = {**batch, "logits": out.logits.detach(), "loss": out.loss.detach().reshape(1)}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            tensors["grad." + rename(name)] = parameter.grad.clone()
    model.zero_grad()

    # As transformers' Trainer: every parameter decays but norms and biases; embeddings decay.
    decays = {n for n in get_parameter_names(model, ALL_LAYERNORM_LAYERS) if "bias" not in n}
    trained = [(n, p) for n, p in model.named_parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW([
        {"params": [p for n, p in trained if n in decays], "weight_decay": weight_decay},
        {"params": [p for n, p in trained if n not in decays], "weight_decay": 0.0},
    ], lr=LEARNING_RATE, betas=(0.9, 0.999), eps=1e-8)
    schedule = get_scheduler("linear", optimizer, num_warmup_steps=0, num_training_steps=STEPS)
    losses, grad_norms, learning_rates = [], [], []
    for _ in range(STEPS):
        loss = model(**batch).loss
        loss.backward()
        losses.append(loss.item())
        grad_norms.append(torch.nn.utils.clip_grad_norm_([p for _, p in trained], MAX_GRAD_NORM).item())
        learning_rates.append(schedule.get_last_lr()[0])
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
    with torch.no_grad():
        losses.append(model(**batch).loss.item())
    for name, parameter in trained:
        tensors["after." + rename(name)] = parameter.detach().clone()
    tensors["train.losses"] = torch.tensor(losses)
    tensors["train.grad_norms"] = torch.tensor(grad_norms)
    tensors["train.learning_rates"] = torch.tensor(learning_rates)
    return tensors


def scalars(tensors):
    """What a person wants to read of an expected.safetensors."""
    return {
        "loss": tensors["loss"].item(),
        "gradient_norms": {n.removeprefix("grad."): t.norm().item() for n, t in tensors.items() if n.startswith("grad.")},
        "train": {key: tensors["train." + key].tolist() for key in ["losses", "grad_norms", "learning_rates"]},
    }


def write_expected(folder, tensors):
    save_file({name: t.contiguous() for name, t in tensors.items()}, folder / "expected.safetensors")


def save_model(model, folder):
    model.save_pretrained(folder)
    (folder / "generation_config.json").unlink(missing_ok=True)


def full(root, name, model, batch, summary):
    folder = root / name
    save_model(model, folder)
    tensors = expected(model, batch, weight_decay=0.01)
    write_expected(folder, tensors)
    summary[name] = scalars(tensors)


def causal(root, summary):
    for name, tied, seed in [("causal", False, 1), ("causal-tied", True, 2)]:
        model = randomize(LlamaForCausalLM(llama_config(tie_word_embeddings=tied)), seed)
        batch = inputs(seed=10)
        batch["labels"] = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, -100)
        full(root, name, model, batch, summary)


def rounded(root, summary):
    """The untied model stored in half precision; the logits are those of the rounded weights computed in f32."""
    for name, dtype in [("causal-f16", torch.float16), ("causal-bf16", torch.bfloat16)]:
        model = LlamaForCausalLM.from_pretrained(root / "causal", attn_implementation="eager").to(dtype)
        model.config._name_or_path = ""
        save_model(model, root / name)
        batch = inputs(seed=10)
        # Read again rather than converted back: `to` has rounded the rotary frequencies as well.
        model = LlamaForCausalLM.from_pretrained(root / name, torch_dtype=torch.float32, attn_implementation="eager").eval()
        with torch.no_grad():
            logits = model(**batch).logits
        write_expected(root / name, {**batch, "logits": logits})
        summary[name] = {"logits_norm": logits.norm().item()}


def classify(root, summary):
    labels = {0: "negative", 1: "neutral", 2: "positive"}
    config = llama_config(num_labels=3, id2label=labels, label2id={v: k for k, v in labels.items()})
    batch = {**inputs(seed=20), "labels": torch.tensor([2, 0, 1])}
    full(root, "classify", randomize(LlamaForSequenceClassification(config), 3), batch, summary)

    config = llama_config(num_labels=1)
    batch = {**inputs(seed=30), "labels": torch.tensor([0.7, -1.3, 2.1])}
    full(root, "regress", randomize(LlamaForSequenceClassification(config), 4), batch, summary)


def adapter_name(name):
    """PEFT's parameter name → the name in adapter_model.safetensors."""
    return name.replace(".modules_to_save.default.", ".").replace(".default.", ".")


def save_adapter(model, folder, base="classify"):
    """`save_pretrained`, made repeatable: PEFT writes the module names in hash order, and a model card with the date."""
    model.save_pretrained(folder, save_embedding_layers=False)
    (folder / "README.md").unlink()
    path = folder / "adapter_config.json"
    config = json.loads(path.read_text())
    config["target_modules"].sort()
    config["base_model_name_or_path"] = f"tests/golden/{base}"
    path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")


def lora(root, summary):
    torch.manual_seed(5)  # PEFT initialises A from the global generator.
    base = LlamaForSequenceClassification.from_pretrained(root / "classify", attn_implementation="eager")
    model = get_peft_model(base, LoraConfig(
        task_type=TaskType.SEQ_CLS, r=4, lora_alpha=8, lora_dropout=0.0, target_modules=LINEARS,
        modules_to_save=["score"]))
    with torch.no_grad():
        for name, parameter in sorted(model.named_parameters()):
            # B is zero at first, which would hide A's gradients; a head unlike the base's shows which one is used.
            if "lora_B" in name:
                parameter.normal_(std=0.2)
            elif "score.modules_to_save" in name:
                parameter.add_(torch.randn_like(parameter) * 0.2)
    save_adapter(model, root / "lora" / "adapter")
    batch = {**inputs(seed=20), "labels": torch.tensor([2, 0, 1])}
    reloaded = PeftModel.from_pretrained(
        LlamaForSequenceClassification.from_pretrained(root / "classify", attn_implementation="eager"),
        root / "lora" / "adapter").eval()
    tensors = expected(model, batch, weight_decay=0.0, rename=adapter_name)
    with torch.no_grad():
        if not torch.equal(reloaded(**batch).logits, tensors["logits"]):
            sys.exit("the adapter as saved does not give the logits of the adapter in memory")
    names = {n.removeprefix("grad.") for n in tensors if n.startswith("grad.")}
    if names != set(get_peft_model_state_dict(model)):
        sys.exit("the gradients' names are not those of the adapter file")
    write_expected(root / "lora", tensors)
    save_adapter(model, root / "lora" / "adapter-after")
    summary["lora"] = scalars(tensors)


def lora_steps(root):
    """Twenty steps, each on a batch of its own, from a random A and B."""
    torch.manual_seed(6)
    base = LlamaForCausalLM.from_pretrained(root / "causal", attn_implementation="eager")
    model = get_peft_model(base, LoraConfig(
        task_type=TaskType.CAUSAL_LM, r=8, lora_alpha=16, lora_dropout=0.0, target_modules=LINEARS))
    trained = [p for p in model.parameters() if p.requires_grad]
    with torch.no_grad():
        for name, parameter in sorted(model.named_parameters()):
            if "lora_B" in name:
                parameter.normal_(std=0.1)
    save_adapter(model, root / "lora-steps" / "adapter", "causal")
    steps, rows, seq = 20, 4, 16
    batches = torch.randint(3, VOCAB, (steps, rows, seq), generator=torch.Generator().manual_seed(40))
    optimizer = torch.optim.AdamW(trained, lr=LEARNING_RATE, weight_decay=0.0)
    schedule = get_scheduler("linear", optimizer, num_warmup_steps=0, num_training_steps=steps)
    losses, grad_norms = [], []
    model.train()
    for ids in batches:
        loss = model(input_ids=ids, labels=ids).loss
        loss.backward()
        losses.append(loss.item())
        grad_norms.append(torch.nn.utils.clip_grad_norm_(trained, MAX_GRAD_NORM).item())
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
    tensors = {"input_ids": batches, "train.losses": torch.tensor(losses), "train.grad_norms": torch.tensor(grad_norms)}
    write_expected(root / "lora-steps", tensors)


def schedules(root):
    cases = []
    for kind, warmup in [("linear", 0), ("linear", 5), ("cosine", 0), ("cosine", 5), ("constant", 0), ("constant", 5),
                         ("constant_with_warmup", 5)]:
        optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=LEARNING_RATE)
        schedule = get_scheduler(kind, optimizer, num_warmup_steps=warmup, num_training_steps=20)
        rates = []
        for _ in range(20):
            rates.append(schedule.get_last_lr()[0])
            optimizer.step()
            schedule.step()
        cases.append({"lr_scheduler_type": kind, "warmup_steps": warmup, "learning_rates": rates})
    text = json.dumps({"learning_rate": LEARNING_RATE, "max_steps": 20, "cases": cases}, indent=1)
    (root / "schedule.json").write_text(text + "\n")


def rope(root):
    """cos and sin as transformers multiplies them in: [position, head_dim], the second half repeating the first."""
    tensors = {}
    for theta in [10000, 500000]:
        rotary = LlamaRotaryEmbedding(16, max_position_embeddings=64, base=float(theta))
        cos, sin = rotary(torch.zeros(1), torch.arange(64)[None])
        tensors[f"cos.{theta}"], tensors[f"sin.{theta}"] = cos[0].contiguous(), sin[0].contiguous()
    save_file(tensors, root / "rope.safetensors")


def make(root):
    summary = {}
    causal(root, summary)
    rounded(root, summary)
    classify(root, summary)
    lora(root, summary)
    lora_steps(root)
    schedules(root)
    rope(root)
    (root / "expected.json").write_text(json.dumps(summary, indent=1) + "\n")


def check(fresh, fixtures):
    """Compares the fixtures made anew with those that stand here, byte for byte, then tensor for tensor."""
    names = {p.relative_to(fresh) for p in fresh.rglob("*") if p.is_file()}
    stored = {p.relative_to(HERE) for n in fixtures for p in [HERE / n, *(HERE / n).rglob("*")] if p.is_file()}
    different = sorted(n for n in names & stored if (fresh / n).read_bytes() != (HERE / n).read_bytes())
    for name in sorted(names ^ stored):
        print(f"{name}: only {'made anew' if name in names else 'stored'}")
    for name in different:
        worst = ""
        if name.suffix == ".safetensors":
            a, b = load_file(fresh / name), load_file(HERE / name)
            gap = max((float((a[k].double() - b[k].double()).abs().max()) for k in a.keys() & b.keys()), default=0.0)
            worst = f", largest difference {gap:.3g}" + ("" if a.keys() == b.keys() else ", other tensors")
        print(f"{name}: differs{worst}")
    print(f"{len(names & stored) - len(different)} of {len(names | stored)} files are the same, byte for byte")
    return names == stored and not different


def main():
    parser = argparse.ArgumentParser(description="Makes the golden fixtures of this folder.")
    parser.add_argument("--check", action="store_true", help="compare instead of writing")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    with tempfile.TemporaryDirectory() as folder:
        fresh = Path(folder)
        make(fresh)
        if arguments.check:
            sys.exit(0 if check(fresh, FIXTURES) else 1)
        for name in FIXTURES:
            if (HERE / name).is_dir():
                shutil.rmtree(HERE / name)
            shutil.move(fresh / name, HERE / name)


if __name__ == "__main__":
    main()
