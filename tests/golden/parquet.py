"""Makes `parquet/`: small Parquet files as pyarrow, pandas and `datasets` write them, and expected.json, the text of every cell.

    python3.11 -m venv .paddock/parquet
    .paddock/parquet/bin/pip install -r tests/golden/parquet.txt
    .paddock/parquet/bin/python tests/golden/parquet.py            # writes the files anew
    .paddock/parquet/bin/python tests/golden/parquet.py --check    # reads the files again and says what differs

What a cell is expected to be comes from the rows below, not from reading a file: text as it is, nothing for a missing value, JSON
for lists and structures, in which a key without a value is left out.
"""

import argparse
import json
import random
import sys
from datetime import date, datetime, time, timezone
from decimal import Decimal
from pathlib import Path

import datasets
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

FOLDER = Path(__file__).parent / "parquet"


def nested(value):
    """As JSON has it."""
    if isinstance(value, dict):
        return {key: nested(inner) for key, inner in value.items() if inner is not None}
    if isinstance(value, list):
        return [nested(inner) for inner in value]
    return value


def cell(value):
    """The text of a cell."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (dict, list)):
        return json.dumps(nested(value), ensure_ascii=False, separators=(",", ":"))
    return str(value)


def plain_rows():
    """Every kind of flat value, with some missing, and more rows than a page or a group of rows has."""
    rng = random.Random(5)
    rows = []
    for i in range(400):
        rows.append({
            "text": rng.choice(["good", "bad", "say \"no\",\nthen go", "naïve café 電影", ""]) + f" {rng.randrange(1000)}",
            "label": rng.choice(["pos", "neg", None]),
            "count": None if i % 7 == 0 else rng.randrange(-10**12, 10**12),
            "small": rng.randrange(-100, 100),
            "score": None if i % 5 == 0 else rng.randrange(-1000, 1000) / 8,
            "kept": rng.choice([True, False, None]),
            "empty": None,
        })
    return rows


PLAIN = pa.schema([
    ("text", pa.string()), ("label", pa.string()), ("count", pa.int64()), ("small", pa.int8()), ("score", pa.float64()),
    ("kept", pa.bool_()), ("empty", pa.null()),
])

# Codec, version of data pages, dictionaries, encodings without one.
PLAIN_FILES = {
    "plain-none": ("NONE", "1.0", False, None),
    "plain-snappy": ("SNAPPY", "1.0", True, None),
    "plain-gzip": ("GZIP", "2.0", True, None),
    "plain-zstd": ("ZSTD", "2.0", True, None),
    "plain-deltas": ("SNAPPY", "2.0", False, {
        "text": "DELTA_BYTE_ARRAY", "label": "DELTA_LENGTH_BYTE_ARRAY", "count": "DELTA_BINARY_PACKED",
        "small": "DELTA_BINARY_PACKED", "score": "BYTE_STREAM_SPLIT", "kept": "RLE",
    }),
}


def plain(write):
    rows = plain_rows()
    table = pa.Table.from_pylist(rows, schema=PLAIN)
    for name, (codec, version, dictionary, encoding) in PLAIN_FILES.items():
        def save(path, codec=codec, version=version, dictionary=dictionary, encoding=encoding):
            pq.write_table(table, path, compression=codec, data_page_version=version, use_dictionary=dictionary,
                           column_encoding=encoding, row_group_size=150, data_page_size=500, write_batch_size=50)

        # A list of columns of their own: the order of PLAIN.
        write(name, PLAIN.names, [[cell(row[column]) for column in PLAIN.names] for row in rows], save)
    for codec in ["BROTLI", "LZ4"]:
        pq.write_table(table.slice(0, 5), FOLDER / f"{codec.lower()}.parquet", compression=codec)


def labels(write):
    """Classes as numbers with their names in the file, -1 and nothing where a row has none."""
    names = ["negative", "neutral", "positive"]
    rows = [{"text": f"text {i}", "label": [0, 1, 2, -1, None][i % 5], "tags": [[0, 1], [], [1]][i % 3]} for i in range(30)]
    features = datasets.Features({
        "text": datasets.Value("string"),
        "label": datasets.ClassLabel(names=names),
        "tags": datasets.Sequence(datasets.ClassLabel(names=["O", "PER"])),
    })
    named = [[
        row["text"],
        names[row["label"]] if (row["label"] or 0) >= 0 and row["label"] is not None else "",
        json.dumps([["O", "PER"][tag] for tag in row["tags"]], separators=(",", ":")),
    ] for row in rows]
    write("labels", ["text", "label", "tags"], named,
          lambda path: datasets.Dataset.from_list(rows, features=features).to_parquet(str(path)))


def chat(write):
    """Conversations, of other lengths, with a key that only some turns have."""
    turn = lambda role, content, name=None: {"role": role, "content": content, "name": name}
    rows = []
    for i in range(20):
        messages = [turn("system", "Be brief.")] if i % 3 == 0 else []
        for j in range(i % 4 + 1):
            messages += [turn("user", f"Question {i}.{j}?", "Ada" if j else None), turn("assistant", f"Answer \"{j}\"\n")]
        rows.append({"id": i, "messages": messages})
    rows.append({"id": 20, "messages": []})
    rows.append({"id": 21, "messages": None})
    kind = pa.struct([("role", pa.string()), ("content", pa.string()), ("name", pa.string())])
    schema = pa.schema([("id", pa.int32()), ("messages", pa.list_(kind))])
    write("chat", ["id", "messages"], [[cell(row["id"]), cell(row["messages"])] for row in rows],
          lambda path: pq.write_table(pa.Table.from_pylist(rows, schema=schema), path, row_group_size=8))


def squad(write):
    """SQuAD's rows as `datasets` has them: answers as a structure of lists."""
    rows = []
    for i in range(12):
        answers = {"text": [], "answer_start": []} if i % 4 == 3 else {"text": ["1843", "in 1843"], "answer_start": [13, 10]}
        rows.append({"id": f"q{i}", "title": "Ada", "context": "Ada wrote it in 1843.", "question": f"When, {i}?", "answers": answers})
    features = datasets.Features({
        **{name: datasets.Value("string") for name in ["id", "title", "context", "question"]},
        "answers": {"text": datasets.Sequence(datasets.Value("string")),
                    "answer_start": datasets.Sequence(datasets.Value("int32"))},
    })
    write("squad", list(rows[0]), [[cell(value) for value in row.values()] for row in rows],
          lambda path: datasets.Dataset.from_list(rows, features=features).to_parquet(str(path)))


