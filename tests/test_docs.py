"""What the documentation names exists: the scripts, flags, configs and figures of its commands, its files and links."""

import ast
import fnmatch
import functools
import importlib.util
import re
import shlex
import tomllib
from pathlib import Path

from conftest import ROOT
from ml_collections import ConfigDict

import architectures
from configs import base, listing

PAGES = sorted([*ROOT.glob('*.md'), *(ROOT / 'docs').rglob('*.md'), *(ROOT / 'results').glob('*.md')])
RECIPES = sorted((ROOT / 'configs').glob('*.py'))  # their docstrings tell commands, too
OURS = {path.parent.name for path in ROOT.glob('*/__init__.py')}  # packages
# A placeholder: DIR, NAME.py, $network, ..., but not README.md.
PLACEHOLDER = re.compile(r'^\.\.\.$|\$\w+|\b[A-Z][A-Z0-9_]*\b(?!\.md)')


# Reading


@functools.cache
def code(path):
    """The code of a page, or of a module's docstring: blocks and spans, each a text."""
    text = path.read_text()
    if path.suffix == '.py':
        text = ast.get_docstring(ast.parse(text)) or ''
        blocks = re.findall(r'(?:^    .*\n?)+', text, re.MULTILINE)
    else:
        blocks = re.findall(r'^```.*?\n(.*?)^```', text, re.MULTILINE | re.DOTALL)
        text = prose(path)
    spans = [' '.join(span.split()) for span in re.findall(r'`([^`]+)`', text)]
    return [block.replace('\\\n', ' ') for block in blocks] + spans


def prose(path):
    """A page without its blocks of code."""
    return re.sub(r'^```.*?^```', '', path.read_text(), flags=re.MULTILINE | re.DOTALL)


def commands(path):
    """The calls of the project's Python in a page: (script or module, its arguments)."""
    for line in (line for text in code(path) for line in text.splitlines()):
        for call in re.finditer(r'\bpython3? (?=-m |[\w/]+\.py)', line):
            words = shlex.split(re.split(r' (?:&&|\||>) |;', line[call.end() :])[0], comments=True)
            script, *arguments = words[1:] if words[0] == '-m' else words
            if script.endswith('.py') or script.partition('.')[0] in OURS:
                yield script, arguments


@functools.cache
def flags(file):
    """The names of a script's flags."""
    text, found = file.read_text(), set()
    for node in ast.walk(ast.parse(text)):
        called = getattr(node.func, 'attr', '') if isinstance(node, ast.Call) else ''
        if called.startswith('DEFINE_') or called == 'add_argument':
            found.add(ast.literal_eval(node.args[0]).removeprefix('--'))
    if 'define_processes()' in text:
        found |= {'coordinator', 'num_processes', 'process_id'}
    if 'import command_line' in text:
        found.add('config')
    return found | {f'no{flag}' for flag in found} | {f'no-{flag}' for flag in found} | {'help'}


def source(script):
    """The file of a script, 'train.py', or of a module, 'input_pipeline.show', or None."""
    if script.endswith('.py'):
        file = ROOT / script
    else:
        spec = importlib.util.find_spec(script)
        file = Path(spec.origin) if spec else ROOT / 'none'
        file = file.with_name('__main__.py') if file.name == '__init__.py' else file
    return file if file.is_file() else None


def figures():
    """The names that visualize.py lists."""
    for node in ast.parse((ROOT / 'figures' / '__init__.py').read_text()).body:
        if isinstance(node, ast.Assign) and node.targets[0].id == 'FIGURES':
            return ast.literal_eval(node.value)


def parameters(figure):
    """The arguments of a figure's `make`: (all, those without a default)."""
    tree = ast.parse((ROOT / 'figures' / f'{figure}.py').read_text())
    arguments = next(node.args for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == 'make')
    every = [argument.arg for argument in arguments.args]
    return every, every[: len(every) - len(arguments.defaults)]


def anchors(path):
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r'^#+ (.*)', prose(path), re.MULTILINE)
    return {re.sub(r'[^\w -]', '', heading.lower()).replace(' ', '-') for heading in headings}


# Checks: each yields one line per error


def faults(script, arguments):
    """Of a command."""
    file = source(script)
    if file is None:
        yield f'{script} does not exist'
        return
    given = [re.match(r'--?([\w.-]+)', word)[1] for word in arguments if re.match(r'--?[a-z]', word)]
    config = base.get_config()
    for word, following in zip(arguments, [*arguments, ''][1:], strict=True):
        if word.partition('=')[0] == '--config':
            try:
                config = opened(word.partition('=')[2] or following) or config
            except ValueError as error:
                yield str(error)
    for flag in given:
        if flag.partition('.')[0] not in flags(file):
            yield f'{script} has no flag --{flag}'
        elif flag.startswith('config.') and not has(config, flag.removeprefix('config.')):
            yield f'no key {flag}'
    if script == 'visualize.py':
        yield from faults_of_figure(arguments, given)
    if script == 'architectures' and arguments and not fnmatch.filter(architectures.names(), arguments[0]):
        yield f'no network {arguments[0]}'


