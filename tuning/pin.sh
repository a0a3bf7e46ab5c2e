#!/usr/bin/env bash
# Gives the network card's interrupts some cores and leaves the others to Tidewire's shards.
# Dry by default: prints what it would write. Running it again changes nothing more.
set -euo pipefail

# SYSROOT is where proc/ and sys/ are found; empty but for tests.
readonly SYSROOT=${SYSROOT:-}

usage() {
  cat <<'TEXT'
Usage: pin.sh --device NAME --irq-cores LIST [--shard-cores LIST] [--apply]

  --device NAME        the network card, as in `ip link`
  --irq-cores LIST     cores that take its interrupts, such as 0,1 or 0-3
  --shard-cores LIST   cores of server.cores: set to the performance governor, and checked
                       to be others than those of --irq-cores
  --apply              write it (needs root); without, only print

Nothing of this outlives a restart of the host: run it from a unit, after the network is up.
TEXT
}

fail() { echo "pin.sh: $*" >&2; exit 2; }

# "0-2,5" -> "0 1 2 5"
expand() {
  local part all=()
  [[ $1 ]] || return 0
  [[ $1 =~ ^[0-9]+(-[0-9]+)?(,[0-9]+(-[0-9]+)?)*$ ]] || fail "'$1' is not a list of cores such as 0,1 or 0-3"
  for part in ${1//,/ }; do
    mapfile -t -O "${#all[@]}" all < <(seq "$((10#${part%-*}))" "$((10#${part#*-}))")
  done
  echo "${all[*]}"
}

# Cores as the hexadecimal mask that rps_cpus and xps_cpus take: words of 32 bits with commas
# between, highest first, without leading zeros.
mask() {
  local core word last=0 words=() text=''
  for core in "$@"; do
    word=$((core / 32))
    words[word]=$((${words[word]:-0} | 1 << core % 32))
    if ((word > last)); then last=$word; fi
  done
  for ((word = last; word >= 0; word--)); do
    text+=${text:+,}$(printf '%08x' "${words[word]:-0}")
  done
  plain_mask "$text"
}

# The kernel prints masks with leading zeros for the cores that it could have.
plain_mask() {
  local text
  text=$(sed -E 's/^[0,]+//' <<<"$1")
  echo "${text:-0}"
}

# Writes $2 to the file $1, where it is there and says something else. $3 says why.
put() {
  local file=$SYSROOT$1 value=$2 why=$3 now
  [[ -e $file ]] || return 0
  now=$(cat "$file" 2>/dev/null) || return 0
  if [[ $1 == *_cpus ]]; then now=$(plain_mask "$now"); fi
  if [[ $now == "$value" ]]; then
    echo "ok     $1 = $value"
  elif [[ $apply == no ]]; then
    echo "would  $1: $now -> $value   # $why"
  elif { printf '%s\n' "$value" >"$file"; } 2>/dev/null; then
    echo "wrote  $1: $now -> $value"
  else
    echo "FAILED $1: the kernel does not take $value"
    failed=yes
  fi
}

# The device's interrupts: from its bus, or where it has none listed, by name.
interrupts() {
  local folder parent=''
  local base=$SYSROOT/sys/class/net/$device/device
  for folder in "$base/msi_irqs" "$base/../msi_irqs"; do
    if [[ -d $folder ]]; then parent=$folder; break; fi
  done
  if [[ $parent ]]; then
    ls "$parent" | sort -n
  else
    awk -v name="$device" '$NF ~ "^" name "(-|$)" { sub(":", "", $1); print $1 }' "$SYSROOT/proc/interrupts"
  fi
}

device='' irq_cores='' shard_cores='' apply=no failed=no
while (($#)); do
  case $1 in
    --device) device=${2:?--device needs a name}; shift 2 ;;
    --irq-cores) irq_cores=${2:?--irq-cores needs a list}; shift 2 ;;
    --shard-cores) shard_cores=${2:?--shard-cores needs a list}; shift 2 ;;
    --apply) apply=yes; shift ;;
    --help | -h) usage; exit 0 ;;
    *) usage >&2; fail "unknown argument '$1'" ;;
  esac
done
if [[ ! $device || ! $irq_cores ]]; then usage >&2; exit 2; fi
[[ -d $SYSROOT/sys/class/net/$device ]] || fail "there is no network device '$device'"
[[ -d $SYSROOT/sys/class/net/$device/device ]] || fail "'$device' is no hardware: it has no interrupts of its own"

expanded=$(expand "$irq_cores")
read -ra irq <<<"$expanded"
expanded=$(expand "$shard_cores")
read -ra shard <<<"$expanded"
for core in "${irq[@]}" "${shard[@]}"; do
  [[ -d $SYSROOT/sys/devices/system/cpu/cpu$core ]] || fail "there is no core $core"
done
for core in "${shard[@]}"; do
  [[ " ${irq[*]} " != *" $core "* ]] || fail "core $core stands in both --irq-cores and --shard-cores"
done

# irqbalance would move them back.
if [[ ! $SYSROOT ]] && pgrep -x irqbalance >/dev/null 2>&1; then
  echo "note   irqbalance runs and will undo this: stop it, or ban these interrupts in its configuration"
fi

# One interrupt after the other to the next of the cores, so that each core has its share.
index=0
for number in $(interrupts); do
  put "/proc/irq/$number/smp_affinity_list" "${irq[index++ % ${#irq[@]}]}" "interrupt away from the shards"
done

# A card with a single queue has one interrupt: RPS spreads the work behind it in software. With
# several queues the hardware has spread it already, and RPS would only add a hop.
queues=("$SYSROOT/sys/class/net/$device/queues/rx-"*)
if ((${#queues[@]} == 1 && ${#irq[@]} > 1)); then rps=$(mask "${irq[@]}"); else rps=$(mask); fi
for queue in "${queues[@]}"; do
  put "${queue#"$SYSROOT"}/rps_cpus" "$rps" "packets of one queue over the interrupt cores"
done

# Each sending queue belongs to some of the cores, so that shards do not wait for one another's.
queues=("$SYSROOT/sys/class/net/$device/queues/tx-"*)
senders=("${shard[@]}")
((${#senders[@]})) || senders=("${irq[@]}")
for index in "${!queues[@]}"; do
  own=()
  for ((i = index; i < ${#senders[@]}; i += ${#queues[@]})); do own+=("${senders[i]}"); done
  ((${#own[@]})) || continue
  queue=$SYSROOT/sys/class/net/$device/queues/tx-$index
  put "${queue#"$SYSROOT"}/xps_cpus" "$(mask "${own[@]}")" "these cores send through this queue"
done

# A core that has clocked down takes a while to come back, which a burst then waits for.
for core in "${shard[@]}"; do
  put "/sys/devices/system/cpu/cpu$core/cpufreq/scaling_governor" performance "no waiting for the clock"
done

if [[ $apply == no ]]; then echo "Nothing was written: --apply does."; fi
[[ $failed == no ]]
