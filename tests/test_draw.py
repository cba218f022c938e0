import fnmatch
import tomllib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import ROOT, digits, page_requests
from scipy import ndimage
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.keys import Keys

import architectures
from architectures import lenet
from configs import lenet5, lenet5_1998, lenet_caffe
from evaluation import scoring
from figures import draw
from input_pipeline import datasets, geometry, loader
from input_pipeline.pixels import Pixels
from runtime.errors import UserError

STROKES = (((80, 60), (120, 35), (170, 40), (195, 75), (175, 115), (130, 135), (180, 150), (205, 190), (150, 245)),)


def random(config, seed=0, **options):
    """A LeNet of a config with random weights, biases among them."""
    config.architecture_options.update(options)
    model = architectures.create(config.architecture, **config.architecture_options)
    shape = jax.ShapeDtypeStruct((1, config.image_size, config.image_size, 1), jnp.float32)
    rng = np.random.default_rng(seed)
    fan_in = lambda leaf: max(1, np.prod(leaf.shape[:-1]))  # noqa: E731
    variables = jax.tree.map(
        lambda leaf: rng.normal(0, 1 / np.sqrt(fan_in(leaf)), leaf.shape).astype(np.float32),
        jax.eval_shape(model.init, jax.random.key(0), shape),
    )
    return scoring.Member(model, variables, config, None, Pixels(config))


def ours(member, pixels):
    """The activations of the network for images of 0 to 255, [B, H, W]: {layer: [B, ...]}."""
    images = np.asarray(pixels, np.uint8)[..., None]
    images = member.pixels.test({'image': images, 'offset': np.zeros((len(images), 2), np.int32)})
    apply = jax.jit(lambda variables, images: member.model.apply(variables, images, mutable=['activations']))
    logits, state = apply(member.variables, images)
    return {**state['activations'], 'logits': logits}


def open_page(browser, path):
    page_requests(browser)  # those of earlier pages
    browser.get(path.as_uri())


def stroke(browser, strokes, scale=1.0, move=(0, 0)):
    """Draws with the mouse; the places are of the paper, 280 x 280."""
    paper = browser.find_element('id', 'paper')
    wide = paper.size['width'] / 280
    mouse = ActionChains(browser, duration=0)
    for points in strokes:
        for number, (x, y) in enumerate(points):
            across, down = ((scale * (at - 140) + by) * wide for at, by in zip((x, y), move, strict=True))
            mouse.move_to_element_with_offset(paper, round(across), round(down))
            if number == 0:
                mouse.click_and_hold()
        mouse.release()
    mouse.perform()


def seen(browser):
    size = browser.execute_script('return decade.size')
    return np.array(browser.execute_script('return decade.pixels()')).reshape(size, size)


@pytest.fixture
def drawn(chromium, tmp_path):
    """The page of a taught LeNet-5 with random weights, and that LeNet-5."""
    network = random(lenet5.get_config())
    path = tmp_path / 'draw.html'
    path.write_text(draw.page(network, 'a <LeNet>'))
    open_page(chromium, path)
    return chromium, network


@pytest.mark.parametrize(
    ('config', 'options'),
    [
        (lenet5, {}),
        (lenet5, {'activation': 'prelu'}),
        pytest.param(lenet5, {'activation': 'leaky_relu'}, marks=pytest.mark.slow),
        pytest.param(lenet5, {'activation': 'sigmoid'}, marks=pytest.mark.slow),
        (lenet5_1998, {}),
        (lenet5_1998, {'pool': 'max', 'c3': 'full', 'output': 'dense', 'activation': 'tanh'}),
        (lenet_caffe, {}),
    ],
)
def test_every_layer_of_the_page_is_the_networks(chromium, tmp_path, config, options):
    network = random(config.get_config(), **options)
    path = tmp_path / 'draw.html'
    path.write_text(draw.page(network, 'a <LeNet>'))
    open_page(chromium, path)
    size = network.config.image_size
    image = np.random.default_rng(1).integers(0, 256, (1, size, size))
    expected = ours(network, image)
    found = dict(chromium.execute_script('return decade.activations(arguments[0])', image.ravel().tolist()))
    assert found.keys() == expected.keys() - {'logits'}
    for name, values in found.items():
        np.testing.assert_allclose(values, np.ravel(expected[name]), rtol=1e-4, atol=1e-4, err_msg=name)
        assert np.std(values) > 1e-3
    logits = chromium.execute_script('return decade.logits(arguments[0])', image.ravel().tolist())
    np.testing.assert_allclose(logits, expected['logits'][0], rtol=1e-4, atol=1e-4)


