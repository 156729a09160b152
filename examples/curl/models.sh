#!/bin/sh
# What is served: the base and its plugins.
curl --silent --show-error --fail-with-body "${PADDOCK_URL:-http://127.0.0.1:8000}/v1/models" \
  --header "Authorization: Bearer ${PADDOCK_API_KEY:-none}"
