"""Computed scaling, and the commands of the scripts that drive clusters, without a cluster."""

import functools
import importlib.util
import itertools
import os
import re
import shlex
import subprocess
import sys

import pytest
from conftest import ROOT

from architectures import describe

SCRIPTS = ROOT / 'scripts'
POD = SCRIPTS / 'tpu_pod.sh'
COMMANDS = ('create', 'setup', 'launch', 'follow', 'resume', 'stop', 'delete')
SLICE = ('--name', 'pod', '--zone', 'us-central2-b', '--accelerator', 'v4-32', '--bucket', 'b', '--config')
CONFIG = 'configs/alexnet.py:lecture,epochs=3'


@pytest.fixture(scope='module')
def step_time():
    spec = importlib.util.spec_from_file_location('step_time', SCRIPTS / 'step_time.py')
    module = importlib.util.module_from_spec(spec)
    sys.modules['step_time'] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules['step_time']


@pytest.fixture
def stand_ins(tmp_path):
    """(make, calls): make(gcloud='echo READY') -> an environment with such a program, calls() -> how it was called."""

    def make(**programs):
        for name, body in programs.items():
            record = f'for word in "$0" "$@"; do printf "%s\\0" "$word"; done >> {tmp_path}/calls; printf "\\n\\0" >> '
            (tmp_path / name).write_text(f'#!/bin/sh\n{record}{tmp_path}/calls\n{body}\n')
            (tmp_path / name).chmod(0o755)
        return os.environ | {'PATH': f'{tmp_path}:{os.environ["PATH"]}', 'TMPDIR': str(tmp_path)}

    def calls():
        """The commands in order, each a list of words."""
        if not (tmp_path / 'calls').exists():
            return []
        words = (tmp_path / 'calls').read_text().split('\0')[:-1]
        split = [list(group) for end, group in itertools.groupby(words, '\n'.__eq__) if not end]
        return [[os.path.basename(call[0]), *call[1:]] for call in split]

    return make, calls


def run(*command, **options):
    return subprocess.run(list(map(str, command)), cwd=ROOT, capture_output=True, text=True, timeout=60, **options)


def assert_bad_usage(done, *words):
    assert done.returncode == 2 and not done.stdout, done
    assert len(done.stderr.splitlines()) == 1, done.stderr
    for word in words:
        assert word in done.stderr


# Scale on paper


def parsed(step_time, *flags):
    flags = step_time._parse(flags)
    flags.chips = flags.chips or step_time.CHIPS
    return flags


def test_a_ring_moves_twice_all_but_a_chips_share(step_time):
    assert step_time.bytes_moved(1000, 1) == 0
    assert step_time.bytes_moved(1000, 2) == 1000
    assert step_time.bytes_moved(1000, 8) == 2 * 7 / 8 * 1000


def test_a_ring_written_out_moves_what_the_formula_says(step_time):
    """Every chip sends a chunk to the next, n - 1 times to sum the chunks and n - 1 times to spread the sums."""
    n = 8
    chunks = [[{chip} for _ in range(n)] for chip in range(n)]  # whose gradients each chip has summed, chunk by chunk
    for turn in range(2 * (n - 1)):
        messages = [((chip - turn) % n, chunks[chip][(chip - turn) % n]) for chip in range(n)]
        for chip, (chunk, held) in enumerate(messages):
            chunks[(chip + 1) % n][chunk] = chunks[(chip + 1) % n][chunk] | held
    assert all(held == set(range(n)) for chip in chunks for held in chip)
    assert (turn + 1) / n == step_time.bytes_moved(1, n)


@functools.cache
def counted(network):
    return next(describe.networks(network))


def test_one_chip_communicates_nothing(step_time):
    for name in step_time.PRESETS:
        flags = parsed(step_time, '--chip', name)
        step = step_time.step(counted('resnet50'), 1, 256, flags)
        assert step.all_reduce == 0 and step.seconds == step.compute


@pytest.mark.parametrize(('chips', 'dimensions', 'sides'), [(256, 2, [16, 16]), (128, 2, [16, 8]), (512, 3, [8, 8, 8])])
def test_a_torus_is_as_square_as_it_can_be(step_time, chips, dimensions, sides):
    assert step_time.sides(chips, dimensions) == sides


