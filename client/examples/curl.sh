#!/usr/bin/env bash
# Features over REST, without the client: ./curl.sh photo.jpg
# Asks the address in FEATSERVE_REST, or localhost:8501, for the model in FEATSERVE_MODEL, or efficientnet_lite0.
set -euo pipefail

model=${FEATSERVE_MODEL:-efficientnet_lite0}
{
  printf '{"signature_name": "encoded", "instances": [{"b64": "'
  base64 <"$1" | tr -d '\n'
  printf '"}]}'
} | curl --fail-with-body --silent --show-error --data-binary @- \
  "http://${FEATSERVE_REST:-localhost:8501}/v1/models/$model:predict"
