#!/bin/bash
# What machine this is, its ceilings, and whether unblur's own code runs there at all.
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"
say "slices: $(take)"
nvidia-smi -q > "$OUT/nvidia-smi.txt" 2>&1
TAIL=40 step facts 45 "$PY" "$HERE/facts.py" "$OUT/facts.json"
cd "$ROOT" || exit 1
step first-run 30 "$PY" "$HERE/speed.py" "$OUT/speed.jsonl" --network banet_nano --sizes "${SIZES%%,*}" --budget 25 --frames 20 \
  --engines torch-cuda torch-cuda-fp16-channels-last-graph torch-cuda-form-fp16-graph $LADDER
done_with_it
