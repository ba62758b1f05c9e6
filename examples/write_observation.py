"""Write an Observation directory ("lawvere-observation/1", kind contexts) from arrays.

    python examples/write_observation.py OUT

Needs numpy and safetensors. `write_observation` is all that is needed to bring
your own model's numbers; `main` writes a small random example.
"""

import hashlib
import json
import sys
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file


def write_observation(out, contexts, counts, states, head, norm_eps=None):
    """contexts [m,n]; counts: m dicts {next token: count}; states {layer: [m,d]}; head {"weight": [V,d], ...}."""
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    rows = [sorted(row.items()) for row in counts]
    tokens, values = np.array([pair for row in rows for pair in row], np.int64).T.copy()
    indptr = np.cumsum([0] + [len(row) for row in rows], dtype=np.int64)
    tables = {"counts.indptr": indptr, "counts.tokens": tokens, "counts.values": values}
    save_file({"contexts": np.int64(contexts), **tables}, out / "contexts.safetensors")
    save_file({f"layer.{l}": np.float32(x) for l, x in states.items()}, out / "states.safetensors")
    save_file({name: np.float32(x) for name, x in head.items()}, out / "head.safetensors")
    files = {f"{name}.safetensors": None for name in ("contexts", "states", "head")}
    files = {name: hashlib.sha256((out / name).read_bytes()).hexdigest() for name in files}
    about = {"schema": "lawvere-observation/1", "kind": "contexts", "vocab_size": len(head["weight"])}
    about |= {"document_end": "dropped", "files": files} | ({"norm_eps": norm_eps} if norm_eps else {})
    (out / "observation.json").write_text(json.dumps(about, indent=1) + "\n")


def main(out):
    """48 contexts of 2 tokens: 40 share 5 supports, 8 have a support of their own."""
    rng = np.random.default_rng(20240229)
    vocab, m, d = 60, 48, 8
    pairs = [(a, b) for a in range(20) for b in range(12)]
    contexts = [pairs[i] for i in rng.choice(len(pairs), m, replace=False)]
    group = np.concatenate([np.arange(40) % 5, np.arange(5, 13)])
    supports = [rng.choice(40, size, replace=False) for size in (2, 3, 4, 6, 9, 1, 1, 2, 3, 5, 7, 10, 12)]
    counts = [{int(z): int(rng.geometric(0.2)) for z in supports[g]} for g in group]
    centre = rng.normal(size=(13, d))
    early = rng.normal(size=(20, d))[[a for a, _ in contexts]] + rng.normal(size=(12, d))[[b for _, b in contexts]]
    weight = rng.normal(size=(vocab, d)) * 0.6
    head = {"weight": weight, "bias": rng.normal(size=vocab) * 0.3, "norm.weight": rng.uniform(0.5, 1.5, d)}
    # A last state leans towards the head rows of what follows it, so that p and q are related.
    lean = [sum(c * weight[z] for z, c in row.items()) / sum(row.values()) for row in counts]
    states = {0: early, 3: centre[group] + 3 * np.array(lean) + 0.5 * rng.normal(size=(m, d))}
    write_observation(out, contexts, counts, states, head, norm_eps=1e-5)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(sys.argv[1])
