#!/usr/bin/env python3
"""Kills a small training run again and again and checks its memory bank after each kill.

    tests/faults/kill_bank.py [--binary target/release/reelflow] [--count 200] [--seed 1]

Each round starts or resumes the run, waits for a random number of new checkpoints and then a random moment
more, sends SIGKILL, and runs `reelflow bank verify`, which must find every checkpoint whole. Ends with one
line of counts; the exit code is 0 if every check was clean.
"""

import argparse
import os
import random
import subprocess
import sys
import tempfile
import time

PIPELINE = """
version = 1
[run]
steps = 100000000
workers = 1
threads = 1
device = "cpu"
checkpoint_every = 1
[sources.patterns]
type = "pattern"
media = 6
[operators.windows]
type = "triplet"
inputs = ["patterns"]
frames = 4
[operators.views]
type = "augment"
inputs = ["windows"]
steps = [{ op = "resize", width = 16, height = 16 }, { op = "normalize" }]
[operators.batch]
type = "batch"
inputs = ["views"]
size = 4
[banks.keys]
type = "KIND"
rows = 24
dim = 16
shards = 3
staleness = 2
[sinks.train]
type = "train"
inputs = ["batch"]
encoder = { name = "r3d", width = 4 }
pretext = { type = "vtdl", bank = "keys", dim = 16 }
"""


def newest(run):
    """Step of the newest checkpoint with a final name, 0 without any."""
    try:
        names = os.listdir(os.path.join(run, "checkpoints"))
    except FileNotFoundError:
        return 0
    return max((int(name[5:]) for name in names if name[5:].isdigit()), default=0)


def one_round(binary, folder, rng):
    """Runs until some checkpoint, kills. How far the run had come."""
    run = os.path.join(folder, "run")
    goal = newest(run) + rng.randint(1, 4)
    command = [binary, "run", os.path.join(folder, "p.toml"), "--out", run, "--resume", "--quiet"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as child:
        while newest(run) < goal and child.poll() is None:
            time.sleep(0.002)
        time.sleep(rng.uniform(0, 0.03))
        if child.poll() is not None:
            sys.exit(f"the run ended by itself: {child.stderr.read().decode()}")
        child.kill()
    return newest(run)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", default="target/release/reelflow")
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    rng = random.Random(args.seed)
    damaged = midway = 0
    for kind in ("queue", "instance"):
        count = (args.count + (kind == "queue")) // 2
        with tempfile.TemporaryDirectory() as folder:
            with open(os.path.join(folder, "p.toml"), "w", encoding="utf-8") as file:
                file.write(PIPELINE.replace("KIND", kind))
            for number in range(count):
                step = one_round(args.binary, folder, rng)
                left = os.listdir(os.path.join(folder, "run", "checkpoints"))
                midway += any(name.endswith(".tmp") for name in left)
                verify = [args.binary, "bank", "verify", os.path.join(folder, "run")]
                done = subprocess.run(verify, capture_output=True, text=True, check=False)
                if done.returncode != 0:
                    damaged += 1
                    print(f"{kind} kill {number} at step {step}: {done.stdout}{done.stderr}")
    print(f"{args.count} kills, {midway} in the middle of a checkpoint, {damaged} with a damaged bank")
    return 1 if damaged else 0


if __name__ == "__main__":
    sys.exit(main())
