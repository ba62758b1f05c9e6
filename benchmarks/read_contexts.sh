#!/usr/bin/env bash
# Times `lawvere observe` on 5,000 contexts of three tokens and, if PEER names a Python with torch
# and transformers, the same job there, in turn, three times. One line to run it:
#   [RUNS=3] PEER=/path/to/python benchmarks/read_contexts.sh
set -euo pipefail
cd "$(dirname "$0")/.."
scripts/fetch-sample.sh
cargo build --release --quiet
model=sample/smollm2-135m-instruct-q4_1.gguf
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
lawvere() { target/release/lawvere --threads 2 --quiet "$@"; }
lawvere index build --corpus sample/king-james.txt --tokenizer "$model" --out "$work/index"
for run in $(seq "${RUNS:-3}"); do
    rm -rf "$work/observation"
    /usr/bin/time -f "lawvere observe, run $run: %e s, %M KiB" \
        target/release/lawvere --threads 2 --quiet observe --index "$work/index" --model "$model" \
        --order 3 --contexts 5000 --out "$work/observation"
    if [ -n "${PEER:-}" ]; then
        echo "transformers, run $run: $("$PEER" benchmarks/read_contexts.py "$work/observation" "$model" 2 2>/dev/null)"
    fi
done
