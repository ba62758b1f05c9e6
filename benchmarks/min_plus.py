"""What benchmarks/min_plus.sh does in Python: the matrix, and the peers' products, compared for equality."""

import sys
import time
from pathlib import Path

import numpy as np


def prepare(work, n):
    np.random.default_rng(0).random((n, n), dtype=np.float32).tofile(work / "a.f32")


def peers(work, n):
    import graphblas as gb

    a = np.fromfile(work / "a.f32", dtype=np.float32).reshape(n, n)
    ours = np.fromfile(work / "product.f32", dtype=np.float32).reshape(n, n)
    start = time.time()
    by_rows = np.empty_like(a)
    for i in range(n):
        by_rows[i] = (a[i][:, None] + a).min(axis=0)
    numpy_seconds = time.time() - start
    assert np.array_equal(by_rows, ours), "numpy's product differs"
    gb.ss.config["nthreads"] = 2
    left = gb.Matrix.from_dense(a)
    start = time.time()
    product = left.mxm(left, gb.semiring.min_plus).new()
    graphblas_seconds = time.time() - start
    assert np.array_equal(product.to_dense(), ours), "GraphBLAS's product differs"
    print(f"peers, f32: row-wise numpy {numpy_seconds:.2f} s, GraphBLAS {graphblas_seconds:.2f} s")


if __name__ == "__main__":
    {"prepare": prepare, "peers": peers}[sys.argv[1]](Path(sys.argv[2]), int(sys.argv[3]))
