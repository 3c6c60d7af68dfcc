#!/bin/bash
# unpack.sh [STEM]: takes the slices that this call brought (part*, ort*) into $KEEP, installs the small wheels at once
# and each large one when its own slices are all there. Prints of the one whose slices are called STEM "complete",
# "waiting for ..." or what is damaged.
set -u
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"
mkdir -p "$KEEP/slices"
for slice in "$KIT"/part*/* "$KIT"/ort*/*; do [ -f "$slice" ] && cp -f "$slice" "$KEEP/slices/"; done
cp -f "$HERE"/SHA256SUMS "$HERE"/slices.txt "$KEEP/slices/" 2>/dev/null
cd "$KEEP/slices" || exit 0
install() { # MARK WHEEL...: once
  local mark=$KEEP/installed-$1
  shift
  [ -f "$mark" ] && return 0
  $PY -m pip install -q --no-index --no-deps --no-compile --no-cache-dir --upgrade --target "$SITE" "$@" && touch "$mark"
}
# unblur itself needs these, whatever else is still on its way.
compgen -G "$HERE/*.whl" > /dev/null && { install small "$HERE"/*.whl || { echo "pip failed"; exit 0; }; }
[ -n "${1:-}" ] || { echo taken; exit 0; }
[ -f slices.txt ] || { echo "waiting for slices.txt: prepare.sh has not been run"; exit 0; }
# slices.txt: "<slice> <whole file>", in order
whole=$(sed -n "s/^$1\.[0-9]* //p" slices.txt | head -n 1)
slices=$(sed -n "s/^\($1\.[0-9]*\) .*/\1/p" slices.txt)
[ -n "$whole" ] || { echo "waiting for $1: prepare.sh made no such slices"; exit 0; }
for slice in $slices; do [ -f "$slice" ] || { echo "waiting for $slice"; exit 0; }; done
# shellcheck disable=SC2086
[ -f "$whole" ] || { cat $slices > "$whole.tmp" && mv "$whole.tmp" "$whole"; }
if ! grep " $whole\$" SHA256SUMS | sha256sum -c --quiet; then
  rm -f "$whole" # so that a slice that is sent again is taken
  echo "damaged: a reassembled file has another SHA-256; send its slices again"
  exit 0
fi
case $whole in *.whl) install "$1" "$whole" || { echo "pip failed"; exit 0; };; esac
echo complete
