#!/usr/bin/env bash
# Step "Install" of action.yml: installs a pinned version with the installer of this checkout and puts it on the PATH.
set -euo pipefail

folder=$RUNNER_TEMP/syncline-bin
options=(--to "$folder")
if [ -n "$INPUT_VERSION" ]; then options+=(--version "$INPUT_VERSION"); fi
if [ -n "$INPUT_FROM" ]; then options+=(--from "$INPUT_FROM"); fi
sh "$(dirname "$0")/../install.sh" "${options[@]}"
echo "$folder" >>"$GITHUB_PATH"
