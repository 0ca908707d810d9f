#!/usr/bin/env python3
"""Runs reelflow on every file of a corpus of bad inputs, one by one, and compares with the corpus' manifest.

    tests/faults/bad_inputs.py --make SCRIPT [--binary target/release/reelflow] [--only TEXT] [--trace]
    tests/faults/bad_inputs.py --corpus FOLDER ...

SCRIPT OUT_DIR fills a folder and writes OUT_DIR/manifest.tsv with the columns file, kind, expected (`ok`, `skip`,
`error`), frames (`50`, `40+`, `-`) and note. Each file is run alone, and again beside a good one where it gives nothing
or is refused. Checked are: exit code, decoded frames, that inputs add up and each that is not whole is named with a
reason, no signal, no panic, no time-out, seconds and memory, that the corpus is as it was and no file lies outside
the run's folder. With --trace, strace has a look at playlists, archives and odd names: no connection, nothing written
outside the run's folder, nothing read but the input and what belongs to the system. Run as root, it drops root's
capabilities first. Prints a table and a last line of counts; the exit code is 0 if every row is as stated.
"""

import argparse
import codecs
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time

PIPELINE = """
version = 1
[run]
workers = 1
[sources.input]
type = "files"
paths = [PATHS]
# Each frame is a segment of its own, so that every frame is counted by itself.
segment_secs = 0.003
[operators.frames]
type = "sweep"
inputs = ["input"]
clips = 1
frames = 1
[operators.views]
type = "augment"
inputs = ["frames"]
steps = [{ op = "resize", width = 16, height = 16 }]
[operators.batch]
type = "batch"
inputs = ["views"]
size = 16
[sinks.digest]
type = "digest"
inputs = ["batch"]
"""

TRAINING = """
version = 1
[run]
steps = 1
workers = 1
threads = 1
device = "cpu"
[sources.patterns]
type = "pattern"
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
size = 2
[banks.keys]
type = "queue"
rows = 8
dim = 16
[sinks.train]
type = "train"
inputs = ["batch"]
encoder = { name = "r3d", width = 4WEIGHTS }
pretext = { type = "vtdl", bank = "keys", dim = 16 }
"""

REASONS = {
    "not_regular", "unreadable", "empty", "not_media", "no_video", "no_decoder", "encrypted", "too_short", "no_frames",
    "corrupt", "stalled", "limit", "unsafe_reference", "vanished", "duplicate",
}
SECS_MAX = 15
MIB_MAX = 512
WEIGHTS_MIB_MAX = 64
CALLS = "network,open,openat,creat,rename,renameat,renameat2,unlink,unlinkat,mkdir,mkdirat,symlink,symlinkat,link,linkat"
SYSTEM = ("/usr/", "/lib", "/etc/ld", "/etc/locale", "/etc/local", "/etc/passwd", "/etc/nsswitch", "/proc/", "/sys/", "/dev",
          "/etc/gnutls", "/etc/ssl", "/etc/OpenCL", "/etc/drirc", "/etc/vdpau", "/etc/pulse", "/etc/alsa", "/etc/machine-id")
# Shared libraries that the program is linked with may lie elsewhere: libtorch, and what its wheel brings beside it.
SYSTEM += tuple(
    os.path.join(os.path.abspath(os.path.join(folder, "..", *up)), "") for folder in
    filter(None, os.environ.get("LD_LIBRARY_PATH", "").split(":")) for up in ((), ("..", "nvidia"))
)


class Run:
    """What one call of the program did."""

    def __init__(self, code, out, err, secs, mib, trace):
        self.code, self.out, self.err, self.secs, self.mib, self.trace = code, out, err, secs, mib, trace


