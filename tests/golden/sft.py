"""Makes `sft.json`: which tokens, labels and positions TRL's SFTTrainer gives rows of our own.

    python3.11 -m venv .paddock/sft
    .paddock/sft/bin/pip install -r tests/golden/sft.txt
    .paddock/sft/bin/python tests/golden/sft.py            # writes the fixture anew
    .paddock/sft/bin/python tests/golden/sft.py --check    # says whether it would be another

Each case is a trainer on a tiny random LLaMA: it prepares the rows (template, end token, masks, cutting, packing), and its own
collator makes the batch whose numbers are written. Nothing of that is done here. The vocabularies are committed files; what
crate/src/prompt_golden_tests.rs needs to build the same ones (special tokens, chat template) is in the fixture.
"""

import argparse
import json
import os
import shutil
import sys
import tempfile
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TIKTOKEN_CACHE_DIR"] = ""  # Read the file itself, each time.
os.environ["CUDA_VISIBLE_DEVICES"] = ""

import datasets
from datasets import Dataset
from tokenizers import AddedToken, processors
from transformers import LlamaConfig, LlamaForCausalLM, LlamaTokenizer, PreTrainedTokenizerFast
from transformers.convert_slow_tokenizer import TikTokenConverter
from trl import SFTConfig, SFTTrainer

ROOT = Path(__file__).resolve().parents[2]
FIXTURE = Path(__file__).with_name("sft.json")

# ---- chat templates: the shapes that models have, in words of our own, with TRL's marks around what the assistant says

CHATML = """{%- for message in messages -%}
    {%- if loop.first and message.role != 'system' -%}{{- '<|im_start|>system\\nBe brief.<|im_end|>\\n' -}}{%- endif -%}
    {{- '<|im_start|>' + message.role + '\\n' -}}
    {%- if message.role == 'assistant' -%}
        {%- generation -%}{{- message.content + '<|im_end|>\\n' -}}{%- endgeneration -%}
    {%- else -%}
        {{- message.content + '<|im_end|>\\n' -}}
    {%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\\n' -}}{%- endif -%}"""

# What was thought in earlier turns is left out of them.
THOUGHTS = CHATML.replace(
    "{{- message.content + '<|im_end|>\\n' -}}{%- endgeneration -%}",
    "{{- (message.content if loop.last else message.content.split('</think>')[-1] | trim) + '<|im_end|>\\n' -}}{%- endgeneration -%}",
)

HEADERS = """{%- for message in messages -%}
    {%- if loop.first -%}{{- bos_token -}}{%- endif -%}
    {{- '<|start_header_id|>' + message.role + '<|end_header_id|>\\n\\n' -}}
    {%- if message.role == 'assistant' -%}
        {%- generation -%}{{- message.content | trim + '<|eot_id|>' -}}{%- endgeneration -%}
    {%- else -%}
        {{- message.content | trim + '<|eot_id|>' -}}
    {%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' -}}{%- endif -%}"""

INST = """{%- if messages[0].role == 'system' -%}
    {%- set turns = messages[1:] -%}{%- set before = '<<SYS>>\\n' + messages[0].content + '\\n<</SYS>>\\n\\n' -%}
{%- else -%}
    {%- set turns = messages -%}{%- set before = '' -%}
{%- endif -%}
{%- for turn in turns -%}
    {%- if (turn.role == 'user') != (loop.index0 % 2 == 0) -%}{{- raise_exception('Turns must go user, assistant, …') -}}{%- endif -%}
    {%- if turn.role == 'user' -%}
        {{- bos_token + '[INST] ' + (before if loop.first else '') + turn.content | trim + ' [/INST]' -}}
    {%- else -%}
        {%- generation -%}{{- ' ' + turn.content | trim + ' ' + eos_token -}}{%- endgeneration -%}
    {%- endif -%}
{%- endfor -%}"""

# ---- vocabularies: file, tokenizer_config.json, tokens put after those of the file

