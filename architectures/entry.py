"""What the table at the end of a family file says of a network; `catalogue.NETWORKS` joins the tables."""

import dataclasses
from typing import Any, NamedTuple


class Paper(NamedTuple):
    """Where a network was published; `year` is that of the first version."""

    authors: str
    year: int
    title: str
    venue: str

    @property
    def short(self):
        """Authors and year."""
        return f'{self.authors} {self.year}'

    def __str__(self):
        return f'{self.short}, "{self.title}", {self.venue}'


class Theirs(NamedTuple):
    """The same network in another library, or in a file of weights.

    Fields:
      by: 'torchvision', 'timm', 'caffe', ...: whose it is.
      name: what they call it.
      options: of our network, that make ours theirs.
    """

    by: str
    name: str
    options: dict = {}  # noqa: RUF012

    def __str__(self):
        options = ', '.join(f'`{option}={value!r}`' for option, value in self.options.items())
        return f'{self.name} of {_NAMES.get(self.by, self.by)} is this network{" with " * bool(options)}{options}.'


_NAMES = {
    'timm_legacy': 'timm', 'caffe': 'Caffe', 'caffe_caffenet': 'Caffe', 'caffe_fork': "yjxiong's fork of Caffe",
    'cadene_bgr': 'pretrained-models.pytorch', 'akamaster': 'pytorch_resnet_cifar10 (akamaster)',
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Entry:
    """A network, its options at their defaults. The counts come from the paper, not from counting `module`.

    Fields:
      module: the class.
      options: of the class, that make it this network.
      paper: where it was published.
      family: what it is grouped by in figures.
      input_shape: (H, W, C) of the image.
      parameters: trainable scalars of the deployed network, without auxiliary heads.
      statistics: scalars of the running means and variances of batch norm.
      multiply_adds: of the convolutions and fully connected layers, for one image.
      unpublished: its paper prints no error of it; otherwise a row of `papers/` is marked with its name.
      theirs: the same network elsewhere.
      notes: sentences on how those differ, and on other networks of this name.
    """

    module: Any
    _: dataclasses.KW_ONLY
    options: dict = dataclasses.field(default_factory=dict)
    paper: Paper | None = None
    family: str = ''
    input_shape: tuple[int, int, int] = (224, 224, 3)
    parameters: int | None = None
    statistics: int = 0
    multiply_adds: int | None = None
    unpublished: bool = False
    theirs: tuple[Theirs, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def num_classes(self):
        """Of the network by default."""
        return self.options.get('num_classes', self.module.num_classes)

    @property
    def year(self):
        """Of the paper's first version, or None."""
        return self.paper and self.paper.year

    @property
    def cited(self):
        """Authors and year of the paper."""
        return self.paper.short if self.paper else 'no paper'

    @property
    def differs(self):
        """Sentences on what torchvision, timm, Caffe and others have under this name."""
        others = 'torchvision, timm and the Caffe repository have no such network.'
        return (*(map(str, self.theirs) if self.theirs else [others]), *self.notes)
