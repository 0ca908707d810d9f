#!/usr/bin/env bash
# Fuzzes each reader of bytes from outside for SECS seconds (default 600), one after the other; `scripts/fuzz.sh bank list`
# takes only these. Finds go to target/fuzz/; each becomes a file in tests/fuzz/seeds/, which the tests read.
set -euo pipefail
# shellcheck source=scripts/env.sh
source "$(dirname "${BASH_SOURCE[0]}")/env.sh"
# libFuzzer's instrumentation is behind a switch that only the nightly compiler has open.
export RUSTC_BOOTSTRAP=1

command -v cargo-fuzz >/dev/null || cargo install cargo-fuzz --locked
targets=("$@")
[ ${#targets[@]} -gt 0 ] || targets=(pipeline manifest bank list index probe)
for name in "${targets[@]}"; do
    out=$target/fuzz
    mkdir -p "$out/corpus/$name" "$out/finds/$name"
    seeds=("tests/fuzz/seeds/$name")
    case $name in
    pipeline) seeds+=(pipelines pipelines/bad) ;;
    probe) seeds+=(tests/data) ;;
    esac
    say "fuzz: $name for ${SECS:-600} s"
    # Without a sanitizer: the readers are safe Rust, what can go wrong is a panic, a hang or memory.
    cargo fuzz run --fuzz-dir tests/fuzz --target-dir "$out/build" --sanitizer none "$name" \
        "$out/corpus/$name" "${seeds[@]}" -- \
        -max_total_time="${SECS:-600}" -timeout=15 -rss_limit_mb=1024 -max_len=32768 \
        -artifact_prefix="$out/finds/$name/" -print_final_stats=1
done
