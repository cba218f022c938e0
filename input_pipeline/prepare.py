"""Prepares a TFDS data set as ArrayRecord: `python -m input_pipeline.prepare NAME [--data_dir DIR]`.

Needs requirements-prepare.txt (TensorFlow); training and evaluation do not. The data set's owner may ask for a manual
download first (ImageNet does): TFDS says what goes where. This is the one command here that fetches anything, and it
says so. `--convert_from DIR` rewrites a data set prepared as TFRecord, DIR being its version's folder.
"""

import argparse
import sys
from pathlib import Path

from errors import UserError, first_line


def main():
    parser = argparse.ArgumentParser(prog='python -m input_pipeline.prepare', description=__doc__.splitlines()[0])
    parser.add_argument('name', help='as TFDS calls it, for example mnist, cifar10, imagenet2012')
    parser.add_argument('--data_dir', help="where data sets lie (TFDS's own default: ~/tensorflow_datasets)")
    parser.add_argument('--convert_from', help='the folder of a prepared TFRecord version to convert')
    arguments = parser.parse_args()
    try:
        prepare(arguments.name, arguments.data_dir, arguments.convert_from)
    except (UserError, OSError) as error:
        print(f'prepare: error: {" ".join(str(error).split())}', file=sys.stderr)
        sys.exit(2)


def prepare(name, data_dir=None, convert_from=None):
    """Downloads and writes the data set `name`, or converts it from TFRecord; prints where it is.

    Raises:
      UserError: TensorFlow is missing, the name is unknown, or there is nothing to convert.
    """
    try:
        import tensorflow  # noqa: F401  (TFDS encodes images and reads TFRecord with it)
    except ImportError:
        raise UserError('preparing data needs TensorFlow: pip install -r requirements-prepare.txt') from None
    import tensorflow_datasets as tfds

    if convert_from:
        if not Path(convert_from, 'dataset_info.json').is_file():
            raise UserError(f'{convert_from} is no prepared TFDS data set (no dataset_info.json in it)')
        from tensorflow_datasets.scripts.cli import convert_format_utils

        target = Path(convert_from)
        aside = target.with_name(target.name + '-tfrecord')
        if aside.exists():
            raise UserError(f'{aside} is in the way: an earlier conversion left it; remove it or move it')
        target.rename(aside)
        convert_format_utils.convert_dataset(
            from_dir=aside, to_dir=target, out_file_format=tfds.core.FileFormat.ARRAY_RECORD
        )
        print(f'{name} is in {target}; the TFRecord form is in {aside}')
        return
    try:
        builder = tfds.builder(name, file_format='array_record', **({'data_dir': data_dir} if data_dir else {}))
    except tfds.core.registered.DatasetNotFoundError as error:
        raise UserError(f'TFDS knows no data set {name!r}: {first_line(error)}') from None
    print(f'fetching {name} from its owner where it is not there yet, and writing {builder.data_path}')
    try:
        builder.download_and_prepare()
    except AssertionError as error:  # TFDS: a manual download is missing
        raise UserError(f'{name} must be downloaded by hand first: {first_line(error)}') from None
    print(f'{name} is in {builder.data_path}')


if __name__ == '__main__':
    main()
