#!/usr/bin/env python3
"""Damages each file of a checkpoint in every way a disk does, and looks whether it is noticed.

    tests/faults/damage.py [--binary target/release/reelflow] [--flips 40] [--resumes 3] [--seed 1]

For each file: torn ends, `--flips` single bits, lost pages, a second copy, a tail, lengths at their highest, and the
file gone. `bank verify` must exit with 74 and name the file each time; and in `--resumes` of the cases a run must
say which checkpoint is damaged, go on from the one before, and come to the end of an undisturbed run. Prints a table
of outcomes; the exit code is 0 if there was no miss.
"""

import os
import random
import resource
import shutil
import sys
import tempfile

from rig import Case, Table, arguments, pipeline
from kill_run import to_the_end, undisturbed


def damaged(data, flips, rng):
    """(what, bytes) of every damage; `None` is a file that is gone."""
    length = len(data)
    for cut in sorted({0, 1, 7, 8, 16, 511, 512, 4095, 4096, length // 2, length - 4096, length - 1} & set(range(length))):
        yield f"cut at {cut}", data[:cut]
    for _ in range(flips):
        at, bit = rng.randrange(length), rng.randrange(8)
        flipped = bytearray(data)
        flipped[at] ^= 1 << bit
        yield f"bit {bit} of byte {at}", bytes(flipped)
    for page in sorted({0, length // 2 // 4096, (length - 1) // 4096}):
        lost = bytearray(data)
        inside = len(lost[page * 4096 : page * 4096 + 4096])
        lost[page * 4096 : page * 4096 + 4096] = bytes(inside)
        yield f"page {page} lost", bytes(lost)
    yield "a second copy", data + data
    yield "a tail", data + bytes(4096)
    yield "lengths at their highest", b"\xff" * min(64, length) + data[64:]
    yield "gone", None


def put(path, data):
    """Replaces a file, or removes it."""
    if data is None:
        os.remove(path)
    else:
        with open(path, "wb") as file:
            file.write(data)


def one_file(table, whole, path, args, rng, expected, books):
    """All damage to one file of the newest checkpoint."""
    step, miss, tried, resumed = whole.newest(), "", 0, 0
    with open(os.path.join(whole.out, path), "rb") as file:
        data = file.read()
    cases = list(damaged(data, args.flips, rng))
    resumes = set(rng.sample(range(len(cases)), min(args.resumes, len(cases))))
    for number, (what, bytes_) in enumerate(cases):
        if bytes_ == data:
            continue
        put(os.path.join(whole.out, path), bytes_)
        done = whole.call("bank", "verify", whole.out)
        tried += 1
        if done.code != 74 or os.path.basename(path) not in done.err:
            miss = f"{what}: `bank verify` exits with {done.code}: {done.out}{done.err}"
        elif number in resumes:
            with tempfile.TemporaryDirectory() as folder:
                copy = Case(whole.binary, folder, open(whole.toml, encoding="utf-8").read())
                shutil.copytree(whole.out, copy.out)
                done = copy.run("--quiet", "--steps", str(step))
                resumed += 1
                if done.code != 0 or os.path.basename(path) not in done.err or "using step" not in done.err:
                    miss = f"{what}: resumed with exit {done.code}: {done.err}"
                else:
                    miss = copy.verify() or to_the_end(copy, expected, books)
        put(os.path.join(whole.out, path), data)
        if miss:
            break
    table.note(path.split("/", 1)[1], miss, f"{tried} of {tried} noticed and named, {resumed} runs went on from the one before")


def main():
    args = arguments(__doc__, flips=40, resumes=3, seed=1)
    table, rng = Table(), random.Random(args.seed)
    text = pipeline(30, 5)
    expected, books = undisturbed(args.binary, text)
    with tempfile.TemporaryDirectory() as folder:
        whole = Case(args.binary, folder, text)
        whole.run("--quiet", "--steps", "20")
        newest = os.path.join("checkpoints", f"step={whole.newest():08}")
        paths = [os.path.join(newest, "manifest.json")]
        paths += [os.path.join(newest, part) for part in sorted(whole.checksums(whole.newest()))]
        for path in paths:
            one_file(table, whole, path, args, rng, expected, books)
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024
        print(f"most memory of any process: {peak} MiB")
    return table.end()


if __name__ == "__main__":
    sys.exit(main())