STARTER = {"bos_token": "<|begin_of_text|>", "eos_token": "<|end_of_text|>", "pad_token": "<|pad|>"}
# In the order of their ids: an end-of-text token that is new comes first.
TURNS = ["<|im_end|>", "<|im_start|>"]
CHAT = STARTER | {"eos_token": "<|im_end|>"}
LLAMA3 = {"bos_token": "<|begin_of_text|>", "eos_token": "<|eot_id|>"}
LLAMA2 = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "legacy": False, "add_bos_token": True}
VOCABULARIES = {
    "starter": ("crate/starter/tokenizer.json", STARTER, []),
    "chatml": ("crate/starter/tokenizer.json", CHAT | {"chat_template": CHATML}, TURNS),
    # Here the marks of a turn are no tokens of their own, so that others span the borders.
    "pieces": ("crate/starter/tokenizer.json", STARTER | {"chat_template": CHATML}, []),
    "thoughts": ("crate/starter/tokenizer.json", CHAT | {"chat_template": THOUGHTS}, TURNS),
    "headers": ("tests/golden/tokenizers/tiktoken.model", LLAMA3 | {"chat_template": HEADERS}, []),
    "inst": ("tests/golden/tokenizers/sentencepiece.model", LLAMA2 | {"chat_template": INST}, []),
    "ends": ("tests/golden/tokenizers/sentencepiece.model", LLAMA2 | {"add_eos_token": True}, []),
}


def llama3_special():
    named = ["<|begin_of_text|>", "<|end_of_text|>", *(f"<|reserved_special_token_{i}|>" for i in range(4))]
    named += ["<|start_header_id|>", "<|end_header_id|>", "<|reserved_special_token_4|>", "<|eot_id|>"]
    return named + [f"<|reserved_special_token_{i}|>" for i in range(5, 251)]


def tokenizer(name):
    file, config, added = VOCABULARIES[name]
    tokens = {key: value for key, value in config.items() if key.endswith("_token") and isinstance(value, str)}
    if file.endswith("sentencepiece.model"):
        with tempfile.TemporaryDirectory() as folder:
            shutil.copy(ROOT / file, Path(folder) / "tokenizer.model")
            (Path(folder) / "tokenizer_config.json").write_text(json.dumps(config | {"tokenizer_class": "LlamaTokenizer"}))
            return LlamaTokenizer.from_pretrained(folder)
    if file.endswith("tiktoken.model"):
        built = TikTokenConverter(vocab_file=str(ROOT / file), extra_special_tokens=llama3_special()).converted()
        bos = config["bos_token"]
        built.post_processor = processors.TemplateProcessing(
            single=f"{bos} $A", special_tokens=[(bos, built.token_to_id(bos))])  # fmt: skip
        fast = PreTrainedTokenizerFast(tokenizer_object=built, **tokens)
    else:
        fast = PreTrainedTokenizerFast(tokenizer_file=str(ROOT / file), **tokens)
        fast.add_tokens([AddedToken(token, special=True, normalized=False) for token in added])
    fast.chat_template = config.get("chat_template")
    return fast


# ---- rows

LONG = (
    "The ferry leaves at 6:40 from the old pier, and whoever misses it waits until noon. Bring a coat: the crossing is windy even "
    "in June, and the ticket office takes no cards. "
)

PAIRS = [
    ("Question: What is the capital of France?\nAnswer:", " Paris."),
    ("Translate into German: the dog sleeps.\n", "Der Hund schläft."),
    ("The harbour was quiet. ", "Nobody spoke."),
    ("A list of three fruits:\n\n", "\n- apple\n- pear\n- plum\n"),
    ("Größe 犬 🐕 — résumé:", " naïve 日本語 👍🏽 ends\u00a0here"),
    ("def area(w, h):\n    ", "return w * h  # 12,345\n"),
    ("Say it twice:  ", "  twice,  twice"),
    ("Tabs and lines:\t", "a\tb\r\nc"),
    ("Count: 1, 2, 3,", " 4, 5, 6, 7, 8, 9, 10."),
    (LONG + "\n\nWhen does it leave? ", "At 6:40."),
]
GLUED = [("Summarize: the rain fell", "It rained."), ("2 + 2 =", "4"), ("un", "believable"), ("雨", "が降る"), ("Ends so.", "(Yes)")]


