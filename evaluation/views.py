"""The crops that each paper took from a photograph: boxes (top, left, side) in pixels of the resized photograph.

Each function takes the photograph's height and width, the side of a crop, and a rule for the middle: given the pixels
left over on an axis, how many are before the crop (`crops.CENTER_OFFSETS`). A box whose side differs from the crop's is
resized to it.
"""

from input_pipeline.crops import CENTER_OFFSETS

DOWN = CENTER_OFFSETS['down']


def center(height, width, size, middle=DOWN):
    """Return the middle crop."""
    return [(middle(height - size), middle(width - size), size)]


def five(height, width, size, middle=DOWN):
    """Return the corners and the middle: ten crops with their mirror images (Krizhevsky et al. 2012, section 4.1)."""
    bottom, right = height - size, width - size
    corners = [(0, 0, size), (0, right, size), (bottom, 0, size), (bottom, right, size)]
    return corners + center(height, width, size, middle)


def cross(height, width, size, middle=DOWN):
    """Return top, bottom, left, right and the middle: the lecture's reading of AlexNet's ten crops."""
    bottom, right = height - size, width - size
    sides = [(0, middle(right)), (bottom, middle(right)), (middle(bottom), 0), (middle(bottom), right)]
    return [(top, left, size) for top, left in sides] + center(height, width, size, middle)


def grid(height, width, size, middle=None, count=5):
    """Return a regular grid of count x count boxes over the photograph (Simonyan and Zisserman 2014, section 3.2).

    Positions are rounded half up; `middle` is not used.
    """

    def places(free):
        return [int(step * free / (count - 1) + 0.5) for step in range(count)]

    return [(top, left, size) for top in places(height - size) for left in places(width - size)]


def squares(height, width, middle=DOWN):
    """Return (top, left) of three squares with the short side: at both ends of the long side and in its middle."""
    free = abs(height - width)
    return [(place, 0) if height > width else (0, place) for place in (0, middle(free), free)]


def of_googlenet(height, width, size, middle=DOWN):
    """Return the corners, the middle and all of each of three squares (Szegedy et al. 2014, section 7)."""
    side, boxes = min(height, width), []
    for top, left in squares(height, width, middle):
        boxes += [(top + down, left + across, size) for down, across, _ in five(side, side, size, middle)]
        boxes.append((top, left, side))
    return boxes
