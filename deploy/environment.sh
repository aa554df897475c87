# shellcheck shell=bash
# Sourced by deploy/demo.sh, deploy/install.sh and tests/run.sh: one environment, .venv in the checkout, set up the same way.

# install_into_venv WHAT: install the checkout, with the extras that WHAT names, unless that is already done.
install_into_venv() {
  local python=${PYTHON:-python3} wanted
  "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
    echo "Python 3.11 or newer is needed: set PYTHON to one." >&2
    return 1
  }
  wanted="$1 $(sha256sum pyproject.toml | cut -d' ' -f1)"
  [ "$(cat .venv/installed 2>/dev/null)" = "$wanted" ] && return 0
  [ -x .venv/bin/python ] || "$python" -m venv .venv
  # torch first: asked for by its exact version it is taken in the build that pip finds first, and everything after it
  # is satisfied by that one.
  .venv/bin/python -m pip install --quiet "$(pinned torch)"
  .venv/bin/python -m pip install --quiet -e "$1"
  echo "$wanted" > .venv/installed
}

# pinned NAME: the requirement that pyproject.toml states for a package.
pinned() {
  sed -n "s/^  \"\\($1==[^\"]*\\)\",\$/\\1/p" pyproject.toml
}
