#!/usr/bin/env bash
# A SLURM of one node with one (emulated) GPU on this machine, for the tests. As root on Debian; does nothing where a
# SLURM answers already. Everything it makes except packages is under $SLURM_TEST_DIR; stop.sh removes it.
set -euo pipefail
folder=${SLURM_TEST_DIR:-/tmp/headatlas-slurm}

answers() { timeout 5 sinfo --noheader >/dev/null 2>&1; }
idle() { timeout 5 sinfo --noheader --format %t 2>/dev/null | grep -qE '^(idle|mix|alloc)$'; }

if command -v sinfo >/dev/null && answers; then
    echo "a SLURM answers already: $(sinfo --noheader | head -1)"
    exit 0
fi
if [ "$(id -u)" != 0 ]; then
    echo "error: no SLURM answers here and only root can start one; run tests/slurm/start.sh as root" >&2
    exit 1
fi
if ! { command -v slurmctld && command -v slurmd && command -v munged; } >/dev/null; then
    command -v apt-get >/dev/null || { echo "error: no apt-get; install slurmctld, slurmd and munge by hand" >&2; exit 1; }
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -qq
    apt-get install -y -qq --no-install-recommends slurm-wlm munge >"$(mktemp /tmp/headatlas-apt.XXXX)" 2>&1
fi

mkdir -p "$folder"/{state,spool} /etc/slurm
[ -e /etc/munge/munge.key ] || mungekey --create
install -d -o munge -g munge /run/munge /var/log/munge
chown munge: /etc/munge/munge.key
munge --no-input >/dev/null 2>&1 || runuser -u munge -- munged --force

host=$(hostname -s)
cpus=$(nproc)
memory=$(($(awk '/MemTotal/ {print $2}' /proc/meminfo) / 1024 * 8 / 10))
# Nothing here needs the kernel's cgroups, which a container may not touch. MinJobAge keeps ended jobs in squeue.
cat >/etc/slurm/slurm.conf <<CONF
ClusterName=headatlas-test
SlurmctldHost=$host(127.0.0.1)
SlurmUser=root
SlurmdUser=root
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SchedulerParameters=sched_interval=5,bf_interval=5
GresTypes=gpu
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
MinJobAge=3600
ReturnToService=2
KillWait=5
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool
SlurmctldLogFile=$folder/slurmctld.log
SlurmdLogFile=$folder/slurmd.log
SlurmctldPidFile=$folder/slurmctld.pid
SlurmdPidFile=$folder/slurmd.pid
NodeName=$host NodeAddr=127.0.0.1 CPUs=$cpus RealMemory=$memory Gres=gpu:1
PartitionName=test Nodes=$host Default=YES MaxTime=60 State=UP
CONF
echo "Name=gpu Count=1 File=/dev/null" >/etc/slurm/gres.conf
rm -f /etc/slurm/cgroup.conf
slurmctld
slurmd
for _ in $(seq 60); do
    if idle; then
        echo "SLURM is up: $(sinfo --noheader --format '%P %t %c CPUs %m MB %G')"
        exit 0
    fi
    sleep 0.5
done
echo "error: SLURM does not answer; see $folder/slurmctld.log and $folder/slurmd.log:" >&2
tail -n 5 "$folder"/slurmctld.log "$folder"/slurmd.log >&2
exit 1
