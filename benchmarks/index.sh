#!/usr/bin/env bash
# An index of 20 million tokens of dictionaries (GCIDE, WordNet, FOLDOC; Debian packages) beside tokengrams' MemmapIndex
# and infini-gram, on the same file and two threads: building, counts, next-token laws, and distances of nested pairs.
#   PEER=/path/to/python benchmarks/index.sh   (ROUNDS=3)
# PEER needs tokengrams, infini-gram, numpy and safetensors. Needs apt-get and dpkg-deb; files stay in target/bench-index.
set -euo pipefail
cd "$(dirname "$0")/.."
peer=${PEER:-python3}
work=target/bench-index
lawvere=target/release/lawvere
model=sample/smollm2-135m-instruct-q4_1.gguf
export RAYON_NUM_THREADS=2
cargo build --release --quiet --workspace --examples --bins
mkdir -p "$work"
if [ ! -f "$work/tokens.bin" ]; then
    (cd "$work" && apt-get -qq -o APT::Sandbox::User=root download dict-gcide dict-wn dict-foldoc)
    for deb in "$work"/*.deb; do dpkg-deb -x "$deb" "$work/debs"; done
    for name in gcide wn foldoc; do gzip -dc <"$work/debs/usr/share/dictd/$name.dict.dz"; done >"$work/text.txt"
    "$lawvere" index build --quiet --lossy --corpus "$work/text.txt" --tokenizer "$model" --out "$work/text-index"
    "$peer" benchmarks/index.py prepare "$work"
fi
for _ in $(seq "${ROUNDS:-3}"); do
    rm -rf "$work/index" "$work/tokens.idx"
    "$peer" benchmarks/index.py build "$work"
    "$lawvere" index build --quiet --json --threads 2 --corpus "$work/tokens.bin" \
        --tokenizer ids:49152 --out "$work/index" >"$work/build.json"
    "$peer" benchmarks/index.py built "$work"
done
"$peer" benchmarks/index.py build_infini "$work"
for _ in $(seq "${ROUNDS:-3}"); do
    "$peer" benchmarks/index.py ask "$work"
    for question in "count" "next --unseen empty --top 1"; do
        # shellcheck disable=SC2086
        "$lawvere" index $question --index "$work/index" --ids --queries "$work/queries.txt" --threads 2 --quiet --json \
            >"$work/${question%% *}.json"
    done
    "$lawvere" index distance --index "$work/index" --ids --queries "$work/pairs.txt" --threads 2 --quiet --json \
        >"$work/distance.json"
    "$peer" benchmarks/index.py asked "$work"
done
"$peer" benchmarks/index.py ask_infini "$work"
echo "single calls from Rust, one thread:"
RAYON_NUM_THREADS=2 target/release/examples/single_calls "$work/index" "$work/pairs.txt"