def test_beyond_a_slice_each_chip_sends_its_part_over_the_network(step_time):
    one = step_time.all_reduce_seconds(1e9, 8, 450, 1, 8, 50, 0)
    two = step_time.all_reduce_seconds(1e9, 16, 450, 1, 8, 50, 0)
    assert one == pytest.approx(1.75e9 / 450e9)
    assert two - one == pytest.approx(1e9 / 8 / 50e9)


@pytest.mark.parametrize('chip', ['v4', 'v5e', 'v5p', 'v6e', 'h100'])
@pytest.mark.parametrize('network', ['alexnet', 'resnet50'])
def test_efficiency_falls_with_every_chip(step_time, chip, network):
    flags = parsed(step_time, '--chip', chip, '--batch', '8192', '--chips', '1,2,4,8,16,32,64,128,256,512,1024')
    rows, left_out = step_time.scaling(counted(network), flags)
    efficiencies = [efficiency for *_, efficiency in rows]
    assert not left_out and efficiencies[0] == 1
    assert all(a > b for a, b in itertools.pairwise(efficiencies))


def test_a_training_step_is_three_forward_passes_of_two_flops_a_multiply_add(step_time):
    (network,) = describe.networks('resnet50')
    assert (network['parameters'], network['multiply_adds']) == (25_557_032, 3_857_973_248)
    flags = parsed(step_time, '--peak', '100', '--fraction', '0.5')
    assert step_time.step(network, 1, 64, flags).compute == pytest.approx(64 * 3_857_973_248 * 6 / 50e12)


def test_hidden_communication_is_at_most_the_backward_pass(step_time):
    (network,) = describe.networks('vgg_d')
    step = step_time.step(network, 1024, 1024, parsed(step_time, '--overlap', '1'))
    assert step.seconds == pytest.approx(step.compute / 3 + step.all_reduce)


@pytest.mark.slow
def test_the_tables_of_the_docs_are_what_their_commands_print():
    found = re.findall(
        r'```\n(python scripts/step_time\.py [^\n]*)\n```\n\n```\n(.*?)```',
        (ROOT / 'docs/scaling.md').read_text(),
        re.DOTALL,
    )
    assert len(found) == 2
    for command, table in found:
        done = run(sys.executable, *shlex.split(command)[1:])
        assert (done.returncode, done.stdout) == (0, table), done.stderr


@pytest.mark.parametrize(
    ('flags', 'word'),
    [
        (['--network', 'resnet5'], 'did you mean'),
        (['--network', 'resnet*'], 'pattern'),
        (['--chip', 'v5'], 'v5e'),
        (['--fraction', '1.5'], '--fraction'),
        (['--batch', '100', '--chips', '8,16'], '100'),
        (['--chip', 'v4', '--chips', '8192'], '--network_bandwidth'),
        (['--costs', '--chips', '8,16'], 'one number'),
        (['--parameters', '3'], '--parameters'),
    ],
)
def test_bad_usage_of_step_time(step_time, capsys, flags, word):
    assert step_time.main(flags) == 2
    out, err = capsys.readouterr()
    assert not out and len(err.splitlines()) == 1 and word in err


# Cloud TPU


def test_a_dry_run_prints_the_commands_and_runs_none(stand_ins):
    make, calls = stand_ins
    env = make(gcloud='', git='')
    printed = {}
    for command in COMMANDS:
        done = run(POD, command, *SLICE, CONFIG, '--dry-run', env=env)
        assert done.returncode == 0 and not done.stderr, done.stderr
        printed[command] = [shlex.split(line) for line in done.stdout.splitlines()]
    assert calls() == []
    tpu = ['gcloud', 'compute', 'tpus', 'tpu-vm']
    assert printed['create'] == [
        [*tpu, 'create', 'pod', '--zone=us-central2-b', '--accelerator-type=v4-32', '--version=tpu-ubuntu2204-base']
    ]
    assert printed['delete'] == [[*tpu, 'delete', 'pod', '--zone=us-central2-b', '--quiet']]
    (launch,) = printed['launch']
    assert launch[:-1] == [*tpu, 'ssh', 'pod', '--zone=us-central2-b', '--worker=all']
    assert (
        f'train.py --config {CONFIG} --config.data_dir=../bucket/imagenet '
        '--workdir gs://b/runs/alexnet_lecture_epochs_3 ' in launch[-1]
    )
    assert printed['resume'][-1] == launch  # the same command resumes
    assert '--worker=0' in printed['follow'][0] and 'tail' in printed['follow'][0][-1]
    assert [command[0] for command in printed['setup']] == ['git', 'gcloud', 'gcloud']


