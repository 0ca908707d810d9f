#!/usr/bin/env python3
"""Signals, panics, numbers that are none, and a second run in the folder: what a run does then.

    tests/faults/signals.py [--binary target/release/reelflow] [--count 200] [--seed 1]

`--count` signals hit runs at random instants, start-up included. Needs a binary with failpoints; the clock's part
needs `faketime`. Prints a table of outcomes; the exit code is 0 if there was no miss.
"""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time

from rig import Case, Table, arguments, differs, needs_failpoints, pipeline, until
from kill_run import results, to_the_end, undisturbed

STEPS, EVERY = 150, 3


def listens(child, number):
    """Whether the process has a handler for a signal, as the system tells it."""
    try:
        with open(f"/proc/{child.pid}/status", encoding="utf-8") as file:
            mask = next(line.split()[1] for line in file if line.startswith("SigCgt"))
    except (OSError, StopIteration):
        return False
    return int(mask, 16) >> (number - 1) & 1 == 1


def random_signals(table, args, text, expected, books):
    """One signal at a random instant: exit 0 within 10 s, with a checkpoint of the very last step."""
    rng = random.Random(args.seed)
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        sent = early = ends = 0
        miss, slowest = "", 0.0
        count = (args.count + 2) // 3
        while sent < count and not miss:
            with tempfile.TemporaryDirectory() as folder:
                case = Case(args.binary, folder, text)
                over = False
                while sent < count and not miss and not over:
                    child = case.start("--quiet")
                    number = getattr(signal, name)
                    # One in four during start-up.
                    if rng.random() > 0.25:
                        until(lambda: listens(child, number), child)
                    time.sleep(rng.uniform(0, 0.7))
                    is_ready = listens(child, number)
                    child.send_signal(number)
                    done = case.wait(child, time.monotonic(), 15)
                    sent += 1
                    slowest = max(slowest, done.secs)
                    if done.code == -number and not is_ready:
                        # Nobody listens before the program has begun.
                        early += 1
                    elif done.code != 0 or done.secs > 10:
                        miss = f"exit {done.code} after {done.secs:.1f} s: {done.err}"
                    else:
                        found = case.books()
                        miss = differs(found, books)
                        if not miss and case.newest() != len(found):
                            miss = f"stopped after {len(found)} steps, saved {case.newest()}"
                        over = len(found) == STEPS
                        ends += over
                        if over and not miss and results(done.out) != expected:
                            miss = f"ended with {results(done.out)}, not {expected}"
                if not miss and not over and sent >= count:
                    miss = to_the_end(case, expected, books)
        said = f"{sent} sent, {early} before the program began, slowest exit {slowest:.1f} s, {ends} runs came to the end"
        table.note(f"{name} once, at random", miss, said)


def two_signals(table, args, text):
    """The second signal ends a run that does not come to its end."""
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        number = getattr(signal, name)
        with tempfile.TemporaryDirectory() as folder:
            case = Case(args.binary, folder, text)
            child = case.start("--quiet", failpoints="train::step=20*off->sleep(60000)")
            until(lambda: len(case.books()) >= 20, child)
            time.sleep(0.1)
            child.send_signal(number)
            time.sleep(0.3)
            waits = child.poll() is None
            child.send_signal(number)
            done = case.wait(child, time.monotonic(), 10)
            miss = "" if waits and done.code == 128 + number and done.secs <= 1 else (
                f"exit {done.code} after {done.secs:.2f} s, waited after the first: {waits}")
            table.note(f"{name} twice", miss or case.verify(), f"exit {done.code} after {done.secs:.2f} s")


def no_hang_up(table, args, text, expected, books):
    """`nohup`: a hang-up that is ignored stays so."""
    with tempfile.TemporaryDirectory() as folder:
        case = Case(args.binary, folder, text)
        ignore = lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN)
        child = case.start("--quiet", preexec_fn=ignore)
        until(lambda: case.newest() > 0, child)
        child.send_signal(signal.SIGHUP)
        done = case.wait(child, time.monotonic())
        miss = "" if done.code == 0 and results(done.out) == expected else f"exit {done.code}: {done.err}"
        table.note("SIGHUP under nohup", miss or differs(case.books(), books), "the run went on to its end")


