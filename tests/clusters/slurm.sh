#!/usr/bin/env bash
# A real SLURM on loopback: one controller and two workers, nothing installed outside of one folder.
#
#   tests/clusters/slurm.sh start DIR     prints the setting that clients need: export SLURM_CONF=DIR/slurm.conf
#   tests/clusters/slurm.sh stop DIR
#
# Needs root and the Debian packages slurm-wlm and munge. The partitions: normal (both workers) and short
# (one minute at most).
set -euo pipefail
verb=$1 dir=$(realpath -m "$2")
host=$(hostname -s)

write_conf() {
  cat > "$dir/slurm.conf" <<CONF
ClusterName=loopback
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=17817
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket=$dir/munge.socket
CredType=cred/munge
StateSaveLocation=$dir/state
SlurmdSpoolDir=$dir/spool-%n
SlurmctldPidFile=$dir/slurmctld.pid
SlurmdPidFile=$dir/slurmd-%n.pid
SlurmctldLogFile=$dir/slurmctld.log
SlurmdLogFile=$dir/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
ReturnToService=2
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=2,bf_interval=5
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SlurmdParameters=config_overrides
JobCompType=jobcomp/none
AccountingStorageType=accounting_storage/none
KillWait=10
GresTypes=gpu
NodeName=worker1 NodeHostname=$host NodeAddr=127.0.0.1 Port=17821 CPUs=4 RealMemory=8000 Gres=gpu:1 State=UNKNOWN
NodeName=worker2 NodeHostname=$host NodeAddr=127.0.0.1 Port=17822 CPUs=4 RealMemory=8000 State=UNKNOWN
PartitionName=normal Nodes=ALL Default=YES MaxTime=60 State=UP
PartitionName=short Nodes=ALL MaxTime=1 State=UP
CONF
  # Any device file will do: nothing is confined to it.
  echo "NodeName=worker1 Name=gpu File=/dev/zero" > "$dir/gres.conf"
  echo "CgroupAutomount=no" > "$dir/cgroup.conf"
}

start() {
  mkdir -p "$dir" "$dir/state" "$dir/spool-worker1" "$dir/spool-worker2"
  chmod 755 "$dir"
  if [ ! -s "$dir/munge.key" ]; then
    dd if=/dev/urandom of="$dir/munge.key" bs=1024 count=1 status=none
  fi
  chmod 600 "$dir/munge.key"
  munged --force --key-file="$dir/munge.key" --socket="$dir/munge.socket" --pid-file="$dir/munged.pid" \
    --log-file="$dir/munged.log" --seed-file="$dir/munged.seed"
  write_conf
  export SLURM_CONF=$dir/slurm.conf
  slurmctld -f "$SLURM_CONF" -c
  for name in worker1 worker2; do slurmd -f "$SLURM_CONF" -N "$name"; done
  for _ in $(seq 60); do
    if [ "$(sinfo -h -N -t idle -o %N | sort -u | wc -l)" = 2 ]; then
      echo "export SLURM_CONF=$SLURM_CONF"
      return
    fi
    sleep 0.5
  done
  sinfo -N >&2
  tail -n 20 "$dir"/*.log >&2
  exit 1
}

stop() {
  export SLURM_CONF=$dir/slurm.conf
  scancel --user=root 2>/dev/null || true
  for file in "$dir"/slurmd-*.pid "$dir/slurmctld.pid" "$dir/munged.pid"; do
    if [ -s "$file" ]; then kill "$(cat "$file")" 2>/dev/null || true; fi
  done
  # What still ends a job would go on to kill its process ids, whoever has them by then.
  pkill -KILL -f "^slurmstepd: " 2>/dev/null || true
}

case $verb in
  start) start ;;
  stop) stop ;;
  *) echo "start or stop, not $verb" >&2; exit 2 ;;
esac
