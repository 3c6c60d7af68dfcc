#!/bin/bash
# What machine this is, its ceilings, and whether unblur's own code runs there at all.
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"
say "slices: $(bash "$HERE/unpack.sh" 2>&1 | tail -1)"
nvidia-smi -q > "$OUT/nvidia-smi.txt" 2>&1
TAIL=40 step facts 60 "$PY" "$HERE/facts.py" "$OUT/facts.json"
cd "$ROOT" || exit 1
step first-run 45 "$PY" "$HERE/speed.py" "$OUT/speed.jsonl" --network banet_nano --sizes "${SIZES%%,*}" --budget 40 --frames 20 \
  --engines torch-cuda torch-cuda-fp16-channels-last-graph torch-cuda-form-fp16-graph $LADDER
[ -n "$REHEARSE" ] || step test-cuda 40 "$PY" -m pytest tests/gpu/test_cuda.py -m gpu -k network_on_cuda -rs -p no:cacheprovider
done_with_it
