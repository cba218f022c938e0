"""Which boxes of a photograph a paper looked at, as data: (top, left, side) in the pixels of the resized photograph.

Each function takes its height and width, and the side of a crop. Where `side` of a box is not the crop's, what is in
the box is resized to it.
"""


def centre(height, width, size):
    """The middle."""
    return [((height - size) // 2, (width - size) // 2, size)]


def five(height, width, size):
    """The corners and the middle: with their mirror images ten crops (Krizhevsky et al. 2012, section 4.1)."""
    bottom, right = height - size, width - size
    return [(0, 0, size), (0, right, size), (bottom, 0, size), (bottom, right, size), *centre(height, width, size)]


def cross(height, width, size):
    """Top, bottom, left, right and the middle: the lecture's reading of AlexNet's ten crops."""
    bottom, right = height - size, width - size
    sides = [(0, right // 2), (bottom, right // 2), (bottom // 2, 0), (bottom // 2, right)]
    return [(top, left, size) for top, left in sides] + centre(height, width, size)


def grid(height, width, size, count=5):
    """A regular grid of count x count boxes over the whole photograph (Simonyan and Zisserman 2014, section 3.2)."""

    def places(free):
        return [int(step * free / (count - 1) + 0.5) for step in range(count)]

    return [(top, left, size) for top in places(height - size) for left in places(width - size)]


def squares(height, width):
    """(top, left) of three squares of the short side: at the ends of the long one and in its middle."""
    free = abs(height - width)
    return [(place, 0) if height > width else (0, place) for place in (0, free // 2, free)]


def of_googlenet(height, width, size):
    """Of each of three squares the corners, the middle, and the square itself (Szegedy et al. 2014, section 7)."""
    side, found = min(height, width), []
    for top, left in squares(height, width):
        found += [(top + down, left + across, size) for down, across, _ in five(side, side, size)]
        found.append((top, left, side))
    return found
