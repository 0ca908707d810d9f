#!/usr/bin/env bash
# Installs what a build needs and is not there yet: system packages for GStreamer, libtorch in a venv.
# Runs again without harm; changes nothing outside the project but system packages.
set -euo pipefail
# shellcheck source=scripts/env.sh
source "$(dirname "${BASH_SOURCE[0]}")/env.sh"

# GStreamer: headers to build against, and the plugins that open and decode common files.
packages=(
    g++ pkg-config python3 python3-venv
    libgstreamer1.0-dev libgstreamer-plugins-base1.0-dev
    gstreamer1.0-plugins-base gstreamer1.0-plugins-good gstreamer1.0-plugins-bad
    gstreamer1.0-plugins-ugly gstreamer1.0-libav
)
# torch is the libtorch that tch 0.24 fits; its CPU library needs the two others beside it, and no more.
wheels=(torch==2.11.0 nvidia-cuda-runtime==13.0.96 nvidia-cuda-cupti==13.0.85)

check_rust() {
    say "setup 1/3: Rust"
    command -v cargo >/dev/null || die "cargo is missing: install Rust from https://rustup.rs and run this again"
    cargo --version >&2
}

# An installed package has the status `installed`; a removed one may still be known.
is_installed() {
    [ "$(dpkg-query -W -f='${db:Status-Status}' "$1" 2>/dev/null)" = installed ]
}

as_root() {
    if [ "$(id -u)" = 0 ]; then
        "$@"
    elif command -v sudo >/dev/null && sudo -n true 2>/dev/null; then
        sudo "$@"
    else
        die "system packages are missing and this is not root: run \`sudo apt-get install -y ${missing[*]}\` first"
    fi
}

install_packages() {
    say "setup 2/3: system packages"
    if ! command -v dpkg-query >/dev/null || ! command -v apt-get >/dev/null; then
        pkg-config --exists gstreamer-1.0 gstreamer-app-1.0 gstreamer-video-1.0 2>/dev/null ||
            die "this is not Debian: install GStreamer 1.22 or later with headers, its base, good, bad, ugly" \
                "and libav plugins, g++, pkg-config and python3 with venv, and run this again"
        printf 'not Debian; found GStreamer %s\n' "$(pkg-config --modversion gstreamer-1.0)" >&2
        return
    fi
    missing=()
    for package in "${packages[@]}"; do
        is_installed "$package" || missing+=("$package")
    done
    if [ ${#missing[@]} = 0 ]; then
        echo "all ${#packages[@]} there" >&2
        return
    fi
    echo "installing: ${missing[*]}" >&2
    as_root apt-get update -qq >&2 ||
        die "the package lists cannot be fetched: is there a network, and does /etc/apt name a reachable mirror?"
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >&2 ||
        die "apt-get could not install: ${missing[*]} (its message is above)"
}

install_libtorch() {
    say "setup 3/3: libtorch in $VENV"
    local stamp=$VENV/.reelflow-wheels
    if [ "$(cat "$stamp" 2>/dev/null)" = "${wheels[*]}" ] && [ -e "$libtorch/lib/libtorch_cpu.so" ]; then
        echo "${wheels[*]} there" >&2
        return
    fi
    [ -x "$VENV/bin/python" ] || python3 -m venv "$VENV" || die "python3 could not make a venv in $VENV"
    echo "fetching ${wheels[*]} (about 540 MB, once)" >&2
    "$VENV/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps "${wheels[@]}" >&2 ||
        die "pip could not fetch ${wheels[*]}: is the Python package index reachable? (its message is above;" \
            "\`cargo build --no-default-features\` works without)"
    local torch
    torch=$("$VENV/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/torch
    [ -e "$torch/lib/libtorch_cpu.so" ] || die "$torch/lib/libtorch_cpu.so is missing after the install; remove $VENV"
    ln -sfn "${torch#"$VENV"/}" "$libtorch"
    printf '%s' "${wheels[*]}" >"$stamp"
}

check_rust
install_packages
install_libtorch
say "setup: done"
