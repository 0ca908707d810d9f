#!/usr/bin/env python3
"""Times reelflow's training job beside Python loaders on the same files, in one interleaved run, and compares them.

The loaders are run by peer_bench.py, which is not part of this project; say where it lies with --peer-bench or
PEER_BENCH. Every loader gets the same windows, boxes, flips and jitter. benches/README.md says how to set it up.

  PEER_BENCH=…/peer_bench.py benches/peers/run.py --corpus CORPUS/s240_g250 --cores 1,2 --rounds 5 --out rows.jsonl
  benches/peers/run.py --rows rows.jsonl           # the tables again, from rows that are there
"""

import argparse
import json
import os
import shlex
import statistics
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
OURS = "reelflow"
CEILING = "reelflow decode only"
IDIOMATIC = "torchcodec-tv"
# These do another job (stored frames, bytes instead of floats): shown, but not what reelflow is compared with.
OTHER_JOB = {"jpeg-store", "torchcodec-u8"}
TUNED = ["torchcodec", "decord", "decord2", "pyav-tuned", "opencv", "spdl", "video-reader-rs", IDIOMATIC]


def command(binary, pipeline, extra=""):
    """The external command for peer_bench.py, which fills in {corpus}, {plan} and {cores}."""
    args = [
        shlex.quote(str(binary)), "bench", shlex.quote(str(pipeline)), "--quiet", "--format=json", "--warmup=2",
        "--workers={cores}", "--set=operators.clips.plan={plan}",
        shlex.quote('--set=sources.videos.paths=["{corpus}"]'),
        extra,
    ]
    return " ".join(args).strip()


def measure(args):
    peers = args.peers.split(",") if args.peers else TUNED
    base = [args.python, args.peer_bench, "run", "--corpus", str(Path(args.corpus).resolve()), "--jobs", "train"]
    base += ["--cores", args.cores, "--rounds", str(args.rounds), "--wait-quiet", str(args.wait_quiet)]
    base += ["--seed", str(args.seed), "--peers", ",".join(peers)]
    base += ["--external", f"{OURS}={command(args.reelflow, args.pipeline)}"]
    base += ["--external", f"{CEILING}={command(args.reelflow, args.pipeline, '--decode-only')}"]
    rows = []
    with subprocess.Popen(base, stdout=subprocess.PIPE, text=True) as process:
        for line in process.stdout:
            print(line, end="", file=sys.stderr, flush=True)
            if line.startswith("{"):
                rows.append(json.loads(line))
                if args.out and not rows[-1].get("summary"):
                    with open(args.out, "a", encoding="utf-8") as out:
                        out.write(line)
    if process.returncode:
        sys.exit(f"peer_bench.py ended with {process.returncode}")
    return rows


def medians(rows):
    """Medians over the rounds of every (corpus, cores, loader) that worked, and the errors of the others."""
    groups, errors = {}, {}
    for row in rows:
        if row.get("summary") or row.get("job") != "train":
            continue
        key = row["corpus"], row["cores"], row["peer"]
        if "error" in row:
            errors[key] = row["error"]
        else:
            groups.setdefault(key, []).append(row)

    def median(rows, name):
        return statistics.median(row[name] for row in rows)

    found = {}
    for key, ok in groups.items():
        rates = [row["clips_per_s"] for row in ok]
        busy = [row.get("other_cpu_s", 0.0) / row["wall_s"] for row in ok]
        found[key] = {
            "rounds": len(ok), "rate": statistics.median(rates), "low": min(rates), "high": max(rates),
            "cpu": median(ok, "cpu_ms_per_clip"), "memory": median(ok, "peak_mb"), "others": statistics.median(busy),
        }
    return found, errors


