"""Releases by name: the real client of the hub and a server on loopback, torchvision's files, and the list."""

import hashlib
import json
import re
import shutil

import golden
import hub as hub_server
import numpy as np
import pytest
from foreign_files import HUB_CONFIG
from safetensors import numpy as safetensors

import architectures
import papers
import weights
from runtime import stored_config
from runtime.errors import UserError, one_line
from weights import convert, exporting, fetch, files, homes, passport
from weights.releases import RELEASES

NAME = 'someone/resnet20.c10'
WEIGHTS = bytes(range(256)) * 3000


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """A `hub.Hub` that the client asks, with `NAME` on it, and no cache yet; retries do not wait."""
    huggingface_hub = pytest.importorskip('huggingface_hub')
    from huggingface_hub import constants

    with hub_server.running() as server:
        monkeypatch.setattr(constants, 'ENDPOINT', server.address)
        monkeypatch.setattr(
            constants, 'HUGGINGFACE_CO_URL_TEMPLATE', f'{server.address}/{{repo_id}}/resolve/{{revision}}/{{filename}}'
        )
        monkeypatch.setattr(constants, 'HF_HUB_CACHE', str(tmp_path / 'cache'))
        monkeypatch.setattr(constants, 'HF_TOKEN_PATH', str(tmp_path / 'token'))
        monkeypatch.setattr(constants, 'DOWNLOAD_CHUNK_SIZE', 1000)  # less is lost where a connection breaks
        monkeypatch.setattr('time.sleep', lambda seconds: None)
        server.repos[NAME] = hub_server.Repo(
            {'config.json': json.dumps({'architecture': 'resnet20'}).encode(), 'model.safetensors': WEIGHTS}
        )
        yield server
        huggingface_hub.close_session()


def said(source, arch=''):
    """(`Fetched`, what was said)."""
    lines = []
    return fetch.fetch(source, arch, lines.append), lines


def refused(source, arch=''):
    """The line that a source is refused with."""
    with pytest.raises(UserError) as error:
        fetch.fetch(source, arch, lambda line: None)
    assert '\n' not in str(error.value) and one_line(error.value) == str(error.value)
    return str(error.value)


# The hub


def test_a_release_is_fetched_once_and_pinned(hub):
    found, lines = said(f'hf://{NAME}')
    assert found.path.read_bytes() == WEIGHTS and found.arch == 'resnet20'
    digest = hashlib.sha256(WEIGHTS).hexdigest()
    assert found.origin == {'address': f'hf://{NAME}', 'revision': hub_server.COMMIT, 'sha256': digest}
    assert lines == [
        f'hf://{NAME}: looking it up at {hub.address}',
        f'fetching model.safetensors of {NAME}, revision {hub_server.COMMIT}, 768,000 bytes, from {hub.address}',
    ]
    assert hub.fetched() == [f'/{NAME}/resolve/main/config.json', f'/cdn/{digest}']  # nothing else
    hub.asked.clear()
    again, lines = said(f'hf://{NAME}@{hub_server.COMMIT}')
    assert again == found and lines[1].endswith('768,000 bytes, is in the cache') and not hub.fetched()


def test_without_a_network_the_cache_answers(hub, monkeypatch):
    from huggingface_hub import constants

    found, _ = said(f'hf://{NAME}')
    hub.asked.clear()
    monkeypatch.setattr(constants, 'HF_HUB_OFFLINE', True)
    assert said(f'hf://{NAME}')[0] == found and not hub.asked
    assert 'is not in the cache, and HF_HUB_OFFLINE is set: unset it, or fetch' in refused('hf://someone/else')
    monkeypatch.setattr(constants, 'HF_HUB_OFFLINE', False)
    hub.status = 503
    assert said(f'hf://{NAME}')[0] == found
    line = refused('hf://someone/else')
    assert 'is not in the cache' in line and 'cannot be reached' in line and '--source FILE' in line


