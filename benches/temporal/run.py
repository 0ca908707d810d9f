#!/usr/bin/env python3
"""Shows whether VTDL learns time: trains the ablation steps over several seeds, evaluates each encoder and its
controls, and writes a table and a plot into benches/results/.

  benches/temporal/run.py --corpus CORPUS --seeds 0,1,2 --out runs/proof      # minutes a run; finished runs are kept
  benches/temporal/run.py --out runs/proof --only-table

CORPUS holds train/ and test/ with a folder a class and labels.csv with the columns path, split, label; a single
frame must not tell the classes apart. Runs in pairs on two cores. benches/README.md explains the rows.
"""

import argparse
import concurrent.futures
import json
import statistics
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
VTDL, SUPERVISED = "pipelines/temporal.toml", "pipelines/classify.toml"
PLAIN_STEPS = ('operators.views.steps=[{ op = "resize", short = 55 }, { op = "center_crop", size = 48 }, '
               '{ op = "normalize" }]')
FRAMES = 'sinks.train.encoder.input="frames"'
REVERSED = 'operators.windows.negative="reversed"'
NO_BA, NO_NEGATIVE, NO_TCA = PLAIN_STEPS, "sinks.train.pretext.temporal_negative=false", "operators.static_mix.alpha=0.0"
LADDER = [
    ("baseline (bank only)", [NO_BA, NO_NEGATIVE, NO_TCA]),
    ("+ basic augmentation", [NO_NEGATIVE, NO_TCA]),
    ("+ temporal negative", [NO_TCA]),
    ("+ TCA (VTDL)", []),
]
# Name, pipeline, settings.
ARMS = (
    [("frames: " + LADDER[1][0], VTDL, [FRAMES, *LADDER[1][1]]), ("frames: " + LADDER[3][0], VTDL, [FRAMES]),
     ("frames: VTDL with a reversed negative", VTDL, [FRAMES, REVERSED])]
    + [(f"differences: {name}", VTDL, sets) for name, sets in LADDER]
    + [("differences: VTDL without temporal negative", VTDL, [NO_NEGATIVE]),
       ("differences: VTDL with a reversed negative", VTDL, [REVERSED]),
       ("supervised, one frame", SUPERVISED, [FRAMES, "operators.windows.frames=1"]),
       ("supervised, frames", SUPERVISED, [FRAMES]),
       ("supervised, differences", SUPERVISED, [])]
)
# Evaluated untrained and with the controls as well.
WHOLE = {"frames: + TCA (VTDL)", "differences: + TCA (VTDL)"}
ORDERS = ["forward", "middle_frame", "shuffled"]
# Averaged for each video.
CLIPS = 3


def slug(name):
    return "".join(c if c.isalnum() else "-" for c in name).strip("-")


def call(args, command, log):
    with open(log, "a", encoding="utf-8") as errors:
        done = subprocess.run([args.reelflow, *command], cwd=ROOT, stdout=subprocess.PIPE, stderr=errors, text=True,
                              check=False)
    if done.returncode:
        raise RuntimeError(f"reelflow {' '.join(command)} ended with {done.returncode}; see {log}")
    return done.stdout


def one(args, name, pipeline, sets, seed):
    """Trains and evaluates one arm with one seed; nothing is done twice."""
    folder = Path(args.out) / f"{slug(name)}-{seed}"
    result = folder.with_suffix(".json")
    if result.is_file():
        return json.loads(result.read_text(encoding="utf-8"))
    corpus = Path(args.corpus).resolve()
    command = ["run", pipeline, "--out", str(folder), "--resume", "--quiet", "--workers", "1"]
    for setting in [f'sources.corpus.paths=["{corpus}/train"]', f"run.seed={seed}", f"run.steps={args.steps}",
                    f"run.checkpoint_every={args.steps}", *sets]:
        command += ["--set", setting]
    log = folder.with_suffix(".log")
    call(args, command, log)
    more = ["--untrained", "--order", ",".join(ORDERS)] if name in WHOLE else []
    text = call(args, ["eval", str(folder), "--data", str(corpus / "labels.csv"), "--protocol", "split",
                       "--clips", str(CLIPS), "--format", "json", *more], log)
    result.write_text(text, encoding="utf-8")
    print(f"{name}, seed {seed}: done", file=sys.stderr, flush=True)
    return json.loads(text)


def everything(args):
    Path(args.out).mkdir(parents=True, exist_ok=True)
    seeds = [int(seed) for seed in args.seeds.split(",")]
    arms = [arm for arm in ARMS if args.only in arm[0]]
    jobs = [(name, pipeline, sets, seed) for seed in seeds for name, pipeline, sets in arms]
    jobs.sort(key=lambda job: job[0] not in WHOLE)
    with concurrent.futures.ThreadPoolExecutor(args.jobs) as pool:
        for future in [pool.submit(one, args, *job) for job in jobs]:
            future.result()


def finished(args):
    """Arm to seed to report, of what is there."""
    found = {}
    for name, _, _ in ARMS:
        for path in sorted(Path(args.out).glob(f"{slug(name)}-*.json")):
            seed = path.stem[len(slug(name)) + 1:]
            if seed.isdigit():
                found.setdefault(name, {})[int(seed)] = json.loads(path.read_text(encoding="utf-8"))
    return found


def values(report, trained, order):
    """kNN and probe accuracy in percent; None where there is none."""
    for entry in report_entries(report):
        if entry["trained"] == trained and entry["order"] == order:
            return [100 * entry["knn"], 100 * entry["probe"]]
    return None


