"""Support matrices to solve, the max-margin problem by cvxpy in three ways, and a table of what ran.

    max_margin.py make FOLDER                 mixed.npy, repeated.npy (104 x 403), large.npy (1000 x 5000), laws
    max_margin.py cvxpy METHOD S.npy [EPS]    one line of JSON; METHOD is constraints, vectorised or reduced
    max_margin.py ours LAWVERE S.npy [ARGS]   one line of JSON
    max_margin.py path LAWVERE FOLDER         one line of JSON: 17 points of mixed's regularisation path
    max_margin.py table LINES

cvxpy and SCS run with their defaults (cvxpy asks SCS for eps_abs = eps_rel = 1e-5); EPS asks for
another. `constraints` states one constraint after another, as the code of the paper's authors does;
`vectorised` states the same problem with two constraints on arrays; `reduced` states it so on the
distinct rows and columns, their multiplicities as weights in the nuclear norm. Solutions of SCS meet
the constraints to its tolerance only, so each is made feasible, for the problem and for its dual, and
the gap of the two values is told, which certifies it. Times leave out Python's start and imports;
ours are those of the whole process.
"""

import json
import pathlib
import resource
import statistics
import subprocess
import sys
import time

import numpy as np


def counts_of(rng, laws, m, samples):
    """How often each token follows each of m contexts, the contexts' frequencies after a power law."""
    frequency = np.arange(1, m + 1) ** -0.9
    n = np.maximum(1, rng.multinomial(samples, frequency / frequency.sum()))
    return np.stack([rng.multinomial(n[j], laws[j]) for j in range(m)], 1)


def mixed(V, m, samples, seed):
    """What a finite sample shows of laws around a Zipf law: most supports are distinct."""
    rng = np.random.default_rng(seed)
    popularity = 1 / np.arange(1, V + 1)
    laws = rng.dirichlet(5.5 * popularity / popularity.sum() + 1e-9, size=m)
    counts = counts_of(rng, laws, m, samples)
    for v in np.flatnonzero(counts.sum(1) == 0):
        counts[v, rng.integers(m)] = 1
    return counts


def repeated(V, m, groups, classes, seed):
    """Contexts of few classes, which allow groups of interchangeable tokens."""
    rng = np.random.default_rng(seed)
    group = np.concatenate([np.arange(groups), rng.integers(groups, size=V - groups)])
    popularity = 1 / np.arange(1, groups + 1)
    allowed = np.zeros((groups, classes), bool)
    for c in range(classes):
        allowed[rng.choice(groups, 1 + rng.poisson(2), replace=False, p=popularity / popularity.sum()), c] = True
    for g in np.flatnonzero(allowed.sum(1) < 2):
        allowed[g, rng.choice(classes, 2, replace=False)] = True
    of = np.concatenate([np.arange(classes), rng.integers(classes, size=m - classes)])
    S = allowed[group][:, of]
    return S * (1 + rng.poisson(S * rng.lognormal(0.5, 1.5, size=S.shape)))


def describe(name, counts):
    pi, P, S = counts.sum(0) / counts.sum(), counts / counts.sum(0), counts > 0
    H = -(pi * np.where(S, P * np.log(np.where(S, P, 1)), 0).sum(0)).sum()
    return dict(name=name, shape=S.shape, samples=int(counts.sum()), entropy=round(float(H), 3),
                mean_support=round(float(S.sum(0).mean()), 2),
                distinct=[len(np.unique(S, axis=0)), len(np.unique(S.T, axis=0))])


def make(folder):
    folder.mkdir(parents=True, exist_ok=True)
    for name, counts in [
        ("mixed", mixed(104, 403, 5110, 1)),
        ("repeated", repeated(104, 403, 84, 36, 1)),
        ("large", mixed(1000, 5000, 70_000, 1)),
    ]:
        np.save(folder / f"{name}.npy", (counts > 0).astype(np.uint8))
        if name == "mixed":
            np.save(folder / "laws.npy", counts / counts.sum(0))
            np.save(folder / "weights.npy", counts.sum(0) / counts.sum())
        print(json.dumps(describe(name, counts)), file=sys.stderr)


def state(method, S, r, c):
    """The problem, its variable, and each constraint with the entries (first - other) it is about."""
    import cvxpy as cp

    V, m = S.shape
    L = cp.Variable((V, m))
    first = S.argmax(0)
    rest = S.copy()
    rest[first, np.arange(m)] = 0
    constraints = []
    if method == "constraints":
        for j in range(m):
            for z in np.flatnonzero(rest[:, j]):
                constraints.append((L[first[j], j] == L[z, j], [z], [j]))
            for v in np.flatnonzero(S[:, j] == 0):
                constraints.append((L[first[j], j] - L[v, j] >= 1, [v], [j]))
    else:
        z, j = np.nonzero(rest)
        if z.size:
            constraints.append((L[first[j], j] == L[z, j], z, j))
        v, j = np.nonzero(S == 0)
        constraints.append((L[first[j], j] - L[v, j] >= 1, v, j))
    weighted = cp.multiply(np.sqrt(np.outer(r, c)), L) if method == "reduced" else L
    problem = cp.Problem(cp.Minimize(cp.norm(weighted, "nuc")), [constraint for constraint, _, _ in constraints])
    return problem, L, constraints


