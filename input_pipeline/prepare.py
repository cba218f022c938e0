"""Prepares a TFDS data set as ArrayRecord: `python data.py prepare NAME [--data_dir DIR]`.

Needs requirements-prepare.txt (TensorFlow); training and evaluation do not. It fetches the data set from its owner,
where it is not there yet; some owners ask for a download by hand first (ImageNet's does), and TFDS says what goes
where. A data set that was prepared as TFRecord is converted, and the old form kept beside the new.
"""

import json
import shutil
from pathlib import Path

from runtime.errors import UserError, first_line, moved


def prepare(name, data_dir=None):
    """Downloads and writes the data set `name` as ArrayRecord, or converts what is there; prints where it is.

    Raises:
      UserError: TensorFlow is missing, the name is unknown, or a file must be downloaded by hand.
    """
    try:
        import apache_beam  # noqa: F401  (TFDS's converter imports it)
        import tensorflow  # noqa: F401  (TFDS encodes images and reads TFRecord with it)
    except ImportError:
        raise UserError(
            'preparing data needs TensorFlow and Apache Beam: pip install -r requirements-prepare.txt'
        ) from None
    import tensorflow_datasets as tfds

    directory = {'data_dir': data_dir} if data_dir else {}
    wanted = tfds.core.FileFormat.ARRAY_RECORD
    try:
        builder = tfds.builder(name, **directory)
        if not builder.data_path.exists():
            builder = tfds.builder(name, file_format=wanted, **directory)
            print(f'fetching {name} from its owner where it is not there yet, and writing {builder.data_path}')
            builder.download_and_prepare()
        elif builder.info.file_format != wanted:
            _convert(Path(builder.data_path), wanted)
    except tfds.core.registered.DatasetNotFoundError as error:
        raise UserError(f'TFDS knows no data set {name!r}: {first_line(error)}') from None
    except AssertionError as error:  # TFDS's way to say so
        raise UserError(f'{name} must be downloaded by hand first: {first_line(error)}') from None
    print(f'{name} is in {builder.data_path}')


def _convert(folder, wanted):
    """Rewrites the data set in `folder` in another form; the old one stays beside it."""
    from tensorflow_datasets.scripts.cli import convert_format_utils  # imports Apache Beam

    fresh, old = (folder.with_name(f'{folder.name}-{suffix}') for suffix in ('converting', 'old'))
    if old.exists():
        raise UserError(f'{old} is in the way, from an earlier conversion; move it or remove it')
    shutil.rmtree(fresh, ignore_errors=True)  # of a conversion that was interrupted
    print(f'converting {folder}')
    convert_format_utils.convert_dataset(dataset_version_dir=[folder], out_dir=fresh, out_file_format=wanted.value)
    for file in folder.glob('*.json'):  # features, labels, splits: TFDS 4.9 may leave them out
        shutil.copy(file, fresh)
    info = json.loads((fresh / 'dataset_info.json').read_text())
    (fresh / 'dataset_info.json').write_text(json.dumps(info | {'fileFormat': wanted.value}, indent=2))
    _check_whole(fresh)
    folder.rename(old)
    fresh.rename(folder)
    print(f'the old form is in {old}; nothing reads it any more')


def _check_whole(folder):
    """Reads the last record of every split."""
    import tensorflow_datasets as tfds

    builder = tfds.builder_from_directory(folder)
    for split, info in builder.info.splits.items():
        source = builder.as_data_source(split)
        if len(source) != info.num_examples:
            raise UserError(f'{folder}: {split} has {len(source)} records of {info.num_examples}; the old form is kept')
        source[len(source) - 1]


if __name__ == '__main__':
    moved('python data.py prepare')