class Bench:
    """A temporary place to run the program in."""

    def __init__(self, binary, place):
        self.binary, self.place = os.path.abspath(binary), place
        self.number = 0
        self.env = dict(os.environ, HOME=os.path.join(place, "home"), GST_REGISTRY=os.path.join(place, "registry.bin"))
        os.makedirs(self.env["HOME"], exist_ok=True)
        self.drop = []
        if os.geteuid() == 0:
            self.drop = ["setpriv", "--no-new-privs", "--bounding-set=-all", "--inh-caps=-all"]

    def call(self, *arguments, trace=False):
        """Runs the program in a folder of its own; `out` is the folder of the run."""
        self.number += 1
        folder = os.path.join(self.place, "runs", str(self.number))
        os.makedirs(folder)
        log = os.path.join(self.place, "trace")
        tracer = ["strace", "-f", "-qq", "-s", "300", "-e", "trace=" + CALLS, "-o", log] if trace else []
        begun = time.monotonic()
        limit = SECS_MAX * (6 if trace else 2)
        with open(os.path.join(self.place, "out"), "w+b") as out, open(os.path.join(self.place, "err"), "w+b") as err:
            command = [*self.drop, *tracer, self.binary, *arguments]
            child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=err, env=self.env, cwd=folder)
            code = None
            while code is None and time.monotonic() - begun < limit:
                pid, status, usage = os.wait4(child.pid, os.WNOHANG)
                code = os.waitstatus_to_exitcode(status) if pid else None
                time.sleep(0.005)
            if code is None:
                child.kill()
                _, _, usage = os.wait4(child.pid, 0)
                code = "time-out"
            child.returncode = 0
            secs = time.monotonic() - begun
            for file in (out, err):
                file.seek(0)
            text, errors = (file.read().decode("utf-8", "replace") for file in (out, err))
        done = Run(code, text, errors, secs, usage.ru_maxrss / 1024, log if trace else None)
        done.folder = folder
        return done

    def run(self, paths, trace=False, text=PIPELINE):
        """Runs the pipeline on `paths`; adds the summary and the quarantine list to what `call` tells."""
        toml = os.path.join(self.place, "p.toml")
        with open(toml, "w", encoding="utf-8") as file:
            file.write(text.replace("PATHS", ", ".join(paths)))
        done = self.call("run", toml, "--out", "out", "--summary", "json", trace=trace)
        lines = [line for line in done.out.splitlines() if line.startswith("{\"")]
        done.summary = json.loads(lines[0]) if lines else None
        quarantine = os.path.join(done.folder, "out", "quarantine.jsonl")
        done.skips = [json.loads(line) for line in open(quarantine, encoding="utf-8")] if os.path.exists(quarantine) else []
        done.strays = [name for name in os.listdir(done.folder) if name != "out"]
        shutil.rmtree(done.folder, ignore_errors=True)
        return done


def plain(name):
    """A name of the manifest as bytes."""
    return re.sub(rb"%([0-9A-F]{2})", lambda hit: bytes([int(hit[1], 16)]), name.encode())


def quoted(path):
    """A path (bytes) as a TOML string; one that is not UTF-8 as a pattern that only it fits."""
    try:
        return json.dumps(path.decode(), ensure_ascii=False).replace("\x7f", "\\u007f")
    except UnicodeDecodeError:
        return json.dumps(re.sub(rb"[\x80-\xff]+", b"*", path).decode())


def snapshot(folder):
    """Names, sizes and times of everything below a folder."""
    found = {}
    for at, folders, files in os.walk(os.fsencode(folder)):
        for name in folders + files:
            path = os.path.join(at, name)
            about = os.lstat(path)
            found[path] = (about.st_size, about.st_mtime_ns, about.st_mode)
    return found


def suits(count, stated):
    """Whether a number of frames is as stated."""
    return count >= int(stated[:-1]) if stated.endswith("+") else count == int(stated)


def ends(done, idle, most):
    """What is wrong with how a run ended."""
    wrong = []
    if not isinstance(done.code, int) or done.code < 0 or done.code >= 128:
        wrong.append(f"ended by {done.code}")
    if done.code == 101 or "panicked" in done.err:
        wrong.append("panic")
    if done.secs > SECS_MAX and not done.trace:
        wrong.append(f"{done.secs:.0f} s")
    if done.mib > idle + most and not done.trace:
        wrong.append(f"{done.mib:.0f} MiB, idle is {idle:.0f}")
    if getattr(done, "strays", []):
        wrong.append(f"left {done.strays} behind")
    return wrong


