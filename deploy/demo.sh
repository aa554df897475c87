#!/usr/bin/env bash
# Set up an environment in .venv and run the main job once: a synthetic study in, the report out.
set -euo pipefail
cd "$(dirname "$0")/.."
. deploy/environment.sh
install_into_venv .
.venv/bin/dicom-node demo
