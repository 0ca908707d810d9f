#!/usr/bin/env bash
# Format, lints and tests, with and without the system libraries. Goes on after a failure, so that one run
# shows everything; the last line is `N passed, N failed, N skipped`. A test that cannot run here prints
# `SKIPPED: name: reason` and is counted as skipped, not as passed.
set -uo pipefail
# shellcheck source=scripts/env.sh
source "$(dirname "${BASH_SOURCE[0]}")/env.sh"

mkdir -p "$target"
log=$target/test.log
: >"$log"
failed_steps=()

step() {
    local name=$1
    shift
    say "test: $name: $*" 2>&1 | tee -a "$log" >&2
    if ! "$@" 2>&1 | tee -a "$log"; then
        failed_steps+=("$name")
    fi
}

step "format" cargo fmt --all --check
# The release profile everywhere libtorch is used: its bindings take minutes to compile, so once must do.
step "lints" cargo clippy --release --workspace --all-targets -- -D warnings
step "lints without libraries" cargo clippy --workspace --all-targets --no-default-features -- -D warnings
step "tests" cargo test --release --workspace --no-fail-fast -- --show-output
# The dev profile: overflow checks and debug assertions are on.
step "tests without libraries" cargo test --workspace --no-default-features --no-fail-fast -- --show-output

# Sum of the numbers before `$1` in the lines `test result: ok. 3 passed; 0 failed; 0 ignored; …`.
total() {
    grep -E '^test result: ' "$log" | grep -oE "[0-9]+ $1" | awk '{ sum += $1 } END { print sum + 0 }'
}

# It may stand behind the harness's `test name ... `.
skips=$(grep -oE 'SKIPPED:? .+' "$log" || true)
skipped=$(printf '%s' "$skips" | grep -c . || true)
passed=$(($(total passed) - skipped))
failed=$(total failed)
skipped=$((skipped + $(total ignored)))

if [ "$skipped" -gt 0 ]; then
    say "skipped, and why (each once):"
    { printf '%s\n' "$skips"; grep -E '^test .* \.\.\. ignored' "$log"; } | grep . | sort -u
fi
if [ ${#failed_steps[@]} -gt 0 ]; then
    say "failed: $(printf '%s; ' "${failed_steps[@]}")see $log"
    grep -E '^test .* \.\.\. FAILED' "$log" | sort -u
    # A step that fails without a failed test (format, lints, a crate that does not compile) counts as one.
    [ "$failed" -gt 0 ] || failed=${#failed_steps[@]}
fi
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" = 0 ]
