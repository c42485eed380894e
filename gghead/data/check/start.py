"""The part of the check that costs nothing and so runs before every training: the cameras' numbers."""

from gghead.data.check.cameras import check_cameras
from gghead.data.check.findings import ERROR, ordered
from gghead.data.image_dataset import ImageDataset
from gghead.torch_utils.errors import UserError


def check_at_start(dataset: ImageDataset) -> list[str]:
    """Return a line per warning about the cameras of a data set; opening it has checked files, labels and masks.

    Raises:
        UserError: the cameras cannot be those of heads, with the likely cause and the remedy.
    """
    count = dataset.num_files
    findings, _ = check_cameras(dataset.labels[:count].numpy(), [dataset.name(i) for i in range(count)])
    for found in ordered(findings):
        if found.severity == ERROR:
            raise UserError(f"{dataset.path}: {found.sentence()} See python scripts/dataset_tool.py check "
                            f"{dataset.path}; --set=data.check=false trains all the same.")  # fmt: skip
    return [f"{found.severity}: {found.sentence()}" for found in ordered(findings)]
