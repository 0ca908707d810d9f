#!/usr/bin/env python3
"""Kills a run at random moments and at every place where its state is half written, and lets it go on.

    tests/faults/kill_run.py [--binary target/release/reelflow] [--kills 1000] [--seed 1] [--places 1]

A run is killed (SIGKILL) again and again and resumed each time. After every kill `bank verify` must find each
checkpoint whole, no checkpoint may be gone, and the books must hold every step once, in order, with the samples and
losses of a run that nobody disturbed. When a run comes to its end its digest and weights must be those of the
undisturbed one. Half the kills hit a trainer with a bank, of either kind, half the digest of the batches alone. Then
(`--places 1`) a run ends itself at each failpoint, the first, second and sixth time it comes by, and must go on the same
way.
Prints a table of outcomes; the exit code is 0 if there was no miss.
"""

import os
import random
import signal
import sys
import tempfile
import time

from rig import Case, Table, arguments, differs, needs_failpoints, pipeline

WRITES = ["tmp_created", "half_written", "before_fsync"]
NAMES = ["before_dirsync", "after_dirsync"]
# Every place, and whether a short run comes by more than once.
PLACES = (
    [("scan::after", False)]
    + [(name, True) for name in ("source::open", "source::frame", "op::sample", "op::augment", "op::batch")]
    + [(name, True) for name in ("train::step", "train::loss", "train::grad", "bank::apply")]
    + [(f"{part}::{place}", True) for part in ("bank", "ckpt", "manifest") for place in WRITES]
    + [(f"{part}::{place}", True) for part in ("bank", "ckpt", "manifest") for place in NAMES]
    + [("ckpt::before_rename", True), ("purge::before_unlink", True)]
    + [(f"file::{place}", False) for place in WRITES + ["before_rename"] + NAMES]
)


def undisturbed(binary, text):
    """Result lines and books of a run that ends by itself."""
    with tempfile.TemporaryDirectory() as folder:
        case = Case(binary, folder, text)
        done = case.run("--quiet", secs=600)
        if done.code != 0:
            sys.exit(f"the undisturbed run ended with {done.code}: {done.err}")
        return results(done.out), case.books()


def results(out):
    """Result lines without the names of folders."""
    return [line for line in out.splitlines() if not line.startswith("encoder ")]


def look(case, books, train, newest):
    """What is wrong after a kill; empty if nothing."""
    if case.newest() < newest:
        return f"checkpoint {newest} is gone, {case.newest()} is the newest"
    # Before the first checkpoint the resolved pipeline may not be there yet, and then it is no run.
    wrong = case.verify() if train and os.path.exists(os.path.join(case.out, "config.resolved.toml")) else ""
    return wrong or differs(case.books(), books)


def random_kills(table, args, bank, count, rng):
    """`count` kills of runs with a trainer and a bank of this kind, or, without one, of the digest alone."""
    name = f"trainer and {bank} bank" if bank else "digest"
    text = pipeline(400, 3, bank)
    expected, books = undisturbed(args.binary, text)
    killed = finished = midway = 0
    miss = ""
    since = time.monotonic()
    while killed < count and not miss:
        with tempfile.TemporaryDirectory() as folder:
            case = Case(args.binary, folder, text)
            while killed < count and not miss:
                newest = case.newest()
                child = case.start("--quiet")
                # Mostly soon after something happened, sometimes during start-up.
                goal = newest + 3 * rng.randint(0, 3)
                end = time.monotonic() + 30
                while case.newest() < goal and child.poll() is None and time.monotonic() < end:
                    time.sleep(0.002)
                time.sleep(rng.uniform(0, 0.05))
                child.kill()
                out, err = child.communicate()
                if child.returncode == 0:
                    finished += 1
                    miss = "" if results(out) == expected else f"ended with {results(out)}, not {expected}"
                    miss = miss or differs(case.books(), books) or ("" if len(case.books()) == 400 else "steps lack")
                    break
                if child.returncode != -signal.SIGKILL:
                    miss = f"did not go on from step {newest}: exit {child.returncode}, {err}"
                    break
                killed += 1
                if os.path.isdir(os.path.join(case.out, "checkpoints")):
                    left = os.listdir(os.path.join(case.out, "checkpoints"))
                    midway += any(entry.endswith(".tmp") for entry in left)
                miss = look(case, books, bank is not None, newest)
            if not miss and killed == count:
                miss = to_the_end(case, expected, books)
                finished += 1
    rate = killed / (time.monotonic() - since)
    said = f"{killed} kills, {midway} in the middle of a checkpoint, {finished} runs came to the same end, {rate:.1f}/s"
    table.note(f"SIGKILL at random, {name}", miss, said)


def to_the_end(case, expected, books):
    """What is wrong with the end of a run that goes on; empty if nothing."""
    done = case.run("--quiet", secs=300)
    if done.code != 0:
        return f"did not go on: exit {done.code}, {done.last()}"
    if results(done.out) != expected:
        return f"ended with {results(done.out)}, not {expected}"
    found = case.books()
    return differs(found, books) or ("" if len(found) == len(books) else f"{len(found)} steps of {len(books)}")


def every_place(table, args):
    """Ends a run at each place, the first, second and sixth time it comes by."""
    text = pipeline(20, 2)
    expected, books = undisturbed(args.binary, text)
    for place, is_often in PLACES:
        miss, ends = "", 0
        for passed in (0, 1, 5) if is_often else (0,):
            with tempfile.TemporaryDirectory() as folder:
                case = Case(args.binary, folder, text)
                done = case.run("--quiet", failpoints=f"{place}={passed}*off->return")
                if done.code != -signal.SIGABRT:
                    miss = f"time {passed + 1}: exit {done.code}, nobody came by; {done.last()}"
                    break
                ends += 1
                miss = look(case, books, True, 0) or to_the_end(case, expected, books)
                if miss:
                    miss = f"time {passed + 1}: {miss}"
                    break
        table.note(place, miss, f"ended there {ends} times, each run went on to the same end")


def main():
    args = arguments(__doc__, kills=1000, seed=1, places=1)
    table, rng = Table(), random.Random(args.seed)
    if args.places:
        needs_failpoints(args.binary)
        every_place(table, args)
    if args.kills:
        for bank, share in (("queue", 4), ("instance", 4), (None, 2)):
            random_kills(table, args, bank, -(-args.kills // share), rng)
    return table.end()


if __name__ == "__main__":
    sys.exit(main())
