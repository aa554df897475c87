#!/usr/bin/env bash
# Install the node on a server, bring it to this checkout, or put the version before back. Called again it goes on.
#
#   sudo bash deploy/install.sh                         install, or upgrade: drain, switch, look, back if it is not well
#   sudo bash deploy/install.sh --roll-back             the version before
#   bash deploy/install.sh --make-wheel-house DIR       every wheel, on a machine with internet
#   sudo bash deploy/install.sh --wheel-house DIR       install from them, without internet
#   bash deploy/install.sh --root DIR                   all of it below DIR, without user and services, to try it
#
#   --prefix DIR      where the program goes (/opt/dicom-node)
#   --no-start        neither start nor restart the service
#
# PYTHON names another Python than the system's (python3, 3.11 or newer with venv).
set -euo pipefail
here=$(cd "$(dirname "$0")/.." && pwd)
cd "$here"
. deploy/environment.sh

user=dicom-node prefix=/opt/dicom-node root='' house='' start=yes task=install
python=${PYTHON:-/usr/bin/python3}
while [ $# -gt 0 ]; do
  case $1 in
    --root) root=$(realpath -m "$2") && shift ;;
    --prefix) prefix=$2 && shift ;;
    --wheel-house) house=$(realpath "$2") && shift ;;
    --make-wheel-house) task=make_house house=$(realpath -m "$2") && shift ;;
    --roll-back) task=roll_back ;;
    --no-start) start=no ;;
    --print-version) task=print_version ;;
    *) sed -n '2,14s/^# \{0,1\}//p' "$0" && exit 2 ;;
  esac
  shift
done
program=$root$prefix current=$root$prefix/.venv
config=$root/etc/dicom-node/node.toml data=$root/var/lib/dicom-node unit=$root/etc/systemd/system/dicom-node.service

say() { printf '%s\n' "$*"; }
refuse() { say "$*" >&2 && exit 1; }
service() { [ -z "$root" ] && [ -d /run/systemd/system ]; }
as_node() { if [ -z "$root" ]; then (cd / && runuser -u "$user" -- "$@"); else "$@"; fi; }

# The versions that the tests ran with; torch comes first, see environment.sh.
constraints() { sed -n 's/^\([A-Za-z0-9._-]*==[^ ]*\).*/\1/p' deploy/security/requirements.txt; }

needed() {
  "$python" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null ||
    refuse "$python is no Python 3.11 or newer with venv: install python3-venv, or set PYTHON to another one."
  [ -n "$root" ] || [ "$(id -u)" = 0 ] || refuse "Only root can make the user and the service: use sudo, or --root DIR to try it."
}

# A version of the checkout has a folder of its own, so that the one before stays as it is.
version() {
  local digest
  digest=$(find pyproject.toml dicom_node pipeline models deploy/security/requirements.txt -type f \
    -not -name '*.pyc' -print0 | sort -z | xargs -0 sha256sum | sha256sum)
  say "$(sed -n 's/^version = "\(.*\)"$/\1/p' pyproject.toml)-${digest:0:12}"
}

make_house() {
  mkdir -p "$house"
  constraints > "$house/constraints.txt"
  "$python" -m pip wheel --quiet --wheel-dir "$house" --constraint "$house/constraints.txt" "$(pinned torch)"
  "$python" -m pip wheel --quiet --wheel-dir "$house" --find-links "$house" --constraint "$house/constraints.txt" .
  say "$(find "$house" -name '*.whl' | wc -l) wheels in $house, for $("$python" --version) on $(uname -m)."
}

make_environment() {
  local new=$1 options=()
  [ -e "$new/whole" ] && return
  rm -rf "$new"
  mkdir -p "$(dirname "$new")"
  "$python" -m venv "$new"
  constraints > "$new/constraints.txt"
  options=(--quiet --constraint "$new/constraints.txt")
  [ -z "$house" ] || options+=(--no-index --find-links "$house")
  "$new/bin/python" -m pip install "${options[@]}" "$(pinned torch)"
  if [ -n "$house" ]; then
    "$new/bin/python" -m pip install "${options[@]}" dicom-node
  else
    "$new/bin/python" -m pip install "${options[@]}" .
  fi
  "$new/bin/dicom-node" --version
  touch "$new/whole"
}

