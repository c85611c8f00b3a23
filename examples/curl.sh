#!/bin/sh
# The gateway without an SDK. WITGATE_URL and MODEL name another gateway and another model.
set -eu

url=${WITGATE_URL:-http://localhost:8000/v1}
model=${MODEL:-echo}
json='content-type: application/json'

echo "--- models"
curl -fsS -w '\n' "$url/models"

echo "--- a whole answer"
curl -fsS -w '\n' "$url/chat/completions" -H "$json" \
    -d "{\"model\":\"$model\",\"messages\":[{\"role\":\"user\",\"content\":\"hello out there\"}]}"

echo "--- a stream; -N prints the pieces as they come"
curl -fsSN "$url/chat/completions" -H "$json" \
    -d "{\"model\":\"$model\",\"stream\":true,\"messages\":[{\"role\":\"user\",\"content\":\"hello out there\"}]}"

echo "--- which upstream answered, and the number to ask the audit for"
curl -fsS -o /dev/null -D - "$url/embeddings" -H "$json" -d "{\"model\":\"$model\",\"input\":\"hello out there\"}" |
    grep -i -e '^x-witgate-upstream:' -e '^x-request-id:'
