"""A result in words, beside what the papers printed."""

from evaluation import protocols, published


def told(value):
    """A value of a result, or those of an ensemble's members, each once."""
    return ', '.join(dict.fromkeys(map(str, value if isinstance(value, list) else [value])))


def lines(result, networks, data):
    """A result in lines.

    Args:
      result: of `testing.test`.
      networks: our names of the members.
      data: of what images, in words.
    """
    what = [told(result['protocol']) + (f', labels of {result["labels"]}' if result['labels'] else '')]
    found = [f'{" + ".join(networks)} on {data}, {result["num_examples"]:,} images, protocol {what[0]}']
    for name in dict.fromkeys(result['protocol'] if isinstance(result['protocol'], list) else [result['protocol']]):
        found.append(f'  {name}: {describe(name)}; mean of {told(result["average"])}')
    for k in (1, 5):
        low, high = result[f'top{k}_interval']
        wrong = result[f'wrong_top{k}']
        found.append(f'top-{k} error: {result[f"top{k}_error"]:.2f}% [{low:.2f} to {high:.2f}] ({wrong:,} wrong)')
    if result['bad_images']:
        found.append(f'of them {result["bad_images"]:,} images that cannot be read, counted as wrong')
    if result['left_out']:
        found.append(f'left out by the labels: {result["left_out"]:,} images')
    found += beside(result, networks)
    found.append(
        f'{result["evaluated"]:,} images in {result["seconds"]:.1f} s, {result["images_per_second"]:.1f} a second; '
        f'{result["compiled"]} sizes compiled'
    )
    return found


def describe(name):
    """What a protocol is, in words."""
    base = name.split('+')[0]
    if base in protocols.WHOLE:
        return 'each test image once, as the config crops, no flip'
    return protocols.create(base, '+trimmed' in name).what


def beside(result, networks):
    """The papers' rows of the same networks under the same protocol; none where protocols differ."""
    names = result['protocol'] if isinstance(result['protocol'], list) else [result['protocol']]
    if result['labels']:
        return ['published: the papers tested on other labels']
    if len(set(names)) > 1:
        return ['published: the members have different protocols, which no table here has']
    rows = published.rows(networks, names[0])
    if not rows:
        known = {
            row.protocol
            for row in (*published.MORE, *(row for table in published.TABLES.values() for row in table))
            if sorted(row.networks) == sorted(networks)
        }
        others = f'; there is of {", ".join(sorted(known))}' if known else ''
        return [f'published: nothing of {" + ".join(networks)} by this protocol{others}']
    found = []
    for row in rows:
        sides = f', trained at {"-".join(map(str, dict.fromkeys(row.trained)))}' if row.trained else ''
        note = f', {row.note}' if row.note else ''
        found.append(f'published: {row.errors} (top-1/top-5; {row.table}{sides}{note})')
    return found
