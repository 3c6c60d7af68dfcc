#!/bin/bash
# Does TensorRT for RTX run here? Everything that it said is in rtx.json. Not worth its slices on an H100 or H200, which
# it refuses (docs/gpu.md).
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"
state=$(take part)
say "slices: $state"
mkdir -p "$KEEP/engines"
cp -f "$HERE"/engines/* "$KIT"/engines/* "$KEEP/engines/" 2>/dev/null
if [ "$state" = complete ] || [ -n "$REHEARSE" ]; then
  TAIL=60 step rtx-probe 150 "$PY" "$HERE/rtx_probe.py" "$KEEP/engines" "$OUT/rtx.json"
  cd "$ROOT" || exit 1
  if [ -n "$REHEARSE" ] || grep -q '"verdict": "TensorRT for RTX opens' "$OUT/rtx.json" 2>/dev/null; then
    TAIL=30 gpu_tests rtx-tests 110 tests/gpu -k "tensorrt-rtx or portable" -x
  else
    # The refusal must be a sentence of unblur's own, not a traceback.
    gpu_tests rtx-refusal 40 tests/gpu -k "portable or (tensorrt-rtx-torch-fixed and signature)"
  fi
else
  echo "{\"verdict\": \"not asked: $state\"}" > "$OUT/rtx.json"
fi
done_with_it
