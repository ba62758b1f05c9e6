"""The peer of read_contexts.sh: the same states and log-probabilities by transformers in float32.

usage: read_contexts.py OBSERVATION_FOLDER GGUF_FILE THREADS

Reads the tokens of an observation of kind contexts (made by `lawvere observe`), takes them through
the dequantised model, keeps the states of the observation's layers and the log-probability of every
observed next token, and prints seconds and the largest differences from the observation.
"""

import json
import pathlib
import resource
import sys
import time

import numpy as np
import torch
from safetensors.numpy import load_file
from transformers import AutoModelForCausalLM

folder, gguf, threads = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]), int(sys.argv[3])
torch.set_num_threads(threads)
info = json.loads((folder / "observation.json").read_text())
data = load_file(folder / "contexts.safetensors")
model = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.float32).eval()

contexts = torch.from_numpy(data["contexts"].astype(np.int64))
shards = [load_file(folder / name) for name in sorted(info["files"]) if name.startswith("states")]
layers = sorted(int(name.split(".")[1]) for name in shards[0])
rows, batch = len(contexts), 256

start = time.perf_counter()
states = {layer: [] for layer in layers}
with torch.inference_mode():
    for first in range(0, rows, batch):
        out = model.model(contexts[first : first + batch], output_hidden_states=True)
        for layer in layers:
            states[layer].append(out.hidden_states[layer][:, -1].numpy())
read = time.perf_counter() - start

start = time.perf_counter()
last = torch.from_numpy(np.concatenate(states[layers[-1]]))
indptr, tokens = data["counts.indptr"].astype(np.int64), data["counts.tokens"].astype(np.int64)
log_probs = np.empty(len(tokens))
entropies = np.empty(rows)
with torch.inference_mode():
    for first in range(0, rows, batch):
        logs = torch.log_softmax(model.lm_head(last[first : first + batch]), -1)
        entropies[first : first + batch] = -(logs.exp() * logs).sum(-1)
        for i in range(first, min(first + batch, rows)):
            entries = slice(indptr[i], indptr[i + 1])
            log_probs[entries] = logs[i - first, tokens[entries]]
head = time.perf_counter() - start

ours = {layer: np.concatenate([shard[f"layer.{layer}"] for shard in shards]) for layer in layers}
spread = {layer: np.ptp(ours[layer]) for layer in layers}
worst = max(np.abs(np.concatenate(states[layer]) - ours[layer]).max() / spread[layer] for layer in layers)
counts = data["counts.values"].astype(float)
print(json.dumps({
    "seconds_states": round(read, 2),
    "seconds_head": round(head, 2),
    "cross_entropy": float(-(counts * log_probs).sum() / counts.sum()),
    "largest_state_difference_relative": float(worst),
    "peak_memory_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
}))