def test_nobody_listens(hub, monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(
        constants, 'HUGGINGFACE_CO_URL_TEMPLATE', 'http://127.0.0.1:9/{repo_id}/resolve/{revision}/{filename}'
    )
    line = refused(f'hf://{NAME}')
    assert 'cannot be reached' in line and 'refused' in line and line.endswith('--arch NAME --source FILE --out DIR')


def test_a_moved_release_is_found(hub):
    hub.repos['someone/before'] = hub_server.Repo({}, moved_to=NAME)
    assert said('hf://someone/before')[0].path.read_bytes() == WEIGHTS


def test_a_connection_that_breaks_is_resumed(hub):
    hub.breaks = 2
    assert said(f'hf://{NAME}')[0].path.read_bytes() == WEIGHTS
    ranges = [wanted for _, path, wanted in hub.asked if path.startswith('/cdn/')]
    assert ranges == [None, 'bytes=384000-', 'bytes=576000-']


def test_a_connection_that_keeps_breaking_is_an_error(hub):
    hub.breaks, hub.has_ranges = 1000, False
    hub.repos[NAME].files['model.safetensors'] = b'x'  # half of which is nothing: no attempt gets further
    line = refused(f'hf://{NAME}')
    assert f'hf://{NAME} was not fetched, {hub.address} broke off' in line and 'run this again' in line


def test_a_wrong_hash_is_detected(hub):
    hub.sends = WEIGHTS[::-1]
    line = refused(f'hf://{NAME}')
    assert re.search(r'has the SHA-256 \w{8}\.\.\., not \w{8}\.\.\. as at its home; delete it and run this again', line)
    path = re.search(r'(/\S+) has the', line)[1]
    hub.sends = None
    assert refused(f'hf://{NAME}') == line  # it is still in the cache
    shutil.os.remove(path)
    assert said(f'hf://{NAME}')[0].path.read_bytes() == WEIGHTS


def test_less_than_was_announced_is_an_error(hub):
    hub.sends = WEIGHTS[:-1]
    assert 'Consistency check failed' in refused(f'hf://{NAME}')


def test_what_is_not_there_is_named(hub):
    assert refused('hf://timm/resnet50.tv_in1').startswith(
        f'{hub.address} has no timm/resnet50.tv_in1, or it is private, did you mean timm/resnet50.tv_in1k? `python'
    )
    assert f'{NAME} has no such revision: see' in refused(f'hf://{NAME}@v9')
    hub.repos['some/gated'] = hub_server.Repo({}, is_gated=True)
    assert f'is gated: accept its terms at {hub.address}/some/gated, log in with `hf auth' in refused('hf://some/gated')
    for name in ('hf://resnet50', 'hf://', 'hf://a/b/../c', 'hf://a/b@', 'hf://a b/c'):
        assert 'is not hf://OWNER/NAME' in refused(name)
    assert "Cannot have -- or .. in repo_id: 'a--b/c'" in refused('hf://a--b/c')
    assert not [path for path in hub.fetched() if path.startswith('/cdn/')]


STRANGE = [
    *({'status': code} for code in (204, 400, 403, 404, 410, 418, 429, 500, 503)),
    *({'headers': {'X-Repo-Commit': commit}} for commit in (None, '', '../../../elsewhere', '\x1b[31m')),
    *({'headers': {'X-Linked-Size': size}} for size in ('-1', 'many', '9' * 30, str(5 << 30), '1')),
    {'headers': {'ETag': None, 'X-Linked-Etag': None}},
    *({'headers': {'Location': there}} for there in ('file:///etc/passwd', 'http://127.0.0.1:9/', '//', 'x:y')),
    {'headers': {'Content-Length': 'much'}},
    {'headers': {'Content-Encoding': 'gzip'}},
]


@pytest.mark.parametrize('strange', STRANGE, ids=str)
def test_a_strange_server_is_an_error_in_a_line(hub, strange, tmp_path):
    for name, value in strange.items():
        setattr(hub, name, value)
    refused(f'hf://{NAME}')
    assert sorted(path.name for path in tmp_path.iterdir()) in ([], ['cache'])


def test_only_safetensors_unless_another_file_is_named(hub):
    there = hub.repos[NAME].files
    there['pytorch_model.bin'] = there.pop('model.safetensors')
    line = refused(f'hf://{NAME}')
    assert line.endswith(
        f'has no model.safetensors; to read another of its files as data, pass --source hf://{NAME}/pytorch_model.bin'
    )
    assert said(f'hf://{NAME}/pytorch_model.bin')[0].path.name == 'pytorch_model.bin'
    del there['pytorch_model.bin']
    assert 'has no weight file that can be read; known: .safetensors' in refused(f'hf://{NAME}')


def test_another_network_is_refused_before_it_is_fetched(hub):
    there = hub.repos[NAME].files
    for config, message in (
        (
            {'architecture': 'resnet50d'},
            'of the network resnet50d, which is not one of ours, did you mean resnet50?',
        ),
        (
            {'architectures': ['ViTForImageClassification']},
            'network ViTForImageClassification, which is not one',
        ),
        ({'num_classes': 10}, 'has no config.json that names its network: pass --arch NAME'),
        ({'architecture': 7}, 'is not the config of a release that can be read: Expected `str`, got `int`'),
        (HUB_CONFIG['pretrained_cfg'] | {'pretrained_cfg': {'crop_mode': 'squash'}}, "Invalid enum value 'squash'"),
    ):
        there['config.json'] = json.dumps(config).encode()
        assert message in refused(f'hf://{NAME}')
        shutil.rmtree(fetch_cache(), ignore_errors=True)
    there['config.json'] = b'{'
    assert 'is not the config of a release' in refused(f'hf://{NAME}')
    shutil.rmtree(fetch_cache())
    del there['config.json']
    assert 'pass --arch NAME' in refused(f'hf://{NAME}')
    assert not [path for path in hub.fetched() if path.startswith('/cdn/')]
    assert said(f'hf://{NAME}', 'resnet20')[0].path.read_bytes() == WEIGHTS


def fetch_cache():
    from huggingface_hub import constants

    return constants.HF_HUB_CACHE


def test_pixels_and_license_are_its_own(hub):
    there = hub.repos[NAME].files
    there['config.json'] = json.dumps(HUB_CONFIG).encode()
    found, _ = said(f'hf://{NAME}')
    assert (found.arch, found.licence) == ('resnet50', 'apache-2.0')
    crop = {'kind': 'center', 'short_side': (288, 288), 'filter': 'bicubic', 'truncate': True, 'center_rounds': 'even'}
    assert {key: found.pixels[key] for key in ('image_size', 'test_crop', 'mean', 'std')} == {
        'image_size': 288, 'test_crop': crop, 'mean': 'fb', 'std': 'fb',
    }  # fmt: skip
    other = HUB_CONFIG['pretrained_cfg'] | {'mean': [0.1, 0.2, 0.3]}
    with pytest.raises(UserError, match=r'has the mean \[0.1, 0.2, 0.3\], which is none of none, caffe'):
        fetch._pixels('x', fetch._HubConfig(pretrained_cfg=fetch.msgspec.convert(other, fetch._Pretrained)))
    plain = {key: HUB_CONFIG['pretrained_cfg'][key] for key in ('input_size', 'crop_pct', 'mean', 'std')}
    plain = plain | {'mean': [0.5, 0.5, 0.5], 'std': [0.5, 0.5, 0.5]}
    pixels = fetch._pixels('x', fetch._HubConfig(pretrained_cfg=fetch.msgspec.convert(plain, fetch._Pretrained)))
    assert (pixels['mean'], pixels['test_crop']['short_side']) == ('inception', (235, 235))


def test_the_license_of_the_card_if_the_config_has_none(hub):
    there = hub.repos[NAME].files
    there['README.md'] = b'---\ntags: [x]\nlicense: mit\n---\nlicense: none\n'
    assert said(f'hf://{NAME}')[0].licence == 'mit'


@pytest.fixture(scope='module')
def resnet20():
    """The tensors of a ResNet-20, as akamaster names them, in a safetensors file."""
    release = RELEASES['resnet20'][0]
    model = architectures.create('resnet20', **release.options)
    variables = golden.variables(model, convert.input_shape(release))
    return safetensors.save(exporting.state_dict('resnet20', model, variables, release))


def test_a_release_becomes_a_checkpoint_once(hub, resnet20, tmp_path, monkeypatch):
    """As `--config.init_from` of train.py takes it."""
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path))
    config = {'architecture': 'resnet20', 'label_names': list('abcdefghij'), 'num_classes': 10}
    hub.repos[NAME].files |= {'config.json': json.dumps(config).encode(), 'model.safetensors': resnet20}
    folder = weights.converted(f'hf://{NAME}', say=lambda line: None)
    assert folder == tmp_path / 'imagenet-decade' / 'weights' / 'hf--someone--resnet20.c10'
    card = passport.read(folder)
    assert card['architecture'] == stored_config.get_config(str(folder)).architecture == 'resnet20'
    assert card['class_names'] == list('abcdefghij')
    source = card['source']
    assert (source['revision'], source['bytes']) == (hub_server.COMMIT, len(resnet20))
    assert source['sha256'] == hashlib.sha256(resnet20).hexdigest() and source['address'] == f'hf://{NAME}'
    hub.asked.clear()
    assert weights.converted(f'hf://{NAME}') == folder
    with pytest.raises(UserError, match='already exists and is not overwritten'):
        weights.convert_file('hf://not/asked', '', folder)
    assert not hub.asked