def test_a_drawn_digit_has_our_logits_and_the_page_says_the_largest(drawn):
    browser, member = drawn
    assert 'Draw one digit' in browser.find_element('id', 'said').text
    stroke(browser, STROKES)
    pixels = seen(browser)
    assert pixels.max() == 255
    logits = browser.execute_script('return decade.logits(decade.pixels())')
    expected = np.asarray(ours(member, pixels[None])['logits'][0])
    np.testing.assert_allclose(logits, expected, atol=1e-4)
    browser.execute_async_script('requestAnimationFrame(() => requestAnimationFrame(arguments[0]))')
    best = int(np.argmax(expected))
    share = 100 * float(jax.nn.softmax(expected)[best])
    assert browser.find_element('id', 'said').text == f'The network predicts {best}: {share:.1f}%.'
    assert browser.find_element('css selector', 'tr.best th').text == str(best)
    shown = [row.text.split()[-1] for row in browser.find_elements('css selector', '#bars tr')]
    np.testing.assert_allclose([float(text.replace('−', '-')) for text in shown], expected, atol=0.051)
    browser.find_element('id', 'clear').click()
    assert not seen(browser).any()
    browser.execute_async_script('requestAnimationFrame(() => requestAnimationFrame(arguments[0]))')
    assert 'Draw one digit' in browser.find_element('id', 'said').text
    assert not browser.find_elements('css selector', 'tr.best')


def test_a_drawing_is_placed_as_in_mnist(drawn):
    browser, _ = drawn
    stroke(browser, STROKES)
    large = seen(browser)
    rows, columns = np.nonzero(large)
    assert max(np.ptp(rows), np.ptp(columns)) + 1 == 20
    assert abs(np.subtract(ndimage.center_of_mass(large), 16)).max() <= 0.5 + 1e-6
    browser.find_element('id', 'clear').click()
    stroke(browser, STROKES, scale=0.6, move=(40, -30))  # its stroke is as wide as before, so it becomes bolder
    small = seen(browser)
    assert abs(np.subtract(ndimage.center_of_mass(small), 16)).max() <= 0.5 + 1e-6
    assert np.mean(small[large > 200]) > 180


def test_normalize_is_an_average_over_areas(drawn):
    browser, _ = drawn
    ink = np.zeros((280, 280), np.uint8)
    ink[30:157, 90:133] = np.random.default_rng(0).integers(1, 256, (127, 43))
    found = browser.execute_script('return decade.normalize(arguments[0], 280)', ink.ravel().tolist())
    # The same by sums: each pixel 20 times as large, blocks of 127 of these; 43/127 of 20 are 6.8 columns, 6 before.
    large = np.repeat(np.repeat(ink.astype(float), 20, 0), 20, 1)
    corner = 30 * 20, 90 * 20 - 6 * 127
    blocks = large[corner[0] :, corner[1] :][: 20 * 127, : 20 * 127].reshape(20, 127, 20, 127).mean((1, 3))
    top, left = (round(14 - at) for at in ndimage.center_of_mass(blocks))
    expected = np.zeros((28, 28))
    expected[top : top + 20, left : left + 20] = blocks
    assert abs(np.reshape(found, (28, 28)) - expected).max() < 0.51


def test_mnists_own_digits_stay_as_they_are(drawn, test_data):
    """A digit of MNIST, enlarged tenfold and drawn, is the same digit again: the page normalizes as MNIST does."""
    browser, member = drawn
    source = datasets.open_source('mnist', 'test', str(test_data / 'mnist'), 28, 1, 10)
    images = np.stack([source[number].image[..., 0] for number in range(12)])
    tenfold = """
        const tenfold = (image, i) => image[28 * Math.floor(i / 2800) + Math.floor((i % 280) / 10)];
        const ink = (image) => Uint8Array.from({length: 280 * 280}, (_, i) => tenfold(image, i));
        return arguments[0].map((image) => decade.normalize(ink(image), 280));"""
    found = browser.execute_script(tenfold, images.reshape(12, -1).tolist())
    np.testing.assert_array_equal(np.reshape(found, (12, 28, 28)), images)
    form = member.pixels.test_form
    padded = np.stack([loader.prepare_image(image[..., None], form)[0][..., 0] for image in images])
    found = browser.execute_script('return arguments[0].map(decade.logits)', padded.reshape(12, -1).tolist())
    np.testing.assert_allclose(found, ours(member, padded)['logits'], atol=1e-4)


def test_a_finger_draws_too_and_does_not_scroll(drawn):
    browser, _ = drawn
    stroke(browser, STROKES)
    mouse = seen(browser)
    browser.find_element('id', 'clear').click()
    frame = browser.execute_script('return document.getElementById("paper").getBoundingClientRect().toJSON()')
    center = frame['x'] + frame['width'] / 2, frame['y'] + frame['height'] / 2
    for number, (x, y) in enumerate(STROKES[0]):
        at = [center[i] + round((value - 140) * frame['width'] / 280) for i, value in enumerate((x, y))]
        kind = 'touchMove' if number else 'touchStart'
        touch = {'type': kind, 'touchPoints': [{'x': at[0], 'y': at[1]}]}
        browser.execute_cdp_cmd('Input.dispatchTouchEvent', touch)
    browser.execute_cdp_cmd('Input.dispatchTouchEvent', {'type': 'touchEnd', 'touchPoints': []})
    finger = seen(browser)
    assert finger.any()
    assert np.mean(abs(finger - mouse)) < 3
    paper = browser.find_element('id', 'paper')
    assert paper.value_of_css_property('touch-action') == 'none'
    assert browser.execute_script('return scrollY') == 0


