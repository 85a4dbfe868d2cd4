"""Images in memory, which are shown in several slices and windows: the last ones, in a limited number of bytes."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable

from medloom.core.image import Image


class Remembered:
    """The images that were read last.

    Args:
        most: bytes of all together; an image that is larger by itself is not kept.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._held = 0
        self._images: OrderedDict[Hashable, Image] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: Hashable, read: Callable[[], Image]) -> Image:
        """The image of a key, read where it is not there.

        Args:
            key: of the image; another one where its file has changed.
            read: reads it.

        Examples:
            >>> import numpy as np
            >>> from medloom.core.image import Image
            >>> from medloom.studio.results.remembered import Remembered
            >>> remembered, reads = Remembered(1000), []
            >>> def read():
            ...     reads.append(1)
            ...     return Image(np.zeros((1, 10, 10), np.float32), "grey level", 255.0)
            >>> for key in "aabbccab":
            ...     _ = remembered.get(key, read)
            >>> len(reads)
            5
        """
        with self._lock:
            if key in self._images:
                self._images.move_to_end(key)
                return self._images[key]
        image = read()
        with self._lock:
            if image.pixels.nbytes <= self._most and key not in self._images:
                self._images[key] = image
                self._held += image.pixels.nbytes
            while self._held > self._most:
                _, last = self._images.popitem(last=False)
                self._held -= last.pixels.nbytes
        return image
