#!/usr/bin/env python3
"""Scans a folder of very many files and checks how long the first and the next starts take.

    tests/faults/many_files.py [--binary target/release/reelflow] [--files 100000] [--kind links|copies] [--folder DIR]

`links` are names of 100 different files, `copies` are different files with different content. One name in a
hundred is an empty file. Prints one line a start: what was probed, how long it took; the next starts must probe
nothing but what changed, within --limit seconds, and a run must give one warning for all empty files. The exit
code is 0 if all of this holds.
"""

import argparse
import json
import os
import resource
import struct
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
CLIP = os.path.join(HERE, "..", "data", "full_range.mp4")

PIPELINE = """
version = 1
[run]
steps = 2
[sources.many]
type = "files"
paths = ["many"]
[operators.windows]
type = "uniform"
inputs = ["many"]
frames = 4
[operators.views]
type = "augment"
inputs = ["windows"]
steps = [{ op = "resize", width = 16, height = 16 }, { op = "normalize" }]
[operators.batch]
type = "batch"
inputs = ["views"]
size = 2
[sinks.digest]
type = "digest"
inputs = ["batch"]
"""


def make(folder, files, kind):
    """Writes the files; a folder a thousand. Returns how many are empty."""
    clip = open(CLIP, "rb").read()
    first = {}
    empty = 0
    for number in range(files):
        below = os.path.join(folder, f"{number // 1000:04}")
        if number % 1000 == 0:
            os.makedirs(below)
        path = os.path.join(below, f"{number:07}.mp4")
        if number % 100 == 99:
            open(path, "wb").close()
            empty += 1
        elif kind == "links" and number % 100 in first:
            os.link(first[number % 100], path)
        else:
            with open(path, "wb") as file:
                # A box that players pass over makes each file another one.
                file.write(clip + struct.pack(">I4sQ", 16, b"free", number))
            first[number % 100] = path
    return empty


def call(binary, folder, *args):
    """Runs the program; seconds, processor seconds, peak MiB so far, and the process."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    begun = time.monotonic()
    done = subprocess.run([binary, *args], cwd=folder, capture_output=True, text=True)
    took = time.monotonic() - begun
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return took, spent, after.ru_maxrss // 1024, done


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", default="target/release/reelflow")
    parser.add_argument("--files", type=int, default=100_000)
    parser.add_argument("--kind", choices=["links", "copies"], default="links")
    parser.add_argument("--folder", help="where to make the files; a temporary folder if not given")
    parser.add_argument("--limit", type=float, default=10.0, help="seconds a warm start may take")
    args = parser.parse_args()
    binary = os.path.abspath(args.binary)
    problems = []
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        empty = make(os.path.join(folder, "many"), args.files, args.kind)
        distinct = args.files - empty if args.kind == "copies" else min(99, args.files)
        wanted = {"first": distinct, "second": 0, "after 10 changes": 10}
        for start, probes in wanted.items():
            if start.startswith("after"):
                for number in range(10):
                    with open(os.path.join(folder, "many", "0000", f"{number:07}.mp4"), "r+b") as file:
                        os.utime(file.fileno(), (1_000_000_000, 1_000_000_000 + number))
            look = ("catalog", "many", "--catalogue", "kept.bin", "--format", "json")
            took, spent, peak, done = call(binary, folder, *look)
            if done.returncode != 0:
                sys.exit(f"{start}: exit {done.returncode}: {done.stderr}")
            found = json.loads(done.stdout)
            size = os.path.getsize(os.path.join(folder, "kept.bin")) / 2**20
            print(
                f"{start} start: {took:.2f} s ({spent:.2f} s of processor time, at most {peak} MiB), "
                f"{found['probed']} of {args.files} files probed; kept file {size:.1f} MiB",
                flush=True,
            )
            if found["left_out"] != {"empty": empty} or found["media"] != args.files - empty:
                problems.append(f"{start}: found {found['media']} media, left out {found['left_out']}")
            if found["probed"] != probes:
                problems.append(f"{start}: probed {found['probed']}, not {probes}")
            if start != "first" and took > args.limit:
                problems.append(f"{start}: took {took:.1f} s, more than {args.limit}")
        with open(os.path.join(folder, "p.toml"), "w") as file:
            file.write(PIPELINE.replace("steps = 2", 'steps = 2\ncatalogue = "kept.bin"'))
        took, spent, peak, done = call(binary, folder, "run", "p.toml")
        warnings = [line for line in done.stderr.splitlines() if line.startswith("warning:")]
        print(f"run of 2 steps: {took:.2f} s ({spent:.2f} s), exit {done.returncode}, {len(warnings)} warnings")
        print("\n".join(warnings[:3]))
        if done.returncode != 0 or len(warnings) != 1:
            problems.append(f"run: exit {done.returncode}, {len(warnings)} warnings: {done.stderr[-2000:]}")
    print("\n".join(problems) or "as it should be")
    sys.exit(1 if problems else 0)


if __name__ == "__main__":
    main()
