"""Milliseconds per training step by PyTorch in float32 on the CPU, two jobs, every variant that works.

usage: train_step.py [--threads 2] [--job ufm | decoder] [sizes, see --help]

ufm      features and head trained on soft labels: logits = H Wᵀ, cross-entropy, decay on both.
decoder  a LLaMA-shaped decoder on windows of random tokens, AdamW, gradient clipped to norm 1.

Each variant is warmed up, then the variants take turns, a block of steps at a time, so that a busy
machine slows all of them alike. Prints one JSON object.
"""

import argparse
import json
import os
import statistics
import sys
import time

import torch
import torch.nn.functional as F
from torch import nn

arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
arguments.add_argument("--threads", type=int, default=2)
arguments.add_argument("--job", choices=["ufm", "decoder", "both"], default="both")
arguments.add_argument("--blocks", type=int, default=7)
arguments.add_argument("--no-compile", action="store_true")
sizes = {"ufm-vocab": 104, "ufm-contexts": 403, "ufm-width": 128, "ufm-labels": 5, "ufm-steps": 300}
sizes |= {"vocab": 401, "hidden": 96, "layers": 3, "heads": 4, "kv-heads": 4, "ff": 256, "batch": 32, "window": 64, "steps": 10}
for name, value in sizes.items():
    arguments.add_argument("--" + name, type=int, default=value)
args = arguments.parse_args()


def measure(variants, steps, warmup):
    """`variants` maps a name to a function that takes one step and returns its loss."""
    ready, result = {}, {}
    for name, step in variants.items():
        try:
            for _ in range(warmup):
                step()
            ready[name] = []
        except Exception as error:  # a variant that this torch or machine lacks
            result[name] = {"failed": str(error).strip().splitlines()[0][:200]}
    for _ in range(args.blocks):
        for name, times in ready.items():
            step = variants[name]
            start = time.perf_counter()
            for _ in range(steps):
                loss = step()
            times.append((time.perf_counter() - start) / steps * 1e3)
            result[name] = {"loss": None if loss is None else round(loss.item(), 5)}
    for name, times in ready.items():
        figures = {"median_ms": statistics.median(times), "mean_ms": statistics.mean(times), "least_ms": min(times)}
        result[name] |= {k: round(v, 4) for k, v in figures.items()}
    best = min(ready, key=lambda name: result[name]["median_ms"])
    result[best]["best"] = True
    return {name: result[name] for name in variants}, best


def optimiser_kinds(kind):
    make = {"sgd": lambda p, **o: torch.optim.SGD(p, lr=2.0, weight_decay=1e-4, **o),
            "adamw": lambda p, **o: torch.optim.AdamW(p, lr=1e-3, weight_decay=0.1, **o)}[kind]
    return {"loop": lambda p: make(p, foreach=False, fused=False), "foreach": lambda p: make(p, foreach=True), "fused": lambda p: make(p, fused=True)}


