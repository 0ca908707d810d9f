"""VTDL's step in plain PyTorch, to compare reelflow's with (arXiv 2008.02129 and its released code).

Usage: python3 tests/reference/vtdl.py FOLDER

FOLDER holds `inputs.safetensors` (first weights, first bank rows, the views and segment ids of every
step) and one or more `NAME.settings.json`, as `cargo test --test reference` writes them. Each gets a
`NAME.result.safetensors`: loss and learning rate of every step, the gradients of the first step, and
weights, key weights and bank after the last. Needs torch; exits 77 without it.

A step is, for each part of the batch: queries, keys, negatives; the loss against bank rows that hold no key of
this step; gradients, added up. Then the keys go into the bank, the optimiser steps, the key network follows.
What a settings file leaves out has the value
of the released code.
"""

import copy
import json
import math
import pathlib
import sys

try:
    import torch
    from torch import nn
except ImportError as error:
    print(f"skipped: {error}")
    sys.exit(77)

from tensors import read, write


def conv_and_norm(inputs, outputs, kernel, stride):
    padding = tuple(size // 2 for size in kernel)
    conv = nn.Conv3d(inputs, outputs, kernel, stride, padding, bias=False)
    return [conv, nn.BatchNorm3d(outputs)]


class Residual(nn.Module):
    """Two convolutions with batch norm, and a way around them."""

    def __init__(self, inputs, outputs, stride):
        super().__init__()
        self.conv1 = nn.Sequential(*conv_and_norm(inputs, outputs, (3, 3, 3), stride), nn.ReLU())
        self.conv2 = nn.Sequential(*conv_and_norm(outputs, outputs, (3, 3, 3), 1))
        self.downsample = None
        if stride != 1 or inputs != outputs:
            self.downsample = nn.Sequential(*conv_and_norm(inputs, outputs, (1, 1, 1), stride))

    def forward(self, x):
        around = x if self.downsample is None else self.downsample(x)
        return torch.relu(self.conv2(self.conv1(x)) + around)


class Network(nn.Module):
    """A 3-D ResNet of basic blocks with torchvision's names, pooled, and a head of unit length."""

    STEMS = {"video": ((3, 7, 7), (1, 2, 2)), "small": ((3, 3, 3), (1, 2, 2)), "patch": ((3, 7, 7), (1, 4, 4))}

    def __init__(self, encoder, pretext):
        super().__init__()
        width = encoder.get("width", 16)
        kernel, stride = self.STEMS[encoder.get("stem", "small")]
        self.stem = nn.Sequential(*conv_and_norm(3, width, kernel, stride), nn.ReLU())
        inputs = width
        for stage, count in enumerate(encoder.get("blocks", [1, 1, 1, 1])):
            outputs, blocks = width * 2**stage, []
            for block in range(count):
                blocks.append(Residual(inputs, outputs, 2 if stage > 0 and block == 0 else 1))
                inputs = outputs
            self.add_module(f"layer{stage + 1}", nn.Sequential(*blocks))
        hidden, dim = pretext.get("hidden"), pretext.get("dim", 128)
        head = [nn.Linear(inputs, dim)]
        if hidden is not None:
            head = [nn.Linear(inputs, hidden), nn.ReLU(), nn.Linear(hidden, dim)]
        self.heads = nn.ModuleDict({"embedding": nn.Sequential(*head)})

    def forward(self, clips):
        x = self.stem(clips)
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        x = self.heads["embedding"](x.mean(dim=(2, 3, 4)))
        return x / x.norm(dim=1, keepdim=True)


class Queue:
    """The newest keys, first in, first out. A key of step t is seen from step t + staleness on."""

    def __init__(self, rows, ids, staleness):
        self.rows, self.ids, self.staleness = rows.clone(), ids.clone(), staleness
        self.waiting, self.place = [], 0

    def push(self, step, keys, ids):
        self.waiting.append((step, keys, ids))

    def read(self, step):
        while self.waiting and self.waiting[0][0] <= step - self.staleness:
            _, keys, ids = self.waiting.pop(0)
            for key, segment in zip(keys, ids):
                self.rows[self.place], self.ids[self.place] = key, segment
                self.place = (self.place + 1) % len(self.rows)
        return self.rows.clone(), self.ids.clone()


def info_nce(query, key, negative, rows, same, temperature):
    """-log(e^(q.k/t) / (e^(q.k/t) + sum_j e^(q.m_j/t) + e^(q.n/t))), mean over the batch."""
    bank = query @ rows.T
    if same is not None:
        bank = bank.masked_fill(same, -math.inf)
    columns = [(query * key).sum(dim=1, keepdim=True), bank]
    if negative is not None:
        columns.append((query * negative).sum(dim=1, keepdim=True))
    logits = torch.cat(columns, dim=1) / temperature
    return (torch.logsumexp(logits, dim=1) - logits[:, 0]).mean()


def learning_rate(schedule, top, step, steps):
    """Of a step, counted from 0, in a run of so many steps."""
    warmup = schedule.get("warmup_steps", 0)
    if step < warmup:
        start = schedule.get("warmup_from", 0.0)
        return top * (start + (1 - start) * (step + 1) / warmup)
    kind = schedule.get("type", "constant")
    if kind == "cosine":
        floor, done = schedule.get("floor", 0.0), (step - warmup) / (steps - warmup)
        return top * (floor + (1 - floor) * (1 + math.cos(math.pi * done)) / 2)
    if kind == "step":
        return top * schedule.get("gamma", 0.1) ** (step // schedule["every"])
    if kind == "multi_step":
        return top * schedule.get("gamma", 0.1) ** sum(step >= at for at in schedule["milestones"])
    return top


def key_momentum(settings, step, steps):
    start = settings.get("momentum", 0.999)
    if settings.get("momentum_schedule", "constant") == "cosine":
        return 1 - (1 - start) * (1 + math.cos(math.pi * step / steps)) / 2
    return start


def groups(settings, network):
    """Weights by what they have in common: the rate's factor and the decay."""
    decay = settings.get("weight_decay", 1e-4)
    found = {}
    for name, weight in network.named_parameters():
        factor = settings.get("head_lr", 1.0) if name.startswith("heads.") else 1.0
        spared = weight.dim() <= 1 and not settings.get("decay_norm_and_bias", True)
        found.setdefault((factor, 0.0 if spared else decay), []).append(weight)
    return [{"params": w, "factor": factor, "weight_decay": decay} for (factor, decay), w in found.items()]


def make_optimizer(settings, network):
    if settings.get("type", "sgd") == "sgd":
        return torch.optim.SGD(groups(settings, network), lr=0.1, momentum=settings.get("momentum", 0.9))
    betas, epsilon = settings.get("betas", (0.9, 0.999)), settings.get("epsilon", 1e-8)
    return torch.optim.AdamW(groups(settings, network), betas=tuple(betas), eps=epsilon)


def margin(q, k, n):
    """A triplet loss of margin 1 on Euclidean distances."""
    return nn.functional.triplet_margin_loss(q, k, n, margin=1.0)


def under(prefix, tensors):
    """Tensors whose names begin with the prefix, without it."""
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def train(settings, inputs):
    """All steps; what came out, by name."""
    pretext, steps = settings["train"]["pretext"], settings["steps"]
    query = Network(settings["train"]["encoder"], pretext)
    query.load_state_dict(under("weights.", inputs), strict=True)
    # Both stay in train mode: the key network, too, normalises by the statistics of its batch.
    key = copy.deepcopy(query).requires_grad_(False)
    queue = Queue(inputs["bank.rows"], inputs["bank.ids"], settings["bank"]["staleness"])
    chosen = settings["train"].get("optimizer", {})
    optimizer = make_optimizer(chosen, query)
    parts = settings["train"].get("accumulate", 1)
    losses, rates, gradients = [], [], {}
    for step in range(steps):
        views, segments = under(f"{step}.", inputs), inputs[f"{step}.ids"]
        rows, ids = queue.read(step)
        optimizer.zero_grad()
        keys, total = [], 0.0
        for part in torch.arange(len(segments)).chunk(parts):
            q = query(views["anchor"][part])
            with torch.no_grad():
                k = key(views["positive"][part])
            n = query(views["negative"][part]) if pretext.get("temporal_negative", True) else None
            same = segments[part, None] == ids[None, :] if pretext.get("same_segment_mask", False) else None
            loss = info_nce(q, k, n, rows, same, pretext.get("temperature", 0.07))
            if pretext.get("margin_weight", 0.0) > 0:
                loss = loss + pretext["margin_weight"] * margin(q, k, n)
            (loss / parts).backward()
            total += loss.item() / parts
            keys.append(k)
        queue.push(step, torch.cat(keys), segments)
        if "clip_norm" in chosen:
            torch.nn.utils.clip_grad_norm_(query.parameters(), chosen["clip_norm"])
        if step == 0:
            gradients = {name: weight.grad.clone() for name, weight in query.named_parameters()}
        rate = learning_rate(settings["train"].get("schedule", {}), chosen.get("lr", 0.003), step, steps)
        for group in optimizer.param_groups:
            group["lr"] = rate * group["factor"]
        optimizer.step()
        momentum = key_momentum(settings["train"], step, steps)
        with torch.no_grad():
            for own, other in zip(key.parameters(), query.parameters()):
                own.copy_(momentum * own + (1 - momentum) * other)
        losses.append(total)
        rates.append(rate)
    rows, ids = queue.read(steps)
    result = {"loss": torch.tensor(losses), "lr": torch.tensor(rates), "bank.rows": rows, "bank.ids": ids}
    tables = {"gradients": gradients, "weights": query.state_dict(), "key_weights": key.state_dict()}
    for table, tensors in tables.items():
        result.update({f"{table}.{name}": tensor for name, tensor in tensors.items()})
    return result


def main():
    folder = pathlib.Path(sys.argv[1])
    # Threads that spin beside other tests make this minutes instead of seconds.
    torch.set_num_threads(1)
    inputs = read(folder / "inputs.safetensors")
    for path in sorted(folder.glob("*.settings.json")):
        name = path.name.removesuffix(".settings.json")
        write(folder / f"{name}.result.safetensors", train(json.loads(path.read_text()), inputs))


if __name__ == "__main__":
    main()
