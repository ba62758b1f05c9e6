#!/usr/bin/env bash
# Feeds the readers of checkpoints with what no checkpoint holds. Needs cargo-fuzz (`cargo install cargo-fuzz`) and a C++ compiler.
#   fuzz/run.sh [SECONDS]        all targets one after the other, 600 seconds each unless said otherwise
# What is found stays in fuzz/artifacts, the corpus in fuzz/corpus; both are not kept in the repository.
set -euo pipefail
cd "$(dirname "$0")/.."
for target in gguf config safetensors safetensors_index tokenizer; do
    mkdir -p "fuzz/corpus/$target"
    RUSTC_BOOTSTRAP=1 cargo fuzz run --sanitizer none "$target" "fuzz/corpus/$target" "fuzz/seeds/$target" \
        -- -max_total_time="${1:-600}" -timeout=20 -rss_limit_mb=2048 -max_len=65536 -print_final_stats=1
done