@pytest.mark.parametrize('extra', [[], ['--spot', '--project', 'p', '--queued']])
@pytest.mark.parametrize('command', COMMANDS)
def test_what_runs_is_what_a_dry_run_prints(stand_ins, command, extra):
    make, calls = stand_ins
    env = make(gcloud='case "$*" in *state.state*) echo ACTIVE ;; *"value(state)"*) echo READY ;; esac', git='')
    training = ['--', "--config.init_layers=('conv1', 'fc 6')"] if command in ('launch', 'resume') else []
    line = [POD, command, *SLICE, CONFIG, *extra]
    printed = run(*line, '--dry-run', *training, env=env)
    done = run(*line, *training, env=env)
    assert done.returncode == printed.returncode == 0, done.stderr
    assert calls() == [shlex.split(line) for line in printed.stdout.splitlines()]


def test_a_preempted_slice_is_resumed_on_another(stand_ins):
    make, calls = stand_ins
    env = make(gcloud='case "$*" in *"value(state)"*) echo PREEMPTED ;; *delete*) exit 1 ;; esac', git='')
    assert_bad_usage(run(POD, 'resume', *SLICE, CONFIG, env=env), 'PREEMPTED', '--recreate')
    before = len(calls())
    assert run(POD, 'resume', '--recreate', *SLICE, CONFIG, env=env).returncode == 0  # though there was none to delete
    verbs = [call[4] for call in calls()[before:] if call[0] == 'gcloud']
    assert verbs == ['delete', 'create', 'scp', 'ssh', 'ssh']


@pytest.mark.parametrize(
    'config', ['configs/alexnet.py', 'configs/alexnet.py:lecture,folder=a/b c', 'configs/vgg_d.py:s384']
)
def test_a_run_in_a_bucket_has_the_name_that_train_py_gives(config):
    from runtime import command_line

    done = run(POD, 'launch', '--zone', 'z', '--bucket', 'b', '--config', config, '--dry-run')
    assert f' --workdir gs://b/runs/{command_line.run_name(config)} ' in done.stdout


def test_a_worker_trains_in_the_background_once(stand_ins, tmp_path):
    """The command line that a worker gets, run here, on a stand-in for Python."""
    make, _ = stand_ins
    env = make(gcloud='', gcsfuse='', mountpoint='exit 1') | {'HOME': str(tmp_path)}
    python = tmp_path / 'decade/.venv/bin/python'
    python.parent.mkdir(parents=True)
    python.write_text('#!/bin/sh\necho "$@"\nexec sleep 30\n')
    python.chmod(0o755)
    flag = "--config.init_layers=('conv1', 'fc 6')"
    printed = run(POD, 'launch', *SLICE, CONFIG, '--dry-run', '--', flag, env=env).stdout
    command = shlex.split(printed)[-1].removeprefix('--command=')
    started = subprocess.run(['bash', '-c', command], cwd=tmp_path, env=env, capture_output=True, text=True, timeout=20)
    try:
        assert started.returncode == 0 and not started.stdout + started.stderr
        again = subprocess.run(
            ['bash', '-c', command], cwd=tmp_path, env=env, capture_output=True, text=True, timeout=20
        )
        assert again.returncode == 1 and 'runs already' in again.stderr
    finally:
        pid = int((tmp_path / 'decade/train.pid').read_text())
        os.kill(pid, 15)
    assert (tmp_path / 'decade/train.log').read_text().strip().endswith(flag)


