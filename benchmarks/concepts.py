"""The peers of concepts.sh: the leading singular triplets of a centred support matrix.

usage: concepts.py make FOLDER [--contexts M] [--tokens V] [--entries N] [--seed S]
       concepts.py svds|randomized FOLDER RANK [--tol T] [--iterations Q]
       concepts.py table FOLDER RANK LINES

`make` writes the pattern of a support matrix as raw arrays (`indptr.u64`, `indices.u32`: contexts x
tokens, row after row): tokens are as popular as Zipf's law says, contexts are of very unequal width and
each of one of 200 topics, of which every one has its own favourites. `svds` is scipy's, of the centred
matrix through a LinearOperator; `randomized` scikit-learn's `randomized_svd`, of the matrix as it is.
Both read the pattern in the form in which scipy's products are fastest. They print one line of JSON with seconds, and
leave the vectors in FOLDER. `table` reads such lines (after a `{"who": ...}` of ours `tokens.f64` and
`contexts.f64` are ours) and compares.
"""

import argparse
import json
import pathlib
import resource
import sys
import time

import numpy as np
import scipy.sparse as sp


def make(folder, contexts, tokens, entries, seed):
    rng = np.random.default_rng(seed)
    topics, shift = 200, 2.7

    def zipf(n):
        rank = shift * ((tokens + shift) / shift) ** rng.random(n) - shift
        return rank.astype(np.int64).clip(0, tokens - 1)

    width = np.exp(rng.normal(0, 1, contexts))
    draws = np.maximum(1, width / width.sum() * entries)
    topic = (topics * rng.random(contexts) ** 2).astype(np.int64)
    factor = 2 * rng.integers(0, tokens // 2, topics) + 1
    keys = np.empty(0, np.int64)
    while len(keys) < entries:
        missing = max(0.02, 1.1 * (entries - len(keys)) / entries)
        context = np.repeat(np.arange(contexts), rng.poisson(draws * missing))
        token = zipf(len(context))
        own = rng.random(len(context)) < 0.5
        t = topic[context[own]]
        token[own] = (token[own] * 7919 * factor[t] + t * 104729) % tokens
        keys = np.unique(np.concatenate([keys, context * tokens + token]))
    keys = np.sort(rng.choice(keys, entries, replace=False))
    indptr = np.zeros(contexts + 1, "<u8")
    np.cumsum(np.bincount(keys // tokens, minlength=contexts), out=indptr[1:])
    folder.mkdir(parents=True, exist_ok=True)
    indptr.tofile(folder / "indptr.u64")
    (keys % tokens).astype("<u4").tofile(folder / "indices.u32")
    (folder / "shape.json").write_text(json.dumps({"contexts": contexts, "tokens": tokens, "entries": entries, "seed": seed}))


def pattern(folder):
    """Contexts x tokens; of the transposed matrix scipy multiplies by the same arrays."""
    shape = json.loads((folder / "shape.json").read_text())
    indptr = np.fromfile(folder / "indptr.u64", "<u8").astype(np.int32)
    indices = np.fromfile(folder / "indices.u32", "<u4").astype(np.int32)
    return sp.csr_matrix((np.ones(len(indices)), indices, indptr), shape=(shape["contexts"], shape["tokens"]))


def centred(rows):
    """S~ = (I - 11^T/V) S as an operator, tokens x contexts."""
    from scipy.sparse.linalg import LinearOperator

    mean = np.asarray(rows.sum(1)).ravel() / rows.shape[1]
    columns = rows.T
    return LinearOperator(
        columns.shape,
        matvec=lambda x: columns @ x.ravel() - mean @ x.ravel(),
        rmatvec=lambda y: rows @ y.ravel() - mean * y.sum(),
        matmat=lambda x: columns @ x - (mean @ x)[None],
        rmatmat=lambda y: rows @ y - np.outer(mean, y.sum(0)),
        dtype=float,
    )


def peer(who, folder, rank, tol, iterations):
    rows = pattern(folder)
    start = time.perf_counter()
    if who == "svds":
        from scipy.sparse.linalg import svds

        u, s, vt = svds(centred(rows), rank, tol=tol, random_state=0)
        name = f"svds, tol {tol:g}"
    else:
        from sklearn.utils.extmath import randomized_svd

        # Contexts x tokens, whose rows scipy multiplies twice as fast as the transposed ones.
        v, s, ut = randomized_svd(rows, rank, n_iter=iterations or "auto", random_state=0)
        u, vt = ut.T, v.T
        name = f"randomized_svd, {iterations or 'default'} iterations, not centred"
    seconds = time.perf_counter() - start
    order = np.argsort(-s)
    np.ascontiguousarray(u[:, order]).tofile(folder / "tokens.f64")
    np.ascontiguousarray(vt[order].T).tofile(folder / "contexts.f64")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    print(json.dumps({"who": name, "seconds": seconds, "peak_mib": peak, "singular_values": list(s[order])}))


def measure(folder, rank, line):
    """The residuals of what the last run left in the folder, all measured in one way; the line with them."""
    rows = pattern(folder)
    line = json.loads(line)
    u = np.fromfile(folder / "tokens.f64").reshape(-1, rank)
    v = np.fromfile(folder / "contexts.f64").reshape(-1, rank)
    s = np.array(line["singular_values"])
    plain = "not centred" in line["who"]
    mean = np.asarray(rows.sum(1)).ravel() / rows.shape[1] * (not plain)
    there = rows.T @ v - (mean @ v)[None] - u * s
    back = rows @ u - np.outer(mean, u.sum(0)) - v * s
    for name, rest in (("residual_there", there), ("residual_back", back)):
        line[name] = float(np.linalg.norm(rest, axis=0).max() / s[0])
    print(json.dumps(line))


def table(lines):
    runs = [json.loads(line) for line in pathlib.Path(lines).read_text().splitlines()]
    names = list(dict.fromkeys(run["who"] for run in runs))
    best = next(run for run in runs if run["who"].startswith("svds, tol 0"))
    exact = np.array(best["singular_values"])
    print("| who | seconds (each run) | median | largest difference of a singular value, of the first | |S v - s u| | |S^T u - s v| | peak MiB |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for name in names:
        some = [run for run in runs if run["who"] == name]
        seconds = [run["seconds"] for run in some]
        run = some[0]
        apart = np.abs(np.array(run["singular_values"]) - exact).max() / exact[0]
        apart = "another matrix" if "not centred" in name else f"{apart:.1e}"
        times = ", ".join(f"{t:.2f}" for t in seconds)
        print(f"| {name} | {times} | {np.median(seconds):.2f} | {apart} | {run['residual_there']:.1e} | {run['residual_back']:.1e} | {run['peak_mib']} |")
    peers = [name for name in names if not name.startswith("lawvere")]
    for ours in (name for name in names if name.startswith("lawvere")):
        mine = [run["seconds"] for run in runs if run["who"] == ours]
        for theirs in peers:
            other = [run["seconds"] for run in runs if run["who"] == theirs]
            ratios = ", ".join(f"{b / a:.1f}" for a, b in zip(mine, other))
            print(f"{theirs} over {ours}, pair by pair: {ratios}")


def main():
    parser = argparse.ArgumentParser()
    commands = parser.add_subparsers(dest="command", required=True)
    one = commands.add_parser("make")
    one.add_argument("folder", type=pathlib.Path)
    one.add_argument("--contexts", type=int, default=200_000)
    one.add_argument("--tokens", type=int, default=50_000)
    one.add_argument("--entries", type=int, default=10_000_000)
    one.add_argument("--seed", type=int, default=0)
    for who in ("svds", "randomized"):
        one = commands.add_parser(who)
        one.add_argument("folder", type=pathlib.Path)
        one.add_argument("rank", type=int)
        one.add_argument("--tol", type=float, default=0)
        one.add_argument("--iterations", type=int)
    one = commands.add_parser("measure")
    one.add_argument("folder", type=pathlib.Path)
    one.add_argument("rank", type=int)
    one = commands.add_parser("table")
    one.add_argument("lines")
    a = parser.parse_args()
    if a.command == "make":
        make(a.folder, a.contexts, a.tokens, a.entries, a.seed)
    elif a.command == "measure":
        measure(a.folder, a.rank, sys.stdin.read())
    elif a.command == "table":
        table(a.lines)
    else:
        peer(a.command, a.folder, a.rank, a.tol, a.iterations)


main()