make_user() {
  [ -n "$root" ] || id "$user" > /dev/null 2>&1 ||
    useradd --system --user-group --shell /usr/sbin/nologin --home-dir /nonexistent "$user"
}

make_folders() {
  mkdir -p "$(dirname "$config")" "$(dirname "$unit")"
  if [ -n "$root" ]; then
    install -d -m 700 "$data"
  else
    install -d -o "$user" -g "$user" -m 700 "$data"
  fi
}

make_config() {
  [ -e "$config" ] && return
  "$1/bin/dicom-node" init "$config"
  [ -z "$root" ] || sed -i "s|^data_dir = .*|data_dir = \"$data\"|" "$config"
  chmod 640 "$config"
  [ -n "$root" ] || chown "root:$user" "$config"
}

make_unit() {
  sed "s|/opt/dicom-node|$prefix|g" deploy/dicom-node.service > "$unit.new"
  mv "$unit.new" "$unit"
  chmod 644 "$unit"
  if service; then systemctl daemon-reload && systemctl --quiet enable dicom-node; fi
}

# One rename: whoever starts the program meets the one version or the other.
switch_to() {
  ln -sfn "$(realpath --relative-to="$program" "$1")" "$current.new"
  mv -T "$current.new" "$current"
}

# Well is what `status` does not call FAIL, with models loaded.
is_well() {
  local said
  for _ in $(seq 60); do
    if said=$(as_node "$current/bin/dicom-node" status --config "$config" 2>&1) && ! grep -q 'loads its models' <<< "$said"; then
      return 0
    fi
    sleep 3
  done
  say "$said" >&2
  return 1
}

# What runs is finished, what waits stays in the queue: the stop of the unit drains the worker.
restart_with() {
  if service && [ "$start" = yes ]; then
    systemctl stop dicom-node
    switch_to "$1"
    systemctl start dicom-node
    is_well
  else
    switch_to "$1"
  fi
}

install_or_upgrade() {
  local before='' new
  needed
  [ ! -e "$current" ] || [ -L "$current" ] || refuse "$current was made by hand: stop the node, move it away, call this again."
  [ -e "$current" ] && before=$(realpath "$current")
  new=$program/versions/$(version)
  if [ -n "$before" ] && [ "$before" = "$new" ]; then say "$new is in use already."; fi
  make_environment "$new"
  make_user
  make_folders
  make_config "$new"
  as_node "$new/bin/dicom-node" callers --config "$config" > /dev/null ||
    refuse "The new version does not take $config: nothing was changed. Correct it, and call this again."
  if [ -z "$before" ]; then
    make_unit
    switch_to "$new"
  elif [ "$before" != "$new" ]; then
    as_node "$before/bin/dicom-node" backup "$data/before-$(basename "$new")-$(date +%s).tar" --config "$config"
    make_unit
    say "$before" > "$program/before"
    if ! restart_with "$new"; then
      restart_with "$before" || true
      refuse "The new version is not well (above): $before runs again. Look at: journalctl -u dicom-node"
    fi
  fi
  report
}

roll_back() {
  local before
  before=$(cat "$program/before" 2> /dev/null) && [ -x "$before/bin/dicom-node" ] || refuse "There is no version before."
  realpath "$current" > "$program/before"
  restart_with "$before" || refuse "It is not well either (above). Look at: journalctl -u dicom-node"
  say "In use: $before."
}

report() {
  say "In use: $(realpath "$current"). Configuration: $config. Data: $data."
  as_node "$current/bin/dicom-node" check --config "$config" || say "Not all is well yet: correct $config, then check again."
  if [ -n "$root" ]; then
    say "Start it with: $current/bin/dicom-node serve --config $config"
  elif service && ! systemctl --quiet is-active dicom-node; then
    say "Start it with: systemctl start dicom-node"
  fi
  say "The log is in the journal, which rotates it: journalctl -u dicom-node -o cat -f; SystemMaxUse= in journald.conf."
}

case $task in
  make_house) make_house ;;
  roll_back) roll_back ;;
  print_version) version ;;
  install) install_or_upgrade ;;
esac