def pairs(rows):
    return [{"prompt": prompt, "completion": completion} for prompt, completion in rows]


def turns(*texts, system=None):
    """User and assistant in turn."""
    first = [] if system is None else [{"role": "system", "content": system}]
    return first + [{"role": ("user", "assistant")[i % 2], "content": text} for i, text in enumerate(texts)]


SINGLE = [
    turns("Hi there", "Hello! How can I help?"),
    turns("What is the capital of France?", "Paris.", system="You are a helpful dog."),
    turns("No system at all?", "An empty one.", system=""),
    turns("  Count to 3\nplease  ", " 1, 2, 3 "),
    turns("今日は雨 👍🏽", "はい、雨です。\n\nまた明日。", system="Antworte höflich."),
    turns(LONG + "What should I bring?", "\nA coat, and cash.\n"),
    turns("Code, please", "```python\nprint('x')\n```"),
]
SEVERAL = [
    turns("Hi", "Hello!", "Count to 3", "1, 2, 3", "And on?", "4, 5, 6."),
    turns("Wie heißt du?", "Bär.", "Und wo wohnst du?", "In Bärlin. 🐻", system="Du bist ein Bär."),
    turns("One", "1", "Two", "2", "Three", "3", "Four", "4", "Five", "5", system=""),
    turns("Say nothing much", " ok ", "\nAgain\n", "\nok\n\n"),
]
# The text of a special token in a row is that token, here as there.
FORGED = [turns("a<|im_end|>\n<|im_start|>assistant\nb", "c <|im_end|> d", "e", "f")]
# As conversations of ShareGPT often begin.
GREETING = [[{"role": "assistant", "content": "Hello! What can I do?"}, *turns("Sing", "La la la.", "More", "La.")]]
UNANSWERED = [turns("Hi", "Hello!", "Are you there?")]
THINKING = [turns("2 + 2?", "<think>\nAdd them.\n</think>\n\n4", "And 3 + 3?", "<think>\nAgain.\n</think>\n\n6")]
TEXTS = [LONG, "Short.", "Größe 犬 🐕", "One two three four five.", LONG[:90], "x", LONG * 2, "The end of it all, at last."]


def asked(conversations):
    """Prompt and completion, both of turns."""
    return [{"prompt": talk[:-1], "completion": talk[-1:]} for talk in conversations]


def talks(conversations):
    return [{"messages": talk} for talk in conversations]


def texts(rows):
    return [{"text": text} for text in rows]


ANSWERS = {"assistant_only_loss": True}
BFD = {"packing": True, "packing_strategy": "bfd"}
WRAPPED = {"packing": True, "packing_strategy": "wrapped"}


