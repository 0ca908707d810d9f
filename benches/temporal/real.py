#!/usr/bin/env python3
"""Shows whether VTDL learns time on real footage: trains on unlabelled recordings, then asks a frozen encoder for
the classes of short labelled spans of them, beside the untrained encoder and the controls.

  benches/temporal/real.py --videos FOLDER --list SPANS.tsv --classes falling,standup,sitdown --seeds 0,1,2

SPANS.tsv has the columns path (or video), label, and a time range in seconds. Whoever answers for a span has seen no
labels of its recording (leave one recording out). Writes real.md into benches/results/.
"""

import argparse
import concurrent.futures
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
from run import ORDERS, ROOT, VTDL, call, mean_and_spread, shown  # noqa: E402


def one(args, seed):
    """Trains and evaluates with one seed; nothing is done twice."""
    folder = Path(args.out) / f"real-{seed}"
    result = folder.with_suffix(".json")
    if not result.is_file():
        command = ["run", VTDL, "--out", str(folder), "--resume", "--quiet", "--workers", "1"]
        for setting in [f'sources.corpus.paths=["{Path(args.videos).resolve()}"]', 'sources.corpus.labels="none"',
                        f"sources.corpus.segment_secs={args.segment_secs}", f"operators.windows.stride={args.stride}",
                        f"run.seed={seed}", f"run.steps={args.steps}", f"run.checkpoint_every={args.steps}"]:
            command += ["--set", setting]
        log = folder.with_suffix(".log")
        call(args, command, log)
        evaluation = ["eval", str(folder), "--data", args.list, "--root", args.videos, "--classes", args.classes,
                      "--protocol", "leave_one_out", "--clips", str(args.clips), "--centre", "--k", str(args.k),
                      "--untrained", "--order", ",".join(ORDERS), "--format", "json"]
        result.write_text(call(args, evaluation, log), encoding="utf-8")
    return json.loads(result.read_text(encoding="utf-8"))


def markdown(args, reports):
    rows = {}
    for report in reports:
        for entry in report.values():
            trained = "untrained" if entry["encoder"] == "untrained" else "trained"
            pair = 100 * entry["balanced_accuracy"], 100 * entry["probe"]["balanced_accuracy"]
            rows.setdefault((trained, entry["order"]), []).append(pair)
    any_entry = next(iter(reports[0].values()))
    lines = [
        "# Does it learn time on real footage?",
        "",
        f"`benches/temporal/real.py`: `{VTDL}`, {args.steps} steps, clips of 16 frames (every {args.stride}.), segments "
        f"of {args.segment_secs} s, no labels; then frozen features of {any_entry['queries']} spans of "
        f"{args.classes.replace(',', ', ')}, what answers for a span is of other recordings: {args.k} "
        "neighbours after subtracting the mean, and a linear probe. Balanced accuracy "
        f"in percent (guessing {100 * any_entry['chance']:.1f}), mean ± standard deviation over {len(reports)} seeds.",
        "",
        "| encoder | frames | kNN | probe |",
        "| --- | --- | --- | --- |",
    ]
    for (trained, order), pairs in sorted(rows.items()):
        knn, probe = (mean_and_spread([pair[i] for pair in pairs]) for i in (0, 1))
        lines.append(f"| {trained} | {order} | {shown(knn)} | {shown(probe)} |")
    return "\n".join(lines) + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--videos", required=True, help="folder of the recordings")
    parser.add_argument("--list", required=True, help="labelled spans")
    parser.add_argument("--classes", required=True, help="A,B,C")
    parser.add_argument("--segment-secs", type=float, default=4.0, help="length of the unlabelled segments")
    parser.add_argument("--stride", type=int, default=3, help="frames from one picture of a clip to the next")
    parser.add_argument("--clips", type=int, default=3, help="averaged for each span")
    parser.add_argument("--k", type=int, default=5, help="neighbours that vote; small classes have no twenty")
    parser.add_argument("--out", default="runs/temporal-real", help="folder of the runs")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--jobs", type=int, default=2, help="runs side by side, a thread each")
    parser.add_argument("--reelflow", default="reelflow")
    parser.add_argument("--results", default=str(ROOT / "benches" / "results"))
    args = parser.parse_args()
    args.list, args.videos = str(Path(args.list).resolve()), str(Path(args.videos).resolve())
    Path(args.out).mkdir(parents=True, exist_ok=True)
    with concurrent.futures.ThreadPoolExecutor(args.jobs) as pool:
        reports = list(pool.map(lambda seed: one(args, seed), args.seeds.split(",")))
    text = markdown(args, reports)
    results = Path(args.results)
    results.mkdir(parents=True, exist_ok=True)
    (results / "real.md").write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
