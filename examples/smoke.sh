#!/bin/sh
# Asks a running gateway for one of everything and says what does not work; exits with 1 when something does not.
#
#   BASE_URL   the gateway, without a path      [http://127.0.0.1:8000]
#   MODEL      a model that it serves           [echo]
#   API_KEY    the key, where it wants one      [none]
#   ADMIN_URL  its admin listener; "" asks none [http://127.0.0.1:9090]
#   WITGATE_ADMIN_TOKEN  the token of that, where it wants one
set -u

base=${BASE_URL-http://127.0.0.1:8000}
model=${MODEL-echo}
admin=${ADMIN_URL-http://127.0.0.1:9090}
failed=0

# Asks and prints the body; an answer that is no success is a failure. Proxies of the environment are passed by.
ask() {
    curl --silent --show-error --fail-with-body --no-buffer --max-time 60 --noproxy '*' "$@"
}

main() {
    path=$1
    shift
    ask -H "authorization: Bearer ${API_KEY-none}" "$@" "$base$path"
}

operator() {
    ask -H "authorization: Bearer ${WITGATE_ADMIN_TOKEN-}" "$admin$1"
}

# Whether standard input has a text in it. Reads all of it, so that nobody writes into a closed pipe.
has() {
    grep -F -- "$1" >/dev/null
}

check() {
    name=$1
    shift
    if problem=$("$@" 2>&1); then
        echo "ok      $name"
    else
        echo "FAILED  $name: $problem"
        failed=1
    fi
}

# Runs what follows the text, and wants the text in its output.
says() {
    text=$1
    shift
    said=$("$@") || { echo "$said"; return 1; }
    printf '%s\n' "$said" | has "$text" || { echo "no \`$text\` in: $said"; return 1; }
}

question() {
    printf '{"model":"%s","stream":%s,"messages":[{"role":"user","content":"hello out there"}],"max_tokens":64}' "$model" "$1"
}

chat() {
    says '"finish_reason":' main /v1/chat/completions -H 'content-type: application/json' -d "$(question false)"
}

stream() {
    answer=$(main /v1/chat/completions -H 'content-type: application/json' -d "$(question true)") || {
        echo "$answer"
        return 1
    }
    printf '%s\n' "$answer" | has '"delta":' || { echo "no pieces in: $answer"; return 1; }
    # Every stream ends with this, or somebody waits for the rest.
    last=$(printf '%s\n' "$answer" | tr -d '\r' | grep -v '^$' | tail -n 1)
    [ "$last" = 'data: [DONE]' ] || { echo "it ends with: $last"; return 1; }
}

refusal() {
    if said=$(main /v1/chat/completions -H 'content-type: application/json' -d '{"model":'); then
        echo "not refused: $said"
        return 1
    fi
    printf '%s\n' "$said" | has '"error":' || { echo "no error object in: $said"; return 1; }
}

check "alive" main /healthz
check "ready" main /readyz
check "health" says '"upstreams"' main /health
check "models" says "\"$model\"" main /v1/models
check "chat" chat
check "stream" stream
check "malformed request" refusal
if [ -n "$admin" ]; then
    check "admin: ready" operator /readyz
    check "admin: configuration" says '"upstreams"' operator /admin/config
    check "admin: metrics" says 'witgate_requests_total' operator /metrics
fi
exit $failed
