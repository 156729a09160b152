#!/bin/sh
# The same answer in pieces, as it is written, and the tokens that it took.
curl --silent --show-error --fail-with-body --no-buffer "${PADDOCK_URL:-http://127.0.0.1:8000}/v1/chat/completions" \
  --header "Authorization: Bearer ${PADDOCK_API_KEY:-none}" \
  --header "Content-Type: application/json" \
  --data '{"messages": [{"role": "user", "content": "What is a paddock?"}], "max_tokens": 32,
           "stream": true, "stream_options": {"include_usage": true}}'