def test_a_failed_fetch_leaves_no_folder(hub, tmp_path):
    with pytest.raises(UserError, match='has no'):
        weights.convert_file('hf://no/such', '', tmp_path / 'new' / 'out', say=lambda line: None)
    assert not list((tmp_path / 'new').iterdir())


@pytest.mark.slow
def test_the_command(hub, resnet20, tmp_path, script):
    """As a user calls it: a new process, HF_ENDPOINT and HF_HOME."""
    hub.repos[NAME].files['model.safetensors'] = resnet20
    script.env |= {'HF_ENDPOINT': hub.address, 'HF_HOME': str(tmp_path / 'home')}
    hub.breaks = 1
    done = script.fresh('convert.py', '--source', f'hf://{NAME}', '--out', tmp_path / 'out')
    assert done.returncode == 0 and not done.stderr, done.stderr
    assert f'fetching model.safetensors of {NAME}, revision {hub_server.COMMIT}' in done.stdout
    done = script.fresh('convert.py', '--source', 'hf://no/such', '--out', tmp_path / 'other')
    assert done.returncode == 2 and done.stderr.count('\n') == 1 and f'{hub.address} has no no/such' in done.stderr


# torchvision


@pytest.fixture
def torchvision(monkeypatch, tmp_path):
    """A `hub.Hub` in place of torchvision's server, with a file for resnet18."""
    monkeypatch.setenv('TORCH_HOME', str(tmp_path / 'torch'))
    with hub_server.running() as server:
        start = hashlib.sha256(WEIGHTS).hexdigest()[:8]
        monkeypatch.setattr(homes, 'TORCHVISION_ADDRESS', f'{server.address}/models')
        monkeypatch.setitem(homes.TORCHVISION, 'resnet18', (start,))
        server.file = tmp_path / 'torch' / 'hub' / 'checkpoints' / f'resnet18-{start}.pth'
        server.plain[f'/models/{server.file.name}'] = WEIGHTS
        yield server


