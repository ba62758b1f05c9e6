#!/usr/bin/env bash
# Dense min-plus products and closures at n = 2048 on two threads, beside row-wise numpy and SuiteSparse:GraphBLAS.
#   PEER=/path/to/python benchmarks/min_plus.sh   (N=2048 ROUNDS=3)
# PEER needs numpy and python-graphblas. Files stay in target/bench-min-plus.
set -euo pipefail
cd "$(dirname "$0")/.."
peer=${PEER:-python3}
n=${N:-2048}
work=target/bench-min-plus
export RAYON_NUM_THREADS=2 OMP_NUM_THREADS=2
cargo build --release --quiet --workspace --examples
mkdir -p "$work"
"$peer" benchmarks/min_plus.py prepare "$work" "$n"
for _ in $(seq "${ROUNDS:-3}"); do
    target/release/examples/min_plus "$n" "$work"
    "$peer" benchmarks/min_plus.py peers "$work" "$n"
done
