#!/usr/bin/env bash
# What sharing prefixes gains: 4,000 texts of 24 tokens that share 200 beginnings, beside as many that
# share nothing; two threads. Takes some four minutes.
#   benchmarks/sharing.sh
set -euo pipefail
cd "$(dirname "$0")/.."
scripts/fetch-sample.sh
cargo build --release --quiet --workspace --examples
RAYON_NUM_THREADS=2 target/release/examples/sharing