def counts(done):
    """Whether everything that was seen is accounted for, and named."""
    wrong = []
    if done.summary is not None:
        seen = done.summary["counters"]
        skipped = sum(seen["inputs_skipped"].values())
        if seen["inputs_seen"] != seen["inputs_ok"] + seen["inputs_partial"] + skipped or not done.summary["reconciled"]:
            wrong.append(f"inputs do not add up: {seen}")
        if len({skip["file"] for skip in done.skips}) < skipped + seen["inputs_partial"]:
            wrong.append("an input was left out without a line in quarantine.jsonl")
    for skip in done.skips:
        if skip["reason"] not in REASONS or not skip["stage"] or not skip["file"]:
            wrong.append(f"a line of quarantine.jsonl: {skip}")
    warnings = [line for line in done.err.splitlines() if "warning: " in line]
    named = {line.split(": ")[2] for line in warnings if line.count(": ") > 2}
    if len(warnings) > len(named):
        wrong.append("more than one warning of an input")
    return wrong


def traced(done, allowed):
    """What strace saw that should not be."""
    wrong = set()
    root = os.path.dirname(os.path.dirname(done.folder))
    for line in open(done.trace, encoding="utf-8", errors="replace"):
        call = re.match(r"\d+ +(\w+)\((.*)", line)
        if not call:
            continue
        name, rest = call[1], call[2]
        if name in ("connect", "sendto", "sendmsg", "bind", "listen") and "AF_UNIX" not in rest and "AF_NETLINK" not in rest:
            wrong.add(f"{name}({rest[:80]}")
        elif name == "socket" and re.match(r"AF_INET|AF_PACKET", rest):
            wrong.add(f"{name}({rest[:80]}")
        path = re.search(r'"((?:[^"\\]|\\.)*)"', rest)
        if not path or name in ("connect", "bind", "sendto", "sendmsg", "recvfrom"):
            continue
        where = path[1]
        is_writing = name not in ("open", "openat") or re.search(r"O_WRONLY|O_RDWR|O_CREAT|O_TRUNC", rest)
        # As strace writes it: `\\n`, octal for what is no ASCII.
        where = os.fsdecode(codecs.escape_decode(where.encode())[0])
        is_ours = not where.startswith("/") or where.startswith(done.folder)
        if is_writing and not is_ours and where not in ("/dev/null", "/dev/shm"):
            wrong.add(f"{name} writes {where}")
        # A folder is looked at where a name can only be given by a pattern; that reads no file.
        if not is_writing and not is_ours and "ENOENT" not in rest and not os.path.isdir(where):
            if not os.path.normpath(where).startswith(SYSTEM) and not where.startswith(root) and not any(where.startswith(one) for one in allowed):
                wrong.add(f"{name} reads {where}")
            elif where.startswith(root) and os.path.relpath(where, root).startswith("corpus") and not any(where.startswith(one) for one in allowed):
                wrong.add(f"{name} reads {where}")
    return sorted(wrong)


def judge(bench, corpus, row, idle, trace):
    """Runs one row. What came of it in words, and what is wrong with that."""
    name, kind, expected, stated = row[:4]
    path = os.path.join(os.fsencode(corpus), plain(name))
    good = quoted(os.path.join(os.fsencode(corpus), b"control/h264.mp4"))
    done = bench.run([quoted(path)])
    wrong = ends(done, idle, MIB_MAX) + counts(done)
    seen = done.summary["counters"] if done.summary else None
    frames = seen["frames_decoded"] if seen else 0
    if expected == "ok":
        if done.code != 0 or seen is None or seen["inputs_skipped"] or seen["inputs_partial"] or done.skips:
            wrong.append("something of it was left out")
        if not suits(frames, stated):
            wrong.append(f"{frames} frames")
    elif expected == "skip":
        if not suits(frames, stated):
            wrong.append(f"{frames} frames")
        if frames == 0 and (done.code == 0 or not done.skips):
            wrong.append("nothing came of it, and that is not told")
        if frames == 0:
            beside = bench.run([quoted(path), good])
            wrong += [f"beside a good one: {what}" for what in ends(beside, idle, MIB_MAX) + counts(beside)]
            if beside.code != 0 or beside.summary is None or beside.summary["counters"]["inputs_ok"] != 1 or not beside.skips:
                wrong.append(f"beside a good one: exit {beside.code}")
    else:
        beside = bench.run([quoted(path), good])
        wrong += ends(beside, idle, MIB_MAX)
        if done.code in (0, None) or beside.code in (0, None):
            wrong.append(f"not refused: exit {done.code}, beside a good one {beside.code}")
        if "error: " not in done.err:
            wrong.append("refused without a word")
    if trace and (kind_is_traced(name)):
        looked = bench.run([quoted(path)], trace=True)
        allowed = [os.path.dirname(bench.binary), os.environ.get("LIBTORCH", "/nowhere"), os.fsdecode(path),
                   os.path.realpath(os.fsdecode(path)), os.path.dirname(os.fsdecode(path)) + "\0"]
        wrong += [f"strace: {what}" for what in traced(looked, allowed)]
    reasons = ",".join(sorted({skip["reason"] for skip in done.skips})) or "-"
    return f"exit {done.code}, {frames} frames, {reasons}, {done.secs:.1f} s, {done.mib:.0f} MiB", wrong


