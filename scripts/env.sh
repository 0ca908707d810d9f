# shellcheck shell=bash
# Sourced by the other scripts: where things are. VENV and CARGO_TARGET_DIR may point outside the project.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$root" || exit 1

VENV=${VENV:-.venv}
case $VENV in
    /*) ;;
    *) VENV=$root/$VENV ;;
esac
export VENV

# .cargo/config.toml names .venv/libtorch; another path would compile torch-sys again, so say nothing else here.
libtorch=$VENV/libtorch
if [ "$VENV" != "$root/.venv" ]; then
    export LIBTORCH=$libtorch
fi
# Test binaries of plugin crates have no rpath of their own.
export LD_LIBRARY_PATH=$libtorch/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}

target=${CARGO_TARGET_DIR:-$root/target}
export target

say() { printf '==> %s\n' "$*" >&2; }

die() {
    printf 'error: %s\n' "$*" >&2
    exit 1
}
