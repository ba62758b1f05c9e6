#!/usr/bin/env bash
# Times the leading singular triplets of a centred support matrix beside scipy's svds (centred) and
# scikit-learn's randomized_svd (not centred), in turn, with residuals measured in one way. To run it:
#   [ROUNDS=3] [RANK=50] [CONTEXTS=200000] [TOKENS=50000] [ENTRIES=10000000] PEER=/path/to/python benchmarks/concepts.sh
# PEER needs numpy, scipy and scikit-learn. FOLDER names a place for the matrix (and keeps it), KEEP a
# file for the measured lines, TOLERANCES ours, THREADS everyone's.
set -euo pipefail
cd "$(dirname "$0")/.."
PEER="${PEER:?set PEER to a Python with numpy, scipy and scikit-learn}"
rank="${RANK:-50}" tokens="${TOKENS:-50000}" threads="${THREADS:-2}"
export RAYON_NUM_THREADS="$threads" OMP_NUM_THREADS="$threads" OPENBLAS_NUM_THREADS="$threads"
cargo build --release --quiet --workspace --example concepts
ours="${CARGO_TARGET_DIR:-target}/release/examples/concepts"
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
folder="${FOLDER:-$work/matrix}"
[ -f "$folder/shape.json" ] || "$PEER" benchmarks/concepts.py make "$folder" \
    --contexts "${CONTEXTS:-200000}" --tokens "$tokens" --entries "${ENTRIES:-10000000}"
run() {
    echo "round $round, load $(cut -d' ' -f1 /proc/loadavg): $*" >&2
    "$@" | "$PEER" benchmarks/concepts.py measure "$folder" "$rank" >>"$work/lines"
}
for round in $(seq "${ROUNDS:-3}"); do
    for tolerance in ${TOLERANCES:-1e-6 1e-12 1e-2}; do
        run "$ours" "$folder" "$tokens" "$rank" "$tolerance"
    done
    run "$PEER" benchmarks/concepts.py svds "$folder" "$rank"
    run "$PEER" benchmarks/concepts.py randomized "$folder" "$rank"
done
[ -z "${KEEP:-}" ] || cp "$work/lines" "$KEEP"
"$PEER" benchmarks/concepts.py table "$work/lines"