def multipliers(S, constraints):
    """G: what the constraints push the logits by, of one sign off the supports."""
    G, first = np.zeros(S.shape), S.argmax(0)
    for constraint, v, j in constraints:
        # cvxpy's multiplier of an equality has the sign of its Lagrangian, that of an inequality is positive.
        y = np.atleast_1d(constraint.dual_value) * (1 if type(constraint).__name__ == "Inequality" else -1)
        np.add.at(G, (v, j), -y)
        np.add.at(G, (first[j], j), y)
    return G


def feasible(L, S):
    a = (L * S).sum(0) / S.sum(0)
    return np.where(S == 1, a, np.minimum(L, a - 1))


def dual_feasible(G, S):
    G = np.where(S == 1, G, np.minimum(G, 0))
    G = G - S * (G.sum(0) / S.sum(0))
    return G / max(np.linalg.norm(G, 2), 1e-300)


def solve(method, path, eps):
    import cvxpy as cp

    full = S = np.load(path).astype(float)
    r, c = np.ones(S.shape[0]), np.ones(S.shape[1])
    row, column = np.arange(S.shape[0]), np.arange(S.shape[1])
    started = time.perf_counter()
    if method == "reduced":
        S, row, r = np.unique(S, axis=0, return_inverse=True, return_counts=True)
        S, column, c = np.unique(S, axis=1, return_inverse=True, return_counts=True)
    problem, L, constraints = state(method, S, r, c)
    problem.get_problem_data(cp.SCS)
    compiled = time.perf_counter() - started
    problem.solve(solver=cp.SCS, **({} if eps is None else dict(eps_abs=eps, eps_rel=eps)))
    total = time.perf_counter() - started
    spread = np.ix_(row.ravel(), column.ravel())
    G = multipliers(S, constraints) / np.outer(r, c)
    bound = (dual_feasible(G[spread], full) * full).sum()
    value = np.linalg.svd(feasible(L.value[spread], full), compute_uv=False).sum()
    print(json.dumps({
        "method": method, "instance": pathlib.Path(path).stem, "eps": eps or 1e-5, "status": problem.status,
        "compile_seconds": compiled, "solver_seconds": problem.solver_stats.solve_time, "seconds": total,
        "iterations": problem.solver_stats.num_iters, "reported": float(problem.value),
        "value": float(value), "lower_bound": float(bound), "relative_gap": float(1 - bound / value),
        "peak_memory_mib": peak(),
    }))


def peak(who=resource.RUSAGE_SELF):
    return resource.getrusage(who).ru_maxrss // 1024


def ours(binary, path, *arguments):
    command = [binary, "geometry", "max-margin", "--support", path, "--json", *arguments]
    started = time.perf_counter()
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    seconds = time.perf_counter() - started
    result = json.loads(done.stdout)
    print(json.dumps({
        "method": " ".join(["lawvere", *arguments]), "instance": pathlib.Path(path).stem, "seconds": seconds,
        "solver_seconds": result["seconds"], "peak_memory_mib": peak(resource.RUSAGE_CHILDREN),
        **{key: result[key] for key in ["iterations", "value", "lower_bound", "relative_gap"]},
    }))


def follow(binary, folder):
    command = [binary, "geometry", "path", "--probabilities", f"{folder}/laws.npy", "--weights", f"{folder}/weights.npy",
               "--points", "17", "--to", "1e-8", "--json"]
    started = time.perf_counter()
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    seconds = time.perf_counter() - started
    points = json.loads(done.stdout)["points"]
    print(json.dumps({
        "method": "lawvere, path of 17 points", "instance": "mixed", "seconds": seconds,
        "solver_seconds": sum(point["seconds"] for point in points), "peak_memory_mib": peak(resource.RUSAGE_CHILDREN),
        "iterations": sum(point["iterations"] for point in points), "value": points[-1]["excess_rate"],
        "relative_gap": max(point["relative_gap"] for point in points),
    }))


def table(path):
    """Medians; and how many times the seconds of ours, by turns, the others took."""
    lines = [json.loads(line) for line in pathlib.Path(path).read_text().splitlines()]
    runs = {}
    for line in lines:
        runs.setdefault((line["instance"], line["method"]), []).append(line)
    print("instance, method: seconds (to state and compile; solver), certified gap, value, MiB, times ours")
    for (instance, method), found in runs.items():
        middle = {key: statistics.median(run.get(key, 0) for run in found) for key in found[0] if key.endswith("seconds")}
        base = runs.get((instance, "lawvere"))
        ratio = statistics.median(a["seconds"] / b["seconds"] for a, b in zip(found, base)) if base else float("nan")
        worst = max(run["relative_gap"] for run in found)
        print(f"{instance}, {method}: {middle['seconds']:.3f} ({middle.get('compile_seconds', 0):.2f}; "
              f"{middle['solver_seconds']:.3f}), {worst:.1e}, {found[0]['value']:.5f}, "
              f"{max(run['peak_memory_mib'] for run in found)}, {ratio:.0f}  [{len(found)} runs]")


if __name__ == "__main__":
    command, *rest = sys.argv[1:]
    if command == "make":
        make(pathlib.Path(rest[0]))
    elif command == "cvxpy":
        solve(rest[0], rest[1], float(rest[2]) if len(rest) > 2 else None)
    elif command == "ours":
        ours(*rest)
    elif command == "path":
        follow(*rest)
    elif command == "table":
        table(rest[0])
    else:
        sys.exit(__doc__)
