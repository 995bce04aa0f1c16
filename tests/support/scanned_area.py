"""A Leica SCN: a small scanned area on a large slide, whose corner the file states."""

from pathlib import Path

import numpy as np
import tifffile

ORIGIN = (1000, 2000)
"""Top-left corner of the scanned area in level-0 px: (0, 0) in QuPath."""
WIDTH_PX, HEIGHT_PX = 768, 512
TUMOUR = (256, 128)
"""Top-left corner of a dark square of 128 px, as QuPath shows it."""

_VIEW = '<view sizeX="{w}" sizeY="{h}" offsetX="{x}" offsetY="{y}" spacingZ="0"/>'
_SETTINGS = (
    "<scanSettings><objectiveSettings><objective>{power}</objective></objectiveSettings>"
    "<illuminationSettings><numericalAperture>0.4</numericalAperture>"
    "<illuminationSource>brightfield</illuminationSource></illuminationSettings></scanSettings>"
)
_IMAGE = (
    '<image name="image_{i}" uuid="urn:uuid:{i}"><creationDate>2012-01-01T00:00:00.0Z</creationDate>'
    '<device model="Leica SCN400" version="1"/><pixels sizeX="{w}" sizeY="{h}">{levels}</pixels>'
)
_NM_PER_PX, _SLIDE_PX = 500, (4000, 6000)


def _description() -> str:
    width, height = (edge * _NM_PER_PX for edge in _SLIDE_PX)
    macro = _IMAGE.format(
        i=1, w=400, h=600, levels='<dimension sizeX="400" sizeY="600" r="0" ifd="0"/>'
    ) + _VIEW.format(w=width, h=height, x=0, y=0)
    levels = "".join(
        f'<dimension sizeX="{WIDTH_PX // step}" sizeY="{HEIGHT_PX // step}" r="{i}" ifd="{i + 1}"/>'
        for i, step in enumerate((1, 4))
    )
    x, y, w, h = (value * _NM_PER_PX for value in (*ORIGIN, WIDTH_PX, HEIGHT_PX))
    scan = _IMAGE.format(i=2, w=WIDTH_PX, h=HEIGHT_PX, levels=levels) + _VIEW.format(x=x, y=y, w=w, h=h)
    return (
        '<?xml version="1.0" encoding="utf-8"?><scn xmlns="http://www.leica-microsystems.com/scn/2010/10/01" '
        f'uuid="urn:uuid:0"><collection name="c" uuid="urn:uuid:3" sizeX="{width}" sizeY="{height}">'
        f"{macro}{_SETTINGS.format(power=0.6)}</image>{scan}{_SETTINGS.format(power=20)}</image>"
        "</collection></scn>"
    )


def write_scn(path: Path) -> Path:
    """Pink tissue with a dark square, on glass; 0.5 um/px."""
    rgb = np.full((HEIGHT_PX, WIDTH_PX, 3), 244, np.uint8)
    rgb[64:448, 64:704] = (225, 150, 190)
    x, y = TUMOUR
    rgb[y : y + 128, x : x + 128] = (70, 50, 150)
    macro = np.full((600, 400, 3), 244, np.uint8)
    with tifffile.TiffWriter(path, bigtiff=True) as tiff:
        for i, level in enumerate((macro, rgb, rgb[::4, ::4])):
            tiff.write(
                level,
                tile=(256, 256),
                photometric="rgb",
                compression="jpeg",
                compressionargs={"level": 95},
                metadata=None,
                software=None,
                description=_description() if i == 0 else None,
                resolution=(20_000, 20_000),
                resolutionunit="CENTIMETER",
            )
    return path
