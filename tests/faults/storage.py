#!/usr/bin/env python3
"""Disks that are full, failing, slow, read-only or gone, and limits on memory and descriptors.

    tests/faults/storage.py [--binary target/release/reelflow]

Runs itself again in namespaces of its own (`unshare -Urm`) to mount small file systems; needs `strace`, and
`fiu-run` for short writes. What this machine lacks is skipped and said to be. After every fault the checkpoint before
it must be whole, and once the fault is gone the run must come to the end of an undisturbed one. Prints a table of
outcomes; the exit code is 0 if there was no miss.
"""

import glob
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time

from rig import Case, Table, arguments, differs, pipeline, until
from kill_run import results, to_the_end, undisturbed

STEPS, EVERY = 300, 5

MEDIA = """
version = 1
[run]
steps = 6
workers = 2
[sources.clips]
type = "files"
paths = ["FOLDER"]
[operators.windows]
type = "triplet"
inputs = ["clips"]
frames = 4
[operators.views]
type = "augment"
inputs = ["windows"]
steps = [{ op = "resize", width = 16, height = 16 }]
[operators.batch]
type = "batch"
inputs = ["views"]
size = 8
[sinks.digest]
type = "digest"
inputs = ["batch"]
"""


class Fault:
    """One fault: a fresh run folder, what must hold, and one line in the table."""

    def __init__(self, table, binary, name, text, expected, books):
        self.table, self.name, self.expected, self.books = table, name, expected, books
        self.folder = tempfile.TemporaryDirectory()
        self.case = Case(binary, self.folder.name, text)

    def ends_with_74(self, done, *words):
        """What is wrong with the end of a run that could not write."""
        if done.code != 74:
            return f"exit {done.code} after {done.secs:.1f} s: {done.last()}"
        lacking = [word for word in words if word not in done.last()]
        return f"{lacking} not in: {done.last()}" if lacking else ""

    def goes_on(self):
        """What is wrong after the fault is gone."""
        return self.case.verify() or differs(self.case.books(), self.books) or to_the_end(
            self.case, self.expected, self.books)

    def note(self, miss, said):
        """Writes the line and removes everything."""
        self.table.note(self.name, miss, said)
        try:
            self.folder.cleanup()
        except OSError as error:
            self.table.note(f"{self.name}: clearing up", str(error))


def mount(*args):
    """Mounts; raises if that fails."""
    subprocess.run(["mount", *args], check=True)


def full_disk(new):
    """A file system of 8 MiB that someone fills."""
    fault = new("full disk")
    case = fault.case
    os.mkdir(case.out)
    mount("-t", "tmpfs", "-o", "size=8m", "tmpfs", case.out)
    child = case.start("--quiet")
    until(lambda: case.newest() > 0, child)
    try:
        with open(os.path.join(case.out, "filler"), "wb") as filler:
            while True:
                filler.write(bytes(4096))
                filler.flush()
    except OSError:
        pass
    done = case.wait(child, time.monotonic())
    miss = fault.ends_with_74(done, "No space left on device (os error 28)", case.out)
    whole = case.verify()
    subprocess.run(["mount", "-o", "remount,size=64m", case.out], check=True)
    miss = miss or whole or fault.goes_on()
    subprocess.run(["umount", case.out], check=True)
    fault.note(miss, f"74 after {done.secs:.1f} s: {done.last()}")


def file_limit(new):
    """No file may be longer than the weights are."""
    fault = new("file size limit")
    case = fault.case
    case.run("--quiet", "--steps", "20")
    size = max(part["bytes"] for part in case.manifest(case.newest())["parts"])
    done = case.run("--quiet", before=["prlimit", f"--fsize={size - 1}"])
    miss = fault.ends_with_74(done, "File too large (os error 27)", case.out)
    miss = miss or ("" if case.newest() == 20 else f"newest checkpoint {case.newest()}, expected 20")
    fault.note(miss or fault.goes_on(), f"74: {done.last()}")


def strace(*rules, paths=()):
    """The front of a command line with these system calls failing or slow."""
    names = ",".join(rule.split(":", 1)[0] for rule in rules)
    where = [word for path in paths for word in ("-P", path)]
    return ["strace", "-f", "-qq", "-o", "/dev/null", "-e", f"trace={names}", *where,
            *(word for rule in rules for word in ("-e", f"inject={rule}"))]


