#!/bin/bash
# Takes the slices that this step brought (part*) into $KEEP, and installs the wheels once all are there.
# Prints "complete", "waiting for ..." or what is damaged.
set -u
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"
mkdir -p "$KEEP/slices"
for slice in "$KIT"/part*/* "$KIT"/ort*/*; do [ -f "$slice" ] && cp -f "$slice" "$KEEP/slices/"; done
cp -f "$HERE"/SHA256SUMS "$HERE"/slices.txt "$KEEP/slices/" 2>/dev/null
cd "$KEEP/slices" || exit 0
[ -f slices.txt ] || { echo "waiting for slices.txt: prepare.sh has not been run"; exit 0; }
while read -r slice _; do [ -f "$slice" ] || { echo "waiting for $slice"; exit 0; }; done < slices.txt
# slices.txt: "<slice> <whole file>", in order
for whole in $(cut -d' ' -f2 slices.txt | sort -u); do
  [ -f "$whole" ] || { grep " $whole\$" slices.txt | cut -d' ' -f1 | xargs cat > "$whole.tmp" && mv "$whole.tmp" "$whole"; }
done
if ! sha256sum -c --quiet SHA256SUMS; then
  cut -d' ' -f2 slices.txt | sort -u | xargs rm -f # so that a slice that is sent again is taken
  echo "damaged: a reassembled file has another SHA-256; send its slices again"
  exit 0
fi
[ -f "$KEEP/installed" ] && { echo complete; exit 0; }
wheels=$(ls "$KEEP"/slices/*.whl "$HERE"/*.whl 2>/dev/null)
# shellcheck disable=SC2086
[ -z "$wheels" ] || $PY -m pip install -q --no-index --no-deps --no-compile --no-cache-dir --upgrade --target "$SITE" $wheels \
  || { echo "pip failed"; exit 0; }
touch "$KEEP/installed"
echo complete