def ufm(kind):
    vocab, contexts, width = args.ufm_vocab, args.ufm_contexts, args.ufm_width
    rng = torch.Generator().manual_seed(1)
    scores = torch.rand(contexts, vocab, generator=rng)
    target = torch.where(scores >= scores.topk(args.ufm_labels).values[:, -1:], scores, 0)
    target /= target.sum(1, keepdim=True)
    joint = target / contexts

    def fresh():
        torch.manual_seed(2)
        return torch.randn(vocab, width) / width**0.5, torch.randn(contexts, width) / width**0.5

    losses = {
        "cross_entropy": lambda w, h: F.cross_entropy(h @ w.T, target),
        "log_softmax": lambda w, h: -(joint * (h @ w.T).log_softmax(-1)).sum(),
        "log_softmax dot": lambda w, h: -torch.dot(joint.view(-1), (h @ w.T).log_softmax(-1).view(-1)),
    }

    def autograd(loss, optimiser, compiled=False, compiled_update=False):
        w, h = (x.requires_grad_() for x in fresh())
        opt = optimiser([w, h])
        loss = torch.compile(loss) if compiled else loss
        update = torch.compile(opt.step) if compiled_update else opt.step

        def step():
            opt.zero_grad()
            value = loss(w, h)
            value.backward()
            update()
            return value

        return step

    def by_hand(optimiser=None, want_loss=True):
        """The gradient written out: (softmax - target) / contexts, then two products into fixed buffers."""
        w, h = fresh()
        logits, gw, gh = torch.empty(contexts, vocab), torch.empty_like(w), torch.empty_like(h)
        if optimiser:
            w, h = nn.Parameter(w), nn.Parameter(h)
            opt = optimiser([w, h])
            w.grad, h.grad = gw, gh
        flat, flat_joint = logits.view(-1), joint.view(-1)

        @torch.no_grad()
        def step():
            torch.mm(h, w.T, out=logits)
            value = None
            if want_loss:
                torch.log_softmax(logits, 1, out=logits)
                value = -torch.dot(flat_joint, flat)
                logits.exp_()
            else:
                torch.softmax(logits, 1, out=logits)
            if optimiser:
                torch.mm(torch.sub(logits.div_(contexts), joint, out=logits).T, h, out=gw)
                torch.mm(logits, w, out=gh)
                opt.step()
            else:  # gradient descent with decay, the rate and 1/contexts inside the products
                logits.sub_(target)
                torch.mm(logits.T, h, out=gw)
                h.mul_(1 - 2.0 * 1e-4).addmm_(logits, w, alpha=-2.0 / contexts)
                w.mul_(1 - 2.0 * 1e-4).add_(gw, alpha=-2.0 / contexts)
            return value

        return step

    def by_hand_compiled(optimiser=None, want_loss=True):
        w, h = fresh()
        if optimiser:
            w, h = nn.Parameter(w), nn.Parameter(h)
            opt = optimiser([w, h])
            w.grad, h.grad = torch.empty_like(w), torch.empty_like(h)

        @torch.compile
        def whole(w, h, gw, gh):
            logs = (h @ w.T).log_softmax(-1)
            slope = (logs.exp() - target) / contexts
            next_w, next_h = slope.T @ h, slope @ w
            if gw is None:
                h.sub_(2.0 * (next_h + 1e-4 * h))
                w.sub_(2.0 * (next_w + 1e-4 * w))
            else:
                gw.copy_(next_w), gh.copy_(next_h)
            return -(joint * logs).sum() if want_loss else None

        @torch.no_grad()
        def step():
            value = whole(w, h, w.grad, h.grad)
            if optimiser:
                opt.step()
            return value

        return step

    kinds = optimiser_kinds(kind)
    variants = {f"eager, {l}, {o}": autograd(losses[l], kinds[o]) for l in losses for o in kinds}
    hand = kinds if kind == "adamw" else {"in place": None, **kinds}
    for o, optimiser in hand.items():
        variants[f"by hand, {o}"] = by_hand(optimiser)
        variants[f"by hand without the loss's value, {o}"] = by_hand(optimiser, want_loss=False)
    if not args.no_compile:
        for l in ("cross_entropy", "log_softmax"):
            variants[f"compiled, {l}, fused"] = autograd(losses[l], kinds["fused"], compiled=True)
        variants["compiled, log_softmax, foreach compiled"] = autograd(losses["log_softmax"], kinds["foreach"], compiled=True, compiled_update=True)
        for o, optimiser in {"in place": None, "fused": kinds["fused"]}.items():
            if optimiser or kind == "sgd":
                variants[f"by hand compiled, {o}"] = by_hand_compiled(optimiser)
                variants[f"by hand compiled without the loss's value, {o}"] = by_hand_compiled(optimiser, want_loss=False)
    result, best = measure(variants, args.ufm_steps, 20)
    return {"best": best, "variants": result}


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.head_dim = args.hidden // args.heads
        self.kv_width = args.kv_heads * self.head_dim
        self.norm1, self.norm2 = nn.RMSNorm(args.hidden, eps=1e-5), nn.RMSNorm(args.hidden, eps=1e-5)
        self.qkv = nn.Linear(args.hidden, args.hidden + 2 * self.kv_width, bias=False)
        self.out = nn.Linear(args.hidden, args.hidden, bias=False)
        self.gate_up = nn.Linear(args.hidden, 2 * args.ff, bias=False)
        self.down = nn.Linear(args.ff, args.hidden, bias=False)

    def forward(self, x, cos, sin):
        parts = self.qkv(self.norm1(x)).split([args.hidden, self.kv_width, self.kv_width], -1)
        q, k, v = (y.unflatten(-1, (-1, self.head_dim)).transpose(1, 2) for y in parts)
        q, k = rotate(q, cos, sin), rotate(k, cos, sin)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=args.kv_heads != args.heads)
        x = x + self.out(y.transpose(1, 2).flatten(2))
        gate, up = self.gate_up(self.norm2(x)).chunk(2, -1)
        return x + self.down(F.silu(gate) * up)


