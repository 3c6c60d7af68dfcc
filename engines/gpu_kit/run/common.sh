# Sourced by every step on the GPU machine. $OUT is the folder whose files come back. Nothing here needs a GPU, so that
# every step can be rehearsed on a CPU (REHEARSE=1): what needs one then says so in its log.
export PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 ORT_DISABLE_TELEMETRY=1
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)   # <kit>/run
KIT=$(dirname "$HERE")
ROOT=${ROOT:-$(cd "$KIT/../.." && pwd)}              # the checkout that holds build/gpu
KEEP=${KEEP:-${TMPDIR:-/tmp}/unblur-gpu-kit}         # outlives a step
SITE=$KEEP/site
OUT=${OUT:-$KEEP/out}
PY=${PY:-python3}
REHEARSE=${REHEARSE:-}
SIZES=${SIZES:-256x256,720x1280}
NETWORK=${NETWORK:-banet}
export HERE KIT ROOT KEEP SITE OUT PY REHEARSE
mkdir -p "$OUT" "$KEEP" "$SITE"
# The kit's packages first, then unblur's source; the machine's own PyTorch, NumPy and ONNX stay what they are.
export PYTHONPATH="$SITE:$ROOT/src:$HERE${PYTHONPATH:+:$PYTHONPATH}"
T0=$(date +%s)
say() { echo "[$(($(date +%s) - T0))s] $*"; }
# step NAME SECONDS COMMAND...: a part that fails or hangs never takes the rest with it, and one that is killed with
# everything else has left what it said until then.
step() {
  local name=$1 limit=$2 started rc from
  shift 2
  say "== $name (at most ${limit}s)"
  started=$(date +%s)
  echo "==== $name" >> "$OUT/steps.log"
  from=$(($(wc -l < "$OUT/steps.log") + 1))
  timeout -k 5 "$limit" "$@" >> "$OUT/steps.log" 2>&1
  rc=$?
  tail -n "+$from" "$OUT/steps.log" | tail -n "${TAIL:-12}" | cut -c1-220
  echo "==== $name rc=$rc $(($(date +%s) - started))s" >> "$OUT/steps.log"
  say "== $name rc=$rc"
  return 0
}
# gpu_tests NAME SECONDS ARGUMENTS...: of tests/gpu. A rehearsal only collects them, which shows what they import.
gpu_tests() {
  local name=$1 limit=$2
  shift 2
  step "$name" "$limit" "$PY" -m pytest "$@" -m gpu -rs -p no:cacheprovider --tb=short ${REHEARSE:+--collect-only}
}
# take [STEM]: what this call brought; prints how far the wheel of those slices is.
take() { bash "$HERE/unpack.sh" "$@" 2>&1 | tail -1; }
done_with_it() { say done; ls -la "$OUT"; }
# Which device the PyTorch scripts take, and what they leave out in a rehearsal.
if [ -n "$REHEARSE" ]; then DEVICE=cpu; LADDER=--rehearse; else DEVICE=cuda:0; LADDER=; fi
