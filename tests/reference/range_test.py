"""Smoothing, divergence and suggestion of a learning-rate range test, with the arithmetic that PyTorch Lightning's
LearningRateFinder documents (beta 0.98 with bias correction, threshold 4, first 10 and last point left out,
np.gradient). Prints the numbers that crate/src/train/range_test.rs is tested against.

    pip install numpy==1.26.4 && python tests/reference/range_test.py
"""

import math

import numpy as np

STEPS, LOW, HIGH = 100, 1e-6, 1.0


def loss(x):
    return 2 - 1.5 / (1 + math.exp(-(x - 45) / 4)) + math.exp((x - 80) / 4) + 0.05 * math.sin(x * 1.7)


rates, smoothed, average, best = [], [], 0.0, 0.0
for step in range(STEPS):
    rates.append(LOW * (HIGH / LOW) ** (step / (STEPS - 1)))
    average = 0.98 * average + 0.02 * loss(step)
    smoothed.append(average / (1 - 0.98 ** (step + 1)))
    if step > 0 and smoothed[-1] > 4 * best:
        break
    if step == 0 or smoothed[-1] < best:
        best = smoothed[-1]
print("points", len(smoothed))
print("smoothed", repr(smoothed[-1]))
print("suggestion", repr(rates[np.gradient(np.array(smoothed[10:-1])).argmin() + 10]))