def types(write):
    """Types whose text is not simply their number's; the second cell of each is what is expected."""
    day = datetime(2024, 2, 29, 12, 29, 59, 500_000)
    columns = {
        "date": (pa.date32(), date(1969, 12, 31), "1969-12-31"),
        "millis": (pa.timestamp("ms"), day, "2024-02-29T12:29:59.500"),
        "micros": (pa.timestamp("us", tz="UTC"), day.replace(tzinfo=timezone.utc), "2024-02-29T12:29:59.500000Z"),
        "nanos": (pa.timestamp("ns"), datetime(1970, 1, 1), "1970-01-01T00:00:00"),
        "time": (pa.time64("us"), time(1, 2, 3), "01:02:03"),
        "decimal": (pa.decimal128(12, 2), Decimal("-0.05"), "-0.05"),
        "large": (pa.decimal128(38, 4), Decimal("12345678901234567890123456.7890"), "12345678901234567890123456.7890"),
        "unsigned": (pa.uint64(), 2**64 - 1, str(2**64 - 1)),
        "half": (pa.float16(), np.float16(1.5), "1.5"),
        "float": (pa.float32(), 0.1, "0.1"),
        "nan": (pa.float64(), float("nan"), ""),
        "large_string": (pa.large_string(), "é", "é"),
        "category": (pa.dictionary(pa.int32(), pa.string()), "red", "red"),
        "bytes": (pa.binary(), b"text in bytes", "text in bytes"),
        "image": (pa.binary(), b"\x89PNG\xff", ""),
        "fixed": (pa.binary(3), b"abc", "abc"),
        "struct": (pa.struct([("a", pa.int32()), ("b", pa.string())]), {"a": 1, "b": None}, '{"a":1}'),
        "lists": (pa.list_(pa.list_(pa.int16())), [[1, 2], [], None, [3, None]], "[[1,2],[],null,[3,null]]"),
        "vector": (pa.list_(pa.float32(), 2), [0.5, -1.0], "[0.5,-1.0]"),
        "map": (pa.map_(pa.string(), pa.int32()), [("a", 1), ("b", None)], '{"a":1,"b":null}'),
        "deep": (pa.list_(pa.struct([("x", pa.list_(pa.struct([("y", pa.string())])))])),
                 [{"x": [{"y": "1"}, {"y": None}]}, {"x": None}, None], '[{"x":[{"y":"1"},{}]},{},null]'),
    }
    schema = pa.schema([(name, kind) for name, (kind, _, _) in columns.items()])
    values = {name: [value, None] for name, (_, value, _) in columns.items()}
    expected = [[text for _, _, text in columns.values()], [""] * len(columns)]
    # The one of Spark's and older pandas' timestamps.
    for name, options in {"types": {}, "types-int96": {"use_deprecated_int96_timestamps": True}}.items():
        rows = [list(row) for row in expected]
        if options:
            # Nanoseconds of a day, without a time zone.
            rows[0][1] = "2024-02-29T12:29:59.500000000"
            rows[0][2] = "2024-02-29T12:29:59.500000000"
        write(name, list(columns), rows, lambda path, options=options:
              pq.write_table(pa.table(values, schema=schema), path, version="2.6", **options))


def many(write):
    """A frame of pandas with an index, categories and texts that are too many for a dictionary."""
    rng = random.Random(9)
    rows = [(f"row {i} of many, {rng.random()}", rng.choice(["a", "b"]), i) for i in range(1500)]
    frame = pd.DataFrame(rows, columns=["text", "kind", "n"])
    frame["kind"] = frame["kind"].astype("category")
    frame = frame[frame["n"] % 3 != 1]
    kept = [row for row in rows if row[2] % 3 != 1]
    # The index is a column of its own, as it is no plain range.
    write("many", ["text", "kind", "n", "__index_level_0__"], [[text, kind, str(n), str(n)] for text, kind, n in kept],
          lambda path: frame.to_parquet(path, engine="pyarrow", row_group_size=400, dictionary_pagesize_limit=5000))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--check", action="store_true")
    check = parser.parse_args().check
    FOLDER.mkdir(exist_ok=True)
    expected, differs = {}, []

    def write(name, columns, rows, save):
        path = FOLDER / f"{name}.parquet"
        if not check:
            save(path)
        expected[path.name] = {"columns": columns, "rows": rows}
        read = pq.read_table(path)
        if read.column_names != columns or read.num_rows != len(rows):
            differs.append(f"{path.name}: {read.column_names}, {read.num_rows} rows")

    for make in [plain, labels, chat, squad, types, many]:
        make(write)
    text = json.dumps(expected, ensure_ascii=False, indent=0) + "\n"
    path = FOLDER / "expected.json"
    if not check:
        path.write_text(text, encoding="utf-8")
    elif path.read_text(encoding="utf-8") != text:
        differs.append("expected.json")
    for line in differs:
        print(line)
    return 1 if differs else 0


if __name__ == "__main__":
    sys.exit(main())
