"""What the viewer asks of an image, wherever the image comes from: facts as JSON, and values."""

from dataclasses import replace
from typing import Any, Literal

from starlette.responses import JSONResponse, Response

from medloom.core.image import Image
from medloom.studio.results.pictures import pixels_of, viewer_facts

# Of the answer with the values: what each of them is.
KIND = "X-Values"
Asked = Literal["facts", "pixels"]
# Facts of an image without a geometry.
PLACELESS: dict[str, Any] = {"edges": [None] * 4, "spacing": None, "affine": None, "oriented": False}


def for_viewer(image: Image, asked: Asked, **further: Any) -> Response:
    """An answer to the viewer.

    Args:
        image: that is shown.
        asked: its facts or its values.
        further: facts that the image does not have itself.
    """
    if asked == "pixels":
        values, kind = pixels_of(image)
        return Response(values, media_type="application/octet-stream", headers={KIND: kind})
    return JSONResponse({**viewer_facts(image), **further})


def for_blinded(image: Image, asked: Asked) -> Response:
    """An answer to the viewer of a reader who is not to know where an image is from.

    Of patients more is known of the geometry than of what was generated, and their files state windows.

    Args:
        image: that is shown.
        asked: its facts or its values.
    """
    return for_viewer(replace(image, window=None), asked, **PLACELESS)