def rotate(x, cos, sin):
    a, b = x.chunk(2, -1)
    return torch.cat([a * cos - b * sin, b * cos + a * sin], -1)


class Decoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(args.vocab, args.hidden)
        self.blocks = nn.ModuleList(Block() for _ in range(args.layers))
        self.norm = nn.RMSNorm(args.hidden, eps=1e-5)
        self.head = nn.Linear(args.hidden, args.vocab, bias=False)
        half = args.hidden // args.heads // 2
        angles = torch.arange(args.window)[:, None] * 10000.0 ** (-torch.arange(half) / half)
        self.register_buffer("cos", angles.cos())
        self.register_buffer("sin", angles.sin())
        for weight in self.parameters():
            if weight.dim() == 2:
                nn.init.normal_(weight, std=0.02)

    def forward(self, tokens):
        x = self.embedding(tokens[:, :-1])
        for block in self.blocks:
            x = block(x, self.cos, self.sin)
        return F.cross_entropy(self.head(self.norm(x)).flatten(0, 1), tokens[:, 1:].flatten())


def decoder():
    batches = torch.randint(args.vocab, (16, args.batch, args.window + 1), generator=torch.Generator().manual_seed(1))
    split = {"forward": [], "backward": [], "clip": [], "update": []}

    def trainer(optimiser, compiled=False, compiled_update=False, backend=None, times=None):
        torch.manual_seed(2)
        model = Decoder()
        weights = list(model.parameters())
        opt = optimiser(weights)
        loss = torch.compile(model) if compiled else model
        update = torch.compile(opt.step) if compiled_update else opt.step
        count = 0

        def step():
            nonlocal count
            opt.zero_grad()
            t0 = time.perf_counter()
            if backend:
                with nn.attention.sdpa_kernel(backend):
                    value = loss(batches[count % len(batches)])
            else:
                value = loss(batches[count % len(batches)])
            t1 = time.perf_counter()
            value.backward()
            t2 = time.perf_counter()
            nn.utils.clip_grad_norm_(weights, 1.0)
            t3 = time.perf_counter()
            update()
            t4 = time.perf_counter()
            count += 1
            if times:
                for key, spent in zip(times, (t1 - t0, t2 - t1, t3 - t2, t4 - t3)):
                    times[key].append(spent * 1e3)
            return value

        return step

    kinds = optimiser_kinds("adamw")
    variants = {f"eager, {o}": trainer(kinds[o], times=split if o == "fused" else None) for o in kinds}
    variants["eager, fused, attention unfused"] = trainer(kinds["fused"], backend=nn.attention.SDPBackend.MATH)
    if not args.no_compile:
        variants["compiled, fused"] = trainer(kinds["fused"], compiled=True)
        variants["compiled, fused, attention unfused"] = trainer(kinds["fused"], compiled=True, backend=nn.attention.SDPBackend.MATH)
        variants["compiled, foreach compiled"] = trainer(kinds["foreach"], compiled=True, compiled_update=True)
    result, best = measure(variants, args.steps, 5)
    for figures in result.values():
        if "median_ms" in figures:
            figures["tokens_per_second"] = round(args.batch * args.window / figures["median_ms"] * 1e3)
    return {
        "weights": sum(w.numel() for w in Decoder().parameters()),
        "best": best,
        "variants": result,
        "eager_fused_split_median_ms": {k: round(statistics.median(v), 3) for k, v in split.items()},
    }


def main():
    torch.set_num_threads(args.threads)
    report = {"torch": torch.__version__, "threads": args.threads, "load_before": round(os.getloadavg()[0], 2)}
    if args.job != "decoder":
        report |= {"ufm_sgd": ufm("sgd"), "ufm_adamw": ufm("adamw")}
    if args.job != "ufm":
        report["decoder"] = decoder()
    json.dump(report, sys.stdout, indent=1)
    print()


if __name__ == "__main__":
    main()
