#!/bin/bash
# Only where step 2 said that TensorRT for RTX opens an engine: speeds, unblur's runner against the bare calls, layer times.
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"
say "slices: $(take part)"
mkdir -p "$KEEP/more"
cp -f "$KIT"/engines/* "$KEEP/more/" 2>/dev/null
TAIL=60 step rtx-more 190 "$PY" "$HERE/rtx_probe.py" "$KEEP/more" "$OUT/rtx-more.json" --more
done_with_it
