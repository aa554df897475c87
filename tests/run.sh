#!/usr/bin/env bash
# Set up an environment in .venv, install Debian's tools where root may, and run all tests.
# With --coverage first, print the branches that were taken in the tests' own processes, which takes twice the time.
set -euo pipefail
cd "$(dirname "$0")/.."
. deploy/environment.sh
tools=(orthanc orthanc-dicomweb dcmtk dicom3tools pixelmed-apps chromium)
command -v npm >/dev/null || tools+=(npm)
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null && ! dpkg -s "${tools[@]}" >/dev/null 2>&1; then
  apt-get update -qq
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${tools[@]}" >/dev/null
fi
install_into_venv '.[test]'
if ! { command -v npm >/dev/null && bash tests/viewers/install.sh; }; then
  echo "OHIF or axe-core could not be installed: the tests that need them will say so." >&2
fi
.venv/bin/ruff check .
.venv/bin/ruff format --check .
.venv/bin/mypy
coverage=()
if [ "${1:-}" = --coverage ]; then
  shift
  coverage=(--cov --cov-report=term:skip-covered -m "not measures")
fi
[ $# -eq 0 ] || exec .venv/bin/python -m pytest "${coverage[@]}" "$@"
# Most tests wait for other programs, so two run at a time, the longest first; what measures time or memory runs alone.
.venv/bin/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder -m "not measures" "${coverage[@]}" \
  tests/end_to_end tests/viewers tests
[ ${#coverage[@]} -eq 0 ] || exit 0
exec .venv/bin/python -m pytest -m measures
