"""Seconds for every logit of batches of tokens with the sample model, by one peer in this process; or the table of many runs.

usage: engine.py ENGINE SHAPE[,SHAPE...] [--repeats 5] [--threads 2]
       engine.py pairs SHAPE[,SHAPE...] [--repeats 5] [--threads 2] [--precision f32] [--lawvere target/release/lawvere]
       engine.py table FILE

ENGINE is torch (transformers' LlamaForCausalLM, dequantised weights, float32, sdpa attention), torch-bf16
(the same in bfloat16) or llama (llama.cpp on the Q4_1 weights, all sequences of a shape in one batch and
one after another, whichever was faster). SHAPE is ROWSxTOKENS: rows without a shared prefix, no cache.
Prints a line of JSON for each shape, {"engine", "shape", "seconds": [...], "others", "peak_memory", ...},
after warming up; loading is not timed; `others` is how many cores other processes kept busy. `pairs` times PyTorch and
ours by turns in float32 or, with --precision bf16, both in bfloat16, one run each, so that both meet the same machine even if it changes by the
minute, and prints each pair and the median of their ratios. `table` reads such lines, and lines of `lawvere model bench --json`, from
a file, and prints medians. engine.sh runs it all.
"""

import argparse
import collections
import json
import os
import resource
import statistics
import time
from pathlib import Path

SAMPLE = Path(__file__).resolve().parents[1] / "sample"
MODEL = SAMPLE / "smollm2-135m-instruct-q4_1.gguf"
os.environ["TQDM_DISABLE"] = "1"


def rows_of(shape):
    """The first tokens of King James, the same as in the fixture of perplexities."""
    from safetensors.numpy import load_file

    rows, tokens = map(int, shape.split("x"))
    ids = load_file(SAMPLE.parent / "fixtures/smollm2/perplexity.safetensors")["ids"]
    return ids[: rows * tokens].reshape(rows, tokens).tolist()


def work_of_others():
    """Seconds of all the machine's cores so far that were neither idle nor this process's; 0 where /proc is missing."""
    if not Path("/proc/stat").exists():
        return 0.0
    user, nice, system, _idle, _wait, irq, softirq, steal = map(int, Path("/proc/stat").read_text().split()[1:9])
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK") - time.process_time()


def timed(run, repeats, warmup=2):
    """Seconds of each repeat, and how many cores others kept busy meanwhile."""
    for _ in range(warmup):
        run()
    seconds, others = [], work_of_others()
    for _ in range(repeats):
        start = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - start)
    return {"seconds": [round(s, 5) for s in seconds], "others": round(max(0.0, work_of_others() - others) / sum(seconds), 2)}


def pairs(shapes, args):
    """Pairs of one timed run each; ours loads its model anew every time, which is not counted."""
    import subprocess

    for shape, run in torch_runs(shapes, args, {"f32": "float32"}.get(args.precision, "bfloat16")):
        run()
        ratios = []
        for _ in range(args.repeats):
            command = [args.lawvere, "model", "bench", "--model", str(MODEL), "--shapes", shape, "--repeats", "1"]
            command += ["--precision", args.precision, "--threads", str(args.threads), "--json", "--quiet"]
            report = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
            ours = report["shapes"][0]["logits"]["seconds"][0]
            (theirs,) = timed(run, 1, warmup=1)["seconds"]
            ratios.append(ours / theirs)
            rates = ", ".join(f"{p['precision']} {p['gflops']:.0f}" for p in report["products"])
            print(f"{shape}: ours {ours:.3f}, PyTorch {theirs:.3f}, ratio {ours / theirs:.2f}, products {rates} GFLOP/s", flush=True)
        print(f"{shape}: median ratio {statistics.median(ratios):.2f} of {len(ratios)} pairs", flush=True)


def by_torch(shapes, args, dtype):
    import torch
    import transformers

    versions = {"torch": torch.__version__, "transformers": transformers.__version__}
    for shape, run in torch_runs(shapes, args, dtype):
        yield {"shape": shape, **timed(run, args.repeats), "versions": versions}


def torch_runs(shapes, args, dtype):
    import torch
    import transformers

    torch.set_num_threads(args.threads)
    model = transformers.AutoModelForCausalLM.from_pretrained(
        MODEL.parent,
        gguf_file=MODEL.name,
        dtype=getattr(torch, dtype),
        attn_implementation="sdpa",
        quantization_config=transformers.GgufConfig(dequantize=True),
    ).eval()
    assert type(model) is transformers.LlamaForCausalLM and model.dtype == getattr(torch, dtype)
    assert type(model.model.layers[0].mlp.up_proj) is torch.nn.Linear
    for shape in shapes:
        ids = torch.tensor(rows_of(shape))

        @torch.inference_mode()
        def run():
            logits = model(ids, use_cache=False).logits
            assert logits.shape == (*ids.shape, 49152)

        yield shape, run