def test_torchvision(torchvision):
    found, lines = said('torchvision:resnet18')
    assert found.path == torchvision.file and found.path.read_bytes() == WEIGHTS
    assert (found.arch, found.by, found.pixels) == ('resnet18', 'torchvision', {})
    address = f'{torchvision.address}/models/{torchvision.file.name}'
    assert lines == [f'fetching {address}, 768,000 bytes']
    assert found.origin['address'] == address and found.origin['revision'] == 'IMAGENET1K_V1'
    torchvision.asked.clear()
    again, lines = said('torchvision:resnet18@IMAGENET1K_V1')
    assert again == found and 'is in the cache' in lines[0] and not torchvision.asked
    torchvision.file.write_bytes(b'x')
    assert 'delete it and run this again' in refused('torchvision:resnet18')


def test_torchvision_resumes(torchvision):
    torchvision.breaks = 1
    line = refused('torchvision:resnet18')
    assert 'broke off after 384,000 of 768,000 bytes: run this again, or put the file at' in line
    found, lines = said('torchvision:resnet18')
    assert found.path.read_bytes() == WEIGHTS and lines[0].endswith('768,000 bytes, from byte 384,000 on')
    assert torchvision.asked[-1][2] == 'bytes=384000-' and len(list(found.path.parent.iterdir())) == 1
    found.path.unlink()
    torchvision.breaks, torchvision.has_ranges = 1, False
    refused('torchvision:resnet18')
    assert said('torchvision:resnet18')[0].path.read_bytes() == WEIGHTS


