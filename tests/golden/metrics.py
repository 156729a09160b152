"""Makes `metrics.json`: what the standard packages compute of texts, answers, classes and numbers that are made here.

    python3.11 -m venv .paddock/metrics
    .paddock/metrics/bin/pip install -r tests/golden/metrics.txt
    .paddock/metrics/bin/python tests/golden/metrics.py            # writes the fixture anew
    .paddock/metrics/bin/python tests/golden/metrics.py --check    # says whether it would be another

ROUGE is rouge-score's, BLEU sacrebleu's, exact match and F1 those of SQuAD's script as transformers carries it, classes and
entities scikit-learn's, regression scikit-learn's and SciPy's, percentiles NumPy's, bootstrap SciPy's.
"""

import argparse
import json
import random
import sys
import warnings
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import regex
from rouge_score.rouge_scorer import RougeScorer
from sacrebleu.metrics import BLEU
from scipy.stats import bootstrap, pearsonr
from sklearn import metrics as sk
from sklearn.calibration import calibration_curve
from sklearn.preprocessing import MultiLabelBinarizer
from transformers.data.metrics.squad_metrics import get_raw_scores, normalize_answer

FIXTURE = Path(__file__).with_name("metrics.json")

# Written for this file: what the tokenizers must take apart in the same way.
TEXTS = [
    "",
    " ",
    "The harbour was quiet, and the lamps were lit by half past six.",
    "the harbour was quiet; lamps were lit at 6:30 p.m.",
    "In 1,204 days the firm's revenue rose by 3.5% to $2,000,000.00 (a record).",
    "In 1,204 days revenue of the firm rose 3.5 % to 2.000.000 dollars - a record!",
    "Don't rock the boat -- it's well-known that 1990-95 wasn't easy... or was it?",
    "do not rock the boat: it is well known that 1990 - 95 wasn't easy",
    "He said \"yes\", she said 'no'; both said [maybe] {perhaps} <never>.",
    "&quot;Tea &amp; toast&quot; &lt;b&gt;costs&lt;/b&gt; 4&amp;lt;5 &copy; <skipped>now",
    "co-\noperate on two\nlines\n",
    "trailing white space \t\n \u001c",
    "a.b,c.d 1.a a.1 .5 5. 1..2 ,,x,, 1,,2 x-1 1-x 1--2 -3",
    "^caret_under`tick~tilde|pipe\\slash/solidus @home #1 100% 2*3=6 a+b?",
    "Ærøskøbing and Zürich: naïve cafés, 25 °C, 10 µm, №5 — “quoted” … İstanbul, ΟΔΟΣ, ſtraße, \u212aelvin",
    "ærøskøbing, zürich – cafes at 25 degrees \u201cquoted\u201d istanbul οδος strasse kelvin",
    "Сегодня хорошая погода, и мы идём в парк.",
    "Сегодня плохая погода. Мы не идём в парк!",
    "今天天气很好，我们去公园散步。",
    "今天天气不好，我们不去公园。",
    "2024年，人口增长了3.5%。",
    "東京タワーは高いです。コーヒーを飲む。",
    "東京の塔は高い。ｺｰﾋｰを飲みます。々〇",
    "한국어 문장은 띄어쓰기가 있다.",
    "한국어 문장은 띄어쓰기가 없다.",
    "no\u00a0break\u2003em\u3000wide\u200bzero\u0085next",
    "word " * 40,
    "!!! ??? ... ,,, ---",
    "One fish two fish red fish blue fish",
    "fish fish fish fish one two red blue",
    "https://example.org/a_b?c=d&e=f mail@example.org 12/03/2021 10:45:00 +1-202-555-0100",
]

ANSWERS = [
    ([], ""), ([], "Paris"), ([""], ""), ([""], "the"), (["the"], ""), (["the", "Paris"], ""), (["an"], "The"),
    (["Paris", "the city of Paris"], "Paris, the city"), (["The Beatles"], "beatles"), (["U.S.A."], "the USA"),
    (["a-b"], "ab"), (["1,204"], "1204"), (["3.5%"], "3.5 percent"), (["an apple a day"], "Apple day"),
    (["—the— end"], "— — end"), (["\u201ca\u201d theatre"], "\u201c\u201d theatre"), (["thean the an"], "thean"),
    (["in the year 1879", "1879"], "it was in 1879"), (["ΟΔΟΣ"], "οδος"), (["İz"], "i\u0307z"), (["今天"], "今天。"),
    (["北京"], "北京 市"), (["no\u00a0break"], "no break"), (["a\u001cb the\u001dc"], "b c"), (["x_y the_z"], "xy thez"),
    (["fish fish red fish"], "fish red red fish blue"), (["thé á la carte"], "the thé a á carte"), (["’a’ 2a a2"], "2a a2"),
]