def ratio_lines(found, corpus, cores):
    """Ours against the best tuned loader, against what the documents teach, and against the ceiling."""
    ours = found.get((corpus, cores, OURS))
    if not ours:
        return ["no row of reelflow: nothing to compare"]
    peers = {name: row for (c, n, name), row in found.items() if (c, n) == (corpus, cores)}
    ceiling = peers.pop(CEILING, None)
    peers = {name: row for name, row in peers.items() if name != OURS and name not in OTHER_JOB}
    lines = []
    if peers:
        best = max(peers, key=lambda name: peers[name]["rate"])
        least = min(peers, key=lambda name: peers[name]["cpu"])
        lines.append(f"- clips/s against the best tuned loader ({best}): {ours['rate'] / peers[best]['rate']:.2f}")
        lines.append(f"- processor time a clip against it: {ours['cpu'] / peers[best]['cpu']:.2f};"
                     f" against the least ({least}): {ours['cpu'] / peers[least]['cpu']:.2f}")
    if IDIOMATIC in peers:
        lines.append(f"- clips/s against torchcodec + torchvision: {ours['rate'] / peers[IDIOMATIC]['rate']:.2f}")
    if ceiling:
        lines.append(f"- share of the ceiling, decoding the same frames only: {ours['rate'] / ceiling['rate']:.2f}")
    return lines


def tables(rows):
    found, errors = medians(rows)
    lines = []
    for corpus, cores in sorted({key[:2] for key in found}):
        lines += ["", f"### {corpus}, {cores} core{'s' if cores > 1 else ''}", ""]
        lines += ["| loader | clips/s (least to most) | CPU ms/clip | peak MB | rounds | cores others took |"]
        lines += ["| --- | --- | --- | --- | --- | --- |"]
        here = {name: row for (c, n, name), row in found.items() if (c, n) == (corpus, cores)}
        for name, row in sorted(here.items(), key=lambda item: -item[1]["rate"]):
            lines.append(f"| {name} | {row['rate']:.1f} ({row['low']:.1f} to {row['high']:.1f}) | {row['cpu']:.1f} |"
                         f" {row['memory']:.0f} | {row['rounds']} | {row['others']:.2f} |")
        lines += [""] + ratio_lines(found, corpus, cores)
        failed = [(name, text) for (c, n, name), text in sorted(errors.items()) if (c, n) == (corpus, cores)]
        lines += [f"- {name} failed: {text}" for name, text in failed]
    # Two cores against one, where both were measured.
    for corpus in sorted({key[0] for key in found}):
        one, two = found.get((corpus, 1, OURS)), found.get((corpus, 2, OURS))
        if one and two:
            lines += ["", f"{corpus}: two workers give {two['rate'] / one['rate']:.2f} times one"]
    return "\n".join(lines).strip()


def main():
    parser = argparse.ArgumentParser(formatter_class=argparse.RawDescriptionHelpFormatter, description=__doc__)
    parser.add_argument("--rows", nargs="+", help="make the tables of these rows and measure nothing")
    parser.add_argument("--corpus", help="folder of video files")
    parser.add_argument("--peer-bench", default=os.environ.get("PEER_BENCH"), help="peer_bench.py (or PEER_BENCH)")
    parser.add_argument("--python", default=os.environ.get("PEER_PYTHON", sys.executable),
                        help="Python that has the loaders (or PEER_PYTHON)")
    parser.add_argument("--reelflow", default=ROOT / "target/release/reelflow", help="the binary to measure")
    parser.add_argument("--pipeline", default=ROOT / "pipelines/bench-train.toml")
    parser.add_argument("--peers", help="comma list; default: every tuned loader and torchcodec + torchvision")
    parser.add_argument("--cores", default="1,2")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0, help="of the plan")
    parser.add_argument("--wait-quiet", type=float, default=60, help="seconds to wait for idle cores before each row")
    parser.add_argument("--out", help="append the rows here")
    args = parser.parse_args()
    if args.rows:
        rows = [json.loads(line) for name in args.rows for line in open(name, encoding="utf-8") if line.startswith("{")]
    else:
        if not args.corpus or not args.peer_bench:
            parser.error("say where the videos are with --corpus, and where peer_bench.py is with --peer-bench")
        rows = measure(args)
    print(tables(rows))


if __name__ == "__main__":
    main()
