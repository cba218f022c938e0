"""The figures `architecture` and `block`: the texts and places of their boxes, and the files."""

import pytest
from test_dataflow import graph_of

import architectures
from architectures import catalogue, dataflow
from configs import resnet20
from figures import architecture, block, style
from figures.networks import subject
from runtime.errors import UserError

FEW = ('lenet5', 'googlenet', 'resnet50', 'densenet_bc_100_12', 'se_resnext50_32x4d')


def chain(name):
    return architecture.items(graph_of(name))


def check_chain(name):
    items, entry = chain(name), catalogue.NETWORKS[name]
    assert sum(item.parameters for item in items) == entry.parameters
    assert items[-1].shape == (1, 1, entry.num_classes)
    assert all(item.lines and item.name for item in items)
    assert len(items) <= 21
    with style.look():
        made = architecture.draw(items, entry.input_shape, name, '')
        check_texts(made)


def check_texts(made):
    """No text of a figure crosses its edge or overlaps another text."""
    renderer = made.canvas.get_renderer()
    texts = [*made.axes[0].texts, made._suptitle]
    extents = [text.get_window_extent(renderer) for text in texts if text.get_text()]
    page = made.bbox
    for number, extent in enumerate(extents):
        assert page.x0 <= extent.x0 and extent.x1 <= page.x1 and page.y0 <= extent.y0 and extent.y1 <= page.y1
        others = [other for other in extents[:number] if other.padded(-2).overlaps(extent.padded(-2))]
        assert not others


@pytest.mark.parametrize('name', FEW)
def test_a_chain_has_all_parameters_and_texts_in_their_places(name):
    check_chain(name)


@pytest.mark.slow
@pytest.mark.parametrize('name', [name for name in architectures.names() if name not in FEW])
def test_every_network_is_drawn(name):
    check_chain(name)


@pytest.mark.slow
@pytest.mark.parametrize('name', ['googlenet', 'bn_inception', 'resnet20', 'wrn_28_10', 'senet154', 'densenet121'])
def test_every_block_is_drawn(name):
    graph = graph_of(name)
    for path in graph.blocks:
        drawn = block.boxes(dataflow.flat(dataflow.part(graph, path)), path)
        with style.look():
            check_texts(block.draw(drawn, name))


def test_resnet50_is_its_column_of_table_1():
    stages = [item for item in chain('resnet50') if item.kind == 'block']
    assert [(stage.name, stage.count, *stage.lines, stage.shape) for stage in stages] == [
        ('conv2_x', 3, '1×1, 64 → 3×3, 64 → 1×1, 256', (56, 56, 256)),
        ('conv3_x', 4, '1×1, 128 → 3×3, 128 → 1×1, 512', (28, 28, 512)),
        ('conv4_x', 6, '1×1, 256 → 3×3, 256 → 1×1, 1024', (14, 14, 1024)),
        ('conv5_x', 3, '1×1, 512 → 3×3, 512 → 1×1, 2048', (7, 7, 2048)),
    ]
    assert all(stage.join == 'add' and stage.skip for stage in stages)
    assert [stage.notes for stage in stages[:2]] == [
        ('first: shortcut 1×1, 256',),
        ('first: stride 2, shortcut 1×1, 512',),
    ]


def test_vgg_d_is_thirteen_convolutions_in_five_rows():
    rows = [(item.count, *item.lines) for item in chain('vgg_d') if item.kind == 'convolution']
    assert rows == [(n, f'conv 3×3, {c}') for n, c in ((2, 64), (2, 128), (3, 256), (3, 512), (3, 512))]
    assert chain('vgg_d')[0].name == 'conv1_1 to conv1_2'


def test_a_short_network_is_not_folded():
    assert [item.name for item in chain('alexnet')] == [
        *('conv1', 'pool1', 'conv2', 'pool2', 'conv3', 'conv4', 'conv5', 'pool5', 'fc6', 'fc7', 'fc8')
    ]
    assert chain('alexnet')[0].lines == ('conv 11×11, 96, stride 4', 'LRN')


def test_the_branches_of_an_inception_module_are_lines():
    (module,) = [item for item in chain('googlenet') if item.name == 'inception_3a']
    assert module.lines == ('1×1, 64', '1×1, 96 → 3×3, 128', '1×1, 16 → 5×5, 32', 'max pool 3×3 → 1×1, 32')
    assert module.join == 'concat' and not module.skip and module.parameters == 163_696


def test_a_dense_block_repeats_its_layer_and_joins_it_to_what_it_read():
    (first,) = [item for item in chain('densenet_bc_100_12') if item.name == 'dense_block_1']
    assert (first.count, first.lines, first.join, first.skip) == (16, ('1×1, 48 → 3×3, 12',), 'concat', True)
    assert first.shape == (32, 32, 24 + 16 * 12)


def test_a_gate_has_a_line_of_its_own():
    (stage,) = [item for item in chain('se_resnext50_32x4d') if item.name == 'conv4_x']
    assert stage.count == 6
    assert stage.lines == (
        '1×1, 512 → 3×3, 512, 32 groups → 1×1, 1024',
        '×(global average → fc 64 → fc 1024 → sigmoid)',
    )


