"""AlexNet's errors on ImageNet-C, by which the errors of other networks are divided (Hendrycks and Dietterich 2019)."""

from decimal import Decimal

SOURCE = 'Hendrycks and Dietterich 2019'
SEVERITIES = (1, 2, 3, 4, 5)
IMAGES = 50_000  # for each corruption and severity

# Top-1 error in percent, the mean over the five severities, of torchvision's AlexNet on each of the 15 corruptions. The
# paper gives all errors as multiples of these (section 4.2, table 1). Its authors have them in the spreadsheet under
# "Calculating the mCE" in https://github.com/hendrycks/robustness, as google-research/augmix, imagenet.py, prints them.
ALEXNET = {
    'gaussian_noise': Decimal('88.6428'),
    'shot_noise': Decimal('89.4468'),
    'impulse_noise': Decimal('92.2640'),
    'defocus_blur': Decimal('81.9880'),
    'glass_blur': Decimal('82.6268'),
    'motion_blur': Decimal('78.5948'),
    'zoom_blur': Decimal('79.8360'),
    'snow': Decimal('86.6816'),
    'frost': Decimal('82.6572'),
    'fog': Decimal('81.9324'),
    'brightness': Decimal('56.4592'),
    'contrast': Decimal('85.3204'),
    'elastic_transform': Decimal('64.6056'),
    'pixelate': Decimal('71.7840'),
    'jpeg_compression': Decimal('60.6500'),
}
ALEXNET_CLEAN = Decimal('43.5')  # on the clean validation images: table 1

# The four further corruptions of the release, for validation; the mean leaves them out.
EXTRA = ('speckle_noise', 'gaussian_blur', 'spatter', 'saturate')
