"""The mean Fisher-Rao metric and the leading spectrum of the Bhattacharyya operator in Python.

    python benchmarks/information.py OBSERVATION fisher.json similarity.json

Needs numpy, scikit-learn and safetensors. OBSERVATION is a folder of kind contexts with the last
layer's states; the two files are what `lawvere information fisher` and `similarity` (kernel
bhattacharyya) printed with --json. The same formulas, in blocks of 256 contexts in float32 with
float64 for what is summed, on as many threads as OPENBLAS_NUM_THREADS says; the operator's
eigenvalues by scikit-learn's two solvers on the dense factor.
"""

import json
import sys
import time
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file
from sklearn.decomposition import TruncatedSVD
from sklearn.utils.extmath import randomized_svd

BLOCK = 256


def observation(folder):
    folder = Path(folder)
    table = load_file(folder / "contexts.safetensors")
    totals = np.add.reduceat(table["counts.values"], table["counts.indptr"][:-1].astype(np.int64))
    parts = [load_file(path) for path in sorted(folder.glob("states*.safetensors"))]
    layer = max(parts[0], key=lambda name: int(name.split(".")[1]))
    states = np.concatenate([part[layer] for part in parts])
    return states, load_file(folder / "head.safetensors")["weight"], totals / totals.sum()


def laws(states, head):
    for first in range(0, len(states), BLOCK):
        logits = states[first : first + BLOCK] @ head.T
        logits -= logits.max(1, keepdims=True)
        np.exp(logits, out=logits)
        logits /= logits.sum(1, keepdims=True)
        yield first, logits


def mean_metric(states, head, weights):
    mean = np.zeros(len(head))
    for first, p in laws(states, head):
        mean += weights[first : first + len(p)] @ p
    centred = head - (mean @ head).astype(np.float32)
    metric = np.zeros((head.shape[1],) * 2)
    for first in range(0, len(head), 4096):
        part = np.sqrt(mean[first : first + 4096, None]) * centred[first : first + 4096]
        metric += part.T @ part
    for first, p in laws(states, head):
        e = np.sqrt(weights[first : first + len(p), None]) * (p @ centred).astype(np.float64)
        metric -= e.T @ e
    return np.linalg.eigvalsh(metric)[::-1]


def factor(states, head, weights):
    out = np.empty((len(states), len(head)), np.float32)
    for first, p in laws(states, head):
        out[first : first + len(p)] = np.sqrt(weights[first : first + len(p), None] * p)
    return out


def main(folder, fisher, similarity):
    states, head, weights = observation(folder)
    fisher, similarity = (json.loads(Path(path).read_text()) for path in (fisher, similarity))
    start = time.perf_counter()
    values = mean_metric(states, head, weights)
    peer = time.perf_counter() - start
    ours = np.array(fisher["mean"]["eigenvalues"])
    off = np.abs(values - ours).max() / values[0]
    print(f"mean metric, {len(states)} contexts: numpy {peer:.1f} s, ours {fisher['mean_seconds']:.1f} s, ratio {peer / fisher['mean_seconds']:.2f}, eigenvalues {off:.0e} of the largest apart")

    model = next(i for i, o in enumerate(similarity["operators"]) if o["whose"] == "model")
    ours, seconds = similarity["operators"][model]["eigenvalues"], similarity["seconds"][model]
    rank = len(ours)
    start = time.perf_counter()
    a = factor(states, head, weights)
    made = time.perf_counter() - start
    for name, solve in [
        ("randomized_svd", lambda: randomized_svd(a, rank, n_iter=7, random_state=0)[1]),
        ("TruncatedSVD, arpack", lambda: TruncatedSVD(rank, algorithm="arpack", random_state=0).fit(a).singular_values_),
    ]:
        start = time.perf_counter()
        values = solve() ** 2
        peer = made + time.perf_counter() - start
        off = np.abs(np.sort(values)[::-1] - ours).max() / ours[0]
        print(f"Bhattacharyya, {rank} eigenvalues: {name} {peer:.1f} s, ours {seconds:.1f} s, ratio {peer / seconds:.2f}, eigenvalues {off:.0e} of the largest apart")


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    main(*sys.argv[1:])
