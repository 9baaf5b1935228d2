"""A trained run as one file that needs neither finecorr nor its image files: ONNX, or PyTorch's."""

from __future__ import annotations

import importlib
import io
import json
import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.export import Dim, ExportedProgram

import finecorr
from finecorr.data.decoding import packed, unpacked
from finecorr.data.pictures import Picture
from finecorr.data.view import fit_image, grid, padded, scaled
from finecorr.errors import InputError
from finecorr.files import check_writable, remove_temporary, replacing
from finecorr.models.end_to_end import EndToEnd
from finecorr.trained import bundle
from finecorr.trained.bundle import Bundle
from finecorr.trained.options import Format

OPSET = 18
"""Of ONNX: the oldest that torch writes, which the most runtimes read."""
DESCRIPTION = "finecorr"
"""Under which name a file has its description, as JSON: in the metadata of ONNX, and, with the
ending `.json`, among the extra files of PyTorch's."""
TOLERANCE = 1e-4
_MOST_BYTES = 2_000_000_000
"""Of weights: ONNX holds no more in one file."""
_IMAGE, _PIXEL_SIZE, _PREDICTION = "image", "pixel_size", "prediction"
_Images = NDArray[np.float32]
_Predict = Callable[[dict[str, _Images]], _Images]


@dataclass(frozen=True)
class Exported:
    """What was written."""

    path: Path
    size: int
    """Of the file, in bytes."""
    difference: float | None
    """The largest one between what the file predicts for a few random images and what the run does,
    in standard deviations of the training targets; None where ONNX Runtime is not installed."""


def export(run: Path, out: Path, format: Format, *, overwrite: bool = False) -> Exported:
    """Writes a run's model as one file, from decoded images to predictions.

    Its input is `image`, `(batch, channels, height, width)` float32 of any batch, height and width,
    and for lengths `pixel_size`, `(batch,)` float32. Its output is `prediction`, `(batch, targets)`
    float32 in the unit of the targets. What is not in it is in its description (see
    `DESCRIPTION`). The file has its name only when it predicts what the run does.

    Args:
        run: the run's folder, or its model's file.
        out: the file; of "torch", its name ends in `.pt2`.
        format: "onnx", or "torch" for a file of `torch.export`.
        overwrite: replace the file if it is there.

    Raises:
        InputError: the run is at fault, its network cannot be exported, a package is missing, or
            the file predicts something else; nothing was written.
    """
    check_writable(out)
    if out.is_dir():
        raise InputError(f"--out {out} is a folder: name a file")
    if out.exists() and not overwrite:
        raise InputError(f"{out} is there already: choose another name, or use --overwrite")
    if format == "torch" and out.suffix != ".pt2":
        raise InputError(f"--out {out}: torch loads such files by their ending: name it .pt2")
    if format == "onnx":
        for package in ("onnx", "onnxscript"):
            if _module(package) is None:
                raise InputError(
                    f'--format onnx: {package} is missing: pip install "finecorr[onnx]"'
                )
    model = bundle.load(run)
    if model.encoding is not None:
        raise InputError(
            "a model of feature columns cannot be exported: such files take no categories as text; "
            "use finecorr.load"
        )
    if model.images.volumes:
        raise InputError(f"{run} is a model of volumes: only those of pictures can be exported")
    name = model.regressor.architecture.network
    if format == "onnx" and _bytes_of(model) > _MOST_BYTES:
        raise InputError(
            f"--format onnx: the weights of {name} have more than 2 GB, which is more than one "
            "file of ONNX holds: use --format torch"
        )
    with _quiet(), _refusals(name, format):
        program = _program(model)
        onnx = _onnx(program) if format == "onnx" else None
        text = json.dumps(description(model), indent=1, ensure_ascii=False)
        out.parent.mkdir(parents=True, exist_ok=True)
        remove_temporary(out.parent, out.name)
        with replacing(out) as temporary:
            if onnx is None:
                with temporary.open("wb") as file:
                    torch.export.save(program, file, extra_files={f"{DESCRIPTION}.json": text})
                predict: _Predict | None = _torch_predict(temporary)
            else:
                onnx.model.metadata_props[DESCRIPTION] = text
                onnx.save(str(temporary), external_data=False)
                importlib.import_module("onnx").checker.check_model(str(temporary), full_check=True)
                predict = _onnx_predict(temporary)
            size = temporary.stat().st_size
            difference = None if predict is None else _checked(model, predict)
    return Exported(out, size, difference)


