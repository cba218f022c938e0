// The page of `draw`: converts a drawing to an image like those of the data set, runs a LeNet on it, shows its layers.
//
// Maps are {height, width, depth, values}; values is a Float32Array in the order of NHWC, as in JAX.
'use strict';

window.decade = (() => {
  const network = JSON.parse(document.getElementById('network').textContent);
  const weights = new Float32Array(
    Uint8Array.from(atob(document.getElementById('weights').textContent), (letter) => letter.charCodeAt(0)).buffer,
  );

  /** Returns an array of the network from its offset and shape in the JSON. */
  function array({offset, shape}) {
    return weights.subarray(offset, offset + shape.reduce((product, side) => product * side, 1));
  }

  // The network

  const ACTIVATIONS = {
    '': (x) => x,
    relu: (x) => Math.max(x, 0),
    leaky_relu: (x) => (x >= 0 ? x : 0.01 * x),
    prelu: (x, slope) => (x >= 0 ? x : slope * x),
    tanh: Math.tanh,
    scaled_tanh: (x) => 1.7159 * Math.tanh((2 / 3) * x),
    sigmoid: (x) => 1 / (1 + Math.exp(-x)),
  };

  function maps(height, width, depth) {
    return {height, width, depth, values: new Float32Array(height * width * depth)};
  }

  /** A valid convolution; in a fully connected layer the kernel covers the maps. */
  function convolution(x, layer) {
    const [rows, columns, , depth] = layer.kernel.shape;
    const kernel = array(layer.kernel);
    const bias = array(layer.bias);
    const y = maps(x.height - rows + 1, x.width - columns + 1, depth);
    const sums = new Float64Array(depth);
    for (let row = 0; row < y.height; row++) {
      for (let column = 0; column < y.width; column++) {
        sums.set(bias);
        let place = 0; // in the kernel
        for (let i = 0; i < rows; i++) {
          const from = ((row + i) * x.width + column) * x.depth;
          for (let read = from; read < from + columns * x.depth; read++) {
            const value = x.values[read];
            for (let map = 0; map < depth; map++) sums[map] += value * kernel[place++];
          }
        }
        y.values.set(sums, (row * y.width + column) * depth);
      }
    }
    return y;
  }

  /** Reduces each block of 2x2 with `reduce(four values, index of the map)`. */
  function pooled(x, reduce) {
    const y = maps(x.height >> 1, x.width >> 1, x.depth);
    for (let row = 0; row < y.height; row++) {
      for (let column = 0; column < y.width; column++) {
        for (let map = 0; map < x.depth; map++) {
          const top = (2 * row * x.width + 2 * column) * x.depth + map;
          const below = top + x.width * x.depth;
          const four = [x.values[top], x.values[top + x.depth], x.values[below], x.values[below + x.depth]];
          y.values[(row * y.width + column) * x.depth + map] = reduce(four, map);
        }
      }
    }
    return y;
  }

  function maxPool(x) {
    return pooled(x, (four) => Math.max(...four));
  }

  /** The sum of a block times the map's coefficient, plus the map's bias (LeCun et al. 1998, section II.B). */
  function subsampling(x, layer) {
    const coefficient = array(layer.coefficient);
    const bias = array(layer.bias);
    return pooled(x, ([a, b, c, d], map) => (a + b + c + d) * coefficient[map] + bias[map]);
  }

  /** The negative squared distance to the bitmap of each class (Eq. 7 with the sign changed). */
  function rbf(x, layer) {
    const [classes, length] = layer.centers.shape;
    const centers = array(layer.centers);
    const y = maps(1, 1, classes);
    for (let label = 0; label < classes; label++) {
      let sum = 0;
      for (let unit = 0; unit < length; unit++) sum += (x.values[unit] - centers[label * length + unit]) ** 2;
      y.values[label] = -sum;
    }
    return y;
  }

  const KINDS = {convolution, max_pool: maxPool, subsampling, rbf};

  /** Returns the maps of all layers, in order, for gray levels from 0 to 255, row by row. */
  function run(pixels) {
    const {size, low, high} = network.input;
    if (pixels.length !== size * size) throw new RangeError(`the network reads ${size}x${size} pixels`);
    const [zero, full] = [array(low), array(high)];
    let x = maps(size, size, 1);
    for (let i = 0; i < pixels.length; i++) x.values[i] = zero[i] + (full[i] - zero[i]) * (pixels[i] / 255);
    return network.layers.map((layer) => {
      x = KINDS[layer.kind](x, layer);
      const activation = ACTIVATIONS[layer.activation];
      const slope = layer.slope && array(layer.slope);
      x.values.forEach((value, i) => { x.values[i] = activation(value, slope && slope[i % x.depth]); });
      return x;
    });
  }

  function softmax(logits) {
    const largest = Math.max(...logits);
    const powers = Array.from(logits, (logit) => Math.exp(logit - largest));
    const sum = powers.reduce((total, power) => total + power, 0);
    return powers.map((power) => power / sum);
  }

  // From the drawing to the network's pixels

  /** The mean of a picture over a rectangle with fractional borders; outside the picture it is 0. */
  function mean(picture, side, left, top, width, height) {
    let sum = 0;
    for (let row = Math.max(0, Math.floor(top)); row < Math.min(side, top + height); row++) {
      const rows = Math.min(row + 1, top + height) - Math.max(row, top);
      for (let column = Math.max(0, Math.floor(left)); column < Math.min(side, left + width); column++) {
        const columns = Math.min(column + 1, left + width) - Math.max(column, left);
        sum += rows * columns * picture[row * side + column];
      }
    }
    return sum / (width * height);
  }

  /** Returns the bounding box of the nonzero pixels of a picture, or null. */
  function extent(picture, side) {
    let [left, top, right, bottom] = [side, side, -1, -1];
    picture.forEach((value, i) => {
      if (!value) return;
      const [row, column] = [Math.floor(i / side), i % side];
      [left, right] = [Math.min(left, column), Math.max(right, column)];
      [top, bottom] = [Math.min(top, row), Math.max(bottom, row)];
    });
    return right < 0 ? null : {left, top, width: right - left + 1, height: bottom - top + 1};
  }

  /**
   * Converts a drawing (ink from 0 to 255, side x side) to the data set's form: its longer side fills the box, averaged
   * over areas, and the box is placed so that the center of mass is in the center (LeCun et al. 1998, section III.A).
   * Of 28 pixels in a row, the center is the 15th, as in 69,998 of MNIST's 70,000 images.
   */
  function normalize(ink, side) {
    const {grid, box} = network.input;
    const picture = new Uint8Array(grid * grid);
    const drawn = extent(ink, side);
    if (!drawn) return picture;
    const step = Math.max(drawn.width, drawn.height) / box;
    const before = (length) => step * Math.floor((box - length / step) / 2); // centers the shorter side
    const [left, top] = [drawn.left - before(drawn.width), drawn.top - before(drawn.height)];
    const boxed = new Float64Array(box * box);
    let [mass, across, down] = [0, 0, 0];
    for (let row = 0; row < box; row++) {
      for (let column = 0; column < box; column++) {
        const value = mean(ink, side, left + column * step, top + row * step, step, step);
        boxed[row * box + column] = value;
        mass += value;
        across += value * column;
        down += value * row;
      }
    }
    const place = (moment) => Math.min(grid - box, Math.max(0, Math.round(grid / 2 - moment / mass)));
    const [x, y] = [place(across), place(down)];
    boxed.forEach((value, i) => {
      picture[(y + Math.floor(i / box)) * grid + x + (i % box)] = Math.round(value);
    });
    return picture;
  }

  /** Converts an image from the data set's size to the network's: pads or enlarges it, depending on `fit`. */
  function fitted(picture) {
    const {grid, size} = network.input;
    const fit = array(network.input.fit);
    const tall = new Float64Array(size * grid); // rows resized, columns not yet
    for (let row = 0; row < size; row++) {
      for (let from = 0; from < grid; from++) {
        const part = fit[row * grid + from];
        for (let column = 0; column < grid; column++) tall[row * grid + column] += part * picture[from * grid + column];
      }
    }
    const pixels = new Uint8Array(size * size);
    for (let row = 0; row < size; row++) {
      for (let column = 0; column < size; column++) {
        let sum = 0;
        for (let from = 0; from < grid; from++) sum += fit[column * grid + from] * tall[row * grid + from];
        pixels[row * size + column] = Math.round(sum);
      }
    }
    return pixels;
  }

  // The paper

  const paper = document.getElementById('paper');
  const pencil = document.getElementById('pencil');
  const SIDE = paper.width;
  const PENCIL = SIDE / 12; // about two pixels wide in a digit that fills the paper, as in the data set
  const sheet = paper.getContext('2d', {willReadFrequently: true});
  const strokes = new Map(); // last position of each pointer
  const keys = {x: SIDE / 2, y: SIDE / 2, down: false};

  function line(from, to) {
    Object.assign(sheet, {lineWidth: PENCIL, lineCap: 'round', lineJoin: 'round', strokeStyle: '#000'});
    sheet.beginPath();
    sheet.moveTo(from.x, from.y);
    sheet.lineTo(to.x, to.y);
    sheet.stroke();
    scheduleShow();
  }

  function clear() {
    sheet.clearRect(0, 0, SIDE, SIDE);
    strokes.clear();
    keys.down = false;
    showPencil();
    scheduleShow();
  }

  /** The ink on the paper, from 0 to 255: the opacity, because an empty sheet is transparent. */
  function ink() {
    const {data} = sheet.getImageData(0, 0, SIDE, SIDE);
    return Uint8Array.from({length: SIDE * SIDE}, (_, i) => data[4 * i + 3]);
  }

  function pixels() {
    return fitted(normalize(ink(), SIDE));
  }

  function place(event) {
    const frame = paper.getBoundingClientRect();
    const scale = SIDE / frame.width;
    return {x: (event.clientX - frame.left) * scale, y: (event.clientY - frame.top) * scale};
  }

  paper.addEventListener('pointerdown', (event) => {
    if (event.button !== 0) return;
    paper.setPointerCapture(event.pointerId);
    const at = place(event);
    strokes.set(event.pointerId, at);
    line(at, at);
  });
  paper.addEventListener('pointermove', (event) => {
    if (!strokes.has(event.pointerId)) return;
    const coalesced = event.getCoalescedEvents ? event.getCoalescedEvents() : [];
    for (const move of coalesced.length ? coalesced : [event]) {
      const at = place(move);
      line(strokes.get(event.pointerId), at);
      strokes.set(event.pointerId, at);
    }
  });
  for (const end of ['pointerup', 'pointercancel']) {
    paper.addEventListener(end, (event) => {
      strokes.delete(event.pointerId);
      scheduleShow();
    });
  }

  const ARROWS = {ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1]};

  paper.addEventListener('keydown', (event) => {
    const from = {x: keys.x, y: keys.y};
    if (ARROWS[event.key]) {
      const [across, down] = ARROWS[event.key].map((direction) => direction * (event.shiftKey ? 2 : 10));
      keys.x = Math.min(SIDE - PENCIL / 2, Math.max(PENCIL / 2, keys.x + across));
      keys.y = Math.min(SIDE - PENCIL / 2, Math.max(PENCIL / 2, keys.y + down));
    } else if (event.key === ' ') {
      keys.down = !keys.down;
    } else if (event.key === 'Delete' || event.key === 'Backspace') {
      clear();
    } else {
      return;
    }
    event.preventDefault();
    if (keys.down) line(from, keys);
    showPencil();
    scheduleShow();
  });
  paper.addEventListener('focus', showPencil);
  paper.addEventListener('blur', showPencil);
  document.getElementById('clear').addEventListener('click', clear);

  /** Shows the keyboard's pencil while the browser shows the focus: not while the mouse draws. */
  function showPencil() {
    pencil.hidden = !paper.matches(':focus-visible');
    pencil.classList.toggle('up', !keys.down);
    pencil.style.width = `${(100 * PENCIL) / SIDE}%`;
    pencil.style.left = `${(100 * keys.x) / SIDE}%`;
    pencil.style.top = `${(100 * keys.y) / SIDE}%`;
  }

  // The display of the network

  const rgb = (color) => [1, 3, 5].map((from) => parseInt(color.slice(from, from + 2), 16));
  const COLORS = Object.fromEntries(Object.entries(network.colors).map(([name, color]) => [name, rgb(color)]));

  function element(parent, tag, text = '') {
    const child = parent.appendChild(document.createElement(tag));
    child.textContent = text;
    return child;
  }

  /** Adds a picture with a caption; returns its canvas of width x height pixels, enlarged by a whole factor. */
  function picture(parent, caption, width, height, zoom) {
    const figure = element(parent, 'figure');
    element(figure, 'figcaption', caption);
    const canvas = element(figure, 'canvas');
    Object.assign(canvas, {width, height});
    canvas.style.width = `${width * zoom}px`;
    canvas.setAttribute('role', 'img');
    canvas.setAttribute('aria-label', caption);
    return canvas;
  }

  /** Returns the layout of a layer's maps: in rows with gaps of a pixel; units as one block. */
  function layout({height, width, depth}, columns) {
    const gap = height > 1 ? 1 : 0;
    if (!columns && gap) columns = Math.min(depth, depth > 16 ? 10 : 8);
    if (!columns) columns = Math.min(40, depth);
    while (!gap && depth % columns) columns--;
    const rows = Math.ceil(depth / columns);
    return {columns, gap, wide: columns * (width + gap) - gap, tall: rows * (height + gap) - gap};
  }

  /** Paints the maps of a layer; the largest absolute value has the full color, 0 is dark. */
  function paint(canvas, maps, {columns, gap, wide, tall}) {
    const image = new ImageData(wide, tall); // transparent, so the gaps show the page
    const largest = maps.values.reduce((largest, value) => Math.max(largest, Math.abs(value)), 1e-12);
    maps.values.forEach((value, i) => {
      const [map, cell] = [i % maps.depth, Math.floor(i / maps.depth)];
      const row = Math.floor(map / columns) * (maps.height + gap) + Math.floor(cell / maps.width);
      const column = (map % columns) * (maps.width + gap) + (cell % maps.width);
      const part = Math.abs(value) / largest;
      const color = value < 0 ? COLORS.negative : COLORS.positive;
      const mixed = color.map((level, k) => COLORS.zero[k] + part * (level - COLORS.zero[k]));
      image.data.set([...mixed, 255], 4 * (row * wide + column));
    });
    canvas.getContext('2d').putImageData(image, 0, 0);
  }

  const size = network.input.size;
  const hidden = network.layers.slice(0, -1);
  const last = network.layers[network.layers.length - 1];
  const dark = run(new Uint8Array(size * size)).map(({height, width, depth}) => maps(height, width, depth));
  const all = document.getElementById('layers');
  const input = picture(document.getElementById('input'), `the network's input: ${size}×${size}`, size, size, 3);

  const pictures = hidden.map((layer, number) => {
    const {height, width, depth} = dark[number];
    // If the output compares F6 with bitmaps, show F6 as a bitmap of 7x12.
    const bitmap = last.kind === 'rbf' && number === hidden.length - 1;
    const form = layout(dark[number], bitmap ? 7 : 0);
    const units = `${depth} units${bitmap ? ', as a bitmap of 7×12' : ''}`;
    const text = height > 1 ? `${depth} maps of ${height}×${width}` : units;
    const zoom = Math.min(12, Math.max(1, Math.round(460 / form.wide)));
    const parent = bitmap ? Object.assign(element(all, 'div'), {className: 'row'}) : all;
    return {canvas: picture(parent, `${layer.name}: ${text}`, form.wide, form.tall, zoom), form, parent};
  });

  // The bitmap nearest to F6.
  const target = last.kind === 'rbf' && picture(pictures[pictures.length - 1].parent, 'the nearest target', 7, 12, 12);

  if (last.kind === 'rbf') document.getElementById('measure').textContent = '−penalty';
  const bars = Array.from({length: dark[dark.length - 1].depth}, (_, digit) => {
    const row = element(document.getElementById('bars'), 'tr');
    element(row, 'th', digit).scope = 'row';
    const share = element(row, 'td');
    const cell = Object.assign(element(row, 'td'), {className: 'bar'});
    return {row, share, bar: element(cell, 'div'), logit: element(row, 'td')};
  });

  function show() {
    const image = pixels();
    const empty = !image.some((level) => level > 0);
    const outputs = empty ? dark : run(image);
    const logits = outputs[outputs.length - 1].values;
    const shares = softmax(logits);
    const best = shares.indexOf(Math.max(...shares));
    const gray = new ImageData(size, size);
    image.forEach((level, i) => gray.data.set([level, level, level, 255], 4 * i));
    input.getContext('2d').putImageData(gray, 0, 0);
    pictures.forEach(({canvas, form}, number) => paint(canvas, outputs[number], form));
    bars.forEach(({row, share, bar, logit}, digit) => {
      row.className = !empty && digit === best ? 'best' : '';
      share.textContent = empty ? '' : `${(100 * shares[digit]).toFixed(1)}%`;
      bar.style.width = empty ? '0' : `${100 * shares[digit]}%`;
      logit.textContent = empty ? '' : (Math.round(10 * logits[digit]) / 10).toFixed(1).replace('-', '−');
    });
    if (target) {
      const bitmap = maps(1, 1, 84);
      if (!empty) bitmap.values.set(array(last.centers).subarray(84 * best, 84 * best + 84));
      paint(target, bitmap, layout(bitmap, 7));
    }
    document.getElementById('digit').textContent = empty ? '' : best;
    if (strokes.size && !empty) return; // announce it to screen readers when the stroke ends
    document.getElementById('said').textContent = empty
      ? 'Draw one digit, large, with the mouse or a finger.'
      : `The network predicts ${best}: ${(100 * shares[best]).toFixed(1)}%.`;
  }

  let waiting = false;
  /** Calls `show` once before the next repaint, however many strokes come before it. */
  function scheduleShow() {
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(() => {
      waiting = false;
      show();
    });
  }

  show();

  // For tests and the console.
  return {
    size,
    pixels: () => Array.from(pixels()),
    normalize: (ink, side) => Array.from(normalize(ink, side)),
    logits: (image) => Array.from(run(image).pop().values),
    activations: (image) => run(image).map(({values}, i) => [network.layers[i].of, Array.from(values)]),
  };
})();
