"""Prepares a TFDS data set as ArrayRecord: `python data.py prepare NAME [--data_dir DIR]`.

This needs requirements-prepare.txt (TensorFlow); training and evaluation do not. It downloads the data set from its
owner unless it exists. Some owners require a manual download first (ImageNet's does), and TFDS prints which files go
where. A data set that was prepared as TFRecord is converted, and the old files are kept next to the new ones.
"""

import json
import shutil
from pathlib import Path

from runtime.errors import UserError, first_line, moved


def prepare(name, data_dir=None):
    """Download the data set `name` and write it as ArrayRecord, or convert an existing copy; print its folder.

    Raises:
      UserError: TensorFlow is missing, the name is unknown, or a file must be downloaded manually.
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
    array_record = tfds.core.FileFormat.ARRAY_RECORD
    try:
        builder = tfds.builder(name, **directory)
        if not builder.data_path.exists():
            builder = tfds.builder(name, file_format=array_record, **directory)
            print(f'downloading {name} and writing {builder.data_path}')
            builder.download_and_prepare()
        elif builder.info.file_format != array_record:
            _convert(Path(builder.data_path), array_record)
    except tfds.core.registered.DatasetNotFoundError as error:
        raise UserError(f'TFDS has no data set {name!r}: {first_line(error)}') from None
    except AssertionError as error:  # TFDS raises this if a manual download is missing
        raise UserError(f'{name} must be downloaded manually first: {first_line(error)}') from None
    print(f'{name} is in {builder.data_path}')


def _convert(folder, file_format):
    """Convert the data set in `folder` to another format; the old one is kept next to it."""
    from tensorflow_datasets.scripts.cli import convert_format_utils  # imports Apache Beam

    converted, old = (folder.with_name(f'{folder.name}-{suffix}') for suffix in ('converting', 'old'))
    if old.exists():
        raise UserError(f'{old} exists already, from an earlier conversion: move it or remove it')
    shutil.rmtree(converted, ignore_errors=True)  # from a conversion that was interrupted
    print(f'converting {folder}')
    convert_format_utils.convert_dataset(
        dataset_version_dir=[folder], out_dir=converted, out_file_format=file_format.value
    )
    for file in folder.glob('*.json'):  # features, labels, splits: TFDS 4.9 may leave them out
        shutil.copy(file, converted)
    info = json.loads((converted / 'dataset_info.json').read_text())
    (converted / 'dataset_info.json').write_text(json.dumps(info | {'fileFormat': file_format.value}, indent=2))
    _check_complete(converted)
    folder.rename(old)
    converted.rename(folder)
    print(f'the old files are in {old} and are no longer used')


def _check_complete(folder):
    """Check the number of records of every split, and read its last record."""
    import tensorflow_datasets as tfds

    builder = tfds.builder_from_directory(folder)
    for split, info in builder.info.splits.items():
        source = builder.as_data_source(split)
        if len(source) != info.num_examples:
            raise UserError(
                f'{folder}: {split} has {len(source)} of {info.num_examples} records; the old files are kept'
            )
        source[len(source) - 1]


if __name__ == '__main__':
    moved('python data.py prepare')