VOCABULARY = ("the a of and to river stone house green 12 3.5 1,000 don't well-known Mr. U.S. café naïve (so) \"yes\" end. but, "
              "why? — … 7-8 x,y & / it's 100% $5 Zürich 今天 день").split(" ")


class UnicodeTokens:
    """Paddock's tokens of a reference without ASCII letters and digits, in regex's notation instead of ranges."""

    own = r"[\p{Han}\p{Hiragana}\p{Katakana}ー]"

    def tokenize(self, text):
        return regex.findall(rf"(?V1)[{self.own}&&[\p{{Alphabetic}}\p{{N}}]]|[[\p{{Alphabetic}}\p{{N}}]--{self.own}]+",
                             "".join(c.lower() for c in text))


def pairs(rng):
    """References with answers: all neighbours of TEXTS both ways, and random walks that share much."""
    out = []
    for a, b in zip(TEXTS, TEXTS[1:] + TEXTS[:1]):
        out += [(a, b), (b, a)]
    out += [(text, text) for text in TEXTS[::4]]
    for length in [1, 2, 3, 4, 5, 8, 13, 21, 34, 55] * 7 + [400]:
        words = rng.choices(VOCABULARY, k=length)
        answer = [word for word in words if rng.random() > 0.15]
        for _ in range(length // 4):
            answer.insert(rng.randrange(len(answer) + 1), rng.choice(VOCABULARY))
        if rng.random() < 0.3:
            rng.shuffle(answer)
        join = rng.choice([" ", " ", "  ", "\n"])
        out.append((join.join(words), " ".join(answer)))
    return out


def texts(rng):
    default = RougeScorer(["rouge1", "rouge2", "rougeL"], use_stemmer=False)
    wide = RougeScorer(["rouge1", "rouge2", "rougeL"], tokenizer=UnicodeTokens())
    bleu = BLEU()
    rows = pairs(rng)
    out = []
    for reference, answer in rows:
        has = bool(default._tokenizer.tokenize(reference))
        scores = (default if has else wide).score(reference, answer)
        stats = bleu._extract_corpus_statistics([answer], [[reference]])[0]
        out.append({
            "reference": reference, "prediction": answer, "package": has,
            "rouge": [scores[name].fmeasure for name in ["rouge1", "rouge2", "rougeL"]],
            # Answer's and reference's length, matches of order 1 to 4, n-grams of order 1 to 4.
            "bleu": stats,
        })
    corpora = []
    for first, last in [(0, len(rows)), (0, 10), (10, 40), (40, 62), (62, 70), (70, 140), (len(rows) - 1, len(rows))] + [
            (at, at + 1) for at in range(0, len(rows), 5)]:
        part = rows[first:last]
        score = bleu.corpus_score([answer for _, answer in part], [[reference for reference, _ in part]])
        corpora.append({"rows": [first, last], "score": score.score})
    return {"pairs": out, "corpora": corpora, "signature": str(bleu.get_signature())}


def questions():
    out = []
    for number, (references, answer) in enumerate(ANSWERS + [([a, b], b + " " + c) for a, b, c in zip(TEXTS, TEXTS[2:], TEXTS[3:])]):
        example = SimpleNamespace(qas_id=number, answers=[{"text": text} for text in references])
        exact, f1 = get_raw_scores([example], {number: answer})
        out.append({"references": references, "prediction": answer, "normalized": normalize_answer(answer),
                    "exact": exact[number], "f1": f1[number]})
    return out


def classes(rng, labels, rows, unused=()):
    known = [label for label in range(labels) if label not in unused]
    actual = [rng.choice(known) for _ in range(rows)]
    answer = [a if rng.random() < 0.6 else rng.choice(known) for a in actual]
    # Confidences of 32 bits, as a model gives them; none on an edge.
    sure = [float(np.float32(round(1 / labels + (1 - 1 / labels) * rng.random() ** 0.5, 3) + 0.0004)) for _ in range(rows)]
    sure = [min(value, 1.0) for value in sure]
    precision, recall, f1, support = sk.precision_recall_fscore_support(actual, answer, labels=range(labels), zero_division=0)
    right = np.array(actual) == np.array(answer)
    share, mean = calibration_curve(right, sure, n_bins=10, strategy="uniform")
    counts = np.histogram(sure, bins=np.linspace(0, 1, 11))[0]
    return {
        "labels": labels, "actual": actual, "predicted": answer, "confidence": sure,
        "accuracy": sk.accuracy_score(actual, answer), "balanced_accuracy": sk.balanced_accuracy_score(actual, answer),
        "macro_f1": sk.f1_score(actual, answer, average="macro"), "micro_f1": sk.f1_score(actual, answer, average="micro"),
        "precision": precision.tolist(), "recall": recall.tolist(), "f1": f1.tolist(), "support": support.tolist(),
        "bin_rows": counts.tolist(), "bin_accuracy": share.tolist(), "bin_confidence": mean.tolist(),
        "calibration_error": float((np.abs(share - mean) * counts[counts > 0]).sum() / rows),
    }


def numbers(rng, rows, offset, noise):
    actual = [offset + rng.gauss(0, 2) for _ in range(rows)]
    answer = [0.8 * value + rng.gauss(0, noise) for value in actual]
    return {"actual": actual, "predicted": answer, "mse": sk.mean_squared_error(actual, answer),
            "mae": sk.mean_absolute_error(actual, answer), "r2": sk.r2_score(actual, answer),
            "pearson": float(pearsonr(actual, answer).statistic)}


def resamples(rng):
    values = [rng.gauss(0.6, 0.2) for _ in range(200)]
    after = [value + rng.gauss(0.03, 0.1) for value in values]
    options = dict(n_resamples=20000, method="percentile", confidence_level=0.95, rng=np.random.default_rng(11))
    interval = bootstrap((values,), np.mean, **options).confidence_interval
    change = bootstrap((values, after), lambda a, b, axis: (b - a).mean(axis=axis), paired=True, **options).confidence_interval
    few = [rng.random() for _ in range(37)]
    return {"before": values, "after": after, "mean": [*map(float, interval)], "difference": [*map(float, change)],
            "percentiles": {"values": few, "of": np.percentile(few, [2.5, 97.5]).tolist()}}


def entities(rng):
    kinds, names = ["PER", "LOC", "ORG"], ["Ada Lovelace", "Zürich", "北京", "O'Neil \"Tip\"", "a\\b", "{x}", "[y]", "Ada"]
    everything = [(kind, name) for kind in kinds for name in names]
    rows = []
    for _ in range(40):
        expected = rng.sample(everything, rng.randrange(5))
        answer = [pair for pair in expected if rng.random() < 0.7] + rng.sample(everything, rng.randrange(3))
        if rng.random() < 0.5:
            text = json.dumps([{"type": kind, "text": name} for kind, name in answer], indent=rng.choice([None, 2]))
        else:
            text = json.dumps({kind: [n for k, n in answer if k == kind] for kind in kinds}, ensure_ascii=False)
        rows.append((expected, text, answer))
    expected, _, answers = zip(*rows)
    encoder = MultiLabelBinarizer(classes=everything)
    truth, found = encoder.fit_transform(expected), encoder.transform(answers)
    precision, recall, f1, _ = sk.precision_recall_fscore_support(truth, found, average="micro", zero_division=0)
    return {"rows": [{"expected": json.dumps([{"type": k, "text": n} for k, n in e]), "prediction": t} for e, t, _ in rows],
            "precision": precision, "recall": recall, "f1": f1}


def build():
    rng = random.Random(2026)
    made = {
        "texts": texts(rng),
        "questions": questions(),
        "classes": [classes(rng, 2, 60), classes(rng, 3, 200), classes(rng, 7, 120, unused=[2, 6]), classes(rng, 5, 4)],
        "numbers": [numbers(rng, 50, 0, 1), numbers(rng, 3, 10, 5), numbers(rng, 30, 1000, 0.1)],
        "resamples": resamples(rng),
        "entities": entities(rng),
    }
    return json.dumps(made, ensure_ascii=False, separators=(",", ":"), default=lambda number: number.item()) + "\n"


def main():
    parser = argparse.ArgumentParser(description="Makes the fixture of the metrics.")
    parser.add_argument("--check", action="store_true", help="compare instead of writing")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    made = build()
    if arguments.check:
        same = FIXTURE.read_text(encoding="utf-8") == made
        print("metrics.json is the same" if same else "metrics.json differs")
        sys.exit(0 if same else 1)
    FIXTURE.write_text(made, encoding="utf-8", newline="\n")


if __name__ == "__main__":
    main()
