"""What benchmarks/index.sh does in Python: the token file and the questions, and tokengrams' part."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

TOKENS = 20_000_000
VOCABULARY = 49152
QUERIES = 10_000
PAIRS = 1_000_000
# tokengrams takes a minute or more for them all; a part, and the throughput, is enough.
ASKED_NEXT = 3_000
# infini-gram takes seconds for the law after a frequent token.
ASKED_INFINI = 50


def prepare(work):
    """The first 20 million tokens of the text, document ends left out, and questions drawn from them."""
    from safetensors.numpy import load_file

    arrays = load_file(work / "text-index" / "shard-00000.safetensors")
    symbols = arrays["symbols"]
    tokens = arrays["token_ids"][symbols[symbols > 0].astype(np.int64) - 1][:TOKENS].astype("<u2")
    assert len(tokens) == TOKENS
    rng = np.random.default_rng(0)
    # Texts of 1 to 8 tokens, half as they stand in the corpus, half with a token drawn anew.
    queries = []
    for i in range(QUERIES):
        n = int(rng.integers(1, 9))
        at = int(rng.integers(0, TOKENS - n))
        text = tokens[at : at + n].astype(int)
        if i % 2:
            text[int(rng.integers(0, n))] = int(tokens[int(rng.integers(0, TOKENS))])
        queries.append(" ".join(map(str, text)))
    # Texts of 2 to 8 tokens of the corpus, and a part of each.
    pairs = []
    for _ in range(PAIRS):
        n = int(rng.integers(2, 9))
        at = int(rng.integers(0, TOKENS - n))
        m = int(rng.integers(1, n))
        first = int(rng.integers(0, n - m + 1))
        b = tokens[at : at + n]
        pairs.append(" ".join(map(str, b[first : first + m])) + "\t" + " ".join(map(str, b)))
    (work / "queries.txt").write_text("\n".join(queries) + "\n")
    (work / "pairs.txt").write_text("\n".join(pairs) + "\n")
    tokens.tofile(work / "tokens.bin")


def build(work):
    from tokengrams import MemmapIndex

    start = time.time()
    MemmapIndex.build(str(work / "tokens.bin"), str(work / "tokens.idx"), vocab=VOCABULARY)
    (work / "peer-build.json").write_text(json.dumps({"seconds": time.time() - start}))


def build_infini(work):
    """infini-gram's index of the same tokens: its tokenized file is laid by hand, its sorting is timed."""
    folder = (work / "infini").resolve()
    subprocess.run(["rm", "-rf", str(folder)], check=True)
    (folder / "data").mkdir(parents=True)
    (folder / "index").mkdir()
    tokens = (work / "tokens.bin").read_bytes()
    (folder / "index" / "tokenized.0").write_bytes(b"\xff\xff" + tokens)
    (folder / "index" / "offset.0").write_bytes((0).to_bytes(8, "little"))
    command = [sys.executable, "-m", "infini_gram.indexing", "--data_dir", str(folder / "data")]
    command += ["--temp_dir", str(folder), "--save_dir", str(folder / "index"), "--cpus", "2", "--mem", "8"]
    start = time.time()
    subprocess.run(command + ["--ulimit", "1024"], check=True, capture_output=True)
    size = os.path.getsize(folder / "index" / "table.0") / TOKENS
    print(f"infini-gram: built in {time.time() - start:.2f} s, suffix array {size:.2f} bytes a token")


def ask_infini(work):
    from infini_gram.engine import InfiniGramEngine

    folder = str((work / "infini" / "index").resolve())
    engine = InfiniGramEngine(folder, eos_token_id=0, vocab_size=VOCABULARY, token_dtype="u16")
    texts = questions(work)
    for _ in range(2):
        start = time.time()
        counts = [engine.count(input_ids=text)["count"] for text in texts]
        count_rate = len(texts) / (time.time() - start)
    peer = json.loads((work / "peer-ask.json").read_text())
    assert counts == peer["counts"], "infini-gram counts differently"
    start = time.time()
    for text in texts[:ASKED_INFINI]:
        engine.ntd(prompt_ids=text, max_support=1 << 30)
    next_rate = ASKED_INFINI / (time.time() - start)
    print(f"infini-gram: counts a second {count_rate:.0f}, laws a second {next_rate:.0f}")


def built(work):
    peer = json.loads((work / "peer-build.json").read_text())["seconds"]
    ours = json.loads((work / "build.json").read_text())["provenance"]
    size = os.path.getsize(work / "tokens.idx") / TOKENS
    own = sum(f.stat().st_size for f in (work / "index").iterdir() if "shard" in f.name) / TOKENS
    seconds, peak = ours["wall_seconds"], ours["peak_memory"] / TOKENS
    print(
        f"build: tokengrams {peer:.2f} s, ours {seconds:.2f} s, ratio {peer / seconds:.2f}; "
        f"bytes a token with the text: {size + 2:.2f}, {own:.2f}; our peak {peak:.1f} bytes a token"
    )


def questions(work):
    lines = (work / "queries.txt").read_text().splitlines()
    return [list(map(int, line.split())) for line in lines]


def ask(work):
    from tokengrams import MemmapIndex

    index = MemmapIndex(str(work / "tokens.bin"), str(work / "tokens.idx"), vocab=VOCABULARY)
    texts = questions(work)
    for _ in range(2):  # the first time reads the file in
        start = time.time()
        counts = [index.count(text) for text in texts]
        count_seconds = time.time() - start
    start = time.time()
    laws = index.batch_count_next(texts[:ASKED_NEXT])
    next_seconds = time.time() - start
    totals = [int(sum(law)) for law in laws]
    answer = {
        "counts": counts,
        "count_rate": len(texts) / count_seconds,
        "next_rate": ASKED_NEXT / next_seconds,
        "totals": totals,
    }
    (work / "peer-ask.json").write_text(json.dumps(answer))


def asked(work):
    peer = json.loads((work / "peer-ask.json").read_text())
    ours = {name: json.loads((work / f"{name}.json").read_text()) for name in ("count", "next", "distance")}
    counts = [c["count"] for c in ours["count"]["counts"]]
    assert counts == peer["counts"], "counts differ"
    count_rate = len(counts) / ours["count"]["seconds"]
    laws = ours["next"]["laws"]
    totals = [law["total"] - law["ended"] for law in laws[:ASKED_NEXT]]
    assert totals == peer["totals"], "next tokens differ"
    next_rate = len(laws) / ours["next"]["seconds"]
    distance_rate = len(ours["distance"]["pairs"]) / ours["distance"]["seconds"]
    print(
        f"counts a second: tokengrams {peer['count_rate']:.0f}, ours {count_rate:.0f}, "
        f"ratio {count_rate / peer['count_rate']:.0f}; "
        f"laws a second: {peer['next_rate']:.0f}, {next_rate:.0f}, ratio {next_rate / peer['next_rate']:.0f}; "
        f"distances a second: {distance_rate:.0f}"
    )


if __name__ == "__main__":
    steps = (prepare, build, built, build_infini, ask, asked, ask_infini)
    {step.__name__: step for step in steps}[sys.argv[1]](Path(sys.argv[2]))
