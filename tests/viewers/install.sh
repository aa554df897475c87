#!/usr/bin/env bash
# Lay the OHIF viewer, as its authors built it, into .venv/viewers: one exact version, checked by its digest.
set -euo pipefail
cd "$(dirname "$0")/../.."
version=3.13.2
digest=5997719a9986eeba85816f5924b71b82bdd70ad2e2d4a0cd3e831a798e4f3deea3e06e1f8c48e393271933a0ba664d85f3b04ac457e9abe8dde715d907d13c10
target=.venv/viewers/ohif-$version
[ -f "$target/index.html" ] && exit 0
temporary=$(mktemp -d)
trap 'rm -rf "$temporary"' EXIT
npm pack --silent --pack-destination "$temporary" "@ohif/app@$version" >/dev/null
echo "$digest  $temporary/ohif-app-$version.tgz" | sha512sum --check --quiet
mkdir -p "$target.part"
tar -xzf "$temporary/ohif-app-$version.tgz" -C "$target.part" --strip-components=2 --exclude='*.map' package/dist
rm -rf "$target"
mv "$target.part" "$target"
