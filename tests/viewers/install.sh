#!/usr/bin/env bash
# Lay what tests need in a browser into .venv/viewers, as its authors built it, each one exact version checked by its
# digest: the OHIF viewer, and axe-core, which looks for what keeps people out of a page.
set -euo pipefail
cd "$(dirname "$0")/../.."

# install PACKAGE NAME VERSION DIGEST PART STRIP FILE: unpack a part of a package, STRIP folders off, that has FILE.
install() {
  local package=$1 name=$2 version=$3 digest=$4 folder=$5 strip=$6 file=$7 target=.venv/viewers/$2-$3
  [ -f "$target/$file" ] && return
  local temporary
  temporary=$(mktemp -d)
  npm pack --silent --pack-destination "$temporary" "$package@$version" >/dev/null
  echo "$digest  $(echo "$temporary"/*.tgz)" | sha512sum --check --quiet
  rm -rf "$target.part"
  mkdir -p "$target.part"
  tar -xzf "$temporary"/*.tgz -C "$target.part" --strip-components="$strip" --exclude='*.map' "$folder"
  rm -rf "$target" "$temporary"
  mv "$target.part" "$target"
}

install @ohif/app ohif 3.13.2 \
  5997719a9986eeba85816f5924b71b82bdd70ad2e2d4a0cd3e831a798e4f3deea3e06e1f8c48e393271933a0ba664d85f3b04ac457e9abe8dde715d907d13c10 \
  package/dist 2 index.html
install axe-core axe-core 4.10.3 \
  5e6edba515e70d25f6604d9815f064d859c5d1ea7ab661bbc4f87c88779ef0c21cae0abbeb636471ef39e9d62d2582e4b88a1866f19f4ecfcf6d986275e4dc12 \
  package/axe.min.js 1 axe.min.js
