"""The notebooks run from the first cell to the last; what they were committed with is small and of no one machine."""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from conftest import ROOT
from test_docs import anchors

NOTEBOOKS = sorted((ROOT / 'notebooks').glob('*.ipynb'))
LARGEST = 900_000  # bytes
OF_A_MACHINE = re.compile(r'(?<![\w.:/])(/(home|root|tmp|usr|opt|var|work|mnt|content|Users|private)/|~/|[A-Z]:\\)')
PROGRESS = re.compile(r'([^\n]+: [\d,]+ of [\d,]+, about [\d:]+ left\n)*')  # of what takes more than ten seconds
PHOTOGRAPHS = ('03_pretrained', '04_your_own_classes')  # notebooks that take weights and photographs
# A first cell. What Jupyter warns of in its own code is not ours.
STRICT = r"""
import warnings

warnings.simplefilter('error')
warnings.filterwarnings('ignore', module=r'.*\b(ipykernel|matplotlib_inline)\b')
"""


def cells(notebook, kind='code'):
    return [cell for cell in notebook['cells'] if cell['cell_type'] == kind]


def faults(notebook):
    """What is wrong with the outputs of a notebook: errors, warnings, paths."""
    for cell in cells(notebook):
        for output in cell['outputs']:
            texts = [value for kind, value in output.get('data', {}).items() if kind.startswith('text/')]
            text = ''.join(map(''.join, [*texts, output.get('text', '')]))
            is_progress = output.get('name') == 'stderr' and PROGRESS.fullmatch(text)
            if output['output_type'] == 'error' or (output.get('name') == 'stderr' and not is_progress):
                yield f'{cell["id"]}: {text or output.get("evalue")}'
            if OF_A_MACHINE.search(text):
                yield f'{cell["id"]} has a path of a machine: {text}'


@pytest.mark.parametrize('path', NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_as_committed(path):
    notebook = json.loads(path.read_text())
    code = cells(notebook)
    assert not list(faults(notebook))
    assert [cell['execution_count'] for cell in code] == list(range(1, len(code) + 1))  # run once, as a whole
    assert path.stat().st_size < LARGEST
    assert code[0]['source'] == cells(json.loads(NOTEBOOKS[0].read_text()))[0]['source']  # installs in Colab
    for cell in cells(notebook, 'markdown'):
        for link in re.findall(r'\]\(([^)]+)\)', ''.join(cell['source'])):
            page, _, anchor = link.partition('#')
            if not link.startswith('https://'):
                assert (path.parent / page).exists(), link
                assert not anchor or anchor in anchors(path.parent / page), link


@pytest.fixture
def clone(tmp_path):
    """A folder like a clone, without runs."""
    for item in ROOT.iterdir():
        if item.name not in ('runs', 'notebooks'):
            (tmp_path / item.name).symlink_to(item)
    shutil.copytree(ROOT / 'notebooks', tmp_path / 'notebooks')
    (tmp_path / 'runs').mkdir()
    return tmp_path


def run(notebook, folder, quick=False, **environment):
    """Run a notebook in a folder, with warnings as errors; `quick` if it compiles for longer than it computes."""
    import nbclient  # which takes half a second, and the fast tests do not need
    import nbformat

    notebook.cells.insert(0, nbformat.v4.new_code_cell(STRICT))
    of_tests = 'XLA_FLAGS', 'NPROC', 'PJRT_NPROC', *([] if quick else ['JAX_DISABLE_MOST_OPTIMIZATIONS'])
    kept = {key: value for key, value in os.environ.items() if key not in of_tests}
    client = nbclient.NotebookClient(notebook, timeout=600, resources={'metadata': {'path': str(folder)}})
    client.execute(env=kept | environment)


@pytest.mark.slow
@pytest.mark.optimized
@pytest.mark.timeout(600)
@pytest.mark.parametrize('path', NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs(path, clone, request):
    import nbformat

    if path.stem in PHOTOGRAPHS:
        weights = request.getfixturevalue('converted')('bvlc_googlenet.caffemodel', 'googlenet')
        photographs = sorted((request.getfixturevalue('test_data') / 'imagenet' / 'foolbox').glob('*.jpg'))
        if not photographs:
            pytest.skip("foolbox's photographs are not there")
        (clone / 'runs' / 'bvlc_googlenet').symlink_to(weights)
        (clone / 'runs' / 'photographs').mkdir()
        for file in photographs:
            shutil.copy(file, clone / 'runs' / 'photographs')
    notebook = nbformat.read(path, 4)
    run(notebook, clone / 'notebooks', quick=path.stem == '03_pretrained')
    assert not list(faults(notebook))


@pytest.mark.slow
def test_the_first_cell_installs_in_colab(tmp_path):
    import nbformat

    inside = subprocess.run(['git', 'rev-parse', '--git-dir'], cwd=ROOT, capture_output=True, text=True)
    if inside.returncode:
        pytest.skip('this is no clone of git')
    notebook = nbformat.read(NOTEBOOKS[0], 4)
    notebook.cells = [cell for cell in notebook.cells if cell.cell_type == 'code'][:1]
    source = re.sub('https://[^\n]*', f'file://{ROOT}', notebook.cells[0].source)
    assert source.count(f'file://{ROOT}') == 1
    notebook.cells[0].source = source.replace(str(ROOT), f'{ROOT} imagenet-decade')
    notebook.cells.append(nbformat.v4.new_code_cell('import imagenet_decade\nimagenet_decade.__file__'))
    run(notebook, tmp_path, COLAB_RELEASE_TAG='release')
    imported = notebook.cells[-1].outputs[0].data['text/plain'].strip("'")
    assert Path(imported).is_relative_to(tmp_path / 'imagenet-decade')
