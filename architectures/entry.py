"""The entries of the tables at the ends of the family files; `catalogue.NETWORKS` joins the tables."""

import dataclasses
from typing import Any, NamedTuple


class Paper(NamedTuple):
    """The paper that a network was published in; `year` is that of its first version."""

    authors: str
    year: int
    title: str
    venue: str

    @property
    def short(self):
        """The authors and year."""
        return f'{self.authors} {self.year}'

    def __str__(self):
        return f'{self.short}, "{self.title}", {self.venue}'


class Theirs(NamedTuple):
    """The same network in another library or a weight file.

    Fields:
      by: the library or publisher: 'torchvision', 'timm', 'caffe', ...
      name: its name there.
      options: the options that make our network equal to theirs.
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
    """A network with its default options. The counts come from the paper, not from counting `module`.

    Fields:
      module: the class.
      options: the options of the class that give this network.
      paper: the paper that it was published in.
      family: the group that it belongs to in figures.
      input_shape: (H, W, C) of the image.
      parameters: trainable scalars of the deployed network, without auxiliary heads.
      statistics: scalars of the running means and variances of batch norm.
      multiply_adds: multiply-adds of the convolutions and fully connected layers, for one image.
      unpublished: whether its paper prints no error for it; otherwise a row of `papers/` is marked with its name.
      theirs: the same network in other libraries.
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
        """The default number of classes."""
        return self.options.get('num_classes', self.module.num_classes)

    @property
    def year(self):
        """The year of the paper's first version, or None."""
        return self.paper and self.paper.year

    @property
    def cited(self):
        """The authors and year of the paper."""
        return self.paper.short if self.paper else 'no paper'

    @property
    def differs(self):
        """Sentences on the networks of this name in torchvision, timm, Caffe and others."""
        nowhere = 'torchvision, timm and the Caffe repository do not have this network.'
        return (*(map(str, self.theirs) if self.theirs else [nowhere]), *self.notes)