def by_llama(shapes, args):
    import ctypes

    import llama_cpp

    @llama_cpp.llama_log_callback
    def silent(level, text, data):
        pass

    llama_cpp.llama_log_set(silent, ctypes.c_void_p(0))
    model = llama_cpp.llama_model_load_from_file(str(MODEL).encode(), llama_cpp.llama_model_default_params())
    assert model
    for shape in shapes:
        rows = rows_of(shape)
        ways = {}
        for way, groups in {"one batch": [rows], "in turn": [[row] for row in rows]}.items():
            context, run = decoder(llama_cpp, model, groups, args.threads)
            ways[way] = timed(run, args.repeats)
            llama_cpp.llama_free(context)
            if len(rows) == 1:
                break
        medians = {way: statistics.median(result["seconds"]) for way, result in ways.items()}
        best = ways[min(medians, key=medians.get)]
        yield {"shape": shape, **best, "ways": medians, "versions": {"llama-cpp-python": llama_cpp.__version__}}


def decoder(llama_cpp, model, groups, threads):
    """A context, and a function that decodes each group of rows as one batch there, with the logits of every token."""
    rows, tokens = max(map(len, groups)), len(groups[0][0])
    params = llama_cpp.llama_context_default_params()
    params.n_ctx = params.n_batch = params.n_ubatch = rows * tokens
    params.n_seq_max, params.n_threads, params.n_threads_batch = rows, threads, threads
    context = llama_cpp.llama_init_from_model(model, params)
    assert context
    batches = []
    for group in groups:
        batch = llama_cpp.llama_batch_init(len(group) * tokens, 0, 1)
        batch.n_tokens = len(group) * tokens
        for r, row in enumerate(group):
            for t, token in enumerate(row):
                i = r * tokens + t
                batch.token[i], batch.pos[i], batch.n_seq_id[i], batch.logits[i] = token, t, 1, 1
                batch.seq_id[i][0] = r
        batches.append(batch)

    def run():
        for batch in batches:
            llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(context), False)
            assert llama_cpp.llama_decode(context, batch) == 0
            assert all(llama_cpp.llama_get_logits_ith(context, i) for i in (0, batch.n_tokens - 1))  # waits for the results

    return context, run


def table(lines):
    """Medians over every round's repeats, tokens a second, and ours over each peer."""
    seconds, memory, rate = collections.defaultdict(list), collections.defaultdict(int), []
    others = collections.defaultdict(float)
    for line in map(json.loads, filter(None, map(str.strip, lines))):
        if "shapes" in line:  # lawvere model bench
            for shape in line["shapes"]:
                for what in ("logits", "score"):
                    if what in shape:
                        seconds["ours" if what == "logits" else f"ours, {what}", shape["shape"]] += shape[what]["seconds"]
            memory["ours"] = max(memory["ours"], line.get("peak_memory") or 0)
            rate.append(line.get("peak_gflops") or 0)
        else:
            seconds[line["engine"], line["shape"]] += line["seconds"]
            memory[line["engine"]] = max(memory[line["engine"]], line["peak_memory"])
            key = line["engine"], line["shape"]
            others[key] = max(others[key], line["others"])
    engines, shapes = (list(dict.fromkeys(key[i] for key in seconds)) for i in (0, 1))
    print("| shape | engine | median s | least s | greatest s | tokens/s | ours / it | cores of others |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    for shape in shapes:
        rows, tokens = map(int, shape.split("x"))
        ours = seconds.get(("ours", shape))
        for engine in engines:
            if s := seconds.get((engine, shape)):
                median = statistics.median(s)
                ratio = f"{statistics.median(ours) / median:.2f}" if ours and not engine.startswith("ours") else ""
                cells = [shape, engine, *(f"{x:.3f}" for x in (median, min(s), max(s))), f"{rows * tokens / median:.0f}"]
                print("|", " | ".join([*cells, ratio, str(others.get((engine, shape), ""))]), "|")
    print("\npeak memory, MiB: " + ", ".join(f"{engine} {bytes_ / 2**20:.0f}" for engine, bytes_ in memory.items()))
    if any(rate):
        print(f"matrix products by our kernel: at most {max(rate):.0f} GFLOP/s")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("engine", choices=["torch", "torch-bf16", "llama", "pairs", "table"])
    parser.add_argument("what", help="shapes, as 1x256,16x64; for table, the file of lines")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--precision", default="f32", help="of pairs: f32, bf16 or a way to do it, as bf16-amx")
    parser.add_argument("--lawvere", default="target/release/lawvere")
    args = parser.parse_args()
    if args.engine == "pairs":
        return pairs(args.what.split(","), args)
    if args.engine == "table":
        return table(Path(args.what).read_text().splitlines())
    shapes = args.what.split(",")
    runs = {
        "torch": lambda: by_torch(shapes, args, "float32"),
        "torch-bf16": lambda: by_torch(shapes, args, "bfloat16"),
        "llama": lambda: by_llama(shapes, args),
    }
    for result in runs[args.engine]():
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        print(json.dumps({"engine": args.engine, **result, "peak_memory": peak}), flush=True)


if __name__ == "__main__":
    main()
