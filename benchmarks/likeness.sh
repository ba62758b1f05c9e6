#!/usr/bin/env bash
# Distances between sentences against human judgements, beside Liu's method on the same model; and which of two words is
# the hyponym, over WordNet's pairs in the contexts of dictionaries.
#   STS=/path/to/stsb-en-dev.csv benchmarks/likeness.sh   (LIMIT=200 PAIRS=300)
# STS is STSbenchmark's development part: two sentences and a score a line, without a header. Needs apt-get and dpkg-deb;
# the corpus is that of index.sh, made if it is not there. Files stay in target/bench-likeness. Half an hour.
set -euo pipefail
cd "$(dirname "$0")/.."
work=target/bench-likeness
corpus=target/bench-index
lawvere=target/release/lawvere
model=sample/smollm2-135m-instruct-q4_1.gguf
cargo build --release --quiet
mkdir -p "$work" "$corpus"
if [ ! -f "$work/pairs.tsv" ]; then
    (cd "$work" && apt-get -qq -o APT::Sandbox::User=root download wordnet-base)
    for deb in "$work"/*.deb; do dpkg-deb -x "$deb" "$work/debs"; done
    python3 benchmarks/hyponyms.py "$work/debs/usr/share/wordnet" "$work/pairs.tsv"
fi
if [ ! -d "$corpus/text-index" ]; then
    (cd "$corpus" && apt-get -qq -o APT::Sandbox::User=root download dict-gcide dict-wn dict-foldoc)
    for deb in "$corpus"/*.deb; do dpkg-deb -x "$deb" "$corpus/debs"; done
    for name in gcide wn foldoc; do gzip -dc <"$corpus/debs/usr/share/dictd/$name.dict.dz"; done >"$corpus/text.txt"
    "$lawvere" index build --quiet --lossy --corpus "$corpus/text.txt" --tokenizer "$model" --out "$corpus/text-index"
fi
"$lawvere" metric evaluate --model "$model" --hyponyms "$work/pairs.tsv" --index "$corpus/text-index" --limit "${PAIRS:-300}"
"$lawvere" metric evaluate --model "$model" --sts "$STS" --limit "${LIMIT:-200}"