@pytest.mark.parametrize(
    ('arguments', 'word'),
    [
        ([], 'no command'),
        (['fly'], 'fly'),
        (['create'], '--zone'),
        (['create', '--zone'], 'value'),
        (['create', '--zone', 'z', '--accelerator', 'x-2'], '--runtime'),
        (['create', '--zone', 'z', '--zome', 'z'], '--zome'),
        (['create', 'delete', '--zone', 'z'], 'one command'),
        (['create', '--zone', 'z', '--', '--config.seed=1'], 'train.py'),
        (['setup', '--zone', 'z', '--recreate'], 'resume'),
        (['launch', '--zone', 'z'], '--config'),
        (['launch', '--zone', 'z', '--config', 'configs/nothing.py', '--bucket', 'b'], 'configs/nothing.py'),
        (['launch', '--zone', 'z', '--config', 'configs/alexnet.py'], '--bucket'),
    ],
)
def test_bad_usage_of_tpu_pod(stand_ins, arguments, word):
    make, calls = stand_ins
    assert_bad_usage(run(POD, *arguments, env=make(gcloud='')), word)
    assert calls() == []


# Slurm and Kubernetes


def test_slurm_requeues_a_run_that_saved_and_no_other(stand_ins):
    make, calls = stand_ins
    flags = ['--config', 'configs/resnet50.py', '--workdir', 'a b']
    for code, state, requeued in (
        (143, 'RUNNING', True),
        (143, 'CANCELLED', False),
        (0, 'RUNNING', False),
        (2, '', False),
    ):
        env = make(srun=f'exit {code}', squeue=f'echo {state}', scontrol='') | {'SLURM_JOB_ID': '7'}
        before = len(calls())
        assert run(SCRIPTS / 'slurm.sh', *flags, env=env).returncode == code
        made = calls()[before:]
        assert made[0] == ['srun', '--kill-on-bad-exit=0', 'python', 'train.py', *flags]
        assert (['scontrol', 'requeue', '7'] in made) == requeued


def test_slurm_warns_the_run_before_its_time_is_over():
    options = re.findall(r'^#SBATCH (\S+)$', (SCRIPTS / 'slurm.sh').read_text(), re.MULTILINE)
    assert {'--signal=TERM@120', '--requeue', '--open-mode=append'} <= set(options)


@pytest.mark.parametrize(('arguments', 'word'), [([], '--config'), (['--config', 'configs/resnet50.py'], 'sbatch')])
def test_bad_usage_of_slurm(arguments, word):
    env = {key: value for key, value in os.environ.items() if not key.startswith('SLURM')}
    assert_bad_usage(run(SCRIPTS / 'slurm.sh', *arguments, env=env), word)


def test_kubernetes_pods_find_each_other():
    yaml = pytest.importorskip('yaml', reason='PyYAML is not installed')
    service, job = yaml.safe_load_all((SCRIPTS / 'kubernetes.yaml').read_text())
    assert service['spec']['clusterIP'] == 'None' and service['spec']['selector'] == {
        'job-name': job['metadata']['name']
    }
    spec, pod = job['spec'], job['spec']['template']['spec']
    assert spec['completionMode'] == 'Indexed' and pod['subdomain'] == service['metadata']['name']
    assert pod['restartPolicy'] == 'Never' and pod['terminationGracePeriodSeconds'] >= 120
    (container,) = pod['containers']
    words = container['command'][-1].split()
    assert words[:3] == ['exec', 'python', 'train.py']
    value = dict(itertools.pairwise(words))
    port = container['ports'][0]['containerPort']
    assert value['--coordinator'] == f'{job["metadata"]["name"]}-0.{service["metadata"]["name"]}:{port}'
    assert int(value['--num_processes']) == spec['completions'] == spec['parallelism']
    assert value['--process_id'] == '$JOB_COMPLETION_INDEX'


# All of them


@pytest.mark.parametrize('script', ['tpu_pod.sh', 'slurm.sh', 'step_time.py'])
def test_help_helps(script):
    done = (
        run(SCRIPTS / script, '--help') if script.endswith('.sh') else run(sys.executable, SCRIPTS / script, '--help')
    )
    assert done.returncode == 0 and 'usage' in done.stdout and not done.stderr


@pytest.mark.parametrize('script', ['tpu_pod.sh', 'slurm.sh'])
def test_shell_scripts_parse(script):
    assert run('bash', '-n', SCRIPTS / script).returncode == 0
