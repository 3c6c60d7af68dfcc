#!/bin/bash
# PyTorch's ladder: the compiled form at the largest size and where its time goes come first, for they are asked most.
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"
say "slices: $(take)"
cd "$ROOT" || exit 1
compiled="torch-cuda-form-compile-fp16-graph torch-cuda-compile-fp16-graph"
ladder() { # NAME SECONDS SIZES ARGUMENTS...
  local name=$1 limit=$2 sizes=$3
  shift 3
  TAIL=30 step "$name" "$limit" "$PY" "$HERE/speed.py" "$OUT/speed.jsonl" --network "$NETWORK" --sizes "$sizes" \
    --frames "${FRAMES:-50}" --budget $((limit - 10)) "$@" $LADDER
}
ladder speed-compiled 90 "${SIZES##*,}" --engines torch-cuda $compiled
TAIL=70 step profile 80 "$PY" "$HERE/profile_gpu.py" "$OUT/profile.json" --network "$NETWORK" --size "${SIZES##*,}" --device "$DEVICE" \
  --budget "${BUDGET:-60}"
parallel= # for correctness only, so that they may disturb one another
[ -n "$REHEARSE" ] || ! "$PY" -c "import xdist" 2> /dev/null || parallel="-n 4"
gpu_tests tests 90 tests/gpu -k "torch-cuda or network_on_cuda" $parallel
# By the stopwatch of `unblur speed`, each engine in a process of its own; PyTorch on the CPU is always among them.
if [ -n "$REHEARSE" ]; then engines=torch; else engines=torch-cuda,torch-cuda-form-fp16-graph,torch-cuda-form-compile-fp16-graph; fi
TAIL=30 step stopwatch 120 "$PY" -m unblur speed --network "$NETWORK" --size "${SIZES%%,*}" --engines "$engines" \
  --rounds "${ROUNDS:-12}" --output "$OUT/speed"
[ -n "$REHEARSE" ] || ladder speed 80 "$SIZES" --skip $compiled torch-cuda-compile-fp16
nvidia-smi --query-gpu=clocks.sm,clocks.mem,temperature.gpu,power.draw,clocks_throttle_reasons.active --format=csv >> "$OUT/nvidia-smi.txt" 2>&1
tail -n 2 "$OUT/nvidia-smi.txt"
done_with_it
