"""What a network sees of an image, and how training images vary: flags, known before anything is
loaded."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import inf
from typing import Literal

from finecorr.data.options import TableOptions
from finecorr.errors import InputError

Intensity = tuple[Literal["image", "type"] | float, ...]
"""Which values become 0 and 1: those of the image, of its type, or two numbers."""
MAX_MEGAPIXELS = 100.0
"""Million pixels of the largest image that is read unasked."""
_LARGEST_SIDE, _LARGEST_DEPTH = 8192, 512
_MOST_CROPS = 1000


@dataclass(frozen=True)
class ImageOptions:
    """What the network sees of an image. Each field is a flag of the command line."""

    view: Literal["fit", "crops"] = field(
        default="fit",
        metadata={
            "help": "fit: the whole image, brought to --image-size; crops: the image at the "
            "resolution of its file, where blur, noise and compression show; the network "
            "is trained on crops of it and predicts from the whole"
        },
    )
    image_size: tuple[int, ...] = field(
        default=(136, 192),
        metadata={
            "help": "height and width that images are brought to, in pixels; they keep their "
            "aspect and are padded with black (--view fit). Three numbers, depth, height and "
            "width, are for volumes: NIfTI files, or folders of DICOM slices"
        },
    )
    spacing: tuple[float, ...] | None = field(
        default=None,
        metadata={
            "help": "voxel size of volumes, in mm: one number, or one for depth, height and "
            "width; what does not fit into --image-size is cut off at the edges (default: "
            "cubes, as small as --image-size allows for the whole volume)"
        },
    )
    crop_size: tuple[int, int] = field(
        default=(224, 224),
        metadata={
            "help": "height and width of the random crops for training; smaller images are "
            "mirrored at their edges (--view crops)"
        },
    )
    test_crops: int = field(
        default=0,
        metadata={
            "help": "predict from this many crops on a grid, and average the predictions; 0 for "
            "the whole image, which not every network takes (--view crops)"
        },
    )
    intensity: Intensity = field(
        default=("image",),
        metadata={
            "help": "what becomes black and white: 'image' for the darkest and the brightest "
            "value of each image; 'type' for what its type (or a DICOM's bits stored) can "
            "hold; or two numbers, in the unit of the values, such as HU"
        },
    )
    rgb: bool = field(
        default=False, metadata={"help": "three colour channels, instead of one of grey"}
    )
    max_megapixels: float = field(
        default=MAX_MEGAPIXELS,
        metadata={
            "help": "largest image that is read, in million pixels (of a volume, million voxels); "
            "images that are decoded at the same time have no more together"
        },
    )
    cache_mb: int = field(
        default=4096,
        metadata={
            "help": "memory for decoded images, in megabytes; those that fit are decoded at the "
            "start, the others when they are needed"
        },
    )

    def check(self) -> None:
        """Raises InputError if an option is out of its range."""
        if self.volumes or len(self.image_size) != 2:
            self._check_volumes()
        elif self.spacing is not None:
            raise InputError("--spacing is for volumes: give three numbers to --image-size")
        for flag, size in (("--image-size", self.image_size), ("--crop-size", self.crop_size)):
            if len(size) == 3:
                continue
            height, width = size
            if min(height, width) < 32 or max(height, width) > _LARGEST_SIDE:
                raise InputError(
                    f"{flag} must be from 32 32 to {_LARGEST_SIDE} {_LARGEST_SIDE}, not "
                    f"{height} {width}"
                )
        if not 0 <= self.test_crops <= _MOST_CROPS:
            raise InputError(f"--test-crops must be from 0 to {_MOST_CROPS}, not {self.test_crops}")
        if self.test_crops and self.view == "fit":
            raise InputError("--test-crops is for --view crops: with fit, the whole image is seen")
        _check_intensity(self.intensity)
        check_limit(self.max_megapixels)
        if self.cache_mb < 0:
            raise InputError(f"--cache-mb must not be negative, not {self.cache_mb}")

    def _check_volumes(self) -> None:
        if not self.volumes:
            raise InputError(
                "--image-size must be height and width, or depth, height and width of volumes, not "
                f"{len(self.image_size)} numbers"
            )
        if self.view == "crops":
            raise InputError("--view crops is for pictures: a volume is seen whole (--view fit)")
        if min(self.image_size) < 32 or max(self.image_size) > _LARGEST_DEPTH:
            sides = " ".join(map(str, self.image_size))
            raise InputError(
                f"--image-size must be from 32 32 32 to {' '.join([str(_LARGEST_DEPTH)] * 3)}, not "
                f"{sides}"
            )
        if self.spacing is None:
            return
        if len(self.spacing) not in (1, 3) or not all(0 < side < inf for side in self.spacing):
            raise InputError(
                "--spacing must be one number above 0, or three, not "
                f"{' '.join(f'{side:g}' for side in self.spacing)}"
            )

    @property
    def volumes(self) -> bool:
        """Whether it sees volumes."""
        return len(self.image_size) == 3

    @property
    def voxel(self) -> tuple[float, ...] | None:
        """Depth, height and width of a voxel in mm, if all volumes are brought to it."""
        if self.spacing is None:
            return None
        return self.spacing * 3 if len(self.spacing) == 1 else self.spacing

    @property
    def channels(self) -> int:
        """Of what the network sees."""
        return 3 if self.rgb else 1

    @property
    def size(self) -> tuple[int, ...]:
        """Height and width, or depth, height and width, of what the network is trained on."""
        return self.image_size if self.view == "fit" else self.crop_size

    @property
    def description(self) -> str:
        """For a page."""
        if self.volumes:
            of = f" of {' x '.join(f'{side:g}' for side in self.voxel)} mm" if self.voxel else ""
            return f"{' x '.join(map(str, self.image_size))} voxels{of}"
        height, width = self.size
        if self.view == "fit":
            return f"{height} x {width} pixels"
        seen = f"{self.test_crops} crops" if self.test_crops else "the whole image"
        return f"crops of {height} x {width} pixels, tested on {seen}"


def check_lengths(table: TableOptions, images: ImageOptions) -> None:
    """Raises InputError if lengths and volumes cannot be learnt from such images."""
    if images.volumes and table.pixel_size_column is not None:
        raise InputError(
            "--pixel-size-column is for pictures: the files of volumes say how large voxels are; "
            "give --length-columns and --volume-columns"
        )
    if any(table.lengths) and images.view == "crops":
        raise InputError("a length shows in the whole image only: use --view fit")
    if 3 in table.lengths and not images.volumes:
        raise InputError("--volume-columns needs volumes: give three numbers to --image-size")
    if 1 in table.lengths and images.voxel is not None and len(set(images.voxel)) > 1:
        raise InputError(
            "lengths are learnt in voxels, which must be cubes: give one number to --spacing"
        )


def _check_intensity(intensity: Intensity) -> None:
    """Raises InputError if it is none."""
    if intensity in (("image",), ("type",)):
        return
    numbers = [limit for limit in intensity if isinstance(limit, float)]
    if len(numbers) == len(intensity) == 2 and -inf < numbers[0] < numbers[1] < inf:
        return
    given = " ".join(f"{limit:g}" if isinstance(limit, float) else limit for limit in intensity)
    raise InputError(
        f"--intensity must be image, type, or two numbers, the lower first, not {given}"
    )


def check_limit(megapixels: float) -> None:
    """Raises InputError if that is no limit on the size of an image."""
    if not 0 < megapixels < inf:
        raise InputError(f"--max-megapixels must be positive, not {megapixels}")


@dataclass(frozen=True)
class AugmentationOptions:
    """How much training images vary. Each field is a flag of the command line; 0 is none.

    The defaults suit ultrasound: depth runs downwards, so that images are mirrored left to right
    only, and turned a little. Volumes are turned about each of their three axes.
    """

    flip: float = field(
        default=0.5, metadata={"help": "probability of mirroring an image left to right"}
    )
    rotation: float = field(
        default=10.0, metadata={"help": "largest rotation, in degrees; of volumes about each axis"}
    )
    shift: float = field(
        default=0.05, metadata={"help": "largest shift, as a share of the image's side"}
    )
    zoom: float = field(
        default=0.1,
        metadata={
            "help": "largest change of scale, as a share; used only if all targets are lengths in "
            "pixels, or volumes in voxels, which are scaled with it"
        },
    )
    gain: float = field(default=0.2, metadata={"help": "largest change of brightness, as a share"})
    gamma: float = field(default=0.2, metadata={"help": "largest change of gamma, as a share"})

    def check(self) -> None:
        """Raises InputError if an option is out of its range."""
        for name, highest in (("flip", 1.0), ("rotation", 180.0), ("shift", 1.0)):
            if not 0 <= getattr(self, name) <= highest:
                raise InputError(
                    f"--{name} must be in [0, {highest:g}], not {getattr(self, name):g}"
                )
        for name in ("zoom", "gain", "gamma"):
            if not 0 <= getattr(self, name) < 1:
                raise InputError(f"--{name} must be in [0, 1), not {getattr(self, name):g}")