def test_columns_are_as_even_as_can_be():
    assert architecture.columns([1, 1, 1, 1], 10) == [[0, 1, 2, 3]]
    assert architecture.columns([1, 1, 1, 1], 2) == [[0, 1], [2, 3]]
    assert architecture.columns([3, 1, 1, 1], 3) == [[0], [1, 2, 3]]


def boxes(name, path):
    path = tuple(path.split('/'))
    return block.boxes(dataflow.flat(dataflow.part(graph_of(name), path)), path)


def test_a_box_is_a_layer_with_its_norm_and_activation():
    drawn = boxes('resnet50', 'conv3_x/block1')
    assert [(box.kind, box.name, box.lines, box.inputs) for box in drawn] == [
        ('input', '', ('input',), ()),
        ('convolution', 'conv1', ('conv 1×1, 128, stride 2', 'batch norm, ReLU'), (0,)),
        ('convolution', 'conv2', ('conv 3×3, 128', 'batch norm, ReLU'), (1,)),
        ('convolution', 'conv3', ('conv 1×1, 512', 'batch norm'), (2,)),
        ('convolution', 'projection', ('conv 1×1, 512, stride 2', 'batch norm'), (0,)),
        ('add', '', ('add',), (3, 4)),
        ('ReLU', '', ('ReLU',), (5,)),
    ]
    assert [box.shape for box in drawn][:2] == [(56, 56, 256), (28, 28, 128)]


def test_a_layer_of_a_dense_block_is_one_box():
    drawn = boxes('densenet_bc_100_12', 'dense_block_1')
    assert drawn[1].name == 'layer1'
    assert drawn[1].lines == ('batch norm, ReLU', 'conv 1×1, 48', 'batch norm, ReLU', 'conv 3×3, 12')
    joins = [box.inputs for box in drawn if box.kind == 'concat']
    assert joins[:3] == [(0, 1), (0, 1, 3), (0, 1, 3, 5)]


@pytest.mark.parametrize(
    ('name', 'path'),
    [('googlenet', 'inception_3a'), ('se_resnext50_32x4d', 'conv2_x/block1'), ('wrn_40_4', 'conv3/block1')],
)
def test_boxes_do_not_overlap_and_are_below_their_inputs(name, path):
    drawn = boxes(name, path)
    centers = block.layout(drawn).centers
    assert sorted(centers) == list(range(len(drawn)))
    for index, box in enumerate(drawn):
        assert all(centers[index][1] < centers[source][1] for source in box.inputs)
    ends = [points[-1] for points, _ in block.layout(drawn).lines]
    assert len(ends) == sum(len(box.inputs) for box in drawn)
    with style.look():
        check_texts(block.draw(drawn, name))


@pytest.mark.parametrize(
    ('figure', 'suffix', 'name'),
    [
        (architecture, 'png', 'lenet5'),
        (architecture, 'svg', 'plain20'),
        (block, 'html', 'plain20'),
        (block, 'png', 'resnet20'),
    ],
)
def test_the_same_network_gives_the_same_file(tmp_path, figure, suffix, name):
    files = [tmp_path / f'{number}.{suffix}' for number in range(2)]
    for file in files:
        figure.make(file, arch=name)
    first, second = (file.read_bytes() for file in files)
    assert first == second and len(first) > 5000


def test_the_first_block_is_the_default():
    assert block.find_block('googlenet', graph_of('googlenet')) == ('inception_3a',)
    assert block.find_block('resnet50', graph_of('resnet50'), 'conv3_x/block2') == ('conv3_x', 'block2')


def test_a_wrong_block_is_reported_with_the_nearest():
    with pytest.raises(UserError, match="no block 'inception_3', did you mean inception_3"):
        block.find_block('googlenet', graph_of('googlenet'), 'inception_3')


def test_one_network_is_named():
    with pytest.raises(UserError, match='--arch NAME'):
        subject()
    with pytest.raises(UserError, match='--arch NAME'):
        subject('lenet5', resnet20.get_config())
    with pytest.raises(UserError, match='did you mean lenet5'):
        subject('lenet6')


@pytest.mark.slow
def test_a_network_without_blocks_says_which_have_some(tmp_path):
    with pytest.raises(UserError, match='lenet5 has no blocks') as told:
        block.make(tmp_path / 'block.svg', arch='lenet5')
    named = str(told.value).rpartition(': ')[2].split(', ')
    assert {'googlenet', 'plain20', 'resnet50', 'wrn_28_10', 'densenet121', 'senet154'} <= set(named)
    assert not {'lenet5_1998', 'alexnet', 'vgg_d', 'prelu_net_a'} & set(named)
    assert not list(tmp_path.iterdir())


def test_a_checkpoint_is_drawn_with_its_own_options(script, tmp_path):
    config = resnet20.get_config()
    config.architecture_options = {'shortcut': 'B'}
    folder, out = tmp_path / 'projecting', tmp_path / 'architecture.html'
    folder.mkdir()
    (folder / 'config.json').write_text(config.to_json_best_effort())
    done = script('visualize.py', 'architecture', '--checkpoint', folder, '--out', out)
    assert done.returncode == 0, done.stderr
    assert 'resnet20 (He et al. 2015), projecting\n272,474 parameters' in out.read_text()  # by architecture_facts
