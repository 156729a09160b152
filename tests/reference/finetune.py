"""LoRA fine-tuning of a LLaMA for text classification with transformers and PEFT: what Paddock's own run is held against.

    .paddock/reference/bin/python tests/reference/finetune.py --model .paddock/models/SmolLM2-135M-Instruct \
        --train .paddock/data/snippets-train-200.csv --validation .paddock/data/snippets-valid-400.csv

Prints one JSON line: accuracy and loss on the held-out rows before and after, training losses, tokens a second (padding not counted).
"""

import argparse
import csv
import json
import random
import time
from pathlib import Path

import torch
from peft import LoraConfig, TaskType, get_peft_model
from transformers import AutoModelForSequenceClassification, AutoTokenizer, get_scheduler, set_seed

LINEARS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def parse():
    parser = argparse.ArgumentParser(description="LoRA fine-tuning for classification with transformers and PEFT.")
    parser.add_argument("--model", required=True)
    parser.add_argument("--train", required=True, help="CSV with the columns text and label")
    parser.add_argument("--validation", help="CSV of held-out rows; else a fifth of --train is held out")
    parser.add_argument("--rows", type=int, help="train on the first N rows only")
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--lr", type=float, default=5e-4)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument("--rank", type=int, default=8)
    parser.add_argument("--alpha", type=float, default=16)
    parser.add_argument("--max-length", type=int, default=128)
    parser.add_argument("--scheduler", default="linear", choices=["linear", "cosine", "constant"])
    parser.add_argument("--warmup", type=int, default=0, help="warm-up steps")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--save", help="folder for the trained adapter")
    return parser.parse_args()


def read(path):
    with open(path, encoding="utf-8-sig", newline="") as file:
        return [(row["text"], row["label"]) for row in csv.DictReader(file)]


def batches(rows, size):
    return [rows[start:start + size] for start in range(0, len(rows), size)]


class Run:
    def __init__(self, options, labels):
        self.options = options
        self.label2id = {label: i for i, label in enumerate(labels)}
        self.tokenizer = AutoTokenizer.from_pretrained(options.model)
        self.tokenizer.padding_side = "right"
        base = AutoModelForSequenceClassification.from_pretrained(
            options.model, num_labels=len(labels), id2label=dict(enumerate(labels)), label2id=self.label2id,
            torch_dtype=torch.float32)
        base.config.pad_token_id = self.tokenizer.pad_token_id
        self.model = get_peft_model(base, LoraConfig(
            task_type=TaskType.SEQ_CLS, r=options.rank, lora_alpha=options.alpha, lora_dropout=0.0,
            target_modules=LINEARS)).to(options.device)

    def encode(self, rows):
        batch = self.tokenizer([text for text, _ in rows], padding=True, truncation=True,
                               max_length=self.options.max_length, return_tensors="pt")
        labels = torch.tensor([self.label2id[label] for _, label in rows])
        return {"input_ids": batch["input_ids"], "attention_mask": batch["attention_mask"], "labels": labels}

    def forward(self, rows):
        batch = {name: tensor.to(self.options.device) for name, tensor in self.encode(rows).items()}
        return self.model(**batch), batch

    @torch.no_grad()
    def evaluate(self, rows):
        self.model.eval()
        right, loss = 0, 0.0
        for part in batches(sorted(rows, key=lambda row: len(row[0])), 16):  # Alike in length: little padding.
            out, batch = self.forward(part)
            right += (out.logits.argmax(-1) == batch["labels"]).sum().item()
            loss += out.loss.item() * len(part)
        return {"accuracy": round(right / len(rows), 4), "loss": round(loss / len(rows), 4)}

    def train(self, rows):
        options = self.options
        trained = [p for p in self.model.parameters() if p.requires_grad]
        steps = options.epochs * len(batches(rows, options.batch))
        optimizer = torch.optim.AdamW(trained, lr=options.lr, weight_decay=0.0)
        schedule = get_scheduler(options.scheduler, optimizer, options.warmup, steps)
        order = random.Random(options.seed)
        self.model.train()
        losses, tokens, started = [], 0, time.perf_counter()
        for _ in range(options.epochs):
            for part in batches(order.sample(rows, len(rows)), options.batch):
                out, batch = self.forward(part)
                out.loss.backward()
                torch.nn.utils.clip_grad_norm_(trained, 1.0)
                optimizer.step()
                schedule.step()
                optimizer.zero_grad()
                losses.append(round(out.loss.item(), 4))
                tokens += batch["attention_mask"].sum().item()
        seconds = time.perf_counter() - started
        return {"steps": steps, "trainable_parameters": sum(p.numel() for p in trained), "losses": losses,
                "tokens": tokens, "seconds": round(seconds, 1), "tokens_per_second": round(tokens / seconds, 1)}


def main():
    options = parse()
    torch.set_num_threads(options.threads)
    set_seed(options.seed)
    train = read(options.train)
    if options.validation:
        held_out = read(options.validation)
    else:
        train = random.Random(options.seed).sample(train, len(train))
        cut = max(1, len(train) // 5)
        held_out, train = train[:cut], train[cut:]
    train = train[:options.rows]
    run = Run(options, sorted({label for _, label in train + held_out}))
    before = run.evaluate(held_out)
    training = run.train(train)
    after = run.evaluate(held_out)
    if options.save:
        run.model.save_pretrained(options.save, save_embedding_layers=False)
    print(json.dumps({
        "model": Path(options.model).name, "rows": len(train), "held_out_rows": len(held_out), "epochs": options.epochs,
        "lr": options.lr, "batch": options.batch, "seed": options.seed, "rank": options.rank, "alpha": options.alpha,
        "device": options.device, "threads": options.threads, "before": before, "after": after, **training}))


if __name__ == "__main__":
    main()
