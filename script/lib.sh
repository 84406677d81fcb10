# shellcheck shell=bash
# What the scripts share. Sourced, never run: `. script/lib.sh`. Sets ROOT, CACHE and MEDIA; defines say, fail, as_root, run_jobs.
set -euo pipefail

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
CACHE=${IDC_LLM_CACHE:-$HOME/.cache/idc_llm}     # images' logs, wheels and models: shared by all clones on this machine
MEDIA=$CACHE/media                               # what the fleet sees, read-only, at /srv/media
export ROOT CACHE MEDIA LC_ALL=C.UTF-8

# say WORDS: one line of progress.
say() { printf '%s %s\n' "==>" "$*"; }

# fail WHAT WHY REMEDY: ends the script with a message that says all three.
fail() {
  printf '\nFAILED  %s\n  why:    %s\n  remedy: %s\n' "$1" "$2" "$3" >&2
  exit 1
}

# as_root COMMAND…: runs it as root, by sudo when we are not.
as_root() {
  if [ "$(id -u)" -eq 0 ]; then "$@"; else sudo "$@"; fi
}

can_be_root() { [ "$(id -u)" -eq 0 ] || { command -v sudo >/dev/null && sudo -v; }; }

# has_apt: is this a Debian or an Ubuntu?
has_apt() { command -v apt-get >/dev/null && grep -qE '^ID(_LIKE)?=.*(debian|ubuntu)' /etc/os-release; }

# apt_install PACKAGE…: installs what is missing; the package lists are refreshed once for each run of a script.
APT_FRESH=
apt_install() {
  local missing=() package
  for package in "$@"; do
    [ "$(dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || missing+=("$package")
  done
  [ ${#missing[@]} -eq 0 ] && return
  say "installing Debian packages: ${missing[*]}"
  if [ -z "$APT_FRESH" ]; then as_root apt-get update -q; APT_FRESH=1; fi
  as_root env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "${missing[@]}"
}

# watched LOG COMMAND…: runs it on the screen and into LOG. When it is silent for 20 s, tells where it is (Ansible shows a
# task's name with its first result). When this script is stopped, the command is, too.
watched() {
  local log=$1 screen tee command watcher rc=0
  shift
  mkdir -p "$(dirname "$log")"
  : >"$log"
  exec {screen}> >(exec tee -a "$log")
  tee=$!
  "$@" >&"$screen" 2>&1 </dev/null &
  command=$!
  exec {screen}>&-
  while sleep 5 >&- 2>&-; do      # closed: no orphan may hold the caller's pipe open
    [ $(($(date +%s) - $(stat -c %Y "$log"))) -ge 20 ] || continue
    printf '    … %s: still at work on what follows %s\n' "$(date +%T)" "$(grep -aoE 'TASK \[[^]]*\]' "$log" | tail -n 1)"
    sleep 15 >&- 2>&-
  done &
  watcher=$!
  # shellcheck disable=SC2064  # the ids are known now
  trap "kill $command $watcher 2>/dev/null || true" EXIT
  trap 'exit 130' INT TERM
  wait "$command" || rc=$?
  wait "$tee" || true
  kill "$watcher" 2>/dev/null || true
  wait "$watcher" 2>/dev/null || true
  trap - EXIT INT TERM
  return "$rc"
}

# run_jobs NAME=COMMAND…: runs shell functions or commands side by side, each with a log in $CACHE/log; tells every 10 s what
# is still running and, when a job fails, the end of its log.
run_jobs() {
  local job name log failed='' started=$SECONDS
  declare -A pids=()
  mkdir -p "$CACHE/log"
  for job in "$@"; do
    name=${job%%=*} log=$CACHE/log/${name//[^a-zA-Z0-9]/-}.log
    (eval "${job#*=}") >"$log" 2>&1 &
    pids[$name]=$!
  done
  local told=$SECONDS
  while [ ${#pids[@]} -gt 0 ]; do
    sleep 0.3
    for name in "${!pids[@]}"; do
      kill -0 "${pids[$name]}" 2>/dev/null && continue
      log=$CACHE/log/${name//[^a-zA-Z0-9]/-}.log
      if wait "${pids[$name]}"; then
        say "done: $name ($((SECONDS - started)) s)"
      else
        failed=$name
        printf '%s\n' "--- $name: the last lines of $log" >&2
        tail -n 25 "$log" >&2
      fi
      unset "pids[$name]"
    done
    if [ ${#pids[@]} -gt 0 ] && [ $((SECONDS - told)) -ge 10 ]; then
      told=$SECONDS
      say "$((SECONDS - started)) s: still at work on: $(IFS=,; echo "${!pids[*]}")"
    fi
  done
  [ -z "$failed" ] || fail "$failed" "the command ended with an error, see the lines above" \
    "mend what they name (often: no way to a package mirror or index) and run the same command again; what is done stays done"
}
