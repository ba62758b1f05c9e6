#!/usr/bin/env bash
# Times the max-margin problem at (104, 403), supports mostly distinct and supports heavily repeated, beside
# cvxpy with SCS stated in three ways; then ours alone: the regularisation path, and (1000, 5000). One line to run it:
#   [ROUNDS=3] [SLOW=1] [LARGE=yes] PEER=/path/to/python benchmarks/max_margin.sh
# PEER needs numpy, cvxpy and scs. A round takes about two minutes; stating one constraint at a time takes two to
# four more an instance and is done in the first SLOW rounds. LARGE=no leaves the large instance out. LAWVERE
# names another binary of ours; KEEP names a file for the measured lines.
set -euo pipefail
cd "$(dirname "$0")/.."
PEER="${PEER:?set PEER to a Python with cvxpy and scs}"
rounds="${ROUNDS:-3}" slow="${SLOW:-1}" large="${LARGE:-yes}"
[ -n "${LAWVERE:-}" ] || cargo build --release --quiet
lawvere="${LAWVERE:-target/release/lawvere}"
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
lines="$work/lines"
peer() { "$PEER" benchmarks/max_margin.py "$@"; }
peer make "$work"
for round in $(seq "$rounds"); do
    for instance in mixed repeated; do
        echo "round $round, $instance, load $(cut -d' ' -f1 /proc/loadavg)" >&2
        peer ours "$lawvere" "$work/$instance.npy" >>"$lines"
        peer ours "$lawvere" "$work/$instance.npy" --tol 1e-6 >>"$lines"
        peer cvxpy reduced "$work/$instance.npy" >>"$lines"
        peer cvxpy vectorised "$work/$instance.npy" >>"$lines"
        [ "$round" -gt "$slow" ] || peer cvxpy constraints "$work/$instance.npy" >>"$lines"
    done
    peer path "$lawvere" "$work" >>"$lines"
    [ "$large" != yes ] || for tolerance in 1e-3 1e-4; do
        peer ours "$lawvere" "$work/large.npy" --tol "$tolerance" >>"$lines"
    done
done
[ -z "${KEEP:-}" ] || cp "$lines" "$KEEP"
peer table "$lines"
