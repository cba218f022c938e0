#!/usr/bin/env bash
# Trains on a slice of a Cloud TPU pod: creates, sets up and deletes the slice; launches, follows and resumes the run.
# `scripts/tpu_pod.sh --help` lists the flags; docs/scaling.md describes a complete run.
# shellcheck disable=SC2016  # the worker's shell expands $ in single quotes
set -euo pipefail
cd "$(dirname "$0")/.."

usage() {
    cat <<'END'
usage: scripts/tpu_pod.sh COMMAND [--FLAG VALUE ...] [--dry-run] [-- TRAINING_FLAG ...]

commands:
  create    request the slice, and wait for it
  setup     copy the last commit to all workers and install its requirements
  launch    start the same training command on all workers, in the background
  follow    print worker 0's log as it grows; Ctrl-C stops the printing, not the run
  resume    launch again: the run resumes from its last checkpoint. With --recreate, first delete, create and set up
            the slice, as after a preemption
  stop      ask worker 0's process to save and exit (SIGTERM): all workers do so
  delete    delete the slice; the bucket stays

flags, each also an environment variable POD_FLAG (POD_NAME, POD_DATA_DIR, ...):
  --name NAME          name of the slice (decade)
  --zone ZONE          required
  --project PROJECT    (gcloud's default)
  --accelerator TYPE   v5litepod-64, v6e-64, ...; v4-32 and v5p-64 count cores, two per chip (v5litepod-16)
  --runtime VERSION    version of the TPU's software (the one for the accelerator)
  --bucket BUCKET      without gs://; for the defaults of --data_dir and --workdir
  --config CONFIG      required to launch: configs/resnet50.py, with its variants
  --data_dir DIR       path on a worker (imagenet in the bucket, mounted with gcsfuse)
  --workdir DIR        the run's folder (gs://BUCKET/runs/CONFIG)
  --spot               cheaper, but may be preempted (POD_SPOT=1)
  --queued             wait in the queue for capacity (POD_QUEUED=1); pass it to delete and resume, too
  --dry-run            print the commands without running them

Flags after -- go to train.py: -- --config.batch_size=8192 --config.scale_lr=true
END
}

fail() {
    printf 'tpu_pod.sh: error: %s\n' "$1" >&2
    exit 2
}

# Quotes a word for a shell if necessary. (Not ${1@Q}: macOS has Bash 3.2.)
quoted() {
    case $1 in
        '' | *[!A-Za-z0-9_./:=,@%+-]*) printf "'%s'" "$(printf '%s' "$1" | sed "s/'/'\\\\''/g")" ;;
        *) printf '%s' "$1" ;;
    esac
}

line() {
    local word text=''
    for word in "$@"; do
        text+="${text:+ }$(quoted "$word")"
    done
    printf '%s\n' "$text"
}

# Joins commands to one line.
join() {
    local text
    printf -v text '%s; ' "$@"
    printf '%s' "${text%; }"
}

# Runs a command, or prints it.
run() {
    if [[ $dry_run ]]; then
        line "$@"
    else
        "$@"
    fi
}

name=${POD_NAME:-decade}
zone=${POD_ZONE:-}
project=${POD_PROJECT:-}
accelerator=${POD_ACCELERATOR:-v5litepod-16}
runtime=${POD_RUNTIME:-}
bucket=${POD_BUCKET:-}
config=${POD_CONFIG:-}
data_dir=${POD_DATA_DIR:-}
workdir=${POD_WORKDIR:-}
spot=${POD_SPOT:-}
queued=${POD_QUEUED:-}
dry_run='' recreate='' command=''
training=() # flags of train.py

while (($#)); do
    case $1 in
        -h | --help)
            usage
            exit 0
            ;;
        --spot) spot=1 ;;
        --queued) queued=1 ;;
        --dry-run) dry_run=1 ;;
        --recreate) recreate=1 ;;
        --)
            shift
            training=("$@")
            break
            ;;
        --name | --zone | --project | --accelerator | --runtime | --bucket | --config | --data_dir | --workdir)
            (($# > 1)) && [[ $2 != --* ]] || fail "$1 needs a value"
            printf -v "${1#--}" '%s' "$2"
            shift
            ;;
        --name=* | --zone=* | --project=* | --accelerator=* | --runtime=* | --bucket=* | --config=* | --data_dir=* | \
            --workdir=*)
            flag=${1%%=*}
            printf -v "${flag#--}" '%s' "${1#*=}"
            ;;
        -*) fail "no flag $1; --help lists the flags; flags of train.py go after --" ;;
        *)
            [[ ! $command ]] || fail "one command at a time, not $command and $1"
            command=$1
            ;;
    esac
    shift
done

case $command in
    create | setup | launch | follow | resume | stop | delete) ;;
    '') fail 'no command: create, setup, launch, follow, resume, stop or delete; see --help' ;;
    *) fail "no command $command: the commands are create, setup, launch, follow, resume, stop and delete" ;;
esac
[[ $zone ]] || fail 'no zone: pass --zone, for example --zone us-west4-a'
[[ ! $recreate || $command == resume ]] || fail '--recreate is for resume'
[[ ${#training[@]} -eq 0 || $command == launch || $command == resume ]] || fail "$command takes no flags of train.py"

if [[ $command == create || $recreate ]] && [[ ! $runtime ]]; then
    # Google Cloud's documentation, TPU software versions.
    case $accelerator in
        v6e-*) runtime='v2-alpha-tpuv6e' ;;
        v5litepod-*) runtime='v2-alpha-tpuv5-lite' ;;
        v5p-*) runtime='v2-alpha-tpuv5' ;;
        v[234]-*) runtime='tpu-ubuntu2204-base' ;;
        *) fail "no runtime is known for $accelerator: pass --runtime" ;;
    esac
