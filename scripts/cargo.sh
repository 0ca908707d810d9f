#!/usr/bin/env bash
# cargo with libtorch found wherever VENV says.
set -euo pipefail
# shellcheck source=scripts/env.sh
source "$(dirname "${BASH_SOURCE[0]}")/env.sh"
exec cargo "$@"
