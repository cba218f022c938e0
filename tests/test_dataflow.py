"""The graphs of the networks: what the papers' figures draw by hand."""

import functools

import jax.numpy as jnp
import pytest
from conftest import quickly

import architectures
from architectures import catalogue, dataflow, layers
from architectures.inception import GOOGLENET
from runtime.errors import UserError

FEW = ('lenet5_1998', 'alexnet', 'prelu_net_a', 'googlenet', 'resnet20', 'wrn_40_4', 'se_resnet50')


@functools.cache
def graph_of(name, **options):
    entry = catalogue.NETWORKS[name]
    return quickly(lambda: dataflow.trace(architectures.create(name, **options), entry.input_shape))


def block(name, path, **options):
    return dataflow.part(graph_of(name, **options), tuple(path.split('/')))


def kinds(nodes, elements):
    return [nodes[index].kind for index in elements]


def layers_in(nodes, elements):
    """(kind, side of the kernel, channels) of all nodes but norms and activations."""
    small = (*dataflow.NORMS, *dataflow.ACTIVATIONS)
    chosen = [nodes[index] for index in elements if nodes[index].kind not in small]
    return [(node.kind, node.kernel and node.kernel[0], node.shape[2]) for node in chosen]


def only_parallel(graph):
    elements = dataflow.sequence([node.inputs for node in graph.nodes])
    (split,) = [element for element in elements if isinstance(element, dataflow.Parallel)]
    return split


def check_counts(name):
    graph, entry = graph_of(name), catalogue.NETWORKS[name]
    assert sum(node.parameters for node in graph.nodes) == entry.parameters
    assert graph.nodes[0].kind == 'input' and graph.nodes[0].shape == entry.input_shape
    assert graph.nodes[-1].shape == (1, 1, entry.num_classes)
    assert all(source < index for index, node in enumerate(graph.nodes) for source in node.inputs)
    readers = dataflow.consumers([node.inputs for node in graph.nodes])
    assert [index for index, found in enumerate(readers) if not found] == [len(graph.nodes) - 1]  # nothing dangles
    multiply_adds = 0
    for node in graph.nodes:
        if node.kind == 'convolution':
            rows, columns, _ = node.shape
            inputs = graph.nodes[node.inputs[0]].shape[2] // node.groups
            multiply_adds += rows * columns * node.kernel[0] * node.kernel[1] * inputs * node.shape[2]
        elif node.kind == 'fully connected':
            multiply_adds += node.shape[2] * functools.reduce(int.__mul__, graph.nodes[node.inputs[0]].shape)
    if name != 'lenet5_1998':  # whose C3 has a connection table: the zeros of its kernel are no connections
        assert multiply_adds == entry.multiply_adds


@pytest.mark.parametrize('name', FEW)
def test_the_graph_has_the_parameters_and_multiply_adds_of_the_catalogue(name):
    check_counts(name)


@pytest.mark.slow
@pytest.mark.parametrize('name', [name for name in architectures.names() if name not in FEW])
def test_the_graph_of_every_network_has_the_parameters_and_multiply_adds_of_the_catalogue(name):
    check_counts(name)


def test_lenet5_is_the_chain_of_figure_2():
    nodes = graph_of('lenet5_1998').nodes
    assert [node.inputs for node in nodes[1:]] == [(index,) for index in range(len(nodes) - 1)]
    drawn = [(node.name, node.kind, node.shape) for node in nodes if node.kind != 'scaled tanh']
    assert drawn == [
        ('', 'input', (32, 32, 1)),
        ('C1', 'convolution', (28, 28, 6)),
        ('S2', 'subsampling', (14, 14, 6)),
        ('C3', 'convolution', (10, 10, 16)),
        ('S4', 'subsampling', (5, 5, 16)),
        ('C5', 'fully connected', (1, 1, 120)),  # a 5x5 kernel on a 5x5 map
        ('F6', 'fully connected', (1, 1, 84)),
        ('output', 'RBF', (1, 1, 10)),
    ]
    assert nodes[2].kind == 'scaled tanh' and len(nodes) == 14  # a squash behind each of the six