def report_entries(report):
    """The reports of a call, flat."""
    for entry in report.values():
        yield {"trained": entry["encoder"] != "untrained", "order": entry["order"],
               "knn": entry["accuracy"], "probe": entry["probe"]["accuracy"]}


def mean_and_spread(numbers):
    """Mean and standard deviation; of one number, which has no spread, that is `None`."""
    return statistics.fmean(numbers), statistics.stdev(numbers) if len(numbers) > 1 else None


def shown(cell):
    """A mean and its spread as text."""
    mean, spread = cell
    return f"{mean:.1f}" if spread is None else f"{mean:.1f} ± {spread:.1f}"


def cells(found, name, trained):
    """For each order and measure: mean and spread over the seeds."""
    row = []
    for order in ORDERS:
        got = [values(report, trained, order) for report in found[name].values()]
        got = [pair for pair in got if pair]
        for measure in (0, 1):
            row.append(mean_and_spread([pair[measure] for pair in got]) if got else None)
    return row


def rows(found):
    """Name of the encoder and its cells, untrained ones first."""
    table = []
    for label, name in [("untrained, frames", "frames: + TCA (VTDL)"),
                        ("untrained, differences", "differences: + TCA (VTDL)")]:
        if name in found:
            table.append((label, len(found[name]), cells(found, name, False)))
    return table + [(name, len(found[name]), cells(found, name, True)) for name, _, _ in ARMS if name in found]


def markdown(table, args):
    lines = [
        "# Does it learn time?",
        "",
        f"`benches/temporal/run.py`, {args.steps} steps a run, batch 16, clips of 16 frames of 48x48 (every second), "
        "`r3d` of width 16 on one CPU thread: `pipelines/temporal.toml` with the settings of each row. "
        "16 classes, guessing 6.2 %; a single frame tells nothing, \"how much changes\" gives up to 18 %, direction and "
        "order are needed above 40 %. Mean ± standard deviation over seeds, in percent. "
        "`middle`: the clip's middle frame repeated; `shuffled`: the frames in random order.",
        "",
        "| encoder | seeds | kNN | probe | kNN, middle | probe, middle | kNN, shuffled | probe, shuffled |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for name, seeds, row in table:
        lines.append(f"| {name} | {seeds} | " + " | ".join(shown(cell) if cell else "" for cell in row) + " |")
    return "\n".join(lines) + "\n"


def svg(table):
    """Bars of kNN and probe with the controls as marks."""
    height, left, scale = 34, 330, 6
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{left + 110 * scale}" height="{height * len(table) + 70}" '
           'font-family="sans-serif" font-size="13">', '<rect width="100%" height="100%" fill="white"/>']
    for tick in range(0, 101, 20):
        x = left + tick * scale
        out.append(f'<line x1="{x}" y1="10" x2="{x}" y2="{height * len(table) + 14}" stroke="#ddd"/>'
                   f'<text x="{x}" y="{height * len(table) + 30}" text-anchor="middle">{tick} %</text>')
    for i, (name, _, row) in enumerate(table):
        y = 14 + i * height
        out.append(f'<text x="{left - 8}" y="{y + 19}" text-anchor="end">{name.replace("&", "&amp;")}</text>')
        for j, (colour, cell) in enumerate([("#4477aa", row[0]), ("#ee8833", row[1])]):
            if cell:
                top, middle = y + 3 + j * 12, y + 8 + j * 12
                low, high = (left + max(0, cell[0] + side * (cell[1] or 0)) * scale for side in (-1, 1))
                out.append(f'<rect x="{left}" y="{top}" width="{cell[0] * scale:.1f}" height="11" fill="{colour}"/>'
                           f'<line x1="{low:.1f}" y1="{middle}" x2="{high:.1f}" y2="{middle}" stroke="black"/>')
        for cell, mark in [(row[4], "#4477aa"), (row[5], "#ee8833")]:
            if cell:
                out.append(f'<circle cx="{left + cell[0] * scale:.1f}" cy="{y + 14}" r="4" fill="white" stroke="{mark}" '
                           'stroke-width="2"/>')
    base = height * len(table) + 52
    out.append(f'<line x1="{left + 6.25 * scale}" y1="10" x2="{left + 6.25 * scale}" y2="{height * len(table) + 14}" '
               'stroke="black" stroke-dasharray="4 3"/>')
    out.append(f'<text x="10" y="{base}">blue: kNN, orange: linear probe, circles: the same with shuffled frames, '
               'dashed: guessing; lines: one standard deviation over seeds</text></svg>')
    return "\n".join(out) + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", help="folder with train/, test/ and labels.csv")
    parser.add_argument("--out", default="runs/temporal-proof", help="folder of the runs")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--only", default="", metavar="TEXT", help="train only rows whose name contains this")
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--jobs", type=int, default=2, help="runs side by side, a thread each")
    parser.add_argument("--reelflow", default="reelflow")
    parser.add_argument("--results", default=str(ROOT / "benches" / "results"))
    parser.add_argument("--only-table", action="store_true", help="from the runs that are there")
    args = parser.parse_args()
    if not args.only_table:
        if not args.corpus:
            parser.error("--corpus is needed to train")
        everything(args)
    table = rows(finished(args))
    if not table:
        sys.exit(f"no finished runs in {args.out}")
    results = Path(args.results)
    results.mkdir(parents=True, exist_ok=True)
    (results / "temporal.md").write_text(markdown(table, args), encoding="utf-8")
    (results / "temporal.svg").write_text(svg(table), encoding="utf-8")
    print(markdown(table, args))


if __name__ == "__main__":
    main()
