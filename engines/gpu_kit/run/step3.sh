#!/bin/bash
# The tests of PyTorch's ladder, then its speeds. Runs whatever TensorRT for RTX said.
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"
cd "$ROOT" || exit 1
tests() { # at once: for correctness only, so that they may disturb one another
  "$PY" -m pytest tests/gpu/test_engines.py -m gpu -k "torch-cuda and not compile" -rs -p no:cacheprovider --tb=short > "$OUT/tests-torch.txt" 2>&1 &
  "$PY" -m pytest tests/gpu/test_engines.py -m gpu -k "torch-cuda and compile" -rs -p no:cacheprovider --tb=short > "$OUT/tests-compile.txt" 2>&1 &
  wait
  tail -n 4 "$OUT/tests-torch.txt" "$OUT/tests-compile.txt"
}
export -f tests
[ -n "$REHEARSE" ] || TAIL=14 step tests 95 bash -c tests
compiled="torch-cuda-form-compile-fp16-graph torch-cuda-compile-fp16-graph"
TAIL=30 step speed 110 "$PY" "$HERE/speed.py" "$OUT/speed.jsonl" --network "$NETWORK" --sizes "$SIZES" --frames "${FRAMES:-50}" \
  --budget "${BUDGET:-95}" --skip $compiled torch-cuda-compile-fp16 $LADDER
[ -n "$REHEARSE" ] || TAIL=10 step speed-compiled 110 "$PY" "$HERE/speed.py" "$OUT/speed.jsonl" --network "$NETWORK" --sizes "${SIZES##*,}" \
  --frames "${FRAMES:-50}" --budget "${BUDGET:-100}" --engines $compiled
done_with_it