def closed_ends(table, args, text, books):
    """Nobody reads what is said, or the place it goes to is full."""
    full = open("/dev/full", "w", encoding="utf-8")
    for name, how, closes in (
        ("standard output closed", {}, "stdout"),
        ("standard error closed", {}, "stderr"),
        ("standard error full", {"stderr": full}, ""),
    ):
        with tempfile.TemporaryDirectory() as folder:
            case = Case(args.binary, folder, text)
            child = case.start("--summary", "json", "--interval-secs", "0.1", **how)
            if closes:
                getattr(child, closes).close()
                setattr(child, closes, None)
            since = time.monotonic()
            done = case.wait(child, since)
            miss = "" if done.code == 0 else f"exit {done.code}: {done.err}"
            table.note(name, miss or differs(case.books(), books), f"exit 0, {len(case.books())} steps")
    full.close()


def clock(table, args, text, expected, books):
    """Ten years on, and a clock that runs a hundred times too fast."""
    for name, time_spec in (("ten years on", "+10y"), ("ten years back", "-10y"), ("a fast clock", "+0 x100")):
        if not shutil.which("faketime"):
            table.skip(f"clock: {name}", "`faketime` is not installed")
            continue
        with tempfile.TemporaryDirectory() as folder:
            case = Case(args.binary, folder, text)
            done = case.run("--quiet", before=["faketime", "-f", time_spec])
            miss = "" if done.code == 0 and results(done.out) == expected else f"exit {done.code}: {done.err}"
            with open(os.path.join(case.out, "metrics.jsonl"), encoding="utf-8") as file:
                rates = [json.loads(line)["clips_per_sec"] for line in file]
            if min(rates) < 0:
                miss = miss or f"a rate of {min(rates)} clips a second"
            table.note(f"clock: {name}", miss or differs(case.books(), books), "equal result, no negative rate")


def panics(table, args, text, expected, books):
    """A panic ends the run at once with 101 and the stage's name; the last checkpoint loads."""
    for place, passed, stage in (
        ("scan::after", 0, "scan"),
        ("source::open", 100, "decode"),
        ("source::frame", 500, "decode"),
        ("op::sample", 40, "windows"),
        ("op::augment", 100, "views"),
        ("op::batch", 40, "batch"),
        ("train::step", 40, "train"),
        ("train::loss", 40, "train"),
        ("bank::apply", 100, "keys"),
        ("ckpt::half_written", 20, "checkpoint"),
    ):
        with tempfile.TemporaryDirectory() as folder:
            case = Case(args.binary, folder, text)
            done = case.run("--quiet", failpoints=f"{place}={passed}*off->panic")
            miss = ""
            if done.code != 101 or done.secs > 5:
                miss = f"exit {done.code} after {done.secs:.1f} s: {done.last()}"
            elif not done.last().startswith(f"error: {stage}: "):
                miss = f"`{stage}` is not named: {done.last()}"
            elif passed and not case.newest():
                miss = "no checkpoint is left"
            miss = miss or (case.verify() if passed else "") or differs(case.books(), books)
            miss = miss or to_the_end(case, expected, books)
            table.note(f"panic at {place}", miss, f"101 after {done.secs:.1f} s: {done.last()}")


def metrics(case):
    """Lines of the metrics by step."""
    with open(os.path.join(case.out, "metrics.jsonl"), encoding="utf-8") as file:
        return {line["step"]: line for line in map(json.loads, file)}


