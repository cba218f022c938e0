"""Which boxes of a photograph a paper looked at, as data: (top, left, side) in the pixels of the resized photograph.

Each function takes its height and width, the side of a crop, and the rule for the center: given the number of
pixels left over on an axis, how many are before it (`crops.CENTER_OFFSETS`). If the `side` of a box is not the crop's,
the pixels in the box are resized to it.
"""

from input_pipeline.crops import CENTER_OFFSETS

DOWN = CENTER_OFFSETS['down']


def centre(height, width, size, middle=DOWN):
    """The middle."""
    return [(middle(height - size), middle(width - size), size)]


def five(height, width, size, middle=DOWN):
    """The corners and the middle: with their mirror images ten crops (Krizhevsky et al. 2012, section 4.1)."""
    bottom, right = height - size, width - size
    corners = [(0, 0, size), (0, right, size), (bottom, 0, size), (bottom, right, size)]
    return corners + centre(height, width, size, middle)


def cross(height, width, size, middle=DOWN):
    """Top, bottom, left, right and the middle: the lecture's reading of AlexNet's ten crops."""
    bottom, right = height - size, width - size
    sides = [(0, middle(right)), (bottom, middle(right)), (middle(bottom), 0), (middle(bottom), right)]
    return [(top, left, size) for top, left in sides] + centre(height, width, size, middle)


def grid(height, width, size, middle=None, count=5):
    """A regular grid of count x count boxes over the whole photograph (Simonyan and Zisserman 2014, section 3.2).

    Places are rounded half up, by no family's rule of the middle.
    """

    def places(free):
        return [int(step * free / (count - 1) + 0.5) for step in range(count)]

    return [(top, left, size) for top in places(height - size) for left in places(width - size)]


def squares(height, width, middle=DOWN):
    """(top, left) of three squares of the short side: at the ends of the long one and in its middle."""
    free = abs(height - width)
    return [(place, 0) if height > width else (0, place) for place in (0, middle(free), free)]


def of_googlenet(height, width, size, middle=DOWN):
    """Of each of three squares the corners, the middle, and the square itself (Szegedy et al. 2014, section 7)."""
    side, found = min(height, width), []
    for top, left in squares(height, width, middle):
        found += [(top + down, left + across, size) for down, across, _ in five(side, side, size, middle)]
        found.append((top, left, side))
    return found