fi
if [[ $command == launch || $command == resume ]]; then
    [[ $config ]] || fail 'no config: pass --config configs/NAME.py'
    [[ -f ${config%%:*} ]] || fail "no config file ${config%%:*}"
    [[ $bucket || ($data_dir && $workdir) ]] || fail 'no bucket: pass --bucket, or both --data_dir and --workdir'
    run_name=$(basename "${config%%:*}" .py)
    [[ $config != *:* ]] || run_name+=_${config#*:}
    run_name=$(printf '%s\n' "$run_name" | sed -E 's/[^A-Za-z0-9_.-]+/_/g; s/^_+|_+$//g') # as train.py names runs
    mounted=''
    [[ $data_dir ]] || mounted=1
    data_dir=${data_dir:-../bucket/imagenet}
    workdir=${workdir:-gs://$bucket/runs/$run_name}
fi

tpu=(gcloud compute tpus)
where=("--zone=$zone")
[[ ! $project ]] || where+=("--project=$project")
request=("--accelerator-type=$accelerator")
[[ ! $spot ]] || request+=(--spot)

# Runs a command line on workers: on_workers all 'COMMAND'.
on_workers() {
    run "${tpu[@]}" tpu-vm ssh "$name" "${where[@]}" "--worker=$1" "--command=$2"
}

create() {
    if [[ ! $queued ]]; then
        run "${tpu[@]}" tpu-vm create "$name" "${where[@]}" "${request[@]}" "--version=$runtime"
        return
    fi
    run "${tpu[@]}" queued-resources create "$name" "${where[@]}" "${request[@]}" "--runtime-version=$runtime" \
        "--node-id=$name"
    local state='' ask=("${tpu[@]}" queued-resources describe "$name" "${where[@]}" '--format=value(state.state)')
    if [[ $dry_run ]]; then
        line "${ask[@]}"
        return
    fi
    until [[ $state == ACTIVE ]]; do
        state=$("${ask[@]}")
        case $state in
            FAILED | SUSPENDED | SUSPENDING) fail "the request is $state: delete the slice and create it again" ;;
        esac
        printf '%s: %s\n' "$name" "$state"
        [[ $state == ACTIVE ]] || sleep 60
    done
}

setup() {
    # Only committed files, so that a run belongs to a revision.
    local archive=${TMPDIR:-/tmp}/decade-$name.tar.gz
    run git archive --format=tar.gz "--output=$archive" HEAD
    run "${tpu[@]}" tpu-vm scp "$archive" "$name:decade.tar.gz" "${where[@]}" --worker=all
    # uv installs a newer Python than the TPU software's 3.10. gcsfs is for a workdir in a bucket.
    local steps=(
        'set -e; mkdir -p decade; tar -xzf decade.tar.gz -C decade; cd decade'
        'python3 -m pip install --quiet --user uv'
        'test -d .venv || python3 -m uv venv --quiet --python 3.12 .venv'
        'python3 -m uv pip install --quiet --python .venv/bin/python -r requirements.txt "jax[tpu]" gcsfs'
    )
    on_workers all "$(join "${steps[@]}")"
}

launch() {
    # Workers need no flags for their index: on Cloud TPU, JAX finds the others. A worker that runs already is left
    # alone; a new run appends to the log.
    local steps=('set -e; cd decade')
    # Here, not in setup, because a worker may have been restarted since.
    [[ ! $mounted ]] || steps+=(
        'mkdir -p ../bucket'
        "mountpoint -q ../bucket || gcsfuse --implicit-dirs $(quoted "$bucket") ../bucket"
    )
    steps+=(
        'if test -f train.pid && kill -0 $(cat train.pid) 2>/dev/null; then echo train.py runs already >&2; exit 1; fi'
        "nohup $(line .venv/bin/python train.py --config "$config" "--config.data_dir=$data_dir" --workdir "$workdir" \
            ${training[@]+"${training[@]}"}) >> train.log 2>&1 < /dev/null & echo \$! > train.pid"
    )
    on_workers all "$(join "${steps[@]}")"
}

follow() {
    on_workers 0 'tail -n 50 -F decade/train.log'
}

delete() {
    if [[ $queued ]]; then
        run "${tpu[@]}" queued-resources delete "$name" "${where[@]}" --force --quiet
    else
        run "${tpu[@]}" tpu-vm delete "$name" "${where[@]}" --quiet
    fi
}

resume() {
    if [[ $recreate ]]; then
        delete || printf 'tpu_pod.sh: could not delete %s; it may be gone already\n' "$name" >&2
        create
        setup
    elif [[ $dry_run ]]; then
        state_of_slice
    else
        local state
        state=$(state_of_slice) || true
        [[ $state == READY ]] || fail "the slice is ${state:-gone}: resume it with --recreate"
    fi
    launch
}

state_of_slice() {
    run "${tpu[@]}" tpu-vm describe "$name" "${where[@]}" '--format=value(state)'
}

stop() {
    on_workers 0 'kill -TERM $(cat decade/train.pid)'
}

"$command"
