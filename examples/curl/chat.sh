#!/bin/sh
# An answer as a whole. The base answers, or the adapter that was named, unless the request has a "model".
curl --silent --show-error --fail-with-body "${PADDOCK_URL:-http://127.0.0.1:8000}/v1/chat/completions" \
  --header "Authorization: Bearer ${PADDOCK_API_KEY:-none}" \
  --header "Content-Type: application/json" \
  --data '{"messages": [{"role": "user", "content": "What is a paddock?"}], "max_tokens": 32}'
