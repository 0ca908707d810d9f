#!/usr/bin/env bash
# Builds the program with its failpoints and runs every fault it must survive: minutes. KILLS, SIGNALS: how many.
set -uo pipefail
# shellcheck source=scripts/env.sh
source "$(dirname "${BASH_SOURCE[0]}")/env.sh"

cargo build --release --features failpoints || exit 1
# The next build without failpoints must not take it away while it is in use.
mkdir -p "$target/faults"
cp "$target/release/reelflow" "$target/faults/reelflow"
binary=$target/faults/reelflow
failed=()
step() {
    say "faults: $*"
    python3 "$@" || failed+=("$1")
}
step tests/faults/kill_run.py --binary "$binary" --kills "${KILLS:-1000}"
step tests/faults/storage.py --binary "$binary"
step tests/faults/signals.py --binary "$binary" --count "${SIGNALS:-200}"
step tests/faults/damage.py --binary "$binary"
[ ${#failed[@]} -eq 0 ] || { say "failed: ${failed[*]}"; exit 1; }
