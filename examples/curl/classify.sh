#!/bin/sh
# Labels and their probabilities, by a plugin that classifies: sh classify.sh MODEL
curl --silent --show-error --fail-with-body "${PADDOCK_URL:-http://127.0.0.1:8000}/v1/classify" \
  --header "Authorization: Bearer ${PADDOCK_API_KEY:-none}" \
  --header "Content-Type: application/json" \
  --data "{\"model\": \"${1:?name a model: sh models.sh lists them}\", \"input\": [\"A film to remember.\", \"A waste of time.\"]}"