def description(model: Bundle) -> dict[str, Any]:
    """What a file says of itself, for JSON: what goes in and comes out, and what is not in it."""
    options, lengths = model.images, model.table.lengths
    image, dark, turned = "as decoded (0 to 255 for 8 bits, HU ...)", "their darkest", "-value"
    intensity: str | list[float] = "image"
    if options.intensity == ("type",):
        intensity, dark, turned = "type", "0", "1 - value"
        image = (
            "from 0 to 1: (value - lowest) / (highest - lowest), by the range of the type (for 8 "
            "bits value / 255, for 16 bits value / 65535; by the bits stored of a DICOM)"
        )
    elif options.intensity != ("image",):
        intensity = [float(limit) for limit in options.intensity]
        low, high = intensity
        dark, turned = f"{low:g}", f"{low + high:g} - value"
    colour = "grey is taken for equal colours" if options.rgb else "colours become luminance"
    inputs = {
        _IMAGE: "float32 (batch, channels, height, width), of any size: upright, 1 channel (grey) "
        f"or 3 (red, green, blue; {colour}), values {image}"
    }
    if any(lengths):
        inputs[_PIXEL_SIZE] = (
            "float32 (batch,): the side of a pixel of `image`, in the unit of the lengths"
        )
    before = [
        "Decode one frame, upright; palettes become colours, and what is transparent is black.",
        "Pixels that are not square are stretched, in height, to square ones.",
        f"Where low values are to be shown bright (MONOCHROME1, WhiteIsZero), give {turned}.",
        "Where the file says that there is no picture (padding, full transparency), give "
        f"{dark if intensity != 'image' else 'the darkest value of the others'}.",
        "Values of a DICOM are rescaled (slope and intercept, or table)"
        + (", and cut off at its window." if intensity == "image" else "; its window is not used."),
    ]
    return {
        "finecorr": finecorr.__version__,
        "torch": torch.__version__,
        "network": model.regressor.architecture.network,
        "targets": [
            {"name": target.name, "unit": target.unit, "length": target.length}
            for target in model.targets
        ],
        "inputs": inputs,
        "outputs": {_PREDICTION: "float32 (batch, targets), in the unit of the targets"},
        "before": before,
        "grey": "0.299 red + 0.587 green + 0.114 blue",
        "rgb": options.rgb,
        "intensity": intensity,
        "view": options.view,
        "size": list(options.size),
        "test_crops": options.test_crops,
    }


def _program(model: Bundle) -> ExportedProgram:
    """The whole of it for any batch, height and width."""
    module = EndToEnd(model.regressor, model.images, _lengths(model)).eval()
    # Sizes that nothing else has, so that none is taken for another.
    height, width = (side + more for side, more in zip(model.images.size, (37, 59), strict=True))
    example: dict[str, Tensor] = {_IMAGE: torch.rand(2, 3, height, width)}
    if any(model.table.lengths):
        example[_PIXEL_SIZE] = torch.ones(2)
    with torch.no_grad():
        program = torch.export.export(module, (), example, dynamic_shapes=_axes(example))
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)  # names of files of this machine
    return program


def _axes(inputs: dict[str, Any]) -> dict[str, dict[int, Any]]:
    batch = Dim("batch")
    channels, height, width = Dim("channels", min=1, max=3), Dim("height"), Dim("width")
    axes = {_IMAGE: {0: batch, 1: channels, 2: height, 3: width}, _PIXEL_SIZE: {0: batch}}
    return {name: axes[name] for name in inputs}


def _onnx(program: ExportedProgram) -> Any:
    names = list(program.graph_signature.user_inputs)
    onnx = torch.onnx.export(
        program,
        dynamo=True,
        verbose=False,
        opset_version=OPSET,
        input_names=names,
        output_names=[_PREDICTION],
        dynamic_shapes=_axes(dict.fromkeys(names)),
    )
    assert onnx is not None
    # Notes of the exporter's on each operation.
    onnx.model.graph.metadata_props.clear()
    for node in onnx.model.graph.all_nodes():
        node.metadata_props.clear()
        for value in node.outputs:
            value.metadata_props.clear()
    return onnx


def _torch_predict(path: Path) -> _Predict:
    module = torch.export.load(path).module()

    def predict(inputs: dict[str, _Images]) -> _Images:
        with torch.inference_mode():
            found = module(**{name: torch.from_numpy(value) for name, value in inputs.items()})
        return cast(_Images, found.numpy())

    return predict


def _onnx_predict(path: Path) -> _Predict | None:
    runtime = _module("onnxruntime")
    if runtime is None:
        return None
    options = runtime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = torch.get_num_threads()
    session = runtime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return lambda inputs: cast(_Images, session.run([_PREDICTION], inputs)[0])