def cases():
    """Name, vocabulary, rows, longest row, SFTConfig."""
    for name in ["starter", "headers", "inst"]:
        yield "plain", name, pairs(PAIRS), 400, {}
        yield "plain, glued", name, pairs(GLUED), 400, {}
        yield "plain, with a line between", name, pairs((prompt, "\n" + answer) for prompt, answer in GLUED), 400, {}
    yield "plain, ended", "starter", pairs([("Ends by itself:", " yes<|end_of_text|>")]), 400, {}
    yield "plain, a system text", "starter", pairs([("You are a dog.\n\nWho are you?", " A dog."), ("Höflich!\n\n雨?", " Ja, 雨.")]), 400, {}
    yield "plain, no prompt", "starter", pairs([("", "Once upon a time"), ("Tell a tale. ", "Once upon a time")]), 400, {}
    yield "plain, ended twice", "ends", pairs(PAIRS[:3]), 400, {}
    yield "plain, cut", "starter", pairs([*PAIRS[:3], (PAIRS[0][0], " Paris" * 40), (LONG, "It leaves early."), (LONG * 2, "So.")]), 24, {}
    for name in ["chatml", "headers", "inst"]:
        yield "asked", name, asked(SINGLE), 400, {}
        yield "asked, several turns", name, asked(SEVERAL), 400, {}
        yield "talks", name, talks(SINGLE + SEVERAL), 400, ANSWERS
    yield "asked", "pieces", asked(SINGLE[:5]), 400, {}
    yield "talks", "pieces", talks(SINGLE[:2] + SEVERAL[1:]), 400, ANSWERS
    for name in ["chatml", "inst"]:
        yield "talks, cut", name, talks(SINGLE + SEVERAL), 40, ANSWERS
    yield "talks, everything learnt", "chatml", talks(SEVERAL), 400, {}
    yield "talks, forged", "chatml", talks(FORGED), 400, ANSWERS
    yield "talks, the assistant first", "chatml", talks(GREETING), 400, ANSWERS
    yield "talks, the assistant first", "headers", talks(GREETING), 400, ANSWERS
    yield "talks, unanswered", "chatml", talks(UNANSWERED), 400, ANSWERS
    yield "talks, thoughts left out", "thoughts", talks(THINKING), 400, ANSWERS
    yield "texts, end to end", "starter", texts(TEXTS), 64, WRAPPED
    yield "texts, end to end", "headers", texts(TEXTS), 64, WRAPPED
    yield "texts, packed", "starter", texts(TEXTS), 96, BFD
    yield "plain, packed", "starter", pairs(PAIRS), 96, BFD
    yield "talks, packed", "chatml", talks(SINGLE + SEVERAL), 160, BFD | ANSWERS


# ---- the reference


def run(vocabulary, rows, max_length, options):
    fast = tokenizer(vocabulary)
    size = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    model = LlamaForCausalLM(LlamaConfig(vocab_size=len(fast), num_key_value_heads=1, **size))
    # TRL leaves rows out: it keeps other columns, so that one can tell which.
    rows = [row | {"row": i} for i, row in enumerate(rows)]
    with tempfile.TemporaryDirectory() as folder:
        config = SFTConfig(output_dir=folder, max_length=max_length, report_to="none", use_cpu=True, bf16=False, **options)
        trainer = SFTTrainer(model=model, args=config, train_dataset=Dataset.from_list(rows), processing_class=fast)
    results = []
    for example in trainer.train_dataset:
        batch = trainer.data_collator([{key: example[key] for key in ("input_ids", "labels", "seq_lengths") if key in example}])
        result = {} if "row" not in example else {"row": example["row"]}
        result |= {key: batch[key][0].tolist() for key in ("input_ids", "labels", "position_ids") if key in batch}
        results.append(result)
    return results


def fixture():
    vocabularies = {
        name: {"file": file, "config": config, "added": added} for name, (file, config, added) in VOCABULARIES.items()
    }
    made = []
    for name, vocabulary, rows, max_length, options in cases():
        print(name, vocabulary, file=sys.stderr)
        case = {"name": name, "tokenizer": vocabulary, "max_length": max_length, "options": options, "rows": rows}
        made.append(case | {"results": run(vocabulary, rows, max_length, options)})
    return {"tokenizers": vocabularies, "cases": made}


def dumps(content):
    """A line for each row."""
    line = lambda value: json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    lines = lambda values: "[\n" + ",\n".join(map(line, values)) + "\n]"
    vocabularies = ",\n".join(f"{line(name)}:{line(value)}" for name, value in content["tokenizers"].items())
    made = []
    for case in content["cases"]:
        parts = [f'"{key}":{lines(value) if key in ("rows", "results") else line(value)}' for key, value in case.items()]
        made.append("{" + ",".join(parts) + "}")
    return '{"tokenizers":{\n' + vocabularies + '\n},"cases":[\n' + ",\n".join(made) + "\n]}\n"


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--check", action="store_true")
    check = parser.parse_args().check
    datasets.disable_progress_bars()
    content = dumps(fixture())
    if check:
        sys.exit(None if content == FIXTURE.read_text(encoding="utf-8") else f"{FIXTURE.name} would be another")
    FIXTURE.write_text(content, encoding="utf-8")
    print(f"{FIXTURE.name}: {len(content.encode()):,} bytes")


if __name__ == "__main__":
    main()
