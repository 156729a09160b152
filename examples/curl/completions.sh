#!/bin/sh
# Two texts that go on, drawn by a seed.
curl --silent --show-error --fail-with-body "${PADDOCK_URL:-http://127.0.0.1:8000}/v1/completions" \
  --header "Authorization: Bearer ${PADDOCK_API_KEY:-none}" \
  --header "Content-Type: application/json" \
  --data '{"prompt": ["My dear friends,", "Call me"], "max_tokens": 24, "temperature": 0.8, "top_k": 40, "seed": 7}'
