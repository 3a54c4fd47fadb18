#!/bin/sh
# Summarises the output of steps: summary.sh FOLDER STEP...
# A step is suite:NAME, which must have run tests and left none out, or gate:NAME, of which only the exit code counts.
# FOLDER/NAME.log is its output, FOLDER/NAME.status its exit code, 124 if it timed out. Names the tests that failed, and
# why. The last line is "N passed, N failed".
set -eu
folder=$1
shift

# Adds up deno test's summary lines: passed, failed, left out (ignored, filtered out, or with ignored steps).
counts() {
  awk '
    { gsub(/\033\[[0-9;]*m/, "") }
    /^(ok|FAILED) \| [0-9]+ passed/ {
      for (field = 1; field <= NF; field++) {
        if ($(field + 1) == "passed") passed += $field
        if ($(field + 1) == "failed") failed += $field
        if ($(field + 1) == "filtered") left += $field
        if ($(field + 1) == "ignored") left += $field
        if ($(field + 1) == "ignored" && $(field + 3) ~ /^steps?\)/) left += substr($(field + 2), 2)
      }
    }
    END { print passed + 0, failed + 0, left + 0 }
  ' "$1"
}

# Prints each failed test with the first line of its error. A property test adds its seed, its counterexample and the cause.
failures() {
  awk -v step="$1" '
    { gsub(/\033\[[0-9;]*m/, "") }
    /^ ERRORS *$/ { inside = 1 }
    /^ FAILURES *$/ { inside = 0 }
    inside && / => \.\/.*:[0-9]+:[0-9]+$/ { print step " failed: " $0 }
    inside && /^error: / { print "  " substr($0, 8, 300) }
    inside && /^(\{ seed: |Counterexample: |Caused by: )/ { print "  " substr($0, 1, 1000) }
  ' "$2"
}

all_passed=0
all_failed=0
echo
for step in "$@"; do
  name=${step#*:}
  [ ! -f "$folder/$name.log" ] || failures "$name" "$folder/$name.log"
done
for step in "$@"; do
  kind=${step%%:*}
  name=${step#*:}
  passed=0 failed=0 left=0 status=none
  if [ -f "$folder/$name.status" ]; then
    status=$(cat "$folder/$name.status")
    read -r passed failed left <<COUNTS
$(counts "$folder/$name.log")
COUNTS
  fi

  wrong=
  if [ "$status" = none ]; then wrong="did not run"
  elif [ "$status" -eq 124 ]; then wrong="took too long"
  elif [ "$left" -gt 0 ]; then wrong="left out $left"
  elif [ "$kind" = suite ] && [ $((passed + failed)) -eq 0 ]; then wrong="ran no tests"
  elif [ "$status" -ne 0 ] && [ "$failed" -eq 0 ]; then wrong="ended with $status"
  fi
  # The gate repeats tests that a suite has already counted.
  if [ "$kind" = gate ]; then
    passed=0
    [ "$failed" -eq 0 ] || wrong="${wrong:+$wrong, }$failed failed"
    failed=0
  fi
  [ -z "$wrong" ] || failed=$((failed + 1))
  all_passed=$((all_passed + passed))
  all_failed=$((all_failed + failed))
  if [ "$kind" = gate ]; then echo "$name: ${wrong:-passed}"
  else echo "$name: $passed passed, $failed failed${wrong:+ ($wrong)}"
  fi
done
echo "$all_passed passed, $all_failed failed"
[ "$all_failed" -eq 0 ]