def failing_calls(new):
    """A write or fsync that fails, at every place of a checkpoint and in the books."""
    parts = "checkpoints/step=00000010.new.tmp"
    for name, rule, path, word in (
        ("write to a part fails", "write:error=EIO", f"{parts}/train/query.safetensors", "Input/output error (os error 5)"),
        ("write to a bank fails", "write:error=EIO", f"{parts}/train/bank.keys.shard-001.safetensors", "Input/output error"),
        ("write to the manifest fails", "write:error=EDQUOT", f"{parts}/manifest.json", "quota exceeded"),
        ("fsync of a part fails", "fsync:error=EIO", f"{parts}/train/query.safetensors", "Input/output error (os error 5)"),
        ("fsync of a bank fails", "fsync:error=EIO", f"{parts}/train/bank.keys.shard-001.safetensors", "Input/output error"),
        ("fsync of the manifest fails", "fsync:error=EIO", f"{parts}/manifest.json", "Input/output error"),
        ("fsync of the folder fails", "fsync:error=EIO", parts, "Input/output error"),
        ("rename fails", "rename:error=EIO", parts, "Input/output error"),
        ("write to the metrics fails", "write:error=ENOSPC:when=12+", "metrics.jsonl", "No space left on device (os error 28)"),
    ):
        fault = new(name)
        case = fault.case
        path = os.path.join(case.out, path)
        done = case.run("--quiet", before=strace(rule, paths=[path]))
        miss = fault.ends_with_74(done, word, case.out)
        miss = miss or ("" if case.newest() in (5, 10) else f"newest checkpoint {case.newest()}")
        fault.note(miss or fault.goes_on(), f"74: {done.last()}")


def any_fsync(new):
    """Every fsync of a thread fails from the n-th on. Strace counts for each thread, and the one that writes a checkpoint
    has 13."""
    for number in (1, 2, 3, 5, 8, 11, 13):
        fault = new(f"fsync fails from number {number} on")
        case = fault.case
        done = case.run("--quiet", before=strace(f"fsync,fdatasync:error=EIO:when={number}+"))
        # The first is of the folder that the run's own is made in.
        miss = fault.ends_with_74(done, "Input/output error (os error 5)", case.folder)
        if not miss and os.path.exists(os.path.join(case.out, "config.resolved.toml")):
            miss = case.verify()
        miss = miss or differs(case.books(), fault.books) or to_the_end(case, fault.expected, fault.books)
        fault.note(miss, f"74: {done.last()}")


def short_writes(new, table):
    """Writes that take fewer bytes than they were given, and that fail by chance."""
    if not shutil.which("fiu-run"):
        table.skip("short writes", "`fiu-run` is not installed (Debian: fiu-utils)")
        return
    fault = new("short writes")
    rule = "enable_random name=posix/io/rw/write/reduce,probability=0.1"
    done = fault.case.run("--quiet", before=["fiu-run", "-x", "-c", rule])
    miss = "" if done.code == 0 and results(done.out) == fault.expected else f"exit {done.code}: {done.last()}"
    fault.note(miss or differs(fault.case.books(), fault.books), "invisible: the run came to the same end")
    for probability in (0.001, 0.01, 0.05):
        fault = new(f"one write of {1 / probability:.0f} fails")
        rule = f"enable_random name=posix/io/rw/write,probability={probability}"
        done = fault.case.run("--quiet", before=["fiu-run", "-x", "-c", rule])
        miss = "" if done.code == 0 else fault.ends_with_74(done, "os error")
        if not miss and os.path.exists(os.path.join(fault.case.out, "config.resolved.toml")):
            miss = fault.case.verify()
        miss = miss or differs(fault.case.books(), fault.books) or to_the_end(fault.case, fault.expected, fault.books)
        fault.note(miss, f"exit {done.code}: {done.last()}")


def slow_fsync(new):
    """Training goes on while a checkpoint is written slowly, up to the next one, and that is said."""
    fault = new("slow fsync")
    case = fault.case
    child = case.start("--steps", "15", before=strace("fsync:delay_exit=300000"))
    went_on = until(lambda: len(case.books()) >= 2 * EVERY and case.newest() == 0, child)
    done = case.wait(child, time.monotonic())
    miss = "" if went_on else "no step was made while the first checkpoint was written"
    miss = miss or ("" if done.code == 0 else f"exit {done.code}: {done.last()}")
    miss = miss or ("" if "waited" in done.err else f"the wait is not reported: {done.err}")
    said = [line for line in done.err.splitlines() if "waited" in line][:1]
    fault.note(miss or fault.goes_on(), str(said))


def read_only(new):
    """A run folder that cannot be written to is refused before anything starts."""
    fault = new("read-only run folder")
    case = fault.case
    case.run("--quiet", "--steps", "20")
    mount("--bind", case.out, case.out)
    mount("-o", "remount,bind,ro", case.out)
    done = case.run("--quiet")
    subprocess.run(["umount", case.out], check=True)
    miss = fault.ends_with_74(done, "Read-only file system (os error 30)", case.out)
    miss = miss or ("" if len(case.books()) == 20 else "something was written")
    fault.note(miss or fault.goes_on(), f"74 after {done.secs:.1f} s: {done.last()}")


