#!/bin/sh
# The long runs in full; what they saw is appended to docs/soak.md. `CALQUE_TEST_SEED` repeats a run.
set -eu
cd "$(dirname "$0")/.."

seed=${CALQUE_TEST_SEED:-$(od -An -N6 -tu8 /dev/urandom | tr -d ' ')}
export CALQUE_TEST_SEED="$seed" CALQUE_SOAK=1 CALQUE_TEST_STRICT=1 PROPTEST_CASES="${PROPTEST_CASES:-4096}"
commit=$(git rev-parse --short HEAD 2>/dev/null || echo unknown)
started=$(date -u +%Y-%m-%dT%H:%MZ)
log=$(mktemp)
trap 'rm -f "$log"' EXIT

# `--no-fail-fast`: one failure must not hide another.
result=passed
start_seconds=$(date +%s)
cargo test --workspace --locked --no-fail-fast -- --include-ignored --nocapture --test-threads=2 >"$log" 2>&1 || result=FAILED
minutes=$((($(date +%s) - start_seconds + 59) / 60))

passed=$(sed -n 's/^test result: .* \([0-9]*\) passed;.*/\1/p' "$log" | awk '{ sum += $1 } END { print sum + 0 }')
failed=$(sed -n 's/^test result: .* \([0-9]*\) failed;.*/\1/p' "$log" | awk '{ sum += $1 } END { print sum + 0 }')
{
    echo
    echo "### $started, commit $commit: $result"
    echo
    echo "Linux $(uname -r), $(nproc) CPUs, $minutes min, seed $seed, PROPTEST_CASES $PROPTEST_CASES: $passed tests passed, $failed failed."
    sed -n 's/^soak: /- /p' "$log"
    if [ "$result" != passed ]; then
        echo
        sed -n 's/^test \(.*\) \.\.\. FAILED$/- failed: \1/p' "$log"
    fi
} >>docs/soak.md
tail -n 12 docs/soak.md
if [ "$result" != passed ]; then
    grep -vE '^test .* ok$' "$log" | tail -n 200 >&2
    exit 1
fi
