#!/usr/bin/env bash
# What a hospital's security office asks for, made from the environment in .venv:
#   pack.sh pins    requirements.txt beside this file: every package with version and SHA-256, those that were tested
#   pack.sh sbom    build/sbom.cdx.json: what .venv consists of (CycloneDX)
#   pack.sh audit   known vulnerabilities of what requirements.txt names; 75 where nobody can be asked
set -euo pipefail
cd "$(dirname "$0")/../.."
pins=deploy/security/requirements.txt
tools=build/security-tools

install_tools() {
  [ -x "$tools/bin/python" ] || "${PYTHON:-python3}" -m venv "$tools"
  "$tools/bin/python" -m pip install --quiet uv==0.13.9 cyclonedx-bom==7.5.0 pip-audit==2.10.1
}

# Versions as tests ran with them; a build of torch for the CPU alone has the same number with a suffix.
tested() {
  .venv/bin/python -m pip freeze --exclude-editable | sed -n 's/^\([A-Za-z0-9._-]*==[^+ @]*\)\(+.*\)\?$/\1/p'
}

make_pins() {
  tested > build/tested.txt
  "$tools/bin/uv" pip compile pyproject.toml --quiet --no-config --constraint build/tested.txt --generate-hashes \
    --no-emit-index-url --no-emit-find-links --no-annotate --no-header \
    --python-version 3.11 --python-platform x86_64-manylinux_2_28 --output-file "$pins.new"
  mv "$pins.new" "$pins"
  echo "Wrote $pins: $(grep -c == "$pins") packages."
}

make_sbom() {
  "$tools/bin/cyclonedx-py" environment .venv/bin/python --pyproject pyproject.toml --output-reproducible --of JSON \
    -o build/sbom.cdx.json
  echo "Wrote build/sbom.cdx.json: $(grep -c '"purl"' build/sbom.cdx.json) components."
}

audit() {
  local said status=0
  said=$("$tools/bin/pip-audit" --requirement "$pins" --require-hashes --no-deps --disable-pip \
    --progress-spinner off 2>&1) || status=$?
  local unknown
  unknown=$(grep -c "could not be audited" <<< "$said" || true)
  grep -v "could not be audited" <<< "$said" || true
  if [ "$unknown" -gt 0 ] || { [ $status -ne 0 ] && ! grep -q "known vulnerabilit" <<< "$said"; }; then
    echo "NOT AUDITED ($unknown packages): nobody could be asked. Run this where there is a network." >&2
    return 75
  fi
  return $status
}

mkdir -p build
install_tools
case "${1:-}" in
  pins) make_pins ;;
  sbom) make_sbom ;;
  audit) audit ;;
  *) sed -n '2,5p' "$0" >&2; exit 2 ;;
esac
