#!/usr/bin/env bash
# Times one step of training beside PyTorch on the same shapes and two threads, in turn: unconstrained
# features of (V, m, d) = (104, 403, 128), and a small decoder. One line to run it:
#   [ROUNDS=3] [BLOCKS=5] PEER=/path/to/python-with-torch benchmarks/train_step.sh
# The last round lets the peer compile its model, which takes minutes.
set -euo pipefail
cd "$(dirname "$0")/.."
PEER="${PEER:?set PEER to a Python with torch}"
rounds="${ROUNDS:-3}" blocks="${BLOCKS:-5}"
cargo build --release --quiet --workspace --example train_step
for job in ufm decoder; do
    for round in $(seq "$rounds"); do
        echo "== $job, round $round: ours"
        target/release/examples/train_step "$job" "" "$blocks"
        compile=--no-compile
        [ "$round" != "$rounds" ] || compile=
        echo "== $job, round $round: PyTorch"
        # shellcheck disable=SC2086
        "$PEER" benchmarks/train_step.py --job "$job" --threads 2 --blocks "$blocks" $compile
    done
    echo "== $job, last: ours"
    target/release/examples/train_step "$job" "" "$blocks"
done
