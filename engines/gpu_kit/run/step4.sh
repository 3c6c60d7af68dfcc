#!/bin/bash
# Every convolution shape against the ceilings, and the kernels of a whole frame.
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"
cd "$ROOT" || exit 1
TAIL=70 step profile 115 "$PY" "$HERE/profile_gpu.py" "$OUT/profile.json" --network "$NETWORK" --size "${SIZES##*,}" --device "$DEVICE" --budget "${BUDGET:-105}"
nvidia-smi --query-gpu=clocks.sm,clocks.mem,temperature.gpu,power.draw,clocks_throttle_reasons.active --format=csv > "$OUT/after.txt" 2>&1
cat "$OUT/after.txt"
done_with_it
