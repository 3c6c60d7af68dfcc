#!/bin/bash
# ONNX Runtime on CUDA, where all slices of onnxruntime-gpu were sent (WITH_ORT=1 of prepare.sh): its tests and its speed.
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"
state=$(take ort)
say "slices: $state"
cd "$ROOT" || exit 1
if [ -n "$REHEARSE" ]; then engines=onnxruntime; else engines=torch-cuda,onnxruntime-cuda,onnxruntime-cuda-tf32; fi
gpu_tests ort-tests 90 tests/gpu/test_engines.py -k onnxruntime
TAIL=30 step ort-speed 150 "$PY" -m unblur speed --network "${ORT_NETWORK:-banet_nano}" --size "${SIZES%%,*}" --engines "$engines" \
  --rounds "${ROUNDS:-20}" --output "$OUT/ort-speed"
done_with_it