def opened(file_and_variant):
    """The config that --config names; None if the name is a placeholder."""
    file, _, variant = file_and_variant.partition(':')
    if PLACEHOLDER.search(file):
        return None
    if not (ROOT / file).is_file():
        raise ValueError(f'no file {file}')
    if file == 'runtime/stored_config.py':
        return None
    # folder=DIR and epochs=N are the reader's to fill in
    known = [part for part in variant.split(',') if not (PLACEHOLDER.search(part) or part in ('small', 'finetune'))]
    return listing.load(f'{Path(file).stem}:{",".join(known)}')


def has(config, key):
    """Whether a config has a key, 'colour.flip'."""
    for part in key.split('.'):
        if not isinstance(config, ConfigDict) or part not in config:
            return bool(PLACEHOLDER.search(key))
        config = config[part]
    return True


def faults_of_figure(arguments, given):
    """Of a command of visualize.py, besides."""
    figure = arguments[0] if arguments else 'FIGURE'
    if PLACEHOLDER.search(figure):
        return
    if figure not in figures():
        yield f'no figure {figure}'
        return
    every, required = parameters(figure)
    yield from (f'{figure} takes no --{flag}' for flag in given if flag.partition('.')[0] not in every)
    yield from (f'{figure} needs --{flag}' for flag in required if flag != 'config' and flag not in given)


def test_commands_name_what_there_is():
    told = [(path, *command) for path in (*PAGES, *RECIPES) for command in commands(path)]
    assert len(told) > 150
    wrong = [f'{path.relative_to(ROOT)}: {fault}' for path, *command in told for fault in faults(*command)]
    assert wrong == []


def test_links_lead_somewhere():
    dead = []
    for path in PAGES:
        folder = path.parents[1] if path.parent.name == 'gallery' else path.parent  # captions, joined a folder above
        for link in re.findall(r'\]\(([^)\s]+)\)', prose(path)):
            file, _, anchor = link.partition('#')
            target = folder / file if file else path
            if not re.match(r'[a-z]+:', link) and not (
                target.exists() and (not anchor or target.suffix != '.md' or anchor in anchors(target))
            ):
                dead.append(f'{path.relative_to(ROOT)}: {link}')
    assert dead == []


def test_files_that_are_named_exist():
    missing = []
    for path in PAGES:
        words = re.findall(r'(?<![\w/.-])[\w-]+/[\w/.-]*\w|(?<![\w/.-])test_\w+\.py', ' '.join(code(path)))
        for word in {word for word in words if not PLACEHOLDER.search(word)}:
            file = ROOT / 'tests' / word if word.startswith('test_') else ROOT / word
            ours = (ROOT / word.partition('/')[0]).is_dir() and not word.startswith('runs/')
            if (ours or word.startswith('test_')) and not file.exists():
                missing.append(f'{path.relative_to(ROOT)}: {word}')
    assert missing == []


def test_flags_that_are_named_without_a_script_are_of_one():
    folders = ('.', 'architectures', 'configs', 'input_pipeline', 'scripts')
    known = set().union(*(flags(file) for folder in folders for file in (ROOT / folder).glob('*.py')))
    shell = ''.join(file.read_text() for file in (ROOT / 'scripts').glob('*.*'))
    unknown = []
    for path in PAGES:
        for flag in (match[1] for text in code(path) if (match := re.match(r'--([\w.-]+)', text))):
            key = flag.removeprefix('config.')
            if not (has(base.get_config(), key) if key != flag else flag in known or f'--{flag}' in shell):
                unknown.append(f'{path.relative_to(ROOT)}: --{flag}')
    assert unknown == []


def test_a_wrong_command_is_found():
    def first(*command):
        return next(faults(command[0], command[1:]), '')

    assert first('trian.py') == 'trian.py does not exist'
    assert first('input_pipeline.shows') == 'input_pipeline.shows does not exist'
    assert first('train.py', '--config', 'configs/alexnett.py') == 'no file configs/alexnett.py'
    assert first('train.py', '--config=configs/alexnet.py:lectures,folder=DIR').startswith("no variant 'lectures'")
    assert first('train.py', '--config=configs/alexnet.py', '--config.rate=1') == 'no key config.rate'
    assert first('train.py', '--config=configs/alexnet.py', '--config.colour.flip=False', '--check') == ''
    assert first('evaluate.py', '--chekpoint', 'DIR') == 'evaluate.py has no flag --chekpoint'
    assert first('visualize.py', 'timelines', '--out', 'FILE') == 'no figure timelines'
    assert first('visualize.py', 'timeline', '--layer=conv1') == 'timeline takes no --layer'
    assert first('visualize.py', 'filters', '--out', 'FILE') == 'filters needs --checkpoint'
    assert first('architectures', 'vgg_f') == 'no network vgg_f' and first('architectures', 'vgg_*') == ''


def test_an_installed_package_has_every_module_that_the_scripts_import():
    project = tomllib.loads((ROOT / 'pyproject.toml').read_text())
    rooms = OURS - {'tests', 'imagenet_decade'}
    folders = {f'imagenet_decade.{room}': room for room in rooms} | {'imagenet_decade.scripts': '.'}
    assert project['tool']['setuptools']['package-dir'] == folders
    assert set(project['tool']['setuptools']['packages']) == {'imagenet_decade', *folders}
    commands = {path.stem for path in ROOT.glob('*.py')} | {'architectures', 'configs'}
    assert set(project['project']['scripts']) == {f'decade-{name}' for name in commands}
