#!/bin/sh
# A gate for any CI: fails if the candidate model is worse than the baseline. Copy it, or call it as it is.
#
#   CANDIDATE  RUN:VARIANT or a bundle's folder (required)
#   BASELINE   the same, or a baseline file (required)
#   TARGET     where to measure                                    (localhost)
#   TIER       smoke, quick, full or soak                          (quick)
#   DATA       the clips to ask about, for bare bundles            (those of the run)
#   INPUTS     the same of imported bundles: an .npz with frames and perhaps labels, or "synthetic"
#   LIMITS     what must hold in any case, "latency_clip_p90_ns=25ms memory_peak_bytes=57MiB"
#   ENFORCE    1: fail; 0: say what would have failed, and whether the noise allows to enforce it   (0)
#   OUT        where gate.md, gate.xml (JUnit) and gate.json go    (reports/gate)
set -eu

: "${CANDIDATE:?set CANDIDATE to RUN:VARIANT or a bundle folder}" "${BASELINE:?set BASELINE to RUN:VARIANT, a bundle folder or a baseline file}"
OUT=${OUT:-reports/gate}
set -- --candidate "$CANDIDATE" --baseline "$BASELINE" --out "$OUT" --target "${TARGET:-localhost}" --tier "${TIER:-quick}" \
    --markdown "$OUT/gate.md" --junit "$OUT/gate.xml" --on-inconclusive warn
[ -z "${DATA:-}" ] || set -- "$@" --data "$DATA"
[ -z "${INPUTS:-}" ] || set -- "$@" --inputs "$INPUTS"
for limit in ${LIMITS:-}; do
    set -- "$@" --limit "$limit"
done
[ "${ENFORCE:-0}" = 1 ] || set -- "$@" --advisory

code=0
fercompress gate "$@" || code=$?
# GitHub shows this file on the run's page.
if [ -n "${GITHUB_STEP_SUMMARY:-}" ] && [ -f "$OUT/gate.md" ]; then
    cat "$OUT/gate.md" >>"$GITHUB_STEP_SUMMARY"
fi
exit "$code"