def kind_is_traced(name):
    return name.startswith(("playlists/", "archives/", "fs/"))


def judge_weights(bench, corpus, row, idle):
    """Runs one row with weights: they must be refused."""
    path = os.path.join(os.fsencode(corpus), plain(row[0]))
    done = bench.run([], text=TRAINING.replace("WEIGHTS", ", weights = " + quoted(path)))
    wrong = ends(done, idle, WEIGHTS_MIB_MAX)
    if done.code in (0, None) or "error: " not in done.err:
        wrong.append(f"not refused: exit {done.code}")
    other = bench.call("bank", "verify", os.fsdecode(path))
    wrong += ends(other, idle, WEIGHTS_MIB_MAX)
    if other.code in (0, None):
        wrong.append("taken for a checkpoint")
    return f"exit {done.code}, as a checkpoint {other.code}, {done.secs:.1f} s, {done.mib:.0f} MiB", wrong


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--make", help="a script that fills a folder and writes its manifest.tsv")
    source.add_argument("--corpus", help="a folder with a manifest.tsv")
    parser.add_argument("--binary", default="target/release/reelflow")
    parser.add_argument("--only", default="", help="only rows with this text in them")
    parser.add_argument("--trace", action="store_true", help="look at some with strace")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        corpus = os.path.abspath(args.corpus) if args.corpus else os.path.join(place, "corpus")
        if args.make:
            subprocess.run([args.make, corpus], check=True)
        with open(os.path.join(corpus, "manifest.tsv"), encoding="utf-8") as file:
            rows = [line.rstrip("\n").split("\t") for line in file][1:]
        rows = [row for row in rows if args.only in "\t".join(row)]
        bench = Bench(args.binary, place)
        # The first call writes GStreamer's registry.
        bench.call("doctor")
        idle = bench.call("doctor").mib
        trains = bench.run([], text=TRAINING.replace("WEIGHTS", ""))
        has_torch = trains.code == 0
        before = snapshot(corpus)
        bad, left_out = [], 0
        for row in rows:
            if row[0].startswith("weights/"):
                if not has_torch:
                    left_out += 1
                    continue
                told, wrong = judge_weights(bench, corpus, row, trains.mib)
            else:
                told, wrong = judge(bench, corpus, row, idle, args.trace)
            print(f"{'ok ' if not wrong else 'BAD'} {row[0][:60]:<60} {row[2]:<5} {row[3]:<4} {told}", flush=True)
            for what in wrong:
                print(f"        {what}", flush=True)
            if wrong:
                bad.append(row[0])
        if snapshot(corpus) != before:
            bad.append("the corpus itself has changed")
            print("BAD the corpus is not as it was")
        outside = [name for name in os.listdir(place) if name not in ("corpus", "home", "registry.bin", "runs", "out", "err", "trace", "p.toml")]
        if outside or os.listdir(os.path.join(place, "home")):
            bad.append("files outside the run folders")
            print(f"BAD files outside the run folders: {outside}")
        told = f", {left_out} with weights left out (no libtorch in this build)" if left_out else ""
        print(f"{len(rows) - left_out} rows, {len(rows) - left_out - len(bad)} as stated, {len(bad)} not{told}; idle {idle:.0f} MiB")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
