#!/bin/bash
# Does TensorRT for RTX run here? Everything that it said is in rtx.json.
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"
state=$(bash "$HERE/unpack.sh" 2>&1 | tail -1)
say "slices: $state"
mkdir -p "$KEEP/engines"
cp -f "$HERE"/engines/* "$KIT"/engines/* "$KEEP/engines/" 2>/dev/null
if [ "$state" = complete ] || [ -n "$REHEARSE" ]; then
  TAIL=60 step rtx-probe 150 "$PY" "$HERE/rtx_probe.py" "$KEEP/engines" "$OUT/rtx.json"
  cd "$ROOT" || exit 1
  if [ -n "$REHEARSE" ]; then
    say "a rehearsal ends here"
  elif grep -q '"verdict": "TensorRT for RTX opens' "$OUT/rtx.json" 2>/dev/null; then
    TAIL=30 step rtx-tests 110 "$PY" -m pytest tests/gpu -m gpu -k "tensorrt-rtx or portable" -rs -p no:cacheprovider -x
  else
    # The refusal must be a sentence of unblur's own, not a traceback.
    step rtx-refusal 40 "$PY" -m pytest tests/gpu -m gpu -k "portable or (tensorrt-rtx-torch-fixed and signature)" -rs \
      -p no:cacheprovider --tb=short
  fi
else
  echo "{\"verdict\": \"not asked: $state\"}" > "$OUT/rtx.json"
fi
done_with_it
