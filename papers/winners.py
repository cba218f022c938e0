"""The winners of ImageNet's contest (ILSVRC), year by year, and the human level."""

from decimal import Decimal
from typing import NamedTuple


class Winner(NamedTuple):
    """The winner of a year's classification contest (ILSVRC), or another result on its test images.

    Fields:
      year: year of the contest.
      entry: the team and, on a second line, its network.
      top5: error in percent as printed, with only the contest's training images.
      table: where it is printed.
      convolutional: whether it is a convolutional network.
    """

    year: int
    entry: str
    top5: Decimal
    table: str
    convolutional: bool = True


WINNERS = (
    Winner(
        2010,
        'NEC-UIUC',
        Decimal('28.2'),
        'Russakovsky et al. 2015, "ImageNet Large Scale Visual Recognition Challenge"',
        False,
    ),
    Winner(2011, 'XRCE', Decimal('25.8'), 'Russakovsky et al. 2015', False),
    Winner(2012, 'SuperVision\n(AlexNet)', Decimal('16.4'), 'Szegedy et al. 2014, table 2; 15.3 with other data'),
    Winner(2013, 'Clarifai\n(after ZFNet)', Decimal('11.7'), 'Szegedy et al. 2014, table 2; 11.2 with other data'),
    Winner(2014, 'GoogLeNet', Decimal('6.67'), 'Szegedy et al. 2014, table 2'),
    Winner(2015, 'MSRA\n(ResNet)', Decimal('3.57'), 'He et al. 2015b, table 5'),
    Winner(2016, 'Trimps-Soushen\n(ensemble)', Decimal('2.99'), "ILSVRC2016's page of results: 0.02991"),
    Winner(2017, 'WMW\n(SENet)', Decimal('2.25'), 'Hu et al. 2017, section 6: 2.251'),
)
HUMAN = Winner(
    2014, 'one trained annotator', Decimal('5.1'), 'Russakovsky et al. 2015, section 6.4', False
)  # of 1,500 images
