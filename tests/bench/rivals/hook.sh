#!/bin/sh
# hook.sh DIRECTORY: the job of a creation hook as a good administrator's script, with one jq and one nsenter.
#
# The same as hook.c does, from policy.json, but for the pidfd: a shell has none.
set -eu
directory=$1
eval "$(jq -r --slurpfile policy "$directory/policy.json" '
    . as $state
    | first($policy[0].rules[] | select(.team == $state.annotations["bench.team"])) as $rule
    | @sh "id=\(.id) pid=\(.pid)",
      @sh "line=\({time: now, id, pid, rule: $rule.team, set: $rule.sysctls} | tojson)",
      @sh "set=\($rule.sysctls | to_entries | map("echo \(.value) >/proc/sys/\(.key)") | join("\n"))"')"
[ ! "/proc/$pid/ns/ipc" -ef /proc/self/ns/ipc ]
: >"$directory/pins/$id"
mount --bind "/proc/$pid/ns/ipc" "$directory/pins/$id"
nsenter --target "$pid" --ipc sh -euc "$set"
printf '%s\n' "$line" >>"$directory/audit.jsonl"
