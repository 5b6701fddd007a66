"""Data sets in the files of the Hugging Face Hub and of its library: Parquet, and the Arrow files of `datasets`."""

import io
import json

import pyarrow as pa
from PIL import Image
from pyarrow import ipc, parquet


def png(image):
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG", compress_level=1)
    return {"bytes": file.getvalue(), "path": None}


def features(dataset):
    """What `datasets` writes about its columns."""
    columns = {
        "img": {"_type": "Image"},
        "fine_label": {"names": list(dataset.class_names), "_type": "ClassLabel"},
        "coarse_label": {"names": list(dataset.coarse_names), "_type": "ClassLabel"},
    }
    return {b"huggingface": json.dumps({"info": {"features": columns}}).encode()}


def table(dataset):
    """A split as uoft-cs/cifar100 has it on the Hub."""
    columns = {
        "img": pa.array([png(image) for image in dataset.images], pa.struct({"bytes": pa.binary(), "path": pa.string()})),
        "fine_label": pa.array(dataset.labels.tolist()),
        "coarse_label": pa.array(dataset.coarse_labels.tolist()),
    }
    return pa.table(columns).replace_schema_metadata(features(dataset))


def hub_folder(root, splits):
    (root / "cifar100").mkdir(parents=True)
    for split, dataset in splits.items():
        rows, half = table(dataset), len(dataset) // 2
        parquet.write_table(rows.slice(0, half), root / "cifar100" / f"{split}-00000-of-00002.parquet")
        parquet.write_table(rows.slice(half), root / "cifar100" / f"{split}-00001-of-00002.parquet")
    return root


def datasets_cache(root, splits):
    """The Arrow files of the library, in the format for streams."""
    folder = root / "uoft-cs___cifar100" / "cifar100" / "0.0.0" / "aadb3af77e9048adbea6b47c21a81e47dd092ae5"
    folder.mkdir(parents=True)
    for split, dataset in splits.items():
        rows = table(dataset)
        with ipc.new_stream(folder / f"cifar100-{split}.arrow", rows.schema) as writer:
            writer.write_table(rows)
    return root
