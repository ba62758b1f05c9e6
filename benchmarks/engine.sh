#!/usr/bin/env bash
# Times the engine on batches of tokens with the sample model, every logit, beside PyTorch in float32
# and llama.cpp on the quantised weights; two threads, in turn. One line to run it:
#   [ROUNDS=3] [REPEATS=5] [SHAPES=1x256,1x1024,16x64] PEER=/path/to/python benchmarks/engine.sh
# PEER needs torch, transformers, gguf and llama-cpp-python. LAWVERE names another binary of ours (left
# out where it has no `model bench`); ENGINES="torch torch-bf16 llama" adds PyTorch in bfloat16;
# KEEP names a file for the measured lines. Both in bfloat16, by turns:
#   cargo build --release && $PEER benchmarks/engine.py pairs 1x1024,16x64 --precision bf16 --repeats 6
set -euo pipefail
cd "$(dirname "$0")/.."
PEER="${PEER:?set PEER to a Python with torch and llama-cpp-python}"
rounds="${ROUNDS:-3}" repeats="${REPEATS:-5}" shapes="${SHAPES:-1x256,1x1024,16x64}" engines="${ENGINES:-torch llama}"
model=sample/smollm2-135m-instruct-q4_1.gguf
scripts/fetch-sample.sh
[ -n "${LAWVERE:-}" ] || cargo build --release --quiet
lawvere="${LAWVERE:-target/release/lawvere}"
lines="$(mktemp)"
trap 'rm -f "$lines"' EXIT
ours=yes
"$lawvere" model bench --help >/dev/null 2>&1 || { ours=; echo "$lawvere has no 'model bench': peers alone" >&2; }
for round in $(seq "$rounds"); do
    for shape in ${shapes//,/ }; do
        echo "round $round, $shape, load $(cut -d' ' -f1 /proc/loadavg)" >&2
        if [ -n "$ours" ]; then
            "$lawvere" model bench --model "$model" --shapes "$shape" --repeats "$repeats" --threads 2 --json | tr -d '\n' >>"$lines"
            echo >>"$lines"
        fi
        for engine in $engines; do
            "$PEER" benchmarks/engine.py "$engine" "$shape" --repeats "$repeats" --threads 2 >>"$lines"
        done
    done
done
[ -z "${KEEP:-}" ] || cp "$lines" "$KEEP"
"$PEER" benchmarks/engine.py table "$lines"
