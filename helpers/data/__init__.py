"""Data: reading pictures (`loading`), sets of them (`sets`), pieces (`patches`), getting LIVE1 (`live1`)."""

from helpers.data.loading import ImageError, load_image, to_array
from helpers.data.patches import center_crop, crop_to_grid, grid_patches, resize
from helpers.data.sets import ImageSet, Scene, default_set, live1_folder, open_set, split

__all__ = [
    "ImageError", "ImageSet", "Scene", "center_crop", "crop_to_grid", "default_set", "grid_patches",
    "live1_folder", "load_image", "open_set", "resize", "split", "to_array",
]  # fmt: skip
