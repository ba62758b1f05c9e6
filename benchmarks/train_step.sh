#!/usr/bin/env bash
# Times one step of training beside PyTorch on the same shapes and two threads, in turn: unconstrained
# features of (V, m, d) = (104, 403, 128), and a small decoder. One line to run it:
#   [ROUNDS=2] [BLOCKS=5] [COMPILE=1] PEER=/path/to/python-with-torch benchmarks/train_step.sh
# With COMPILE=1 the peer also compiles its models, which takes minutes.
set -euo pipefail
cd "$(dirname "$0")/.."
PEER="${PEER:?set PEER to a Python with torch}"
rounds="${ROUNDS:-2}" blocks="${BLOCKS:-5}"
compile=--no-compile
[ -z "${COMPILE:-}" ] || compile=
cargo build --release --quiet --workspace --example train_step
for job in ufm decoder; do
    for round in $(seq "$rounds"); do
        echo "== $job, round $round: ours"
        target/release/examples/train_step "$job" "" "$blocks"
        echo "== $job, round $round: PyTorch"
        # shellcheck disable=SC2086
        "$PEER" benchmarks/train_step.py --job "$job" --threads 2 --blocks "$blocks" $compile
    done
    echo "== $job, last: ours"
    target/release/examples/train_step "$job" "" "$blocks"
done
