"""Data: reading pictures (`loading`, `metadata`), sets (`sets`), pieces (`patches`), getting LIVE1."""

from helpers.data.loading import ImageError, load_image, to_array
from helpers.data.patches import center_crop, crop_to_grid, grid_patches, resize
from helpers.data.sets import ImageSet, Scene, default_set, live1_folder, open_set, split