def test_torchvision_does_not_send_what_it_should(torchvision):
    torchvision.sends = WEIGHTS[::-1]
    assert re.search(r'sent has the SHA-256 \w{8}\.\.\., not \w{8}\.\.\.: run', refused('torchvision:resnet18'))
    assert not list(torchvision.file.parent.iterdir())
    torchvision.status = 404
    assert 'answers HTTP Error 404: Not Found: run this again, or put the file at' in refused('torchvision:resnet18')
    torchvision.shutdown()
    torchvision.server_close()
    assert 'cannot be reached' in refused('torchvision:resnet18')


@pytest.mark.parametrize(
    'strange',
    [
        *({'status': code} for code in (204, 206, 301, 401, 418, 500)),
        *({'headers': {'Content-Length': size}} for size in (None, '-1', 'much', '9' * 30, '1')),
        *({'status': 302, 'headers': {'Location': there}} for there in ('file:///etc/passwd', 'x:y', '//', '/again')),
    ],
    ids=str,
)
def test_a_strange_server_in_place_of_torchvisions(torchvision, strange):
    for name, value in strange.items():
        setattr(torchvision, name, value)
    refused('torchvision:resnet18')
    assert not torchvision.file.exists()


def test_names_of_torchvision():
    assert "no release 'resnet51' of torchvision, did you mean resnet50?" in refused('torchvision:resnet51')
    assert "has no version 'V3'; it has IMAGENET1K_V1 and IMAGENET1K_V2" in refused('torchvision:resnet50@V3')
    assert "has no version 'IMAGENET1K_V2'; it has IMAGENET1K_V1" in refused('torchvision:vgg16@IMAGENET1K_V2')
    known = homes.networks('torchvision')
    assert known.keys() - homes.TORCHVISION.keys() == {'densenet264'}  # the paper's, which has no weights there
    assert not homes.TORCHVISION.keys() - known.keys()
    hashes = [start for each in homes.TORCHVISION.values() for start in each]
    assert len(set(hashes)) == len(hashes) == 26 and all(re.fullmatch('[0-9a-f]{8}', start) for start in hashes)
    assert homes.torchvision_file('alexnet', 0) == 'alexnet-owt-7be5be79.pth'
    assert homes.torchvision_file('resnet50', 1) == 'resnet50-11ad3fa6.pth'


# Files, and the list


def test_a_vgg_of_timm_has_torchvisions_names(tmp_path):
    draws = np.random.default_rng(0)
    fc6 = draws.normal(size=(4, 2, 7, 7)).astype(np.float32)
    tensors = {'features.0.weight': fc6[..., :3, :3], 'pre_logits.fc1.weight': fc6, 'pre_logits.fc1.bias': fc6[0, 0, 0]}
    tensors |= {'pre_logits.fc2.weight': fc6[:, :, :1, :1], 'head.fc.weight': fc6[:, :, 0, 0]}
    np.savez(tmp_path / 'vgg.npz', **tensors)
    found = files.read(tmp_path / 'vgg.npz').tensors
    assert list(found) == [
        'features.0.weight', 'classifier.0.weight', 'classifier.0.bias', 'classifier.3.weight', 'classifier.6.weight',
    ]  # fmt: skip
    np.testing.assert_array_equal(found['classifier.0.weight'], fc6.reshape(4, 98))
    assert found['classifier.3.weight'].shape == (4, 2) and found['features.0.weight'].ndim == 4


def test_the_list():
    lines = list(homes.listed())
    assert max(map(len, lines)) <= 80
    networks = [line for line in lines[1:] if not line.startswith(' ')]
    assert networks == [name for name in RELEASES if name != 'densenet264']
    text = '\n'.join(' '.join(line.split()) for line in lines)
    for line in (
        'torchvision:resnet50 23.87 7.138', 'torchvision:resnet50@IMAGENET1K_V2 19.142 4.566',
        'torchvision:resnext101_64x4d 16.754 3.546', 'hf://timm/resnet50.tv_in1k 23.844 7.134',
        'ResNet-50-model from KaimingHe/deep-residual-networks 24.7 7.8', 'bvlc_googlenet from BVLC/caffe 31.3 11.1',
        'hf://timm/legacy_senet154.in1k 18.680 4.498',
    ):  # fmt: skip
        assert line in text
    assert len(homes.on_hub()) == len(papers.TABLES['timm'].lines) == text.count('hf://')


def test_the_list_as_a_command(script):
    done = script('convert.py', '--list')
    assert done.returncode == 0 and done.stdout.splitlines() == list(homes.listed())
