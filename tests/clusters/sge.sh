#!/usr/bin/env bash
# A real Grid Engine on loopback: one master and one execution host with four slots, nothing installed outside of
# one folder.
#
#   tests/clusters/sge.sh start DIR     prints the settings that clients need
#   tests/clusters/sge.sh stop DIR
#
# Needs root and the Debian packages gridengine-master, gridengine-exec and gridengine-client. The queue is called
# normal, the parallel environment of one machine smp.
set -euo pipefail
verb=$1 dir=$(realpath -m "$2")
export SGE_ROOT=$dir SGE_CELL=default SGE_QMASTER_PORT=16444 SGE_EXECD_PORT=16445
host=$(hostname)
shared=/usr/share/gridengine
tools=/usr/lib/gridengine

write_conf() {
  mkdir -p "$dir/default/common" "$dir/qmaster/job_scripts" "$dir/spooldb" "$dir/execd"
  for name in bin lib util utilbin; do ln -sfn "/var/lib/gridengine/$name" "$dir/$name"; done
  cat > "$dir/default/common/bootstrap" <<CONF
admin_user              none
default_domain          none
ignore_fqdn             true
spooling_method         berkeleydb
spooling_lib            libspoolb
spooling_params         $dir/spooldb
binary_path             /usr/sbin
qmaster_spool_dir       $dir/qmaster
security_mode           none
listener_threads        2
worker_threads          2
scheduler_threads       1
CONF
  echo "$host" > "$dir/default/common/act_qmaster"
  # Loopback has several names; the engine wants one.
  echo "$host $(getent ahosts 127.0.0.1 >/dev/null && awk '$1=="127.0.0.1"{printf "%s ", $2}' /etc/hosts)" \
    > "$dir/default/common/host_aliases"
}

fill_spool() {
  "$tools/spoolinit" berkeleydb libspoolb "$dir/spooldb" init
  sed "s#^execd_spool_dir.*#execd_spool_dir $dir/execd#; s#^min_uid.*#min_uid 0#; s#^min_gid.*#min_gid 0#" \
    "$shared/default-configuration" > "$dir/configuration"
  "$tools/spooldefaults" configuration "$dir/configuration"
  "$tools/spooldefaults" complexes "$shared/util/resources/centry"
  "$tools/spooldefaults" usersets "$shared/util/resources/usersets"
  "$tools/spooldefaults" managers root
}

add_host_and_queue() {
  qconf -ah "$host" || true
  qconf -as "$host" || true
  printf 'hostname %s\nload_scaling NONE\ncomplex_values NONE\nuser_lists NONE\nxuser_lists NONE\nprojects NONE\nxprojects NONE\nusage_scaling NONE\nreport_variables NONE\n' \
    "$host" > "$dir/host"
  qconf -Ae "$dir/host"
  printf 'pe_name smp\nslots 99\nuser_lists NONE\nxuser_lists NONE\nstart_proc_args NONE\nstop_proc_args NONE\nallocation_rule $pe_slots\ncontrol_slaves FALSE\njob_is_first_task TRUE\nurgency_slots min\naccounting_summary FALSE\nqsort_args NONE\n' \
    > "$dir/pe"
  qconf -Ap "$dir/pe"
  qconf -sconf > "$dir/global" && qconf -ssconf | sed 's/^schedule_interval.*/schedule_interval 0:0:2/; s/^flush_submit_sec.*/flush_submit_sec 1/; s/^flush_finish_sec.*/flush_finish_sec 1/' > "$dir/scheduler"
  qconf -Msconf "$dir/scheduler"
  cat > "$dir/queue" <<CONF
qname normal
hostlist $host
seq_no 0
load_thresholds NONE
suspend_thresholds NONE
nsuspend 1
suspend_interval 00:05:00
priority 0
min_cpu_interval 00:05:00
processors UNDEFINED
qtype BATCH INTERACTIVE
ckpt_list NONE
pe_list smp
rerun FALSE
slots 4
tmpdir /tmp
shell /bin/bash
prolog NONE
epilog NONE
shell_start_mode unix_behavior
starter_method NONE
suspend_method NONE
resume_method NONE
terminate_method NONE
notify 00:00:10
owner_list NONE
user_lists NONE
xuser_lists NONE
subordinate_list NONE
complex_values NONE
projects NONE
xprojects NONE
calendar NONE
initial_state default
s_rt INFINITY
h_rt INFINITY
s_cpu INFINITY
h_cpu INFINITY
s_fsize INFINITY
h_fsize INFINITY
s_data INFINITY
h_data INFINITY
s_stack INFINITY
h_stack INFINITY
s_core INFINITY
h_core INFINITY
s_rss INFINITY
h_rss INFINITY
s_vmem INFINITY
h_vmem INFINITY
CONF
  qconf -Aq "$dir/queue"
}

start() {
  mkdir -p "$dir"
  write_conf
  fill_spool
  /usr/sbin/sge_qmaster
  for _ in $(seq 40); do qconf -sm >/dev/null 2>&1 && break; sleep 0.5; done
  add_host_and_queue
  /usr/sbin/sge_execd
  for _ in $(seq 60); do
    if qhost -h "$host" 2>/dev/null | tail -1 | grep -qv ' - *- *- *- *-'; then
      echo "export SGE_ROOT=$SGE_ROOT SGE_CELL=$SGE_CELL SGE_QMASTER_PORT=$SGE_QMASTER_PORT SGE_EXECD_PORT=$SGE_EXECD_PORT"
      return
    fi
    sleep 0.5
  done
  qhost >&2
  exit 1
}

stop() {
  qdel -f -u root >/dev/null 2>&1 || true
  qconf -ke all >/dev/null 2>&1 || true
  qconf -km >/dev/null 2>&1 || true
  sleep 1
  for file in "$dir"/execd/*/execd.pid "$dir/qmaster/qmaster.pid"; do
    if [ -s "$file" ]; then kill "$(cat "$file")" 2>/dev/null || true; fi
  done
}

case $verb in
  start) start ;;
  stop) stop ;;
  *) echo "start or stop, not $verb" >&2; exit 2 ;;
esac
