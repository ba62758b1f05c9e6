#!/usr/bin/env bash
# The information lens on 5,000 contexts of King James by SmolLM2 (d = 576, V = 49,152), everything but
# head fitting, and its two products beside numpy and scikit-learn:
#   PEER=/path/to/python benchmarks/information.sh   (ROUNDS=3 beside the peers)
# PEER needs numpy, scikit-learn and safetensors.
set -euo pipefail
cd "$(dirname "$0")/.."
peer=${PEER:-python3}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
lawvere=target/release/lawvere
cargo build --release --quiet
model=sample/smollm2-135m-instruct-q4_1.gguf
"$lawvere" index build --quiet --corpus sample/king-james.txt --tokenizer "$model" --out "$work/index"
"$lawvere" observe --quiet --index "$work/index" --model "$model" --layers last --out "$work/observation"
told() {
    "$lawvere" information "$1" --observation "$work/observation" --quiet --json "${@:2}" >"$work/$1.json"
    "$peer" - "$work/$1.json" <<'PY'
import json, sys
p = json.load(open(sys.argv[1]))["provenance"]
print(f"{p['command'].split()[2]:14} {p['wall_seconds']:6.1f} s  {p['peak_memory'] / 2**20:6.0f} MiB")
PY
}
told nll
told stochasticity
told layers
told fisher
told distances
told similarity --similarity bhattacharyya
told alignment
told divergence --a rows:0-999 --b rows:1000-4999
# Beside the peers in turn, so that a machine that is faster in one minute than in another is so for both.
export OPENBLAS_NUM_THREADS=2 OMP_NUM_THREADS=2
for _ in $(seq "${ROUNDS:-3}"); do
    "$lawvere" information fisher --observation "$work/observation" --quiet --json --spectra 1 --pairs 1 >"$work/fisher.json"
    "$lawvere" information similarity --observation "$work/observation" --similarity bhattacharyya --quiet --json >"$work/similarity.json"
    "$peer" benchmarks/information.py "$work/observation" "$work/fisher.json" "$work/similarity.json"
done