def no_numbers(table, args):
    """A loss or gradient that is no number changes nothing; five in a row end the run."""
    text = pipeline(30, 1).replace("[run]", "[run]\ncheckpoints_kept = 100")
    for place, value in (("train::loss", "nan"), ("train::loss", "inf"), ("train::grad", "nan"), ("train::grad", "inf")):
        with tempfile.TemporaryDirectory() as folder:
            case = Case(args.binary, folder, text)
            done = case.run("--quiet", failpoints=f"{place}=10*off->1*return({value})->off")
            weights = [case.checksums(step) for step in (10, 11, 12)] if done.code == 0 else [{}] * 3
            names = [n for n in weights[0] if n.startswith("train/") and not n.startswith("train/bank.") and n != "train/train.json"]
            changed = [name for name in names if weights[0][name] != weights[1][name]]
            miss = "" if done.code == 0 and names else f"exit {done.code}: {done.last()}"
            miss = miss or (f"step 10 changed {changed}" if changed else "")
            if not miss:
                lines = metrics(case)
                if (lines[9]["skipped"], lines[10]["skipped"], lines[29]["skipped"]) != (0, 1, 1):
                    miss = "the step is not counted as skipped, or more are"
                elif weights[1]["train/query.safetensors"] == weights[2]["train/query.safetensors"]:
                    miss = "nothing was learnt in the next step"
            table.note(f"{place} is {value} once", miss or case.verify(), "weights unchanged, counted, went on")
    for place, value in (("train::loss", "nan"), ("train::grad", "inf")):
        with tempfile.TemporaryDirectory() as folder:
            case = Case(args.binary, folder, text)
            done = case.run("--quiet", failpoints=f"{place}=10*off->return({value})")
            miss = "" if done.code == 1 and "5 steps in a row" in done.last() else f"exit {done.code}: {done.last()}"
            miss = miss or ("" if case.newest() == 14 else f"newest checkpoint {case.newest()}, expected 14")
            if not miss and case.checksums(10)["train/query.safetensors"] != case.checksums(14)["train/query.safetensors"]:
                miss = "weights changed"
            table.note(f"{place} is {value} from then on", miss or case.verify(), done.last())
    with tempfile.TemporaryDirectory() as folder:
        case = Case(args.binary, folder, text)
        done = case.run("--quiet", failpoints="bank::apply=40*off->1*return(nan)->off")
        miss = "" if done.code == 1 and "5 steps in a row" in done.last() else f"exit {done.code}: {done.last()}"
        wrong = case.verify()
        miss = miss or ("" if "squared length NaN" in wrong else f"`bank verify` does not name the row: {wrong}")
        table.note("bank::apply is nan once", miss, "run ended by itself, `bank verify` names the row")


def second_run(table, args, text, expected, books):
    """Two runs in one folder: the second is refused, the first does not notice."""
    with tempfile.TemporaryDirectory() as folder:
        case = Case(args.binary, folder, text)
        first = case.start("--quiet", failpoints="train::step=60*off->1*sleep(4000)->off")
        until(lambda: case.newest() >= 6, first)
        for option in ("--resume", "--overwrite"):
            since = time.monotonic()
            command = [args.binary, "run", case.toml, "--out", case.out, option]
            child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            done = case.wait(child, since)
            miss = "" if done.code == 74 and done.secs <= 2 and "run.lock" in done.last() else (
                f"exit {done.code} after {done.secs:.1f} s: {done.last()}")
            if first.poll() is not None:
                miss = miss or "the first was over by then, nothing was shown"
            table.note(f"second run with {option}", miss, f"74 after {done.secs:.2f} s: {done.last()}")
        done = case.wait(first, time.monotonic())
        miss = "" if done.code == 0 and results(done.out) == expected else f"exit {done.code}: {done.err}"
        table.note("the first run beside it", miss or differs(case.books(), books), "came to the same end")


def main():
    # Below `nohup` a hang-up is ignored, and so it would be in every run that is started here.
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    args = arguments(__doc__, count=200, seed=1)
    needs_failpoints(args.binary)
    table = Table()
    text = pipeline(STEPS, EVERY)
    expected, books = undisturbed(args.binary, text)
    panics(table, args, text, expected, books)
    no_numbers(table, args)
    two_signals(table, args, text)
    no_hang_up(table, args, text, expected, books)
    closed_ends(table, args, text, books)
    clock(table, args, text, expected, books)
    second_run(table, args, text, expected, books)
    random_signals(table, args, text, expected, books)
    return table.end()


if __name__ == "__main__":
    sys.exit(main())