def test_the_keyboard_draws_and_clears(drawn):
    browser, _ = drawn
    browser.switch_to.active_element.send_keys(Keys.TAB)
    assert browser.switch_to.active_element.get_attribute('id') == 'paper'
    keys = ActionChains(browser, duration=0)
    keys.send_keys(*[Keys.ARROW_UP] * 8, ' ', *[Keys.ARROW_DOWN] * 16, ' ', *[Keys.ARROW_RIGHT] * 3).perform()
    rows, columns = np.nonzero(seen(browser))
    assert np.ptp(rows) + 1 == 20
    assert np.ptp(columns) + 1 <= 4  # a 1
    ActionChains(browser, duration=0).send_keys(Keys.DELETE).perform()
    assert not seen(browser).any()
    browser.switch_to.active_element.send_keys(Keys.TAB)
    assert browser.switch_to.active_element.get_attribute('id') == 'clear'


def test_the_page_asks_for_nothing_and_complains_of_nothing(drawn):
    browser, _ = drawn
    stroke(browser, STROKES)
    assert page_requests(browser) == [browser.current_url]
    assert browser.get_log('browser') == []
    assert browser.title == 'Draw a digit: a <LeNet>'


def test_connected_puts_every_connection_at_its_place():
    kernel = np.arange(1, 5 * 5 * 60 + 1, dtype=np.float32).reshape(5, 5, 60)
    whole = draw.connected(kernel, lenet.C3_CONNECTIONS)
    assert whole.shape == (5, 5, 6, 16)
    assert np.count_nonzero(whole) == 1500
    first = 0
    for out, row in enumerate(lenet.C3_CONNECTIONS):
        for map in row:
            np.testing.assert_array_equal(whole[:, :, map, out], kernel[:, :, first])
            first += 1


def test_digits_of_8x8_are_enlarged_as_for_training():
    config = digits()
    source = datasets.open_split(config, 'test')
    fit = draw.input_of(config, Pixels(config))['fit']
    assert fit.shape == (32, 8)
    for number in range(20):
        image = source[number].image
        expected = geometry.resize(image, 32, 32)[..., 0].astype(int)
        assert abs(np.rint(fit @ image[..., 0] @ fit.T) - expected).max() <= 1


def test_what_0_and_255_become_is_the_configs():
    for config, low, high in ((lenet5, -0.1, 1.175), (lenet_caffe, 0.0, 255 / 256)):
        found = draw.input_of(config.get_config(), Pixels(config.get_config()))
        np.testing.assert_allclose(found['low'], low, atol=1e-6)
        np.testing.assert_allclose(found['high'], high, atol=1e-6)
    assert found['size'] == found['grid'] == 28


def test_the_same_network_gives_the_same_page():
    network = random(lenet5_1998.get_config())
    assert draw.page(network, 'a <LeNet>') == draw.page(network, 'a <LeNet>')


def test_what_cannot_be_drawn_is_reported(tmp_path):
    with pytest.raises(UserError, match=r'draw is a page: pass --out FILE\.html'):
        draw.make(tmp_path / 'a.png', lenet5.get_config(), ['nowhere'])
    config = lenet5.get_config()
    config.architecture = 'alexnet'
    with pytest.raises(UserError, match='lenet5, lenet5_1998, lenet_caffe, and not alexnet'):
        draw.make(tmp_path / 'a.html', config, ['nowhere'])
    with pytest.raises(UserError, match='digits of mnist or digits, not on cifar10'):
        draw.check(lenet5.get_config('cifar10'))


def test_files_other_than_python_are_packaged_too():
    tool = tomllib.loads((ROOT / 'pyproject.toml').read_text())['tool']['setuptools']
    for package, folder in tool['package-dir'].items():
        for path in (ROOT / folder).iterdir() if folder != '.' else ():
            if path.is_file() and path.suffix != '.py':
                assert any(fnmatch.fnmatch(path.name, glob) for glob in tool['package-data'].get(package, [])), path


@pytest.mark.slow
def test_the_command_makes_a_page_of_published_weights(chromium, converted, script, tmp_path):
    folder, out = converted('lenet_iter_10000.caffemodel', 'lenet_caffe'), tmp_path / 'draw.html'
    made = script('visualize.py', 'draw', '--checkpoint', folder, '--out', out)
    assert (made.returncode, made.stderr) == (0, ''), made.stderr
    open_page(chromium, out)
    stroke(chromium, STROKES)
    logits = chromium.execute_script('return decade.logits(decade.pixels())')
    assert np.argmax(logits) == 3
