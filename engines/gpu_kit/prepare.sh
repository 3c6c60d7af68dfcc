#!/bin/bash
# Run on a machine that has the network and unblur's .venv (no GPU needed), in the project's folder: `make gpu-kit`.
# Makes build/gpu/, everything that a bare GPU machine would wait for:
#   run      scripts, small wheels, engines of one convolution             sent with every step
#   part1, part2   halves of the TensorRT for RTX wheel                    sent by step 2
#   engines  engines of networks                                           sent by step 2rtx
#   ort1...  slices of onnxruntime-gpu (WITH_ORT=1)                        sent one with each step, all by step 4
# SIZES=256x256 leaves out 720p. WITH_BANET=1 also builds BANet of 18 million weights. WHEELS=no leaves the wheels out,
# WITHOUT_INT8=1 the calibration.
set -euo pipefail
HERE=$(cd "$(dirname "$0")" && pwd)
ROOT=$(cd "$HERE/../.." && pwd)
PY=${PY:-$ROOT/.venv/bin/python}
OUT=${OUT:-$ROOT/build/gpu}
WHEELS=${WHEELS:-$OUT/wheels}
RTX=${RTX:-1.7.1.116}
MOST=$((48 * 1024 * 1024 - 1))      # of a slice, in bytes
LIMIT_MIB=${LIMIT_MIB:-64}          # of what travels at once: the tracked files, run and another folder
mkdir -p "$OUT/run" "$OUT/part1" "$OUT/part2"
echo "1. scripts"
cp "$HERE"/run/*.sh "$HERE"/run/*.py "$OUT/run/"
fetch() { # NAME==VERSION: a wheel for Python 3.12 on x86-64 Linux, whatever Python is here
  "$PY" -m pip download -q --disable-pip-version-check --no-deps --only-binary=:all: --python-version 3.12 --implementation cp \
    --platform manylinux_2_35_x86_64 --platform manylinux_2_28_x86_64 --platform manylinux_2_27_x86_64 \
    --platform manylinux_2_17_x86_64 --platform manylinux2014_x86_64 -d "$WHEELS" "$1"
}
cut_up() { # WHEEL FOLDER-STEM: slices into FOLDER-STEM1, FOLDER-STEM2...
  local name k=1 slice bytes count
  name=$(basename "$1")
  bytes=$(stat -c %s "$1")
  count=$(((bytes + MOST - 1) / MOST))
  split -b $(((bytes + count - 1) / count)) -d -a 1 "$1" "$OUT/slice." # all alike: the largest says what must travel
  for slice in "$OUT"/slice.*; do
    mkdir -p "$OUT/$2$k"
    rm -f "$OUT/$2$k"/*
    mv "$slice" "$OUT/$2$k/$2.$k"
    echo "$2.$k $name" >> "$OUT/run/slices.txt"
    k=$((k + 1))
  done
  (cd "$WHEELS" && sha256sum "$name") >> "$OUT/run/SHA256SUMS"
}
if [ "$WHEELS" != no ]; then
  echo "2. wheels, and slices of the large ones"
  mkdir -p "$WHEELS"
  have() { compgen -G "$WHEELS/$1" > /dev/null; }
  have "tensorrt_rtx_cu13_libs-$RTX-*.whl" || fetch "tensorrt-rtx-cu13-libs==$RTX"
  have "tensorrt_rtx_cu13_bindings-$RTX-cp312-*.whl" || fetch "tensorrt-rtx-cu13-bindings==$RTX"
  # The package itself is a source distribution of a few lines: pip makes a wheel of it.
  have "tensorrt_rtx_cu13-$RTX-*.whl" || "$PY" -m pip wheel -q --disable-pip-version-check --no-deps -w "$WHEELS" "tensorrt-rtx-cu13==$RTX"
  have "pydantic-*.whl" || fetch "pydantic>=2.14,<3"
  CORE=$(unzip -p "$WHEELS"/pydantic-2*.whl '*/METADATA' | sed -n 's/^Requires-Dist: pydantic-core==\([0-9.]*\).*/\1/p')
  have "pydantic_core-*-cp312-*.whl" || fetch "pydantic-core==$CORE"
  have "annotated_types-*.whl" || fetch annotated-types
  have "typing_inspection-*.whl" || fetch typing-inspection
  rm -f "$OUT"/run/*.whl "$OUT/run/SHA256SUMS" "$OUT/run/slices.txt"
  cut_up "$WHEELS"/tensorrt_rtx_cu13_libs-$RTX-*.whl part
  for wheel in "$WHEELS"/*.whl; do case $wheel in *_libs-*|*onnxruntime*) ;; *) cp "$wheel" "$OUT/run/";; esac; done
  if [ -n "${WITH_ORT:-}" ]; then
    have "onnxruntime_gpu-*-cp312-*.whl" || fetch "onnxruntime-gpu==1.31.1"
    cut_up "$WHEELS"/onnxruntime_gpu-*-cp312-*.whl ort
  fi
fi
echo "3. engines and golden outputs"
"$PY" "$HERE/prepare.py" "$OUT" --sizes "${SIZES:-256x256,720x1280}" ${WITH_BANET:+--with-banet} ${WITHOUT_INT8:+--without-8-bits}
echo "4. sizes"
bytes() { find "$@" -type f -print0 | xargs -0 stat -c %s | awk '{sum += $1} END {print sum}'; }
tracked=$({ cd "$ROOT" && git ls-files -z | xargs -0 -r stat -c %s; } 2> /dev/null | awk '{sum += $1} END {print sum + 0}' || true)
always=$((tracked + $(bytes "$OUT/run")))
for folder in "$OUT"/part* "$OUT"/ort* "$OUT"/engines; do
  [ -n "$(ls -A "$folder" 2> /dev/null)" ] || continue
  mib=$(((always + $(bytes "$folder") + 1048575) / 1048576))
  echo "   $mib MiB: tracked files, run and $(basename "$folder")"
  [ $mib -le "$LIMIT_MIB" ] || echo "   more than LIMIT_MIB=$LIMIT_MIB: leave out sizes, or send them apart"
done
for script in "$OUT"/run/*.sh; do bash -n "$script"; done
echo "ready: $OUT (what to send with which step: engines/gpu_kit/README.md)"
