#!/usr/bin/env bash
# Runs every test. What the tests need beyond Rust and a C compiler is fetched or checked here:
# the sample model and text (checksums), numpy, scipy and safetensors in a Python environment under
# target/, headless Chromium. Nothing is skipped when something is missing.
set -euo pipefail
cd "$(dirname "$0")/.."

need() {
    command -v "$1" >/dev/null 2>&1 || {
        echo "test.sh: $1 is missing; $2" >&2
        exit 1
    }
}

need cargo "install Rust (https://rustup.rs)"
need cc "install a C compiler (on Debian: apt-get install build-essential)"
need python3 "install Python 3 with pip and venv"

browser="${LAWVERE_CHROMIUM:-}"
for name in chromium chromium-browser google-chrome; do
    [ -n "$browser" ] || browser="$(command -v "$name" || true)"
done
if [ -z "$browser" ] && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
    echo "test.sh: installing chromium" >&2
    apt-get update -qq && apt-get install -y -qq chromium >/dev/null
    browser="$(command -v chromium)"
fi
[ -n "$browser" ] || {
    echo "test.sh: Chromium is missing; install it (on Debian: apt-get install chromium) or set LAWVERE_CHROMIUM" >&2
    exit 1
}
export LAWVERE_CHROMIUM="$browser"

python="target/test-python"
if ! "$python/bin/python" -c 'import numpy, safetensors, scipy' 2>/dev/null; then
    python3 -m venv "$python"
    "$python/bin/pip" install --quiet --disable-pip-version-check numpy==2.4.6 safetensors==0.8.0 scipy==1.17.1
fi
LAWVERE_PYTHON="$PWD/$python/bin/python"
export LAWVERE_PYTHON

scripts/fetch-sample.sh
cargo test --release --workspace "$@"
# What a feature alone compiles.
[ $# -gt 0 ] || cargo test --release -p lawvere-token --features download --lib download
