"""Talks with a model, an answer at a time, as it is written.

    pip install openai
    paddock serve --model_name_or_path starter
    python chat.py                 # or: echo "Hello" | python chat.py MODEL
"""

import os
import sys

from openai import APIError, OpenAI

client = OpenAI(
    base_url=os.environ.get("PADDOCK_URL", "http://127.0.0.1:8000") + "/v1",
    # The package wants a key even where the server wants none.
    api_key=os.environ.get("PADDOCK_API_KEY") or "none",
)
model = sys.argv[1] if len(sys.argv) > 1 else client.models.list().data[0].id
messages = []

print(f"You are talking to {model}; an empty line ends.", file=sys.stderr)
for line in sys.stdin:
    if not line.strip():
        break
    messages.append({"role": "user", "content": line.strip()})
    answer = ""
    try:
        for chunk in client.chat.completions.create(model=model, messages=messages, stream=True):
            piece = chunk.choices[0].delta.content or "" if chunk.choices else ""
            answer += piece
            print(piece, end="", flush=True)
    except APIError as error:
        sys.exit(f"\n{error}")
    print()
    messages.append({"role": "assistant", "content": answer})