def _checked(model: Bundle, predict: _Predict) -> float:
    """See `Exported.difference`. Of a prediction that is further from the mean of the targets than
    a standard deviation, as random images may have them, in the place of that its distance.

    Raises:
        ValueError: it is more than `TOLERANCE`, and not what a few pixels do that are rounded to
            another float16, which a network that is hardly trained may magnify.
    """
    regressor = model.regressor
    rng = np.random.default_rng(0)
    height, width = model.images.size
    largest, of_rounding = 0.0, 0.0
    for batch, channels, high, wide in (
        (2, 3, height + height // 2, width + 7),
        (1, 1, height // 2 + 1, 2 * width + 5),
        (1, 3, height - 5, width // 3),
    ):
        images = _random(rng, (batch, channels, high, wide), model)
        sizes = rng.uniform(0.05, 0.5, batch).astype(np.float32)
        inputs = {_IMAGE: images}
        if any(model.table.lengths):
            inputs[_PIXEL_SIZE] = sizes
        found = torch.from_numpy(predict(inputs))
        for image, size, prediction in zip(images, sizes, found, strict=True):
            expected, unrounded, unit = _expected(model, image, float(size))
            distance = (expected / unit - regressor.target_mean).abs()
            spread = unit * torch.maximum(regressor.target_std, distance)
            worst = ((prediction - expected).abs() / spread).max()
            largest = max(largest, float(worst.nan_to_num(torch.inf)))
            of_rounding = max(of_rounding, float(((unrounded - expected).abs() / spread).max()))
    if not largest <= max(TOLERANCE, of_rounding / 4):
        raise ValueError(
            f"its predictions differ from the run's by {largest:.2g} standard deviations of the "
            f"targets, more than {TOLERANCE:g}"
        )
    return largest


def _random(rng: np.random.Generator, shape: tuple[int, ...], model: Bundle) -> _Images:
    """Images of noise in large blocks and small, which reach a little beyond a fixed range."""
    *outer, height, width = shape
    blocks = rng.random((*outer, -(-height // 16), -(-width // 16))).repeat(16, 2).repeat(16, 3)
    values = 0.7 * blocks[..., :height, :width] + 0.3 * rng.random(shape)
    intensity = model.images.intensity
    if intensity == ("image",):
        values = np.round(255 * values)
    elif intensity != ("type",):
        low, high = (float(limit) for limit in intensity)
        values = low + (high - low) * (1.2 * values - 0.1)
    return np.ascontiguousarray(values, dtype=np.float32)


def _lengths(model: Bundle) -> tuple[bool, ...]:
    return tuple(power == 1 for power in model.table.lengths)


def _expected(model: Bundle, image: _Images, pixel_size: float) -> tuple[Tensor, Tensor, Tensor]:
    """What the run predicts for a decoded image, by the functions that read its files; what it
    would without the rounding of kept images; and the unit of both. `(targets,)` each."""
    options, factor = model.images, 1.0
    seen = scaled(Picture(image, 0.0, 1.0), options.intensity, rgb=options.rgb)
    if options.view == "fit":
        seen, factor = fit_image(seen, options.image_size)
    else:
        seen = padded(seen, options.crop_size)
    unit = torch.where(torch.tensor(_lengths(model)), pixel_size / factor, 1.0)

    def prediction(seen: Tensor) -> Tensor:
        crops = [seen]
        if options.test_crops:
            high, wide = options.crop_size
            places = grid((seen.shape[1], seen.shape[2]), options.crop_size, options.test_crops)
            crops = [seen[:, top : top + high, left : left + wide] for top, left in places]
        with torch.inference_mode():
            found: Tensor = model.regressor(torch.stack(crops)).mean(0) * unit
        return found

    return prediction(unpacked(packed(seen))), prediction(seen), unit


def _bytes_of(model: Bundle) -> int:
    return sum(value.nbytes for value in model.regressor.state_dict().values())


def _module(name: str) -> Any:
    """A package, or None where it is not installed."""
    try:
        return importlib.import_module(name)
    except ImportError:
        return None


@contextmanager
def _refusals(network: str, format: Format) -> Iterator[None]:
    """Whatever a network's code, torch and ONNX raise, as a sentence."""
    try:
        yield
    except OSError:
        raise
    except Exception as error:
        raise InputError(
            f"--network {network} cannot be exported with --format {format}: {_reason(error)}"
        ) from error


def _reason(error: Exception) -> str:
    """Of several errors, each the cause of the next, the first; in a line."""
    while isinstance(error.__cause__, Exception):
        error = error.__cause__
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    reason = lines[0].rstrip(".") if lines else type(error).__name__
    if "data-dependent" in reason:
        return f"its code decides by the values of an image ({reason})"
    return reason


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what torch and ONNX say on the way."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with (
            warnings.catch_warnings(),
            redirect_stdout(io.StringIO()),
            redirect_stderr(io.StringIO()),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
