"""Writes the movie-review sentences that the reference run and Paddock are compared on, as CSV (text,label).

    .paddock/reference/bin/python tests/reference/snippets.py [OUTPUT_DIR]

Source: Hutto & Gilbert, "VADER" (ICWSM 2014), in the source distribution of vaderSentiment 3.3.2 (MIT); the mean of
twenty ratings from -4 to 4. Above 0 is `positive`, below is `negative`, 0 is left out; so are sentences that repeat.
"""

import argparse
import csv
import io
import random
import tarfile
from collections import Counter
from pathlib import Path

from fetch import PADDOCK, fetch

PACKAGE = "vadersentiment==3.3.2"
SDIST = "vaderSentiment-3.3.2.tar.gz"
SDIST_SHA256 = "5d7c06e027fc8b99238edb0d53d970cf97066ef97654009890b83703849632f9"
INNER = "vaderSentiment-3.3.2/additional_resources/hutto_ICWSM_2014.tar.gz"
RATINGS = "hutto_ICWSM_2014/movieReviewSnippets_GroundTruth.txt"
SEED = 42
SUBSETS = [("snippets-valid-400.csv", 400), ("snippets-train-200.csv", 200), ("snippets-train-600.csv", 600)]


def read():
    sdist = fetch(PACKAGE, SDIST, SDIST_SHA256, "--no-binary", ":all:")
    with tarfile.open(sdist) as outer, tarfile.open(fileobj=outer.extractfile(INNER)) as inner:
        text = io.TextIOWrapper(inner.extractfile(RATINGS), encoding="utf-8")
        return [line.rstrip("\r\n").split("\t") for line in text]


def labelled(ratings):
    seen, rows = set(), []
    for _, score, text in ratings:
        text = text.strip()
        if float(score) != 0 and text and text not in seen:
            seen.add(text)
            rows.append((text, "positive" if float(score) > 0 else "negative"))
    return rows


def write(path, rows):
    with open(path, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("text", "label"))
        writer.writerows(rows)
    print(f"{path}: {len(rows)} rows, {dict(sorted(Counter(label for _, label in rows).items()))}")


def main():
    parser = argparse.ArgumentParser(description="Writes the movie-review sentences as CSV files.")
    parser.add_argument("output", nargs="?", type=Path, default=PADDOCK / "data")
    output = parser.parse_args().output
    output.mkdir(parents=True, exist_ok=True)
    rows = labelled(read())
    write(output / "snippets.csv", rows)
    shuffled = random.Random(SEED).sample(rows, len(rows))
    start = 0
    for name, count in SUBSETS:  # Cut one after the other: no row is in two of them.
        write(output / name, shuffled[start:start + count])
        start += count


if __name__ == "__main__":
    main()
