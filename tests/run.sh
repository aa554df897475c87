#!/usr/bin/env bash
# Set up an environment in .venv, install Debian's tools where root may, and run all tests.
set -euo pipefail
cd "$(dirname "$0")/.."
. deploy/environment.sh
tools=(orthanc dcmtk dicom3tools)
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null && ! dpkg -s "${tools[@]}" >/dev/null 2>&1; then
  apt-get update -qq
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${tools[@]}" >/dev/null
fi
install_into_venv '.[test]'
.venv/bin/ruff check .
.venv/bin/mypy
exec .venv/bin/python -m pytest "$@"
