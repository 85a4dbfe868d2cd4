"""What the viewer asks of an image, wherever the image comes from: facts as JSON, and values."""

from typing import Any, Literal

from starlette.responses import JSONResponse, Response

from medloom.core.image import Image
from medloom.studio.results.pictures import pixels_of, viewer_facts

# Of the answer with the values: what each of them is.
KIND = "X-Values"
Asked = Literal["facts", "pixels"]


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
