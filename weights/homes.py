"""Where published weights are: torchvision's addresses, the releases on the hub, and who has the other files."""

import papers
from architectures.catalogue import NETWORKS
from weights.releases import RELEASES

# torchvision's file of NAME is NAME-HASH.pth: of the weights IMAGENET1K_V1 and, if there are two, IMAGENET1K_V2. HASH
# is the start of its SHA-256.
TORCHVISION_ADDRESS = 'https://download.pytorch.org/models'
TORCHVISION = {
    **{'alexnet': ('7be5be79',), 'vgg11': ('8a719046',), 'vgg13': ('19584684',), 'vgg16': ('397923af',)},
    **{'vgg19': ('dcbb9e9d',), 'vgg11_bn': ('6002323d',), 'vgg13_bn': ('abd245e5',), 'vgg16_bn': ('6c64b313',)},
    **{'vgg19_bn': ('c79401a0',), 'resnet18': ('f37072fd',), 'resnet34': ('b627a593',)},
    **{'resnet50': ('0676ba61', '11ad3fa6'), 'resnet101': ('63fe2227', 'cd907fc2')},
    **{'resnet152': ('394f9c45', 'f82ba261'), 'wide_resnet50_2': ('95faca4d', '9ba9bcbe')},
    **{'resnext50_32x4d': ('7cdf4587', '1a0047aa'), 'resnext101_64x4d': ('173b62eb',)},
    **{'densenet121': ('a639ec97',), 'densenet169': ('b2777c0a',), 'densenet201': ('c1103571',)},
    **{'densenet161': ('8d451a50',)},
}
VERSIONS = 'IMAGENET1K_V1', 'IMAGENET1K_V2'
_FILES = {'alexnet': 'alexnet-owt'}
_LATER_RECIPE = 'resnext101_64x4d'  # whose first weights are by the recipe of the others' second ones

ON_HUB = 'torchvision', 'timm', 'timm_legacy', 'akamaster'  # whose names of networks a hub's config.json has

# Who has the files of the other releases, as OWNER/NAME on GitHub: {'BY FAMILY' or 'BY': where}
_FILES_OF = {
    'caffe': 'BVLC/caffe',
    'caffe_caffenet': 'BVLC/caffe',
    'caffe VGG': 'www.robots.ox.ac.uk/~vgg',
    'caffe ResNet': 'KaimingHe/deep-residual-networks',
    'caffe SENet': 'hujie-frank/SENet',
    'caffe BN-Inception': 'hujie-frank/SENet',
    'caffe_fork': 'yjxiong/caffe',
    'cadene_bgr': 'Cadene/pretrained-models.pytorch',
    'akamaster': 'akamaster/pytorch_resnet_cifar10',
}


def networks(*by):
    """Return {their name: our network} of the releases of some libraries."""
    return {release.theirs: name for name, releases in RELEASES.items() for release in releases if release.by in by}


def is_later(name, version):
    """Return whether torchvision trained weights by its later recipe, which is tested on larger images."""
    return version > 0 or name == _LATER_RECIPE


def torchvision_file(name, version):
    """Return the name of the file of torchvision's weights `VERSIONS[version]` of a network."""
    return f'{_FILES.get(name, name)}-{TORCHVISION[name][version]}.pth'


def on_hub():
    """Return {release of timm: (our network, top-1, top-5)} of the hub's releases that are known here."""
    known = networks(*ON_HUB)
    lines = papers.TABLES['timm'].lines
    return {release: (known[release.partition('.')[0]], top1, top5) for release, _, top1, top5 in lines}


def listed():
    """Yield lines: each network with its releases, and the top-1 and top-5 errors published for them."""
    hub = on_hub()
    yield f'{"network: its releases, or their files and who has them":60} {"top-1":>7} {"top-5":>6}'
    for name, releases in RELEASES.items():
        rows = [row for release in releases for row in _rows(name, release)]
        rows += [(f'hf://timm/{release}', top1, top5) for release, (ours, top1, top5) in hub.items() if ours == name]
        if rows:
            yield name
            yield from (f'  {source:58} {top1:>7} {top5:>6}'.rstrip() for source, top1, top5 in rows)


def _rows(network, release):
    """Return (source, top-1, top-5) for each file of a `Release`; timm's are in its own table."""
    name = release.theirs
    if release.by == 'torchvision':
        return [_torchvision(name, version) for version in range(len(TORCHVISION.get(name, ())))]
    if release.by.startswith('timm'):
        return []
    where = _FILES_OF.get(f'{release.by} {NETWORKS[network].family}') or _FILES_OF[release.by]
    rows = [row for table in papers.TABLES.values() for row in table.rows if _is_of(row, f'{release.by}/{name}')]
    row = min(rows, key=lambda row: not row.protocols[0].startswith('single'), default=None)
    errors = ['' if error is None else str(error) for error in (row.top1, row.top5)] if row else ('', '')
    return [(f'{name} from {where}', *errors)]


def _torchvision(name, version):
    table = papers.TABLES['torchvision_v2' if is_later(name, version) else 'torchvision']
    errors = next((line[1:] for line in table.lines if line[0] == name), ('', ''))
    return f'torchvision:{name}{f"@{VERSIONS[version]}" * version}', *errors


def _is_of(row, release):
    return len(row.members) == 1 and any(origin.release == release for origin in row.members[0].origins)