def test_alexnet_normalizes_before_it_pools_and_its_towers_are_groups():
    nodes = graph_of('alexnet').nodes
    order = [node.kind for node in nodes[1:9]]
    assert order == ['convolution', 'ReLU', 'LRN', 'max pool'] * 2
    convolutions = {node.name: node for node in nodes if node.kind == 'convolution'}
    assert {name: node.groups for name, node in convolutions.items()} == {
        **{'conv1': 1, 'conv2': 2, 'conv3': 1, 'conv4': 2, 'conv5': 2}
    }
    assert convolutions['conv1'].kernel == (11, 11) and convolutions['conv1'].stride == 4
    pools = [node for node in nodes if node.kind == 'max pool']
    assert [(pool.name, pool.kernel, pool.stride) for pool in pools] == [
        (name, (3, 3), 2) for name in ('pool1', 'pool2', 'pool5')
    ]


def test_an_order_that_is_an_option_is_in_the_graph():
    order = [node.kind for node in graph_of('alexnet', pool_before_norm=True, dtype=jnp.bfloat16).nodes[1:9]]
    assert order == ['convolution', 'ReLU', 'max pool', 'LRN'] * 2


@pytest.mark.parametrize('module', GOOGLENET)
def test_an_inception_module_has_the_four_branches_of_table_1(module):
    n1x1, reduce3, n3x3, reduce5, n5x5, projection = GOOGLENET[module]
    graph = block('googlenet', f'inception_{module}')
    nodes, split = graph.nodes, only_parallel(graph)
    channels = nodes[0].shape[2]
    assert [layers_in(nodes, branch) for branch in split.branches] == [
        [('convolution', 1, n1x1)],
        [('convolution', 1, reduce3), ('convolution', 3, n3x3)],
        [('convolution', 1, reduce5), ('convolution', 5, n5x5)],
        [('max pool', 3, channels), ('convolution', 1, projection)],
    ]
    join = nodes[split.join]
    assert join.kind == 'concat' and split.join == len(nodes) - 1
    assert join.shape[2] == n1x1 + n3x3 + n5x5 + projection


def test_the_first_inception_module_makes_256_maps_of_192():
    graph = block('googlenet', 'inception_3a')
    assert graph.nodes[0].shape == (28, 28, 192) and graph.nodes[-1].shape == (28, 28, 256)
    branches = [layers_in(graph.nodes, branch)[-1][2] for branch in only_parallel(graph).branches]
    assert branches == [64, 128, 32, 32]


def test_bn_inception_has_two_3x3_for_the_5x5_and_a_bare_pool_where_it_strides():
    graph = block('bn_inception', 'inception_3c')
    branches = [layers_in(graph.nodes, branch) for branch in only_parallel(graph).branches]
    assert branches == [
        [('convolution', 1, 128), ('convolution', 3, 160)],
        [('convolution', 1, 64), ('convolution', 3, 96), ('convolution', 3, 96)],
        [('max pool', 3, 320)],
    ]
    ends = [graph.nodes[source] for source in graph.nodes[-1].inputs]
    assert all(node.shape[:2] == (14, 14) for node in ends)


def test_a_basic_block_adds_its_input_to_its_second_convolution():
    graph = block('resnet18', 'conv2_x/block1')
    nodes, split = graph.nodes, only_parallel(graph)
    main, identity = split.branches
    assert kinds(nodes, main) == ['convolution', 'batch norm', 'ReLU', 'convolution', 'batch norm']
    assert identity == [] and nodes[split.join].kind == 'add'
    assert nodes[split.join].inputs == (main[-1], 0)
    assert nodes[-1].kind == 'ReLU' and nodes[-1].inputs == (split.join,)  # after the addition


def test_a_bottleneck_is_1x1_3x3_1x1_and_projects_where_the_shape_changes():
    for path, stride in (('conv2_x/block1', 1), ('conv3_x/block1', 2)):
        graph = block('resnet50', path)
        nodes, (main, shortcut) = graph.nodes, only_parallel(graph).branches
        width = 64 if stride == 1 else 128
        expected = [('convolution', 1, width), ('convolution', 3, width), ('convolution', 1, 4 * width)]
        assert layers_in(nodes, main) == expected
        assert layers_in(nodes, shortcut) == [('convolution', 1, 4 * width)]
        assert nodes[main[0]].stride == nodes[shortcut[0]].stride == stride
    assert only_parallel(block('resnet50', 'conv3_x/block2')).branches[1] == []


def test_shortcut_a_has_no_parameters():
    graph = block('resnet20', 'stage2/block1')
    nodes, shortcut = graph.nodes, only_parallel(graph).branches[1]
    assert kinds(nodes, shortcut) == ['subsample', 'zero pad']
    assert [nodes[index].shape for index in shortcut] == [(16, 16, 16), (16, 16, 32)]
    assert nodes[shortcut[0]].stride == 2 and sum(nodes[index].parameters for index in shortcut) == 0


