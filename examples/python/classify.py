"""Classifies texts with a trained plugin: one a line, or those that are given.

    pip install openai
    paddock serve --adapter out
    python classify.py MODEL "A film to remember." "A waste of time."
"""

import os
import sys

from openai import APIError, OpenAI

client = OpenAI(
    base_url=os.environ.get("PADDOCK_URL", "http://127.0.0.1:8000") + "/v1",
    api_key=os.environ.get("PADDOCK_API_KEY") or "none",
)
if len(sys.argv) < 2:
    names = [model.id for model in client.models.list()]
    sys.exit(f"usage: classify.py MODEL [TEXT ...]; the models are {', '.join(names)}")
model, texts = sys.argv[1], sys.argv[2:] or [line.strip() for line in sys.stdin if line.strip()]

try:
    # OpenAI has no such address, but its client asks any.
    reply = client.post("/classify", cast_to=object, body={"model": model, "input": texts})
except APIError as error:
    sys.exit(str(error))
for text, found in zip(texts, reply["data"]):
    label, scores = found["label"], found["scores"]
    if label is None:
        print(f"{scores['value']:.4f}\t{text}")
    else:
        print(f"{label}\t{scores[label]:.4f}\t{text}")