def removed_folder(new):
    """Someone removes the run folder: an end in words, and the folder does not come back."""
    fault = new("run folder removed")
    case = fault.case
    child = case.start("--quiet")
    until(lambda: case.newest() > 0, child)
    while os.path.isdir(case.out):
        shutil.rmtree(case.out, ignore_errors=True)
    done = case.wait(child, time.monotonic())
    miss = fault.ends_with_74(done, "No such file or directory (os error 2)", case.out)
    miss = miss or ("the folder is there again" if os.path.exists(case.out) else "")
    fault.note(miss, f"74 after {done.secs:.1f} s: {done.last()}")


def little_memory(new, table, binary):
    """Batches that do not fit in memory end the run in words."""
    for name, before, after in (
        ("memory for a batch", "size = 4\n", "size = 65536\n"),
        ("memory for the network", "width = 4 }", "width = 512 }"),
        ("memory for a step", "size = 4\n", "size = 12000\n"),
    ):
        fault = new(name)
        case = Case(binary, fault.folder.name, pipeline(STEPS, EVERY).replace(before, after))
        done = case.run("--quiet", before=["prlimit", f"--as={4 << 30}"], secs=240)
        miss = "" if done.code == 75 and "out of memory" in done.last() else f"exit {done.code}: {done.last()}"
        fault.note(miss or (case.verify() if os.path.exists(case.out) else ""), f"75 after {done.secs:.1f} s: {done.last()}")


def descriptors(table, binary, clips):
    """Few file descriptors: the same result, or an end in words."""
    with tempfile.TemporaryDirectory() as folder:
        media = os.path.join(folder, "media")
        os.mkdir(media)
        for number in range(60):
            shutil.copy(clips[number % len(clips)], os.path.join(media, f"{number:03}-{os.path.basename(clips[number % len(clips)])}"))
        text = MEDIA.replace("FOLDER", media)
        whole = Case(binary, os.path.join(folder), text).run("--quiet")
        for limit in (64, 40, 24, 12, 6, 4):
            case = Case(binary, folder, text)
            case.out = os.path.join(folder, f"run-{limit}")
            done = case.run("--quiet", before=["prlimit", f"--nofile={limit}"])
            same = done.code == 0 and done.out == whole.out
            words = done.code in (1, 69, 74, 75) and re.search("os error|open files|descriptor", done.err)
            miss = "" if same or words or done.code == 127 else f"exit {done.code}, {done.out} {done.err}"
            table.note(f"{limit} descriptors", miss, "same batches" if same else f"{done.code}: {done.last()}")


def read_only_media(table, binary, clips):
    """Nothing is written beside the media."""
    with tempfile.TemporaryDirectory() as folder:
        media = os.path.join(folder, "media")
        os.mkdir(media)
        for clip in clips:
            shutil.copy(clip, media)
        case = Case(binary, folder, MEDIA.replace("FOLDER", media))
        before = case.run("--quiet")
        mount("--bind", media, media)
        mount("-o", "remount,bind,ro", media)
        case.out = os.path.join(folder, "again")
        done = case.run("--quiet")
        subprocess.run(["umount", media], check=True)
        miss = "" if done.code == before.code == 0 and done.out == before.out else f"exit {done.code}: {done.err}"
        miss = miss or ("" if sorted(os.listdir(media)) == sorted(map(os.path.basename, clips)) else "files beside them")
        table.note("read-only media", miss, "same batches, nothing beside them")


def main():
    args = arguments(__doc__)
    if not os.environ.get("REELFLOW_FAULTS_INSIDE"):
        inside = dict(os.environ, REELFLOW_FAULTS_INSIDE="1")
        os.execvpe("unshare", ["unshare", "-Urm", sys.executable, os.path.abspath(__file__), "--binary", args.binary], inside)
    table = Table()
    text = pipeline(STEPS, EVERY)
    expected, books = undisturbed(args.binary, text)
    new = lambda name: Fault(table, args.binary, name, text, expected, books)
    full_disk(new)
    file_limit(new)
    read_only(new)
    removed_folder(new)
    if shutil.which("strace"):
        failing_calls(new)
        any_fsync(new)
        slow_fsync(new)
    else:
        table.skip("failing and slow calls", "`strace` is not installed")
    short_writes(new, table)
    little_memory(new, table, args.binary)
    clips = sorted(glob.glob(os.path.join(os.path.dirname(os.path.abspath(__file__)), "../data/*.mp4")))
    with tempfile.TemporaryDirectory() as folder:
        check = Case(args.binary, folder, MEDIA.replace("FOLDER", folder)).call("inspect", "files")
    if "gst" in check.err or check.code != 0:
        table.skip("media", "built without GStreamer")
    else:
        descriptors(table, args.binary, clips)
        read_only_media(table, args.binary, clips)
    return table.end()


if __name__ == "__main__":
    sys.exit(main())
