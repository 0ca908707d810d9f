"""What the scripts of this folder share: small pipelines, runs that are watched, books that are compared."""

import argparse
import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time

HEAD = """
version = 1
[run]
steps = STEPS
workers = 1
threads = 1
device = "cpu"
checkpoint_every = EVERY
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
"""

DIGEST = """
[sinks.digest]
type = "digest"
inputs = ["batch"]
"""

TRAIN = """
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


def pipeline(steps, every, bank="queue"):
    """A pipeline over generated pictures; with a trainer and its bank, or, without a kind of bank, the digest of every
    batch alone."""
    text = HEAD.replace("STEPS", str(steps)).replace("EVERY", str(every)) + DIGEST
    return text + (TRAIN.replace("KIND", bank) if bank else "")


def arguments(doc, **more):
    """Reads the command line; `more` are options with their defaults."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", default="target/release/reelflow", help="built with --features failpoints")
    for name, default in more.items():
        parser.add_argument("--" + name.replace("_", "-"), type=type(default), default=default)
    args = parser.parse_args()
    args.binary = os.path.abspath(args.binary)
    # A crash on purpose leaves no memory image behind.
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    return args


def needs_failpoints(binary):
    """Ends the script if the binary has no failpoints."""
    with tempfile.TemporaryDirectory() as folder:
        case = Case(binary, folder, pipeline(1, 1, bank=None))
        if case.run(failpoints="scan::after=return").code != -signal.SIGABRT:
            sys.exit(f"{binary} has no failpoints: build it with `--features failpoints`")


class Done:
    """How a process ended."""

    def __init__(self, code, out, err, secs):
        self.code, self.out, self.err, self.secs = code, out, err, secs

    def last(self):
        """The last line of standard error."""
        return (self.err.strip().splitlines() or [""])[-1]


class Case:
    """A pipeline and its run folder below `folder`."""

    def __init__(self, binary, folder, text):
        self.binary, self.folder = binary, folder
        self.toml, self.out = os.path.join(folder, "p.toml"), os.path.join(folder, "run")
        with open(self.toml, "w", encoding="utf-8") as file:
            file.write(text)

    def command(self, *args):
        """The command line of a run that goes on from what is there."""
        return [self.binary, "run", self.toml, "--out", self.out, "--resume", *args]

    def start(self, *args, before=(), failpoints="", env=None, **how):
        """Starts a run; `before` stands in front of the command line."""
        variables = dict(os.environ, FAILPOINTS=failpoints, **(env or {}))
        how = dict(dict(stdout=subprocess.PIPE, stderr=subprocess.PIPE), **how)
        return subprocess.Popen([*before, *self.command(*args)], env=variables, text=True, **how)

    def run(self, *args, secs=60, **how):
        """Runs to the end; after `secs` it is killed, which is a miss wherever it happens."""
        since = time.monotonic()
        child = self.start(*args, **how)
        return self.wait(child, since, secs)

    def wait(self, child, since, secs=60):
        """Waits for a started run."""
        try:
            out, err = child.communicate(timeout=secs)
        except subprocess.TimeoutExpired:
            child.kill()
            out, err = child.communicate()
            err = (err or "") + f"\nstill there after {secs} s"
        return Done(child.returncode, out or "", err or "", time.monotonic() - since)

    def call(self, *args, secs=60):
        """Runs another command of the program."""
        since = time.monotonic()
        child = subprocess.Popen([self.binary, *args], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        return self.wait(child, since, secs)

    def verify(self):
        """What `bank verify` finds wrong; empty if nothing."""
        done = self.call("bank", "verify", self.out)
        return "" if done.code == 0 else done.out + done.err

    def checkpoints(self):
        """Steps of the checkpoints with a final name, in order."""
        try:
            names = os.listdir(os.path.join(self.out, "checkpoints"))
        except FileNotFoundError:
            return []
        return sorted(int(name[5:]) for name in names if name[5:].isdigit())

    def newest(self):
        """Step of the newest checkpoint, 0 without any."""
        return (self.checkpoints() or [0])[-1]

    def books(self):
        """(step, samples, loss) of each complete line of the metrics, in order. `samples` is a checksum of who was
        sampled: slots, attempts, segments, frames."""
        try:
            with open(os.path.join(self.out, "metrics.jsonl"), encoding="utf-8") as file:
                lines = file.read().split("\n")[:-1]
        except FileNotFoundError:
            return []
        lines = [json.loads(line) for line in lines]
        return [(line["step"], line["samples"], line.get("loss")) for line in lines]

    def manifest(self, step):
        """What the checkpoint of `step` says of itself."""
        path = os.path.join(self.out, "checkpoints", f"step={step:08}", "manifest.json")
        with open(path, encoding="utf-8") as file:
            return json.load(file)

    def checksums(self, step):
        """Checksum of each part of the checkpoint of `step`."""
        return {part["sink"] + "/" + part["name"]: part["xxh3"] for part in self.manifest(step)["parts"]}


class Table:
    """Outcomes, one a line, as they come."""

    def __init__(self):
        self.hits = self.misses = 0

    def note(self, name, miss, said=""):
        """Writes down whether `miss` is empty, and what was seen."""
        self.hits += not miss
        self.misses += bool(miss)
        print(f"{'MISS' if miss else 'ok':4}  {name:44}  {miss or said}"[:400], flush=True)

    def skip(self, name, why):
        """Writes down that something cannot be tried here."""
        print(f"SKIP  {name:44}  {why}", flush=True)

    def end(self):
        """The exit code."""
        print(f"{self.hits} as promised, {self.misses} not")
        return 1 if self.misses else 0


def differs(found, expected):
    """Where two books differ; empty if `found` is how `expected` begins."""
    for at, (one, other) in enumerate(zip(found, expected)):
        if one != other:
            return f"line {at}: {one}, without interruption {other}"
    if len(found) > len(expected):
        return f"{len(found)} steps, without interruption {len(expected)}"
    return ""


def until(what, child, secs=30):
    """Waits until `what()` is true; false if the process ends or `secs` pass before."""
    end = time.monotonic() + secs
    while time.monotonic() < end:
        if what():
            return True
        if child.poll() is not None:
            return bool(what())
        time.sleep(0.002)
    return False