def test_a_plain_network_adds_nothing():
    assert not any(node.kind in dataflow.JOINS for node in graph_of('plain20').nodes)


def test_a_preactivated_block_ends_in_its_addition_and_projects_what_is_activated():
    graph = block('wrn_40_4', 'conv3/block2')
    nodes, (main, identity) = graph.nodes, only_parallel(graph).branches
    assert kinds(nodes, main) == ['batch norm', 'ReLU', 'convolution'] * 2 and identity == []
    assert nodes[-1].kind == 'add'
    changing = block('wrn_40_4', 'conv3/block1')
    split = only_parallel(changing)
    assert kinds(changing.nodes, split.branches[1]) == ['convolution']
    projection = changing.nodes[split.branches[1][0]]
    assert changing.nodes[projection.inputs[0]].kind == 'ReLU'


def test_a_resnext_block_has_32_groups_of_4():
    main, _ = only_parallel(graph := block('resnext50_32x4d', 'conv2_x/block1')).branches
    (grouped,) = [graph.nodes[index] for index in main if graph.nodes[index].groups > 1]
    assert (grouped.kernel, grouped.groups, grouped.shape[2]) == ((3, 3), 32, 128)


def test_a_gate_squeezes_to_a_sixteenth_and_scales_before_the_addition():
    graph = block('se_resnet50', 'conv2_x/block1/gate')
    nodes, split = graph.nodes, only_parallel(graph)
    bare, gate = split.branches
    assert bare == [] and nodes[split.join].kind == 'multiply' and nodes[0].shape == (56, 56, 256)
    expected = ['global average', 'fully connected', 'ReLU', 'fully connected', 'sigmoid']
    assert kinds(nodes, gate) == expected
    assert [nodes[index].shape for index in gate] == [(1, 1, c) for c in (256, 16, 16, 256, 256)]
    whole = block('se_resnet50', 'conv2_x/block1')
    main = only_parallel(whole).branches[0]
    assert isinstance(main[-1], dataflow.Parallel) and whole.nodes[main[-1].join].kind == 'multiply'


def test_layer_l_of_a_dense_block_reads_the_maps_of_all_before_it():
    graph = dataflow.flat(block('densenet_bc_100_12', 'dense_block_1'))
    nodes = graph.nodes
    joins = [index for index, node in enumerate(nodes) if node.kind == 'concat']
    assert len(joins) == 16
    made = [0, *(index for index, node in enumerate(nodes) if node.kind == 'convolution' and node.kernel == (3, 3))]
    for number, join in enumerate(joins, start=1):
        assert nodes[join].inputs == tuple(made[: number + 1])
        assert nodes[join].shape[2] == 24 + 12 * number  # k0 = 2k, k = 12
    firsts = [node for node in nodes if node.name == 'conv1_bn']
    assert [node.inputs[0] for node in firsts] == [0, *joins[:-1]]  # layer l reads the l-th


def test_spatial_pyramid_pooling_is_one_layer():
    (pyramid,) = [node for node in graph_of('prelu_net_a').nodes if node.kind == 'spatial pyramid']
    assert pyramid.shape == (1, 1, 63 * 512) and pyramid.name == 'spp'


def test_how_blocks_are_run_changes_nothing():
    assert graph_of('resnet20', scan=True, remat=True) == graph_of('resnet20')


def test_blocks_are_those_that_the_network_repeats():
    assert graph_of('googlenet').blocks == [(f'inception_{name}',) for name in GOOGLENET]
    assert graph_of('alexnet').blocks == []


def test_an_unknown_layer_is_an_error():
    class Odd(layers.Network):
        @layers.nn.compact
        def __call__(self, images, train=False, dense=False):
            return jnp.sort(self.layers(train).conv('conv1', images, 8, 3), axis=1)

    with pytest.raises(UserError, match=r'^drawing \(.*\): no rule for the operation sort in Odd$'):
        dataflow.trace(Odd(), (8, 8, 3))


def test_series_of_chains_and_branches():
    assert dataflow.sequence([(), (0,), (1,)]) == [1, 2]
    nested = dataflow.sequence([(), (0,), (1,), (2, 1), (0, 3), (4,)])
    inner = dataflow.Parallel(3, [[2], []])
    assert nested == [dataflow.Parallel(4, [[], [1, inner]]), 5]
    crossed = [(), (0,), (0,), (1, 2), (1, 2), (3, 4)]
    with pytest.raises(ValueError, match='branch'):
        dataflow.sequence(crossed)
