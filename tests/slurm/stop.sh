#!/usr/bin/env bash
# Ends the SLURM that start.sh started (and no other), by the process ids it wrote down; munged stays.
set -euo pipefail
folder=${SLURM_TEST_DIR:-/tmp/headatlas-slurm}
for daemon in slurmd slurmctld; do
    file=$folder/$daemon.pid
    if [ -e "$file" ] && [ "$(cat "/proc/$(cat "$file")/comm" 2>/dev/null)" = "$daemon" ]; then
        kill "$(cat "$file")"
        while [ -d "/proc/$(cat "$file" 2>/dev/null || echo none)" ]; do sleep 0.1; done
        echo "$daemon ended"
    fi
done
rm -rf "$folder"
# With a configuration and no controller, every client of SLURM, and so every start of Snakemake, waits nine seconds.
if grep -qs headatlas-test /etc/slurm/slurm.conf; then
    rm -f /etc/slurm/slurm.conf /etc/slurm/gres.conf
fi
