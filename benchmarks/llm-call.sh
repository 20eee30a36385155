#!/usr/bin/env bash
# The script that callmeter replaces, as a user would write it: one call with curl, one log line with jq.
#   llm-call.sh MODEL AGENT SESSION PURPOSE PROMPT      (BASE_URL, CALLMETER_API_KEY, USAGE_LOG from the environment)
set -euo pipefail
model=$1 agent=$2 session=$3 purpose=$4 prompt=$5
request=$(jq -n --arg model "$model" --arg prompt "$prompt" \
  '{model: $model, max_tokens: 4096, messages: [{role: "user", content: $prompt}]}')
answer=$(curl -sS --fail-with-body "$BASE_URL/chat/completions" -H "Authorization: Bearer $CALLMETER_API_KEY" \
  -H 'Content-Type: application/json' -H "X-Agent-ID: $agent" -d "$request")
jq -c --arg agent "$agent" --arg session "$session" --arg purpose "$purpose" \
  '{timestamp: (now | todate), agent: $agent, session: $session, purpose: $purpose, model: .model,
    tokens: .usage.total_tokens, cost: (.usage.cost // 0)}' <<<"$answer" >>"$USAGE_LOG"
jq -r '.choices[0].message.content' <<<"$answer"
